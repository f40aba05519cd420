//! Keep-alive, pipelining, and the end of a connection.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use ringshard_http::{PIPELINE_MAX, RequestId, Rule};

use crate::owner::{Owner, paths};

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

#[test]
fn answers_leave_in_the_order_of_the_requests() {
    let mut owner = Owner::http1();
    owner.feed(get("/1") + &get("/2") + &get("/3"));
    assert_eq!(paths(&owner), ["/1", "/2", "/3"]);
    let ids: Vec<_> = owner.requests.iter().map(|(id, _)| *id).collect();
    owner.answer(ids[2], "three");
    owner.answer(ids[1], "two");
    assert_eq!(owner.output(), "", "the first answer is still missing");
    owner.answer(ids[0], "one");
    let answer = |body: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    assert_eq!(owner.output(), answer("one") + &answer("two") + &answer("three"));
    owner.answer(ids[1], "two again");
    owner.answer(RequestId(77), "never asked");
    assert_eq!(owner.output(), "");
    assert!(owner.connection.is_idle());
}

#[test]
fn no_more_than_a_bounded_number_of_requests_is_open() {
    let mut owner = Owner::http1();
    let all: String = (0..1000).map(|index| get(&format!("/{index}"))).collect();
    owner.feed(&all);
    assert_eq!(owner.requests.len(), PIPELINE_MAX);
    assert!(!owner.connection.wants_input(), "the owner is asked to pause");
    for index in 0..1000 {
        assert_eq!(owner.requests[0].1.uri().path(), format!("/{index}"));
        owner.echo();
        assert!(owner.requests.len() <= PIPELINE_MAX);
        let _ = owner.output_bytes();
        owner.poll();
    }
    assert!(owner.connection.wants_input() && owner.connection.is_idle());
}

#[test]
fn a_head_is_answered_without_the_body() {
    let mut owner = Owner::http1();
    owner.feed("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
    let id = owner.requests.remove(0).0;
    owner.answer(id, "12345");
    assert_eq!(owner.output(), "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n");
}

#[test]
fn framing_fields_are_the_layers_own() {
    let mut owner = Owner::http1();
    owner.feed(get("/"));
    let id = owner.requests.remove(0).0;
    let mut response = Response::new(Bytes::from_static(b"body"));
    for name in ["content-length", "transfer-encoding", "connection", "keep-alive", "upgrade", "trailer"] {
        response.headers_mut().insert(name, HeaderValue::from_static("7"));
    }
    response.headers_mut().insert("x-kept", HeaderValue::from_static("yes"));
    owner.connection.respond(owner.now, id, response);
    assert_eq!(owner.output(), "HTTP/1.1 200 OK\r\nx-kept: yes\r\ncontent-length: 4\r\n\r\nbody");
}

#[test]
fn answers_without_a_body_say_nothing_of_its_length() {
    for status in [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED] {
        let mut owner = Owner::http1();
        owner.feed(get("/"));
        let id = owner.requests.remove(0).0;
        let mut response = Response::new(Bytes::from_static(b"never sent"));
        *response.status_mut() = status;
        owner.connection.respond(owner.now, id, response);
        assert!(owner.output().ends_with("\r\n\r\n"));
    }
}

#[test]
fn a_connection_ends_when_the_client_says_so() {
    for (request, kept) in [
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: x, CLOSE\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, close\r\n\r\n", false),
        ("GET / HTTP/1.1\r\nHost: a\r\nConnection: closer\r\n\r\n", true),
        ("GET / HTTP/1.0\r\nHost: a\r\n\r\n", false),
        ("GET / HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n", true),
    ] {
        let mut owner = Owner::http1();
        owner.feed(request);
        owner.feed(get("/after"));
        assert_eq!(owner.requests.len(), if kept { 2 } else { 1 }, "{request}");
        owner.echo();
        assert!(!owner.connection.wants_close(), "not before the output is taken");
        assert_eq!(owner.output().contains("connection: close"), !kept, "{request}");
        assert_eq!(owner.connection.wants_close(), !kept);
    }
}

#[test]
fn an_old_client_is_told_that_the_connection_stays() {
    let mut owner = Owner::http1();
    owner.feed("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n");
    owner.echo();
    assert!(owner.output().contains("\r\nconnection: keep-alive\r\n"));
}

#[test]
fn a_refusal_comes_after_the_answers_before_it() {
    let mut owner = Owner::http1();
    owner.feed(get("/1") + "broken\r\n\r\n" + &get("/2"));
    assert_eq!((paths(&owner), &owner.refused[..]), (vec!["/1".to_owned()], &[Rule::RequestLine][..]));
    assert_eq!(owner.output(), "");
    assert!(!owner.connection.wants_close());
    owner.echo();
    let output = owner.output();
    assert!(output.starts_with("HTTP/1.1 200") && output.contains("HTTP/1.1 400 Bad Request\r\n"), "{output}");
    assert!(owner.connection.wants_close());
    assert_eq!(owner.feed(get("/3")), 0);
}

#[test]
fn a_client_that_waits_for_100_gets_it_once_and_in_order() {
    let mut owner = Owner::http1();
    owner.feed(get("/1") + "POST /2 HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 4\r\n\r\n");
    assert_eq!(owner.output(), "", "100 would be taken for the answer to the first request");
    owner.echo();
    assert!(owner.output().ends_with("\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"));
    owner.feed("body");
    owner.echo();
    assert_eq!(owner.output(), "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nbody");
}

#[test]
fn a_body_that_will_be_refused_is_not_asked_for() {
    let mut owner = Owner::http1();
    owner.feed("POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9999999\r\n\r\n");
    assert!(owner.output().starts_with("HTTP/1.1 413 "));
}

#[test]
fn a_half_closed_client_gets_its_answers() {
    let mut owner = Owner::http1();
    owner.feed(get("/1") + &get("/2") + "GET /3 HTT");
    owner.connection.handle_end(owner.now);
    owner.poll();
    assert!(!owner.connection.wants_close());
    owner.echo();
    owner.echo();
    assert_eq!(owner.output().matches("200 OK").count(), 2);
    assert!(owner.connection.wants_close());
    let mut silent = Owner::http1();
    silent.connection.handle_end(silent.now);
    silent.poll();
    assert!(silent.connection.wants_close());
}

#[test]
fn a_drained_connection_ends_after_what_is_open() {
    let mut idle = Owner::http1();
    idle.connection.drain(idle.now);
    assert!(idle.connection.wants_close());

    let mut owner = Owner::http1();
    owner.feed(get("/1") + &get("/2"));
    owner.connection.drain(owner.now);
    assert!(!owner.connection.wants_close());
    owner.echo();
    assert!(!owner.output().contains("connection: close"));
    owner.echo();
    assert!(owner.output().contains("connection: close"));
    assert!(owner.connection.wants_close());

    let mut reading = Owner::http1();
    reading.feed("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbo");
    reading.connection.drain(reading.now);
    reading.feed("dy");
    reading.echo();
    assert!(reading.output().contains("connection: close"));
    assert!(reading.connection.wants_close());
}
