//! Marks of readers as facts: written now and then, and forgotten with their history or when their user has left.

use std::{sync::Arc, time::Duration};

use handler::{Cx, Level};

use super::Home;
use crate::{
    desk::Desk,
    due::Chore,
    facts::{Change, MARK},
    limit::{FORGET_AT_ONCE, MARKS_PER_PLACE},
    mail::Mail,
    watermark::Watermark,
};

/// How often marks are written that have risen.
const MARKS_EVERY: Duration = Duration::from_millis(500);

/// Whose marks they are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Rank {
    Guest,
    Account,
}

impl Home {
    /// A mark has risen: it is written soon.
    pub(super) fn plan_mark(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        desk: &mut Desk,
        place: usize,
        (user, rank): (&Arc<str>, Rank),
    ) {
        if self.risen.is_empty() {
            desk.due.plan(cx, cx.now + MARKS_EVERY, Chore::Marks);
        }
        self.risen.insert((self.topics[place].name.clone(), user.clone()), rank);
    }

    /// Whether there are marks of a topic that are to be written.
    pub(super) fn has_risen(&self, topic: &Arc<str>) -> bool {
        let first = (topic.clone(), Arc::from(""));
        self.risen.range(first..).next().is_some_and(|((name, _), _)| name == topic)
    }

    /// The time to write marks that have risen.
    pub(crate) fn write_marks(&mut self, cx: &mut Cx<'_, Mail>, desk: &mut Desk) {
        let risen = std::mem::take(&mut self.risen);
        self.marked.clear();
        for ((topic, user), rank) in risen {
            let Some(place) = self.find(&topic) else { continue };
            let Some(mark) = self.topics[place].watermarks.get(&user) else { continue };
            self.marked.push((topic.clone(), user.clone(), mark));
            if self.topics[place].level != Level::Durable {
                continue;
            }
            // A history that begins anew later has been read by nobody.
            let value = mark.write(self.topics[place].epoch);
            let change = Change { key: format!("{MARK}{user}"), value: Some(value) };
            let has_room = self.facts.get(&topic, &change.key).is_some() || self.has_room_for_mark(desk, rank);
            if !has_room || self.record(&topic, &[change], super::NOBODY).is_err() {
                // Marks only rise, and a lost one rises again: a full disk must not fill the memory.
                desk.stats.marks_lost += 1;
            }
        }
        self.flush(cx, desk);
    }

    fn has_room_for_mark(&self, desk: &Desk, rank: Rank) -> bool {
        let most = desk.limits.topics_max * MARKS_PER_PLACE;
        self.facts.marks() < if rank == Rank::Guest { most / 2 } else { most }
    }

    /// Marks that are facts are those of topics again.
    pub(super) fn wake_marks(&mut self, desk: &mut Desk) {
        let mut stale = Vec::new();
        for (name, key, value) in self.facts.iter() {
            let Some(user) = key.strip_prefix(MARK) else { continue };
            let Some((mark, epoch)) = Watermark::read(value) else { continue };
            if self.epoch_of(name) != Some(epoch) {
                stale.push((Arc::from(name), key.to_owned()));
            } else if let Some(place) = self.by_name.get(name) {
                let (user, topic) = (desk.names.intern(user), &mut self.topics[*place]);
                topic.watermarks.raise(&user.text, topic.history.head(), mark.delivered, mark.read);
            }
        }
        self.stale.extend(stale);
    }

    /// The marks of one topic that are facts are its own again.
    pub(super) fn wake_marks_of(&mut self, desk: &mut Desk, place: usize) {
        let topic = &mut self.topics[place];
        for (key, value) in self.facts.range(&topic.name, MARK, None) {
            let (Some(user), Some((mark, epoch))) = (key.strip_prefix(MARK), Watermark::read(value)) else { continue };
            if epoch == topic.epoch {
                let user = desk.names.intern(user);
                topic.watermarks.raise(&user.text, topic.history.head(), mark.delivered, mark.read);
            }
        }
    }

    /// The identity of the history that a topic has.
    pub(crate) fn epoch_of(&self, name: &str) -> Option<u64> {
        let here = self.at_home(name).map(|topic| topic.epoch);
        here.or_else(|| self.head_of(name).map(|head| head.epoch))
    }

    /// Takes marks back that are of no history any more, some at a time.
    pub(super) fn forget_stale_marks(&mut self) {
        for _ in 0..self.stale.len().min(FORGET_AT_ONCE) {
            let Some((name, key)) = self.stale.pop_front() else { return };
            let mark = self.facts.get(&name, &key).and_then(|value| Watermark::read(value));
            // Somebody may have read what has come since.
            let is_stale = mark.is_some_and(|(_, epoch)| self.epoch_of(&name) != Some(epoch));
            if is_stale && self.record_upkeep(&name, &[Change { key: key.clone(), value: None }]).is_err() {
                return self.stale.push_front((name, key));
            }
        }
    }

    /// A user has left a topic.
    pub(crate) fn forget_marks(&mut self, topic: &str, user: &str) {
        if let Some(place) = self.find(topic) {
            self.topics[place].watermarks.remove(user);
        }
        let (name, key) = (Arc::<str>::from(topic), format!("{MARK}{user}"));
        self.risen.remove(&(name.clone(), user.into()));
        if self.facts.get(topic, &key).is_some() {
            // A disk that takes nothing keeps the mark: it is where it was if the user comes back.
            let _ = self.record_upkeep(&name, &[Change { key, value: None }]);
        }
    }
}
