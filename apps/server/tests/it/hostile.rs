//! Attacks on the real server over loopback. After each one, sessions that were open before it still work.

mod http;
mod life;
mod pressure;
mod session;
pub(crate) mod talker;
pub(crate) mod wire;

use std::time::Duration;

use crate::process::{PATIENCE, Server};
use talker::{Framed, Innocents, upgrade};
use wire::Wire;

/// Bytes that look like nothing, always the same ones.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    })
    .take(len)
    .collect()
}

#[test]
fn garbage_gets_a_clear_answer_on_every_listener_and_ends() {
    let server = Server::start(&[]);
    let mut innocents = Innocents::enter(&server);
    for (say, answer) in [
        (&b"\x00\x00\x00\x00"[..], "HTTP/1.1 400 "),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "HTTP/1.1 400 "),
        (b"hello there\r\n\r\n", "HTTP/1.1 400 "),
        (b"GET\r\n\r\n", "HTTP/1.1 400 "),
        (b"GET / HTTP/9.9\r\nhost: a\r\n\r\n", "HTTP/1.1 505 "),
        (b"PRI * HTTP/2.0\r\n\r\nxx\r\n\r\n", "HTTP/1.1 "),
    ] {
        let mut wire = Wire::plain(&server);
        wire.send(say);
        let text = wire.text();
        assert!(text.starts_with(answer) && text.contains("connection: close"), "{say:?}: {text}");
    }
    for seed in 1..20 {
        let mut wire = Wire::plain(&server);
        wire.send(&noise(1000 * seed)[seed..]);
        wire.rest(PATIENCE);
    }
    let failed = server.dropped("tls");
    for say in [&b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..], tcp::PREFACE, &noise(3000), &[0x16, 3, 1, 0xff, 0xff]] {
        let mut wire = Wire::to(server.secure);
        wire.send(say);
        wire.finish();
        wire.rest(PATIENCE);
    }
    assert!(server.dropped("tls") >= failed + 3 && server.dropped("http") >= 5, "{}", server.admin("/metrics"));
    for (say, answer) in
        [(&noise(500)[..], ""), (b"\r\n\r\n", "HTTP/1.1 400"), (b"what is this\r\n\r\n", "HTTP/1.1 400")]
    {
        let mut wire = Wire::to(server.admin);
        wire.send(say);
        wire.finish();
        assert!(wire.text().starts_with(answer), "{say:?}");
    }
    innocents.work();
}

#[test]
fn what_is_cut_off_in_the_middle_ends_and_leaves_nothing() {
    let server = Server::start(&[]);
    let mut innocents = Innocents::enter(&server);
    let open = server.metric("ringshard_connections{", "");
    let handshake = {
        let mut tls = wire::tls(&server, b"h2");
        let mut out = bytes::BytesMut::new();
        tls.take_output(&mut out);
        out.to_vec()
    };
    let request = upgrade("");
    for whole in [
        tcp::PREFACE,
        &handshake,
        request.as_bytes(),
        b"POST /api/v1/guest HTTP/1.1\r\nhost: a\r\ncontent-length: 99\r\n\r\n{",
    ] {
        for cut in (1..whole.len()).step_by(7) {
            for address in [server.plain, server.secure, server.admin] {
                let mut wire = Wire::to(address);
                wire.send(&whole[..cut]);
                wire.finish();
                wire.rest(PATIENCE);
            }
        }
    }
    server.until("all of them gone", |server| server.metric("ringshard_connections{", "") == open);
    server.until("none half open", |server| server.metric("ringshard_half_open{", "") == 0);
    innocents.work();
}

