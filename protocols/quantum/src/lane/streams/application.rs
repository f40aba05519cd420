//! What the application does with streams.

use bytes::Bytes;

use super::{Agenda, Streams, due};
use crate::{
    frame::{Direction, StreamId},
    lane::{
        limits::{PRIORITY_MAX, ReadError, WriteError},
        schedule::{Lane, Slot},
        send::{Class, SendHalf},
    },
};

impl Streams {
    pub(crate) fn open(&mut self, direction: Direction) -> Option<StreamId> {
        let ours = &mut self.ours[direction.bit() as usize];
        if ours.opened >= ours.limit {
            (ours.is_wanted, ours.is_blocked_due) = (true, true);
            return None;
        }
        let id = StreamId::new(self.side, direction, ours.opened);
        ours.opened += 1;
        self.insert(id);
        Some(id)
    }

    pub(crate) fn write(&mut self, agenda: &mut Agenda, id: StreamId, data: &[u8]) -> Result<usize, WriteError> {
        self.write_with(agenda, id, data.len(), |send, len| send.push(&data[..len]))
    }

    pub(crate) fn write_bytes(&mut self, agenda: &mut Agenda, id: StreamId, data: Bytes) -> Result<usize, WriteError> {
        let wanted = data.len();
        self.write_with(agenda, id, wanted, |send, len| {
            send.push_bytes(if len == wanted { data } else { data.slice(..len) });
        })
    }

    fn write_with(
        &mut self,
        agenda: &mut Agenda,
        id: StreamId,
        wanted: usize,
        push: impl FnOnce(&mut SendHalf, usize),
    ) -> Result<usize, WriteError> {
        self.touch(id);
        let send = self.table.get_mut(&id).and_then(|state| state.send.as_mut()).ok_or(WriteError::Closed)?;
        send.check_open()?;
        let (credit, room) = (send.room(), self.limits.send_bytes_max.saturating_sub(self.buffered));
        let len = wanted.min(usize::try_from(credit.min(room)).unwrap_or(usize::MAX));
        if len > 0 {
            push(send, len);
            self.buffered += len as u64;
            self.unsent += len as u64;
        }
        if len < wanted {
            let is_news = if credit <= room {
                !std::mem::replace(&mut send.is_credit_wanted, true)
            } else {
                if !std::mem::replace(&mut send.is_room_wanted, true) {
                    self.waiting.push(id);
                }
                false
            };
            if is_news {
                self.mark(id, due::STREAM_DATA_BLOCKED);
            }
        }
        if len > 0 {
            self.enlist(agenda, id);
        }
        if len == 0 && wanted > 0 { Err(WriteError::Blocked) } else { Ok(len) }
    }

    pub(crate) fn finish(&mut self, agenda: &mut Agenda, id: StreamId) -> Result<(), WriteError> {
        self.touch(id);
        let send = self.table.get_mut(&id).and_then(|state| state.send.as_mut()).ok_or(WriteError::Closed)?;
        send.check_open()?;
        send.finish();
        self.enlist(agenda, id);
        Ok(())
    }

    pub(crate) fn reset(&mut self, agenda: &mut Agenda, id: StreamId, code: u64) -> Result<(), WriteError> {
        self.touch(id);
        if self.reset_half(agenda, id, code, None) { Ok(()) } else { Err(WriteError::Closed) }
    }

    pub(crate) fn set_priority(&mut self, agenda: &mut Agenda, id: StreamId, priority: u8) -> Result<(), WriteError> {
        self.touch(id);
        let send = self.table.get_mut(&id).and_then(|state| state.send.as_mut()).ok_or(WriteError::Closed)?;
        let (before, priority) = (send.priority, priority.min(PRIORITY_MAX));
        send.priority = priority;
        for (class, is_in) in [(Class::Lost, send.in_lost), (Class::Fresh, send.in_fresh)] {
            if is_in && before != priority {
                agenda.schedule.remove(Slot::new(before, class), Lane::Stream(id));
                agenda.schedule.push(Slot::new(priority, class), Lane::Stream(id));
            }
        }
        Ok(())
    }

    pub(crate) fn chunk(&self, id: StreamId) -> Result<&[u8], ReadError> {
        match self.table.get(&id) {
            Some(state) => state.recv.as_ref().map_or_else(|| self.nothing(id), |recv| recv.chunk()),
            None => self.nothing(id),
        }
    }

    /// What there is to read of a stream without a receiving half: nothing any more, or an error if it never had one.
    fn nothing(&self, id: StreamId) -> Result<&[u8], ReadError> {
        if self.is_readable_kind(id) { Ok(&[]) } else { Err(ReadError::Closed) }
    }

    fn is_readable_kind(&self, id: StreamId) -> bool {
        let (is_ours, direction) = (id.opener() == self.side, id.direction().bit() as usize);
        if is_ours {
            id.direction() == Direction::Bidirectional && id.index() < self.ours[direction].opened
        } else {
            id.index() < self.theirs[direction].opened
        }
    }

    pub(crate) fn is_finished(&self, id: StreamId) -> bool {
        let is_over = self.table.get(&id).is_none_or(|state| state.recv.is_none());
        let is_untouched =
            id.opener() != self.side && self.theirs[id.direction().bit() as usize].untouched.contains(id.index());
        is_over && !is_untouched && self.is_readable_kind(id)
    }

    pub(crate) fn consume(&mut self, id: StreamId, len: usize) {
        let Some(state) = self.table.get_mut(&id) else {
            return;
        };
        let Some(recv) = &mut state.recv else {
            return;
        };
        recv.consume(len);
        self.read += len as u64;
        if recv.is_done() {
            state.recv = None;
            self.reap(id);
        } else if recv.is_credit_due() {
            self.mark(id, due::MAX_STREAM_DATA);
        }
    }

    pub(crate) fn stop(&mut self, id: StreamId, code: u64) -> Result<(), ReadError> {
        self.touch(id);
        let state = self.table.get_mut(&id).ok_or(ReadError::Closed)?;
        let recv = state.recv.as_mut().ok_or(ReadError::Closed)?;
        recv.chunk()?;
        self.read += recv.stop(code);
        if recv.is_done() {
            state.recv = None;
            self.reap(id);
        } else {
            self.mark(id, due::STOP_SENDING);
        }
        Ok(())
    }
}
