//! A flow over a lossy path, in virtual time: protector, restorer and policy as a connection drives them.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{FecMode, Known, Policy, Protector, Restorer, Window};
use crate::frame::Frame;

const RTT: Duration = Duration::from_millis(40);
const ONE_WAY: Duration = Duration::from_millis(20);

/// IP, UDP, short header and tag, as in the figures that are compared.
const PACKET_BYTES: usize = 63;

/// Timers of the driver come so late at most.
const LATE: Duration = Duration::from_micros(1_000);

#[derive(Clone, Copy)]
enum Loss {
    None,
    // Independent, in parts of a thousand.
    Random(u32),
    // Gilbert-Elliott, per packet: the loss in the long run in parts of a thousand, the mean length of a burst.
    Bursts(u32, u32),
}

#[derive(Clone, Copy)]
struct Flow {
    mode: FecMode,
    loss: Loss,
    every: Duration,
    bytes: usize,
    messages: u64,
    seed: u64,
}

#[derive(Debug, Default)]
struct Outcome {
    // Microseconds behind the one-way delay, of every message; of those that were restored, behind when they would have
    // arrived.
    delays: Vec<u64>,
    restored: Vec<u64>,
    wire_bytes: usize,
    repairs: u64,
    repair_bytes: usize,
    lost: u64,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Message(u64),
    Timer,
    // Arrives: number of the packet, and what is in it.
    Symbol { sid: u64, symbol: Vec<u8> },
    Plain { symbol: Vec<u8> },
    Repair { frame: Vec<u8> },
    Acked { number: u64 },
    Lost { number: u64 },
    Told { sids: Vec<u64> },
}

struct World {
    flow: Flow,
    rng: StdRng,
    bad: bool,
    now: Instant,
    start: Instant,
    events: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    sequence: u64,
    next_number: u64,
    // By packet number: the message, and the symbol.
    sent: BTreeMap<u64, (u64, Option<u64>)>,
    told: BTreeMap<u64, ()>,
    delivered: BTreeMap<u64, ()>,
    protector: Protector,
    restorer: Restorer,
    policy: Policy,
    arrived: BTreeMap<u64, Instant>,
    outcome: Outcome,
}

impl World {
    fn new(flow: Flow) -> Self {
        let now = Instant::now();
        let mut restorer = Restorer::new(Window::default());
        restorer.set_rtt(RTT);
        Self {
            flow,
            rng: StdRng::seed_from_u64(flow.seed),
            bad: false,
            now,
            start: now,
            events: BinaryHeap::new(),
            sequence: 0,
            next_number: 0,
            sent: BTreeMap::new(),
            told: BTreeMap::new(),
            delivered: BTreeMap::new(),
            protector: Protector::new(Window::default()),
            restorer,
            policy: Policy::new(flow.mode),
            arrived: BTreeMap::new(),
            outcome: Outcome::default(),
        }
    }

