//! What is wrong with a message that could not be read.

use std::fmt;

use crate::Code;

/// A message that could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DecodeError {
    /// How bad it is.
    pub flaw: Flaw,
    /// The request that it was, as far as that could be read.
    pub id: Option<u32>,
    /// In words, for the developer at the other end.
    pub reason: &'static str,
    /// The field that is wrong, empty if it is not about one.
    pub field: &'static str,
}

/// How bad a message is that could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// Its bytes are not in the codec: whatever comes after cannot be trusted either.
    Broken,
    /// Its bytes are in the codec, but what they say is not a message.
    Invalid,
    /// It is of a kind that nobody knows here.
    UnknownKind,
    /// It is of a kind that nobody knows here, and its sender says that it may be skipped.
    Ignorable,
}

impl DecodeError {
    pub(crate) const fn broken(reason: &'static str) -> Self {
        Self { flaw: Flaw::Broken, id: None, reason, field: "" }
    }

    pub(crate) const fn invalid(id: Option<u32>, field: &'static str, reason: &'static str) -> Self {
        Self { flaw: Flaw::Invalid, id, reason, field }
    }

    pub(crate) const fn unknown_kind(id: Option<u32>) -> Self {
        Self { flaw: Flaw::UnknownKind, id, reason: "there is no such kind of message", field: "kind" }
    }

    /// The code that an answer to it carries.
    #[must_use]
    pub fn code(&self) -> Code {
        match self.flaw {
            Flaw::Broken | Flaw::Invalid => Code::InvalidArgument,
            Flaw::UnknownKind | Flaw::Ignorable => Code::Unimplemented,
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(self.reason)
    }
}

impl std::error::Error for DecodeError {}
