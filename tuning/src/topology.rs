//! The machine as a shard sees it: CPUs, cores, nodes, network queues, and which shard would sit where.

use engine::Cores;
use serde::Serialize;

use crate::{CpuList, Nic, Root, Table};

/// One CPU that this process may use.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct CpuRow {
    /// Its number.
    pub cpu: usize,
    /// Its NUMA node.
    pub node: usize,
    /// Its socket.
    pub socket: usize,
    /// Its physical core within the socket.
    pub core: usize,
    /// The threads of its core, itself among them, also those that this process may not use.
    pub siblings: CpuList,
    /// The CPUs with which it shares the last-level cache; empty: unknown.
    pub cache: CpuList,
    /// The shards that `ringshard serve` would put here.
    pub shards: Vec<u16>,
}

/// What there is of everything.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Topology {
    /// The CPUs that run.
    pub online: CpuList,
    /// CPUs' worth of time that a container's quota grants; `None`: no limit.
    pub quota: Option<f64>,
    /// Whether cores have more than one running thread.
    pub smt: bool,
    /// Shards without `--shards`: one per usable physical core, as far as the quota pays.
    pub shards: u16,
    /// The CPUs that this process may use, by node, socket and core.
    pub cpus: Vec<CpuRow>,
    /// Network interfaces with a device.
    pub nics: Vec<Nic>,
    /// What stands in a shard's way, as far as it shows here.
    pub notes: Vec<String>,
}

impl Topology {
    /// Of the machine below `root`.
    #[must_use]
    pub fn read(root: &Root) -> Self {
        let cores = Cores::read(root.folder());
        let shards = cores.shards();
        let placed = cores.place(shards);
        let cpus: Vec<CpuRow> = cores.cpus.iter().map(|cpu| describe(root, cpu, &placed)).collect();
        let usable: CpuList = cpus.iter().map(|row| row.cpu).collect();
        let mut topology = Self {
            online: root.parsed("sys/devices/system/cpu/online").unwrap_or(usable),
            quota: cores.quota,
            smt: cpus.iter().any(|row| row.siblings.cpus().len() > 1),
            shards,
            cpus,
            nics: Nic::read_all(root),
            notes: Vec::new(),
        };
        topology.notes = notes(&topology);
        topology
    }

    /// The shards on any of these CPUs.
    #[must_use]
    pub fn shards_on(&self, cpus: &CpuList) -> Vec<u16> {
        let rows = self.cpus.iter().filter(|row| cpus.has(row.cpu));
        let mut shards: Vec<u16> = rows.flat_map(|row| row.shards.iter().copied()).collect();
        shards.sort_unstable();
        shards
    }

    fn distinct<K: Ord>(&self, key: impl Fn(&CpuRow) -> K) -> usize {
        self.cpus.iter().map(key).collect::<std::collections::BTreeSet<_>>().len()
    }
}

fn describe(root: &Root, cpu: &engine::Cpu, placed: &[usize]) -> CpuRow {
    let folder = format!("sys/devices/system/cpu/cpu{}", cpu.id);
    let siblings = root.parsed(&format!("{folder}/topology/thread_siblings_list"));
    let mut caches = root.names(&format!("{folder}/cache")).into_iter().filter(|name| name.starts_with("index"));
    let cache = caches.next_back().and_then(|index| root.parsed(&format!("{folder}/cache/{index}/shared_cpu_list")));
    let shards = placed.iter().zip(0_u16..).filter(|(place, _)| **place == cpu.id).map(|(_, shard)| shard);
    CpuRow {
        cpu: cpu.id,
        node: cpu.node,
        socket: cpu.package,
        core: cpu.core,
        siblings: siblings.unwrap_or_else(|| [cpu.id].into_iter().collect()),
        cache: cache.unwrap_or_default(),
        shards: shards.collect(),
    }
}

