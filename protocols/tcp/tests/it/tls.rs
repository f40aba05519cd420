//! Two ends of TLS that talk over memory, in pieces of any size.

use std::sync::Arc;

use bytes::BytesMut;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tcp::tls::{
    Tls, client_config,
    rustls::{
        ClientConfig, HandshakeKind, ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName},
    },
    server_config, ticketer,
};

const ALPN: &[&[u8]] = &[b"ringshard/1", b"h2", b"http/1.1"];

struct Pair {
    client: Tls,
    server: Tls,
    to_client: Vec<u8>,
    to_server: Vec<u8>,
}

fn identity() -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    (cert.der().clone(), PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap())
}

fn configs(alpn: &[&[u8]]) -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let (certificate, key) = identity();
    let server = server_config(vec![certificate.clone()], key, ALPN, ticketer().unwrap()).unwrap();
    (client_config(vec![certificate], alpn).unwrap(), server)
}

fn pair((client, server): &(Arc<ClientConfig>, Arc<ServerConfig>)) -> Pair {
    Pair {
        client: Tls::client(Arc::clone(client), ServerName::try_from("localhost").unwrap()).unwrap(),
        server: Tls::server(Arc::clone(server)).unwrap(),
        to_client: Vec::new(),
        to_server: Vec::new(),
    }
}

impl Pair {
    /// Carries bytes both ways in pieces of `size` until nobody has any.
    fn talk(&mut self, size: usize) {
        loop {
            let moved = carry(&mut self.client, &mut self.server, &mut self.to_server, size)
                + carry(&mut self.server, &mut self.client, &mut self.to_client, size);
            if moved == 0 {
                return;
            }
        }
    }
}

fn carry(from: &mut Tls, to: &mut Tls, plain: &mut Vec<u8>, size: usize) -> usize {
    let mut wire = BytesMut::new();
    from.take_output(&mut wire);
    for piece in wire.chunks(size) {
        to.handle(piece, plain).unwrap();
    }
    wire.len()
}

#[test]
fn two_ends_agree_talk_and_say_goodbye_wherever_records_are_cut() {
    for size in [1, 5, 1_000, usize::MAX] {
        let mut pair = pair(&configs(&[b"nonsense", b"h2"]));
        pair.client.send(b"before the handshake");
        pair.talk(size);
        assert!(!pair.client.is_handshaking() && !pair.server.is_handshaking());
        assert_eq!((pair.client.alpn(), pair.server.alpn()), (Some(&b"h2"[..]), Some(&b"h2"[..])));
        pair.server.send(b"hello");
        pair.client.close_notify();
        pair.client.send(b"too late");
        pair.talk(size);
        assert_eq!((&pair.to_server[..], &pair.to_client[..]), (&b"before the handshake"[..], &b"hello"[..]));
        assert!(pair.server.peer_closed() && !pair.client.peer_closed());
    }
}

#[test]
fn a_megabyte_passes_in_one_piece() {
    let mut pair = pair(&configs(ALPN));
    let plain: Vec<u8> = (0..1_048_576_u32).map(|number| number as u8).collect();
    pair.client.send(&plain);
    pair.talk(usize::MAX);
    pair.server.send(&plain);
    pair.talk(usize::MAX);
    assert!(pair.to_server == plain && pair.to_client == plain);
}

#[test]
fn a_client_that_comes_back_resumes_on_any_shard() {
    let configs = configs(ALPN);
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let mut pair = pair(&configs);
        pair.talk(usize::MAX);
        assert_eq!(pair.server.handshake_kind(), Some(kind));
    }
}

#[test]
fn garbage_gets_an_alert_and_stays_an_error() {
    let mut server = pair(&configs(ALPN)).server;
    let (mut plain, mut out) = (Vec::new(), BytesMut::new());
    assert!(server.handle(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", &mut plain).is_err());
    server.take_output(&mut out);
    assert_eq!(out[0], 21, "an alert");
    assert!(server.handle(b"more", &mut plain).is_err());
    server.send(b"nobody hears this");
    server.take_output(&mut out);
    assert!(plain.is_empty() && out.len() == 7);
}

#[test]
fn a_stranger_is_refused_and_the_server_learns_it() {
    let ((client, _), (_, server)) = (configs(ALPN), configs(ALPN));
    let Pair { mut client, mut server, .. } = pair(&(client, server));
    let (mut plain, mut hello, mut flight, mut alert) = (Vec::new(), BytesMut::new(), BytesMut::new(), BytesMut::new());
    client.take_output(&mut hello);
    server.handle(&hello, &mut plain).unwrap();
    server.take_output(&mut flight);
    assert!(client.handle(&flight, &mut plain).is_err());
    client.take_output(&mut alert);
    assert!(!alert.is_empty());
    assert!(server.handle(&alert, &mut plain).is_err());
}

#[test]
fn a_client_without_a_common_protocol_is_refused() {
    let Pair { mut client, mut server, .. } = pair(&configs(&[b"smtp"]));
    let mut hello = BytesMut::new();
    client.take_output(&mut hello);
    assert!(server.handle(&hello, &mut Vec::new()).is_err());
}

#[test]
fn a_key_that_does_not_fit_its_certificate_is_refused_at_once() {
    let ((certificate, _), (_, key)) = (identity(), identity());
    assert!(server_config(vec![certificate], key, ALPN, ticketer().unwrap()).is_err());
}
