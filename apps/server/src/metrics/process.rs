//! What the kernel says about this process: memory, descriptors, time.

use std::fs;

/// Bytes of a page and ticks of a second, as Linux has them on every machine with io_uring that we build for.
const PAGE_BYTES: u64 = 4096;
const TICKS_PER_SEC: f64 = 100.0;

/// Memory that is resident now, in bytes.
pub(super) fn resident_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/statm").ok()?;
    text.split_whitespace().nth(1)?.parse::<u64>().ok()?.checked_mul(PAGE_BYTES)
}

/// Descriptors that are open now; the ring's direct descriptors are not among them.
pub(super) fn open_files() -> Option<u64> {
    Some(fs::read_dir("/proc/self/fd").ok()?.count() as u64)
}

/// Seconds of processor time so far, user and system.
pub(super) fn cpu_secs() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the name in brackets and may hold anything; the fields behind it are counted from 3.
    let mut fields = text.rsplit(')').next()?.split_whitespace();
    let (user, system): (f64, f64) = (fields.nth(11)?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / TICKS_PER_SEC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_descriptors_and_time() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > 100_000));
        assert!(open_files().is_some_and(|files| files >= 3));
        assert!(cpu_secs().is_some_and(|secs| (0.0..1e6).contains(&secs)));
    }
}
