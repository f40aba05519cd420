//! TCP on the ring: accept, receive, send and close, with every completion accounted for.

use std::{io, sync::Arc};

use bytes::Bytes;
use io_uring::{opcode, squeue, types};

use crate::{
    accept::{Acceptor, DirectAccepts},
    bufring::BufferRing,
    connect::Connector,
    outbox::Pool,
    reactor::{Datagrams, Outcome, Socket, Stream, StreamClose, StreamEvent, Ticket},
    ring::{Completion, Ring},
    stats::ShardStats,
    stream::{File, Streams, close_reason, number, on_file},
    tag::{Operation, tag},
};

/// The group of the buffers that streams receive into.
pub(crate) const STREAM_GROUP: u16 = 0;

/// Where completions lead to: the reactor, behind one generic call.
pub(crate) trait Sink {
    fn on_stream(&mut self, stream: Stream, event: StreamEvent<'_>);
    fn on_datagrams(&mut self, socket: Socket, train: Datagrams<'_>);
    fn on_disk(&mut self, ticket: Ticket, outcome: Outcome);
}

/// Streams with a send that are looked after at once, until a turn takes the last completion. That one of more is held up
/// is found out with its next send.
const OFFERED_MAX: usize = 65_536;
/// Room for them that stays when they were fewer.
const OFFERED_KEPT: usize = 8_192;

/// All streams of a shard.
pub(crate) struct Tcp {
    pub(crate) streams: Streams,
    pub(crate) acceptors: Vec<Acceptor>,
    pub(crate) connector: Connector,
    pub(crate) accepts_direct: DirectAccepts,
    // Places in the ring's own table.
    pub(crate) table: u32,
    pub(crate) stats: Arc<ShardStats>,
    buffers: BufferRing,
    pool: Pool,
    dirty: Vec<u32>,
    // Whose send was given to the kernel, which has not been seen to take it: it does so when it is entered, or has no
    // room.
    offered: Vec<u32>,
    multishot: bool,
}

impl Tcp {
    pub(crate) fn new(
        ring: &Ring,
        streams_max: u32,
        table: u32,
        buffers: BufferRing,
        acceptors: Vec<Acceptor>,
        stats: Arc<ShardStats>,
    ) -> Self {
        Self {
            streams: Streams::new(streams_max),
            acceptors,
            connector: Connector::default(),
            accepts_direct: DirectAccepts::default(),
            table,
            stats,
            buffers,
            pool: Pool::default(),
            dirty: Vec::new(),
            offered: Vec::new(),
            multishot: ring.features().multishot_receive,
        }
    }

    /// Queues bytes; they leave with [`Tcp::flush`].
    pub(crate) fn send(&mut self, stream: Stream, bytes: Bytes) {
        let Some(slot) = self.streams.find(stream).filter(|slot| !slot.state.finishing) else {
            self.stats.stale_effects.add(1);
            return;
        };
        if bytes.is_empty() {
            return;
        }
        slot.outbox.get_or_insert_with(|| self.pool.take()).push(bytes);
        if !slot.state.dirty && !slot.state.sending {
            slot.state.dirty = true;
            self.dirty.push(stream.index);
        }
    }

    /// FIN after what is queued.
    pub(crate) fn shutdown(&mut self, ring: &mut Ring, stream: Stream) {
        let Some(slot) = self.streams.find(stream).filter(|slot| !slot.state.finishing) else {
            self.stats.stale_effects.add(1);
            return;
        };
        slot.state.finishing = true;
        if slot.outbox.is_none() {
            self.push_shutdown(ring, stream.index);
        }
    }

    /// Closes at once.
    pub(crate) fn close(&mut self, ring: &mut Ring, stream: Stream) {
        if self.streams.find(stream).is_none() {
            self.stats.stale_effects.add(1);
            return;
        }
        self.begin_close(ring, stream.index, StreamClose::Local);
    }

    /// Stops receiving.
    pub(crate) fn pause(&mut self, ring: &mut Ring, stream: Stream) {
        let Some(slot) = self.streams.find(stream) else {
            self.stats.stale_effects.add(1);
            return;
        };
        slot.state.paused = true;
        if slot.state.receiving {
            cancel(ring, tag(Operation::Receive, stream.index));
        }
    }

    /// Receives again.
    pub(crate) fn resume(&mut self, ring: &mut Ring, stream: Stream) {
        let Some(slot) = self.streams.find(stream) else {
            self.stats.stale_effects.add(1);
            return;
        };
        slot.state.paused = false;
        self.arm(ring, stream.index);
    }

    /// Shows the kernel the buffers that were read, within a turn: else who found none asks in vain for each pass.
    pub(crate) fn publish(&mut self) {
        self.buffers.publish();
    }

    /// Gives the kernel what was queued since the last time: one send per stream.
    pub(crate) fn flush(&mut self, ring: &mut Ring) {
        self.publish();
        for at in 0..self.dirty.len() {
            let index = self.dirty[at];
            let slot = self.streams.slot(index);
            slot.state.dirty = false;
            if !slot.live || slot.state.closing || slot.state.sending {
                continue;
            }
            let Some(outbox) = &mut slot.outbox else { continue };
            let entry = on_file(slot.file, outbox.prepare(number(slot.file)));
            slot.state.sending = true;
            slot.owed += 1;
            if self.offered.len() < OFFERED_MAX && !std::mem::replace(&mut slot.state.offered, true) {
                self.offered.push(index);
            }
            self.stats.sends.add(1);
            // SAFETY: the outbox is boxed and stays in its slot, unchanged at the front, until the completion was taken
            // (`on_sent`); a slot with operations under way is not used again.
            unsafe { ring.push(&entry.user_data(tag(Operation::Send, index))) };
        }
        self.dirty.clear();
    }

    /// Whether there is somebody to report by [`Tcp::report_behind`].
    pub(crate) fn has_offered(&self) -> bool {
        !self.offered.is_empty()
    }

    /// All completions of earlier turns were taken: a send that was offered in one of them and has none is held up.
    pub(crate) fn report_behind<S: Sink>(&mut self, sink: &mut S) {
        for at in 0..self.offered.len() {
            let index = self.offered[at];
            let slot = self.streams.slot(index);
            slot.state.offered = false;
            if slot.live && slot.state.sending && !slot.state.closing {
                self.stats.behind.add(1);
                sink.on_stream(self.streams.handle(index), StreamEvent::Behind);
            }
        }
        self.offered.clear();
        self.offered.shrink_to(OFFERED_KEPT);
    }

    /// Bytes, the end, or an error arrived.
    pub(crate) fn on_received<S: Sink>(&mut self, ring: &mut Ring, done: Completion, index: u32, sink: &mut S) {
        let stream = self.streams.handle(index);
        if let Some(id) = done.buffer() {
            let closing = self.streams.slot(index).state.closing;
            if done.result > 0 && !closing {
                self.stats.recvs.add(1);
                self.stats.bytes_in.add(done.result as u64);
                sink.on_stream(stream, StreamEvent::Data(self.buffers.bytes_mut(id, done.result as usize)));
            }
            self.buffers.give_back(id);
        }
        if done.more() {
            return;
        }
        let slot = self.streams.slot(index);
        slot.state.receiving = false;
        slot.owed -= 1;
        if slot.state.closing {
            return self.finish_close(index, sink);
        }
        match done.error() {
            None if done.result == 0 => self.on_end(ring, index, sink),
            None => self.arm(ring, index),
            Some(error) => self.on_receive_error(ring, index, &error),
        }
    }

    fn on_end<S: Sink>(&mut self, ring: &mut Ring, index: u32, sink: &mut S) {
        let slot = self.streams.slot(index);
        slot.state.ended = true;
        let finished = slot.state.finished;
        sink.on_stream(self.streams.handle(index), StreamEvent::Ended);
        if finished {
            self.begin_close(ring, index, StreamClose::Local);
        }
    }

    fn on_receive_error(&mut self, ring: &mut Ring, index: u32, error: &io::Error) {
        match error.raw_os_error() {
            Some(libc::ENOBUFS) => {
                self.stats.buffers_exhausted.add(1);
                self.arm(ring, index);
            }
            Some(libc::ECANCELED | libc::EAGAIN | libc::EINTR) => self.arm(ring, index),
            _ => self.begin_close(ring, index, close_reason(error)),
        }
    }

    /// The kernel took bytes, or did not.
    pub(crate) fn on_sent<S: Sink>(&mut self, ring: &mut Ring, done: Completion, index: u32, sink: &mut S) {
        let stream = self.streams.handle(index);
        let slot = self.streams.slot(index);
        slot.state.sending = false;
        slot.owed -= 1;
        if slot.state.closing {
            return self.finish_close(index, sink);
        }
        let taken = match done.error() {
            None => done.result as usize,
            Some(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) => 0,
            Some(error) => return self.begin_close(ring, index, close_reason(&error)),
        };
        let mut left = false;
        if let Some(outbox) = &mut slot.outbox {
            outbox.advance(taken);
            left = !outbox.is_empty();
        }
        if left {
            slot.state.dirty = true;
            self.dirty.push(index);
        } else if let Some(outbox) = slot.outbox.take() {
            let finishing = slot.state.finishing;
            self.pool.give_back(outbox);
            if finishing {
                self.push_shutdown(ring, index);
            }
        }
        if taken == 0 {
            return;
        }
        self.stats.bytes_out.add(taken as u64);
        sink.on_stream(stream, StreamEvent::Sent { bytes: taken });
    }

    /// FIN has gone out.
    pub(crate) fn on_shutdown(&mut self, ring: &mut Ring, done: Completion, index: u32) {
        let slot = self.streams.slot(index);
        slot.owed -= 1;
        slot.state.shutting = false;
        if slot.state.closing {
            return self.close_file(ring, index);
        }
        slot.state.finished = true;
        if let Some(error) = done.error() {
            self.begin_close(ring, index, close_reason(&error));
        } else if slot.state.ended {
            self.begin_close(ring, index, StreamClose::Local);
        }
    }

    /// The socket is closed.
    pub(crate) fn on_closed<S: Sink>(&mut self, index: u32, sink: &mut S) {
        self.streams.slot(index).owed -= 1;
        self.finish_close(index, sink);
    }

    /// Takes a new socket into the table and receives on it.
    pub(crate) fn open(&mut self, ring: &mut Ring, file: File) -> Stream {
        let index = self.streams.insert(file);
        self.stats.streams_open.set(u64::from(self.streams.open()));
        self.arm(ring, index);
        self.streams.handle(index)
    }

    /// Receives, unless a receive is under way or none is wanted.
    pub(crate) fn arm(&mut self, ring: &mut Ring, index: u32) {
        let (multishot, group) = (self.multishot, self.buffers.group());
        let bytes = self.buffers.buffer_bytes() as u32;
        let slot = self.streams.slot(index);
        let state = slot.state;
        if state.receiving || state.paused || state.ended || state.closing || state.connecting {
            return;
        }
        slot.state.receiving = true;
        slot.owed += 1;
        let fd = number(slot.file);
        let entry = if multishot {
            opcode::RecvMulti::new(fd, group).build()
        } else {
            opcode::Recv::new(fd, std::ptr::null_mut(), bytes)
                .buf_group(group)
                .build()
                .flags(squeue::Flags::BUFFER_SELECT)
        };
        // SAFETY: the bytes go to a provided buffer, which the kernel owns until the completion names it.
        unsafe { ring.push(&on_file(slot.file, entry).user_data(tag(Operation::Receive, index))) };
    }

    /// Cancels what is under way and closes the socket. The slot lives until all completions are in.
    pub(crate) fn begin_close(&mut self, ring: &mut Ring, index: u32, reason: StreamClose) {
        let slot = self.streams.slot(index);
        if slot.state.closing {
            return;
        }
        slot.state.closing = true;
        slot.reason = reason;
        if slot.state.receiving {
            cancel(ring, tag(Operation::Receive, index));
        }
        if slot.state.sending {
            cancel(ring, tag(Operation::Send, index));
        }
        if !slot.state.shutting {
            self.close_file(ring, index);
        }
    }

    // Every other operation holds its file from the moment it is submitted. A shutdown always runs on a worker of the
    // kernel's, which looks the file up by its number when it gets to it: closed by then, the number may name the next
    // connection, and that one would get the FIN. So the close waits for the shutdown (`on_shutdown`).
    fn close_file(&mut self, ring: &mut Ring, index: u32) {
        let slot = self.streams.slot(index);
        slot.owed += 1;
        push_close(ring, slot.file, tag(Operation::Close, index));
    }

    fn finish_close<S: Sink>(&mut self, index: u32, sink: &mut S) {
        let stream = self.streams.handle(index);
        let slot = self.streams.slot(index);
        if slot.owed > 0 {
            return;
        }
        let (reason, silent) = (slot.reason, slot.state.connecting);
        if let Some(outbox) = slot.outbox.take() {
            self.pool.give_back(outbox);
        }
        self.streams.remove(index);
        self.stats.streams_open.set(u64::from(self.streams.open()));
        if !silent {
            self.stats.closed.add(1);
            sink.on_stream(stream, StreamEvent::Closed(reason));
        }
    }

    fn push_shutdown(&mut self, ring: &mut Ring, index: u32) {
        let slot = self.streams.slot(index);
        slot.state.shutting = true;
        slot.owed += 1;
        let entry = opcode::Shutdown::new(number(slot.file), libc::SHUT_WR).build();
        // SAFETY: a shutdown points to no memory.
        unsafe { ring.push(&on_file(slot.file, entry).user_data(tag(Operation::Shutdown, index))) };
    }

    /// Gives the kernel's buffers back, before the ring goes.
    pub(crate) fn unregister(&self, ring: &Ring) {
        self.buffers.unregister(ring);
    }

    /// Whether something happened that is told to the reactor next turn.
    pub(crate) fn has_backlog(&self) -> bool {
        self.connector.has_failed()
    }
}

/// Asks the kernel to end an operation. Its completion comes in any case.
pub(crate) fn cancel(ring: &mut Ring, operation: u64) {
    ring.push_quiet(opcode::AsyncCancel::new(operation).build().user_data(tag(Operation::Quiet, 0)));
}

/// Closes a socket that is in the ring's table or a plain one.
pub(crate) fn push_close(ring: &mut Ring, file: File, tag: u64) {
    let entry = match file {
        File::Direct(index) => opcode::Close::new(types::Fixed(index)).build(),
        File::Plain(_) | File::None => opcode::Close::new(number(file)).build(),
    };
    // SAFETY: a close points to no memory.
    unsafe { ring.push(&entry.user_data(tag)) };
}
