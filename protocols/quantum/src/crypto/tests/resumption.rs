//! Sessions that go on: tickets, data before the handshake is done, and what must not be taken twice.

use rustls::{
    client::ClientSessionMemoryCache, crypto::ring::Ticketer, server::ServerSessionMemoryCache,
    time_provider::TimeProvider,
};

use super::*;

const T0: u64 = 1_800_000_000_000;

struct World {
    client: ClientBuilder,
    server: Box<dyn Fn() -> ServerBuilder>,
    clock: Arc<simulation::Clock>,
}

fn world() -> World {
    let (certificate, key) = certificate(&PKCS_ECDSA_P256_SHA256);
    let clock = simulation::Clock::new(T0);
    let client = ClientConfig::builder(roots(&certificate))
        .sessions(Arc::new(ClientSessionMemoryCache::new(64)))
        .clock(Arc::clone(&clock) as Arc<dyn TimeProvider>);
    let of_server = Arc::clone(&clock);
    let server = move || {
        let clock = Arc::clone(&of_server) as Arc<dyn TimeProvider>;
        ServerConfig::builder(vec![certificate.clone()], key.clone_key()).unwrap().clock(clock)
    };
    World { client, server: Box::new(server), clock }
}

fn kind(crypto: &Crypto) -> Option<rustls::HandshakeKind> {
    crypto.handshake.as_ref()?.tls.as_ref()?.handshake_kind()
}

/// The first flight of both sides, and no more: whether the client resumes.
fn resumes(pair: &mut Pair) -> bool {
    for piece in pair.poll(Side::Client) {
        pair.server.read(piece.space, piece.offset, &piece.bytes).unwrap();
    }
    kind(&pair.server) == Some(rustls::HandshakeKind::Resumed)
}

#[test]
fn a_ticket_of_one_shard_is_good_at_another() {
    let world = world();
    let (client, ticketer) = (world.client.build().unwrap(), Ticketer::new().unwrap());
    let shards = [0, 1].map(|_| (world.server)().ticketer(Arc::clone(&ticketer)).build().unwrap());
    let mut first = Pair::new(&client, &shards[0], 40);
    assert!(!resumes(&mut first));
    first.run(0.2).unwrap();
    assert!(first.client.handshake.is_none(), "the ticket came, nothing more is expected");
    let mut second = Pair::new(&client, &shards[1], 41);
    assert_eq!(second.client.early_data(), EarlyData::None);
    assert!(resumes(&mut second));
    second.run(0.2).unwrap();
    assert_eq!(second.exchange(Side::Client, 0), Generation::Current);
}

#[test]
fn a_ticket_ends_with_its_life() {
    let world = world();
    let client = world.client.build().unwrap();
    let server = (world.server)().ticketer(Ticketer::new().unwrap()).build().unwrap();
    Pair::new(&client, &server, 42).run(0.0).unwrap();
    world.clock.set(T0 + 13 * 60 * 60 * 1000);
    assert!(!resumes(&mut Pair::new(&client, &server, 43)), "tickets live for 12 hours of the given clock");
}

#[test]
fn a_client_waits_for_a_ticket_but_not_for_ever() {
    let world = world();
    let (client, server) = (world.client.build().unwrap(), (world.server)().build().unwrap());
    let mut pair = Pair::new(&client, &server, 44);
    pair.run(0.0).unwrap();
    assert!(pair.client.confirmed && pair.client.handshake.is_some(), "this server has no tickets");
    for number in 0..=u64::from(TICKET_WITHIN) {
        pair.exchange(Side::Server, number);
    }
    assert!(pair.client.handshake.is_none());
}

#[test]
fn early_data_is_taken_once() {
    let world = world();
    let client = world.client.early_data().build().unwrap();
    let sessions = ServerSessionMemoryCache::new(256);
    let server = (world.server)().early_data(sessions).build().unwrap();
    let mut pair = Pair::new(&client, &server, 45);
    assert_eq!(pair.client.early_data(), EarlyData::None);
    pair.run(0.1).unwrap();

    let mut pair = Pair::new(&client, &server, 46);
    assert_eq!(pair.client.early_data(), EarlyData::Offered);
    assert_eq!(pair.client.peer_parameters(), Some(&b"server's"[..]), "as it was the last time");
    let sealing = pair.client.sealing(Level::ZeroRtt).unwrap();
    let mut early = *b"request";
    let tag = sealing.packet.encrypt_in_place(0, b"header", &mut early).unwrap();
    let sealed = [&early[..], tag.as_ref()].concat();
    let hello = pair.poll(Side::Client);
    let open = |server: &mut Crypto, now| {
        for piece in &hello {
            server.read(piece.space, piece.offset, &piece.bytes).unwrap();
        }
        let key = server.opening(now, Level::ZeroRtt, false, 0)?.key;
        key.decrypt_in_place(0, b"header", &mut sealed.clone()).ok().map(<[u8]>::to_vec)
    };
    assert_eq!(open(&mut pair.server, pair.now).as_deref(), Some(&b"request"[..]));
    assert_eq!(pair.server.early_data(), EarlyData::Accepted);
    assert!(pair.server.sealing(Level::ZeroRtt).is_none(), "only clients have something to send so early");

    // Pitfall 36: the same first flight once more, as anybody can send it.
    let mut replayed = Crypto::server(&server, to(), Vec::new()).unwrap();
    assert_eq!(open(&mut replayed, pair.now), None);
    assert_eq!(replayed.early_data(), EarlyData::None);

    pair.run(0.1).unwrap();
    assert_eq!(pair.client.early_data(), EarlyData::Accepted);
    assert!(pair.client.sealing(Level::ZeroRtt).is_none(), "there are better keys now");
    assert_eq!(pair.exchange(Side::Client, 1), Generation::Current);
}

#[test]
fn early_data_that_is_not_taken_does_not_harm_the_handshake() {
    let world = world();
    let client = world.client.early_data().build().unwrap();
    let sessions = ServerSessionMemoryCache::new(256);
    let server = (world.server)().early_data(sessions).build().unwrap();
    Pair::new(&client, &server, 47).run(0.0).unwrap();
    // The server was restarted, and has forgotten all.
    let server = (world.server)().early_data(ServerSessionMemoryCache::new(256)).build().unwrap();
    let mut pair = Pair::new(&client, &server, 48);
    assert_eq!(pair.client.early_data(), EarlyData::Offered);
    pair.run(0.1).unwrap();
    assert_eq!(pair.client.early_data(), EarlyData::Rejected);
    assert_eq!(pair.exchange(Side::Client, 0), Generation::Current);
}
