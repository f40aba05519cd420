//! One connection of the generator: handshake, requests, and the account of what came back.

use std::{collections::VecDeque, mem};

use engine::Stream;
use thiserror::Error;

use crate::{
    flow::SILENCE_NS,
    ledger::Ledger,
    nats,
    options::{Operation, Options, Proto},
    speech::{Speech, Told, body},
    stamp::Stamp,
    tally::Tally,
    wire::{self, Item, Wire, WireError},
};

/// Correlation ids of requests start here: 0 means a push, 1 is the hello's.
const REQUEST_ID_MIN: u32 = 2;
const HELLO_ID: u32 = 1;

/// What all connections of a run are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Requests and answers on each connection.
    Echo,
    /// The last connection publishes, all others subscribe.
    Fanout,
    /// Nothing but keeping alive.
    Idle,
    /// Publications, each answered once it is on disk.
    Durable,
    /// The same bytes to lists of Redis, each answered by it.
    Redis,
    /// The same bytes to subjects of a stream of NATS, each answered by it.
    Nats,
}

impl Scenario {
    /// Whether each request has one answer on its own connection.
    #[must_use]
    pub fn is_answered(self) -> bool {
        match self {
            Self::Echo | Self::Durable | Self::Redis | Self::Nats => true,
            Self::Fanout | Self::Idle => false,
        }
    }

    /// Whether the server is somebody else's store, that knows no sessions.
    #[must_use]
    pub fn is_foreign(self) -> bool {
        matches!(self, Self::Redis | Self::Nats)
    }
}

/// What all connections of a run have in common.
#[derive(Clone, Debug)]
pub struct Setup {
    /// What they are for.
    pub scenario: Scenario,
    /// The command line.
    pub options: Options,
    /// How session messages are written.
    pub speech: Speech,
}

