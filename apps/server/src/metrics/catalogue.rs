//! The metrics by name, with their help, as Prometheus reads them.

use std::fmt::Write;

use engine::Counter;

use super::{
    CODES, DatagramDrop, Drop, ServerStats, ShardView, Stats, Status, Transport,
    endpoint::{Counted, EndpointStats},
    journal, line, load, process,
};

/// One value of each shard: the name behind `ringshard_`, the help, whether it only rises, and where it is.
type Single = (&'static str, &'static str, Kind, fn(&ServerStats) -> &Counter);

/// What a figure does over time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It only rises.
    Counter,
    /// It goes up and down.
    Gauge,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

const SINGLES: &[Single] = &[
    ("tls_handshakes_total", "TLS handshakes completed.", Kind::Counter, |s| &s.tls_handshakes),
    ("half_open", "Connections without a hello or a request yet.", Kind::Gauge, |s| &s.half_open),
    ("sessions", "Sessions that are open.", Kind::Gauge, |s| &s.sessions_open),
    ("sessions_opened_total", "Sessions that said hello.", Kind::Counter, |s| &s.sessions),
    ("sessions_resumed_total", "Sessions that took up an earlier one.", Kind::Counter, |s| &s.sessions_resumed),
    ("messages_received_total", "Messages from clients.", Kind::Counter, |s| &s.messages_in),
    ("messages_sent_total", "Messages to clients.", Kind::Counter, |s| &s.messages_out),
    ("message_bytes_received_total", "Bytes of messages from clients.", Kind::Counter, |s| &s.message_bytes_in),
    ("message_bytes_sent_total", "Bytes of messages to clients.", Kind::Counter, |s| &s.message_bytes_out),
    ("lagging_total", "Times that a client's queue crossed its soft limit.", Kind::Counter, |s| &s.lagging),
    ("steer_forwarded_total", "Datagrams passed on to another shard.", Kind::Counter, |s| &s.steer_forwarded),
    ("topics", "Topics that are at home on the shard.", Kind::Gauge, |s| &s.topics),
    ("queue_bytes", "Bytes queued for clients.", Kind::Gauge, |s| &s.queue_bytes),
];

/// The engine's values that go up and down; all others only rise.
const ENGINE_GAUGES: &[&str] = &["streams_open", "mail_queued", "disk_pending"];

/// What the engine's values are, by the engine's name.
const ENGINE_HELP: &[(&str, &str)] = &[
    ("turns", "Laps of the shard's loop."),
    ("busy_ns", "Time spent in turns."),
    ("idle_ns", "Time spent parked."),
    ("spin_ns", "Time spent looking for work before parking."),
    ("spins", "Times that the shard looked for work before parking."),
    ("spins_won", "Times that it found some."),
    ("parks", "Times that the shard parked."),
    ("enters", "io_uring_enter calls."),
    ("completions", "Completions taken from the ring."),
    ("streams_open", "Streams that are open."),
    ("accepted", "Connections accepted."),
    ("refused", "Connections closed at once because the shard is full."),
    ("accept_errors", "Accepts that failed in the kernel."),
    ("connected", "Outgoing connections that came up."),
    ("connect_errors", "Outgoing connections that failed."),
    ("closed", "Streams that ended."),
    ("bytes_in", "Bytes received on streams."),
    ("bytes_out", "Bytes sent on streams."),
    ("recvs", "Receives that brought bytes."),
    ("sends", "Send operations given to the ring."),
    ("stale_effects", "Effects on a stream that was already gone."),
    ("behind", "Sends that found the buffer of a socket full."),
    ("buffers_exhausted", "Receives that found no free buffer."),
    ("datagrams_in", "Datagrams received."),
    ("datagrams_out", "Datagrams sent."),
    ("trains_retried", "Trains that waited because the socket's buffer was full."),
    ("datagrams_too_long", "Datagrams, as probes of the MTU, that were longer than their way takes."),
    ("datagrams_dropped", "Datagrams dropped on sending."),
    ("trains_in", "Trains of datagrams received."),
    ("trains_out", "Trains of datagrams sent."),
    ("mail_in", "Mail received from other shards."),
    ("mail_out", "Mail sent to other shards."),
    ("mail_queued", "Mail that waits for room in a box."),
    ("mail_overflowed", "Mail that found a box full."),
    ("bells", "Bells rung to wake another shard."),
    ("disk_done", "Disk operations finished."),
    ("disk_errors", "Disk operations that failed."),
    ("disk_pending", "Disk operations under way."),
];

