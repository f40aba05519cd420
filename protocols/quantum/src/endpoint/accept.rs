//! Datagrams of no known connection: who may begin one, and what the others are answered.
//!
//! Nothing is answered with more bytes than came (RFC 9000, sections 8.1 and 10.3.3), and nothing is remembered before a
//! first packet's authentication has held.

use std::{net::SocketAddr, time::Instant};

use rand::{Rng as _, RngCore as _};

use super::{ANSWERS_MAX, Endpoint, Meta, Verdict, random};
use crate::{
    config::DATAGRAM_MIN,
    connection::{Connection, Role},
    crypto,
    error::Code,
    guuid::Guuid,
    packet::{self, Header, VERSION},
    stats::Drop,
    token::{self, Token},
};

/// A first packet's names.
struct First {
    to: Guuid,
    from: Guuid,
    token: Vec<u8>,
}

impl Endpoint {
    pub(super) fn stranger(
        &mut self,
        now: Instant,
        unix_ms: u64,
        meta: Meta,
        to: Guuid,
        datagram: &mut [u8],
    ) -> Verdict {
        if let Some(handle) = packet::reset_token(datagram).and_then(|token| self.table.by_token(&token)) {
            if let Some(connection) = self.table.get_mut(handle) {
                connection.on_reset(now);
            }
            self.touch(handle);
            self.settle(now, handle);
            return Verdict::Taken;
        }
        let len = datagram.len();
        let Ok((packet, _)) = packet::parse(datagram) else { return self.dropped(Drop::Malformed) };
        match packet.header {
            Header::Initial { to, from, .. } => {
                let first = First { to, from, token: packet.token().to_vec() };
                self.initial(now, unix_ms, meta, first, datagram)
            }
            Header::Short { .. } => self.reset(meta.remote, to, len),
            Header::Unsupported { version, to, from } => self.negotiate(meta.remote, version, to, from, len),
            Header::ZeroRtt { .. }
            | Header::Handshake { .. }
            | Header::Retry { .. }
            | Header::VersionNegotiation { .. } => self.dropped(Drop::UnknownConnection),
        }
    }

    fn initial(&mut self, now: Instant, unix_ms: u64, meta: Meta, first: First, datagram: &mut [u8]) -> Verdict {
        if self.server.is_none() {
            return self.dropped(Drop::UnknownConnection);
        }
        if datagram.len() < DATAGRAM_MIN {
            return self.dropped(Drop::InitialTooSmall);
        }
        if self.draining {
            return self.refuse(meta.remote, &first, Drop::Refused);
        }
        if self.table.len() >= self.config.connections_max {
            return self.refuse(meta.remote, &first, Drop::ConnectionsMax);
        }
        //= SPEC.md#7.2
        //# What is invalid counts as no token, except that a packet with a Retry token for another id MUST be dropped.
        // A token that counts for nothing is none (RFC 9000, section 8.1.3); a Retry's is for one id only.
        let token = self.config.token.open(unix_ms, meta.remote, &first.token).ok();
        if let Some(Token::Retry { retry_from, .. }) = token
            && retry_from != first.to
        {
            return self.dropped(Drop::Token);
        }
        //= SPEC.md#7.2
        //# A server with more half-open handshakes than it likes SHOULD answer by Retry, and MUST keep no state for the
        //# Initial packets that it answers so.
        if token.is_none() && self.half_open >= self.config.retry_above {
            return self.retry(unix_ms, meta.remote, &first, datagram.len());
        }
        if self.half_open >= self.config.half_open_max {
            return self.dropped(Drop::HalfOpenMax);
        }
        self.accept(now, unix_ms, meta, first, token, datagram)
    }

