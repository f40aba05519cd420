//! Sockets: how they are made, and the options that the engine relies on.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd, OwnedFd, RawFd},
};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::{
    config::{ListenerConfig, SocketConfig},
    error::EngineError,
    steer::Steer,
};

/// Listening sockets of one address, one per shard in their order; port 0 becomes the port that the first one got.
pub(crate) fn listen(config: &ListenerConfig, shards: u16) -> Result<(SocketAddr, Vec<OwnedFd>), EngineError> {
    let bound = group(config.addr, shards, Type::STREAM, |socket| {
        // Accepted sockets inherit it.
        socket.set_tcp_nodelay(true)
    })?;
    let backlog = i32::try_from(config.backlog).unwrap_or(i32::MAX);
    for socket in &bound.1 {
        socket.listen(backlog).map_err(|error| bind_error("tcp", bound.0, error))?;
    }
    Ok((bound.0, bound.1.into_iter().map(OwnedFd::from).collect()))
}

/// UDP sockets of one address, one per shard in their order.
pub(crate) struct Inlets {
    pub(crate) addr: SocketAddr,
    pub(crate) fds: Vec<OwnedFd>,
    /// The kernel has taken the filter.
    pub(crate) steered: bool,
}

/// Binds UDP sockets, and attaches the filter of their group.
pub(crate) fn receive(config: &SocketConfig, shards: u16) -> Result<Inlets, EngineError> {
    let (addr, sockets) = group(config.addr, shards, Type::DGRAM, |socket| prepare_datagrams(socket, config))?;
    let mut steered = false;
    if let (Some(steer), Some(first)) = (&config.steer, sockets.first()) {
        if steer.shards() != shards {
            return Err(EngineError::Config(format!("steering over {} shards of {shards}", steer.shards())));
        }
        // Without it the kernel's hash spreads the datagrams, and shards have to forward them: slower, and still right.
        steered = attach_filter(first, steer).is_ok();
    }
    Ok(Inlets { addr, fds: sockets.into_iter().map(OwnedFd::from).collect(), steered })
}

/// A socket that is ready to connect, from `local` if given.
pub(crate) fn for_connect(local: Option<IpAddr>, remote: SocketAddr) -> io::Result<OwnedFd> {
    let socket = Socket::new(Domain::for_address(remote), Type::STREAM.cloexec(), Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if let Some(ip) = local {
        // The port is chosen when the destination is known, so that one local port serves many destinations.
        set_option(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, &1i32)?;
        socket.bind(&SocketAddr::new(ip, 0).into())?;
    }
    Ok(socket.into())
}

const SO_SNDBUFFORCE: i32 = 32;
const SO_RCVBUFFORCE: i32 = 33;

fn transport(kind: Type) -> &'static str {
    if kind == Type::STREAM { "tcp" } else { "udp" }
}

fn bind_error(transport: &'static str, addr: SocketAddr, error: io::Error) -> EngineError {
    match error.kind() {
        io::ErrorKind::AddrInUse => EngineError::AddressInUse { transport, addr },
        _ => EngineError::Bind { transport, addr, error },
    }
}

fn group(
    addr: SocketAddr,
    shards: u16,
    kind: Type,
    prepare: impl Fn(&Socket) -> io::Result<()>,
) -> Result<(SocketAddr, Vec<Socket>), EngineError> {
    let failed = |error| bind_error(transport(kind), addr, error);
    // Another server's group would let us join it, and share its clients: ask without SO_REUSEPORT first.
    let probe = bind(addr, kind, false, |_| Ok(())).map_err(failed)?;
    let bound = local_addr(&probe).map_err(failed)?;
    drop(probe);
    let mut sockets = Vec::new();
    for _ in 0..shards {
        sockets.push(bind(bound, kind, true, &prepare).map_err(failed)?);
    }
    Ok((bound, sockets))
}

fn bind(addr: SocketAddr, kind: Type, shared: bool, prepare: impl Fn(&Socket) -> io::Result<()>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(addr), kind.cloexec(), None)?;
    if kind == Type::STREAM {
        // A restarted server must not wait for the last connections' TIME_WAIT.
        socket.set_reuse_address(true)?;
    }
    socket.set_reuse_port(shared)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    prepare(&socket)?;
    socket.bind(&SockAddr::from(addr))?;
    Ok(socket)
}

fn local_addr(socket: &Socket) -> io::Result<SocketAddr> {
    socket.local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

fn prepare_datagrams(socket: &Socket, config: &SocketConfig) -> io::Result<()> {
    let fd = socket.as_raw_fd();
    // With CAP_NET_ADMIN beyond the system's maximum, otherwise up to it.
    if config.receive_bytes > 0 && set_option(fd, libc::SOL_SOCKET, SO_RCVBUFFORCE, &config.receive_bytes).is_err() {
        socket.set_recv_buffer_size(config.receive_bytes as usize)?;
    }
    if config.send_bytes > 0 && set_option(fd, libc::SOL_SOCKET, SO_SNDBUFFORCE, &config.send_bytes).is_err() {
        socket.set_send_buffer_size(config.send_bytes as usize)?;
    }
    if config.addr.is_ipv6() {
        set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, &1i32)?;
    } else {
        set_option(fd, libc::IPPROTO_IP, libc::IP_RECVTOS, &1i32)?;
    }
    // Never fragment: a datagram that is too long is an error, from which the path's MTU is learned.
    if config.addr.is_ipv6() {
        set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, &libc::IPV6_PMTUDISC_PROBE)?;
    } else {
        set_option(fd, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, &libc::IP_PMTUDISC_PROBE)?;
    }
    set_option(fd, libc::SOL_UDP, libc::UDP_GRO, &1i32)
}

fn attach_filter(socket: &Socket, steer: &Steer) -> io::Result<()> {
    let filter = steer.filter();
    let program =
        libc::sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut().cast::<libc::sock_filter>() };
    const _: () = assert!(size_of::<crate::steer::Instruction>() == size_of::<libc::sock_filter>());
    set_option(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF, &program)
}

fn set_option<T>(fd: RawFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: the value is readable for its own size, and the kernel keeps no pointer to it.
    let result = unsafe { libc::setsockopt(fd, level, name, std::ptr::from_ref(value).cast(), len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
