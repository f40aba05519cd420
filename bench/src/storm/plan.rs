//! What a storm is: its clients, what they subscribe to and publish, and how the server is stopped.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, ValueEnum};
use serde::Serialize;
use session::Keys;

use crate::{
    options::{Codec, CpuList},
    schedule::SECOND_NS,
    stamp,
};

/// Clients of one shard of the generator, unless --threads says otherwise: a ring holds at most RLIMIT_NOFILE sockets,
/// a common hard limit is 20,000, and a client that comes back may meet its old socket still closing.
const CLIENTS_PER_SHARD_MAX: u32 = 12_000;
/// Bytes of the secret that signs the clients' tokens; the server of the run is given the same one.
pub(crate) const SECRET: &str = "a storm is no secret, and its server lives for one run";
/// How long a token is good for: longer than any run.
const TOKEN_SECS: u64 = 24 * 3600;

/// Clients that lose their server and come back, all at once.
#[derive(Args, Clone, Debug, Serialize)]
pub struct Storm {
    /// Our server's command, without `--data` and `--plain`: it is started, stopped and started again here.
    #[arg(long)]
    pub ours: String,
    /// Clients; an even number, because two at a time have a direct conversation.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(2..=999_998))]
    pub connections: u32,
    /// Clients of one room.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..))]
    pub members: u32,
    /// Publications per second over all clients, from a fixed schedule; half go to rooms, half to direct conversations.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u64).range(1..))]
    pub rate: u64,
    /// Bytes of a message's text; raised to what its stamp needs.
    #[arg(long, default_value_t = 128)]
    pub size: usize,
    /// How the server is stopped; may be given several times, and each is one round on the same data.
    #[arg(long = "stop", value_enum, default_values = ["term", "kill"])]
    pub stops: Vec<Stop>,
    /// Seconds of publishing before each stop, and behind the last one.
    #[arg(long, default_value_t = 5.0)]
    pub calm: f64,
    /// Seconds from the stop within which the last client is aimed to have resumed.
    #[arg(long, default_value_t = 15.0)]
    pub aim: f64,
    /// Seconds after which clients that have not come back are given up.
    #[arg(long, default_value_t = 120.0)]
    pub patience: f64,
    /// How session messages are written.
    #[arg(long, value_enum, default_value = "json")]
    pub codec: Codec,
    /// Source addresses out of 127.0.0.0/8 to spread clients over; 0: the kernel's choice.
    #[arg(long, default_value_t = 4)]
    pub sources: u16,
    /// Shards of the generator; by default one per core of --cpu, and one per 12,000 clients.
    #[arg(long, default_value_t = 0)]
    pub threads: u16,
    /// Cores of the generator: `1`, `0-3`, `0,2`.
    #[arg(long)]
    pub cpu: Option<CpuList>,
    /// What decides how long clients wait.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where the server's data goes; by default a new folder in the directory of temporary files, removed at the end.
    #[arg(long)]
    pub dir: Option<PathBuf>,
    /// Where to write the result as JSON; `-`: stdout.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

/// How a server is stopped.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stop {
    /// SIGTERM: it drains, and tells its clients to go.
    Term,
    /// SIGKILL: it tells nobody anything.
    Kill,
}

impl Storm {
    /// What cannot be done together, or `None`.
    #[must_use]
    pub fn conflict(&self) -> Option<&'static str> {
        if !self.connections.is_multiple_of(2) {
            return Some("--connections is even: two at a time have a conversation");
        }
        if self.members > self.connections {
            return Some("--members of one room are some of the --connections");
        }
        None
    }

    /// Shards of the generator.
    #[must_use]
    pub fn shards(&self) -> u16 {
        if self.threads > 0 {
            return self.threads;
        }
        let cpus = self.cpu.as_ref().map_or(1, |cpus| cpus.0.len());
        u16::try_from(cpus.max(self.connections.div_ceil(CLIENTS_PER_SHARD_MAX) as usize)).unwrap_or(u16::MAX)
    }

    /// The calm before a stop in nanoseconds.
    #[must_use]
    pub fn calm_ns(&self) -> u64 {
        (self.calm.max(0.0) * SECOND_NS as f64) as u64
    }
}