/// The text of `/metrics`.
#[must_use]
pub fn text(stats: &Stats) -> String {
    let mut out = String::with_capacity(16 * 1024);
    process_figures(&mut out, stats);
    families(&mut out, stats.shards());
    for (name, help, kind, pick) in SINGLES {
        head(&mut out, name, help, *kind);
        for (index, shard) in stats.shards().iter().enumerate() {
            line!(out, "ringshard_{name}{{shard=\"{index}\"}} {}", pick(&shard.server).get());
        }
    }
    for (at, (name, help, kind, _)) in journal::FIGURES.iter().enumerate() {
        head(&mut out, &format!("journal_{name}"), help, *kind);
        for (index, shard) in stats.shards().iter().enumerate() {
            line!(out, "ringshard_journal_{name}{{shard=\"{index}\"}} {}", shard.server.journal.figures.at(at).get());
        }
    }
    endpoint_figures(&mut out, stats.shards(), |shard| &shard.server.quantum);
    endpoint_figures(&mut out, stats.shards(), |shard| &shard.server.quic);
    engine_figures(&mut out, stats.shards());
    out
}

fn endpoint_figures<E: Counted, const F: usize, const D: usize>(
    out: &mut String,
    shards: &[ShardView],
    stats: fn(&ShardView) -> &EndpointStats<E, F, D>,
) {
    for (at, (name, help, kind, _)) in E::FIGURES.iter().enumerate() {
        let name = format!("{}_{name}", E::NAME);
        head(out, &name, help, *kind);
        for (index, shard) in shards.iter().enumerate() {
            line!(out, "ringshard_{name}{{shard=\"{index}\"}} {}", stats(shard).figures.at(at).get());
        }
    }
}

fn head(out: &mut String, name: &str, help: &str, kind: Kind) {
    line!(out, "# HELP ringshard_{name} {help}\n# TYPE ringshard_{name} {}", kind.name());
}

fn families(out: &mut String, shards: &[ShardView]) {
    let transports: Vec<_> = Transport::ALL.iter().map(|one| one.name()).collect();
    let drops: Vec<_> = Drop::ALL.iter().map(|one| one.name()).collect();
    let codes: Vec<_> = CODES.iter().map(|one| one.name()).collect();
    let statuses: Vec<_> = Status::ALL.iter().map(|one| one.name()).collect();
    head(out, "connections", "Connections that are open, by what they speak.", Kind::Gauge);
    family(out, shards, "connections", "transport", &transports, |shard, at| shard.server.open.at(at));
    head(out, "connections_opened_total", "Connections, by what they came to speak.", Kind::Counter);
    family(out, shards, "connections_opened_total", "transport", &transports, |shard, at| shard.server.opened.at(at));
    head(out, "drops_total", "Connections ended and messages thrown away by the server.", Kind::Counter);
    family(out, shards, "drops_total", "reason", &drops, |shard, at| {
        // The engine closes these before the server hears of them.
        if at == Drop::ConnectionsMax as usize { &shard.engine.refused } else { shard.server.drops.at(at) }
    });
    let ours = DatagramDrop::ALL.iter().map(|one| one.name());
    let reasons: Vec<_> = ours.chain(::quantum::Drop::ALL.iter().map(|(_, name)| *name)).collect();
    head(out, "quantum_datagrams_dropped_total", "Datagrams, and packets in them, that were dropped.", Kind::Counter);
    family(out, shards, "quantum_datagrams_dropped_total", "reason", &reasons, |shard, at| {
        match at.checked_sub(DatagramDrop::ALL.len()) {
            None => shard.server.datagram_drops.at(at),
            Some(at) => shard.server.quantum.drops.at(at),
        }
    });
    let reasons: Vec<_> = ::quic::Drop::ALL.iter().map(|(_, name)| *name).collect();
    head(out, "quic_datagrams_dropped_total", "Datagrams that QUIC dropped.", Kind::Counter);
    family(out, shards, "quic_datagrams_dropped_total", "reason", &reasons, |shard, at| shard.server.quic.drops.at(at));
    head(out, "errors_total", "Errors answered to clients.", Kind::Counter);
    family(out, shards, "errors_total", "code", &codes, |shard, at| shard.server.errors.at(at));
    head(out, "http_requests_total", "HTTP requests answered, by class of status.", Kind::Counter);
    family(out, shards, "http_requests_total", "status", &statuses, |shard, at| shard.server.requests.at(at));
}

