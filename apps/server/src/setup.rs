//! What all shards of a run share, read-only: the configuration, the keys, TLS, and the counters of each.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use arc_swap::ArcSwapOption;
use chat::{Chat, rate::Rates};
use engine::{Io, Listener, ShardId};
use http::HeaderValue;
use quantum::{Algorithm, Endpoint, EndpointConfig, FecMode, Router, Transport, token::TokenKey};
use rand::Rng;
use rustls::ServerConfig;
use session::Keys;
use sha2::{Digest, Sha256};
use tcp::tls::{Tls, TlsError};
use topic::snapshot::Snapshot;

use crate::{
    carrier,
    certificate::Certificates,
    config::{Config, Congestion, Fec},
    journal::Journals,
    lane::BULK_MAX,
    login::Logins,
    mail::Mail,
    metrics::{ServerStats, Stats, shards_json},
    peers::quic::ALPN,
};

/// What a shard needs of the process.
pub struct Setup {
    /// The effective configuration.
    pub config: Config,
    /// What signs and checks tokens and tickets.
    pub keys: Keys,
    /// Which logins stand.
    pub logins: Arc<Logins>,
    /// The counters of each shard.
    pub stats: Vec<Arc<ServerStats>>,
    /// All figures, once the shards run.
    pub figures: OnceLock<Arc<Stats>>,
    /// Keeps the hashes of names from whoever chooses names.
    pub hash_seed: u64,
    /// TLS, for the listeners that have it.
    pub tls: Option<(Listener, Arc<ServerConfig>)>,
    /// Quantum, if it is spoken.
    pub quantum: Option<Quantum>,
    /// QUIC, if it is spoken.
    pub quic: Option<Quic>,
    /// What pages may load and connect to.
    pub policy: HeaderValue,
    /// The certificate in use.
    pub certificates: Option<Arc<Certificates>>,
    /// Where the journal of each shard is, and what was in it, until the shard has taken it up.
    pub journal: Option<Journals>,
    /// Who has an account, and which words are not wanted.
    pub shared: Arc<chat::Shared>,
    /// The topics of the run before that were in memory, until every shard has taken up its own.
    pub snapshot: ArcSwapOption<Snapshot>,
}

/// Bytes of ephemeral messages that wait on one connection, in each direction. Newer ones replace them.
const DATAGRAM_BYTES_MAX: usize = 16 * 1024;

/// The key of a protocol's stateless resets. It follows from the secret of the server, so that the run after a crash tells
/// the clients of the one before at once that their connections are gone.
pub(crate) fn reset_key(secret: &[u8], protocol: &str) -> [u8; 32] {
    let digest = Sha256::new().chain_update("ringshard stateless reset ").chain_update(protocol).chain_update(secret);
    digest.finalize().into()
}

/// What the Quantum endpoints of all shards have in common. Its keys are made anew by every run, unless somebody sets one.
pub struct Quantum {
    /// What routing words are multiplied by, here and in the kernel's filter.
    pub multiplier: u32,
    /// What seals the tokens of Retry and of later visits.
    pub token: TokenKey,
    /// What makes the tokens of stateless resets.
    pub reset_key: [u8; 32],
    /// TLS.
    pub tls: quantum::ServerConfig,
}

impl Quantum {
    /// New keys for a run.
    #[must_use]
    pub fn new(multiplier: u32, tls: quantum::ServerConfig, rng: &mut impl Rng) -> Self {
        Self { multiplier, token: TokenKey::new(rng.random(), None), reset_key: rng.random(), tls }
    }
}

/// What the QUIC endpoints of all shards have in common. Its keys are made anew by every run, as Quantum's.
pub struct Quic {
    /// What routing words are multiplied by, here and in the kernel's filter.
    pub multiplier: u32,
    /// What seals the tokens of Retry.
    pub token: quic::token::TokenKey,
    /// What makes the tokens of stateless resets.
    pub reset: quic::token::ResetKey,
    /// TLS, with the certificate that was in use at the start.
    pub tls: quic::ServerConfig,
    /// The address of ours that clients use, and where pages are told to find HTTP/3.
    pub local: SocketAddr,
    /// The ports of the listeners whose pages may open sessions here.
    pub ports: [u16; 2],
    /// The value of `Alt-Svc`.
    pub alt_svc: HeaderValue,
}

