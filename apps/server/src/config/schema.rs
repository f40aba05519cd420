//! Every key of the configuration, once: its type, default, bounds, and the sentence that says what it is and why.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use toml::de::DeValue;

use super::setting::{self, Congestion, CpuList, Fec, Format, Level, Origins, Secret, Setting, TopicNames};

/// What the schema says about one key.
#[derive(Debug)]
pub struct Key {
    /// The table that it is in.
    pub section: &'static str,
    /// Its name in that table.
    pub name: &'static str,
    /// What it is, its unit, and why it has its default; a line each.
    pub doc: &'static [&'static str],
    /// The smallest and the largest value, as TOML.
    pub(super) bounds: fn() -> Option<(String, String)>,
    pub(super) set_text: fn(&mut Config, &str) -> Result<(), String>,
    pub(super) set_value: fn(&mut Config, &DeValue<'_>) -> Result<(), String>,
    pub(super) write: fn(&Config) -> Option<String>,
}

impl Key {
    /// `section.name`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}.{}", self.section, self.name)
    }

    /// The environment variable that sets it.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("RINGSHARD_{}_{}", self.section, self.name).to_ascii_uppercase()
    }
}

macro_rules! schema {
    ($(
        $(#[doc = $section_doc:literal])+
        $section:ident: $Section:ident {
            $( $(#[doc = $doc:literal])+ $key:ident: $Type:ty = $default:expr $(, $low:expr => $high:expr)? ; )+
        }
    )+) => {
        /// The whole configuration. `Config::default()` is what an empty file gives.
        #[derive(Clone, PartialEq, Debug, Default)]
        pub struct Config {
            $( $(#[doc = $section_doc])+ pub $section: $Section, )+
        }

        $(
            $(#[doc = $section_doc])+
            #[derive(Clone, PartialEq, Debug)]
            pub struct $Section {
                $( $(#[doc = $doc])+ pub $key: $Type, )+
            }

            impl Default for $Section {
                fn default() -> Self {
                    Self { $( $key: $default, )+ }
                }
            }
        )+

        /// The tables and what they are about, in the order in which they are printed.
        pub const SECTIONS: &[(&str, &[&str])] = &[$( (stringify!($section), &[$($section_doc),+]), )+];

        /// All keys, in the order in which they are printed.
        pub const KEYS: &[Key] = &[$($(
            Key {
                section: stringify!($section),
                name: stringify!($key),
                doc: &[$($doc),+],
                bounds: || {
                    let name = stringify!($key);
                    let bounds: &[($Type, $Type)] = &[$(($low, $high))?];
                    bounds.first().and_then(|(low, high)| Some((low.write(name)?, high.write(name)?)))
                },
                set_text: |config, text| {
                    let value: $Type = bounded(
                        <$Type>::from_text(stringify!($key), text), &[$(($low, $high))?], stringify!($key))?;
                    config.$section.$key = value;
                    Ok(())
                },
                set_value: |config, value| {
                    let value: $Type = bounded(
                        setting::read(stringify!($key), value), &[$(($low, $high))?], stringify!($key))?;
                    config.$section.$key = value;
                    Ok(())
                },
                write: |config| config.$section.$key.write(stringify!($key)),
            },
        )+)+];
    };
}

/// The value, if there is one and it is within its bounds; else the reason why not.
fn bounded<T: Setting>(value: Option<T>, bounds: &[(T, T)], key: &str) -> Result<T, String> {
    let value = value.ok_or_else(|| format!("must be {}", T::EXPECTED))?;
    match bounds.first() {
        Some((low, high)) if value < *low || value > *high => {
            let show = |bound: &T| bound.write(key).unwrap_or_default();
            Err(format!("must be from {} to {}", show(low), show(high)))
        }
        _ => Ok(value),
    }
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

schema! {
    /// The process: its shards, its cores, its data.
    server: Server {
        /// Shards, each one thread on one core. 0: one per physical core that this process may use, within its CPU quota.
        shards: u16 = 0, 0 => 256;
        /// Cores that shards may use, as "0-3,6". Empty: all that this process may use.
        cpus: CpuList = CpuList::default();
        /// Whether each shard is bound to its core. Turn it off where many processes share few cores.
        pin: bool = true;
        /// The directory for everything that must survive a restart: accounts, the secret, the self-made certificate.
        data: PathBuf = PathBuf::from("ringshard-data");
        /// Seconds that open connections have to finish after SIGTERM. 10 s is below the 30 s after which most
        /// supervisors kill.
        drain_secs: Duration = secs(10), secs(0) => secs(3600);
        /// Microseconds that an idle shard looks for work before it sleeps. More costs idle CPU and saves wake-ups: a
        /// wake-up costs about 50 us, so spinning for much longer than that does not pay.
        spin_us: Duration = Duration::from_micros(50), Duration::ZERO => Duration::from_millis(10);
        /// Connections that one shard holds; one above it is closed at once. They are direct descriptors, which the
        /// kernel bounds by the limit of open files for each shard.
        connections_max: usize = 65_536, 1 => 1_000_000;
    }

    /// Where the server listens. Port 0: any free port, named in the line `listening`.
    listen: Listen {
        /// TCP without TLS: HTTP/1.1, h2c, WebSocket and the framed protocol. Loopback, because nothing here is secret
        /// on a wire.
        plain: SocketAddr = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 8080);
        /// TCP with TLS 1.3, and UDP on the same port: one hole in the firewall for everything.
        secure: SocketAddr = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 8443);
        /// Health, metrics and debugging, without authentication: keep it on an address that only operators reach.
        admin: SocketAddr = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 9600);
        /// Origins whose pages may open sessions beside the server's own host, as `["https://chat.example.com"]`; "*"
        /// allows all, which lets any web page use its visitor's network place.
        origins: Origins = Origins::default();
    }

    /// The certificate of the secure listener; without one a self-made one, valid 13 days, is kept in the data directory.
    tls: Tls {
        /// A PEM file with the certificate, then its chain. Read again on SIGHUP.
        certificate: Option<PathBuf> = None;
        /// A PEM file with the private key of the certificate. Read again on SIGHUP.
        key: Option<PathBuf> = None;
    }

    /// The limit of every queue, table and buffer that a client can fill.
    limits: Limits {
        /// Bytes of one message on every transport. Larger things belong to files.
        frame_bytes: usize = 64 * KIB, 4 * KIB => 16 * MIB;
        /// Seconds for everything before the session: TLS handshake, HTTP upgrade, hello.
        hello_secs: Duration = secs(10), secs(1) => secs(300);
        /// Bytes that a client may send before its hello is accepted.
        hello_bytes: usize = 4 * KIB, 512 => 64 * KIB;
        /// Frames that a client may send before its hello is accepted.
        hello_frames: u32 = 10, 1 => 1000;
        /// Seconds of silence after which a session is closed.
        idle_secs: Duration = secs(60), secs(5) => secs(86_400);
        /// Seconds of silence after which the server asks whether the client is still there. Less than half of
        /// idle_secs, so that one lost answer does not end a session.
        ping_secs: Duration = secs(25), secs(1) => secs(43_200);
        /// Bytes queued for one connection from which on its messages wait in their topics instead of in memory. On TCP
        /// they wait there already when the kernel has no room for more.
        queue_soft_bytes: usize = 64 * KIB, 4 * KIB => 64 * MIB;
        /// Bytes queued for one connection at which it is closed, because it does not read.
        queue_hard_bytes: usize = 256 * KIB, 8 * KIB => 256 * MIB;
        /// Messages per second that one session may send in the long run.
        messages_per_sec: u32 = 10, 1 => 1_000_000;
        /// Messages that one session may send at once after a pause.
        messages_burst: u32 = 100, 1 => 1_000_000;
        /// Characters of a chat message.
        text_chars: usize = 5000, 1 => 1_000_000;
        /// Topics that one session may subscribe to.
        subs_per_session: usize = 256, 1 => 65_536;
        /// Requests of one session that may wait for their answer.
        requests_inflight: u32 = 64, 1 => 4096;
        /// Connections of one shard that have not said hello or sent a request yet; beyond it the oldest one is closed.
        /// 8,192 of at most 4 KiB each are 32 MiB.
        half_open_max: usize = 8192, 16 => 1_000_000;
        /// Topics that one shard is home of and has in memory: those with messages or listeners. Rooms that guests can
        /// make take half of the places. Of topics whose messages have gone, four times as many are known.
        topics_max: usize = 65_536, 1 => 16_777_216;
        /// Messages that the history of a topic holds.
        history_messages: usize = 1000, 1 => 1_000_000;
        /// Bytes that the history of a topic holds.
        history_bytes: usize = 4 * MIB, 64 * KIB => 1024 * MIB;
        /// Bytes of the head of an HTTP request: request line and all headers.
        http_head_bytes: usize = 16 * KIB, KIB => 256 * KIB;
        /// Bytes of the target of an HTTP request.
        http_target_bytes: usize = 4 * KIB, 64 => 64 * KIB;
        /// Bytes of the body of an HTTP request, other than uploads.
        http_body_bytes: usize = 64 * KIB, KIB => 16 * MIB;
        /// Seconds from the first byte of an HTTP request to the last one of its head; a client that sends a byte now
        /// and then must not hold a connection.
        http_head_secs: Duration = secs(10), secs(1) => secs(300);
        /// Seconds that an HTTP connection may be kept without a request.
        http_idle_secs: Duration = secs(60), secs(1) => secs(3600);
    }

    /// The journal in the data directory: what makes an acknowledgement mean "on disk".
    journal: Journal {
        /// Whether messages are on disk before they are acknowledged and shown. Without it, topics are in memory: a stop
        /// in good order keeps them, a crash does not.
        enabled: bool = true;
        /// Topics that are kept in memory all the same, acknowledged sooner and lost by a crash: names, or beginnings of
        /// names with a * behind, as ["chat/lobby", "chat/tmp-*"].
        in_memory: TopicNames = TopicNames::default();
        /// How long messages are kept. Readers who were away for longer are told of the gap.
        message_ttl: Duration = secs(30 * 24 * 3600), secs(60) => secs(100 * 365 * 24 * 3600);
        /// Bytes of one topic's messages on disk; beyond it its oldest go.
        topic_bytes: usize = 256 * MIB, MIB => 1024 * 1024 * MIB;
        /// Bytes of one shard's journal; beyond it the oldest messages go, whatever their topic.
        shard_bytes: usize = 8 * 1024 * MIB, 4 * MIB => 64 * 1024 * 1024 * MIB;
        /// Bytes of one file of the journal. They are reserved at once; what is not needed any more goes by whole files.
        segment_bytes: usize = 64 * MIB, MIB => 1024 * MIB;
    }

    /// Chat: what people may say, and how often.
    chat: Chat {
        /// A file of words that are not wanted in messages: one per line, after it perhaps a tab and "mask", which is the
        /// default, "flag" or "reject". Read again on SIGHUP.
        words: Option<PathBuf> = None;
        /// Messages that one user may publish in a second, with all its sessions together; 0: as many as
        /// its sessions may send, see limits.messages_per_sec and limits.messages_burst.
        rate_sec: u32 = 0, 0 => 1_000_000;
        /// Messages that one user may publish in a minute; 0: no limit. 100 are more than anybody types.
        rate_min: u32 = 100, 0 => 1_000_000;
        /// Messages that one user may publish in an hour; 0: no limit.
        rate_hour: u32 = 1_000, 0 => 1_000_000;
        /// Minutes before midnight in UTC at which a new day begins in conversations, which is said before its first
        /// message: 60 where clocks are an hour ahead, -300 where they are five hours behind.
        day_offset_min: i32 = 0, -840 => 840;
    }

    /// Quantum, on UDP on the port of the secure listener.
    quantum: Quantum {
        /// Seconds without a packet from a client after which its connection is given up. The client may ask for less.
        idle_secs: Duration = secs(60), secs(1) => secs(3600);
        /// Connections that one shard holds; beyond it new ones are refused. An idle one takes some KiB.
        connections_max: usize = 262_144, 1 => 16_777_216;
        /// Handshakes under way on one shard from which on a client must first show (by a Retry, which takes a round
        /// trip) that it receives at the address that it sends from.
        retry_above: usize = 256, 0 => 1_000_000;
        /// Handshakes under way on one shard; beyond it first packets are dropped. 4,096 of some 16 KiB are 64 MiB.
        half_open_max: usize = 4096, 1 => 1_000_000;
        /// Repair of losses ahead of time: "adaptive", as much as the losses of each connection ask for, or "off".
        fec: Fec = Fec::Adaptive;
        /// How the rate that a way takes is found: "bbr", by what arrives, or "cubic", by what is lost.
        congestion: Congestion = Congestion::Bbr;
    }

    /// QUIC, on the same port: HTTP/3 with WebTransport, and sessions on raw streams.
    quic: Quic {
        /// Whether it is spoken. Without it, browsers use TCP.
        enabled: bool = true;
        /// Seconds without a packet from a client after which its connection is given up. The client may ask for less.
        idle_secs: Duration = secs(60), secs(1) => secs(3600);
        /// Connections that one shard holds; beyond it new ones are dropped. An idle one takes some 20 KiB.
        connections_max: usize = 65_536, 1 => 1_000_000;
        /// Handshakes under way on one shard from which on a client must first show (by a Retry, which takes a round
        /// trip) that it receives at the address that it sends from.
        retry_above: usize = 256, 0 => 1_000_000;
        /// Handshakes under way on one shard; beyond it first packets are dropped. 2,048 of some 50 KiB are 100 MiB.
        half_open_max: usize = 2048, 1 => 1_000_000;
        /// How the rate that a way takes is found: "cubic", by what is lost, or "bbr", by what arrives.
        congestion: Congestion = Congestion::Cubic;
    }

    /// Who may come in.
    auth: Auth {
        /// The bytes that sign tokens and tickets, 32 at least; give it by RINGSHARD_AUTH_SECRET rather than in a file
        /// that others read. Unset: made once and kept in the data directory, readable by its owner only.
        secret: Option<Secret> = None;
        /// Whether anybody may come in under a free name, without a password.
        guest: bool = true;
        /// How long the token of a guest or of `ringshard token` is valid.
        token_ttl: Duration = secs(24 * 3600), secs(60) => secs(365 * 24 * 3600);
        /// How long the token of an account is valid, and with it a session; the refresh token gets the next one.
        access_ttl: Duration = secs(3600), secs(10) => secs(30 * 24 * 3600);
        /// How long a device stays logged in that does not renew its token.
        refresh_ttl: Duration = secs(30 * 24 * 3600), secs(10) => secs(365 * 24 * 3600);
        /// Devices that are logged in, of all accounts together; another one logs out one of the account that has the most
        /// of them, and there the one that has gone longest without renewing its token. With 4 times auth.accounts_max
        /// nobody with up to 4 devices is ever logged out so. 400,000 take 105 MiB of memory with 4 for
        /// each account, 180 with one.
        logins_max: usize = 400_000, 1 => 100_000_000;
        /// Renewals and logouts per minute from one address.
        refreshes_per_min_address: u32 = 600, 1 => 1_000_000;
        /// Accounts that may be registered. 100,000 take about 20 MiB of memory.
        accounts_max: usize = 100_000, 0 => 10_000_000;
        /// Attempts per minute from one address to log in under one name, right or wrong.
        logins_per_min: u32 = 10, 1 => 100_000;
        /// Attempts per minute from one address to log in or register.
        logins_per_min_address: u32 = 60, 1 => 1_000_000;
        /// Guests per minute from one address. A school behind one address is some thousand people.
        guests_per_min_address: u32 = 6000, 1 => 1_000_000;
        /// Memory that hashing a password takes, in KiB. 19 MiB in 2 passes is what OWASP asks of argon2id at least.
        argon2_kib: u32 = 19_456, 8 => 1_048_576;
        /// Passes over that memory.
        argon2_passes: u32 = 2, 1 => 64;
    }

    /// What is written to stderr.
    log: Log {
        /// From which level on: "error", "warn", "info", "debug" or "trace". Read again on SIGHUP.
        level: Level = Level::Info;
        /// "text" for people, "json" for one object per line.
        format: Format = Format::Text;
    }
}
