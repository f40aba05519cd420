//! Control frames of the connection itself that wait to be sent, or to be acknowledged.

use std::sync::Arc;

/// A frame that is sent until it has arrived.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum Flag {
    /// Not to be sent.
    #[default]
    No,
    /// To be sent.
    Due,
    /// On its way.
    Sent,
    /// Arrived.
    Done,
}

impl Flag {
    pub(crate) fn is_due(self) -> bool {
        self == Flag::Due
    }

    /// What became of a frame: it arrived, or is to be sent again, unless another one did arrive.
    pub(crate) fn told(&mut self, acked: bool) {
        match *self {
            _ if acked => *self = Flag::Done,
            Flag::Sent => *self = Flag::Due,
            Flag::No | Flag::Due | Flag::Done => {}
        }
    }
}

/// A GOAWAY.
#[derive(Clone, Debug)]
pub(crate) struct GoAway {
    pub(crate) last_stream: u64,
    pub(crate) code: u64,
    pub(crate) reason: Arc<[u8]>,
}

/// All of them.
#[derive(Default, Debug)]
pub(crate) struct Pending {
    pub(crate) handshake_done: Flag,
    pub(crate) new_token: Flag,
    pub(crate) fec_window: Flag,
    pub(crate) goaway: Flag,
    pub(crate) goaway_frame: Option<GoAway>,
    /// A packet that wants an acknowledgement is to be sent, whatever is in it.
    pub(crate) ping: bool,
}

impl Pending {
    /// Whether a 1-RTT packet would carry one of them.
    pub(crate) fn has_frames(&self) -> bool {
        self.ping || [self.handshake_done, self.new_token, self.fec_window, self.goaway].into_iter().any(Flag::is_due)
    }
}
