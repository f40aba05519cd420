//! What a run comes to: the numbers, whether they count, as JSON and as lines for people.

use std::sync::Arc;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::{
    connection::{Scenario, Setup},
    ledger::Account,
    options::Options,
    process::{Usage, linear_fit, load_average},
    schedule::{SECOND_NS, planned_between},
    tally::Tally,
};

/// The version of the JSON below.
const SCHEMA: u32 = 1;
/// The part of its plan that an open loop must achieve.
const ACHIEVED_MIN: f64 = 0.999;
/// Lateness that never voids a run: what a timer and a busy neighbour cost anyhow.
const LATENESS_FREE_NS: u64 = 200_000;
/// The part of the window that a hypervisor may give to others.
const STOLEN_MAX: f64 = 0.01;
/// Samples that must lie beyond a percentile before it is printed.
const SAMPLES_BEYOND: u64 = 10;
/// The percentiles that are printed, if there are samples for them.
const PERCENTILES: [(&str, f64); 6] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999), ("p99.999", 0.99999)];

/// A finished run.
#[derive(Debug)]
pub struct Measured {
    /// What was run.
    pub setup: Arc<Setup>,
    /// What the shards saw.
    pub tally: Tally,
    /// What the server's process used within the window.
    pub usage: Option<Usage>,
    /// The part of the window that the hypervisor gave to others.
    pub stolen: f64,
    /// Connections that could not be opened.
    pub failed: u32,
    /// The server's memory on the way to all connections, or, with readers that stall, before and at the end of it.
    pub memory: Vec<MemoryStep>,
    /// When the window closed, in nanoseconds of the run.
    pub close_ns: u64,
}

/// The server's memory with some connections open.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct MemoryStep {
    /// How many are ready.
    pub connections: u64,
    /// Anonymous resident bytes of the server.
    pub resident_bytes: u64,
}

/// A run as JSON.
#[derive(Debug, Serialize)]
pub struct Result {
    /// The version of this layout.
    pub schema: u32,
    /// The scenario.
    pub scenario: &'static str,
    /// `open` (a fixed schedule) or `closed` (so many in flight).
    pub model: &'static str,
    /// The command line.
    pub options: Options,
    /// Whether this run does not count.
    pub void: bool,
    /// Why it does not.
    pub void_reasons: Vec<String>,
    /// Requests per second that the plan asked for, in open loop.
    pub planned_per_s: Option<f64>,
    /// Requests sent per second of the window.
    pub sent_per_s: f64,
    /// Answers (deliveries) per second of the window.
    pub completed_per_s: f64,
    /// Answers (deliveries) within the window.
    pub completed: u64,
    /// Bytes of answers per second of the window, of HTTP/3 and WebTransport.
    pub received_bytes_per_s: f64,
    /// Of the whole run: what was sent, lost, doubled, reordered.
    pub account: Account,
    /// Payloads that came back changed.
    pub corrupt: u64,
    /// Planned requests that found no open connection.
    pub unsent: u64,
    /// Publications that were acknowledged.
    pub acknowledged: u64,
    /// Of these, those that were on disk.
    pub durable: u64,
    /// `fanout`: from a publication's intended time to the last of its receivers.
    pub last_receiver_us: Spread,
    /// Readers that did not read for a while.
    pub stalled: Option<Stalled>,
    /// Connections that could not be opened.
    pub connections_failed: u32,
    /// Everything else that went wrong, by name.
    pub faults: std::collections::BTreeMap<String, u64>,
    /// From the intended time to the answer.
    pub latency_us: Spread,
    /// From the real time of sending to the answer.
    pub service_us: Spread,
    /// From the intended to the real time of sending.
    pub lateness_us: Spread,
    /// The server's process within the window.
    pub server: Option<Server>,
    /// The part of the window that the hypervisor gave to others.
    pub stolen: f64,
    /// Processes that wanted a core when the run ended, averaged over a minute.
    pub load_average: Option<f64>,
    /// The server's memory, for `idle`.
    pub memory: Vec<MemoryStep>,
    /// The straight line through it.
    pub bytes_per_connection: Option<f64>,
}

