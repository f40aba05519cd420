//! A bad disk: files that forget at a power loss what was not synced, in pieces and in any order.
//!
//! A file is durable after [`Disk::sync`]: its bytes, its length, and, as on ext4 and XFS, its name when it is new. A
//! rename makes all names in the directory of its new name durable, as the engine syncs that one; a removal is on the
//! disk only after a rename or [`Disk::sync_dir`], so that a power loss may bring the file back.
//!
//! A sector is written as one: an un-synced write endangers all bytes of the sectors that it touches, also those that
//! were synced before. Other bytes are never touched. Of several un-synced writes to one sector, the disk knows what was
//! there before the first and after the last.

mod config;
mod directory;
mod file;

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    time::Duration,
};

pub use config::{CrashPlan, DiskConfig, DiskError, DiskKind, Latency};

use crate::{
    chance::Chance,
    disk::{directory::Directory, file::File},
};

/// An open file. No number comes twice, so that a handle from before a crash is never taken for another one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FileId(pub u32);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Inode(u64);

/// A disk. Names are relative to its root; their directories are there without being made.
#[derive(Clone, Debug)]
pub struct Disk {
    config: DiskConfig,
    chance: Chance,
    directory: Directory,
    /// Those with a name, those that a power loss may bring back, and those that are open.
    files: BTreeMap<Inode, File>,
    handles: BTreeMap<FileId, Inode>,
    inodes: u64,
    opened: u32,
    last_written: Option<Inode>,
    read_only: bool,
    reads_fail: bool,
    next_write_fails: bool,
    next_sync_fails: bool,
}

impl Disk {
    /// An empty disk; `seed` decides all that happens by chance.
    #[must_use]
    pub fn new(seed: u64, config: DiskConfig) -> Self {
        assert!(config.sector > 0, "a sector has bytes");
        Self {
            config,
            chance: Chance::seeded(seed),
            directory: Directory::default(),
            files: BTreeMap::new(),
            handles: BTreeMap::new(),
            inodes: 0,
            opened: 0,
            last_written: None,
            read_only: false,
            reads_fail: false,
            next_write_fails: false,
            next_sync_fails: false,
        }
    }

    /// Opens a file for reading and writing, and makes it if it is not there and `create`; its handle and its length.
    /// A disk that is read-only opens nothing for writing; handles from before still read.
    pub fn open(&mut self, name: &str, create: bool) -> Result<(FileId, u64), DiskError> {
        let found = self.named(name);
        let inode = match found {
            Err(_) if !create => return Err(DiskError::NotFound),
            _ if self.read_only => return Err(DiskError::ReadOnly),
            Ok(inode) => inode,
            Err(_) => self.create(name),
        };
        let file = FileId(self.opened);
        self.opened += 1;
        self.handles.insert(file, inode);
        Ok((file, self.file(inode).bytes().len() as u64))
    }

    /// Reads up to `len` bytes; fewer at the end of the file.
    pub fn read(&mut self, file: FileId, offset: u64, len: usize) -> Result<Vec<u8>, DiskError> {
        let inode = self.inode(file)?;
        if self.reads_fail || self.chance.happens(self.config.read_error) {
            return Err(DiskError::Io);
        }
        Ok(self.file(inode).read(index(offset), len).to_vec())
    }

    /// Writes all bytes; a gap before them becomes zeros. On a full disk what fits is written before the error, and a
    /// device that fails may do so after any number of bytes.
    pub fn write(&mut self, file: FileId, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let inode = self.writable(file)?;
        let end = offset.saturating_add(bytes.len() as u64);
        let fits = self.len_max(inode, end).saturating_sub(offset).min(bytes.len() as u64);
        let fails = mem::take(&mut self.next_write_fails) || self.chance.happens(self.config.write_error);
        let written = if fails { self.chance.count(index(fits) + 1) - 1 } else { index(fits) };
        self.last_written = Some(inode);
        self.file_mut(inode).write(index(offset), &bytes[..written]);
        match written {
            _ if fails => Err(DiskError::Io),
            written if written < bytes.len() => Err(DiskError::Full),
            _ => Ok(()),
        }
    }

