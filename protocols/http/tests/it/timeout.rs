//! Peers that wait: what they may wait for, and how long.

use ringshard_http::{Connection, Limits, Rule};

use crate::owner::Owner;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn a_silent_peer_is_closed_without_a_word() {
    for new in [Connection::http1, Connection::sniffing] {
        let mut owner = Owner::of(new);
        owner.wait(9);
        assert!(!owner.connection.wants_close());
        owner.wait(1);
        assert!(owner.connection.wants_close());
        assert_eq!((owner.output().as_str(), owner.refused.len()), ("", 0));
        assert_eq!(owner.connection.deadline(), None);
    }
}

#[test]
fn one_byte_at_a_time_does_not_buy_time() {
    let mut owner = Owner::http1();
    owner.wait(8);
    for byte in GET.bytes().take(9) {
        owner.feed([byte]);
        owner.wait(1);
    }
    assert!(owner.refused.is_empty(), "the head may take 10 s from its first byte");
    owner.wait(1);
    assert_eq!(owner.refused, [Rule::SlowHead]);
    assert!(owner.output().starts_with("HTTP/1.1 408 "));
    assert!(owner.connection.wants_close());
}

#[test]
fn a_slow_body_is_refused() {
    for framing in ["Content-Length: 1000", "Transfer-Encoding: chunked"] {
        let mut owner = Owner::http1();
        owner.feed(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n"));
        for _ in 0..29 {
            owner.feed("1");
            owner.wait(1);
            if framing.starts_with("T") && !owner.refused.is_empty() {
                break;
            }
        }
        owner.wait(1);
        let expected = if framing.starts_with("T") { Rule::Chunk } else { Rule::SlowBody };
        assert_eq!(owner.refused, [expected]);
    }
}

#[test]
fn a_kept_connection_closes_after_the_idle_time() {
    let mut owner = Owner::http1();
    owner.feed(GET);
    owner.wait(500);
    assert!(!owner.connection.wants_close(), "the owner has to answer: that is not the peer's fault");
    owner.echo();
    owner.now += std::time::Duration::from_secs(5);
    let _ = owner.output();
    owner.wait(59);
    assert!(!owner.connection.wants_close());
    owner.wait(1);
    assert!(owner.connection.wants_close());
    assert!(owner.refused.is_empty());
}

#[test]
fn a_reader_that_takes_nothing_is_dropped() {
    let mut owner = Owner::http1();
    owner.feed(GET);
    let id = owner.requests.remove(0).0;
    owner.answer(id, vec![0; 1_000_000]);
    for _ in 0..5 {
        owner.wait(29);
        assert!(owner.connection.take_piece(owner.now, 1000).is_some(), "slow, but not stalled");
    }
    owner.wait(30);
    assert_eq!(owner.refused, [Rule::Stalled]);
    assert!(owner.connection.wants_close());
}

#[test]
fn a_blocked_pipeline_does_not_run_the_peers_clock() {
    let mut owner = Owner::http1();
    owner.feed(GET.repeat(16) + "GET / HT");
    owner.wait(1000);
    assert!(owner.refused.is_empty());
    owner.echo();
    let _ = owner.output();
    owner.wait(9);
    assert!(owner.refused.is_empty(), "its clock starts when it can be read");
    owner.feed("TP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(owner.requests.len(), 16);
}

#[test]
fn a_timeout_before_its_time_does_nothing() {
    let mut owner = Owner::with(Connection::http1, Limits { head_secs: 3, ..Limits::default() });
    owner.feed("GET");
    let deadline = owner.connection.deadline();
    owner.connection.handle_timeout(owner.now);
    assert_eq!((owner.connection.deadline(), owner.poll()), (deadline, 0));
}
