//! How connections begin: the handshake, Retry, version negotiation, and to which shard all of it goes.

use std::time::Duration;

use quic::{Algorithm, CloseReason, Event, Router, Transport, Verdict, stats::Drop};
use simnet::{Link, LinkConfig};

use crate::world::{MULTIPLIER, World, plain, server_config, steer};

const SHARDS: u16 = 4;

#[test]
fn a_client_hello_of_two_packets_and_all_that_follows_go_to_one_shard() {
    let mut used = [false; SHARDS as usize];
    for seed in 0..24 {
        let mut world = World::new(seed, SHARDS, plain());
        let (client, server) = world.connected();
        let hello = world.sent_up.iter().take_while(|bytes| bytes[0] & 0xB0 == 0x80).count();
        assert!(hello >= 2, "seed {seed}: X25519MLKEM768 does not fit into one packet");
        world.run_for(Duration::from_millis(500));
        for bytes in &world.sent_up {
            assert_eq!(usize::from(steer(bytes, SHARDS)), server.0, "seed {seed}");
        }
        used[server.0] = true;
        let accepted: u64 = world.shards.iter().map(|shard| shard.stats().accepted).sum();
        assert_eq!(accepted, 1, "seed {seed}");
        assert!(world.client_at(client).is_connected());
        assert_eq!(world.client_at(client).alpn(), b"test/1");
        assert_eq!(world.server_at(server).server_name(), Some("localhost"));
    }
    assert!(used.iter().all(|used| *used), "clients choose their first ids at random");
}

#[test]
fn every_id_that_is_issued_leads_to_its_shard() {
    let mut world = World::new(1, SHARDS, plain());
    let (client, server) = world.connected();
    world.run_for(Duration::from_millis(500));
    let router = Router::new(MULTIPLIER, SHARDS, server.0 as u16);
    let ids: Vec<_> = world.server_at(server).ids().collect();
    assert_eq!(ids.len() as u64, Transport::default().ids_max);
    for id in ids {
        assert_eq!((id.as_slice().len(), router.foreign(&id)), (16, None), "{id}");
    }
    let peer = world.client_at(client).peer_id().unwrap();
    assert_eq!(router.foreign(&peer), None);
}

#[test]
fn a_retry_proves_the_address_and_stays_on_the_shard() {
    for seed in 0..12 {
        let mut world = World::with(seed, SHARDS, plain(), &Transport::default(), |config| config.retry_above = 0);
        let (_, server) = world.connected();
        let retries: Vec<u64> = world.shards.iter().map(|shard| shard.stats().retries).collect();
        assert!(retries[server.0] >= 1, "seed {seed}: {retries:?}");
        let initial = world.sent_down.iter().find(|bytes| bytes[0] & 0xF0 == 0xF0).expect("a Retry");
        assert!(initial.len() < 1_200);
        world.run_for(Duration::from_millis(200));
        let router = Router::new(MULTIPLIER, SHARDS, server.0 as u16);
        assert!(world.server_at(server).ids().all(|id| router.foreign(&id).is_none()));
    }
}

#[test]
fn an_unknown_version_is_answered_with_ours_and_one_of_none() {
    let mut world = World::new(1, 1, plain());
    let from = world.outside;
    let mut bytes = vec![0xC0, 0xBA, 0xBA, 0xBA, 0xBA, 9];
    bytes.extend([7; 9]);
    bytes.push(30);
    bytes.extend([8; 30]);
    bytes.resize(1_200, 0);
    assert_eq!(world.hand_up(from, bytes.clone()), Verdict::Reply);
    bytes.truncate(1_199);
    assert_eq!(world.hand_up(from, bytes), Verdict::Dropped(Drop::InitialTooSmall));
    world.flush();
    let answer = &world.sent_down[0];
    assert_eq!((answer[0] & 0x80, &answer[1..5], answer[5]), (0x80, &[0; 4][..], 30));
    assert_eq!((&answer[6..36], answer[36], &answer[37..46]), (&[8; 30][..], 9, &[7; 9][..]));
    assert_eq!((&answer[46..50], answer.len()), (&[0, 0, 0, 1][..], 54));
    assert!(answer[50..].iter().all(|byte| byte & 0x0F == 0x0A));
}

#[test]
fn a_client_learns_that_there_is_no_common_version() {
    let mut world = World::new(1, 1, plain());
    let client = world.connect(None);
    world.flush();
    let first = world.sent_up[0].clone();
    let (to, from) = (&first[6..22], &first[23..39]);
    let mut answer = vec![0xC0, 0, 0, 0, 0, 16];
    answer.extend_from_slice(from);
    answer.push(16);
    answer.extend_from_slice(to);
    answer.extend_from_slice(&0xFACE_B00Cu32.to_be_bytes());
    let meta = quic::Meta { local: world.inside, remote: world.server_address };
    world.client.handle(world.now, 0, meta, &mut answer);
    world.flush();
    assert!(world.client_told(client, &Event::Closed(CloseReason::Version)), "{:?}", world.client_events);
}

#[test]
fn handshakes_pass_bad_links() {
    for seed in 0..60 {
        let link = LinkConfig {
            delay: Duration::from_millis(20),
            jitter: Duration::from_millis(10),
            loss: simnet::Loss::Iid(0.15),
            duplicate: 0.1,
            corrupt: 0.05,
            reorder: simnet::Reorder { probability: 0.2, hold: Duration::from_millis(30) },
            ..LinkConfig::default()
        };
        let mut world = World::new(seed, 2, link);
        world.connect(None);
        world.run_until(Duration::from_secs(10), |world| {
            let is_connected = |event: &Event| *event == Event::Connected;
            world.client_events.iter().any(|(_, event)| is_connected(event))
                && world.server_events.iter().any(|(_, _, event)| is_connected(event))
        });
    }
}

#[test]
fn a_handshake_that_does_not_end_is_given_up() {
    let mut world = World::new(1, 1, plain());
    let client = world.connect(None);
    world.run_for(Duration::from_millis(30));
    assert_eq!(world.shards[0].half_open(), 1);
    world.down = Link::new(1, LinkConfig { down: true, ..plain() });
    world.up = Link::new(1, LinkConfig { down: true, ..plain() });
    world.run_for(Duration::from_secs(30));
    assert_eq!((world.shards[0].half_open(), world.shards[0].len(), world.shards[0].ids()), (0, 0, 0));
    assert_eq!((world.client.len(), world.client.ids()), (0, 0));
    assert!(world.client_told(client, &Event::Closed(CloseReason::HandshakeTimeout)), "{:?}", world.client_events);
}

#[test]
fn a_strange_certificate_ends_the_handshake() {
    let mut world = World::new(1, 1, plain());
    let strange = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let trust = quic::Trust::Roots(vec![strange.cert.der().to_vec()]);
    world.config = quic::Client::new(&trust, &server_config().alpn, &Transport::default()).unwrap();
    let client = world.connect(None);
    world.run_for(Duration::from_secs(2));
    assert!(
        world.client_events.iter().any(|(other, event)| *other == client
            && matches!(event, Event::Closed(CloseReason::Transport { code }) if *code >= 0x100)),
        "{:?}",
        world.client_events
    );
}

#[test]
fn all_congestion_controls_work() {
    for algorithm in [Algorithm::Cubic, Algorithm::Bbr2, Algorithm::Reno] {
        let transport = Transport { algorithm, ..Transport::default() };
        World::with(1, 1, plain(), &transport, |_| {}).connected();
    }
}
