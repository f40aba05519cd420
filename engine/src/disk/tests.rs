//! The order of disk operations, seen from within: what is in the ring, what waits, and what the kernel refuses.

use std::{fs, path::PathBuf, sync::Arc, time::Instant};

use bytes::Bytes;
use glommio::LocalExecutorBuilder;

use super::*;
use crate::{
    config::Config,
    kernel::Kernel,
    reactor::{Datagrams, Socket, Stream, StreamEvent},
    ring::{Completion, Ring},
    tcp::Sink,
};

const BLOCK: usize = 4096;

/// Far beyond what any test takes.
const DEADLINE: Duration = Duration::from_secs(20);

/// Tickets in the order in which they ended, and whether they failed.
#[derive(Default)]
struct Ends(Vec<(u64, bool)>);

impl Ends {
    fn push(&mut self, ticket: Ticket, outcome: &Outcome) {
        self.0.push((ticket.0, matches!(outcome, Outcome::Failed(_))));
    }
}

impl Sink for Ends {
    fn on_stream(&mut self, _: Stream, _: StreamEvent<'_>) {}

    fn on_datagrams(&mut self, _: Socket, _: Datagrams<'_>) {}

    fn on_disk(&mut self, ticket: Ticket, outcome: Outcome) {
        self.push(ticket, &outcome);
    }
}

/// The disk of a shard that turns when the test says so.
struct Bench {
    disk: Disk,
    net: Net,
    stats: Arc<ShardStats>,
    ends: Ends,
}

impl Bench {
    /// With an open file at `path`, which is file 0.
    async fn open(path: PathBuf) -> Self {
        let stats = Arc::new(ShardStats::default());
        let config = Config { streams_max: 4, receive_buffers: 2, ..Config::default() };
        let ring = Ring::new(Kernel::running()).expect("a ring");
        let eventfd = crate::runtime::eventfd().expect("an eventfd");
        let net = Net::new(ring, &config, Vec::new(), Vec::new(), eventfd, stats.clone()).expect("a net");
        let mut bench = Self { disk: Disk::default(), net, stats, ends: Ends::default() };
        bench.start(0, DiskOperation::Open { path, create: true });
        assert_eq!(bench.until(0).await, [(0, false)]);
        bench
    }

    fn start(&mut self, number: u64, operation: DiskOperation) {
        self.disk.start(&mut self.net, Ticket(number), operation);
    }

    /// Lets the executor get on, and nothing else.
    async fn execute(&mut self) {
        self.disk.wait(Duration::from_millis(1)).await;
        let Self { disk, net, stats, ends } = self;
        disk.deliver(net, stats, |ticket, outcome| ends.push(ticket, &outcome));
    }

    /// Lets the executor get on until an operation has ended; all that have ended since the last call.
    async fn until(&mut self, number: u64) -> Vec<(u64, bool)> {
        let begun = Instant::now();
        while !self.ends.0.iter().any(|(ticket, _)| *ticket == number) {
            assert!(begun.elapsed() < DEADLINE, "{number} does not end: {:?}", self.ends.0);
            self.execute().await;
            self.disk.advance(&mut self.net);
        }
        std::mem::take(&mut self.ends.0)
    }

    /// Lets everything end.
    async fn finish(&mut self) -> Vec<(u64, bool)> {
        assert_eq!(self.net.ring.owed(), self.net.blocks.len(), "what was refused must not reach the kernel");
        let begun = Instant::now();
        while self.disk.pending() > 0 {
            assert!(begun.elapsed() < DEADLINE, "{} do not end: {:?}", self.disk.pending(), self.ends.0);
            self.execute().await;
            self.net.ring.wait(Some(Duration::from_millis(1)));
            self.net.work(Instant::now(), &mut self.ends);
            self.disk.advance(&mut self.net);
        }
        std::mem::take(&mut self.ends.0)
    }

    /// The kernel refuses what is in a slot. The ring was not entered and must not be any more: it has seen nothing of it.
    fn refuse(&mut self, slot: u32) {
        let done = Completion { tag: 0, result: -libc::EINVAL, flags: 0 };
        let Net { ring, blocks, .. } = &mut self.net;
        blocks.on_done(ring, &self.stats, done, slot, &mut self.ends);
        self.disk.advance(&mut self.net);
    }
}

fn on_executor<F: Future<Output = ()> + 'static>(test: impl FnOnce(PathBuf) -> F + Send + 'static) {
    let directory = tempfile::tempdir_in(".").expect("a directory on disk");
    let path = directory.path().to_owned();
    LocalExecutorBuilder::default().spawn(move || test(path)).expect("an executor").join().expect("no panic");
}

fn write(offset: usize, byte: u8, len: usize) -> DiskOperation {
    let bytes = Bytes::from(vec![byte; len]);
    DiskOperation::Write { file: FileId(0), offset: offset as u64, bytes, sync: true }
}

#[test]
fn what_was_refused_is_done_before_its_file_is_closed() {
    on_executor(|directory| async move {
        let (one, other) = (directory.join("one"), directory.join("other"));
        let mut bench = Bench::open(one.clone()).await;
        bench.start(1, write(0, 7, BLOCK));
        bench.start(2, DiskOperation::Close { file: FileId(0) });
        bench.start(3, DiskOperation::Open { path: other.clone(), create: true });
        assert_eq!(bench.until(3).await, [(3, false)]);
        bench.refuse(0);
        assert_eq!(bench.until(2).await, [(1, false), (2, false)]);
        let len = |path| fs::metadata(path).expect("there").len();
        assert_eq!((len(one), len(other)), (BLOCK as u64, 0));
    });
}

#[test]
fn what_was_refused_is_done_before_what_was_started_later() {
    on_executor(|directory| async move {
        let path = directory.join("file");
        let mut bench = Bench::open(path.clone()).await;
        bench.start(1, write(0, 7, BLOCK));
        bench.start(2, write(0, 9, 100));
        bench.execute().await;
        bench.refuse(0);
        assert_eq!(bench.until(2).await, [(1, false), (2, false)]);
        assert_eq!(fs::read(&path).expect("there")[99..101], [9, 7]);
    });
}

#[test]
fn a_refusal_stands_only_if_it_is_possible_by_other_means() {
    on_executor(|directory| async move {
        let mut bench = Bench::open(directory.join("file")).await;
        // Too far for most file systems.
        bench.start(1, write((1 << 63) - 2 * BLOCK, 1, BLOCK));
        bench.refuse(0);
        let failed = bench.until(1).await[0].1;
        bench.start(2, write(0, 1, BLOCK));
        assert_eq!(bench.net.blocks.len(), usize::from(failed), "in the ring; 1 has failed: {failed}");
        if failed {
            bench.refuse(0);
        }
        bench.until(2).await;
        bench.start(3, write(0, 1, BLOCK));
        assert_eq!(bench.net.blocks.len(), 0);
        assert_eq!(bench.until(3).await, [(3, false)]);
    });
}

#[test]
fn impossible_offsets_never_reach_the_ring() {
    on_executor(|directory| async move {
        let mut bench = Bench::open(directory.join("file")).await;
        bench.start(1, write(1 << 63, 1, BLOCK));
        assert_eq!(bench.net.blocks.len(), 0);
        assert_eq!(bench.finish().await, [(1, true)]);
    });
}

#[test]
fn commits_that_do_not_meet_are_under_way_at_once() {
    on_executor(|directory| async move {
        let path = directory.join("file");
        let mut bench = Bench::open(path.clone()).await;
        bench.start(1, write(0, 1, 2 * BLOCK));
        bench.start(2, write(2 * BLOCK, 2, BLOCK));
        assert_eq!(bench.net.blocks.len(), 2);
        bench.start(3, write(BLOCK, 3, BLOCK));
        assert_eq!((bench.net.blocks.len(), bench.disk.pending()), (2, 3));
        let ends = bench.finish().await;
        assert_eq!((ends.len(), ends[2]), (3, (3, false)));
        assert_eq!(bench.disk.shared.under_way.get(), 0);
        let found = fs::read(&path).expect("there");
        assert_eq!([0, BLOCK, 2 * BLOCK].map(|at| found[at]), [1, 3, 2]);
    });
}

#[test]
fn reads_beyond_those_that_may_be_under_way_have_no_buffer_yet() {
    const READS: u64 = 400;
    on_executor(|directory| async move {
        let path = directory.join("file");
        fs::write(&path, vec![7; BLOCK]).expect("written");
        let mut bench = Bench::open(path).await;
        for n in 1..=READS {
            // Every second one is for the executor.
            let len = BLOCK - n as usize % 2;
            bench.start(n, DiskOperation::Read { file: FileId(0), offset: 0, len });
            let under_way = bench.net.blocks.len() + bench.disk.shared.under_way.get();
            assert_eq!(under_way, PENDING_MAX.min(n as usize));
        }
        // A commit passes.
        bench.start(READS + 1, write(0, 7, BLOCK));
        assert_eq!(bench.net.blocks.len(), PENDING_MAX / 2 + 1);
        let ends = bench.finish().await;
        assert_eq!(ends.len() as u64, READS + 1);
        assert!(ends.iter().all(|(_, failed)| !failed));
    });
}
