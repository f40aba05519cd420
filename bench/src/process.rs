//! What a server process costs: time on a core, context switches and memory, read from `/proc`. And how disturbed the
//! machine was.

use std::{fs, io, path::PathBuf};

/// A process that is watched from outside.
#[derive(Clone, Debug)]
pub struct Process {
    pid: u32,
}

/// Counters of all threads that exist at the moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Nanoseconds on a core.
    pub cpu_ns: u64,
    /// Times that a thread gave its core away because it had nothing to do.
    pub voluntary_switches: u64,
    /// Times that a thread's core was taken away.
    pub involuntary_switches: u64,
}

impl Process {
    /// The process `pid`.
    #[must_use]
    pub fn new(pid: u32) -> Self {
        Self { pid }
    }

    /// Counters of all its threads. Those of threads that ended are gone, so compare within a steady phase.
    pub fn usage(&self) -> io::Result<Usage> {
        let mut sum = Usage::default();
        for task in fs::read_dir(self.path("task"))? {
            let task = task?.path();
            // A thread may end between the listing and the reading.
            let (Ok(schedstat), Ok(status)) =
                (fs::read_to_string(task.join("schedstat")), fs::read_to_string(task.join("status")))
            else {
                continue;
            };
            sum.cpu_ns += parse_schedstat(&schedstat).ok_or(io::ErrorKind::InvalidData)?;
            sum.voluntary_switches += parse_field(&status, "voluntary_ctxt_switches").unwrap_or(0);
            sum.involuntary_switches += parse_field(&status, "nonvoluntary_ctxt_switches").unwrap_or(0);
        }
        Ok(sum)
    }

    /// Bytes of its memory that are resident, without pages of files.
    pub fn resident_bytes(&self) -> io::Result<u64> {
        let status = fs::read_to_string(self.path("status"))?;
        parse_field(&status, "RssAnon").map(|kib| kib * 1024).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn path(&self, file: &str) -> PathBuf {
        format!("/proc/{}/{file}", self.pid).into()
    }
}

impl Usage {
    /// What was used since `before`.
    #[must_use]
    pub fn since(self, before: Usage) -> Usage {
        Usage {
            cpu_ns: self.cpu_ns.saturating_sub(before.cpu_ns),
            voluntary_switches: self.voluntary_switches.saturating_sub(before.voluntary_switches),
            involuntary_switches: self.involuntary_switches.saturating_sub(before.involuntary_switches),
        }
    }
}

/// Ticks of all cores since the machine's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    total: u64,
    stolen: u64,
}

impl Machine {
    /// The counters now.
    pub fn now() -> io::Result<Self> {
        parse_stat(&fs::read_to_string("/proc/stat")?).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Which part of all time since `before` the hypervisor gave to others, from 0 to 1.
    #[must_use]
    pub fn stolen_since(self, before: Machine) -> f64 {
        let total = self.total.saturating_sub(before.total);
        self.stolen.saturating_sub(before.stolen) as f64 / total.max(1) as f64
    }
}

/// Processes that want a core, averaged over the last minute.
#[must_use]
pub fn load_average() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split_ascii_whitespace().next()?.parse().ok()
}

/// The line of all cores: user, nice, system, idle, iowait, irq, softirq, steal; what follows is counted in user already.
fn parse_stat(text: &str) -> Option<Machine> {
    let ticks: Vec<u64> = text.strip_prefix("cpu ")?.lines().next()?.split_whitespace().flat_map(str::parse).collect();
    Some(Machine { total: ticks.iter().take(8).sum(), stolen: *ticks.get(7)? })
}

/// The first number of a `schedstat`: nanoseconds on a core.
fn parse_schedstat(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// The number after `name:` in a `status`.
fn parse_field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Slope and intercept of the straight line that fits `points` best; `None` for fewer than two different x.
#[must_use]
pub fn linear_fit(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let count = points.len() as f64;
    let (mean_x, mean_y) = (
        points.iter().map(|point| point.0).sum::<f64>() / count,
        points.iter().map(|point| point.1).sum::<f64>() / count,
    );
    let spread: f64 = points.iter().map(|point| (point.0 - mean_x).powi(2)).sum();
    if points.len() < 2 || spread == 0.0 {
        return None;
    }
    let slope = points.iter().map(|point| (point.0 - mean_x) * (point.1 - mean_y)).sum::<f64>() / spread;
    Some((slope, mean_y - slope * mean_x))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tringshard\nVmRSS:\t  5000 kB\nRssAnon:\t    1234 kB\nThreads:\t3\n\
        voluntary_ctxt_switches:\t150\nnonvoluntary_ctxt_switches:\t545\n";

    #[test]
    fn fields_are_read_by_their_whole_name() {
        assert_eq!(parse_field(STATUS, "voluntary_ctxt_switches"), Some(150));
        assert_eq!(parse_field(STATUS, "nonvoluntary_ctxt_switches"), Some(545));
        assert_eq!(parse_field(STATUS, "RssAnon"), Some(1_234));
        assert_eq!(parse_field(STATUS, "Rss"), None);
        assert_eq!(parse_schedstat("472312 53740 1\n"), Some(472_312));
        assert_eq!(parse_schedstat(""), None);
    }

    #[test]
    fn stolen_time_is_a_part_of_all_time() {
        let before = parse_stat("cpu  10 0 10 70 0 0 0 10 5 0\ncpu0 1 1\n").expect("a line");
        let after = parse_stat("cpu  60 0 10 110 0 0 0 20 55 0\n").expect("a line");
        assert_eq!((before.total, before.stolen), (100, 10));
        assert!((after.stolen_since(before) - 0.1).abs() < 1e-9);
        assert_eq!(parse_stat("intr 5"), None);
        assert!(Machine::now().is_ok() && load_average().is_some());
    }

    #[test]
    fn this_process_uses_a_core_while_it_spins() {
        let process = Process::new(std::process::id());
        let before = process.usage().expect("/proc is mounted");
        let start = std::time::Instant::now();
        loop {
            let used = process.usage().expect("/proc is mounted").since(before);
            if used.cpu_ns > 1_000_000 {
                break;
            }
            assert!(start.elapsed().as_secs() < 10, "{used:?}");
        }
        assert!(process.resident_bytes().expect("/proc is mounted") > 100_000);
    }

    #[test]
    fn the_fit_finds_a_line_and_refuses_a_point() {
        let (slope, start) = linear_fit(&[(0.0, 10.0), (1.0, 12.0), (2.0, 14.0)]).expect("a line");
        assert!((slope - 2.0).abs() < 1e-9 && (start - 10.0).abs() < 1e-9);
        assert_eq!(linear_fit(&[(3.0, 1.0), (3.0, 2.0)]), None);
        assert_eq!(linear_fit(&[]), None);
    }
}
