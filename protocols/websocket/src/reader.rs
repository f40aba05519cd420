//! Frames out of received bytes: headers by tungstenite, payloads unmasked where they lie.

use std::{borrow::Cow, io::Cursor, mem};

use tungstenite::protocol::{
    Role,
    frame::{
        FrameHeader,
        coding::{Control, Data, OpCode},
    },
};

use crate::{
    Limits,
    close::{CONTROL_MAX, Violation},
    mask,
    message::{Kind, Message},
};

/// The longest header: two bytes, eight of length, four of mask.
const HEADER_MAX: usize = 14;

/// One thing that the peer said.
#[derive(Debug)]
pub(crate) enum Incoming<'a> {
    Text(Cow<'a, str>),
    Binary(Cow<'a, [u8]>),
    Ping(Cow<'a, [u8]>),
    Pong,
    Close(Cow<'a, [u8]>),
}

/// The frame whose header was read last.
#[derive(Clone, Copy, Debug)]
struct Frame {
    payload: Payload,
    last: bool,
    mask: Option<[u8; 4]>,
    left: usize,
}

#[derive(Clone, Copy, Debug)]
enum Payload {
    Message,
    Ping,
    Pong,
    Close,
}

/// Reads frames. Holds memory only while a frame or a message is not whole.
#[derive(Debug)]
pub(crate) struct Reader {
    limits: Limits,
    role: Role,
    header: [u8; HEADER_MAX],
    header_len: u8,
    frame: Frame,
    /// The frame's payload is not whole.
    inside: bool,
    control: Vec<u8>,
    message: Message,
}

impl Reader {
    pub(crate) fn new(role: Role, limits: Limits) -> Self {
        Self {
            limits,
            role,
            header: [0; HEADER_MAX],
            header_len: 0,
            frame: Frame { payload: Payload::Message, last: true, mask: None, left: 0 },
            inside: false,
            control: Vec::new(),
            message: Message::default(),
        }
    }

    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// The next whole message or control frame. `None`: the input is consumed.
    pub(crate) fn next<'a>(&mut self, input: &mut &'a mut [u8]) -> Result<Option<Incoming<'a>>, Violation> {
        loop {
            if !self.inside && !self.begin(input)? {
                return Ok(None);
            }
            let frame = &mut self.frame;
            let part = take(input, frame.left);
            if let Some(key) = &mut frame.mask {
                mask::apply(key, part);
            }
            frame.left -= part.len();
            self.inside = frame.left > 0;
            if self.inside {
                self.keep(part)?;
                return Ok(None);
            }
            if let Some(incoming) = self.end(part)? {
                return Ok(Some(incoming));
            }
        }
    }

    /// Lets go of all memory: nothing more will be read.
    pub(crate) fn stop(&mut self) {
        self.inside = false;
        self.control = Vec::new();
        self.message = Message::default();
    }

    /// Reads a header, and checks it. Whether it was whole.
    fn begin(&mut self, input: &mut &mut [u8]) -> Result<bool, Violation> {
        if input.is_empty() {
            return Ok(false);
        }
        let held = usize::from(self.header_len);
        let mut bytes = &**input;
        if held > 0 {
            let more = input.len().min(HEADER_MAX - held);
            self.header[held..held + more].copy_from_slice(&input[..more]);
            bytes = &self.header[..held + more];
        }
        let parsed = parse(bytes)?;
        let Some((header, len, header_len)) = parsed else {
            // No header is longer than the buffer, so what is there is not a whole one and fits.
            let rest = take(input, HEADER_MAX - held);
            self.header[held..held + rest.len()].copy_from_slice(rest);
            self.header_len = (held + rest.len()) as u8;
            return Ok(false);
        };
        self.header_len = 0;
        take(input, header_len - held);
        self.frame = self.check(&header, len)?;
        Ok(true)
    }

    #[inline]
    fn check(&mut self, header: &FrameHeader, len: u64) -> Result<Frame, Violation> {
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(Violation::Protocol("reserved bit set"));
        }
        match (self.role, header.mask) {
            (Role::Server, None) => return Err(Violation::Protocol("unmasked frame from a client")),
            (Role::Client, Some(_)) => return Err(Violation::Protocol("masked frame from a server")),
            (Role::Server, Some(_)) | (Role::Client, None) => {}
        }
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let payload = match header.opcode {
            OpCode::Data(data) => self.check_data(data, len)?,
            OpCode::Control(control) => check_control(control, header.is_final, len)?,
        };
        Ok(Frame { payload, last: header.is_final, mask: header.mask, left: len })
    }

    fn check_data(&mut self, data: Data, len: usize) -> Result<Payload, Violation> {
        if len > self.limits.frame_max || len > self.limits.message_max.saturating_sub(self.message.len()) {
            return Err(Violation::TooBig);
        }
        match (data, self.message.is_open()) {
            (Data::Continue, true) => {}
            (Data::Text, false) => self.message.open(Kind::Text),
            (Data::Binary, false) => self.message.open(Kind::Binary),
            (Data::Continue, false) => return Err(Violation::Protocol("continuation of nothing")),
            (Data::Text | Data::Binary, true) => return Err(Violation::Protocol("message inside a message")),
            (Data::Reserved(_), _) => return Err(Violation::Protocol("reserved opcode")),
        }
        Ok(Payload::Message)
    }

    /// Stores a part of a frame that goes on.
    fn keep(&mut self, part: &[u8]) -> Result<(), Violation> {
        match self.frame.payload {
            Payload::Message => self.message.push(part, self.frame.left, self.frame.last),
            Payload::Ping | Payload::Pong | Payload::Close => {
                self.control.extend_from_slice(part);
                Ok(())
            }
        }
    }

    /// Ends a frame with its last part.
    fn end<'a>(&mut self, part: &'a [u8]) -> Result<Option<Incoming<'a>>, Violation> {
        match self.frame.payload {
            Payload::Message if self.frame.last => self.message.complete(part).map(Some),
            Payload::Message => self.message.push(part, 0, false).map(|()| None),
            Payload::Ping => Ok(Some(Incoming::Ping(self.control(part)))),
            Payload::Close => Ok(Some(Incoming::Close(self.control(part)))),
            Payload::Pong => {
                self.control = Vec::new();
                Ok(Some(Incoming::Pong))
            }
        }
    }

    fn control<'a>(&mut self, part: &'a [u8]) -> Cow<'a, [u8]> {
        if self.control.is_empty() {
            return Cow::Borrowed(part);
        }
        self.control.extend_from_slice(part);
        Cow::Owned(mem::take(&mut self.control))
    }
}

