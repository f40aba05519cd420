//! Fan-out through a Redis channel (RESP2).

use std::io;

use peers::fanout::{self, Item, Protocol, line, number};

struct Redis;

impl Protocol for Redis {
    fn subscribe(&self) -> Vec<u8> {
        b"*2\r\n$9\r\nSUBSCRIBE\r\n$4\r\nroom\r\n".to_vec()
    }

    fn greet(&self) -> Vec<u8> {
        b"*1\r\n$4\r\nPING\r\n".to_vec()
    }

    fn publish(&self, payload: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(format!("*3\r\n$7\r\nPUBLISH\r\n$4\r\nroom\r\n${}\r\n", payload.len()).as_bytes());
        out.extend_from_slice(payload);
        out.extend_from_slice(b"\r\n");
    }

    fn parse<'a>(&self, bytes: &'a [u8]) -> io::Result<Option<(usize, Item<'a>)>> {
        let Some((head, mut at)) = line(bytes) else { return Ok(None) };
        match head.first() {
            Some(b'+') => return Ok(Some((at, Item::Ready))),
            Some(b':') => return Ok(Some((at, Item::Other))),
            Some(b'*') => {}
            _ => return Err(io::Error::other(String::from_utf8_lossy(head).into_owned())),
        }
        let (mut kind, mut last): (&[u8], &[u8]) = (b"", b"");
        for element in 0..number(&head[1..])? {
            let Some((head, len)) = line(&bytes[at..]) else { return Ok(None) };
            at += len;
            last = head;
            if head.first() == Some(&b'$') {
                let len = number(&head[1..])?;
                let Some(bulk) = bytes.get(at..at + len + 2) else { return Ok(None) };
                last = &bulk[..len];
                at += len + 2;
            }
            if element == 0 {
                kind = last;
            }
        }
        Ok(Some((at, if kind == b"message" { Item::Delivery(last) } else { Item::Ready })))
    }
}

fn main() -> io::Result<()> {
    fanout::run(Redis)
}
