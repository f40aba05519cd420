//! What is wrong with a message, and how bad that is.

use bytes::BytesMut;
use session::{Client, Code, Codec, Flaw, decode_client, encode_client};

fn json(text: &str) -> (Flaw, Option<u32>, &'static str) {
    match decode_client(Codec::Json, text.as_bytes()) {
        Ok(message) => panic!("{text} is {message:?}"),
        Err(error) => (error.flaw, error.id, error.field),
    }
}

#[test]
fn text_that_is_no_json_object_is_broken() {
    //= SPEC.md#2.1
    for text in ["", "{", "[]", "\"hi\"", "hello", "{} {}", "{\"kind\":\"ping\",\"id\":1}}", "{\"id\":1"] {
        assert_eq!(json(text).0, Flaw::Broken, "{text}");
    }
}

#[test]
fn a_member_counts_once() {
    //= SPEC.md#2.3
    assert_eq!(json(r#"{"kind":"ping","id":1,"id":2}"#), (Flaw::Broken, None, "id"));
    assert_eq!(json(r#"{"kind":"ping","id":1,"\u0069d":2}"#), (Flaw::Broken, None, "id"));
    let ping = Ok(Client::Ping { id: 1 });
    for text in [
        r#"{"kind":"ping","id":1,"x":1,"x":{"id":2}}"#,
        r#"{"x":[{"kind":"pub"}],"\u0069d":1,"kind":"p\u0069ng","topic":null}"#,
    ] {
        assert_eq!(decode_client(Codec::Json, text.as_bytes()), ping, "{text}");
    }
}

#[test]
fn a_wrong_field_is_named_and_so_is_its_request() {
    //= SPEC.md#2.4
    for (text, id, field) in [
        (r#"{"id":5}"#, Some(5), "kind"),
        (r#"{"id":5,"kind":7}"#, Some(5), "kind"),
        (r#"{"kind":"ping"}"#, None, "id"),
        (r#"{"kind":"ping","id":0}"#, None, "id"),
        (r#"{"kind":"ping","id":-1}"#, None, "id"),
        (r#"{"kind":"ping","id":1.0}"#, None, "id"),
        (r#"{"kind":"ping","id":"1"}"#, None, "id"),
        (r#"{"kind":"ping","id":4294967296}"#, None, "id"),
        (r#"{"kind":"pub","id":5,"body":{}}"#, Some(5), "topic"),
        (r#"{"kind":"pub","id":5,"topic":["chat/x"],"body":{}}"#, Some(5), "topic"),
        (r#"{"kind":"pub","id":5,"topic":"chat/\ud800","body":{}}"#, Some(5), "topic"),
        (r#"{"kind":"pub","id":5,"topic":"chat/x"}"#, Some(5), "body"),
        (r#"{"kind":"pub","id":5,"topic":"chat/x","body":null}"#, Some(5), "body"),
        (r#"{"kind":"pub","id":5,"topic":"chat/x","body":"{}"}"#, Some(5), "body"),
        (r#"{"kind":"pub","id":5,"topic":"chat/x","body":[]}"#, Some(5), "body"),
        (r#"{"kind":"pub","id":5,"topic":"chat/x","body":{},"seq":1e3}"#, Some(5), "seq"),
        (r#"{"kind":"pub","id":5,"topic":"chat/x","body":{},"seq":18446744073709551616}"#, Some(5), "seq"),
        (r#"{"kind":"hello","id":5,"device":"d"}"#, Some(5), "token"),
        (r#"{"kind":"hello","id":5,"device":"d","token":""}"#, Some(5), "token"),
        (r#"{"kind":"hello","id":5,"resume":"x"}"#, Some(5), "resume"),
        (r#"{"kind":"hello","id":5,"resume":{"session":"s"}}"#, Some(5), "ticket"),
        (r#"{"kind":"hello","id":5,"token":"t","resume":{"session":"s","ticket":"t"}}"#, Some(5), "resume"),
        (r#"{"kind":"hello","id":5,"token":"t","subs":{}}"#, Some(5), "subs"),
        (r#"{"kind":"hello","id":5,"token":"t","subs":["chat/x"]}"#, Some(5), "subs"),
        (r#"{"kind":"hello","id":5,"token":"t","subs":[{}]}"#, Some(5), "topic"),
    ] {
        assert_eq!(json(text), (Flaw::Invalid, id, field), "{text}");
    }
}

#[test]
fn an_epoch_is_hexadecimal_text() {
    //= SPEC.md#2.5
    for epoch in ["1", "\"\"", "\"+1\"", "\"0x1\"", "\"00000000000000000\"", "\"g\""] {
        let text = format!(r#"{{"kind":"sub","id":5,"topic":"chat/x","epoch":{epoch}}}"#);
        assert_eq!(json(&text), (Flaw::Invalid, Some(5), "epoch"), "{text}");
    }
    let text = r#"{"kind":"sub","id":5,"topic":"chat/x","epoch":"Ff"}"#;
    let Ok(Client::Sub { epoch: Some(255), .. }) = decode_client(Codec::Json, text.as_bytes()) else { panic!() };
}

#[test]
fn an_unknown_kind_is_no_reason_to_part() {
    //= SPEC.md#2.6
    for text in [r#"{"kind":"dance","id":5}"#, r#"{"kind":"welcome","id":5}"#, r#"{"kind":"PING","id":5}"#] {
        assert_eq!(json(text), (Flaw::UnknownKind, Some(5), "kind"), "{text}");
    }
    let error = decode_client(Codec::Json, br#"{"kind":"dance"}"#).unwrap_err();
    assert_eq!(
        (error.code(), error.to_string().as_str()),
        (Code::Unimplemented, "kind: there is no such kind of message")
    );
}

/// A frame with the given first two bytes, alias, id and body.
fn frame(first: u8, kind: u8, alias: u32, id: u32, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![first, kind, 0, 0];
    frame.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
    frame.extend(alias.to_le_bytes());
    frame.extend(id.to_le_bytes());
    frame.extend(body);
    frame
}

fn binary(frame: &[u8]) -> (Flaw, Option<u32>, &'static str) {
    match decode_client(Codec::Binary, frame) {
        Ok(message) => panic!("{frame:?} is {message:?}"),
        Err(error) => (error.flaw, error.id, error.field),
    }
}

const PING: u8 = 3;
const SUB: u8 = 9;
const PUB: u8 = 13;

#[test]
fn a_frame_of_another_version_length_or_feature_is_broken() {
    //= SPEC.md#3.1
    //= SPEC.md#3.2
    //= SPEC.md#3.3
    let good = frame(1, PING, 0, 5, b"");
    assert_eq!(decode_client(Codec::Binary, &good), Ok(Client::Ping { id: 5 }));
    for len in 0..good.len() {
        assert_eq!(binary(&good[..len]).0, Flaw::Broken, "{len}");
    }
    for bad in [
        frame(0, PING, 0, 5, b""),
        frame(2, PING, 0, 5, b""),
        [&good[..], b"x"].concat(),
        frame(1 | 0x10, PING, 0, 5, b""),
        frame(1 | 0x40, PING, 0, 5, b""),
        frame(1 | 0x20, PING, 0, 5, b""),
    ] {
        assert_eq!(binary(&bad), (Flaw::Broken, None, ""), "{bad:?}");
    }
}

#[test]
fn an_offset_stands_where_it_belongs() {
    //= SPEC.md#3.4
    let mut flagged = frame(1 | 0x20, PING, 0, 5, &[0; 8]);
    flagged[4] = 0;
    assert_eq!(binary(&flagged).0, Flaw::Broken);
    let msg = frame(1, 15, 7, 0, b"\x22\x02{}");
    assert_eq!(session::decode_server(Codec::Binary, &msg).unwrap_err().flaw, Flaw::Broken);
}

#[test]
fn an_unknown_kind_is_skipped_if_it_may_be() {
    //= SPEC.md#3.5
    assert_eq!(binary(&frame(1, 99, 0, 5, b"")), (Flaw::UnknownKind, Some(5), "kind"));
    assert_eq!(binary(&frame(1, 20, 0, 5, b"")), (Flaw::UnknownKind, Some(5), "kind"));
    assert_eq!(binary(&frame(1 | 0x80, 99, 0, 5, b"\xff")), (Flaw::Ignorable, Some(5), "kind"));
}

#[test]
fn what_need_not_be_known_is_not_looked_at() {
    //= SPEC.md#3.6
    //= SPEC.md#3.7
    let mut sub = frame(1 | 0x08, SUB, 0, 5, b"\x0a\x06chat/x\xf8\x01\x07\xfa\x01\x01x\xfd\x01abcd\xf9\x01abcdefgh");
    sub[2] = 9;
    let expected = Client::Sub { id: 5, topic: "chat/x".into(), epoch: None, after: None };
    assert_eq!(decode_client(Codec::Binary, &sub), Ok(expected));
    let twice = frame(1, SUB, 0, 5, b"\x0a\x06chat/y\x0a\x06chat/x\x18\x01\x18\x02");
    let expected = Client::Sub { id: 5, topic: "chat/x".into(), epoch: None, after: Some(2) };
    assert_eq!(decode_client(Codec::Binary, &twice), Ok(expected));
    for broken in [
        &b"\x0b"[..],
        b"\x0a",
        b"\x0a\x07chat/x",
        b"\x18\xff",
        b"\x11\0\0",
        b"\0",
        b"\x18\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
    ] {
        assert_eq!(binary(&frame(1, SUB, 0, 5, broken)).0, Flaw::Broken, "{broken:?}");
    }
    for wrong in [&b"\x08\x01"[..], b"\x0a\x01\xff", b"\x0a\x06chat/x\x1a\0", b"\x0a\x06chat/x\x10\x01"] {
        assert_eq!(binary(&frame(1, SUB, 0, 5, wrong)).0, Flaw::Invalid, "{wrong:?}");
    }
}

#[test]
fn a_topic_has_a_name_or_an_alias() {
    //= SPEC.md#3.8
    assert_eq!(binary(&frame(1, PUB, 0, 5, b"\x1a\x02{}")), (Flaw::Invalid, Some(5), "topic"));
    assert_eq!(binary(&frame(1, PUB, 7, 5, b"\x0a\x06chat/x\x1a\x02{}")), (Flaw::Invalid, Some(5), "topic"));
    assert!(decode_client(Codec::Binary, &frame(1, PUB, 7, 5, b"\x1a\x02{}")).is_ok());
}

#[test]
fn a_body_is_json_in_frames_too() {
    //= SPEC.md#3.9
    for body in ["", "[]", "{", "{}{}", "{\"a\":\"\n\"}", "{\"a\":1},\"from\":\"root\"", "{\"a\":\"\"}\0"] {
        let mut out = BytesMut::new();
        encode_client(Codec::Binary, &Client::Req { id: 5, op: "a.b".into(), body: body.as_bytes() }, &mut out);
        assert_eq!(binary(&out), (Flaw::Invalid, Some(5), "body"), "{body}");
    }
}

#[test]
fn a_request_has_an_id() {
    //= SPEC.md#3.10
    assert_eq!(binary(&frame(1, PING, 0, 0, b"")), (Flaw::Invalid, None, "id"));
}
