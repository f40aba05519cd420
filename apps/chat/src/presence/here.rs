//! Who is on this shard: sessions of accounts, counted per user, and what the users' homes have not been told of yet.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
    time::{Duration, Instant},
};

use handler::Peer;

/// How long changes are gathered before homes are told: together with the mail far below what a person notices.
pub(crate) const GATHER: Duration = Duration::from_millis(50);

/// How often a home is told again that a user is here: it forgets what it has not heard of for
/// [`super::roll::BEAT_TTL`], which is two times that and more.
pub(crate) const REFRESH: Duration = Duration::from_secs(120);

/// In so many parts, so that many users do not come all at once.
const REFRESH_PARTS: u32 = 24;

/// Users that are told of at once; the others wait for the next round.
pub(crate) const BEATS_MAX: usize = 1_000;

const _: () = assert!(REFRESH.as_secs() * 2 < super::roll::BEAT_TTL.as_secs(), "one lost refresh loses nobody");

/// How a user is on one shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Beat {
    pub(crate) user: Arc<str>,
    /// A session is here.
    pub(crate) live: bool,
    /// One of them is not away.
    pub(crate) active: bool,
    /// One of them wants to hear of others.
    pub(crate) watching: bool,
}

#[derive(Clone, Copy, Default, Debug)]
struct Count {
    live: u32,
    away: u32,
    watching: u32,
}

/// The sessions of this shard.
#[derive(Default, Debug)]
pub(crate) struct Here {
    users: BTreeMap<Arc<str>, Count>,
    away: BTreeSet<Peer>,
    watching: BTreeSet<Peer>,
    /// Users to tell of.
    changed: BTreeSet<Arc<str>>,
    gather_due: Option<Instant>,
    refresh_due: Option<Instant>,
    /// The user whom the last part of the refresh ended with.
    refreshed: Option<Arc<str>>,
}

impl Here {
    /// A session of an account came.
    pub(crate) fn enter(&mut self, now: Instant, user: &Arc<str>) {
        self.users.entry(Arc::clone(user)).or_default().live += 1;
        self.refresh_due.get_or_insert(now + REFRESH / REFRESH_PARTS);
        self.note(now, user);
    }

    /// It went.
    pub(crate) fn leave(&mut self, now: Instant, peer: Peer, user: &Arc<str>) {
        let Some(count) = self.users.get_mut(user) else { return };
        count.live -= 1;
        count.away -= u32::from(self.away.remove(&peer));
        count.watching -= u32::from(self.watching.remove(&peer));
        if count.live == 0 {
            self.users.remove(user);
        }
        self.note(now, user);
    }

    /// It says whether somebody sits in front of it.
    pub(crate) fn set_away(&mut self, now: Instant, peer: Peer, user: &Arc<str>, away: bool) {
        let Some(count) = self.users.get_mut(user) else { return };
        if away && self.away.insert(peer) {
            count.away += 1;
        } else if !away && self.away.remove(&peer) {
            count.away -= 1;
        } else {
            return;
        }
        self.note(now, user);
    }

    /// It wants to hear of others.
    pub(crate) fn watch(&mut self, now: Instant, peer: Peer, user: &Arc<str>) {
        let Some(count) = self.users.get_mut(user) else { return };
        if self.watching.insert(peer) {
            count.watching += 1;
            self.note(now, user);
        }
    }

    fn note(&mut self, now: Instant, user: &Arc<str>) {
        self.changed.insert(Arc::clone(user));
        self.gather_due.get_or_insert(now + GATHER);
    }

