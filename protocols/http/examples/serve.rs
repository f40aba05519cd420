//! Serves echoes and a page over blocking sockets, to try the crate with other people's clients:
//! `cargo run -p ringshard-http --example serve`, then `curl`, `h2load` or an HTTP/1.1 conformance suite against it.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use ringshard_http::{Asset, Connection, Event, Limits};

/// A page larger than the first windows of HTTP/2.
const LARGE: usize = 1_000_000;
const PIECE: usize = 64 * 1024;
/// How long a connection that has ended is read on, so that its last answer is not reset away.
const LINGER: Duration = Duration::from_secs(1);

fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("http://{}/", listener.local_addr()?);
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(move || {
            if let Err(error) = serve(stream) {
                eprintln!("{error}");
            }
        });
    }
    Ok(())
}

fn serve(mut stream: TcpStream) -> std::io::Result<()> {
    let page = Asset::new("/", "text/html; charset=utf-8", &b"<!doctype html><p>hello\n"[..]);
    let mut connection = Connection::sniffing(Instant::now(), Limits::default());
    let (mut input, mut out) = (vec![0; PIECE], BytesMut::new());
    stream.set_nodelay(true)?;
    while !connection.wants_close() {
        let wait = connection.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()));
        stream.set_read_timeout(wait.map(|wait| wait.max(Duration::from_millis(1))))?;
        match stream.read(&mut input) {
            Ok(0) => connection.handle_end(Instant::now()),
            Ok(len) => connection.handle(Instant::now(), &input[..len]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
        connection.handle_timeout(Instant::now());
        loop {
            while let Some(event) = connection.poll() {
                answer(&mut connection, &page, event);
            }
            if !connection.take_output(Instant::now(), &mut out, PIECE) {
                break;
            }
            stream.write_all(&out)?;
            out.clear();
        }
    }
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(LINGER))?;
    while stream.read(&mut input)? > 0 {}
    Ok(())
}

fn answer(connection: &mut Connection, page: &Asset, event: Event) {
    let now = Instant::now();
    match event {
        Event::Request { id, request } => connection.respond(now, id, route(page, request)),
        Event::Upgrade { id, .. } => {
            let mut response = Response::new(Bytes::from_static(b"no WebSocket here\n"));
            *response.status_mut() = StatusCode::NOT_IMPLEMENTED;
            connection.respond(now, id, response);
        }
        Event::Refused(rule) => eprintln!("refused: {}", rule.as_str()),
    }
}

fn route(page: &Asset, request: Request<Bytes>) -> Response<Bytes> {
    let mut response = match request.uri().path() {
        "/large" => Response::new(Bytes::from(vec![b'x'; LARGE])),
        "/echo" => Response::new(request.into_body()),
        _ if matches!(*request.method(), Method::GET | Method::HEAD) => page.respond(&request),
        _ => Response::new(request.into_body()),
    };
    response.headers_mut().insert("date", HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"));
    response
}
