//! Where shards run: one CPU per physical core, of those that this process may use, grouped by NUMA node.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A logical CPU.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Cpu {
    /// The NUMA node of its memory.
    pub node: usize,
    /// The socket.
    pub package: usize,
    /// The physical core in the socket.
    pub core: usize,
    /// Its number.
    pub id: usize,
}

/// What this process may run on.
#[derive(Clone, PartialEq, Debug)]
pub struct Cores {
    /// The CPUs that it may use, by node, package and core; siblings of one core lie together.
    pub cpus: Vec<Cpu>,
    /// CPUs' worth of time that a container's quota grants; `None`: no limit.
    pub quota: Option<f64>,
}

impl Cores {
    /// Of this machine and process.
    #[must_use]
    pub fn detect() -> Self {
        Self::read(Path::new("/"))
    }

    /// From the files of a machine under `root`: `sys/devices/system`, `sys/fs/cgroup`, `proc/self`.
    #[must_use]
    pub fn read(root: &Path) -> Self {
        let system = root.join("sys/devices/system");
        let mut ids = allowed(root).unwrap_or_default();
        if ids.is_empty() {
            ids = list_in(&system.join("cpu/online"));
        }
        if ids.is_empty() {
            ids = vec![0];
        }
        let nodes = nodes(&system);
        let mut cpus: Vec<Cpu> = ids.into_iter().map(|id| describe(&system, &nodes, id)).collect();
        cpus.sort_unstable();
        cpus.dedup();
        Self { cpus, quota: quota(root) }
    }

    /// The first CPU of every physical core.
    #[must_use]
    pub fn physical(&self) -> Vec<usize> {
        let mut firsts = self.cpus.clone();
        firsts.dedup_by_key(|cpu| (cpu.node, cpu.package, cpu.core));
        firsts.into_iter().map(|cpu| cpu.id).collect()
    }

    /// How many shards are right: one per physical core, but not more than the quota pays for, and at least one.
    #[must_use]
    pub fn shards(&self) -> u16 {
        let cores = self.physical().len();
        let paid = self.quota.map_or(usize::MAX, |quota| quota.floor() as usize);
        u16::try_from(cores.min(paid)).unwrap_or(u16::MAX).clamp(1, crate::config::SHARDS_MAX)
    }

    /// A CPU for each of `shards` shards: physical cores first, then their siblings, then the same once more.
    #[must_use]
    pub fn place(&self, shards: u16) -> Vec<usize> {
        let mut order = self.physical();
        order.extend(self.cpus.iter().map(|cpu| cpu.id).filter(|id| !order.contains(id)).collect::<Vec<_>>());
        order.into_iter().cycle().take(usize::from(shards)).collect()
    }
}

fn describe(system: &Path, nodes: &[(usize, Vec<usize>)], id: usize) -> Cpu {
    let topology = system.join(format!("cpu/cpu{id}/topology"));
    let node = nodes.iter().find(|(_, cpus)| cpus.contains(&id)).map_or(0, |(node, _)| *node);
    let package = number_in(&topology.join("physical_package_id")).unwrap_or(0);
    // Without a topology every CPU counts as a core.
    let core = number_in(&topology.join("core_id")).unwrap_or(id);
    Cpu { node, package, core, id }
}

fn nodes(system: &Path) -> Vec<(usize, Vec<usize>)> {
    let online = list_in(&system.join("node/online"));
    online.into_iter().map(|node| (node, list_in(&system.join(format!("node/node{node}/cpulist"))))).collect()
}

// The affinity of the process, which a cpuset narrows too.
fn allowed(root: &Path) -> Option<Vec<usize>> {
    let status = fs::read_to_string(root.join("proc/self/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    Some(parse_list(line))
}

// The tightest quota from the process's own group up to the root.
fn quota(root: &Path) -> Option<f64> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut tightest: Option<f64> = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let found = if controllers.is_empty() {
            climb(&root.join("sys/fs/cgroup"), path, quota_v2)
        } else if controllers.split(',').any(|name| name == "cpu") {
            climb(&root.join("sys/fs/cgroup").join(controllers), path, quota_v1)
                .or_else(|| climb(&root.join("sys/fs/cgroup/cpu"), path, quota_v1))
        } else {
            None
        };
        tightest = tightest.into_iter().chain(found).reduce(f64::min);
    }
    tightest
}

fn climb(mount: &Path, path: &str, read: impl Fn(&Path) -> Option<f64>) -> Option<f64> {
    // In a container's own namespace the path may not exist below the mount: then the mount itself is the group.
    let group: PathBuf = mount.join(path.trim_start_matches('/'));
    group.ancestors().take_while(|group| group.starts_with(mount)).filter_map(read).reduce(f64::min)
}

fn quota_v2(group: &Path) -> Option<f64> {
    let text = fs::read_to_string(group.join("cpu.max")).ok()?;
    let mut words = text.split_whitespace();
    ratio(words.next()?.parse().ok()?, words.next()?.parse().ok()?)
}

fn quota_v1(group: &Path) -> Option<f64> {
    let number = |name: &str| fs::read_to_string(group.join(name)).ok()?.trim().parse::<f64>().ok();
    ratio(number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?)
}

fn ratio(quota: f64, period: f64) -> Option<f64> {
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

fn number_in(path: &Path) -> Option<usize> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn list_in(path: &Path) -> Vec<usize> {
    fs::read_to_string(path).map(|text| parse_list(&text)).unwrap_or_default()
}

/// More CPUs than any kernel is built for: bounds what a broken list can make of itself.
const CPUS_MAX: usize = 8192;

// `0-3,8,10-11`
fn parse_list(text: &str) -> Vec<usize> {
    let mut ids = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.trim().parse::<usize>(), last.trim().parse::<usize>()) {
            ids.extend(first..=last.min(CPUS_MAX));
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_parsed_and_garbage_is_left_out() {
        assert_eq!(parse_list("0-3,8,10-11\n"), [0, 1, 2, 3, 8, 10, 11]);
        assert_eq!(parse_list(""), []);
        assert_eq!(parse_list("x,2-,3"), [3]);
        assert!(parse_list("0-99999999999").len() <= CPUS_MAX + 1);
    }

    #[test]
    fn this_machine_has_a_core() {
        let cores = Cores::detect();
        assert!(cores.shards() >= 1);
        assert_eq!(cores.place(5).len(), 5);
    }
}
