//! What a user takes on several shards, counted together at the user's home, which tells all of them.
//!
//! A shard allows at once what its own table allows, and the others hear of it soon: of [`SOON`] at once, of less within two
//! times [`GATHER`]. Until then whoever has sessions on all shards may take a little more; that is missing afterwards.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use handler::{Cx, ShardId, Timer};
use topic::Mail;

use super::{Level, RateTable, Spent};

/// The timer of rates.
pub(crate) const TIMER: Timer = Timer(0x0072_6174_6573);

/// How long what was taken is gathered before others hear of it: one letter in that time between two shards, however
/// many users there are.
pub(crate) const GATHER: Duration = Duration::from_millis(50);

/// Of a user who takes as many as this others hear at once.
pub(crate) const SOON: u32 = 8;

/// From one shard to another.
#[derive(Default, Debug)]
pub(crate) struct Letter {
    /// What users took who are at home there.
    spent: Vec<Spent>,
    /// How it stands with users who take something there too.
    levels: Vec<Level>,
}

/// The rates of users as one shard knows them.
#[derive(Debug)]
pub(crate) struct Ledger {
    table: RateTable,
    /// What users took here who are at home elsewhere, and was not told.
    spent: BTreeMap<Arc<str>, Spent>,
    /// Users at home here of whom other shards are to hear, and how many they took.
    changed: BTreeMap<Arc<str>, u32>,
    armed: Option<Instant>,
}

impl Ledger {
    pub(crate) fn new(table: RateTable) -> Self {
        Self { table, spent: BTreeMap::new(), changed: BTreeMap::new(), armed: None }
    }

    /// Takes one from each bucket of a user, or from none: then it says in how many milliseconds all have one.
    pub(crate) fn take(&mut self, cx: &mut Cx<'_, Mail>, user: &Arc<str>) -> Result<(), u32> {
        let is_shared = self.table.take_here(cx.now, user)?;
        if cx.home(user) != cx.shard {
            let first = || Spent { user: Arc::clone(user), count: 0, first: cx.now };
            let spent = self.spent.entry(Arc::clone(user)).or_insert_with(first);
            spent.count += 1;
            let count = spent.count;
            self.arm(cx, count);
        } else if is_shared {
            self.change(cx, Arc::clone(user), 1);
        }
        Ok(())
    }

    /// Another shard tells; what is to be told it in turn waits for the timer.
    pub(crate) fn on_letter(&mut self, cx: &mut Cx<'_, Mail>, from: ShardId, letter: Letter) {
        for spent in letter.spent {
            if self.table.charge(cx.now, from, &spent) {
                self.change(cx, spent.user, spent.count);
            }
        }
        letter.levels.iter().for_each(|level| self.table.raise(cx.now, level));
    }

    fn change(&mut self, cx: &mut Cx<'_, Mail>, user: Arc<str>, count: u32) {
        let all = self.changed.entry(user).or_default();
        *all = all.saturating_add(count);
        let count = *all;
        self.arm(cx, count);
    }

    /// What the other shards are to hear now.
    pub(crate) fn on_timer(&mut self, cx: &Cx<'_, Mail>) -> BTreeMap<ShardId, Letter> {
        self.armed = None;
        let mut letters: BTreeMap<ShardId, Letter> = BTreeMap::new();
        for (user, spent) in std::mem::take(&mut self.spent) {
            letters.entry(cx.home(&user)).or_default().spent.push(spent);
        }
        for user in std::mem::take(&mut self.changed).into_keys() {
            let Some((level, elsewhere)) = self.table.level(&user) else { continue };
            elsewhere.iter().for_each(|to| letters.entry(*to).or_default().levels.push(level()));
        }
        letters
    }

    /// Others hear of what somebody took, of so many without delay.
    fn arm(&mut self, cx: &mut Cx<'_, Mail>, count: u32) {
        let due = if count < SOON { cx.now + GATHER } else { cx.now };
        if self.armed.is_none_or(|armed| due < armed) {
            self.armed = Some(due);
            cx.wake_at(TIMER, due);
        }
    }
}
