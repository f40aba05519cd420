//! Random messages out of a seed: short and long, plain and hard to write.

use std::borrow::Cow;

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use session::{Client, Code, Credential, Hello, Level, Names, Server, SubResult, SubState, Subscription, Topic};

/// A source of random messages.
pub(crate) struct Sample(StdRng);

const BODIES: [&str; 6] = [
    "{}",
    r#"{"type":"text","text":"hello"}"#,
    r#"{ "text" : "\u00e4 \"quoted\" \\ \n" , "list" : [ 1, -2.5e3, true, null, [], {} ] }"#,
    r#"{"a":{"b":{"c":{"d":[[[[0]]]]}}}}"#,
    r#"{"日本":"語 🎈","":""}"#,
    r#"{"kind":"err","from":"mallory","topic":1}"#,
];

impl Sample {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }

    pub(crate) fn rng(&mut self) -> &mut StdRng {
        &mut self.0
    }

    /// A text with whatever is hard in JSON.
    fn text(&mut self) -> Cow<'static, str> {
        const PIECES: [&str; 12] =
            ["a", "chat/lobby", "\"", "\\", "\n", "\u{0}", "\u{1f}", "\u{7f}", "ä", "🎈", "\u{2028}", "01234567"];
        let len = self.0.random_range(0..12);
        let text: String = (0..len).map(|_| *PIECES.choose(&mut self.0).unwrap()).collect();
        text.into()
    }

    /// A text that is not empty, where an empty one is as good as none.
    fn name(&mut self) -> Cow<'static, str> {
        format!("chat/{}", self.text()).into()
    }

    fn number(&mut self) -> u64 {
        self.0.random::<u64>() >> self.0.random_range(0..64)
    }

    fn short(&mut self) -> u32 {
        self.0.random::<u32>() >> self.0.random_range(0..32)
    }

    fn id(&mut self) -> u32 {
        self.short().max(1)
    }

    fn maybe(&mut self) -> Option<u64> {
        self.0.random_bool(0.5).then(|| self.number())
    }

    fn body(&mut self) -> &'static [u8] {
        BODIES.choose(&mut self.0).unwrap().as_bytes()
    }

    fn topic(&mut self) -> Topic<'static> {
        Topic::Name(self.name())
    }

    fn code(&mut self) -> Code {
        *Code::ALL.choose(&mut self.0).unwrap()
    }

    fn names(&mut self) -> Names<'static> {
        let count = self.0.random_range(0..4);
        Names::Read((0..count).map(|_| self.text()).collect())
    }

    pub(crate) fn client(&mut self) -> Client<'static> {
        match self.0.random_range(0..8) {
            0 => Client::Hello(self.hello()),
            1 => Client::Sub { id: self.id(), topic: self.topic(), epoch: self.maybe(), after: self.maybe() },
            2 => Client::Unsub { id: self.id(), topic: self.topic() },
            3 => Client::Pub { id: self.id(), topic: self.topic(), seq: self.maybe(), body: self.body() },
            4 => Client::Eph { topic: self.topic(), key: self.text(), body: self.body() },
            5 => Client::Ack { topic: self.topic(), delivered: self.number(), read: self.number() },
            6 => Client::Req { id: self.id(), op: self.text(), body: self.body() },
            _ => Client::Ping { id: self.id() },
        }
    }

    fn hello(&mut self) -> Hello<'static> {
        let credential = if self.0.random_bool(0.5) {
            Credential::Token(self.name())
        } else {
            Credential::Resume { session: self.text(), ticket: self.text() }
        };
        let mut hello = Hello::new(self.id(), credential, self.text());
        if self.0.random_bool(0.5) {
            (hello.version_min, hello.version_max, hello.features) = (self.short(), self.short(), self.number());
        }
        for _ in 0..self.0.random_range(0..4) {
            hello.subs.push(Subscription { topic: self.name(), epoch: self.maybe(), after: self.maybe() });
        }
        hello
    }

    pub(crate) fn server(&mut self) -> Server<'static> {
        let (topic, alias) = (self.name(), 0);
        match self.0.random_range(0..12) {
            0 => self.welcome(),
            1 => Server::SubOk { id: self.id(), topic, alias, epoch: self.number(), head: self.number() },
            2 => Server::UnsubOk { id: self.id(), topic },
            3 => {
                let level = *[Level::Memory, Level::Durable].choose(&mut self.0).unwrap();
                Server::PubOk { id: self.id(), topic, offset: self.number(), level }
            }
            4 => Server::Res { id: self.id(), body: self.body() },
            5 => Server::Pong { id: self.short(), at_ms: self.number() },
            6 => {
                let (id, retry_ms) = (self.0.random_bool(0.5).then(|| self.id()), self.maybe().map(|n| n as u32));
                Server::Err { id, code: self.code(), message: self.text(), retry_ms }
            }
            7 => {
                let (offset, at_ms) = (self.number(), self.number());
                Server::Msg { topic, alias, offset, from: self.text(), at_ms, body: self.body() }
            }
            8 => Server::Eph { topic, alias, from: self.text(), key: self.text(), body: self.body() },
            9 => Server::Presence { topic, alias, joined: self.names(), left: self.names(), count: self.short() },
            10 => Server::Gap { topic, alias, first: self.number() },
            _ => Server::Goaway { reason: self.text(), retry_ms: self.short() },
        }
    }

    fn welcome(&mut self) -> Server<'static> {
        let mut subs = Vec::new();
        for _ in 0..self.0.random_range(0..4) {
            let state = if self.0.random_bool(0.5) {
                SubState::Ok { alias: 0, epoch: self.number(), head: self.number() }
            } else {
                SubState::Refused { code: self.code(), message: self.text() }
            };
            subs.push(SubResult { topic: self.name(), state });
        }
        let (session, user, ticket) = (self.text(), self.text(), self.text());
        Server::Welcome { id: self.id(), session, user, ticket, shard: self.short(), ping_ms: self.short(), subs }
    }
}
