//! Frames of the peer: each checked against the packet that carried it, and handed to whom it concerns.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{Connection, Ending, Handshake, IdChange, pending::Flag};
use crate::{
    crypto::Generation,
    error::{Checked, Code, TransportError},
    event::Event,
    fec::{Known, Window},
    frame::{self, Ack, Frame, Side},
    guuid::Guuid,
    packet::Space,
};

const VIOLATION: fn(&'static str) -> TransportError = |reason| TransportError::new(Code::ProtocolViolation, reason);

/// Bytes of an address token that is kept.
const TOKEN_BYTES_MAX: usize = 512;

/// What a packet's frames were, for whoever decides about acknowledging and moving.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Content {
    pub(super) ack_eliciting: bool,
    /// Only frames that probe a path (RFC 9000, section 9.1).
    pub(super) probing: bool,
    /// A message found no room, or a symbol came far too late: the packet is not acknowledged, so that it comes again.
    pub(super) refused: bool,
}

/// A packet, as far as its frames want to know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Carrier {
    pub(super) to: Guuid,
    pub(super) space: Space,
    pub(super) early: bool,
    pub(super) remote: SocketAddr,
    pub(super) size: usize,
    pub(super) generation: Generation,
}

impl Connection {
    /// Reads the frames of a packet's payload.
    pub(super) fn frames(&mut self, now: Instant, carrier: Carrier, mut payload: &[u8]) -> Checked<Content> {
        if payload.is_empty() {
            return Err(VIOLATION("packet without frames"));
        }
        let mut content = Content { probing: true, ..Content::default() };
        while !payload.is_empty() {
            let frame = Frame::parse(&mut payload)?;
            let kind = frame.kind();
            //= SPEC.md#5
            //# A frame in a packet where the table does not have it, or from the wrong side, is a PROTOCOL_VIOLATION.
            if !frame::is_allowed(kind, carrier.space, carrier.early) {
                return Err(VIOLATION("frame in a packet of the wrong kind"));
            }
            content.ack_eliciting |= frame::is_ack_eliciting(kind);
            content.probing &= frame::is_probing(kind);
            if let Frame::Message(message) = frame
                && !self.lanes.may_admit(&message)
            {
                content.refused = true;
                continue;
            }
            // Whoever said goodbye only wants to hear it back.
            if matches!(self.ending, Ending::No) || matches!(frame, Frame::Close(_)) {
                self.frame(now, carrier, &frame, &mut content)?;
            }
        }
        Ok(content)
    }

    fn frame(&mut self, now: Instant, carrier: Carrier, frame: &Frame<'_>, content: &mut Content) -> Checked<()> {
        match *frame {
            Frame::Padding(_) | Frame::Ping => Ok(()),
            Frame::Ack(ack) => self.on_ack(now, carrier, &ack),
            Frame::Crypto { offset, data } => self.crypto.read(carrier.space, offset, data),
            Frame::NewToken(token) => self.on_new_token(token),
            Frame::NewId { sequence, retire_prior_to, id, reset_token } => {
                if self.remote_ids.on_new_id(sequence, retire_prior_to, id, reset_token)? {
                    self.watch_token();
                }
                Ok(())
            }
            Frame::RetireId(sequence) => self.on_retire_id(sequence, carrier.to),
            Frame::PathChallenge(data) => {
                self.on_path_challenge(carrier.remote, carrier.size, data);
                Ok(())
            }
            Frame::PathResponse(data) => {
                self.on_path_response(now, data);
                Ok(())
            }
            Frame::Close(close) => {
                self.on_close(now, &close);
                Ok(())
            }
            Frame::HandshakeDone => self.on_handshake_done(now),
            Frame::ImmediateAck => {
                self.received[carrier.space.index()].on_immediate_ack(now);
                Ok(())
            }
            Frame::AckFrequency { sequence, threshold, delay_max_us, reordering } => {
                let received = &mut self.received[Space::Application.index()];
                received.on_ack_frequency(sequence, threshold, delay_max_us, reordering);
                Ok(())
            }
            Frame::GoAway { last_stream, code, .. } => {
                self.on_goaway(last_stream, code);
                Ok(())
            }
            Frame::Symbol { sid, data } => match self.on_symbol(now, sid, data)? {
                Known::New(_) => self.inner_frames(data, Some(content)),
                //= SPEC.md#11.3
                //# A receiver MUST handle the frames of a symbol once: those of an original that arrives after it was
                //# restored MUST be skipped.
                Known::AlreadyRecovered(_) => Ok(()),
                Known::Forgotten => {
                    content.refused = true;
                    Ok(())
                }
            },
            Frame::Repair(repair) => self.on_repair(now, &repair),
            Frame::SymbolAck(ack) => self.on_symbol_ack(now, &ack),
            Frame::FecWindow { symbols, bytes } => {
                if self.transport.fec != crate::config::FecMode::Off {
                    self.repairs().protector.set_window(Window { symbols, bytes });
                }
                Ok(())
            }
            ref lane => self.lane_frame(lane),
        }
    }

