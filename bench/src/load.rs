//! One shard of the generator, as a reactor of the engine: opens connections, keeps to the schedule, waits for the rest.

use std::{
    collections::VecDeque,
    mem,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, mpsc::Sender},
    time::{Duration, Instant},
};

use engine::{Counter, Datagrams, Io, Outcome, Reactor, ShardId, Socket, Stream, StreamEvent, Ticket};

use crate::{
    connection::{Connection, Scenario, Setup},
    flow::{Flow, SILENCE_NS},
    options::Proto,
    schedule::Schedule,
    tally::Tally,
};

/// Connections of a shard that are being opened at once: below any listener's backlog.
const OPENING_MAX: u32 = 256;
/// Requests that leave in one turn: a stall must not keep answers waiting while it is made up for.
const BURST_MAX: u32 = 512;
/// How long answers may still come after the last request.
const GRACE_NS: u64 = 2_000_000_000;
/// How long the end is waited for at least: until every shard sees what the last turn of the publisher sent, and
/// doubled answers of the last requests had their chance.
const SETTLE_NS: u64 = 100_000_000;
/// How often idle sessions say that they are there: below the server's limit of 60 s with room for a lost turn.
const KEEP_ALIVE_NS: u64 = 20_000_000_000;
/// How often a publisher looks whether other shards have their deliveries.
const LOOK_NS: u64 = 100_000;
/// A fan-out without a delivery for this long goes on without the missing ones.
const STALL_NS: u64 = 1_000_000_000;

/// What the control thread tells a shard.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    /// Have this many connections of the whole run open, counted over all shards, then report ready.
    Open(u32),
    /// Run the plan from this time on, then report done.
    Go(u64),
    /// Close everything and leave.
    Quit,
}

/// What a shard tells the control thread.
#[derive(Debug)]
pub enum Report {
    /// All connections that were ordered are open, except so many that failed.
    Ready {
        /// Connections that could not be opened.
        failed: u32,
    },
    /// The plan is over.
    Done(Box<Tally>),
}

/// What a shard lets others see while it runs.
#[derive(Debug, Default)]
pub struct Progress {
    /// Sessions or connections that are ready.
    pub ready: Counter,
    /// Requests or publications so far.
    pub sent: Counter,
    /// Answers or deliveries so far.
    pub completed: Counter,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Waiting,
    Running { end_ns: u64 },
    Draining { from_ns: u64, until_ns: u64 },
    Over,
}

/// The reactor of one shard.
pub struct Load {
    setup: Arc<Setup>,
    shard: u32,
    shards: u32,
    base: Instant,
    phase: Phase,
    connections: Vec<Connection>,
    flows: Vec<Flow>,
    by_stream: Vec<u32>,
    target: u32,
    opening: u32,
    failed: u32,
    ready: u32,
    told_ready: bool,
    schedule: Option<Schedule>,
    stalled_since: (u64, u64),
    forgiven: u64,
    keep_alive: VecDeque<(u64, u32)>,
    tally: Tally,
    sent: u64,
    progress: Arc<[Progress]>,
    reports: Sender<Report>,
    scratch: Vec<u8>,
}

