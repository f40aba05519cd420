//! One line of the matrix: what was run, what came of it; written to CSV and read back for the report.

use serde_json::Value;

use super::{
    cell::{Cell, Report},
    emulator::Outcome,
    plan::Side,
};
use crate::schedule::{SECOND_NS, planned_between};

/// Separates reasons and flows within a field.
const WITHIN: char = ';';

/// The columns, in order.
pub const COLUMNS: &[&str] = &[
    "commit",
    "scenario",
    "workload",
    "stack",
    "seed",
    "secs",
    "planned",
    "lost",
    "doubled",
    "p50_ms",
    "p90_ms",
    "p99_ms",
    "p999_ms",
    "max_ms",
    "up_p99_ms",
    "late_p99_ms",
    "way_p50_ms",
    "way_p99_ms",
    "goodput_mbit",
    "flows_mbit",
    "rival_mbit",
    "stall_ms",
    "connections_lost",
    "damaged",
    "wire_down_mb",
    "wire_up_mb",
    "queue_p95_ms",
    "queue_drop_percent",
    "server_cores",
    "client_cores",
    "link_late_p99_ms",
    "link_cores",
    "void",
];

/// One run. Numbers that do not exist, such as the latency of bulk, are `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    /// What of ours was measured.
    pub commit: String,
    /// The link.
    pub scenario: String,
    /// What was said.
    pub workload: String,
    /// By which transport.
    pub stack: String,
    /// Of the link.
    pub seed: u64,
    /// Of the window.
    pub secs: f64,
    /// Messages of the window.
    pub planned: Option<u64>,
    /// Of those, never received.
    pub lost: Option<u64>,
    /// Received twice.
    pub doubled: Option<u64>,
    /// Latency from the intended time, to the client.
    pub p50_ms: Option<f64>,
    /// See `p50_ms`.
    pub p90_ms: Option<f64>,
    /// See `p50_ms`.
    pub p99_ms: Option<f64>,
    /// See `p50_ms`.
    pub p999_ms: Option<f64>,
    /// See `p50_ms`.
    pub max_ms: Option<f64>,
    /// The same to the server.
    pub up_p99_ms: Option<f64>,
    /// How late the sender gave messages to its transport.
    pub late_p99_ms: Option<f64>,
    /// Latency from the moment of sending.
    pub way_p50_ms: Option<f64>,
    /// See `way_p50_ms`.
    pub way_p99_ms: Option<f64>,
    /// Bulk that arrived.
    pub goodput_mbit: Option<f64>,
    /// The same for each connection.
    pub flows_mbit: Vec<f64>,
    /// The same of the rival.
    pub rival_mbit: Option<f64>,
    /// The longest time without anything.
    pub stall_ms: Option<f64>,
    /// Connections that ended.
    pub connections_lost: u64,
    /// Messages or bytes that were not what was sent.
    pub damaged: u64,
    /// Megabytes with IP headers that were sent to the client.
    pub wire_down_mb: Option<f64>,
    /// The same to the server.
    pub wire_up_mb: Option<f64>,
    /// Wait in the queue to the client.
    pub queue_p95_ms: Option<f64>,
    /// Dropped by that queue.
    pub queue_drop_percent: Option<f64>,
    /// The part of a core that the server used.
    pub server_cores: f64,
    /// The same of the client.
    pub client_cores: f64,
    /// How late the link handed packets over.
    pub link_late_p99_ms: Option<f64>,
    /// The part of a core that the link used.
    pub link_cores: Option<f64>,
    /// Why the run does not count.
    pub void: Vec<String>,
}

