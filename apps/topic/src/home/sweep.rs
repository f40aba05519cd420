//! Facts about messages that are gone go too, some at each look for what may go.

use std::sync::Arc;

use super::Home;
use crate::facts::{self, Change};

/// Facts that are looked at in one step: about a millisecond.
const LOOKS: usize = 4_096;

/// Facts that go in one step: a batch.
const GONE_MAX: usize = 1_024;

impl Home {
    /// The next step through all facts. With those of a topic goes on record that these messages are never shown again.
    pub(super) fn sweep(&mut self) {
        if self.closed {
            return;
        }
        let (mut gone, mut last): (Vec<(Arc<str>, Vec<Change>)>, _) = (Vec::new(), None);
        let mut count = 0;
        for (look, full) in self.facts.names_from(self.swept.as_ref()).enumerate() {
            if look >= LOOKS || count >= GONE_MAX {
                break;
            }
            last = Some(full.clone());
            let Some((name, key)) = facts::parts(full).filter(|(name, key)| self.is_of_gone(name, key)) else {
                continue;
            };
            if gone.last().is_none_or(|(last, _)| **last != *name) {
                gone.push((name.into(), Vec::new()));
            }
            if let Some((_, changes)) = gone.last_mut() {
                changes.push(Change { key: key.to_owned(), value: None });
                count += 1;
            }
        }
        for (name, changes) in gone {
            if !self.let_facts_go(&name, changes) {
                // The next look tries again.
                return;
            }
        }
        // Behind the last one it begins anew.
        self.swept = last;
    }

    fn let_facts_go(&mut self, name: &Arc<str>, mut changes: Vec<Change>) -> bool {
        let stays = |change: &Change| self.is_kept_in_memory(name, &change.key);
        let in_memory: Vec<Change> = changes.extract_if(.., |change| stays(change)).collect();
        in_memory.iter().for_each(|change| self.facts.remove_from_memory(name, &change.key));
        if changes.is_empty() {
            return true;
        }
        changes.extend(self.raised_floor(name, self.oldest(name)));
        self.record_upkeep(name, &changes).is_ok()
    }
}
