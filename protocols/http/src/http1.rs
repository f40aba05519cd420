//! A strict HTTP/1.1 server connection: requests in the order of their bytes, answers in the order of the requests.

mod body;
pub(crate) mod head;
pub(crate) mod pipeline;
mod scan;
mod upgrade;

use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use http::{Request, Response, header};

use crate::{
    connection::{Event, RequestId},
    limit::{INPUT_MAX, INPUT_PAUSE, Limits, OUTPUT_PAUSE, PIPELINE_MAX, REQUEST_LINE_REST},
    output::Output,
    rule::Rule,
};
use head::Head;
use pipeline::{Pipeline, Shape};
use scan::{Bounds, Scan};

/// See [`crate::Connection`]. Idle, it owns no buffer.
#[derive(Debug)]
pub(crate) struct Http1 {
    limits: Limits,
    input: BytesMut,
    reading: Reading,
    pipeline: Pipeline,
    output: Output,
    /// A refusal that `poll` has not told yet.
    refused: Option<Rule>,
    /// The time of the last call that had one.
    now: Instant,
    /// When the present wait for the peer began: its first byte, the head's end, or the last answer's end.
    since: Instant,
    /// When the peer took the last piece, or there was first something to take.
    taken: Instant,
    ended: bool,
    draining: bool,
    served: bool,
}

/// What the next byte of the peer is.
#[derive(Debug)]
enum Reading {
    Head {
        scan: Scan,
        blank_line_seen: bool,
    },
    Body(Box<Incoming>),
    /// Bytes of the other protocol, until the upgrade is answered.
    Upgraded {
        id: RequestId,
        key: Bytes,
    },
    /// Nothing: the last answer is known, or on its way.
    Nothing,
}

impl Reading {
    const START: Self = Self::Head { scan: Scan::START, blank_line_seen: false };
}

/// A request whose head is known.
#[derive(Debug)]
struct Incoming {
    head: Head,
    body: BytesMut,
}

impl Http1 {
    pub(crate) fn new(now: Instant, limits: Limits) -> Self {
        Self {
            limits,
            input: BytesMut::new(),
            reading: Reading::START,
            pipeline: Pipeline::default(),
            output: Output::default(),
            refused: None,
            now,
            since: now,
            taken: now,
            ended: false,
            draining: false,
            served: false,
        }
    }

    pub(crate) fn input(&self) -> &[u8] {
        &self.input
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining
    }

    pub(crate) fn handle(&mut self, now: Instant, bytes: &[u8]) {
        self.now = now;
        if matches!(self.reading, Reading::Nothing) || self.ended {
            return;
        }
        if self.input.len() + bytes.len() > INPUT_MAX {
            return self.abort(Rule::InputFlood);
        }
        if self.input.is_empty() && matches!(self.reading, Reading::Head { .. }) {
            self.since = now;
        }
        self.input.extend_from_slice(bytes);
    }

    pub(crate) fn handle_end(&mut self, now: Instant) {
        self.now = now;
        self.ended = true;
    }

    /// Only what timers and bounds had to say.
    pub(crate) fn poll_refused(&mut self) -> Option<Event> {
        self.refused.take().map(Event::Refused)
    }

    pub(crate) fn poll(&mut self) -> Option<Event> {
        if let Some(event) = self.poll_refused() {
            return Some(event);
        }
        let event = match self.read() {
            Ok(event) => event,
            Err(rule) => {
                self.refuse(rule);
                self.poll_refused()
            }
        };
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        if event.is_none() {
            self.finish_if_over();
        }
        event
    }

    pub(crate) fn respond(&mut self, now: Instant, id: RequestId, response: Response<Bytes>) {
        self.now = now;
        let was_blocked = self.is_blocked();
        self.pipeline.answer(id, response);
        self.write_answers();
        if was_blocked && !self.is_blocked() {
            self.since = now;
        }
    }

    pub(crate) fn accept_websocket(&mut self, now: Instant, id: RequestId, protocol: Option<&str>) -> Option<Bytes> {
        self.now = now;
        let Reading::Upgraded { id: open, key } = &self.reading else { return None };
        if *open != id {
            return None;
        }
        let key = key.clone();
        self.note_output();
        upgrade::write_accept(&key, protocol, &mut self.output);
        self.pipeline.pop();
        self.reading = Reading::Nothing;
        Some(std::mem::take(&mut self.input).freeze())
    }