#[test]
fn what_is_too_large_is_refused_before_it_is_held() {
    let server = Server::start(&[]);
    let mut innocents = Innocents::enter(&server);
    let long = "a".repeat(20_000);
    for (say, status) in [
        (format!("GET /{long} HTTP/1.1\r\nhost: a\r\n\r\n"), 414),
        (format!("GET / HTTP/1.1\r\nhost: a\r\nx: {long}\r\n\r\n"), 431),
        (format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(500)), 431),
        ("POST /api/v1/guest HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999\r\n\r\n".to_owned(), 413),
        ("POST /api/v1/guest HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999999\r\n\r\n".to_owned(), 400),
        ("POST /api/v1/guest HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nfffffff\r\n".to_owned(), 413),
        (
            "POST /api/v1/guest HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n"
                .to_owned(),
            400,
        ),
    ] {
        for mut wire in [Wire::plain(&server), Wire::secure(&server, b"http/1.1")] {
            wire.send(say.as_bytes());
            let text = wire.text();
            assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {text}");
        }
    }
    let mut wire = Wire::to(server.admin);
    wire.send(format!("GET /{long} HTTP/1.1\r\nhost: a\r\n\r\n").as_bytes());
    assert!(wire.text().starts_with("HTTP/1.1 431 "));

    // A stranger may not make the server hold more than a hello.
    let mut header = vec![1, 1, 0, 0];
    header.extend(5000_u32.to_le_bytes());
    header.extend([0; 8]);
    let mut framed = Framed::new(Wire::plain(&server));
    framed.wire.send(&header);
    framed.refused("frame body of 5000 bytes");
    assert_eq!(server.dropped("hello_large"), 1);
    // Somebody may not send more than a frame.
    header[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut framed = Framed::enter(Wire::plain(&server), "eve", "chat/loud");
    framed.wire.send(&header);
    framed.refused("frame body of 4294967295 bytes");
    assert_eq!(server.dropped("frame_large"), 1);
    innocents.work();
}

#[test]
fn pipelined_input_is_answered_in_order_however_much_it_is() {
    let server = Server::start(&[]);
    let mut innocents = Innocents::enter(&server);
    for (mut wire, half) in
        [(Wire::plain(&server), false), (Wire::secure(&server, b"http/1.1"), false), (Wire::plain(&server), true)]
    {
        // Answers of half a megabyte: far more than is queued at once.
        let requests: String = (0..50)
            .map(|n| {
                format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", if n % 2 == 0 { "assets/session.js" } else { "nowhere" })
            })
            .collect();
        wire.send(requests.as_bytes());
        if half {
            // Who has sent everything still wants all answers.
            wire.send(b"GET /last HTTP/1.1\r\nhost: a\r\n\r\n");
            wire.finish();
        } else {
            wire.send(b"GET /last HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        }
        let text = wire.text();
        let statuses: Vec<&str> = text.lines().filter_map(|line| line.split("HTTP/1.1 ").nth(1)?.get(..3)).collect();
        assert_eq!(statuses.len(), 51, "{statuses:?}");
        assert!(statuses[..50].chunks(2).all(|pair| pair == ["200", "404"]), "{statuses:?}");
    }
    // Nobody reads the answers: the input stops, too, and the reader is cut off in the end.
    let mut wire = Wire::plain(&server);
    wire.stream.set_write_timeout(Some(Duration::from_millis(500))).expect("set");
    let before = server.memory();
    for _ in 0..100 {
        wire.send("GET /assets/session.js HTTP/1.1\r\nhost: a\r\n\r\n".repeat(1000).as_bytes());
        if server.metric("ringshard_engine_bytes_in_total", "") > 8 << 20 {
            break;
        }
    }
    assert!(server.memory() < before + (16 << 20), "{} KiB more", (server.memory() - before) >> 10);
    // The same in frames: a thousand pings at once are answered or refused, each.
    let mut framed = Framed::enter(Wire::plain(&server), "eve", "chat/loud");
    let mut out = bytes::BytesMut::new();
    for id in 1..=300 {
        ::session::encode_client(::session::Codec::Binary, &::session::Client::Ping { id }, &mut out);
    }
    framed.wire.send(&out);
    framed.hear("an answer to the last", |message| match message {
        ::session::Server::Err { id, .. } => *id == Some(300),
        ::session::Server::Pong { id, .. } => *id == 300,
        _ => false,
    });
    assert!(server.dropped("rate") > 100);
    innocents.work();
}
