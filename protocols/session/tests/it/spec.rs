//! The specification is executable: its vectors are read from it, and each of its rules is proved by a test that names it.

use std::{collections::BTreeSet, fs, path::Path};

use bytes::BytesMut;
use session::{Client, Codec, Server, SubState, Topic, decode_client, decode_server, encode_client, encode_server};

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// One message in both codecs, out of a block of the specification.
struct Vector {
    title: String,
    from_client: bool,
    json: String,
    frame: Vec<u8>,
}

/// The blocks that are fenced by `vector`: who sends it, one line of JSON, then lines of hexadecimal bytes with comments.
fn vectors(spec: &str) -> Vec<Vector> {
    let blocks = spec.split("```vector\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks
        .map(|block| {
            let mut lines = block.lines();
            let title = lines.next().unwrap().to_owned();
            let json = lines.next().unwrap().to_owned();
            let hex: String = lines.flat_map(|line| line.split(';').next()).collect();
            let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
            let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
            Vector {
                from_client: title.starts_with("client"),
                title,
                json,
                frame: digits.chunks(2).map(byte).collect(),
            }
        })
        .collect()
}

#[test]
fn every_vector_is_the_same_message_in_both_codecs() {
    let vectors = vectors(&read("SPEC.md"));
    assert!(vectors.len() >= 20, "{}", vectors.len());
    for vector in &vectors {
        if vector.from_client { check_client(vector) } else { check_server(vector) }
    }
}

fn check_client(vector: &Vector) {
    let said = decode_client(Codec::Json, vector.json.as_bytes()).unwrap();
    let framed = decode_client(Codec::Binary, &vector.frame).unwrap();
    assert_eq!(named(framed.clone()), said, "{}", vector.title);
    let mut out = BytesMut::new();
    encode_client(Codec::Json, &said, &mut out);
    assert_eq!(std::str::from_utf8(&out).unwrap(), vector.json, "{}", vector.title);
    out.clear();
    encode_client(Codec::Binary, &framed, &mut out);
    assert_eq!(hex(&out), hex(&vector.frame), "{}", vector.title);
}

fn check_server(vector: &Vector) {
    let said = decode_server(Codec::Json, vector.json.as_bytes()).unwrap();
    let framed = decode_server(Codec::Binary, &vector.frame).unwrap();
    assert_eq!(unaliased(framed.clone()), said, "{}", vector.title);
    let mut out = BytesMut::new();
    encode_server(Codec::Json, &said, &mut out);
    assert_eq!(std::str::from_utf8(&out).unwrap(), vector.json, "{}", vector.title);
    out.clear();
    encode_server(Codec::Binary, &framed, &mut out);
    assert_eq!(hex(&out), hex(&vector.frame), "{}", vector.title);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// In the vectors alias 7 is `chat/lobby`.
const LOBBY: &str = "chat/lobby";

/// What a client said by an alias, by its name.
fn named(mut message: Client<'_>) -> Client<'_> {
    if let Client::Unsub { topic, .. }
    | Client::Pub { topic, .. }
    | Client::Eph { topic, .. }
    | Client::Ack { topic, .. } = &mut message
        && *topic == Topic::Alias(7)
    {
        *topic = LOBBY.into();
    }
    message
}

/// What a server said by an alias, by its name.
fn unaliased(mut message: Server<'_>) -> Server<'_> {
    match &mut message {
        Server::SubOk { topic, alias, .. }
        | Server::Msg { topic, alias, .. }
        | Server::Eph { topic, alias, .. }
        | Server::Presence { topic, alias, .. }
        | Server::Gap { topic, alias, .. } => {
            assert_eq!(*alias, 7);
            (*topic, *alias) = (LOBBY.into(), 0);
        }
        Server::Welcome { subs, .. } => {
            for sub in subs {
                if let SubState::Ok { alias, .. } = &mut sub.state {
                    *alias = 0;
                }
            }
        }
        Server::UnsubOk { .. }
        | Server::PubOk { .. }
        | Server::Res { .. }
        | Server::Pong { .. }
        | Server::Err { .. }
        | Server::Goaway { .. } => {}
    }
    message
}

#[test]
fn every_rule_is_proved_by_a_test_that_names_it() {
    let rules: BTreeSet<String> = read("SPEC.md")
        .lines()
        .filter_map(|line| line.strip_prefix("**")?.split_once("** ").map(|(number, _)| number.to_owned()))
        .filter(|number| number.split('.').all(|part| part.parse::<u32>().is_ok()))
        .collect();
    let files = ["src/auth.rs", "src/auth/ticket.rs", "src/name.rs"].map(read).into_iter();
    let tests = ["flaw", "story", "wire", "spec"].map(|name| read(&format!("tests/it/{name}.rs")));
    let cited: BTreeSet<String> = files
        .chain(tests)
        .flat_map(|text| {
            text.lines()
                .filter_map(|line| Some(line.trim().strip_prefix("//= SPEC.md#")?.to_owned()))
                .collect::<Vec<_>>()
        })
        .collect();
    assert!(rules.len() >= 25, "{rules:?}");
    assert_eq!(cited, rules, "cited by tests, and numbered in the specification");
}

#[test]
fn what_a_client_says_of_its_sender_is_not_even_read() {
    //= SPEC.md#4.5
    let said = br#"{"kind":"eph","topic":"chat/x","from":"root","key":"k","body":{}}"#;
    let expected = Client::Eph { topic: "chat/x".into(), key: "k".into(), body: b"{}" };
    assert_eq!(decode_client(Codec::Json, said).as_ref(), Ok(&expected));
    let body = b"\x0a\x06chat/x\x12\x04root\x1a\x01k\x22\x02{}";
    let mut frame = vec![9, 16, 0, 0, body.len() as u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    frame.extend_from_slice(body);
    assert_eq!(decode_client(Codec::Binary, &frame), Ok(expected));
}
