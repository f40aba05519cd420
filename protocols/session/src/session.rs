//! One session's state: what may be said in it, how much of it, and when silence is too long.
//!
//! ```text
//! AwaitHello --hello--> Greeting --open--> Open --close--> Closed
//! ```
//! The owner tells it of every message before acting on it, and asks [`Session::deadline`] when to come back.

use std::time::{Duration, Instant};

use crate::{Client, Code, Credential, DecodeError, Flaw, Hello, Topic, VERSION, name, rate::Bucket};

/// What one session may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Time from the first byte to an accepted hello.
    pub hello: Duration,
    /// Bytes of all messages until then: a token, a device and a few dozen subscriptions.
    pub hello_bytes: usize,
    /// Messages until then.
    pub hello_frames: u32,
    /// Silence that ends the session.
    pub idle: Duration,
    /// Silence after which the server asks. Less than half of `idle`, so that one lost answer ends nothing.
    pub ping: Duration,
    /// Messages per second in the long run.
    pub messages_per_sec: u32,
    /// Messages at once after a pause.
    pub messages_burst: u32,
    /// Requests without an answer: the session's credit.
    pub requests_inflight: u32,
    /// Topics subscribed to.
    pub subs: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            hello: Duration::from_secs(10),
            hello_bytes: 4 * 1024,
            hello_frames: 10,
            idle: Duration::from_secs(60),
            ping: Duration::from_secs(25),
            messages_per_sec: 10,
            messages_burst: 100,
            requests_inflight: 64,
            subs: 256,
        }
    }
}

/// Refusals in a row after which a session is closed: each costs an answer, and who ignores this many reads none of them.
pub const REFUSALS_MAX: u32 = 1000;

/// A message that is not acted on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The answer's code.
    pub code: Code,
    /// The answer's text.
    pub message: &'static str,
    /// When to try again.
    pub retry_ms: Option<u32>,
    /// The connection ends after the answer.
    pub fatal: bool,
}

/// What is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Ask whether the client is there.
    Ping,
    /// End the connection.
    Close {
        /// Why.
        reason: &'static str,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Nobody yet.
    AwaitHello,
    /// A hello was taken, and its owner is asking who that is.
    Greeting,
    /// Somebody.
    Open,
    /// Nobody any more.
    Closed,
}

/// One session on one connection.
#[derive(Debug)]
pub struct Session {
    limits: Limits,
    state: State,
    /// Intervals of silence for which the client was asked.
    pings: u32,
    inflight: u32,
    refusals: u32,
    frames: u32,
    bytes: usize,
    /// The last sign of life, or the beginning.
    heard: Instant,
    bucket: Bucket,
    /// Hashes of the topics that are subscribed to; a collision only counts two as one.
    subs: Vec<u64>,
}

/// When a client was heard last, to be put back by an owner that speaks for a silent one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Silence {
    heard: Instant,
    pings: u32,
}

const _: () = assert!(size_of::<Session>() <= 192, "a million idle sessions are a million of these");

impl Session {
    /// A session whose connection has just opened.
    #[must_use]
    pub fn new(now: Instant, limits: Limits) -> Self {
        Self {
            limits,
            state: State::AwaitHello,
            pings: 0,
            inflight: 0,
            refusals: 0,
            frames: 0,
            bytes: 0,
            heard: now,
            bucket: Bucket::full(now),
            subs: Vec::new(),
        }
    }

    /// A message of `len` bytes arrived. Without a refusal it may be acted on; requests count as unanswered from here.
    ///
    /// # Errors
    /// The answer instead of the message's own.
    pub fn on_client(&mut self, now: Instant, len: usize, message: &Client<'_>) -> Result<(), Refusal> {
        self.admit(now, len)?;
        let checked = match (self.state, message) {
            (State::AwaitHello, Client::Hello(hello)) => self.greet(hello),
            (State::AwaitHello, Client::Ping { .. }) => Ok(()),
            (State::AwaitHello, _) => Err(Refusal::fatal(Code::Unauthenticated, "say hello first")),
            (State::Open, Client::Hello(_)) => Err(Refusal::new(Code::FailedPrecondition, "this session is open")),
            (State::Open, message) => self.take(message),
            (State::Greeting | State::Closed, _) => {
                Err(Refusal::fatal(Code::FailedPrecondition, "this session is not open"))
            }
        };
        self.count(checked)
    }