impl Row {
    /// What came of a run; the reports are those of the transport, then its rival's.
    #[must_use]
    pub fn new(cell: &Cell, reports: &[(Report, Report)], outcome: Option<&Outcome>) -> Self {
        let none = Value::Null;
        let account = |report: &Report| report.account.clone().unwrap_or_default();
        let (server, client) =
            reports.first().map(|(server, client)| (account(server), account(client))).unwrap_or_default();
        let window_ns = u64::try_from(cell.window.as_nanos()).unwrap_or(u64::MAX);
        let planned_of = |side| {
            let rate = cell.workload.rate(side)?;
            Some(planned_between(rate, 0, window_ns) * u64::from(cell.scenario.connections))
        };
        let sum = |name: &str| Some(client[name].as_u64()? + server[name].as_u64()?);
        let planned =
            cell.workload.has_messages().then(|| [Side::Server, Side::Client].into_iter().filter_map(planned_of).sum());
        let latency = |name: &str| ms(&client["latency_ns"][name]);
        let flows = mbit(&client);
        let rival = reports.get(1).map(|(_, client)| mbit(client.account.as_ref().unwrap_or(&none)).iter().sum());
        let down = outcome.map(|outcome| &outcome.down);
        Self {
            commit: String::new(),
            scenario: cell.scenario.name.to_owned(),
            workload: cell.workload.name().to_owned(),
            stack: cell.stack.name.to_owned(),
            seed: cell.seed,
            secs: cell.window.as_secs_f64(),
            planned,
            lost: planned.and_then(|planned: u64| Some(planned.saturating_sub(sum("received")?))),
            doubled: planned.and_then(|_| sum("doubled")),
            p50_ms: latency("p50"),
            p90_ms: latency("p90"),
            p99_ms: latency("p99"),
            p999_ms: latency("p999"),
            max_ms: latency("max"),
            up_p99_ms: ms(&server["latency_ns"]["p99"]),
            late_p99_ms: ms(&client["late_ns"]["p99"]),
            way_p50_ms: ms(&client["way_ns"]["p50"]),
            way_p99_ms: ms(&client["way_ns"]["p99"]),
            goodput_mbit: cell.workload.has_bulk().then(|| flows.iter().sum()),
            flows_mbit: flows,
            rival_mbit: rival,
            stall_ms: ms(&client["stall_ns"]),
            connections_lost: sum("connections_lost").unwrap_or(0),
            damaged: sum("damaged").unwrap_or(0),
            wire_down_mb: down.map(|way| way.bytes as f64 / 1e6),
            wire_up_mb: outcome.map(|outcome| outcome.up.bytes as f64 / 1e6),
            queue_p95_ms: down.map(|way| way.queued_ns.value_at_quantile(0.95) as f64 / 1e6),
            queue_drop_percent: down.map(|way| 100.0 * way.queue_full as f64 / way.packets.max(1) as f64),
            server_cores: reports.first().map_or(0.0, |(server, _)| server.cores),
            client_cores: reports.first().map_or(0.0, |(_, client)| client.cores),
            link_late_p99_ms: outcome.map(|outcome| outcome.late_ns.value_at_quantile(0.99) as f64 / 1e6),
            link_cores: outcome.map(|outcome| outcome.cpu.as_secs_f64() / cell.window.as_secs_f64()),
            void: Vec::new(),
        }
    }

    /// Jain's index of fairness between its connections; `None` if there is one only.
    #[must_use]
    pub fn jain(&self) -> Option<f64> {
        let flows = &self.flows_mbit;
        let (sum, squares) = (flows.iter().sum::<f64>(), flows.iter().map(|flow| flow * flow).sum::<f64>());
        (flows.len() > 1 && squares > 0.0).then(|| sum * sum / (flows.len() as f64 * squares))
    }

    /// Its share of what it and its rival got, in percent.
    #[must_use]
    pub fn share_percent(&self) -> Option<f64> {
        let (ours, rival) = (self.goodput_mbit?, self.rival_mbit?);
        (ours + rival > 0.0).then(|| 100.0 * ours / (ours + rival))
    }

    /// As a line of CSV.
    #[must_use]
    pub fn to_csv(&self) -> String {
        let float = |value: Option<f64>| value.map_or_else(String::new, |value| format!("{value:.3}"));
        let count = |value: Option<u64>| value.map_or_else(String::new, |value| value.to_string());
        let flows: Vec<_> = self.flows_mbit.iter().map(|flow| format!("{flow:.3}")).collect();
        let fields = [
            self.commit.clone(),
            self.scenario.clone(),
            self.workload.clone(),
            self.stack.clone(),
            self.seed.to_string(),
            self.secs.to_string(),
            count(self.planned),
            count(self.lost),
            count(self.doubled),
            float(self.p50_ms),
            float(self.p90_ms),
            float(self.p99_ms),
            float(self.p999_ms),
            float(self.max_ms),
            float(self.up_p99_ms),
            float(self.late_p99_ms),
            float(self.way_p50_ms),
            float(self.way_p99_ms),
            float(self.goodput_mbit),
            flows.join(&WITHIN.to_string()),
            float(self.rival_mbit),
            float(self.stall_ms),
            self.connections_lost.to_string(),
            self.damaged.to_string(),
            float(self.wire_down_mb),
            float(self.wire_up_mb),
            float(self.queue_p95_ms),
            float(self.queue_drop_percent),
            float(Some(self.server_cores)),
            float(Some(self.client_cores)),
            float(self.link_late_p99_ms),
            float(self.link_cores),
            self.void.join(&WITHIN.to_string()),
        ];
        fields.map(|field| field.replace([',', '\n', '"'], " ")).join(",")
    }

