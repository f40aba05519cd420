//! One packet: its header, the frames that fit and matter most, and its seal.

use std::time::Instant;

use super::{Connection, Handshake, pending::Flag, transmit::Gate};
use crate::{
    config::DATAGRAM_MIN,
    crypto::Level,
    frame::{Frame, kind},
    guuid::Guuid,
    id::NewId,
    item::{Item, Items},
    mutant::Mutant,
    packet::{self, Draft, LongKind, Space},
    recovery::SentPacket,
    varint,
};

/// What a packet is to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) space: Space,
    /// Where its datagram begins in the buffer.
    pub(super) start: usize,
    /// Bytes of the datagram at most.
    pub(super) size: usize,
    /// Fill the datagram up.
    pub(super) pad: bool,
    pub(super) gate: Gate,
}

/// A packet that is sent by itself: in which space, to which id, and on which path if not the current one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lone {
    pub(super) space: Space,
    pub(super) to: Guuid,
    pub(super) path: Option<u64>,
}

/// What was written so far.
#[derive(Default)]
pub(super) struct Written {
    items: Items,
    pub(super) eliciting: bool,
    symbol: Option<u64>,
    /// Items in front of the symbol.
    protected: u8,
    /// The path, if not the current one.
    path: Option<u64>,
}

/// Bytes in front of a symbol: type and number.
const SYMBOL_HEAD: usize = 3;

/// Units of our acknowledgements' delays: 8 microseconds, as QUIC's default.
const ACK_DELAY_EXPONENT: u8 = 3;

/// Room for data below which a packet does not begin another frame.
const DATA_ROOM_MIN: usize = 32;

impl Connection {
    /// Appends one packet, if its space has something to say; whether it had.
    pub(super) fn packet(&mut self, now: Instant, plan: Plan, out: &mut Vec<u8>) -> bool {
        let ack_due = self.received[plan.space.index()].ack_due(now);
        let has_frames = plan.gate == Gate::Open && self.has_frames(now, plan.space);
        if !ack_due && !has_frames {
            return false;
        }
        let draft = self.draft(plan.space, out);
        let size = (plan.start + plan.size).saturating_sub(draft.start());
        if draft.room(size, out) < DATA_ROOM_MIN {
            out.truncate(draft.start());
            return false;
        }
        let mut written = Written::default();
        self.write_ack(now, plan.space, size, &draft, &mut written, out);
        if plan.gate == Gate::Open {
            match plan.space {
                Space::Initial | Space::Handshake => self.write_crypto(plan.space, size, &draft, &mut written, out),
                Space::Application => self.write_application(now, size, &draft, &mut written, out),
            }
            self.write_probe(plan.space, size, &draft, &mut written, out);
        }
        if draft.is_empty(out) {
            // What there is does not fit.
            out.truncate(draft.start());
            return false;
        }
        if !written.eliciting && self.wants_ping(now, plan.space) {
            Frame::Ping.encode(out);
            written.eliciting = true;
        }
        if plan.pad {
            draft.pad((plan.start + DATAGRAM_MIN.min(plan.size)).saturating_sub(draft.start()), out);
        }
        self.seal(now, plan.space, &draft, written, plan.pad, out);
        true
    }

    /// Whether a packet of this space would carry more than an acknowledgement.
    pub(super) fn has_frames(&mut self, now: Instant, space: Space) -> bool {
        let common = self.crypto.is_pending(space) || self.recovery.probes_due(space) > 0;
        common
            || space == Space::Application
                && (self.lanes.has_control()
                    || self.lanes.has_data(now)
                    || self.pending.has_frames()
                    || self.local_ids.is_pending()
                    || self.remote_ids.is_pending()
                    || self.repairs.as_ref().is_some_and(|repairs| repairs.has_frames(now)))
    }