/// Why a connection ended early.
#[derive(Debug, Error)]
pub enum Fault {
    /// Bytes that make no sense.
    #[error("{0}")]
    Wire(#[from] WireError),
    /// A message that makes no sense.
    #[error("{0}")]
    Speech(#[from] session::DecodeError),
    /// The server closed the WebSocket.
    #[error("the server closed with code {0}")]
    Closed(u16),
    /// The hello or its subscription was refused.
    #[error("the hello was refused: {0}")]
    Refused(&'static str),
    /// The server sent us away.
    #[error("the server is going away")]
    GoAway,
}

/// One connection.
#[derive(Debug)]
pub struct Connection {
    id: u32,
    /// The engine's handle while it is open.
    pub stream: Option<Stream>,
    wire: Wire,
    ready: bool,
    rest: Vec<u8>,
    ledger: Ledger,
    sent: u64,
    answers: u64,
    // Answers that are not waited for any more; they stay missing in the ledger.
    forgiven: u64,
    heard_ns: u64,
    // Requests whose answers hold no stamp: number, intended time, how late it left.
    asked: VecDeque<(u64, u64, u32)>,
    mask: u32,
}

impl Setup {
    /// How many connections there are: a fan-out has a publisher beside its subscribers.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.options.amount.connections + u32::from(self.scenario == Scenario::Fanout)
    }

    /// Whether connection `id` publishes what others count.
    #[must_use]
    pub fn is_publisher(&self, id: u32) -> bool {
        self.scenario == Scenario::Fanout && id == self.options.amount.connections
    }

    /// Whether connection `id` is a subscriber that does not read while the window is open.
    #[must_use]
    pub fn is_stalled(&self, id: u32) -> bool {
        self.scenario == Scenario::Fanout && id < self.options.stalled
    }

    fn topic(&self, id: u32) -> String {
        match self.scenario {
            Scenario::Echo => format!("chat/{}-{id}", self.options.room),
            Scenario::Durable | Scenario::Redis | Scenario::Nats if !self.options.shared => {
                format!("chat/{}-{id}", self.options.room)
            }
            Scenario::Fanout | Scenario::Idle | Scenario::Durable | Scenario::Redis | Scenario::Nats => {
                format!("chat/{}", self.options.room)
            }
        }
    }

    fn subscribes(&self, id: u32) -> bool {
        match self.scenario {
            Scenario::Echo => self.options.operation == Operation::Pub,
            Scenario::Fanout => !self.is_publisher(id),
            Scenario::Idle | Scenario::Durable | Scenario::Redis | Scenario::Nats => false,
        }
    }
}

impl Connection {
    /// Connection number `id` of the whole run.
    #[must_use]
    pub fn new(id: u32, setup: &Setup) -> Self {
        let wire = match setup.options.proto {
            _ if setup.scenario == Scenario::Redis => Wire::Resp,
            _ if setup.scenario == Scenario::Nats => Wire::Nats,
            Proto::Ws => Wire::WebSocket { upgraded: false, text: setup.speech.is_text() && !setup.options.raw },
            _ if setup.options.raw => Wire::Raw { size: setup.options.payload_bytes() },
            _ => Wire::Framed,
        };
        Self {
            id,
            stream: None,
            wire,
            ready: false,
            rest: Vec::new(),
            ledger: Ledger::default(),
            sent: 0,
            answers: 0,
            forgiven: 0,
            heard_ns: 0,
            asked: VecDeque::new(),
            mask: id.wrapping_mul(0x9e37_79b9) | 1,
        }
    }

    /// Whether requests may be sent.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Requests without an answer, for scenarios in which each request has one.
    #[must_use]
    pub fn outstanding(&self) -> u64 {
        self.sent.saturating_sub(self.answers + self.forgiven)
    }

    /// Requests so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Gives up what is outstanding after a silence; true if it did.
    pub fn forgive(&mut self, now_ns: u64) -> bool {
        let outstanding = self.outstanding();
        let silent = outstanding > 0 && now_ns.saturating_sub(self.heard_ns) > SILENCE_NS;
        if silent {
            self.forgiven += outstanding;
            self.heard_ns = now_ns;
        }
        silent
    }

    /// What arrived.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The stream is up: what to send first.
    pub fn open(&mut self, setup: &Setup, out: &mut Vec<u8>) {
        let options = &setup.options;
        match self.wire {
            Wire::Raw { .. } | Wire::Resp => self.ready = true,
            Wire::Nats => {
                let inbox = format!("{}SUB _INBOX.{}.* 1\r\nPING\r\n", nats::HELLO, self.id);
                out.extend_from_slice(inbox.as_bytes());
            }
            Wire::WebSocket { .. } => {
                let protocol = (!options.raw).then(|| setup.speech.subprotocol());
                wire::put_upgrade(&options.target.to_string(), options.path(), protocol, out);
            }
            Wire::Framed => {
                // Over Quantum and WebTransport it is known what is spoken.
                if !matches!(options.proto, Proto::Quantum | Proto::Webtransport) {
                    out.extend_from_slice(tcp::PREFACE);
                }
                self.hello(setup, out);
            }
        }
    }

    /// The stream is gone.
    pub fn close(&mut self) {
        self.stream = None;
        self.ready = false;
        self.rest = Vec::new();
    }

    /// Bytes arrived; what to answer goes to `out`.
    pub fn handle(
        &mut self,
        setup: &Setup,
        now_ns: u64,
        bytes: &[u8],
        tally: &mut Tally,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        if self.rest.is_empty() {
            let used = self.take(setup, now_ns, bytes, tally, out)?;
            self.rest.extend_from_slice(&bytes[used..]);
            return Ok(());
        }
        let mut whole = mem::take(&mut self.rest);
        whole.extend_from_slice(bytes);
        let used = self.take(setup, now_ns, &whole, tally, out)?;
        // An idle connection holds no buffer.
        if used < whole.len() {
            whole.drain(..used);
            self.rest = whole;
        }
        Ok(())
    }

    /// Sends one request that was meant to leave at `planned_ns`.
    pub fn request(&mut self, setup: &Setup, now_ns: u64, planned_ns: u64, tally: &mut Tally, out: &mut Vec<u8>) {
        let late_ns = tally.request(now_ns, planned_ns);
        if self.outstanding() == 0 {
            self.heard_ns = now_ns;
        }
        let stamp = Stamp { connection: self.id, number: self.sent, planned_ns, late_ns };
        let size = setup.options.payload_bytes();
        let id = REQUEST_ID_MIN + (self.sent % u64::from(u32::MAX - REQUEST_ID_MIN)) as u32;
        let (wire, mask) = (self.wire, self.next_mask());
        if setup.options.raw {
            wire.put(size, mask, out, |out| stamp.write(size, out));
        } else if setup.scenario == Scenario::Echo && setup.options.operation == Operation::Ping {
            self.asked.push_back((self.sent, planned_ns, late_ns));
            wire.put_slice(&setup.speech.ping(id), mask, out);
        } else {
            let mut text = String::with_capacity(size);
            stamp.write_text(size, &mut text);
            if setup.scenario == Scenario::Durable || setup.scenario.is_foreign() {
                self.asked.push_back((self.sent, planned_ns, late_ns));
            }
            let topic = setup.topic(self.id);
            match wire {
                Wire::Resp => wire::put_command(&[b"RPUSH", topic.as_bytes(), body(&text).as_bytes()], out),
                Wire::Nats => {
                    let (prefix, inbox, body) = (nats::PREFIX, self.id, body(&text));
                    let line = format!("PUB {prefix}{topic} _INBOX.{inbox}.{id} {}\r\n{body}\r\n", body.len());
                    out.extend_from_slice(line.as_bytes());
                }
                _ => wire.put_slice(&setup.speech.publish(id, &topic, self.sent + 1, &text), mask, out),
            }
        }
        self.sent += 1;
    }

    /// Keeps an idle session alive; its answer is not accounted for.
    pub fn keep_alive(&mut self, setup: &Setup, out: &mut Vec<u8>) {
        if !setup.options.raw {
            let (wire, mask) = (self.wire, self.next_mask());
            wire.put_slice(&setup.speech.ping(HELLO_ID), mask, out);
        }
    }

    fn take(
        &mut self,
        setup: &Setup,
        now_ns: u64,
        bytes: &[u8],
        tally: &mut Tally,
        out: &mut Vec<u8>,
    ) -> Result<usize, Fault> {
        let mut used = 0;
        while let Some((len, item)) = self.wire.parse(&bytes[used..])? {
            used += len;
            match item {
                Item::Message(reply) if setup.scenario == Scenario::Redis => self.replied(now_ns, reply, tally),
                Item::Message(message) if setup.scenario == Scenario::Nats => self.stored(now_ns, message, tally),
                Item::Message(payload) if setup.options.raw => self.echoed(now_ns, Stamp::read(payload), tally),
                Item::Message(message) => self.told(setup, now_ns, message, tally, out)?,
                Item::Upgraded => self.upgraded(setup, out),
                Item::Ping(payload) => {
                    let mask = self.next_mask();
                    self.wire.put_pong(payload, mask, out);
                }
                Item::Pong => {}
                Item::Close(code) => return Err(Fault::Closed(code)),
            }
        }
        Ok(used)
    }

    fn upgraded(&mut self, setup: &Setup, out: &mut Vec<u8>) {
        if let Wire::WebSocket { upgraded, .. } = &mut self.wire {
            *upgraded = true;
        }
        if setup.options.raw || setup.scenario.is_foreign() {
            self.ready = true;
        } else {
            self.hello(setup, out);
        }
    }

    fn hello(&mut self, setup: &Setup, out: &mut Vec<u8>) {
        let topic = setup.subscribes(self.id).then(|| setup.topic(self.id));
        // A device of its own for every run: its counters start at 1, and a server that knows them from an earlier run
        // answers what it has already instead of publishing.
        let device = format!("load-{}-{}", std::process::id(), self.id);
        let hello = setup.speech.hello(HELLO_ID, &device, topic.as_deref());
        let mask = self.next_mask();
        self.wire.put_slice(&hello, mask, out);
    }

    fn told(
        &mut self,
        setup: &Setup,
        now_ns: u64,
        message: &[u8],
        tally: &mut Tally,
        out: &mut Vec<u8>,
    ) -> Result<(), Fault> {
        // Only a delivery of ours holds a stamp, in any codec; to look for it is cheaper than to decode.
        if let Some(stamp) = Stamp::find(message) {
            match setup.scenario {
                Scenario::Fanout => self.delivered(setup, now_ns, stamp, tally),
                Scenario::Echo | Scenario::Idle | Scenario::Durable | Scenario::Redis | Scenario::Nats => {
                    self.echoed(now_ns, stamp, tally)
                }
            }
            return Ok(());
        }
        match setup.speech.decode(message)? {
            Told::Welcome => self.ready = true,
            Told::Pong(id) => self.answered(now_ns, id, tally),
            // Over Quantum the acknowledgement was the answer.
            Told::Asked if setup.options.proto == Proto::Quantum => {}
            Told::Asked => self.keep_alive(setup, out),
            Told::Acknowledged { id, durable } => {
                tally.acknowledged += 1;
                tally.durable += u64::from(durable);
                match setup.scenario {
                    Scenario::Durable if durable => self.answered(now_ns, id, tally),
                    Scenario::Durable => tally.fault("an acknowledgement from memory"),
                    Scenario::Echo | Scenario::Fanout | Scenario::Idle | Scenario::Redis | Scenario::Nats => {}
                }
            }
            Told::Refused { id, code } => {
                tally.fault(format!("err {code}"));
                if id == HELLO_ID && !self.ready {
                    return Err(Fault::Refused(code));
                }
                if id >= REQUEST_ID_MIN {
                    self.take_asked(id);
                    self.answers += 1;
                }
            }
            Told::Gap => tally.fault("gap in a topic"),
            Told::GoAway => return Err(Fault::GoAway),
            Told::Other => {}
        }
        Ok(())
    }

    fn echoed(&mut self, now_ns: u64, stamp: Option<Stamp>, tally: &mut Tally) {
        self.heard_ns = now_ns;
        match stamp {
            Some(stamp) if stamp.connection == self.id && stamp.number < self.sent => {
                if self.ledger.note(stamp.number) {
                    self.answers += 1;
                    tally.answer(now_ns, stamp.planned_ns, stamp.late_ns);
                }
            }
            Some(_) => tally.fault("an answer to somebody else's request"),
            None => tally.corrupt += 1,
        }
    }

    fn delivered(&mut self, setup: &Setup, now_ns: u64, stamp: Option<Stamp>, tally: &mut Tally) {
        match stamp {
            Some(stamp) if setup.is_publisher(stamp.connection) => {
                if !self.ledger.note(stamp.number) {
                    return;
                }
                if setup.is_stalled(self.id) {
                    tally.caught_up(now_ns);
                } else {
                    tally.answer(now_ns, stamp.planned_ns, stamp.late_ns);
                    tally.delivered(now_ns, stamp.planned_ns, stamp.number);
                }
            }
            Some(_) => tally.fault("a delivery from another publisher"),
            None => tally.corrupt += 1,
        }
    }

    /// The answer to the request with this correlation id.
    fn answered(&mut self, now_ns: u64, id: u32, tally: &mut Tally) {
        if id == HELLO_ID {
            return;
        }
        match self.take_asked(id) {
            Some(asked) => self.settle(now_ns, asked, tally),
            None => tally.fault("an answer to nothing"),
        }
    }

    /// Redis answers in order.
    fn replied(&mut self, now_ns: u64, reply: &[u8], tally: &mut Tally) {
        match (self.asked.pop_front(), reply.split_first()) {
            (None, _) => tally.fault("an answer to nothing"),
            (Some(_), Some((b'-', error))) => {
                tally.fault(String::from_utf8_lossy(error));
                self.answers += 1;
            }
            (Some(asked), _) => {
                tally.acknowledged += 1;
                self.settle(now_ns, asked, tally);
            }
        }
    }

    /// NATS answers to an inbox whose last part names the request.
    fn stored(&mut self, now_ns: u64, message: &[u8], tally: &mut Tally) {
        let Some((id, is_taken)) = nats::answer(message) else {
            return tally.fault(String::from_utf8_lossy(message));
        };
        if is_taken {
            tally.acknowledged += 1;
            return self.answered(now_ns, id, tally);
        }
        tally.fault(String::from_utf8_lossy(message));
        self.take_asked(id);
        self.answers += 1;
    }

    fn settle(&mut self, now_ns: u64, (number, planned_ns, late_ns): (u64, u64, u32), tally: &mut Tally) {
        self.ledger.note(number);
        self.answers += 1;
        tally.answer(now_ns, planned_ns, late_ns);
    }

    fn take_asked(&mut self, id: u32) -> Option<(u64, u64, u32)> {
        let number = u64::from(id.saturating_sub(REQUEST_ID_MIN));
        let span = u64::from(u32::MAX - REQUEST_ID_MIN);
        let at = self.asked.iter().position(|asked| asked.0 % span == number)?;
        self.asked.remove(at)
    }

    fn next_mask(&mut self) -> u32 {
        // xorshift: unpredictable enough for a load on one's own server, and cheap.
        self.mask ^= self.mask << 13;
        self.mask ^= self.mask >> 17;
        self.mask ^= self.mask << 5;
        self.mask
    }
}
