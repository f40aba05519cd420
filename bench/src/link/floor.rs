//! The figures that Quantum has to reach, checked against what was measured.

use std::fmt;

use super::{
    row::Row,
    stack::{self, Stack},
};

/// The transport that has to reach them.
const OURS: &str = "quantum";

/// One figure: what was measured, and whether it is enough.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The link and the workload.
    pub cell: String,
    /// What is measured.
    pub what: String,
    /// The figure.
    pub value: f64,
    /// At least or at most this.
    pub limit: f64,
    /// Whether more is better.
    pub is_floor: bool,
}

impl Verdict {
    /// Whether it is reached.
    #[must_use]
    pub fn is_met(&self) -> bool {
        if self.is_floor { self.value >= self.limit } else { self.value <= self.limit }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, mark) =
            (if self.is_floor { "at least" } else { "at most" }, if self.is_met() { "met" } else { "MISSED" });
        write!(f, "{mark:6} {}: {} {:.3}, {word} {:.3}", self.cell, self.what, self.value, self.limit)
    }
}

/// The medians of a transport on a link; void runs do not count.
pub(super) struct Medians<'a>(pub(super) &'a [Row]);

impl Medians<'_> {
    /// The median over seeds of a number of those runs; `None` if none has it.
    pub(super) fn of(&self, cell: (&str, &str), stack: &str, number: impl Fn(&Row) -> Option<f64>) -> Option<f64> {
        let is_it = |row: &&Row| (row.scenario.as_str(), row.workload.as_str()) == cell && row.stack == stack;
        let counted = self.0.iter().filter(is_it).filter(|row| row.void.is_empty());
        let mut values: Vec<f64> = counted.filter_map(number).collect();
        values.sort_by(f64::total_cmp);
        match values.len() {
            0 => None,
            len if len % 2 == 1 => Some(values[len / 2]),
            len => Some(f64::midpoint(values[len / 2 - 1], values[len / 2])),
        }
    }

    /// The best peer's.
    fn best(&self, cell: (&str, &str), is_more: bool, number: impl Fn(&Row) -> Option<f64>) -> Option<f64> {
        let peers = stack::STACKS.iter().filter(|stack| !Stack::is_ours(stack));
        let values = peers.filter_map(|peer| self.of(cell, peer.name, &number));
        values.reduce(if is_more { f64::max } else { f64::min })
    }
}

/// All figures for which there are runs.
#[must_use]
pub fn check(rows: &[Row]) -> Vec<Verdict> {
    let mut book = Book { medians: Medians(rows), verdicts: Vec::new() };
    book.messages();
    book.rebinding();
    book.bulk();
    book.company();
    book.loopback();
    book.verdicts
}

struct Book<'a> {
    medians: Medians<'a>,
    verdicts: Vec<Verdict>,
}

