//! One io_uring: set up with the best flags that the kernel has, filled during a turn, entered once.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsRawFd, RawFd},
    time::Duration,
};

use io_uring::{EnterFlags, IoUring, cqueue, squeue, types};

use crate::{
    error::EngineError,
    kernel::{DEFER_TASKRUN, Kernel, MULTISHOT_RECEIVE},
};

/// Operations that are gathered before the kernel must take them. A turn rarely queues more; if it does, it enters early.
pub(crate) const RING_ENTRIES: u32 = 1024;

/// Completions that the kernel can hold for us. More are kept aside by it, at a cost.
const COMPLETION_ENTRIES: u32 = RING_ENTRIES * 8;

/// Completions taken at once, and from which on a turn takes no more: bounds a turn, so that mail and deadlines are never
/// far away.
pub(crate) const COMPLETIONS_MAX: usize = 512;
const _: () = assert!(COMPLETIONS_MAX * 2 <= COMPLETION_ENTRIES as usize, "a turn's backlog must fit in the ring");

/// What one operation has led to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completion {
    pub(crate) tag: u64,
    pub(crate) result: i32,
    pub(crate) flags: u32,
}

impl Completion {
    /// Whether the operation goes on and will complete again.
    pub(crate) fn more(self) -> bool {
        cqueue::more(self.flags)
    }

    /// The provided buffer that holds what was received.
    pub(crate) fn buffer(self) -> Option<u16> {
        cqueue::buffer_select(self.flags)
    }

    /// The result as an error, if it is one.
    pub(crate) fn error(self) -> Option<io::Error> {
        (self.result < 0).then(|| io::Error::from_raw_os_error(-self.result))
    }
}

/// What the ring's kernel offers beyond the minimum.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Features {
    pub(crate) multishot_receive: bool,
    pub(crate) single_issuer: bool,
    pub(crate) defer_taskrun: bool,
}

pub(crate) struct Ring {
    ring: IoUring,
    features: Features,
    enters: u64,
    owed: usize,
    // Completions since the last enter, and turns that did without one.
    fresh: usize,
    skipped: u32,
}

/// The kernel works off about 20 deferred items per enter and then may not say that more are held back: after an enter
/// that brought this many, it is entered again whatever its flags say.
const HELD_BACK_FROM: usize = 16;

/// Turns in a row that trust the kernel's flags at most.
const SKIPPED_MAX: u32 = 16;

impl Ring {
    /// A ring for the calling thread, which alone may use it.
    pub(crate) fn new(kernel: Kernel) -> Result<Self, EngineError> {
        let mut last = io::Error::from_raw_os_error(libc::ENOSYS);
        for (single_issuer, defer_taskrun) in [(true, true), (true, false), (false, false)] {
            if (defer_taskrun && kernel < DEFER_TASKRUN) || (single_issuer && kernel < MULTISHOT_RECEIVE) {
                continue;
            }
            match build(single_issuer, defer_taskrun) {
                Ok(ring) => {
                    let multishot_receive = kernel >= MULTISHOT_RECEIVE;
                    let features = Features { multishot_receive, single_issuer, defer_taskrun };
                    return Ok(Self { ring, features, enters: 0, owed: 0, fresh: 0, skipped: 0 });
                }
                Err(error) => last = error,
            }
        }
        Err(EngineError::Ring { what: "io_uring_setup", error: last })
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    pub(crate) fn features(&self) -> Features {
        self.features
    }

    /// Calls of io_uring_enter so far.
    pub(crate) fn enters(&self) -> u64 {
        self.enters
    }

    /// Operations whose last completion is outstanding: as long as there are any, the kernel may touch their memory.
    pub(crate) fn owed(&self) -> usize {
        self.owed
    }

    pub(crate) fn register(&self) -> io_uring::Submitter<'_> {
        self.ring.submitter()
    }

    /// Queues an operation that ends in one completion without [`Completion::more`].
    ///
    /// # Safety
    /// All memory that `entry` points to must stay valid and untouched until that completion was taken.
    pub(crate) unsafe fn push(&mut self, entry: &squeue::Entry) {
        self.owed += 1;
        // SAFETY: the caller keeps the memory of the entry alive.
        unsafe { self.push_uncounted(entry) }
    }

    /// Queues an operation that completes only when it fails, and points to no memory.
    pub(crate) fn push_quiet(&mut self, entry: squeue::Entry) {
        // SAFETY: by contract the entry points to no memory.
        unsafe { self.push_uncounted(&entry.flags(squeue::Flags::SKIP_SUCCESS)) }
    }