fn notes(topology: &Topology) -> Vec<String> {
    let mut notes = Vec::new();
    let cores = topology.distinct(|row| (row.node, row.socket, row.core));
    if usize::from(topology.shards) < cores {
        notes.push(format!("the quota pays for {} of {cores} cores", topology.shards));
    }
    if topology.cpus.len() < topology.online.cpus().len() {
        let (usable, online) = (topology.cpus.len(), topology.online.cpus().len());
        notes.push(format!("this process may use {usable} of {online} CPUs (affinity or cpuset)"));
    }
    for nic in &topology.nics {
        if nic.rx < usize::from(topology.shards) {
            let (name, rx, shards) = (&nic.name, nic.rx, topology.shards);
            notes.push(format!(
                "{name}: fewer receive queues ({rx}) than shards ({shards}), so some shards get their packets by way of another CPU"
            ));
        }
        let far = topology.cpus.iter().filter(|row| nic.node.is_some_and(|node| node as usize != row.node));
        let far: usize = far.map(|row| row.shards.len()).sum();
        if let (Some(node), 1..) = (nic.node, far) {
            notes.push(format!("{}: on node {node}, {far} of {} shards are on another", nic.name, topology.shards));
        }
    }
    notes
}

impl Topology {
    /// For people.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = self.summary();
        text.push_str(&format!("\n{}", self.cpu_table()));
        for nic in &self.nics {
            text.push_str(&format!("\n{}", self.nic_text(nic)));
        }
        for (nth, note) in self.notes.iter().enumerate() {
            text.push_str(&format!("{}note: {note}\n", if nth == 0 { "\n" } else { "" }));
        }
        text
    }

    fn summary(&self) -> String {
        let quota = self.quota.map_or_else(|| "none".to_owned(), |quota| format!("{quota:.2} CPUs"));
        format!(
            "CPUs {} online, {} usable; cores {}, sockets {}, NUMA nodes {}; SMT {}; quota {quota}; shards {}\n",
            self.online,
            self.cpus.iter().map(|row| row.cpu).collect::<CpuList>(),
            self.distinct(|row| (row.node, row.socket, row.core)),
            self.distinct(|row| row.socket),
            self.distinct(|row| row.node),
            if self.smt { "on" } else { "off" },
            self.shards,
        )
    }

    fn cpu_table(&self) -> Table<7> {
        let mut table = Table::new(["CPU", "NODE", "SOCKET", "CORE", "THREADS", "CACHE", "SHARD"]);
        for row in &self.cpus {
            let numbers = [row.cpu, row.node, row.socket, row.core].map(|number| number.to_string());
            let [cpu, node, socket, core] = numbers;
            table.row([cpu, node, socket, core, shown(&row.siblings), shown(&row.cache), listed(&row.shards)]);
        }
        table
    }

    fn nic_text(&self, nic: &Nic) -> String {
        let driver = nic.driver.as_deref().unwrap_or("-");
        let node = nic.node.map_or_else(|| "-".to_owned(), |node| node.to_string());
        let mut table = Table::new(["IRQ", "NAME", "QUEUE", "CPUS", "COUNT", "SHARDS THERE"]);
        for interrupt in &nic.interrupts {
            table.row([
                interrupt.irq.to_string(),
                interrupt.name.clone(),
                interrupt.queue.map_or_else(|| "-".to_owned(), |queue| queue.to_string()),
                shown(&interrupt.cpus),
                interrupt.count.to_string(),
                listed(&self.shards_on(&interrupt.cpus)),
            ]);
        }
        let heading =
            format!("{}: driver {driver}, node {node}, queues: receive {}, transmit {}\n", nic.name, nic.rx, nic.tx);
        if nic.interrupts.is_empty() { heading + "no interrupts found\n" } else { heading + &table.to_string() }
    }
}

fn shown(cpus: &CpuList) -> String {
    if cpus.cpus().is_empty() { "-".to_owned() } else { cpus.to_string() }
}

fn listed(shards: &[u16]) -> String {
    shown(&shards.iter().map(|shard| usize::from(*shard)).collect())
}
