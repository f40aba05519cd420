//! Publications that are acknowledged from disk: our server, the disk itself and other stores, in the same rounds.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use hdrhistogram::Histogram;
use serde::Serialize;
use thiserror::Error;

use crate::{
    compare::{CompareError, Ratio, Server},
    connection::Scenario,
    device::{self, Way},
    nats::{self, Nats},
    options::{Contest, Durable, Proto, Store},
    redis::Redis,
    report, run,
};

/// Acknowledgements in the time of one fdatasync that are aimed at.
const ACKS_PER_SYNC_MIN: f64 = 50.0;
/// How many times the fdatasync's 99th percentile that of an acknowledgement may be.
const TAIL_MAX: f64 = 3.0;

/// Why there is no result.
#[derive(Debug, Error)]
pub enum DurableError {
    /// Neither TCP nor WebSocket.
    #[error("--proto is tcp or ws here")]
    Proto,
    /// Files, or another server's process.
    #[error("{0}: {1}")]
    Io(String, io::Error),
    /// Our server.
    #[error(transparent)]
    Server(#[from] CompareError),
    /// A run.
    #[error(transparent)]
    Run(#[from] run::RunError),
}

/// One run of one server, with the disk before and after it.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// Acknowledgements per second of the window.
    pub acks_per_s: f64,
    /// From publishing to the acknowledgement.
    pub p50_us: f64,
    /// The same.
    pub p99_us: f64,
    /// The same.
    pub p999_us: f64,
    /// The server's time on its core for each.
    pub cpu_us: f64,
    /// fdatasync of 4 KiB, before and after the run.
    pub sync_p50_us: f64,
    /// The same.
    pub sync_p99_us: f64,
    /// Acknowledgements in the time of one fdatasync.
    pub acks_per_sync: f64,
    /// The 99th percentile of an acknowledgement by that of fdatasync.
    pub tail: f64,
    /// Refusals, lost connections and the like.
    pub errors: u64,
    /// Why this run does not count.
    pub void: Vec<String>,
}

/// All rounds of one server.
#[derive(Debug, Serialize)]
pub struct Series {
    /// Its name.
    pub name: &'static str,
    /// One sample per round.
    pub samples: Vec<Sample>,
    /// Acknowledgements per second, ours to this one: above 1 is good for us.
    pub rate_ratio: Option<Ratio>,
    /// 99th percentiles, ours to this one: below 1 is good for us.
    pub tail_ratio: Option<Ratio>,
}

/// All of it.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// The command line.
    pub plan: Durable,
    /// How the disk was probed.
    pub way: Option<Way>,
    /// Ours first.
    pub series: Vec<Series>,
    /// Who was not measured, and why.
    pub skipped: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Contender {
    Ours,
    Redis,
    Nats,
}

/// Runs all rounds.
pub fn durable(plan: &Durable) -> Result<Outcome, DurableError> {
    if !matches!(plan.proto, Proto::Tcp | Proto::Ws) {
        return Err(DurableError::Proto);
    }
    let (mut contenders, mut skipped) = (vec![Contender::Ours], Vec::new());
    for peer in &plan.peers {
        match peer {
            Store::Redis => contenders.push(Contender::Redis),
            Store::Nats => match nats::missing() {
                Some(why) => skipped.push(why),
                None => contenders.push(Contender::Nats),
            },
        }
    }
    let mut rounds = Rounds { plan, folder: Folder::new(plan)?, way: None };
    let mut series: Vec<Series> = contenders.iter().map(|contender| Series::new(contender.name())).collect();
    for round in 0..plan.rounds {
        let mut order: Vec<usize> = (0..contenders.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for at in order {
            let sample = rounds.sample(contenders[at])?;
            eprintln!("{} {}: {sample}", round + 1, contenders[at].name());
            series[at].samples.push(sample);
        }
    }
    let ours = series[0].samples.clone();
    for peer in &mut series[1..] {
        peer.rate_ratio = ratio(&ours, &peer.samples, |sample| sample.acks_per_s);
        peer.tail_ratio = ratio(&ours, &peer.samples, |sample| sample.p99_us);
    }
    Ok(Outcome { plan: plan.clone(), way: rounds.way, series, skipped })
}

fn ratio(ours: &[Sample], theirs: &[Sample], metric: impl Fn(&Sample) -> f64) -> Option<Ratio> {
    let counts = |pair: &(&Sample, &Sample)| pair.0.void.is_empty() && pair.1.void.is_empty();
    Ratio::of(ours.iter().zip(theirs).filter(counts).map(|(ours, theirs)| metric(ours) / metric(theirs)).collect())
}

struct Rounds<'p> {
    plan: &'p Durable,
    folder: Folder,
    way: Option<Way>,
}

impl Rounds<'_> {
    /// The disk, a server with a new folder, and the disk again.
    fn sample(&mut self, contender: Contender) -> Result<Sample, DurableError> {
        let mut syncs = self.probe()?;
        let data = self.folder.make(contender.name())?;
        let result = match contender {
            Contender::Ours => {
                let command = format!("{} --data {}", self.plan.ours, data.display());
                let server = Server::start(&command, self.plan.server_cpu, Contest::TcpEcho)?;
                run::run(Scenario::Durable, self.plan.options(server.addr, server.pid()))?.result()
            }
            Contender::Redis => {
                let redis = Redis::start(&data, self.plan.server_cpu);
                let redis = redis.map_err(|error| DurableError::Io("redis-server".to_owned(), error))?;
                let mut options = self.plan.options(redis.addr, redis.pid());
                options.proto = Proto::Tcp;
                run::run(Scenario::Redis, options)?.result()
            }
            Contender::Nats => {
                let nats = Nats::start(&data, self.plan.server_cpu);
                let nats = nats.map_err(|error| DurableError::Io("nats-server".to_owned(), error))?;
                let mut options = self.plan.options(nats.addr, nats.pid());
                options.proto = Proto::Tcp;
                run::run(Scenario::Nats, options)?.result()
            }
        };
        let after = self.probe()?;
        syncs.add(after).map_err(|error| DurableError::Io("the probe".to_owned(), io::Error::other(error)))?;
        Ok(Sample::new(&result, &syncs))
    }