    unsafe fn push_uncounted(&mut self, entry: &squeue::Entry) {
        loop {
            // SAFETY: the caller keeps the memory of the entry alive.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return;
            }
            self.enter(0, None);
        }
    }

    /// Whether there are completions to take.
    pub(crate) fn has_completions(&mut self) -> bool {
        !self.ring.completion().is_empty()
    }

    /// Whether entering would bring something, or completions are there already.
    pub(crate) fn has_work(&mut self) -> bool {
        if self.has_completions() {
            return true;
        }
        let queue = self.ring.submission();
        queue.taskrun() || queue.cq_overflow()
    }

    /// Whether the kernel holds completions back until it is entered.
    pub(crate) fn has_held_back(&mut self) -> bool {
        self.ring.completion().is_empty() && self.ring.submission().taskrun()
    }

    /// Gives the kernel what is queued and collects what is done, if there seems to be anything of either.
    pub(crate) fn submit_if_needed(&mut self) {
        let queue = self.ring.submission();
        let quiet = queue.is_empty() && !queue.taskrun() && !queue.cq_overflow();
        drop(queue);
        if quiet && self.fresh < HELD_BACK_FROM && self.skipped < SKIPPED_MAX && self.features.defer_taskrun {
            self.skipped += 1;
            return;
        }
        self.enter(0, None);
    }

    /// Gives the kernel what is queued and collects what is done, without waiting.
    pub(crate) fn submit(&mut self) {
        self.enter(0, None);
    }

    /// The same, and waits for one completion, at most for `timeout`.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) {
        self.enter(1, timeout);
    }

    fn enter(&mut self, want: u32, timeout: Option<Duration>) {
        self.enters += 1;
        self.fresh = 0;
        self.skipped = 0;
        let queued = self.ring.submission().len() as u32;
        let submitter = self.ring.submitter();
        let result = match timeout {
            Some(timeout) => {
                let time = types::Timespec::from(timeout);
                let args = types::SubmitArgs::new().timespec(&time);
                let flags = EnterFlags::GETEVENTS | EnterFlags::EXT_ARG;
                // SAFETY: the arguments live until the call returns, and the flags say what they are.
                unsafe { submitter.enter(queued, want, flags.bits(), Some(&args)) }
            }
            // SAFETY: no argument is passed.
            None => unsafe { submitter.enter::<libc::sigset_t>(queued, want, EnterFlags::GETEVENTS.bits(), None) },
        };
        if let Err(error) = result {
            let harmless = [libc::ETIME, libc::EINTR, libc::EBUSY, libc::EAGAIN];
            assert!(harmless.iter().any(|&code| error.raw_os_error() == Some(code)), "io_uring_enter: {error}");
        }
    }

    /// Takes completions into `into`; how many.
    pub(crate) fn take(&mut self, into: &mut [Completion; COMPLETIONS_MAX]) -> usize {
        let mut count = 0;
        let mut entries = [const { MaybeUninit::<cqueue::Entry>::uninit() }; 64];
        let mut queue = self.ring.completion();
        while count < COMPLETIONS_MAX {
            let room = (COMPLETIONS_MAX - count).min(entries.len());
            let filled = queue.fill(&mut entries[..room]);
            if filled.is_empty() {
                break;
            }
            for entry in filled {
                into[count] = Completion { tag: entry.user_data(), result: entry.result(), flags: entry.flags() };
                count += 1;
            }
        }
        self.fresh += count;
        count
    }

    /// Notes that the last completion of an operation queued by [`Ring::push`] was taken.
    pub(crate) fn settle(&mut self, completion: Completion) {
        if !completion.more() {
            self.owed -= 1;
        }
    }

    /// Makes the eventfd that is registered with this ring ring, or not.
    pub(crate) fn set_eventfd(&mut self, on: bool) {
        let queue = self.ring.completion();
        if on { queue.enable_eventfd() } else { queue.disable_eventfd() }
    }
}

fn build(single_issuer: bool, defer_taskrun: bool) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.setup_cqsize(COMPLETION_ENTRIES).setup_submit_all().setup_coop_taskrun().setup_taskrun_flag().dontfork();
    if single_issuer {
        builder.setup_single_issuer();
    }
    if defer_taskrun {
        builder.setup_defer_taskrun();
    }
    builder.build(RING_ENTRIES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fallback_builds_and_completes_a_no_op() {
        for kernel in [Kernel(5, 19), Kernel(6, 0), Kernel(6, 1), Kernel::running()] {
            let mut ring = Ring::new(kernel).expect("this kernel has io_uring");
            assert_eq!(ring.features().defer_taskrun, kernel >= DEFER_TASKRUN);
            assert_eq!(ring.features().multishot_receive, kernel >= MULTISHOT_RECEIVE);
            // SAFETY: a no-op points to no memory.
            unsafe { ring.push(&io_uring::opcode::Nop::new().build().user_data(7)) };
            ring.wait(Some(Duration::from_secs(5)));
            let mut taken = [Completion { tag: 0, result: 0, flags: 0 }; COMPLETIONS_MAX];
            assert_eq!(ring.take(&mut taken), 1);
            assert_eq!((taken[0].tag, taken[0].result), (7, 0));
            ring.settle(taken[0]);
            assert_eq!(ring.owed(), 0);
        }
    }
}