    //= SPEC.md#5.11
    //# It MUST NOT hold frames that the table of section 5 does not have in a symbol: PROTOCOL_VIOLATION, but for
    //# PADDING, which is ignored.
    /// The frames of a symbol: only those that parity may protect. A message without room is refused if it can come again;
    /// one that was recovered cannot, and the window of symbols bounds how many there are.
    pub(super) fn inner_frames(&mut self, mut symbol: &[u8], mut content: Option<&mut Content>) -> Checked<()> {
        while !symbol.is_empty() {
            let frame = Frame::parse(&mut symbol)?;
            if let (Frame::Message(message), Some(content)) = (&frame, &mut content)
                && !self.lanes.may_admit(message)
            {
                content.refused = true;
                continue;
            }
            if !matches!(frame, Frame::Padding(_)) {
                self.lane_frame(&frame)?;
            }
        }
        Ok(())
    }

    // Frames of streams, messages and datagrams.
    fn lane_frame(&mut self, frame: &Frame<'_>) -> Checked<()> {
        let lanes = &mut self.lanes;
        match *frame {
            Frame::Stream(stream) => lanes.on_stream(&stream),
            Frame::Message(message) => lanes.on_message(&message),
            Frame::MessageFloor { channel, floor } => lanes.on_message_floor(channel, floor),
            Frame::Datagram(datagram) => lanes.on_datagram(&datagram),
            Frame::ResetStream { id, code, final_size } => lanes.on_reset_stream(id, code, final_size),
            Frame::StopSending { id, code } => lanes.on_stop_sending(id, code),
            Frame::MaxData(limit) => {
                lanes.on_max_data(limit);
                Ok(())
            }
            Frame::MaxStreamData { id, limit } => lanes.on_max_stream_data(id, limit),
            Frame::MaxStreams { direction, limit } => {
                lanes.on_max_streams(direction, limit);
                Ok(())
            }
            Frame::DataBlocked(limit) => {
                lanes.on_data_blocked(limit);
                Ok(())
            }
            Frame::StreamDataBlocked { id, limit } => lanes.on_stream_data_blocked(id, limit),
            Frame::StreamsBlocked { direction, limit } => {
                lanes.on_streams_blocked(direction, limit);
                Ok(())
            }
            Frame::Padding(_)
            | Frame::Ping
            | Frame::Ack(_)
            | Frame::Crypto { .. }
            | Frame::NewToken(_)
            | Frame::NewId { .. }
            | Frame::RetireId(_)
            | Frame::PathChallenge(_)
            | Frame::PathResponse(_)
            | Frame::Close(_)
            | Frame::HandshakeDone
            | Frame::ImmediateAck
            | Frame::AckFrequency { .. }
            | Frame::GoAway { .. }
            | Frame::Symbol { .. }
            | Frame::Repair(_)
            | Frame::SymbolAck(_)
            | Frame::FecWindow { .. } => Err(VIOLATION("frame that parity may not protect in a symbol")),
        }
    }

    fn on_ack(&mut self, now: Instant, carrier: Carrier, ack: &Ack<'_>) -> Checked<()> {
        let space = carrier.space;
        let delay = match space {
            // Acknowledged at once, whatever the peer says (RFC 9002, section 5.3).
            Space::Initial | Space::Handshake => Duration::ZERO,
            Space::Application => {
                let micros = ack.delay.saturating_mul(1 << self.peer.ack_delay_exponent.min(20));
                let delay = Duration::from_micros(micros.min(1 << 24));
                if self.handshake == Handshake::Confirmed { delay.min(self.peer.ack_delay_max) } else { delay }
            }
        };
        let (recovery, mut ledger) = super::ledger::ledger!(self, now);
        let acked = recovery.on_ack(now, space, ack, delay, &mut ledger)?;
        if space == Space::Application && acked.newly {
            self.crypto.on_ack(carrier.generation, ack.largest)?;
        }
        Ok(())
    }

    fn on_new_token(&mut self, token: &[u8]) -> Checked<()> {
        if self.side == Side::Server {
            return Err(VIOLATION("NEW_TOKEN from a client"));
        }
        if token.is_empty() {
            return Err(TransportError::new(Code::FrameEncoding, "empty token"));
        }
        // A longer one would leave no room for the handshake that it is for.
        if token.len() <= TOKEN_BYTES_MAX {
            self.address_token = Some(token.into());
        }
        Ok(())
    }

    // A second one may name fewer streams; one that names more was overtaken by it.
    fn on_goaway(&mut self, last_stream: u64, code: u64) {
        if self.told_to_go.is_none_or(|before| last_stream < before) {
            self.told_to_go = Some(last_stream);
            self.events.push_back(Event::GoAway { last_stream, code });
        }
    }

    fn on_retire_id(&mut self, sequence: u64, used: Guuid) -> Checked<()> {
        if let Some(id) = self.local_ids.on_retire(sequence, used)? {
            self.id_changes.push_back(IdChange::Forget(id));
            self.issue_ids();
        }
        Ok(())
    }

    fn on_handshake_done(&mut self, now: Instant) -> Checked<()> {
        if self.side == Side::Server {
            return Err(VIOLATION("HANDSHAKE_DONE from a client"));
        }
        if self.handshake == Handshake::Complete {
            self.confirm(now);
        }
        Ok(())
    }

    /// A server tells the client that its handshake is done until it knows.
    pub(super) fn owe_handshake_done(&mut self) {
        if self.pending.handshake_done == Flag::No {
            self.pending.handshake_done = Flag::Due;
            self.pending.new_token = Flag::Due;
        }
    }
}
