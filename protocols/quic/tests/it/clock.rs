//! The clock of quiche in a test's thread: virtual, so that a world of seconds takes milliseconds.
//!
//! quiche asks for the time by itself, and the standard library asks `clock_gettime` of the C library. The one here
//! comes first when the test program is linked: in a thread that has set a time it tells that, else the kernel's.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

thread_local! {
    static AT: Cell<Option<(i64, i64)>> = const { Cell::new(None) };
}

/// `struct timespec` of 64-bit Linux.
#[repr(C)]
#[derive(Debug)]
pub(crate) struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

const MONOTONIC: i32 = 1;
const NANOS: i64 = 1_000_000_000;

/// The C library's function, for this program.
// Nothing here touches memory by itself: the caller gives a reference, as the C library's contract has it.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
pub(crate) extern "C" fn clock_gettime(clock: i32, time: &mut Timespec) -> i32 {
    let told = if clock == MONOTONIC { AT.try_with(Cell::get).ok().flatten() } else { None };
    (time.seconds, time.nanoseconds) = told.unwrap_or_else(|| {
        let clock = if clock == MONOTONIC { rustix::time::ClockId::Monotonic } else { rustix::time::ClockId::Realtime };
        let now = rustix::time::clock_gettime(clock);
        (now.tv_sec, now.tv_nsec)
    });
    0
}

/// Stops the clock of this thread, at a time that is the same in every run.
pub(crate) fn stop() -> Instant {
    AT.set(Some((1_000_000, 0)));
    Instant::now()
}

/// Moves the clock of this thread on.
pub(crate) fn advance(by: Duration) {
    let (seconds, nanoseconds) = AT.get().expect("stop the clock first");
    let nanoseconds = nanoseconds + i64::from(by.subsec_nanos());
    AT.set(Some((seconds + by.as_secs() as i64 + nanoseconds / NANOS, nanoseconds % NANOS)));
}

#[test]
fn the_clock_of_a_thread_stands_until_it_is_moved() {
    let start = stop();
    assert_eq!(Instant::now(), start);
    advance(Duration::from_millis(1_500));
    assert_eq!(Instant::now() - start, Duration::from_millis(1_500));
}
