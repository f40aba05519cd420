//! One connection after its upgrade: messages in, messages out, pings answered, and a goodbye with a code.

use bytes::BytesMut;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tungstenite::protocol::Role;

use crate::{
    Event, Limits,
    close::{self, CONTROL_MAX, NO_CODE, Violation},
    frame::{self, Opcode},
    reader::{Incoming, Reader},
};

/// Memory of the output that is kept for the next time. 16 masked messages of 64 bytes fit, so that a busy client does
/// not allocate; with it an idle connection stays far below 2 KiB.
const OUTPUT_KEPT_MAX: usize = 1_280;

const OPCODE_CLOSE: u8 = 8;
const OPCODE_PING: u8 = 9;
const OPCODE_PONG: u8 = 10;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Open,
    /// We said goodbye and wait for the peer's.
    Closing,
    /// Nothing more is read or sent.
    Closed,
}

/// A WebSocket connection. Pongs and Close frames are queued by itself; what is queued is taken by `take_output`.
#[derive(Debug)]
pub struct Connection {
    state: State,
    reader: Reader,
    output: BytesMut,
    /// A client masks what it sends, with keys that nobody can guess.
    keys: Option<Box<StdRng>>,
}

impl Connection {
    /// The server's end. Bytes that came after the upgrade request are its first input.
    #[must_use]
    pub fn server(limits: Limits) -> Self {
        Self::new(Role::Server, limits, None)
    }

    /// The client's end; `seed` decides its masking keys, and must be random where payloads are not one's own.
    #[must_use]
    pub fn client(limits: Limits, seed: [u8; 32]) -> Self {
        Self::new(Role::Client, limits, Some(Box::new(StdRng::from_seed(seed))))
    }

    fn new(role: Role, limits: Limits, keys: Option<Box<StdRng>>) -> Self {
        Self { state: State::Open, reader: Reader::new(role, limits), output: BytesMut::new(), keys }
    }

    /// Allows the peer this much from the next frame on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.reader.set_limits(limits);
    }

    /// The next event out of received bytes, which are unmasked in place. `None`: the input is consumed.
    ///
    /// After [`Event::Closed`] all input is ignored.
    pub fn next<'a>(&mut self, input: &mut &'a mut [u8]) -> Option<Event<'a>> {
        while self.state != State::Closed {
            match self.reader.next(input) {
                Ok(None) => return None,
                Ok(Some(incoming)) => {
                    if let Some(event) = self.react(incoming) {
                        return Some(event);
                    }
                }
                Err(violation) => return Some(self.fail(violation)),
            }
        }
        *input = &mut [];
        None
    }

    /// Queues a text message; dropped once a goodbye was said.
    pub fn send_text(&mut self, text: &str) {
        self.send(Opcode::Text as u8, text.as_bytes());
    }

    /// Queues a binary message; dropped once a goodbye was said.
    pub fn send_binary(&mut self, bytes: &[u8]) {
        self.send(Opcode::Binary as u8, bytes);
    }

    /// Queues a ping; the peer's answer is [`Event::Pong`].
    pub fn ping(&mut self) {
        self.send(OPCODE_PING, &[]);
    }

    /// Says goodbye. A code that must not travel (as 1005) is left out, and a reason is cut to 123 bytes.
    ///
    /// Messages that still come are dropped; [`Event::Closed`] follows when the peer has said goodbye too.
    pub fn close(&mut self, code: u16, reason: &str) {
        if self.state == State::Open {
            let mut buffer = [0; CONTROL_MAX];
            self.send(OPCODE_CLOSE, close::format(code, reason, &mut buffer));
            self.state = State::Closing;
        }
    }

    /// Appends what is to be sent, in whole frames: other whole frames may go before or after it.
    pub fn take_output(&mut self, out: &mut BytesMut) {
        if self.output.is_empty() {
            return;
        }
        out.extend_from_slice(&self.output);
        self.output.clear();
        if self.output.capacity() > OUTPUT_KEPT_MAX {
            self.output = BytesMut::new();
        }
    }

    /// Whether there is something to be sent.
    #[must_use]
    pub fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// A goodbye was said; messages of ours are dropped from now on.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.state != State::Open
    }

    /// Both have said goodbye, or the peer broke the protocol: after the output the stream can be closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    fn react<'a>(&mut self, incoming: Incoming<'a>) -> Option<Event<'a>> {
        let open = self.state == State::Open;
        match incoming {
            Incoming::Text(text) => open.then_some(Event::Text(text)),
            Incoming::Binary(bytes) => open.then_some(Event::Binary(bytes)),
            Incoming::Pong => Some(Event::Pong),
            // A pong is as long as its ping, so the output is bounded by the input since it was last taken.
            Incoming::Ping(payload) => {
                self.send(OPCODE_PONG, &payload);
                None
            }
            Incoming::Close(payload) => Some(self.finish(&payload)),
        }
    }

    /// The peer says goodbye: answers with its own code, and is done.
    fn finish<'a>(&mut self, payload: &[u8]) -> Event<'a> {
        let (code, reason) = match close::parse(payload) {
            Ok(said) => said.unwrap_or((NO_CODE, "")),
            Err(violation) => return self.fail(violation),
        };
        self.close(code, "");
        self.stop();
        Event::Closed { code, reason: reason.to_owned(), clean: true }
    }

    fn fail<'a>(&mut self, violation: Violation) -> Event<'a> {
        let (code, reason) = (violation.code(), violation.to_string());
        self.close(code, &reason);
        self.stop();
        Event::Closed { code, reason, clean: false }
    }

    fn stop(&mut self) {
        self.state = State::Closed;
        self.reader.stop();
    }

    fn send(&mut self, opcode: u8, payload: &[u8]) {
        if self.state != State::Open {
            return;
        }
        let Some(keys) = &mut self.keys else {
            return frame::put(opcode, payload, &mut self.output);
        };
        let mut key: [u8; 4] = keys.random();
        frame::put_masked(opcode, &mut key, payload, &mut self.output);
    }
}
