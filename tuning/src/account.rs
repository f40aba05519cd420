//! What the kernel counts against a CPU or a thread: time stolen by the hypervisor, switches that it was forced into.

/// The steal column of `cpuN` in `proc/stat`: ticks in which the hypervisor ran somebody else.
#[must_use]
pub fn steal_ticks(stat: &str, cpu: usize) -> Option<u64> {
    // user, nice, system, idle, iowait, irq, softirq, then steal.
    const STEAL: usize = 8;
    let name = format!("cpu{cpu}");
    let line = stat.lines().find(|line| line.split_whitespace().next() == Some(name.as_str()))?;
    line.split_whitespace().nth(STEAL)?.parse().ok()
}

/// The involuntary context switches in a thread's `status`.
#[must_use]
pub fn involuntary_switches(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:"))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  128434 69777 35841 477384 2581 0 2139 142 0 0\n\
        cpu1 63058 33681 16849 242641 807 0 1061 67 0 0\ncpu10 1 1 1 1 1 1 1 75 0 0\ncpu3 1 2\nintr 5\n";

    #[test]
    fn steal_is_the_eighth_number_of_its_cpu() {
        assert_eq!(steal_ticks(STAT, 1), Some(67));
        assert_eq!(steal_ticks(STAT, 10), Some(75));
        assert_eq!(steal_ticks(STAT, 0), None);
        assert_eq!(steal_ticks(STAT, 3), None, "a short line");
    }

    #[test]
    fn forced_switches_are_not_the_voluntary_ones() {
        let status = "Name:\tx\nvoluntary_ctxt_switches:\t5\nnonvoluntary_ctxt_switches:\t12\n";
        assert_eq!(involuntary_switches(status), Some(12));
        assert_eq!(involuntary_switches("Name:\tx\n"), None);
    }
}
