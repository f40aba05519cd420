//! How messages lie on a connection: plain pieces of fixed size, WebSocket frames, the framed protocol, RESP, or NATS's.
//!
//! A small client side of its own, not the server's cores: what both got wrong in the same way would not be seen, and a
//! generator has to be cheaper than what it measures.

use thiserror::Error;

/// The key of the WebSocket handshake is always the specification's example, so the only right answer is known as well.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// The longest answer to an upgrade request.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// The longest message that a server may send to us: far above everything that a scenario asks for.
const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// Bytes of the framed protocol's header, and where the body's length is in it.
const FRAME_HEADER_BYTES: usize = 16;
/// In the first byte of a frame: 8 more bytes follow the header.
const FRAME_OFFSET_FLAG: u8 = 0x20;
const FRAME_OFFSET_BYTES: usize = 8;

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// The framing of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Every `size` bytes are a message.
    Raw {
        /// Bytes per message.
        size: usize,
    },
    /// WebSocket frames; `upgraded` once the handshake is over.
    WebSocket {
        /// Whether frames come next, not the answer to the handshake.
        upgraded: bool,
        /// Whether our messages are text.
        text: bool,
    },
    /// The framed protocol: length from the header.
    Framed,
    /// Redis's protocol: a reply is a line, or a length and so many bytes.
    Resp,
    /// NATS's client protocol: lines, and after those of messages so many bytes.
    Nats,
}

/// What comes next on a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// The handshake is answered; frames follow.
    Upgraded,
    /// One whole message.
    Message(&'a [u8]),
    /// To be answered with a pong of the same payload.
    Ping(&'a [u8]),
    /// Nothing to do.
    Pong,
    /// The server is done, for this reason.
    Close(u16),
}

/// Why a server's bytes make no sense.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum WireError {
    /// Not `101`, or the wrong key.
    #[error("the upgrade was refused")]
    Refused,
    /// Masked, fragmented, reserved bits or an unknown opcode.
    #[error("a WebSocket frame that no server may send here")]
    Frame,
    /// Longer than anything that was asked for.
    #[error("a message beyond all limits")]
    TooLong,
    /// Not a line, a number, an error or a string.
    #[error("a reply that no command of ours has")]
    Reply,
}

impl Wire {
    /// Takes one item off the front of `bytes`, with its length there; `None` while it is not whole.
    pub fn parse(self, bytes: &[u8]) -> Result<Option<(usize, Item<'_>)>, WireError> {
        match self {
            Wire::Raw { size } => Ok(bytes.get(..size).map(|message| (size, Item::Message(message)))),
            Wire::WebSocket { upgraded: false, .. } => parse_head(bytes),
            Wire::WebSocket { upgraded: true, .. } => parse_frame(bytes),
            Wire::Framed => parse_framed(bytes),
            Wire::Resp => parse_resp(bytes),
            Wire::Nats => parse_nats(bytes),
        }
    }

    /// Appends one message of `len` bytes that `write` appends; `mask` is the key if the framing wants one.
    pub fn put(self, len: usize, mask: u32, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        match self {
            Wire::Raw { .. } | Wire::Framed | Wire::Resp | Wire::Nats => write(out),
            Wire::WebSocket { text, .. } => put_frame(if text { TEXT } else { BINARY }, len, mask, out, write),
        }
    }

    /// Appends one message.
    pub fn put_slice(self, message: &[u8], mask: u32, out: &mut Vec<u8>) {
        self.put(message.len(), mask, out, |out| out.extend_from_slice(message));
    }

    /// Appends the answer to a ping.
    pub fn put_pong(self, payload: &[u8], mask: u32, out: &mut Vec<u8>) {
        if self == Wire::Nats {
            return out.extend_from_slice(b"PONG\r\n");
        }
        put_frame(PONG, payload.len(), mask, out, |out| out.extend_from_slice(payload));
    }
}

