//! How connections end: who says goodbye first, with which code, and what is still heard.

use websocket::Connection;

use crate::peer::{BINARY, CLOSE, CONTINUATION, FIN, LIMITS, PING, TEXT, closed, events, frame, output, server, text};

fn goodbye(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

#[test]
fn the_peers_goodbye_is_answered_with_its_code_and_nothing_follows() {
    let mut server = server();
    let stream = [frame(FIN | CLOSE, &goodbye(4_001, "tschüß")), frame(FIN | TEXT, b"late")].concat();
    assert_eq!(events(&mut server, &stream, 3), [closed(4_001, "tschüß", true)]);
    assert_eq!(output(&mut server), [0x88, 2, 0x0f, 0xa1]);
    assert!(server.is_closed());
    server.send_text("late");
    server.ping();
    server.close(1_000, "again");
    assert_eq!((output(&mut server), events(&mut server, &stream, 3)), (vec![], vec![]));
}

#[test]
fn a_goodbye_without_a_code_is_answered_without_one() {
    let mut server = server();
    assert_eq!(events(&mut server, &frame(FIN | CLOSE, b""), 100), [closed(1_005, "", true)]);
    assert_eq!(output(&mut server), [0x88, 0]);
}

#[test]
fn our_goodbye_waits_for_the_peers_and_messages_until_then_are_dropped() {
    let mut server = server();
    server.send_text("last words");
    server.close(1_001, "restart");
    server.send_text("too late");
    assert_eq!(output(&mut server), *b"\x81\x0alast words\x88\x09\x03\xe9restart");
    assert!(server.is_closing() && !server.is_closed());
    let crossing = [
        frame(FIN | TEXT, b"crossing"),
        frame(BINARY, b"in "),
        frame(FIN | PING, b""),
        frame(FIN | CONTINUATION, b"parts"),
        frame(FIN | CLOSE, &goodbye(1_001, "")),
    ]
    .concat();
    assert_eq!(events(&mut server, &crossing, 7), [closed(1_001, "", true)]);
    assert_eq!(output(&mut server), [], "one goodbye is enough");
    assert!(server.is_closed());
}

#[test]
fn a_peer_that_breaks_the_rules_after_our_goodbye_gets_no_second_one() {
    let mut server = server();
    server.close(1_000, "");
    output(&mut server);
    assert_eq!(events(&mut server, &[0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 100).len(), 1);
    assert_eq!(output(&mut server), []);
    assert!(server.is_closed());
}

#[test]
fn a_goodbye_between_the_fragments_of_a_message_ends_it_all() {
    let mut server = server();
    let stream = [frame(FIN | TEXT, b"whole"), frame(TEXT, b"half"), frame(FIN | CLOSE, &goodbye(1_000, ""))].concat();
    assert_eq!(events(&mut server, &stream, 100), [text("whole"), closed(1_000, "", true)]);
}

#[test]
fn two_goodbyes_that_cross_end_both_sides() {
    let (mut client, mut server) = (Connection::client(LIMITS, [7; 32]), server());
    client.close(1_000, "bye");
    server.close(1_001, &"long ".repeat(100));
    let (from_client, from_server) = (output(&mut client), output(&mut server));
    assert_eq!(events(&mut server, &from_client, 100), [closed(1_000, "bye", true)]);
    assert_eq!(events(&mut client, &from_server, 100), [closed(1_001, &"long ".repeat(100)[..123], true)]);
    assert!(client.is_closed() && server.is_closed());
}
