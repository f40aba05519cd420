//! What is said over a link, and the account of what was heard: messages with their number and intended time, and bulk
//! bytes of a known pattern.
//!
//! The load is an open loop: a message is planned whatever became of the ones before it, and its latency counts from
//! the plan, so a transport that stalls pays for every message that it kept waiting.

use std::sync::LazyLock;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::{
    plan::{MESSAGE_BYTES, Plan},
    schedule::Schedule,
    stamp::Stamp,
};

/// The longest latency that is told apart from others: a minute.
const LATENCY_NS_MAX: u64 = 60_000_000_000;
/// Messages of one connection that are told apart: more than any run sends.
const NUMBERS_MAX: u64 = 1 << 24;
/// The pattern of bulk bytes: the remainders of the offset. A prime, so that no packet size hides a shift.
const PATTERN: usize = 251;
/// The longest piece of bulk that is written at once.
pub const BULK_BYTES: usize = 64 * 1024;

static BULK: LazyLock<Vec<u8>> = LazyLock::new(|| (0..BULK_BYTES + PATTERN).map(|at| (at % PATTERN) as u8).collect());

/// Bulk bytes from `offset` on, as many as may be written at once.
#[must_use]
pub fn bulk(offset: u64) -> &'static [u8] {
    let start = (offset % PATTERN as u64) as usize;
    &BULK[start..start + BULK_BYTES]
}

/// The messages that one connection sends.
#[derive(Clone, Debug)]
pub struct Source {
    connection: u32,
    schedule: Schedule,
    to_ns: u64,
}

impl Source {
    /// What this side sends on a connection that is open since `now_ns`; `None` if it sends no messages. What is
    /// planned after the window's start is owed even by a connection that opened late.
    #[must_use]
    pub fn new(plan: &Plan, connection: u32, now_ns: u64) -> Option<Self> {
        let rate = plan.workload.rate(plan.side)?;
        // Connections do not send in the same instant.
        let offset_ns = u64::from(connection) * 1_000_000_000 / rate / u64::from(plan.connections.max(1));
        let from_ns = plan.from_ns + offset_ns;
        // Whole periods before the window, so that the window always holds the same plan.
        let period_ns = 1_000_000_000 / rate;
        let warm_ns = from_ns.saturating_sub(now_ns) / period_ns * period_ns;
        Some(Self { connection, schedule: Schedule::new(from_ns - warm_ns, rate, 0, 1), to_ns: plan.to_ns })
    }

    /// When the next message is planned; `None` after the last one.
    #[must_use]
    pub fn next_ns(&self) -> Option<u64> {
        Some(self.schedule.next_ns()).filter(|at| *at < self.to_ns)
    }

    /// The next message, if it is due.
    pub fn take(&mut self, now_ns: u64) -> Option<[u8; MESSAGE_BYTES]> {
        let (number, planned_ns) = self.schedule.take(now_ns.min(self.to_ns - 1))?;
        let late_ns = u32::try_from(now_ns - planned_ns).unwrap_or(u32::MAX);
        let stamp = Stamp { connection: self.connection, number, planned_ns, late_ns };
        let mut bytes = Vec::with_capacity(MESSAGE_BYTES);
        stamp.write(MESSAGE_BYTES, &mut bytes);
        bytes.try_into().ok()
    }
}

/// What was heard on all connections of a program.
#[derive(Debug)]
pub struct Account {
    from_ns: u64,
    to_ns: u64,
    messages: Vec<Heard>,
    bulk: Vec<Flow>,
    latency: Histogram<u64>,
    late: Histogram<u64>,
    way: Histogram<u64>,
    damaged: u64,
    connected: u32,
    lost: u32,
    faults: Vec<String>,
}

/// Messages of one sender.
#[derive(Clone, Debug, Default)]
struct Heard {
    seen: Vec<u64>,
    received: u64,
    doubled: u64,
    reordered: u64,
    newest: Option<u64>,
    gap: Gap,
}

/// Bulk of one connection.
#[derive(Clone, Copy, Debug, Default)]
struct Flow {
    offset: u64,
    counted: u64,
    gap: Gap,
}

/// The longest time without anything, within the window.
#[derive(Clone, Copy, Debug, Default)]
struct Gap {
    last_ns: u64,
    longest_ns: u64,
}

