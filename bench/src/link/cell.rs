//! One run: a link, the programs on it, and what came of it.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use serde_json::Value;

use super::{
    clock::{Anchor, now_ns},
    emulator::{Emulator, Outcome},
    plan::{Plan, Side, Workload},
    row::Row,
    scenario::Scenario,
    space::{CLIENT, LinkError, SERVER, Spaces},
    stack::{self, Stack},
};
use crate::process::{Machine, Process, Usage};

/// The priority of the programs, and that of all that belongs to this session.
const NICE: &str = "-15";
const GROUP_NICE: &str = "-20";
/// What programs get until the first of them may send: to start, and to shake hands.
const START: Duration = Duration::from_millis(300);
/// How long after the plan's end a program may take to report.
const PATIENCE: Duration = Duration::from_secs(5);
/// The server of the measured transport and that of its rival.
const PORTS: [u16; 2] = [4_433, 4_434];
/// The cores of servers and clients. The emulator runs on whichever it finds, before both.
const CORES: (usize, usize) = (0, 1);
/// Packets may be handed over so late at most: 99 %, and all but one in a thousand.
const LATE_NS_MAX: (u64, u64) = (300_000, 4_000_000);
/// Which part of a core a program may need on an emulated link.
const CORE_MAX: f64 = 0.95;
/// Which part of the machine's time the hypervisor may give to others.
const STOLEN_MAX: f64 = 0.02;

/// What is run.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The link.
    pub scenario: &'static Scenario,
    /// The transport.
    pub stack: &'static Stack,
    /// What is said.
    pub workload: Workload,
    /// Decides all that happens to packets by chance.
    pub seed: u64,
    /// Before the window.
    pub warmup: Duration,
    /// The window.
    pub window: Duration,
    /// After the window, for what is still on its way.
    pub grace: Duration,
    /// Where to log every packet.
    pub log: Option<PathBuf>,
}

/// Where programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The folder of ours.
    pub ours: PathBuf,
    /// The folder of the peers'.
    pub peers: PathBuf,
}

/// What one program reported and used.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Its account, or nothing if it failed.
    pub account: Option<Value>,
    /// The last thing that it said: why it failed, or what its transport counted.
    pub message: String,
    /// The part of a core that it used within the window.
    pub cores: f64,
}

/// A transport's two programs.
struct Part {
    server: Running,
    client: Running,
}

struct Running {
    child: Child,
    stdout: mpsc::Receiver<String>,
    stderr: mpsc::Receiver<String>,
    usage: (Usage, Usage),
}

impl Cell {
    /// Runs it; the reports are those of the transport's server and client, then its rival's.
    pub fn run(&self, programs: &Programs) -> Result<(Row, Vec<(Report, Report)>), LinkError> {
        // A priority counts within a session only, and sessions are equals, unless this is said too. A kernel without
        // such groups has no such file.
        drop(fs::write("/proc/self/autogroup", GROUP_NICE));
        let parts: Vec<(&Stack, u32)> = std::iter::once((self.stack, self.scenario.connections))
            .chain(self.scenario.rival.and_then(stack::find).map(|rival| (rival, 1)))
            .collect();
        let link = if self.scenario.has_link() { Some(Spaces::create()?) } else { None };
        let (spaces, ports) = link.unzip();
        if let Some(spaces) = &spaces {
            // Without it a TCP that meets a black hole in the path MTU never sends again.
            spaces.server.set("net/ipv4/tcp_mtu_probing", "1")?;
            spaces.client.set("net/ipv4/tcp_mtu_probing", "1")?;
        }
        let anchor = Anchor::now();
        let from_ns = now_ns() + nanos(START + self.warmup);
        let to_ns = from_ns + nanos(self.window);
        let window = (anchor.instant(from_ns), anchor.instant(to_ns));
        let (stop, machine) = (Arc::new(AtomicBool::new(false)), Machine::now().unwrap_or_default());
        let emulator = ports.map(|ports| {
            let setup = self.scenario.setup(self.seed, Instant::now(), window, self.log.is_some());
            let (emulator, stop) = (Emulator::new(ports, setup), stop.clone());
            thread::spawn(move || emulator.run(&stop))
        });
        let times = (from_ns, to_ns, to_ns + nanos(self.grace));
        let started = self.start(programs, spaces.as_ref(), &parts, times);
        let reports = started.map(|parts| watch(parts, times));
        let stolen = Machine::now().unwrap_or_default().stolen_since(machine);
        let dropped = spaces.as_ref().map_or(Ok(0), |both| Ok(both.server.dropped()? + both.client.dropped()?))?;
        stop.store(true, Ordering::Relaxed);
        let outcome = emulator.map(|thread| thread.join().unwrap_or_else(|_| Err(std::io::ErrorKind::Other.into())));
        let outcome = outcome.transpose().map_err(LinkError::kernel("the emulator"))?;
        let reports = reports?;
        if let (Some(path), Some(outcome)) = (&self.log, &outcome) {
            write_log(path, &anchor, outcome).map_err(LinkError::kernel("writing the log"))?;
        }
        let mut row = Row::new(self, &reports, outcome.as_ref());
        row.void = self.void(&reports, outcome.as_ref().map(|outcome| &outcome.late_ns), dropped, stolen);
        Ok((row, reports))
    }

