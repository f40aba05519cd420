//! TLS 1.3 over memory: ciphertext in, plain bytes out, and the other way round. rustls does all of it.
//!
//! rustls reads the time (for tickets and certificates) and the system's random numbers by itself; nothing else here does.

use std::{
    io::{BufRead, Write},
    sync::Arc,
};

use bytes::{BufMut, BytesMut};
pub use rustls;
use rustls::{
    ClientConfig, ClientConnection, Connection, HandshakeKind, RootCertStore, ServerConfig, ServerConnection,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
    server::{NoServerSessionStorage, ProducesTickets, ResolvesServerCert},
    sign::{CertifiedKey, SingleCertAndKey},
};
use thiserror::Error;

/// Why TLS cannot start or go on.
#[derive(Clone, PartialEq, Debug, Error)]
#[error(transparent)]
pub struct TlsError(#[from] rustls::Error);

/// What seals session tickets. One for all shards and all generations of the certificate, for a client that comes back
/// lands on any shard, and after any reload.
///
/// # Errors
/// The system has no random numbers.
pub fn ticketer() -> Result<Arc<dyn ProducesTickets>, TlsError> {
    Ok(ring::Ticketer::new()?)
}

/// A server's configuration, to be shared by all shards: TLS 1.3 only, no client certificates, no early data.
///
/// # Errors
/// The key does not fit the certificate, or rustls does not know its kind.
pub fn server_config(
    certificates: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    alpn: &[&[u8]],
    ticketer: Arc<dyn ProducesTickets>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let certified = CertifiedKey::from_der(certificates, key, &ring::default_provider())?;
    server_config_with(Arc::new(SingleCertAndKey::from(certified)), alpn, ticketer)
}

/// The same with certificates that may change while the configuration is in use: each handshake asks for one.
///
/// # Errors
/// rustls cannot do TLS 1.3.
pub fn server_config_with(
    certificates: Arc<dyn ResolvesServerCert>,
    alpn: &[&[u8]],
    ticketer: Arc<dyn ProducesTickets>,
) -> Result<Arc<ServerConfig>, TlsError> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.ticketer = ticketer;
    // Tickets hold all there is to resume; a table beside them would be shared between the shards, behind a lock.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// A client's configuration that trusts `roots` alone; a self-signed certificate is its own root.
///
/// # Errors
/// A root cannot be read.
pub fn client_config(roots: Vec<CertificateDer<'static>>, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, TlsError> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root)?;
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(config))
}

/// One TLS connection, at either end.
#[derive(Debug)]
pub struct Tls {
    connection: Connection,
    peer_closed: bool,
}

impl Tls {
    /// The server's end.
    ///
    /// # Errors
    /// The configuration asks for what rustls cannot do.
    pub fn server(config: Arc<ServerConfig>) -> Result<Self, TlsError> {
        Ok(Self::new(Connection::Server(ServerConnection::new(config)?)))
    }

    /// The client's end.
    ///
    /// # Errors
    /// The configuration asks for what rustls cannot do.
    pub fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, TlsError> {
        Ok(Self::new(Connection::Client(ClientConnection::new(config, name)?)))
    }

    fn new(mut connection: Connection) -> Self {
        // What is sent is taken in the same turn, and the sender keeps the account of it: a second limit here would
        // only make short writes that somebody has to remember.
        connection.set_buffer_limit(None);
        Self { connection, peer_closed: false }
    }

    /// Takes received bytes and appends what was in them to `plain`. Bytes after the peer's goodbye are ignored.
    ///
    /// # Errors
    /// The peer broke the protocol or was not who it should be. The alert is in the output; every later call fails too.
    pub fn handle(&mut self, mut cipher: &[u8], plain: &mut Vec<u8>) -> Result<(), TlsError> {
        while !cipher.is_empty() && !self.peer_closed {
            // rustls takes 4 KiB per call, so one record never finds its plaintext buffer full: an error would mean
            // that records were left in it, and they are not.
            let taken =
                self.connection.read_tls(&mut cipher).map_err(|error| rustls::Error::General(error.to_string()))?;
            let state = self.connection.process_new_packets()?;
            self.peer_closed = state.peer_has_closed();
            self.drain(plain);
            if taken == 0 {
                break;
            }
        }
        Ok(())
    }

    /// Queues bytes; before the handshake is done they wait for it. After an error they are dropped.
    pub fn send(&mut self, plain: &[u8]) {
        // Without a limit the only error is that of a broken connection, which `handle` has reported.
        let _ = self.connection.writer().write_all(plain);
    }

    /// Appends what is to be sent: records, and the alert after an error.
    pub fn take_output(&mut self, out: &mut BytesMut) {
        while self.connection.wants_write() {
            if !matches!(self.connection.write_tls(&mut out.writer()), Ok(1..)) {
                break;
            }
        }
    }

    /// Whether there is something to be sent.
    #[must_use]
    pub fn has_output(&self) -> bool {
        self.connection.wants_write()
    }

    /// Application data cannot flow yet.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    /// The protocol that both sides agreed on, once that is known.
    #[must_use]
    pub fn alpn(&self) -> Option<&[u8]> {
        self.connection.alpn_protocol()
    }

    /// Whether the handshake was whole or went on where an earlier one was, once that is known.
    #[must_use]
    pub fn handshake_kind(&self) -> Option<HandshakeKind> {
        self.connection.handshake_kind()
    }

    /// The peer has said goodbye; without it the end of the stream may be an attacker's.
    #[must_use]
    pub fn peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// Queues our goodbye; nothing can be sent after it.
    pub fn close_notify(&mut self) {
        self.connection.send_close_notify();
    }

    fn drain(&mut self, plain: &mut Vec<u8>) {
        let mut reader = self.connection.reader();
        while let Ok(bytes @ [_, ..]) = reader.fill_buf() {
            let len = bytes.len();
            plain.extend_from_slice(bytes);
            reader.consume(len);
        }
    }
}
