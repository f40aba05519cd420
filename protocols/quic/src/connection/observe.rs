//! What is new on a connection, told in events: quiche has no events of its own, so its state is compared with what was told.

use smallvec::SmallVec;

use crate::{
    event::{CODE_FORGOTTEN, Event},
    stream::{Direction, StreamId},
};

use super::{Connection, Reading};

impl Connection {
    /// Tells what is new.
    pub(crate) fn observe(&mut self, mut tell: impl FnMut(Event)) {
        if self.told.closed {
            return;
        }
        if !self.told.early && self.quiche.is_in_early_data() {
            self.told.early = true;
            tell(Event::Early);
        }
        if !self.told.connected && self.quiche.is_established() {
            self.told.connected = true;
            self.handshake_until = None;
            tell(Event::Connected);
        }
        self.observe_paths(&mut tell);
        self.check_paths();
        if self.told.early || self.told.connected {
            self.observe_streams(&mut tell);
        }
        if !self.told.datagram && self.quiche.dgram_recv_front_len().is_some() {
            self.told.datagram = true;
            tell(Event::Datagram);
        }
        if self.abandoned || self.paths.lost || self.quiche.is_draining() || self.quiche.is_closed() {
            self.told.closed = true;
            self.handshake_until = None;
            self.release_at = None;
            tell(Event::Closed(self.close_reason()));
        }
    }

    fn observe_streams(&mut self, tell: &mut impl FnMut(Event)) {
        // Stops first: quiche forgets a stream that is stopped when its reset or end is read.
        if std::mem::take(&mut self.has_stops) {
            // quiche tells only of streams that were blocked. Each is stopped once, so that a peer cannot have us look
            // through them more often than it has opened some.
            let ids: Vec<_> = self.writing.keys().copied().collect();
            ids.into_iter().for_each(|id| self.observe_stop(id, tell));
        }
        while let Some(id) = self.quiche.stream_readable_next() {
            let id = StreamId(id);
            self.observe_opening(id, tell);
            self.observe_readable(id, tell);
        }
        self.observe_ends(tell);
        while let Some(id) = self.quiche.stream_writable_next() {
            if self.observe_opening(StreamId(id), tell) {
                self.observe_unread(id, tell);
            }
            self.observe_stop(id, tell);
            if let Some(is_short) = self.writing.get_mut(&id)
                && std::mem::take(is_short)
            {
                tell(Event::Writable(StreamId(id)));
            }
        }
        for direction in [Direction::Bidirectional, Direction::Unidirectional] {
            if self.starved[direction as usize] && self.streams_left(direction) > 0 {
                self.starved[direction as usize] = false;
                tell(Event::StreamsAvailable(direction));
            }
        }
    }

    /// Tells of a stop once. quiche forgets a stream that is stopped and over when it is asked, so it is always asked; and
    /// it may have forgotten one when what was sent is acknowledged in the same packet.
    fn observe_stop(&mut self, id: u64, tell: &mut impl FnMut(Event)) {
        let code = match self.quiche.stream_capacity(id) {
            Err(quiche::Error::StreamStopped(code)) => code,
            // Neither ended nor given up, and gone: nothing else does that.
            Err(quiche::Error::InvalidStreamState(_)) => CODE_FORGOTTEN,
            _ => return,
        };
        if self.writing.remove(&id).is_some() {
            tell(Event::Stopped { id: StreamId(id), code });
        }
    }

    /// A stream of the peer opens all before it (RFC 9000, section 3.2), but quiche takes nothing for one of which nothing
    /// has come: each is told when it comes. Whether it is told now.
    fn observe_opening(&mut self, id: StreamId, tell: &mut impl FnMut(Event)) -> bool {
        if id.side() == self.side {
            return false;
        }
        let kind = id.direction() as usize;
        let (index, opened, passed) = (id.index(), &mut self.opened[kind], &mut self.passed[kind]);
        if index >= *opened {
            if index > *opened {
                passed.insert(*opened, index);
            }
            *opened = index + 1;
        } else {
            let row = passed.range(..=index).next_back().map(|(first, behind)| (*first, *behind));
            let Some((first, behind)) = row.filter(|(_, behind)| index < *behind) else { return false };
            passed.remove(&first);
            passed.extend([(first, index), (index + 1, behind)].into_iter().filter(|(first, behind)| first < behind));
        }
        tell(Event::Opened(id));
        self.reading.insert(id.0, Reading::default());
        if !id.is_uni() {
            self.writing.insert(id.0, false);
            self.observe_stop(id.0, tell);
        }
        true
    }

