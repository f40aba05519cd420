//! Figures: what each shard counts, and their two faces, the text that Prometheus reads and the JSON of `/shards`.

mod catalogue;
mod endpoint;
mod journal;
mod label;
mod process;
mod quantum;
mod quic;
mod server;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use engine::ShardStats;
use serde::Serialize;

pub use self::{
    catalogue::Kind,
    endpoint::{Counted, EndpointStats, Figure},
    journal::JournalStats,
    quantum::QuantumStats,
    quic::QuicStats,
};
pub use catalogue::text;
pub use label::{CODES, DatagramDrop, Drop, Family, Status, Transport};
pub use server::ServerStats;

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
    /// Logins that stand.
    pub logins: AtomicU64,
    /// Logins that ended to make room for others.
    pub logins_displaced: AtomicU64,
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
    quantum: u64,
    quic: u64,
    half_open: u64,
    sessions: u64,
    topics: u64,
    journal_bytes: u64,
    journal_commits: u64,
    /// Why nothing can be published durably, if so.
    journal_trouble: Option<&'static str>,
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
        quantum: view.server.speaking(Transport::Quantum),
        quic: view.server.quic.figure("connections").unwrap_or(0),
        half_open: view.server.half_open.get(),
        sessions: view.server.sessions_open.get(),
        topics: view.server.topics.get(),
        journal_bytes: view.server.journal.figure("bytes"),
        journal_commits: view.server.journal.figure("commits_total"),
        journal_trouble: view.server.journal.trouble(),
        messages_in: view.server.messages_in.get(),
        messages_out: view.server.messages_out.get(),
        messages_in_per_sec: rounded(rate.messages_in, 10.0),
        messages_out_per_sec: rounded(rate.messages_out, 10.0),
        bytes_in: view.engine.bytes_in.get() + view.server.quantum.bytes().0 + view.server.quic.bytes().0,
        bytes_out: view.engine.bytes_out.get() + view.server.quantum.bytes().1 + view.server.quic.bytes().1,
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
    fn rates_are_over_the_last_sample() {
        let (now, view) = (Instant::now(), ShardView::default());
        let stats = Stats::new(vec![view.clone(), ShardView::default()], 0, now);
        view.server.messages_in.add(500);
        view.server.open(Transport::Quantum);
        view.engine.busy_ns.add(500_000_000);
        stats.sample(now + Duration::from_millis(50));
        stats.sample(now + Duration::from_secs(2));
        let json: serde_json::Value = serde_json::from_str(&shards_json(&stats, 5)).expect("JSON");
        let shard = &json["shards"][0];
        assert_eq!(
            (&shard["messages_in"], &shard["messages_in_per_sec"], &shard["busy_share"]),
            (&500.into(), &250.0.into(), &0.25.into())
        );
        assert_eq!(shard["quantum"], 1);
        assert_eq!(
            (&json["shards"][1]["messages_in_per_sec"], json["shards"].as_array().map(Vec::len)),
            (&0.0.into(), Some(2))
        );
        stats.sample(now + Duration::from_secs(3));
        let json: serde_json::Value = serde_json::from_str(&shards_json(&stats, 5)).expect("JSON");
        assert_eq!(json["shards"][0]["messages_in_per_sec"], 0.0);
    }
}
