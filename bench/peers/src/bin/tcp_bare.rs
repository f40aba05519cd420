//! TCP echo on a bare ring: what the kernel costs with io_uring used well and no runtime at all.
//!
//! Multishot accept into direct descriptors, multishot receive from a provided buffer ring, answers sent straight out of
//! the receive buffer, one enter per turn.

use std::{
    collections::VecDeque,
    io,
    os::fd::AsRawFd,
    ptr,
    time::{Duration, Instant},
};

use io_uring::{IoUring, opcode, squeue, types};
use peers::Start;

/// Submissions per enter.
const ENTRIES: u32 = 4_096;
/// Completions held; above the connections that can complete at once.
const COMPLETIONS: u32 = 16_384;
/// Connections: direct descriptors of the ring, below RLIMIT_NOFILE as the kernel demands.
const CONNECTIONS: u32 = 16_384;
/// Receive buffers and their bytes. A power of two, as the kernel demands.
const BUFFERS: u16 = 2_048;
const BUFFER_BYTES: usize = 4_096;
const GROUP: u16 = 0;

/// Runs deferred completions now: IORING_ENTER_GETEVENTS.
const ENTER_GETEVENTS: u32 = 1;

const ACCEPT: u64 = 0;
const RECEIVE: u64 = 1;
const SEND: u64 = 2;
const CLOSE: u64 = 3;

fn main() -> io::Result<()> {
    let start = Start::from_args();
    let listener = start.listen()?;
    let ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_cqsize(COMPLETIONS)
        .build(ENTRIES)?;
    ring.submitter().register_files_sparse(CONNECTIONS)?;
    let buffers = Buffers::register(&ring)?;
    let connections = (0..CONNECTIONS).map(|_| Connection::default()).collect();
    let mut server =
        Server { ring, buffers, connections, starved: Vec::new(), listener: listener.as_raw_fd(), spin: start.spin };
    server.accept();
    loop {
        server.turn()?;
    }
}

/// A piece of a receive buffer that is to be sent back.
#[derive(Clone, Copy)]
struct Piece {
    buffer: u16,
    start: u32,
    len: u32,
}

#[derive(Default)]
struct Connection {
    sending: Option<Piece>,
    waiting: VecDeque<Piece>,
    ended: bool,
}

struct Server {
    ring: IoUring,
    buffers: Buffers,
    connections: Vec<Connection>,
    /// Connections whose receive stopped because all buffers were out.
    starved: Vec<u32>,
    listener: i32,
    spin: Duration,
}