    pub(crate) fn take_piece(&mut self, now: Instant, max: usize) -> Option<Bytes> {
        self.now = now;
        let was_blocked = self.is_blocked();
        let piece = self.output.take(max)?;
        self.taken = now;
        if self.output.is_empty() && self.pipeline.is_empty() || was_blocked && !self.is_blocked() {
            self.since = now;
        }
        Some(piece)
    }

    pub(crate) fn wants_close(&self) -> bool {
        matches!(self.reading, Reading::Nothing) && self.pipeline.is_empty() && self.output.is_empty()
    }

    pub(crate) fn wants_input(&self) -> bool {
        match self.reading {
            Reading::Nothing => true,
            Reading::Upgraded { .. } => self.input.len() < INPUT_PAUSE,
            Reading::Head { .. } | Reading::Body(_) => !self.is_blocked() || self.input.len() < INPUT_PAUSE,
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        matches!(self.reading, Reading::Head { .. } | Reading::Nothing)
            && self.input.is_empty()
            && self.pipeline.is_empty()
            && self.output.is_empty()
    }

    pub(crate) fn drain(&mut self) {
        self.draining = true;
        self.finish_if_over();
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let read = self.read_wait().map(|(wait, _)| self.since + wait);
        let write = (!self.output.is_empty()).then(|| self.taken + self.limits.stall());
        [read, write].into_iter().flatten().min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        if !self.output.is_empty() && now >= self.taken + self.limits.stall() {
            return self.abort(Rule::Stalled);
        }
        match self.read_wait() {
            Some((wait, _)) if now < self.since + wait => {}
            Some((_, Some(rule))) => self.refuse(rule),
            Some((_, None)) => self.stop(),
            None => {}
        }
    }

    /// How long the peer may make us wait, and what it breaks by waiting longer. While the owner has to answer, or the
    /// peer has to take an answer first, there is nothing to wait for.
    fn read_wait(&self) -> Option<(std::time::Duration, Option<Rule>)> {
        match self.reading {
            Reading::Body(_) if self.is_blocked() => None,
            Reading::Body(_) => Some((self.limits.body(), Some(Rule::SlowBody))),
            Reading::Head { .. } if self.is_blocked() => None,
            Reading::Head { .. } if !self.input.is_empty() => Some((self.limits.head(), Some(Rule::SlowHead))),
            Reading::Head { .. } if !self.is_idle() => None,
            Reading::Head { .. } if self.served => Some((self.limits.idle(), None)),
            Reading::Head { .. } => Some((self.limits.head(), None)),
            Reading::Upgraded { .. } | Reading::Nothing => None,
        }
    }

    /// Whether reading waits for answers.
    fn is_blocked(&self) -> bool {
        match &self.reading {
            Reading::Head { .. } => self.pipeline.len() >= PIPELINE_MAX || self.output.len() >= OUTPUT_PAUSE,
            // 100 and 101 must come after all earlier answers.
            Reading::Body(incoming) => {
                (incoming.head.expects_continue || incoming.head.upgrade) && !self.pipeline.is_empty()
            }
            Reading::Upgraded { .. } => true,
            Reading::Nothing => false,
        }
    }

    fn read(&mut self) -> Result<Option<Event>, Rule> {
        while !self.is_blocked() {
            let progress = match &mut self.reading {
                Reading::Head { .. } => self.read_head()?,
                Reading::Body(incoming) => {
                    if std::mem::take(&mut incoming.head.expects_continue) {
                        self.note_output();
                        self.output.write(b"HTTP/1.1 100 Continue\r\n\r\n");
                    }
                    if self.read_body()? {
                        return Ok(self.complete());
                    }
                    false
                }
                Reading::Upgraded { .. } | Reading::Nothing => false,
            };
            if !progress {
                break;
            }
        }
        Ok(None)
    }

    /// `true` when a head is whole.
    fn read_head(&mut self) -> Result<bool, Rule> {
        let Reading::Head { scan, blank_line_seen } = &mut self.reading else { return Ok(false) };
        // RFC 9112 2.2: one empty line before a request line is forgiven.
        if !*blank_line_seen && self.input.starts_with(b"\r\n") {
            *blank_line_seen = true;
            self.input.advance(2);
        }
        match self.input.first() {
            None => return Ok(false),
            Some(b'\r') if !*blank_line_seen && self.input.len() == 1 => return Ok(false),
            Some(byte) if !head::is_token_byte(*byte) => return Err(Rule::RequestLine),
            Some(_) => {}
        }
        let bounds = Bounds {
            first_line_max: self.limits.target_max as usize + REQUEST_LINE_REST,
            first_line_rule: Rule::TargetTooLong,
            section_max: self.limits.head_max as usize,
            section_rule: Rule::HeadTooLarge,
        };
        let Some(len) = scan.find_end(&self.input, &bounds)? else { return Ok(false) };
        let head = head::parse(&self.input.split_to(len).freeze(), &self.limits)?;
        self.reading = Reading::Body(Box::new(Incoming { head, body: BytesMut::new() }));
        self.since = self.now;
        Ok(true)
    }

    /// `true` when the body is whole.
    fn read_body(&mut self) -> Result<bool, Rule> {
        let Reading::Body(incoming) = &mut self.reading else { return Ok(false) };
        incoming.head.body.read(&mut self.input, &mut incoming.body, self.limits.body_max as usize)
    }

    /// The request that has just become whole, as an event.
    fn complete(&mut self) -> Option<Event> {
        let Reading::Body(incoming) = std::mem::replace(&mut self.reading, Reading::START) else { return None };
        let Incoming { head: Head { request, close, upgrade, .. }, body } = *incoming;
        let request: Request<Bytes> = request.map(|()| body.freeze());
        // An upgrade that is refused ends the connection: what follows may already be the other protocol.
        let id = self.pipeline.push(Shape::new(request.method(), request.version(), close || upgrade));
        (self.since, self.served) = (self.now, true);
        if upgrade {
            let key =
                request.headers().get(header::SEC_WEBSOCKET_KEY).map(|key| Bytes::copy_from_slice(key.as_bytes()));
            self.reading = Reading::Upgraded { id, key: key.unwrap_or_default() };
            return Some(Event::Upgrade { id, request });
        }
        if close {
            self.reading = Reading::Nothing;
            self.input.clear();
        }
        Some(Event::Request { id, request })
    }

    fn write_answers(&mut self) {
        while let Some((mut shape, response)) = self.pipeline.pop_answered() {
            let more = matches!(self.reading, Reading::Body(_)) || !self.pipeline.is_empty();
            shape.close |= self.draining && !more;
            self.note_output();
            pipeline::write(shape, response, &mut self.output);
            if shape.close {
                self.stop_after_output();
            } else if self.pipeline.is_empty() {
                self.since = self.now;
            }
        }
    }

    /// Answers with the rule's status after all earlier answers, and reads no more.
    fn refuse(&mut self, rule: Rule) {
        let Some(response) = rule.response() else { return self.abort(rule) };
        self.refused = Some(rule);
        self.reading = Reading::Nothing;
        self.input = BytesMut::new();
        let id = self.pipeline.push(Shape::refusal());
        self.pipeline.answer(id, response);
        self.write_answers();
    }

    /// Ends at once, with what was unsent unsaid.
    fn abort(&mut self, rule: Rule) {
        self.refused = Some(rule);
        self.stop();
    }

    fn stop(&mut self) {
        self.output.clear();
        self.stop_after_output();
    }

    fn stop_after_output(&mut self) {
        self.reading = Reading::Nothing;
        self.input = BytesMut::new();
        self.pipeline.clear();
    }

    /// No request is open and none can come.
    fn finish_if_over(&mut self) {
        let open = match self.reading {
            // What waits behind unread answers has come whole, and is read when they are taken.
            Reading::Head { .. } => !self.input.is_empty() && (!self.ended || self.is_blocked()),
            Reading::Body(_) => !self.ended || self.is_blocked(),
            Reading::Upgraded { .. } | Reading::Nothing => true,
        };
        if (self.ended || self.draining) && !open && self.pipeline.is_empty() {
            self.stop_after_output();
        }
    }

    /// The stall clock starts when there is first something to take.
    fn note_output(&mut self) {
        if self.output.is_empty() {
            self.taken = self.now;
        }
    }
}
