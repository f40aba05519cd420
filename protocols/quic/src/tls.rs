//! Certificates, tickets and trust: what becomes quiche's own configuration.

use boring::{
    pkey::PKey,
    ssl::{SslContextBuilder, SslMethod},
    x509::{X509, store::X509StoreBuilder},
};

use crate::config::{Algorithm, ConfigError, DATAGRAM_MIN, Transport};

/// Bytes of a ticket key: a name, a key to authenticate and a key to encrypt.
pub const TICKET_KEY_LEN: usize = 48;

/// What a server shows and what it remembers tickets by.
#[derive(Clone)]
pub struct ServerConfig {
    /// The certificate chain in DER, the server's own first.
    pub certificates: Vec<Vec<u8>>,
    /// The private key in PKCS #8, SEC 1 or PKCS #1.
    pub key: Vec<u8>,
    /// The protocols that are spoken, the best first.
    pub alpn: Vec<Vec<u8>>,
    /// Seals tickets; the same for all shards, or a client that lands on another one cannot resume.
    pub ticket_key: [u8; TICKET_KEY_LEN],
    /// Whether clients may send data along with their first packet. It may be replayed.
    pub early_data: bool,
}

impl std::fmt::Debug for ServerConfig {
    // Keys are secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerConfig").field("early_data", &self.early_data).finish_non_exhaustive()
    }
}

impl ServerConfig {
    pub(crate) fn build(&self, transport: &Transport) -> Result<quiche::Config, ConfigError> {
        let mut context = SslContextBuilder::new(SslMethod::tls()).map_err(|_| ConfigError::Tls)?;
        let key = PKey::private_key_from_pkcs8(&self.key).or_else(|_| PKey::private_key_from_der(&self.key));
        let key = key.map_err(|_| ConfigError::Certificate)?;
        let (own, chain) = self.certificates.split_first().ok_or(ConfigError::Certificate)?;
        let parse = |der: &Vec<u8>| X509::from_der(der).map_err(|_| ConfigError::Certificate);
        context.set_certificate(&*parse(own)?).map_err(|_| ConfigError::Certificate)?;
        for der in chain {
            context.add_extra_chain_cert(parse(der)?).map_err(|_| ConfigError::Certificate)?;
        }
        context.set_private_key(&key).map_err(|_| ConfigError::Certificate)?;
        let mut config = config(context, &self.alpn, transport)?;
        config.set_ticket_key(&self.ticket_key).map_err(|_| ConfigError::Tls)?;
        if self.early_data {
            config.enable_early_data();
        }
        Ok(config)
    }
}

/// Whom a client believes.
#[derive(Clone, Debug)]
pub enum Trust {
    /// Anybody: for tests and load generators on one machine.
    DangerousAnybody,
    /// Whom one of these certificates (DER) vouches for.
    Roots(Vec<Vec<u8>>),
}

/// How clients connect; one for many connections.
pub struct Client {
    pub(crate) config: quiche::Config,
    /// How many streams the server may have open, by direction.
    pub(crate) streams_max: [u64; 2],
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    /// A client that speaks `alpn`. With a session of an earlier connection it sends data along with its first packet.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn new(trust: &Trust, alpn: &[Vec<u8>], transport: &Transport) -> Result<Self, ConfigError> {
        transport.check()?;
        let mut context = SslContextBuilder::new(SslMethod::tls()).map_err(|_| ConfigError::Tls)?;
        if let Trust::Roots(roots) = trust {
            let mut store = X509StoreBuilder::new().map_err(|_| ConfigError::Tls)?;
            for der in roots {
                let root = X509::from_der(der).map_err(|_| ConfigError::Certificate)?;
                store.add_cert(root).map_err(|_| ConfigError::Certificate)?;
            }
            context.set_cert_store_builder(store);
        }
        let mut config = config(context, alpn, transport)?;
        config.verify_peer(matches!(trust, Trust::Roots(_)));
        config.enable_early_data();
        Ok(Self { config, streams_max: transport.streams_max() })
    }

    /// Offers these key exchanges only, as BoringSSL names them (`X25519`); the default makes a ClientHello that needs two
    /// packets.
    ///
    /// # Errors
    /// A name that BoringSSL does not know.
    pub fn set_groups(&mut self, groups: &str) -> Result<(), ConfigError> {
        self.config.set_curves_list(groups).map_err(|_| ConfigError::Tls)
    }
}

fn config(context: SslContextBuilder, alpn: &[Vec<u8>], transport: &Transport) -> Result<quiche::Config, ConfigError> {
    if alpn.is_empty() || alpn.iter().any(|name| name.is_empty() || name.len() > 255) {
        return Err(ConfigError::Alpn);
    }
    let mut config =
        quiche::Config::with_boring_ssl_ctx_builder(quiche::PROTOCOL_VERSION, context).map_err(|_| ConfigError::Tls)?;
    let names: Vec<&[u8]> = alpn.iter().map(Vec::as_slice).collect();
    config.set_application_protos(&names).map_err(|_| ConfigError::Alpn)?;
    config.set_max_idle_timeout(transport.idle_timeout.as_millis() as u64);
    config.set_initial_rtt(transport.rtt_initial);
    config.set_cc_algorithm(match transport.algorithm {
        Algorithm::Cubic => quiche::CongestionControlAlgorithm::CUBIC,
        Algorithm::Bbr2 => quiche::CongestionControlAlgorithm::Bbr2Gcongestion,
        Algorithm::Reno => quiche::CongestionControlAlgorithm::Reno,
    });
    config.set_initial_max_data(transport.data_max);
    config.set_max_connection_window(transport.data_window_max);
    config.set_initial_max_stream_data_bidi_local(transport.stream_data_max);
    config.set_initial_max_stream_data_bidi_remote(transport.stream_data_max);
    config.set_initial_max_stream_data_uni(transport.stream_data_max);
    config.set_max_stream_window(transport.stream_window_max);
    config.set_initial_max_streams_bidi(transport.streams_bidirectional_max);
    config.set_initial_max_streams_uni(transport.streams_unidirectional_max);
    config.set_active_connection_id_limit(transport.ids_max);
    config.set_max_send_udp_payload_size(transport.udp_payload_max);
    config.discover_pmtu(transport.udp_payload_max > DATAGRAM_MIN);
    if transport.datagrams_max > 0 {
        config.enable_dgram(true, transport.datagrams_max, transport.datagrams_max);
    }
    Ok(config)
}