    fn accept(
        &mut self,
        now: Instant,
        unix_ms: u64,
        meta: Meta,
        first: First,
        token: Option<Token>,
        datagram: &mut [u8],
    ) -> Verdict {
        // Before anything is made for it: does the packet belong to its id at all?
        if !crypto::initial_opens(first.to, datagram) {
            return self.dropped(Drop::Undecryptable);
        }
        let Some(server) = self.server.clone() else { return self.dropped(Drop::Refused) };
        let mut start = self.start(now, unix_ms, meta.remote);
        start.token = self.config.token.address(unix_ms, meta.remote.ip(), random(&mut self.rng));
        let role = Role::Server { config: &server, to: first.to, from: first.from, token };
        let Ok(connection) = Connection::new(start, role) else { return self.dropped(Drop::Refused) };
        let handle = self.table.insert(Box::new(connection));
        self.stats.accepted += 1;
        self.deliver(now, unix_ms, handle, meta, datagram)
    }

    // Whether answers pile up: then none is made, for that would be work that a flood of datagrams buys.
    fn is_busy(&self) -> bool {
        self.answers.len() >= ANSWERS_MAX
    }

    // Asks the client to show that it receives at its address.
    fn retry(&mut self, unix_ms: u64, remote: SocketAddr, first: &First, len: usize) -> Verdict {
        if self.is_busy() {
            return self.dropped(Drop::HalfOpenMax);
        }
        let from = Guuid::new(unix_ms, random(&mut self.rng)).with_word(self.config.router.word(self.rng.next_u32()));
        let nonce = random(&mut self.rng);
        let token = self.config.token.retry(unix_ms, remote, first.to, from, nonce);
        let mut answer = Vec::with_capacity(128);
        packet::encode_retry(first.from, from, &token, first.to, &mut answer);
        debug_assert!(answer.len() <= len, "a Retry is smaller than what it answers");
        self.stats.retries += 1;
        self.answer(remote, answer)
    }

    fn negotiate(&mut self, remote: SocketAddr, version: u32, to: Guuid, from: Guuid, len: usize) -> Verdict {
        if version == 0 || self.server.is_none() {
            return self.dropped(Drop::Version);
        }
        if len < DATAGRAM_MIN {
            return self.dropped(Drop::InitialTooSmall);
        }
        if self.is_busy() {
            return self.dropped(Drop::Version);
        }
        let mut answer = Vec::with_capacity(64);
        // A reserved version among them keeps clients honest about unknown ones (RFC 9000, section 6.3).
        let reserved = self.rng.random::<u32>() & 0xF0F0_F0F0 | 0x0A0A_0A0A;
        let entropy = self.rng.random();
        packet::encode_version_negotiation(from, to, &[VERSION, reserved], entropy, &mut answer);
        self.stats.versions += 1;
        self.answer(remote, answer)
    }

    // Tells a peer that its connection is not known here. Shorter than what it answers, so that two endpoints without
    // state do not answer each other for ever.
    fn reset(&mut self, remote: SocketAddr, to: Guuid, len: usize) -> Verdict {
        if self.is_busy() {
            return self.dropped(Drop::UnknownConnection);
        }
        let (token, mut answer) = (token::reset_token(&self.config.reset_key, to), Vec::with_capacity(64));
        if !packet::encode_reset(&token, random(&mut self.rng), len, &mut answer) {
            return self.dropped(Drop::UnknownConnection);
        }
        self.stats.resets += 1;
        self.stats.dropped[Drop::UnknownConnection as usize] += 1;
        self.answer(remote, answer)
    }

    fn refuse(&mut self, remote: SocketAddr, first: &First, reason: Drop) -> Verdict {
        if self.is_busy() {
            return self.dropped(reason);
        }
        let mut answer = Vec::with_capacity(128);
        let from = Guuid::new(0, random(&mut self.rng));
        crypto::seal_refusal(first.to, first.from, from, Code::ConnectionRefused as u64, &mut answer);
        self.stats.dropped[reason as usize] += 1;
        self.answer(remote, answer)
    }

    fn answer(&mut self, remote: SocketAddr, bytes: Vec<u8>) -> Verdict {
        self.answers.push_back((remote, bytes));
        Verdict::Taken
    }
}
