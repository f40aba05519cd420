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
    let above = Path::new(&device).parent().and_then(Path::to_str).unwrap_or_default().to_owned();
    let homes = [device.as_str(), above.as_str()];
    let mut numbers = homes.iter().map(|home| root.names(&format!("{home}/msi_irqs"))).find(|names| !names.is_empty());
    let numbers: Vec<u32> = numbers.take().unwrap_or_default().iter().filter_map(|name| name.parse().ok()).collect();
    let node: Option<i64> = homes.iter().find_map(|home| root.parsed(&format!("{home}/numa_node")));
    let queues = root.names(&format!("{folder}/queues"));
    let count = |prefix: &str| queues.iter().filter(|queue| queue.starts_with(prefix)).count();
    // Without a list of its interrupts they are known by the interface's name or the device's.
    let bus = last(&device).filter(|bus| bus.starts_with("virtio"));
    let is_its = |interrupt: &&Interrupt| match numbers.is_empty() {
        false => numbers.contains(&interrupt.irq),
        true => [Some(name.as_str()), bus].into_iter().flatten().any(|owner| belongs(&interrupt.name, owner)),
    };
    Nic {
        driver: root.target(&format!("{device}/driver")).and_then(|path| last(&path).map(str::to_owned)),
        node: node.and_then(|node| u32::try_from(node).ok()),
        rx: count("rx-"),
        tx: count("tx-"),
        interrupts: interrupts.iter().filter(is_its).cloned().collect(),
        name,
    }
}

// `virtio1-input.0` is virtio1's and not virtio's or virtio11's; `eth0` alone is eth0's.
fn belongs(interrupt: &str, owner: &str) -> bool {
    interrupt.strip_prefix(owner).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '.']))
}

fn last(path: &str) -> Option<&str> {
    path.rsplit('/').next().filter(|name| !name.is_empty())
}