fn family(
    out: &mut String,
    shards: &[ShardView],
    name: &str,
    label: &str,
    values: &[&str],
    pick: fn(&ShardView, usize) -> &Counter,
) {
    for (index, shard) in shards.iter().enumerate() {
        for (at, value) in values.iter().enumerate() {
            line!(out, "ringshard_{name}{{shard=\"{index}\",{label}=\"{value}\"}} {}", pick(shard, at).get());
        }
    }
}

fn engine_figures(out: &mut String, shards: &[ShardView]) {
    let rows: Vec<Vec<(&'static str, u64)>> = shards.iter().map(|shard| shard.engine.each().collect()).collect();
    let Some(first) = rows.first() else { return };
    for (at, (name, _)) in first.iter().enumerate() {
        let gauge = ENGINE_GAUGES.contains(name);
        let (kind, total) = if gauge { (Kind::Gauge, "") } else { (Kind::Counter, "_total") };
        let help =
            ENGINE_HELP.iter().find(|(known, _)| known == name).map_or("A counter of the engine.", |(_, help)| help);
        // Prometheus counts time in seconds.
        let secs = name.strip_suffix("_ns");
        let full = format!("engine_{}{total}", secs.map_or((*name).to_owned(), |stem| format!("{stem}_seconds")));
        head(out, &full, help, kind);
        for (index, row) in rows.iter().enumerate() {
            let value = row.get(at).map_or(0, |(_, value)| *value);
            match secs {
                Some(_) => {
                    line!(
                        out,
                        "ringshard_{full}{{shard=\"{index}\"}} {}.{:09}",
                        value / 1_000_000_000,
                        value % 1_000_000_000
                    );
                }
                None => {
                    line!(out, "ringshard_{full}{{shard=\"{index}\"}} {value}");
                }
            }
        }
    }
}

fn process_figures(out: &mut String, stats: &Stats) {
    let figures = &stats.figures;
    head(out, "build_info", "The version that runs.", Kind::Gauge);
    line!(out, "ringshard_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"));
    let values = [
        (
            "start_time_seconds",
            "When the server started, since 1970.",
            Kind::Gauge,
            Some(whole(stats.started_ms) / 1000.0),
        ),
        ("shards", "Shards.", Kind::Gauge, Some(whole(stats.shards().len() as u64))),
        ("resident_memory_bytes", "Memory of the process.", Kind::Gauge, process::resident_bytes().map(whole)),
        (
            "open_fds",
            "Descriptors of the process, without the rings' direct ones.",
            Kind::Gauge,
            process::open_files().map(whole),
        ),
        ("cpu_seconds_total", "Processor time of the process.", Kind::Counter, process::cpu_secs()),
        (
            "certificate_not_after_seconds",
            "The last second at which the certificate is valid, since 1970.",
            Kind::Gauge,
            Some(whole(load(&figures.certificate_not_after))),
        ),
        ("accounts", "Accounts registered.", Kind::Gauge, Some(whole(load(&figures.accounts)))),
        ("logins", "Devices that are logged in.", Kind::Gauge, Some(whole(load(&figures.logins)))),
        (
            "logins_displaced_total",
            "Logins that ended because auth.logins_max was reached.",
            Kind::Counter,
            Some(whole(load(&figures.logins_displaced))),
        ),
        (
            "jobs_waiting",
            "Jobs that wait for the housekeeping thread.",
            Kind::Gauge,
            Some(whole(load(&figures.jobs_waiting))),
        ),
        ("jobs_done_total", "Jobs of the housekeeping thread.", Kind::Counter, Some(whole(load(&figures.jobs_done)))),
        (
            "jobs_refused_total",
            "Jobs refused because its queue was full.",
            Kind::Counter,
            Some(whole(load(&figures.jobs_refused))),
        ),
        (
            "log_lines_dropped_total",
            "Log lines that stderr did not take.",
            Kind::Counter,
            Some(whole(load(&figures.log_dropped))),
        ),
        (
            "reloads_total",
            "Times that the configuration was read again.",
            Kind::Counter,
            Some(whole(load(&figures.reloads))),
        ),
        ("reloads_failed_total", "Times that this failed.", Kind::Counter, Some(whole(load(&figures.reloads_failed)))),
    ];
    for (name, help, kind, value) in values {
        if let Some(value) = value {
            head(out, name, help, kind);
            line!(out, "ringshard_{name} {value}");
        }
    }
}

