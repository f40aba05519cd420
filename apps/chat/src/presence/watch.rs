//! Who of the users at home here watches others, and what their devices were told.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use super::{
    LOOK_AGAIN,
    roll::{Seen, State},
};

/// The users at home here whose sessions watch others.
#[derive(Default, Debug)]
pub(crate) struct Watches {
    users: BTreeMap<String, Watch>,
    due: BTreeSet<(Instant, String)>,
}

#[derive(Debug)]
struct Watch {
    due: Instant,
    /// The devices were not told anything yet.
    fresh: bool,
    /// How the others were when the devices were told last; only those that are in the circle.
    told: BTreeMap<String, State>,
}

impl Watches {
    /// Whether a user has a session that watches, as a shard has just said.
    pub(crate) fn beat(&mut self, now: Instant, user: &str, watches: bool) {
        if watches && !self.users.contains_key(user) {
            let due = now + LOOK_AGAIN;
            self.users.insert(user.to_owned(), Watch { due, fresh: true, told: BTreeMap::new() });
            self.due.insert((due, user.to_owned()));
        } else if !watches {
            self.end(user);
        }
    }

    /// The circle of a user as it is now; those who are otherwise than the devices were told. Whoever watches first is told
    /// all by the answer.
    pub(crate) fn replace(&mut self, user: &str, circle: &[(String, Seen)]) -> Vec<(String, Seen)> {
        let Some(watch) = self.users.get_mut(user) else { return Vec::new() };
        let told = circle.iter().map(|(other, seen)| (other.clone(), seen.state)).collect();
        let told = std::mem::replace(&mut watch.told, told);
        if std::mem::take(&mut watch.fresh) {
            return Vec::new();
        }
        let mut news = circle.to_vec();
        news.retain(|(other, seen)| told.get(other).copied().unwrap_or_default() != seen.state);
        let lost = |(other, state): (String, State)| {
            let is_lost = state != State::Offline && !watch.told.contains_key(&other);
            is_lost.then_some((other, Seen::default()))
        };
        news.extend(told.into_iter().filter_map(lost));
        news
    }

    /// Another user has changed; whether the devices hear of it.
    pub(crate) fn show(&mut self, user: &str, other: &str, seen: Seen) -> bool {
        let told = self.users.get_mut(user).and_then(|watch| watch.told.get_mut(other));
        told.is_some_and(|told| std::mem::replace(told, seen.state) != seen.state)
    }

    /// When a circle is to be looked at again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// A user whose circle is to be looked at now.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<String> {
        let (at, _) = self.due.first()?;
        if *at > now {
            return None;
        }
        let (_, user) = self.due.pop_first()?;
        if let Some(watch) = self.users.get_mut(&user) {
            watch.due = now + LOOK_AGAIN;
            self.due.insert((watch.due, user.clone()));
        }
        Some(user)
    }

    /// A user watches no longer.
    pub(crate) fn end(&mut self, user: &str) {
        if let Some(watch) = self.users.remove(user) {
            self.due.remove(&(watch.due, user.to_owned()));
        }
    }
}
