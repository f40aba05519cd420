//! What the admin listener answers to which path.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{Phase, State};
use crate::{
    config::Level,
    metrics::{self, shards_json},
};

/// A response that is whole before its first byte leaves.
#[derive(Debug)]
pub(super) struct Answer {
    status: u16,
    kind: &'static str,
    allow: Option<&'static str>,
    body: String,
}

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
/// The text format of Prometheus.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

const PATHS: &str = "\
/healthz     200 while the process lives
/readyz      200 when every shard serves, 503 while starting, draining or a journal, accounts or logins cannot be written
/metrics     figures for Prometheus
/shards      figures of each shard, JSON
/config      the configuration in effect, TOML, without secrets
/debug/log   the log level; POST /debug/log?level=debug changes it until SIGHUP or the end
";

impl Answer {
    pub(super) fn text(status: u16, body: impl Into<String>) -> Self {
        Self { status, kind: TEXT, allow: None, body: body.into() }
    }

    fn json(body: String) -> Self {
        Self { status: 200, kind: JSON, allow: None, body }
    }

    fn not_allowed(allow: &'static str) -> Self {
        Self { allow: Some(allow), ..Self::text(405, format!("this path knows {allow}\n")) }
    }

    /// The whole response; with `head_only` without its body.
    pub(super) fn bytes(&self, head_only: bool) -> Vec<u8> {
        let allow = self.allow.map_or(String::new(), |allow| format!("allow: {allow}\r\n"));
        let head = format!(
            "HTTP/1.1 {} {}\r\ncontent-type: {}\r\ncontent-length: {}\r\n{allow}cache-control: no-store\r\n\
             x-content-type-options: nosniff\r\nconnection: close\r\n\r\n",
            self.status,
            phrase(self.status),
            self.kind,
            self.body.len(),
        );
        let mut bytes = head.into_bytes();
        if !head_only {
            bytes.extend_from_slice(self.body.as_bytes());
        }
        bytes
    }
}

fn phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        431 => "Request Header Fields Too Large",
        _ => "Service Unavailable",
    }
}

/// The answer to a request; `foreign` when a web page sent it.
pub(super) fn to(method: &str, target: &str, foreign: bool, state: &State) -> Answer {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let reads = matches!(method, "GET" | "HEAD");
    match path {
        "/debug/log" if method == "POST" => set_level(query, foreign, state),
        "/debug/log" if reads => Answer::json(format!("{{\"level\":\"{}\"}}\n", state.logger.level())),
        "/debug/log" => Answer::not_allowed("GET, HEAD, POST"),
        _ if !reads => Answer::not_allowed("GET, HEAD"),
        "/" => Answer::text(200, PATHS),
        "/healthz" => Answer::text(200, "ok\n"),
        "/readyz" => ready(state),
        "/metrics" => {
            state.refresh();
            Answer { kind: EXPOSITION, ..Answer::text(200, metrics::text(&state.stats)) }
        }
        "/shards" => Answer::json(shards_json(&state.stats, now_ms())),
        "/config" => Answer { kind: "application/toml", ..Answer::text(200, state.config.load().as_str()) },
        _ => Answer::text(404, format!("no such path; there are:\n{PATHS}")),
    }
}

fn ready(state: &State) -> Answer {
    match state.readiness.phase() {
        Phase::Starting => Answer::text(503, "starting\n"),
        Phase::Ready => {
            let shards = state.stats.shards().iter().enumerate();
            let troubles = shards.filter_map(|(shard, view)| Some((shard, view.server.journal.trouble()?)));
            let journals: String = troubles.map(|(shard, why)| format!("shard {shard}: {why}\n")).collect();
            let troubles = journals + &state.housekeeper.troubles();
            if troubles.is_empty() { Answer::text(200, "ready\n") } else { Answer::text(503, troubles) }
        }
        Phase::Draining => Answer::text(503, "draining\n"),
    }
}

fn set_level(query: &str, foreign: bool, state: &State) -> Answer {
    if foreign {
        return Answer::text(403, "not for web pages\n");
    }
    let level = query.split('&').find_map(|pair| pair.strip_prefix("level="));
    match level.unwrap_or_default().parse::<Level>() {
        Ok(level) => {
            state.logger.set_level(level);
            tracing::warn!(%level, "the log level was changed by the admin listener");
            Answer::json(format!("{{\"level\":\"{level}\"}}\n"))
        }
        Err(expected) => Answer::text(400, format!("level must be {expected}\n")),
    }
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
