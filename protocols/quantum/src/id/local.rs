//! Ids that this side has given out, and datagrams to it carry.

use rand::RngCore;
use smallvec::SmallVec;

use crate::{
    error::{Checked, Code, TransportError},
    frame::RESET_TOKEN_LEN,
    guuid::{Guuid, Router},
    token::reset_token,
};

/// Ids that a peer holds at a time, however many it would take: one in use, the others for paths to come. Each costs an
/// entry in the endpoint's table.
pub(crate) const LOCAL_IDS_MAX: usize = 4;

const NEVER_ISSUED: TransportError =
    TransportError::new(Code::ProtocolViolation, "retires an id that was never issued");
const IN_USE: TransportError = TransportError::new(Code::ProtocolViolation, "retires the id that it uses");

/// Ids that the peer may use.
#[derive(Debug)]
pub(crate) struct LocalIds {
    // Ascending by sequence.
    active: SmallVec<[Active; LOCAL_IDS_MAX]>,
    next_sequence: u64,
    limit: usize,
}

#[derive(Clone, Copy, Debug)]
struct Active {
    sequence: u64,
    id: Guuid,
    // Whether a NEW_ID frame must be sent (again).
    pending: bool,
}

/// What a NEW_ID frame says. Older ids are never asked back: `retire_prior_to` is 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NewId {
    /// Its number.
    pub(crate) sequence: u64,
    /// The id.
    pub(crate) id: Guuid,
    /// Its reset token.
    pub(crate) reset_token: [u8; RESET_TOKEN_LEN],
}

impl LocalIds {
    /// `first` is the source id of the handshake; the peer knows it already.
    pub(crate) fn new(first: Guuid) -> Self {
        let mut active = SmallVec::new();
        active.push(Active { sequence: 0, id: first, pending: false });
        Self { active, next_sequence: 1, limit: 1 }
    }

    /// The peer's `ids_max`, known with its transport parameters.
    pub(crate) fn set_limit(&mut self, ids_max: u64) {
        self.limit = usize::try_from(ids_max).map_or(LOCAL_IDS_MAX, |most| most.min(LOCAL_IDS_MAX)).max(1);
    }

    /// How many ids the peer would take.
    pub(crate) fn wanted(&self) -> usize {
        self.limit.saturating_sub(self.active.len())
    }

    /// Makes an id that leads to this shard. The caller must make it known to its table, and may call this as often as
    /// [`Self::wanted`] says.
    ///
    /// # Panics
    /// When none is wanted.
    pub(crate) fn issue(&mut self, unix_ms: u64, router: &Router, rng: &mut impl RngCore) -> Guuid {
        assert!(self.wanted() > 0, "more ids than the peer takes");
        let id = make(unix_ms, router, rng);
        self.active.push(Active { sequence: self.next_sequence, id, pending: true });
        self.next_sequence += 1;
        id
    }

    /// Whether NEW_ID frames wait to be sent.
    pub(crate) fn is_pending(&self) -> bool {
        self.active.iter().any(|active| active.pending)
    }

    /// The next NEW_ID frame. It counts as sent.
    pub(crate) fn poll(&mut self, reset_key: &[u8; 32]) -> Option<NewId> {
        let active = self.active.iter_mut().find(|active| active.pending)?;
        active.pending = false;
        Some(NewId { sequence: active.sequence, id: active.id, reset_token: reset_token(reset_key, active.id) })
    }

    /// A NEW_ID frame was lost. If the peer has retired the id meanwhile, it knows it.
    pub(crate) fn on_lost(&mut self, sequence: u64) {
        if let Some(active) = self.active.iter_mut().find(|active| active.sequence == sequence) {
            active.pending = true;
        }
    }

    /// RETIRE_ID came in a packet to `used`. The id leads nowhere any more: the caller must take it off its table.
    ///
    /// # Errors
    /// `ProtocolViolation` when it was never issued, or is the one that the packet came with.
    pub(crate) fn on_retire(&mut self, sequence: u64, used: Guuid) -> Checked<Option<Guuid>> {
        if sequence >= self.next_sequence {
            return Err(NEVER_ISSUED);
        }
        let Some(at) = self.active.iter().position(|active| active.sequence == sequence) else { return Ok(None) };
        if self.active[at].id == used {
            return Err(IN_USE);
        }
        Ok(Some(self.active.remove(at).id))
    }

    /// All ids that lead here.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Guuid> + '_ {
        self.active.iter().map(|active| active.id)
    }
}

/// An id is a name, not a secret; but nobody must guess another connection's, so all bits but the time are random.
pub(crate) fn make(unix_ms: u64, router: &Router, rng: &mut impl RngCore) -> Guuid {
    let mut random = [0; 10];
    rng.fill_bytes(&mut random);
    let id = Guuid::new(unix_ms, random);
    id.with_word(router.word(id.word()))
}
