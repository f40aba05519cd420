//! What an app may ask of the disk: operations on files of its own, each named by a ticket.

use std::io;

use bytes::Bytes;

/// A pending disk operation, named by the app.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Ticket(pub u64);

/// An open file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct FileId(pub u32);

/// A disk operation; each ends in one `on_disk` with its ticket. Names are those of files in the folder that this app has
/// on this shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DiskOperation {
    /// Open, and create if `create`.
    Open {
        /// The file.
        name: String,
        /// Make it when it is not there.
        create: bool,
    },
    /// Reserve room for the first `bytes` of a file.
    Allocate {
        /// Of which file.
        file: FileId,
        /// How long it is afterwards, at least.
        bytes: u64,
    },
    /// Read up to `len` bytes at `offset`.
    Read {
        /// From where.
        file: FileId,
        /// The first byte.
        offset: u64,
        /// How many bytes.
        len: usize,
    },
    /// Write all bytes at `offset`, and have them on disk.
    Write {
        /// To where.
        file: FileId,
        /// The first byte.
        offset: u64,
        /// What to write.
        bytes: Bytes,
    },
    /// Write all bytes at `offset`, which come to disk some time: for what nobody is told of.
    Fill {
        /// To where.
        file: FileId,
        /// The first byte.
        offset: u64,
        /// What to write.
        bytes: Bytes,
    },
    /// Close.
    Close {
        /// Which file.
        file: FileId,
    },
    /// Rename, and have that on disk.
    Rename {
        /// The old name.
        from: String,
        /// The new name.
        to: String,
    },
    /// Remove a file, and have that on disk.
    Remove {
        /// Which.
        name: String,
    },
}

/// How a disk operation ended.
#[derive(Debug)]
pub enum Outcome {
    /// The file is open.
    Opened {
        /// Its handle, until it is closed.
        file: FileId,
        /// Its length in bytes.
        len: u64,
    },
    /// What was read; shorter than asked for at the end of the file.
    Read(Bytes),
    /// Anything else is done.
    Done,
    /// It failed.
    Failed(io::Error),
}
