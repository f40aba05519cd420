//! What one shard of the generator saw: latencies by intended time, and every fault by name.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::ledger::Account;

/// The longest time that is told from longer ones: a minute.
const LATENCY_MAX_NS: u64 = 60_000_000_000;
/// Significant digits of all times.
const DIGITS: u8 = 3;
/// Different names of faults that are kept; more of them become one.
const FAULTS_MAX: usize = 64;

/// How far a publication has got, if it belongs to the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Last {
    /// Subscribers that have it, of those that read.
    pub receivers: u32,
    /// From the intended time to the last of them.
    pub latency_ns: u64,
}

/// The counters of a shard. Only what belongs to the window that counts is recorded as latency.
#[derive(Clone, Debug)]
pub struct Tally {
    /// From the intended time to the answer.
    pub latency: Histogram<u64>,
    /// From the real time of sending to the answer: what a generator that waits for its server would report.
    pub service: Histogram<u64>,
    /// From the intended time to the real time of sending: how well the generator kept to its plan.
    pub lateness: Histogram<u64>,
    /// Requests sent within the window.
    pub sent: u64,
    /// Answers (or deliveries) that came within the window.
    pub completed: u64,
    /// Answers (or deliveries) over the whole run.
    pub completed_total: u64,
    /// Bytes of answers within the window, of transports that count them.
    pub received_bytes: u64,
    /// Publications that were acknowledged, over the whole run.
    pub acknowledged: u64,
    /// Publications that were acknowledged as being on disk, over the whole run.
    pub durable: u64,
    /// By the number of a publication: how many it has reached, and how long the last of them took.
    pub last: Vec<Last>,
    /// When the last reader that had stalled got something; 0: none did.
    pub caught_up_ns: u64,
    /// Payloads that came back changed.
    pub corrupt: u64,
    /// Planned requests that found no open connection.
    pub unsent: u64,
    /// Refusals, closes and broken frames, by name.
    pub faults: BTreeMap<String, u64>,
    /// The sums of all ledgers, filled in at the end.
    pub account: Account,
    window: (u64, u64),
}

impl Tally {
    /// Nothing seen yet, and nothing counts yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            latency: histogram(),
            service: histogram(),
            lateness: histogram(),
            sent: 0,
            completed: 0,
            completed_total: 0,
            received_bytes: 0,
            acknowledged: 0,
            durable: 0,
            last: Vec::new(),
            caught_up_ns: 0,
            corrupt: 0,
            unsent: 0,
            faults: BTreeMap::new(),
            account: Account::default(),
            window: (u64::MAX, u64::MAX),
        }
    }

    /// From `open_ns` on requests count, until `close_ns`.
    pub fn set_window(&mut self, open_ns: u64, close_ns: u64) {
        self.window = (open_ns, close_ns);
    }

    /// A request with this intended time leaves now; how late it is.
    pub fn request(&mut self, now_ns: u64, planned_ns: u64) -> u32 {
        let late_ns = now_ns.saturating_sub(planned_ns);
        if self.counts(planned_ns) {
            self.sent += 1;
            self.lateness.saturating_record(late_ns);
        }
        u32::try_from(late_ns).unwrap_or(u32::MAX)
    }

    /// The first answer to a request arrived.
    pub fn answer(&mut self, now_ns: u64, planned_ns: u64, late_ns: u32) {
        self.completed_total += 1;
        if self.counts(now_ns) {
            self.completed += 1;
        }
        if self.counts(planned_ns) {
            let latency_ns = now_ns.saturating_sub(planned_ns);
            self.latency.saturating_record(latency_ns);
            self.service.saturating_record(latency_ns.saturating_sub(late_ns.into()));
        }
    }

    /// Publication `number` reached one more subscriber.
    pub fn delivered(&mut self, now_ns: u64, planned_ns: u64, number: u64) {
        if !self.counts(planned_ns) {
            return;
        }
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        if self.last.len() <= at {
            self.last.resize(at + 1, Last::default());
        }
        self.last[at].add(Last { receivers: 1, latency_ns: now_ns.saturating_sub(planned_ns) });
    }

    /// A delivery reached a reader that stalls for a while: it belongs to the account, not to the latency of others.
    pub fn caught_up(&mut self, now_ns: u64) {
        self.completed_total += 1;
        self.caught_up_ns = self.caught_up_ns.max(now_ns);
    }

    /// The time to the last receiver of each publication that reached all `receivers`.
    #[must_use]
    pub fn last_receiver(&self, receivers: u32) -> Histogram<u64> {
        let mut histogram = histogram();
        let whole = self.last.iter().filter(|last| last.receivers == receivers);
        whole.for_each(|last| histogram.saturating_record(last.latency_ns));
        histogram
    }

    /// Bytes of answers arrived.
    pub fn received(&mut self, now_ns: u64, bytes: u64) {
        if self.counts(now_ns) {
            self.received_bytes += bytes;
        }
    }

    /// Something went wrong.
    pub fn fault(&mut self, name: impl Into<String>) {
        let name = name.into();
        let known = self.faults.len() < FAULTS_MAX || self.faults.contains_key(&name);
        *self.faults.entry(if known { name } else { "other".to_owned() }).or_default() += 1;
    }

    /// Adds what another shard saw.
    pub fn add(&mut self, other: &Tally) {
        for (sum, part) in [
            (&mut self.latency, &other.latency),
            (&mut self.service, &other.service),
            (&mut self.lateness, &other.lateness),
        ] {
            sum.add(part).expect("all histograms have the same bounds");
        }
        for (sum, part) in [
            (&mut self.sent, other.sent),
            (&mut self.completed, other.completed),
            (&mut self.completed_total, other.completed_total),
            (&mut self.received_bytes, other.received_bytes),
            (&mut self.acknowledged, other.acknowledged),
            (&mut self.durable, other.durable),
            (&mut self.corrupt, other.corrupt),
            (&mut self.unsent, other.unsent),
        ] {
            *sum += part;
        }
        self.last.resize(self.last.len().max(other.last.len()), Last::default());
        self.last.iter_mut().zip(&other.last).for_each(|(sum, part)| sum.add(*part));
        self.caught_up_ns = self.caught_up_ns.max(other.caught_up_ns);
        for (name, count) in &other.faults {
            *self.faults.entry(name.clone()).or_default() += count;
        }
        self.account.add(other.account);
    }

    fn counts(&self, at_ns: u64) -> bool {
        self.window.0 <= at_ns && at_ns < self.window.1
    }
}

