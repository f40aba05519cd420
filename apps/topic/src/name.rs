//! Names that many records and pushes share, each kept once per shard. A shard never shares a name with another one:
//! reference counts would bounce between cores.

use std::{collections::HashMap, sync::Arc};

use ahash::RandomState;
use slab::Slab;

use crate::limit::NAMES_IDLE_MAX;

/// A name and its number, which stays the same for as long as anybody holds the text.
#[derive(Clone, Debug)]
pub(crate) struct Name {
    pub(crate) id: u32,
    pub(crate) text: Arc<str>,
}

/// All names of a shard.
#[derive(Debug)]
pub(crate) struct Names {
    texts: Slab<Arc<str>>,
    ids: HashMap<Arc<str>, u32, RandomState>,
    hand: usize,
}

/// References that the table itself holds: the list's and the index's.
const OWN_REFERENCES: usize = 2;

/// Entries looked at per new name once the table is large. More than one, so that it shrinks faster than it grows.
const SWEEP: usize = 4;

impl Names {
    pub(crate) fn new(hasher: RandomState) -> Self {
        Self { texts: Slab::new(), ids: HashMap::with_hasher(hasher), hand: 0 }
    }

    /// The name with this text; a known one costs no allocation.
    pub(crate) fn intern(&mut self, text: &str) -> Name {
        if let Some((text, id)) = self.ids.get_key_value(text) {
            return Name { id: *id, text: text.clone() };
        }
        if self.texts.len() >= NAMES_IDLE_MAX {
            self.sweep();
        }
        let text: Arc<str> = text.into();
        let id = u32::try_from(self.texts.insert(text.clone())).expect("fewer names than memory for them");
        self.ids.insert(text.clone(), id);
        Name { id, text }
    }

    /// Names that somebody holds.
    pub(crate) fn held(&self) -> usize {
        self.texts.iter().filter(|(_, text)| Arc::strong_count(text) > OWN_REFERENCES).count()
    }

    fn sweep(&mut self) {
        for _ in 0..SWEEP {
            self.hand = if self.hand + 1 < self.texts.capacity() { self.hand + 1 } else { 0 };
            if self.texts.get(self.hand).is_some_and(|text| Arc::strong_count(text) == OWN_REFERENCES) {
                let text = self.texts.remove(self.hand);
                self.ids.remove(&text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_name_keeps_its_number_and_idle_ones_go() {
        let mut names = Names::new(RandomState::with_seeds(1, 2, 3, 4));
        let held = names.intern("held");
        for n in 0..NAMES_IDLE_MAX * 4 {
            names.intern(&format!("passing-{n}"));
            assert!(names.texts.len() <= NAMES_IDLE_MAX + 1);
        }
        let again = names.intern("held");
        assert_eq!(again.id, held.id);
        assert!(Arc::ptr_eq(&again.text, &held.text));
        assert_eq!(names.held(), 1);
        assert_eq!(names.texts.len(), names.ids.len());
    }
}