    fn start(
        &self,
        programs: &Programs,
        spaces: Option<&Spaces>,
        parts: &[(&Stack, u32)],
        (from_ns, to_ns, end_ns): (u64, u64, u64),
    ) -> Result<Vec<Part>, LinkError> {
        let plan = |(number, (stack, connections)): (usize, &(&Stack, u32)), side| {
            let ip = if spaces.is_some() { SERVER } else { [127, 0, 0, 1].into() };
            let far = self.scenario.shape.far_rtt_ms > 0.0;
            let bind = if spaces.is_some() && side == Side::Client { &CLIENT[..1 + usize::from(far)] } else { &[] };
            Plan {
                side,
                addr: (ip, PORTS[number % 2]).into(),
                bind: bind.iter().map(|ip| (*ip, 0).into()).collect(),
                variant: stack.variant.to_owned(),
                workload: self.workload,
                connections: *connections,
                from_ns,
                to_ns,
                end_ns,
            }
        };
        let spawn = |part: (usize, &(&Stack, u32)), side| {
            let stack = part.1.0;
            let path = stack.path(&programs.ours, &programs.peers);
            let path = path.ok_or_else(|| LinkError::Unsupported(format!("{} is not built", stack.program)))?;
            let (space, cpu) = match side {
                Side::Server => (spaces.map(|both| &both.server), CORES.0),
                Side::Client => (spaces.map(|both| &both.client), CORES.1),
            };
            Running::start(space, cpu, &path, &plan(part, side))
        };
        let servers: Vec<Running> =
            parts.iter().enumerate().map(|part| spawn(part, Side::Server)).collect::<Result<_, _>>()?;
        for server in &servers {
            server.wait_listening()?;
        }
        let client = |(server, part)| Ok(Part { server, client: spawn(part, Side::Client)? });
        servers.into_iter().zip(parts.iter().enumerate()).map(client).collect()
    }

    /// Why the run does not count.
    fn void(
        &self,
        reports: &[(Report, Report)],
        late_ns: Option<&Histogram<u64>>,
        dropped: u64,
        stolen: f64,
    ) -> Vec<String> {
        let mut why = Vec::new();
        for (report, end) in reports.iter().flat_map(|(server, client)| [(server, "server"), (client, "client")]) {
            if report.account.is_none() {
                why.push(format!("{end} failed: {}", report.message));
            }
            if report.cores > CORE_MAX && self.scenario.has_link() {
                why.push(format!("{end} needed {:.2} of a core", report.cores));
            }
        }
        if let Some(late_ns) = late_ns {
            let late = (late_ns.value_at_quantile(0.99), late_ns.value_at_quantile(0.999));
            if late.0 > LATE_NS_MAX.0 || late.1 > LATE_NS_MAX.1 {
                let (p99, p999) = (late.0 as f64 / 1e6, late.1 as f64 / 1e6);
                why.push(format!("the link was late: p99 {p99:.3} ms, p99.9 {p999:.3} ms"));
            }
        }
        if dropped > 0 {
            why.push(format!("the emulator left {dropped} packets"));
        }
        if stolen > STOLEN_MAX {
            why.push(format!("{:.1} % of the time was stolen", stolen * 100.0));
        }
        why
    }
}

/// Follows the programs through the window and collects what they report.
fn watch(mut parts: Vec<Part>, (from_ns, to_ns, end_ns): (u64, u64, u64)) -> Vec<(Report, Report)> {
    sleep_until(from_ns);
    parts.iter_mut().flat_map(|part| [&mut part.server, &mut part.client]).for_each(|one| one.usage.0 = one.used());
    sleep_until(to_ns);
    parts.iter_mut().flat_map(|part| [&mut part.server, &mut part.client]).for_each(|one| one.usage.1 = one.used());
    let window_ns = to_ns - from_ns;
    let deadline_ns = end_ns + nanos(PATIENCE);
    parts
        .into_iter()
        .map(|part| (part.server.finish(deadline_ns, window_ns), part.client.finish(deadline_ns, window_ns)))
        .collect()
}

