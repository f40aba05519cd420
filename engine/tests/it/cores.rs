//! Placement, read from trees of files as different machines show them.

use std::{fs, path::Path};

use engine::Cores;

fn put(root: &Path, file: &str, text: &str) {
    let path = root.join(file);
    fs::create_dir_all(path.parent().expect("a directory")).expect("made");
    fs::write(path, text).expect("written");
}

/// Two nodes of two cores with two threads each; siblings are n and n + 4, as Intel numbers them.
fn machine(root: &Path, allowed: &str) {
    put(root, "sys/devices/system/cpu/online", "0-7\n");
    put(root, "sys/devices/system/node/online", "0-1\n");
    put(root, "sys/devices/system/node/node0/cpulist", "0,2,4,6\n");
    put(root, "sys/devices/system/node/node1/cpulist", "1,3,5,7\n");
    for cpu in 0..8 {
        let (package, core) = (cpu % 2, cpu % 4 / 2);
        put(root, &format!("sys/devices/system/cpu/cpu{cpu}/topology/physical_package_id"), &format!("{package}\n"));
        put(root, &format!("sys/devices/system/cpu/cpu{cpu}/topology/core_id"), &format!("{core}\n"));
    }
    put(root, "proc/self/status", &format!("Name:\tx\nCpus_allowed_list:\t{allowed}\n"));
}

#[test]
fn one_shard_per_physical_core_grouped_by_node() {
    let root = tempfile::tempdir().expect("a directory");
    machine(root.path(), "0-7");
    let cores = Cores::read(root.path());
    assert_eq!(cores.physical(), [0, 2, 1, 3]);
    assert_eq!(cores.shards(), 4);
    assert_eq!(cores.place(6), [0, 2, 1, 3, 4, 6]);
    assert_eq!(cores.place(9)[8], 0);
}

#[test]
fn a_cpuset_narrows_the_choice() {
    let root = tempfile::tempdir().expect("a directory");
    machine(root.path(), "1,4-5");
    let cores = Cores::read(root.path());
    assert_eq!(cores.physical(), [4, 1]);
    assert_eq!(cores.place(3), [4, 1, 5]);
}

#[test]
fn quotas_of_both_kinds_count_and_the_tightest_wins() {
    let root = tempfile::tempdir().expect("a directory");
    machine(root.path(), "0-7");
    put(root.path(), "proc/self/cgroup", "0::/box/inner\n");
    put(root.path(), "sys/fs/cgroup/box/inner/cpu.max", "max 100000\n");
    put(root.path(), "sys/fs/cgroup/box/cpu.max", "250000 100000\n");
    let cores = Cores::read(root.path());
    assert_eq!((cores.quota, cores.shards()), (Some(2.5), 2));
    put(root.path(), "proc/self/cgroup", "4:cpu,cpuacct:/box\n");
    put(root.path(), "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us", "50000\n");
    put(root.path(), "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us", "100000\n");
    let cores = Cores::read(root.path());
    assert_eq!((cores.quota, cores.shards()), (Some(0.5), 1), "at least one shard");
    put(root.path(), "sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us", "-1\n");
    assert_eq!(Cores::read(root.path()).quota, None);
}

#[test]
fn an_empty_tree_means_one_core() {
    let root = tempfile::tempdir().expect("a directory");
    let cores = Cores::read(root.path());
    assert_eq!((cores.shards(), cores.place(2)), (1, vec![0, 0]));
}