    /// fdatasync: the bytes, the length and the name of the file survive from now on. After one that failed nothing is
    /// known, and a later one that succeeds makes only those sectors durable that were written again, as on Linux.
    pub fn sync(&mut self, file: FileId) -> Result<(), DiskError> {
        let inode = self.inode(file)?;
        if self.read_only {
            return if self.file(inode).is_synced() { Ok(()) } else { Err(DiskError::ReadOnly) };
        }
        if self.sync_fails() {
            self.file_mut(inode).give_up();
            return Err(DiskError::Io);
        }
        self.file_mut(inode).sync();
        self.directory.sync_file(inode);
        Ok(())
    }

    /// fallocate: the file has at least so many bytes, the new ones zero. Nothing happens when they do not fit.
    pub fn allocate(&mut self, file: FileId, bytes: u64) -> Result<(), DiskError> {
        let inode = self.writable(file)?;
        if bytes > self.file(inode).bytes().len() as u64 { self.set_len(inode, bytes) } else { Ok(()) }
    }

    /// Cuts the file to `len`, or extends it by zeros.
    pub fn truncate(&mut self, file: FileId, len: u64) -> Result<(), DiskError> {
        let inode = self.writable(file)?;
        self.set_len(inode, len)
    }

    /// Closes the file. This syncs nothing.
    pub fn close(&mut self, file: FileId) -> Result<(), DiskError> {
        self.handles.remove(&file).ok_or(DiskError::BadHandle)?;
        self.sweep();
        Ok(())
    }

