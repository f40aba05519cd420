//! Whether this machine can run the engine: every thing that it needs, what was found, and what to do about it.

use std::{fmt, fs, io, path::Path};

use io_uring::{opcode, register};

use crate::{
    bufring::BufferRing,
    cores::Cores,
    kernel::{DEFER_TASKRUN, KERNEL_MIN, Kernel, MULTISHOT_RECEIVE},
    limits,
    ring::Ring,
};

/// How good something is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, but slower or with less room.
    Degraded,
    /// The engine cannot run.
    Blocked,
}

/// One thing that the engine needs.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What it is.
    pub name: &'static str,
    /// How good it is.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do, unless all is well.
    pub remedy: Option<String>,
}

/// What this machine offers.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Every finding, in the order in which to fix them.
    pub findings: Vec<Finding>,
}

impl Probe {
    /// The worst of all findings.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.findings.iter().map(|finding| finding.verdict).max().unwrap_or(Verdict::Ok)
    }

    /// Why the engine cannot run.
    pub fn blockers(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.verdict == Verdict::Blocked)
    }
}

/// Looks at this machine, from inside this process: its container's rules count.
#[must_use]
pub fn probe() -> Probe {
    let kernel = Kernel::running();
    let disabled = read_number("/proc/sys/kernel/io_uring_disabled");
    let mut findings = vec![kernel_finding(kernel), sysctl(disabled), seccomp()];
    let ring = Ring::new(kernel);
    findings.push(set_up(&ring, disabled));
    if let Ok(ring) = &ring {
        findings.push(task_work(ring, kernel));
        findings.push(operations(ring));
        findings.push(buffers(ring));
    }
    findings.extend([descriptors(), locked_memory(kernel), datagrams(), cores()]);
    Probe { findings }
}

fn finding(name: &'static str, verdict: Verdict, found: impl Into<String>, remedy: &str) -> Finding {
    let remedy = (verdict != Verdict::Ok).then(|| remedy.to_owned());
    Finding { name, verdict, found: found.into(), remedy }
}

fn kernel_finding(kernel: Kernel) -> Finding {
    let verdict = match kernel {
        kernel if kernel < KERNEL_MIN => Verdict::Blocked,
        kernel if kernel < DEFER_TASKRUN => Verdict::Degraded,
        _ => Verdict::Ok,
    };
    let found = format!("{}.{}", kernel.0, kernel.1);
    finding("kernel", verdict, found, "run Linux 5.19 or newer; 6.1 or newer is best")
}

fn sysctl(disabled: Option<u64>) -> Finding {
    let name = "kernel.io_uring_disabled";
    let remedy = "sysctl -w kernel.io_uring_disabled=0 (or put the user in the group of kernel.io_uring_group)";
    match disabled {
        None => finding(name, Verdict::Ok, "not there: this kernel has no such switch", remedy),
        Some(0) => finding(name, Verdict::Ok, "0", remedy),
        Some(1) if set_up_works() => finding(name, Verdict::Ok, "1, and this user may use io_uring", remedy),
        Some(n) => finding(name, Verdict::Blocked, n.to_string(), remedy),
    }
}

fn set_up_works() -> bool {
    io_uring::IoUring::new(2).is_ok()
}

fn seccomp() -> Finding {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mode = status.lines().find_map(|line| line.strip_prefix("Seccomp:")).map_or("0", str::trim);
    let remedy = "allow io_uring_setup, io_uring_enter and io_uring_register in the container's seccomp profile \
                  (docker run --security-opt seccomp=...)";
    match mode {
        "0" => finding("seccomp", Verdict::Ok, "no filter", remedy),
        _ if set_up_works() => finding("seccomp", Verdict::Ok, "a filter that lets io_uring through", remedy),
        _ => finding("seccomp", Verdict::Blocked, "a filter, and io_uring is refused", remedy),
    }
}

fn set_up(ring: &Result<Ring, crate::EngineError>, disabled: Option<u64>) -> Finding {
    let name = "io_uring_setup";
    let error = match ring {
        Ok(_) => return finding(name, Verdict::Ok, "works", ""),
        Err(crate::EngineError::Ring { error, .. }) => error,
        Err(_) => &io::Error::from_raw_os_error(libc::ENOSYS),
    };
    let remedy = match error.raw_os_error() {
        Some(libc::ENOSYS) => "the kernel was built without io_uring, or a seccomp filter hides it (see above)",
        Some(libc::EPERM | libc::EACCES) if disabled.unwrap_or(0) > 0 => "see kernel.io_uring_disabled above",
        Some(libc::EPERM | libc::EACCES) => "a seccomp filter or a security module refuses it: see seccomp above",
        Some(libc::ENOMEM) => "raise the limit of locked memory (ulimit -l, LimitMEMLOCK=)",
        Some(libc::EMFILE | libc::ENFILE) => "raise the limit of open descriptors (ulimit -n, LimitNOFILE=)",
        _ => "unknown: please report it",
    };
    finding(name, Verdict::Blocked, error.to_string(), remedy)
}

fn task_work(ring: &Ring, kernel: Kernel) -> Finding {
    let features = ring.features();
    let found = match (features.defer_taskrun, features.single_issuer) {
        (true, _) => "DEFER_TASKRUN | SINGLE_ISSUER | COOP_TASKRUN",
        (false, true) => "SINGLE_ISSUER | COOP_TASKRUN",
        (false, false) => "COOP_TASKRUN",
    };
    let verdict = if features.defer_taskrun { Verdict::Ok } else { Verdict::Degraded };
    let multishot = if kernel >= MULTISHOT_RECEIVE { "multishot receive" } else { "one-shot receive" };
    finding("ring flags", verdict, format!("{found}, {multishot}"), "a kernel from 6.1 on batches completions better")
}

