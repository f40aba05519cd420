//! Topics that are forgotten: they are asleep, and so many are known that there would soon be no room for new ones. What
//! has other facts than how far it came and how far it was read is kept.

use std::sync::Arc;

use super::Home;
use crate::{
    desk::Desk,
    facts::{BEHIND_MARKS, Change, HEAD, MARK},
    limit::FORGET_AT_ONCE,
    mutant::Mutant,
};

/// Topics are forgotten while more than this part is taken of how many may be known: so many quarters.
const QUARTERS: usize = 3;

impl Home {
    /// Forgets topics that are asleep, those first whose last message is longest ago, while there are too many. The next
    /// one of that name begins anew, with another epoch.
    pub(super) fn forget_topics(&mut self, desk: &mut Desk) {
        let over = |[known, most]: [usize; 2]| known.saturating_sub(most / 4 * QUARTERS);
        let (all, open) = (over(self.known(desk, true)), over(self.known(desk, false)));
        let many = all.max(open).min(FORGET_AT_ONCE);
        if many == 0 {
            return;
        }
        let Some(oldest) = self.journal.as_ref().and_then(|journal| journal.oldest_on_disk()) else { return };
        // While a message of it lies in a segment, the next run would take that for its history.
        let is_gone = |last_segment: u64| last_segment < oldest || Mutant::HastyForgetting.is_in();
        let mut may_go: Vec<(u64, Arc<str>)> = self
            .asleep
            .iter()
            .filter(|(name, last)| is_gone(**last) && (all > 0 || !self.is_reserved(name)) && !self.has_facts(name))
            .map(|(name, last)| (*last, name.clone()))
            .collect();
        may_go.sort_unstable();
        for (_, name) in may_go.into_iter().take(many) {
            if self.record_upkeep(&name, &[Change { key: HEAD.to_owned(), value: None }]).is_err() {
                return;
            }
            let marks = self.facts.range(&name, MARK, None).map(|(key, _)| (name.clone(), key.to_owned()));
            self.stale.extend(marks);
            self.unsleep(&name);
            desk.stats.forgotten += 1;
        }
    }

    /// Whether there are facts of a topic beside those that topics keep.
    fn has_facts(&self, name: &str) -> bool {
        let is_own = |key: &str| key == HEAD || key.starts_with(MARK);
        let first = self.facts.range(name, "", None).next();
        first.is_some_and(|(key, _)| !is_own(key))
            || self.facts.range(name, "", Some(BEHIND_MARKS)).any(|(key, _)| !is_own(key))
    }
}