impl Load {
    /// The reactor of `shard`; times are nanoseconds since `base`, the same on all shards.
    #[must_use]
    pub fn new(
        setup: Arc<Setup>,
        shard: ShardId,
        base: Instant,
        progress: Arc<[Progress]>,
        reports: Sender<Report>,
    ) -> Self {
        let flows = if setup.options.proto == Proto::Udp { setup.options.amount.connections } else { 0 };
        Self {
            shard: u32::from(shard.0),
            shards: u32::from(setup.options.shards()),
            base,
            phase: Phase::Waiting,
            connections: Vec::new(),
            flows: (0..flows).map(Flow::new).collect(),
            by_stream: Vec::new(),
            target: 0,
            opening: 0,
            failed: 0,
            ready: 0,
            told_ready: true,
            schedule: None,
            stalled_since: (0, 0),
            forgiven: 0,
            keep_alive: VecDeque::new(),
            tally: Tally::new(),
            sent: 0,
            progress,
            reports,
            scratch: Vec::new(),
            setup,
        }
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.base.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// How many of `total` connections, dealt out in turn, are this shard's.
    fn share(&self, total: u32) -> u32 {
        (total + self.shards - 1 - self.shard) / self.shards
    }

    fn publisher(&self) -> Option<usize> {
        let id = self.setup.connections() - 1;
        (self.setup.scenario == Scenario::Fanout && id % self.shards == self.shard).then(|| (id / self.shards) as usize)
    }

    fn open_more(&mut self, io: &mut Io<Order>) {
        while self.opening < OPENING_MAX && (self.connections.len() as u32) < self.target {
            let local = self.connections.len() as u32;
            let id = local * self.shards + self.shard;
            self.connections.push(Connection::new(id, &self.setup));
            self.opening += 1;
            let source = source(id, self.setup.options.amount.sources);
            io.connect(local.into(), source, self.setup.options.target);
        }
        let settled = self.ready + self.failed;
        if !self.told_ready && settled >= self.target {
            self.told_ready = true;
            self.report(Report::Ready { failed: self.failed });
        }
    }

    fn report(&self, report: Report) {
        // The control thread only goes away after this shard; if it died, nobody is left to tell.
        drop(self.reports.send(report));
    }

    fn connected(&mut self, io: &mut Io<Order>, stream: Stream, token: u64) {
        let local = token as u32;
        let slot = stream.index as usize;
        if self.by_stream.len() <= slot {
            self.by_stream.resize(slot + 1, u32::MAX);
        }
        self.by_stream[slot] = local;
        let mut out = mem::take(&mut self.scratch);
        let connection = &mut self.connections[local as usize];
        connection.stream = Some(stream);
        connection.open(&self.setup, &mut out);
        let ready = connection.is_ready();
        self.flush(io, stream, out);
        if ready {
            self.became_ready(local);
        }
    }

    fn became_ready(&mut self, local: u32) {
        self.opening -= 1;
        self.ready += 1;
        self.own_progress().ready.set(self.ready.into());
        if self.setup.scenario == Scenario::Idle && !self.setup.options.raw {
            self.keep_alive.push_back((self.now_ns() + KEEP_ALIVE_NS, local));
        }
    }

    fn lost_connection(&mut self, local: u32, why: String) {
        let connection = &mut self.connections[local as usize];
        if connection.stream.is_none() && self.phase == Phase::Over {
            return;
        }
        if connection.is_ready() {
            self.ready -= 1;
        } else {
            self.opening -= 1;
        }
        self.failed += 1;
        connection.close();
        self.tally.fault(why);
    }

    fn connection_of(&self, stream: Stream) -> Option<u32> {
        let local = *self.by_stream.get(stream.index as usize)?;
        let connection = self.connections.get(local as usize)?;
        (connection.stream == Some(stream)).then_some(local)
    }

    fn received(&mut self, io: &mut Io<Order>, stream: Stream, bytes: &[u8]) {
        let Some(local) = self.connection_of(stream) else { return };
        let now_ns = self.now_ns();
        let mut out = mem::take(&mut self.scratch);
        let connection = &mut self.connections[local as usize];
        let was_ready = connection.is_ready();
        let outcome = connection.handle(&self.setup, now_ns, bytes, &mut self.tally, &mut out);
        let ready = connection.is_ready() && !was_ready;
        if outcome.is_ok() {
            self.sent += refill(self.phase, &self.setup, connection, now_ns, &mut self.tally, &mut out);
        }
        self.flush(io, stream, out);
        if ready {
            self.became_ready(local);
        }
        if let Err(fault) = outcome {
            self.lost_connection(local, fault.to_string());
            io.close(stream);
        }
    }

    fn flush(&mut self, io: &mut Io<Order>, stream: Stream, mut out: Vec<u8>) {
        if !out.is_empty() {
            io.send_slice(stream, &out);
            out.clear();
        }
        self.scratch = out;
    }

    fn go(&mut self, io: &mut Io<Order>, start_ns: u64) {
        let amount = &self.setup.options.amount;
        let open_ns = start_ns + amount.warmup_ns();
        let end_ns = open_ns + amount.window_ns();
        self.tally.set_window(open_ns, end_ns);
        self.phase = Phase::Running { end_ns };
        self.stalled_since = (start_ns, 0);
        let per_turn = if self.flows.is_empty() { 1 } else { u64::from(amount.train) };
        let (shard, shards) = if self.setup.scenario == Scenario::Fanout { (0, 1) } else { (self.shard, self.shards) };
        let sends = self.setup.scenario != Scenario::Fanout || self.publisher().is_some();
        self.schedule = (amount.rate >= per_turn && sends && self.setup.scenario != Scenario::Idle)
            .then(|| Schedule::new(start_ns, amount.rate / per_turn, shard as u16, shards as u16));
        if amount.rate == 0 && self.setup.scenario == Scenario::Echo {
            self.start_closed_loop(io);
        }
    }

    fn start_closed_loop(&mut self, io: &mut Io<Order>) {
        for local in 0..self.connections.len() {
            let now_ns = self.now_ns();
            let mut out = mem::take(&mut self.scratch);
            let connection = &mut self.connections[local];
            self.sent += refill(self.phase, &self.setup, connection, now_ns, &mut self.tally, &mut out);
            match self.connections[local].stream {
                Some(stream) => self.flush(io, stream, out),
                None => self.scratch = out,
            }
        }
        for flow in 0..self.flows.len() {
            self.refill_flow(io, flow);
        }
    }

    fn refill_flow(&mut self, io: &mut Io<Order>, flow: usize) {
        let Phase::Running { end_ns } = self.phase else { return };
        let amount = &self.setup.options.amount;
        let (train, most) = (u64::from(amount.train), u64::from(amount.train) * u64::from(amount.inflight));
        if amount.rate > 0 {
            return;
        }
        let now_ns = self.now_ns();
        while now_ns < end_ns && self.flows[flow].outstanding() + train <= most {
            self.send_train(io, flow, now_ns, now_ns);
        }
    }

    fn send_train(&mut self, io: &mut Io<Order>, flow: usize, now_ns: u64, planned_ns: u64) {
        let mut out = mem::take(&mut self.scratch);
        let train = self.flows[flow].request(&self.setup, now_ns, planned_ns, &mut self.tally, &mut out);
        self.sent += u64::from(self.setup.options.amount.train);
        io.send_train(Socket(flow as u16), train, &out);
        out.clear();
        self.scratch = out;
    }

    /// Sends what the schedule says by now.
    fn follow_schedule(&mut self, io: &mut Io<Order>, end_ns: u64) {
        let Some(mut schedule) = self.schedule.take() else { return };
        for _ in 0..BURST_MAX {
            let now_ns = self.now_ns();
            let Some((number, planned_ns)) = schedule.take(now_ns.min(end_ns - 1)) else { break };
            if self.flows.is_empty() {
                let local = self.publisher().unwrap_or(number as usize % self.connections.len().max(1));
                self.request(io, local, now_ns, planned_ns);
            } else {
                let flow = number as usize % self.flows.len();
                self.send_train(io, flow, now_ns, planned_ns);
            }
        }
        self.schedule = Some(schedule);
    }

    fn request(&mut self, io: &mut Io<Order>, local: usize, now_ns: u64, planned_ns: u64) {
        let connection = &mut self.connections[local];
        let Some(stream) = connection.stream.filter(|_| connection.is_ready()) else {
            self.tally.unsent += 1;
            return;
        };
        let mut out = mem::take(&mut self.scratch);
        connection.request(&self.setup, now_ns, planned_ns, &mut self.tally, &mut out);
        self.sent += 1;
        self.flush(io, stream, out);
    }

    /// Closed loop of a fan-out: publishes while fewer messages than allowed have deliveries outstanding.
    fn publish(&mut self, io: &mut Io<Order>, now_ns: u64) {
        let Some(local) = self.publisher() else { return };
        let amount = &self.setup.options.amount;
        let subscribers = u64::from(amount.connections);
        let delivered: u64 = self.progress.iter().map(|shard| shard.completed.get()).sum();
        if delivered != self.stalled_since.1 {
            self.stalled_since = (now_ns, delivered);
        } else if now_ns.saturating_sub(self.stalled_since.0) > STALL_NS {
            self.tally.fault("a second without any delivery");
            self.forgiven = (self.sent * subscribers).saturating_sub(delivered);
            self.stalled_since.0 = now_ns;
        }
        let inflight_max = u64::from(amount.inflight);
        while (self.sent * subscribers).saturating_sub(delivered + self.forgiven).div_ceil(subscribers) < inflight_max {
            let before = self.sent;
            self.request(io, local, now_ns, now_ns);
            if self.sent == before {
                break;
            }
        }
    }

    fn outstanding(&self) -> bool {
        match self.setup.scenario {
            Scenario::Idle => false,
            Scenario::Fanout => {
                let published: u64 = self.progress.iter().map(|shard| shard.sent.get()).sum();
                self.tally.completed_total < published * u64::from(self.subscribers())
            }
            Scenario::Echo => {
                self.connections.iter().any(|connection| connection.is_ready() && connection.outstanding() > 0)
                    || self.flows.iter().any(|flow| flow.outstanding() > 0)
            }
        }
    }

    fn subscribers(&self) -> u32 {
        self.share(self.setup.options.amount.connections)
    }

    fn step(&mut self, io: &mut Io<Order>, now_ns: u64) {
        match self.phase {
            Phase::Running { end_ns } if now_ns < end_ns => {
                self.follow_schedule(io, end_ns);
                if self.setup.scenario == Scenario::Fanout && self.setup.options.amount.rate == 0 {
                    self.publish(io, now_ns);
                }
                for flow in 0..self.flows.len() {
                    if self.flows[flow].forgive(now_ns) {
                        self.refill_flow(io, flow);
                    }
                }
            }
            Phase::Running { .. } => {
                // What was planned and could not leave in time is missing from the achieved rate.
                self.phase = Phase::Draining { from_ns: now_ns + SETTLE_NS, until_ns: now_ns + GRACE_NS };
            }
            Phase::Draining { from_ns, until_ns } if now_ns >= until_ns || now_ns >= from_ns && !self.outstanding() => {
                self.finish();
            }
            Phase::Draining { .. } | Phase::Waiting | Phase::Over => {}
        }
    }

    fn finish(&mut self) {
        self.phase = Phase::Over;
        let published: u64 = self.progress.iter().map(|shard| shard.sent.get()).sum();
        for connection in &self.connections {
            let expected = if self.setup.scenario == Scenario::Fanout { published } else { connection.sent() };
            self.tally.account.add(connection.ledger().close(expected));
        }
        if self.setup.scenario == Scenario::Fanout
            && let Some(local) = self.publisher()
        {
            // The publisher is no subscriber: nothing was due there.
            let own = self.connections[local].ledger().close(published);
            self.tally.account.expected -= own.expected;
            self.tally.account.lost -= own.lost;
        }
        for flow in &self.flows {
            self.tally.account.add(flow.ledger().close(flow.sent()));
        }
        let tally = mem::take(&mut self.tally);
        self.report(Report::Done(Box::new(tally)));
    }

    fn keep_alive(&mut self, io: &mut Io<Order>, now_ns: u64) {
        while let Some((due_ns, local)) = self.keep_alive.front().copied().filter(|due| due.0 <= now_ns) {
            self.keep_alive.pop_front();
            let connection = &mut self.connections[local as usize];
            if let Some(stream) = connection.stream {
                let mut out = mem::take(&mut self.scratch);
                connection.keep_alive(&self.setup, &mut out);
                self.flush(io, stream, out);
                self.keep_alive.push_back((due_ns + KEEP_ALIVE_NS, local));
            }
        }
    }

    fn deadline_ns(&self, now_ns: u64) -> Option<u64> {
        let phase = match self.phase {
            Phase::Running { end_ns } => {
                let next = self.schedule.as_ref().map_or(end_ns, Schedule::next_ns).min(end_ns);
                let look = self.setup.scenario == Scenario::Fanout
                    && self.publisher().is_some()
                    && self.setup.options.amount.rate == 0;
                let silence = if self.flows.is_empty() { end_ns } else { now_ns + SILENCE_NS };
                Some(if look { now_ns + LOOK_NS } else { next.min(silence) })
            }
            Phase::Draining { .. } => Some(now_ns + SETTLE_NS / 10),
            Phase::Waiting | Phase::Over => None,
        };
        let keep_alive = self.keep_alive.front().map(|due| due.0);
        phase.into_iter().chain(keep_alive).min()
    }

    fn own_progress(&self) -> &Progress {
        &self.progress[self.shard as usize]
    }
}

impl Reactor for Load {
    type Mail = Order;

