//! Key updates: by either side, at the same time, out of order, and out of turn.

use super::*;
use crate::crypto::update::PACKETS_PER_KEY;

fn code<T: std::fmt::Debug>(result: Result<T, OpenError>) -> u64 {
    match result {
        Err(OpenError::Violation(error)) => error.code,
        other => panic!("no violation: {other:?}"),
    }
}

#[test]
fn either_side_updates_and_the_other_follows() {
    let mut pair = Pair::connected(20);
    let mut number = 0;
    for round in 0..10 {
        let from = if round % 2 == 0 { Side::Client } else { Side::Server };
        for side in [from, from.peer()] {
            assert_eq!(pair.exchange(side, number), Generation::Current);
        }
        number += 1;
        let now = pair.now;
        pair.side(from).want_update();
        assert!(pair.side(from).update_if_due(now));
        assert!(!pair.side(from).update_if_due(now), "one wish, one update");
        assert_eq!(pair.exchange(from, number), Generation::Next);
        assert_eq!(pair.exchange(from.peer(), number), Generation::Current, "the answer is in the new phase");
        number += 1;
        pair.now += 4 * PTO;
    }
}

#[test]
fn both_sides_may_update_at_the_same_time() {
    let mut pair = Pair::connected(21);
    for side in [Side::Client, Side::Server] {
        pair.exchange(side, 0);
        let now = pair.now;
        pair.side(side).want_update();
        // The other has not seen it: both go to the next phase, and meet there.
        assert!(pair.side(side).update_if_due(now));
    }
    for number in 1..5 {
        for side in [Side::Client, Side::Server] {
            pair.exchange(side, number);
        }
    }
    assert_eq!(pair.client.sealing(Level::OneRtt).unwrap().phase, pair.server.sealing(Level::OneRtt).unwrap().phase);
}

#[test]
fn an_update_waits_for_the_handshake_an_acknowledgement_and_the_keys_before() {
    let mut pair = Pair::connected(22);
    let now = pair.now;
    pair.client.want_update();
    assert!(!pair.client.update_if_due(now), "nothing was acknowledged");
    let bytes = pair.seal(Side::Client, 0);
    pair.open(Side::Server, &bytes).unwrap();
    assert!(!pair.client.update_if_due(now), "nothing was acknowledged");
    pair.client.on_ack(Generation::Current, 0).unwrap();
    assert!(pair.client.update_if_due(now));

    pair.client.want_update();
    pair.exchange(Side::Client, 1);
    assert!(!pair.client.update_if_due(now), "the keys before are still there");
    pair.exchange(Side::Server, 0);
    assert!(!pair.client.update_if_due(now + 3 * PTO - Duration::from_millis(1)));
    assert!(pair.client.update_if_due(now + 3 * PTO));
}

#[test]
fn packets_of_two_phases_arrive_in_any_order() {
    for seed in 0..50 {
        let mut pair = Pair::connected(seed);
        pair.exchange(Side::Client, 0);
        let old: Vec<_> = (1..10).map(|number| pair.seal(Side::Client, number)).collect();
        let now = pair.now;
        pair.client.want_update();
        assert!(pair.client.update_if_due(now));
        let new: Vec<_> = (10..20).map(|number| pair.seal(Side::Client, number)).collect();
        let mut all = [old, new].concat();
        all.shuffle(&mut pair.rng);
        let mut is_new = false;
        for bytes in all {
            let generation = pair.open(Side::Server, &bytes).unwrap();
            // The first of the new phase makes it the current one.
            assert!(!is_new || generation != Generation::Next);
            is_new |= generation == Generation::Next;
        }
    }
}

#[test]
fn the_keys_before_go_after_three_probe_timeouts() {
    let mut pair = Pair::connected(23);
    pair.exchange(Side::Client, 0);
    let late = [1, 2].map(|number| pair.seal(Side::Client, number));
    let now = pair.now;
    pair.client.want_update();
    assert!(pair.client.update_if_due(now));
    assert_eq!(pair.exchange(Side::Client, 3), Generation::Next);
    pair.now += 3 * PTO - Duration::from_millis(1);
    assert_eq!(pair.open(Side::Server, &late[0]).unwrap(), Generation::Previous);
    pair.now += Duration::from_millis(1);
    assert_eq!(pair.open(Side::Server, &late[1]).unwrap_err(), OpenError::Forged);
}

#[test]
fn who_updates_needs_the_old_keys_until_the_peer_follows() {
    let mut pair = Pair::connected(24);
    pair.exchange(Side::Client, 0);
    let now = pair.now;
    pair.client.want_update();
    assert!(pair.client.update_if_due(now));
    for number in 0..3 {
        pair.now += 10 * PTO;
        assert_eq!(pair.exchange(Side::Server, number), Generation::Previous, "however long it takes");
    }
    pair.exchange(Side::Client, 1);
    assert_eq!(pair.exchange(Side::Server, 3), Generation::Current);
}

#[test]
fn a_peer_must_not_update_twice_without_an_answer() {
    let mut pair = Pair::connected(25);
    pair.exchange(Side::Client, 0);
    // A client that takes acknowledgements for granted.
    for number in 1..3 {
        let now = pair.now;
        pair.client.want_update();
        pair.client.on_ack(Generation::Current, number - 1).unwrap();
        pair.client.one_rtt.as_mut().unwrap().forget_previous();
        assert!(pair.client.update_if_due(now));
        let bytes = pair.seal(Side::Client, number);
        match number {
            1 => assert_eq!(pair.open(Side::Server, &bytes).unwrap(), Generation::Next),
            _ => assert_eq!(code(pair.open(Side::Server, &bytes)), Code::KeyUpdate as u64),
        }
    }
}

