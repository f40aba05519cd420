//! Ids that the peer has given out, and datagrams to it carry.

use std::net::SocketAddr;

use smallvec::SmallVec;

use crate::{
    error::{Checked, Code, TransportError},
    frame::RESET_TOKEN_LEN,
    guuid::Guuid,
    range::RangeSet,
};

/// Ids that this side holds of the peer: what it advertises as `ids_max`. One in use, one for the path that was left,
/// the others for paths to come.
pub(crate) const REMOTE_IDS_MAX: usize = 4;

/// RETIRE_ID frames that may wait for their acknowledgement. A peer gets there only by replacing ids faster than it
/// acknowledges that they are gone.
const RETIRED_MAX: u64 = 8 * REMOTE_IDS_MAX as u64;

const MANY: TransportError = TransportError::new(Code::IdLimit, "more ids than are taken");
const MANY_RETIRED: TransportError = TransportError::new(Code::IdLimit, "ids are replaced too fast");
const CHANGED: TransportError = TransportError::new(Code::ProtocolViolation, "an id changed");
const BEYOND: TransportError = TransportError::new(Code::FrameEncoding, "retires ids that are not there yet");

/// Ids of the peer.
#[derive(Debug)]
pub(crate) struct RemoteIds {
    current: Known,
    // Still used on the path that was left, until the new one is validated.
    former: Option<Known>,
    // Ascending by sequence.
    spare: SmallVec<[Known; REMOTE_IDS_MAX - 1]>,
    // Where the first of them was seen, if it was.
    shown: Option<SocketAddr>,
    // Everything below was asked back.
    retire_prior_to: u64,
    // Sequences that were ever known.
    seen: RangeSet,
    // RETIRE_ID frames to be sent, and those that are not acknowledged (which includes the first).
    unsent: RangeSet,
    unacked: RangeSet,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Known {
    sequence: u64,
    id: Guuid,
    // The first id of a client has none.
    reset_token: Option<[u8; RESET_TOKEN_LEN]>,
}

impl RemoteIds {
    /// `first` is what the peer calls itself in the handshake; a client begins with one of its own making.
    pub(crate) fn new(first: Guuid) -> Self {
        let mut seen = RangeSet::new();
        seen.insert_one(0);
        Self {
            current: Known { sequence: 0, id: first, reset_token: None },
            former: None,
            spare: SmallVec::new(),
            shown: None,
            retire_prior_to: 0,
            seen,
            unsent: RangeSet::new(),
            unacked: RangeSet::new(),
        }
    }

    /// The server's first packet (or its Retry) says what it wants to be called.
    pub(crate) fn replace_first(&mut self, id: Guuid) {
        if self.current.sequence == 0 {
            self.current.id = id;
        }
    }

    /// The reset token of the first id, from the server's transport parameters.
    pub(crate) fn set_first_token(&mut self, token: [u8; RESET_TOKEN_LEN]) {
        if self.current.sequence == 0 {
            self.current.reset_token = Some(token);
        }
    }

    /// The reset token of the id that datagrams to the peer carry.
    pub(crate) fn current_token(&self) -> Option<[u8; RESET_TOKEN_LEN]> {
        self.current.reset_token
    }

    /// What datagrams to the peer carry.
    pub(crate) fn current(&self) -> Guuid {
        self.current.id
    }

    /// What datagrams to the path that was left carry.
    pub(crate) fn former(&self) -> Guuid {
        self.former.as_ref().unwrap_or(&self.current).id
    }

    /// Takes a NEW_ID frame. Whether the current id changed, because the peer asked it back.
    ///
    /// # Errors
    /// `IdLimit` for more than are taken, `ProtocolViolation` when a known one changed.
    pub(crate) fn on_new_id(
        &mut self,
        sequence: u64,
        retire_prior_to: u64,
        id: Guuid,
        reset_token: [u8; RESET_TOKEN_LEN],
    ) -> Checked<bool> {
        if retire_prior_to > sequence {
            return Err(BEYOND);
        }
        let new = Known { sequence, id, reset_token: Some(reset_token) };
        if self.all().any(|known| (known.sequence == sequence) != (known.id == id)) {
            return Err(CHANGED);
        }
        if self.seen.insert_one(sequence) {
            if sequence < self.retire_prior_to {
                // It came late: its successors were told before.
                self.retire(sequence);
            } else {
                let at = self.spare.partition_point(|known| known.sequence < sequence);
                self.spare.insert(at, new);
            }
        } else if self.all().any(|known| known.sequence == sequence && known.reset_token != new.reset_token) {
            return Err(CHANGED);
        }
        let changed = self.retire_below(retire_prior_to);
        let held = 1 + usize::from(self.former.is_some()) + self.spare.len();
        //= SPEC.md#5.7
        //# More ids in force than the `ids_max` of the receiver is an ID_LIMIT error, though it MAY hold more.
        if held > REMOTE_IDS_MAX {
            return Err(MANY);
        }
        let waiting: u64 = self.unacked.iter().map(|range| range.end - range.start).sum();
        if waiting > RETIRED_MAX || self.seen.len() > RETIRED_MAX as usize { Err(MANY_RETIRED) } else { Ok(changed) }
    }