impl Last {
    fn add(&mut self, other: Last) {
        self.receivers += other.receivers;
        self.latency_ns = self.latency_ns.max(other.latency_ns);
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self::new()
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_NS, DIGITS).expect("constant bounds that the histogram accepts")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_counts_from_the_intended_time() {
        let mut tally = Tally::new();
        tally.set_window(1_000, 2_000);
        let late = tally.request(1_900, 1_100);
        assert_eq!(late, 800);
        tally.answer(1_950, 1_100, late);
        assert_eq!((tally.latency.max(), tally.service.max(), tally.lateness.max()), (850, 50, 800));
        assert_eq!((tally.sent, tally.completed), (1, 1));
    }

    #[test]
    fn only_the_window_counts() {
        let mut tally = Tally::new();
        tally.answer(5, 5, 0);
        tally.set_window(1_000, 2_000);
        tally.request(999, 999);
        tally.answer(1_500, 999, 0);
        tally.request(1_999, 1_999);
        tally.answer(2_500, 1_999, 0);
        assert_eq!((tally.sent, tally.completed, tally.completed_total, tally.latency.len()), (1, 1, 3, 1));
    }

    #[test]
    fn the_last_receiver_is_found_over_all_shards() {
        let shard = |latencies: [u64; 2]| {
            let mut tally = Tally::new();
            tally.set_window(1_000, 2_000);
            tally.delivered(1_100, 999, 0);
            latencies.into_iter().for_each(|latency| tally.delivered(1_200 + latency, 1_200, 1));
            tally
        };
        let mut sum = shard([10, 70]);
        sum.delivered(1_301, 1_300, 2);
        sum.add(&shard([30, 20]));
        let last = sum.last_receiver(4);
        assert_eq!((last.len(), last.max()), (1, 70), "0 is before the window, 2 has not reached all");
    }

    #[test]
    fn who_catches_up_counts_as_reached_and_has_no_latency() {
        let mut tally = Tally::new();
        tally.set_window(0, 10);
        tally.caught_up(7);
        assert_eq!((tally.completed_total, tally.completed, tally.latency.len(), tally.caught_up_ns), (1, 0, 0, 7));
    }

    #[test]
    fn shards_add_up_and_names_stay_bounded() {
        let mut sum = Tally::new();
        let mut part = Tally::new();
        (0..1_000).for_each(|name| part.fault(format!("fault {name}")));
        assert!(part.faults.len() <= FAULTS_MAX + 1);
        part.set_window(0, 10);
        part.answer(5, 1, 0);
        sum.add(&part);
        sum.add(&part);
        assert_eq!((sum.completed, sum.latency.len(), sum.faults.values().sum::<u64>()), (2, 2, 2_000));
    }
}
