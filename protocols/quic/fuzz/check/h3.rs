//! What HTTP/3 and WebTransport must hold for any bytes of a peer.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request};
use quic::h3::{Action, Code, Config, Connection, Event, Limits, Piece, StreamId};

/// The request of a session, as a HEADERS frame without references: CONNECT, https, /wt, a.example, webtransport.
const CONNECT: &[u8] = b"\x01\x2c\0\0\xcf\xd7\x51\x03/wt\x50\x09a.example\x27\x02:protocol\x0cwebtransport";

/// The settings of a client, on its control stream.
const SETTINGS: &[u8] = b"\0\x04\x07\x33\x01\xab\x60\x37\x42\x01";

/// The first byte: bit 0 a client reads, bit 1 on the control stream, bit 2 the stream ends.
pub(crate) fn frames(data: &[u8]) {
    let Some((flags, bytes)) = data.split_first() else { return };
    let (is_client, on_control, fin) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0);
    let id = match (on_control, is_client) {
        (true, true) => 3,
        (true, false) => 2,
        (false, _) => 0,
    };
    same_in_pieces(|piece| {
        let mut peer = Peer::new(!is_client);
        if is_client {
            peer.ask();
        } else if !on_control {
            peer.feed(2, SETTINGS, false, usize::MAX);
        }
        peer.feed(id, bytes, fin, piece);
        peer
    });
}

/// The first byte: a field section (0), the encoder's stream (1) or the decoder's.
pub(crate) fn qpack(data: &[u8]) {
    let Some((which, bytes)) = data.split_first() else { return };
    same_in_pieces(|piece| {
        let mut peer = Peer::new(true);
        match which {
            0 => peer.feed(0, &frame(1, bytes), true, piece),
            1 => peer.feed(6, &[&[2], bytes].concat(), false, piece),
            _ => peer.feed(6, &[&[3], bytes].concat(), false, piece),
        }
        peer
    });
}

/// The first byte: bit 0 the stream ends, bit 1 the session is not accepted.
pub(crate) fn capsules(data: &[u8]) {
    let Some((flags, bytes)) = data.split_first() else { return };
    same_in_pieces(|piece| {
        let mut peer = Peer::new(true);
        peer.accepts = flags & 2 == 0;
        peer.feed(2, SETTINGS, false, usize::MAX);
        peer.feed(0, CONNECT, false, usize::MAX);
        assert_eq!(peer.connection.drain_session(StreamId(0)).is_ok(), peer.accepts);
        peer.feed(0, &frame(0, bytes), flags & 1 != 0, piece);
        peer
    });
}

/// The first byte: bit 0 the session is asked for first, else last; bit 1 it is not accepted. Then steps: a byte whose
/// low 3 bits choose the stream, bits 3 and 4 what happens (bytes, bytes and the end, a reset, a stop), bit 5 that it
/// is a datagram; the count of the bytes, and the bytes.
pub(crate) fn streams(data: &[u8]) {
    const IDS: [u64; 8] = [4, 6, 8, 10, 0, 14, 12, 1];
    let Some((flags, mut rest)) = data.split_first() else { return };
    let mut peer = Peer::new(true);
    peer.accepts = flags & 2 == 0;
    peer.feed(2, SETTINGS, false, usize::MAX);
    if flags & 1 != 0 {
        peer.feed(0, CONNECT, false, usize::MAX);
    }
    while let [step, len, more @ ..] = rest {
        let bytes = &more[..usize::from(*len).min(more.len())];
        rest = &more[bytes.len()..];
        let (id, now) = (IDS[usize::from(step & 7)], Instant::now());
        match (step >> 5 & 1, step >> 3 & 3) {
            (1, _) => peer.connection.on_datagram(now, Bytes::copy_from_slice(bytes)),
            (_, 2) => peer.connection.on_reset(now, StreamId(id), Code(u64::from(*len))),
            (_, 3) => peer.connection.on_stop(now, StreamId(id), Code(u64::from(*len))),
            (_, how) => peer.feed(id, bytes, how == 1, 16),
        }
        peer.look();
    }
    peer.feed(0, CONNECT, false, usize::MAX);
    peer.close();
}

