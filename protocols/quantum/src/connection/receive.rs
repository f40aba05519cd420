//! What comes in: datagrams into packets, packets opened, and what follows when all of a datagram is read.

use std::time::Instant;

use super::{
    Connection, Ending, Handshake,
    frames::{Carrier, Content},
};
use crate::{
    config::DATAGRAM_MIN,
    crypto::{Generation, Level},
    endpoint::Meta,
    error::TransportError,
    frame::Side,
    packet::{self, Header, OpenError, Packet, Space},
    stats::Drop,
};

/// Datagrams that are kept while keys for them are on their way: reordering puts a few in front of the handshake.
pub(crate) const EARLY_MAX: usize = 8;

/// A packet that was opened and whose frames were read.
struct Opened {
    meta: Meta,
    /// Bytes of its datagram.
    size: usize,
    level: Level,
    number: u64,
    /// Whether no larger number came before.
    newest: bool,
    content: Content,
}

/// What became of one packet.
enum Fate {
    Taken,
    Dropped(Drop),
    /// Keys for it may come.
    Early,
}

impl Connection {
    /// Takes a datagram; why it was dropped, if nothing of it was of use.
    pub(crate) fn handle(&mut self, now: Instant, unix_ms: u64, meta: Meta, datagram: &mut [u8]) -> Option<Drop> {
        self.unix_ms = unix_ms;
        match self.ending {
            Ending::Over => return Some(Drop::UnknownConnection),
            Ending::Draining { .. } => return None,
            Ending::Closing { .. } => self.heard_while_closing(),
            Ending::No => {}
        }
        self.counters.bytes_received += datagram.len() as u64;
        let confirmed = self.handshake == Handshake::Confirmed;
        if !self.paths.on_datagram(meta.remote, datagram.len(), confirmed) {
            return Some(Drop::Path);
        }
        let dropped = self.packets(now, meta, datagram);
        self.settle(now);
        self.replay_early(now);
        dropped
    }

    fn packets(&mut self, now: Instant, meta: Meta, datagram: &mut [u8]) -> Option<Drop> {
        let size = datagram.len();
        let mut rest = datagram;
        let (mut taken, mut reason) = (false, None);
        while !rest.is_empty() {
            let Ok((packet, behind)) = packet::parse(rest) else {
                reason = reason.or(Some(Drop::Malformed));
                break;
            };
            rest = behind;
            match self.one(now, meta, size, packet) {
                Fate::Taken => taken = true,
                Fate::Early => taken = true,
                Fate::Dropped(why) => reason = reason.or(Some(why)),
            }
            if matches!(self.ending, Ending::Over | Ending::Draining { .. }) {
                break;
            }
        }
        if taken { None } else { reason }
    }

    fn one(&mut self, now: Instant, meta: Meta, size: usize, packet: Packet<'_>) -> Fate {
        let to = packet.header.to();
        //= SPEC.md#3.3
        //# MUST drop packets to an id that is not the connection's.
        if to != self.original_to && self.local_ids.iter().all(|id| id != to) {
            return Fate::Dropped(Drop::UnknownConnection);
        }
        let level = match packet.header {
            //= SPEC.md#3.3
            //# A server MUST drop a shorter one.
            Header::Initial { .. } if size < DATAGRAM_MIN && self.side == Side::Server => {
                return Fate::Dropped(Drop::InitialTooSmall);
            }
            Header::Initial { .. } => Level::Initial,
            Header::Handshake { .. } => Level::Handshake,
            Header::ZeroRtt { .. } => Level::ZeroRtt,
            Header::Short { .. } => Level::OneRtt,
            Header::Retry { .. } => return self.on_retry(now, packet),
            Header::VersionNegotiation { .. } => return self.on_version_negotiation(now, &packet),
            Header::Unsupported { .. } => return Fate::Dropped(Drop::Version),
        };
        self.sealed(now, meta, size, level, packet)
    }

