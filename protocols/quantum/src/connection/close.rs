//! The end of a connection: closing tells the peer and answers what still comes, draining is silent (RFC 9000, section 10).

use std::{sync::Arc, time::Instant};

use super::{Connection, IdChange};
use crate::{
    error::TransportError,
    event::{CloseReason, Event},
    frame::{Close, REASON_BYTES_MAX},
};

/// How far the end is.
#[derive(Clone, Debug)]
pub(crate) enum Ending {
    /// It is not.
    No,
    /// We said CLOSE, and say it again when something comes, ever more rarely.
    Closing { until: Instant, frame: Farewell, due: bool, heard: u32, answer_at: u32 },
    /// The peer said CLOSE: nothing is sent any more.
    Draining { until: Instant },
    /// Nothing is left.
    Over,
}

/// Why we close.
#[derive(Clone, Debug)]
pub(crate) struct Farewell {
    pub(crate) application: bool,
    pub(crate) code: u64,
    pub(crate) reason: Arc<[u8]>,
}

/// Probe timeouts that closing and draining last.
const LINGER_PTO: u32 = 3;

impl Connection {
    /// Closes the connection: nothing queued is sent any more. `reason` is cut at 512 bytes.
    pub fn close(&mut self, now: Instant, code: u64, reason: &[u8]) {
        let reason = reason[..reason.len().min(REASON_BYTES_MAX)].into();
        self.farewell(now, Farewell { application: true, code, reason }, CloseReason::Local { code });
    }

    /// The peer broke a rule, or a limit was met.
    pub(super) fn fail(&mut self, now: Instant, error: TransportError) {
        let reason = error.reason.as_bytes().into();
        self.farewell(now, Farewell { application: false, code: error.code, reason }, CloseReason::Transport(error));
    }

    fn farewell(&mut self, now: Instant, frame: Farewell, reason: CloseReason) {
        if !matches!(self.ending, Ending::No) {
            return;
        }
        let until = now + self.pto() * LINGER_PTO;
        self.ending = Ending::Closing { until, frame, due: true, heard: 0, answer_at: 1 };
        self.tell_closed(now, reason);
    }

    /// The peer closed.
    pub(super) fn on_close(&mut self, now: Instant, close: &Close<'_>) {
        let until = now + self.pto() * LINGER_PTO;
        match self.ending {
            Ending::No => {
                let Close { application, code, reason } = *close;
                self.ending = Ending::Draining { until };
                self.tell_closed(now, CloseReason::Peer { application, code, reason: reason.into() });
            }
            Ending::Closing { .. } => self.ending = Ending::Draining { until },
            Ending::Draining { .. } | Ending::Over => {}
        }
    }

    /// The peer has no state for this connection.
    pub(crate) fn on_reset(&mut self, now: Instant) {
        if matches!(self.ending, Ending::No) {
            self.tell_closed(now, CloseReason::Reset);
        }
        if !matches!(self.ending, Ending::Over) {
            self.ending = Ending::Draining { until: now + self.pto() * LINGER_PTO };
        }
    }

    /// The connection ends without a word: nobody would hear it.
    pub(super) fn give_up(&mut self, now: Instant, reason: CloseReason) {
        if matches!(self.ending, Ending::No) {
            self.tell_closed(now, reason);
        }
        self.finish_ending();
    }

    /// A packet came while closing: the farewell is said again after 1, 2, 4, .. packets.
    pub(super) fn heard_while_closing(&mut self) {
        if let Ending::Closing { due, heard, answer_at, .. } = &mut self.ending {
            *heard += 1;
            if *heard >= *answer_at {
                *due = true;
                *heard = 0;
                *answer_at = answer_at.saturating_mul(2);
            }
        }
    }

    pub(super) fn ending_deadline(&self) -> Option<Instant> {
        match self.ending {
            Ending::Closing { until, .. } | Ending::Draining { until } => Some(until),
            Ending::No | Ending::Over => None,
        }
    }

    /// Forgets everything, so that the endpoint forgets the connection.
    pub(super) fn finish_ending(&mut self) {
        self.ending = Ending::Over;
        let ids = self.local_ids.iter().map(IdChange::Forget);
        self.id_changes.extend(ids);
        if self.side == crate::frame::Side::Server {
            self.id_changes.push_back(IdChange::Forget(self.original_to));
        }
        self.id_changes.extend(self.watched.take().map(IdChange::ForgetToken));
    }

    fn tell_closed(&mut self, now: Instant, reason: CloseReason) {
        if let Some(qlog) = &mut self.qlog {
            qlog.closed(now, &reason.to_string());
        }
        // What the application has not taken yet still waits in the lanes; the events about it stay in front.
        self.collect_events();
        self.events.push_back(Event::Closed(reason));
        self.repairs = None;
        self.early = Default::default();
    }
}