    fn at(&mut self, time: Instant, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((time, self.sequence, event)));
    }

    fn drops(&mut self) -> bool {
        match self.flow.loss {
            Loss::None => false,
            Loss::Random(thousandths) => self.rng.random_ratio(thousandths, 1_000),
            Loss::Bursts(thousandths, length) => {
                // Leaves the bad state with 1 / length, enters it so that the long run is right.
                self.bad = if self.bad {
                    !self.rng.random_ratio(1, length)
                } else {
                    self.rng.random_ratio(thousandths, length * (1_000 - thousandths))
                };
                self.bad
            }
        }
    }

    fn run(mut self) -> Outcome {
        self.at(self.now, Event::Message(0));
        while let Some(Reverse((time, _, event))) = self.events.pop() {
            self.now = time;
            self.handle(event);
            self.send_repairs();
        }
        assert_eq!(self.arrived.len() as u64, self.flow.messages);
        self.outcome.delays.sort_unstable();
        self.outcome.restored.sort_unstable();
        self.outcome
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Message(number) => {
                self.send(number);
                if number + 1 < self.flow.messages {
                    let jitter = Duration::from_micros(self.rng.random_range(0..300));
                    let next = self.start + self.flow.every * (number as u32 + 1) + jitter;
                    self.at(next, Event::Message(number + 1));
                }
            }
            Event::Timer => self.protector.handle_timeout(self.now),
            Event::Plain { symbol } => self.deliver(&symbol, false),
            Event::Symbol { sid, symbol } => match self.restorer.on_symbol(self.now, sid as u16, &symbol).unwrap() {
                Known::New(known) => {
                    assert_eq!(known, sid);
                    assert!(self.delivered.insert(sid, ()).is_none());
                    self.deliver(&symbol, false);
                    self.poll_recovered();
                }
                Known::AlreadyRecovered(known) => assert_eq!(known, sid),
                Known::Forgotten => panic!("symbol {sid} comes so late"),
            },
            Event::Repair { frame } => {
                let Ok(Frame::Repair(repair)) = Frame::parse(&mut &frame[..]) else { panic!("a REPAIR frame") };
                self.restorer.on_repair(self.now, &repair).unwrap();
                self.poll_recovered();
            }
            Event::Acked { number } => {
                self.policy.on_acked(self.now, 1);
                self.sent.remove(&number);
            }
            Event::Told { sids } => {
                self.policy.on_recovered(sids.len() as u64);
                self.told.extend(sids.into_iter().map(|sid| (sid, ())));
            }
            Event::Lost { number } => {
                let (message, sid) = self.sent.remove(&number).unwrap();
                self.policy.on_lost(self.now, number, sid.is_some());
                if message != u64::MAX && sid.is_none_or(|sid| !self.told.contains_key(&sid)) {
                    self.send(message);
                }
            }
        }
    }

    fn send(&mut self, message: u64) {
        self.policy.on_data_sent(self.now, self.flow.bytes);
        let ratio = self.policy.decide(self.now, RTT, false);
        self.protector.configure(self.now, ratio);
        let mut symbol = message.to_be_bytes().to_vec();
        symbol.resize(self.flow.bytes + 8, message as u8);
        if self.protector.is_on() {
            let sid = self.protector.on_symbol(self.now, &symbol);
            self.packet(message, Some(sid), 3 + symbol.len(), Event::Symbol { sid, symbol });
        } else {
            self.packet(message, None, symbol.len(), Event::Plain { symbol });
        }
        self.protector.flush(self.now);
    }

    fn send_repairs(&mut self) {
        while let Some(len) = self.protector.repair_due(self.now) {
            let mut frame = Vec::new();
            self.protector.write_repair(self.now, &mut frame);
            assert_eq!(frame.len(), len);
            self.outcome.repairs += 1;
            self.outcome.repair_bytes += PACKET_BYTES + len;
            self.packet(u64::MAX, None, len, Event::Repair { frame });
        }
        if let Some(deadline) = self.protector.deadline()
            && deadline < self.now + Duration::from_millis(500)
        {
            let late = LATE.mul_f64(self.rng.random_range(0.0..1.0));
            self.at(deadline + late, Event::Timer);
        }
    }

    fn packet(&mut self, message: u64, sid: Option<u64>, bytes: usize, arrival: Event) {
        self.outcome.wire_bytes += bytes + PACKET_BYTES;
        let number = self.next_number;
        self.next_number += 1;
        self.sent.insert(number, (message, sid));
        if self.drops() {
            self.outcome.lost += u64::from(message != u64::MAX);
            // A round trip and an eighth, and the next packet's time.
            self.at(self.now + RTT * 9 / 8 + self.flow.every, Event::Lost { number });
        } else {
            self.at(self.now + ONE_WAY, arrival);
            self.at(self.now + RTT, Event::Acked { number });
        }
    }

    fn deliver(&mut self, symbol: &[u8], restored: bool) {
        let message = u64::from_be_bytes(symbol[..8].try_into().unwrap());
        assert!(symbol[8..].iter().all(|byte| *byte == message as u8));
        let due = self.start + self.flow.every * message as u32 + ONE_WAY;
        // A resend and a restored original may both come: messages have numbers of their own.
        if self.arrived.insert(message, self.now).is_some() {
            return;
        }
        let delay = self.now.saturating_duration_since(due).as_micros() as u64;
        self.outcome.delays.push(delay);
        if restored {
            self.outcome.restored.push(delay);
        }
    }

    fn poll_recovered(&mut self) {
        let mut sids = Vec::new();
        while let Some((sid, symbol)) = self.restorer.poll_recovered() {
            assert!(self.delivered.insert(sid, ()).is_none());
            self.deliver(&symbol, true);
            self.restorer.recycle(symbol);
            sids.push(sid);
        }
        if !sids.is_empty() {
            self.at(self.now + ONE_WAY, Event::Told { sids });
        }
    }
}

fn percentile(sorted: &[u64], thousandths: usize) -> Duration {
    let at = (sorted.len() * thousandths / 1_000).min(sorted.len() - 1);
    Duration::from_micros(sorted[at])
}