    fn sealed(&mut self, now: Instant, meta: Meta, size: usize, level: Level, packet: Packet<'_>) -> Fate {
        let Some((space, number_at)) = packet.header.number() else { return Fate::Dropped(Drop::Malformed) };
        let from = packet.header.from();
        let Some(header_key) = self.crypto.remote_header(level) else {
            return self.keep_early(meta, level, packet.bytes);
        };
        let expected = self.received[space.index()].expected();
        let Some(head) = packet::unprotect(packet.bytes, number_at, header_key, expected) else {
            return Fate::Dropped(Drop::Malformed);
        };
        let Some(opening) = self.crypto.opening(now, level, head.key_phase(), head.number) else {
            return Fate::Dropped(Drop::NoKeys);
        };
        let generation = opening.generation;
        let opened = packet::open(packet.bytes, &head, opening.key);
        let payload = match opened {
            Ok(payload) => payload,
            Err(OpenError::Violation(error)) => return self.violated(now, error),
            Err(OpenError::Forged) => return self.forged(now, packet.bytes),
        };
        //= SPEC.md#3.4
        //# A receiver MUST drop a packet whose number it has received before, or can no longer tell; it decides after
        //# the packet has authenticated.
        if !self.received[space.index()].is_new(head.number) {
            self.counters.packets_duplicate += 1;
            return Fate::Dropped(Drop::Duplicate);
        }
        let pto = self.pto();
        if let Err(error) = self.crypto.on_opened(now, pto, level, head.number, generation) {
            return self.violated(now, error);
        }
        self.counters.key_updates += u64::from(generation == Generation::Next);
        if !self.names_agree(level, from) {
            return Fate::Dropped(Drop::Malformed);
        }
        self.counters.packets_received += 1;
        let newest = self.received[space.index()].largest().is_none_or(|largest| head.number > largest);
        let to = packet.header.to();
        let carrier = Carrier { to, space, early: level == Level::ZeroRtt, remote: meta.remote, size, generation };
        match self.frames(now, carrier, &packet.bytes[payload]) {
            Ok(content) => self.opened(now, &Opened { meta, size, level, number: head.number, newest, content }),
            Err(error) => return self.violated(now, error),
        }
        Fate::Taken
    }

    /// A packet was read: it is acknowledged, shows that the peer lives, and maybe where.
    fn opened(&mut self, now: Instant, packet: &Opened) {
        let Opened { meta, size, level, number, newest, content } = packet;
        let space = level.space();
        //= SPEC.md#5
        //# It MUST NOT acknowledge a packet if it passed a frame of it over, which is a MESSAGE for which it has no
        //# room (section 13), or a SYMBOL that comes too late (section 11.3): what matters of it then comes again.
        if content.refused {
            self.received[space.index()].insert_refused(*number);
        } else {
            self.received[space.index()].insert(now, *number, content.ack_eliciting, meta.ecn);
        }
        if let Some(qlog) = &mut self.qlog {
            qlog.packet_received(now, space, *number, *size);
        }
        self.heard = now;
        self.sent_since_heard = false;
        if *level == Level::Handshake && self.side == Side::Server {
            //= SPEC.md#4
            //# Initial keys MUST be discarded: by a client when it sends its first Handshake packet, by a server when
            //# one authenticates.
            // Only who received our Initial has these keys (RFC 9000, section 8.1).
            self.paths.on_validated();
            self.discard(now, Space::Initial);
        }
        if space == Space::Application && matches!(self.ending, Ending::No) {
            self.locate(now, meta.remote, *size, *newest, content);
        }
    }

    fn violated(&mut self, now: Instant, error: TransportError) -> Fate {
        self.fail(now, error);
        Fate::Taken
    }

    /// A packet that does not open: damage, a forgery, or a stateless reset.
    fn forged(&mut self, now: Instant, bytes: &[u8]) -> Fate {
        if packet::reset_token(bytes).is_some_and(|token| self.remote_ids.is_reset(&token)) {
            self.on_reset(now);
            return Fate::Taken;
        }
        if let Err(error) = self.crypto.on_forged() {
            return self.violated(now, error);
        }
        Fate::Dropped(Drop::Undecryptable)
    }

