//! Datagrams of no known connection: who may begin one, and what the others are answered.
//!
//! Nothing is answered with more bytes than came (RFC 9000, sections 8.1 and 10.3.3), but for what quiche sends within
//! its three bytes for one.

use std::time::Instant;

use rand::RngCore as _;

use super::{ANSWERS_MAX, Endpoint, Meta, Verdict, random};
use crate::{
    connection::Connection,
    id::Id,
    packet::{self, Head, INITIAL_MIN, Kind, VERSION},
    stats::Drop,
    stream::Side,
    token::{Retried, TokenError},
};

/// A client's first packet: its ids and its token.
struct First {
    to: Id,
    from: Id,
    token: Vec<u8>,
}

impl Endpoint {
    pub(super) fn stranger(&mut self, now: Instant, unix_ms: u64, meta: Meta, datagram: &mut [u8]) -> Verdict {
        if let Some(handle) = packet::reset_token(datagram).and_then(|token| self.table.by_token(&token)) {
            return self.deliver(now, handle, meta, datagram);
        }
        let (kind, version, to, from, rest) = match Head::parse(datagram) {
            Ok(Head::Short { to }) => return self.reset(now, meta, &to, datagram.len()),
            Ok(Head::Long { kind, version, to, from, rest }) => (kind, version, to, from, rest),
            Err(packet::ParseError::Short) => return self.dropped(Drop::Short),
            Err(packet::ParseError::Malformed) => return self.dropped(Drop::Malformed),
        };
        if version != VERSION {
            let (to, from) = (to.to_vec(), from.to_vec());
            return self.negotiate(meta, version, &to, &from, datagram.len());
        }
        if kind != Kind::Initial {
            return self.dropped(Drop::UnknownConnection);
        }
        let (Some(to), Some(from), Some(token)) =
            (Id::from_slice(to), Id::from_slice(from), packet::initial_token(rest))
        else {
            return self.dropped(Drop::Malformed);
        };
        let first = First { to, from, token: token.to_vec() };
        self.initial(now, unix_ms, meta, &first, datagram)
    }

    fn initial(&mut self, now: Instant, unix_ms: u64, meta: Meta, first: &First, datagram: &mut [u8]) -> Verdict {
        if self.server.is_none() {
            return self.dropped(Drop::UnknownConnection);
        }
        if datagram.len() < INITIAL_MIN {
            return self.dropped(Drop::InitialTooSmall);
        }
        if first.to.as_slice().len() < Id::FIRST_MIN {
            return self.dropped(Drop::IdTooShort);
        }
        if self.draining {
            return self.dropped(Drop::Refused);
        }
        if self.table.len() >= self.config.connections_max {
            return self.dropped(Drop::ConnectionsMax);
        }
        let retried = match self.config.token.open(unix_ms, meta.remote, &first.token) {
            Ok(retried) if retried.retry_from == first.to => Some(retried),
            // One that was stolen, or kept. Its client takes no second Retry (RFC 9000, section 17.2.5.2).
            Ok(_) | Err(TokenError::Address | TokenError::Expired) => return self.dropped(Drop::Token),
            // Another server's, or one from before a change of keys: as good as none.
            Err(TokenError::Unknown) => None,
        };
        if retried.is_none() && self.half_open >= self.config.retry_above {
            return self.retry(unix_ms, meta, first, datagram.len());
        }
        if self.half_open >= self.config.half_open_max {
            return self.dropped(Drop::HalfOpenMax);
        }
        self.accept(now, meta, first, retried, datagram)
    }

    fn accept(
        &mut self,
        now: Instant,
        meta: Meta,
        first: &First,
        retried: Option<Retried>,
        datagram: &mut [u8],
    ) -> Verdict {
        let id = self.fresh_id();
        let Some(config) = &mut self.server else { return self.dropped(Drop::Refused) };
        // quiche has 128 bytes for all transport parameters, too few for this one beside those of a Retry. The ids that
        // follow bring their own.
        let token = u128::from_be_bytes(self.config.reset.token(&id));
        config.set_stateless_reset_token(retried.is_none().then_some(token));
        let quiche = match &retried {
            Some(retried) => {
                let ids = quiche::RetryConnectionIds {
                    original_destination_cid: &retried.original_to.quiche(),
                    retry_source_cid: &retried.retry_from.quiche(),
                };
                quiche::accept_with_retry(&id.quiche(), ids, meta.local, meta.remote, config)
            }
            None => quiche::accept_with_buf_factory(&id.quiche(), None, meta.local, meta.remote, config),
        };
        let Ok(quiche) = quiche else { return self.dropped(Drop::Refused) };
        let until = now + self.config.transport.handshake_timeout;
        let (way, streams_max) = ((meta.local, meta.remote), self.config.transport.streams_max());
        let mut connection = Connection::new(quiche, Side::Server, Some(first.to), way, until, streams_max);
        self.prepare(&mut connection);
        // What does not even open with keys that anybody can make leaves nothing behind.
        let outcome = connection.handle((meta.local, meta.remote), datagram);
        if connection.is_over() || (outcome == Ok(false)) {
            return self.dropped(Drop::Undecryptable);
        }
        let handle = self.table.insert(Box::new(connection));
        self.table.listen(first.to, handle);
        self.table.listen(id, handle);
        self.stats.accepted += 1;
        if outcome.is_err() {
            // quiche tells the client why.
            self.stats.dropped[Drop::Violation as usize] += 1;
        }
        self.touch(handle);
        self.settle(now, handle);
        Verdict::New(handle)
    }

