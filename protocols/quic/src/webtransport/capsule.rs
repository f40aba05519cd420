//! Capsules (RFC 9297 section 3) on the stream of a session: what WebTransport has of them.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::h3::{
    code::{Fault, malformed},
    frame::{self, Item, Plan, Reader},
};

/// RFC 9297 section 3.5.
const DATAGRAM: u64 = 0x00;
/// CLOSE_WEBTRANSPORT_SESSION.
const CLOSE: u64 = 0x2843;
/// DRAIN_WEBTRANSPORT_SESSION.
const DRAIN: u64 = 0x78ae;

/// Bytes of the reason in a close: what is longer is cut by this end and refused from the peer.
pub const REASON_BYTES_MAX: usize = 1024;

/// The code in front of the reason.
const CODE_LEN: usize = 4;

/// A capsule that is understood; all others are skipped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Capsule {
    /// The session ends.
    Close { code: u32, reason: String },
    /// The session should end soon.
    Drain,
    /// A datagram that came by the stream.
    Datagram(Bytes),
}

/// The next capsule in `input`, which is used up when there is none.
pub(crate) fn next(reader: &mut Reader, input: &mut Bytes, bytes_max: u16) -> Result<Option<Capsule>, Fault> {
    let plan = |kind| {
        Ok(match kind {
            CLOSE => Plan::Gather(CODE_LEN + REASON_BYTES_MAX),
            DRAIN => Plan::Gather(0),
            DATAGRAM => Plan::Gather(bytes_max.into()),
            _ => Plan::Skip,
        })
    };
    loop {
        match reader.next(input, plan)? {
            None => return Ok(None),
            Some(Item::Whole(CLOSE, payload)) => return close(payload).map(Some),
            Some(Item::Whole(DRAIN, _)) => return Ok(Some(Capsule::Drain)),
            Some(Item::Whole(_, payload)) => return Ok(Some(Capsule::Datagram(payload))),
            Some(Item::TooLong(CLOSE | DRAIN)) => return Err(malformed("a capsule is too long")),
            // Too large a datagram is dropped; nothing else was asked for.
            Some(Item::TooLong(_) | Item::Piece(_) | Item::Bare) => {}
        }
    }
}

fn close(mut payload: Bytes) -> Result<Capsule, Fault> {
    if payload.len() < CODE_LEN {
        return Err(malformed("a close is too short"));
    }
    let code = payload.get_u32();
    let reason = str::from_utf8(&payload).map_err(|_| malformed("the reason of a close is no UTF-8"))?;
    Ok(Capsule::Close { code, reason: reason.to_owned() })
}

/// The capsule that ends a session.
pub(crate) fn close_bytes(code: u32, reason: &str) -> BytesMut {
    let cut = (0..=REASON_BYTES_MAX.min(reason.len())).rev().find(|end| reason.is_char_boundary(*end));
    let reason = &reason[..cut.unwrap_or(0)];
    let mut payload = BytesMut::with_capacity(CODE_LEN + reason.len());
    payload.put_u32(code);
    payload.extend_from_slice(reason.as_bytes());
    let mut out = BytesMut::new();
    frame::write(&mut out, CLOSE, &payload);
    out
}

/// The capsule that asks to end a session soon.
pub(crate) fn drain_bytes() -> BytesMut {
    let mut out = BytesMut::new();
    frame::write(&mut out, DRAIN, &[]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u16 = 100;

    fn all(bytes: &[u8], piece: usize) -> (Vec<Capsule>, bool) {
        let (mut reader, mut capsules) = (Reader::default(), Vec::new());
        for piece in bytes.chunks(piece.max(1)) {
            let mut input = Bytes::copy_from_slice(piece);
            loop {
                match next(&mut reader, &mut input, MAX) {
                    Ok(Some(capsule)) => capsules.push(capsule),
                    Ok(None) => break,
                    Err(_) => return (capsules, false),
                }
            }
        }
        (capsules, reader.is_between())
    }

    #[test]
    fn capsules_in_any_pieces() {
        let mut bytes = close_bytes(7, "bye");
        frame::write(&mut bytes, frame::grease(5), b"whatever");
        bytes.extend_from_slice(&drain_bytes());
        frame::write(&mut bytes, DATAGRAM, b"hello");
        frame::write(&mut bytes, DATAGRAM, &[0; MAX as usize + 1]);
        frame::write(&mut bytes, DATAGRAM, b"");
        let close = Capsule::Close { code: 7, reason: "bye".to_owned() };
        let datagrams = [Capsule::Datagram(Bytes::from_static(b"hello")), Capsule::Datagram(Bytes::new())];
        let expected = [&[close, Capsule::Drain][..], &datagrams].concat();
        for piece in [1, 2, 3, 7, bytes.len()] {
            assert_eq!(all(&bytes, piece), (expected.clone(), true), "pieces of {piece}");
        }
        assert_eq!(all(&bytes[..3], 3), (vec![], false));
    }

    #[test]
    fn a_close_fills_its_limit() {
        let reason = "ä".repeat(REASON_BYTES_MAX / 2);
        let expected = vec![Capsule::Close { code: u32::MAX, reason: reason.clone() }];
        assert_eq!(all(&close_bytes(u32::MAX, &reason), 9), (expected.clone(), true));
        assert_eq!(all(&close_bytes(u32::MAX, &(reason + "ä")), 9), (expected, true), "this end cuts");
        let wrong = |payload: &[u8]| {
            let mut bytes = BytesMut::new();
            frame::write(&mut bytes, CLOSE, payload);
            all(&bytes, 5) == (vec![], false)
        };
        assert!(wrong(&[b'a'; CODE_LEN + REASON_BYTES_MAX + 1]) && wrong(b"abc") && wrong(b"\0\0\0\0\xff"));
    }
}