impl Running {
    fn start(space: Option<&super::space::Space>, cpu: usize, path: &Path, plan: &Plan) -> Result<Self, LinkError> {
        let mut command = match space {
            Some(space) => space.command(cpu),
            None => {
                let mut command = Command::new("taskset");
                command.args(["-c", &cpu.to_string()]).stdin(Stdio::null());
                command
            }
        };
        // Whoever else is on these cores must not be what is measured. Each of these commands becomes the next one, so
        // that the process id is the program's.
        command.args(["nice", "-n", NICE]).arg(path);
        command.args(plan.to_args()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(LinkError::kernel("starting a program"))?;
        let (stdout, stderr) = (lines(child.stdout.take()), tail(child.stderr.take()));
        Ok(Self { child, stdout, stderr, usage: Default::default() })
    }

    fn wait_listening(&self) -> Result<(), LinkError> {
        match self.stdout.recv_timeout(PATIENCE) {
            Ok(line) if line.starts_with("listening ") => Ok(()),
            _ => {
                let message = self.stderr.recv_timeout(START).unwrap_or_else(|_| "it does not listen".to_owned());
                Err(LinkError::Program { command: "a server".to_owned(), message })
            }
        }
    }

    fn used(&self) -> Usage {
        Process::new(self.child.id()).usage().unwrap_or_default()
    }

    fn finish(mut self, deadline_ns: u64, window_ns: u64) -> Report {
        let left = Duration::from_nanos(deadline_ns.saturating_sub(now_ns()));
        let line = self.stdout.recv_timeout(left).unwrap_or_default();
        let account = serde_json::from_str(&line).ok();
        let cores = self.usage.1.since(self.usage.0).cpu_ns as f64 / window_ns as f64;
        if account.is_none() {
            drop(self.child.kill());
        }
        let message = self.stderr.recv_timeout(START).unwrap_or_default();
        Report { account, message, cores }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may be gone already; then there is nothing to end.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn lines(from: Option<ChildStdout>) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    if let Some(from) = from {
        thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                // Nobody may wait for more.
                let _ = sender.send(line);
            }
        });
    }
    receiver
}

/// The last line of what a program says, once it has ended.
fn tail(from: Option<impl Read + Send + 'static>) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    if let Some(mut from) = from {
        thread::spawn(move || {
            let mut text = Vec::new();
            drop(from.read_to_end(&mut text));
            let text = String::from_utf8_lossy(&text);
            let _ = sender.send(text.lines().last().unwrap_or_default().to_owned());
        });
    }
    receiver
}

fn write_log(path: &Path, anchor: &Anchor, outcome: &Outcome) -> std::io::Result<()> {
    outcome.journal.write(anchor, &mut std::io::BufWriter::new(fs::File::create(path)?))
}

fn sleep_until(at_ns: u64) {
    thread::sleep(Duration::from_nanos(at_ns.saturating_sub(now_ns())));
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::scenario;

    fn cell() -> Cell {
        Cell {
            scenario: scenario::find("L2").expect("a link"),
            stack: &stack::PROBE,
            workload: Workload::Probe,
            seed: 1,
            warmup: Duration::ZERO,
            window: Duration::from_secs(1),
            grace: Duration::ZERO,
            log: None,
        }
    }

    fn report(account: Option<Value>, cores: f64) -> Report {
        Report { account, message: "no memory".to_owned(), cores }
    }

    /// How late a thousand packets were.
    fn late(usual_ns: u64, latest_ns: u64, of_them: u64) -> Histogram<u64> {
        let mut all = Histogram::new(3).expect("a precision");
        all.record_n(usual_ns, 1_000 - of_them).expect("in range");
        all.record_n(latest_ns, of_them).expect("in range");
        all
    }

    #[test]
    fn a_run_counts_only_if_nothing_but_the_link_was_in_its_way() {
        let good = [(report(Some(Value::Null), 0.5), report(Some(Value::Null), 0.9))];
        let (in_time, often, seldom) =
            (late(50_000, 250_000, 20), late(50_000, 400_000, 20), late(50_000, 9_000_000, 2));
        assert_eq!(cell().void(&good, Some(&in_time), 0, 0.01), [""; 0]);
        let why = |reports: &[(Report, Report)], late_ns, dropped, stolen| {
            let why = cell().void(reports, late_ns, dropped, stolen);
            assert_eq!(why.len(), 1, "{why:?}");
            why.concat()
        };
        let failed = [(report(Some(Value::Null), 0.5), report(None, 0.0))];
        assert_eq!(why(&failed, None, 0, 0.0), "client failed: no memory");
        let busy = [(report(Some(Value::Null), 0.97), report(Some(Value::Null), 0.1))];
        assert_eq!(why(&busy, None, 0, 0.0), "server needed 0.97 of a core");
        assert!(why(&good, Some(&often), 0, 0.0).starts_with("the link was late: p99 0.400 ms"));
        assert!(why(&good, Some(&seldom), 0, 0.0).contains("p99.9 9.00"));
        assert_eq!(why(&good, None, 3, 0.0), "the emulator left 3 packets");
        assert_eq!(why(&good, None, 0, 0.03), "3.0 % of the time was stolen");
    }
}