/// What readers cost that do not read while the window is open.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Stalled {
    /// How many.
    pub readers: u32,
    /// Anonymous resident bytes that the server had more at the end of the window, for each of them.
    pub resident_bytes_each: Option<f64>,
    /// From the end of the window until the last of them had everything.
    pub catch_up_secs: f64,
}

/// A distribution in microseconds.
#[derive(Debug, Default, Serialize)]
pub struct Spread {
    /// How many samples.
    pub samples: u64,
    /// Their mean.
    pub mean: f64,
    /// The largest one.
    pub max: f64,
    /// Percentiles with at least ten samples beyond them.
    pub percentiles: std::collections::BTreeMap<&'static str, f64>,
}

/// What the server's process used.
#[derive(Debug, Serialize)]
pub struct Server {
    /// Seconds on a core, all threads together.
    pub cpu_s: f64,
    /// Microseconds on a core per answer (delivery), if there were any.
    pub cpu_us_per_request: Option<f64>,
    /// Answers (deliveries) per second on a core, if there were any.
    pub requests_per_cpu_s: Option<f64>,
    /// Waits.
    pub voluntary_switches: u64,
    /// Preemptions.
    pub involuntary_switches: u64,
    /// Waits and preemptions per answer (delivery), if there were any.
    pub switches_per_request: Option<f64>,
}

impl Measured {
    /// The numbers, and whether they count.
    #[must_use]
    pub fn result(&self) -> Result {
        let (options, tally) = (&self.setup.options, &self.tally);
        let amount = &options.amount;
        let secs = amount.window_ns() as f64 / SECOND_NS as f64;
        let open = amount.rate > 0 && self.setup.scenario != Scenario::Idle;
        let void_reasons = self.void_reasons();
        let points: Vec<_> =
            self.memory.iter().map(|step| (step.connections as f64, step.resident_bytes as f64)).collect();
        Result {
            schema: SCHEMA,
            scenario: match self.setup.scenario {
                Scenario::Echo => "echo",
                Scenario::Fanout => "fanout",
                Scenario::Idle => "idle",
                Scenario::Durable => "durable",
                Scenario::Redis => "redis",
                Scenario::Nats => "nats",
            },
            model: if open { "open" } else { "closed" },
            options: options.clone(),
            void: !void_reasons.is_empty(),
            void_reasons,
            planned_per_s: open.then_some(self.planned() as f64 / secs),
            sent_per_s: tally.sent as f64 / secs,
            completed_per_s: tally.completed as f64 / secs,
            completed: tally.completed,
            received_bytes_per_s: tally.received_bytes as f64 / secs,
            account: tally.account,
            corrupt: tally.corrupt,
            unsent: tally.unsent,
            acknowledged: tally.acknowledged,
            durable: tally.durable,
            last_receiver_us: Spread::of(&tally.last_receiver(amount.connections.saturating_sub(options.stalled))),
            stalled: self.stalled(),
            connections_failed: self.failed,
            faults: tally.faults.clone(),
            latency_us: Spread::of(&tally.latency),
            service_us: Spread::of(&tally.service),
            lateness_us: Spread::of(&tally.lateness),
            server: self.usage.map(|usage| Server::of(usage, tally.completed)),
            stolen: self.stolen,
            load_average: load_average(),
            bytes_per_connection: linear_fit(&points).map(|(slope, _)| slope),
            memory: self.memory.clone(),
        }
    }

