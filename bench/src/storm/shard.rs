//! One shard of a storm's clients, as a reactor of the engine: their sockets, their timers, and what the rounds came to.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    mem,
    sync::{Arc, mpsc::Sender},
    time::{Duration, Instant},
};

use engine::{Counter, Datagrams, Io, Outcome, Reactor, ShardId, Socket, Stream, StreamEvent, Ticket};
use hdrhistogram::Histogram;

use super::{
    book::Book,
    client::{Act, Client, Cx, Fault, State, Timer},
    plan::{Place, Setup},
};
use crate::{crowd::source, schedule::Schedule};

/// Clients of a shard that connect at once when the storm begins its life: below any listener's backlog.
const OPENING_MAX: usize = 256;
/// Publications that leave in one turn: what is late must not keep messages waiting.
const BURST_MAX: u32 = 256;
/// No client has this number.
const NONE: u32 = u32::MAX;

/// What the control thread tells a shard.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    /// Connect all clients.
    Open,
    /// Publish by the plan from this time on.
    Publish(u64),
    /// The server is about to stop: report once every client was lost and has resumed.
    Storm(u64),
    /// Report how the round went, as far as it has got.
    Calm,
    /// Publish no more.
    Hush,
    /// Report what was seen.
    Finish,
    /// Close everything and leave.
    Quit,
}

/// What a shard tells the control thread.
pub(crate) enum Report {
    /// All clients are there, or there again.
    Resumed,
    /// How a round went here.
    Round(Box<Round>),
    /// What was read.
    Done(Box<Book>),
}

/// How a round went on one shard.
pub(crate) struct Round {
    /// When each client that is back was back.
    pub(crate) back_ns: Vec<u64>,
    /// Clients that are not back.
    pub(crate) missing: u32,
    /// Connections that were begun.
    pub(crate) tries: u64,
    /// The most of one client.
    pub(crate) tries_max: u32,
    /// Tries that failed, by reason.
    pub(crate) failures: BTreeMap<String, u64>,
    /// When the first publication was acknowledged by the new server.
    pub(crate) first_acknowledged_ns: Option<u64>,
    /// From the intended time to the acknowledgement and to each delivery, of clients that were back by then.
    pub(crate) acknowledged: Histogram<u64>,
    pub(crate) delivered: Histogram<u64>,
}

/// What a shard lets others see while it runs.
#[derive(Default)]
pub(crate) struct Progress {
    pub(crate) resumed: Counter,
    pub(crate) lost: Counter,
    pub(crate) published: Counter,
    pub(crate) acknowledged: Counter,
    pub(crate) delivered: Counter,
    pub(crate) waiting: Counter,
}

/// The reactor of one shard.
pub(crate) struct Shard {
    setup: Arc<Setup>,
    shard: u32,
    shards: u32,
    base: Instant,
    clients: Vec<Client>,
    marks: Vec<Mark>,
    by_stream: Vec<u32>,
    timers: BinaryHeap<Reverse<(u64, u32, u32, Timer)>>,
    opening: VecDeque<u32>,
    is_opening: usize,
    schedule: Option<Schedule>,
    turn: u64,
    book: Book,
    round: Round,
    storm_ns: Option<u64>,
    resumed: usize,
    gone: usize,
    waiting: u64,
    lateness: Histogram<u64>,
    acts: Vec<Act>,
    scratch: Vec<u8>,
    progress: Arc<[Progress]>,
    reports: Sender<Report>,
}

/// What the round knows of a client.
#[derive(Clone, Copy, Default)]
struct Mark {
    resumed: bool,
    was_lost: bool,
    back_ns: u64,
    tries: u32,
}

