//! The links that transports are measured on: each a name, what is wrong with it, and what runs over it.

use std::time::{Duration, Instant};

use simnet::{LinkConfig, Loss, Reorder};

use super::{
    emulator::{Setup, Step},
    plan::Workload,
};

/// How often a NAT forgets its ports.
const REBIND: Duration = Duration::from_secs(5);
/// How often and how long a radio is away.
const AWAY: (Duration, Duration) = (Duration::from_secs(3), Duration::from_millis(250));
/// A queue holds at least this much, whatever the product of rate and delay is.
const QUEUE_BYTES_MIN: f64 = 6_000.0;

/// A link and what runs over it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scenario {
    /// Its name in flags and tables.
    pub name: &'static str,
    /// What is wrong with it.
    pub about: &'static str,
    /// Its state.
    pub shape: Shape,
    /// What runs over it unless something else is asked for.
    pub workloads: &'static [Workload],
    /// Connections of each transport.
    pub connections: u32,
    /// The transport that runs beside the measured one.
    pub rival: Option<&'static str>,
}

/// The state of a link, both directions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// Megabits per second to the server and to the client; 0: no emulated link at all.
    pub rate_mbit: (f64, f64),
    /// Without queueing.
    pub rtt_ms: f64,
    /// In products of the rate to the client and the RTT.
    pub queue: f64,
    /// To the server.
    pub loss_up: Loss,
    /// To the client.
    pub loss_down: Loss,
    /// Half of the packets are held back by up to this.
    pub reorder_ms: f64,
    /// What the connections of the client's second address wait more.
    pub far_rtt_ms: f64,
    /// What happens while it runs.
    pub drama: Drama,
}

/// What happens to a link while it runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Drama {
    /// Nothing.
    None,
    /// The NAT forgets its ports now and then.
    Rebinds,
    /// At half time the RTT becomes this.
    Rtt(f64),
    /// At half time longer packets vanish.
    Mtu(usize),
    /// Everything is lost for a moment, now and then.
    Away,
}

const BOTH: &[Workload] = &[Workload::Canvas, Workload::Bulk];
const BULK: &[Workload] = &[Workload::Bulk];

const CLEAN: Shape = Shape {
    rate_mbit: (100.0, 100.0),
    rtt_ms: 40.0,
    queue: 1.0,
    loss_up: Loss::None,
    loss_down: Loss::None,
    reorder_ms: 0.0,
    far_rtt_ms: 0.0,
    drama: Drama::None,
};

const fn lossy(loss: Loss) -> Shape {
    Shape { loss_up: loss, loss_down: loss, ..CLEAN }
}

/// Bursts of losses: the part that is lost, and the mean length of a burst.
const fn bursts(part: f64, mean: f64) -> Loss {
    let to_good = 1.0 / mean;
    Loss::GilbertElliott { to_bad: part * to_good / (1.0 - part), to_good, good: 0.0, bad: 1.0 }
}

const fn alone(name: &'static str, about: &'static str, shape: Shape, workloads: &'static [Workload]) -> Scenario {
    Scenario { name, about, shape, workloads, connections: 1, rival: None }
}

const fn rtt(name: &'static str, about: &'static str, rtt_ms: f64) -> Scenario {
    alone(name, about, Shape { rtt_ms, ..lossy(Loss::Iid(0.01)) }, BOTH)
}

const fn equals(name: &'static str, about: &'static str, queue: f64, connections: u32) -> Scenario {
    Scenario { connections, ..alone(name, about, Shape { queue, ..CLEAN }, BULK) }
}

