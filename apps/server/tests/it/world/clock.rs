//! The clock of a world's thread: quiche asks for the time by itself, so it has to be told the world's.
//!
//! The standard library asks `clock_gettime` of the C library, and the one here comes first when the test program is
//! linked. It tells the virtual time in a thread that has a world, and the kernel's everywhere else: the tests of the real
//! server wait in real time.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

use rustix::time::ClockId;

thread_local! {
    static AT: Cell<Option<Duration>> = const { Cell::new(None) };
}

/// `struct timespec` of 64-bit Linux.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

const MONOTONIC: i32 = 1;

/// When every world begins.
const START: Duration = Duration::from_secs(1_000_000);

/// The C library's function, for this program.
// Nothing here touches memory by itself: the caller gives a reference, as the C library's contract has it.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn clock_gettime(clock: i32, time: &mut Timespec) -> i32 {
    // A thread that ends has no world any more.
    let told = if clock == MONOTONIC { AT.try_with(Cell::get).ok().flatten() } else { None };
    (time.seconds, time.nanoseconds) = match (told, ClockId::try_from(clock)) {
        (Some(at), _) => (at.as_secs() as i64, at.subsec_nanos().into()),
        (None, Ok(clock)) => {
            let now = rustix::time::clock_gettime(clock);
            (now.tv_sec, now.tv_nsec)
        }
        (None, Err(_)) => return -1,
    };
    0
}

/// The clock of this thread stands, until this is dropped.
pub(crate) struct Stopped(());

impl Stopped {
    /// Stops it, at a time that is the same in every run.
    pub(crate) fn new() -> Self {
        assert!(AT.replace(Some(START)).is_none(), "one world per thread");
        Self(())
    }

    /// So much after the start.
    pub(crate) fn set(&self, since: Duration) {
        AT.set(Some(START + since));
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        AT.set(None);
    }
}

#[test]
fn the_clock_of_a_world_stands_until_it_is_set_and_that_of_others_goes_on() {
    let real = Instant::now();
    let clock = Stopped::new();
    let start = Instant::now();
    clock.set(Duration::from_millis(1_500));
    assert_eq!(Instant::now() - start, Duration::from_millis(1_500));
    let other = std::thread::spawn(Instant::now).join().expect("it has a clock");
    assert!(other >= real && other - real < Duration::from_secs(3_600), "another thread has the kernel's time");
    drop(clock);
    assert!(Instant::now() >= other, "and so has this one again");
}
