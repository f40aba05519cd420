//! What an endpoint must hold for any datagrams.

use std::{
    net::SocketAddr,
    sync::OnceLock,
    time::{Duration, Instant},
};

use quic::{Endpoint, EndpointConfig, Meta, Router, ServerConfig, Transport, Verdict};

fn server() -> &'static ServerConfig {
    static MADE: OnceLock<ServerConfig> = OnceLock::new();
    MADE.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        ServerConfig {
            certificates: vec![made.cert.der().to_vec()],
            key: made.signing_key.serialize_der(),
            alpn: vec![b"test/1".to_vec()],
            ticket_key: [42; 48],
            early_data: true,
        }
    })
}

/// One byte of choices, then datagrams, each behind a byte that says from which port, and two with its length. Nothing
/// panics, what is answered without a connection is smaller than what came, and what is not followed up leaves nothing.
pub(crate) fn datagram(data: &[u8]) {
    let Some((choice, mut rest)) = data.split_first() else { return };
    let mut config = EndpointConfig::single([7; 32], Transport::default());
    config.router = Router::new(5, 1 + u16::from(choice >> 6), 0);
    config.retry_above = if choice & 1 == 0 { 256 } else { 0 };
    let mut endpoint = Endpoint::new(config, Some(server()), [3; 32]).expect("a fine configuration");
    let (now, mut out) = (Instant::now(), vec![0; 65_535]);
    let local = SocketAddr::from(([198, 51, 100, 1], 443));
    let (mut received, mut sent) = (0, 0);
    for _ in 0..64 {
        let Some(([port, len @ ..], after)) = rest.split_first_chunk::<3>() else { break };
        let len = usize::from(u16::from_be_bytes(*len)).min(after.len());
        let (bytes, after) = after.split_at(len);
        rest = after;
        let meta = Meta { local, remote: SocketAddr::from(([192, 0, 2, 1], 1_000 + u16::from(*port))) };
        let verdict = endpoint.handle(now, 1_760_000_000_000, meta, &mut bytes.to_vec());
        received += len;
        while let Some(transmit) = endpoint.poll_transmit(now, &mut out, 8) {
            assert!(verdict != Verdict::Reply || transmit.size < len, "an answer is smaller than its question");
            sent += transmit.size;
        }
        while endpoint.poll_event().is_some() {}
    }
    assert!(sent <= 3 * received, "{sent} bytes for {received}");
    assert!(endpoint.len() <= 64 && endpoint.ids() <= 128);
    endpoint.handle_timeout(now + Duration::from_secs(11));
    while endpoint.poll_transmit(now, &mut out, 8).is_some() {}
    assert_eq!((endpoint.half_open(), !endpoint.is_empty()), (0, endpoint.ids() > 0));
}