    fn keep_early(&mut self, meta: Meta, level: Level, bytes: &[u8]) -> Fate {
        let may_come = match level {
            Level::Initial => false,
            Level::ZeroRtt => self.side == Side::Server && self.handshake == Handshake::Open,
            Level::Handshake => self.handshake == Handshake::Open && self.side == Side::Client,
            Level::OneRtt => self.handshake == Handshake::Open,
        };
        if !may_come || self.early.len() >= EARLY_MAX {
            return Fate::Dropped(Drop::NoKeys);
        }
        self.early.push_back((meta, bytes.to_vec()));
        Fate::Early
    }

    fn replay_early(&mut self, now: Instant) {
        if self.early.is_empty() {
            return;
        }
        for _ in 0..self.early.len() {
            let Some((meta, mut bytes)) = self.early.pop_front() else { return };
            if matches!(self.ending, Ending::No) {
                self.packets(now, meta, &mut bytes);
            }
        }
        if self.early.is_empty() || self.handshake > Handshake::Open {
            self.early = Default::default();
        }
        self.settle(now);
    }

    /// Everything of a datagram is read: now recovered symbols, then losses, then what all of it makes possible.
    pub(super) fn settle(&mut self, now: Instant) {
        if !matches!(self.ending, Ending::No) {
            return;
        }
        if let Err(error) = self.take_recovered() {
            return self.fail(now, error);
        }
        //= SPEC.md#9
        //# Before it declares losses because of a datagram, a sender MUST handle the SYMBOL_ACK frames in it.
        self.detect_losses(now);
        self.drive_handshake(now);
        self.refresh_policy(now);
        if self.qlog.is_some() {
            let stats = self.stats();
            self.qlog.iter_mut().for_each(|qlog| qlog.metrics(now, &stats));
        }
    }

    /// Names that do not change within a handshake (RFC 9000, section 7.2).
    fn names_agree(&mut self, level: Level, from: Option<crate::guuid::Guuid>) -> bool {
        let Some(from) = from else { return true };
        if level == Level::Initial && !self.is_settled {
            (self.peer_first, self.is_settled) = (from, true);
            self.remote_ids.replace_first(from);
        }
        self.peer_first == from
    }

    fn on_retry(&mut self, now: Instant, packet: Packet<'_>) -> Fate {
        let Header::Retry { from, tag, .. } = packet.header else { return Fate::Dropped(Drop::Malformed) };
        let heard = self.received.iter().any(|received| received.largest().is_some());
        // One that names what the client named already answers nothing (RFC 9000, section 17.2.5.2).
        if self.side == Side::Server || heard || self.retry_from.is_some() || from == self.original_to {
            return Fate::Dropped(Drop::Malformed);
        }
        let Some(whole) = packet.bytes.len().checked_sub(packet::TAG_LEN) else {
            return Fate::Dropped(Drop::Malformed);
        };
        if crate::token::retry_tag(self.original_to, &packet.bytes[..whole]) != tag {
            return Fate::Dropped(Drop::Undecryptable);
        }
        self.token = packet.token().to_vec();
        self.retry_from = Some(from);
        self.remote_ids.replace_first(from);
        self.crypto.on_retry(from);
        // Its number was used, its content must go once more.
        let (recovery, mut ledger) = super::ledger::ledger!(self, now);
        recovery.lose_all(Space::Initial, &mut ledger);
        // Early data went to an id that nobody listens to (section 17.2.5.3).
        recovery.lose_all(Space::Application, &mut ledger);
        Fate::Taken
    }

    fn on_version_negotiation(&mut self, now: Instant, packet: &Packet<'_>) -> Fate {
        let heard = self.received.iter().any(|received| received.largest().is_some());
        let ours = packet.versions().any(|version| version == packet::VERSION);
        let echoed = packet.header.from() == Some(self.original_to);
        let retried = self.retry_from.is_some();
        if self.side == Side::Server || heard || retried || ours || !echoed {
            return Fate::Dropped(Drop::Version);
        }
        self.give_up(now, crate::event::CloseReason::Version);
        Fate::Taken
    }
}
