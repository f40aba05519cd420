//! Requests that wait for their answers, in the order in which they came, and how an answer is written.

use std::collections::VecDeque;

use bytes::Bytes;
use http::{Method, Response, StatusCode, Version, header};

use crate::{connection::RequestId, output::Output};

/// Capacity that an empty pipeline keeps: 64 bytes, so that a request does not allocate.
const KEPT: usize = 4;

/// The colon, the space and the line end of a field.
const FIELD_REST: usize = 4;

/// A status line with a long reason, `content-length` and `connection`.
const HEAD_REST: usize = 120;

/// What of a request matters for its answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// The answer has no body (HEAD).
    pub(crate) head_only: bool,
    /// HTTP/1.0: a connection that stays open must be said to.
    pub(crate) old: bool,
    /// The connection ends after this answer.
    pub(crate) close: bool,
}

impl Shape {
    pub(crate) fn new(method: &Method, version: Version, close: bool) -> Self {
        Self { head_only: method == Method::HEAD, old: version == Version::HTTP_10, close }
    }

    /// Of an answer to something that was no request.
    pub(crate) fn refusal() -> Self {
        Self { head_only: false, old: false, close: true }
    }
}

#[derive(Debug)]
struct Slot {
    shape: Shape,
    response: Option<Box<Response<Bytes>>>,
}

/// The open requests of a connection.
#[derive(Debug, Default)]
pub(crate) struct Pipeline {
    slots: VecDeque<Slot>,
    /// The id of the first open request.
    first: u64,
}

impl Pipeline {
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(crate) fn push(&mut self, shape: Shape) -> RequestId {
        let id = RequestId(self.first + self.slots.len() as u64);
        self.slots.push_back(Slot { shape, response: None });
        id
    }

    /// Keeps the answer until its turn; an id that is not open, or answered, is ignored.
    pub(crate) fn answer(&mut self, id: RequestId, response: Response<Bytes>) {
        let slot = id.0.checked_sub(self.first).and_then(|index| self.slots.get_mut(usize::try_from(index).ok()?));
        if let Some(slot) = slot
            && slot.response.is_none()
        {
            slot.response = Some(Box::new(response));
        }
    }

    /// The next answer, if it is known: out of the pipeline, to be written.
    pub(crate) fn pop_answered(&mut self) -> Option<(Shape, Response<Bytes>)> {
        let response = self.slots.front_mut()?.response.take()?;
        let shape = self.slots.pop_front()?.shape;
        self.first += 1;
        if self.slots.is_empty() && self.slots.capacity() > KEPT {
            self.slots = VecDeque::new();
        }
        Some((shape, *response))
    }

    /// Takes the first request out without an answer through the pipeline (an upgrade).
    pub(crate) fn pop(&mut self) {
        if self.slots.pop_front().is_some() {
            self.first += 1;
        }
    }

    pub(crate) fn clear(&mut self) {
        self.first += self.slots.len() as u64;
        self.slots = VecDeque::new();
    }
}

/// Writes one answer. `content-length` and the connection fields are the layer's own.
pub(crate) fn write(shape: Shape, response: Response<Bytes>, output: &mut Output) {
    let (parts, body) = response.into_parts();
    let fields: usize = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD_REST).sum();
    output.reserve(HEAD_REST + fields, body.len());
    // A final answer is asked for: an interim one would leave the client waiting.
    let status = if parts.status.is_informational() { StatusCode::INTERNAL_SERVER_ERROR } else { parts.status };
    output.write(b"HTTP/1.1 ");
    output.write(status.as_str().as_bytes());
    output.write(b" ");
    output.write(status.canonical_reason().unwrap_or_default().as_bytes());
    for (name, value) in &parts.headers {
        if !is_own(name) {
            write_field(name.as_str(), value.as_bytes(), output);
        }
    }
    let has_body = !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if has_body {
        write_field("content-length", body.len().to_string().as_bytes(), output);
    }
    if shape.close {
        write_field("connection", b"close", output);
    } else if shape.old {
        write_field("connection", b"keep-alive", output);
    }
    output.write(b"\r\n\r\n");
    if has_body && !shape.head_only {
        output.push(body);
    }
}

/// Fields that the layer writes itself, or that must not be said.
pub(crate) fn is_own(name: &http::HeaderName) -> bool {
    *name == header::CONTENT_LENGTH
        || *name == header::CONNECTION
        || *name == header::TRANSFER_ENCODING
        || *name == header::UPGRADE
        || *name == header::TRAILER
        || name.as_str() == "keep-alive"
        || name.as_str() == "proxy-connection"
}

fn write_field(name: &str, value: &[u8], output: &mut Output) {
    output.write(b"\r\n");
    output.write(name.as_bytes());
    output.write(b": ");
    output.write(value);
}
