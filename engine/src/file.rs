//! One open file: direct I/O in whole blocks where the file system allows it, through the page cache where not.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    fs, io,
    os::{
        fd::{AsRawFd, RawFd},
        unix::fs::MetadataExt,
    },
    path::Path,
    process,
};

use bytes::Bytes;
use glommio::io::{BufferedFile, DmaFile, OpenOptions};

/// An open file. Whoever changes it does so alone, but for writes of whole blocks that do not meet (queue.rs).
pub(crate) struct File {
    access: Access,
    // The kernel takes whole blocks from the shard's own ring, for all that is known.
    blocks: Cell<bool>,
}

/// Where files end, whatever the file system: offsets are signed.
const END_MAX: u64 = i64::MAX as u64;

enum Access {
    // The length that a reader sees; blocks are padded while they are written.
    Direct { file: DmaFile, len: Cell<u64> },
    Buffered(BufferedFile),
}

/// Devices on which this shard has opened a file before.
///
/// glommio decides once per device whether it can be polled for completions, by reading the first file that it opens
/// there; a read of an empty file succeeds everywhere, and on devices that cannot be polled every later read fails with
/// ENOTSUP. So the first file that it sees on a device is one of ours, with a block in it.
#[derive(Default)]
pub(crate) struct Devices(RefCell<BTreeSet<u64>>);

/// A block of the largest size that devices have.
const PRIMER_BYTES: usize = 4096;

impl Devices {
    pub(crate) async fn prime(&self, path: &Path) {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let Ok(metadata) = fs::metadata(directory) else { return };
        if !self.0.borrow_mut().insert(metadata.dev()) {
            return;
        }
        let primer = directory.join(format!(".primer-{}-{}", process::id(), glommio::executor().id()));
        // Where this is not allowed, opening the file itself will say so.
        if open_primer(&primer).await.is_err() {
            self.0.borrow_mut().remove(&metadata.dev());
        }
        let _ = glommio::io::remove(&primer).await;
    }
}

async fn open_primer(path: &Path) -> io::Result<()> {
    let file = BufferedFile::create(path).await?;
    let written = file.write_at(vec![0; PRIMER_BYTES], 0).await;
    let synced = file.fdatasync().await;
    file.close().await?;
    written?;
    synced?;
    DmaFile::open(path).await?.close().await?;
    Ok(())
}

