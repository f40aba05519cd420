//! Fan-out through a NATS subject (core NATS, text protocol).

use std::io;

use peers::fanout::{self, Item, Protocol, line, number};

struct Nats;

impl Protocol for Nats {
    fn subscribe(&self) -> Vec<u8> {
        b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\nSUB room 1\r\nPING\r\n".to_vec()
    }

    fn greet(&self) -> Vec<u8> {
        b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\nPING\r\n".to_vec()
    }

    fn publish(&self, payload: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(format!("PUB room {}\r\n", payload.len()).as_bytes());
        out.extend_from_slice(payload);
        out.extend_from_slice(b"\r\n");
    }

    fn parse<'a>(&self, bytes: &'a [u8]) -> io::Result<Option<(usize, Item<'a>)>> {
        let Some((head, at)) = line(bytes) else { return Ok(None) };
        let item = match head {
            b"PONG" => Item::Ready,
            b"PING" => Item::Answer(b"PONG\r\n"),
            _ if head.starts_with(b"MSG ") => {
                let len = number(head.rsplit(|byte| *byte == b' ').next().unwrap_or_default())?;
                let Some(payload) = bytes.get(at..at + len + 2) else { return Ok(None) };
                return Ok(Some((at + len + 2, Item::Delivery(&payload[..len]))));
            }
            _ if head.starts_with(b"-ERR") => return Err(io::Error::other(String::from_utf8_lossy(head).into_owned())),
            _ => Item::Other,
        };
        Ok(Some((at, item)))
    }
}

fn main() -> io::Result<()> {
    fanout::run(Nats)
}