impl Quic {
    /// New keys for a run on `local`, beside a plain listener on `plain`, by a certificate chain and its key in DER.
    #[must_use]
    pub fn new(
        multiplier: u32,
        (local, plain): (SocketAddr, u16),
        (certificates, key): (Vec<Vec<u8>>, Vec<u8>),
        rng: &mut impl Rng,
    ) -> Self {
        let mut ticket_key = [0; quic::tls::TICKET_KEY_LEN];
        rng.fill(&mut ticket_key[..]);
        let alt_svc = HeaderValue::try_from(format!("h3=\":{}\"; ma={ALT_SVC_SECS}", local.port()));
        Self {
            multiplier,
            token: quic::token::TokenKey::new(rng.random(), None),
            reset: quic::token::ResetKey::new(&rng.random()),
            tls: quic::ServerConfig {
                certificates,
                key,
                alpn: ALPN.iter().map(|name| name.to_vec()).collect(),
                ticket_key,
                early_data: true,
            },
            local,
            ports: [plain, local.port()],
            alt_svc: alt_svc.unwrap_or(HeaderValue::from_static("clear")),
        }
    }
}

/// Whether a page is of this very server: of the host that the request is for, on one of our ports.
fn is_ours(origin: &str, host: &str, ports: [u16; 2]) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let default = if scheme == "https" { 443 } else { 80 };
    let split = |authority: &str| match authority.rsplit_once(':') {
        // Not within the brackets of an IPv6 address.
        Some((name, port)) if !port.ends_with(']') => (name.to_ascii_lowercase(), port.parse().ok()),
        _ => (authority.to_ascii_lowercase(), Some(default)),
    };
    let ((page, port), (own, _)) = (split(authority), split(host));
    ["http", "https"].contains(&scheme)
        && !page.is_empty()
        && (page == own || [&page, &own].iter().all(|name| LOOPBACK.contains(&name.as_str())))
        && port.is_some_and(|port| ports.contains(&port))
}

/// Names of this machine. A page on `localhost` opens its session at 127.0.0.1, for that is where browsers find UDP.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// How long a browser may remember where HTTP/3 is: a day, as many do.
const ALT_SVC_SECS: u32 = 86_400;

/// Stateless resets per second and shard, at most.
const RESETS_PER_S: u32 = 1000;

/// Bytes of a first window, at most: what quiche's 128 bytes of transport parameters hold.
const WINDOW_FIRST_MAX: u64 = (1 << 30) - 1;

/// Datagrams of one QUIC connection that wait, in each direction.
const QUIC_DATAGRAMS_MAX: usize = 256;

impl Setup {
    /// QUIC on the shard that `io` belongs to.
    pub(crate) fn quic(&self, io: &mut Io<Mail>) -> Result<Option<carrier::Quic>, quic::ConfigError> {
        let Some(quic) = &self.quic else { return Ok(None) };
        let (limits, ShardId(shard)) = (&self.config.quic, io.shard());
        let config = quic::EndpointConfig {
            router: quic::Router::new(quic.multiplier, io.shards(), shard),
            token: quic.token.clone(),
            reset: quic.reset.clone(),
            half_open_max: limits.half_open_max,
            retry_above: limits.retry_above,
            connections_max: limits.connections_max,
            resets_per_s: RESETS_PER_S,
            transport: Arc::new(self.quic_transport()),
        };
        let certificate = self.certificates.as_ref().map_or(0, |certificates| certificates.version());
        let endpoint = quic::Endpoint::new(config, self.quic_tls().as_ref(), io.rng().random())?;
        Ok(Some(carrier::Quic::new(endpoint, quic.local, Arc::new(self.http3()), certificate)))
    }

    /// TLS with the certificate in use now.
    pub(crate) fn quic_tls(&self) -> Option<quic::ServerConfig> {
        let mut tls = self.quic.as_ref()?.tls.clone();
        if let Some(certificates) = &self.certificates {
            (tls.certificates, tls.key) = certificates.der();
        }
        Some(tls)
    }

