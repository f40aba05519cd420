//! One shard of the generator, as a reactor of the engine: keeps to the schedule, counts, waits for the rest.

use std::{
    mem,
    sync::{Arc, mpsc::Sender},
    time::{Duration, Instant},
};

use engine::{Datagrams, Io, Outcome, Reactor, ShardId, Socket, Stream, StreamEvent, Ticket};

use crate::{
    browser::Browser,
    connection::{Connection, Scenario, Setup},
    crowd::Crowd,
    flow::{Flow, SILENCE_NS},
    options::Proto,
    order::{Order, Progress, Report},
    schedule::Schedule,
    tally::Tally,
    tunnel::{Carrier, Happened, Tunnel},
};

/// Requests that leave in one turn: a stall must not keep answers waiting while it is made up for.
const BURST_MAX: u32 = 512;
/// How long answers may still come after the last request.
const GRACE_NS: u64 = 2_000_000_000;
/// How long readers that had stalled may take to catch up.
pub(crate) const CATCH_UP_NS: u64 = 120_000_000_000;
/// How long the end is waited for at least: until every shard sees what the last turn of the publisher sent, and
/// doubled answers of the last requests had their chance.
const SETTLE_NS: u64 = 100_000_000;
/// How often a publisher looks whether other shards have their deliveries.
const LOOK_NS: u64 = 100_000;
/// A fan-out without a delivery for this long goes on without the missing ones.
const STALL_NS: u64 = 1_000_000_000;

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
    shard: u16,
    base: Instant,
    phase: Phase,
    crowd: Crowd,
    flows: Vec<Flow>,
    tunnel: Option<Box<dyn Carrier>>,
    schedule: Option<Schedule>,
    /// When some readers stop reading, until that has happened.
    stalls_at_ns: Option<u64>,
    stall: Stall,
    /// When it is looked next for answers that will not come.
    forgive_at_ns: u64,
    tally: Tally,
    sent: u64,
    progress: Arc<[Progress]>,
    reports: Sender<Report>,
    scratch: Vec<u8>,
    incoming: Vec<u8>,
}

/// What a publisher in closed loop knows of the deliveries.
#[derive(Default)]
struct Stall {
    delivered: u64,
    changed_ns: u64,
    forgiven: u64,
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
            shard: shard.0,
            base,
            phase: Phase::Waiting,
            crowd: Crowd::new(setup.clone(), shard.0.into()),
            flows: (0..flows).map(Flow::new).collect(),
            tunnel: carrier(&setup, shard.0),
            schedule: None,
            stalls_at_ns: None,
            stall: Stall::default(),
            forgive_at_ns: 0,
            tally: Tally::new(),
            sent: 0,
            progress,
            reports,
            scratch: Vec::new(),
            incoming: Vec::new(),
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

    fn lost_connection(&mut self, local: u32, why: String) {
        self.crowd.lost(local);
        self.tally.fault(why);
    }

    fn received(&mut self, io: &mut Io<Order>, stream: Stream, bytes: &[u8]) {
        let Some(local) = self.crowd.find(stream) else { return };
        let now_ns = self.now_ns();
        let mut out = mem::take(&mut self.scratch);
        let connection = self.crowd.one(local);
        let was_ready = connection.is_ready();
        let outcome = connection.handle(&self.setup, now_ns, bytes, &mut self.tally, &mut out);
        let became_ready = connection.is_ready() && !was_ready;
        if outcome.is_ok() {
            self.sent += refill(self.phase, &self.setup, connection, now_ns, &mut self.tally, &mut out);
        }
        self.flush(io, stream, out);
        if became_ready {
            self.crowd.became_ready(now_ns, local);
        }
        if let Err(fault) = outcome {
            self.lost_connection(local, fault.to_string());
            self.close(io, stream);
        }
    }

    fn close(&mut self, io: &mut Io<Order>, stream: Stream) {
        match &mut self.tunnel {
            Some(tunnel) => tunnel.close(io, stream),
            None => io.close(stream),
        }
    }

    /// Works off what happened to connections that share a socket.
    fn serve_tunnel(&mut self, io: &mut Io<Order>) {
        while let Some((stream, happened)) = self.tunnel.as_mut().and_then(|tunnel| tunnel.poll()) {
            match happened {
                Happened::Connected(local) => {
                    let (now_ns, mut out) = (self.now_ns(), mem::take(&mut self.scratch));
                    self.crowd.connected(now_ns, stream, local.into(), &mut out);
                    self.flush(io, stream, out);
                }
                Happened::Readable => self.read_tunnel(io, stream),
                Happened::Ended => self.ended(io, stream),
                Happened::Refused(why) => self.tally.fault(why),
                Happened::Closed(local, reason) => {
                    // Before it was up the crowd does not know it by its stream.
                    let known = self.crowd.find(stream).is_some();
                    if known || self.crowd.is_opening(local) {
                        self.lost_connection(local, format!("closed: {reason}"));
                    }
                }
            }
        }
    }