impl Shard {
    pub(crate) fn new(
        setup: Arc<Setup>,
        shard: ShardId,
        base: Instant,
        progress: Arc<[Progress]>,
        reports: Sender<Report>,
    ) -> Self {
        let (shard, shards) = (u32::from(shard.0), u32::from(setup.plan.shards()));
        let ids = (shard..setup.plan.connections).step_by(shards as usize);
        let clients: Vec<Client> = ids.map(|id| Client::new(id, &setup)).collect();
        Self {
            shard,
            shards,
            base,
            marks: vec![Mark::default(); clients.len()],
            by_stream: Vec::new(),
            timers: BinaryHeap::new(),
            opening: VecDeque::new(),
            is_opening: 0,
            schedule: None,
            turn: 0,
            book: Book::new(setup.topics()),
            round: Round::new(),
            storm_ns: None,
            resumed: 0,
            gone: 0,
            waiting: 0,
            lateness: histogram(),
            acts: Vec::new(),
            scratch: Vec::new(),
            progress,
            reports,
            clients,
            setup,
        }
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn report(&self, report: Report) {
        // The control thread only goes away after this shard; if it died, nobody is left to tell.
        let _ = self.reports.send(report);
    }

    /// Lets a client act, and does what it asks for. `act` says whether its connection is to be given up, and if so
    /// when it is tried again: `None` leaves that to its backoff.
    fn with(&mut self, io: &mut Io<Order>, local: u32, act: impl FnOnce(&mut Client, &mut Cx<'_>) -> Verdict) {
        let now_ns = self.now_ns();
        let client = &mut self.clients[local as usize];
        let (stream, before) = (client.stream, client.waiting());
        let mut cx = Cx {
            setup: &self.setup,
            now_ns,
            now_secs: io.wall_ms() / 1_000,
            book: &mut self.book,
            out: &mut self.scratch,
            acts: &mut self.acts,
        };
        let verdict = act(client, &mut cx);
        let stream = client.stream.or(stream);
        if let Some(stream) = stream.filter(|_| !self.scratch.is_empty()) {
            io.send_slice(stream, &self.scratch);
        }
        self.scratch.clear();
        if let Verdict::GiveUp(wait_ns) = verdict {
            let mut cx = Cx {
                setup: &self.setup,
                now_ns,
                now_secs: io.wall_ms() / 1_000,
                book: &mut self.book,
                out: &mut self.scratch,
                acts: &mut self.acts,
            };
            self.clients[local as usize].lost(wait_ns, &mut cx);
            stream.into_iter().for_each(|stream| io.close(stream));
        }
        self.waiting = self.waiting + self.clients[local as usize].waiting() - before;
        self.perform(io, now_ns, local);
        self.mark(now_ns, local);
    }

    fn perform(&mut self, io: &mut Io<Order>, now_ns: u64, local: u32) {
        let mut acts = mem::take(&mut self.acts);
        let client = &self.clients[local as usize];
        for act in acts.drain(..) {
            match act {
                Act::Wake(at_ns, timer) => self.timers.push(Reverse((at_ns, local, client.life, timer))),
                Act::Connect => {
                    let id = local * self.shards + self.shard;
                    let source = source(id, self.setup.plan.sources);
                    // A token names the client and its connection: what comes of an earlier one is void.
                    io.connect(u64::from(client.life) << 32 | u64::from(local), source, self.setup.target);
                    let mark = &mut self.marks[local as usize];
                    mark.tries += 1;
                    self.round.tries += 1;
                    self.round.tries_max = self.round.tries_max.max(mark.tries);
                }
                Act::Acknowledged(planned_ns) => {
                    // Until it was lost it was the old server that answered.
                    if self.storm_ns.is_some() && self.marks[local as usize].was_lost {
                        self.round.first_acknowledged_ns.get_or_insert(now_ns);
                    }
                    record(&mut self.round.acknowledged, client, self.storm_ns, now_ns, planned_ns);
                }
                Act::Delivered(planned_ns) => {
                    record(&mut self.round.delivered, client, self.storm_ns, now_ns, planned_ns);
                }
                Act::Failed(why) => *self.round.failures.entry(why.to_owned()).or_default() += 1,
            }
        }
        self.acts = acts;
    }

    /// Counts a client that has resumed or was lost.
    fn mark(&mut self, now_ns: u64, local: u32) {
        let (client, mark) = (&self.clients[local as usize], &mut self.marks[local as usize]);
        if client.state == State::Away && !mark.was_lost {
            mark.was_lost = true;
            self.gone += 1;
        }
        // One that is behind again because it is sent more is not lost.
        let resumed = if mark.resumed { client.state != State::Away } else { client.has_resumed() };
        if resumed == mark.resumed {
            return;
        }
        mark.resumed = resumed;
        if resumed {
            mark.back_ns = now_ns;
            self.resumed += 1;
            if self.storm_ns.is_none() {
                self.is_opening = self.is_opening.saturating_sub(1);
            }
            if self.resumed == self.clients.len() && (self.storm_ns.is_none() || self.gone == self.clients.len()) {
                self.report(Report::Resumed);
            }
        } else {
            self.resumed -= 1;
        }
    }

    fn lost(&mut self, io: &mut Io<Order>, local: u32, why: &str) {
        let client = &self.clients[local as usize];
        if client.state == State::Greeting {
            *self.round.failures.entry(why.to_owned()).or_default() += 1;
        } else if self.storm_ns.is_none() || self.marks[local as usize].was_lost {
            self.book.fault(format!("lost although its server was up: {why}"));
        }
        self.with(io, local, |_, _| Verdict::GiveUp(None));
    }

    fn received(&mut self, io: &mut Io<Order>, local: u32, bytes: &[u8]) {
        let mut fault = None;
        self.with(io, local, |client, cx| match client.handle(bytes, cx) {
            Ok(()) => Verdict::GoOn,
            Err(Fault::Closed) if client.state == State::Leaving => Verdict::GiveUp(None),
            Err(Fault::Refused(code, retry_ms)) => {
                fault = Some(format!("hello: {}", code.name()));
                Verdict::GiveUp(client.refusal_wait_ns(retry_ms))
            }
            Err(other) => {
                fault = Some(other.to_string());
                Verdict::GiveUp(None)
            }
        });
        if let Some(fault) = fault {
            *self.round.failures.entry(fault).or_default() += 1;
        }
    }

    fn find(&self, stream: Stream) -> Option<u32> {
        let local = *self.by_stream.get(stream.index as usize)?;
        let client = self.clients.get(local as usize)?;
        (client.stream == Some(stream)).then_some(local)
    }

    fn connected(&mut self, io: &mut Io<Order>, stream: Stream, token: u64) {
        let Some(local) = self.current(token) else { return io.close(stream) };
        let slot = stream.index as usize;
        if self.by_stream.len() <= slot {
            self.by_stream.resize(slot + 1, NONE);
        }
        self.by_stream[slot] = local;
        self.with(io, local, |client, cx| {
            client.opened(stream, cx);
            Verdict::GoOn
        });
    }

    /// The client of a token, if it still waits for that connection.
    fn current(&self, token: u64) -> Option<u32> {
        let (local, life) = (token as u32, (token >> 32) as u32);
        (self.clients[local as usize].life == life).then_some(local)
    }

    fn expire(&mut self, io: &mut Io<Order>, now_ns: u64) {
        while let Some(Reverse((at_ns, local, life, timer))) = self.timers.peek().copied() {
            if at_ns > now_ns {
                return;
            }
            self.timers.pop();
            if self.clients[local as usize].life == life {
                self.with(io, local, |client, cx| match client.woken(timer, cx) {
                    true => Verdict::GiveUp(None),
                    false => Verdict::GoOn,
                });
            }
        }
    }

    fn open_more(&mut self, io: &mut Io<Order>) {
        while self.is_opening < OPENING_MAX {
            let Some(local) = self.opening.pop_front() else { return };
            self.is_opening += 1;
            self.with(io, local, |client, cx| {
                client.connect(cx);
                Verdict::GoOn
            });
        }
    }

    fn publish(&mut self, io: &mut Io<Order>) {
        let Some(mut schedule) = self.schedule.take() else { return };
        for _ in 0..BURST_MAX {
            let now_ns = self.now_ns();
            let Some((_, planned_ns)) = schedule.take(now_ns) else { break };
            self.lateness.saturating_record(now_ns - planned_ns);
            let clients = self.clients.len() as u64;
            let (local, lap) = ((self.turn % clients) as u32, self.turn / clients);
            let place = if (u64::from(local) + lap).is_multiple_of(2) { Place::Room } else { Place::Direct };
            self.turn += 1;
            self.with(io, local, |client, cx| {
                client.publish(planned_ns, place, cx);
                Verdict::GoOn
            });
        }
        self.schedule = Some(schedule);
    }

    fn storm(&mut self, now_ns: u64) {
        self.storm_ns = Some(now_ns);
        self.round = Round::new();
        self.gone = 0;
        for mark in &mut self.marks {
            (mark.was_lost, mark.tries, mark.back_ns) = (false, 0, 0);
        }
    }

    fn calm(&mut self) {
        let mut round = mem::replace(&mut self.round, Round::new());
        let back = |mark: &&Mark| mark.resumed && mark.was_lost;
        round.back_ns = self.marks.iter().filter(back).map(|mark| mark.back_ns).collect();
        round.missing = (self.marks.len() - round.back_ns.len()) as u32;
        self.storm_ns = None;
        self.report(Report::Round(Box::new(round)));
    }

    fn finish(&mut self) {
        let mut book = mem::replace(&mut self.book, Book::new(0));
        self.clients.iter().for_each(|client| client.close(&mut book));
        self.report(Report::Done(Box::new(book)));
    }
}

/// What becomes of a connection.
enum Verdict {
    GoOn,
    /// It is tried again after so long; by default as the client's backoff says.
    GiveUp(Option<u64>),
}

/// Only what was meant to leave since its reader or publisher was back: what waited longer was late before it left.
fn record(times: &mut Histogram<u64>, client: &Client, storm_ns: Option<u64>, now_ns: u64, planned_ns: u64) {
    let online =
        client.online_since().is_some_and(|since| storm_ns.is_some_and(|storm| since > storm) && planned_ns > since);
    if online {
        times.saturating_record(now_ns.saturating_sub(planned_ns));
    }
}

impl Round {
    pub(crate) fn new() -> Self {
        Self {
            back_ns: Vec::new(),
            missing: 0,
            tries: 0,
            tries_max: 0,
            failures: BTreeMap::new(),
            first_acknowledged_ns: None,
            acknowledged: histogram(),
            delivered: histogram(),
        }
    }

    /// Takes in another shard's.
    pub(crate) fn add(&mut self, other: Round) {
        self.back_ns.extend(other.back_ns);
        self.missing += other.missing;
        self.tries += other.tries;
        self.tries_max = self.tries_max.max(other.tries_max);
        other.failures.into_iter().for_each(|(name, count)| *self.failures.entry(name).or_default() += count);
        self.first_acknowledged_ns = self.first_acknowledged_ns.into_iter().chain(other.first_acknowledged_ns).min();
        // Both count in the same way.
        let _ = self.acknowledged.add(other.acknowledged);
        let _ = self.delivered.add(other.delivered);
    }
}

/// Times up to ten minutes.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(600_000_000_000, 3).expect("constant bounds are valid")
}

impl Reactor for Shard {
    type Mail = Order;

