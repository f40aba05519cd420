//! All cells of links, workloads and transports, seed by seed and interleaved, written line by line as they are
//! measured.

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use clap::Args;
use thiserror::Error;

use super::{
    cell::{Cell, Programs},
    floor,
    plan::Workload,
    report,
    row::{COLUMNS, Row},
    scenario::{self, SMOKE, STANDARD, Scenario},
    space::{self, LinkError},
    stack::{self, STACKS, Stack},
};

/// How often a run that does not count is repeated.
const RETRIES: u32 = 1;
/// Seconds of a window and before it in the smoke subset: 132 runs must stay below 20 minutes.
const SMOKE_SECS: (f64, f64) = (4.0, 1.0);
/// Longest RTTs that the time after a window must hold.
const GRACE_RTTS: f64 = 6.0;
const GRACE_MIN: Duration = Duration::from_millis(1_200);
/// How often the self-test is tried: one stall of the machine must not end a run of hours.
const PROBES_MAX: u32 = 4;
/// How far above the link's delay 99 % of the probe's packets may be.
const PROBE_ERROR_MS_MAX: f64 = 0.3;

/// What `link-matrix` runs.
#[derive(Args, Clone, Debug)]
pub struct Matrix {
    /// Links, such as L0,L2,F1; by default the standard ones. `--list` names them.
    #[arg(long, value_delimiter = ',')]
    pub scenarios: Vec<String>,
    /// Transports, such as quantum,quinn-bbr,tcp-cubic; by default all.
    #[arg(long, value_delimiter = ',')]
    pub stacks: Vec<String>,
    /// canvas, ordered, game, bulk or mixed; by default those of each link.
    #[arg(long, value_delimiter = ',')]
    pub workloads: Vec<Workload>,
    /// Seeds of the links: 1 to this.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: u64,
    /// Seconds that count.
    #[arg(long, default_value_t = 8.0)]
    pub secs: f64,
    /// Seconds before them.
    #[arg(long, default_value_t = 2.0)]
    pub warmup: f64,
    /// The subset that stays below 20 minutes: six links, canvas and bulk, one seed.
    #[arg(long)]
    pub smoke: bool,
    /// Where to write one line per run; lines of an earlier run in it are kept.
    #[arg(long)]
    pub csv: Option<PathBuf>,
    /// Where to write the report of all lines of the CSV.
    #[arg(long)]
    pub html: Option<PathBuf>,
    /// Only write the report of the CSV as it is.
    #[arg(long, requires = "csv")]
    pub report_only: bool,
    /// The folder of the peers' programs.
    #[arg(long, default_value = "bench/peers/target/release")]
    pub peers: PathBuf,
    /// Say which links and transports there are, and end.
    #[arg(long)]
    pub list: bool,
}

/// What `link` runs: one cell.
#[derive(Args, Clone, Debug)]
pub struct One {
    /// The link; `link-matrix --list` names them.
    #[arg(default_value = "L2")]
    pub scenario: String,
    /// The transport; by default the probe, which tests the link itself.
    #[arg(long, default_value = "probe")]
    pub stack: String,
    /// canvas, ordered, game, bulk or mixed.
    #[arg(long, default_value = "canvas")]
    pub workload: Workload,
    /// Of the link.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Seconds that count.
    #[arg(long, default_value_t = 5.0)]
    pub secs: f64,
    /// Seconds before them.
    #[arg(long, default_value_t = 1.0)]
    pub warmup: f64,
    /// Where to log what happened to each packet, as CSV.
    #[arg(long)]
    pub log: Option<PathBuf>,
    /// The folder of the peers' programs.
    #[arg(long, default_value = "bench/peers/target/release")]
    pub peers: PathBuf,
}

/// Why there is no matrix.
#[derive(Debug, Error)]
pub enum MatrixError {
    /// A name that is none.
    #[error("there is no {kind} `{name}`; `link-matrix --list` names them")]
    Unknown {
        /// What was named.
        kind: &'static str,
        /// How.
        name: String,
    },
    /// A link failed.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A file could not be read or written.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The link is not exact enough on this machine as it is now.
    #[error("the link's self-test failed: {0}; is something else running?")]
    Inexact(String),
}

