//! Forward error correction, proven to be used: what it restores alone, how soon, and when it stays away.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use quantum::{Delivery, FecMode, Stats, Transport, Verdict};
use simnet::{LinkConfig, Loss};

use crate::{
    stream::{pattern, transfer},
    traffic::Who,
    world::{Packet, World},
};

const DELAY: Duration = Duration::from_millis(20);

fn link(loss: f64) -> LinkConfig {
    LinkConfig { delay: DELAY, loss: if loss > 0.0 { Loss::Iid(loss) } else { Loss::None }, ..LinkConfig::default() }
}

/// Acknowledgements alone are shorter than this, and what carries data or parity here is longer.
const DATA_BYTES_MIN: usize = 150;

#[test]
fn any_three_of_thirteen_are_restored_without_a_resend() {
    let fec = FecMode::Fixed { k: 10, r: 3 };
    // Without probes of larger packets: all that is sent is data, parity and acknowledgements.
    let transport = Transport { fec, retransmit: false, udp_payload_max: 1_200, ..Transport::default() };
    let mut world = World::with(1, link(0.0), transport, Transport::default()).connected();
    world.run_for(Duration::from_millis(500));
    let mut patterns: Vec<u32> = (0..1u32 << 13).filter(|lost| lost.count_ones() <= 3).collect();
    patterns.sort_by_key(|lost| lost.count_ones());
    let mut number = 0u64;
    for lost in patterns {
        let (mut at, before) = (0, world.server().stats());
        world.drop_up = Some(Box::new(move |packet: &Packet| {
            let counts = packet.bytes.len() >= DATA_BYTES_MIN;
            let drop = counts && lost >> at & 1 == 1;
            at += i32::from(counts);
            assert!(at <= 13, "ten packets and three rows");
            drop
        }));
        let now = world.now;
        for _ in 0..10 {
            let bytes = Bytes::from(vec![number as u8; 1_000]);
            assert_eq!(world.client().send_message(now, 0, Delivery::Independent, 4, None, bytes), Ok(number));
            number += 1;
        }
        world.flush();
        world.run_for(Duration::from_millis(120));
        let mut got = BTreeMap::new();
        while let Some(message) = world.server().recv_message() {
            assert!(got.insert(message.number, message.bytes).is_none(), "once");
        }
        let sent = (number - 10..number).map(|number| (number, Bytes::from(vec![number as u8; 1_000])));
        assert!(got.into_iter().eq(sent), "lost {lost:013b}");
        let after = world.server().stats();
        assert_eq!(after.symbols_recovered - before.symbols_recovered, u64::from((lost & 0x3FF).count_ones()));
    }
    let stats = world.client().stats();
    assert!(stats.resent == 0 && stats.repairs_sent <= number / 10 * 3, "{stats:?}");
    // Lost packets stay lost for congestion control, whoever restored them (RFC 9265).
    assert!(stats.packets_lost > 700, "{stats:?}");
}

/// What became of the messages of a steady flow.
struct Outcome {
    /// How much later than without loss, of those that came later.
    late: Vec<Duration>,
    missing: usize,
    sender: Stats,
    receiver: Stats,
}

/// A flow of so many messages a second from the client for so long.
fn flow(seed: u64, transport: Transport, link: LinkConfig, rate: u32, seconds: u32) -> Outcome {
    let mut world = World::with(seed, link, transport, Transport::default()).connected();
    let (start, total) = (world.now + Duration::from_secs(1), rate * seconds);
    let mut due = BTreeMap::new();
    let mut late = Vec::new();
    for at in 0..total {
        let time = start + Duration::from_secs(1) * at / rate;
        receive_until(&mut world, time, &mut due, &mut late);
        let (channel, bytes) = (u64::from(at % 60), Bytes::from(vec![at as u8; 200]));
        let number = world.client().send_message(time, channel, Delivery::Independent, 4, None, bytes).unwrap();
        due.insert((channel, number), time + DELAY);
        world.flush();
    }
    let end = world.now + Duration::from_secs(2);
    receive_until(&mut world, end, &mut due, &mut late);
    late.sort();
    let (sender, receiver) = (world.client().stats(), world.server().stats());
    Outcome { late, missing: due.len(), sender, receiver }
}

fn receive_until(
    world: &mut World,
    time: std::time::Instant,
    due: &mut BTreeMap<(u64, u64), std::time::Instant>,
    late: &mut Vec<Duration>,
) {
    let mut seen = world.server.events.len();
    world.pass(time.saturating_duration_since(world.now), |world| {
        if std::mem::replace(&mut seen, world.server.events.len()) == world.server.events.len() {
            return;
        }
        let now = world.now;
        while let Some(message) = world.server().recv_message() {
            let due = due.remove(&(message.channel, message.number)).expect("once");
            if now > due {
                late.push(now - due);
            }
        }
        world.flush();
    });
}

/// What 99 % are not worse than.
fn p99(sorted: &[Duration]) -> Duration {
    sorted[(sorted.len() * 99).div_ceil(100) - 1]
}

