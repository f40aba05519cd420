//! How every peer starts: its flags, its one core, its socket, and the line that says where it listens.
//!
//! All peers use the allocator that Ringshard uses, so that a comparison is about runtimes.

pub mod fanout;
pub mod link;
pub mod poll;
pub mod s2n;
pub mod web;

use std::{
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
    process,
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Connections that may wait to be accepted: as many as a load generator opens at once.
const BACKLOG: i32 = 4_096;

/// Bytes of kernel buffer per UDP socket and direction. 4 MiB hold 64 full trains; the kernel may give less.
const UDP_BUFFER_BYTES: usize = 4 << 20;

/// What a peer server is told.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// Where to listen; port 0 takes a free one.
    pub addr: SocketAddr,
    /// The core to stay on.
    pub cpu: Option<usize>,
    /// How long to look for work before sleeping, for peers that can.
    pub spin: Duration,
    /// Bytes of a page, for peers that answer requests.
    pub page_bytes: usize,
    /// A datagram per system call, as in most examples, for peers that can do better.
    pub single: bool,
}

impl Start {
    /// Reads `--addr ADDR --cpu N --spin-us N --bytes N --single` and pins the calling thread; ends the process with a message on
    /// anything else. Only the bare ring spins; the others do what their runtime does.
    #[must_use]
    pub fn from_args() -> Self {
        let addr = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut start = Self { addr, cpu: None, spin: Duration::ZERO, page_bytes: 64, single: false };
        let mut args = std::env::args().skip(1);
        while let Some(flag) = args.next() {
            match flag.as_str() {
                "--addr" => start.addr = value(&flag, args.next()),
                "--cpu" => start.cpu = Some(value(&flag, args.next())),
                "--spin-us" => start.spin = Duration::from_micros(value(&flag, args.next())),
                "--bytes" => start.page_bytes = value(&flag, args.next()),
                "--single" => start.single = true,
                _ => usage(&format!(
                    "unknown flag {flag}; known: --addr ADDR, --cpu N, --spin-us N, --bytes N, --single"
                )),
            }
        }
        if let Some(cpu) = start.cpu {
            pin(cpu).unwrap_or_else(|error| usage(&format!("cannot stay on core {cpu}: {error}")));
        }
        start
    }

    /// A listening socket, announced on stdout.
    pub fn listen(&self) -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(self.addr), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        // Accepted sockets inherit it, so that no peer depends on how its runtime sets it.
        socket.set_tcp_nodelay(true)?;
        socket.bind(&self.addr.into())?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from(socket);
        announce(listener.local_addr()?);
        Ok(listener)
    }

    /// A bound UDP socket with large kernel buffers, announced on stdout.
    pub fn bind(&self) -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::for_address(self.addr), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_recv_buffer_size(UDP_BUFFER_BYTES)?;
        socket.set_send_buffer_size(UDP_BUFFER_BYTES)?;
        socket.bind(&self.addr.into())?;
        let socket = UdpSocket::from(socket);
        announce(socket.local_addr()?);
        Ok(socket)
    }
}

/// Parses the value of a flag, or ends the process.
pub fn value<T: std::str::FromStr>(flag: &str, text: Option<String>) -> T {
    match text.as_deref().map(str::parse) {
        Some(Ok(value)) => value,
        _ => usage(&format!("{flag} needs a value, not {text:?}")),
    }
}

/// Keeps the calling thread, and every thread it starts, on one core.
pub fn pin(cpu: usize) -> io::Result<()> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: a zeroed cpu_set_t is the empty set, `cpu` is within it, and the kernel only reads it.
    let outcome = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Says why and leaves.
pub fn usage(message: &str) -> ! {
    eprintln!("{message}");
    process::exit(2)
}

fn announce(addr: SocketAddr) {
    println!("listening {addr}");
}