    fn on_datagrams(&mut self, io: &mut Io<Order>, socket: Socket, train: Datagrams<'_>) {
        let now_ns = self.now_ns();
        let flow = usize::from(socket.0);
        self.flows[flow].handle(now_ns, train, &mut self.tally);
        self.refill_flow(io, flow);
    }

    fn on_stream(&mut self, io: &mut Io<Order>, stream: Stream, event: StreamEvent<'_>) {
        match event {
            StreamEvent::Connected { token } => self.connected(io, stream, token),
            StreamEvent::ConnectFailed { token, error } => {
                self.lost_connection(token as u32, format!("connect: {error}"));
            }
            StreamEvent::Data(bytes) => self.received(io, stream, bytes),
            StreamEvent::Ended => {
                if let Some(local) = self.connection_of(stream) {
                    self.lost_connection(local, "the server ended the connection".to_owned());
                    io.close(stream);
                }
            }
            StreamEvent::Closed(why) => {
                if let Some(local) = self.connection_of(stream) {
                    self.lost_connection(local, format!("closed: {why:?}"));
                }
            }
            StreamEvent::Accepted { .. } | StreamEvent::Sent { .. } => {}
        }
    }

    fn on_disk(&mut self, _io: &mut Io<Order>, _ticket: Ticket, _outcome: Outcome) {}

