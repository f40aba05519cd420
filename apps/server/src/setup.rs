//! What all shards of a run share, read-only: the configuration, the keys, TLS, and the counters of each.

use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwapOption;
use engine::Listener;
use rustls::ServerConfig;
use session::Keys;
use tcp::tls::{Tls, TlsError};
use topic::snapshot::Snapshot;

use crate::{
    certificate::Certificates,
    config::Config,
    metrics::{ServerStats, Stats, shards_json},
};

/// What a shard needs of the process.
pub struct Setup {
    /// The effective configuration.
    pub config: Config,
    /// What signs and checks tokens and tickets.
    pub keys: Keys,
    /// The counters of each shard.
    pub stats: Vec<Arc<ServerStats>>,
    /// All figures, once the shards run.
    pub figures: OnceLock<Arc<Stats>>,
    /// Keeps the hashes of names from whoever chooses names.
    pub hash_seed: u64,
    /// TLS, for the listeners that have it.
    pub tls: Option<(Listener, Arc<ServerConfig>)>,
    /// The certificate in use.
    pub certificates: Option<Arc<Certificates>>,
    /// The topics of the run before, until every shard has taken up its own.
    pub snapshot: ArcSwapOption<Snapshot>,
}

impl Setup {
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

    pub(crate) fn topic_limits(&self) -> topic::Limits {
        let limits = &self.config.limits;
        topic::Limits {
            topics_max: limits.topics_max,
            subs_max: limits.subs_per_session,
            history_records_max: limits.history_messages,
            history_bytes_max: limits.history_bytes,
            ..topic::Limits::default()
        }
    }

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
