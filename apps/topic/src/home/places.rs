//! Which topics are in memory, and how those come back that are not.
//!
//! A durable topic without messages, listeners and anything under way is asleep: what is left of it is the fact that says
//! how far it came, and the marks of its readers. It goes on from there when somebody wants it.

use std::sync::Arc;

use handler::{Cx, Level};
use rand::Rng;

use super::Home;
use crate::{
    desk::Desk,
    due::Chore,
    facts::{HEAD, Head},
    history::History,
    limit::{KNOWN_PER_PLACE, RESERVED_PART},
    mail::{Mail, Refusal},
    topic::Topic,
};

const FULL: Refusal = Refusal::full("too many topics");
const KNOWN_FULL: Refusal = Refusal::full("too many topics have been written to");

/// Idle topics that places are kept for, by their place in [`Home::idle`].
const RESERVED: usize = 0;
/// Other idle topics.
const OPEN: usize = 1;
/// Idle topics of both kinds.
pub(super) const ALL: [usize; 2] = [RESERVED, OPEN];

/// How many topics there are that no places are kept for.
#[derive(Default, Debug)]
pub(super) struct Open {
    here: usize,
    asleep: usize,
}

impl Home {
    /// Keeps a part of the places for topics whose names begin so. Called before there are any.
    pub(crate) fn reserve(&mut self, beginnings: &'static [&'static str]) {
        assert!(self.topics.is_empty() && self.asleep.is_empty(), "places are kept before they are taken");
        self.reserved = beginnings;
    }

    pub(super) fn is_reserved(&self, name: &str) -> bool {
        self.reserved.iter().any(|beginning| name.starts_with(beginning))
    }

    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The topic of this name, if it has begun.
    pub(super) fn find_asleep(&mut self, desk: &mut Desk, name: &str) -> Option<usize> {
        match self.find(name) {
            None if self.head_of(name).is_some() && self.make_room(desk, name).is_ok() => self.wake(desk, name),
            found => found,
        }
    }

    /// The topic of this name, made if there is none and room for it.
    pub(super) fn open(&mut self, cx: &mut Cx<'_, Mail>, desk: &mut Desk, name: &str) -> Result<usize, Refusal> {
        if let Some(place) = self.find(name) {
            return Ok(place);
        }
        self.has_room(desk, name)?;
        if let Some(place) = self.wake(desk, name) {
            return Ok(place);
        }
        let epoch = cx.rng.random_range(1..=u64::MAX);
        Ok(self.insert(desk, name, epoch))
    }

    /// Makes room for a topic, if it has none.
    pub(crate) fn has_room(&mut self, desk: &mut Desk, name: &str) -> Result<(), Refusal> {
        if self.find(name).is_some() {
            return Ok(());
        }
        self.make_room(desk, name)?;
        let [known, known_max] = self.known(desk, self.is_reserved(name));
        if known >= known_max && self.head_of(name).is_none() {
            return Err(KNOWN_FULL);
        }
        Ok(())
    }

    /// How many topics have begun, in memory or asleep, and how many may: of all, or of those without a reserve.
    pub(super) fn known(&self, desk: &Desk, all: bool) -> [usize; 2] {
        let places = |all| desk.limits.topics_max - if all { 0 } else { self.reserve_places(desk) };
        let count = if all { self.topics.len() + self.asleep.len() } else { self.open.here + self.open.asleep };
        [count, places(all) * KNOWN_PER_PLACE]
    }

    fn reserve_places(&self, desk: &Desk) -> usize {
        if self.reserved.is_empty() { 0 } else { desk.limits.topics_max / RESERVED_PART }
    }

    /// Topics in memory that nobody listens to go, so that there is a place for this one.
    pub(super) fn make_room(&mut self, desk: &mut Desk, name: &str) -> Result<(), Refusal> {
        let is_open = !self.is_reserved(name);
        let open_max = desk.limits.topics_max - self.reserve_places(desk);
        while is_open && self.open.here >= open_max {
            if !self.evict(desk, None, &[OPEN]) && !self.give_up_marks(desk, &[OPEN]) {
                return Err(FULL);
            }
        }
        let is_full = self.topics.len() >= desk.limits.topics_max;
        if is_full && !self.evict(desk, None, &ALL) && !self.give_up_marks(desk, &ALL) {
            return Err(FULL);
        }
        Ok(())
    }

    /// How far a topic has come that is not in memory.
    pub(crate) fn head_of(&self, name: &str) -> Option<Head> {
        self.journal.as_ref()?;
        Head::read(self.facts.get(name, HEAD)?)
    }

    /// Brings a topic back that is asleep.
    fn wake(&mut self, desk: &mut Desk, name: &str) -> Option<usize> {
        let Head { epoch, offset, at_ms } = self.head_of(name)?;
        let last_segment = self.asleep.get(name).copied().unwrap_or_else(|| self.newest_segment());
        let place = self.insert(desk, name, epoch);
        let topic = &mut self.topics[place];
        (topic.level, topic.history) = (Level::Durable, History::resumed(offset + 1));
        (topic.newest_ms, topic.last_segment) = (at_ms, last_segment);
        self.wake_marks_of(desk, place);
        Some(place)
    }

    /// A topic is asleep from here on; no segment behind `last_segment` has a message of it.
    pub(super) fn sleep(&mut self, name: Arc<str>, last_segment: u64) {
        let is_open = !self.is_reserved(&name);
        if self.asleep.insert(name, last_segment).is_none() {
            self.open.asleep += usize::from(is_open);
        }
    }

    /// A topic is not asleep any more: it is in memory, or nowhere.
    pub(super) fn unsleep(&mut self, name: &str) {
        if self.asleep.remove(name).is_some() {
            self.open.asleep -= usize::from(!self.is_reserved(name));
        }
    }

    pub(super) fn newest_segment(&self) -> u64 {
        self.journal.as_ref().and_then(|journal| journal.segments.last_key_value()).map_or(0, |(number, _)| *number)
    }

    pub(super) fn insert(&mut self, desk: &Desk, name: &str, epoch: u64) -> usize {
        let (level, is_open) = (self.level(name), !self.is_reserved(name));
        self.unsleep(name);
        let name = Arc::<str>::from(name);
        self.ticks += 1;
        let topic = Topic::new(name.clone(), (epoch, level), desk.hasher.clone(), self.ticks);
        let place = self.topics.insert(Box::new(topic));
        self.by_name.insert(name, place);
        self.open.here += usize::from(is_open);
        place
    }

    /// How safe the messages of a topic are: on disk if there is a journal, unless it was asked for otherwise.
    fn level(&self, name: &str) -> Level {
        let is_meant = |pattern: &String| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == pattern,
        };
        if self.journal.is_none() || self.in_memory.iter().any(is_meant) { Level::Memory } else { Level::Durable }
    }

    /// Where a topic is in order while nobody listens.
    fn order_of(&mut self, is_on_disk: bool, name: &str) -> &mut std::collections::BTreeSet<(u64, usize)> {
        if is_on_disk {
            return &mut self.idle_rings;
        }
        let kind = self.kind_of_place(name);
        &mut self.idle[kind]
    }

    pub(super) fn kind_of_place(&self, name: &str) -> usize {
        if self.is_reserved(name) { RESERVED } else { OPEN }
    }

    /// Somebody listens, or the topic goes.
    pub(super) fn is_used(&mut self, place: usize) {
        let topic = &mut self.topics[place];
        if let Some(since) = topic.idle_since.take() {
            let (is_on_disk, name) = (topic.is_on_disk(), topic.name.clone());
            self.order_of(is_on_disk, &name).remove(&(since, place));
        }
    }

    /// Removes a topic without listeners and history, and queues one without listeners for removal.
    pub(super) fn tidy(&mut self, desk: &mut Desk, place: usize) {
        let topic = &mut self.topics[place];
        let is_moving = topic.moving.is_some_and(|moving| moving.is_under_way);
        if !topic.audiences.is_empty() || topic.idle_since.is_some() || topic.in_flight > 0 || is_moving {
            return;
        }
        if topic.history.head() == 0 || self.may_sleep(place) {
            return self.remove(desk, place);
        }
        self.ticks += 1;
        let topic = &mut self.topics[place];
        topic.used = self.ticks;
        topic.idle_since = Some(self.ticks);
        let (entry, is_on_disk, name) = ((self.ticks, place), topic.is_on_disk(), topic.name.clone());
        self.order_of(is_on_disk, &name).insert(entry);
    }

    /// Topics that have nothing that a fact on disk does not say fall asleep.
    pub(super) fn fall_asleep(&mut self, desk: &mut Desk) {
        let places: Vec<usize> = self.topics.iter().map(|(place, _)| place).collect();
        for place in places {
            if self.may_sleep(place) {
                self.remove(desk, place);
            }
        }
    }

    fn may_sleep(&self, place: usize) -> bool {
        self.is_empty(place) && !self.has_unwritten_marks(&self.topics[place].name)
    }

    /// Whether a topic has nothing that a fact on disk does not say, but for marks.
    pub(super) fn is_empty(&self, place: usize) -> bool {
        let topic = &self.topics[place];
        topic.is_on_disk()
            && topic.index.first().is_none()
            && topic.audiences.is_empty()
            && (topic.in_flight, topic.gathers) == (0, 0)
            && topic.history.head() > 0
            && self.has_head(topic)
    }

    /// Frees the ring of the durable topic without listeners that was used least recently, but not `except`; whether
    /// there was one. Its messages are on disk.
    pub(super) fn evict_ring(&mut self, desk: &mut Desk, except: usize) -> bool {
        for _ in 0..=2 * self.idle_rings.len() {
            let Some((since, place)) = self.idle_rings.pop_first() else { return false };
            let topic = &mut self.topics[place];
            if topic.used == since && except != place {
                topic.idle_since = None;
                self.forget_ring(place);
                desk.stats.evicted += 1;
                return true;
            }
            self.ticks += 1;
            (topic.used, topic.idle_since) = (self.ticks, Some(self.ticks));
            self.idle_rings.insert((self.ticks, place));
        }
        false
    }

    pub(super) fn forget_ring(&mut self, place: usize) {
        let history = &mut self.topics[place].history;
        self.history_bytes -= history.body_bytes();
        *history = History::resumed(history.head() + 1);
    }

    /// Removes the topic without listeners that was used least recently, of these kinds, but not `except`; whether there
    /// was one.
    pub(super) fn evict(&mut self, desk: &mut Desk, except: Option<usize>, kinds: &[usize]) -> bool {
        // Each topic is asked at most twice: once it may have been used meanwhile.
        let most: usize = kinds.iter().map(|kind| self.idle[*kind].len()).sum();
        for _ in 0..=2 * most {
            let first = kinds.iter().filter_map(|kind| self.idle[*kind].first().map(|first| (*first, *kind)));
            let Some(((since, place), kind)) = first.min() else { return false };
            self.idle[kind].remove(&(since, place));
            let topic = &mut self.topics[place];
            assert_eq!(topic.idle_since, Some(since), "an idle topic is queued once");
            if topic.used == since && except != Some(place) {
                topic.idle_since = None;
                self.remove(desk, place);
                desk.stats.evicted += 1;
                return true;
            }
            // It was published to since it was queued: its turn comes later.
            self.ticks += 1;
            (topic.used, topic.idle_since) = (self.ticks, Some(self.ticks));
            self.idle[kind].insert((self.ticks, place));
        }
        false
    }

    pub(super) fn remove(&mut self, desk: &mut Desk, place: usize) {
        self.is_used(place);
        let topic = *self.topics.remove(place);
        self.by_name.remove(&topic.name);
        self.open.here -= usize::from(!self.is_reserved(&topic.name));
        self.history_bytes -= topic.history.body_bytes();
        if let Some(at) = topic.presence.due {
            desk.due.cancel(at, Chore::Presence(place));
        }
        if !topic.is_on_disk() {
            self.forget_what_was_said(&topic.name);
            self.stay(place, topic.index);
        }
        if let Some(head) = self.head_of(&topic.name) {
            // Of a history before its own nothing is known here.
            let is_its_own = head.epoch == topic.epoch;
            let last_segment = if is_its_own { topic.last_segment } else { self.newest_segment() };
            self.sleep(topic.name.clone(), last_segment);
        }
    }
}