    fn read_tunnel(&mut self, io: &mut Io<Order>, stream: Stream) {
        let mut bytes = mem::take(&mut self.incoming);
        while self.tunnel.as_mut().is_some_and(|tunnel| tunnel.read(stream, &mut bytes)) {
            self.received(io, stream, &bytes);
            bytes.clear();
        }
        self.incoming = bytes;
        if self.tunnel.as_mut().is_some_and(|tunnel| tunnel.is_ended(stream)) {
            self.ended(io, stream);
        }
    }

    fn ended(&mut self, io: &mut Io<Order>, stream: Stream) {
        if let Some(local) = self.crowd.find(stream) {
            self.lost_connection(local, "the server ended the connection".to_owned());
            self.close(io, stream);
        }
    }

    fn flush(&mut self, io: &mut Io<Order>, stream: Stream, mut out: Vec<u8>) {
        if !out.is_empty() {
            match &mut self.tunnel {
                Some(tunnel) => tunnel.write(stream, &out),
                None => io.send_slice(stream, &out),
            }
            out.clear();
        }
        self.scratch = out;
    }

    fn go(&mut self, io: &mut Io<Order>, start_ns: u64) {
        let (setup, amount) = (&self.setup, &self.setup.options.amount);
        let open_ns = start_ns + amount.warmup_ns();
        let end_ns = open_ns + amount.window_ns();
        self.tally.set_window(open_ns, end_ns);
        self.phase = Phase::Running { end_ns };
        self.stall.changed_ns = start_ns;
        self.stalls_at_ns = (setup.options.stalled > 0).then_some(open_ns);
        // A fan-out has one sender, a UDP request is a whole train.
        let (shard, shards) =
            if setup.scenario == Scenario::Fanout { (0, 1) } else { (self.shard, setup.options.shards()) };
        let sends = match setup.scenario {
            Scenario::Echo | Scenario::Durable | Scenario::Redis | Scenario::Nats => true,
            Scenario::Fanout => self.crowd.publisher().is_some(),
            Scenario::Idle => false,
        };
        let rate = amount.rate / setup.options.requests_per_send();
        self.schedule = (rate > 0 && sends).then(|| Schedule::new(start_ns, rate, shard, shards));
        if amount.rate == 0 && setup.scenario.is_answered() {
            self.start_closed_loop(io);
        }
    }

    fn start_closed_loop(&mut self, io: &mut Io<Order>) {
        let now_ns = self.now_ns();
        for local in 0..self.crowd.all().len() {
            let Some((connection, stream)) = self.crowd.ready_one(local) else { continue };
            let mut out = mem::take(&mut self.scratch);
            self.sent += refill(self.phase, &self.setup, connection, now_ns, &mut self.tally, &mut out);
            self.flush(io, stream, out);
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
            // What is planned up to the end leaves, even if late.
            let Some((number, planned_ns)) = schedule.take(now_ns.min(end_ns - 1)) else { break };
            if self.flows.is_empty() {
                let turn = number as usize % self.crowd.all().len().max(1);
                let local = self.crowd.publisher().unwrap_or(turn);
                self.request(io, local, now_ns, planned_ns);
            } else {
                let flow = number as usize % self.flows.len();
                self.send_train(io, flow, now_ns, planned_ns);
            }
        }
        self.schedule = Some(schedule);
    }

    fn request(&mut self, io: &mut Io<Order>, local: usize, now_ns: u64, planned_ns: u64) -> bool {
        let Some((connection, stream)) = self.crowd.ready_one(local) else {
            self.tally.unsent += 1;
            return false;
        };
        let mut out = mem::take(&mut self.scratch);
        connection.request(&self.setup, now_ns, planned_ns, &mut self.tally, &mut out);
        self.sent += 1;
        self.flush(io, stream, out);
        true
    }

    /// Closed loop of a fan-out: publishes while fewer messages than allowed have deliveries outstanding.
    fn publish(&mut self, io: &mut Io<Order>, now_ns: u64) {
        let Some(local) = self.crowd.publisher() else { return };
        let amount = &self.setup.options.amount;
        let (subscribers, inflight_max) = (u64::from(amount.connections), u64::from(amount.inflight));
        let delivered: u64 = self.progress.iter().map(|shard| shard.completed.get()).sum();
        if delivered != self.stall.delivered {
            (self.stall.delivered, self.stall.changed_ns) = (delivered, now_ns);
        } else if now_ns.saturating_sub(self.stall.changed_ns) > STALL_NS {
            self.tally.fault("a second without any delivery");
            self.stall.forgiven = (self.sent * subscribers).saturating_sub(delivered);
            self.stall.changed_ns = now_ns;
        }
        let settled = delivered + self.stall.forgiven;
        while (self.sent * subscribers).saturating_sub(settled).div_ceil(subscribers) < inflight_max {
            if !self.request(io, local, now_ns, now_ns) {
                break;
            }
        }
    }

