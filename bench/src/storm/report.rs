//! What a storm comes to: rounds and the account, as JSON and as lines for people.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    book::Account,
    plan::{Stop, Storm},
};
use crate::report::Spread;

/// One stop and start of the server. Seconds count from the signal, unless they say otherwise.
#[derive(Debug, Serialize)]
pub struct Round {
    /// How it was stopped.
    pub stop: Stop,
    /// Until the old process was gone.
    pub gone_s: f64,
    /// From the new process's start until it listened.
    pub listening_s: f64,
    /// From the new process's start until it was ready.
    pub ready_s: f64,
    /// Until half of the clients had resumed: their session open again, and all read that was there when it opened.
    pub half_back_s: f64,
    /// Until all but one of a hundred had.
    pub most_back_s: f64,
    /// Until the last one had.
    pub last_back_s: f64,
    /// From the new process being ready until the last client had resumed.
    pub last_back_after_ready_s: f64,
    /// Until the first publication was acknowledged by the new server.
    pub first_acknowledged_s: Option<f64>,
    /// Clients that were given up.
    pub missing: u32,
    /// Connections that were begun, for each client.
    pub tries_mean: f64,
    /// The most of one client.
    pub tries_max: u32,
    /// Tries that failed, by reason.
    pub failures: BTreeMap<String, u64>,
    /// From the intended time to the acknowledgement, of what clients published that were back, while others were not.
    pub acknowledged_us: Spread,
    /// The same, to its delivery to each reader that was back.
    pub delivered_us: Spread,
    /// The new process's time on cores from its start until the last client had resumed.
    pub cpu_s: f64,
    /// Anonymous resident bytes of the server before the stop.
    pub resident_before_bytes: u64,
    /// The most that the new one had until the last client had resumed.
    pub resident_max_bytes: u64,
    /// The part of the time that the hypervisor gave to others.
    pub stolen: f64,
}

/// A finished storm.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// The command line.
    pub plan: Storm,
    /// One for each stop.
    pub rounds: Vec<Round>,
    /// Of the whole run.
    pub account: Account,
    /// Messages that readers should have got.
    pub expected: u64,
    /// Everything else that went wrong, by name.
    pub faults: BTreeMap<String, u64>,
    /// Processes that wanted a core when the run ended, averaged over a minute.
    pub load_average: Option<f64>,
}

impl Outcome {
    /// Whether everybody came back and had everything, once.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.account.is_clean()
            && self.account.delivered == self.expected
            && self.faults.is_empty()
            && self.rounds.iter().all(|round| round.missing == 0)
    }

    /// Lines for people.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut lines: Vec<String> = self.rounds.iter().map(|round| round.lines(self.plan.aim)).collect();
        let account = self.account;
        lines.push(format!(
            "published {}, acknowledged {}, delivered {} of {}",
            account.published, account.acknowledged, account.delivered, self.expected
        ));
        lines.push(format!(
            "lost {}, gaps {}, repeats {}, doubled {}, different {}, holes {}, forgotten {}, unanswered {}, acknowledged \
             twice {}, from memory {}",
            account.lost,
            account.gaps,
            account.repeats,
            account.doubled,
            account.different,
            account.holes,
            account.forgotten,
            account.unanswered,
            account.acknowledged_twice,
            account.from_memory
        ));
        lines.extend(self.faults.iter().map(|(name, count)| format!("fault: {name}: {count}")));
        if let Some(load) = self.load_average {
            lines.push(format!("load average {load:.2}"));
        }
        lines.join("\n")
    }
}

impl Round {
    fn lines(&self, aim_s: f64) -> String {
        let mib = |bytes: u64| bytes / (1 << 20);
        let verdict = if self.missing == 0 && self.last_back_s <= aim_s { "met" } else { "missed" };
        let mut text = format!(
            "{:?}: gone after {:.2} s; the next one listens {:.2} s and is ready {:.2} s after its start\n\
             \u{20} back: half {:.2} s, 99 % {:.2} s, the last {:.2} s after the signal and {:.2} s after ready; {} missing; \
             aim of {aim_s} s: {verdict}\n\
             \u{20} first acknowledgement {}; {:.2} tries each, {} at most\n\
             \u{20} server: {:.2} s on cores; {} MiB before, at most {} MiB; {:.1} % of the time stolen",
            self.stop,
            self.gone_s,
            self.listening_s,
            self.ready_s,
            self.half_back_s,
            self.most_back_s,
            self.last_back_s,
            self.last_back_after_ready_s,
            self.missing,
            self.first_acknowledged_s.map_or("none".to_owned(), |at_s| format!("after {at_s:.2} s")),
            self.tries_mean,
            self.tries_max,
            self.cpu_s,
            mib(self.resident_before_bytes),
            mib(self.resident_max_bytes),
            self.stolen * 100.0
        );
        for (name, spread) in [("acknowledged", &self.acknowledged_us), ("delivered", &self.delivered_us)] {
            if spread.samples > 0 {
                text += &format!("\n  meanwhile {name}, us: {spread} ({} samples)", spread.samples);
            }
        }
        for (name, count) in &self.failures {
            text += &format!("\n  failed: {name}: {count}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storm::plan::tests::plan;

    fn round(last_back_s: f64, missing: u32) -> Round {
        Round {
            stop: Stop::Kill,
            gone_s: 0.1,
            listening_s: 0.2,
            ready_s: 0.3,
            half_back_s: 1.0,
            most_back_s: 2.0,
            last_back_s,
            last_back_after_ready_s: last_back_s - 0.4,
            first_acknowledged_s: Some(0.9),
            missing,
            tries_mean: 1.5,
            tries_max: 4,
            failures: BTreeMap::from([("connect: connection refused".to_owned(), 12)]),
            acknowledged_us: Spread::default(),
            delivered_us: Spread::default(),
            cpu_s: 1.0,
            resident_before_bytes: 1 << 20,
            resident_max_bytes: 2 << 20,
            stolen: 0.0,
        }
    }

    #[test]
    fn the_summary_says_whether_the_aim_is_met_and_the_account_decides() {
        let account = Account { published: 3, acknowledged: 3, delivered: 6, ..Account::default() };
        let mut outcome = Outcome {
            plan: plan(""),
            rounds: vec![round(3.0, 0)],
            account,
            expected: 6,
            faults: BTreeMap::new(),
            load_average: None,
        };
        let text = outcome.summary();
        assert!(outcome.is_good() && text.contains("aim of 15 s: met") && text.contains("refused: 12"), "{text}");
        outcome.rounds = vec![round(15.1, 0)];
        assert!(outcome.is_good() && outcome.summary().contains("aim of 15 s: missed"));
        outcome.rounds = vec![round(3.0, 1)];
        assert!(!outcome.is_good() && outcome.summary().contains("aim of 15 s: missed"));
        outcome.rounds.clear();
        outcome.account.gaps = 1;
        assert!(!outcome.is_good());
        outcome.account.gaps = 0;
        outcome.expected = 7;
        assert!(!outcome.is_good());
    }
}
