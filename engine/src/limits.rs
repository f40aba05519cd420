//! The process's limits: open descriptors, raised as far as they may go, and locked memory.

/// Raises the soft limit of open descriptors to the hard one; what it is then.
pub(crate) fn descriptors() -> u32 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit is ours to write.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } != 0 {
        return DESCRIPTORS_FALLBACK;
    }
    if limit.rlim_cur < limit.rlim_max {
        let raised = libc::rlimit { rlim_cur: limit.rlim_max, rlim_max: limit.rlim_max };
        // SAFETY: the limit is ours to read.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raised) } == 0 {
            limit = raised;
        }
    }
    u32::try_from(limit.rlim_cur).unwrap_or(DESCRIPTORS_MAX).min(DESCRIPTORS_MAX)
}

/// What every system allows.
const DESCRIPTORS_FALLBACK: u32 = 1024;

/// The largest table that io_uring registers.
const DESCRIPTORS_MAX: u32 = 1 << 20;

/// Bytes that the process may lock; all ones: no limit.
pub(crate) fn locked_memory() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit is ours to write.
    if unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) } == 0 { limit.rlim_cur } else { 0 }
}