/// Prometheus knows only floats; these figures are exact below 2^53.
#[allow(clippy::cast_precision_loss)]
fn whole(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeSet,
        time::{Duration, Instant},
    };

    use handler::Code;

    use super::*;

    fn stats(shards: usize) -> Stats {
        Stats::new((0..shards).map(|_| ShardView::default()).collect(), 0, Instant::now())
    }

    #[test]
    fn every_line_is_what_prometheus_reads() {
        let text = text(&stats(2));
        let (mut helped, mut typed, mut seen) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for line in text.lines() {
            let words: Vec<&str> = line.splitn(4, ' ').collect();
            match words[..] {
                ["#", "HELP", name, help] => assert!(helped.insert(name.to_owned()) && help.ends_with('.'), "{line}"),
                ["#", "TYPE", name, kind] => {
                    assert!(typed.insert(name.to_owned()), "{line}");
                    assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
                }
                [series, value] => {
                    let name = series.split('{').next().expect("a name");
                    assert!(typed.contains(name) && helped.contains(name) && name.starts_with("ringshard_"), "{line}");
                    assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{line}");
                    assert!(value.parse::<f64>().is_ok(), "{line}");
                    assert!(seen.insert(series.to_owned()), "{line} is there twice");
                }
                _ => panic!("{line}"),
            }
        }
        assert!(seen.len() > 100, "{}", seen.len());
    }

    #[test]
    fn what_a_shard_counts_is_found_under_its_name() {
        let view = ShardView::default();
        view.server.open(Transport::Websocket);
        view.server.drop_datagrams(DatagramDrop::Misrouted, 5);
        view.server.drop_for(Drop::Draining);
        view.engine.refused.add(4);
        view.server.error(Code::DeadlineExceeded);
        view.server.request(404);
        view.server.messages_in.add(7);
        view.engine.busy_ns.add(1_500_000_000);
        view.engine.mail_queued.set(3);
        let text = text(&Stats::new(vec![ShardView::default(), view], 0, Instant::now()));
        for line in [
            "ringshard_connections{shard=\"1\",transport=\"websocket\"} 1",
            "ringshard_drops_total{shard=\"1\",reason=\"draining\"} 1",
            "ringshard_drops_total{shard=\"1\",reason=\"connections_max\"} 4",
            "ringshard_quantum_datagrams_dropped_total{shard=\"1\",reason=\"misrouted\"} 5",
            "ringshard_quantum_datagrams_dropped_total{shard=\"1\",reason=\"token\"} 0",
            "ringshard_quantum_retries_total{shard=\"0\"} 0",
            "ringshard_quic_retries_total{shard=\"0\"} 0",
            "ringshard_quic_datagrams_dropped_total{shard=\"0\",reason=\"violation\"} 0",
            "ringshard_errors_total{shard=\"1\",code=\"deadline_exceeded\"} 1",
            "ringshard_http_requests_total{shard=\"1\",status=\"4xx\"} 1",
            "ringshard_messages_received_total{shard=\"1\"} 7",
            "ringshard_messages_received_total{shard=\"0\"} 0",
            "ringshard_engine_busy_seconds_total{shard=\"1\"} 1.500000000",
            "ringshard_engine_mail_queued{shard=\"1\"} 3",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn every_value_of_the_engine_has_its_help() {
        let view = ShardView::default();
        for (name, _) in view.engine.each() {
            assert!(ENGINE_HELP.iter().any(|(known, _)| *known == name), "the engine's `{name}` has no help here");
        }
    }

    #[test]
    fn a_scrape_of_64_shards_is_quick_and_below_a_mebibyte() {
        let stats = stats(64);
        let scrape = || {
            let start = Instant::now();
            assert!(text(&stats).len() < 1 << 20);
            start.elapsed()
        };
        // 10 ms in release; the best of five at five times that allows for a busy machine and a debug build.
        let best = (0..5).map(|_| scrape()).min().unwrap_or_default();
        assert!(best < Duration::from_millis(50), "{best:?}");
    }
}