    fn stalled(&self) -> Option<Stalled> {
        let readers = self.setup.options.stalled;
        let resident_bytes_each = match self.memory[..] {
            [before, after] => Some((after.resident_bytes as f64 - before.resident_bytes as f64) / f64::from(readers)),
            _ => None,
        };
        let catch_up_secs = self.tally.caught_up_ns.saturating_sub(self.close_ns) as f64 / SECOND_NS as f64;
        (readers > 0).then_some(Stalled { readers, resident_bytes_each, catch_up_secs })
    }

    fn planned(&self) -> u64 {
        let amount = &self.setup.options.amount;
        let together = self.setup.options.requests_per_send();
        let from = amount.warmup_ns();
        planned_between(amount.rate / together, from, from + amount.window_ns()) * together
    }

    fn void_reasons(&self) -> Vec<String> {
        let tally = &self.tally;
        let mut void = Vec::new();
        let planned = self.planned();
        if planned > 0 && self.setup.scenario != Scenario::Idle {
            if (tally.sent as f64) < planned as f64 * ACHIEVED_MIN {
                void.push(format!("sent {} of {planned} planned requests", tally.sent));
            }
            let part = highest_quantile(tally.lateness.len());
            let late = tally.lateness.value_at_quantile(part);
            if late > LATENESS_FREE_NS.max(tally.latency.value_at_quantile(part) / 10) {
                let percent = (1.0 - part) * 100.0;
                void.push(format!("the generator fell behind: {percent:.0} % left {} us late or more", late / 1000));
            }
        }
        // Datagrams may be lost; whoever runs them reads the account. A stream that loses is broken.
        let mut account = tally.account;
        if self.setup.options.may_reorder() {
            account.reordered = 0;
        }
        if !self.setup.options.may_lose() && !account.is_clean() {
            void.push("answers were lost, doubled or reordered".to_owned());
        }
        if self.stolen > STOLEN_MAX {
            void.push(format!("the hypervisor took {:.1} % of the time", self.stolen * 100.0));
        }
        if tally.corrupt > 0 {
            void.push(format!("{} payloads came back changed", tally.corrupt));
        }
        if self.failed > 0 {
            void.push(format!("{} connections could not be opened", self.failed));
        }
        if tally.unsent > 0 || !tally.faults.is_empty() {
            void.push("requests failed; see faults".to_owned());
        }
        if self.setup.scenario != Scenario::Idle && tally.completed == 0 {
            void.push("nothing was answered within the window".to_owned());
        }
        void
    }
}

/// Up to which quantile, at most the 99th percentile, enough samples lie beyond it.
fn highest_quantile(samples: u64) -> f64 {
    [0.99, 0.9].into_iter().find(|quantile| samples_suffice(samples, *quantile)).unwrap_or(0.5)
}

fn samples_suffice(samples: u64, quantile: f64) -> bool {
    // Half a sample of slack: 1,000 samples have ten beyond their 99th percentile, whatever 0.99 is in binary.
    samples as f64 * (1.0 - quantile) + 0.5 >= SAMPLES_BEYOND as f64
}

