//! Two machines as trees of files: a small virtual one, and a box with two sockets.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use tuning::Root;

/// A tree of files that is gone when this is.
pub(crate) struct Machine(TempDir);

impl Machine {
    fn new() -> Self {
        let machine = Self(tempfile::tempdir().expect("a folder"));
        machine.put("proc/self/cgroup", "0::/\n");
        machine
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn root(&self) -> Root {
        Root::open(self.path()).expect("a machine")
    }

    pub(crate) fn put(&self, file: &str, text: &str) {
        let path = self.path().join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, format!("{text}\n")).expect("written");
    }

    fn sysctl(&self, values: &[(&str, &str)]) {
        for (id, value) in values {
            self.put(&format!("proc/sys/{}", id.replace('.', "/")), value);
        }
    }

    fn cpu(&self, cpu: usize, package: usize, core: usize, siblings: &str, cache: &str) {
        let folder = format!("sys/devices/system/cpu/cpu{cpu}");
        self.put(&format!("{folder}/topology/physical_package_id"), &package.to_string());
        self.put(&format!("{folder}/topology/core_id"), &core.to_string());
        self.put(&format!("{folder}/topology/thread_siblings_list"), siblings);
        self.put(&format!("{folder}/cache/index0/shared_cpu_list"), siblings);
        self.put(&format!("{folder}/cache/index3/shared_cpu_list"), cache);
    }

    // The links are relative, as sysfs has them.
    fn nic(&self, name: &str, device: &str, driver: &str, queues: usize) {
        for queue in 0..queues {
            self.put(&format!("sys/devices/{device}/net/{name}/queues/rx-{queue}/rps_cpus"), "0");
            self.put(&format!("sys/devices/{device}/net/{name}/queues/tx-{queue}/tx_timeout"), "0");
        }
        self.put(&format!("sys/devices/{device}/net/{name}/gro_flush_timeout"), "0");
        self.put(&format!("sys/devices/{device}/net/{name}/napi_defer_hard_irqs"), "0");
        self.put(&format!("sys/bus/drivers/{driver}/uevent"), "");
        self.link("../..", &format!("sys/devices/{device}/net/{name}/device"));
        let depth = "../".repeat(device.split('/').count() + 1);
        self.link(&format!("{depth}bus/drivers/{driver}"), &format!("sys/devices/{device}/driver"));
        self.link(&format!("../../devices/{device}/net/{name}"), &format!("sys/class/net/{name}"));
    }

    pub(crate) fn link(&self, target: &str, name: &str) {
        let path: PathBuf = self.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        symlink(target, path).expect("a link");
    }

    /// Two virtual CPUs without SMT or cpufreq, one virtio interface with one queue, kernel defaults.
    pub(crate) fn small_vm() -> Self {
        let machine = Self::new();
        machine.put("proc/self/status", "Name:\tx\nCpus_allowed_list:\t0-1");
        machine.put("sys/devices/system/cpu/online", "0-1");
        machine.put("sys/devices/system/node/online", "0");
        machine.put("sys/devices/system/node/node0/cpulist", "0-1");
        machine.cpu(0, 0, 0, "0", "0-1");
        machine.cpu(1, 0, 1, "1", "0-1");
        machine.put("sys/class/net/lo/gro_flush_timeout", "0");
        machine.nic("eth0", "pci0000:00/0000:00:03.0/virtio2", "virtio_net", 1);
        for irq in ["37", "38", "39"] {
            machine.put(&format!("sys/devices/pci0000:00/0000:00:03.0/msi_irqs/{irq}"), "msix");
            machine.put(&format!("proc/irq/{irq}/smp_affinity_list"), if irq == "39" { "0" } else { "0-1" });
        }
        machine.put("sys/devices/pci0000:00/0000:00:03.0/numa_node", "-1");
        machine.put("proc/interrupts", VM_INTERRUPTS);
        machine.sysctl(DEFAULTS);
        machine.sysctl(VM_SETTINGS);
        machine.put("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never");
        machine.put("sys/kernel/mm/transparent_hugepage/defrag", "always defer defer+madvise [madvise] never");
        machine.put("sys/module/haltpoll/parameters/guest_halt_poll_ns", "0");
        machine.put("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc");
        machine.put("sys/devices/system/clocksource/clocksource0/available_clocksource", "tsc kvm-clock ");
        machine.put("sys/block/loop0/queue/scheduler", "[bfq] none");
        machine.put("sys/block/vda/queue/scheduler", "none [mq-deadline] kyber bfq ");
        machine.put("sys/block/vda/device/vendor", "x");
        machine
    }