impl Account {
    /// An empty account.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        let histogram = || {
            let mut histogram = Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).unwrap_or_else(|_| unreachable!());
            histogram.auto(false);
            histogram
        };
        Self {
            from_ns: plan.from_ns,
            to_ns: plan.to_ns,
            messages: Vec::new(),
            bulk: Vec::new(),
            latency: histogram(),
            late: histogram(),
            way: histogram(),
            damaged: 0,
            connected: 0,
            lost: 0,
            faults: Vec::new(),
        }
    }

    /// A connection is open.
    pub fn connected(&mut self) {
        self.connected += 1;
    }

    /// A connection ended before the run did.
    pub fn lost(&mut self, why: impl ToString) {
        self.lost += 1;
        if self.faults.len() < 8 {
            self.faults.push(why.to_string());
        }
    }

    /// A whole message arrived.
    pub fn message(&mut self, now_ns: u64, bytes: &[u8]) {
        let stamp = Stamp::read(bytes).filter(|stamp| stamp.number < NUMBERS_MAX && bytes.len() == MESSAGE_BYTES);
        let Some(stamp) = stamp else {
            self.damaged += 1;
            return;
        };
        let heard = at(&mut self.messages, stamp.connection);
        let (from_ns, to_ns) = (self.from_ns, self.to_ns);
        heard.gap.heard(now_ns, from_ns, to_ns);
        if !heard.is_new(stamp.number) {
            heard.doubled += 1;
            return;
        }
        if heard.newest.is_some_and(|newest| stamp.number < newest) {
            heard.reordered += 1;
        }
        heard.newest = heard.newest.max(Some(stamp.number));
        if (from_ns..to_ns).contains(&stamp.planned_ns) {
            heard.received += 1;
            let latency_ns = now_ns.saturating_sub(stamp.planned_ns);
            self.latency.saturating_record(latency_ns);
            self.way.saturating_record(latency_ns.saturating_sub(stamp.late_ns.into()));
            self.late.saturating_record(stamp.late_ns.into());
        }
    }

    /// Bulk bytes arrived, in order.
    pub fn bulk(&mut self, now_ns: u64, connection: u32, bytes: &[u8]) {
        let flow = at(&mut self.bulk, connection);
        let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return };
        let expected = |offset: u64| (offset % PATTERN as u64) as u8;
        if *first != expected(flow.offset) || *last != expected(flow.offset + bytes.len() as u64 - 1) {
            self.damaged += 1;
        }
        flow.offset += bytes.len() as u64;
        flow.gap.heard(now_ns, self.from_ns, self.to_ns);
        if (self.from_ns..self.to_ns).contains(&now_ns) {
            flow.counted += bytes.len() as u64;
        }
    }

    /// The account as one line of JSON; times in nanoseconds.
    #[must_use]
    pub fn report(&self, plan: &Plan) -> String {
        let sum = |count: fn(&Heard) -> u64| self.messages.iter().map(count).sum::<u64>();
        let gaps = self.messages.iter().map(|heard| heard.gap).chain(self.bulk.iter().map(|flow| flow.gap));
        let stall_ns = gaps.map(|gap| gap.end(self.from_ns, self.to_ns)).max();
        let counted: Vec<u64> = self.bulk.iter().map(|flow| flow.counted).collect();
        json!({
            "side": if plan.side == super::plan::Side::Server { "server" } else { "client" },
            "connected": self.connected,
            "connections_lost": self.lost,
            "faults": self.faults,
            "received": sum(|heard| heard.received),
            "doubled": sum(|heard| heard.doubled),
            "reordered": sum(|heard| heard.reordered),
            "damaged": self.damaged,
            "latency_ns": quantiles(&self.latency),
            "late_ns": quantiles(&self.late),
            "way_ns": quantiles(&self.way),
            "bulk_bytes": counted,
            "window_ns": self.to_ns - self.from_ns,
            "stall_ns": stall_ns,
        })
        .to_string()
    }
}

impl Heard {
    fn is_new(&mut self, number: u64) -> bool {
        let (word, bit) = ((number / 64) as usize, 1_u64 << (number % 64));
        if self.seen.len() <= word {
            self.seen.resize(word + 1, 0);
        }
        let is_new = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        is_new
    }
}

impl Gap {
    fn heard(&mut self, now_ns: u64, from_ns: u64, to_ns: u64) {
        let now_ns = now_ns.min(to_ns);
        let last_ns = self.last_ns.max(from_ns);
        if now_ns > last_ns {
            self.longest_ns = self.longest_ns.max(now_ns - last_ns);
        }
        self.last_ns = self.last_ns.max(now_ns);
    }