impl Result {
    /// Lines for people.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut lines = vec![format!(
            "{} {} loop, {} connections: {:.0} sent/s, {:.0} {}/s",
            self.scenario,
            self.model,
            self.options.amount.connections,
            self.sent_per_s,
            self.completed_per_s,
            if self.scenario == "fanout" { "deliveries" } else { "answers" },
        )];
        if self.received_bytes_per_s > 0.0 {
            lines.push(format!("{:.3} MB/s of answers", self.received_bytes_per_s / 1e6));
        }
        if self.latency_us.samples > 0 {
            lines.push(format!("latency us: {}", self.latency_us));
        }
        if self.last_receiver_us.samples > 0 {
            lines.push(format!(
                "last receiver us: {} ({} messages)",
                self.last_receiver_us, self.last_receiver_us.samples
            ));
        }
        if self.model == "open" {
            lines.push(format!("service us: {}", self.service_us));
            lines.push(format!("generator late us: {}", self.lateness_us));
        }
        let account = self.account;
        lines.push(format!(
            "expected {}, received {}, lost {}, doubled {}, reordered {}, corrupt {}",
            account.expected, account.received, account.lost, account.duplicates, account.reordered, self.corrupt
        ));
        if self.acknowledged > 0 {
            lines.push(format!("acknowledged {}, of them {} on disk", self.acknowledged, self.durable));
        }
        if let Some(stalled) = self.stalled {
            let cost = stalled.resident_bytes_each.map_or(String::new(), |bytes| format!(", {bytes:.0} bytes each"));
            lines.push(format!("{} stalled{cost}, caught up in {:.2} s", stalled.readers, stalled.catch_up_secs));
        }
        if let Some(server) = &self.server {
            let mut line = format!("server: {:.3} s on a core", server.cpu_s);
            if let (Some(cost), Some(rate), Some(switches)) =
                (server.cpu_us_per_request, server.requests_per_cpu_s, server.switches_per_request)
            {
                line +=
                    &format!(", {cost:.3} us per request ({rate:.0}/s on a core), {switches:.3} switches per request");
            }
            lines.push(line);
        }
        if let Some(bytes) = self.bytes_per_connection {
            lines.push(format!("server memory: {bytes:.0} bytes per connection"));
        }
        lines.extend(self.faults.iter().map(|(name, count)| format!("fault: {name}: {count}")));
        lines.extend(self.void_reasons.iter().map(|reason| format!("VOID: {reason}")));
        lines.join("\n")
    }
}

impl Spread {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        let samples = histogram.len();
        Self {
            samples,
            mean: histogram.mean() / 1e3,
            max: histogram.max() as f64 / 1e3,
            percentiles: PERCENTILES
                .into_iter()
                .filter(|(_, quantile)| samples_suffice(samples, *quantile))
                .map(|(name, quantile)| (name, histogram.value_at_quantile(quantile) as f64 / 1e3))
                .collect(),
        }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (name, value) in &self.percentiles {
            write!(f, "{name} {value:.1}  ")?;
        }
        write!(f, "max {:.1}", self.max)
    }
}

impl Server {
    fn of(usage: Usage, completed: u64) -> Self {
        let cpu_s = usage.cpu_ns as f64 / SECOND_NS as f64;
        let switches = usage.voluntary_switches + usage.involuntary_switches;
        let per_request = |amount: f64| (completed > 0).then(|| amount / completed as f64);
        Self {
            cpu_s,
            cpu_us_per_request: per_request(cpu_s * 1e6),
            requests_per_cpu_s: per_request(cpu_s).filter(|cost| *cost > 0.0).map(f64::recip),
            voluntary_switches: usage.voluntary_switches,
            involuntary_switches: usage.involuntary_switches,
            switches_per_request: per_request(switches as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_needs_samples_beyond_it() {
        let mut histogram = Histogram::new_with_bounds(1, 1_000_000, 3).expect("good bounds");
        (1..=1_000).for_each(|us| histogram.record(us * 1_000).expect("within bounds"));
        let spread = Spread::of(&histogram);
        assert_eq!(spread.percentiles.keys().copied().collect::<Vec<_>>(), ["p50", "p90", "p99"]);
        assert_eq!((highest_quantile(1_000), highest_quantile(100), highest_quantile(3)), (0.99, 0.9, 0.5));
    }

    #[test]
    fn the_cost_is_per_answer_and_nothing_without_answers() {
        let usage = Usage { cpu_ns: 2_000_000_000, voluntary_switches: 30, involuntary_switches: 10 };
        let server = Server::of(usage, 1_000_000);
        assert_eq!(server.cpu_us_per_request, Some(2.0));
        assert_eq!(server.switches_per_request, Some(0.000_04));
        assert!((server.requests_per_cpu_s.expect("a rate") - 500_000.0).abs() < 1e-6);
        assert_eq!(Server::of(usage, 0).cpu_us_per_request, None);
    }
}