    fn published(&self) -> u64 {
        self.progress.iter().map(|shard| shard.sent.get()).sum()
    }

    fn is_waiting(&self) -> bool {
        match self.setup.scenario {
            Scenario::Idle => false,
            Scenario::Fanout => {
                let subscribers = self.crowd.share(self.setup.options.amount.connections);
                self.tally.completed_total < self.published() * u64::from(subscribers)
            }
            Scenario::Echo | Scenario::Durable | Scenario::Redis | Scenario::Nats => {
                let waits = |connection: &Connection| connection.is_ready() && connection.outstanding() > 0;
                self.crowd.all().iter().any(waits) || self.flows.iter().any(|flow| flow.outstanding() > 0)
            }
        }
    }

    fn step(&mut self, io: &mut Io<Order>, now_ns: u64) {
        match self.phase {
            Phase::Running { end_ns } if now_ns < end_ns => {
                if self.stalls_at_ns.is_some_and(|at_ns| at_ns <= now_ns) {
                    self.stalls_at_ns = None;
                    self.each_stalled(|stream| io.pause(stream));
                }
                self.follow_schedule(io, end_ns);
                if self.setup.scenario == Scenario::Fanout && self.setup.options.amount.rate == 0 {
                    self.publish(io, now_ns);
                }
                if self.setup.options.may_lose() && now_ns >= self.forgive_at_ns {
                    self.forgive(io, now_ns);
                }
                for flow in 0..self.flows.len() {
                    if self.flows[flow].forgive(now_ns) {
                        self.refill_flow(io, flow);
                    }
                }
            }
            Phase::Running { .. } => {
                // What was planned and could not leave in time is missing from the achieved rate.
                self.each_stalled(|stream| io.resume(stream));
                let grace_ns = if self.setup.options.stalled > 0 { CATCH_UP_NS } else { GRACE_NS };
                self.phase = Phase::Draining { from_ns: now_ns + SETTLE_NS, until_ns: now_ns + grace_ns };
            }
            Phase::Draining { from_ns, until_ns } => {
                if now_ns >= until_ns || now_ns >= from_ns && !self.is_waiting() {
                    self.finish();
                }
            }
            Phase::Waiting | Phase::Over => {}
        }
    }

    fn each_stalled(&mut self, mut act: impl FnMut(Stream)) {
        let ids: Vec<u32> = self.crowd.ids().collect();
        for (local, id) in ids.into_iter().enumerate() {
            if self.setup.is_stalled(id)
                && let Some((_, stream)) = self.crowd.ready_one(local)
            {
                act(stream);
            }
        }
    }

    /// Closed loop: goes on where answers were lost.
    fn forgive(&mut self, io: &mut Io<Order>, now_ns: u64) {
        self.forgive_at_ns = now_ns + SILENCE_NS / 4;
        for local in 0..self.crowd.all().len() {
            let Some((connection, stream)) = self.crowd.ready_one(local) else { continue };
            if connection.forgive(now_ns) {
                let mut out = mem::take(&mut self.scratch);
                self.sent += refill(self.phase, &self.setup, connection, now_ns, &mut self.tally, &mut out);
                self.flush(io, stream, out);
            }
        }
    }

    fn finish(&mut self) {
        self.phase = Phase::Over;
        let (published, publisher) = (self.published(), self.crowd.publisher());
        for (local, connection) in self.crowd.all().iter().enumerate() {
            let expected = match self.setup.scenario {
                // The publisher is no subscriber: nothing is due there.
                Scenario::Fanout if publisher == Some(local) => 0,
                Scenario::Fanout => published,
                Scenario::Echo | Scenario::Idle | Scenario::Durable | Scenario::Redis | Scenario::Nats => {
                    connection.sent()
                }
            };
            self.tally.account.add(connection.ledger().close(expected));
        }
        for flow in &self.flows {
            self.tally.account.add(flow.ledger().close(flow.sent()));
        }
        let tally = mem::take(&mut self.tally);
        self.report(Report::Done(Box::new(tally)));
    }

    fn keep_alive(&mut self, io: &mut Io<Order>, now_ns: u64) {
        while let Some(local) = self.crowd.next_keep_alive(now_ns) {
            let Some((connection, stream)) = self.crowd.ready_one(local) else { continue };
            let mut out = mem::take(&mut self.scratch);
            connection.keep_alive(&self.setup, &mut out);
            self.flush(io, stream, out);
        }
    }

