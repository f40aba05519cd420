//! Whatever a hostile client, or server, can do against RFC 9114 sections 4 to 8 and RFC 9204: the code that ends it.

use super::*;

/// How a case must end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// The connection closes with the code.
    Close(Code),
    /// The stream is reset with the code, and the next request is served.
    Reset(Code),
    /// The request is answered with the status, and the next one is served.
    Status(u16),
    /// Nothing ends.
    Fine,
}

/// What is sent: on which stream, and whether that ends there.
type Sent<'a> = &'a [(u64, Vec<u8>, bool)];

fn outcome(connection: &mut Connection, sent: Sent<'_>) -> End {
    for (id, bytes, fin) in sent {
        feed(connection, *id, bytes, *fin);
    }
    let actions = drain_actions(connection);
    if let Some(code) = closed(&actions) {
        assert!(connection.is_over() && connection.streams.is_empty());
        return End::Close(code);
    }
    let refused = drain_events(connection).into_iter().find_map(|event| match event {
        Event::Refused { verdict: Verdict::Reset(code), .. } => Some(End::Reset(code)),
        Event::Refused { verdict: Verdict::Status(status), .. } => Some(End::Status(status)),
        _ => None,
    });
    match refused {
        Some(End::Reset(code)) => {
            let gone =
                |action: &&Action| matches!(action, Action::Reset(_, found) | Action::Stop(_, found) if *found == code);
            assert!(actions.iter().find(gone).is_some(), "no reset in {actions:?}");
        }
        Some(End::Status(_)) => assert!(actions.iter().any(|action| matches!(action, Action::Write { fin: true, .. }))),
        _ => {}
    }
    refused.unwrap_or(End::Fine)
}

/// Runs a case against a server; a stream error must leave the connection able to serve.
fn check(name: &str, sent: Sent<'_>, expected: End) {
    let mut connection = server(config());
    assert_eq!(outcome(&mut connection, sent), expected, "{name}");
    if !matches!(expected, End::Close(_)) {
        feed(&mut connection, 400, &headers(&GET), true);
        let served =
            drain_events(&mut connection).iter().any(|event| matches!(event, Event::Request { id, .. } if id.0 == 400));
        assert!(served, "{name}: the next request is not served");
    }
    // Byte by byte it ends the same.
    let mut slow = server(config());
    let single: Vec<_> = sent.iter().flat_map(|(id, bytes, fin)| bytewise(*id, bytes, *fin)).collect();
    assert_eq!(outcome(&mut slow, &single), expected, "{name}, byte by byte");
}

fn bytewise(id: u64, bytes: &[u8], fin: bool) -> Vec<(u64, Vec<u8>, bool)> {
    let mut out: Vec<_> = bytes.iter().map(|byte| (id, vec![*byte], false)).collect();
    match out.last_mut() {
        Some(last) => last.2 = fin,
        None => out.push((id, Vec::new(), fin)),
    }
    out
}

fn on_request(bytes: Vec<u8>) -> Vec<(u64, Vec<u8>, bool)> {
    vec![(0, bytes, false)]
}

fn ended(bytes: Vec<u8>) -> Vec<(u64, Vec<u8>, bool)> {
    vec![(0, bytes, true)]
}

fn on_control(bytes: Vec<u8>) -> Vec<(u64, Vec<u8>, bool)> {
    vec![(2, bytes, false)]
}

const UNEXPECTED: End = End::Close(Code::FRAME_UNEXPECTED);
const MALFORMED: End = End::Reset(Code::MESSAGE_ERROR);
const BROKEN_FRAME: End = End::Close(Code::FRAME_ERROR);
const WRONG_ID: End = End::Close(Code::ID_ERROR);