/// Runs one cell and prints it; false if it does not count.
pub fn one(options: &One) -> Result<bool, MatrixError> {
    if let Some(why) = space::obstacle() {
        eprintln!("link: skipped: {why}");
        return Ok(true);
    }
    let programs = programs(&options.peers)?;
    if options.stack == stack::PROBE.name {
        return self_test(&programs, options.log.clone()).map(|said| {
            println!("{said}");
            true
        });
    }
    let cell = Cell {
        scenario: find_scenario(&options.scenario)?,
        stack: find_stack(&options.stack)?,
        workload: options.workload,
        seed: options.seed,
        warmup: seconds(options.warmup),
        window: seconds(options.secs),
        grace: grace(find_scenario(&options.scenario)?),
        log: options.log.clone(),
    };
    let (row, reports) = cell.run(&programs)?;
    println!("{row}");
    for (server, client) in &reports {
        println!("server: {}\nclient: {}", server.message, client.message);
    }
    Ok(row.void.is_empty())
}

/// Runs all cells; false if one of them does not count.
pub fn matrix(options: &Matrix) -> Result<bool, MatrixError> {
    if options.list {
        list();
        return Ok(true);
    }
    if options.report_only {
        return write_report(options, &read(options)?).map(|()| true);
    }
    if let Some(why) = space::obstacle() {
        eprintln!("link-matrix: skipped: {why}");
        return Ok(true);
    }
    let programs = programs(&options.peers)?;
    let cells = cells(options, &programs)?;
    if cells.iter().any(|cell| cell.scenario.has_link()) {
        eprintln!("{}", self_test(&programs, None)?);
    }
    let mut rows = read(options)?;
    let commit = commit();
    let mut all_count = true;
    for (number, cell) in cells.iter().enumerate() {
        let mut row = counted(cell, &programs)?;
        row.commit.clone_from(&commit);
        eprintln!("{}/{} {row}", number + 1, cells.len());
        all_count &= row.void.is_empty();
        append(options, &row)?;
        rows.push(row);
    }
    write_report(options, &rows)?;
    Ok(all_count)
}

/// Sends a thousand plain datagrams per second over a clean link and says how exact it was; fails if it was not.
pub fn self_test(programs: &Programs, log: Option<PathBuf>) -> Result<String, MatrixError> {
    let scenario = find_scenario("L0")?;
    let cell = Cell {
        scenario,
        stack: &stack::PROBE,
        workload: Workload::Probe,
        seed: 1,
        warmup: seconds(0.3),
        window: seconds(2.0),
        grace: GRACE_MIN,
        log,
    };
    let mut said = String::new();
    for _ in 0..PROBES_MAX {
        let (row, _) = cell.run(programs)?;
        let delay_ms = scenario.shape.rtt_ms / 2.0;
        let (Some(p50), Some(p99)) = (row.way_p50_ms, row.way_p99_ms) else {
            said = format!("no probe arrived: {}", row.void.join("; "));
            continue;
        };
        let (p50, p99, lost) = (p50 - delay_ms, p99 - delay_ms, row.lost.unwrap_or(0));
        said = format!("probe: p50 {p50:.3} ms and p99 {p99:.3} ms above the delay of the link, {lost} lost");
        if !row.void.is_empty() {
            said += &format!(", void: {}", row.void.join("; "));
        } else if p99 <= PROBE_ERROR_MS_MAX && p50 >= 0.0 && lost == 0 {
            return Ok(said);
        }
    }
    Err(MatrixError::Inexact(said))
}

/// The cells in the order of running: every transport once, in turning order, before the next seed.
fn cells(options: &Matrix, programs: &Programs) -> Result<Vec<Cell>, MatrixError> {
    let standard = if options.smoke { SMOKE } else { STANDARD };
    let names: Vec<&str> = match options.scenarios.is_empty() {
        true => standard.to_vec(),
        false => options.scenarios.iter().map(String::as_str).collect(),
    };
    let scenarios = names.into_iter().map(find_scenario).collect::<Result<Vec<_>, _>>()?;
    let named = options.stacks.iter().map(|name| find_stack(name)).collect::<Result<Vec<_>, _>>()?;
    let stacks: Vec<&Stack> = if named.is_empty() { built(programs) } else { named };
    let seeds = if options.smoke { 1 } else { options.seeds };
    let (secs, warmup) = if options.smoke { SMOKE_SECS } else { (options.secs, options.warmup) };
    let mut cells = Vec::new();
    for seed in 1..=seeds {
        for scenario in &scenarios {
            for workload in workloads(options, scenario) {
                let turn = cells.len() / stacks.len().max(1) % stacks.len().max(1);
                for at in 0..stacks.len() {
                    cells.push(Cell {
                        scenario,
                        stack: stacks[(at + turn) % stacks.len()],
                        workload,
                        seed,
                        warmup: seconds(warmup),
                        window: seconds(secs),
                        grace: grace(scenario),
                        log: None,
                    });
                }
            }
        }
    }
    Ok(cells)
}