    /// Something of `len` bytes arrived that is no message. `None`: it may be skipped.
    pub fn on_undecodable(&mut self, now: Instant, len: usize, error: &DecodeError) -> Option<Refusal> {
        if let Err(refusal) = self.admit(now, len) {
            return Some(refusal);
        }
        let fatal = error.flaw == Flaw::Broken || self.state != State::Open;
        match error.flaw {
            Flaw::Ignorable => None,
            Flaw::Broken | Flaw::Invalid | Flaw::UnknownKind => {
                let refusal = Refusal { fatal, ..Refusal::new(error.code(), error.reason) };
                self.count::<()>(Err(refusal)).err()
            }
        }
    }

    /// The hello was accepted: whose session it is is known.
    pub fn open(&mut self, now: Instant) {
        if self.state == State::Greeting {
            self.state = State::Open;
            self.heard = now;
        }
    }

    /// The connection ends; nothing is due any more.
    pub fn close(&mut self) {
        self.state = State::Closed;
        self.subs = Vec::new();
    }

    /// Whether it is somebody's.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// A request was answered, by its result or an error.
    pub fn on_answered(&mut self) {
        self.inflight = self.inflight.saturating_sub(1);
    }

    /// A subscription was refused, or ended under its alias: it counts no longer.
    pub fn forget(&mut self, topic: &str) {
        let hash = hash(topic);
        self.subs.retain(|sub| *sub != hash);
        self.subs.shrink_to_fit();
    }

    /// A sign of life below the messages, as a WebSocket pong.
    pub fn on_traffic(&mut self, now: Instant) {
        if self.state == State::Open {
            self.heard = now;
            self.pings = 0;
        }
    }

    /// Since when the client is silent. An owner that says something in its place, such as a gateway that follows what is
    /// new, puts this back with [`Session::stay_silent`]: its own words are no sign of the client's life.
    #[must_use]
    pub fn silence(&self) -> Silence {
        Silence { heard: self.heard, pings: self.pings }
    }

    /// What was said since [`Session::silence`] was not said by the client. It counts against its rate all the same.
    pub fn stay_silent(&mut self, silence: Silence) {
        (self.heard, self.pings) = (silence.heard, silence.pings);
    }

