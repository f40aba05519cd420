//! Both codecs carry the same messages, and survive what is not one.

use bytes::BytesMut;
use rand::{Rng, RngCore};
use serde_json::value::RawValue;
use session::{
    Client, Codec, Server, Topic, decode_client, decode_server, encode_client, encode_server,
    json::{DEPTH_MAX, check_object},
};

use crate::{check, sample::Sample};

const SEED: u64 = 7;
const ROUNDS: usize = 5_000;

#[test]
fn a_message_reads_as_it_was_written_in_either_codec() {
    //= SPEC.md#1.1
    let mut sample = Sample::seeded(SEED);
    for round in 0..ROUNDS {
        let (client, server) = (sample.client(), sample.server());
        for codec in [Codec::Json, Codec::Binary] {
            let mut out = BytesMut::new();
            encode_client(codec, &client, &mut out);
            assert_eq!(decode_client(codec, &out).as_ref(), Ok(&client), "seed {SEED} round {round} {codec:?}");
            out.clear();
            encode_server(codec, &server, &mut out);
            assert_eq!(decode_server(codec, &out).as_ref(), Ok(&server), "seed {SEED} round {round} {codec:?}");
        }
    }
}

#[test]
fn json_is_json_for_everybody_else() {
    let mut sample = Sample::seeded(SEED);
    for round in 0..ROUNDS {
        let mut out = BytesMut::new();
        encode_server(Codec::Json, &sample.server(), &mut out);
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert!(value["kind"].is_string(), "seed {SEED} round {round} {out:?}");
        assert!(!out.contains(&b'\n'), "one message is one line");
    }
}

#[test]
fn an_alias_stands_for_the_name_in_frames() {
    let msg = Server::Msg {
        topic: "chat/lobby".into(),
        alias: 7,
        offset: 43,
        from: "alice".into(),
        at_ms: 5,
        body: br#"{"text":"hi"}"#,
    };
    let mut out = BytesMut::new();
    encode_server(Codec::Binary, &msg, &mut out);
    let Ok(Server::Msg { topic, alias: 7, offset: 43, .. }) = decode_server(Codec::Binary, &out) else {
        panic!("{out:?}");
    };
    assert_eq!(topic, "");
    out.clear();
    let publish = Client::Pub { id: 1, topic: Topic::Alias(7), seq: None, body: b"{}" };
    encode_client(Codec::Binary, &publish, &mut out);
    assert_eq!(decode_client(Codec::Binary, &out), Ok(publish));
}

#[test]
fn messages_with_changed_bytes_are_errors_or_other_messages() {
    let mut sample = Sample::seeded(SEED);
    for _ in 0..ROUNDS {
        let (client, server) = (sample.client(), sample.server());
        for codec in [Codec::Json, Codec::Binary] {
            let mut out = BytesMut::new();
            encode_client(codec, &client, &mut out);
            hurt(&mut sample, codec, &mut out);
            out.clear();
            encode_server(codec, &server, &mut out);
            hurt(&mut sample, codec, &mut out);
        }
    }
}

fn hurt(sample: &mut Sample, codec: Codec, bytes: &mut BytesMut) {
    let rng = sample.rng();
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..bytes.len());
        match rng.random_range(0..3) {
            0 => bytes[at] = rng.random(),
            1 => bytes[at] ^= 1 << rng.random_range(0..8),
            _ => bytes.truncate(at.max(1)),
        }
    }
    match codec {
        Codec::Json => check::json(bytes),
        Codec::Binary => {
            check::binary(bytes);
            // Most hurt frames fail at their length; with a good one the body is read, too.
            if let Some(len) = bytes.len().checked_sub(16) {
                bytes[0] = 1;
                bytes[4..8].copy_from_slice(&u32::try_from(len).unwrap().to_le_bytes());
                check::binary(bytes);
            }
        }
    }
}

#[test]
fn noise_is_never_a_panic() {
    let mut sample = Sample::seeded(SEED);
    for len in 0..2_000 {
        let mut noise = vec![0; len % 200];
        sample.rng().fill_bytes(&mut noise);
        check::json(&noise);
        check::binary(&noise);
    }
}

#[test]
fn the_scanner_judges_as_serde_json_does() {
    //= SPEC.md#2.1
    const ALPHABET: &[u8] = br#"{}[]",:0123456789.-+eEtrufalsn\/ "#;
    let mut sample = Sample::seeded(SEED);
    let mut good = 0;
    for round in 0..60_000 {
        let mut text = br#"{"a":[1,{"b":"c\n"},-0.5e1,true,null],"":{}}"#.to_vec();
        for _ in 0..sample.rng().random_range(0..3) {
            let at = sample.rng().random_range(0..text.len());
            let byte = ALPHABET[sample.rng().random_range(0..ALPHABET.len())];
            match sample.rng().random_range(0..3) {
                0 => text[at] = byte,
                1 => text.insert(at, byte),
                _ => drop(text.remove(at)),
            }
        }
        let ours = check_object(&text).is_ok();
        let theirs = serde_json::from_slice::<&RawValue>(&text).is_ok_and(|raw| raw.get().starts_with('{'));
        assert_eq!(ours, theirs, "seed {SEED} round {round} {:?}", String::from_utf8_lossy(&text));
        good += usize::from(ours);
    }
    assert!((10_000..50_000).contains(&good), "both sides are met: {good}");
}

#[test]
fn deep_and_wide_hellos_are_bounded() {
    //= SPEC.md#2.2
    let deep = "[".repeat(DEPTH_MAX as usize + 1);
    assert!(decode_client(Codec::Json, format!(r#"{{"x":{deep}"#).as_bytes()).is_err());
    let wide = vec![r#"{"topic":"a/b"}"#; 257].join(",");
    let hello = |subs: &str| format!(r#"{{"kind":"hello","id":1,"token":"t","device":"d","subs":[{subs}]}}"#);
    assert!(decode_client(Codec::Json, hello(&wide).as_bytes()).is_err());
    assert!(decode_client(Codec::Json, hello(&wide[16..]).as_bytes()).is_ok());
}
