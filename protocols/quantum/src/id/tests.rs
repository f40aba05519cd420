//! Ids given, taken, retired, and abused.

use std::collections::BTreeSet;

use rand::{SeedableRng, rngs::StdRng};

use super::{local::LOCAL_IDS_MAX, *};
use crate::{
    error::Code,
    guuid::{Guuid, Router},
    token::reset_token,
};

const KEY: [u8; 32] = [9; 32];

fn id(byte: u8) -> Guuid {
    Guuid::from_bytes([byte; 16])
}

fn at(port: u16) -> std::net::SocketAddr {
    (std::net::Ipv4Addr::LOCALHOST, port).into()
}

fn token(byte: u8) -> [u8; 16] {
    [byte ^ 0xFF; 16]
}

fn local() -> (LocalIds, StdRng) {
    let mut ids = LocalIds::new(id(1));
    ids.set_limit(8);
    (ids, StdRng::seed_from_u64(3))
}

//= SPEC.md#2
//= type=test
//# Ids that a server issues MUST lead to the shard of the connection, as long as the connection lives.
#[test]
fn ids_are_issued_up_to_the_limits_and_lead_home() {
    let (mut ids, mut rng) = local();
    let router = Router::new(0x9E37_79B1, 7, 5);
    assert_eq!(ids.wanted(), LOCAL_IDS_MAX - 1, "8 would be taken, 4 are enough");
    let mut issued = Vec::new();
    while ids.wanted() > 0 {
        issued.push(ids.issue(1_800_000_000_000, &router, &mut rng));
    }
    assert!(issued.iter().all(|id| router.is_mine(*id)));
    for (at, id) in issued.iter().enumerate() {
        let new = NewId { sequence: at as u64 + 1, id: *id, reset_token: reset_token(&KEY, *id) };
        assert_eq!(ids.poll(&KEY), Some(new));
    }
    assert_eq!(ids.poll(&KEY), None);
    ids.on_lost(2);
    assert_eq!(ids.poll(&KEY).map(|new| new.sequence), Some(2));
    assert_eq!(ids.poll(&KEY), None);
    ids.set_limit(1);
    assert_eq!(ids.wanted(), 0);
}

#[test]
fn a_retired_id_makes_room_for_another() {
    let (mut ids, mut rng) = local();
    let issued: Vec<_> = (0..3).map(|_| ids.issue(0, &Router::single(), &mut rng)).collect();
    assert_eq!(ids.on_retire(0, issued[0]), Ok(Some(id(1))));
    assert_eq!(ids.on_retire(0, issued[0]), Ok(None), "told twice");
    assert_eq!(ids.wanted(), 1);
    ids.issue(0, &Router::single(), &mut rng);
    ids.on_lost(0);
    assert_eq!(ids.poll(&KEY).map(|new| new.sequence), Some(1), "a retired one is not announced again");
    assert_eq!(ids.on_retire(5, issued[0]).unwrap_err().code, Code::ProtocolViolation as u64);
    assert_eq!(ids.on_retire(1, issued[0]).unwrap_err().code, Code::ProtocolViolation as u64);
    assert_eq!(ids.iter().count(), 4);
}

/// Pitfall 39: from one id nothing follows for another, and from an id nothing for its reset token.
#[test]
fn ids_cannot_be_guessed() {
    let (mut rng, mut words, mut tails) = (StdRng::seed_from_u64(4), BTreeSet::new(), BTreeSet::new());
    let (mut ones, mut tokens) = ([0u32; 128], BTreeSet::new());
    for _ in 0..4_000 {
        // All in the same millisecond, for the same shard: the worst case.
        let id = local::make(1_800_000_000_000, &Router::new(0x9E37_79B1, 4, 1), &mut rng);
        let bytes = id.as_bytes();
        words.insert(id.word());
        tails.insert(bytes[6..12].to_vec());
        tokens.insert(reset_token(&KEY, id));
        for (at, ones) in ones.iter_mut().enumerate() {
            *ones += u32::from(bytes[at / 8] >> (7 - at % 8) & 1);
        }
    }
    assert_eq!((tails.len(), tokens.len()), (4_000, 4_000));
    assert!(words.len() > 3_990);
    // 48 bits of time, 4 of version, 2 of variant; each of the others is as often 1 as 0, and no counter is among them.
    let random = (52..64).chain(66..128);
    assert!(random.into_iter().all(|at| (1_800..2_200).contains(&ones[at])), "{ones:?}");
}

