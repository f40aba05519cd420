//! Every rule with a request that keeps it and requests that break it.

use std::time::Instant;

use ringshard_http::{Connection, Limits, fuzz};

/// Gives the status line's status of the first answer, and the events.
fn ask(request: &[u8]) -> (String, Vec<String>, bool) {
    let now = Instant::now();
    let outcome = fuzz::run(now, Connection::http1(now, Limits::default()), request, &[request.len()], false);
    let status = String::from_utf8_lossy(outcome.output.get(9..12).unwrap_or_default()).into_owned();
    (status, outcome.events, outcome.closed)
}

fn refused(request: impl AsRef<[u8]>, status: &str, rule: &str) {
    let request = request.as_ref();
    let (got, events, closed) = ask(request);
    let shown = request[..request.len().min(120)].escape_ascii();
    assert_eq!(events.last().map(String::as_str), Some(rule), "{shown}");
    assert_eq!(events.len(), 1, "nothing may come before or after the refusal: {shown} {events:?}");
    assert_eq!(got, status, "{shown}");
    assert!(closed, "a refused connection closes: {shown}");
}

fn accepted(request: impl AsRef<[u8]>) -> String {
    let request = request.as_ref();
    let (status, events, _) = ask(request);
    assert_eq!(status, "200", "{} {events:?}", request.escape_ascii());
    assert_eq!(events.len(), 1, "{}", request.escape_ascii());
    events.into_iter().next().unwrap_or_default()
}

/// A POST with these extra header lines and this body.
fn post(headers: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n{body}")
}

fn get(headers: &str) -> String {
    format!("GET / HTTP/1.1\r\n{headers}\r\n")
}

