//! Figures: what each shard counts, and their two faces, the text that Prometheus reads and the JSON of `/shards`.

mod catalogue;
mod process;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use engine::{Counter, ShardStats};
use handler::Code;
use serde::Serialize;

pub use catalogue::text;

macro_rules! label {
    ($(#[$doc:meta])+ $Type:ident { $($(#[$variant_doc:meta])+ $Variant:ident = $name:literal,)+ }) => {
        $(#[$doc])+
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $Type { $($(#[$variant_doc])+ $Variant,)+ }

        impl $Type {
            /// All of them, in order.
            pub const ALL: &[Self] = &[$(Self::$Variant,)+];

            /// The value of the label.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$Variant => $name,)+ }
            }
        }
    };
}

label! {
    /// What a connection speaks; it starts as `New` and is counted again when it is known.
    Transport {
        /// Not known yet.
        New = "new",
        /// The framed byte stream.
        Tcp = "tcp",
        /// HTTP/1.1.
        Http1 = "http1",
        /// HTTP/2.
        Http2 = "http2",
        /// WebSocket.
        Websocket = "websocket",
    }
}

label! {
    /// Why a connection was ended, or something was thrown away, by us.
    Drop {
        /// More connections than server.connections_max.
        ConnectionsMax = "connections_max",
        /// More than limits.half_open_max without a hello.
        HalfOpenMax = "half_open_max",
        /// No hello in time.
        HelloLate = "hello_late",
        /// Too much before the hello.
        HelloLarge = "hello_large",
        /// Neither HTTP nor the preface.
        Protocol = "protocol",
        /// The TLS handshake failed, or a record is broken.
        Tls = "tls",
        /// A request that breaks HTTP's rules.
        Http = "http",
        /// A frame that breaks WebSocket's rules.
        Websocket = "websocket",
        /// A frame that breaks the session protocol's rules.
        Frame = "frame",
        /// A message larger than limits.frame_bytes.
        FrameLarge = "frame_large",
        /// No token, a forged or an expired one.
        Unauthenticated = "unauthenticated",
        /// An origin that is not listed.
        Origin = "origin",
        /// A message above the session's rate.
        Rate = "rate",
        /// A client that does not read: its queue is full.
        QueueFull = "queue_full",
        /// Silence.
        Idle = "idle",
        /// The server is stopping.
        Draining = "draining",
    }
}

label! {
    /// The hundreds of an HTTP status.
    Status {
        /// 1xx.
        Informational = "1xx",
        /// 2xx.
        Success = "2xx",
        /// 3xx.
        Redirect = "3xx",
        /// 4xx.
        ClientError = "4xx",
        /// 5xx.
        ServerError = "5xx",
    }
}

impl Status {
    /// The class of a status.
    #[must_use]
    pub fn of(status: u16) -> Self {
        match status {
            ..200 => Self::Informational,
            200..300 => Self::Success,
            300..400 => Self::Redirect,
            400..500 => Self::ClientError,
            500.. => Self::ServerError,
        }
    }
}

/// A counter for each value of a label.
#[derive(Debug)]
pub struct Family<const N: usize>([Counter; N]);

impl<const N: usize> Default for Family<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl<const N: usize> Family<N> {
    fn at(&self, index: usize) -> &Counter {
        // The labels are closed enums and N is their count, which `catalogue`'s tests hold.
        &self.0[index]
    }
}

/// All codes, for the label.
pub const CODES: [Code; 12] = [
    Code::InvalidArgument,
    Code::NotFound,
    Code::AlreadyExists,
    Code::PermissionDenied,
    Code::Unauthenticated,
    Code::ResourceExhausted,
    Code::FailedPrecondition,
    Code::OutOfRange,
    Code::Unimplemented,
    Code::Internal,
    Code::Unavailable,
    Code::DeadlineExceeded,
];

/// What one shard counts about connections, sessions and messages. Only its shard writes; aligned so that no two shards
/// write one cache line.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ServerStats {
    opened: Family<5>,
    open: Family<5>,
    drops: Family<16>,
    errors: Family<12>,
    requests: Family<5>,
    /// TLS handshakes that were completed.
    pub tls_handshakes: Counter,
    /// Connections without a hello or a request yet (gauge).
    pub half_open: Counter,
    /// Sessions that are open (gauge).
    pub sessions_open: Counter,
    /// Sessions that said hello.
    pub sessions: Counter,
    /// Of them, those that took up an earlier one.
    pub sessions_resumed: Counter,
    /// Messages from clients.
    pub messages_in: Counter,
    /// Messages to clients.
    pub messages_out: Counter,
    /// Bytes of messages from clients.
    pub message_bytes_in: Counter,
    /// Bytes of messages to clients.
    pub message_bytes_out: Counter,
    /// Times that a client's queue crossed its soft limit.
    pub lagging: Counter,
    /// Topics that are at home here (gauge).
    pub topics: Counter,
    /// Bytes queued for clients (gauge).
    pub queue_bytes: Counter,
}

impl ServerStats {
    /// A connection speaks `transport` from now on.
    pub fn open(&self, transport: Transport) {
        self.opened.at(transport as usize).add(1);
        let open = self.open.at(transport as usize);
        open.set(open.get() + 1);
    }

    /// A connection that spoke `transport` is gone, or speaks another one from now on.
    pub fn close(&self, transport: Transport) {
        let open = self.open.at(transport as usize);
        open.set(open.get().saturating_sub(1));
    }

    /// Connections that are open.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.open.0.iter().map(Counter::get).sum()
    }

    /// Something was ended or thrown away by us.
    pub fn drop_for(&self, reason: Drop) {
        self.drops.at(reason as usize).add(1);
    }

    /// What was dropped for a reason.
    #[must_use]
    pub fn dropped(&self, reason: Drop) -> u64 {
        self.drops.at(reason as usize).get()
    }

    /// An error was answered to a client.
    pub fn error(&self, code: Code) {
        self.errors.at(code_index(code)).add(1);
    }

    /// An HTTP request was answered.
    pub fn request(&self, status: u16) {
        self.requests.at(Status::of(status) as usize).add(1);
    }
}

fn code_index(code: Code) -> usize {
    match code {
        Code::InvalidArgument => 0,
        Code::NotFound => 1,
        Code::AlreadyExists => 2,
        Code::PermissionDenied => 3,
        Code::Unauthenticated => 4,
        Code::ResourceExhausted => 5,
        Code::FailedPrecondition => 6,
        Code::OutOfRange => 7,
        Code::Unimplemented => 8,
        Code::Internal => 9,
        Code::Unavailable => 10,
        Code::DeadlineExceeded => 11,
    }
}

/// One shard's two sets of counters.
#[derive(Clone, Debug, Default)]
pub struct ShardView {
    /// The server's.
    pub server: Arc<ServerStats>,
    /// The engine's.
    pub engine: Arc<ShardStats>,
}

/// Figures of the process that no shard counts; whoever knows one sets it.
#[derive(Debug, Default)]
pub struct Figures {
    /// The last second at which the certificate is valid, since 1970.
    pub certificate_not_after: AtomicU64,
    /// Accounts.
    pub accounts: AtomicU64,
    /// Jobs that wait for the housekeeping thread.
    pub jobs_waiting: AtomicU64,
    /// Jobs done by the housekeeping thread.
    pub jobs_done: AtomicU64,
    /// Jobs refused because the queue of the housekeeping thread was full.
    pub jobs_refused: AtomicU64,
    /// Log lines dropped.
    pub log_dropped: AtomicU64,
    /// Times that SIGHUP read the configuration again.
    pub reloads: AtomicU64,
    /// Times that this failed and the one before stayed.
    pub reloads_failed: AtomicU64,
}

/// All figures of a server.
#[derive(Debug)]
pub struct Stats {
    shards: Vec<ShardView>,
    /// Figures of the process.
    pub figures: Figures,
    started_ms: u64,
    rates: ArcSwap<Vec<Rate>>,
    last: Mutex<Sample>,
}

/// How much per second, over the last sample.
#[derive(Clone, Copy, Default, Debug)]
struct Rate {
    messages_in: f64,
    messages_out: f64,
    busy: f64,
}

#[derive(Debug)]
struct Sample {
    at: Instant,
    // Messages in, messages out and busy nanoseconds of every shard.
    totals: Vec<[u64; 3]>,
}

/// Samples closer than this are not taken: rates over less are noise.
const SAMPLE_MIN: Duration = Duration::from_millis(100);

impl Stats {
    /// The figures of these shards, in their order; `started_ms` is when the server started, since 1970.
    #[must_use]
    pub fn new(shards: Vec<ShardView>, started_ms: u64, now: Instant) -> Self {
        let totals = shards.iter().map(totals).collect();
        let rates = ArcSwap::from_pointee(vec![Rate::default(); shards.len()]);
        Self { shards, figures: Figures::default(), started_ms, rates, last: Mutex::new(Sample { at: now, totals }) }
    }

    /// The counters of every shard.
    #[must_use]
    pub fn shards(&self) -> &[ShardView] {
        &self.shards
    }

    /// Takes a sample for the rates; the housekeeping thread does so every second.
    pub fn sample(&self, now: Instant) {
        let Ok(mut last) = self.last.lock() else { return };
        let passed = now.saturating_duration_since(last.at);
        if passed < SAMPLE_MIN {
            return;
        }
        let totals: Vec<_> = self.shards.iter().map(totals).collect();
        let rates = totals.iter().zip(&last.totals).map(|(new, old)| rate(*new, *old, passed)).collect();
        self.rates.store(Arc::new(rates));
        *last = Sample { at: now, totals };
    }
}

fn totals(shard: &ShardView) -> [u64; 3] {
    [shard.server.messages_in.get(), shard.server.messages_out.get(), shard.engine.busy_ns.get()]
}

fn rate(new: [u64; 3], old: [u64; 3], passed: Duration) -> Rate {
    // Differences of counters are far below 2^53 within a second.
    #[allow(clippy::cast_precision_loss)]
    let [messages_in, messages_out, busy_ns] =
        [0, 1, 2].map(|at| new[at].saturating_sub(old[at]) as f64 / passed.as_secs_f64());
    Rate { messages_in, messages_out, busy: (busy_ns / 1e9).min(1.0) }
}

#[derive(Serialize)]
struct ShardsJson {
    at_ms: u64,
    uptime_ms: u64,
    version: &'static str,
    shards: Vec<ShardJson>,
}

#[derive(Serialize)]
struct ShardJson {
    shard: usize,
    connections: u64,
    half_open: u64,
    sessions: u64,
    topics: u64,
    messages_in: u64,
    messages_out: u64,
    messages_in_per_sec: f64,
    messages_out_per_sec: f64,
    bytes_in: u64,
    bytes_out: u64,
    queue_bytes: u64,
    mailbox_depth: u64,
    turns: u64,
    enters: u64,
    busy_share: f64,
}

/// The document of `/shards` and `/api/v1/shards`: totals since the start, rates over the last second. `at_ms` is the
/// time, since 1970.
#[must_use]
pub fn shards_json(stats: &Stats, at_ms: u64) -> String {
    let rates = stats.rates.load();
    let shards = stats.shards.iter().zip(rates.iter()).enumerate().map(|(shard, (view, rate))| ShardJson {
        shard,
        connections: view.server.connections(),
        half_open: view.server.half_open.get(),
        sessions: view.server.sessions_open.get(),
        topics: view.server.topics.get(),
        messages_in: view.server.messages_in.get(),
        messages_out: view.server.messages_out.get(),
        messages_in_per_sec: rounded(rate.messages_in, 10.0),
        messages_out_per_sec: rounded(rate.messages_out, 10.0),
        bytes_in: view.engine.bytes_in.get(),
        bytes_out: view.engine.bytes_out.get(),
        queue_bytes: view.server.queue_bytes.get(),
        mailbox_depth: view.engine.mail_queued.get(),
        turns: view.engine.turns.get(),
        enters: view.engine.enters.get(),
        busy_share: rounded(rate.busy, 1000.0),
    });
    let json = ShardsJson {
        at_ms,
        uptime_ms: at_ms.saturating_sub(stats.started_ms),
        version: env!("CARGO_PKG_VERSION"),
        shards: shards.collect(),
    };
    serde_json::to_string(&json).unwrap_or_default()
}

fn rounded(value: f64, steps: f64) -> f64 {
    (value * steps).round() / steps
}

fn load(figure: &AtomicU64) -> u64 {
    figure.load(Ordering::Relaxed)
}

/// Writes into a string, which never fails.
macro_rules! line {
    ($out:expr, $($rest:tt)*) => { let _ = writeln!($out, $($rest)*); };
}
use line;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_families_have_the_same_size_and_order() {
        assert_eq!((Transport::ALL.len(), Drop::ALL.len(), Status::ALL.len()), (5, 16, 5));
        for (index, code) in CODES.iter().enumerate() {
            assert_eq!(code_index(*code), index);
        }
        assert!(Drop::ALL.iter().enumerate().all(|(index, reason)| *reason as usize == index));
        let stats = ServerStats::default();
        Drop::ALL.iter().for_each(|reason| stats.drop_for(*reason));
        assert!(Drop::ALL.iter().all(|reason| stats.dropped(*reason) == 1));
        [100, 204, 301, 404, 503, 999].iter().for_each(|status| stats.request(*status));
        assert_eq!(stats.requests.0.each_ref().map(Counter::get), [1, 1, 1, 1, 2]);
    }

    #[test]
    fn a_connection_that_changes_its_protocol_is_still_one() {
        let stats = ServerStats::default();
        stats.open(Transport::New);
        stats.close(Transport::New);
        stats.open(Transport::Http1);
        assert_eq!(stats.connections(), 1);
        stats.close(Transport::Http1);
        stats.close(Transport::Http1);
        assert_eq!(stats.connections(), 0);
    }

    #[test]
    fn rates_are_over_the_last_sample() {
        let (now, view) = (Instant::now(), ShardView::default());
        let stats = Stats::new(vec![view.clone(), ShardView::default()], 0, now);
        view.server.messages_in.add(500);
        view.engine.busy_ns.add(500_000_000);
        stats.sample(now + Duration::from_millis(50));
        stats.sample(now + Duration::from_secs(2));
        let json: serde_json::Value = serde_json::from_str(&shards_json(&stats, 5)).expect("JSON");
        let shard = &json["shards"][0];
        assert_eq!(
            (&shard["messages_in"], &shard["messages_in_per_sec"], &shard["busy_share"]),
            (&500.into(), &250.0.into(), &0.25.into())
        );
        assert_eq!(
            (&json["shards"][1]["messages_in_per_sec"], json["shards"].as_array().map(Vec::len)),
            (&0.0.into(), Some(2))
        );
        stats.sample(now + Duration::from_secs(3));
        let json: serde_json::Value = serde_json::from_str(&shards_json(&stats, 5)).expect("JSON");
        assert_eq!(json["shards"][0]["messages_in_per_sec"], 0.0);
    }
}