const fn against(name: &'static str, about: &'static str, queue: f64, rival: &'static str) -> Scenario {
    Scenario { rival: Some(rival), ..alone(name, about, Shape { queue, ..CLEAN }, BULK) }
}

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    alone(
        "LO",
        "loopback, no link: server and client pinned to a core each",
        Shape { rate_mbit: (0.0, 0.0), rtt_ms: 0.0, ..CLEAN },
        BULK,
    ),
    alone("L0", "100 Mbit/s, RTT 40 ms", CLEAN, &[Workload::Canvas, Workload::Bulk, Workload::Mixed]),
    alone("L1", "1 % loss", lossy(Loss::Iid(0.01)), BOTH),
    alone(
        "L2",
        "5 % loss",
        lossy(Loss::Iid(0.05)),
        &[Workload::Canvas, Workload::Ordered, Workload::Bulk, Workload::Mixed],
    ),
    alone("L3", "10 % loss", lossy(Loss::Iid(0.1)), BOTH),
    alone("L4", "20 % loss", lossy(Loss::Iid(0.2)), BOTH),
    alone("B1", "5 % loss in bursts of 4", lossy(bursts(0.05, 4.0)), BOTH),
    alone("B2", "2 % loss in bursts of 8", lossy(bursts(0.02, 8.0)), BOTH),
    rtt("D1", "RTT 1 ms, 1 % loss", 1.0),
    rtt("D2", "RTT 10 ms, 1 % loss", 10.0),
    rtt("D3", "RTT 100 ms, 1 % loss", 100.0),
    rtt("D4", "RTT 200 ms, 1 % loss", 200.0),
    rtt("D5", "RTT 600 ms, 1 % loss", 600.0),
    alone(
        "Q1",
        "a queue of 10 BDP",
        Shape { queue: 10.0, ..CLEAN },
        &[Workload::Canvas, Workload::Bulk, Workload::Mixed],
    ),
    alone("Q2", "a queue of 0.25 BDP", Shape { queue: 0.25, ..CLEAN }, BOTH),
    alone("A1", "20 Mbit/s down, 1 Mbit/s up", Shape { rate_mbit: (1.0, 20.0), ..CLEAN }, BOTH),
    alone("A2", "5 % loss towards the server only", Shape { loss_up: Loss::Iid(0.05), ..CLEAN }, BOTH),
    alone("J1", "half of the packets up to 20 ms late, reordered", Shape { reorder_ms: 20.0, ..CLEAN }, BOTH),
    alone("W1", "nothing passes for 250 ms every 3 s", Shape { drama: Drama::Away, ..CLEAN }, BOTH),
    alone("H1", "the NAT changes its ports every 5 s", Shape { drama: Drama::Rebinds, ..CLEAN }, BOTH),
    alone("H2", "RTT 40 ms becomes 120 ms", Shape { drama: Drama::Rtt(120.0), ..CLEAN }, BOTH),
    alone("M1", "packets over 1,280 bytes vanish from half time on", Shape { drama: Drama::Mtu(1_280), ..CLEAN }, BOTH),
    equals("F1", "4 equal flows, 1 BDP", 1.0, 4),
    equals("F1s", "4 equal flows, 0.25 BDP", 0.25, 4),
    equals("F1d", "4 equal flows, 4 BDP", 4.0, 4),
    Scenario {
        connections: 2,
        ..alone("F2", "RTT 20 ms beside RTT 80 ms", Shape { rtt_ms: 20.0, far_rtt_ms: 60.0, queue: 2.0, ..CLEAN }, BULK)
    },
    against("F3", "beside one TCP cubic, 1 BDP", 1.0, "tcp-cubic"),
    against("F3s", "beside one TCP cubic, 0.25 BDP", 0.25, "tcp-cubic"),
    against("F3d", "beside one TCP cubic, 4 BDP", 4.0, "tcp-cubic"),
    against("F4", "beside one TCP bbr, 1 BDP", 1.0, "tcp-bbr"),
    against("F4s", "beside one TCP bbr, 0.25 BDP", 0.25, "tcp-bbr"),
    against("F4d", "beside one TCP bbr, 4 BDP", 4.0, "tcp-bbr"),
];

/// What `link-matrix` runs unless scenarios are named.
pub const STANDARD: &[&str] =
    &["L0", "L1", "L2", "L3", "B1", "Q1", "Q2", "A2", "H1", "M1", "F1", "F3", "F3d", "F4", "F4d"];
/// What the smoke subset runs.
pub const SMOKE: &[&str] = &["L0", "L2", "B1", "Q1", "A2", "H1"];

/// The scenario of a name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name.eq_ignore_ascii_case(name))
}

impl Scenario {
    /// Whether there is a link to emulate.
    #[must_use]
    pub fn has_link(&self) -> bool {
        self.shape.rate_mbit.1 > 0.0
    }

    /// The link for the emulator; the window's half is when things happen that happen once.
    #[must_use]
    pub fn setup(&self, seed: u64, start: Instant, window: (Instant, Instant), log: bool) -> Setup {
        let (up, down) = self.shape.configs();
        Setup {
            seed,
            up,
            down,
            far: ms(self.shape.far_rtt_ms / 2.0),
            nat: self.shape.drama == Drama::Rebinds,
            steps: self.shape.steps(start, window),
            window,
            log,
        }
    }
}

impl Shape {
    /// The directions to the server and to the client.
    #[must_use]
    pub fn configs(&self) -> (LinkConfig, LinkConfig) {
        (self.config(self.rate_mbit.0, self.loss_up), self.config(self.rate_mbit.1, self.loss_down))
    }

