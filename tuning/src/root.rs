//! The folder that stands for a machine: `/`, or a tree of files captured from another one.

use std::{
    cmp::Ordering,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use crate::Error;

/// The most that is read of one file. `/proc/interrupts` is the longest: 512 CPUs of 11 characters and 2,000 interrupts
/// are 11 MiB.
const READ_MAX: u64 = 16 << 20;

/// A machine's files. Names are relative, and nothing outside is ever read, not even through a symbolic link.
#[derive(Clone, Debug)]
pub struct Root {
    folder: PathBuf,
}

impl Root {
    /// The machine below `folder`, which must hold `proc` and `sys`.
    ///
    /// # Errors
    /// When it does not.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let wrong = |source| Error::Root { path: folder.to_owned(), source };
        let root = Self { folder: fs::canonicalize(folder).map_err(wrong)? };
        for name in ["proc", "sys"] {
            if !root.folder.join(name).is_dir() {
                let lacking = format!("has no folder `{name}`, so it is no machine's root");
                return Err(wrong(io::Error::new(io::ErrorKind::NotFound, lacking)));
            }
        }
        Ok(root)
    }

    /// The folder itself.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The text of a file, without white space around it and without control characters other than tabs and newlines:
    /// what comes out of a captured tree goes to a terminal.
    ///
    /// # Errors
    /// When the file cannot be read, or lies outside.
    pub fn text(&self, name: &str) -> io::Result<String> {
        let mut bytes = Vec::new();
        File::open(self.locate(name)?)?.take(READ_MAX).read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes);
        let shown = |c: char| if c.is_control() && c != '\n' && c != '\t' { '?' } else { c };
        Ok(text.trim().chars().map(shown).collect())
    }

    /// The text of a file parsed, if it is there and can be.
    pub fn parsed<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.text(name).ok()?.parse().ok()
    }

    /// Whether the name is there, below the root.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.locate(name).is_ok()
    }

    /// The names in a folder, `cpu2` before `cpu10`; none when it cannot be read.
    #[must_use]
    pub fn names(&self, folder: &str) -> Vec<String> {
        let listing = self.locate(folder).and_then(fs::read_dir).into_iter().flatten().flatten();
        let mut names: Vec<String> = listing.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_by(|a, b| by_number(a, b));
        names
    }

    /// Where a name leads after all symbolic links, relative to the root.
    #[must_use]
    pub fn target(&self, name: &str) -> Option<String> {
        let path = self.locate(name).ok()?;
        Some(path.strip_prefix(&self.folder).ok()?.to_str()?.to_owned())
    }

    fn locate(&self, name: &str) -> io::Result<PathBuf> {
        let path = fs::canonicalize(self.folder.join(name.trim_start_matches('/')))?;
        if path.starts_with(&self.folder) {
            return Ok(path);
        }
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "leads out of the root"))
    }
}

// By the part before the digits at the end, then by their number.
fn by_number(a: &str, b: &str) -> Ordering {
    let key = |name: &str| {
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
        (name[..stem].to_owned(), name[stem..].parse::<u64>().unwrap_or(0))
    };
    key(a).cmp(&key(b)).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn machine() -> (tempfile::TempDir, Root) {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["proc", "sys/cpu"] {
            fs::create_dir_all(folder.path().join(name)).expect("made");
        }
        let root = Root::open(folder.path()).expect("a machine");
        (folder, root)
    }

    #[test]
    fn a_link_that_leads_out_is_not_followed() {
        let (folder, root) = machine();
        let outside = tempfile::NamedTempFile::new().expect("a file");
        symlink(outside.path(), folder.path().join("sys/away")).expect("a link");
        fs::write(folder.path().join("sys/near"), " 7\n").expect("written");
        symlink("near", folder.path().join("sys/link")).expect("a link");
        assert_eq!(root.text("sys/away").expect_err("outside").kind(), io::ErrorKind::PermissionDenied);
        assert!(root.text("../../../etc/passwd").is_err());
        assert_eq!(root.text("sys/link").expect("inside"), "7");
        assert_eq!(root.target("sys/link").expect("inside"), "sys/near");
    }

    #[test]
    fn a_folder_without_proc_and_sys_is_no_machine() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(matches!(Root::open(folder.path()), Err(Error::Root { .. })));
        assert!(matches!(Root::open(&folder.path().join("none")), Err(Error::Root { .. })));
    }

    #[test]
    fn names_come_in_the_order_of_their_numbers() {
        let (folder, root) = machine();
        for name in ["cpu10", "cpu2", "cpufreq", "cpu0"] {
            fs::write(folder.path().join("sys/cpu").join(name), "").expect("written");
        }
        assert_eq!(root.names("sys/cpu"), ["cpu0", "cpu2", "cpu10", "cpufreq"]);
        assert!(root.names("sys/none").is_empty());
    }

    #[test]
    fn control_characters_do_not_reach_a_terminal() {
        let (folder, root) = machine();
        fs::write(folder.path().join("sys/evil"), b"a\x1b[31mb\xff\n").expect("written");
        assert_eq!(root.text("sys/evil").expect("read"), "a?[31mb\u{fffd}");
    }
}
