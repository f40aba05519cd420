//! Heads that are well-formed, and every way in which one is not.

use super::*;
use crate::h3::code::Code;

fn fields(pairs: &[(&str, &str)]) -> Vec<Header> {
    pairs.iter().map(|(name, value)| Header::new(name.as_bytes(), value.as_bytes())).collect()
}

const GET: [(&str, &str); 4] = [(":method", "GET"), (":scheme", "https"), (":authority", "a.example"), (":path", "/")];

fn parsed(pairs: &[(&str, &str)]) -> Result<Head, Fault> {
    request(&fields(pairs), &Limits::default())
}

/// A GET with one of its fields replaced, or left away.
fn get_with(name: &str, value: Option<&str>) -> Vec<(String, String)> {
    GET.iter()
        .filter_map(|(have, old)| match *have == name {
            true => value.map(|value| (name.to_owned(), value.to_owned())),
            false => Some(((*have).to_owned(), (*old).to_owned())),
        })
        .collect()
}

fn parsed_with(name: &str, value: Option<&str>) -> Result<Head, Fault> {
    let pairs = get_with(name, value);
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    parsed(&pairs)
}

fn parsed_and(more: &[(&str, &str)]) -> Result<Head, Fault> {
    parsed(&[&GET[..], more].concat())
}

fn assert_malformed(result: Result<Head, Fault>, what: &str) {
    assert!(matches!(result, Err(Fault::Stream(Code::MESSAGE_ERROR, _))), "{what}: {result:?}");
}

