//! Moves, honest and forged; sizes, found and lost.

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;
use crate::config::DATAGRAM_MAX;

const MTU_MAX: u16 = DATAGRAM_MAX as u16;

const PTO: Duration = Duration::from_millis(100);
const MS: Duration = Duration::from_millis(1);

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn home() -> SocketAddr {
    address("192.0.2.1:4000")
}

/// The same host behind another port: what a NAT does.
fn rebound() -> SocketAddr {
    address("192.0.2.1:4001")
}

fn abroad() -> SocketAddr {
    address("198.51.100.7:4000")
}

/// A server and what its client does.
struct World {
    paths: Paths,
    now: Instant,
    rng: StdRng,
    /// Bytes that may be in flight.
    window: u64,
}

impl World {
    fn new() -> Self {
        let mut paths = Paths::new(Side::Server, home(), false, MTU_MAX);
        paths.on_validated();
        Self { paths, now: Instant::now(), rng: StdRng::seed_from_u64(7), window: 0 }
    }

    /// A datagram with one packet comes from `remote`.
    fn arrive(&mut self, remote: SocketAddr, bytes: usize, is_probing: bool, is_largest: bool) -> Option<Moved> {
        assert!(self.paths.on_datagram(remote, bytes, true));
        self.paths.on_packet(self.now, PTO, Arrival { remote, bytes, is_probing, is_largest, window: self.window })
    }

    fn poll(&mut self) -> Option<PathFrame> {
        let frame = self.paths.poll(self.now, &mut self.rng)?;
        self.paths.on_sent(frame.to, if frame.pad { 1200 } else { 60 });
        Some(frame)
    }

    fn polls(&mut self) -> Vec<PathFrame> {
        std::iter::from_fn(|| self.poll()).collect()
    }

    /// Waits for all deadlines, and answers no challenge.
    fn silence(&mut self) -> PathTimeout {
        while let Some(at) = self.paths.deadline() {
            assert!(at > self.now || self.paths.poll(self.now, &mut self.rng).is_some(), "a deadline without progress");
            self.now = self.now.max(at);
            match self.paths.handle_timeout(self.now) {
                PathTimeout::None => drop(self.polls()),
                outcome => return outcome,
            }
        }
        PathTimeout::None
    }
}

//= SPEC.md#7.1
//= type=test
//# A server MUST NOT send more than three times the bytes that it received from an address, until the address is
//# validated
#[test]
fn little_is_sent_where_nobody_has_shown_up() {
    let mut paths = Paths::new(Side::Server, home(), false, MTU_MAX);
    assert_eq!(paths.current().room(), 0);
    assert!(paths.on_datagram(home(), 1200, false));
    assert_eq!(paths.current().room(), 3600);
    paths.on_sent(home(), 3000);
    assert_eq!(paths.current().room(), 600);
    paths.on_sent(home(), 700);
    assert_eq!(paths.current().room(), 0);
    assert!(!paths.on_datagram(abroad(), 1200, false), "nobody moves during the handshake");
    assert_eq!(paths.current().room(), 0, "and what others send is not for this address");
    paths.on_validated();
    assert_eq!(paths.current().room(), u64::MAX);
    assert_eq!(Paths::new(Side::Server, home(), true, MTU_MAX).current().room(), u64::MAX, "a token says so");
    assert_eq!(Paths::new(Side::Client, home(), false, MTU_MAX).current().room(), u64::MAX);
}

#[test]
fn a_rebound_client_is_answered_at_once_and_asked() {
    let mut world = World::new();
    let mtu = &mut world.paths.current_mut().mtu;
    mtu.on_probe_acked(world.now, 1, 1400);
    let probe = mtu.probe_due(world.now).unwrap();
    mtu.on_probe_sent(world.now, probe);
    let moved = world.arrive(rebound(), 500, false, true).unwrap();
    assert_eq!(moved, Moved { change: Change::Rebound, back: false, keeps: true }, "only the port changed");
    let path = world.paths.current();
    assert_eq!((path.remote, path.mtu.current(), path.room()), (rebound(), 1400, 1500));
    assert_eq!(path.generation, 1);
    assert_eq!(path.mtu.probe_due(world.now), Some(probe), "nobody will tell what became of the probe");

    let frames = world.polls();
    let [there, here] = [&frames[0], &frames[1]];
    assert_eq!((there.to, there.is_former, there.pad, there.is_response), (rebound(), false, true, false));
    assert_eq!((here.to, here.is_former), (home(), true));
    assert_ne!(there.data, here.data);
    assert_eq!(frames.len(), 2);
    assert!(world.paths.on_response(world.now, PTO, there.data));
    assert_eq!(world.paths.current().room(), u64::MAX);
    assert!(world.paths.has_former(), "the old address was asked, too");
    assert_eq!(world.silence(), PathTimeout::None);
    assert!(!world.paths.has_former());
    assert_eq!(world.paths.deadline(), None, "an idle connection has no timers");
}