impl File {
    /// Opens for reading and writing; the file and its length.
    pub(crate) async fn open(path: &Path, create: bool) -> io::Result<(Self, u64)> {
        match Self::open_with(path, create, true).await {
            // What is stored can be read on a disk that takes nothing.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem && !create => {
                Self::open_with(path, create, false).await
            }
            opened => opened,
        }
    }

    async fn open_with(path: &Path, create: bool, write: bool) -> io::Result<(Self, u64)> {
        let mut options = OpenOptions::new();
        options.read(true).write(write).create(create).mode(0o640);
        match options.dma_open(path).await {
            Ok(file) => {
                let len = file.file_size().await?;
                let access = Access::Direct { file, len: Cell::new(len) };
                Ok((Self { access, blocks: Cell::new(true) }, len))
            }
            Err(error) => {
                let error = io::Error::from(error);
                if error.kind() != io::ErrorKind::InvalidInput {
                    return Err(error);
                }
                let file = options.buffered_open(path).await?;
                let len = file.file_size().await?;
                Ok((Self { access: Access::Buffered(file), blocks: Cell::new(false) }, len))
            }
        }
    }

    /// Reads up to `len` bytes.
    pub(crate) async fn read(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        let stop = end(offset, len)?;
        match &self.access {
            Access::Buffered(file) => Ok(Bytes::copy_from_slice(&file.read_at(offset, len).await?)),
            Access::Direct { file, .. } => {
                let start = file.align_down(offset);
                let end = file.align_up(stop);
                let read = file.read_at_aligned(start, (end - start) as usize).await?;
                let skip = ((offset - start) as usize).min(read.len());
                let stop = skip.saturating_add(len).min(read.len());
                Ok(Bytes::copy_from_slice(&read[skip..stop]))
            }
        }
    }

    /// Writes all bytes; with `sync` they are on disk afterwards.
    pub(crate) async fn write(&self, offset: u64, bytes: &[u8], sync: bool) -> io::Result<()> {
        end(offset, bytes.len())?;
        match &self.access {
            Access::Direct { file, len } => write_direct(file, len, offset, bytes).await?,
            Access::Buffered(file) => {
                let mut done = 0;
                while done < bytes.len() {
                    let count = file.write_at(bytes[done..].to_vec(), offset + done as u64).await?;
                    done += progress(count)?;
                }
            }
        }
        if sync { self.sync().await } else { Ok(()) }
    }

    /// Reserves room for the first `bytes`; what was not written reads as zeros.
    pub(crate) async fn allocate(&self, bytes: u64) -> io::Result<()> {
        match &self.access {
            Access::Direct { file, len } => {
                file.pre_allocate(bytes, false).await?;
                len.set(len.get().max(bytes));
            }
            Access::Buffered(file) => file.pre_allocate(bytes, false).await?,
        }
        Ok(())
    }

    /// Whether so many bytes are whole blocks of a file with direct access.
    pub(crate) fn is_whole(&self, offset: u64, len: usize) -> bool {
        let Access::Direct { file, .. } = &self.access else { return false };
        let is_whole = |bytes: u64| bytes.is_multiple_of(file.alignment());
        len > 0 && is_whole(offset) && is_whole(len as u64)
    }

    /// Whether they can be read or written at once by whoever has the descriptor.
    pub(crate) fn takes_blocks(&self, offset: u64, len: usize) -> bool {
        self.blocks.get() && self.is_whole(offset, len) && u32::try_from(len).is_ok() && end(offset, len).is_ok()
    }

    /// The file system does not take blocks this way.
    pub(crate) fn refuses_blocks(&self) {
        self.blocks.set(false);
    }

    /// Whoever has the descriptor has written up to `end`.
    pub(crate) fn grows(&self, end: u64) {
        if let Access::Direct { len, .. } = &self.access {
            len.set(len.get().max(end));
        }
    }

    pub(crate) fn descriptor(&self) -> RawFd {
        match &self.access {
            Access::Direct { file, .. } => file.as_raw_fd(),
            Access::Buffered(file) => file.as_raw_fd(),
        }
    }

    /// fdatasync.
    pub(crate) async fn sync(&self) -> io::Result<()> {
        match &self.access {
            Access::Direct { file, .. } => file.fdatasync().await?,
            Access::Buffered(file) => file.fdatasync().await?,
        }
        Ok(())
    }

    /// Closes the descriptor.
    pub(crate) async fn close(self) -> io::Result<()> {
        match self.access {
            Access::Direct { file, .. } => file.close().await?,
            Access::Buffered(file) => file.close().await?,
        }
        Ok(())
    }
}

// Where so many bytes end.
fn end(offset: u64, len: usize) -> io::Result<u64> {
    let end = offset.checked_add(len as u64).filter(|end| *end <= END_MAX);
    end.ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

fn progress(count: usize) -> io::Result<usize> {
    if count == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(count) }
}

// Whole blocks: what is missing at both ends is read first, and a padded end is cut off again.
async fn write_direct(file: &DmaFile, len: &Cell<u64>, offset: u64, bytes: &[u8]) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    let start = file.align_down(offset);
    let stop = offset + bytes.len() as u64;
    let end = file.align_up(stop);
    let mut buffer = file.alloc_dma_buffer((end - start) as usize);
    let block = file.alignment();
    buffer.as_bytes_mut().fill(0);
    if start < offset {
        let read = file.read_at_aligned(start, block as usize).await?;
        buffer.as_bytes_mut()[..read.len()].copy_from_slice(&read);
    }
    if stop < end && stop < len.get() && (end - block > start || start == offset) {
        let read = file.read_at_aligned(end - block, block as usize).await?;
        let at = (end - block - start) as usize;
        buffer.as_bytes_mut()[at..at + read.len()].copy_from_slice(&read);
    }
    let at = (offset - start) as usize;
    buffer.as_bytes_mut()[at..at + bytes.len()].copy_from_slice(bytes);
    let wanted = (end - start) as usize;
    let written = file.write_at(buffer, start).await?;
    if written < wanted {
        return Err(io::ErrorKind::WriteZero.into());
    }
    len.set(len.get().max(stop));
    if end > len.get() {
        file.truncate(len.get()).await?;
    }
    Ok(())
}
