//! Handshakes that come about, and those that must not.

use super::*;

fn failure(client: &ClientConfig, server: &ServerConfig) -> u64 {
    let mut pair = Pair::new(client, server, 1);
    let error = pair.run(0.0).unwrap_err();
    println!("{error}");
    error.code
}

#[test]
fn a_handshake_survives_loss_repetition_and_disorder() {
    for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ED25519] {
        let (certificate, key) = certificate(algorithm);
        let client = ClientConfig::builder(roots(&certificate)).build().unwrap();
        let server = ServerConfig::builder(vec![certificate], key).unwrap().build().unwrap();
        for seed in 0..50 {
            let mut pair = Pair::new(&client, &server, seed);
            pair.run(0.3).unwrap();
            assert!(pair.client.confirmed && pair.server.confirmed);
            assert_eq!(pair.server.server_name(), Some("localhost"));
            for (number, side) in [(0, Side::Client), (0, Side::Server), (1, Side::Client)] {
                assert_eq!(pair.exchange(side, number), Generation::Current);
            }
        }
    }
}

#[test]
fn every_suite_and_group_will_do() {
    use rustls::crypto::ring::{cipher_suite, kx_group};

    let (certificate, key) = certificate(&PKCS_ECDSA_P256_SHA256);
    let client = ClientConfig::builder(roots(&certificate)).build().unwrap();
    let suites = [
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        cipher_suite::TLS13_AES_256_GCM_SHA384,
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    // The client sends a share for X25519: with another group, the handshake has one more round trip.
    for (suite, group) in suites.into_iter().zip([kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1]) {
        let mut provider = config::provider();
        (provider.cipher_suites, provider.kx_groups) = (vec![suite], vec![group]);
        let server = ServerConfig::builder(vec![certificate.clone()], key.clone_key()).unwrap();
        let server = server.provider(Arc::new(provider)).build().unwrap();
        let mut pair = Pair::new(&client, &server, 13);
        pair.run(0.2).unwrap();
        pair.exchange(Side::Client, 0);
        let now = pair.now;
        pair.client.want_update();
        assert!(pair.client.update_if_due(now));
        assert_eq!(pair.exchange(Side::Client, 1), Generation::Next);
    }
}

#[test]
fn both_sides_learn_the_others_parameters() {
    let (client, server) = configs();
    let mut pair = Pair::new(&client, &server, 2);
    assert_eq!(pair.server.peer_parameters(), None);
    for piece in pair.poll(Side::Client) {
        pair.server.read(piece.space, piece.offset, &piece.bytes).unwrap();
    }
    assert_eq!(pair.server.peer_parameters(), Some(&b"client's"[..]));
    for piece in pair.poll(Side::Server) {
        pair.client.read(piece.space, piece.offset, &piece.bytes).unwrap();
    }
    assert!(pair.client.is_complete() && !pair.server.is_complete());
    assert_eq!(pair.client.peer_parameters(), Some(&b"server's"[..]));
}

//= SPEC.md#4
//= type=test
//# A server MUST NOT handle 1-RTT packets before its handshake is complete.
#[test]
fn a_server_opens_nothing_before_the_clients_finished() {
    let (client, server) = configs();
    let mut pair = Pair::new(&client, &server, 3);
    for piece in pair.poll(Side::Client) {
        pair.server.read(piece.space, piece.offset, &piece.bytes).unwrap();
    }
    assert!(pair.server.can_seal(Level::OneRtt), "it may send at once");
    assert!(pair.server.remote_header(Level::OneRtt).is_none());
    assert!(pair.server.opening(pair.now, Level::OneRtt, false, 0).is_none());
    pair.run(0.0).unwrap();
    assert!(pair.server.remote_header(Level::OneRtt).is_some());
}

#[test]
fn the_state_of_a_handshake_goes_when_it_is_over() {
    let pair = Pair::connected(4);
    assert!(pair.client.handshake.is_none() && pair.server.handshake.is_none());
}

#[test]
fn initial_keys_are_those_of_the_first_destination() {
    let (client, server) = configs();
    let mut pair = Pair::new(&client, &server, 5);
    let seal = |crypto: &Crypto| {
        let (sealing, mut payload) = (crypto.sealing(Level::Initial).unwrap(), *b"frames");
        (sealing.packet.encrypt_in_place(0, b"header", &mut payload).unwrap().as_ref().to_vec(), payload)
    };
    let open = |crypto: &mut Crypto, now, (tag, payload): (Vec<u8>, [u8; 6])| {
        let mut sealed = [&payload[..], &tag].concat();
        let key = crypto.opening(now, Level::Initial, false, 0).unwrap().key;
        key.decrypt_in_place(0, b"header", &mut sealed).is_ok()
    };
    let sealed = seal(&pair.client);
    assert!(open(&mut pair.server, pair.now, sealed));
    // After a Retry the server is called otherwise, and the ClientHello goes out again.
    while pair.client.poll(Space::Initial, 1_000).is_some() {}
    pair.client.on_retry(Guuid::from_bytes([8; 16]));
    assert_eq!(pair.client.next_offset(Space::Initial), Some(0));
    let sealed = seal(&pair.client);
    assert!(!open(&mut pair.server, pair.now, sealed));
}

#[test]
fn the_server_must_be_who_it_should_be() {
    let (_, server) = configs();
    let (stranger, _) = certificate(&PKCS_ECDSA_P256_SHA256);
    let client = ClientConfig::builder(roots(&stranger)).build().unwrap();
    assert_eq!(failure(&client, &server), Code::crypto(AlertDescription::UnknownCA.into()));

    let (certificate, key) = certificate(&PKCS_ECDSA_P256_SHA256);
    let client = ClientConfig::builder(roots(&certificate)).build().unwrap();
    let server = ServerConfig::builder(vec![certificate], key).unwrap().build().unwrap();
    let mut pair = Pair::new(&client, &server, 6);
    pair.client = Crypto::client(&client, "example.org", to(), Vec::new()).unwrap();
    assert_eq!(pair.run(0.0).unwrap_err().code, Code::crypto(AlertDescription::BadCertificate.into()));
}

#[test]
fn a_pinned_certificate_is_trusted_by_its_hash_alone() {
    let (certificate, key) = certificate(&PKCS_ECDSA_P256_SHA256);
    let sha256: [u8; 32] = Sha256::digest(&certificate).into();
    let server = ServerConfig::builder(vec![certificate], key).unwrap().build().unwrap();
    let client = ClientConfig::builder(Trust::Certificate(sha256)).build().unwrap();
    let mut pair = Pair::new(&client, &server, 7);
    pair.client = Crypto::client(&client, "192.0.2.1", to(), b"client's".to_vec()).unwrap();
    pair.run(0.0).unwrap();
    assert!(pair.client.confirmed);

    let client = ClientConfig::builder(Trust::Certificate([0; 32])).build().unwrap();
    assert_eq!(failure(&client, &server), Code::crypto(AlertDescription::AccessDenied.into()));
}

#[test]
fn a_pinned_certificate_without_its_key_is_worth_nothing() {
    use rustls::{
        server::{ClientHello, ResolvesServerCert},
        sign::CertifiedKey,
    };

    #[derive(Debug)]
    struct Thief(Arc<CertifiedKey>);
    impl ResolvesServerCert for Thief {
        fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            Some(Arc::clone(&self.0))
        }
    }

    let (theirs, _) = certificate(&PKCS_ECDSA_P256_SHA256);
    let (_, mine) = certificate(&PKCS_ECDSA_P256_SHA256);
    let sha256: [u8; 32] = Sha256::digest(&theirs).into();
    let key = config::provider().key_provider.load_private_key(mine).unwrap();
    let stolen = Thief(Arc::new(CertifiedKey::new(vec![theirs], key)));
    let server = ServerConfig::builder_with(Arc::new(stolen)).build().unwrap();
    let client = ClientConfig::builder(Trust::Certificate(sha256)).build().unwrap();
    assert_eq!(failure(&client, &server), Code::crypto(AlertDescription::DecryptError.into()));
}