    /// Of a stream that comes without anything to be read there is no end: it was reset behind one.
    fn observe_unread(&mut self, id: u64, tell: &mut impl FnMut(Event)) {
        if self.quiche.stream_finished(id) && !self.quiche.stream_readable(id) && self.reading.remove(&id).is_some() {
            tell(Event::Reset { id: StreamId(id), code: CODE_FORGOTTEN });
        }
    }

    /// quiche calls a stream readable for bytes, for its end and for a reset alike.
    fn observe_readable(&mut self, id: StreamId, tell: &mut impl FnMut(Event)) {
        if self.reading.get(&id.0).is_some_and(|reading| reading.is_stopped) {
            self.discard(id);
            return;
        }
        if self.quiche.stream_readable_len(id.0, 1) > 0 {
            return tell(Event::Readable(id));
        }
        // With room for a byte that is not there: else quiche keeps the end, and calls the stream readable for ever.
        match self.quiche.stream_recv(id.0, &mut [0]) {
            Err(quiche::Error::StreamReset(code)) => {
                self.reading.remove(&id.0);
                tell(Event::Reset { id, code });
            }
            Ok((_, true)) => {
                self.reading.remove(&id.0);
                self.tell_end(id.0, tell);
            }
            _ => {}
        }
    }

    /// An end that comes with bytes that were read before, as in a packet sent again, quiche takes and does not tell. Nor
    /// does it tell of a reset when the end of the stream was known, and it drops what was not read: that is no end. Both look
    /// the same, so such an end passes for a reset when any stream was reset in the same train: better than the reverse.
    fn observe_ends(&mut self, tell: &mut impl FnMut(Event)) {
        if !std::mem::take(&mut self.heard) {
            return;
        }
        let (quiche, has_resets) = (&self.quiche, std::mem::take(&mut self.has_resets));
        let has_ended = |id: u64| quiche.stream_finished(id) && !quiche.stream_readable(id);
        let may_have = self.reading.iter().filter(|(_, reading)| reading.was_read || reading.is_stopped || has_resets);
        let ended: SmallVec<[(u64, Reading); 2]> =
            may_have.map(|(id, reading)| (*id, *reading)).filter(|(id, _)| has_ended(*id)).collect();
        for (id, reading) in ended {
            self.reading.remove(&id);
            self.let_go(id, reading);
            match has_resets {
                _ if reading.is_stopped => {}
                true => tell(Event::Reset { id: StreamId(id), code: CODE_FORGOTTEN }),
                false => self.tell_end(id, tell),
            }
        }
    }

    /// quiche 0.30 forgets a stream that is over when it is read, or when something that was sent on it is acknowledged,
    /// and does not give the peer another one before (cloudflare/quiche issue 1968). There was nothing to be read; when all
    /// is acknowledged, an end that is said again is. Not behind a reset: one that was lost would pass for a good end.
    fn let_go(&mut self, id: u64, reading: Reading) {
        if !StreamId(id).is_uni() && !reading.is_given_up && !self.writing.contains_key(&id) {
            // It may be forgotten already.
            let _ = self.quiche.stream_send(id, &[], true);
        }
    }

    fn tell_end(&mut self, id: u64, tell: &mut impl FnMut(Event)) {
        if self.ended.len() >= self.ended_max {
            self.ended.pop_first();
        }
        self.ended.insert(id);
        tell(Event::Readable(StreamId(id)));
    }
}
