//! An append-only file of JSON objects, one per line, each safe on disk before anybody hears of it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::account::{AccountError, OpenError};

/// The file, open for its owner only.
pub(crate) struct Ledger {
    folder: PathBuf,
    name: &'static str,
    file: File,
    // Where the next record starts: what is behind it is left of a write that failed.
    end: u64,
    lines: usize,
    broken: bool,
}

impl Ledger {
    /// Opens the file and gives all its lines to `read`. A last line that is not whole was never confirmed to anybody and is
    /// cut off.
    ///
    /// # Errors
    /// The kernel said no, or a line is damaged.
    pub(crate) fn open(
        folder: &Path,
        name: &'static str,
        mut read: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<Self, OpenError> {
        let path = folder.join(name);
        let failed = |source| OpenError::Io { path: path.clone(), source };
        let mut options = OpenOptions::new();
        let file =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(failed)?;
        let (mut end, mut lines, mut bad) = (0, 0, None);
        let (mut reader, mut bytes) = (BufReader::new(&file), Vec::new());
        loop {
            bytes.clear();
            let length = reader.read_until(b'\n', &mut bytes).map_err(failed)?;
            if length == 0 {
                break;
            }
            if let Some((line, reason)) = bad.take() {
                return Err(OpenError::Damaged { path, line, reason });
            }
            lines += 1;
            match bytes.strip_suffix(b"\n").ok_or_else(|| "the line has no end".to_owned()).and_then(&mut read) {
                Ok(()) => end += length as u64,
                // Whether it is the last one, the next lap knows.
                Err(reason) => bad = Some((lines, reason)),
            }
        }
        lines -= usize::from(bad.is_some());
        let length = file.metadata().map_err(failed)?.len();
        if end < length {
            tracing::warn!(path = %path.display(), bytes = length - end, "cut off a last record that was not whole");
            file.set_len(end).map_err(failed)?;
        }
        file.sync_all().and_then(|()| File::open(folder)?.sync_all()).map_err(failed)?;
        Ok(Self { folder: folder.to_owned(), name, file, end, lines, broken: false })
    }

    /// How many lines the file has.
    pub(crate) fn lines(&self) -> usize {
        self.lines
    }

    /// Appends records; they are on disk when this returns, all or none.
    ///
    /// # Errors
    /// [`AccountError::Storage`].
    pub(crate) fn append(&mut self, records: &[impl Serialize]) -> Result<(), AccountError> {
        if self.broken {
            return Err(AccountError::Storage("an earlier write failed, the server must be restarted".into()));
        }
        let storage = |error: io::Error| AccountError::Storage(error.to_string());
        let bytes = lines(records).map_err(storage)?;
        let write = self.file.seek(SeekFrom::Start(self.end)).and_then(|_| self.file.write_all(&bytes));
        if let Err(error) = write {
            // A full disk may have taken a part; the file must end where the last whole record ends.
            self.broken = self.file.set_len(self.end).is_err();
            return Err(storage(error));
        }
        if let Err(error) = self.file.sync_data() {
            // After a failed fsync nobody knows what is on disk, and asking again would lie.
            self.broken = true;
            tracing::error!(%error, file = self.name, "cannot be synced to disk, no more is taken until a restart");
            return Err(storage(error));
        }
        self.end += bytes.len() as u64;
        self.lines += records.len();
        Ok(())
    }

    /// Has only these records from now on: a new file takes the place of the old one, at once or not at all.
    ///
    /// # Errors
    /// The kernel said no; the old file stays.
    pub(crate) fn rewrite(&mut self, records: &[impl Serialize]) -> io::Result<()> {
        let (path, new) = (self.folder.join(self.name), self.folder.join(format!("{}.new", self.name)));
        let bytes = lines(records)?;
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        // What can fail comes first: behind the rename the old file is nobody's.
        let folder = File::open(&self.folder)?;
        fs::rename(&new, &path)?;
        (self.file, self.end, self.lines, self.broken) = (file, bytes.len() as u64, records.len(), false);
        folder.sync_all().inspect_err(|_| self.broken = true)
    }

    /// From here on it takes nothing: a descriptor that takes no bytes stands for a disk that takes none.
    #[cfg(test)]
    pub(crate) fn be_full(&mut self) {
        self.file = File::open("/dev/null").expect("there");
    }
}

fn lines(records: &[impl Serialize]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for record in records {
        serde_json::to_writer(&mut bytes, record)?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}