    fn deadline_ns(&self, now_ns: u64) -> Option<u64> {
        let phase = match self.phase {
            Phase::Running { end_ns } => {
                let next = self.schedule.as_ref().map_or(end_ns, Schedule::next_ns);
                let look = if self.crowd.publisher().is_some() && self.schedule.is_none() { LOOK_NS } else { u64::MAX };
                let silence = if self.setup.options.may_lose() { SILENCE_NS / 4 } else { u64::MAX };
                let stalls = self.stalls_at_ns.unwrap_or(u64::MAX);
                Some(next.min(end_ns).min(stalls).min(now_ns.saturating_add(look.min(silence))))
            }
            Phase::Draining { .. } => Some(now_ns + SETTLE_NS / 10),
            Phase::Waiting | Phase::Over => None,
        };
        phase.into_iter().chain(self.crowd.deadline_ns()).min()
    }
}

impl Reactor for Load {
    type Mail = Order;

    fn on_datagrams(&mut self, io: &mut Io<Order>, socket: Socket, train: Datagrams<'_>) {
        if let Some(tunnel) = &mut self.tunnel {
            tunnel.handle(io, train);
            return self.serve_tunnel(io);
        }
        let now_ns = self.now_ns();
        let flow = usize::from(socket.0);
        self.flows[flow].handle(now_ns, train, &mut self.tally);
        self.refill_flow(io, flow);
    }

    fn on_stream(&mut self, io: &mut Io<Order>, stream: Stream, event: StreamEvent<'_>) {
        match event {
            StreamEvent::Connected { token } => {
                let (now_ns, mut out) = (self.now_ns(), mem::take(&mut self.scratch));
                self.crowd.connected(now_ns, stream, token, &mut out);
                self.flush(io, stream, out);
            }
            StreamEvent::ConnectFailed { token, error } => {
                self.lost_connection(token as u32, format!("connect: {error}"));
            }
            StreamEvent::Data(bytes) => self.received(io, stream, bytes),
            StreamEvent::Ended => self.ended(io, stream),
            StreamEvent::Closed(why) => {
                if let Some(local) = self.crowd.find(stream) {
                    self.lost_connection(local, format!("closed: {why:?}"));
                }
            }
            StreamEvent::Accepted { .. } | StreamEvent::Sent { .. } | StreamEvent::Behind => {}
        }
    }

    fn on_disk(&mut self, _io: &mut Io<Order>, _ticket: Ticket, _outcome: Outcome) {}

    fn on_mail(&mut self, io: &mut Io<Order>, _from: ShardId, order: Order) {
        match order {
            // Sockets of flows are bound by the engine: there is nothing to open.
            Order::Open(total) => self.crowd.order(if self.flows.is_empty() { total } else { 0 }),
            Order::Go(start_ns) => self.go(io, start_ns),
            Order::Quit => {
                self.phase = Phase::Over;
                io.exit();
            }
        }
    }

    fn on_turn_end(&mut self, io: &mut Io<Order>) {
        if let Some(failed) = self.crowd.open_more(io, self.tunnel.as_deref_mut()) {
            self.report(Report::Ready { failed });
        }
        let now_ns = self.now_ns();
        self.step(io, now_ns);
        self.keep_alive(io, now_ns);
        self.serve_tunnel(io);
        if let Some(tunnel) = &mut self.tunnel {
            tunnel.transmit(io);
        }
        // What sending has led to: ends, above all.
        self.serve_tunnel(io);
        if let Some(tunnel) = &mut self.tunnel {
            self.tally.received(now_ns, tunnel.take_received_bytes());
        }
        let progress = &self.progress[usize::from(self.shard)];
        progress.ready.set(self.crowd.ready().into());
        progress.sent.set(self.sent);
        progress.completed.set(self.tally.completed_total);
        let deadline = self.deadline_ns(now_ns).map(|at_ns| self.base + Duration::from_nanos(at_ns));
        let tunnel = self.tunnel.as_ref().filter(|_| io.train_room() > 0).and_then(|tunnel| tunnel.deadline());
        io.wake_at(deadline.into_iter().chain(tunnel).min());
    }
}

/// What carries connections that share a socket. Without TLS nothing can be opened, which the control thread tells by
/// itself.
fn carrier(setup: &Setup, shard: u16) -> Option<Box<dyn Carrier>> {
    match setup.options.proto {
        Proto::Tcp | Proto::Ws | Proto::Udp => None,
        Proto::Quantum => Some(Box::new(Tunnel::new(setup, shard).ok()?)),
        Proto::H3 | Proto::Webtransport => Some(Box::new(Browser::new(setup).ok()?)),
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
    if amount.rate > 0 || !setup.scenario.is_answered() || !connection.is_ready() || now_ns >= end_ns {
        return 0;
    }
    let missing = u64::from(amount.inflight).saturating_sub(connection.outstanding());
    for _ in 0..missing {
        connection.request(setup, now_ns, now_ns, tally, out);
    }
    missing
}
