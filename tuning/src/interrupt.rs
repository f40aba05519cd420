//! Interrupts of a machine: `proc/interrupts` and the CPUs each may arrive on.

use serde::Serialize;

use crate::{CpuList, Root};

/// One interrupt line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Interrupt {
    /// Its number.
    pub irq: u32,
    /// Who asked for it: `eth0-TxRx-3`, `virtio2-input.0`.
    pub name: String,
    /// The queue that its name ends with, if any.
    pub queue: Option<u32>,
    /// The CPUs that it may arrive on.
    pub cpus: CpuList,
    /// How often it arrived since the start, on all CPUs.
    pub count: u64,
}

impl Interrupt {
    /// Every numbered interrupt of the machine.
    #[must_use]
    pub fn read_all(root: &Root) -> Vec<Self> {
        let text = root.text("proc/interrupts").unwrap_or_default();
        let mut lines = text.lines();
        let cpus = lines.next().unwrap_or_default().split_whitespace().count();
        let mut found: Vec<Self> = lines.filter_map(|line| parse(line, cpus)).collect();
        for interrupt in &mut found {
            let list = root.parsed(&format!("proc/irq/{}/smp_affinity_list", interrupt.irq));
            interrupt.cpus = list.unwrap_or_default();
        }
        found
    }
}

// ` 38:      0  17388 PCI-MSIX-0000:00:03.0   1-edge      virtio2-input.0`: a count for each CPU, the chip, its line, names.
fn parse(line: &str, cpus: usize) -> Option<Interrupt> {
    let (number, rest) = line.split_once(':')?;
    let irq = number.trim().parse().ok()?;
    let words: Vec<&str> = rest.split_whitespace().collect();
    let (counts, rest) = words.split_at_checked(cpus)?;
    let count = counts.iter().filter_map(|word| word.parse::<u64>().ok()).fold(0, u64::saturating_add);
    let name = (*rest.last()?).to_owned();
    Some(Interrupt { irq, queue: queue_of(&name), name, cpus: CpuList::default(), count })
}

/// The queue in an interrupt's name, for the ways in which drivers spell it: `virtio2-input.0`, `eth0-TxRx-3`,
/// `mlx5_comp7@pci:0000:3b:00.0`; none for `virtio2-config` or `mlx5_async0@pci:..`.
#[must_use]
pub fn queue_of(name: &str) -> Option<u32> {
    let name = name.split('@').next().unwrap_or(name);
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let is_data = [".", "-", "comp"].iter().any(|end| stem.ends_with(end));
    name[stem.len()..].parse().ok().filter(|_| is_data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_found_in_the_names_that_drivers_give() {
        for (name, queue) in [
            ("virtio2-input.0", Some(0)),
            ("eth0-TxRx-13", Some(13)),
            ("ens5-Tx-Rx-2", Some(2)),
            ("mlx5_comp7@pci:0000:3b:00.0", Some(7)),
            ("mlx5_async0@pci:0000:3b:00.0", None),
            ("virtio2-config", None),
            ("ttyS0", None),
            ("", None),
        ] {
            assert_eq!(queue_of(name), queue, "{name}");
        }
    }

    #[test]
    fn a_line_is_counts_and_a_name() {
        let line = " 38:      1  17388 PCI-MSIX-0000:00:03.0   1-edge      virtio2-input.0";
        let interrupt = parse(line, 2).expect("an interrupt");
        assert_eq!((interrupt.irq, interrupt.count, interrupt.queue), (38, 17389, Some(0)));
        assert_eq!(interrupt.name, "virtio2-input.0");
    }

    #[test]
    fn other_lines_are_left_out() {
        for line in ["NMI:  0  0  Non-maskable interrupts", "", "garbage", " 5: 1", "5:", " 99999999999: 1 1 a b c"] {
            assert_eq!(parse(line, 2), None, "{line}");
        }
    }
}
