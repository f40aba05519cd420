//! A client on a UDP socket of its own, in one blocking thread: for the example and the tests.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use quantum::{ClientConfig, ConnectError, Meta, Transport};
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{Client, Heard};

/// Shorter waits than this are not worth a system call to set the timeout.
const WAIT_MIN: Duration = Duration::from_micros(50);

/// Payload of the largest datagram that may come.
const DATAGRAM_BYTES_MAX: usize = 65_536;

/// A client and its socket.
#[derive(Debug)]
pub struct Wire {
    client: Client,
    socket: UdpSocket,
    server: SocketAddr,
    buffer: Vec<u8>,
    train: Vec<u8>,
}

impl Wire {
    /// A socket for a server; nothing is sent yet.
    ///
    /// # Errors
    /// There is no socket to be had.
    pub fn new(server: SocketAddr, config: ClientConfig, transport: Transport) -> io::Result<Self> {
        Ok(Self {
            client: Client::new(config, transport, StdRng::from_os_rng().random()),
            socket: socket(server)?,
            server,
            buffer: vec![0; DATAGRAM_BYTES_MAX],
            train: Vec::new(),
        })
    }

    /// Begins a connection to the server, which has a certificate for `name`.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub fn connect(&mut self, name: &str) -> Result<(), ConnectError> {
        self.client.connect(Instant::now(), unix_ms(), self.server, name)
    }

    /// The client itself; what it is told leaves with the next [`Wire::hear`] or [`Wire::send`].
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Goes on with another port, as a client does behind an address translator that forgot it.
    ///
    /// # Errors
    /// There is no socket to be had.
    pub fn rebind(&mut self) -> io::Result<()> {
        self.socket = socket(self.server)?;
        Ok(())
    }

    /// Sends what is to be sent now.
    ///
    /// # Errors
    /// The socket does not send.
    pub fn send(&mut self) -> io::Result<()> {
        while let Some(transmit) = self.client.poll_transmit(Instant::now(), &mut self.train) {
            for datagram in self.train.chunks(transmit.segment.max(1)) {
                // A datagram that the kernel refuses is a lost one.
                match self.socket.send_to(datagram, transmit.to) {
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
                    Ok(_) | Err(_) => {}
                }
            }
        }
        Ok(())
    }

    /// Waits for the next thing to hear, at most `within`.
    ///
    /// # Errors
    /// The socket does not work.
    pub fn hear(&mut self, within: Duration) -> io::Result<Option<Heard>> {
        let until = Instant::now() + within;
        loop {
            if self.client.deadline().is_some_and(|at| at <= Instant::now()) {
                self.client.handle_timeout(Instant::now());
            }
            let heard = self.client.poll();
            self.send()?;
            let now = Instant::now();
            if heard.is_some() || now >= until {
                return Ok(heard);
            }
            let due = self.client.deadline().map_or(until, |at| at.min(until));
            self.receive(due.saturating_duration_since(now))?;
        }
    }

    fn receive(&mut self, within: Duration) -> io::Result<()> {
        self.socket.set_read_timeout(Some(within.max(WAIT_MIN)))?;
        match self.socket.recv_from(&mut self.buffer) {
            Ok((len, remote)) => {
                let meta = Meta { remote, ecn: 0 };
                self.client.handle(Instant::now(), unix_ms(), meta, &mut self.buffer[..len]);
                Ok(())
            }
            // Nothing in time; or an earlier datagram found nobody there, which says nothing about the next.
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock
                | io::ErrorKind::TimedOut
                | io::ErrorKind::Interrupted
                | io::ErrorKind::ConnectionRefused => Ok(()),
                _ => Err(error),
            },
        }
    }
}

fn socket(server: SocketAddr) -> io::Result<UdpSocket> {
    match server {
        SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)),
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