#[test]
fn a_request_is_path_host_and_headers() {
    let head = parsed_and(&[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("te", "trailers")]).expect("valid");
    let headers = head.request.headers();
    assert_eq!((head.request.method(), head.request.uri().to_string()), (&Method::GET, "/".to_owned()));
    assert_eq!(headers.get_all(header::COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    assert_eq!(headers[header::HOST], "a.example");
    assert_eq!(headers["x"], "y");
    assert_eq!((head.protocol, head.length), (None, None));
}

#[test]
fn host_stands_in_for_authority() {
    let without = |host| [&GET[..2], &GET[3..], &[("host", host)]].concat();
    assert_eq!(parsed(&without("b.example:1")).expect("valid").request.headers()[header::HOST], "b.example:1");
    assert_malformed(parsed(&without("b example")), "invalid host");
    assert!(parsed_and(&[("host", "A.example")]).is_ok());
    assert_malformed(parsed_and(&[("host", "b.example")]), "host mismatch");
    assert_malformed(parsed_and(&[("host", "a.example"), ("host", "a.example")]), "host twice");
    assert_malformed(parsed_with(":authority", None), "neither");
}

#[test]
fn pseudo_header_fields_must_be_there_once_and_first() {
    for name in [":method", ":scheme", ":path"] {
        assert_malformed(parsed_with(name, None), name);
        assert_malformed(parsed_with(name, Some("")), name);
    }
    for (name, value) in GET {
        assert_malformed(parsed_and(&[(name, value)]), name);
        let mut last = get_with(name, None);
        last.extend([("x".to_owned(), "y".to_owned()), (name.to_owned(), value.to_owned())]);
        let last: Vec<_> = last.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        assert_malformed(parsed(&last), name);
    }
    assert_malformed(parsed_and(&[(":status", "200")]), ":status in a request");
    assert_malformed(parsed_and(&[(":unknown", "x")]), "unknown");
    assert_malformed(parsed_and(&[(":protocol", "websocket")]), ":protocol without CONNECT");
    assert_malformed(parsed_and(&[(":Path", "/")]), "upper case");
    assert_malformed(parsed(&[]), "nothing");
}

#[test]
fn targets() {
    for bad in ["x", "*", "/a b", "/\u{e4}", "//\x7f", "http://a/"] {
        assert_malformed(parsed_with(":path", Some(bad)), bad);
    }
    for good in ["/", "/a?b=c&d", "//", "/%20"] {
        assert!(parsed_with(":path", Some(good)).is_ok(), "{good}");
    }
    assert!(parsed(&[(":method", "OPTIONS"), (":scheme", "https"), (":authority", "a"), (":path", "*")]).is_ok());
    for bad in ["ftp", "https:", "h"] {
        assert_malformed(parsed_with(":scheme", Some(bad)), bad);
    }
    for bad in ["me@a.example", "", "a b", "a:99999"] {
        assert_malformed(parsed_with(":authority", Some(bad)), bad);
    }
    assert_malformed(parsed_with(":method", Some("G T")), "method");
    let long = "/".repeat(usize::from(Limits::default().target_bytes_max));
    assert!(parsed_with(":path", Some(&long)).is_ok());
    assert!(matches!(parsed_with(":path", Some(&(long + "/"))), Err(Fault::Answer(414, _))));
}

#[test]
fn connect_in_its_two_forms() {
    let connect = [(":method", "CONNECT"), (":authority", "a.example:443")];
    assert_eq!(parsed(&connect).expect("valid").request.uri().to_string(), "a.example:443");
    assert_malformed(parsed(&connect[..1]), "no authority");
    assert_malformed(parsed(&[connect[0], (":authority", "a.example")]), "no port");
    assert_malformed(parsed(&[&connect[..], &[(":scheme", "https")]].concat()), "scheme");
    assert_malformed(parsed(&[&connect[..], &[(":path", "/")]].concat()), "path");
    let whole = [connect[0], connect[1], (":scheme", "https"), (":path", "/wt"), (":protocol", "webtransport")];
    let head = parsed(&whole).expect("valid");
    assert_eq!((head.protocol.as_deref(), head.request.uri().path()), (Some("webtransport"), "/wt"));
    for leave in 1..4 {
        let less: Vec<_> = (0..5).filter(|n| *n != leave).map(|n| whole[n]).collect();
        assert_malformed(parsed(&less), whole[leave].0);
    }
    assert_malformed(parsed(&[&whole[..4], &[(":protocol", "a b")]].concat()), "protocol");
}

#[test]
fn fields_that_must_not_be_there() {
    for (name, value) in [
        ("connection", "close"),
        ("keep-alive", "1"),
        ("proxy-connection", "x"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "x"),
        ("te", "gzip"),
        ("te", "trailers, deflate"),
        ("Upper", "x"),
        ("", "x"),
        ("a b", "x"),
        ("a:", "x"),
        ("x", " y"),
        ("x", "y\t"),
        ("x", "a\0b"),
        ("x", "a\rb"),
        ("x", "a\nb"),
        ("x", "a\x01b"),
        ("cookie", "a\x01b"),
        ("content-length", "-1"),
        ("content-length", "+1"),
        ("content-length", "1, 1"),
        ("content-length", ""),
        ("content-length", "18446744073709551616"),
    ] {
        assert_malformed(parsed_and(&[(name, value)]), &format!("{name}: {value:?}"));
    }
    assert_malformed(parsed_and(&[("content-length", "1"), ("content-length", "2")]), "lengths");
    assert_eq!(parsed_and(&[("content-length", "7"), ("content-length", "7")]).expect("valid").length, Some(7));
    assert!(
        parsed_and(&[("x", ""), ("x", "a\tb"), ("x", "\u{e4}"), ("TE".to_lowercase().as_str(), "Trailers")]).is_ok()
    );
}

#[test]
fn responses_and_trailers() {
    let ok = |pairs: &[(&str, &str)]| response(&fields(pairs)).is_ok();
    assert!(ok(&[(":status", "200"), ("content-length", "3")]) && ok(&[(":status", "103")]));
    for bad in [
        &[][..],
        &[(":status", "2")],
        &[(":status", "20x")],
        &[(":status", "99")],
        &[(":status", "101")],
        &[(":status", "200"), (":status", "200")],
        &[(":status", "200"), (":path", "/")],
        &[("x", "y"), (":status", "200")],
        &[(":status", "200"), ("connection", "close")],
    ] {
        assert!(!ok(bad), "{bad:?}");
    }
    assert_eq!(trailers(&fields(&[("x", "y")])).expect("valid")["x"], "y");
    assert!(trailers(&fields(&[(":path", "/")])).is_err() && trailers(&fields(&[("X", "y")])).is_err());
}
