//! What all programs on an emulated link share: the plan, the schedule and the account, which are the very files that
//! `ringshard-load link-matrix` and Quantum's own program are built from, and what only peers need.
//!
//! A program is `link_NAME server|client ADDR --workload NAME --variant NAME ...`: it says `listening ADDR`, talks
//! until `--end-ns`, and prints its account as one line of JSON.

#[path = "../../src/link/clock.rs"]
pub mod clock;
#[path = "../../src/link/plan.rs"]
pub mod plan;
#[path = "../../src/schedule.rs"]
pub mod schedule;
#[path = "../../src/stamp.rs"]
pub mod stamp;
#[path = "../../src/link/talk.rs"]
pub mod talk;

use std::{
    io::{self, ErrorKind},
    net::{SocketAddr, UdpSocket},
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use rustix::{
    event::{PollFd, Timespec, poll},
    time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime},
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::unix::AsyncFd;

use self::{
    clock::now_ns,
    plan::{MESSAGE_BYTES, Plan},
    talk::Account,
};

/// Bytes of kernel buffer per UDP socket and direction; the kernel may give less.
const UDP_BUFFER_BYTES: usize = 4 << 20;
/// What a stream of one whole message, a stream of many messages and a stream of bulk begin with.
pub const MESSAGE: u8 = b'M';
/// See [`MESSAGE`].
pub const ORDERED: u8 = b'O';
/// See [`MESSAGE`].
pub const BULK: u8 = b'B';

/// Reads the plan, or ends the process with a message.
#[must_use]
pub fn start() -> Plan {
    Plan::read(std::env::args().skip(1)).unwrap_or_else(|why| crate::usage(&why))
}

/// Says where the server listens.
pub fn announce(addr: SocketAddr) {
    println!("listening {addr}");
}

/// Prints the account.
pub fn report(plan: &Plan, account: &Account) {
    println!("{}", account.report(plan));
}

/// A bound UDP socket with large kernel buffers that does not block.
pub fn udp(addr: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_recv_buffer_size(UDP_BUFFER_BYTES)?;
    socket.set_send_buffer_size(UDP_BUFFER_BYTES)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

/// Cuts an ordered stream of bytes into messages.
#[derive(Default)]
pub struct Records(Vec<u8>);

impl Records {
    /// Takes bytes and accounts for the messages that are whole now.
    pub fn take(&mut self, account: &mut Account, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        let whole = self.0.len() / MESSAGE_BYTES * MESSAGE_BYTES;
        let now_ns = now_ns();
        self.0[..whole].chunks(MESSAGE_BYTES).for_each(|message| account.message(now_ns, message));
        self.0.drain(..whole);
    }
}

/// Waits until one of the descriptors is ready or the time has come.
pub fn wait(fds: &mut [PollFd<'_>], until_ns: u64) -> io::Result<()> {
    let left = until_ns.saturating_sub(now_ns());
    let timeout = Timespec { tv_sec: (left / 1_000_000_000) as i64, tv_nsec: (left % 1_000_000_000) as i64 };
    match poll(fds, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A clock that wakes a task at a nanosecond: tokio's own timers know milliseconds, and a peer must not be charged for
/// that.
pub struct Alarm(AsyncFd<OwnedFd>);

impl Alarm {
    /// A clock that is not set.
    pub fn new() -> io::Result<Self> {
        let fd = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        // SAFETY: the descriptor is owned, so it stays open and the same for as long as it is registered.
        Ok(Self(unsafe { AsyncFd::register(fd) }?))
    }

    /// Waits until the time has come.
    pub async fn until(&mut self, at_ns: u64) -> io::Result<()> {
        let value = Timespec { tv_sec: (at_ns / 1_000_000_000) as i64, tv_nsec: (at_ns % 1_000_000_000) as i64 };
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let spec = Itimerspec { it_interval: never, it_value: value };
        timerfd_settime(self.0.as_fd(), TimerfdTimerFlags::ABSTIME, &spec)?;
        while now_ns() < at_ns {
            let mut ready = self.0.readable().await?;
            match ready.try_io(|fd| rustix::io::read(fd, &mut [0; 8]).map_err(io::Error::from)) {
                Ok(Err(error)) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// A runtime of one thread with everything on.
pub fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Milliseconds that are left until the end.
#[must_use]
pub fn left(plan: &Plan) -> Duration {
    Duration::from_nanos(plan.end_ns.saturating_sub(now_ns()))
}