    /// What datagrams to an address that is not in use carry: the fresh id that would be used there.
    pub(crate) fn elsewhere(&mut self, to: SocketAddr) -> Guuid {
        self.show(to);
        self.spare.first().unwrap_or(&self.current).id
    }

    /// The next fresh id is for this address; one that was seen at another is not used, if there is a choice.
    fn show(&mut self, to: SocketAddr) {
        if self.shown.replace(to).is_some_and(|at| at != to) && self.spare.len() > 1 {
            let sequence = self.spare.remove(0).sequence;
            self.retire(sequence);
        }
    }

    /// Goes on with a fresh id on the path to `to`, so that an observer cannot link it to another. With `keeps` the one
    /// before stays valid for the path that was left, until [`Self::settle`]; else one that was left earlier does, and
    /// the one before is retired. `false` when there is none: then the current one goes on.
    pub(crate) fn switch(&mut self, to: SocketAddr, keeps: bool) -> bool {
        if self.spare.is_empty() {
            return false;
        }
        self.show(to);
        self.shown = None;
        //= SPEC.md#15
        //# A client that moves on purpose, and a server that sees its client move, SHOULD go on with a fresh id of the
        //# peer, and retire the one before when nothing depends on it any more.
        let before = std::mem::replace(&mut self.current, self.spare.remove(0));
        if keeps || self.former.is_none() {
            self.settle();
            self.former = Some(before);
        } else {
            self.retire(before.sequence);
        }
        true
    }

    /// The path that was left is given up, and so is its id.
    pub(crate) fn settle(&mut self) {
        if let Some(former) = self.former.take() {
            self.retire(former.sequence);
        }
    }

    /// Goes back to the path that was left: the fresh id was seen on another, and must not be used again.
    pub(crate) fn revert(&mut self) {
        if let Some(former) = self.former.take() {
            let current = std::mem::replace(&mut self.current, former);
            self.retire(current.sequence);
        }
    }

    /// Whether RETIRE_ID frames wait to be sent.
    pub(crate) fn is_pending(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// The next RETIRE_ID frame. It counts as sent.
    pub(crate) fn poll_retire(&mut self) -> Option<u64> {
        let sequence = self.unsent.min()?;
        self.unsent.remove(sequence..sequence + 1);
        Some(sequence)
    }

    /// A RETIRE_ID frame arrived.
    pub(crate) fn on_acked(&mut self, sequence: u64) {
        self.unacked.remove(sequence..sequence + 1);
        self.unsent.remove(sequence..sequence + 1);
    }

    /// A RETIRE_ID frame was lost.
    pub(crate) fn on_lost(&mut self, sequence: u64) {
        if self.unacked.contains(sequence) {
            self.unsent.insert_one(sequence);
        }
    }

    /// Whether a datagram that ends in `token` is the peer's stateless reset. Says nothing by the time that it takes.
    pub(crate) fn is_reset(&self, token: &[u8; RESET_TOKEN_LEN]) -> bool {
        // Tokens of spare ids do not count: nothing was sent to them that could be answered (RFC 9000, section 10.3.1).
        let used = [Some(&self.current), self.former.as_ref()];
        used.into_iter()
            .flatten()
            .filter_map(|known| known.reset_token)
            .fold(false, |is, known| is | equal(&known, token))
    }

    fn all(&self) -> impl Iterator<Item = &Known> {
        std::iter::once(&self.current).chain(&self.former).chain(&self.spare)
    }

    fn retire_below(&mut self, retire_prior_to: u64) -> bool {
        let floor = self.retire_prior_to.max(retire_prior_to);
        self.retire_prior_to = floor;
        while self.spare.first().is_some_and(|known| known.sequence < floor) {
            let sequence = self.spare.remove(0).sequence;
            self.retire(sequence);
        }
        if let Some(former) = self.former.take_if(|former| former.sequence < floor) {
            self.retire(former.sequence);
        }
        // Without another one to go on with, the peer must live with the old one until it sends one.
        if self.current.sequence >= floor || self.spare.is_empty() {
            return false;
        }
        let old = std::mem::replace(&mut self.current, self.spare.remove(0));
        self.retire(old.sequence);
        true
    }

    fn retire(&mut self, sequence: u64) {
        self.unsent.insert_one(sequence);
        self.unacked.insert_one(sequence);
    }
}

fn equal(a: &[u8; RESET_TOKEN_LEN], b: &[u8; RESET_TOKEN_LEN]) -> bool {
    std::hint::black_box(a.iter().zip(b).fold(0, |different, (a, b)| different | (a ^ b))) == 0
}
