//! The owner of a connection, with a clock that it sets itself.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use ringshard_http::{Connection, Event, Limits, RequestId, Rule};

/// A connection, the requests that it gave, and the time.
pub(crate) struct Owner {
    pub(crate) connection: Connection,
    pub(crate) now: Instant,
    pub(crate) requests: Vec<(RequestId, Request<Bytes>)>,
    pub(crate) upgrades: Vec<(RequestId, Request<Bytes>)>,
    pub(crate) refused: Vec<Rule>,
}

impl Owner {
    pub(crate) fn http1() -> Self {
        Self::of(Connection::http1)
    }

    pub(crate) fn of(new: fn(Instant, Limits) -> Connection) -> Self {
        Self::with(new, Limits::default())
    }

    pub(crate) fn with(new: fn(Instant, Limits) -> Connection, limits: Limits) -> Self {
        let now = Instant::now();
        Self { connection: new(now, limits), now, requests: Vec::new(), upgrades: Vec::new(), refused: Vec::new() }
    }

    /// Bytes arrive; gives back how many events came.
    pub(crate) fn feed(&mut self, bytes: impl AsRef<[u8]>) -> usize {
        self.connection.handle(self.now, bytes.as_ref());
        self.poll()
    }

    pub(crate) fn poll(&mut self) -> usize {
        let mut events = 0;
        while let Some(event) = self.connection.poll() {
            events += 1;
            match event {
                Event::Request { id, request } => self.requests.push((id, request)),
                Event::Upgrade { id, request } => self.upgrades.push((id, request)),
                Event::Refused(rule) => self.refused.push(rule),
            }
        }
        events
    }

    /// Answers the oldest request with its own body.
    pub(crate) fn echo(&mut self) {
        let (id, request) = self.requests.remove(0);
        self.answer(id, request.into_body());
    }

    pub(crate) fn answer(&mut self, id: RequestId, body: impl Into<Bytes>) {
        self.connection.respond(self.now, id, Response::new(body.into()));
        self.poll();
    }

    /// All output, as text.
    pub(crate) fn output(&mut self) -> String {
        String::from_utf8_lossy(&self.output_bytes()).into_owned()
    }

    pub(crate) fn output_bytes(&mut self) -> Vec<u8> {
        let mut out = BytesMut::new();
        while self.connection.take_output(self.now, &mut out, usize::MAX) {
            self.poll();
        }
        out.to_vec()
    }

    pub(crate) fn wait(&mut self, secs: u64) {
        self.now += Duration::from_secs(secs);
        self.connection.handle_timeout(self.now);
        self.poll();
    }
}

/// The bodies of requests, as text.
pub(crate) fn paths(owner: &Owner) -> Vec<String> {
    owner.requests.iter().map(|(_, request)| request.uri().to_string()).collect()
}