//= SPEC.md#4
//= type=test
//# MUST end the connection if ALPN does not agree on `quantum/1`.
#[test]
fn another_application_protocol_ends_the_handshake() {
    let (client, server) = configs();
    let tls = |protocols: &[&[u8]]| {
        let mut tls = rustls::ServerConfig::clone(server.tls());
        tls.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Arc::new(tls)
    };
    assert!(matches!(ServerConfig::new(tls(&[])), Err(ConfigError::Alpn)));
    assert!(matches!(ServerConfig::new(tls(&[b"h3"])), Err(ConfigError::Alpn)));
    let other = ServerConfig::unchecked(tls(&[b"h3"]));
    assert_eq!(failure(&client, &other), Code::crypto(AlertDescription::NoApplicationProtocol.into()));
    let none = ServerConfig::unchecked(tls(&[]));
    assert_eq!(failure(&client, &none), Code::crypto(AlertDescription::NoApplicationProtocol.into()));
}

/// Pitfall 12: what the two sides told each other is part of what they prove to each other.
#[test]
fn changed_parameters_end_the_handshake() {
    let (client, server) = configs();
    for side in [Side::Client, Side::Server] {
        let mut pair = Pair::new(&client, &server, 8);
        let error = loop {
            let from = if pair.server.is_pending(Space::Initial) { Side::Server } else { Side::Client };
            let mut result = Ok(());
            let mut all: Vec<Piece> = Vec::new();
            for piece in pair.poll(from) {
                match all.iter_mut().find(|whole| whole.space == piece.space) {
                    Some(whole) => whole.bytes.extend(piece.bytes),
                    None => all.push(piece),
                }
            }
            assert!(!all.is_empty(), "nobody noticed");
            for mut piece in all {
                let parameters: &[u8] = if side == Side::Client { b"client's" } else { b"server's" };
                if let Some(at) = piece.bytes.windows(8).position(|window| window == parameters) {
                    piece.bytes[at] ^= 1;
                }
                result = result.and_then(|()| pair.deliver(&piece));
            }
            if let Err(error) = result {
                break error;
            }
        };
        assert_eq!(error.code, Code::crypto(AlertDescription::DecryptError.into()), "{side:?}");
    }
}

