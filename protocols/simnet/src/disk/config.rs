//! What a disk can be like, how it fails, and what a power loss does to it.

use std::{error::Error, fmt, time::Duration};

/// How long an operation takes: any time from `min` to `max`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Latency {
    /// At least so long.
    pub min: Duration,
    /// At most so long.
    pub max: Duration,
}

/// What is wrong with a disk.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct DiskConfig {
    /// Bytes that are written as one.
    pub sector: usize,
    /// Bytes of all files together; holes and preallocated bytes count.
    pub capacity_bytes: u64,
    /// How long a read takes.
    pub read_latency: Latency,
    /// How long a write takes.
    pub write_latency: Latency,
    /// How long a sync takes.
    pub sync_latency: Latency,
    /// Probability that a read fails.
    pub read_error: f64,
    /// Probability that a write fails.
    pub write_error: f64,
    /// Probability that a sync fails, of a file or of a directory.
    pub sync_error: f64,
}

impl Default for DiskConfig {
    /// A disk that works, and forgets at a power loss: sectors of 512 bytes, 1 GiB, no time, no errors.
    fn default() -> Self {
        Self {
            sector: 512,
            capacity_bytes: 1 << 30,
            read_latency: Latency::default(),
            write_latency: Latency::default(),
            sync_latency: Latency::default(),
            read_error: 0.0,
            write_error: 0.0,
            sync_error: 0.0,
        }
    }
}

/// What takes time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskKind {
    /// A read.
    Read,
    /// A write.
    Write,
    /// A sync, of a file or of a directory.
    Sync,
}

/// Why an operation failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskError {
    /// There is no such file: ENOENT.
    NotFound,
    /// The device failed: EIO.
    Io,
    /// The handle was closed, or is from before a crash: EBADF.
    BadHandle,
    /// The capacity is used up: ENOSPC.
    Full,
    /// Nothing can be changed: EROFS.
    ReadOnly,
}

impl DiskError {
    /// The error number that Linux has for it.
    #[must_use]
    pub fn errno(self) -> i32 {
        match self {
            Self::NotFound => 2,
            Self::Io => 5,
            Self::BadHandle => 9,
            Self::Full => 28,
            Self::ReadOnly => 30,
        }
    }
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotFound => "no such file",
            Self::Io => "input/output error",
            Self::BadHandle => "bad file descriptor",
            Self::Full => "no space left on device",
            Self::ReadOnly => "read-only file system",
        })
    }
}

impl Error for DiskError {}

/// What a power loss does to what was not synced. With nothing kept and no garbage, the disk is as the last syncs left
/// it; with all kept and no garbage, nothing is lost.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct CrashPlan {
    /// Probability that a change survives: of one sector, of a file's length, of a name.
    pub keep: f64,
    /// Probability that a sector holds garbage instead: torn, a mix of old and new, or noise.
    pub garbage: f64,
    /// So many bits of synced bytes flip, in the file that was written last, if it is still there.
    pub flip_synced_bits: u32,
}
