//! Configuration of TLS, for servers and clients: TLS 1.3 alone, ALPN `quantum/1`, time and tickets from outside.

use std::sync::Arc;

use rustls::{
    ClientConfig as TlsClient, Error, RootCertStore, ServerConfig as TlsServer,
    client::{ClientSessionStore, Resumption},
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer},
    quic::Suite,
    server::{NoServerSessionStorage, ProducesTickets, ResolvesServerCert, StoresServerSessions},
    sign::{CertifiedKey, SingleCertAndKey},
    time_provider::{DefaultTimeProvider, TimeProvider},
};

use super::verify::Pinned;

/// The application protocol that both sides must agree on.
pub const ALPN: &[u8] = b"quantum/1";

/// Early data is not limited by TLS but by flow control (RFC 9001, section 4.6.1).
const EARLY_DATA: u32 = u32::MAX;

/// Tickets per handshake: a client that comes back uses one and gets another.
const TICKETS: usize = 1;

/// Why there is no configuration, or no connection by it.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
pub enum ConfigError {
    /// Certificate, key or cipher suites.
    #[error(transparent)]
    Tls(#[from] Error),
    /// Handshakes of this configuration end in another protocol, or in none.
    #[error("ALPN must be quantum/1 alone")]
    Alpn,
    /// Neither a DNS name nor an IP address.
    #[error("not a server name")]
    ServerName,
    /// rustls has no first message.
    #[error("the handshake cannot begin")]
    Hello,
}

/// A server's configuration, shared by all shards.
#[derive(Clone, Debug)]
pub struct ServerConfig(Arc<TlsServer>);

impl ServerConfig {
    /// Takes a configuration of rustls, if it fits.
    ///
    /// # Errors
    /// It has another ALPN, no TLS 1.3, or an amount of early data between none and all.
    pub fn new(tls: Arc<TlsServer>) -> Result<Self, ConfigError> {
        if tls.alpn_protocols != [ALPN] {
            return Err(ConfigError::Alpn);
        }
        // rustls names what else is wrong, but only to a connection.
        rustls::quic::ServerConnection::new(Arc::clone(&tls), rustls::quic::Version::V1, Vec::new())?;
        Ok(Self(tls))
    }

    /// Begins one with a certificate chain and its key.
    ///
    /// # Errors
    /// The key does not fit the certificate, or rustls does not know its kind.
    pub fn builder(
        certificates: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<ServerBuilder, ConfigError> {
        let certified = CertifiedKey::from_der(certificates, key, &ring::default_provider())?;
        Ok(Self::builder_with(Arc::new(SingleCertAndKey::from(certified))))
    }

    /// Begins one with certificates that may change while it is in use: each handshake asks for one.
    #[must_use]
    pub fn builder_with(certificates: Arc<dyn ResolvesServerCert>) -> ServerBuilder {
        ServerBuilder { certificates, common: Common::default(), ticketer: None, sessions: None }
    }

    #[cfg(test)]
    pub(super) fn unchecked(tls: Arc<TlsServer>) -> Self {
        Self(tls)
    }

    pub(super) fn tls(&self) -> &Arc<TlsServer> {
        &self.0
    }
}

/// What a server's configuration is made of.
#[derive(Debug)]
pub struct ServerBuilder {
    certificates: Arc<dyn ResolvesServerCert>,
    common: Common,
    ticketer: Option<Arc<dyn ProducesTickets>>,
    sessions: Option<Arc<dyn StoresServerSessions>>,
}

impl ServerBuilder {
    /// Clients may resume with tickets that this one seals. All shards must share it.
    #[must_use]
    pub fn ticketer(mut self, ticketer: Arc<dyn ProducesTickets>) -> Self {
        self.ticketer = Some(ticketer);
        self
    }

    /// Clients may resume, and send data with their first packet. All shards must share the store, which hands every
    /// session out once: replayed 0-RTT finds none (RFC 8446, section 8.1). rustls takes early data with a store alone,
    /// so that a ticketer is not used then.
    #[must_use]
    pub fn early_data(mut self, sessions: Arc<dyn StoresServerSessions>) -> Self {
        self.sessions = Some(sessions);
        self
    }

    /// Where the time for tickets comes from, if not from the system.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn TimeProvider>) -> Self {
        self.common.clock = clock;
        self
    }

    /// What makes random numbers and keys, if not ring.
    #[must_use]
    pub fn provider(mut self, provider: Arc<CryptoProvider>) -> Self {
        self.common.provider = provider;
        self
    }