    fn quic_transport(&self) -> quic::Transport {
        let (limits, quic) = (&self.config.limits, &self.config.quic);
        let bytes = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX).min(WINDOW_FIRST_MAX);
        let (first, all) = (limits.frame_bytes.saturating_mul(2), limits.frame_bytes.saturating_mul(4));
        quic::Transport {
            idle_timeout: quic.idle_secs,
            algorithm: match quic.congestion {
                Congestion::Bbr => quic::Algorithm::Bbr2,
                Congestion::Cubic => quic::Algorithm::Cubic,
            },
            // A stranger's window holds the largest message. It grows for whoever fills it and is read.
            stream_data_max: bytes(first),
            stream_window_max: bytes(first).saturating_mul(16),
            data_max: bytes(all),
            data_window_max: bytes(all).saturating_mul(16),
            streams_bidirectional_max: u64::from(quic::h3::Limits::default().streams_max),
            datagrams_max: QUIC_DATAGRAMS_MAX,
            ..quic::Transport::default()
        }
    }

    fn http3(&self) -> quic::h3::Config {
        let limits = &self.config.limits;
        let (defaults, out_max) =
            (quic::h3::Limits::default(), u32::try_from(limits.queue_hard_bytes).unwrap_or(u32::MAX));
        let (origins, ports) =
            (self.config.listen.origins.clone(), self.quic.as_ref().map_or([0; 2], |quic| quic.ports));
        quic::h3::Config {
            limits: quic::h3::Limits {
                section_bytes_max: u32::try_from(limits.http_head_bytes).unwrap_or(u32::MAX),
                target_bytes_max: u16::try_from(limits.http_target_bytes).unwrap_or(u16::MAX),
                head_secs: u16::try_from(limits.http_head_secs.as_secs()).unwrap_or(u16::MAX),
                // Beyond what a session may have queued it is closed.
                stream_out_bytes_max: out_max,
                connection_out_bytes_max: defaults.connection_out_bytes_max.max(out_max),
                ..defaults
            },
            extended_connect: false,
            origin: Some(quic::webtransport::OriginRule::new(move |origin, host| {
                is_ours(origin, host, ports) || origins.allow(origin)
            })),
            ..quic::h3::Config::default()
        }
    }

    /// What pages may load and connect to.
    pub(crate) fn policy(&self) -> &HeaderValue {
        &self.policy
    }

    /// The value of `Alt-Svc`, if there is HTTP/3.
    pub(crate) fn alt_svc(&self) -> Option<&HeaderValue> {
        self.quic.as_ref().map(|quic| &quic.alt_svc)
    }

    /// The Quantum endpoint of the shard that `io` belongs to.
    pub(crate) fn endpoint(&self, io: &mut Io<Mail>) -> Option<Endpoint> {
        let quantum = self.quantum.as_ref()?;
        let (limits, ShardId(shard)) = (&self.config.quantum, io.shard());
        let config = EndpointConfig {
            router: Router::new(quantum.multiplier, io.shards(), shard),
            token: quantum.token.clone(),
            reset_key: quantum.reset_key,
            half_open_max: limits.half_open_max,
            retry_above: limits.retry_above,
            connections_max: limits.connections_max,
            transport: Arc::new(self.transport()),
        };
        Some(Endpoint::new(config, Some(quantum.tls.clone()), io.rng().random()))
    }

    fn transport(&self) -> Transport {
        let (limits, quantum) = (&self.config.limits, &self.config.quantum);
        let bytes = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
        Transport {
            idle_timeout: quantum.idle_secs,
            // The session has pings of its own.
            keep_alive: None,
            algorithm: match quantum.congestion {
                Congestion::Bbr => Algorithm::Bbr,
                Congestion::Cubic => Algorithm::Cubic,
            },
            fec: match quantum.fec {
                Fec::Adaptive => FecMode::Adaptive,
                Fec::Off => FecMode::Off,
            },
            // A stranger's window holds the largest message. It grows for whoever fills it and is read.
            stream_data_max: bytes(limits.frame_bytes),
            stream_window_max: bytes(limits.frame_bytes.saturating_mul(16)),
            data_max: bytes(limits.frame_bytes.saturating_mul(2)),
            data_window_max: bytes(limits.frame_bytes.saturating_mul(32)),
            datagram_bytes_max: DATAGRAM_BYTES_MAX,
            streams_bidirectional_max: 1,
            streams_unidirectional_max: BULK_MAX as u64,
            // Beside what is queued here may be as much on its way: so much fits into a round trip.
            message_max: 0,
            send_bytes_max: bytes(limits.queue_hard_bytes.saturating_mul(2)),
            ..Transport::default()
        }
    }

    /// TLS for a connection that came in by `listener`, if that one has it. A failure is never an open connection.
    pub(crate) fn tls_for(&self, listener: Listener) -> Result<Option<Box<Tls>>, TlsError> {
        match &self.tls {
            Some((secure, config)) if *secure == listener => Ok(Some(Box::new(Tls::server(Arc::clone(config))?))),
            Some(_) | None => Ok(None),
        }
    }

    pub(crate) fn stats(&self, shard: engine::ShardId) -> Arc<ServerStats> {
        Arc::clone(&self.stats[shard.index()])
    }

    /// The document of `/api/v1/shards`.
    pub(crate) fn shards_json(&self, wall_ms: u64) -> String {
        self.figures.get().map_or_else(|| "{}".to_owned(), |stats| shards_json(stats, wall_ms))
    }

    pub(crate) fn cert_hash(&self) -> Option<String> {
        self.certificates.as_ref().map(|certificates| certificates.about().sha256)
    }

    pub(crate) fn http_limits(&self) -> ringshard_http::Limits {
        let limits = &self.config.limits;
        let bytes = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        let secs = |time: std::time::Duration| u16::try_from(time.as_secs()).unwrap_or(u16::MAX);
        ringshard_http::Limits {
            target_max: bytes(limits.http_target_bytes),
            head_max: bytes(limits.http_head_bytes),
            body_max: bytes(limits.http_body_bytes),
            head_secs: secs(limits.http_head_secs),
            idle_secs: secs(limits.http_idle_secs),
            ..ringshard_http::Limits::default()
        }
    }

    /// The apps of a shard, with nothing in them.
    pub(crate) fn chat(&self) -> Chat {
        new_chat(&self.config, &self.shared, self.hash_seed)
    }
}