    /// Asks the client to show that it receives at its address.
    fn retry(&mut self, unix_ms: u64, meta: Meta, first: &First, len: usize) -> Verdict {
        if self.is_busy() {
            return self.dropped(Drop::AnswersMax);
        }
        let retried = Retried { original_to: first.to, retry_from: self.fresh_id() };
        let token = self.config.token.seal(unix_ms, meta.remote, &retried, random(&mut self.rng));
        let mut answer = vec![0; 256];
        let (to, from) = (first.to.quiche(), first.from.quiche());
        let Ok(size) = quiche::retry(&from, &to, &retried.retry_from.quiche(), &token, VERSION, &mut answer) else {
            return self.dropped(Drop::Malformed);
        };
        debug_assert!(size <= len, "a Retry is smaller than what it answers");
        answer.truncate(size);
        self.stats.retries += 1;
        self.answer(meta, answer)
    }

    fn negotiate(&mut self, meta: Meta, version: u32, to: &[u8], from: &[u8], len: usize) -> Verdict {
        if version == 0 || self.server.is_none() {
            return self.dropped(Drop::Version);
        }
        if len < INITIAL_MIN {
            return self.dropped(Drop::InitialTooSmall);
        }
        if self.is_busy() {
            return self.dropped(Drop::AnswersMax);
        }
        // By hand: ids of other versions have up to 255 bytes. A reserved version among ours keeps clients honest about
        // unknown ones (RFC 9000, section 6.3).
        let reserved = self.rng.next_u32() & 0xF0F0_F0F0 | 0x0A0A_0A0A;
        let mut answer = Vec::with_capacity(7 + to.len() + from.len() + 8);
        answer.push(self.rng.next_u32() as u8 | 0xC0);
        answer.extend_from_slice(&0u32.to_be_bytes());
        for id in [from, to] {
            answer.push(id.len() as u8);
            answer.extend_from_slice(id);
        }
        answer.extend_from_slice(&VERSION.to_be_bytes());
        answer.extend_from_slice(&reserved.to_be_bytes());
        debug_assert!(answer.len() <= len, "a negotiation is smaller than what it answers");
        self.stats.versions += 1;
        self.answer(meta, answer)
    }

    /// Tells a peer that its connection is not known here.
    fn reset(&mut self, now: Instant, meta: Meta, to: &Id, len: usize) -> Verdict {
        if self.server.is_none() {
            return self.dropped(Drop::UnknownConnection);
        }
        if self.is_busy() || !self.resets.take(now) {
            return self.dropped(Drop::AnswersMax);
        }
        let Some(answer) = packet::reset(&self.config.reset.token(to), random(&mut self.rng), len) else {
            return self.dropped(Drop::UnknownConnection);
        };
        self.stats.resets += 1;
        self.stats.dropped[Drop::UnknownConnection as usize] += 1;
        self.answer(meta, answer)
    }

    /// Whether answers pile up: then none is made, for that would be work that a flood of datagrams buys.
    fn is_busy(&self) -> bool {
        self.answers.len() >= ANSWERS_MAX
    }

    fn answer(&mut self, meta: Meta, bytes: Vec<u8>) -> Verdict {
        self.answers.push_back((meta, bytes));
        Verdict::Reply
    }
}

/// How many resets may be made now.
#[derive(Debug)]
pub(super) struct Allowance {
    per_s: u32,
    left: f64,
    since: Option<Instant>,
}

impl Allowance {
    pub(super) fn new(per_s: u32) -> Self {
        Self { per_s, left: f64::from(per_s), since: None }
    }

    fn take(&mut self, now: Instant) -> bool {
        let elapsed = self.since.map_or(0.0, |since| now.saturating_duration_since(since).as_secs_f64());
        self.since = Some(now);
        self.left = (self.left + elapsed * f64::from(self.per_s)).min(f64::from(self.per_s));
        let may = self.left >= 1.0;
        self.left -= if may { 1.0 } else { 0.0 };
        may
    }
}