    /// Renames, and syncs the directory of the new name; what had that name before is gone, except for who has it open.
    /// When the sync fails, the file has the new name, and after a power loss one of the two. What the file holds is not
    /// synced by this.
    pub fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        let inode = self.named(from)?;
        if self.read_only {
            return Err(DiskError::ReadOnly);
        }
        self.directory.rename(from, to, inode);
        self.sync_dir(directory::parent(to))
    }

    /// Removes a name. The disk may have it again after a power loss, until its directory is synced.
    pub fn remove(&mut self, name: &str) -> Result<(), DiskError> {
        let inode = self.named(name)?;
        if self.read_only {
            return Err(DiskError::ReadOnly);
        }
        self.directory.remove(name, inode);
        Ok(())
    }

    /// Syncs the names in a directory; "" is the root.
    pub fn sync_dir(&mut self, directory: &str) -> Result<(), DiskError> {
        if self.read_only {
            return Err(DiskError::ReadOnly);
        }
        if self.sync_fails() {
            return Err(DiskError::Io);
        }
        self.directory.sync(directory);
        self.sweep();
        Ok(())
    }

    /// All names, sorted.
    #[must_use]
    pub fn list(&self) -> Vec<String> {
        self.directory.names().keys().cloned().collect()
    }

    /// The length of a file.
    pub fn len(&self, name: &str) -> Result<u64, DiskError> {
        Ok(self.file(self.named(name)?).bytes().len() as u64)
    }

    /// All names and what readers see under them, sorted by name.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.directory.names().iter().map(|(name, inode)| (name.as_str(), self.file(*inode).bytes()))
    }

    /// What readers see in a file.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.named(name).ok().map(|inode| self.file(inode).bytes())
    }

    /// Bytes that count for the capacity: of all files that have a name or are open.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        let used: BTreeSet<_> = self.directory.names().values().chain(self.handles.values()).collect();
        used.into_iter().map(|inode| self.file(*inode).bytes().len() as u64).sum()
    }

    /// How long an operation takes, drawn anew each time.
    pub fn latency(&mut self, kind: DiskKind) -> Duration {
        let Latency { min, max } = match kind {
            DiskKind::Read => self.config.read_latency,
            DiskKind::Write => self.config.write_latency,
            DiskKind::Sync => self.config.sync_latency,
        };
        min + self.chance.up_to(max.saturating_sub(min))
    }

    /// Changes what is wrong with the disk from now on; sectors stay as they are.
    pub fn configure(&mut self, config: DiskConfig) {
        assert_eq!(config.sector, self.config.sector, "sectors do not change");
        self.config = config;
    }

    /// Changes the capacity; what is there stays, also if it is more.
    pub fn set_capacity(&mut self, bytes: u64) {
        self.config.capacity_bytes = bytes;
    }

    /// Refuses all changes from now on, or takes them again.
    pub fn set_read_only(&mut self, read_only: bool) {
        self.read_only = read_only;
    }

    /// The next sync, of a file or of a directory, fails.
    pub fn fail_next_sync(&mut self) {
        self.next_sync_fails = true;
    }

    /// The next write fails.
    pub fn fail_next_write(&mut self) {
        self.next_write_fails = true;
    }

    /// All reads fail from now on, or succeed again.
    pub fn fail_reads(&mut self, fail: bool) {
        self.reads_fail = fail;
    }

    /// Flips one bit of a file, on the disk and for readers.
    pub fn corrupt(&mut self, name: &str, offset: u64, bit: u8) -> Result<(), DiskError> {
        let inode = self.named(name)?;
        let len = self.file(inode).bytes().len() as u64;
        assert!(offset < len && bit < 8, "bit {bit} of byte {offset} is not in the {len} bytes of {name}");
        self.file_mut(inode).flip(index(offset), bit);
        Ok(())
    }

    /// The process is killed: no handle is valid any more, and all that was written is there, though not on the disk.
    pub fn kill(&mut self) {
        self.handles.clear();
        self.sweep();
    }

    /// Power loss: no handle is valid any more, and what was not synced is lost, kept or garbage as planned. What is
    /// left is on the disk for sure. Gives the synced bits that flipped: the name, the byte and the bit.
    pub fn crash(&mut self, plan: CrashPlan) -> Vec<(String, u64, u8)> {
        self.directory.crash(&mut self.chance, plan.keep);
        self.kill();
        let mut flipped = Vec::new();
        for (name, inode) in self.directory.names() {
            let flips = if self.last_written == Some(*inode) { plan.flip_synced_bits } else { 0 };
            let Some(file) = self.files.get_mut(inode) else { continue };
            let bits = file.crash(&mut self.chance, plan, flips);
            flipped.extend(bits.into_iter().map(|(offset, bit)| (name.clone(), offset, bit)));
        }
        flipped
    }

    fn create(&mut self, name: &str) -> Inode {
        let inode = Inode(self.inodes);
        self.inodes += 1;
        self.files.insert(inode, File::new(self.config.sector));
        self.directory.create(name, inode);
        inode
    }

    fn set_len(&mut self, inode: Inode, len: u64) -> Result<(), DiskError> {
        if len > self.len_max(inode, len) {
            return Err(DiskError::Full);
        }
        self.file_mut(inode).set_len(index(len));
        Ok(())
    }

    /// The length that a file can have which should get `wanted`: at most what it has and what is free.
    fn len_max(&self, inode: Inode, wanted: u64) -> u64 {
        let len = self.file(inode).bytes().len() as u64;
        if wanted <= len {
            return len;
        }
        len.saturating_add(self.config.capacity_bytes.saturating_sub(self.used_bytes()))
    }

    fn sync_fails(&mut self) -> bool {
        mem::take(&mut self.next_sync_fails) || self.chance.happens(self.config.sync_error)
    }

    fn named(&self, name: &str) -> Result<Inode, DiskError> {
        self.directory.names().get(name).copied().ok_or(DiskError::NotFound)
    }

    fn inode(&self, file: FileId) -> Result<Inode, DiskError> {
        self.handles.get(&file).copied().ok_or(DiskError::BadHandle)
    }

    fn writable(&self, file: FileId) -> Result<Inode, DiskError> {
        let inode = self.inode(file)?;
        if self.read_only { Err(DiskError::ReadOnly) } else { Ok(inode) }
    }

    fn file(&self, inode: Inode) -> &File {
        &self.files[&inode]
    }

    fn file_mut(&mut self, inode: Inode) -> &mut File {
        self.files.get_mut(&inode).expect("a file stays while a name or a handle leads to it")
    }

    /// Frees the files that nothing leads to any more.
    fn sweep(&mut self) {
        let used: BTreeSet<_> = self.directory.reachable().chain(self.handles.values().copied()).collect();
        self.files.retain(|inode, _| used.contains(inode));
    }
}

/// Offsets that memory cannot have are behind the end of every file.
fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}
