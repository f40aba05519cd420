//! Our server beside others: fresh processes, one core for the server and one for the load, runs interleaved as ABBA.

use std::{
    io::{self, BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use serde::Serialize;
use serde_json::Value;
use thiserror::Error;

use crate::options::{Amount, Compare, Contest};

/// How long a server may take until it says where it listens.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// How often a run that does not count is repeated.
const RETRIES: u32 = 2;
/// The name of our server in the results.
const OURS: &str = "ours";

/// Why there is no comparison.
#[derive(Debug, Error)]
pub enum CompareError {
    /// A process could not be started or watched.
    #[error("{command}: {error}")]
    Process {
        /// What was started.
        command: String,
        /// Why not.
        error: io::Error,
    },
    /// A server that never listens.
    #[error("{0}: it did not say `listening ... ADDR`")]
    Mute(String),
    /// A load without a result.
    #[error("the load on {server} failed: {message}")]
    Load {
        /// On which server.
        server: String,
        /// What it said.
        message: String,
    },
}

/// One run of one server.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    /// Microseconds of the server on its core per request.
    pub cpu_us: f64,
    /// Requests answered per second.
    pub per_s: f64,
    /// The median latency, if there were enough samples.
    pub p50_us: Option<f64>,
    /// The 99th percentile, if there were enough samples.
    pub p99_us: Option<f64>,
    /// Waits and preemptions per request.
    pub switches: f64,
    /// Requests without an answer, over the whole run.
    pub lost: u64,
    /// Why this run does not count.
    pub void: Vec<String>,
}

/// Ratios of ours to another's, round by round.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Ratio {
    /// The middle one.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// The quarter points.
    pub quartiles: (f64, f64),
    /// How many rounds count.
    pub rounds: usize,
}

/// All rounds of one server.
#[derive(Debug, Serialize)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// How it was started.
    pub command: String,
    /// One sample per round.
    pub samples: Vec<Sample>,
    /// Time on a core per request, ours to this one: below 1 is good for us.
    pub cpu_ratio: Option<Ratio>,
    /// Requests per second, ours to this one: above 1 is good for us.
    pub rate_ratio: Option<Ratio>,
}

/// A whole comparison.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// What was measured.
    pub contest: Contest,
    /// The amount of load.
    pub amount: Amount,
    /// Ours first.
    pub series: Vec<Series>,
}

/// Runs all rounds.
pub fn compare(plan: &Compare) -> Result<Comparison, CompareError> {
    let mut series = vec![Series::new(OURS, &plan.ours)];
    series.extend(plan.peers.iter().map(|peer| Series::new(&peer.name, &peer.command)));
    for round in 0..plan.pairs {
        let mut order: Vec<usize> = (0..series.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for at in order {
            let sample = counted_sample(plan, &series[at])?;
            eprintln!("{} {}: {sample}", round + 1, series[at].name);
            series[at].samples.push(sample);
        }
    }
    let ours = series[0].samples.clone();
    for peer in &mut series[1..] {
        peer.cpu_ratio = ratio(&ours, &peer.samples, |sample| sample.cpu_us);
        peer.rate_ratio = ratio(&ours, &peer.samples, |sample| sample.per_s);
    }
    Ok(Comparison { contest: plan.contest, amount: plan.amount.clone(), series })
}

fn counted_sample(plan: &Compare, series: &Series) -> Result<Sample, CompareError> {
    let mut sample = sample(plan, series)?;
    for _ in 0..RETRIES {
        if sample.void.is_empty() {
            break;
        }
        eprintln!("  {} again: {}", series.name, sample.void.join("; "));
        sample = self::sample(plan, series)?;
    }
    Ok(sample)
}

fn sample(plan: &Compare, series: &Series) -> Result<Sample, CompareError> {
    let server = Server::start(&series.command, plan.server_cpu, plan.contest)?;
    let load = load_command(plan, &server);
    let failed = |message: String| CompareError::Load { server: series.name.clone(), message };
    let mut command = pinned(plan.load_cpu, &std::env::current_exe().map_err(|error| failed(error.to_string()))?);
    let output = command.args(&load).stderr(Stdio::piped()).output().map_err(|error| failed(error.to_string()))?;
    let result: Value = serde_json::from_slice(&output.stdout).map_err(|_| {
        let said = String::from_utf8_lossy(&output.stderr);
        failed(said.lines().last().unwrap_or("no output").to_owned())
    })?;
    Sample::read(&result).ok_or_else(|| failed("a result without the server's time".to_owned()))
}

fn load_command(plan: &Compare, server: &Server) -> Vec<String> {
    let amount = &plan.amount;
    let (proto, more) = match plan.contest {
        Contest::TcpEcho => ("tcp", None),
        Contest::UdpEcho => ("udp", None),
        Contest::WsEcho => ("ws", None),
        Contest::H3Get => ("h3", None),
        Contest::H3Post => ("h3", Some("--post")),
        Contest::WtDatagram => ("webtransport", None),
        Contest::WtStream => ("webtransport", Some("--stream")),
    };
    let flags = [
        ("--proto", proto.to_owned()),
        ("--target", server.addr.to_string()),
        ("--server-pid", server.child.id().to_string()),
        ("--path", plan.path.clone()),
        ("--cpu", plan.load_cpu.to_string()),
        ("--json", "-".to_owned()),
        ("--rate", amount.rate.to_string()),
        ("--connections", amount.connections.to_string()),
        ("--inflight", amount.inflight.to_string()),
        ("--size", amount.size.to_string()),
        ("--secs", amount.secs.to_string()),
        ("--warmup", amount.warmup.to_string()),
        ("--train", amount.train.to_string()),
        ("--sources", amount.sources.to_string()),
        ("--spin-us", amount.spin_us.to_string()),
    ];
    let mut command = vec!["echo".to_owned(), "--raw".to_owned()];
    command.extend(more.map(str::to_owned));
    command.extend(flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]));
    command
}

