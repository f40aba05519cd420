//! Messages arrive whole and in order, in whatever frames and pieces they come.

use std::borrow::Cow;

use websocket::{Connection, Event, Limits};

use crate::peer::{BINARY, CONTINUATION, FIN, LIMITS, PING, PONG, TEXT, binary, events, frame, output, server, text};

#[test]
fn messages_are_the_same_wherever_the_stream_is_cut() {
    let stream = [
        frame(FIN | TEXT, b""),
        frame(FIN | TEXT, "grüße".as_bytes()),
        frame(TEXT, "gr\u{fc}".as_bytes().split_at(3).0),
        frame(FIN | PING, b"between"),
        frame(CONTINUATION, "gr\u{fc}".as_bytes().split_at(3).1),
        frame(CONTINUATION, b""),
        frame(FIN | PONG, b"unasked"),
        frame(FIN | CONTINUATION, b"n"),
        frame(BINARY, &[0xff; 300]),
        frame(FIN | CONTINUATION, &[0xfe; 200]),
        frame(BINARY, b""),
        frame(FIN | CONTINUATION, b"late"),
        frame(FIN | BINARY, &[]),
    ]
    .concat();
    let long = [[0xff; 300].as_slice(), &[0xfe; 200]].concat();
    let expected = [text(""), text("grüße"), Event::Pong, text("grün"), binary(&long), binary(b"late"), binary(b"")];
    for size in 1..=stream.len() {
        let mut server = server();
        assert_eq!(events(&mut server, &stream, size), expected, "in pieces of {size}");
        assert_eq!(output(&mut server), *b"\x8a\x07between");
        assert!(!server.is_closing());
    }
}

#[test]
fn a_whole_message_is_handed_out_where_it_lies() {
    let mut bytes = [frame(FIN | TEXT, b"hello"), frame(FIN | BINARY, b"world")].concat();
    let range = bytes.as_ptr_range();
    let (mut server, mut input) = (server(), &mut bytes[..]);
    let Some(Event::Text(Cow::Borrowed(hello))) = server.next(&mut input) else { panic!("copied") };
    let Some(Event::Binary(Cow::Borrowed(world))) = server.next(&mut input) else { panic!("copied") };
    assert!(range.contains(&hello.as_ptr()) && range.contains(&world.as_ptr()));
    assert_eq!((hello, world), ("hello", &b"world"[..]));
}

#[test]
fn pings_are_answered_each_and_in_order() {
    let mut server = server();
    let pings: Vec<u8> = (0..10).flat_map(|number| frame(FIN | PING, &[number; 125])).collect();
    assert_eq!(events(&mut server, &pings, 64), []);
    let pongs: Vec<u8> = (0..10).flat_map(|number| [&[0x8a, 125][..], &[number; 125]].concat()).collect();
    assert_eq!(output(&mut server), pongs);
}

#[test]
fn both_ends_understand_each_other() {
    let limits = Limits { message_max: 200_000, frame_max: 200_000 };
    let (mut client, mut server) = (Connection::client(limits, [7; 32]), Connection::server(limits));
    for len in [0, 1, 125, 126, 65_535, 65_536, 200_000] {
        let payload = "é".repeat(len / 2);
        client.send_text(&payload);
        client.send_binary(payload.as_bytes());
        client.ping();
        let sent = output(&mut client);
        assert_eq!(events(&mut server, &sent, 4_096), [text(&payload), binary(payload.as_bytes())]);
        server.send_text(&payload);
        server.send_binary(payload.as_bytes());
        let sent = output(&mut server);
        assert_eq!(events(&mut client, &sent, 4_096), [Event::Pong, text(&payload), binary(payload.as_bytes())]);
    }
}

#[test]
fn a_clients_masks_differ_and_hide_the_payload() {
    let mut client = Connection::client(LIMITS, [1; 32]);
    client.send_text("aaaaaaaa");
    client.send_text("aaaaaaaa");
    let sent = output(&mut client);
    let (first, second) = sent.split_at(14);
    assert_ne!(first[2..6], second[2..6]);
    assert_ne!(&first[6..], b"aaaaaaaa");
}
