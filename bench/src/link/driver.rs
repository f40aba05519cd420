//! Quantum over a plain UDP socket: one thread, trains in both directions (GRO in, GSO out), a wait until the next
//! thing is due. The endpoint decides everything; this moves bytes.

use std::{
    io::{self, ErrorKind, IoSliceMut},
    net::{SocketAddr, UdpSocket},
    os::fd::{AsFd, BorrowedFd},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use quantum::{Endpoint, Meta};
use quinn_udp::{BATCH_SIZE, EcnCodepoint, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};

/// Bytes of kernel buffer per direction; the kernel may give less.
const BUFFER_BYTES: usize = 4 << 20;
/// Bytes of the longest train that GRO makes.
const TRAIN_BYTES: usize = 64 * 1024;
/// Trains that leave in one turn: what arrives must not wait for them.
const TRAINS_PER_TURN: usize = 16;

/// An endpoint and its socket.
pub struct Driver {
    /// The endpoint.
    pub endpoint: Endpoint,
    socket: UdpSocket,
    state: UdpSocketState,
    buffers: Vec<u8>,
    out: Vec<u8>,
    /// A train that the socket did not take yet.
    held: Option<quantum::Transmit>,
}

/// Whether a turn found an end, or there may be more to do at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// Nothing is left to be done now.
    Idle,
    /// The next turn may follow at once.
    Busy,
}

impl Driver {
    /// Binds a socket.
    pub fn bind(addr: SocketAddr, endpoint: Endpoint) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_recv_buffer_size(BUFFER_BYTES)?;
        socket.set_send_buffer_size(BUFFER_BYTES)?;
        socket.bind(&addr.into())?;
        let socket = UdpSocket::from(socket);
        // It does not block from here on, and does not fragment: path MTU discovery is the endpoint's.
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let buffers = vec![0; BATCH_SIZE * TRAIN_BYTES];
        Ok(Self { endpoint, socket, state, buffers, out: Vec::with_capacity(TRAIN_BYTES), held: None })
    }

    /// Where it is bound.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Takes what has arrived and what time has brought. The events are the endpoint's to tell then.
    pub fn receive(&mut self) -> io::Result<Turn> {
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let mut trains: Vec<IoSliceMut<'_>> = self.buffers.chunks_mut(TRAIN_BYTES).map(IoSliceMut::new).collect();
        let received = match self.state.recv(UdpSockRef::from(&self.socket), &mut trains, &mut metas) {
            Ok(count) => count,
            // A port that is not there any more says so by ICMP; the protocol finds out by itself.
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionRefused) => 0,
            Err(error) => return Err(error),
        };
        let (now, unix_ms) = (Instant::now(), unix_ms());
        for (meta, train) in metas.iter().zip(&mut trains).take(received) {
            let ecn = meta.ecn.map_or(0, |ecn| ecn as u8);
            for datagram in train[..meta.len].chunks_mut(meta.stride.max(1)) {
                self.endpoint.handle(now, unix_ms, Meta { remote: meta.addr, ecn }, datagram);
            }
        }
        if self.endpoint.deadline().is_some_and(|at| at <= now) {
            self.endpoint.handle_timeout(now);
        }
        Ok(if received == BATCH_SIZE { Turn::Busy } else { Turn::Idle })
    }

    /// Sends what the endpoint lets go.
    pub fn transmit(&mut self) -> io::Result<Turn> {
        for _ in 0..TRAINS_PER_TURN {
            let train = match self.held.take() {
                Some(train) => train,
                None => match self.endpoint.poll_transmit(Instant::now(), &mut self.out) {
                    Some(train) => train,
                    None => return Ok(Turn::Idle),
                },
            };
            let transmit = Transmit {
                destination: train.to,
                ecn: EcnCodepoint::from_bits(train.ecn),
                contents: &self.out,
                segment_size: (self.out.len() > train.segment).then_some(train.segment),
                src_ip: None,
            };
            match self.state.try_send(UdpSockRef::from(&self.socket), &transmit) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.held = Some(train);
                    return Ok(Turn::Idle);
                }
                // A datagram that the kernel refuses (too long, unreachable) is lost, as on any path.
                Err(_) => {}
            }
        }
        Ok(Turn::Busy)
    }

    /// Whether a train waits for room in the socket.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.held.is_some()
    }

    /// The socket, to be waited for.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Milliseconds of the wall clock.
#[must_use]
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
