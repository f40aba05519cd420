//! The operations that have a budget: what one message costs in a core, on fixed bytes, without a kernel.

use std::{hint::black_box, time::Instant};

use bytes::BytesMut;
use session::{Client, Codec, Server};

use crate::{durable, http3, quantum};

/// Something that is counted.
pub(crate) struct Operation {
    /// Its name in `budgets.toml`.
    pub(crate) name: &'static str,
    /// Runs that are counted: enough that a rare refill of a buffer is spread over many.
    pub(crate) count: u64,
    run: fn(u64),
}

/// All of them.
pub(crate) const ALL: &[Operation] = &[
    Operation { name: "json_decode_pub", count: MANY, run: json_decode_pub },
    Operation { name: "json_encode_msg", count: MANY, run: json_encode_msg },
    Operation { name: "binary_decode_pub", count: MANY, run: binary_decode_pub },
    Operation { name: "binary_encode_msg", count: MANY, run: binary_encode_msg },
    Operation { name: "chat_body_text", count: LINE as u64 * 32, run: chat_body },
    Operation { name: "websocket_receive_64", count: MANY, run: websocket_receive },
    Operation { name: "websocket_frame_64", count: MANY, run: websocket_frame },
    Operation { name: "tcp_deframe_64", count: MANY, run: tcp_deframe },
    Operation { name: "http1_request", count: MANY, run: http1_request },
    Operation { name: "h3_request", count: MANY, run: http3::request },
    Operation { name: "webtransport_datagram_100", count: MANY, run: http3::datagram },
    Operation { name: "durable_batch_32", count: MANY, run: durable::publish },
    Operation { name: "quantum_bulk_packet_1200", count: 10_000, run: quantum::bulk },
    Operation { name: "quantum_message_200_fec_8_2", count: MANY, run: quantum::message },
    Operation { name: "quantum_handshake", count: 50, run: quantum::handshake },
];

const MANY: u64 = 2_000;

/// Runs one operation `count` times.
pub(crate) fn run(name: &str, count: u64) -> Result<(), String> {
    let operation = ALL.iter().find(|operation| operation.name == name);
    let operation = operation.ok_or_else(|| format!("there is no operation `{name}`"))?;
    (operation.run)(count);
    Ok(())
}

/// At every place in a cache line in turn: searches go by words, and where a linker puts a constant depends on the length
/// of the folder's name.
fn chat_body(count: u64) {
    let mut bytes = BytesMut::zeroed(2 * LINE + BODY.len());
    let aligned = bytes.as_ptr().align_offset(LINE);
    for round in 0..count {
        let at = aligned + usize::try_from(round).unwrap_or_default() % LINE;
        bytes[at..at + BODY.len()].copy_from_slice(BODY);
        let body = black_box(&bytes[at..at + BODY.len()]);
        black_box(chat::body::read(body, chat::body::TEXT_CHARS_MAX).expect("a good text"));
    }
}

/// Bytes of a cache line.
const LINE: usize = 64;

const BODY: &[u8] = br#"{"type":"text","text":"The quick brown fox jumps over the lazy dog."}"#;

fn publish() -> Client<'static> {
    Client::Pub { id: 7, topic: "chat/lobby".into(), seq: Some(41), body: BODY }
}

fn message() -> Server<'static> {
    Server::Msg {
        topic: "chat/lobby".into(),
        alias: 3,
        offset: 43,
        from: "alice".into(),
        at_ms: 1_800_000_000_000,
        body: BODY,
    }
}

fn decode(codec: Codec, count: u64) {
    let mut bytes = BytesMut::new();
    session::encode_client(codec, &publish(), &mut bytes);
    for _ in 0..count {
        black_box(session::decode_client(codec, black_box(&bytes)).is_ok());
    }
}

fn encode(codec: Codec, count: u64) {
    let message = message();
    let mut out = BytesMut::with_capacity(4096);
    for _ in 0..count {
        out.clear();
        session::encode_server(codec, black_box(&message), &mut out);
        black_box(out.len());
    }
}

fn json_decode_pub(count: u64) {
    decode(Codec::Json, count);
}

fn json_encode_msg(count: u64) {
    encode(Codec::Json, count);
}

fn binary_decode_pub(count: u64) {
    decode(Codec::Binary, count);
}

fn binary_encode_msg(count: u64) {
    encode(Codec::Binary, count);
}

fn websocket_receive(count: u64) {
    let limits = websocket::Limits { message_max: 65_536, frame_max: 65_536 };
    let mut client = websocket::Connection::client(limits, [7; 32]);
    let mut server = websocket::Connection::server(limits);
    client.send_binary(&[5; 64]);
    let mut wire = BytesMut::new();
    client.take_output(&mut wire);
    let mut received = Vec::with_capacity(wire.len());
    for _ in 0..count {
        received.clear();
        received.extend_from_slice(&wire);
        let mut input = &mut received[..];
        while let Some(event) = server.next(&mut input) {
            black_box(matches!(event, websocket::Event::Binary(_)));
        }
    }
}

fn websocket_frame(count: u64) {
    let mut out = BytesMut::with_capacity(4096);
    for _ in 0..count {
        out.clear();
        websocket::frame::encode(websocket::frame::Opcode::Binary, black_box(&[5; 64]), &mut out);
        black_box(out.len());
    }
}

fn tcp_deframe(count: u64) {
    let mut frame = [0; 16 + 64];
    frame[0] = 1;
    frame[4] = 64;
    let mut deframer = tcp::frame::Deframer::new(65_536);
    for _ in 0..count {
        let mut input = black_box(&frame[..]);
        while let Ok(Some(frame)) = deframer.next(&mut input) {
            black_box(frame.len());
        }
    }
}

fn http1_request(count: u64) {
    let now = Instant::now();
    let mut connection = ringshard_http::Connection::http1(now, ringshard_http::Limits::default());
    let mut out = BytesMut::new();
    for _ in 0..count {
        connection.handle(now, black_box(b"GET / HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n"));
        while let Some(event) = connection.poll() {
            if let ringshard_http::Event::Request { id, .. } = event {
                connection.respond(now, id, http::Response::new(bytes::Bytes::from_static(b"hello")));
            }
        }
        out.clear();
        connection.take_output(now, &mut out, 65_536);
        black_box(out.len());
    }
}
