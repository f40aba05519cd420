//! An HTTP/2 server connection: the `h2` crate, polled over memory.

mod pipe;
mod stream;

use std::{
    collections::{BTreeMap, VecDeque},
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::Bytes;
use h2::{Reason, RecvStream, server};
use http::{Request, Response};

use crate::{
    connection::{Event, RequestId},
    limit::{CONNECTION_WINDOW, INPUT_MAX, INPUT_PAUSE, Limits, REQUESTS_MAX, RESETS_MAX, STREAM_WINDOW, STREAMS_MAX},
    rule::Rule,
};
use pipe::Pipe;
use stream::{Incoming, Outgoing, Progress};

/// See [`crate::Connection`]. Idle, h2 holds about 30 KiB of buffers.
#[derive(Debug)]
pub(crate) struct Http2 {
    limits: Limits,
    pipe: Pipe,
    state: State,
    /// Requests whose bodies are on their way, oldest first: the first one has the earliest deadline.
    incoming: BTreeMap<RequestId, Incoming>,
    /// Requests without an answer, among them all of `incoming`.
    outgoing: BTreeMap<RequestId, Outgoing>,
    events: VecDeque<Event>,
    /// Bytes of all bodies in `incoming`.
    bodies: usize,
    /// Resets by the peer, less the answers it let us give.
    resets: u32,
    now: Instant,
    /// When the connection was made, or its last request ended.
    since: Instant,
    /// When the peer took the last piece, or the last answer was given.
    taken: Instant,
    busy: bool,
    /// Something changed that h2 must see.
    dirty: bool,
}

#[derive(Debug)]
enum State {
    Handshake(server::Handshake<Pipe, Bytes>),
    Open(server::Connection<Pipe, Bytes>),
    Over,
}

impl Http2 {
    pub(crate) fn new(now: Instant, limits: Limits) -> Self {
        let pipe = Pipe::default();
        let handshake = builder(&limits).handshake(pipe.clone());
        Self {
            limits,
            pipe,
            state: State::Handshake(handshake),
            incoming: BTreeMap::new(),
            outgoing: BTreeMap::new(),
            events: VecDeque::new(),
            bodies: 0,
            resets: 0,
            now,
            since: now,
            taken: now,
            busy: false,
            dirty: true,
        }
    }

    pub(crate) fn handle(&mut self, now: Instant, bytes: &[u8]) {
        self.now = now;
        if matches!(self.state, State::Over) {
            return;
        }
        let mut buffers = self.pipe.buffers();
        let flooded = buffers.input.len() + bytes.len() > INPUT_MAX;
        if !flooded {
            buffers.input.extend_from_slice(bytes);
        }
        drop(buffers);
        self.dirty = true;
        if flooded {
            self.abort(Rule::InputFlood);
        }
    }

    pub(crate) fn handle_end(&mut self, now: Instant) {
        self.now = now;
        self.pipe.buffers().ended = true;
        self.dirty = true;
    }

    pub(crate) fn poll(&mut self) -> Option<Event> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        self.turn();
        self.events.pop_front()
    }

    pub(crate) fn respond(&mut self, now: Instant, id: RequestId, response: Response<Bytes>) {
        self.now = now;
        if let Some(outgoing) = self.outgoing.remove(&id) {
            self.send(outgoing, response);
        }
    }

    pub(crate) fn take_piece(&mut self, now: Instant, max: usize) -> Option<Bytes> {
        self.now = now;
        self.turn();
        let piece = self.pipe.buffers().take_output(max)?;
        (self.taken, self.dirty) = (now, true);
        Some(piece)
    }

    pub(crate) fn wants_close(&self) -> bool {
        matches!(self.state, State::Over) && self.pipe.buffers().output_len() == 0
    }

    pub(crate) fn wants_input(&self) -> bool {
        self.pipe.buffers().input.len() < INPUT_PAUSE
    }

    pub(crate) fn is_idle(&self) -> bool {
        !self.has_streams() && self.outgoing.is_empty() && self.pipe.buffers().output_len() == 0
    }

    pub(crate) fn drain(&mut self, now: Instant) {
        self.now = now;
        self.turn();
        match &mut self.state {
            State::Open(connection) => connection.graceful_shutdown(),
            // Without a preface there is nobody to say goodbye to.
            State::Handshake(_) => self.stop(),
            State::Over => {}
        }
        self.dirty = true;
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let wait = match self.state {
            State::Over if self.pipe.buffers().output_len() == 0 => None,
            State::Over => Some(self.taken + self.limits.stall()),
            State::Handshake(_) => Some(self.since + self.limits.head()),
            State::Open(_) if self.is_taking() => Some(self.taken + self.limits.stall()),
            State::Open(_) if self.outgoing.is_empty() => Some(self.since + self.limits.idle()),
            State::Open(_) => None,
        };
        let body = self.incoming.values().next().map(|incoming| incoming.since + self.limits.body());
        [wait, body].into_iter().flatten().min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        self.time_out_bodies();
        let (taking, idle) = (self.is_taking(), self.outgoing.is_empty());
        let stalled = now >= self.taken + self.limits.stall();
        match &mut self.state {
            State::Handshake(_) if now >= self.since + self.limits.head() => self.abort(Rule::SlowHead),
            State::Over if stalled => self.abort(Rule::Stalled),
            State::Open(_) if taking && stalled => self.abort(Rule::Stalled),
            State::Open(connection) if !taking && idle && now >= self.since + self.limits.idle() => {
                connection.abrupt_shutdown(Reason::NO_ERROR);
                self.dirty = true;
            }
            _ => {}
        }
    }

    /// Whether it is the peer's turn: bytes wait for it, or answers for its windows.
    fn is_taking(&self) -> bool {
        self.pipe.buffers().output_len() > 0 || self.outgoing.is_empty() && self.has_streams()
    }

    fn has_streams(&self) -> bool {
        match &self.state {
            State::Open(connection) => connection.has_streams(),
            State::Handshake(_) | State::Over => false,
        }
    }

    /// Polls h2 and the bodies until nothing changes any more.
    fn turn(&mut self) {
        while std::mem::take(&mut self.dirty) && !matches!(self.state, State::Over) {
            self.accept();
            self.read_bodies();
        }
        let busy = !self.outgoing.is_empty() || self.has_streams();
        if self.busy && !busy {
            self.since = self.now;
        }
        self.busy = busy;
    }

    fn accept(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            match &mut self.state {
                State::Handshake(handshake) => match Pin::new(handshake).poll(&mut cx) {
                    Poll::Pending => return,
                    Poll::Ready(Ok(connection)) => (self.state, self.since) = (State::Open(connection), self.now),
                    Poll::Ready(Err(error)) => return self.fail(&error),
                },
                State::Open(connection) => match connection.poll_accept(&mut cx) {
                    Poll::Pending => return,
                    Poll::Ready(None) => return self.stop(),
                    Poll::Ready(Some(Err(error))) => return self.fail(&error),
                    Poll::Ready(Some(Ok((request, respond)))) => self.open(request, respond),
                },
                State::Over => return,
            }
        }
    }

    fn open(&mut self, request: Request<RecvStream>, respond: server::SendResponse<Bytes>) {
        let id = RequestId(u32::from(respond.stream_id()).into());
        let (head, stream) = request.into_parts();
        let mut request = Request::from_parts(head, ());
        let mut outgoing = Outgoing::new(request.method(), respond);
        self.busy = true;
        let expects_continue = match stream::check(&mut request, &self.limits) {
            Ok(expects_continue) => expects_continue,
            Err(rule) => return self.refuse(outgoing, rule),
        };
        if self.outgoing.len() >= REQUESTS_MAX {
            return self.calm();
        }
        let incoming = Incoming::new(request, stream, self.now);
        if expects_continue {
            outgoing.send_continue();
            self.dirty = true;
        }
        self.outgoing.insert(id, outgoing);
        self.incoming.insert(id, incoming);
    }

    fn read_bodies(&mut self) {
        if self.incoming.is_empty() {
            return;
        }
        let mut cx = Context::from_waker(Waker::noop());
        let ids: Vec<_> = self.incoming.keys().copied().collect();
        for id in ids {
            let Some(incoming) = self.incoming.get_mut(&id) else { continue };
            match incoming.read(&mut cx, &self.limits) {
                Ok(Progress::More(0)) => {}
                Ok(Progress::More(taken)) => {
                    self.bodies += taken;
                    self.dirty = true;
                    if self.bodies > self.limits.bodies_max as usize {
                        self.give_up(id, Rule::BodiesTooLarge);
                    }
                }
                Ok(Progress::Whole) => self.complete(id),
                Ok(Progress::Gone) => self.lose(id),
                Err(rule) => self.give_up(id, rule),
            }
        }
        self.bodies = self.incoming.values().map(Incoming::body_len).sum();
    }

    fn complete(&mut self, id: RequestId) {
        if let Some(incoming) = self.incoming.remove(&id) {
            self.events.push_back(Event::Request { id, request: incoming.into_request() });
            self.dirty = true;
        }
    }

    /// A request that the peer took back before it was whole.
    fn lose(&mut self, id: RequestId) {
        self.incoming.remove(&id);
        if let Some(outgoing) = self.outgoing.remove(&id) {
            outgoing.reset(Reason::CANCEL);
        }
        self.note_reset();
    }

    /// A request whose body broke a rule.
    fn give_up(&mut self, id: RequestId, rule: Rule) {
        self.incoming.remove(&id);
        if let Some(outgoing) = self.outgoing.remove(&id) {
            self.refuse(outgoing, rule);
        }
    }

    fn time_out_bodies(&mut self) {
        while let Some((id, incoming)) = self.incoming.first_key_value()
            && self.now >= incoming.since + self.limits.body()
        {
            self.give_up(*id, Rule::SlowBody);
        }
    }

    /// Answers a broken request on its own stream; the others go on.
    fn refuse(&mut self, outgoing: Outgoing, rule: Rule) {
        self.events.push_back(Event::Refused(rule));
        match rule.response() {
            Some(response) => self.send(outgoing, response),
            None => outgoing.reset(Reason::PROTOCOL_ERROR),
        }
        self.dirty = true;
    }

    fn send(&mut self, outgoing: Outgoing, response: Response<Bytes>) {
        (self.taken, self.dirty) = (self.now, true);
        if outgoing.send(response) {
            self.resets = self.resets.saturating_sub(1);
        } else {
            self.note_reset();
        }
    }

    fn note_reset(&mut self) {
        self.dirty = true;
        self.resets += 1;
        if self.resets > RESETS_MAX {
            self.resets = 0;
            self.calm();
        }
    }

    /// Ends a connection that only an attack looks like.
    fn calm(&mut self) {
        self.events.push_back(Event::Refused(Rule::Flood));
        if let State::Open(connection) = &mut self.state {
            connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
        }
        self.dirty = true;
    }

    fn fail(&mut self, error: &h2::Error) {
        if error.reason() == Some(Reason::ENHANCE_YOUR_CALM) && !error.is_remote() {
            self.events.push_back(Event::Refused(Rule::Flood));
        } else if !error.is_remote() && !error.is_io() && error.reason() != Some(Reason::NO_ERROR) {
            self.events.push_back(Event::Refused(Rule::Protocol));
        }
        self.stop();
    }

    /// Ends at once, with what was unsent unsaid.
    fn abort(&mut self, rule: Rule) {
        self.events.push_back(Event::Refused(rule));
        self.stop();
        self.pipe.buffers().clear();
    }

    fn stop(&mut self) {
        self.state = State::Over;
        self.incoming.clear();
        self.outgoing.clear();
        self.bodies = 0;
    }
}

fn builder(limits: &Limits) -> server::Builder {
    let mut builder = server::Builder::new();
    builder
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(limits.head_max)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    builder
}
