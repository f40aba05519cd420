//! What happens when nothing comes back.

use super::*;

#[test]
fn pitfall_7_a_lost_tail_is_asked_for_within_a_round_trip_and_a_bit() {
    let mut bench = Bench::new();
    bench.settle_rtt();
    let at = bench.now;
    let sent = bench.send_many(3);
    // srtt + max(4 * var, 1 ms) + max_ack_delay (RFC 9002, section 6.2.1).
    assert_eq!(bench.recovery.deadline(), Some(at + bench.recovery.rtt.pto_base() + ACK_DELAY_MAX));
    assert!(bench.recovery.rtt.pto_base() < ms(42));
    assert_eq!(bench.fire(), Timeout::Probe { space: Space::Application, packets: 2 });
    assert_eq!(bench.log.probed, sent[..2], "the oldest data goes again");
    assert_eq!(bench.log.lost, [0u64; 0], "but nothing is lost yet");
    assert_eq!(bench.recovery.probes_due(Space::Application), 2);
    let probes = bench.send_many(2);
    assert_eq!(bench.recovery.probes_due(Space::Application), 0);
    bench.wait(ms(40));
    bench.ack(&[probes[0]..=probes[1]]);
    assert_eq!(bench.log.lost, sent);
    assert!(bench.now <= at + ms(2 * 40 + 27), "all of it is known after {:?}", bench.now - at);
}

#[test]
fn the_timeout_doubles_until_something_comes_back() {
    let mut bench = Bench::new();
    bench.settle_rtt();
    let sent = bench.send_many(6);
    let base = bench.recovery.probe_timeout();
    for round in 0..5 {
        let since = bench.now;
        bench.fire();
        assert_eq!(bench.now - since, base * (1 << round));
        bench.send_many(2);
    }
    assert_eq!(bench.log.probed[..6], sent, "each round asks for others");
    assert_eq!(bench.log.probed.len(), 10);
    let last = bench.track().sent.next() - 1;
    bench.wait(ms(40));
    bench.ack(&[last..=last]);
    assert_eq!(bench.recovery.pto.count(), 0);
}

#[test]
fn a_timer_that_is_late_or_cannot_probe_does_not_spin() {
    let mut bench = Bench::new();
    bench.settle_rtt();
    bench.send();
    bench.wait(Duration::from_secs(3600));
    for round in 1..20 {
        let at = bench.now;
        bench.fire();
        assert!(bench.recovery.deadline() > Some(at), "round {round}");
    }
}

#[test]
fn the_first_timeout_of_a_handshake_is_three_initial_round_trips() {
    // RFC 9002, section 6.2.2: 333 ms and half of it as deviation.
    let mut bench = Bench::handshaking(Side::Client);
    let start = bench.now;
    bench.send_with(Space::Initial, |_| {});
    assert_eq!(bench.fire(), Timeout::Probe { space: Space::Initial, packets: 2 });
    assert!(bench.now - start >= ms(998) && bench.now - start <= ms(999));
}

#[test]
fn a_client_breaks_the_deadlock_of_a_server_that_may_not_send() {
    // RFC 9002, section 6.2.2.1: everything of the client's is acknowledged, and the server's next flight is lost.
    let mut bench = Bench::handshaking(Side::Client);
    bench.send_with(Space::Initial, |_| {});
    bench.wait(ms(40));
    bench.try_ack(Space::Initial, &[0..=0], None).unwrap();
    assert_eq!(bench.fire(), Timeout::Probe { space: Space::Initial, packets: 1 });
    bench.recovery.on_handshake_keys();
    bench.recovery.discard(bench.now, Space::Initial);
    assert_eq!(bench.fire(), Timeout::Probe { space: Space::Handshake, packets: 1 });
    bench.send_with(Space::Handshake, |_| {});
    bench.wait(ms(40));
    bench.try_ack(Space::Handshake, &[0..=0], None).unwrap();
    assert_eq!(bench.recovery.deadline(), None, "the server knows the address now");

    // 0-RTT data on its way has no timer of its own, and must not silence this one.
    let mut bench = Bench::handshaking(Side::Client);
    bench.send_with(Space::Application, |_| {});
    assert_eq!(bench.fire(), Timeout::Probe { space: Space::Initial, packets: 1 });
}

#[test]
fn an_unvalidated_client_keeps_its_backoff() {
    let mut bench = Bench::handshaking(Side::Client);
    bench.send_with(Space::Initial, |_| {});
    bench.fire();
    bench.send_with(Space::Initial, |_| {});
    bench.wait(ms(40));
    bench.try_ack(Space::Initial, &[0..=1], None).unwrap();
    assert_eq!(bench.recovery.pto.count(), 1);
    bench.recovery.on_handshake_confirmed();
    bench.send();
    bench.ack(&[0..=0]);
    assert_eq!(bench.recovery.pto.count(), 0);
}

#[test]
fn application_data_waits_for_the_handshake() {
    let mut bench = Bench::handshaking(Side::Server);
    bench.send();
    assert_eq!(bench.recovery.deadline(), None);
    bench.send_with(Space::Handshake, |_| {});
    assert!(bench.recovery.deadline().is_some());
    bench.recovery.set_blocked(true);
    assert_eq!(bench.recovery.deadline(), None, "nothing could be sent");
    bench.recovery.set_blocked(false);
    assert_eq!(bench.fire(), Timeout::Probe { space: Space::Handshake, packets: 2 });
    bench.recovery.discard(bench.now, Space::Handshake);
    assert_eq!(bench.recovery.deadline(), None);
    bench.recovery.on_handshake_confirmed();
    assert_eq!(bench.fire(), Timeout::Probe { space: Space::Application, packets: 2 });
}
