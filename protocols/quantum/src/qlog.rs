//! A record of what a connection did, for tools that read qlog (draft-ietf-quic-qlog-main-schema, JSON text sequences of
//! RFC 7464). Events have QUIC's names and shapes where they mean the same.

use std::time::Instant;

use serde_json::{Value, json};

use crate::{frame::Side, guuid::Guuid, packet::Space, stats::Stats};

/// Bytes that wait for whoever writes them to a file; events beyond are counted and left out.
const WAITING_MAX: usize = 1 << 20;

/// The record of one connection.
#[derive(Debug)]
pub(crate) struct Qlog {
    began: Instant,
    waiting: Vec<u8>,
    left_out: u64,
    /// What the last `metrics_updated` said.
    metrics: (u128, u64, u64),
}

impl Qlog {
    /// Begins with the header record.
    pub(crate) fn new(now: Instant, unix_ms: u64, side: Side, id: Guuid) -> Self {
        let mut qlog = Self { began: now, waiting: Vec::new(), left_out: 0, metrics: (0, 0, 0) };
        let vantage = if side == Side::Client { "client" } else { "server" };
        qlog.record(&json!({
            "file_schema": "urn:ietf:params:qlog:file:sequential",
            "serialization_format": "application/qlog+json-seq",
            "trace": {
                "vantage_point": { "type": vantage },
                "event_schemas": ["urn:ietf:params:qlog:events:quic"],
                "common_fields": {
                    "group_id": id.to_string(),
                    "protocol_types": ["QUANTUM"],
                    "time_format": "relative_to_epoch",
                    "reference_time": { "clock_type": "system", "epoch": "1970-01-01T00:00:00Z", "offset_ms": unix_ms },
                },
            },
        }));
        qlog
    }

    pub(crate) fn packet_sent(&mut self, now: Instant, space: Space, number: u64, bytes: usize, symbol: Option<u64>) {
        let mut data = packet(space, number, bytes);
        if let Some(symbol) = symbol {
            data["symbol"] = symbol.into();
        }
        self.event(now, "quic:packet_sent", &data);
    }

    pub(crate) fn packet_received(&mut self, now: Instant, space: Space, number: u64, bytes: usize) {
        self.event(now, "quic:packet_received", &packet(space, number, bytes));
    }

    pub(crate) fn packet_lost(&mut self, now: Instant, space: Space, number: u64, bytes: usize) {
        self.event(now, "quic:packet_lost", &packet(space, number, bytes));
    }

    pub(crate) fn closed(&mut self, now: Instant, reason: &str) {
        self.event(now, "quic:connection_closed", &json!({ "reason": reason }));
    }

    /// Notes how the path looks, if that has changed.
    pub(crate) fn metrics(&mut self, now: Instant, stats: &Stats) {
        let metrics = (stats.rtt.as_micros(), stats.window, stats.in_flight);
        if metrics == self.metrics {
            return;
        }
        self.metrics = metrics;
        let data = json!({
            "smoothed_rtt": ms(metrics.0),
            "min_rtt": ms(stats.rtt_min.as_micros()),
            "congestion_window": stats.window,
            "bytes_in_flight": stats.in_flight,
            "pacing_rate": stats.pacing_rate.saturating_mul(8),
            "symbols_recovered": stats.symbols_recovered,
            "repairs_sent": stats.repairs_sent,
        });
        self.event(now, "quic:recovery_metrics_updated", &data);
    }

    /// What has gathered since it was last asked, and how many events did not fit.
    pub(crate) fn take(&mut self) -> (Vec<u8>, u64) {
        (std::mem::take(&mut self.waiting), std::mem::take(&mut self.left_out))
    }

    fn event(&mut self, now: Instant, name: &str, data: &Value) {
        let time = ms(now.saturating_duration_since(self.began).as_micros());
        self.record(&json!({ "time": time, "name": name, "data": data }));
    }

    fn record(&mut self, value: &Value) {
        if self.waiting.len() > WAITING_MAX {
            self.left_out += 1;
            return;
        }
        self.waiting.push(0x1E);
        if serde_json::to_writer(&mut self.waiting, value).is_ok() {
            self.waiting.push(b'\n');
        }
    }
}

fn packet(space: Space, number: u64, bytes: usize) -> Value {
    let kind = match space {
        Space::Initial => "initial",
        Space::Handshake => "handshake",
        Space::Application => "1RTT",
    };
    json!({ "header": { "packet_type": kind, "packet_number": number }, "raw": { "length": bytes } })
}

fn ms(micros: u128) -> f64 {
    micros as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_record_is_one_json_text_and_too_many_are_counted() {
        let now = Instant::now();
        let mut qlog = Qlog::new(now, 1, Side::Client, Guuid::default());
        for number in 0..20_000 {
            qlog.packet_sent(now, Space::Application, number, 1200, None);
        }
        let (bytes, left_out) = qlog.take();
        assert!(left_out > 0 && bytes.len() < WAITING_MAX + 1_000);
        let records: Vec<_> = bytes.split(|byte| *byte == 0x1E).skip(1).collect();
        let head: Value = serde_json::from_slice(records[0]).unwrap();
        assert_eq!(head["trace"]["vantage_point"]["type"], "client");
        let event: Value = serde_json::from_slice(records[5]).unwrap();
        assert_eq!(event["data"]["header"]["packet_number"], 4);
    }
}
