//! How users are, at their home shard: out of what every shard says of its sessions, with a grace for who comes back, an
//! age beyond which nothing counts, and who is to be told of changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use handler::ShardId;
use serde::Serialize;

use super::here::Beat;

/// How long a user whose last device has left stays as it was: a tunnel or a reload is nothing to tell.
pub const GRACE: Duration = Duration::from_secs(30);

/// How long the word of a shard counts, if it does not say it again.
pub const BEAT_TTL: Duration = Duration::from_secs(300);

/// How long somebody is told of a user after asking for it the last time.
const WATCH_TTL: Duration = BEAT_TTL;

/// The least time between two words about one user to the same others.
pub const QUIET: Duration = Duration::from_secs(2);

/// Others that are told of one user. Whoever comes later can ask.
pub const WATCHERS_MAX: usize = 1_000;

/// Users that one home remembers, with when it saw them last; of those who are not there and whom nobody watches the one
/// that was seen longest ago goes first.
pub(crate) const USERS_MAX: usize = 262_144;

/// What a user is to others.
#[derive(Clone, Copy, PartialEq, Eq, Default, Serialize, Debug)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    Online,
    Away,
    #[default]
    Offline,
}

/// What is seen of a user.
#[derive(Clone, Copy, PartialEq, Eq, Default, Serialize, Debug)]
pub(crate) struct Seen {
    pub(crate) state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) last_seen_ms: Option<u64>,
}

/// Why one user may see another one; the other one's home looks whether it still is so.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Tie {
    pub(crate) contact: bool,
    pub(crate) direct: bool,
    pub(crate) group: bool,
}

/// A change, and who is to be told.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct News {
    pub(crate) user: String,
    pub(crate) seen: Seen,
    pub(crate) watchers: Vec<(String, Tie)>,
}

/// All users that are at home here and not forgotten.
#[derive(Default, Debug)]
pub(crate) struct Roll {
    users: BTreeMap<String, Person>,
    due: BTreeSet<(Instant, String)>,
    /// Users that may be forgotten, by when they were seen.
    idle: BTreeSet<(u64, String)>,
}

#[derive(Debug)]
struct Person {
    words: Vec<Word>,
    /// When the last device left.
    left: Option<Instant>,
    shown: State,
    told: State,
    last_seen_ms: Option<u64>,
    quiet_until: Option<Instant>,
    watchers: BTreeMap<String, Watcher>,
    due: Option<Instant>,
    idle: Option<u64>,
}

/// What a shard said last.
#[derive(Debug)]
struct Word {
    shard: ShardId,
    active: bool,
    watching: bool,
    until: Instant,
}

#[derive(Debug)]
struct Watcher {
    tie: Tie,
    until: Instant,
}

impl Roll {
    /// A shard says how a user is there.
    pub(crate) fn beat(&mut self, (now, wall_ms): (Instant, u64), shard: ShardId, beat: &Beat) -> Option<News> {
        if !self.users.contains_key(&*beat.user) && (!beat.live || !self.make_room()) {
            return None;
        }
        let person = self.users.entry(beat.user.to_string()).or_insert_with(Person::new);
        let was = !person.words.is_empty();
        person.words.retain(|word| word.shard != shard);
        if beat.live {
            let (active, watching, until) = (beat.active, beat.watching, now + BEAT_TTL);
            person.words.push(Word { shard, active, watching, until });
            person.left = None;
        }
        // A word that changes nothing does not say that the user is still there.
        if beat.live || was {
            person.last_seen_ms = Some(wall_ms);
        }
        if was && person.words.is_empty() {
            person.left = Some(now);
        }
        self.settle(now, &beat.user)
    }

    /// How a user is.
    pub(crate) fn see(&self, user: &str) -> Seen {
        self.users.get(user).map_or(Seen::default(), Person::seen)
    }

    /// Whether a session of the user wants to hear of others.
    pub(crate) fn watches(&self, now: Instant, user: &str) -> bool {
        let Some(person) = self.users.get(user) else { return false };
        person.words.iter().any(|word| word.watching && word.until > now)
    }

    /// From now on a user is told of changes of another one, for a while. False: too many are already.
    pub(crate) fn watch(&mut self, now: Instant, user: &str, (watcher, tie): (&str, Tie)) -> bool {
        if !self.users.contains_key(user) && !self.make_room() {
            return false;
        }
        let person = self.users.entry(user.to_owned()).or_insert_with(Person::new);
        if person.watchers.len() >= WATCHERS_MAX {
            person.watchers.retain(|_, watcher| watcher.until > now);
        }
        let fits = person.watchers.len() < WATCHERS_MAX || person.watchers.contains_key(watcher);
        if fits {
            person.watchers.insert(watcher.to_owned(), Watcher { tie, until: now + WATCH_TTL });
        }
        let news = self.settle(now, user);
        debug_assert!(news.is_none(), "watching changes nothing");
        fits
    }

    /// Why somebody is told of a user.
    pub(crate) fn tie(&self, user: &str, watcher: &str) -> Option<Tie> {
        self.users.get(user)?.watchers.get(watcher).map(|watcher| watcher.tie)
    }