    fn probe(&mut self) -> Result<Histogram<u64>, DurableError> {
        let (way, syncs) = device::probe(&self.folder.path, self.plan.syncs).map_err(io_error(&self.folder.path))?;
        self.way = Some(way);
        Ok(syncs)
    }
}

/// A folder of this process, removed when dropped: not before, because to remove files keeps a disk busy for a while.
struct Folder {
    path: PathBuf,
    made: u32,
}

impl Folder {
    fn new(plan: &Durable) -> Result<Self, DurableError> {
        let parent = plan.dir.clone().unwrap_or_else(std::env::temp_dir);
        let path = parent.join(format!("ringshard-durable-{}", std::process::id()));
        fs::create_dir(&path).map_err(io_error(&path))?;
        Ok(Self { path, made: 0 })
    }

    fn make(&mut self, name: &str) -> Result<PathBuf, DurableError> {
        self.made += 1;
        let path = self.path.join(format!("{name}-{}", self.made));
        fs::create_dir(&path).map_err(io_error(&path))?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is named by its process and harmless.
        drop(fs::remove_dir_all(&self.path));
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> DurableError + use<> {
    let path = path.display().to_string();
    move |error| DurableError::Io(path, error)
}

impl Contender {
    fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Redis => "redis",
            Self::Nats => "nats",
        }
    }
}

impl Series {
    fn new(name: &'static str) -> Self {
        Self { name, samples: Vec::new(), rate_ratio: None, tail_ratio: None }
    }

    fn spread(&self, metric: impl Fn(&Sample) -> f64) -> Option<Ratio> {
        Ratio::of(self.samples.iter().filter(|sample| sample.void.is_empty()).map(metric).collect())
    }
}

impl Sample {
    fn new(result: &report::Result, syncs: &Histogram<u64>) -> Self {
        let percentile = |name| result.latency_us.percentiles.get(name).copied().unwrap_or(f64::NAN);
        let sync = |part| syncs.value_at_quantile(part) as f64 / 1e3;
        let (p99_us, sync_p50_us, sync_p99_us) = (percentile("p99"), sync(0.5), sync(0.99));
        Self {
            acks_per_s: result.completed_per_s,
            p50_us: percentile("p50"),
            p99_us,
            p999_us: percentile("p99.9"),
            cpu_us: result.server.as_ref().and_then(|server| server.cpu_us_per_request).unwrap_or(f64::NAN),
            sync_p50_us,
            sync_p99_us,
            acks_per_sync: result.completed_per_s * sync_p50_us / 1e6,
            tail: p99_us / sync_p99_us,
            errors: result.faults.values().sum(),
            void: result.void_reasons.clone(),
        }
    }
}

impl std::fmt::Display for Sample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:.0} acks/s, p50 {:.0} us, p99 {:.0} us, p99.9 {:.0} us, {:.2} us on its core each; \
             fdatasync p50 {:.0} us, p99 {:.0} us: {:.1} acks in one, tail {:.2}, {} errors",
            self.acks_per_s,
            self.p50_us,
            self.p99_us,
            self.p999_us,
            self.cpu_us,
            self.sync_p50_us,
            self.sync_p99_us,
            self.acks_per_sync,
            self.tail,
            self.errors
        )?;
        if !self.void.is_empty() {
            write!(f, " VOID: {}", self.void.join("; "))?;
        }
        Ok(())
    }
}

impl Outcome {
    /// Whether a run does not count.
    #[must_use]
    pub fn is_void(&self) -> bool {
        self.series.iter().flat_map(|series| &series.samples).any(|sample| !sample.void.is_empty())
    }

