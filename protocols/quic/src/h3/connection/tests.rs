//! A connection under test: what goes in is written as bytes, what comes out is read as a list.

mod flow;
mod hostile;
mod limit;
mod pair;
mod pieces;
mod webtransport;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{Request, Response};

use super::*;
use crate::h3::{
    Limits, Verdict,
    frame::kind,
    output::SendError,
    qpack::{self, Field},
};

/// What a client's first stream carries besides its request.
pub(super) const GET: [Field<'static>; 4] =
    [(b":method", b"GET"), (b":scheme", b"https"), (b":path", b"/"), (b":authority", b"a.example")];

pub(super) const CONNECT_WT: [Field<'static>; 5] = [
    (b":method", b"CONNECT"),
    (b":scheme", b"https"),
    (b":path", b"/wt"),
    (b":authority", b"a.example"),
    (b":protocol", b"webtransport"),
];

pub(super) fn config() -> Config {
    Config { grease: None, ..Config::default() }
}

pub(super) fn limited(limits: Limits) -> Config {
    Config { limits, ..config() }
}

/// A connection after its handshake, whose own first writes are done.
pub(super) fn fresh(is_server: bool, config: Config) -> Connection {
    let mut connection = Connection::new(Instant::now(), Arc::new(config), is_server);
    connection.on_established(Instant::now(), true);
    connection.on_credit(100, 100);
    drain_actions(&mut connection);
    connection
}

/// The same after the peer's settings.
pub(super) fn server(config: Config) -> Connection {
    let mut connection = fresh(true, config);
    feed(&mut connection, 2, &settings(), false);
    connection.poll_event();
    connection
}

pub(super) fn settings() -> Vec<u8> {
    concat(&[&[0], &frame(kind::SETTINGS, &[0x33, 1, 0xab, 0x60, 0x37, 0x42, 1])])
}

pub(super) fn feed(connection: &mut Connection, id: u64, bytes: &[u8], fin: bool) {
    connection.on_stream(Instant::now(), StreamId(id), Bytes::copy_from_slice(bytes), fin);
}

pub(super) fn frame(kind: u64, payload: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    frame::write(&mut out, kind, payload);
    out.to_vec()
}

pub(super) fn headers(fields: &[Field<'_>]) -> Vec<u8> {
    qpack::headers_frame(fields, &qpack::Common::default(), 0).to_vec()
}

pub(super) fn concat(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// A head with more fields.
pub(super) fn with<'a>(head: &[Field<'a>], more: &[Field<'a>]) -> Vec<u8> {
    headers(&[head, more].concat())
}

pub(super) fn drain_actions(connection: &mut Connection) -> Vec<Action> {
    let actions = std::iter::from_fn(|| connection.poll_action()).collect();
    let waiting: usize = connection.streams.values().map(|stream| stream.outbox.len()).sum();
    assert_eq!(connection.out_bytes(), waiting + connection.control.len());
    actions
}

pub(super) fn drain_events(connection: &mut Connection) -> Vec<Event> {
    std::iter::from_fn(|| connection.poll_event()).collect()
}

/// The code of a close, if there was one.
pub(super) fn closed(actions: &[Action]) -> Option<Code> {
    actions.iter().find_map(|action| match action {
        Action::Close { code, .. } => Some(*code),
        _ => None,
    })
}

/// Everything that can be read of a stream now: bytes, and whether the end came.
pub(super) fn read_all(connection: &mut Connection, id: u64) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(piece) = connection.read(StreamId(id)) {
        match piece {
            Piece::Data(bytes) => body.extend_from_slice(&bytes),
            Piece::Trailers(_) => {}
            Piece::End => return (body, true),
        }
    }
    (body, false)
}

pub(super) fn ok() -> Response<()> {
    Response::new(())
}

pub(super) fn get(path: &str) -> Request<()> {
    Request::get(format!("https://a.example{path}")).body(()).expect("a valid request")
}
