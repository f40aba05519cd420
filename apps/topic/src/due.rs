//! What is to be done later, behind the one timer that topics have.

use std::{collections::BTreeSet, time::Instant};

use handler::{Cx, Timer};

use crate::mail::Mail;

/// The timer of topics; an app that embeds them uses other numbers.
pub const TIMER: Timer = Timer(0);

/// Something to be done later.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Chore {
    /// Tell who came and went in a topic at home here.
    Presence(usize),
    /// Try again to write.
    Retry,
    /// Try again to read.
    ReadAgain,
    /// Look at what may go.
    Retain,
    /// Carry facts on.
    Carry,
    /// Write marks that have risen.
    Marks,
    /// Forget old ephemeral values of a topic that this shard listens to.
    Expire(u32),
}

/// Chores by time.
#[derive(Default, Debug)]
pub(crate) struct Due {
    chores: BTreeSet<(Instant, Chore)>,
    armed: Option<Instant>,
}

impl Due {
    /// Plans a chore.
    pub(crate) fn plan(&mut self, cx: &mut Cx<'_, Mail>, at: Instant, chore: Chore) {
        self.chores.insert((at, chore));
        self.arm(cx);
    }

    /// Drops a chore whose topic is gone.
    pub(crate) fn cancel(&mut self, at: Instant, chore: Chore) {
        self.chores.remove(&(at, chore));
    }

    /// The timer fired.
    pub(crate) fn fired(&mut self) {
        self.armed = None;
    }

    /// A chore whose time has come.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Chore> {
        if self.chores.first()?.0 > now {
            return None;
        }
        self.chores.pop_first().map(|(_, chore)| chore)
    }

    /// Sets the timer to the next chore.
    pub(crate) fn arm(&mut self, cx: &mut Cx<'_, Mail>) {
        let Some((at, _)) = self.chores.first() else { return };
        if self.armed.is_none_or(|armed| *at < armed) {
            self.armed = Some(*at);
            cx.wake_at(TIMER, *at);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.chores.len()
    }
}