//= SPEC.md#7.1
//= type=test
//# To another port of the address that was last validated a server MAY send one congestion window more, at most 128
//# KiB, once for each address that was validated, and not within 3 s of that.
#[test]
fn another_port_has_credit_once_and_another_host_has_none() {
    let mut world = World::new();
    world.window = 50_000;
    world.arrive(rebound(), 100, false, true).unwrap();
    assert_eq!(world.paths.current().room(), 300 + 50_000);
    world.paths.on_sent(rebound(), 50_300);
    assert_eq!(world.paths.current().room(), 0);
    // Back at home, where it was validated before: who copies packets gains nothing by doing so again.
    world.arrive(home(), 100, false, true).unwrap();
    for port in 5_000..5_010 {
        let moved = world.arrive(SocketAddr::new(home().ip(), port), 100, false, true).unwrap();
        assert_eq!((moved.change, world.paths.current().room()), (Change::Port, 300));
    }
    // Nor by showing up at a port, and copying from another one at once.
    let asked = world.polls().into_iter().find(|frame| !frame.is_former).unwrap();
    assert!(world.paths.on_response(world.now, PTO, asked.data));
    world.arrive(SocketAddr::new(home().ip(), 6_000), 100, false, true).unwrap();
    assert_eq!(world.paths.current().room(), 300);

    let mut world = World::new();
    world.window = 1 << 30;
    world.arrive(abroad(), 100, false, true).unwrap();
    assert_eq!(world.paths.current().room(), 300);
    world.arrive(SocketAddr::new(abroad().ip(), 1), 100, false, true).unwrap();
    assert_eq!(world.paths.current().room(), 300, "nobody has shown up at that host");
}

#[test]
fn a_port_has_credit_again_when_the_one_before_was_validated_for_long() {
    let mut world = World::new();
    world.window = 1 << 30;
    for port in 5_000..5_010 {
        let remote = SocketAddr::new(home().ip(), port);
        world.arrive(remote, 100, false, true).unwrap();
        assert_eq!(world.paths.current().room(), 300 + CREDIT_BYTES_MAX);
        let asked = world.polls().into_iter().find(|frame| frame.to == remote).unwrap();
        assert!(world.paths.on_response(world.now, PTO, asked.data));
        world.now += CREDIT_REST;
    }
}

//= SPEC.md#10
//= type=test
//# On a new path window, rate, round trip and MTU MUST start anew, unless only the port of the peer changed.
#[test]
fn another_host_begins_anew() {
    let mut world = World::new();
    world.paths.current_mut().mtu.on_probe_acked(world.now, 1, 1400);
    let moved = world.arrive(abroad(), 500, false, true).unwrap();
    assert_eq!(moved.change, Change::Host);
    assert_eq!(world.paths.current().mtu.current(), MTU_BASE);
}

#[test]
fn only_the_newest_packet_that_is_no_probe_moves_a_connection() {
    let mut world = World::new();
    assert_eq!(world.arrive(abroad(), 500, true, true), None);
    assert_eq!(world.arrive(abroad(), 500, false, false), None, "an old packet that took a detour");
    assert_eq!(world.paths.current().remote, home());
    let mut client = Paths::new(Side::Client, home(), true, MTU_MAX);
    assert!(!client.on_datagram(abroad(), 500, true), "servers do not move");
}

/// Pitfall 37: somebody who only copies packets cannot take a connection away.
#[test]
fn a_copied_packet_does_not_take_the_connection_away() {
    // The client is still there, and answers the challenge with more than a probe.
    let mut world = World::new();
    world.arrive(abroad(), 100, false, true).unwrap();
    assert!(world.paths.current().room() <= 300, "and it is not flooded on somebody's behalf");
    let moved = world.arrive(home(), 100, false, true).unwrap();
    assert_eq!(moved, Moved { change: Change::Host, back: true, keeps: false });
    let path = world.paths.current();
    assert_eq!((path.remote, path.room()), (home(), u64::MAX), "it was validated long ago");
    assert_eq!(path.generation, 2, "what was sent in the meantime says nothing about it");
    assert!(!world.paths.has_former());

    // The client is silent, and so is the thief.
    let mut world = World::new();
    let start = world.now;
    world.arrive(abroad(), 2_000, false, true).unwrap();
    assert_eq!(world.silence(), PathTimeout::Moved(Moved { change: Change::Host, back: true, keeps: false }));
    assert_eq!(world.now - start, 3 * Duration::from_secs(1));
    assert_eq!(world.paths.current().remote, home());
    assert_eq!(world.paths.deadline(), None);
}

//= SPEC.md#15
//= type=test
//# If it is not, the connection MUST go back to the last address that was validated.
#[test]
fn a_thief_who_moves_on_finds_the_last_validated_address_kept() {
    let mut world = World::new();
    for last in 1..100 {
        world.arrive(address(&format!("203.0.113.{last}:9")), 100, false, true).unwrap();
        world.now += MS;
    }
    assert_eq!(world.silence(), PathTimeout::Moved(Moved { change: Change::Host, back: true, keeps: false }));
    assert_eq!(world.paths.current().remote, home());
}

#[test]
fn a_wrong_answer_validates_nothing() {
    let mut world = World::new();
    world.arrive(abroad(), 2_000, false, true).unwrap();
    world.polls();
    assert!(!world.paths.on_response(world.now, PTO, [0; 8]));
    assert!(!world.paths.current().is_validated());
}