/// A server's process, ended when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) addr: SocketAddr,
}

impl Server {
    /// Starts it on one core and waits until it says where it listens.
    pub(crate) fn start(command: &str, cpu: usize, contest: Contest) -> Result<Self, CompareError> {
        let failed = |error| CompareError::Process { command: command.to_owned(), error };
        let mut words = command.split_whitespace();
        let mut pinned = pinned(cpu, words.next().unwrap_or_default().as_ref());
        let mut child = pinned.args(words).stdout(Stdio::piped()).spawn().map_err(failed)?;
        let (sender, addresses) = mpsc::channel();
        if let Some(stdout) = child.stdout.take() {
            // Reads to the end, so that a talkative server never waits for us.
            thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(io::Result::ok) {
                    if let Some(addr) = listening(&line, contest) {
                        // Nobody waits for a second address.
                        let _ = sender.send(addr);
                    }
                }
            });
        }
        match addresses.recv_timeout(START_PATIENCE) {
            Ok(addr) => Ok(Self { child, addr }),
            Err(_) => {
                drop(child.kill());
                drop(child.wait());
                Err(CompareError::Mute(command.to_owned()))
            }
        }
    }
}

impl Server {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already; then there is nothing to end.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A command that stays on one core, and ends when this process does, by whatever. `setpriv` and `taskset` become the
/// command itself, so the process id is the server's.
pub(crate) fn pinned(cpu: usize, program: &std::path::Path) -> Command {
    let mut command = mortal("taskset");
    command.arg("-c").arg(cpu.to_string()).arg(program).stdin(Stdio::null());
    command
}

/// A command that does not outlive the thread that starts it, though nobody be left to end it.
pub(crate) fn mortal(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program);
    command
}

/// The address in `listening ADDR` or `listening NAME TRANSPORT ADDR`, if the transport is right.
fn listening(line: &str, contest: Contest) -> Option<SocketAddr> {
    let words: Vec<_> = line.strip_prefix("listening ")?.split_whitespace().collect();
    let transport = if contest.is_udp() { "udp" } else { "tcp" };
    match words[..] {
        [addr] => addr.parse().ok(),
        [.., named, addr] if named == transport => addr.parse().ok(),
        _ => None,
    }
}

fn ratio(ours: &[Sample], theirs: &[Sample], metric: impl Fn(&Sample) -> f64) -> Option<Ratio> {
    let ratios = ours
        .iter()
        .zip(theirs)
        .filter(|(ours, theirs)| ours.void.is_empty() && theirs.void.is_empty() && metric(theirs) > 0.0)
        .map(|(ours, theirs)| metric(ours) / metric(theirs));
    Ratio::of(ratios.collect())
}

impl Ratio {
    /// The middle, the ends and the quarters of one value for each round.
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let at = |part| quantile(&values, part);
        Some(Self { median: at(0.5), min, max, quartiles: (at(0.25), at(0.75)), rounds: values.len() })
    }
}

/// The value below which `part` of the sorted values lie, between neighbours in proportion.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let place = part * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    low + (high - low) * place.fract()
}

impl Series {
    fn new(name: &str, command: &str) -> Self {
        let (name, command) = (name.to_owned(), command.to_owned());
        Self { name, command, samples: Vec::new(), cpu_ratio: None, rate_ratio: None }
    }