    /// The longest gap, up to the end of the window.
    fn end(mut self, from_ns: u64, to_ns: u64) -> u64 {
        self.heard(to_ns, from_ns, to_ns);
        self.longest_ns
    }
}

fn at<T: Clone + Default>(all: &mut Vec<T>, number: u32) -> &mut T {
    // A stamp carries its own check, so a number is one that a sender of this run has given.
    let number = number as usize;
    if all.len() <= number {
        all.resize(number + 1, T::default());
    }
    &mut all[number]
}

fn quantiles(histogram: &Histogram<u64>) -> Value {
    if histogram.is_empty() {
        return Value::Null;
    }
    let at = |quantile| histogram.value_at_quantile(quantile);
    json!({
        "count": histogram.len(), "mean": histogram.mean(), "p50": at(0.5), "p90": at(0.9), "p95": at(0.95),
        "p99": at(0.99), "p999": at(0.999), "max": histogram.max(),
    })
}

#[cfg(test)]
mod tests {
    use super::{
        super::plan::{Side, Workload},
        *,
    };

    fn plan(side: Side, workload: Workload) -> Plan {
        let addr = ([127, 0, 0, 1], 1).into();
        let (bind, variant) = (Vec::new(), String::new());
        let (from_ns, to_ns, end_ns) = (2_000_000_000, 3_000_000_000, 4_000_000_000);
        Plan { side, addr, bind, variant, workload, connections: 1, from_ns, to_ns, end_ns }
    }

    fn all(source: &mut Source, now_ns: u64) -> Vec<Stamp> {
        std::iter::from_fn(|| source.take(now_ns)).map(|bytes| Stamp::read(&bytes).expect("a stamp")).collect()
    }

    #[test]
    fn a_window_holds_the_same_plan_however_late_the_connection_is() {
        for opened_ns in [1_000_000_000, 1_999_999_999, 2_500_000_000] {
            let mut source = Source::new(&plan(Side::Server, Workload::Canvas), 0, opened_ns).expect("a sender");
            let sent = all(&mut source, u64::MAX / 2);
            let counted = sent.iter().filter(|stamp| (2_000_000_000..3_000_000_000).contains(&stamp.planned_ns));
            assert_eq!(counted.count(), 500, "opened at {opened_ns}");
            assert_eq!((source.next_ns(), source.take(u64::MAX / 2)), (None, None));
        }
        assert!(Source::new(&plan(Side::Client, Workload::Canvas), 0, 0).is_none());
    }

    #[test]
    fn the_account_tells_lost_doubled_reordered_and_damaged_apart() {
        let plan = plan(Side::Client, Workload::Canvas);
        let server = Plan { side: Side::Server, ..plan.clone() };
        let mut source = Source::new(&server, 0, plan.from_ns).expect("a sender");
        let mut account = Account::new(&plan);
        let now_ns = plan.from_ns + 10_000_000;
        let messages: Vec<_> = std::iter::from_fn(|| source.take(now_ns)).collect();
        assert_eq!(messages.len(), 6);
        for at in [0, 2, 1, 1, 5] {
            account.message(now_ns + 20_000_000, &messages[at]);
        }
        account.message(now_ns, &messages[3][1..]);
        let report: Value = serde_json::from_str(&account.report(&plan)).expect("JSON");
        let count = |name: &str| report[name].as_u64().expect("a count");
        assert_eq!((count("received"), count("doubled"), count("reordered"), count("damaged")), (4, 1, 1, 1));
        assert!((29..31).contains(&(report["latency_ns"]["max"].as_u64().expect("a time") / 1_000_000)));
        assert_eq!(report["stall_ns"], 970_000_000);
    }

    #[test]
    fn bulk_counts_within_the_window_and_a_shift_is_seen() {
        let plan = plan(Side::Client, Workload::Bulk);
        let mut account = Account::new(&plan);
        account.bulk(plan.from_ns - 1, 1, &bulk(0)[..1_000]);
        account.bulk(plan.from_ns, 1, &bulk(1_000)[..500]);
        account.bulk(plan.to_ns, 1, &bulk(1_500)[..500]);
        let report: Value = serde_json::from_str(&account.report(&plan)).expect("JSON");
        assert_eq!((&report["bulk_bytes"], &report["damaged"]), (&json!([0, 500]), &json!(0)));
        account.bulk(plan.to_ns, 1, &bulk(2_001)[..500]);
        assert!(account.report(&plan).contains("\"damaged\":1"));
    }
}
