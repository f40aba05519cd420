//! Topics that are forgotten: they are asleep, and so many are known that there would soon be no room for new ones. What
//! has facts that are neither a topic's own nor about its messages is kept.

use std::sync::Arc;

use super::Home;
use crate::{
    desk::Desk,
    facts::{Change, FLOOR, HEAD, MARK},
    limit::{FORGET_AT_ONCE, FORGET_FACT_BYTES},
    mail::Refusal,
    mutant::Mutant,
};

/// Topics are forgotten while more than this part is taken of how many may be known: so many quarters.
const QUARTERS: usize = 3;

/// What a fact that is taken back costs beside its key.
const FACT_HEAD_BYTES: usize = 16;

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
        let mut bytes = FORGET_FACT_BYTES;
        for (_, name) in may_go.into_iter().take(many) {
            if !self.forget(&name, &mut bytes).unwrap_or(false) {
                return;
            }
            let marks = self.facts.range(&name, MARK, None).map(|(key, _)| (name.clone(), key.to_owned()));
            self.stale.extend(marks);
            self.unsleep(&name);
            desk.stats.forgotten += 1;
        }
    }

    /// Takes back how far a topic came, in one record with all that is said of its messages: no segment has any of these.
    /// If that is more than there may be at once, some of it goes now and the rest at the next look: then this is false.
    fn forget(&mut self, name: &Arc<str>, bytes: &mut usize) -> Result<bool, Refusal> {
        let (mut go, mut is_all) = (Vec::new(), true);
        let back = |key: &str| Change { key: key.to_owned(), value: None };
        for (key, _) in self.kinds().flat_map(|kind| self.facts.range(name, kind, None)) {
            let Some(left) = bytes.checked_sub(key.len() + FACT_HEAD_BYTES) else {
                is_all = false;
                break;
            };
            *bytes = left;
            go.push(back(key));
        }
        if is_all {
            go.extend([FLOOR, HEAD].into_iter().filter(|key| self.facts.get(name, key).is_some()).map(back));
        }
        if go.is_empty() {
            return Ok(false);
        }
        self.record_upkeep(name, &go).map(|()| is_all)
    }

    /// Whether there are facts of a topic beside those that topics keep, and those about messages.
    fn has_facts(&self, name: &str) -> bool {
        let mut from = String::new();
        while let Some(key) = self.facts.first_from(name, &from) {
            from = match self.kind_of(key).or_else(|| key.starts_with(MARK).then_some(MARK)) {
                Some(kind) => behind(kind),
                None if key == HEAD || key == FLOOR => format!("{key}\0"),
                None => return true,
            };
        }
        false
    }
}

/// What comes behind all keys that begin with a kind, which ends with a slash.
fn behind(kind: &str) -> String {
    format!("{}0", kind.trim_end_matches('/'))
}
