//! One stream that the app sees: a message's or a WebTransport one.

use bytes::Bytes;

use super::{
    Limits, StreamId,
    code::{Code, Fault, unexpected},
    frame::{Item, Plan, Reader, kind},
    inbox::Inbox,
    outbox::Outbox,
    varint::Partial,
};

/// A stream, both ways.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) kind: Kind,
    pub(crate) inbox: Inbox,
    pub(crate) outbox: Outbox,
}

/// What its bytes are.
#[derive(Debug)]
pub(crate) enum Kind {
    /// Frames of HTTP/3.
    Message(Message),
    /// The app's own bytes, behind the id of their session.
    WebTransport {
        /// Known once it has arrived whole.
        session: Option<StreamId>,
        /// Of the id, what has arrived.
        partial: Partial,
    },
}

/// How far the peer's message has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// Nothing came, not even a frame that is skipped.
    Fresh,
    /// No (final) head came.
    Head,
    /// The body comes.
    Body,
    /// The bytes behind a CONNECT: no trailers.
    Tunnel,
    /// The capsules of a WebTransport session.
    Session,
    /// The trailers came.
    Trailed,
}

/// Whether the stream may turn out to be one of WebTransport, by a type that may only begin it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Opening {
    /// WebTransport is not spoken: the type is one of the unknown.
    Unknown,
    /// It is an own request.
    Never,
    /// It is a stream of a client.
    May,
    /// It is a stream of a server, which has no other use.
    Must,
}

/// The peer's message.
#[derive(Debug)]
pub(crate) struct Message {
    reader: Reader,
    pub(crate) phase: Phase,
    /// The announced length of the body, and what came of it.
    pub(crate) length: Option<u64>,
    pub(crate) taken: u64,
    /// Whether the request is a HEAD, whose response has no body.
    pub(crate) is_head: bool,
    /// Whether the request is an Extended CONNECT, which may have datagrams.
    pub(crate) is_extended: bool,
}

impl Message {
    pub(crate) fn new() -> Self {
        Self {
            reader: Reader::default(),
            phase: Phase::Fresh,
            length: None,
            taken: 0,
            is_head: false,
            is_extended: false,
        }
    }

    /// Whether no head was understood so far.
    pub(crate) fn awaits_head(&self) -> bool {
        matches!(self.phase, Phase::Fresh | Phase::Head)
    }

    /// Whether the peer may end the stream here: between two frames.
    pub(crate) fn is_between(&self) -> bool {
        self.reader.is_between()
    }

    /// The next item of the stream.
    pub(crate) fn next(
        &mut self,
        input: &mut Bytes,
        limits: &Limits,
        is_server: bool,
        opening: Opening,
    ) -> Result<Option<Item>, Fault> {
        let Self { reader, phase, .. } = self;
        reader.next(input, |kind| {
            let plan = match (kind, opening) {
                (kind::WT_STREAM, Opening::May | Opening::Must) if *phase == Phase::Fresh => Ok(Plan::Bare),
                (kind::WT_STREAM, Opening::May | Opening::Never) => {
                    Err(Fault::Connection(Code::FRAME_ERROR, "a WebTransport stream inside a request"))
                }
                (_, Opening::Must) => {
                    Err(Fault::Connection(Code::STREAM_CREATION_ERROR, "a server opens no other stream"))
                }
                _ => plan(kind, *phase, limits, is_server),
            };
            if *phase == Phase::Fresh {
                *phase = Phase::Head;
            }
            plan
        })
    }
}

/// Which frames may stand where (RFC 9114 sections 4.1, 4.4 and 7.2).
fn plan(kind: u64, phase: Phase, limits: &Limits, is_server: bool) -> Result<Plan, Fault> {
    match (kind, phase) {
        (kind::DATA, Phase::Body | Phase::Tunnel | Phase::Session) => Ok(Plan::Pass),
        (kind::DATA, Phase::Fresh | Phase::Head) => Err(unexpected("DATA before HEADERS")),
        (kind::DATA, Phase::Trailed) => Err(unexpected("DATA behind the trailers")),
        (kind::HEADERS, Phase::Fresh | Phase::Head | Phase::Body) => {
            Ok(Plan::Gather(limits.section_bytes_max as usize))
        }
        (kind::HEADERS, Phase::Trailed) => Err(unexpected("HEADERS behind the trailers")),
        (kind::HEADERS, Phase::Tunnel | Phase::Session) => Err(unexpected("HEADERS behind a CONNECT")),
        (kind::PUSH_PROMISE, _) if is_server => Err(unexpected("a client pushes nothing")),
        (kind::PUSH_PROMISE, _) => Err(Fault::Connection(Code::ID_ERROR, "no push was allowed")),
        (kind::CANCEL_PUSH | kind::SETTINGS | kind::GOAWAY | kind::MAX_PUSH_ID, _) => {
            Err(unexpected("a frame of the control stream"))
        }
        (kind::PRIORITY_UPDATE_REQUEST | kind::PRIORITY_UPDATE_PUSH, _) => {
            Err(unexpected("a frame of the control stream"))
        }
        _ if kind::is_of_http2(kind) => Err(unexpected("a frame of HTTP/2")),
        _ => Ok(Plan::Skip),
    }
}

impl Stream {
    pub(crate) fn new(kind: Kind, id: StreamId, is_own: bool) -> Self {
        let (reads, writes) = (!id.is_uni() || !is_own, !id.is_uni() || is_own);
        Self {
            kind,
            inbox: if reads { Inbox::default() } else { Inbox::none() },
            outbox: if writes { Outbox::default() } else { Outbox::none() },
        }
    }

    pub(crate) fn message(&self) -> Option<&Message> {
        match &self.kind {
            Kind::Message(message) => Some(message),
            Kind::WebTransport { .. } => None,
        }
    }

    pub(crate) fn message_mut(&mut self) -> Option<&mut Message> {
        match &mut self.kind {
            Kind::Message(message) => Some(message),
            Kind::WebTransport { .. } => None,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.inbox.is_done() && self.outbox.is_done()
    }
}