    fn config(&self, rate_mbit: f64, loss: Loss) -> LinkConfig {
        let rate = rate_mbit * 125_000.0;
        let hold = ms(self.reorder_ms);
        LinkConfig {
            delay: ms(self.rtt_ms / 2.0),
            rate_bytes_per_s: (rate > 0.0).then_some(rate as u64),
            queue_bytes: (rate * self.rtt_ms / 1_000.0 * self.queue).max(QUEUE_BYTES_MIN) as usize,
            loss,
            reorder: Reorder { probability: if hold.is_zero() { 0.0 } else { 0.5 }, hold },
            ..LinkConfig::default()
        }
    }

    fn steps(&self, start: Instant, window: (Instant, Instant)) -> Vec<(Instant, Step)> {
        let half = window.0 + (window.1 - window.0) / 2;
        let change = |shape: Self| {
            let (up, down) = shape.configs();
            Step::Change(up, down)
        };
        match self.drama {
            Drama::None => Vec::new(),
            Drama::Rtt(rtt_ms) => {
                // The queue stays as it is.
                let queue = self.queue * self.rtt_ms / rtt_ms;
                vec![(half, change(Self { rtt_ms, queue, ..*self }))]
            }
            Drama::Mtu(mtu) => {
                let (up, down) = self.configs();
                vec![(half, Step::Change(LinkConfig { mtu, ..up }, LinkConfig { mtu, ..down }))]
            }
            Drama::Rebinds => {
                // Half a period after the window's start, so that every window has some.
                let first = (window.0 + REBIND / 2).max(start);
                every(first, REBIND, window.1).map(|at| (at, Step::Rebind)).collect()
            }
            Drama::Away => {
                let (up, down) = self.configs();
                let gone = Step::Change(LinkConfig { down: true, ..up }, LinkConfig { down: true, ..down });
                let first = window.0 + AWAY.0 / 2;
                every(first, AWAY.0, window.1).flat_map(|at| [(at, gone), (at + AWAY.1, change(*self))]).collect()
            }
        }
    }
}

fn every(first: Instant, period: Duration, end: Instant) -> impl Iterator<Item = Instant> {
    std::iter::successors(Some(first), move |at| Some(*at + period)).take_while(move |at| *at < end)
}

fn ms(ms: f64) -> Duration {
    Duration::from_secs_f64(ms / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(name: &str, secs: u64) -> Vec<(Duration, Step)> {
        let (scenario, start) = (find(name).expect("a scenario"), Instant::now());
        let window = (start + Duration::from_secs(2), start + Duration::from_secs(2 + secs));
        scenario.setup(1, start, window, false).steps.into_iter().map(|(at, step)| (at - start, step)).collect()
    }

    #[test]
    fn names_are_unique_and_lists_name_what_there_is() {
        for (at, scenario) in SCENARIOS.iter().enumerate() {
            assert!(SCENARIOS[..at].iter().all(|other| other.name != scenario.name), "{} twice", scenario.name);
        }
        assert!(STANDARD.iter().chain(SMOKE).all(|name| find(name).is_some()));
        assert!(find("l0").is_some() && find("X9").is_none());
    }

    #[test]
    fn a_queue_is_measured_in_bandwidth_delay_products() {
        let (up, down) = find("Q1").expect("Q1").shape.configs();
        assert_eq!((down.rate_bytes_per_s, down.queue_bytes), (Some(12_500_000), 5_000_000));
        assert_eq!((up.delay, up.loss), (Duration::from_millis(20), Loss::None));
        assert_eq!(find("D1").expect("D1").shape.configs().1.queue_bytes, 12_500);
    }

    #[test]
    fn bursts_lose_their_part() {
        let Loss::GilbertElliott { to_bad, to_good, .. } = bursts(0.05, 4.0) else { panic!("no bursts") };
        assert!((to_bad / (to_bad + to_good) - 0.05).abs() < 1e-12 && (to_good - 0.25).abs() < 1e-12);
    }

    #[test]
    fn things_happen_within_the_window() {
        let second = Duration::from_secs_f64;
        let rebinds: Vec<_> = steps("H1", 10).into_iter().map(|(at, _)| at).collect();
        assert_eq!(rebinds, [second(4.5), second(9.5)]);
        assert!(matches!(steps("M1", 10)[..], [(at, Step::Change(up, _))] if at == second(7.0) && up.mtu == 1_280));
        let [(_, Step::Change(up, _))] = steps("H2", 10)[..] else { panic!("one change") };
        assert_eq!((up.delay, up.queue_bytes), (Duration::from_millis(60), 500_000));
        let away = steps("W1", 3);
        assert!(
            matches!(away[..], [(_, Step::Change(gone, _)), (_, Step::Change(back, _))] if gone.down && !back.down)
        );
    }
}
