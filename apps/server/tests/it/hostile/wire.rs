//! A client's end of a TCP connection, plain or with TLS, with a deadline on everything.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tcp::tls::{Tls, client_config};

use crate::process::{PATIENCE, Server};

/// What a read brought.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Got {
    Bytes(Vec<u8>),
    /// FIN or reset.
    Closed,
    /// Nothing in time.
    Nothing,
}

/// One connection.
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    tls: Option<Box<Tls>>,
}

impl Wire {
    pub(crate) fn to(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("the server listens");
        stream.set_nodelay(true).expect("set");
        stream.set_write_timeout(Some(PATIENCE)).expect("set");
        Self { stream, tls: None }
    }

    pub(crate) fn plain(server: &Server) -> Self {
        Self::to(server.plain)
    }

    /// With TLS, after its handshake.
    pub(crate) fn secure(server: &Server, alpn: &[u8]) -> Self {
        let mut wire = Self::to(server.secure);
        wire.tls = Some(Box::new(tls(server, alpn)));
        wire.flush();
        while wire.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) {
            assert!(wire.fill(&mut Vec::new(), PATIENCE), "the handshake ended");
        }
        wire
    }

    /// Sends what the server takes; it may have closed meanwhile.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        match &mut self.tls {
            Some(tls) => tls.send(bytes),
            None => drop(self.stream.write_all(bytes)),
        }
        self.flush();
    }

    fn flush(&mut self) {
        let Some(tls) = &mut self.tls else { return };
        let mut cipher = BytesMut::new();
        tls.take_output(&mut cipher);
        let _ = self.stream.write_all(&cipher);
    }

    /// What comes next.
    pub(crate) fn read(&mut self, within: Duration) -> Got {
        let until = Instant::now() + within;
        let mut plain = Vec::new();
        while plain.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Got::Nothing;
            }
            if !self.fill(&mut plain, left) && plain.is_empty() && Instant::now() < until {
                return Got::Closed;
            }
        }
        Got::Bytes(plain)
    }

    /// Reads once. `false`: nothing came in time, or it was closed.
    fn fill(&mut self, plain: &mut Vec<u8>, within: Duration) -> bool {
        let mut chunk = [0; 16 * 1024];
        self.stream.set_read_timeout(Some(within)).expect("not zero");
        let read = match self.stream.read(&mut chunk) {
            Ok(read) => read,
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => return true,
            Err(_) => 0,
        };
        match &mut self.tls {
            Some(tls) => {
                let good = tls.handle(&chunk[..read], plain).is_ok();
                self.flush();
                good && read > 0
            }
            None => {
                plain.extend_from_slice(&chunk[..read]);
                read > 0
            }
        }
    }

    /// Everything until the server closes.
    pub(crate) fn rest(&mut self, within: Duration) -> Vec<u8> {
        let until = Instant::now() + within;
        let mut all = Vec::new();
        loop {
            match self.read(until.saturating_duration_since(Instant::now())) {
                Got::Bytes(bytes) => all.extend(bytes),
                Got::Closed => return all,
                Got::Nothing => panic!("not closed in {within:?}; it said {:?}", String::from_utf8_lossy(&all)),
            }
        }
    }

    /// Everything until the server closes, as text.
    pub(crate) fn text(&mut self) -> String {
        String::from_utf8_lossy(&self.rest(PATIENCE)).into_owned()
    }

    /// Says that it sends no more.
    pub(crate) fn finish(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}

/// TLS that trusts the server's own certificate alone.
pub(crate) fn tls(server: &Server, alpn: &[u8]) -> Tls {
    let pem = fs::read(server.data().join("certificate.pem")).expect("made");
    let certificates = CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().expect("certificates");
    let config = client_config(certificates, &[alpn]).expect("a configuration");
    Tls::client(config, ServerName::try_from("localhost").expect("a name")).expect("a client")
}