    /// Somebody is told no longer.
    pub(crate) fn unwatch(&mut self, now: Instant, user: &str, watcher: &str) {
        if let Some(person) = self.users.get_mut(user)
            && person.watchers.remove(watcher).is_some()
        {
            self.settle(now, user);
        }
    }

    /// When time alone changes something.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// One user whose time has come. `None`: there is none; else perhaps news.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Option<News>> {
        let (at, user) = self.due.first()?;
        if *at > now {
            return None;
        }
        let user = user.clone();
        Some(self.settle(now, &user))
    }

    /// Makes a user what its sessions and the time make of it.
    fn settle(&mut self, now: Instant, user: &str) -> Option<News> {
        let person = self.users.get_mut(user)?;
        if let Some(due) = person.due.take() {
            self.due.remove(&(due, user.to_owned()));
        }
        if let Some(at) = person.idle.take() {
            self.idle.remove(&(at, user.to_owned()));
        }
        let news = person.update(now).then(|| {
            let watchers = person.watchers.iter().map(|(name, watcher)| (name.clone(), watcher.tie)).collect();
            News { user: user.to_owned(), seen: person.seen(), watchers }
        });
        person.due = person.deadline();
        if let Some(due) = person.due {
            self.due.insert((due, user.to_owned()));
        } else if let Some(at) = person.last_seen_ms {
            person.idle = Some(at);
            self.idle.insert((at, user.to_owned()));
        } else {
            self.users.remove(user);
        }
        news.filter(|news| !news.watchers.is_empty())
    }

    /// Room for one more user.
    fn make_room(&mut self) -> bool {
        if self.users.len() < USERS_MAX {
            return true;
        }
        let Some((_, user)) = self.idle.pop_first() else { return false };
        self.users.remove(&user).is_some()
    }
}

impl Person {
    fn new() -> Self {
        Self {
            words: Vec::new(),
            left: None,
            shown: State::Offline,
            told: State::Offline,
            last_seen_ms: None,
            quiet_until: None,
            watchers: BTreeMap::new(),
            due: None,
            idle: None,
        }
    }

    fn seen(&self) -> Seen {
        let last_seen_ms = self.last_seen_ms.filter(|_| self.shown == State::Offline);
        Seen { state: self.shown, last_seen_ms }
    }

    /// Forgets what is too old, and says whether the others have something to hear.
    fn update(&mut self, now: Instant) -> bool {
        self.words.retain(|word| word.until > now);
        self.watchers.retain(|_, watcher| watcher.until > now);
        self.left = self.left.filter(|left| now < *left + GRACE);
        self.quiet_until = self.quiet_until.filter(|until| now < *until);
        self.shown = match (self.words.iter().any(|word| word.active), self.words.is_empty()) {
            (true, _) => State::Online,
            (false, false) => State::Away,
            // Whoever left stays as it was; whose shard is silent for too long does not.
            (false, true) if self.left.is_some() => self.shown,
            (false, true) => State::Offline,
        };
        let tells = self.told != self.shown && self.quiet_until.is_none();
        if tells {
            self.told = self.shown;
            // Nobody is disturbed by what nobody hears.
            self.quiet_until = (!self.watchers.is_empty()).then(|| now + QUIET);
        }
        tells
    }