impl Server {
    fn turn(&mut self) -> io::Result<()> {
        for connection in std::mem::take(&mut self.starved) {
            self.receive(connection);
        }
        match self.spin().and_then(|found| self.ring.submit_and_wait(usize::from(!found))) {
            Ok(_) => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY)) => {}
            Err(error) => return Err(error),
        }
        // At most what is there now: completions that arrive meanwhile wait for the next turn.
        let ready = self.ring.completion().len();
        for _ in 0..ready {
            let Some(entry) = self.ring.completion().next() else { break };
            self.complete(entry.user_data(), entry.result(), entry.flags())?;
        }
        self.buffers.publish();
        Ok(())
    }

    /// Looks for completions for a while, as a shard does before it parks; true if there are some.
    fn spin(&mut self) -> io::Result<bool> {
        if self.spin.is_zero() {
            return Ok(false);
        }
        let start = Instant::now();
        while start.elapsed() < self.spin {
            let ready = self.ring.submission().len() as u32;
            // SAFETY: what is submitted is what `push` vouched for, and no argument is passed.
            unsafe { self.ring.submitter().enter::<libc::sigset_t>(ready, 0, ENTER_GETEVENTS, None)? };
            if !self.ring.completion().is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn complete(&mut self, user_data: u64, result: i32, flags: u32) -> io::Result<()> {
        let connection = (user_data >> 8) as u32;
        let more = io_uring::cqueue::more(flags);
        match user_data & 0xff {
            ACCEPT => {
                if !more {
                    self.accept();
                }
                if result >= 0 {
                    self.connections[result as usize].ended = false;
                    self.receive(result as u32);
                }
            }
            RECEIVE => self.received(connection, result, io_uring::cqueue::buffer_select(flags), more),
            SEND => self.sent(connection, result),
            _ => {}
        }
        Ok(())
    }

    fn received(&mut self, connection: u32, result: i32, buffer: Option<u16>, more: bool) {
        match (result, buffer) {
            (1.., Some(buffer)) => {
                let piece = Piece { buffer, start: 0, len: result as u32 };
                let state = &mut self.connections[connection as usize];
                if state.sending.is_some() {
                    state.waiting.push_back(piece);
                } else {
                    self.send(connection, piece);
                }
                if !more {
                    self.receive(connection);
                }
            }
            (error, _) if error == -libc::ENOBUFS => self.starved.push(connection),
            _ => {
                if let Some(buffer) = buffer {
                    self.buffers.give_back(buffer);
                }
                self.connections[connection as usize].ended = true;
                self.close_if_done(connection);
            }
        }
    }

    fn sent(&mut self, connection: u32, result: i32) {
        let state = &mut self.connections[connection as usize];
        let Some(piece) = state.sending.take() else { return };
        if result > 0 && (result as u32) < piece.len {
            let rest = Piece { start: piece.start + result as u32, len: piece.len - result as u32, ..piece };
            return self.send(connection, rest);
        }
        self.buffers.give_back(piece.buffer);
        if result <= 0 {
            for lost in std::mem::take(&mut self.connections[connection as usize].waiting) {
                self.buffers.give_back(lost.buffer);
            }
        }
        match self.connections[connection as usize].waiting.pop_front() {
            Some(next) => self.send(connection, next),
            None => self.close_if_done(connection),
        }
    }

    fn close_if_done(&mut self, connection: u32) {
        let state = &self.connections[connection as usize];
        if state.ended && state.sending.is_none() {
            self.push(opcode::Close::new(types::Fixed(connection)).build().user_data(CLOSE));
        }
    }

    fn accept(&mut self) {
        let accept = opcode::AcceptMulti::new(types::Fd(self.listener)).allocate_file_index(true);
        self.push(accept.build().user_data(ACCEPT));
    }

    fn receive(&mut self, connection: u32) {
        let receive = opcode::RecvMulti::new(types::Fixed(connection), GROUP).build();
        self.push(receive.user_data(RECEIVE | u64::from(connection) << 8));
    }

    fn send(&mut self, connection: u32, piece: Piece) {
        let from = self.buffers.piece(piece);
        let send = opcode::Send::new(types::Fixed(connection), from, piece.len).flags(libc::MSG_WAITALL);
        self.connections[connection as usize].sending = Some(piece);
        self.push(send.build().user_data(SEND | u64::from(connection) << 8));
    }

    fn push(&mut self, entry: squeue::Entry) {
        // SAFETY: sends point into the buffer ring, which lives as long as the ring, and their buffer is given back only
        // when they are complete.
        while unsafe { self.ring.submission().push(&entry) }.is_err() {
            if let Err(error) = self.ring.submit() {
                eprintln!("submit: {error}");
            }
        }
    }
}

/// The provided buffer ring: entries that the kernel reads, and the memory they point to.
struct Buffers {
    entries: *mut types::BufRingEntry,
    memory: *mut u8,
    tail: u16,
}

impl Buffers {
    fn register(ring: &IoUring) -> io::Result<Self> {
        let entries = map(usize::from(BUFFERS) * size_of::<types::BufRingEntry>())?.cast();
        let memory = map(usize::from(BUFFERS) * BUFFER_BYTES)?;
        // SAFETY: page-aligned, mapped for the life of the process, and `BUFFERS` entries long.
        unsafe { ring.submitter().register_buf_ring_with_flags(entries as u64, BUFFERS, GROUP, 0)? };
        let mut buffers = Self { entries, memory, tail: 0 };
        (0..BUFFERS).for_each(|buffer| buffers.give_back(buffer));
        buffers.publish();
        Ok(buffers)
    }

    fn piece(&self, piece: Piece) -> *const u8 {
        // SAFETY: the kernel filled `start + len` bytes of this buffer, which is within the mapping.
        unsafe { self.memory.add(usize::from(piece.buffer) * BUFFER_BYTES + piece.start as usize) }
    }

    fn give_back(&mut self, buffer: u16) {
        // SAFETY: the slot is within the ring, and the kernel does not read it before the tail is published. Only fields
        // are written: the first entry shares its memory with the tail.
        unsafe {
            let entry = &mut *self.entries.add(usize::from(self.tail & (BUFFERS - 1)));
            entry.set_addr(self.memory.add(usize::from(buffer) * BUFFER_BYTES) as u64);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(buffer);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&mut self) {
        // SAFETY: the tail is a u16 inside the mapping, shared with the kernel and written by us only.
        unsafe {
            let tail = types::BufRingEntry::tail(self.entries).cast_mut().cast::<std::sync::atomic::AtomicU16>();
            (*tail).store(self.tail, std::sync::atomic::Ordering::Release);
        }
    }
}

fn map(bytes: usize) -> io::Result<*mut u8> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
    // SAFETY: a new anonymous mapping touches no memory of ours.
    let memory = unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    if memory == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(memory.cast()) }
}