    fn median(&self, metric: impl Fn(&Sample) -> f64) -> f64 {
        let mut values: Vec<f64> = self.samples.iter().map(metric).collect();
        values.sort_by(f64::total_cmp);
        if values.is_empty() { f64::NAN } else { quantile(&values, 0.5) }
    }
}

impl Sample {
    fn read(result: &Value) -> Option<Self> {
        let percentile = |name| result["latency_us"]["percentiles"][name].as_f64();
        let void =
            result["void_reasons"].as_array()?.iter().filter_map(|reason| Some(reason.as_str()?.to_owned())).collect();
        Some(Self {
            cpu_us: result["server"]["cpu_us_per_request"].as_f64()?,
            per_s: result["completed_per_s"].as_f64()?,
            p50_us: percentile("p50"),
            p99_us: percentile("p99"),
            switches: result["server"]["switches_per_request"].as_f64()?,
            lost: result["account"]["lost"].as_u64()?,
            void,
        })
    }
}

impl std::fmt::Display for Sample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.3} us/request, {:.0}/s, {:.3} switches/request", self.cpu_us, self.per_s, self.switches)?;
        if let (Some(p50), Some(p99)) = (self.p50_us, self.p99_us) {
            write!(f, ", p50 {p50:.1} us, p99 {p99:.1} us")?;
        }
        if self.lost > 0 {
            write!(f, ", {} lost", self.lost)?;
        }
        if !self.void.is_empty() {
            write!(f, " VOID: {}", self.void.join("; "))?;
        }
        Ok(())
    }
}

impl Comparison {
    /// A table in Markdown.
    #[must_use]
    pub fn table(&self) -> String {
        let mut lines = vec![
            "| server | us/request | requests/s | ours/its us/request: median (min-max) | ours/its requests/s |"
                .to_owned(),
            "|---|---|---|---|---|".to_owned(),
        ];
        let cell = |ratio: &Option<Ratio>| match ratio {
            Some(ratio) => format!("**{:.3}** ({:.3}-{:.3}, {})", ratio.median, ratio.min, ratio.max, ratio.rounds),
            None => "–".to_owned(),
        };
        for series in &self.series {
            lines.push(format!(
                "| {} | {:.3} | {:.0} | {} | {} |",
                series.name,
                series.median(|sample| sample.cpu_us),
                series.median(|sample| sample.per_s),
                cell(&series.cpu_ratio),
                cell(&series.rate_ratio)
            ));
        }
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(cpu_us: f64, void: bool) -> Sample {
        let void = if void { vec!["late".to_owned()] } else { vec![] };
        Sample { cpu_us, per_s: 1.0, p50_us: None, p99_us: None, switches: 0.0, lost: 0, void }
    }

    #[test]
    fn a_server_ends_with_whoever_started_it() {
        use std::os::unix::process::ExitStatusExt;

        let start = || {
            let child = pinned(0, "sleep".as_ref()).arg("60").spawn().expect("it starts");
            let has_begun =
                || std::fs::read(format!("/proc/{}/cmdline", child.id())).is_ok_and(|is| is.starts_with(b"sleep"));
            let patience = std::time::Instant::now() + START_PATIENCE;
            while !has_begun() && std::time::Instant::now() < patience {
                thread::yield_now();
            }
            child
        };
        let mut orphan = thread::spawn(start).join().expect("it was started");
        assert_eq!(orphan.wait().expect("it ends").signal(), Some(9));
    }

    #[test]
    fn ratios_pair_rounds_and_leave_void_ones_out() {
        let ours = [sample(2.0, false), sample(9.0, true), sample(3.0, false), sample(4.0, false)];
        let theirs = [sample(4.0, false), sample(1.0, false), sample(3.0, false), sample(2.0, false)];
        let ratio = ratio(&ours, &theirs, |sample| sample.cpu_us).expect("three rounds");
        assert_eq!(ratio, Ratio { median: 1.0, min: 0.5, max: 2.0, quartiles: (0.75, 1.5), rounds: 3 });
        assert_eq!(super::ratio(&ours[1..2], &theirs[1..2], |sample| sample.cpu_us), None);
    }

    #[test]
    fn a_server_says_where_it_listens() {
        let addr = Some(SocketAddr::from(([127, 0, 0, 1], 80)));
        assert_eq!(listening("listening 127.0.0.1:80", Contest::TcpEcho), addr);
        assert_eq!(listening("listening plain tcp 127.0.0.1:80", Contest::WsEcho), addr);
        assert_eq!(listening("listening secure udp 127.0.0.1:80", Contest::WsEcho), None);
        assert_eq!(listening("ready", Contest::WsEcho), None);
    }
}
