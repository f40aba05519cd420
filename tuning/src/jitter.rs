//! How long a CPU is taken away from a thread that never sleeps: the gaps between laps of a spin loop.

use std::{
    sync::{Arc, Barrier},
    thread,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use rustix::thread::{CpuSet, sched_setaffinity};
use serde::Serialize;

use crate::{CpuList, Error, Root, Table, involuntary_switches, steal_ticks};

/// The longest run: an hour shows what happens once in an hour.
pub const SECS_MAX: u64 = 3600;

/// A lap shorter than this is the loop itself (two clock reads, tens of nanoseconds), not a gap.
const GAP_NS_MIN: u64 = 1_000;

/// Longer gaps are counted as this long. Beyond a minute the machine was suspended.
const GAP_NS_MAX: u64 = 60_000_000_000;

/// Three digits keep a percentile within 0.1 %.
const DIGITS: u8 = 3;

/// Upper bounds of the columns of the histogram; the last column has the rest.
const BOUNDS_NS: [u64; 5] = [10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// The gaps of one CPU.
#[derive(Clone, Debug)]
pub struct Gaps {
    histogram: Histogram<u64>,
    total_ns: u64,
}

impl Gaps {
    /// None yet.
    ///
    /// # Errors
    /// Never with these bounds.
    pub fn new() -> Result<Self, hdrhistogram::CreationError> {
        Ok(Self { histogram: Histogram::new_with_bounds(1, GAP_NS_MAX, DIGITS)?, total_ns: 0 })
    }

    /// Counts a lap, if it is long enough to be a gap.
    pub fn add(&mut self, lap_ns: u64) {
        if lap_ns >= GAP_NS_MIN {
            self.histogram.saturating_record(lap_ns);
            self.total_ns = self.total_ns.saturating_add(lap_ns);
        }
    }

    /// How many gaps are in each decade: below 10 µs, 100 µs, 1 ms, 10 ms, 100 ms, and longer.
    #[must_use]
    pub fn decades(&self) -> [u64; 6] {
        let mut counts = [0; 6];
        for value in self.histogram.iter_recorded() {
            let column = BOUNDS_NS.iter().filter(|bound| value.value_iterated_to() >= **bound).count();
            counts[column] += value.count_since_last_iteration();
        }
        counts
    }
}

/// What happened to one CPU.
#[derive(Clone, Debug, Serialize)]
pub struct CpuJitter {
    /// The CPU.
    pub cpu: usize,
    /// Laps of the loop.
    pub laps: u64,
    /// Gaps of at least a microsecond.
    pub gaps: u64,
    /// Of 1-10 µs, 10-100 µs, 100 µs-1 ms, 1-10 ms, 10-100 ms, and longer.
    pub decades: [u64; 6],
    /// Half of the gaps are not longer.
    pub p50_ns: u64,
    /// 99 % of the gaps are not longer.
    pub p99_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// All gaps together, in millionths of the run.
    pub lost_ppm: u64,
    /// Time that the hypervisor took, in whole ticks; `None`: the kernel does not say.
    pub steal_ms: Option<u64>,
    /// How often the scheduler took the CPU away; `None`: the kernel does not say.
    pub involuntary_switches: Option<u64>,
}

/// What happened to all of them.
#[derive(Clone, Debug, Serialize)]
pub struct Jitter {
    /// How long it was watched.
    pub secs: u64,
    /// A row for each CPU.
    pub cpus: Vec<CpuJitter>,
}

/// Spins on each of the CPUs at the same time for `secs` seconds. `root` has the live machine's `proc`.
///
/// # Errors
/// When a CPU may not be used by this process.
pub fn jitter(root: &Root, secs: u64, cpus: &CpuList) -> Result<Jitter, Error> {
    // All begin together: otherwise the first would be measured while the others are still being started.
    let start = Arc::new(Barrier::new(cpus.cpus().len()));
    let mut threads = Vec::new();
    for &cpu in cpus.cpus() {
        let (root, start) = (root.clone(), Arc::clone(&start));
        let thread = thread::Builder::new().name(format!("jitter-{cpu}"));
        let spawned = thread.spawn(move || measure(&root, secs, cpu, &start));
        // When one cannot be started those before it wait at the barrier until the process ends.
        threads.push((cpu, spawned.map_err(|error| Error::Cpu { cpu, reason: error.to_string() })?));
    }
    let mut rows = Vec::new();
    for (cpu, thread) in threads {
        let panicked = |_| Error::Cpu { cpu, reason: "its thread panicked".to_owned() };
        rows.push(thread.join().map_err(panicked)??);
    }
    Ok(Jitter { secs, cpus: rows })
}

fn measure(root: &Root, secs: u64, cpu: usize, start: &Barrier) -> Result<CpuJitter, Error> {
    let pinned = pin(cpu);
    let mut gaps = Gaps::new().map_err(|error| Error::Cpu { cpu, reason: error.to_string() })?;
    // Also when pinning failed: the others wait.
    start.wait();
    pinned?;
    let before = Account::read(root, cpu);
    let (laps, took) = spin(Duration::from_secs(secs), &mut gaps);
    let after = Account::read(root, cpu);
    let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1);
    Ok(CpuJitter {
        cpu,
        laps,
        gaps: gaps.histogram.len(),
        decades: gaps.decades(),
        p50_ns: gaps.histogram.value_at_quantile(0.5),
        p99_ns: gaps.histogram.value_at_quantile(0.99),
        max_ns: gaps.histogram.max(),
        lost_ppm: u64::try_from(u128::from(gaps.total_ns) * 1_000_000 / u128::from(took_ns)).unwrap_or(u64::MAX),
        steal_ms: difference(before.steal_ticks, after.steal_ticks).map(to_ms),
        involuntary_switches: difference(before.switches, after.switches),
    })
}

fn pin(cpu: usize) -> Result<(), Error> {
    let broken = |reason: String| Error::Cpu { cpu, reason };
    if cpu >= CpuSet::MAX_CPU {
        return Err(broken(format!("only CPUs below {} can be chosen", CpuSet::MAX_CPU)));
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).map_err(|error| broken(format!("this process may not use it ({error})")))
}

// The clock is read once per lap, so that a gap anywhere in the loop, also in counting the last one, is seen.
fn spin(time: Duration, gaps: &mut Gaps) -> (u64, Duration) {
    let start = Instant::now();
    let mut last = start;
    let mut laps = 0;
    while last - start < time {
        let now = Instant::now();
        gaps.add(u64::try_from((now - last).as_nanos()).unwrap_or(u64::MAX));
        last = now;
        laps += 1;
    }
    (laps, last - start)
}

struct Account {
    steal_ticks: Option<u64>,
    switches: Option<u64>,
}

impl Account {
    // Of the calling thread and its CPU.
    fn read(root: &Root, cpu: usize) -> Self {
        Self {
            steal_ticks: root.text("proc/stat").ok().and_then(|text| steal_ticks(&text, cpu)),
            switches: root.text("proc/thread-self/status").ok().and_then(|text| involuntary_switches(&text)),
        }
    }
}

fn difference(before: Option<u64>, after: Option<u64>) -> Option<u64> {
    Some(after?.saturating_sub(before?))
}

fn to_ms(ticks: u64) -> u64 {
    ticks.saturating_mul(1000) / rustix::param::clock_ticks_per_second().max(1)
}

impl Jitter {
    /// For people.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut table = Table::new([
            "CPU", "1-10us", "10-100us", "0.1-1ms", "1-10ms", "10-100ms", "longer", "P50us", "P99us", "MAXus",
            "LOSTppm", "STEALms", "SWITCHES",
        ]);
        for row in &self.cpus {
            let [d0, d1, d2, d3, d4, d5] = row.decades.map(|count| count.to_string());
            let [p50, p99, max] = [row.p50_ns, row.p99_ns, row.max_ns].map(|ns| format!("{:.1}", ns as f64 / 1e3));
            let [steal, switches] = [row.steal_ms, row.involuntary_switches]
                .map(|count| count.map_or_else(|| "-".to_owned(), |count| count.to_string()));
            let [cpu, lost] = [row.cpu.to_string(), row.lost_ppm.to_string()];
            table.row([cpu, d0, d1, d2, d3, d4, d5, p50, p99, max, lost, steal, switches]);
        }
        format!(
            "gaps of at least 1 us in a loop that never sleeps, {} s on each CPU at the same time\n{table}",
            self.secs
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_laps_are_no_gaps_and_long_ones_fall_into_decades() {
        let mut gaps = Gaps::new().expect("gaps");
        for lap_ns in [20, 999, 1_000, 9_000, 50_000, 2_000_000, 200_000_000, u64::MAX] {
            gaps.add(lap_ns);
        }
        assert_eq!(gaps.decades(), [2, 1, 0, 1, 0, 2]);
        assert_eq!(gaps.histogram.len(), 6);
    }

    #[test]
    fn a_cpu_that_nobody_has_is_refused() {
        assert!(matches!(pin(CpuSet::MAX_CPU), Err(Error::Cpu { .. })));
        assert!(matches!(pin(usize::MAX), Err(Error::Cpu { .. })));
    }
}
