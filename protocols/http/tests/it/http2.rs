//! HTTP/2 as a client uses it: streams, bodies, windows, the end.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response};
use ringshard_http::{Connection, Event, Limits, Rule};

use crate::{
    client::{Client, GET, block, frame, frames, hello},
    owner::Owner,
};

fn client() -> Client {
    Client::new(Owner::of(Connection::http2))
}

#[test]
fn requests_are_answered_in_any_order() {
    for new in [Connection::http2, Connection::sniffing] {
        let mut client = Client::new(Owner::of(new));
        let mut futures: Vec<_> = (0..3).map(|index| client.get(&format!("http://a:1/{index}?q"))).collect();
        assert!(client.owner.connection.is_http2());
        let requests = std::mem::take(&mut client.owner.requests);
        assert_eq!(requests.len(), 3);
        for (index, (id, request)) in requests.into_iter().enumerate().rev() {
            assert_eq!(request.uri(), format!("/{index}?q").as_str());
            assert_eq!(request.headers()["host"], "a:1");
            client.owner.answer(id, format!("answer {index}"));
        }
        for (index, future) in futures.iter_mut().enumerate() {
            assert_eq!(client.whole(future), (200, format!("answer {index}").into_bytes()));
        }
        assert!(client.owner.connection.is_idle());
    }
}

#[test]
fn a_body_larger_than_the_first_window_flows() {
    let limits = Limits { body_max: 500_000, ..Limits::default() };
    let mut client = Client::new(Owner::with(Connection::http2, limits));
    let body: Bytes = (0..500_000u32).map(|index| (index % 249) as u8).collect();
    let (mut future, mut send) = client.request(Request::post("http://a/").body(()).unwrap(), false);
    send.send_data(body.clone(), true).unwrap();
    client.pump();
    let (id, request) = client.owner.requests.remove(0);
    assert_eq!(request.body(), &body);
    client.owner.answer(id, body.clone());
    let (head, mut stream) = client.response(&mut future).unwrap().into_parts();
    assert_eq!(head.headers["content-length"], "500000");
    let first = client.read(&mut stream).unwrap();
    assert!(first.len() < 65_536);
    let mut got = first.to_vec();
    while let Some(data) = client.read(&mut stream) {
        got.extend_from_slice(&data);
    }
    assert_eq!(got, body);
    assert!(client.owner.connection.is_idle());
}

#[test]
fn a_reader_that_opens_no_window_holds_no_output() {
    let mut client = client();
    let _futures: Vec<_> = (0..100).map(|_| client.get("http://a/large")).collect();
    let page = Bytes::from(vec![7; 1_000_000]);
    for (id, _) in std::mem::take(&mut client.owner.requests) {
        client.owner.answer(id, page.clone());
    }
    client.pump();
    assert!(client.owner.connection.deadline().is_some());
    assert_eq!(client.owner.output_bytes().len(), 0, "all windows are used up");
    client.owner.wait(30);
    assert_eq!(client.owner.refused, [Rule::Stalled]);
    assert!(client.owner.connection.wants_close());
}

#[test]
fn streams_share_the_connections_window() {
    let mut client = client();
    let mut futures: Vec<_> = (0..20).map(|_| client.get("http://a/large")).collect();
    let page = Bytes::from(vec![7; 300_000]);
    for (id, _) in std::mem::take(&mut client.owner.requests) {
        client.owner.answer(id, page.clone());
    }
    let mut streams: Vec<_> = futures.iter_mut().map(|future| client.response(future).unwrap().into_body()).collect();
    let mut got = vec![0; streams.len()];
    while got.iter().any(|len| *len < page.len()) {
        for (stream, got) in streams.iter_mut().zip(&mut got) {
            *got += client.read(stream).map_or(0, |data| data.len());
        }
        let (least, most) = (got.iter().min().unwrap(), got.iter().max().unwrap());
        assert!(most - least <= 100_000, "nobody starves: {got:?}");
    }
    assert!(streams.iter().all(h2::RecvStream::is_end_stream));
    assert!(client.owner.connection.is_idle());
}