#[test]
fn frames_on_a_request_stream() {
    let get = headers(&GET);
    let data = frame(kind::DATA, b"x");
    check("DATA first", &on_request(data.clone()), UNEXPECTED);
    check("DATA behind trailers", &on_request(concat(&[&get, &headers(&[(b"x", b"y")]), &data])), UNEXPECTED);
    let trailers = headers(&[(b"x", b"y")]);
    check("HEADERS behind trailers", &on_request(concat(&[&get, &data, &trailers, &trailers])), UNEXPECTED);
    for of_control in [
        kind::CANCEL_PUSH,
        kind::SETTINGS,
        kind::GOAWAY,
        kind::MAX_PUSH_ID,
        kind::PUSH_PROMISE,
        kind::PRIORITY_UPDATE_REQUEST,
        kind::PRIORITY_UPDATE_PUSH,
    ] {
        check("a frame of the control stream first", &on_request(frame(of_control, &[0])), UNEXPECTED);
        check("and behind a head", &on_request(concat(&[&get, &frame(of_control, &[0])])), UNEXPECTED);
    }
    for of_http2 in [0x2, 0x6, 0x8, 0x9] {
        check("a frame of HTTP/2", &on_request(concat(&[&get, &frame(of_http2, b"x")])), UNEXPECTED);
        check("a frame of HTTP/2 first", &on_request(frame(of_http2, b"")), UNEXPECTED);
    }
    let grease = frame(frame::grease(3), &[0; 300]);
    check("unknown frames are skipped", &ended(concat(&[&grease, &get, &grease, &data, &grease])), End::Fine);
    check("an empty DATA", &ended(concat(&[&get, &frame(kind::DATA, b"")])), End::Fine);
}

#[test]
fn streams_that_end_in_the_middle() {
    let get = headers(&GET);
    check("no byte", &ended(vec![]), End::Reset(Code::REQUEST_INCOMPLETE));
    check("only an unknown frame", &ended(frame(frame::grease(0), b"x")), End::Reset(Code::REQUEST_INCOMPLETE));
    check("a cut type", &ended(vec![0x40]), BROKEN_FRAME);
    check("a type without a length", &ended(vec![1]), BROKEN_FRAME);
    check("a cut HEADERS", &ended(get[..get.len() - 1].to_vec()), BROKEN_FRAME);
    check("a cut DATA", &ended(concat(&[&get, &[0, 5, b'x']])), BROKEN_FRAME);
    check("a cut unknown frame", &ended(concat(&[&get, &[0x21, 5, b'x']])), BROKEN_FRAME);
    check("a cut length behind a head", &ended(concat(&[&get, &[0, 0x40]])), BROKEN_FRAME);
}