    /// When [`Session::handle_timeout`] is to be called.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::AwaitHello | State::Greeting => Some(self.heard + self.limits.hello),
            State::Open => Some(self.ping_at().min(self.heard + self.limits.idle)),
            State::Closed => None,
        }
    }

    /// What is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<Action> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return None;
        }
        let reason = match self.state {
            State::Open if now < self.heard + self.limits.idle => {
                // Behind in time it asks once, not once per interval that has passed.
                self.pings = self.pings_due(now);
                return Some(Action::Ping);
            }
            State::Open => "the client was silent for too long",
            State::AwaitHello | State::Greeting | State::Closed => "no hello in time",
        };
        self.close();
        Some(Action::Close { reason })
    }

    fn ping_at(&self) -> Instant {
        self.heard + self.limits.ping * self.pings.saturating_add(1)
    }

    fn pings_due(&self, now: Instant) -> u32 {
        let silence = now.saturating_duration_since(self.heard).as_nanos();
        let pings = silence / self.limits.ping.as_nanos().max(1);
        u32::try_from(pings).unwrap_or(u32::MAX - 1)
    }

    /// Whether there is room for any message at all.
    fn admit(&mut self, now: Instant, len: usize) -> Result<(), Refusal> {
        if self.state == State::Open {
            self.on_traffic(now);
            let wait = self.bucket.take(now, self.limits.messages_per_sec, self.limits.messages_burst);
            return wait.or_else(|wait| self.count(Err(Refusal::exhausted("too many messages", wait))));
        }
        self.frames = self.frames.saturating_add(1);
        self.bytes = self.bytes.saturating_add(len);
        if self.frames > self.limits.hello_frames || self.bytes > self.limits.hello_bytes {
            return Err(Refusal::fatal(Code::ResourceExhausted, "too much before a hello"));
        }
        Ok(())
    }

    fn greet(&mut self, hello: &Hello<'_>) -> Result<(), Refusal> {
        let version = u32::from(VERSION);
        if !(hello.version_min..=hello.version_max).contains(&version) {
            return Err(Refusal::fatal(Code::FailedPrecondition, "this server speaks version 1"));
        }
        if hello.subs.len() > self.limits.subs {
            return Err(Refusal::fatal(Code::ResourceExhausted, TOO_MANY_SUBS));
        }
        if matches!(hello.credential, Credential::Token(_)) {
            named(name::device(&hello.device)).map_err(Refusal::and_close)?;
        }
        for sub in &hello.subs {
            named(name::topic(&sub.topic)).map_err(Refusal::and_close)?;
            self.subscribe(&sub.topic)?;
        }
        self.state = State::Greeting;
        Ok(())
    }

    fn take(&mut self, message: &Client<'_>) -> Result<(), Refusal> {
        if let Some(Topic::Name(topic)) = message.topic() {
            named(name::topic(topic))?;
        }
        let asks = message.id().is_some() && !matches!(message, Client::Ping { .. });
        if asks && self.inflight >= self.limits.requests_inflight {
            return Err(Refusal::exhausted("too many requests without an answer", RETRY_SOON));
        }
        match message {
            Client::Sub { topic: Topic::Name(topic), .. } => self.subscribe(topic)?,
            Client::Sub { topic: Topic::Alias(_), .. } => {
                return Err(Refusal::new(Code::InvalidArgument, "a subscription names its topic"));
            }
            Client::Unsub { topic: Topic::Name(topic), .. } => self.forget(topic),
            Client::Req { op, .. } => named(name::op(op))?,
            Client::Eph { key, .. } => named(name::key(key))?,
            Client::Unsub { topic: Topic::Alias(_), .. }
            | Client::Pub { .. }
            | Client::Ack { .. }
            | Client::Ping { .. }
            | Client::Hello(_) => {}
        }
        self.inflight += u32::from(asks);
        Ok(())
    }

    fn subscribe(&mut self, topic: &str) -> Result<(), Refusal> {
        let hash = hash(topic);
        if self.subs.contains(&hash) {
            return Ok(());
        }
        if self.subs.len() >= self.limits.subs {
            return Err(Refusal::new(Code::ResourceExhausted, TOO_MANY_SUBS));
        }
        self.subs.reserve_exact(1);
        self.subs.push(hash);
        Ok(())
    }

    /// Closes the session of somebody who does not listen.
    fn count<T>(&mut self, checked: Result<T, Refusal>) -> Result<T, Refusal> {
        let Err(refusal) = checked else {
            self.refusals = 0;
            return checked;
        };
        self.refusals += 1;
        Err(if self.refusals >= REFUSALS_MAX { refusal.and_close() } else { refusal })
    }
}

impl Refusal {
    const fn new(code: Code, message: &'static str) -> Self {
        Self { code, message, retry_ms: None, fatal: false }
    }

    const fn fatal(code: Code, message: &'static str) -> Self {
        Self { code, message, retry_ms: None, fatal: true }
    }

    fn exhausted(message: &'static str, wait: Duration) -> Self {
        // Rounded up: a client that waits exactly this long must not come a moment too early.
        let retry_ms = u32::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(u32::MAX);
        Self { retry_ms: Some(retry_ms), ..Self::new(Code::ResourceExhausted, message) }
    }

    fn and_close(self) -> Self {
        Self { fatal: true, ..self }
    }
}

fn named(checked: Result<(), name::NameError>) -> Result<(), Refusal> {
    checked.map_err(|error| Refusal::new(Code::InvalidArgument, error.reason()))
}

/// FNV-1a: no seed, so that runs are alike.
fn hash(topic: &str) -> u64 {
    topic.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

const TOO_MANY_SUBS: &str = "too many subscriptions";
// Answers take about as long as a group commit; a client that asks again after this has found room in tests.
const RETRY_SOON: Duration = Duration::from_millis(100);