    fn on_mail(&mut self, io: &mut Io<Order>, _from: ShardId, order: Order) {
        match order {
            Order::Open(total) => {
                self.target = if self.flows.is_empty() { self.share(total) } else { 0 };
                self.told_ready = false;
            }
            Order::Go(start_ns) => self.go(io, start_ns),
            Order::Quit => {
                self.phase = Phase::Over;
                io.exit();
            }
        }
    }

    fn on_turn_end(&mut self, io: &mut Io<Order>) {
        self.open_more(io);
        let now_ns = self.now_ns();
        self.step(io, now_ns);
        self.keep_alive(io, now_ns);
        self.own_progress().sent.set(self.sent);
        self.own_progress().completed.set(self.tally.completed_total);
        let deadline = self.deadline_ns(now_ns).map(|at_ns| self.base + Duration::from_nanos(at_ns));
        io.wake_at(deadline);
    }
}

/// Closed loop: as many requests as are missing on this connection.
fn refill(
    phase: Phase,
    setup: &Setup,
    connection: &mut Connection,
    now_ns: u64,
    tally: &mut Tally,
    out: &mut Vec<u8>,
) -> u64 {
    let Phase::Running { end_ns } = phase else { return 0 };
    let amount = &setup.options.amount;
    if amount.rate > 0 || setup.scenario != Scenario::Echo || !connection.is_ready() || now_ns >= end_ns {
        return 0;
    }
    let missing = u64::from(amount.inflight).saturating_sub(connection.outstanding());
    for _ in 0..missing {
        connection.request(setup, now_ns, now_ns, tally, out);
    }
    missing
}

/// The source address of a connection: dealt out over 127.1.0.0/16, so that no single address runs out of ports.
fn source(id: u32, sources: u16) -> Option<IpAddr> {
    let number = id.checked_rem(u32::from(sources))?;
    let [_, _, high, low] = (number + 1).to_be_bytes();
    Some(IpAddr::V4(Ipv4Addr::new(127, 1, high, low)))
}
