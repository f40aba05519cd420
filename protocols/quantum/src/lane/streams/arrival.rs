//! What the peer's frames do to streams.

use super::{Agenda, Half, Streams, due};
use crate::{
    error::{Checked, Code, TransportError},
    frame::{Direction, Stream, StreamId},
    item::Item,
    lane::limits::LaneEvent,
};

const FLOW_CONTROL: TransportError = TransportError::new(Code::FlowControl, "data beyond the limit of the connection");

impl Streams {
    pub(crate) fn on_stream(&mut self, agenda: &mut Agenda, frame: &Stream<'_>) -> Checked<()> {
        let id = frame.id;
        if self.table.get(&id).is_none_or(|state| state.recv.is_none()) {
            self.admit(id, Half::Recv)?;
        }
        let Some(state) = self.table.get_mut(&id) else {
            return Ok(());
        };
        let Some(recv) = &mut state.recv else {
            return Ok(());
        };
        let growth = recv.check(frame.offset + frame.data.len() as u64, frame.fin)?;
        if growth > self.window.limit() - self.received {
            return Err(FLOW_CONTROL);
        }
        self.received += growth;
        let is_readable = recv.insert(frame.offset, frame.data, frame.fin)?;
        self.read += recv.discard();
        if is_readable && !std::mem::replace(&mut recv.is_readable_told, true) {
            agenda.events.push(LaneEvent::Readable(id));
        }
        if recv.is_done() {
            state.recv = None;
            self.reap(id);
        }
        Ok(())
    }

    pub(crate) fn on_reset_stream(
        &mut self,
        agenda: &mut Agenda,
        id: StreamId,
        code: u64,
        final_size: u64,
    ) -> Checked<()> {
        self.admit(id, Half::Recv)?;
        let Some(state) = self.table.get_mut(&id) else {
            return Ok(());
        };
        let Some(recv) = &mut state.recv else {
            return Ok(());
        };
        let growth = recv.check(final_size, true)?;
        if growth > self.window.limit() - self.received {
            return Err(FLOW_CONTROL);
        }
        self.received += growth;
        if recv.on_reset(code, final_size) {
            agenda.events.push(LaneEvent::Reset { id, code });
        }
        self.read += recv.discard();
        if recv.is_done() {
            state.recv = None;
            self.reap(id);
        }
        Ok(())
    }

    /// The answer is RESET_STREAM with the same code (RFC 9000, section 3.5).
    pub(crate) fn on_stop_sending(&mut self, agenda: &mut Agenda, id: StreamId, code: u64) -> Checked<()> {
        self.admit(id, Half::Send)?;
        if self.reset_half(agenda, id, code, Some(code)) {
            agenda.events.push(LaneEvent::Stopped { id, code });
        }
        Ok(())
    }

    pub(crate) fn on_max_data(&mut self, agenda: &mut Agenda, limit: u64) {
        if limit <= self.credit {
            return;
        }
        self.credit = limit;
        self.is_blocked_due = false;
        for _ in 0..self.parked.len() {
            let Some(id) = self.parked.pop() else { return };
            if let Some(send) = self.table.get_mut(&id).and_then(|state| state.send.as_mut()) {
                send.is_parked = false;
            }
            self.enlist(agenda, id);
        }
    }

    pub(crate) fn on_max_stream_data(&mut self, agenda: &mut Agenda, id: StreamId, limit: u64) -> Checked<()> {
        self.admit(id, Half::Send)?;
        self.raise_stream_credit(agenda, id, limit);
        Ok(())
    }

    pub(super) fn raise_stream_credit(&mut self, agenda: &mut Agenda, id: StreamId, limit: u64) {
        if let Some(send) = self.table.get_mut(&id).and_then(|state| state.send.as_mut())
            && send.raise_credit(limit)
            && std::mem::replace(&mut send.is_credit_wanted, false)
        {
            agenda.events.push(LaneEvent::Writable(id));
        }
    }