/// Appends an upgrade request.
pub fn put_upgrade(host: &str, path: &str, protocol: Option<&str>, out: &mut Vec<u8>) {
    let protocol = protocol.map_or(String::new(), |name| format!("Sec-WebSocket-Protocol: {name}\r\n"));
    out.extend_from_slice(
        format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n{protocol}\r\n"
        )
        .as_bytes(),
    );
}

/// Appends a command of RESP: an array of strings.
pub fn put_command(words: &[&[u8]], out: &mut Vec<u8>) {
    let head = |mark: char, number: usize| format!("{mark}{number}\r\n").into_bytes();
    out.extend(head('*', words.len()));
    for word in words {
        out.extend(head('$', word.len()));
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// The whole reply without its last `\r\n`, so that its first byte says what it is.
fn parse_resp(bytes: &[u8]) -> Result<Option<(usize, Item<'_>)>, WireError> {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n") else {
        return if bytes.len() > HEAD_BYTES_MAX { Err(WireError::TooLong) } else { Ok(None) };
    };
    let line = &bytes[..end];
    let end = match line.split_first() {
        Some((b'+' | b':' | b'-', _)) => end,
        // No value.
        Some((b'$', b"-1")) => end,
        Some((b'$', len)) => {
            let len: usize = str::from_utf8(len).ok().and_then(|len| len.parse().ok()).ok_or(WireError::Reply)?;
            if len > MESSAGE_BYTES_MAX {
                return Err(WireError::TooLong);
            }
            end + 2 + len
        }
        _ => return Err(WireError::Reply),
    };
    Ok((bytes.len() >= end + 2).then(|| (end + 2, Item::Message(&bytes[..end]))))
}

/// A message with its line, or an error, without the last `\r\n`. `PONG`, the answer to our hello, and `INFO` are none.
fn parse_nats(bytes: &[u8]) -> Result<Option<(usize, Item<'_>)>, WireError> {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n") else {
        return if bytes.len() > HEAD_BYTES_MAX { Err(WireError::TooLong) } else { Ok(None) };
    };
    let line = &bytes[..end];
    if line.starts_with(b"MSG ") {
        let len = line.rsplit(|byte| *byte == b' ').next().and_then(|len| str::from_utf8(len).ok()?.parse().ok());
        let len: usize = len.ok_or(WireError::Reply)?;
        if len > MESSAGE_BYTES_MAX {
            return Err(WireError::TooLong);
        }
        let end = end + 2 + len;
        return Ok((bytes.len() >= end + 2).then(|| (end + 2, Item::Message(&bytes[..end]))));
    }
    let item = match line {
        b"PING" => Item::Ping(&[]),
        b"PONG" => Item::Upgraded,
        b"+OK" => Item::Pong,
        _ if line.starts_with(b"INFO ") => Item::Pong,
        _ if line.starts_with(b"-ERR") => Item::Message(line),
        _ => return Err(WireError::Reply),
    };
    Ok(Some((end + 2, item)))
}

fn parse_head(bytes: &[u8]) -> Result<Option<(usize, Item<'_>)>, WireError> {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else {
        return if bytes.len() > HEAD_BYTES_MAX { Err(WireError::TooLong) } else { Ok(None) };
    };
    let head = String::from_utf8_lossy(&bytes[..end]);
    let accepted = head.lines().skip(1).any(|line| {
        line.split_once(':')
            .is_some_and(|(name, value)| name.eq_ignore_ascii_case("sec-websocket-accept") && value.trim() == ACCEPT)
    });
    if head.starts_with("HTTP/1.1 101 ") && accepted {
        Ok(Some((end + 4, Item::Upgraded)))
    } else {
        Err(WireError::Refused)
    }
}