#[test]
fn malformed_requests() {
    type Head<'a> = &'a [Field<'a>];
    let cases: &[(&str, Head<'_>)] = &[
        ("no :method", &[GET[1], GET[2], GET[3]]),
        ("no :scheme", &[GET[0], GET[2], GET[3]]),
        ("no :path", &[GET[0], GET[1], GET[3]]),
        ("no authority", &[GET[0], GET[1], GET[2]]),
        ("empty :path", &[GET[0], GET[1], (b":path", b""), GET[3]]),
        ("two :method", &[GET[0], GET[0], GET[1], GET[2], GET[3]]),
        ("two :path", &[GET[0], GET[1], GET[2], GET[2], GET[3]]),
        ("two :authority", &[GET[0], GET[1], GET[2], GET[3], GET[3]]),
        ("unknown pseudo-header", &[GET[0], GET[1], GET[2], GET[3], (b":x", b"y")]),
        ("a response's pseudo-header", &[GET[0], GET[1], GET[2], GET[3], (b":status", b"200")]),
        ("a late pseudo-header", &[GET[0], GET[1], GET[2], (b"x", b"y"), GET[3]]),
        ("host differs", &[GET[0], GET[1], GET[2], GET[3], (b"host", b"b.example")]),
        ("user in :authority", &[GET[0], GET[1], GET[2], (b":authority", b"me@a.example")]),
        ("connection", &[GET[0], GET[1], GET[2], GET[3], (b"connection", b"close")]),
        ("keep-alive", &[GET[0], GET[1], GET[2], GET[3], (b"keep-alive", b"1")]),
        ("proxy-connection", &[GET[0], GET[1], GET[2], GET[3], (b"proxy-connection", b"1")]),
        ("transfer-encoding", &[GET[0], GET[1], GET[2], GET[3], (b"transfer-encoding", b"chunked")]),
        ("upgrade", &[GET[0], GET[1], GET[2], GET[3], (b"upgrade", b"x")]),
        ("te", &[GET[0], GET[1], GET[2], GET[3], (b"te", b"gzip")]),
        ("a line feed", &[GET[0], GET[1], GET[2], GET[3], (b"x", b"a\nb: c")]),
        ("a NUL", &[GET[0], GET[1], GET[2], GET[3], (b"x", b"\0")]),
        ("white space before", &[GET[0], GET[1], GET[2], GET[3], (b"x", b" y")]),
        ("a name with a colon", &[GET[0], GET[1], GET[2], GET[3], (b"x:y", b"")]),
        ("lengths differ", &[GET[0], GET[1], GET[2], GET[3], (b"content-length", b"1"), (b"content-length", b"2")]),
        ("a length with a sign", &[GET[0], GET[1], GET[2], GET[3], (b"content-length", b"+1")]),
        ("CONNECT with :path", &[(b":method", b"CONNECT"), GET[2], (b":authority", b"a:1")]),
        ("CONNECT with :scheme", &[(b":method", b"CONNECT"), GET[1], (b":authority", b"a:1")]),
        ("CONNECT without :authority", &[(b":method", b"CONNECT")]),
        ("CONNECT without a port", &[(b":method", b"CONNECT"), (b":authority", b"a")]),
        (":protocol without CONNECT", &[GET[0], GET[1], GET[2], GET[3], (b":protocol", b"websocket")]),
        ("an empty section", &[]),
    ];
    for (name, fields) in cases {
        check(name, &ended(headers(fields)), MALFORMED);
    }
    // quiche's encoder writes names in lower case, so upper case is written by hand: literals without a reference.
    let mut upper = concat(&[b"\0\0\xd1\xd7\xc1\x50\x01a", b"\x21X\x01y"]);
    upper = frame(kind::HEADERS, &upper);
    check("upper case", &ended(upper), MALFORMED);
    let mut lower = concat(&[b"\0\0\xd1\xd7\xc1\x50\x01a", b"\x21x\x01y"]);
    lower = frame(kind::HEADERS, &lower);
    check("the same in lower case", &ended(lower), End::Fine);
}

#[test]
fn content_length_must_be_the_truth() {
    let post = with(&GET, &[(b"content-length", b"3")]);
    let data = |bytes: &[u8]| frame(kind::DATA, bytes);
    check("too short", &ended(concat(&[&post, &data(b"ab")])), MALFORMED);
    check("none", &ended(post.clone()), MALFORMED);
    check("too long", &on_request(concat(&[&post, &data(b"abcd")])), MALFORMED);
    check("too long in two", &on_request(concat(&[&post, &data(b"abc"), &data(b"d")])), MALFORMED);
    check("true", &ended(concat(&[&post, &data(b"a"), &data(b"bc")])), End::Fine);
    let trailers = headers(&[(b"x", b"y")]);
    check("true, with trailers", &ended(concat(&[&post, &data(b"abc"), &trailers])), End::Fine);
    check("too short, with trailers", &ended(concat(&[&post, &data(b"ab"), &trailers])), MALFORMED);
}

#[test]
fn trailers() {
    let get = headers(&GET);
    check("pseudo-header", &ended(concat(&[&get, &headers(&[(b":path", b"/")])])), MALFORMED);
    check("connection", &ended(concat(&[&get, &headers(&[(b"connection", b"x")])])), MALFORMED);
    let broken = frame(kind::HEADERS, b"\0\0\x80");
    check("undecodable", &ended(concat(&[&get, &broken])), End::Close(Code::QPACK_DECOMPRESSION_FAILED));
    check("valid", &ended(concat(&[&get, &headers(&[(b"x", b"y")])])), End::Fine);
}

#[test]
fn qpack() {
    let failed = End::Close(Code::QPACK_DECOMPRESSION_FAILED);
    for (name, section) in [
        ("nothing", &b""[..]),
        ("an insert count", b"\x02\0\xd1"),
        ("a dynamic index", b"\0\0\x80"),
        ("a dynamic name", b"\0\0\x40\x01a"),
        ("a post-base index", b"\0\0\x10"),
        ("a post-base name", b"\0\0\0\x01a"),
        ("a static index too large", b"\0\0\xff\x24"),
        ("a cut string", b"\0\0\x51\x05a"),
        ("a broken Huffman code", b"\0\0\x51\x84\xff\xff\xff\xff"),
        ("an integer without an end", b"\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
    ] {
        check(name, &on_request(frame(kind::HEADERS, section)), failed);
    }
    let encoder = |bytes: &[u8]| vec![(6, concat(&[&[2], bytes]), false)];
    let decoder = |bytes: &[u8]| vec![(6, concat(&[&[3], bytes]), false)];
    check("an insertion", &encoder(b"\xc0\x01a"), End::Close(Code::QPACK_ENCODER_STREAM_ERROR));
    check("a capacity", &encoder(b"\x3f\xe1\x1f"), End::Close(Code::QPACK_ENCODER_STREAM_ERROR));
    check("capacity 0", &encoder(b"\x20"), End::Fine);
    check("an acknowledgement", &decoder(b"\x80"), End::Close(Code::QPACK_DECODER_STREAM_ERROR));
    check("an increment", &decoder(b"\x01"), End::Close(Code::QPACK_DECODER_STREAM_ERROR));
    check("an increment by 0", &decoder(b"\x00"), End::Close(Code::QPACK_DECODER_STREAM_ERROR));
    check("a cancellation", &decoder(b"\x44\x7f\x80\x01"), End::Fine);
}

#[test]
fn the_control_stream() {
    let goaway = |id: u8| frame(kind::GOAWAY, &[id]);
    for wrong in [kind::DATA, kind::HEADERS, kind::PUSH_PROMISE, 0x2, 0x6, 0x8, 0x9] {
        check("a frame of requests", &on_control(frame(wrong, b"")), UNEXPECTED);
    }
    check("SETTINGS twice", &on_control(frame(kind::SETTINGS, b"")), UNEXPECTED);
    check("unknown frames", &on_control(frame(frame::grease(1), &[0; 9_000])), End::Fine);
    check("GOAWAY of no byte", &on_control(frame(kind::GOAWAY, b"")), BROKEN_FRAME);
    check("GOAWAY with more", &on_control(frame(kind::GOAWAY, &[0, 0])), BROKEN_FRAME);
    check("GOAWAY far too long", &on_control(frame(kind::GOAWAY, &[0; 20])), BROKEN_FRAME);
    // Without a request open, a GOAWAY is an orderly end.
    check("GOAWAY", &on_control(goaway(9)), End::Close(Code::NO_ERROR));
    let open = (0, headers(&GET), false);
    check("GOAWAY rises", &[open.clone(), (2, goaway(1), false), (2, goaway(2), false)], WRONG_ID);
    check("GOAWAY falls", &[open.clone(), (2, goaway(2), false), (2, goaway(1), false)], End::Fine);
    let max = |id: u8| frame(kind::MAX_PUSH_ID, &[id]);
    check("MAX_PUSH_ID falls", &on_control(concat(&[&max(5), &max(4)])), WRONG_ID);
    check("MAX_PUSH_ID rises", &on_control(concat(&[&max(4), &max(5), &max(5)])), End::Fine);
    check("MAX_PUSH_ID of no byte", &on_control(frame(kind::MAX_PUSH_ID, b"")), BROKEN_FRAME);
    check("CANCEL_PUSH", &on_control(concat(&[&max(9), &frame(kind::CANCEL_PUSH, &[0])])), WRONG_ID);
    check("CANCEL_PUSH with more", &on_control(frame(kind::CANCEL_PUSH, &[0, 0])), BROKEN_FRAME);
    check("its end", &[(2, vec![], true)], End::Close(Code::CLOSED_CRITICAL_STREAM));
    check("its end in a frame", &[(2, vec![7], true)], End::Close(Code::CLOSED_CRITICAL_STREAM));
    check("a second one", &[(6, vec![0], false)], End::Close(Code::STREAM_CREATION_ERROR));
}

#[test]
fn priority_updates() {
    let update = |kind, id: &[u8]| on_control(frame(kind, &concat(&[id, b"u=1"])));
    check("of a request to come", &update(kind::PRIORITY_UPDATE_REQUEST, &[8]), End::Fine);
    check("of no request", &update(kind::PRIORITY_UPDATE_REQUEST, &[2]), WRONG_ID);
    check("of one beyond the streams", &update(kind::PRIORITY_UPDATE_REQUEST, &[0x7f, 0xfc]), WRONG_ID);
    check("of a push", &update(kind::PRIORITY_UPDATE_PUSH, &[0]), WRONG_ID);
    check("cut", &on_control(frame(kind::PRIORITY_UPDATE_REQUEST, b"\x40")), BROKEN_FRAME);
    let odd = frame(kind::PRIORITY_UPDATE_REQUEST, b"\0\xff;;=,,u=99");
    check("unreadable is ignored", &on_control(odd), End::Fine);
}

#[test]
fn settings_come_first_and_are_right() {
    let first = |bytes: &[u8]| outcome(&mut fresh(true, config()), &[(2, concat(&[&[0], bytes]), false)]);
    assert_eq!(first(&frame(kind::SETTINGS, b"")), End::Fine);
    for other in [kind::GOAWAY, kind::DATA, kind::MAX_PUSH_ID, frame::grease(1), 0x2] {
        assert_eq!(first(&frame(other, &[0])), End::Close(Code::MISSING_SETTINGS));
    }
    for forbidden in [0, 2, 3, 4, 5] {
        assert_eq!(first(&frame(kind::SETTINGS, &[forbidden, 0])), End::Close(Code::SETTINGS_ERROR));
    }
    assert_eq!(first(&frame(kind::SETTINGS, &[6, 1, 6, 1])), End::Close(Code::SETTINGS_ERROR));
    assert_eq!(first(&frame(kind::SETTINGS, &[8, 2])), End::Close(Code::SETTINGS_ERROR));
    assert_eq!(first(&frame(kind::SETTINGS, &[0x33, 2])), End::Close(Code::SETTINGS_ERROR));
    assert_eq!(first(&frame(kind::SETTINGS, &[6])), BROKEN_FRAME);
    let mut without = Connection::server(Instant::now(), Arc::new(config()));
    without.on_established(Instant::now(), false);
    drain_actions(&mut without);
    assert_eq!(outcome(&mut without, &[(2, settings(), false)]), End::Close(Code::SETTINGS_ERROR));
}

#[test]
fn unidirectional_streams() {
    check("a push", &[(6, vec![1], false)], End::Close(Code::STREAM_CREATION_ERROR));
    check("a second encoder", &[(6, vec![2], false), (10, vec![2], false)], End::Close(Code::STREAM_CREATION_ERROR));
    check("a second decoder", &[(6, vec![3], false), (10, vec![3], false)], End::Close(Code::STREAM_CREATION_ERROR));
    check("the encoder's end", &[(6, vec![2], true)], End::Close(Code::CLOSED_CRITICAL_STREAM));
    check("the decoder's end", &[(6, vec![3], true)], End::Close(Code::CLOSED_CRITICAL_STREAM));
    check("no type", &[(6, vec![], true)], End::Fine);
    check("a cut type", &[(6, vec![0x40], true)], End::Fine);
    let mut connection = server(config());
    feed(&mut connection, 6, b"\x21whatever", false);
    assert_eq!(drain_actions(&mut connection), [Action::Stop(StreamId(6), Code::STREAM_CREATION_ERROR)]);
    feed(&mut connection, 6, b"\0\0\0", true);
    assert!(drain_actions(&mut connection).is_empty() && !connection.is_over(), "what follows is nobody's");
}

#[test]
fn resets_and_stops_of_critical_streams() {
    for act in [
        |connection: &mut Connection| connection.on_reset(Instant::now(), StreamId(2), Code::NO_ERROR),
        |connection: &mut Connection| connection.on_stop(Instant::now(), StreamId(3), Code::NO_ERROR),
    ] {
        let mut connection = server(config());
        act(&mut connection);
        assert_eq!(closed(&drain_actions(&mut connection)), Some(Code::CLOSED_CRITICAL_STREAM));
        assert!(matches!(
            drain_events(&mut connection)[..],
            [Event::Closed { code: Code::CLOSED_CRITICAL_STREAM, .. }]
        ));
    }
}

#[test]
fn tunnels_have_no_trailers() {
    let connect: [Field<'_>; 2] = [(b":method", b"CONNECT"), (b":authority", b"a:1")];
    let trailers = headers(&[(b"x", b"y")]);
    check("CONNECT", &on_request(concat(&[&headers(&connect), &frame(kind::DATA, b"x")])), End::Fine);
    check("CONNECT", &on_request(concat(&[&headers(&connect), &trailers])), UNEXPECTED);
    check("a session", &on_request(concat(&[&headers(&CONNECT_WT), &trailers])), UNEXPECTED);
}

#[test]
fn what_a_server_can_do_to_a_client() {
    let case = |name: &str, sent: Sent<'_>, expected: End| {
        let mut connection = fresh(false, config());
        let id = connection.request(&get("/"), None, true).expect("there is credit");
        assert_eq!(id, StreamId(0));
        feed(&mut connection, 3, &settings(), false);
        drain_actions(&mut connection);
        drain_events(&mut connection);
        assert_eq!(outcome(&mut connection, sent), expected, "{name}");
    };
    let head: &[Field<'_>] = &[(b":status", b"200")];
    let push = End::Close(Code::ID_ERROR);
    case("a push stream", &[(7, vec![1, 0], false)], push);
    case("a promise", &on_request(frame(kind::PUSH_PROMISE, &[0])), push);
    case("a promise behind the head", &on_request(concat(&[&headers(head), &frame(kind::PUSH_PROMISE, &[0])])), push);
    case("CANCEL_PUSH", &[(3, frame(kind::CANCEL_PUSH, &[0]), false)], push);
    case("MAX_PUSH_ID", &[(3, frame(kind::MAX_PUSH_ID, &[0]), false)], UNEXPECTED);
    case("PRIORITY_UPDATE", &[(3, frame(kind::PRIORITY_UPDATE_REQUEST, &[0]), false)], UNEXPECTED);
    case("GOAWAY of no request", &[(3, frame(kind::GOAWAY, &[1]), false)], WRONG_ID);
    case("GOAWAY rises", &[(3, frame(kind::GOAWAY, &[4]), false), (3, frame(kind::GOAWAY, &[8]), false)], WRONG_ID);
    case("a bidirectional stream", &[(1, headers(&GET), false)], End::Close(Code::STREAM_CREATION_ERROR));
    case("no response", &ended(vec![]), MALFORMED);
    case("only an informational one", &ended(headers(&[(b":status", b"103")])), MALFORMED);
    case("101", &ended(headers(&[(b":status", b"101")])), MALFORMED);
    case("no status", &ended(headers(&[(b"x", b"y")])), MALFORMED);
    case("a request", &ended(headers(&GET)), MALFORMED);
    case("DATA first", &ended(frame(kind::DATA, b"x")), UNEXPECTED);
    case(
        "DATA behind an informational one",
        &ended(concat(&[&headers(&[(b":status", b"103")]), &frame(0, b"x")])),
        UNEXPECTED,
    );
    let short = headers(&[(b":status", b"200"), (b"content-length", b"2")]);
    case("a lie", &ended(concat(&[&short, &frame(kind::DATA, b"x")])), MALFORMED);
    let huge = frame(kind::HEADERS, &vec![0; 20_000]);
    case("a huge head", &on_request(huge), End::Reset(Code::EXCESSIVE_LOAD));
    case("a WebTransport stream inside", &on_request(concat(&[&headers(head), &[0x40, 0x41, 0]])), BROKEN_FRAME);
    case("fine", &ended(concat(&[&headers(&[(b":status", b"103")]), &headers(head), &frame(0, b"x")])), End::Fine);
}