/// Whatever is played must be told the same, in whichever pieces it came.
fn same_in_pieces(play: impl Fn(usize) -> Peer) {
    let mut whole = play(usize::MAX);
    for piece in [1, 7] {
        let mut cut = play(piece);
        assert_eq!(cut.events, whole.events, "pieces of {piece}");
        assert_eq!(cut.close, whole.close, "pieces of {piece}");
        // A fault takes along what was not read yet.
        if !whole.faulty {
            assert_eq!(cut.bodies, whole.bodies, "pieces of {piece}");
        }
        cut.close();
    }
    whole.close();
}

/// A connection, and what its app was told.
struct Peer {
    connection: Connection,
    accepts: bool,
    events: Vec<String>,
    bodies: BTreeMap<StreamId, Vec<u8>>,
    close: Option<Code>,
    faulty: bool,
}

impl Peer {
    fn new(is_server: bool) -> Self {
        let limits = Limits { early_stream_bytes_max: 512, stream_in_bytes_max: 512, ..Limits::default() };
        let config = Arc::new(Config { limits, ..Config::default() });
        let now = Instant::now();
        let mut connection = if is_server { Connection::server(now, config) } else { Connection::client(now, config) };
        connection.on_established(now, true);
        connection.on_credit(10, 10);
        let (events, bodies) = (Vec::new(), BTreeMap::new());
        Self { connection, accepts: true, events, bodies, close: None, faulty: false }
    }

    /// Sends a request, for a client.
    fn ask(&mut self) {
        let request = Request::get("https://a.example/").body(()).expect("a valid request");
        self.connection.request(&request, None, true).expect("there is credit");
    }

    fn feed(&mut self, id: u64, mut bytes: &[u8], fin: bool, piece: usize) {
        loop {
            let room = self.connection.room(StreamId(id));
            let (now, rest) = bytes.split_at(piece.min(room).min(bytes.len()));
            let stuck = now.is_empty() && !rest.is_empty();
            self.connection.on_stream(
                Instant::now(),
                StreamId(id),
                Bytes::copy_from_slice(now),
                fin && rest.is_empty(),
            );
            self.look();
            bytes = rest;
            // An app that refuses to read, as that of a session that is not accepted, stalls the stream.
            if stuck || bytes.is_empty() {
                return;
            }
        }
    }

    /// Takes what the connection has to say.
    fn look(&mut self) {
        while let Some(action) = self.connection.poll_action() {
            if let Action::Close { code, .. } = action {
                assert_eq!(self.close.replace(code), None, "a connection closes once");
            }
        }
        while let Some(event) = self.connection.poll_event() {
            match event {
                Event::Readable(id) => self.read(id),
                Event::SessionRequest { id, .. } if self.accepts => {
                    // It may have gone meanwhile.
                    let _ = self.connection.accept_session(id, HeaderMap::new());
                }
                event => {
                    self.faulty |=
                        matches!(event, Event::Refused { .. } | Event::Closed { .. } | Event::Cancelled { .. });
                    self.events.push(format!("{event:?}"));
                }
            }
        }
        while self.connection.poll_action().is_some() {}
        assert!(self.connection.in_bytes() <= 40 * 512, "memory is bounded");
    }

    fn read(&mut self, id: StreamId) {
        let body = self.bodies.entry(id).or_default();
        while let Some(piece) = self.connection.read(id) {
            match piece {
                Piece::Data(bytes) => body.extend_from_slice(&bytes),
                Piece::Trailers(trailers) => body.extend_from_slice(format!("{trailers:?}").as_bytes()),
                Piece::End => body.extend_from_slice(b"<end>"),
            }
        }
    }

    /// Takes everything back: nothing must stay.
    fn close(&mut self) {
        for id in 0..64 {
            self.connection.reset(StreamId(id), Code::REQUEST_CANCELLED);
        }
        self.look();
        assert_eq!((self.connection.streams_len(), self.connection.in_bytes()), (0, 0), "nothing is kept");
    }
}

fn frame(kind: u8, payload: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_u8(kind);
    out.put_u32(payload.len() as u32 & 0x3fff_ffff | 0x8000_0000);
    out.put_slice(payload);
    out
}
