//! Each rule that a peer can break, the code it gets, and that it gets it as early as can be.

use websocket::{Connection, Event};

use crate::peer::{
    BINARY, CLOSE, CONTINUATION, FIN, LIMITS, PING, PONG, TEXT, closed, events, frame, output, server, text,
};

/// The server must end with `code` and `reason`, wherever the bytes are cut, and ignore what follows.
fn refused(bytes: &[u8], code: u16, reason: &str) {
    let bytes = [&frame(FIN | TEXT, b"before"), bytes, &frame(FIN | TEXT, b"after")].concat();
    for size in 1..=bytes.len() {
        let mut server = server();
        assert_eq!(
            events(&mut server, &bytes, size),
            [text("before"), closed(code, reason, false)],
            "pieces of {size}"
        );
        let answer = [&[0x88, 2 + reason.len() as u8], &code.to_be_bytes()[..], reason.as_bytes()].concat();
        assert_eq!(output(&mut server), answer);
        assert!(server.is_closed());
    }
}

#[test]
fn broken_frames_are_closed_with_1002() {
    for bit in [0x40, 0x20, 0x10] {
        refused(&frame(FIN | TEXT | bit, b"x"), 1002, "reserved bit set");
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        refused(&frame(FIN | opcode, b""), 1002, "reserved opcode");
    }
    refused(b"\x81\x01x", 1002, "unmasked frame from a client");
    refused(&frame(FIN | CONTINUATION, b"x"), 1002, "continuation of nothing");
    refused(&[frame(TEXT, b"x"), frame(FIN | TEXT, b"y")].concat(), 1002, "message inside a message");
    refused(&[frame(BINARY, b""), frame(BINARY, b"y")].concat(), 1002, "message inside a message");
    for opcode in [CLOSE, PING, PONG] {
        refused(&frame(opcode, b""), 1002, "control frame in fragments");
        refused(&frame(FIN | opcode, &[b'x'; 126]), 1002, "control frame too long");
    }
}

#[test]
fn broken_goodbyes_are_closed_with_1002_and_1007() {
    refused(&frame(FIN | CLOSE, &[3]), 1002, "half a close code");
    for code in [0_u16, 999, 1_004, 1_005, 1_006, 1_016, 2_999, 5_000] {
        refused(&frame(FIN | CLOSE, &code.to_be_bytes()), 1002, "forbidden close code");
    }
    refused(&frame(FIN | CLOSE, b"\x03\xe8\xff"), 1007, "text is not UTF-8");
}

#[test]
fn a_client_refuses_masked_frames() {
    let mut client = Connection::client(LIMITS, [7; 32]);
    let events = events(&mut client, &frame(FIN | TEXT, b"x"), 100);
    assert_eq!(events, [closed(1002, "masked frame from a server", false)]);
}

#[test]
fn text_that_is_not_utf8_is_closed_with_1007() {
    const WRONG: &str = "text is not UTF-8";
    refused(&frame(FIN | TEXT, b"\xff"), 1007, WRONG);
    refused(&frame(FIN | TEXT, b"cut \xe2\x82"), 1007, WRONG);
    refused(&frame(FIN | TEXT, b"surrogate \xed\xa0\x80"), 1007, WRONG);
    refused(&frame(FIN | TEXT, b"overlong \xc0\xaf"), 1007, WRONG);
    refused(&frame(FIN | TEXT, b"beyond \xf4\x90\x80\x80"), 1007, WRONG);
    refused(&[frame(TEXT, b"\xe2\x82"), frame(FIN | CONTINUATION, b"x")].concat(), 1007, WRONG);
    refused(&[frame(TEXT, b"ok"), frame(CONTINUATION, b""), frame(FIN | CONTINUATION, b"\xe2")].concat(), 1007, WRONG);
}

#[test]
fn text_fails_at_its_first_wrong_byte_not_at_the_end_of_its_frame() {
    let bytes = frame(FIN | TEXT, b"\xce\xba\xe1\xbd\xb9\xf4\x90\x80\x80edited");
    let wrong = 6 + 6; // the header with its mask, and up to the first byte after the F4
    let mut server = server();
    assert_eq!(events(&mut server, &bytes[..wrong], 1), []);
    assert!(matches!(events(&mut server, &bytes[wrong..=wrong], 1)[..], [Event::Closed { code: 1007, .. }]));
}

#[test]
fn what_is_too_big_is_closed_with_1009_at_its_header() {
    refused(&frame(FIN | BINARY, &[0; 601]), 1009, "message too big");
    refused(&[frame(BINARY, &[0; 600]), frame(FIN | CONTINUATION, &[0; 401])].concat(), 1009, "message too big");
    refused(b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x02\x03\x04", 1009, "message too big");
    let most = [frame(BINARY, &[0; 600]), frame(FIN | CONTINUATION, &[0; 400])].concat();
    assert_eq!(events(&mut server(), &most, 50).len(), 1, "a message of exactly the limit passes");
}