fn parse_frame(bytes: &[u8]) -> Result<Option<(usize, Item<'_>)>, WireError> {
    let [first, second, rest @ ..] = bytes else { return Ok(None) };
    let (opcode, masked) = (first & 0x0f, second & 0x80 != 0);
    if masked || first & 0xf0 != 0x80 {
        return Err(WireError::Frame);
    }
    let (header, len) = match second & 0x7f {
        126 => match rest.first_chunk() {
            Some(len) => (4, usize::from(u16::from_be_bytes(*len))),
            None => return Ok(None),
        },
        127 => match rest.first_chunk() {
            Some(len) => (10, usize::try_from(u64::from_be_bytes(*len)).map_err(|_| WireError::TooLong)?),
            None => return Ok(None),
        },
        len => (2, usize::from(len)),
    };
    if len > MESSAGE_BYTES_MAX {
        return Err(WireError::TooLong);
    }
    let Some(payload) = bytes.get(header..header + len) else { return Ok(None) };
    let item = match opcode {
        TEXT | BINARY => Item::Message(payload),
        PING => Item::Ping(payload),
        PONG => Item::Pong,
        CLOSE => Item::Close(payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code))),
        _ => return Err(WireError::Frame),
    };
    Ok(Some((header + len, item)))
}

fn parse_framed(bytes: &[u8]) -> Result<Option<(usize, Item<'_>)>, WireError> {
    let Some(header) = bytes.first_chunk::<FRAME_HEADER_BYTES>() else { return Ok(None) };
    let body = u32::from_le_bytes([header[4], header[5], header[6], header[7]]) as usize;
    if body > MESSAGE_BYTES_MAX {
        return Err(WireError::TooLong);
    }
    let offset = if header[0] & FRAME_OFFSET_FLAG != 0 { FRAME_OFFSET_BYTES } else { 0 };
    let len = FRAME_HEADER_BYTES + offset + body;
    Ok(bytes.get(..len).map(|frame| (len, Item::Message(frame))))
}

