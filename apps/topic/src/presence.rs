//! Who is there: users with their number of subscriptions, and who came and went since the last word about it.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::limit::{PRESENCE_CHANGES_MAX, PRESENCE_NAMES_MAX, PRESENCE_WINDOW, PRESENCE_WINDOW_PER_USER};

/// The users of one topic.
#[derive(Default, Debug)]
pub(crate) struct Presence {
    users: BTreeMap<Arc<str>, u32>,
    /// Whether each user that moved was there when the window opened.
    moved: BTreeMap<Arc<str>, bool>,
    /// The number that everybody was told last.
    told: u32,
    /// Somebody was told another number since: the end of the window has to be told whatever it brings.
    split: bool,
    /// The end of the window, if one is open.
    pub(crate) due: Option<Instant>,
}

/// Who came and went.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Changes {
    pub(crate) joined: Vec<Arc<str>>,
    pub(crate) left: Vec<Arc<str>>,
}

impl Presence {
    /// Users that are there.
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.users.len()).unwrap_or(u32::MAX)
    }

    /// One more subscription of a user; whether the user came with it.
    pub(crate) fn enter(&mut self, user: Arc<str>) -> bool {
        let subs = self.users.entry(user.clone()).or_default();
        *subs += 1;
        let came = *subs == 1;
        if came {
            self.note(user, false);
        }
        came
    }

    /// One subscription of a user less; whether the user left with it.
    pub(crate) fn leave(&mut self, user: &str) -> bool {
        let Some(subs) = self.users.get_mut(user) else { return false };
        *subs -= 1;
        if *subs > 0 {
            return false;
        }
        if let Some((user, _)) = self.users.remove_entry(user) {
            self.note(user, true);
        }
        true
    }

    /// The number for one newcomer.
    pub(crate) fn tell_one(&mut self) -> u32 {
        self.split |= self.due.is_some();
        self.count()
    }

    /// All names, when they fit one list.
    pub(crate) fn roster(&self) -> Option<impl Iterator<Item = &Arc<str>>> {
        (self.users.len() <= PRESENCE_NAMES_MAX).then(|| self.users.keys())
    }

    /// How long changes are gathered.
    pub(crate) fn window(&self) -> Duration {
        PRESENCE_WINDOW + PRESENCE_WINDOW_PER_USER * self.count()
    }

    /// Ends the window: who came and went, without those that did both. `None`: everybody knows already.
    pub(crate) fn take(&mut self) -> Option<Changes> {
        self.due = None;
        let mut changes = Changes { joined: Vec::new(), left: Vec::new() };
        for (user, was) in std::mem::take(&mut self.moved) {
            let is = self.users.contains_key(&user);
            let list = match (was, is) {
                (false, true) => &mut changes.joined,
                (true, false) => &mut changes.left,
                (false, false) | (true, true) => continue,
            };
            if list.len() < PRESENCE_NAMES_MAX {
                list.push(user);
            }
        }
        let split = std::mem::take(&mut self.split);
        let count = self.count();
        let told = std::mem::replace(&mut self.told, count);
        let news = split || told != count || !changes.joined.is_empty() || !changes.left.is_empty();
        news.then_some(changes)
    }

    fn note(&mut self, user: Arc<str>, was: bool) {
        if self.moved.len() < PRESENCE_CHANGES_MAX {
            self.moved.entry(user).or_insert(was);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_leaves_no_trace_and_a_second_device_no_second_name() {
        let mut presence = Presence::default();
        assert!(presence.enter("ada".into()));
        assert!(!presence.enter("ada".into()));
        assert_eq!(presence.count(), 1);
        assert_eq!(presence.take(), Some(Changes { joined: vec!["ada".into()], left: vec![] }));
        assert!(!presence.leave("ada"));
        assert!(presence.leave("ada"));
        assert!(presence.enter("ada".into()));
        assert!(presence.enter("bob".into()));
        assert!(presence.leave("bob"));
        assert_eq!(presence.take(), None);
        presence.due = Some(Instant::now());
        assert!(presence.leave("ada"));
        assert_eq!(presence.tell_one(), 0);
        assert!(presence.enter("ada".into()));
        assert_eq!(presence.take(), Some(Changes { joined: vec![], left: vec![] }), "one was told 0");
        assert!(presence.leave("ada"));
        assert!(!presence.leave("ada"), "more leave than came");
        assert_eq!(presence.take(), Some(Changes { joined: vec![], left: vec!["ada".into()] }));
        assert_eq!(presence.count(), 0);
    }

    #[test]
    fn a_crowd_is_counted_and_not_listed() {
        let mut presence = Presence::default();
        for n in 0..10_000 {
            presence.enter(format!("user-{n}").into());
        }
        assert!(presence.moved.len() <= PRESENCE_CHANGES_MAX);
        assert_eq!(presence.take().map(|changes| changes.joined.len()), Some(PRESENCE_NAMES_MAX));
        assert_eq!(presence.count(), 10_000);
        assert!(presence.roster().is_none());
        assert!(presence.window() > Duration::from_secs(2));
    }
}