    /// Two sockets of four cores with two threads each (n and n + 8), a node each, an interface with eight queues on
    /// node 1, an older kernel, partly tuned, and three governors.
    pub(crate) fn two_socket() -> Self {
        let machine = Self::new();
        machine.put("proc/self/status", "Name:\tx\nCpus_allowed_list:\t0-15");
        machine.put("sys/devices/system/cpu/online", "0-15");
        machine.put("sys/devices/system/node/online", "0-1");
        machine.put("sys/devices/system/node/node0/cpulist", "0-3,8-11");
        machine.put("sys/devices/system/node/node1/cpulist", "4-7,12-15");
        for cpu in 0..16 {
            let (core, package) = (cpu % 8, cpu % 8 / 4);
            let cache = if package == 0 { "0-3,8-11" } else { "4-7,12-15" };
            machine.cpu(cpu, package, core % 4, &format!("{core},{}", core + 8), cache);
            let folder = format!("sys/devices/system/cpu/cpu{cpu}/cpufreq");
            let governor = if cpu < 12 { "schedutil" } else { "performance" };
            let offered = if cpu == 11 { "schedutil powersave" } else { "performance schedutil powersave" };
            machine.put(&format!("{folder}/scaling_governor"), governor);
            machine.put(&format!("{folder}/scaling_available_governors"), offered);
        }
        machine.nic("ens1f0", "pci0000:80/0000:81:00.0", "mlx5_core", 8);
        machine.put("sys/devices/pci0000:80/0000:81:00.0/numa_node", "1");
        machine.put("proc/interrupts", &mlx5_interrupts());
        for queue in 0..8 {
            let irq = 101 + queue;
            machine.put(&format!("sys/devices/pci0000:80/0000:81:00.0/msi_irqs/{irq}"), "msix");
            machine.put(&format!("proc/irq/{irq}/smp_affinity_list"), &queue.to_string());
        }
        machine.put("sys/devices/pci0000:80/0000:81:00.0/msi_irqs/100", "msix");
        machine.sysctl(DEFAULTS);
        machine.sysctl(TWO_SOCKET_SETTINGS);
        machine.put("sys/kernel/mm/transparent_hugepage/enabled", "[always] madvise never");
        machine.put("sys/kernel/mm/transparent_hugepage/defrag", "always defer defer+madvise [madvise] never");
        machine.put("sys/devices/system/clocksource/clocksource0/current_clocksource", "hpet");
        machine.put("sys/devices/system/clocksource/clocksource0/available_clocksource", "hpet acpi_pm ");
        machine.put("sys/block/nvme0n1/queue/scheduler", "[none] mq-deadline");
        machine.put("sys/block/nvme0n1/device/model", "x");
        machine.put("sys/block/sda/queue/scheduler", "none mq-deadline [bfq]");
        machine.put("sys/block/sda/device/model", "x");
        machine
    }
}

const VM_INTERRUPTS: &str = "           CPU0       CPU1
 26:          0         15  IO-APIC   4-edge      ttyS0
 37:          0          0 PCI-MSIX-0000:00:03.0   0-edge      virtio2-config
 38:          0      17388 PCI-MSIX-0000:00:03.0   1-edge      virtio2-input.0
 39:      12743          0 PCI-MSIX-0000:00:03.0   2-edge      virtio2-output.0
 42:          0      46209 PCI-MSIX-0000:00:04.0   2-edge      virtio3-tx
NMI:          0          0   Non-maskable interrupts";

fn mlx5_interrupts() -> String {
    let heading: String = (0..16).map(|cpu| format!("CPU{cpu} ")).collect();
    let counts = "5 ".repeat(16);
    let queues =
        (0..8).map(|queue| format!("{}: {counts} IR-PCI-MSIX 1-edge mlx5_comp{queue}@pci:0000:81:00.0", 101 + queue));
    let others = format!("100: {counts} IR-PCI-MSIX 0-edge mlx5_async0@pci:0000:81:00.0");
    [heading, others].into_iter().chain(queues).collect::<Vec<_>>().join("\n")
}

/// As a kernel has them that nobody has touched.
const DEFAULTS: &[(&str, &str)] = &[
    ("net.core.somaxconn", "4096"),
    ("net.core.netdev_budget", "300"),
    ("net.core.rmem_default", "212992"),
    ("net.ipv4.tcp_wmem", "4096\t16384\t4194304"),
    ("net.ipv4.tcp_notsent_lowat", "4294967295"),
    ("net.ipv4.tcp_slow_start_after_idle", "1"),
    ("net.ipv4.tcp_mtu_probing", "0"),
    ("net.ipv4.tcp_syncookies", "1"),
    ("vm.swappiness", "60"),
    ("vm.stat_interval", "1"),
    ("kernel.timer_migration", "1"),
    ("kernel.sched_autogroup_enabled", "1"),
    ("fs.nr_open", "1048576"),
];

const VM_SETTINGS: &[(&str, &str)] = &[
    ("net.ipv4.tcp_max_syn_backlog", "2048"),
    ("net.core.netdev_max_backlog", "1000"),
    ("net.core.netdev_budget_usecs", "8000"),
    ("net.core.rmem_max", "4194304"),
    ("net.core.wmem_max", "4194304"),
    ("net.ipv4.tcp_rmem", "4096\t131072\t33554432"),
    ("net.ipv4.tcp_congestion_control", "bbr"),
    ("net.ipv4.tcp_available_congestion_control", "reno bbr cubic"),
    ("net.core.default_qdisc", "pfifo_fast"),
    ("net.netfilter.nf_conntrack_max", "262144"),
    ("kernel.numa_balancing", "0"),
    ("kernel.nmi_watchdog", "0"),
    ("vm.zone_reclaim_mode", "0"),
    ("fs.file-max", "2466170"),
    ("kernel.io_uring_disabled", "0"),
];

const TWO_SOCKET_SETTINGS: &[(&str, &str)] = &[
    ("net.ipv4.tcp_max_syn_backlog", "262144"),
    ("net.core.netdev_max_backlog", "100000"),
    ("net.core.netdev_budget_usecs", "2000"),
    ("net.core.rmem_max", "134217728"),
    ("net.core.wmem_max", "212992"),
    ("net.ipv4.tcp_rmem", "4096\t131072"),
    ("net.ipv4.tcp_congestion_control", "cubic"),
    ("net.ipv4.tcp_available_congestion_control", "reno cubic"),
    ("net.core.default_qdisc", "fq_codel"),
    ("kernel.numa_balancing", "1"),
    ("kernel.nmi_watchdog", "1"),
    ("vm.zone_reclaim_mode", "what?"),
    ("fs.file-max", "9223372036854775807"),
];