fn workloads(options: &Matrix, scenario: &Scenario) -> Vec<Workload> {
    let wanted = if options.workloads.is_empty() { scenario.workloads } else { &options.workloads };
    let in_smoke = |workload: &Workload| matches!(workload, Workload::Canvas | Workload::Bulk);
    wanted.iter().copied().filter(|workload| !options.smoke || in_smoke(workload)).collect()
}

/// The transports whose programs are there.
fn built(programs: &Programs) -> Vec<&'static Stack> {
    let (there, missing): (Vec<&Stack>, Vec<&Stack>) =
        STACKS.iter().partition(|stack| stack.path(&programs.ours, &programs.peers).is_some());
    if !missing.is_empty() {
        let names: Vec<_> = missing.iter().map(|stack| stack.name).collect();
        eprintln!("link-matrix: not built, left out: {}", names.join(", "));
    }
    there
}

fn counted(cell: &Cell, programs: &Programs) -> Result<Row, MatrixError> {
    let (mut row, _) = cell.run(programs)?;
    for _ in 0..RETRIES {
        if row.void.is_empty() {
            break;
        }
        eprintln!("  again: {row}");
        (row, _) = cell.run(programs)?;
    }
    Ok(row)
}

fn programs(peers: &Path) -> Result<Programs, MatrixError> {
    let path = env::current_exe().map_err(LinkError::kernel("finding this program"))?;
    let ours = path.parent().map(Path::to_owned).unwrap_or_default();
    Ok(Programs { ours, peers: peers.to_owned() })
}

fn find_scenario(name: &str) -> Result<&'static Scenario, MatrixError> {
    scenario::find(name).ok_or_else(|| MatrixError::Unknown { kind: "link", name: name.to_owned() })
}

fn find_stack(name: &str) -> Result<&'static Stack, MatrixError> {
    stack::find(name).ok_or_else(|| MatrixError::Unknown { kind: "transport", name: name.to_owned() })
}

fn grace(scenario: &Scenario) -> Duration {
    let rtt_ms = scenario.shape.rtt_ms * (1.0 + scenario.shape.queue) + scenario.shape.far_rtt_ms;
    seconds(rtt_ms * GRACE_RTTS / 1_000.0).max(GRACE_MIN)
}

fn read(options: &Matrix) -> Result<Vec<Row>, MatrixError> {
    let Some(path) = options.csv.as_ref().filter(|path| path.exists()) else { return Ok(Vec::new()) };
    let text = fs::read_to_string(path).map_err(|error| MatrixError::File { path: path.clone(), error })?;
    Ok(text.lines().skip(1).filter_map(Row::from_csv).collect())
}

fn append(options: &Matrix, row: &Row) -> Result<(), MatrixError> {
    let Some(path) = &options.csv else { return Ok(()) };
    let failed = |error| MatrixError::File { path: path.clone(), error };
    let is_new = !path.exists();
    let mut file = fs::OpenOptions::new().create(true).append(true).open(path).map_err(failed)?;
    if is_new {
        writeln!(file, "{}", COLUMNS.join(",")).map_err(failed)?;
    }
    writeln!(file, "{}", row.to_csv()).map_err(failed)
}

fn write_report(options: &Matrix, rows: &[Row]) -> Result<(), MatrixError> {
    for line in floor::check(rows) {
        eprintln!("{line}");
    }
    let Some(path) = &options.html else { return Ok(()) };
    fs::write(path, report::html(rows)).map_err(|error| MatrixError::File { path: path.clone(), error })
}

fn commit() -> String {
    let output = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

fn list() {
    for scenario in scenario::SCENARIOS {
        let workloads: Vec<_> = scenario.workloads.iter().map(|workload| workload.name()).collect();
        println!("{:4} {} ({})", scenario.name, scenario.about, workloads.join(", "));
    }
    let names: Vec<_> = STACKS.iter().map(|stack| stack.name).collect();
    println!("transports: {}", names.join(", "));
}

fn seconds(secs: f64) -> Duration {
    Duration::from_secs_f64(secs.max(0.0))
}