    /// A table in Markdown, who was skipped, and how the aims were met.
    #[must_use]
    pub fn table(&self) -> String {
        let mut lines: Vec<String> = self
            .way
            .iter()
            .map(|way| {
                format!(
                    "fdatasync: after each of {} appended writes of {} bytes, {way}",
                    self.plan.syncs,
                    device::WRITE_BYTES
                )
            })
            .collect();
        lines.push(
            "| server | acks/s | p50 us | p99 us | p99.9 us | us on its core | fdatasync p50 us | fdatasync p99 us | \
             acks in one fdatasync | ack p99 / fdatasync p99 | ours/its acks/s | ours/its p99 |"
                .to_owned(),
        );
        lines.push(format!("|{}", "---|".repeat(12)));
        for series in &self.series {
            let cell = |metric: &dyn Fn(&Sample) -> f64, digits| show(&series.spread(metric), digits);
            let cells = [
                cell(&|sample| sample.acks_per_s, 0),
                cell(&|sample| sample.p50_us, 0),
                cell(&|sample| sample.p99_us, 0),
                cell(&|sample| sample.p999_us, 0),
                cell(&|sample| sample.cpu_us, 2),
                cell(&|sample| sample.sync_p50_us, 0),
                cell(&|sample| sample.sync_p99_us, 0),
                cell(&|sample| sample.acks_per_sync, 1),
                cell(&|sample| sample.tail, 2),
                show(&series.rate_ratio, 3),
                show(&series.tail_ratio, 3),
            ];
            lines.push(format!("| {} | {} |", series.name, cells.join(" | ")));
        }
        lines.extend(self.skipped.iter().cloned());
        if let Some(ours) = self.series.first() {
            let verdict = |met: bool| if met { "met" } else { "missed" };
            if let Some(product) = ours.spread(|sample| sample.acks_per_sync) {
                let met = verdict(product.median >= ACKS_PER_SYNC_MIN);
                lines.push(format!(
                    "acks in one fdatasync, at least {ACKS_PER_SYNC_MIN}: {met} ({:.1})",
                    product.median
                ));
            }
            if let Some(tail) = ours.spread(|sample| sample.tail) {
                let met = verdict(tail.median <= TAIL_MAX);
                lines.push(format!("ack p99 / fdatasync p99, at most {TAIL_MAX}: {met} ({:.2})", tail.median));
            }
        }
        lines.join("\n")
    }
}

fn show(ratio: &Option<Ratio>, digits: usize) -> String {
    match ratio {
        Some(ratio) => format!("{:.digits$} ({:.digits$}-{:.digits$})", ratio.median, ratio.min, ratio.max),
        None => "–".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::options::{self, Action};

    fn sample(acks_per_s: f64, tail: f64, void: bool) -> Sample {
        Sample {
            acks_per_s,
            p50_us: 500.0,
            p99_us: 100.0 * tail,
            p999_us: 900.0,
            cpu_us: 2.0,
            sync_p50_us: 1_000.0,
            sync_p99_us: 100.0,
            acks_per_sync: acks_per_s / 1e3,
            tail,
            errors: 0,
            void: if void { vec!["late".to_owned()] } else { vec![] },
        }
    }

    fn outcome(ours: Vec<Sample>) -> Outcome {
        let command = options::Command::parse_from(["load", "durable", "--ours", "x"]);
        let Action::Durable(plan) = command.action else { panic!("not durable") };
        let series = Series { samples: ours, ..Series::new("ours") };
        Outcome { plan, way: Some(Way::Direct), series: vec![series], skipped: vec!["nats: skipped".to_owned()] }
    }

    #[test]
    fn the_table_says_whether_the_aims_are_met_and_who_was_skipped() {
        let table = outcome(vec![sample(60_000.0, 2.0, false), sample(70_000.0, 2.5, false)]).table();
        assert!(table.contains("| ours | 65000 (60000-70000) |"), "{table}");
        assert!(table.contains("at least 50: met (65.0)") && table.contains("at most 3: met (2.25)"), "{table}");
        assert!(
            table.contains("500 appended writes of 4096 bytes, O_DIRECT") && table.contains("nats: skipped"),
            "{table}"
        );
        let table = outcome(vec![sample(40_000.0, 3.5, false)]).table();
        assert!(table.contains("at least 50: missed (40.0)") && table.contains("at most 3: missed (3.50)"), "{table}");
    }

    #[test]
    fn a_void_run_is_in_no_median_and_no_ratio() {
        let ours = vec![sample(60_000.0, 2.0, false), sample(1.0, 99.0, true)];
        let theirs = [sample(30_000.0, 2.0, false), sample(1.0, 1.0, false)];
        let rate = ratio(&ours, &theirs, |sample| sample.acks_per_s).expect("a round");
        assert_eq!((rate.median, rate.rounds), (2.0, 1));
        let outcome = outcome(ours);
        assert!(outcome.is_void() && outcome.table().contains("| 60000 (60000-60000) |"), "{}", outcome.table());
    }
}
