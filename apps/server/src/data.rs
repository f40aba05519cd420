//! The data directory: made for its owner only, locked by one server, marked with the version of its format.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rand::{TryRngCore, rngs::OsRng};

use crate::config::SECRET_BYTES_MIN;

/// The version of everything in the directory. A server refuses a newer one and upgrades an older one.
pub const FORMAT: u32 = 1;

const LOCK: &str = "lock";
const MANIFEST: &str = "manifest";
const SECRET: &str = "secret";

/// Bytes of our own small files that are read at most: none has more than a few hundred.
const SMALL_FILE_BYTES_MAX: u64 = 64 * 1024;

/// Only the owner reads and writes.
const PRIVATE: u32 = 0o600;

/// A data directory that this process owns until the value is dropped.
#[derive(Debug)]
pub struct Data {
    path: PathBuf,
    // The kernel gives the lock back when the file is closed, also when the process is killed.
    _lock: File,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The kernel said no.
    #[error("data directory {path}: cannot {what} {name}: {}", why(.source))]
    Io {
        /// The directory.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// With which file; `.` is the directory.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another server has it.
    #[error(
        "data directory {path} is used by another server (process {pid}); stop it, or give this one another --data"
    )]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The other server, as it says itself.
        pid: String,
    },
    /// A server has it, and only looking at it was asked for.
    #[error(
        "data directory {path} is used by a server (process {pid}), whose files come and go; stop it first, or look all \
         the same with --running"
    )]
    Running {
        /// The directory.
        path: PathBuf,
        /// The server, as it says itself.
        pid: String,
    },
    /// Somebody looks at it, and nothing may change meanwhile.
    #[error("data directory {path} is being read by `ringshard journal`; start again when that has ended")]
    Read {
        /// The directory.
        path: PathBuf,
    },
    /// It holds something, but not data of ours.
    #[error("{path} is not a data directory: it has `{found}` but no `manifest`; give a new or empty directory")]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// One thing that is in it.
        found: String,
    },
    /// A later version wrote it.
    #[error("data directory {path} has format {found}, but this version knows only formats up to {FORMAT}")]
    Newer {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// One of its files is not what it must be.
    #[error("data directory {path}: `{name}` is damaged: {reason}")]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// The file.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// What the kernel said, with what to do about it.
fn why(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::PermissionDenied => "no permission; make it writable for the user of this process".to_owned(),
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => "it is not a directory".to_owned(),
        ErrorKind::ReadOnlyFilesystem => "the file system is read-only".to_owned(),
        ErrorKind::StorageFull => "the file system is full".to_owned(),
        ErrorKind::QuotaExceeded => "the disk quota is used up".to_owned(),
        _ => error.to_string(),
    }
}

impl Data {
    /// Makes the directory if it is not there, locks it, and checks that it is ours.
    ///
    /// # Errors
    /// See [`DataError`].
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let failed = |what, name: &str, source| io_error(path, what, name, source);
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| failed("make", ".", error))?;
        let path = fs::canonicalize(path).map_err(|error| failed("open", ".", error))?;
        let lock = lock(&path)?;
        let data = Self { path, _lock: lock };
        data.check_manifest()?;
        Ok(data)
    }

    /// Where it is, as an absolute path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The secret that signs tokens; made when it is not there.
    ///
    /// # Errors
    /// It cannot be read or written, or is damaged.
    pub fn secret(&self) -> Result<Vec<u8>, DataError> {
        if let Some(secret) = stored_secret(&self.path)? {
            return Ok(secret);
        }
        let mut secret = vec![0; SECRET_BYTES_MIN];
        OsRng
            .try_fill_bytes(&mut secret)
            .map_err(|error| self.failed("draw random bytes for", SECRET, io::Error::other(error)))?;
        self.put(SECRET, &secret)?;
        Ok(secret)
    }

    /// Reads one of our small files; `None` when it is not there.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn take(&self, name: &str) -> Result<Option<Vec<u8>>, DataError> {
        small_file(&self.path, name)
    }

    /// Writes one of our small files, readable by its owner only: all of it or nothing, and on disk when it returns.
    ///
    /// # Errors
    /// It cannot be written; what was there before is still there.
    pub fn put(&self, name: &str, bytes: &[u8]) -> Result<(), DataError> {
        self.put_parts(name, &[bytes])
    }

    /// Writes a file of several parts, in the same way.
    ///
    /// # Errors
    /// It cannot be written; what was there before is still there.
    pub fn put_parts(&self, name: &str, parts: &[&[u8]]) -> Result<(), DataError> {
        let new = self.path.join(format!("{name}.new"));
        let write = || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(PRIVATE).open(&new)?;
            parts.iter().try_for_each(|part| file.write_all(part))?;
            file.sync_all()?;
            fs::rename(&new, self.path.join(name))?;
            File::open(&self.path)?.sync_all()
        };
        write().map_err(|error| self.failed("write", name, error))
    }

    /// Removes one of our files, or moves it to another name; so it stays, also when the machine stops right after.
    ///
    /// # Errors
    /// It cannot be removed or moved.
    pub fn discard(&self, name: &str, aside: Option<&str>) -> Result<(), DataError> {
        let path = self.path.join(name);
        let gone = match aside {
            Some(aside) => fs::rename(path, self.path.join(aside)),
            None => fs::remove_file(path),
        };
        let gone = gone.and_then(|()| File::open(&self.path)?.sync_all());
        gone.map_err(|error| self.failed("remove", name, error))
    }

    fn check_manifest(&self) -> Result<(), DataError> {
        let Some(bytes) = self.take(MANIFEST)? else {
            self.check_empty()?;
            return self.put(MANIFEST, format!("format = {FORMAT}\n").as_bytes());
        };
        let text = String::from_utf8_lossy(&bytes);
        let format = text.lines().find_map(|line| line.strip_prefix("format = ")?.trim().parse::<u32>().ok());
        match format {
            Some(found) if found > FORMAT => Err(DataError::Newer { path: self.path.clone(), found }),
            Some(FORMAT) => Ok(()),
            _ => Err(damaged(&self.path, MANIFEST, format!("it must say `format = {FORMAT}`"))),
        }
    }

    /// A directory without a manifest must be new, lest a slip of the hand scatters our files over somebody's home.
    /// Our own first files may be there after a crash, and what file systems and people hide.
    fn check_empty(&self) -> Result<(), DataError> {
        let entries = fs::read_dir(&self.path).map_err(|error| self.failed("list", ".", error))?;
        let mut names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let known =
            |name: &str| name == LOCK || name == "manifest.new" || name == "lost+found" || name.starts_with('.');
        match names.find(|name| !known(name)) {
            Some(found) => Err(DataError::Foreign { path: self.path.clone(), found }),
            None => Ok(()),
        }
    }

    fn failed(&self, what: &'static str, name: &str, source: io::Error) -> DataError {
        io_error(&self.path, what, name, source)
    }
}