    /// The configuration.
    ///
    /// # Errors
    /// The provider cannot do what QUIC needs.
    pub fn build(self) -> Result<ServerConfig, ConfigError> {
        let mut tls = TlsServer::builder_with_details(self.common.provider, self.common.clock)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_cert_resolver(self.certificates);
        tls.alpn_protocols = vec![ALPN.to_vec()];
        tls.send_tls13_tickets = TICKETS;
        match (self.sessions, self.ticketer) {
            (Some(sessions), _) => {
                tls.session_storage = sessions;
                tls.max_early_data_size = EARLY_DATA;
            }
            (None, ticketer) => {
                tls.session_storage = Arc::new(NoServerSessionStorage {});
                match ticketer {
                    Some(ticketer) => tls.ticketer = ticketer,
                    None => tls.send_tls13_tickets = 0,
                }
            }
        }
        ServerConfig::new(Arc::new(tls))
    }
}

/// Whom a client takes for its server.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Who has a certificate for the name by one of these.
    Roots(Arc<RootCertStore>),
    /// Who has the certificate whose DER has this SHA-256, whatever it says: the one at `/cert-hash`.
    Certificate([u8; 32]),
    /// Whoever answers. For tests.
    #[doc(hidden)]
    DangerousAnybody,
}

/// A client's configuration. Sessions are resumed between connections that share it.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    tls: Arc<TlsClient>,
    resumes: bool,
}

impl ClientConfig {
    /// Begins one.
    #[must_use]
    pub fn builder(trust: Trust) -> ClientBuilder {
        ClientBuilder { trust, common: Common::default(), sessions: None, early_data: false }
    }

    pub(super) fn tls(&self) -> &Arc<TlsClient> {
        &self.tls
    }

    /// Whether tickets are of any use.
    pub(super) fn resumes(&self) -> bool {
        self.resumes
    }
}

/// What a client's configuration is made of.
#[derive(Debug)]
pub struct ClientBuilder {
    trust: Trust,
    common: Common,
    sessions: Option<Arc<dyn ClientSessionStore>>,
    early_data: bool,
}

impl ClientBuilder {
    /// Keeps tickets here and resumes with them. Without, every handshake is a full one, and its state goes sooner.
    #[must_use]
    pub fn sessions(mut self, sessions: Arc<dyn ClientSessionStore>) -> Self {
        self.sessions = Some(sessions);
        self
    }

    /// Sends data with the first packet, where the session allows it. Who records it can send it again: only for what
    /// may happen twice.
    #[must_use]
    pub fn early_data(mut self) -> Self {
        self.early_data = true;
        self
    }

    /// Where the time comes from by which certificates and tickets are judged, if not from the system.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn TimeProvider>) -> Self {
        self.common.clock = clock;
        self
    }

    /// What makes random numbers and keys, if not ring.
    #[must_use]
    pub fn provider(mut self, provider: Arc<CryptoProvider>) -> Self {
        self.common.provider = provider;
        self
    }

    /// The configuration.
    ///
    /// # Errors
    /// The provider cannot do what QUIC needs.
    pub fn build(self) -> Result<ClientConfig, ConfigError> {
        let algorithms = self.common.provider.signature_verification_algorithms;
        let builder = TlsClient::builder_with_details(self.common.provider, self.common.clock)
            .with_protocol_versions(&[&rustls::version::TLS13])?;
        let pinned = |sha256| Arc::new(Pinned { sha256, algorithms });
        let builder = match self.trust {
            Trust::Roots(roots) => builder.with_root_certificates(roots),
            Trust::Certificate(sha256) => builder.dangerous().with_custom_certificate_verifier(pinned(Some(sha256))),
            Trust::DangerousAnybody => builder.dangerous().with_custom_certificate_verifier(pinned(None)),
        };
        let mut tls = builder.with_no_client_auth();
        tls.alpn_protocols = vec![ALPN.to_vec()];
        tls.enable_early_data = self.early_data;
        let resumes = self.sessions.is_some();
        tls.resumption = self.sessions.map_or_else(Resumption::disabled, Resumption::store);
        Ok(ClientConfig { tls: Arc::new(tls), resumes })
    }
}

/// What servers and clients have in common.
#[derive(Debug)]
struct Common {
    provider: Arc<CryptoProvider>,
    clock: Arc<dyn TimeProvider>,
}

impl Default for Common {
    fn default() -> Self {
        Self { provider: Arc::new(provider()), clock: Arc::new(DefaultTimeProvider) }
    }
}

/// ring, with AES-128 first: 128 bits are enough, and cost a third less than ring's own first choice of 256.
pub(super) fn provider() -> CryptoProvider {
    let suites = [
        ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
        ring::cipher_suite::TLS13_AES_256_GCM_SHA384,
        ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    CryptoProvider { cipher_suites: suites.to_vec(), ..ring::default_provider() }
}

/// What Initial packets are sealed with, whatever is agreed on later (RFC 9001, section 5.2).
pub(super) fn initial_suite() -> Suite {
    let suite = ring::cipher_suite::TLS13_AES_128_GCM_SHA256.tls13().and_then(|suite| suite.quic_suite());
    suite.expect("ring's TLS 1.3 suites have keys for QUIC")
}
