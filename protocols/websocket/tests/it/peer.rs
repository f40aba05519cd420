//! What the tests share: frames made by hand, and all the events of some bytes.

use bytes::BytesMut;
use websocket::{Connection, Event, Limits};

pub(crate) const LIMITS: Limits = Limits { message_max: 1_000, frame_max: 600 };

pub(crate) const FIN: u8 = 0x80;
pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

pub(crate) fn server() -> Connection {
    Connection::server(LIMITS)
}

/// A frame of a client, masked.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let mut bytes = vec![first];
    match payload.len() {
        len @ ..126 => bytes.push(0x80 | len as u8),
        len @ ..65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(0x80 | 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

/// All events of `bytes`, received in pieces of `size`.
pub(crate) fn events(connection: &mut Connection, bytes: &[u8], size: usize) -> Vec<Event<'static>> {
    let (mut bytes, mut events) = (bytes.to_vec(), Vec::new());
    for mut piece in bytes.chunks_mut(size) {
        while let Some(event) = connection.next(&mut piece) {
            events.push(event.into_owned());
        }
        assert!(piece.is_empty(), "all input is consumed");
    }
    events
}

pub(crate) fn output(connection: &mut Connection) -> Vec<u8> {
    let mut out = BytesMut::new();
    connection.take_output(&mut out);
    assert!(!connection.has_output());
    out.to_vec()
}

pub(crate) fn text(text: &str) -> Event<'static> {
    Event::Text(text.to_owned().into())
}

pub(crate) fn binary(bytes: &[u8]) -> Event<'static> {
    Event::Binary(bytes.to_vec().into())
}

pub(crate) fn closed(code: u16, reason: &str, clean: bool) -> Event<'static> {
    Event::Closed { code, reason: reason.to_owned(), clean }
}
