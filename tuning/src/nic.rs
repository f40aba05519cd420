//! Network interfaces with a device behind them: driver, node, queues and their interrupts.

use std::path::Path;

use serde::Serialize;

use crate::{Interrupt, Root};

/// One network interface.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Nic {
    /// Its name.
    pub name: String,
    /// Its driver.
    pub driver: Option<String>,
    /// Its NUMA node; `None`: the machine does not say, as virtual ones do not.
    pub node: Option<u32>,
    /// Receive queues.
    pub rx: usize,
    /// Transmit queues.
    pub tx: usize,
    /// Its interrupts.
    pub interrupts: Vec<Interrupt>,
}

impl Nic {
    /// Every interface with a device; `lo`, bridges and tunnels have none.
    #[must_use]
    pub fn read_all(root: &Root) -> Vec<Self> {
        let interrupts = Interrupt::read_all(root);
        let names = root.names("sys/class/net").into_iter();
        names
            .filter(|name| root.has(&format!("sys/class/net/{name}/device")))
            .map(|name| read(root, &interrupts, name))
            .collect()
    }
}

fn read(root: &Root, interrupts: &[Interrupt], name: String) -> Nic {
    let folder = format!("sys/class/net/{name}");
    let device = root.target(&format!("{folder}/device")).unwrap_or_default();
    // A virtio device sits below the PCI device that has the interrupts and the node.
    let above = Path::new(&device).parent().and_then(Path::to_str).unwrap_or_default();
    let homes = [device.as_str(), above];
    let node: Option<i64> = homes.iter().find_map(|home| root.parsed(&format!("{home}/numa_node")));
    let queues = root.names(&format!("{folder}/queues"));
    let count = |prefix: &str| queues.iter().filter(|queue| queue.starts_with(prefix)).count();
    Nic {
        driver: root.target(&format!("{device}/driver")).and_then(|path| last(&path).map(str::to_owned)),
        // -1: the machine does not say.
        node: node.and_then(|node| u32::try_from(node).ok()),
        rx: count("rx-"),
        tx: count("tx-"),
        interrupts: own(root, interrupts, &name, homes),
        name,
    }
}

// By the list that the device or the one above has; without one, by the name of the interface or its virtio device.
fn own(root: &Root, interrupts: &[Interrupt], name: &str, homes: [&str; 2]) -> Vec<Interrupt> {
    let lists = homes.iter().map(|home| root.names(&format!("{home}/msi_irqs")));
    let listed: Vec<u32> = lists.flatten().filter_map(|irq| irq.parse().ok()).collect();
    let virtio = last(homes[0]).filter(|device| device.starts_with("virtio"));
    let named = |interrupt: &Interrupt| {
        let mut owners = [Some(name), virtio].into_iter().flatten();
        owners.any(|owner| belongs(&interrupt.name, owner))
    };
    let is_own = |interrupt: &&Interrupt| {
        if listed.is_empty() { named(interrupt) } else { listed.contains(&interrupt.irq) }
    };
    interrupts.iter().filter(is_own).cloned().collect()
}

// `virtio1-input.0` is virtio1's and not virtio's or virtio11's; `eth0` alone is eth0's.
fn belongs(interrupt: &str, owner: &str) -> bool {
    interrupt.strip_prefix(owner).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.']))
}

fn last(path: &str) -> Option<&str> {
    path.rsplit('/').next().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupt_belongs_to_the_name_it_begins_with_as_a_whole() {
        assert!(belongs("virtio1-input.0", "virtio1"));
        assert!(!belongs("virtio11-input.0", "virtio1"));
        assert!(belongs("eth0", "eth0"));
        assert!(!belongs("meth0", "eth0"));
    }
}