fn operations(ring: &Ring) -> Finding {
    let mut probe = register::Probe::new();
    if let Err(error) = ring.register().register_probe(&mut probe) {
        return finding("operations", Verdict::Blocked, error.to_string(), "run Linux 5.19 or newer");
    }
    let needed = [
        ("accept", opcode::Accept::CODE),
        ("connect", opcode::Connect::CODE),
        ("recv", opcode::Recv::CODE),
        ("send", opcode::Send::CODE),
        ("recvmsg", opcode::RecvMsg::CODE),
        ("sendmsg", opcode::SendMsg::CODE),
        ("shutdown", opcode::Shutdown::CODE),
        ("close", opcode::Close::CODE),
        ("async cancel", opcode::AsyncCancel::CODE),
        ("files update", opcode::FilesUpdate::CODE),
        ("message to a ring", opcode::MsgRingData::CODE),
    ];
    let missing: Vec<_> = needed.iter().filter(|(_, code)| !probe.is_supported(*code)).map(|(name, _)| *name).collect();
    if missing.is_empty() {
        return finding("operations", Verdict::Ok, "all", "");
    }
    finding("operations", Verdict::Blocked, format!("missing: {}", missing.join(", ")), "run Linux 5.19 or newer")
}

fn buffers(ring: &Ring) -> Finding {
    match BufferRing::new(ring, 0, 8, 4096) {
        Ok(buffers) => {
            buffers.unregister(ring);
            finding("provided buffers", Verdict::Ok, "work", "")
        }
        Err(error) => finding("provided buffers", Verdict::Blocked, error.to_string(), "run Linux 5.19 or newer"),
    }
}

/// Fewer descriptors than this leave no room for a server's connections.
const DESCRIPTORS_WANTED: u32 = 4096;

fn descriptors() -> Finding {
    let count = limits::descriptors();
    let verdict = if count >= DESCRIPTORS_WANTED { Verdict::Ok } else { Verdict::Degraded };
    let found = format!("{count} descriptors, and as many direct ones per shard");
    finding(
        "RLIMIT_NOFILE",
        verdict,
        found,
        "raise it: ulimit -Hn, LimitNOFILE= in systemd, --ulimit nofile= in docker",
    )
}

/// What three rings of an executor and ours need, where the kernel still counts them.
const LOCKED_BYTES_WANTED: u64 = 1 << 20;

fn locked_memory(kernel: Kernel) -> Finding {
    let bytes = limits::locked_memory();
    let verdict = if bytes >= LOCKED_BYTES_WANTED { Verdict::Ok } else { Verdict::Degraded };
    let found = if bytes == u64::MAX { "unlimited".to_owned() } else { format!("{} KiB", bytes / 1024) };
    let note = if kernel >= Kernel(5, 12) { ", not needed by this kernel's rings" } else { "" };
    finding("RLIMIT_MEMLOCK", verdict, format!("{found}{note}"), "raise it: ulimit -l, LimitMEMLOCK= in systemd")
}

fn datagrams() -> Finding {
    let addr = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    match crate::socket::receive(&crate::SocketConfig::new(addr), 1) {
        Ok(_) => finding("UDP trains", Verdict::Ok, "GRO and GSO", ""),
        Err(error) => {
            finding("UDP trains", Verdict::Blocked, error.to_string(), "a kernel with UDP_GRO (5.0) is needed")
        }
    }
}

fn cores() -> Finding {
    let cores = Cores::detect();
    let quota = cores.quota.map_or_else(|| "no quota".to_owned(), |quota| format!("a quota of {quota:.1}"));
    let found = format!(
        "{} physical, {} logical, {quota}: {} shards",
        cores.physical().len(),
        cores.cpus.len(),
        cores.shards()
    );
    let verdict = if cores.quota.is_some_and(|quota| quota < 1.0) { Verdict::Degraded } else { Verdict::Ok };
    finding("cores", verdict, found, "a quota below one CPU stalls a shard in the middle of its turn")
}

fn read_number(path: impl AsRef<Path>) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { name, verdict, found, remedy } in &self.findings {
            let verdict = match verdict {
                Verdict::Ok => "ok",
                Verdict::Degraded => "degraded",
                Verdict::Blocked => "BLOCKED",
            };
            writeln!(f, "{verdict:<9} {name:<26} {found}")?;
            if let Some(remedy) = remedy {
                writeln!(f, "{:<9} {:<26} → {remedy}", "", "")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_runs_the_tests_is_not_blocked() {
        let probe = probe();
        assert!(probe.verdict() < Verdict::Blocked, "{probe}");
        assert!(probe.to_string().contains("RLIMIT_NOFILE"));
    }

    #[test]
    fn old_kernels_are_named() {
        assert_eq!(kernel_finding(Kernel(5, 15)).verdict, Verdict::Blocked);
        assert_eq!(kernel_finding(Kernel(6, 0)).verdict, Verdict::Degraded);
        assert!(kernel_finding(Kernel(5, 15)).remedy.is_some_and(|text| text.contains("5.19")));
        assert_eq!(sysctl(Some(2)).verdict, Verdict::Blocked);
    }
}
