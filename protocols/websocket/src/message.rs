//! A message that comes in parts: several frames, or one frame in several reads.

use std::{borrow::Cow, mem};

use crate::{close::Violation, reader::Incoming};

/// Bytes that an announcement gets memory for before they arrive, so that a small message cut in two is one allocation.
const CREDIT: usize = 1_024;

/// What the message is; the opcode of its first frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Text,
    Binary,
}

/// The parts of a message so far. Holds memory only while there are some.
#[derive(Debug, Default)]
pub(crate) struct Message {
    kind: Option<Kind>,
    bytes: Vec<u8>,
    // Text: so many bytes are known to be UTF-8; behind them is at most the beginning of a character.
    checked: usize,
}

impl Message {
    pub(crate) fn is_open(&self) -> bool {
        self.kind.is_some()
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(crate) fn open(&mut self, kind: Kind) {
        self.kind = Some(kind);
    }

    /// Adds a part; `ahead` bytes are announced to follow it, and are the message's last if `last`.
    pub(crate) fn push(&mut self, part: &[u8], ahead: usize, last: bool) -> Result<(), Violation> {
        self.reserve(part.len(), ahead, last);
        self.bytes.extend_from_slice(part);
        if self.kind == Some(Kind::Text) { self.check() } else { Ok(()) }
    }

    /// Ends the message with its last part.
    pub(crate) fn complete<'a>(&mut self, part: &'a [u8]) -> Result<Incoming<'a>, Violation> {
        let kind = self.kind.take().unwrap_or(Kind::Binary);
        if self.bytes.is_empty() {
            return match kind {
                Kind::Text => {
                    let text = str::from_utf8(part).map_err(|_| Violation::Utf8)?;
                    Ok(Incoming::Text(Cow::Borrowed(text)))
                }
                Kind::Binary => Ok(Incoming::Binary(Cow::Borrowed(part))),
            };
        }
        self.reserve(part.len(), 0, true);
        self.bytes.extend_from_slice(part);
        self.checked = 0;
        let bytes = mem::take(&mut self.bytes);
        match kind {
            Kind::Text => {
                String::from_utf8(bytes).map(|text| Incoming::Text(Cow::Owned(text))).map_err(|_| Violation::Utf8)
            }
            Kind::Binary => Ok(Incoming::Binary(Cow::Owned(bytes))),
        }
    }

    /// Takes no more memory in advance than what has arrived: a peer pays for it in bytes, not in announcements.
    fn reserve(&mut self, part: usize, ahead: usize, last: bool) {
        if self.bytes.capacity() - self.bytes.len() >= part {
            return;
        }
        if last {
            let arrived = self.bytes.len() + part;
            self.bytes.reserve_exact(part + ahead.min(arrived.max(CREDIT)));
        } else {
            self.bytes.reserve(part);
        }
    }

    /// Finds what is not UTF-8 as soon as it is there, not at the end of the message.
    fn check(&mut self) -> Result<(), Violation> {
        match str::from_utf8(&self.bytes[self.checked..]) {
            Ok(_) => self.checked = self.bytes.len(),
            Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
            Err(_) => return Err(Violation::Utf8),
        }
        Ok(())
    }
}
