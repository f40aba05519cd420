//! The frames that streams send.

use std::time::{Duration, Instant};

use super::{Agenda, STREAMS_MAX, Streams, due};
use crate::{
    frame::{Frame, StreamId},
    item::Item,
    lane::{
        events::DIRECTIONS,
        payload::Payload,
        schedule::{Lane, Slot},
        send::Class,
    },
};

/// The longest of these frames: a type and three numbers.
pub(in crate::lane) const CONTROL_BYTES_MAX: usize = 25;

/// What a lane did with its turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::lane) enum Turn {
    /// Wrote a frame and has more.
    More,
    /// Has nothing more of this class.
    Done,
    /// Has more, but not for this room.
    NoRoom,
}

impl Streams {
    /// Whether there are frames other than STREAM to send.
    pub(crate) fn has_control(&self) -> bool {
        !self.control.is_empty()
            || self.is_limit_due
            || self.is_blocked_due
            || self.window.is_due(self.read)
            || self.ours.iter().any(|ours| ours.is_blocked_due)
            || (0..2).any(|direction| self.is_streams_due(direction))
    }

    /// The peer may open a stream for each that is closed. It is told when that makes a difference.
    fn is_streams_due(&self, direction: usize) -> bool {
        let theirs = &self.theirs[direction];
        theirs.is_limit_due || self.streams_limit(direction) - theirs.limit > self.streams_max(direction) / 8
    }

    fn streams_max(&self, direction: usize) -> u64 {
        [self.limits.streams_bidirectional_max, self.limits.streams_unidirectional_max][direction]
    }

    fn streams_limit(&self, direction: usize) -> u64 {
        let theirs = &self.theirs[direction];
        (theirs.closed + self.streams_max(direction)).min(STREAMS_MAX).max(theirs.limit)
    }

    /// Appends such frames.
    pub(crate) fn write_control(&mut self, now: Instant, rtt: Duration, payload: &mut Payload<'_>) {
        if (self.is_limit_due || self.window.is_due(self.read)) && payload.room() >= CONTROL_BYTES_MAX {
            self.is_limit_due = false;
            if self.window.is_due(self.read) {
                self.window.grant(now, rtt, self.read);
            }
            payload.put(Frame::MaxData(self.window.limit()), Item::MaxData);
        }
        while payload.room() >= CONTROL_BYTES_MAX
            && let Some(id) = self.control.pop()
        {
            if let Some(state) = self.table.get_mut(&id) {
                let bit = 1 << state.due.trailing_zeros();
                state.due &= !bit;
                if state.due != 0 {
                    self.control.push_front(id);
                }
                self.write_stream_control(now, rtt, id, bit, payload);
            }
        }
        for (at, direction) in DIRECTIONS.into_iter().enumerate() {
            if self.is_streams_due(at) && payload.room() >= CONTROL_BYTES_MAX {
                let limit = self.streams_limit(at);
                (self.theirs[at].limit, self.theirs[at].is_limit_due) = (limit, false);
                payload.put(Frame::MaxStreams { direction, limit }, Item::MaxStreams { bidirectional: at == 0 });
            }
            let ours = &mut self.ours[at];
            if ours.is_blocked_due && payload.room() >= CONTROL_BYTES_MAX {
                ours.is_blocked_due = false;
                payload.put(Frame::StreamsBlocked { direction, limit: ours.limit }, Item::Blocked);
            }
        }
        if self.is_blocked_due && payload.room() >= CONTROL_BYTES_MAX {
            self.is_blocked_due = false;
            payload.put(Frame::DataBlocked(self.credit), Item::Blocked);
        }
    }

    fn write_stream_control(&mut self, now: Instant, rtt: Duration, id: StreamId, bit: u8, payload: &mut Payload<'_>) {
        let Some(state) = self.table.get_mut(&id) else {
            return;
        };
        match (bit, &mut state.send, &mut state.recv) {
            (due::RESET_STREAM, Some(send), _) => {
                if let Some((code, final_size)) = send.reset_frame() {
                    payload.put(Frame::ResetStream { id, code, final_size }, Item::ResetStream(id));
                }
            }
            (due::STREAM_DATA_BLOCKED, Some(send), _) if send.is_credit_wanted => {
                payload.put(Frame::StreamDataBlocked { id, limit: send.credit() }, Item::Blocked);
            }
            (due::STOP_SENDING, _, Some(recv)) => {
                if let Some(code) = recv.stop_code() {
                    payload.put(Frame::StopSending { id, code }, Item::StopSending(id));
                }
            }
            (due::MAX_STREAM_DATA, _, Some(recv)) if recv.wants_credit() => {
                let (window, read) = recv.window();
                if window.is_due(read) {
                    window.grant(now, rtt, read);
                }
                payload.put(Frame::MaxStreamData { id, limit: window.limit() }, Item::MaxStreamData(id));
            }
            _ => {}
        }
    }

    /// Gives a stream its turn: one STREAM frame of a class.
    pub(crate) fn write_data(
        &mut self,
        agenda: &mut Agenda,
        id: StreamId,
        class: Class,
        payload: &mut Payload<'_>,
    ) -> Turn {
        let Some(send) = self.table.get_mut(&id).and_then(|state| state.send.as_mut()) else {
            return Turn::Done;
        };
        let Some(written) = send.write_frame(id, class, self.credit - self.sent, payload) else {
            return Turn::NoRoom;
        };
        self.sent += written.fresh;
        self.unsent -= written.fresh;
        let has_more = send.has(class);
        match class {
            Class::Lost => send.in_lost = has_more,
            Class::Fresh => send.in_fresh = has_more,
        }
        // The end was due, and a lost frame said it.
        if class == Class::Lost && send.in_fresh && !send.has(Class::Fresh) {
            send.in_fresh = false;
            agenda.schedule.remove(Slot::new(send.priority, Class::Fresh), Lane::Stream(id));
        }
        if has_more { Turn::More } else { Turn::Done }
    }

    /// Whether the connection has credit for fresh bytes.
    pub(crate) fn has_credit(&self) -> bool {
        self.sent < self.credit
    }

    /// Moves the streams that wait for credit out of the schedule.
    pub(crate) fn park(&mut self, agenda: &mut Agenda) {
        for id in agenda.schedule.take_fresh_streams() {
            if let Some(send) = self.table.get_mut(&id).and_then(|state| state.send.as_mut()) {
                send.in_fresh = false;
            }
            self.enlist(agenda, id);
        }
    }
}