    fn on_datagrams(&mut self, _io: &mut Io<Order>, _socket: Socket, _train: Datagrams<'_>) {}

    fn on_stream(&mut self, io: &mut Io<Order>, stream: Stream, event: StreamEvent<'_>) {
        match event {
            StreamEvent::Connected { token } => self.connected(io, stream, token),
            StreamEvent::ConnectFailed { token, error } => {
                if let Some(local) = self.current(token) {
                    self.lost(io, local, &format!("connect: {error}"));
                }
            }
            StreamEvent::Data(bytes) => {
                if let Some(local) = self.find(stream) {
                    self.received(io, local, bytes);
                }
            }
            StreamEvent::Ended | StreamEvent::Closed(_) => {
                if let Some(local) = self.find(stream) {
                    self.lost(io, local, "the connection ended before the welcome");
                    io.close(stream);
                }
            }
            StreamEvent::Accepted { .. } | StreamEvent::Sent { .. } | StreamEvent::Behind => {}
        }
    }

    fn on_disk(&mut self, _io: &mut Io<Order>, _ticket: Ticket, _outcome: Outcome) {}

    fn on_mail(&mut self, io: &mut Io<Order>, _from: ShardId, order: Order) {
        match order {
            Order::Open => self.opening = (0..self.clients.len() as u32).collect(),
            Order::Publish(start_ns) => {
                let shards = u16::try_from(self.shards).unwrap_or(u16::MAX);
                self.schedule = Some(Schedule::new(start_ns, self.setup.plan.rate, self.shard as u16, shards));
            }
            Order::Storm(at_ns) => self.storm(at_ns),
            Order::Calm => self.calm(),
            Order::Hush => self.schedule = None,
            Order::Finish => self.finish(),
            Order::Quit => io.exit(),
        }
    }

    fn on_turn_end(&mut self, io: &mut Io<Order>) {
        self.open_more(io);
        let now_ns = self.now_ns();
        self.expire(io, now_ns);
        self.publish(io);
        let progress = &self.progress[self.shard as usize];
        progress.resumed.set(self.resumed as u64);
        progress.lost.set(self.gone as u64);
        progress.published.set(self.book.account.published);
        progress.acknowledged.set(self.book.account.acknowledged);
        progress.delivered.set(self.book.account.delivered);
        progress.waiting.set(self.waiting);
        let timer = self.timers.peek().map(|Reverse((at_ns, ..))| *at_ns);
        let next = timer.into_iter().chain(self.schedule.as_ref().map(Schedule::next_ns)).min();
        io.wake_at(next.map(|at_ns| self.base + Duration::from_nanos(at_ns)));
    }
}