//= SPEC.md#15
//= type=test
//# A challenge is sent up to 6 times, at intervals of the probe timeout that double, each with data of its own; any
//# answer counts.
#[test]
fn every_try_has_data_of_its_own_and_any_answer_counts() {
    let mut world = World::new();
    world.arrive(abroad(), 2_000, false, true).unwrap();
    let mut asked = Vec::new();
    for _ in 0..4 {
        asked.extend(world.polls().into_iter().filter(|frame| frame.to == abroad()).map(|frame| frame.data));
        world.now = world.paths.deadline().unwrap();
        assert_eq!(world.paths.handle_timeout(world.now), PathTimeout::None);
    }
    let all = asked.len();
    assert!(all >= 3);
    asked.sort_unstable();
    asked.dedup();
    assert_eq!(asked.len(), all);
    assert!(world.paths.on_response(world.now, PTO, asked[0]));
}

#[test]
fn a_small_challenge_proves_the_address_and_a_full_one_the_size() {
    let mut world = World::new();
    world.arrive(abroad(), 100, false, true).unwrap();
    let small = world.poll().unwrap();
    assert!(!small.pad, "300 bytes do not allow for more");
    assert!(world.paths.on_response(world.now, PTO, small.data));
    assert_eq!(world.paths.current().room(), u64::MAX);
    let full = world.polls().into_iter().find(|frame| frame.to == abroad()).unwrap();
    assert!(full.pad);
    world.paths.on_response(world.now, PTO, full.data);
    assert_eq!(world.silence(), PathTimeout::None);
    assert_eq!(world.paths.current().remote, abroad());
}

//= SPEC.md#15
//= type=test
//# PATH_RESPONSE MUST be sent to where the PATH_CHALLENGE came from.
#[test]
fn a_challenge_is_answered_where_it_came_from() {
    let mut world = World::new();
    assert!(!world.paths.on_challenge(abroad(), 1200, [1; 8]), "a probe gets no more than an answer");
    assert!(world.paths.on_challenge(home(), 1200, [2; 8]), "who is asked at home says that it is there");
    assert!(world.paths.on_challenge(home(), 100, [3; 8]));
    let frames = world.polls();
    assert_eq!(
        frames.iter().map(|frame| (frame.to, frame.data[0], frame.pad)).collect::<Vec<_>>(),
        [(abroad(), 1, true), (home(), 2, true), (home(), 3, false)]
    );
    assert!(frames.iter().all(|frame| frame.is_response));
    for at in 0..100 {
        world.paths.on_challenge(abroad(), 1200, [at; 8]);
    }
    assert_eq!(world.polls().len(), RESPONSES_MAX);
}

#[test]
fn a_client_that_moves_on_purpose_asks_from_its_new_address() {
    let mut paths = Paths::new(Side::Client, home(), true, MTU_MAX);
    let (now, mut rng) = (Instant::now(), StdRng::seed_from_u64(1));
    paths.on_local_moved(now, PTO);
    let frame = paths.poll(now, &mut rng).unwrap();
    assert_eq!((frame.to, frame.pad), (home(), true));
    assert!(paths.on_response(now, PTO, frame.data));
    assert_eq!((paths.deadline(), paths.current().generation), (None, 1));
}

#[test]
fn any_sequence_of_moves_keeps_the_rules() {
    let hosts = [home(), rebound(), abroad(), address("[2001:db8::1]:1")];
    for seed in 0..300 {
        let (mut world, mut rng) = (World::new(), StdRng::seed_from_u64(seed));
        let (mut asked, mut received, mut sent) = (Vec::new(), [0u64; 4], [0u64; 4]);
        let mut proved = vec![home()];
        for _ in 0..200 {
            world.now += MS * rng.random_range(0..100);
            let host = rng.random_range(0..hosts.len());
            match rng.random_range(0..5) {
                0 | 1 => {
                    let bytes = rng.random_range(40..1500);
                    received[host] += bytes as u64;
                    world.arrive(hosts[host], bytes, rng.random(), rng.random());
                }
                2 => {
                    for frame in world.polls().into_iter().filter(|frame| !frame.is_response) {
                        let to = hosts.iter().position(|host| *host == frame.to).unwrap();
                        sent[to] += if frame.pad { 1200 } else { 60 };
                        asked.push((frame.to, frame.data));
                    }
                }
                3 if !asked.is_empty() => {
                    let (from, data) = asked.swap_remove(rng.random_range(0..asked.len()));
                    world.paths.on_response(world.now, PTO, data);
                    proved.push(from);
                }
                _ => assert_ne!(world.paths.handle_timeout(world.now), PathTimeout::Lost, "seed {seed}"),
            }
            let path = world.paths.current();
            assert!(!path.is_validated() || proved.contains(&path.remote), "seed {seed}");
            for (at, host) in hosts.iter().enumerate() {
                assert!(proved.contains(host) || sent[at] <= 3 * received[at] + 1200, "seed {seed}");
            }
        }
    }
}