#[test]
fn request_lines() {
    for line in [
        "GET / HTTP/1.1",
        "GET /a?b=c&d HTTP/1.1",
        "PROPFIND /x HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "GET http://a/b HTTP/1.1",
        "GET HTTPS://A HTTP/1.1",
        "GET http://a?q HTTP/1.1",
        "GET //a HTTP/1.1",
        "HEAD / HTTP/1.1",
        "GET / HTTP/1.0",
    ] {
        accepted(format!("{line}\r\nHost: a\r\n\r\n"));
    }
    for (line, status, rule) in [
        ("GET  / HTTP/1.1", "400", "request_line"),
        ("GET /  HTTP/1.1", "400", "request_line"),
        ("GET / HTTP/1.1 ", "400", "request_line"),
        (" GET / HTTP/1.1", "400", "request_line"),
        ("GET\t/ HTTP/1.1", "400", "request_line"),
        ("GET /", "400", "request_line"),
        ("GET", "400", "request_line"),
        ("G(T / HTTP/1.1", "400", "request_line"),
        ("GET / HTTP/1.1x", "400", "request_line"),
        ("GET / http/1.1", "400", "request_line"),
        ("GET / HTTP/11", "400", "request_line"),
        ("GET / HTTP 1.1", "400", "request_line"),
        ("GET / HTTP/1.2", "505", "version"),
        ("GET / HTTP/2.0", "505", "version"),
        ("GET / HTTP/0.9", "505", "version"),
        ("GET / HTTP/9.9", "505", "version"),
        ("GET a HTTP/1.1", "400", "target"),
        ("GET * HTTP/1.1", "400", "target"),
        ("OPTIONS ** HTTP/1.1", "400", "target"),
        ("GET /# HTTP/1.1", "400", "target"),
        ("GET ftp://a/ HTTP/1.1", "400", "target"),
        ("GET http:///b HTTP/1.1", "400", "target"),
        ("GET http://u@a/b HTTP/1.1", "400", "target"),
        ("GET http://b/ HTTP/1.1", "400", "host_mismatch"),
        ("GET http://a:80/ HTTP/1.1", "400", "host_mismatch"),
        ("CONNECT a HTTP/1.1", "501", "tunnel"),
        ("CONNECT b:443 HTTP/1.1", "501", "tunnel"),
        ("CONNECT / HTTP/1.1", "400", "target"),
    ] {
        refused(format!("{line}\r\nHost: a\r\n\r\n"), status, rule);
    }
    refused(b"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n", "400", "target");
    refused(b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", "400", "request_line");
    refused(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "400", "request_line");
    refused(b"\x00", "400", "request_line");
}

#[test]
fn an_absolute_target_becomes_its_path() {
    assert!(accepted("GET http://a/b?c HTTP/1.1\r\nHost: A\r\n\r\n").contains("uri: /b?c"));
    assert!(accepted("GET http://a?c HTTP/1.1\r\nHost: a\r\n\r\n").contains("uri: /?c"));
    assert!(accepted("GET http://a HTTP/1.1\r\nHost: a\r\n\r\n").contains("uri: /,"));
}

#[test]
fn line_ends() {
    accepted("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n");
    for request in [
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\nC: d\r\n\r\n",
    ] {
        refused(request, "400", "bare_line_feed");
    }
    for request in [
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\rC: d\r\n\r\n",
        "GET / HTTP/1.1\rHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\rX",
    ] {
        refused(request, "400", "bare_carriage_return");
    }
    refused("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "400", "request_line");
    refused("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "400", "request_line");
    refused("\rGET / HTTP/1.1\r\nHost: a\r\n\r\n", "400", "request_line");
}

#[test]
fn header_fields() {
    accepted(get("Host:a\r\nX-Empty:\r\nX-Spaces:   b c \t\r\nx_under: d\r\n"));
    accepted(b"GET / HTTP/1.1\r\nHost: a\r\nX: \xe4\xff\r\n\r\n");
    for line in [
        "Host : a",
        "X : b",
        "X\t: b",
        " X: b",
        "\tX: b",
        ": b",
        "X",
        "X\\: b",
        "X(: b",
        "X b: c",
        "\"X\": b",
        "X: b\r\n c",
        "X: b\r\n\tc",
    ] {
        refused(get(&format!("Host: a\r\n{line}\r\n")), "400", "header_name");
    }
    refused(get(" Host: a\r\n"), "400", "header_name");
    for byte in (0u8..0x20).filter(|byte| !matches!(byte, b'\t' | b'\r' | b'\n')).chain([0x7f]) {
        let request = [b"GET / HTTP/1.1\r\nHost: a\r\nX: b", &[byte][..], b"c\r\n\r\n"].concat();
        refused(request, "400", "header_value");
    }
    refused(b"GET / HTTP/1.1\r\nHost: a\r\nX\0: b\r\n\r\n", "400", "header_name");
    refused("GET / HTTP/1.1\r\nHost: a\r\n\r\n".replace("Host", "H\u{e4}st"), "400", "header_name");
}

#[test]
fn hosts() {
    for host in ["a", "a:80", "example.com:8443", "127.0.0.1:1", "[::1]", "[::1]:80"] {
        accepted(get(&format!("Host: {host}\r\n")));
        accepted(get(&format!("hOSt: {host}\r\n")));
    }
    refused(get(""), "400", "host_missing");
    refused("GET / HTTP/1.0\r\n\r\n", "400", "host_missing");
    refused("GET http://a/ HTTP/1.1\r\n\r\n", "400", "host_missing");
    refused(get("Host: a\r\nHost: a\r\n"), "400", "host_repeated");
    refused(get("Host: a\r\nhost: b\r\n"), "400", "host_repeated");
    for host in ["", "a b", "a/b", "u@a", "a,b", "a:b", "a:99999", "[::1", "http://a", "a?", "a#", "a\tb", "<a>"] {
        refused(get(&format!("Host: {host}\r\n")), "400", "host_invalid");
    }
}

#[test]
fn lengths() {
    accepted(post("Content-Length: 0\r\n", ""));
    assert!(accepted(post("Content-Length: 5\r\n", "hello")).contains("b\"hello\""));
    accepted(post("Content-Length: 005\r\n", "hello"));
    for value in [
        "+5",
        "-5",
        "5_0",
        "0x5",
        "5 5",
        "5.0",
        "",
        "a",
        "5a",
        "5;",
        "\"5\"",
        "18446744073709551616",
        "99999999999999999999999",
    ] {
        refused(post(&format!("Content-Length: {value}\r\n"), "hello"), "400", "length_invalid");
    }
    for lines in [
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: 5,\r\n",
        "content-length: 5\r\nCONTENT-LENGTH: 0\r\n",
    ] {
        refused(post(lines, "hello"), "400", "length_repeated");
    }
    refused(post("Content-Length: 65537\r\n", ""), "413", "body_too_large");
    refused(post("Content-Length: 18446744073709551615\r\n", ""), "413", "body_too_large");
}

#[test]
fn transfer_codings() {
    let hello = "5\r\nhello\r\n0\r\n\r\n";
    assert!(accepted(post("Transfer-Encoding: chunked\r\n", hello)).contains("b\"hello\""));
    accepted(post("transfer-encoding: CHUNKED\r\n", hello));
    for value in [
        "gzip",
        "identity",
        "chunked, chunked",
        "gzip, chunked",
        "chunked, gzip",
        "\"chunked\"",
        "chunked;q=1",
        "xchunked",
        "chunkedx",
        "chunked,",
        ",chunked",
        "",
        "x",
        "chunk",
        "\u{b}chunked".trim(),
    ] {
        let value = if value == "chunked" { "chunked x" } else { value };
        refused(post(&format!("Transfer-Encoding: {value}\r\n"), hello), "400", "encoding_unknown");
    }
    let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n";
    refused(post(twice, hello), "400", "encoding_unknown");
    refused(post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", hello), "400", "encoding_unknown");
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: gzip\r\nContent-Length: 0\r\n",
    ] {
        refused(post(lines, hello), "400", "length_with_encoding");
    }
    refused(post("Transfer-Encoding : chunked\r\n", hello), "400", "header_name");
    refused(post("Transfer-Encoding:\r\n chunked\r\n", hello), "400", "header_name");
    refused(post("Transfer-Encoding: \u{b}chunked\r\n", hello), "400", "header_value");
    let old = format!("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{hello}");
    refused(old, "400", "encoding_too_old");
}

#[test]
fn chunks() {
    for body in [
        "0\r\n\r\n",
        "5;a=b\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: y\r\n\r\n",
        "00000005\r\nhello\r\n000\r\n\r\n",
    ] {
        accepted(post("Transfer-Encoding: chunked\r\n", body));
    }
    for body in [
        "5 \r\nhello\r\n0\r\n\r\n",
        " 5\r\n",
        "+5\r\n",
        "0x5\r\n",
        "5_\r\n",
        "g\r\n",
        "\r\n",
        "5\nhello\r\n",
        "5\r\nhello0\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "100000000\r\n",
        "fffffffffffffffff\r\n",
        "5;\0\r\n",
        "5;a\nb\r\n",
        "-1\r\n",
    ] {
        refused(post("Transfer-Encoding: chunked\r\n", body), "400", "chunk");
    }
    refused(post("Transfer-Encoding: chunked\r\n", "10001\r\n"), "413", "body_too_large");
    for trailer in ["Content-Length: 5", "Transfer-Encoding: chunked", "Host: b", "X : y", " X: y", "X"] {
        refused(post("Transfer-Encoding: chunked\r\n", &format!("0\r\n{trailer}\r\n\r\n")), "400", "trailer");
    }
    refused(post("Transfer-Encoding: chunked\r\n", "0\r\nX: y\n\r\n"), "400", "bare_line_feed");
}

#[test]
fn sizes() {
    let path = "a".repeat(8 * 1024 - 1);
    accepted(format!("GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n"));
    refused(format!("GET /{path}b HTTP/1.1\r\nHost: a\r\n\r\n"), "414", "target_too_long");
    refused(format!("GET /{}", "a".repeat(9 * 1024)), "414", "target_too_long");
    refused("A".repeat(9 * 1024), "414", "target_too_long");
    let value = "v".repeat(1024);
    let lines = |count: usize| (0..count).map(|index| format!("X{index}: {value}\r\n")).collect::<String>();
    accepted(get(&format!("Host: a\r\n{}", lines(15))));
    refused(get(&format!("Host: a\r\n{}", lines(16))), "431", "head_too_large");
    let many = |count: usize| (0..count).map(|index| format!("X{index}: v\r\n")).collect::<String>();
    accepted(get(&format!("Host: a\r\n{}", many(99))));
    refused(get(&format!("Host: a\r\n{}", many(100))), "431", "too_many_headers");
}

#[test]
fn expectations() {
    for value in ["200-ok", "100-continue, x", "", "x"] {
        refused(post(&format!("Expect: {value}\r\nContent-Length: 1\r\n"), "x"), "417", "expectation");
    }
    let old = "POST / HTTP/1.0\r\nHost: a\r\nExpect: x\r\nContent-Length: 1\r\n\r\nx";
    accepted(old);
}