#[test]
fn what_is_restored_is_at_most_ten_milliseconds_late() {
    for (rate, fec) in [
        (200, FecMode::Adaptive),
        (500, FecMode::Adaptive),
        (1_000, FecMode::Adaptive),
        (500, FecMode::Fixed { k: 4, r: 3 }),
    ] {
        // Nothing else brings a lost message back.
        let transport = Transport { fec, retransmit: false, ..Transport::default() };
        let outcome = flow(u64::from(rate), transport, link(0.05), rate, 20);
        let lost = outcome.late.len() + outcome.missing;
        let recovered = outcome.receiver.symbols_recovered;
        println!(
            "{rate}/s {fec:?}: {lost} lost, {} back, {recovered} symbols, p50 {:?}, p99 {:?}, parity {} of {} bytes",
            outcome.late.len(),
            outcome.late[outcome.late.len() / 2],
            p99(&outcome.late),
            outcome.sender.repair_bytes_sent,
            outcome.sender.bytes_sent,
        );
        assert!(p99(&outcome.late) <= Duration::from_millis(10), "{:?}", p99(&outcome.late));
        assert!(recovered > 0 && outcome.sender.resent == 0);
        assert!(outcome.late.len() * 10 >= lost * 8, "{} of {lost} are back", outcome.late.len());
    }
}

#[test]
fn resends_help_where_parity_does_not() {
    let outcome = flow(9, Transport::default(), link(0.05), 500, 10);
    println!("{} late, p99 {:?}, {:?}", outcome.late.len(), p99(&outcome.late), outcome.sender);
    assert_eq!(outcome.missing, 0, "reliable is reliable");
    assert!(outcome.receiver.symbols_recovered > 100, "adaptive parity restores");
    assert!(outcome.sender.symbols_saved * 10 >= outcome.receiver.symbols_recovered * 9, "and saves the resend");
    let off = flow(9, Transport { fec: FecMode::Off, ..Transport::default() }, link(0.05), 500, 10);
    assert_eq!((off.missing, off.receiver.symbols_recovered), (0, 0));
    assert!(p99(&outcome.late) < p99(&off.late), "{:?} and {:?}", p99(&outcome.late), p99(&off.late));
    // Bytes on the wire.
    let (with, without) = (outcome.sender.bytes_sent, off.sender.bytes_sent);
    assert!(with * 10 <= without * 16, "{with} bytes instead of {without}");
}

#[test]
fn a_datagram_that_was_restored_is_not_delivered_again_when_it_comes_seconds_later() {
    let transport = Transport { fec: FecMode::Fixed { k: 2, r: 1 }, udp_payload_max: 1_200, ..Transport::default() };
    let mut world = World::with(13, link(0.0), transport, Transport::default()).connected();
    world.run_for(Duration::from_millis(500));
    // Nobody hears that it was restored, so that the number of the packet stays of interest.
    world.down.configure(LinkConfig { down: true, ..link(0.0) });
    let (held, count) = (Rc::new(RefCell::new(None)), Cell::new(0));
    let keep = Rc::clone(&held);
    world.drop_up = Some(Box::new(move |packet: &Packet| {
        count.set(count.get() + 1);
        count.get() == 1 && keep.borrow_mut().replace(packet.clone()).is_none()
    }));
    for number in 0..2 {
        world.client().send_datagram(Bytes::from(vec![number; 1_000])).unwrap();
    }
    let datagrams = |world: &mut World| std::iter::from_fn(|| world.server().recv_datagram()).count();
    world.flush();
    world.run_for(Duration::from_millis(100));
    assert_eq!((world.server().stats().symbols_recovered, datagrams(&mut world)), (1, 2));
    world.run_for(Duration::from_secs(5));
    let late = held.borrow_mut().take().unwrap();
    assert_eq!(world.hand(Who::Server, late.from, &late.bytes), Verdict::Taken);
    assert_eq!(datagrams(&mut world), 0);
}

#[test]
fn a_clean_path_pays_nothing() {
    let outcome = flow(10, Transport::default(), link(0.0), 500, 5);
    assert_eq!((outcome.late.len(), outcome.missing), (0, 0));
    assert_eq!((outcome.sender.symbols_sent, outcome.sender.repairs_sent), (0, 0));
}

#[test]
fn bursts_do_not_drown_in_parity() {
    let loss = Loss::GilbertElliott { to_bad: 0.0132, to_good: 0.25, good: 0.0, bad: 1.0 };
    let outcome = flow(11, Transport::default(), LinkConfig { loss, ..link(0.0) }, 500, 30);
    assert_eq!(outcome.missing, 0);
    let (parity, all) = (outcome.sender.repair_bytes_sent, outcome.sender.bytes_sent);
    println!("{parity} of {all} bytes, {:?}", outcome.receiver.symbols_recovered);
    assert!(parity * 100 <= all * 40, "{parity} of {all} bytes");
}

#[test]
fn bulk_goes_without() {
    let config = LinkConfig { rate_bytes_per_s: Some(2_500_000), queue_bytes: 100_000, ..link(0.02) };
    let mut world = World::new(12, config).connected();
    transfer(&mut world, &pattern(5_000_000), Duration::from_secs(60));
    let stats = world.client().stats();
    println!("{stats:?}");
    assert!(stats.repair_bytes_sent * 50 <= stats.bytes_sent, "only the tail may be protected: {stats:?}");
}