/// A header, the length of the payload and its own length; `None`: it is not whole.
#[inline]
fn parse(bytes: &[u8]) -> Result<Option<(FrameHeader, u64, usize)>, Violation> {
    let mut cursor = Cursor::new(bytes);
    match FrameHeader::parse(&mut cursor) {
        Ok(header) => Ok(header.map(|(header, len)| (header, len, cursor.position() as usize))),
        // In memory there is no error of reading.
        Err(_) => Err(Violation::Protocol("reserved opcode")),
    }
}

fn check_control(control: Control, last: bool, len: usize) -> Result<Payload, Violation> {
    if !last {
        return Err(Violation::Protocol("control frame in fragments"));
    }
    if len > CONTROL_MAX {
        return Err(Violation::Protocol("control frame too long"));
    }
    match control {
        Control::Close => Ok(Payload::Close),
        Control::Ping => Ok(Payload::Ping),
        Control::Pong => Ok(Payload::Pong),
        Control::Reserved(_) => Err(Violation::Protocol("reserved opcode")),
    }
}

/// At most `max` bytes off the front.
fn take<'a>(input: &mut &'a mut [u8], max: usize) -> &'a mut [u8] {
    let len = max.min(input.len());
    input.split_off_mut(..len).unwrap_or_default()
}
