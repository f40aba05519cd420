//! One shard's side of the kernel: the ring and everything that completes in it.

use std::{
    os::fd::{AsRawFd, OwnedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use io_uring::{opcode, types};

use crate::{
    accept::Acceptor,
    blocks::Blocks,
    bufring::BufferRing,
    config::Config,
    error::EngineError,
    ring::{COMPLETIONS_MAX, Completion, Ring},
    stats::ShardStats,
    tag::{self, Operation, tag},
    tcp::{STREAM_GROUP, Sink, Tcp},
    udp::Udp,
};

/// Places in the ring's table beyond `streams_max`: connections that are refused hold one until they are closed.
const TABLE_SPARE: u32 = 128;

/// How long the end of a shard waits for the kernel to let go of its memory.
const LETTING_GO: Duration = Duration::from_secs(5);

pub(crate) struct Net {
    pub(crate) ring: Ring,
    pub(crate) tcp: Tcp,
    pub(crate) udp: Udp,
    pub(crate) blocks: Blocks,
    stats: Arc<ShardStats>,
    control_bell: Box<ControlBell>,
    taken: Box<[Completion; COMPLETIONS_MAX]>,
    // Completions of the whole turn.
    turn_completions: usize,
}

struct ControlBell {
    eventfd: OwnedFd,
    count: u64,
}

impl Net {
    /// Sets the ring up for what this shard listens on.
    pub(crate) fn new(
        ring: Ring,
        config: &Config,
        acceptors: Vec<Acceptor>,
        sockets: Vec<(OwnedFd, bool)>,
        eventfd: OwnedFd,
        stats: Arc<ShardStats>,
    ) -> Result<Self, EngineError> {
        let failed = |what| move |error| EngineError::Ring { what, error };
        let table = (config.streams_max.saturating_add(TABLE_SPARE)).min(crate::limits::descriptors());
        ring.register().register_files_sparse(table).map_err(failed("table of direct descriptors"))?;
        let buffer_bytes = config.receive_buffer_bytes as usize;
        let buffers = BufferRing::new(&ring, STREAM_GROUP, config.receive_buffers, buffer_bytes)?;
        let tcp = Tcp::new(&ring, config.streams_max, table, buffers, acceptors, stats.clone());
        let udp = Udp::new(&ring, sockets, stats.clone())?;
        let control_bell = Box::new(ControlBell { eventfd, count: 0 });
        let taken = Box::new([Completion { tag: 0, result: 0, flags: 0 }; COMPLETIONS_MAX]);
        Ok(Self { ring, tcp, udp, blocks: Blocks::default(), stats, control_bell, taken, turn_completions: 0 })
    }

    /// Receives from now on.
    pub(crate) fn start(&mut self) {
        self.tcp.start_accepting(&mut self.ring);
        self.udp.start(&mut self.ring);
        self.arm_control_bell();
    }

    /// Before others ask for more sends: who has not been able to take the last one.
    pub(crate) fn look_behind<S: Sink>(&mut self, sink: &mut S) {
        if self.tcp.has_offered() && !self.ring.has_completions() {
            self.tcp.report_behind(sink);
        }
    }

    /// Works off what has completed; at most [`COMPLETIONS_MAX`].
    pub(crate) fn work<S: Sink>(&mut self, now: Instant, sink: &mut S) {
        let count = self.ring.take(&mut self.taken);
        self.turn_completions += count;
        self.stats.completions.add(count as u64);
        for at in 0..count {
            let done = self.taken[at];
            self.complete(now, done, sink);
        }
        if count < COMPLETIONS_MAX {
            self.tcp.report_behind(sink);
        }
        self.tcp.wake_acceptors(&mut self.ring, now);
        self.udp.retry(&mut self.ring, now);
        if self.tcp.has_backlog() {
            self.tcp.report_failed(sink);
        }
    }

    /// Whether more trains may wait in the kernel, and the turn has room for them.
    pub(crate) fn has_more_trains(&self) -> bool {
        self.udp.has_more() && self.turn_completions < COMPLETIONS_MAX
    }

    /// Takes them.
    pub(crate) fn gather<S: Sink>(&mut self, now: Instant, sink: &mut S) {
        self.udp.begin_pass();
        self.tcp.publish();
        self.ring.submit();
        self.work(now, sink);
    }

    fn complete<S: Sink>(&mut self, now: Instant, done: Completion, sink: &mut S) {
        let (operation, index) = tag::parse(done.tag);
        if !matches!(operation, Operation::Quiet | Operation::Bell) {
            self.ring.settle(done);
        }
        let ring = &mut self.ring;
        match operation {
            Operation::Quiet | Operation::Bell | Operation::Refuse => {}
            Operation::ControlBell => self.arm_control_bell(),
            Operation::Accept => self.tcp.on_accepted(ring, now, done, index, sink),
            Operation::Receive => self.tcp.on_received(ring, done, index, sink),
            Operation::Send => self.tcp.on_sent(ring, done, index, sink),
            Operation::Shutdown => self.tcp.on_shutdown(ring, done, index),
            Operation::Close => self.tcp.on_closed(index, sink),
            Operation::Install => self.tcp.on_installed(ring, done, index),
            Operation::Connect => self.tcp.on_connected(ring, done, index, sink),
            Operation::ReceiveTrain => self.udp.on_received(ring, done, index, sink),
            Operation::SendTrain => self.udp.on_sent(ring, now, done, index),
            Operation::Blocks => self.blocks.on_done(ring, &self.stats, done, index, sink),
        }
    }

    /// Queues the sends of the turn, and shows the kernel the buffers that were read.
    pub(crate) fn flush(&mut self) {
        self.tcp.flush(&mut self.ring);
        self.udp.end_turn();
        self.turn_completions = 0;
    }

    /// An eventfd that rings when something completes.
    pub(crate) fn ring_eventfd(&self) -> std::io::Result<OwnedFd> {
        let eventfd = crate::runtime::eventfd()?;
        self.ring.register().register_eventfd(eventfd.as_raw_fd())?;
        Ok(eventfd)
    }

    /// When something here is due without a completion.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.tcp.acceptors.iter().filter_map(Acceptor::deadline).chain(self.udp.deadline()).min()
    }

    fn arm_control_bell(&mut self) {
        let bell = &mut *self.control_bell;
        let entry = opcode::Read::new(types::Fd(bell.eventfd.as_raw_fd()), (&raw mut bell.count).cast(), 8).build();
        // SAFETY: the counter is boxed and outlives the read (`shut_down`).
        unsafe { self.ring.push(&entry.user_data(tag(Operation::ControlBell, 0))) };
    }

    /// Ends every operation and waits until the kernel has let go of our memory; if it does not, the memory is leaked.
    pub(crate) fn shut_down(mut self) {
        let deadline = Instant::now() + LETTING_GO;
        while self.ring.owed() > 0 && Instant::now() < deadline {
            self.ring.push_quiet(
                opcode::AsyncCancel2::new(types::CancelBuilder::any().all())
                    .build()
                    .user_data(tag(Operation::Quiet, 0)),
            );
            self.ring.wait(Some(Duration::from_millis(10)));
            let count = self.ring.take(&mut self.taken);
            for at in 0..count {
                let done = self.taken[at];
                if !matches!(tag::parse(done.tag).0, Operation::Quiet | Operation::Bell) {
                    self.ring.settle(done);
                }
            }
        }
        self.tcp.unregister(&self.ring);
        self.udp.unregister(&self.ring);
        // Closes the sockets now; the kernel takes the rest of the ring apart later.
        let _ = self.ring.register().unregister_files();
        if self.ring.owed() > 0 {
            std::mem::forget(self);
        }
    }
}
