//! What all shards of a run have in common, for chat to read: who has an account, and which words are not wanted.

use std::sync::{PoisonError, RwLock};

use arc_swap::ArcSwapOption;

use crate::{
    body::{AmendLimits, TEXT_CHARS_MAX},
    rate::Rates,
    search::Directory,
    words::WordList,
};

/// How chat is set up.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The longest text in characters.
    pub text_chars_max: usize,
    /// How often a user may publish, all its sessions together.
    pub rates: Rates,
    /// Until when messages are changed.
    pub amend: AmendLimits,
    /// How many minutes before those of UTC the days of conversations begin: 60 in Berlin in winter.
    pub day_offset_min: i32,
}

impl Default for Settings {
    fn default() -> Self {
        let (rates, amend) = (Rates::default(), AmendLimits::default());
        Self { text_chars_max: TEXT_CHARS_MAX, rates, amend, day_offset_min: 0 }
    }
}

/// What all shards of a run share.
#[derive(Default, Debug)]
pub struct Shared {
    /// Who has an account.
    pub people: People,
    /// The words that are not wanted, if there is a list.
    pub words: ArcSwapOption<WordList>,
}

/// The names of all accounts. They are added when somebody registers, which is seldom, and read by every shard.
#[derive(Default, Debug)]
pub struct People(RwLock<Directory>);

impl People {
    /// Adds a name.
    pub fn add(&self, name: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(name);
    }

    /// Whether somebody registered this very name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).has(name)
    }

    /// The first names that begin with this, in whatever case, in order.
    #[must_use]
    pub fn find(&self, prefix: &str, limit: usize) -> Vec<String> {
        let names = self.0.read().unwrap_or_else(PoisonError::into_inner);
        names.find(prefix, limit).into_iter().map(str::to_owned).collect()
    }
}