#[test]
fn a_head_has_no_body_and_own_fields_are_removed() {
    let mut client = client();
    let request = Request::builder().method(Method::HEAD).uri("http://a/").body(()).unwrap();
    let mut future = client.request(request, true).0;
    let id = client.owner.requests.remove(0).0;
    let mut response = Response::new(Bytes::from_static(b"12345"));
    for name in ["connection", "keep-alive", "transfer-encoding", "upgrade", "content-length"] {
        response.headers_mut().insert(name, HeaderValue::from_static("9"));
    }
    client.owner.connection.respond(client.owner.now, id, response);
    let response = client.response(&mut future).unwrap();
    assert_eq!(response.headers().len(), 1);
    assert_eq!(response.headers()["content-length"], "5");
    assert!(response.body().is_end_stream());
}

#[test]
fn what_http1_refuses_http2_refuses_on_the_stream() {
    let long = format!("http://a/{}", "p".repeat(9000));
    let build = |uri: &str, headers: &[(&'static str, &'static str)]| {
        let mut request = Request::post(uri).body(()).unwrap();
        for (name, value) in headers {
            request.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        request
    };
    let mut client = client();
    for (request, rule) in [
        (build("http://a/", &[("host", "b")]), Rule::HostMismatch),
        (build("http://u@a/", &[]), Rule::HostInvalid),
        (build("ftp://a/", &[]), Rule::Target),
        (build(&long, &[]), Rule::TargetTooLong),
        (build("http://a/", &[("content-length", "99999999")]), Rule::BodyTooLarge),
        (build("http://a/", &[("expect", "x")]), Rule::Expectation),
    ] {
        let (mut future, _send) = client.request(request, false);
        let status = client.response(&mut future).unwrap().status();
        assert_eq!((std::mem::take(&mut client.owner.refused), Some(status)), (vec![rule], rule.status()));
    }
    let mut future = client.get("http://a/");
    client.owner.echo();
    assert_eq!(client.whole(&mut future).0, 200, "the connection goes on");
}

#[test]
fn a_body_beyond_the_limit_is_refused() {
    let mut client = client();
    let (mut future, mut send) = client.request(Request::post("http://a/").body(()).unwrap(), false);
    send.send_data(Bytes::from(vec![0; 70_000]), true).unwrap();
    assert_eq!(client.response(&mut future).unwrap().status(), 413);
    assert_eq!(client.owner.refused, [Rule::BodyTooLarge]);
    assert!(client.owner.requests.is_empty());
}

#[test]
fn trailers_end_a_request_and_are_dropped() {
    let mut client = client();
    let (mut future, mut send) = client.request(Request::post("http://a/").body(()).unwrap(), false);
    send.send_data(Bytes::from_static(b"body"), false).unwrap();
    client.pump();
    assert!(client.owner.requests.is_empty());
    let mut trailers = http::HeaderMap::new();
    trailers.insert("x", HeaderValue::from_static("y"));
    send.send_trailers(trailers).unwrap();
    client.pump();
    client.owner.echo();
    assert_eq!(client.whole(&mut future), (200, b"body".to_vec()));
}

#[test]
fn a_client_that_waits_for_100_gets_it() {
    let mut client = client();
    let request = Request::post("http://a/").header("expect", "100-continue").body(()).unwrap();
    let (mut future, mut send) = client.request(request, false);
    send.send_data(Bytes::from_static(b"body"), true).unwrap();
    client.pump();
    client.owner.echo();
    assert_eq!(client.whole(&mut future), (200, b"body".to_vec()));

    let mut raw = Owner::of(Connection::http2);
    let fields = [&GET[..], &[("expect", "100-continue"), ("content-length", "3")]].concat();
    raw.feed([hello(), frame(1, 4, 1, &block(&fields))].concat());
    let headers: Vec<_> = frames(&raw.output_bytes()).into_iter().filter(|frame| frame.0 == 1).collect();
    assert_eq!(headers.len(), 1);
}

#[test]
fn a_slow_body_is_refused_and_the_connection_goes_on() {
    let mut client = client();
    let (mut slow, mut send) = client.request(Request::post("http://a/slow").body(()).unwrap(), false);
    send.send_data(Bytes::from_static(b"x"), false).unwrap();
    client.pump();
    client.owner.wait(29);
    let mut fast = client.get("http://a/fast");
    client.owner.wait(1);
    assert_eq!(client.owner.refused, [Rule::SlowBody]);
    assert_eq!(client.response(&mut slow).unwrap().status(), 408);
    client.owner.echo();
    assert_eq!(client.whole(&mut fast).0, 200);
}

#[test]
fn a_drained_connection_says_goaway_and_ends_after_what_is_open() {
    let mut client = client();
    let mut future = client.get("http://a/");
    client.owner.connection.drain(client.owner.now);
    client.pump();
    assert!(!client.owner.connection.wants_close());
    client.owner.echo();
    assert_eq!(client.whole(&mut future).0, 200);
    client.pump();
    assert!(client.owner.connection.wants_close());
}

#[test]
fn an_idle_connection_gets_goaway_after_the_idle_time() {
    let mut client = client();
    let mut future = client.get("http://a/");
    client.owner.wait(100);
    assert!(!client.owner.connection.wants_close());
    client.owner.echo();
    assert_eq!(client.whole(&mut future).0, 200);
    client.owner.wait(59);
    client.pump();
    assert!(client.ended.is_none());
    client.owner.wait(1);
    client.pump();
    assert!(client.owner.connection.wants_close() && client.owner.refused.is_empty());
    assert!(client.ended.is_some());
}

#[test]
fn a_request_taken_back_does_not_disturb() {
    let mut client = client();
    let (future, mut send) = client.request(Request::get("http://a/").body(()).unwrap(), false);
    send.send_reset(h2::Reason::CANCEL);
    drop(future);
    client.pump();
    assert!(client.owner.requests.is_empty());
    let answered = client.get("http://a/");
    drop(answered);
    client.pump();
    client.owner.echo();
    client.pump();
    let mut last = client.get("http://a/");
    client.owner.echo();
    assert_eq!(client.whole(&mut last).0, 200);
    assert!(client.owner.connection.is_idle());
}

#[test]
fn a_slow_preface_is_cut_off() {
    let mut owner = Owner::of(Connection::http2);
    owner.feed("PRI * HTTP/2");
    owner.wait(10);
    assert_eq!(owner.refused, [Rule::SlowHead]);
    assert!(owner.connection.wants_close());
    let mut sniffing = Owner::of(Connection::sniffing);
    sniffing.feed("PRI * HTTP/2");
    assert_eq!((sniffing.requests.len(), sniffing.refused.len()), (0, 0));
    sniffing.wait(10);
    assert_eq!(sniffing.refused, [Rule::SlowHead]);
}

#[test]
fn pieces_of_any_size_give_the_same_requests() {
    let fields = [&GET[..], &[("x", "y")]].concat();
    let stream: Vec<u8> = [
        hello(),
        frame(1, 4, 1, &block(&fields)),
        frame(0, 0, 1, b"bo"),
        frame(1, 5, 3, &block(&GET)),
        frame(0, 1, 1, b"dy"),
    ]
    .concat();
    for size in [1, 2, 3, 10, stream.len()] {
        let mut owner = Owner::of(Connection::sniffing);
        for piece in stream.chunks(size) {
            owner.feed(piece);
        }
        owner.requests.sort_by_key(|(id, _)| *id);
        let bodies: Vec<_> = owner.requests.iter().map(|(_, request)| &request.body()[..]).collect();
        assert_eq!(bodies, [&b"body"[..], b""], "in pieces of {size}");
    }
}

#[test]
fn events_come_one_by_one_and_then_none() {
    let mut owner = Owner::of(Connection::http2);
    owner.connection.handle(owner.now, &[hello(), frame(1, 5, 1, &block(&GET))].concat());
    assert!(matches!(owner.connection.poll(), Some(Event::Request { .. })));
    assert!(owner.connection.poll().is_none());
}
