//! tungstenite as the other end, and as the judge: the same random frames must mean the same to both.

use std::io::{self, Read, Write};

use rand::{Rng, SeedableRng, rngs::StdRng};
use tungstenite::{
    Bytes, Error, Message,
    protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext, frame::coding::CloseCode},
};
use websocket::Event;

use crate::peer::{LIMITS, binary, closed, events, frame, output, server, text};

/// What tungstenite reads from and writes to.
#[derive(Default)]
struct Memory {
    received: Vec<u8>,
    sent: Vec<u8>,
}

impl Read for Memory {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.received.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let len = buffer.len().min(self.received.len());
        buffer[..len].copy_from_slice(&self.received[..len]);
        self.received.drain(..len);
        Ok(len)
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sent.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn context(role: Role) -> WebSocketContext {
    let config = WebSocketConfig::default()
        .read_buffer_size(64)
        .max_message_size(Some(LIMITS.message_max))
        .max_frame_size(Some(LIMITS.frame_max));
    WebSocketContext::new(role, Some(config))
}

#[test]
fn a_tungstenite_client_is_served() {
    let (mut client, mut memory, mut server) = (context(Role::Client), Memory::default(), server());
    client.write(&mut memory, Message::text("grüße")).unwrap();
    client.write(&mut memory, Message::binary(vec![7; 500])).unwrap();
    client.write(&mut memory, Message::Ping(Bytes::from_static(b"?"))).unwrap();
    client.flush(&mut memory).unwrap();
    assert_eq!(events(&mut server, &std::mem::take(&mut memory.sent), 10), [text("grüße"), binary(&[7; 500])]);
    server.send_text("back");
    server.close(1_001, "later");
    memory.received = output(&mut server);
    assert_eq!(client.read(&mut memory).unwrap(), Message::Pong(Bytes::from_static(b"?")));
    assert_eq!(client.read(&mut memory).unwrap(), Message::text("back"));
    let goodbye = CloseFrame { code: CloseCode::Away, reason: "later".into() };
    assert_eq!(client.read(&mut memory).unwrap(), Message::Close(Some(goodbye)));
    client.flush(&mut memory).unwrap();
    assert_eq!(events(&mut server, &memory.sent, 10), [closed(1_001, "later", true)]);
}

#[test]
fn random_frames_mean_the_same_to_tungstenite() {
    let mut endings = [0; 4];
    for seed in 0..3_000 {
        let stream = random_frames(&mut StdRng::seed_from_u64(seed));
        let (theirs, their_end) = judge(&stream);
        for size in [1, 7, usize::MAX] {
            let mut ours = events(&mut server(), &stream, size);
            let our_end = match ours.last() {
                Some(Event::Closed { code, clean, .. }) => Some((*code, *clean)),
                _ => None,
            };
            ours.retain(|event| !matches!(event, Event::Closed { .. } | Event::Pong));
            assert_eq!((ours, our_end), (theirs.clone(), their_end), "seed {seed}, pieces of {size}: {stream:x?}");
        }
        endings[match their_end {
            None => 0,
            Some((_, true)) => 1,
            Some((1002, _)) => 2,
            Some(_) => 3,
        }] += 1;
    }
    assert!(endings.iter().all(|count| *count > 50), "the frames are not random enough: {endings:?}");
}

/// A stream of mostly right frames.
fn random_frames(rng: &mut StdRng) -> Vec<u8> {
    let (mut stream, mut open) = (Vec::new(), false);
    for _ in 0..rng.random_range(1..8) {
        let last = rng.random_bool(0.6);
        let opcode = match rng.random_range(0..100) {
            0..70 if open => 0,
            0..40 => 1,
            40..70 => 2,
            70..80 => 9,
            80..88 => 10,
            88..92 => 8,
            _ => rng.random_range(0..16),
        };
        let control = opcode >= 8;
        open = if control { open } else { !last };
        let fin = if last || control { 0x80 } else { 0 };
        let reserved = if rng.random_bool(0.02) { 0x20 } else { 0 };
        stream.extend(frame(fin | reserved | opcode, &random_payload(rng, opcode)));
    }
    stream
}

fn random_payload(rng: &mut StdRng, opcode: u8) -> Vec<u8> {
    if opcode == 8 {
        let code: u16 = if rng.random_bool(0.7) { 1_000 } else { rng.random_range(0..6_000) };
        return if rng.random_bool(0.2) { vec![] } else { [&code.to_be_bytes()[..], b"bye"].concat() };
    }
    let most = if opcode >= 8 { 126 } else { 620 };
    let len = if rng.random_bool(0.8) { rng.random_range(0..20) } else { rng.random_range(0..=most) };
    if rng.random_bool(0.05) { vec![0xe2; len] } else { "aé€".bytes().cycle().take(len / 6 * 6).collect() }
}

/// What tungstenite makes of the stream: its messages, and the code with which it ends, if it does.
fn judge(stream: &[u8]) -> (Vec<Event<'static>>, Option<(u16, bool)>) {
    let (mut context, mut memory) = (context(Role::Server), Memory::default());
    memory.received = stream.to_vec();
    let mut messages = Vec::new();
    loop {
        match context.read(&mut memory) {
            Ok(Message::Text(message)) => messages.push(text(&message)),
            Ok(Message::Binary(message)) => messages.push(binary(&message)),
            Ok(Message::Close(None)) => return (messages, Some((1005, true))),
            // Its own answer to a forbidden code is 1002.
            Ok(Message::Close(Some(close))) => {
                return (messages, Some((close.code.into(), close.reason.as_str() != "Protocol violation")));
            }
            Ok(_) => {}
            Err(Error::Io(_)) => return (messages, None),
            Err(Error::Protocol(_)) => return (messages, Some((1002, false))),
            Err(Error::Utf8(_)) => return (messages, Some((1007, false))),
            Err(Error::Capacity(_)) => return (messages, Some((1009, false))),
            Err(error) => panic!("{error}"),
        }
    }
}