/// The secret of a directory that a server may have open at this moment; made when neither a server nor a secret is
/// there.
///
/// # Errors
/// See [`DataError`].
pub fn secret(path: &Path) -> Result<Vec<u8>, DataError> {
    match stored_secret(path)? {
        Some(secret) => Ok(secret),
        None => Data::open(path)?.secret(),
    }
}

/// A data directory that no server uses as long as this value is there. Others may look, too.
#[derive(Debug)]
pub struct Quiet {
    _lock: Option<File>,
}

/// Makes sure that no server uses a data directory. Nothing is written; one without a lock file, as a backup may be, is
/// nobody's.
///
/// # Errors
/// [`DataError::Running`], or the kernel said no.
pub fn quiet(path: &Path) -> Result<Quiet, DataError> {
    let mut file = match File::open(path.join(LOCK)) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Quiet { _lock: None });
        }
        Err(error) => return Err(io_error(path, "open", LOCK, error)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Quiet { _lock: Some(file) }),
        Err(TryLockError::WouldBlock) => Err(DataError::Running { path: path.to_owned(), pid: owner(&mut file) }),
        Err(TryLockError::Error(error)) => Err(io_error(path, "lock", LOCK, error)),
    }
}

fn lock(path: &Path) -> Result<File, DataError> {
    let mut options = OpenOptions::new();
    let open = options.read(true).write(true).create(true).truncate(false).mode(PRIVATE).open(path.join(LOCK));
    let mut file = open.map_err(|error| io_error(path, "open", LOCK, error))?;
    match file.try_lock() {
        Ok(()) => {}
        // A server lets nobody share.
        Err(TryLockError::WouldBlock) if file.try_lock_shared().is_ok() => {
            return Err(DataError::Read { path: path.to_owned() });
        }
        Err(TryLockError::WouldBlock) => {
            return Err(DataError::Locked { path: path.to_owned(), pid: owner(&mut file) });
        }
        Err(TryLockError::Error(error)) => return Err(io_error(path, "lock", LOCK, error)),
    }
    let sign = |file: &mut File| {
        file.set_len(0)?;
        file.write_all(format!("{}\n", std::process::id()).as_bytes())
    };
    sign(&mut file).map_err(|error| io_error(path, "write", LOCK, error))?;
    Ok(file)
}

/// The process that a lock file names.
fn owner(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.take(SMALL_FILE_BYTES_MAX).read_to_string(&mut text);
    let pid = text.trim();
    if read.is_ok() && !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit()) {
        pid.to_owned()
    } else {
        "unknown".into()
    }
}

fn stored_secret(path: &Path) -> Result<Option<Vec<u8>>, DataError> {
    let Some(secret) = small_file(path, SECRET)? else { return Ok(None) };
    if secret.len() < SECRET_BYTES_MIN {
        let reason = format!(
            "{} bytes instead of {SECRET_BYTES_MIN}; remove it to make a new one, which ends all tokens",
            secret.len()
        );
        return Err(damaged(path, SECRET, reason));
    }
    // Only a warning: volumes of containers are often made readable for a group.
    if fs::metadata(path.join(SECRET)).is_ok_and(|about| about.mode() & 0o007 != 0) {
        tracing::warn!(path = %path.join(SECRET).display(), "the secret is readable by every user of this machine");
    }
    Ok(Some(secret))
}