#[test]
fn the_peers_ids_are_used_one_after_the_other() {
    let mut ids = RemoteIds::new(id(0));
    assert!(!ids.switch(at(1), true), "there is no other");
    ids.replace_first(id(1));
    ids.set_first_token(token(1));
    assert_eq!(ids.on_new_id(2, 0, id(3), token(3)), Ok(false));
    assert_eq!(ids.on_new_id(1, 0, id(2), token(2)), Ok(false));
    assert!(ids.is_reset(&token(1)) && !ids.is_reset(&token(2)), "only what was used can be reset");
    assert!(ids.switch(at(1), true));
    assert_eq!((ids.current(), ids.former()), (id(2), id(1)));
    assert!(ids.is_reset(&token(1)) && ids.is_reset(&token(2)));
    assert_eq!(ids.poll_retire(), None, "the path that was left may still be needed");
    ids.settle();
    assert_eq!((ids.poll_retire(), ids.poll_retire()), (Some(0), None));
    assert!(!ids.is_reset(&token(1)));
    ids.on_lost(0);
    assert_eq!(ids.poll_retire(), Some(0));
    ids.on_acked(0);
    ids.on_lost(0);
    assert_eq!(ids.poll_retire(), None);
    // The path turns out to be a dead end: back, and the id that was seen there is burnt.
    assert!(ids.switch(at(1), true));
    ids.revert();
    assert_eq!((ids.current(), ids.poll_retire()), (id(2), Some(2)));
}

#[test]
fn no_id_is_seen_at_two_addresses() {
    let with = |count: u8| {
        let mut ids = RemoteIds::new(id(1));
        (1..=count).for_each(|n| assert_eq!(ids.on_new_id(n.into(), 0, id(n + 1), token(n + 1)), Ok(false)));
        ids
    };
    // Away from home, and on before anybody showed up: home keeps its own.
    let mut ids = with(3);
    assert!(ids.switch(at(1), true) && ids.switch(at(2), false));
    assert_eq!((ids.current(), ids.former(), ids.poll_retire()), (id(3), id(1), Some(1)));
    ids.revert();
    assert_eq!((ids.current(), ids.poll_retire()), (id(1), Some(2)));

    // Asked from elsewhere: the answer has the id that is used after the move there, or is not used at all.
    let mut ids = with(3);
    assert_eq!((ids.elsewhere(at(1)), ids.elsewhere(at(1))), (id(2), id(2)));
    assert!(ids.switch(at(1), true));
    assert_eq!((ids.current(), ids.elsewhere(at(2))), (id(2), id(3)));
    assert!(ids.switch(at(3), true));
    assert_eq!(ids.current(), id(4));

    // Who has no fresh one goes on with the one before.
    let mut ids = with(1);
    assert!(ids.switch(at(1), true) && !ids.switch(at(2), false));
    assert_eq!((ids.current(), ids.former(), ids.elsewhere(at(3))), (id(2), id(1), id(2)));
    // And gets one later: the first is still that of home.
    let mut ids = with(0);
    assert!(!ids.switch(at(1), true));
    ids.on_new_id(1, 0, id(2), token(2)).unwrap();
    assert!(ids.switch(at(2), false));
    assert_eq!((ids.current(), ids.former()), (id(2), id(1)));
}

#[test]
fn ids_that_are_asked_back_are_replaced() {
    let mut ids = RemoteIds::new(id(1));
    ids.on_new_id(1, 0, id(2), token(2)).unwrap();
    assert_eq!(ids.on_new_id(3, 3, id(4), token(4)), Ok(true));
    assert_eq!(ids.current(), id(4));
    assert_eq!((ids.poll_retire(), ids.poll_retire(), ids.poll_retire()), (Some(0), Some(1), None));
    assert_eq!(ids.on_new_id(2, 0, id(3), token(3)), Ok(false), "late, and not wanted any more");
    assert_eq!(ids.poll_retire(), Some(2));
    assert_eq!(ids.on_new_id(3, 3, id(4), token(4)), Ok(false), "a repetition");
    // Asked back with nothing in its place: the next one replaces it.
    assert_eq!(ids.on_new_id(4, 0, id(5), token(5)), Ok(false));
    assert!(ids.switch(at(1), true));
    ids.settle();
    assert_eq!(ids.on_new_id(3, 3, id(4), token(4)), Ok(false));
    assert_eq!(ids.current(), id(5));
}

#[test]
fn a_hostile_issuer_is_stopped() {
    let fresh = || RemoteIds::new(id(1));
    let mut ids = fresh();
    let error = (1..10).find_map(|n| ids.on_new_id(n, 0, id(n as u8 + 1), token(0)).err()).unwrap();
    assert_eq!(error.code, Code::IdLimit as u64);

    let mut ids = fresh();
    assert_eq!(ids.on_new_id(1, 2, id(2), token(2)).unwrap_err().code, Code::FrameEncoding as u64);
    ids.on_new_id(1, 0, id(2), token(2)).unwrap();
    for (sequence, id, token) in [(1, id(3), token(2)), (2, id(2), token(2)), (1, id(2), token(3))] {
        assert_eq!(ids.on_new_id(sequence, 0, id, token).unwrap_err().code, Code::ProtocolViolation as u64);
    }

    // Replaces its ids faster than it acknowledges that they are gone; with gaps, too.
    for step in [1, 2] {
        let mut ids = fresh();
        let make = |n: u64| Guuid::from_bytes((u128::from(n) << 8 | 7).to_be_bytes());
        let error = (1..1_000).find_map(|n| ids.on_new_id(n * step, n * step, make(n), token(0)).err()).unwrap();
        assert_eq!(error.code, Code::IdLimit as u64);
    }
}