impl Book<'_> {
    fn note(&mut self, cell: (&str, &str), what: &str, value: Option<f64>, limit: Option<f64>, is_floor: bool) {
        if let (Some(value), Some(limit)) = (value, limit) {
            let cell = format!("{} {}", cell.0, cell.1);
            self.verdicts.push(Verdict { cell, what: what.to_owned(), value, limit, is_floor });
        }
    }

    fn ours(&self, cell: (&str, &str), number: impl Fn(&Row) -> Option<f64>) -> Option<f64> {
        self.medians.of(cell, OURS, number)
    }

    fn messages(&mut self) {
        let cell = ("L2", "canvas");
        let p99 = self.ours(cell, |row| row.p99_ms);
        self.note(cell, "p50 in ms", self.ours(cell, |row| row.p50_ms), Some(21.0), false);
        self.note(cell, "p99 in ms", p99, Some(30.0), false);
        self.note(cell, "p99.9 in ms", self.ours(cell, |row| row.p999_ms), Some(80.0), false);
        let best = self.medians.best(cell, false, |row| row.p99_ms);
        self.note(cell, "p99 as a part of the best peer's", ratio(p99, best), Some(0.5), false);
        let (ours, plain) =
            (self.ours(cell, |row| row.wire_down_mb), self.medians.of(cell, "quantum-nofec", |row| row.wire_down_mb));
        self.note(cell, "wire bytes as a multiple of those without FEC", ratio(ours, plain), Some(1.6), false);
        let burst = ("B1", "canvas");
        let (ours, plain) =
            (self.ours(burst, |row| row.p99_ms), self.medians.of(burst, "quantum-nofec", |row| row.p99_ms));
        self.note(burst, "p99 as a part of that without FEC", ratio(ours, plain), Some(1.05), false);
        let ordered = ("L2", "ordered");
        self.note(ordered, "p99 in ms", self.ours(ordered, |row| row.p99_ms), Some(70.0), false);
        for scenario in ["L0", "L1", "L2", "L3", "B1", "A2", "H1"] {
            let cell = (scenario, "canvas");
            self.note(cell, "messages lost", self.ours(cell, |row| row.lost.map(|lost| lost as f64)), Some(0.0), false);
            self.note(
                cell,
                "messages doubled",
                self.ours(cell, |row| row.doubled.map(|lost| lost as f64)),
                Some(0.0),
                false,
            );
        }
        for workload in ["canvas", "bulk"] {
            let cell = ("H1", workload);
            let lost = self.ours(cell, |row| Some(row.connections_lost as f64));
            self.note(cell, "connections lost", lost, Some(0.0), false);
        }
    }

    // Not of bulk: what an ordered stream waits for a loss in a full queue is no shorter.
    fn rebinding(&mut self) {
        for workload in ["canvas", "game"] {
            let cell = ("H1", workload);
            self.note(cell, "longest stall in ms", self.ours(cell, |row| row.stall_ms), Some(60.0), false);
        }
    }

    fn bulk(&mut self) {
        for (scenario, mbit) in [("L0", 93.0), ("L1", 88.0), ("L2", 75.0), ("L3", 60.0)] {
            let cell = (scenario, "bulk");
            let ours = self.ours(cell, |row| row.goodput_mbit);
            self.note(cell, "goodput in Mbit/s", ours, Some(mbit), true);
            let tcp = self.medians.of(cell, "tcp-bbr", |row| row.goodput_mbit);
            self.note(cell, "goodput as a part of TCP bbr's", ratio(ours, tcp), Some(0.9), true);
        }
        let (clean, acks) =
            (self.ours(("L0", "bulk"), |row| row.goodput_mbit), self.ours(("A2", "bulk"), |row| row.goodput_mbit));
        self.note(("A2", "bulk"), "goodput as a part of that without lost ACKs", ratio(acks, clean), Some(0.9), true);
        for scenario in ["L0", "Q1"] {
            let cell = (scenario, "mixed");
            self.note(cell, "game p99 in ms", self.ours(cell, |row| row.p99_ms), Some(35.0), false);
        }
        let queue = self.ours(("Q1", "bulk"), |row| row.queue_p95_ms);
        self.note(("Q1", "bulk"), "p95 of the queue in ms", queue, Some(40.0), false);
        let drops = self.ours(("Q2", "bulk"), |row| row.queue_drop_percent);
        self.note(("Q2", "bulk"), "dropped by the queue in percent", drops, Some(3.0), false);
    }

    fn company(&mut self) {
        for (scenario, jain) in [("F1", 0.95), ("F1d", 0.95), ("F1s", 0.95), ("F2", 0.8)] {
            let cell = (scenario, "bulk");
            self.note(cell, "Jain's index", self.ours(cell, Row::jain), Some(jain), true);
        }
        for scenario in ["F3", "F3d", "F4", "F4d"] {
            let cell = (scenario, "bulk");
            let share = self.ours(cell, Row::share_percent);
            self.note(cell, "share in percent", share, Some(25.0), true);
            self.note(cell, "share in percent", share, Some(75.0), false);
        }
    }

    fn loopback(&mut self) {
        let cell = ("LO", "bulk");
        let ours = self.ours(cell, |row| row.goodput_mbit);
        let theirs = |names: [&str; 2]| {
            let values = names.into_iter().filter_map(|name| self.medians.of(cell, name, |row| row.goodput_mbit));
            values.reduce(f64::max)
        };
        let (quinn, kcp) = (theirs(["quinn-cubic", "quinn-bbr"]), theirs(["kcp-normal", "kcp-fastest"]));
        self.note(cell, "goodput as a multiple of quinn's", ratio(ours, quinn), Some(2.0), true);
        self.note(cell, "goodput as a multiple of tokio_kcp's", ratio(ours, kcp), Some(5.0), true);
    }
}

fn ratio(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    Some(one? / other.filter(|other| *other > 0.0)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(scenario: &str, stack: &str, p99_ms: f64, void: bool) -> Row {
        Row {
            scenario: scenario.to_owned(),
            workload: "canvas".to_owned(),
            stack: stack.to_owned(),
            p99_ms: Some(p99_ms),
            void: if void { vec!["late".to_owned()] } else { vec![] },
            ..Row::default()
        }
    }

    #[test]
    fn medians_leave_void_runs_out_and_the_best_peer_is_no_stack_of_ours() {
        let rows = [
            row("L2", "quantum", 28.0, false),
            row("L2", "quantum", 26.0, false),
            row("L2", "quantum", 500.0, true),
            row("L2", "quantum-nofec", 20.0, false),
            row("L2", "quinn-bbr", 90.0, false),
            row("L2", "tcp-bbr", 200.0, false),
        ];
        let verdicts = check(&rows);
        let of = |what: &str| verdicts.iter().find(|verdict| verdict.what.starts_with(what)).expect("a verdict");
        assert_eq!((of("p99 in ms").value, of("p99 in ms").is_met()), (27.0, true));
        assert!((of("p99 as a part").value - 0.3).abs() < 1e-9);
        assert!(of("p99 in ms").to_string().starts_with("met    L2 canvas: p99 in ms 27.000, at most 30.000"));
    }

    #[test]
    fn nothing_is_said_about_what_was_not_run() {
        assert_eq!(check(&[]), []);
        assert_eq!(check(&[row("L2", "quinn-bbr", 90.0, false)]), []);
    }
}