    /// Reads a line of [`Row::to_csv`].
    #[must_use]
    pub fn from_csv(line: &str) -> Option<Self> {
        let mut fields = line.trim_end_matches('\n').split(',');
        let mut text = || fields.next().map(str::to_owned);
        let float = |text: String| if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) };
        let count = |text: String| if text.is_empty() { Some(None) } else { text.parse().ok().map(Some) };
        let list =
            |text: String| text.split(WITHIN).filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        let row = Self {
            commit: text()?,
            scenario: text()?,
            workload: text()?,
            stack: text()?,
            seed: text()?.parse().ok()?,
            secs: text()?.parse().ok()?,
            planned: count(text()?)?,
            lost: count(text()?)?,
            doubled: count(text()?)?,
            p50_ms: float(text()?)?,
            p90_ms: float(text()?)?,
            p99_ms: float(text()?)?,
            p999_ms: float(text()?)?,
            max_ms: float(text()?)?,
            up_p99_ms: float(text()?)?,
            late_p99_ms: float(text()?)?,
            way_p50_ms: float(text()?)?,
            way_p99_ms: float(text()?)?,
            goodput_mbit: float(text()?)?,
            flows_mbit: list(text()?).iter().map(|flow| flow.parse().ok()).collect::<Option<_>>()?,
            rival_mbit: float(text()?)?,
            stall_ms: float(text()?)?,
            connections_lost: text()?.parse().ok()?,
            damaged: text()?.parse().ok()?,
            wire_down_mb: float(text()?)?,
            wire_up_mb: float(text()?)?,
            queue_p95_ms: float(text()?)?,
            queue_drop_percent: float(text()?)?,
            server_cores: text()?.parse().ok()?,
            client_cores: text()?.parse().ok()?,
            link_late_p99_ms: float(text()?)?,
            link_cores: float(text()?)?,
            void: list(text()?),
        };
        fields.next().is_none().then_some(row)
    }
}

/// Goodput of each connection in megabits per second.
fn mbit(account: &Value) -> Vec<f64> {
    let window_ns = account["window_ns"].as_f64().unwrap_or(SECOND_NS as f64);
    let flows = account["bulk_bytes"].as_array().into_iter().flatten();
    flows.map(|bytes| bytes.as_f64().unwrap_or(0.0) * 8_000.0 / window_ns).collect()
}

fn ms(ns: &Value) -> Option<f64> {
    Some(ns.as_f64()? / 1e6)
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:4} {:7} {:13} seed {}:", self.scenario, self.workload, self.stack, self.seed)?;
        if let (Some(p50), Some(p99), Some(p999), Some(lost)) = (self.p50_ms, self.p99_ms, self.p999_ms, self.lost) {
            write!(f, " p50 {p50:.1} p99 {p99:.1} p99.9 {p999:.1} ms, {lost} lost")?;
        }
        if let Some(goodput) = self.goodput_mbit {
            write!(f, " {goodput:.1} Mbit/s")?;
        }
        if let Some(jain) = self.jain() {
            write!(f, ", Jain {jain:.3}")?;
        }
        if let Some(share) = self.share_percent() {
            write!(f, ", share {share:.0} %")?;
        }
        if let (Some(down), Some(stall)) = (self.wire_down_mb, self.stall_ms) {
            write!(f, ", {down:.2} MB, stall {stall:.0} ms")?;
        }
        write!(f, ", cores {:.2} {:.2}", self.server_cores, self.client_cores)?;
        if let (Some(late), Some(cores)) = (self.link_late_p99_ms, self.link_cores) {
            write!(f, ", link {cores:.2} late {late:.3} ms")?;
        }
        if self.connections_lost > 0 {
            write!(f, ", {} CONNECTIONS LOST", self.connections_lost)?;
        }
        if !self.void.is_empty() {
            write!(f, " VOID: {}", self.void.join("; "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let row = Row {
            commit: "abc".to_owned(),
            scenario: "F3".to_owned(),
            workload: "bulk".to_owned(),
            stack: "quinn-bbr".to_owned(),
            seed: 7,
            secs: 8.0,
            p50_ms: Some(20.125),
            goodput_mbit: Some(40.0),
            flows_mbit: vec![30.0, 10.0],
            rival_mbit: Some(60.0),
            void: vec!["late".to_owned(), "stolen, too".to_owned()],
            ..Row::default()
        };
        let line = row.to_csv();
        assert_eq!(line.split(',').count(), COLUMNS.len());
        let read = Row::from_csv(&line).expect("a row");
        assert_eq!(read, Row { void: vec!["late".to_owned(), "stolen  too".to_owned()], ..row.clone() });
        assert_eq!((read.jain(), read.share_percent()), (Some(0.8), Some(40.0)));
        assert_eq!(Row::from_csv(&line[1..].replace(",7,", ",x,")), None);
        assert_eq!(Row::from_csv(&format!("{line},")), None);
    }
}