#[test]
fn garbage_for_a_handshake_is_an_alert_and_no_panic() {
    let (_, server) = configs();
    let mut rng = StdRng::seed_from_u64(9);
    for _ in 0..200 {
        let mut crypto = Crypto::server(&server, to(), Vec::new()).unwrap();
        let mut bytes = vec![0; rng.random_range(4..200)];
        rng.fill(&mut bytes[..]);
        (bytes[0], bytes[1]) = (1, 0);
        if let Err(error) = crypto.read(Space::Initial, 0, &bytes) {
            assert!(error.code >= 0x100, "{error}");
        }
    }
}

#[test]
fn handshake_bytes_are_bounded() {
    let (client, server) = configs();
    let mut crypto = Crypto::server(&server, to(), Vec::new()).unwrap();
    crypto.read(Space::Initial, stream::AHEAD_BYTES_MAX - 1, &[0]).unwrap();
    let error = crypto.read(Space::Initial, stream::AHEAD_BYTES_MAX, &[0]).unwrap_err();
    assert_eq!(error.code, Code::CryptoBuffer as u64);
    assert_eq!(crypto.read(Space::Initial, u64::MAX, &[0]).unwrap_err().code, Code::FrameEncoding as u64);

    let mut crypto = Crypto::server(&server, to(), Vec::new()).unwrap();
    let error = (1..1_000).find_map(|at| crypto.read(Space::Initial, at * 2, &[0]).err()).unwrap();
    assert_eq!(error.code, Code::CryptoBuffer as u64);

    // A message that says it is larger than all handshake messages may be.
    let mut crypto = Crypto::client(&client, "localhost", to(), Vec::new()).unwrap();
    let mut read = || -> Checked<()> {
        crypto.read(Space::Initial, 0, &[2, 0xFF, 0xFF, 0xFF])?;
        (0..1_000).try_for_each(|at| crypto.read(Space::Initial, 4 + at * 1_000, &[0; 1_000]))
    };
    assert!(read().is_err());
}

#[test]
fn bytes_out_of_their_space_are_a_violation() {
    let mut pair = Pair::connected(10);
    let error = pair.server.read(Space::Application, 0, &[0]).unwrap_err();
    assert_eq!(error.code, Code::crypto(AlertDescription::UnexpectedMessage.into()));
    assert!(pair.client.read(Space::Application, 0, &[0]).is_ok(), "a ticket that nobody waits for");

    let (client, server) = configs();
    let mut pair = Pair::new(&client, &server, 11);
    let hello = pair.poll(Side::Client);
    for piece in &hello {
        pair.server.read(piece.space, piece.offset, &piece.bytes).unwrap();
    }
    assert!(pair.server.read(hello[0].space, hello[0].offset, &hello[0].bytes).is_ok(), "a repetition");
    let end = hello.iter().map(|piece| piece.offset + piece.bytes.len() as u64).max().unwrap();
    let error = pair.server.read(Space::Initial, end, &[0]).unwrap_err();
    assert_eq!(error.code, Code::ProtocolViolation as u64);
}

#[test]
fn a_simulated_handshake_repeats_bit_for_bit() {
    let (certificate, key) = certificate(&PKCS_ED25519);
    let run = |seed| {
        let (provider, clock) = (simulation::provider(seed), simulation::Clock::new(1_800_000_000_000));
        let client = ClientConfig::builder(roots(&certificate)).provider(Arc::clone(&provider)).clock(clock.clone());
        let server = ServerConfig::builder(vec![certificate.clone()], key.clone_key()).unwrap();
        let server = server.provider(provider).clock(clock).build().unwrap();
        let mut pair = Pair::new(&client.build().unwrap(), &server, 12);
        pair.run(0.1).unwrap();
        (std::mem::take(&mut pair.trace), pair.seal(Side::Client, 7))
    };
    let (first, again, other) = (run(1), run(1), run(2));
    assert!(first == again);
    assert!(first != other);
    assert_eq!(first.0.len(), other.0.len());
}
