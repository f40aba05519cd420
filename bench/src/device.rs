//! What the disk itself takes: small writes to the end of a file, each synced before the next.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::Instant,
};

use hdrhistogram::Histogram;
use rustix::fs::OFlags;

/// Bytes of a write: what the smallest batch of a journal takes.
pub const WRITE_BYTES: usize = 4_096;
/// Where a direct write must begin in memory.
const ALIGNMENT: usize = 4_096;
const SYNC_MAX_NS: u64 = 60_000_000_000;
const NAME: &str = "probe";

/// How a probe wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// With O_DIRECT.
    Direct,
    /// Through the page cache: this file system has no O_DIRECT.
    Cached,
}

impl std::fmt::Display for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Direct => "O_DIRECT",
            Self::Cached => "page cache",
        })
    }
}

/// Appends blocks to a new file in `dir`, each followed by fdatasync, and takes the time of each fdatasync.
pub fn probe(dir: &Path, writes: u32) -> io::Result<(Way, Histogram<u64>)> {
    let path = dir.join(NAME);
    let (way, mut file) = open(&path)?;
    let mut times = Histogram::new_with_bounds(1, SYNC_MAX_NS, 3).map_err(io::Error::other)?;
    let room = vec![b'.'; WRITE_BYTES + ALIGNMENT];
    // A direct write wants its memory aligned; a vector's beginning is wherever it is.
    let start = room.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
    let outcome = (0..writes).try_for_each(|_| {
        file.write_all(&room[start..start + WRITE_BYTES])?;
        let began = Instant::now();
        file.sync_data()?;
        times.saturating_record(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
        Ok(())
    });
    drop(file);
    fs::remove_file(&path)?;
    outcome.map(|()| (way, times))
}

fn open(path: &Path) -> io::Result<(Way, File)> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let direct = i32::try_from(OFlags::DIRECT.bits()).map_err(io::Error::other)?;
    match options.clone().custom_flags(direct).open(path) {
        Ok(file) => Ok((Way::Direct, file)),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok((Way::Cached, options.open(path)?)),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_write_is_timed_and_nothing_is_left() {
        let dir = std::env::temp_dir().join(format!("ringshard-device-{}", std::process::id()));
        fs::create_dir(&dir).expect("a new folder");
        let (_, times) = probe(&dir, 20).expect("a disk");
        assert_eq!(times.len(), 20);
        assert!(times.max() > 0);
        fs::remove_dir(&dir).expect("an empty folder");
        assert!(probe(&dir, 1).is_err(), "no folder");
    }
}
