//! What the fuzz targets check, shared with the test that replays their corpora.

use bytes::BytesMut;
use session::{Client, Codec, DecodeError, Server, decode_client, decode_server, encode_client, encode_server};

/// JSON: whatever can be read is written so that it reads the same.
pub(crate) fn json(data: &[u8]) {
    round_trip(Codec::Json, data);
}

/// Frames: whatever can be read is written so that it reads the same.
pub(crate) fn binary(data: &[u8]) {
    round_trip(Codec::Binary, data);
}

fn round_trip(codec: Codec, data: &[u8]) {
    let mut out = BytesMut::new();
    if let Some(message) = bounded(decode_client(codec, data)) {
        encode_client(codec, &message, &mut out);
        assert_eq!(decode_client(codec, &out), Ok(message.clone()));
        read_by_another_codec(codec, data, &message);
    }
    out.clear();
    if let Some(message) = bounded(decode_server(codec, data)) {
        encode_server(codec, &message, &mut out);
        assert_eq!(decode_server(codec, &out), Ok(message.clone()));
        in_json(&message);
    }
}

fn bounded<T>(decoded: Result<T, DecodeError>) -> Option<T> {
    if let Err(error) = &decoded {
        assert!(error.to_string().len() < 200, "an error never echoes its input");
    }
    decoded.ok()
}

/// A client's body is put into other clients' messages as it is: those must stay messages.
fn read_by_another_codec(codec: Codec, data: &[u8], message: &Client<'_>) {
    let Client::Pub { body, .. } = message else { return };
    let push = Server::Msg { topic: "chat/x".into(), alias: 0, offset: 1, from: "a".into(), at_ms: 2, body };
    for other in [Codec::Json, Codec::Binary] {
        let mut out = BytesMut::new();
        encode_server(other, &push, &mut out);
        assert_eq!(decode_server(other, &out).as_ref(), Ok(&push), "{codec:?} {data:?}");
    }
}

/// What came in a frame can be said in JSON, too.
fn in_json(message: &Server<'_>) {
    let mut out = BytesMut::new();
    encode_server(Codec::Json, message, &mut out);
    assert!(decode_server(Codec::Json, &out).is_ok(), "{out:?}");
}
