//! An append-only file of JSON records, what belongs together in one line, safe on disk before anybody hears of it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::account::{AccountError, OpenError};

/// How long a rewrite that failed is not tried again: the first time, and at most, twice as long each time.
const REWRITE_PAUSE_SECS: std::ops::RangeInclusive<u64> = 1..=16;

/// Bytes that a disk has to take to be well again: a block of most file systems, so that a full one does not.
const PROBE_BYTES: usize = 4096;

/// The file, open for its owner only.
pub(crate) struct Ledger {
    folder: PathBuf,
    name: &'static str,
    file: File,
    // Where the next line starts: what is behind it is left of a write that failed.
    end: u64,
    lines: usize,
    condition: Condition,
    trouble: Option<String>,
    rewrites: Rewrites,
}

/// What is known of the bytes of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Condition {
    /// They are what was written.
    Sound,
    /// Behind the end may be a part of a line.
    Rest,
    /// A sync has failed. Nobody knows what is on disk, and asking again would lie: only a new file helps.
    Unsure,
}

/// Rewrites that have failed, one after the other.
#[derive(Default)]
struct Rewrites {
    /// When the last one failed, and for how many seconds there is none.
    failed: Option<(u64, u64)>,
}

impl Ledger {
    /// Opens the file and gives all its lines to `read`. A last line that is not whole was never confirmed to anybody and is
    /// cut off. `advice` says what an operator can do about a damaged one.
    ///
    /// # Errors
    /// The kernel said no, or a line is damaged.
    pub(crate) fn open(
        folder: &Path,
        (name, advice): (&'static str, &'static str),
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
                return Err(OpenError::Damaged { path, line, reason, advice });
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
        let (condition, trouble, rewrites) = (Condition::Sound, None, Rewrites::default());
        let ledger = Self { folder: folder.to_owned(), name, file, end, lines, condition, trouble, rewrites };
        // Of a rewrite that a crash has cut off.
        let _ = fs::remove_file(ledger.new_path());
        Ok(ledger)
    }

    /// How many lines the file has.
    pub(crate) fn lines(&self) -> usize {
        self.lines
    }

    /// Why it takes nothing at the moment, if so.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Whether only [`Ledger::rewrite`] can help.
    pub(crate) fn is_unsure(&self) -> bool {
        self.condition == Condition::Unsure
    }

    /// Appends records in one line; they are on disk when this returns, all or none.
    ///
    /// # Errors
    /// [`AccountError::Storage`].
    pub(crate) fn append(&mut self, records: &[impl Serialize]) -> Result<(), AccountError> {
        let appended = line(records).and_then(|bytes| {
            self.cut()?;
            self.write(&bytes)?;
            self.end += bytes.len() as u64;
            self.lines += 1;
            Ok(())
        });
        self.note(&appended);
        appended.map_err(|error| AccountError::Storage(error.to_string()))
    }

    /// Finds out whether a disk that took nothing takes something again.
    pub(crate) fn probe(&mut self) {
        if self.trouble.is_some() {
            // A crash in between leaves a last line that is not whole.
            let probed = self.cut().and_then(|()| self.write(&[b' '; PROBE_BYTES])).and_then(|()| {
                self.condition = Condition::Rest;
                self.cut()
            });
            self.note(&probed);
        }
    }

    /// Has only these records from now on: a new file takes the place of the old one, at once or not at all. True if it was
    /// done; one that fails is not tried again for a while.
    pub(crate) fn rewrite(&mut self, now: u64, records: &[impl Serialize]) -> bool {
        if self.rewrites.failed.is_some_and(|(at, pause)| now.abs_diff(at) < pause) {
            return false;
        }
        let rewritten = self.replace(records);
        if let Err(error) = &rewritten {
            let _ = fs::remove_file(self.new_path());
            if self.rewrites.failed.is_none() {
                tracing::error!(%error, file = self.name, "is not written anew; it stays as it is");
            }
        }
        let (first, most) = (REWRITE_PAUSE_SECS.start(), REWRITE_PAUSE_SECS.end());
        let pause = self.rewrites.failed.map_or(*first, |(_, pause)| (2 * pause).min(*most));
        self.rewrites.failed = rewritten.is_err().then_some((now, pause));
        if rewritten.is_ok() || self.is_unsure() {
            self.note(&rewritten);
        }
        rewritten.is_ok()
    }

    fn replace(&mut self, records: &[impl Serialize]) -> io::Result<()> {
        let (path, new) = (self.folder.join(self.name), self.new_path());
        let bytes = records.iter().map(|record| line(std::slice::from_ref(record))).collect::<io::Result<Vec<_>>>()?;
        let bytes = bytes.concat();
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        // What can fail comes first: behind the rename the old file is nobody's.
        let folder = File::open(&self.folder)?;
        fs::rename(&new, &path)?;
        (self.file, self.end, self.lines) = (file, bytes.len() as u64, records.len());
        self.condition = Condition::Unsure;
        folder.sync_all()?;
        self.condition = Condition::Sound;
        Ok(())
    }

    fn new_path(&self) -> PathBuf {
        self.folder.join(format!("{}.new", self.name))
    }

    /// Takes away what is left of a write that failed.
    fn cut(&mut self) -> io::Result<()> {
        match self.condition {
            Condition::Sound => Ok(()),
            Condition::Rest => {
                self.file.set_len(self.end)?;
                self.condition = Condition::Sound;
                Ok(())
            }
            Condition::Unsure => Err(io::Error::other("a sync has failed, and it is not written anew yet")),
        }
    }

    /// Writes behind the end, and syncs it.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.condition = Condition::Rest;
        if let Err(error) = self.file.seek(SeekFrom::Start(self.end)).and_then(|_| self.file.write_all(bytes)) {
            // A full disk may have taken a part. Where it cannot be cut off now, the next write does so first.
            let _ = self.cut();
            return Err(error);
        }
        self.condition = Condition::Unsure;
        self.file.sync_data()?;
        self.condition = Condition::Sound;
        Ok(())
    }

    /// Takes note of how it went: each trouble is told once, and its end.
    fn note(&mut self, outcome: &io::Result<()>) {
        match outcome {
            Ok(()) if self.trouble.take().is_some() => tracing::info!(file = self.name, "is written again"),
            Ok(()) => {}
            Err(error) => {
                if self.trouble.is_none() {
                    tracing::error!(%error, file = self.name, "cannot be written; it is tried again");
                }
                self.trouble = Some(format!("{}: {error}", self.name));
            }
        }
    }

    /// From here on it takes nothing: a descriptor that takes no bytes stands for a disk that takes none.
    #[cfg(test)]
    pub(crate) fn be_full(&mut self) {
        self.file = File::open("/dev/null").expect("there");
    }

    /// From here on it takes bytes, and no sync.
    #[cfg(test)]
    pub(crate) fn be_unsynced(&mut self) {
        self.file = OpenOptions::new().read(true).write(true).open("/dev/null").expect("there");
    }

    /// There is space again.
    #[cfg(test)]
    pub(crate) fn be_well(&mut self) {
        let path = self.folder.join(self.name);
        self.file = OpenOptions::new().read(true).write(true).open(path).expect("there");
    }
}

/// One record as an object, several as an array of them: as a line, so that a power loss leaves all of it or none.
fn line(records: &[impl Serialize]) -> io::Result<Vec<u8>> {
    let mut bytes = match records {
        [record] => serde_json::to_vec(record)?,
        _ => serde_json::to_vec(records)?,
    };
    bytes.push(b'\n');
    Ok(bytes)
}

#[cfg(test)]
mod tests;