/// What all clients of a storm have in common.
pub(crate) struct Setup {
    pub(crate) plan: Storm,
    pub(crate) target: SocketAddr,
    keys: Keys,
}

/// What a client reads and writes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Room,
    Direct,
}

impl Place {
    pub(crate) const ALL: [Self; 2] = [Self::Room, Self::Direct];
}

impl Setup {
    pub(crate) fn new(plan: Storm, target: SocketAddr) -> Self {
        Self { plan, target, keys: Keys::new(SECRET.as_bytes()) }
    }

    /// The session's codec.
    pub(crate) fn codec(&self) -> session::Codec {
        match self.plan.codec {
            Codec::Json => session::Codec::Json,
            Codec::Proto => session::Codec::Binary,
        }
    }

    /// The WebSocket subprotocol that chooses it.
    pub(crate) fn subprotocol(&self) -> &'static str {
        match self.plan.codec {
            Codec::Json => "ringshard.json",
            Codec::Proto => "ringshard.proto",
        }
    }

    /// Bytes of a message's text.
    pub(crate) fn text_bytes(&self) -> usize {
        self.plan.size.max(stamp::STAMP_TEXT_BYTES)
    }

    fn rooms(&self) -> u32 {
        self.plan.connections.div_ceil(self.plan.members)
    }

    /// How many topics there are.
    pub(crate) fn topics(&self) -> u32 {
        self.rooms() + self.plan.connections / 2
    }

    /// The number of a client's topic.
    pub(crate) fn topic(&self, id: u32, place: Place) -> u32 {
        match place {
            Place::Room => id % self.rooms(),
            Place::Direct => self.rooms() + id / 2,
        }
    }

    /// How many clients read a topic.
    pub(crate) fn readers(&self, topic: u32) -> u64 {
        let (rooms, clients) = (self.rooms(), self.plan.connections);
        if topic < rooms { u64::from((clients - topic).div_ceil(rooms)) } else { 2 }
    }

    /// A topic's name.
    pub(crate) fn topic_name(&self, topic: u32) -> String {
        match topic.checked_sub(self.rooms()) {
            None => format!("chat/storm-{topic}"),
            Some(pair) => format!("chat/d/{}~{}", user(2 * pair), user(2 * pair + 1)),
        }
    }

    /// A client's token, from `now` on, in seconds since 1970.
    pub(crate) fn token(&self, id: u32, now: u64) -> String {
        self.keys.mint(now, &user(id), TOKEN_SECS, &[], false)
    }
}

/// A client's user. As many digits for each, so that the order of names is that of numbers.
pub(crate) fn user(id: u32) -> String {
    format!("storm-{id:06}")
}

#[cfg(test)]
pub(crate) mod tests {
    use clap::Parser;

    use super::*;
    use crate::options::{Action, Command};

    pub(crate) fn plan(flags: &str) -> Storm {
        let line = format!("load storm --ours x {flags}");
        match Command::parse_from(line.split_whitespace()).action {
            Action::Storm(plan) => plan,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_client_reads_one_room_and_one_conversation() {
        let setup = Setup::new(plan("--connections 250 --members 100"), SocketAddr::from(([127, 0, 0, 1], 1)));
        assert_eq!((setup.rooms(), setup.topics()), (3, 128));
        let mut readers = vec![0; 128];
        for (id, place) in (0..250).flat_map(|id| Place::ALL.map(|place| (id, place))) {
            readers[setup.topic(id, place) as usize] += 1;
        }
        for topic in 0..128 {
            assert_eq!(readers[topic as usize], setup.readers(topic), "{}", setup.topic_name(topic));
        }
        assert_eq!(setup.topic_name(2), "chat/storm-2");
        assert_eq!(setup.topic_name(3 + 62), "chat/d/storm-000124~storm-000125");
    }

    #[test]
    fn twenty_thousand_clients_take_two_rings_and_odd_ones_are_refused() {
        assert_eq!((plan("").shards(), plan("").stops), (2, vec![Stop::Term, Stop::Kill]));
        assert_eq!((plan("--threads 3").shards(), plan("--cpu 0-3").shards()), (3, 4));
        assert_eq!(plan("--connections 100").conflict(), None);
        assert!(plan("--connections 101").conflict().is_some());
        assert!(plan("--connections 50").conflict().is_some());
    }
}