#[test]
fn a_newer_packet_must_not_have_an_older_key() {
    // Numbers of the new phase, and in which order the packets arrive.
    for (new, order) in [([5, 10], &[9, 5][..]), ([5, 10], &[9, 10, 5]), ([5, 10], &[3, 10, 9, 5])] {
        let mut pair = Pair::connected(26);
        pair.exchange(Side::Client, 0);
        let mut packets: Vec<_> = [3, 9].map(|number| (number, pair.seal(Side::Client, number))).into();
        let now = pair.now;
        pair.client.want_update();
        assert!(pair.client.update_if_due(now));
        pair.client.one_rtt.as_mut().unwrap().forget_sealed();
        packets.extend(new.map(|number| (number, pair.seal(Side::Client, number))));
        let (last, before) = order.split_last().unwrap();
        let packet = |number| packets.iter().find(|packet| packet.0 == number).unwrap().1.clone();
        for number in before {
            pair.open(Side::Server, &packet(*number)).unwrap();
        }
        assert_eq!(code(pair.open(Side::Server, &packet(*last))), Code::KeyUpdate as u64, "{order:?}");
    }
}

#[test]
fn whoever_acknowledges_a_new_key_must_use_it() {
    let mut pair = Pair::connected(27);
    pair.exchange(Side::Client, 0);
    let now = pair.now;
    pair.client.want_update();
    assert!(pair.client.update_if_due(now));
    pair.seal(Side::Client, 1);
    assert!(pair.client.on_ack(Generation::Previous, 0).is_ok());
    assert_eq!(pair.client.on_ack(Generation::Previous, 1).unwrap_err().code, Code::KeyUpdate as u64);
}

#[test]
fn a_busy_connection_has_its_next_key_at_hand() {
    let mut pair = Pair::connected(33);
    let has_next = |crypto: &Crypto| crypto.one_rtt.as_ref().unwrap().has_next();
    for number in 0..1_100 {
        assert_eq!(has_next(&pair.server), number >= 1_024, "after {number} packets");
        pair.exchange(Side::Client, number);
    }
    let now = pair.now;
    pair.client.want_update();
    assert!(pair.client.update_if_due(now));
    assert_eq!(pair.exchange(Side::Client, 1_100), Generation::Next);
    assert_eq!(pair.exchange(Side::Client, 1_101), Generation::Current);
}

#[test]
fn forged_phases_change_nothing() {
    let mut pair = Pair::connected(28);
    pair.exchange(Side::Client, 0);
    let before = pair.seal(Side::Client, 1);
    for at in 0..before.len() {
        let mut forged = before.clone();
        forged[at] ^= 0xFF;
        if at != 0 {
            assert_eq!(pair.open(Side::Server, &forged).unwrap_err(), OpenError::Forged, "byte {at}");
        }
    }
    assert_eq!(pair.open(Side::Server, &before).unwrap(), Generation::Current);
    assert!(!pair.server.sealing(Level::OneRtt).unwrap().phase);
    assert_eq!(pair.server.forged, before.len() as u64 - 1);
}

#[test]
fn keys_are_replaced_in_time() {
    let mut pair = Pair::connected(29);
    let now = pair.now;
    pair.exchange(Side::Client, 0);
    let seal = |crypto: &mut Crypto, number| crypto.on_sealed(Level::OneRtt, number);
    for number in 1..PACKETS_PER_KEY - 1 {
        seal(&mut pair.client, number).unwrap();
    }
    assert!(!pair.client.update_if_due(now));
    seal(&mut pair.client, PACKETS_PER_KEY - 1).unwrap();
    assert!(pair.client.update_if_due(now));
}

#[test]
fn a_key_that_cannot_be_replaced_ends_the_connection_in_time() {
    let mut pair = Pair::connected(30);
    let now = pair.now;
    let limit = pair.client.sealing(Level::OneRtt).unwrap().packet.confidentiality_limit();
    assert_eq!(limit, 1 << 23, "AES-GCM");
    let error = (0..limit).find_map(|number| {
        assert!(!pair.client.update_if_due(now), "nothing was acknowledged");
        pair.client.on_sealed(Level::OneRtt, number).err().map(|error| (number, error.code))
    });
    let (number, code) = error.unwrap();
    assert_eq!(code, Code::AeadLimit as u64);
    assert!(number + 1_000 < limit, "a CLOSE can still be sealed");
}

#[test]
fn so_many_forged_packets_end_the_connection() {
    let mut pair = Pair::connected(31);
    assert_eq!(pair.server.forged_max, 1 << 52, "AES-GCM");
    pair.server.forged_max = 100;
    let mut bytes = pair.seal(Side::Client, 0);
    bytes[40] ^= 1;
    for _ in 1..100 {
        assert_eq!(pair.open(Side::Server, &bytes).unwrap_err(), OpenError::Forged);
    }
    assert_eq!(code(pair.open(Side::Server, &bytes)), Code::AeadLimit as u64);
}

/// Pitfall 35: a key never sees a number twice, whatever changes.
#[test]
#[should_panic(expected = "a number was used before")]
fn a_number_is_never_sealed_twice() {
    let mut pair = Pair::connected(32);
    pair.exchange(Side::Client, 7);
    let now = pair.now;
    pair.client.want_update();
    assert!(pair.client.update_if_due(now));
    pair.seal(Side::Client, 7);
}
