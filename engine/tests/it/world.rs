//! What the tests share: a reactor made of a closure, and waiting for a condition with a deadline.

use std::{
    net::SocketAddr,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use engine::{
    Config, Datagrams, Io, Listener, ListenerConfig, Outcome, Reactor, Running, ShardId, ShardStats, Socket, Stream,
    StreamEvent, Ticket,
};

/// Far beyond what any step takes; a test that reaches it has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until `condition` holds.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < until, "{what} did not happen within {DEADLINE:?}");
        thread::yield_now();
    }
}

/// Something that happened to a reactor, in a form that tests compare.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Happened {
    Started,
    Accepted(Stream, SocketAddr),
    Connected(Stream, u64),
    ConnectFailed(u64, std::io::ErrorKind),
    Data(Stream, Vec<u8>),
    Sent(Stream, usize),
    Behind(Stream),
    Ended(Stream),
    Closed(Stream, engine::StreamClose),
    Datagrams {
        peer: SocketAddr,
        segment: usize,
        ecn: u8,
        bytes: Vec<u8>,
    },
    Disk(Ticket, String, Vec<u8>),
    Mail(ShardId, u64),
    /// So many datagrams came in one turn.
    Turn(usize),
}

/// What a test tells a shard to do.
pub(crate) type Order = Box<dyn FnOnce(&mut Io<Mail>) + Send>;

/// Mail of the tests.
pub(crate) enum Mail {
    /// Do this.
    Order(Order),
    /// A number for whoever counts.
    Number(u64),
    /// This happened.
    Report(Happened),
}

/// What a shard does by itself.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum Habit {
    /// Report everything to the control thread.
    Report,
    /// Send everything back.
    Echo,
    /// Report everything but the bytes themselves, whose count goes to the statistics.
    Quiet,
    /// Report how many datagrams came in each turn that had any.
    Count,
}

/// A shard under test.
pub(crate) struct Puppet {
    habit: Habit,
    /// Datagrams of this turn.
    heard: usize,
}

impl Puppet {
    fn report(&self, io: &mut Io<Mail>, happened: Happened) {
        if self.habit == Habit::Report {
            io.mail(ShardId::CONTROL, Mail::Report(happened));
        }
    }
}

impl Reactor for Puppet {
    type Mail = Mail;

    fn on_start(&mut self, io: &mut Io<Mail>) {
        self.report(io, Happened::Started);
    }

    fn on_datagrams(&mut self, io: &mut Io<Mail>, socket: Socket, train: Datagrams<'_>) {
        self.heard += train.count();
        if self.habit == Habit::Echo {
            let to = engine::Train { to: train.peer, segment: train.segment as u16, ecn: train.ecn };
            io.send_train(socket, to, train.bytes);
        }
        let (peer, segment, ecn) = (train.peer, train.segment, train.ecn);
        self.report(io, Happened::Datagrams { peer, segment, ecn, bytes: train.bytes.to_vec() });
    }

    fn on_stream(&mut self, io: &mut Io<Mail>, stream: Stream, event: StreamEvent<'_>) {
        let happened = match event {
            StreamEvent::Accepted { peer, .. } => Happened::Accepted(stream, peer),
            StreamEvent::Connected { token } => Happened::Connected(stream, token),
            StreamEvent::ConnectFailed { token, error } => Happened::ConnectFailed(token, error),
            StreamEvent::Data(bytes) => {
                if self.habit == Habit::Echo {
                    io.send_slice(stream, bytes);
                    return;
                }
                Happened::Data(stream, bytes.to_vec())
            }
            StreamEvent::Sent { bytes } => Happened::Sent(stream, bytes),
            StreamEvent::Behind => Happened::Behind(stream),
            StreamEvent::Ended => {
                if self.habit == Habit::Echo {
                    io.shutdown(stream);
                }
                Happened::Ended(stream)
            }
            StreamEvent::Closed(reason) => Happened::Closed(stream, reason),
        };
        self.report(io, happened);
    }