fn put_frame(opcode: u8, len: usize, mask: u32, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(0x80 | opcode);
    match len {
        len @ 0..=125 => out.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    let key = mask.to_le_bytes();
    out.extend_from_slice(&key);
    let start = out.len();
    write(out);
    debug_assert_eq!(out.len() - start, len, "the header names another length");
    let (whole, rest) = out[start..].as_chunks_mut::<4>();
    for chunk in whole {
        *chunk = (u32::from_le_bytes(*chunk) ^ mask).to_le_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(key) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAMES: Wire = Wire::WebSocket { upgraded: true, text: true };

    #[test]
    fn our_frames_are_masked_as_the_specification_shows() {
        let mut out = Vec::new();
        FRAMES.put_slice(b"Hello", u32::from_le_bytes([0x37, 0xfa, 0x21, 0x3d]), &mut out);
        assert_eq!(out, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
    }

    #[test]
    fn a_frame_is_taken_only_when_it_is_whole() {
        for len in [0, 5, 125, 126, 70_000] {
            let mut frame = vec![0x82];
            match len {
                0..126 => frame.push(len as u8),
                126..65_536 => frame.extend([126, (len >> 8) as u8, len as u8]),
                _ => frame.extend([&[127][..], &(len as u64).to_be_bytes()].concat()),
            }
            frame.resize(frame.len() + len, 7);
            let whole = frame.len();
            assert_eq!(FRAMES.parse(&frame[..whole - 1]), Ok(None));
            frame.extend(b"\x89\x01x");
            assert_eq!(FRAMES.parse(&frame), Ok(Some((whole, Item::Message(&vec![7; len][..])))));
            assert_eq!(FRAMES.parse(&frame[whole..]), Ok(Some((3, Item::Ping(b"x")))));
        }
    }

    #[test]
    fn what_a_server_may_not_send_is_refused() {
        assert_eq!(FRAMES.parse(b"\x82\x85\0\0\0\0hello"), Err(WireError::Frame), "masked");
        assert_eq!(FRAMES.parse(b"\x02\x01x"), Err(WireError::Frame), "fragmented");
        assert_eq!(FRAMES.parse(b"\xc2\x01x"), Err(WireError::Frame), "compressed");
        assert_eq!(FRAMES.parse(b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff"), Err(WireError::TooLong));
        assert_eq!(FRAMES.parse(b"\x88\x02\x03\xf1"), Ok(Some((4, Item::Close(1009)))));
    }

    #[test]
    fn the_upgrade_needs_101_and_the_right_key() {
        let wire = Wire::WebSocket { upgraded: false, text: true };
        let good = format!("HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: {ACCEPT}\r\n\r\n\x01");
        assert_eq!(wire.parse(good.as_bytes()), Ok(Some((good.len() - 1, Item::Upgraded))));
        assert_eq!(wire.parse(&good.as_bytes()[..20]), Ok(None));
        assert_eq!(wire.parse(b"HTTP/1.1 403 Forbidden\r\n\r\n"), Err(WireError::Refused));
        assert_eq!(wire.parse(good.replace("s3p", "x3p").as_bytes()), Err(WireError::Refused));
    }

    #[test]
    fn a_command_is_written_as_redis_documents_it() {
        let mut out = Vec::new();
        put_command(&[b"RPUSH", b"list", b""], &mut out);
        assert_eq!(out, b"*3\r\n$5\r\nRPUSH\r\n$4\r\nlist\r\n$0\r\n\r\n");
    }

    #[test]
    fn a_reply_is_taken_only_when_it_is_whole() {
        for reply in [&b":12\r\n"[..], b"+OK\r\n", b"-ERR no\r\n", b"$5\r\n1-0\r\n\r\n", b"$0\r\n\r\n", b"$-1\r\n"] {
            let two = [reply, b":1\r\n"].concat();
            for cut in 0..reply.len() {
                assert_eq!(Wire::Resp.parse(&two[..cut]), Ok(None), "{reply:?} {cut}");
            }
            let whole = Ok(Some((reply.len(), Item::Message(&reply[..reply.len() - 2]))));
            assert_eq!(Wire::Resp.parse(&two), whole);
        }
        for bad in [&b"*1\r\n"[..], b"$x\r\n", b"$-2\r\n", b"\r\n"] {
            assert_eq!(Wire::Resp.parse(bad), Err(WireError::Reply), "{bad:?}");
        }
        assert_eq!(Wire::Resp.parse(b"$99999999\r\n"), Err(WireError::TooLong));
    }

    #[test]
    fn what_nats_says_is_taken_only_when_it_is_whole() {
        let said = b"INFO {}\r\nPONG\r\nPING\r\nMSG _INBOX.1.2 1 4\r\na\r\nb\r\n-ERR 'no'\r\n";
        let (mut used, mut items) = (0, Vec::new());
        while let Some((len, item)) = Wire::Nats.parse(&said[used..]).expect("nothing is wrong") {
            for cut in 0..len {
                assert_eq!(Wire::Nats.parse(&said[used..used + cut]), Ok(None));
            }
            used += len;
            items.push(item);
        }
        let message = Item::Message(b"MSG _INBOX.1.2 1 4\r\na\r\nb");
        assert_eq!(items, [Item::Pong, Item::Upgraded, Item::Ping(b""), message, Item::Message(b"-ERR 'no'")]);
        assert_eq!(used, said.len());
        for bad in [&b"MSG x 1 y\r\n"[..], b"HTTP/1.1 200\r\n", b"\r\n"] {
            assert_eq!(Wire::Nats.parse(bad), Err(WireError::Reply), "{bad:?}");
        }
        assert_eq!(Wire::Nats.parse(b"MSG x 1 99999999\r\n"), Err(WireError::TooLong));
        let mut out = Vec::new();
        Wire::Nats.put_pong(b"", 7, &mut out);
        assert_eq!(out, b"PONG\r\n");
    }

    #[test]
    fn a_framed_message_has_its_length_in_the_header() {
        let mut frame = [0; 30];
        (frame[0], frame[4]) = (1, 10);
        assert_eq!(Wire::Framed.parse(&frame), Ok(Some((26, Item::Message(&frame[..26])))));
        frame[0] |= FRAME_OFFSET_FLAG;
        assert_eq!(Wire::Framed.parse(&frame), Ok(None));
    }
}