    fn deadline(&self) -> Option<Instant> {
        let words = self.words.iter().map(|word| word.until).min();
        let grace = self.left.map(|left| left + GRACE);
        let quiet = self.quiet_until;
        // While the user is there its words are due before that.
        let watchers = self.words.is_empty().then(|| self.watchers.values().map(|watcher| watcher.until).min());
        [words, grace, quiet, watchers.flatten()].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: ShardId = ShardId(0);
    const THERE: ShardId = ShardId(1);
    const SECOND: Duration = Duration::from_secs(1);
    const CONTACT: Tie = Tie { contact: true, direct: false, group: false };

    /// A roll whose time is given, and what watchers were told.
    struct Room {
        roll: Roll,
        start: Instant,
        now: Instant,
        told: Vec<(u64, State, Option<u64>)>,
    }

    impl Room {
        /// Bob watches ada.
        fn new() -> Self {
            let now = Instant::now();
            let mut room = Self { roll: Roll::default(), start: now, now, told: Vec::new() };
            assert!(room.roll.watch(now, "ada", ("bob", CONTACT)));
            room
        }

        fn ms(&self) -> u64 {
            (self.now - self.start).as_millis() as u64
        }

        fn beat(&mut self, shard: ShardId, live: bool, active: bool) {
            let beat = Beat { user: "ada".into(), live, active, watching: false };
            let news = self.roll.beat((self.now, self.ms()), shard, &beat);
            self.note(news);
        }

        fn note(&mut self, news: Option<News>) {
            if let Some(News { user, seen, watchers }) = news {
                assert_eq!((user.as_str(), watchers), ("ada", vec![("bob".to_owned(), CONTACT)]));
                self.told.push((self.ms(), seen.state, seen.last_seen_ms));
            }
        }

        /// Time passes, deadline by deadline.
        fn pass(&mut self, time: Duration) {
            let end = self.now + time;
            while let Some(due) = self.roll.deadline().filter(|due| *due <= end) {
                self.now = self.now.max(due);
                while let Some(news) = self.roll.poll(self.now) {
                    self.note(news);
                }
            }
            self.now = end;
        }

        fn state(&self) -> State {
            self.roll.see("ada").state
        }
    }

    #[test]
    fn one_of_two_devices_leaves_and_nobody_hears_of_it() {
        let mut room = Room::new();
        room.beat(HERE, true, true);
        room.beat(THERE, true, true);
        room.pass(10 * SECOND);
        room.beat(HERE, false, false);
        room.pass(100 * SECOND);
        assert_eq!((room.state(), room.told.len()), (State::Online, 1));
        room.beat(THERE, true, false);
        assert_eq!(room.told, [(0, State::Online, None), (110_000, State::Away, None)]);
        room.beat(THERE, false, false);
        room.pass(GRACE - SECOND);
        assert_eq!(room.state(), State::Away, "the grace");
        room.pass(SECOND);
        assert_eq!(room.told.last(), Some(&(140_000, State::Offline, Some(110_000))));
        assert_eq!(room.roll.see("ada"), Seen { state: State::Offline, last_seen_ms: Some(110_000) });
    }

    #[test]
    fn a_shard_that_is_silent_for_five_minutes_has_nobody() {
        let mut room = Room::new();
        room.beat(HERE, true, true);
        room.pass(BEAT_TTL - SECOND);
        assert_eq!(room.state(), State::Online);
        // The watcher asks again, as it does every two minutes.
        assert!(room.roll.watch(room.now, "ada", ("bob", CONTACT)));
        room.pass(SECOND);
        assert_eq!(room.told, [(0, State::Online, None), (300_000, State::Offline, Some(0))]);
        room.beat(HERE, true, true);
        room.pass(BEAT_TTL / 2);
        room.beat(HERE, true, true);
        room.pass(BEAT_TTL - SECOND);
        assert_eq!(room.state(), State::Online, "a refresh counts anew");
    }

    #[test]
    fn whoever_flaps_is_told_of_once_in_two_seconds_at_most() {
        let mut room = Room::new();
        for n in 0..1_000 {
            room.beat(HERE, true, n % 2 == 0);
            room.pass(Duration::from_millis(10));
        }
        room.pass(10 * SECOND);
        assert!(
            room.told.len() <= 6 && room.told.windows(2).all(|two| two[1].0 - two[0].0 >= 2_000),
            "{:?}",
            room.told
        );
        assert_eq!((room.state(), room.told.last().map(|told| told.1)), (State::Away, Some(State::Away)));
        let before = room.told.len();
        for _ in 0..1_000 {
            room.beat(HERE, false, false);
            room.pass(Duration::from_millis(10));
            room.beat(HERE, true, false);
            room.pass(Duration::from_millis(10));
        }
        assert_eq!(room.told.len(), before, "whoever comes back within the grace was never gone");
    }

    #[test]
    fn watchers_are_bounded_and_forgotten() {
        let (mut roll, now) = (Roll::default(), Instant::now());
        for n in 0..WATCHERS_MAX {
            assert!(roll.watch(now, "ada", (&format!("user-{n}"), CONTACT)));
        }
        assert!(!roll.watch(now, "ada", ("late", CONTACT)));
        assert!(roll.watch(now, "ada", ("user-1", CONTACT)), "who is told already");
        let later = now + WATCH_TTL;
        assert!(roll.watch(later, "ada", ("late", CONTACT)));
        assert_eq!((roll.tie("ada", "user-1"), roll.tie("ada", "late")), (None, Some(CONTACT)));
        roll.unwatch(later, "ada", "late");
        assert!(roll.users.is_empty() && roll.due.is_empty() && roll.idle.is_empty(), "{roll:?}");
    }

    #[test]
    fn the_roll_forgets_whom_it_saw_longest_ago() {
        let (mut roll, start) = (Roll::default(), Instant::now());
        let beat = |n: usize, live| Beat { user: format!("user-{n}").into(), live, active: live, watching: false };
        for n in 0..USERS_MAX {
            let at = (start, n as u64);
            roll.beat(at, HERE, &beat(n, true));
            roll.beat(at, HERE, &beat(n, false));
        }
        let now = start + GRACE;
        while roll.poll(now).is_some() {}
        assert_eq!(roll.users.len(), USERS_MAX);
        roll.beat((now, 0), HERE, &beat(USERS_MAX, true));
        assert_eq!(roll.users.len(), USERS_MAX);
        assert_eq!(roll.see("user-0"), Seen::default());
        assert_eq!(roll.see("user-1"), Seen { state: State::Offline, last_seen_ms: Some(1) });
        assert_eq!(roll.see(&format!("user-{USERS_MAX}")).state, State::Online);
    }
}