    pub(crate) fn on_max_streams(&mut self, agenda: &mut Agenda, direction: Direction, limit: u64) {
        let ours = &mut self.ours[direction.bit() as usize];
        if limit <= ours.limit {
            return;
        }
        ours.limit = limit;
        ours.is_blocked_due = false;
        if std::mem::replace(&mut ours.is_wanted, false) {
            agenda.events.push(LaneEvent::StreamsAvailable(direction));
        }
    }

    /// The peer meets a limit; when we raised it already, it did not hear so.
    pub(crate) fn on_data_blocked(&mut self, limit: u64) {
        self.is_limit_due |= limit < self.window.limit();
    }

    /// The same for one stream.
    pub(crate) fn on_stream_data_blocked(&mut self, id: StreamId, limit: u64) -> Checked<()> {
        self.admit(id, Half::Recv)?;
        let recv = self.table.get(&id).and_then(|state| state.recv.as_ref());
        if recv.is_some_and(|recv| recv.wants_credit() && limit < recv.limit()) {
            self.mark(id, due::MAX_STREAM_DATA);
        }
        Ok(())
    }

    /// The same for streams of a direction.
    pub(crate) fn on_streams_blocked(&mut self, direction: Direction, limit: u64) {
        let theirs = &mut self.theirs[direction.bit() as usize];
        theirs.is_limit_due |= limit < theirs.limit;
    }

    /// What the acknowledgement of an item means.
    pub(crate) fn on_acked(&mut self, agenda: &mut Agenda, item: &Item) {
        match *item {
            Item::Stream { id, offset, len, fin } => self.on_data_acked(agenda, id, offset, len, fin),
            Item::ResetStream(id) => {
                if let Some(state) = self.table.get_mut(&id) {
                    state.send = None;
                    self.reap(id);
                }
            }
            _ => {}
        }
    }

    fn on_data_acked(&mut self, agenda: &mut Agenda, id: StreamId, offset: u64, len: u32, fin: bool) {
        let Some(state) = self.table.get_mut(&id) else {
            return;
        };
        let Some(send) = &mut state.send else {
            return;
        };
        self.buffered -= send.on_acked(offset, len, fin);
        let is_done = send.is_done();
        if send.in_lost || is_done {
            self.delist(agenda, id);
        }
        if is_done {
            if let Some(state) = self.table.get_mut(&id) {
                state.send = None;
            }
            agenda.events.push(LaneEvent::Finished(id));
            self.reap(id);
        }
        self.wake(agenda);
    }

    /// What the loss of an item means.
    pub(crate) fn on_lost(&mut self, agenda: &mut Agenda, item: &Item) {
        match *item {
            Item::Stream { id, offset, len, fin } => {
                if let Some(send) = self.table.get_mut(&id).and_then(|state| state.send.as_mut()) {
                    send.on_lost(offset, len, fin);
                    self.enlist(agenda, id);
                }
            }
            Item::ResetStream(id) => self.mark(id, due::RESET_STREAM),
            Item::StopSending(id) => self.mark(id, due::STOP_SENDING),
            Item::MaxStreamData(id) => self.mark(id, due::MAX_STREAM_DATA),
            Item::MaxData => self.is_limit_due = true,
            Item::MaxStreams { bidirectional } => self.theirs[usize::from(!bidirectional)].is_limit_due = true,
            Item::Blocked => self.tell_blocked_again(),
            _ => {}
        }
    }

    fn tell_blocked_again(&mut self) {
        self.is_blocked_due = !self.parked.is_empty();
        self.ours.iter_mut().for_each(|ours| ours.is_blocked_due = ours.is_wanted);
        let blocked =
            self.table.iter().filter(|(_, state)| state.send.as_ref().is_some_and(|send| send.is_credit_wanted));
        let ids: Vec<StreamId> = blocked.map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.mark(id, due::STREAM_DATA_BLOCKED));
    }
}