fn small_file(path: &Path, name: &str) -> Result<Option<Vec<u8>>, DataError> {
    let file = match File::open(path.join(name)) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(path, "open", name, error)),
    };
    let mut bytes = Vec::new();
    let read = file.take(SMALL_FILE_BYTES_MAX).read_to_end(&mut bytes);
    read.map_err(|error| io_error(path, "read", name, error))?;
    Ok(Some(bytes))
}

fn io_error(path: &Path, what: &'static str, name: &str, source: io::Error) -> DataError {
    DataError::Io { path: path.to_owned(), what, name: name.to_owned(), source }
}

fn damaged(path: &Path, name: &str, reason: String) -> DataError {
    DataError::Damaged { path: path.to_owned(), name: name.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it is there").mode() & 0o777
    }

    #[test]
    fn a_new_directory_is_its_owners_alone_and_keeps_its_secret() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deep/data");
        let first = Data::open(&path).expect("made").secret().expect("made");
        assert_eq!((mode(&path), mode(&path.join(SECRET)), first.len()), (0o700, 0o600, 32));
        assert_ne!(first, [0; 32]);
        assert_eq!(Data::open(&path).expect("opened").secret().expect("read"), first);
        assert_eq!(secret(&path).expect("read"), first);
    }

    #[test]
    fn a_second_owner_is_told_who_the_first_one_is() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = Data::open(folder.path()).expect("opened");
        let text = Data::open(folder.path()).expect_err("locked").to_string();
        assert!(text.contains(&format!("used by another server (process {})", std::process::id())), "{text}");
        drop(first);
        Data::open(folder.path()).expect("free again");
    }

    #[test]
    fn who_only_looks_keeps_servers_out_and_is_kept_out_by_one() {
        let folder = tempfile::tempdir().expect("a folder");
        quiet(folder.path()).expect("nobody's");
        assert!(!folder.path().join(LOCK).exists(), "nothing is written");
        let server = Data::open(folder.path()).expect("opened");
        let text = quiet(folder.path()).expect_err("a server has it").to_string();
        let pid = std::process::id();
        assert!(text.contains(&format!("used by a server (process {pid})")) && text.contains("--running"), "{text}");
        drop(server);
        let (one, two) = (quiet(folder.path()).expect("free"), quiet(folder.path()).expect("free for many"));
        drop(one);
        let text = Data::open(folder.path()).expect_err("somebody looks").to_string();
        assert!(text.contains("is being read by `ringshard journal`"), "{text}");
        drop(two);
        Data::open(folder.path()).expect("free again");
    }

    #[test]
    fn a_secret_can_be_read_while_a_server_runs() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = Data::open(folder.path()).expect("opened");
        assert!(matches!(secret(folder.path()), Err(DataError::Locked { .. })));
        let made = data.secret().expect("made");
        assert_eq!(secret(folder.path()).expect("read"), made);
    }

    #[test]
    fn what_is_not_ours_or_newer_or_damaged_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        fs::write(path.join("thesis.tex"), "x").expect("written");
        let text = Data::open(path).expect_err("foreign").to_string();
        assert!(text.contains("it has `thesis.tex` but no `manifest`"), "{text}");
        assert!(!path.join(MANIFEST).exists());

        fs::write(path.join(MANIFEST), "format = 2\n").expect("written");
        let text = Data::open(path).expect_err("newer").to_string();
        assert!(text.contains("has format 2, but this version knows only formats up to 1"), "{text}");

        fs::write(path.join(MANIFEST), "nonsense").expect("written");
        assert!(matches!(Data::open(path), Err(DataError::Damaged { .. })));

        fs::write(path.join(MANIFEST), "format = 1\n").expect("written");
        fs::write(path.join(SECRET), "short").expect("written");
        let text = Data::open(path).expect("opened").secret().expect_err("damaged").to_string();
        assert!(text.contains("`secret` is damaged: 5 bytes instead of 32"), "{text}");
    }

    #[test]
    fn a_file_in_its_place_is_named_as_such() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("data");
        fs::write(&path, "a file").expect("written");
        for path in [path.clone(), path.join("below")] {
            let text = Data::open(&path).expect_err("a file").to_string();
            assert!(text.ends_with("cannot make .: it is not a directory"), "{text}");
        }
    }

    #[test]
    fn what_the_kernel_says_comes_with_what_to_do() {
        for (kind, words) in [
            (ErrorKind::PermissionDenied, "no permission"),
            (ErrorKind::ReadOnlyFilesystem, "read-only"),
            (ErrorKind::StorageFull, "full"),
        ] {
            assert!(why(&io::Error::from(kind)).contains(words));
        }
    }

    #[test]
    fn a_write_replaces_the_whole_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = Data::open(folder.path()).expect("opened");
        data.put("note", b"a long first version").expect("written");
        data.put("note", b"short").expect("written");
        assert_eq!(data.take("note").expect("read").as_deref(), Some(&b"short"[..]));
        assert_eq!(data.take("other").expect("read"), None);
    }
}