/// The apps of a shard, with nothing in them. The seed keeps hashes secret from whoever chooses names.
#[must_use]
pub fn new_chat(config: &Config, shared: &Arc<chat::Shared>, hash_seed: u64) -> Chat {
    let (limits, chat) = (topic_limits(config), &config.chat);
    let rates = Rates::new(chat.rate_sec, chat.rate_min, chat.rate_hour);
    let (text_chars_max, day_offset_min) = (config.limits.text_chars, chat.day_offset_min);
    let settings = chat::Settings { text_chars_max, rates, day_offset_min, ..chat::Settings::default() };
    Chat::new(limits, settings, Arc::clone(shared), hash_seed)
}

fn topic_limits(config: &Config) -> topic::Limits {
    let limits = &config.limits;
    let journal = &config.journal;
    topic::Limits {
        segment_bytes: journal.segment_bytes as u64,
        journal_bytes: journal.shard_bytes as u64,
        retention_bytes: journal.topic_bytes as u64,
        retention_ms: u64::try_from(journal.message_ttl.as_millis()).unwrap_or(u64::MAX),
        topics_max: limits.topics_max,
        subs_max: limits.subs_per_session,
        history_records_max: limits.history_messages,
        history_bytes_max: limits.history_bytes,
        ..topic::Limits::default()
    }
}

impl Setup {
    pub(crate) fn socket_limits(&self) -> websocket::Limits {
        let bytes = self.config.limits.frame_bytes;
        websocket::Limits { message_max: bytes, frame_max: bytes }
    }

    pub(crate) fn session_limits(&self) -> session::Limits {
        let limits = &self.config.limits;
        session::Limits {
            hello: limits.hello_secs,
            hello_bytes: limits.hello_bytes,
            hello_frames: limits.hello_frames,
            idle: limits.idle_secs,
            ping: limits.ping_secs,
            messages_per_sec: limits.messages_per_sec,
            messages_burst: limits.messages_burst,
            requests_inflight: limits.requests_inflight,
            subs: limits.subs_per_session,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_both_listeners_are_ours() {
        let ports = [8080, 8443];
        for (origin, host, ours) in [
            ("http://127.0.0.1:8080", "127.0.0.1:8443", true),
            ("https://Chat.example:8443", "chat.example:8443", true),
            ("http://[::1]:8080", "[::1]:8443", true),
            ("http://localhost:8080", "127.0.0.1:8443", true),
            ("http://localhost:8080", "chat.example:8443", false),
            ("http://chat.example:8080", "127.0.0.1:8443", false),
            ("http://127.0.0.1:8081", "127.0.0.1:8443", false),
            ("http://127.0.0.2:8080", "127.0.0.1:8443", false),
            ("http://127.0.0.1", "127.0.0.1:8443", false),
            ("ftp://127.0.0.1:8080", "127.0.0.1:8443", false),
            ("null", "127.0.0.1:8443", false),
            ("http://", "", false),
            ("http://:8080", ":8443", false),
        ] {
            assert_eq!(is_ours(origin, host, ports), ours, "{origin} {host}");
        }
        assert!(is_ours("https://chat.example", "chat.example", [80, 443]));
    }
}
