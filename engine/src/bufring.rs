//! Provided buffers: memory that the kernel picks from when bytes arrive, so that an idle stream holds none.

use std::{
    io, ptr, slice,
    sync::atomic::{AtomicU16, Ordering},
};

use io_uring::types::BufRingEntry;

use crate::{error::EngineError, ring::Ring};

/// One group of buffers. A buffer belongs to the kernel, or to us from the completion that names it until
/// [`BufferRing::give_back`].
pub(crate) struct BufferRing {
    entries: Mapping,
    memory: Mapping,
    count: u16,
    bytes: usize,
    group: u16,
    tail: u16,
    dirty: bool,
}

impl BufferRing {
    /// `count` buffers (a power of two) of `bytes` each, given to the kernel as `group`.
    pub(crate) fn new(ring: &Ring, group: u16, count: u16, bytes: usize) -> Result<Self, EngineError> {
        let failed = |error| EngineError::Ring { what: "receive buffers", error };
        assert!(count.is_power_of_two(), "the kernel counts buffers modulo a power of two");
        let entries = Mapping::new(usize::from(count) * size_of::<BufRingEntry>()).map_err(failed)?;
        let memory = Mapping::new(usize::from(count) * bytes).map_err(failed)?;
        // SAFETY: the mapping is page-aligned, has room for `count` entries, and is unregistered before it is freed.
        unsafe { ring.register().register_buf_ring_with_flags(entries.base as u64, count, group, 0) }
            .map_err(|error| EngineError::Ring { what: "IORING_REGISTER_PBUF_RING", error })?;
        let mut this = Self { entries, memory, count, bytes, group, tail: 0, dirty: false };
        for id in 0..count {
            this.give_back(id);
        }
        this.publish();
        Ok(this)
    }

    pub(crate) fn group(&self) -> u16 {
        self.group
    }

    pub(crate) fn buffer_bytes(&self) -> usize {
        self.bytes
    }

    /// The first `len` bytes of a buffer that the kernel has filled and named in a completion.
    pub(crate) fn bytes_mut(&mut self, id: u16, len: usize) -> &mut [u8] {
        assert!(id < self.count && len <= self.bytes, "the kernel named a buffer that it was never given");
        // SAFETY: the range lies in the mapping, and the buffer is ours from its completion until it is given back.
        unsafe { slice::from_raw_parts_mut(self.memory.base.add(usize::from(id) * self.bytes), len) }
    }

    /// Returns a buffer; the kernel sees it after [`BufferRing::publish`].
    pub(crate) fn give_back(&mut self, id: u16) {
        let slot = usize::from(self.tail & (self.count - 1));
        // SAFETY: `slot` is below `count`, so the entry lies in the mapping; the kernel reads it only after `publish`.
        // Fields are written one by one: the first entry's last two bytes are the tail itself.
        unsafe {
            let entry = &mut *self.entries.base.cast::<BufRingEntry>().add(slot);
            entry.set_addr(self.memory.base.add(usize::from(id) * self.bytes) as u64);
            entry.set_len(self.bytes as u32);
            entry.set_bid(id);
        }
        self.tail = self.tail.wrapping_add(1);
        self.dirty = true;
    }

    /// Shows the kernel everything given back so far.
    pub(crate) fn publish(&mut self) {
        if !self.dirty {
            return;
        }
        self.dirty = false;
        // SAFETY: the tail lies in the first entry of the mapping and is only ever accessed atomically.
        let tail = unsafe { &*BufRingEntry::tail(self.entries.base.cast()).cast::<AtomicU16>() };
        tail.store(self.tail, Ordering::Release);
    }

    /// Takes the buffers back from the kernel, before they are freed.
    pub(crate) fn unregister(&self, ring: &Ring) {
        // An error means that the group is not registered, which is what is wanted.
        let _ = ring.register().unregister_buf_ring(self.group);
    }
}

/// Anonymous memory, page-aligned, in huge pages where the system gives them.
struct Mapping {
    base: *mut u8,
    len: usize,
}

impl Mapping {
    fn new(len: usize) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new anonymous mapping touches no existing memory.
        let base = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, -1, 0) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { base: base.cast(), len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: base and len are those of the mapping, and nobody holds a slice of it any more.
        unsafe { libc::munmap(self.base.cast(), self.len) };
    }
}