    fn on_disk(&mut self, io: &mut Io<Mail>, ticket: Ticket, outcome: Outcome) {
        let (text, bytes) = match outcome {
            Outcome::Opened { file, len } => (format!("opened {} {len}", file.0), Vec::new()),
            Outcome::Read(bytes) => ("read".to_owned(), bytes.to_vec()),
            Outcome::Done => ("done".to_owned(), Vec::new()),
            Outcome::Failed(error) => (format!("failed {:?}", error.kind()), error.to_string().into_bytes()),
        };
        self.report(io, Happened::Disk(ticket, text, bytes));
    }

    fn on_mail(&mut self, io: &mut Io<Mail>, from: ShardId, mail: Mail) {
        match mail {
            Mail::Order(order) => order(io),
            Mail::Number(number) => self.report(io, Happened::Mail(from, number)),
            Mail::Report(_) => {}
        }
    }

    fn on_turn_end(&mut self, io: &mut Io<Mail>) {
        let heard = std::mem::take(&mut self.heard);
        if heard > 0 && self.habit == Habit::Count {
            io.mail(ShardId::CONTROL, Mail::Report(Happened::Turn(heard)));
        }
    }
}

/// Shards under test, and their addresses.
pub(crate) struct World {
    pub(crate) running: Option<Running<Mail>>,
    pub(crate) tcp: Option<SocketAddr>,
    pub(crate) udp: Option<SocketAddr>,
}

impl World {
    pub(crate) fn start(habit: Habit, config: Config) -> Self {
        let bound = engine::bind(Config { pin: false, ..config.clone() }).expect("the addresses are free");
        let tcp = (!config.listeners.is_empty()).then(|| bound.listener_addr(Listener(0)));
        let udp = (!config.sockets.is_empty()).then(|| bound.socket_addr(Socket(0)));
        let running = bound.start(move |_, _| Puppet { habit, heard: 0 }).expect("the shards start");
        Self { running: Some(running), tcp, udp }
    }

    /// One listener on a free port of loopback.
    pub(crate) fn tcp(habit: Habit, shards: u16) -> Self {
        Self::start(habit, tcp_config(shards))
    }

    pub(crate) fn running(&self) -> &Running<Mail> {
        self.running.as_ref().expect("still running")
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.tcp.expect("a listener is configured")
    }

    pub(crate) fn stats(&self, shard: usize) -> &Arc<ShardStats> {
        &self.running().stats()[shard]
    }

    /// A figure summed over all shards.
    pub(crate) fn sum(&self, figure: impl Fn(&ShardStats) -> u64) -> u64 {
        self.running().stats().iter().map(|stats| figure(stats)).sum()
    }

    pub(crate) fn order(&self, shard: u16, order: impl FnOnce(&mut Io<Mail>) + Send + 'static) {
        assert!(self.running().mail(ShardId(shard), Mail::Order(Box::new(order))).is_ok(), "the box has room");
    }

    /// The next report of any shard.
    pub(crate) fn next(&self) -> Happened {
        match self.running().control().recv_timeout(DEADLINE) {
            Ok((_, Mail::Report(happened))) => happened,
            Ok(_) => panic!("only reports are sent to the control thread"),
            Err(error) => panic!("nothing more was reported: {error}"),
        }
    }

    /// Skips reports until one is wanted.
    pub(crate) fn until<T>(&self, mut wanted: impl FnMut(Happened) -> Option<T>) -> T {
        loop {
            if let Some(found) = wanted(self.next()) {
                return found;
            }
        }
    }

    /// Ends all shards and waits for them.
    pub(crate) fn stop(mut self) {
        let running = self.running.take().expect("still running");
        for shard in 0..running.stats().len() {
            let exit: Order = Box::new(|io| io.exit());
            assert!(running.mail(ShardId(shard as u16), Mail::Order(exit)).is_ok());
        }
        eventually("the end of all shards", || running.is_finished());
        running.join().expect("no shard died");
    }
}

/// One listener on a free port of loopback.
pub(crate) fn tcp_config(shards: u16) -> Config {
    let any = "127.0.0.1:0".parse().expect("an address");
    Config { shards, listeners: vec![ListenerConfig::new(any)], ..Config::default() }
}