    /// Appends one packet with just these frames.
    pub(super) fn lone_packet(
        &mut self,
        now: Instant,
        lone: Lone,
        size: usize,
        frames: &[Frame<'_>],
        pad: bool,
        out: &mut Vec<u8>,
    ) -> bool {
        let draft = self.draft_to(lone.space, lone.to, out);
        let mut written = Written::default();
        for frame in frames {
            let (at, room) = (out.len(), draft.room(size, out));
            frame.encode(out);
            if out.len() - at > room {
                out.truncate(at);
            } else {
                written.eliciting |= crate::frame::is_ack_eliciting(frame.kind());
            }
        }
        if draft.is_empty(out) {
            out.truncate(draft.start());
            return false;
        }
        if pad {
            draft.pad(size, out);
        }
        written.path = lone.path;
        self.seal(now, lone.space, &draft, written, pad, out);
        true
    }

    /// Appends a packet of exactly `size` bytes that only asks whether it arrives.
    pub(super) fn mtu_probe(&mut self, now: Instant, size: usize, out: &mut Vec<u8>) {
        let draft = self.draft(Space::Application, out);
        Frame::Ping.encode(out);
        draft.pad(size, out);
        let mut written = Written { eliciting: true, ..Written::default() };
        written.items.push(Item::MtuProbe { size: size as u16 });
        self.seal(now, Space::Application, &draft, written, true, out);
    }

    /// The keys that a space's packets are sealed with now.
    pub(super) fn level(&self, space: Space) -> Level {
        match space {
            Space::Initial => Level::Initial,
            Space::Handshake => Level::Handshake,
            Space::Application if self.crypto.can_seal(Level::OneRtt) => Level::OneRtt,
            Space::Application => Level::ZeroRtt,
        }
    }

    pub(super) fn draft(&mut self, space: Space, out: &mut Vec<u8>) -> Draft {
        self.draft_to(space, self.remote_ids.current(), out)
    }

    fn draft_to(&mut self, space: Space, to: Guuid, out: &mut Vec<u8>) -> Draft {
        let number = self.recovery.next_number(space, &mut self.rng);
        let from = self.own;
        let largest_acked = self.recovery.largest_acked(space);
        match space {
            Space::Initial => packet::encode_long(LongKind::Initial, to, from, &self.token, number, largest_acked, out),
            Space::Handshake => packet::encode_long(LongKind::Handshake, to, from, &[], number, largest_acked, out),
            Space::Application => match self.crypto.sealing(Level::OneRtt) {
                Some(sealing) => packet::encode_short(to, sealing.phase, false, number, largest_acked, out),
                None => packet::encode_long(LongKind::ZeroRtt, to, from, &[], number, largest_acked, out),
            },
        }
    }

    pub(super) fn seal(
        &mut self,
        now: Instant,
        space: Space,
        draft: &Draft,
        written: Written,
        padded: bool,
        out: &mut Vec<u8>,
    ) {
        let level = self.level(space);
        let bytes = {
            let Some(sealing) = self.crypto.sealing(level) else { unreachable!("a draft without keys") };
            draft.seal(sealing.header, sealing.packet, out)
        };
        if let Err(error) = self.crypto.on_sealed(level, draft.number()) {
            self.fail(now, error);
        }
        let Written { items, eliciting, symbol, protected, path } = written;
        if eliciting {
            self.received[space.index()].on_eliciting_sent(now);
        }
        self.counters.packets_sent += 1;
        if let Some(qlog) = &mut self.qlog {
            qlog.packet_sent(now, space, draft.number(), bytes, symbol);
        }
        let mut packet =
            SentPacket::new(now, draft.number(), bytes as u16, path.unwrap_or(self.paths.current().generation));
        //= SPEC.md#10
        //# Packets that hold nothing but ACK and CLOSE do not count, unless they are padded.
        packet.mtu_probe = matches!(items.first(), Some(Item::MtuProbe { .. }));
        (packet.ack_eliciting, packet.in_flight) = (eliciting, eliciting || padded);
        (packet.symbol, packet.protected, packet.items) = (symbol, protected, items);
        packet.ect0 = self.marks;
        self.recovery.on_sent(now, space, packet);
        if space == Space::Handshake && self.side == crate::frame::Side::Client {
            self.discard(now, Space::Initial);
        }
    }

    fn write_ack(
        &mut self,
        now: Instant,
        space: Space,
        size: usize,
        draft: &Draft,
        written: &mut Written,
        out: &mut Vec<u8>,
    ) {
        let early = self.level(space) == Level::ZeroRtt;
        let received = &mut self.received[space.index()];
        if early || !received.has_news() && !received.ack_due(now) {
            return;
        }
        let room = draft.room(size, out);
        if let Some(largest) = received.encode(now, room, ACK_DELAY_EXPONENT, out) {
            written.items.push(Item::Ack { largest });
        }
    }

    fn write_crypto(&mut self, space: Space, size: usize, draft: &Draft, written: &mut Written, out: &mut Vec<u8>) {
        while let Some(offset) = self.crypto.next_offset(space) {
            let room = draft.room(size, out);
            let head = 1 + varint::len(offset) + 2;
            if room < head + 1 {
                return;
            }
            let Some((offset, data)) = self.crypto.poll(space, room - head) else { return };
            let len = data.len() as u32;
            Frame::Crypto { offset, data }.encode(out);
            written.items.push(Item::Crypto { offset, len });
            written.eliciting = true;
        }
    }

    fn write_application(
        &mut self,
        now: Instant,
        size: usize,
        draft: &Draft,
        written: &mut Written,
        out: &mut Vec<u8>,
    ) {
        if self.level(Space::Application) == Level::OneRtt {
            if self.write_repair(now, size, draft, written, out) {
                return;
            }
            self.write_crypto(Space::Application, size, draft, written, out);
            self.write_own(size, draft, written, out);
        }
        self.write_lanes(now, size, draft, written, out);
    }

    /// A row of parity has a packet to itself, but for the ACK: it is as long as a packet can be.
    fn write_repair(
        &mut self,
        now: Instant,
        size: usize,
        draft: &Draft,
        written: &mut Written,
        out: &mut Vec<u8>,
    ) -> bool {
        let Some(repairs) = self.repairs.as_mut().filter(|_| !Mutant::NoParity.is_in()) else { return false };
        let Some(len) = repairs.protector.repair_due(now) else { return false };
        let mut room = draft.room(size, out);
        if len > room {
            // The ACK in front of it goes elsewhere.
            out.truncate(draft.payload_at());
            if matches!(written.items.pop(), Some(Item::Ack { .. })) {
                self.received[Space::Application.index()].on_immediate_ack(now);
            }
            room = draft.room(size, out);
        }
        if len > room {
            // The path has shrunk below the symbols of the group: time drops the row.
            return false;
        }
        repairs.protector.write_repair(now, out);
        self.counters.repairs_sent += 1;
        self.counters.repair_bytes_sent += len as u64;
        written.eliciting = true;
        true
    }

    /// Frames of the connection itself.
    fn write_own(&mut self, size: usize, draft: &Draft, written: &mut Written, out: &mut Vec<u8>) {
        self.write_symbol_ack(size, draft, written, out);
        self.write_ids(size, draft, written, out);
        if !self.pending.has_frames() {
            return;
        }
        if self.pending.handshake_done.is_due() && draft.room(size, out) >= 1 {
            Frame::HandshakeDone.encode(out);
            self.pending.handshake_done = Flag::Sent;
            written.push(Item::HandshakeDone);
        }
        if self.pending.new_token.is_due() {
            self.write_token(size, draft, written, out);
        }
        if self.pending.fec_window.is_due() && draft.room(size, out) > 2 * 8 {
            let (symbols, bytes) = (self.transport.symbols_max, self.transport.symbol_bytes_max);
            Frame::FecWindow { symbols, bytes }.encode(out);
            self.pending.fec_window = Flag::Sent;
            written.push(Item::FecWindow);
        }
        if let (true, Some(goaway)) = (self.pending.goaway.is_due(), &self.pending.goaway_frame)
            && draft.room(size, out) >= goaway.reason.len() + 1 + 3 * 8
        {
            let last_stream = goaway.last_stream;
            Frame::GoAway { last_stream, code: goaway.code, reason: &goaway.reason }.encode(out);
            self.pending.goaway = Flag::Sent;
            written.push(Item::GoAway);
        }
        if self.pending.ping && draft.room(size, out) >= 1 {
            self.pending.ping = false;
            Frame::Ping.encode(out);
            written.eliciting = true;
        }
    }

    fn write_token(&mut self, size: usize, draft: &Draft, written: &mut Written, out: &mut Vec<u8>) {
        let token = std::mem::take(&mut self.token);
        if !token.is_empty() && draft.room(size, out) >= token.len() + 3 {
            Frame::NewToken(&token).encode(out);
            self.pending.new_token = Flag::Sent;
            written.push(Item::NewToken);
        } else if token.is_empty() {
            self.pending.new_token = Flag::Done;
        }
        self.token = token;
    }

    fn write_symbol_ack(&mut self, size: usize, draft: &Draft, written: &mut Written, out: &mut Vec<u8>) {
        let Some(repairs) = self.repairs.as_mut() else { return };
        let room = draft.room(size, out);
        let Some(set) = repairs.restorer.symbol_ack().filter(|set| !set.is_empty() && room > 40) else { return };
        varint::write(kind::SYMBOL_ACK, out);
        crate::frame::encode_ranges(set, room - 1, |_| {}, out);
        written.push(Item::SymbolAck { largest: set.max().unwrap_or(0) });
        repairs.restorer.on_symbol_ack_sent();
        written.eliciting = true;
    }

    fn write_ids(&mut self, size: usize, draft: &Draft, written: &mut Written, out: &mut Vec<u8>) {
        const NEW_ID_MAX: usize = 1 + 8 + 8 + 16 + 16;
        while draft.room(size, out) >= NEW_ID_MAX {
            let Some(new) = self.local_ids.poll(&self.reset_key) else { break };
            let NewId { sequence, id, reset_token } = new;
            Frame::NewId { sequence, retire_prior_to: 0, id, reset_token }.encode(out);
            written.push(Item::NewId { sequence });
        }
        while draft.room(size, out) > 8 {
            let Some(sequence) = self.remote_ids.poll_retire() else { break };
            Frame::RetireId(sequence).encode(out);
            written.push(Item::RetireId { sequence });
        }
    }

    /// Streams, messages and datagrams, as a symbol where parity protects them.
    fn write_lanes(&mut self, now: Instant, size: usize, draft: &Draft, written: &mut Written, out: &mut Vec<u8>) {
        let has_control = self.lanes.has_control();
        if !has_control && !self.lanes.has_data(now) {
            return;
        }
        let at = out.len();
        let protects = self.repairs.as_ref().is_some_and(|repairs| repairs.protector.is_on());
        let mut room = draft.room(size, out);
        if protects {
            let most =
                self.repairs.as_ref().map_or(0, |repairs| repairs.protector.symbol_bytes_max(room_of(draft, size)));
            room = room.saturating_sub(SYMBOL_HEAD).min(most);
            out.extend_from_slice(&[0; SYMBOL_HEAD]);
        }
        let (start, protected) = (out.len(), written.items.len() as u8);
        let rtt = self.recovery.rtt.smoothed();
        let mut wrote = false;
        if room >= DATA_ROOM_MIN {
            wrote |= has_control && self.lanes.write_control(now, rtt, room, out, &mut written.items);
            wrote |= self.lanes.write_data(now, room - (out.len() - start), out, &mut written.items);
        }
        if !wrote {
            return out.truncate(at);
        }
        written.eliciting = true;
        let Some(repairs) = &mut self.repairs else { return };
        repairs.policy.on_data_sent(now, out.len() - start);
        if protects {
            let sid = repairs.protector.on_symbol(now, &out[start..]);
            out[at] = kind::SYMBOL as u8;
            out[at + 1..at + SYMBOL_HEAD].copy_from_slice(&(sid as u16).to_be_bytes());
            (written.symbol, written.protected) = (Some(sid), protected);
            self.counters.symbols_sent += 1;
        }
    }

    /// After a timeout something must ask for an acknowledgement, if only a PING.
    fn write_probe(&mut self, space: Space, size: usize, draft: &Draft, written: &mut Written, out: &mut Vec<u8>) {
        if self.recovery.probes_due(space) == 0 {
            return;
        }
        if !written.eliciting && draft.room(size, out) >= 1 {
            Frame::Ping.encode(out);
            written.eliciting = true;
        }
        if written.eliciting {
            self.counters.probes += 1;
        }
    }

    fn wants_ping(&self, now: Instant, space: Space) -> bool {
        self.handshake > Handshake::Open
            && space == Space::Application
            && self.received[space.index()].wants_ping(now, self.recovery.rtt.smoothed())
    }
}

impl Written {
    fn push(&mut self, item: Item) {
        self.items.push(item);
        self.eliciting = true;
    }
}

/// Bytes of frames that an otherwise empty packet of `size` bytes holds.
fn room_of(draft: &Draft, size: usize) -> usize {
    size.saturating_sub(draft.payload_at() - draft.start() + packet::TAG_LEN)
}

/// Bytes of frames beside their data in a packet, for who wants to know what fits: header, seal and the longest head.
pub(super) const DATAGRAM_OVERHEAD: usize =
    packet::SHORT_HEAD + packet::NUMBER_LEN_MAX + packet::TAG_LEN + SYMBOL_HEAD + 3;

/// Bytes by which a symbol must be shorter than its packet could be, for its row of parity to fit: REPAIR's fields and the
/// virtual columns.
pub(super) const SYMBOL_SHORTER: usize = 24;
