//! Streams and datagrams that came before their session was accepted: the network reorders.

use std::{collections::VecDeque, time::Instant};

use bytes::Bytes;

use crate::h3::StreamId;

#[derive(Debug)]
struct EarlyStream {
    id: StreamId,
    session: StreamId,
    /// When it is given up.
    until: Instant,
}

/// The owner holds the bounds; the streams' bytes are in their inboxes.
#[derive(Debug, Default)]
pub(crate) struct Early {
    /// In the order of their coming, and so of their time limits.
    streams: VecDeque<EarlyStream>,
    datagrams: VecDeque<(StreamId, Bytes)>,
}

impl Early {
    pub(super) fn streams_len(&self) -> usize {
        self.streams.len()
    }

    pub(super) fn datagrams_len(&self) -> usize {
        self.datagrams.len()
    }

    pub(super) fn push_stream(&mut self, id: StreamId, session: StreamId, until: Instant) {
        self.streams.push_back(EarlyStream { id, session, until });
    }

    pub(super) fn push_datagram(&mut self, session: StreamId, payload: Bytes) {
        self.datagrams.push_back((session, payload));
    }

    /// Takes out the streams of a session, in order.
    pub(super) fn take_streams(&mut self, session: StreamId) -> Vec<StreamId> {
        let ids = self.streams.iter().filter(|stream| stream.session == session).map(|stream| stream.id).collect();
        self.streams.retain(|stream| stream.session != session);
        ids
    }

    /// Takes out the datagrams of a session, in order.
    pub(crate) fn take_datagrams(&mut self, session: StreamId) -> Vec<Bytes> {
        if self.datagrams.is_empty() {
            return Vec::new();
        }
        let (theirs, others) = std::mem::take(&mut self.datagrams).into_iter().partition(|(id, _)| *id == session);
        self.datagrams = others;
        let theirs: VecDeque<(StreamId, Bytes)> = theirs;
        theirs.into_iter().map(|(_, payload)| payload).collect()
    }

    pub(super) fn forget(&mut self, id: StreamId) {
        self.streams.retain(|stream| stream.id != id);
    }

    /// When the first stream is given up.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.streams.front().map(|stream| stream.until)
    }

    /// Takes out a stream that has waited too long.
    pub(crate) fn take_late(&mut self, now: Instant) -> Option<StreamId> {
        let is_late = self.streams.front().is_some_and(|stream| stream.until <= now);
        is_late.then(|| self.streams.pop_front()).flatten().map(|stream| stream.id)
    }
}
