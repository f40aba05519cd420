//! Mail between shards and with the control thread: order, overflow, waking.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use engine::{Config, Datagrams, Io, Outcome, Reactor, ShardId, Socket, Stream, StreamEvent, Ticket};

use crate::world::eventually;

/// Every shard sends `COUNT` numbers to every other one, a burst per turn, and checks what it gets.
const COUNT: u64 = 20_000;
const BURST: u64 = 1_000;

struct Chatter {
    expected: Vec<u64>,
    sent: u64,
    finished: Arc<AtomicU64>,
}

impl Reactor for Chatter {
    type Mail = u64;

    fn on_datagrams(&mut self, _: &mut Io<u64>, _: Socket, _: Datagrams<'_>) {}
    fn on_stream(&mut self, _: &mut Io<u64>, _: Stream, _: StreamEvent<'_>) {}
    fn on_disk(&mut self, _: &mut Io<u64>, _: Ticket, _: Outcome) {}

    fn on_mail(&mut self, io: &mut Io<u64>, from: ShardId, number: u64) {
        if from == ShardId::CONTROL {
            return io.exit();
        }
        assert_eq!(number, self.expected[from.index()], "mail of {from} arrives in order");
        self.expected[from.index()] += 1;
        if number + 1 == COUNT {
            self.finished.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn on_turn_end(&mut self, io: &mut Io<u64>) {
        let until = (self.sent + BURST).min(COUNT);
        for number in self.sent..until {
            for to in 0..io.shards() {
                io.mail(ShardId(to), number);
            }
        }
        self.sent = until;
        io.wake_at((until < COUNT).then(|| io.now()));
    }
}

#[test]
fn mail_is_in_order_for_every_pair_even_when_boxes_overflow() {
    for slots in [16, 1024] {
        let finished = Arc::new(AtomicU64::new(0));
        let counter = finished.clone();
        let config = Config { shards: 3, pin: false, mailbox_slots: slots, ..Config::default() };
        let running = engine::bind(config)
            .and_then(|bound| {
                bound.start(move |_, _| Chatter { expected: vec![0; 3], sent: 0, finished: counter.clone() })
            })
            .expect("the shards start");
        eventually("all mail", || finished.load(Ordering::SeqCst) == 9 || running.is_finished());
        let overflowed: u64 = running.stats().iter().map(|stats| stats.mail_overflowed.get()).sum();
        assert!(overflowed > 0 || slots > 16, "a box of 16 does not hold a burst");
        for stats in running.stats() {
            assert_eq!(stats.mail_in.get(), 3 * COUNT);
            assert_eq!(stats.mail_queued.get(), 0);
            assert!(stats.bells.get() <= stats.turns.get() * 2, "at most one bell per destination and turn");
        }
        (0..3).for_each(|shard| assert!(running.mail(ShardId(shard), 0).is_ok()));
        running.join().expect("no shard died");
    }
}

/// Sends a number back, one more.
struct Pong;

impl Reactor for Pong {
    type Mail = u64;

    fn on_datagrams(&mut self, _: &mut Io<u64>, _: Socket, _: Datagrams<'_>) {}
    fn on_stream(&mut self, _: &mut Io<u64>, _: Stream, _: StreamEvent<'_>) {}
    fn on_disk(&mut self, _: &mut Io<u64>, _: Ticket, _: Outcome) {}

    fn on_mail(&mut self, io: &mut Io<u64>, from: ShardId, number: u64) {
        match (from, number) {
            (ShardId::CONTROL, u64::MAX) => io.exit(),
            (ShardId::CONTROL, 0) => io.mail(ShardId(1), 1),
            (_, 1_000) => io.mail(ShardId::CONTROL, number),
            (from, _) => io.mail(from, number + 1),
        }
    }

    fn on_turn_end(&mut self, _: &mut Io<u64>) {}
}

#[test]
fn parked_shards_wake_each_other_every_time() {
    for (spin_us, kernel_max) in [(0, None), (20, None), (0, Some((5, 19)))] {
        let config = Config { shards: 2, pin: false, spin_us, kernel_max, ..Config::default() };
        let running = engine::bind(config).and_then(|bound| bound.start(|_, _| Pong)).expect("the shards start");
        assert!(running.mail(ShardId(0), 0).is_ok());
        let (_, last) = running.control().recv_timeout(Duration::from_secs(20)).expect("no wake was lost");
        assert_eq!(last, 1_000);
        (0..2).for_each(|shard| assert!(running.mail(ShardId(shard), u64::MAX).is_ok()));
        running.join().expect("no shard died");
    }
}

/// Reports how late it woke.
struct Sleeper {
    due: Option<Instant>,
}

impl Reactor for Sleeper {
    type Mail = Duration;

    fn on_start(&mut self, io: &mut Io<Duration>) {
        self.due = Some(io.now() + Duration::from_millis(30));
        io.wake_at(self.due);
    }

    fn on_datagrams(&mut self, _: &mut Io<Duration>, _: Socket, _: Datagrams<'_>) {}
    fn on_stream(&mut self, _: &mut Io<Duration>, _: Stream, _: StreamEvent<'_>) {}
    fn on_disk(&mut self, _: &mut Io<Duration>, _: Ticket, _: Outcome) {}
    fn on_mail(&mut self, io: &mut Io<Duration>, _: ShardId, _: Duration) {
        io.exit();
    }

    fn on_turn_end(&mut self, io: &mut Io<Duration>) {
        if let Some(due) = self.due.filter(|due| *due <= io.now()) {
            self.due = None;
            let late = io.now() - due;
            io.mail(ShardId::CONTROL, late);
        }
        io.wake_at(self.due);
    }
}

#[test]
fn a_deadline_ends_the_sleep_and_then_the_shard_rests() {
    let config = Config { shards: 1, pin: false, ..Config::default() };
    let running = engine::bind(config).and_then(|bound| bound.start(|_, _| Sleeper { due: None })).expect("it starts");
    let late = running.control().recv_timeout(Duration::from_secs(20)).expect("it wakes").1;
    assert!(late < Duration::from_secs(5), "{late:?} late");
    assert!(running.stats()[0].turns.get() < 50, "a shard with nothing to do sleeps");
    assert!(running.mail(ShardId(0), Duration::ZERO).is_ok());
    running.join().expect("it ends");
}

/// Mail that each leads to `FAN_OUT` effects, all of it sent in one turn.
const FLOOD: u64 = 1_000;
const FAN_OUT: u64 = 1_000;

/// What a turn queues before the engine delivers no more mail, and what the last one may add to it.
const TURN_MAX: u64 = 65_536 + FAN_OUT;

struct Flooded {
    effects: u64,
    most: u64,
    seen: u64,
}

impl Reactor for Flooded {
    type Mail = u64;

    fn on_start(&mut self, io: &mut Io<u64>) {
        (0..FLOOD).for_each(|number| io.mail(io.shard(), number));
    }

    fn on_datagrams(&mut self, _: &mut Io<u64>, _: Socket, _: Datagrams<'_>) {}
    fn on_stream(&mut self, _: &mut Io<u64>, _: Stream, _: StreamEvent<'_>) {}
    fn on_disk(&mut self, _: &mut Io<u64>, _: Ticket, _: Outcome) {}

    fn on_mail(&mut self, io: &mut Io<u64>, from: ShardId, number: u64) {
        if from == ShardId::CONTROL {
            return io.exit();
        }
        assert_eq!(number, self.seen, "mail arrives in order");
        self.seen += 1;
        self.effects += FAN_OUT;
        (0..FAN_OUT).for_each(|_| io.resume(Stream { index: 0, generation: 9 }));
    }

    fn on_turn_end(&mut self, io: &mut Io<u64>) {
        self.most = self.most.max(std::mem::take(&mut self.effects));
        if self.seen == FLOOD {
            self.seen += 1;
            io.mail(ShardId::CONTROL, self.most);
        }
    }
}

#[test]
fn a_flood_of_mail_is_worked_off_in_turns_of_bounded_size() {
    let config = Config { shards: 1, pin: false, ..Config::default() };
    let running = engine::bind(config)
        .and_then(|bound| bound.start(|_, _| Flooded { effects: 0, most: 0, seen: 0 }))
        .expect("it starts");
    let most = running.control().recv_timeout(Duration::from_secs(20)).expect("all mail arrives").1;
    assert!((FAN_OUT..=TURN_MAX).contains(&most), "{most} effects in one turn");
    eventually("all effects", || running.stats()[0].stale_effects.get() == FLOOD * FAN_OUT);
    assert!(running.mail(ShardId(0), 0).is_ok());
    running.join().expect("it ends");
}