fn canvas(mode: FecMode, loss: Loss, seed: u64) -> Outcome {
    let every = Duration::from_millis(2);
    World::new(Flow { mode, loss, every, bytes: 200, messages: 12_000, seed }).run()
}

fn report(name: &str, outcome: &Outcome, off: &Outcome) -> f64 {
    let ratio = outcome.wire_bytes as f64 / off.wire_bytes as f64;
    let at = |thousandths| percentile(&outcome.delays, thousandths);
    eprintln!(
        "{name}: bytes x{ratio:.3}, parity {:.1} %, lost {}, restored {} | p50 {:?} p99 {:?} p99.9 {:?} | \
         off p99 {:?} | restored p99 {:?}",
        100.0 * outcome.repair_bytes as f64 / (outcome.wire_bytes - outcome.repair_bytes) as f64,
        outcome.lost,
        outcome.restored.len(),
        at(500),
        at(990),
        at(999),
        percentile(&off.delays, 990),
        outcome.restored.last().map(|_| percentile(&outcome.restored, 990)),
    );
    ratio
}

#[test]
fn five_hundred_messages_a_second_at_five_percent_loss_are_hardly_late() {
    for seed in 1..=3 {
        let (on, off) = [FecMode::Adaptive, FecMode::Off].map(|mode| canvas(mode, Loss::Random(50), seed)).into();
        let ratio = report("canvas 5 %", &on, &off);
        assert!(ratio <= 1.6, "{ratio}");
        assert!(percentile(&on.delays, 500) <= Duration::from_millis(1));
        assert!(percentile(&on.delays, 990) <= Duration::from_millis(10));
        assert!(percentile(&on.delays, 999) <= RTT * 3 / 2);
        assert!(percentile(&on.restored, 990) <= Duration::from_millis(10));
        assert!(percentile(&off.delays, 990) >= RTT, "without parity a lost message waits for its resend");
    }
}

#[test]
fn lighter_and_heavier_losses_are_restored_too() {
    // Loss in parts of a thousand, and what may be spent and must come back at it.
    for (loss, bytes_max, restored_percent) in [(10, 1.4, 90), (20, 1.6, 95), (100, 1.7, 85), (200, 1.7, 80)] {
        let (on, off) = [FecMode::Adaptive, FecMode::Off].map(|mode| canvas(mode, Loss::Random(loss), 9)).into();
        let ratio = report(&format!("canvas {loss}/1000"), &on, &off);
        assert!(ratio <= bytes_max, "{ratio}");
        assert!(on.restored.len() as u64 * 100 >= on.lost * restored_percent, "{}", on.restored.len());
    }
}

#[test]
fn bursts_make_it_back_off() {
    for (loss, length) in [(50, 4), (20, 8)] {
        let (on, off) =
            [FecMode::Adaptive, FecMode::Off].map(|mode| canvas(mode, Loss::Bursts(loss, length), 4)).into();
        report(&format!("canvas, bursts of {length}"), &on, &off);
        assert!(on.repair_bytes * 100 <= (on.wire_bytes - on.repair_bytes) * 15);
        assert!(percentile(&on.delays, 990) <= percentile(&off.delays, 990) * 21 / 20);
    }
}

#[test]
fn a_clean_path_has_no_parity() {
    let on = canvas(FecMode::Adaptive, Loss::None, 5);
    assert_eq!((on.repairs, on.wire_bytes), (0, canvas(FecMode::Off, Loss::None, 5).wire_bytes));
}

#[test]
fn a_game_at_sixty_hertz() {
    let every = Duration::from_micros(16_667);
    let game = |mode| Flow { mode, loss: Loss::Random(50), every, bytes: 200, messages: 5_000, seed: 6 };
    let (on, off) = [FecMode::Adaptive, FecMode::Off].map(|mode| World::new(game(mode)).run()).into();
    let ratio = report("game", &on, &off);
    assert!(ratio <= 1.6, "{ratio}");
    assert!(percentile(&on.delays, 990) <= Duration::from_millis(20) && percentile(&off.delays, 990) >= RTT);
}

#[test]
fn a_chat_is_sent_twice() {
    let every = Duration::from_millis(50);
    let chat = |mode| Flow { mode, loss: Loss::Random(50), every, bytes: 300, messages: 3_000, seed: 7 };
    let (on, off) = [FecMode::Adaptive, FecMode::Off].map(|mode| World::new(chat(mode)).run()).into();
    report("chat", &on, &off);
    assert!(percentile(&on.delays, 990) <= Duration::from_millis(1) && percentile(&off.delays, 990) >= RTT);
}