    /// When there is something to tell.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        [self.gather_due, self.refresh_due].into_iter().flatten().min()
    }

    /// What is to be told now, at most [`BEATS_MAX`] users.
    pub(crate) fn poll(&mut self, now: Instant) -> Vec<Beat> {
        if self.refresh_due.is_some_and(|due| due <= now) {
            self.refresh(now);
        }
        if self.gather_due.is_none_or(|due| due > now) {
            return Vec::new();
        }
        let mut beats = Vec::with_capacity(self.changed.len().min(BEATS_MAX));
        while beats.len() < BEATS_MAX
            && let Some(user) = self.changed.pop_first()
        {
            let count = self.users.get(&user).copied().unwrap_or_default();
            let (live, active, watching) = (count.live > 0, count.live > count.away, count.watching > 0);
            beats.push(Beat { user, live, active, watching });
        }
        self.gather_due = (!self.changed.is_empty()).then(|| now + GATHER);
        beats
    }

    /// The next part of all users is told of again.
    fn refresh(&mut self, now: Instant) {
        let part = self.users.len().div_ceil(REFRESH_PARTS as usize);
        let after = self.refreshed.take().map_or(Bound::Unbounded, Bound::Excluded);
        let users: Vec<_> =
            self.users.range((after, Bound::Unbounded)).take(part).map(|(user, _)| user.clone()).collect();
        // Fewer than a part: that was the end, and it begins anew.
        self.refreshed = users.last().filter(|_| users.len() == part).cloned();
        users.iter().for_each(|user| self.note(now, user));
        self.refresh_due = (!self.users.is_empty()).then(|| now + REFRESH / REFRESH_PARTS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PHONE: Peer = Peer { index: 1, generation: 1 };
    const LAPTOP: Peer = Peer { index: 2, generation: 1 };

    fn beat(user: &str, live: bool, active: bool) -> Beat {
        Beat { user: user.into(), live, active, watching: false }
    }

    #[test]
    fn a_reload_is_one_word_and_two_devices_are_one_user() {
        let (mut here, now, ada) = (Here::default(), Instant::now(), Arc::from("ada"));
        here.enter(now, &ada);
        here.leave(now, PHONE, &ada);
        here.enter(now, &ada);
        here.enter(now, &ada);
        assert_eq!(here.poll(now), []);
        assert_eq!(here.deadline(), Some(now + GATHER));
        assert_eq!(here.poll(now + GATHER), [beat("ada", true, true)]);
        here.set_away(now, PHONE, &ada, true);
        here.set_away(now, PHONE, &ada, true);
        assert_eq!(here.poll(now + GATHER), [beat("ada", true, true)]);
        here.set_away(now, LAPTOP, &ada, true);
        assert_eq!(here.poll(now + GATHER), [beat("ada", true, false)]);
        here.leave(now, PHONE, &ada);
        here.leave(now, LAPTOP, &ada);
        assert_eq!(here.poll(now + GATHER), [beat("ada", false, false)]);
        assert!(here.away.is_empty() && here.users.is_empty());
        here.leave(now, LAPTOP, &ada);
        assert_eq!(here.poll(now + GATHER), [], "a user that is not here cannot leave");
    }

    #[test]
    fn everybody_is_told_of_again_within_two_minutes_a_part_at_a_time() {
        let (mut here, start) = (Here::default(), Instant::now());
        let users: Vec<Arc<str>> = (0..5_000).map(|n| format!("user-{n}").into()).collect();
        users.iter().for_each(|user| here.enter(start, user));
        let (mut now, mut first, mut rounds) = (start, BTreeSet::new(), 0);
        while first.len() < users.len() {
            now = here.deadline().expect("not all were told of");
            let beats = here.poll(now);
            assert!(beats.len() <= BEATS_MAX);
            first.extend(beats.into_iter().map(|beat| beat.user));
            rounds += 1;
        }
        assert_eq!(rounds, 5, "a thousand at a time");
        let mut again = BTreeSet::new();
        while again.len() < users.len() {
            now = here.deadline().expect("there is always a next part");
            let beats = here.poll(now);
            assert!(beats.len() <= 5_000_usize.div_ceil(24), "{}", beats.len());
            again.extend(beats.into_iter().map(|beat| beat.user));
        }
        assert!(now <= start + REFRESH + Duration::from_secs(5), "{:?}", now - start);
        for (n, user) in users.iter().enumerate() {
            here.leave(now, Peer { index: n as u32, generation: 1 }, user);
        }
        while let Some(due) = here.deadline() {
            assert!(due < now + REFRESH, "nobody is here: nothing is due for good");
            here.poll(due);
        }
    }
}
