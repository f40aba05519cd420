//! Marks of readers as facts: written now and then, and forgotten with their history or when their user has left.
//!
//! A topic does not sleep while a mark of it is not on disk: one that a disk in trouble does not take is written when the
//! trouble is over. It is given up when the disk has failed for good, or when another topic needs the place: then it is
//! again what is on disk, and rises when its reader says so again.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use handler::{Cx, Level};

use super::{Home, NOBODY};
use crate::{
    desk::Desk,
    due::Chore,
    facts::{self, Change, MARK},
    journal::Trouble,
    limit::{FORGET_AT_ONCE, MARKS_PER_PLACE},
    mail::Mail,
    watermark::Watermark,
};

/// How often marks are written that have risen.
const MARKS_EVERY: Duration = Duration::from_millis(500);

/// Topics that are looked at for one whose marks are given up.
const GIVE_UP_LOOKS: usize = 64;

/// The tokens of changes that are marks.
const MARK_OF_GUEST: u64 = NOBODY - 1;
const MARK_OF_ACCOUNT: u64 = NOBODY - 2;

/// Whose marks they are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Rank {
    Guest,
    Account,
}

impl Rank {
    fn token(self) -> u64 {
        match self {
            Rank::Guest => MARK_OF_GUEST,
            Rank::Account => MARK_OF_ACCOUNT,
        }
    }
}

/// Whose marks changes with this token are, if they are marks.
pub(super) fn rank_of(token: u64) -> Option<Rank> {
    [Rank::Guest, Rank::Account].into_iter().find(|rank| rank.token() == token)
}

/// Whether changes are made by this crate itself: no app hears of them.
pub(crate) fn is_own(token: u64) -> bool {
    token >= MARK_OF_ACCOUNT
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
        self.plan_marks(cx, desk);
        self.risen.insert((self.topics[place].name.clone(), user.clone()), rank);
    }

    /// The chore of marks is planned while there are some to be written.
    fn plan_marks(&self, cx: &mut Cx<'_, Mail>, desk: &mut Desk) {
        if self.risen.is_empty() && self.unwritten.is_empty() {
            desk.due.plan(cx, cx.now + MARKS_EVERY, Chore::Marks);
        }
    }

    /// Whether there are marks of a topic that are not on disk.
    pub(super) fn has_unwritten_marks(&self, topic: &Arc<str>) -> bool {
        let first = (topic.clone(), Arc::from(""));
        let has = |marks: &BTreeMap<(Arc<str>, Arc<str>), Rank>| {
            marks.range(&first..).next().is_some_and(|((name, _), _)| name == topic)
        };
        has(&self.risen) || has(&self.unwritten) || self.facts.is_changing(topic, MARK)
    }

    /// The time to write marks that have risen.
    pub(crate) fn write_marks(&mut self, cx: &mut Cx<'_, Mail>, desk: &mut Desk) {
        let risen = std::mem::take(&mut self.risen);
        self.marked.clear();
        for ((topic, user), rank) in risen {
            let Some(place) = self.find(&topic) else { continue };
            let Some(mark) = self.topics[place].watermarks.get(&user) else { continue };
            self.marked.push((topic.clone(), user.clone(), mark));
            if self.topics[place].level == Level::Durable {
                self.unwritten.insert((topic, user), rank);
            }
        }
        self.write_unwritten(desk);
        if !self.unwritten.is_empty() {
            desk.due.plan(cx, cx.now + MARKS_EVERY, Chore::Marks);
        }
        self.flush(cx, desk);
    }

    /// Writes marks until the disk takes no more. They are not more than there are in memory.
    fn write_unwritten(&mut self, desk: &mut Desk) {
        if self.has_failed() {
            desk.stats.marks_lost += self.unwritten.len() as u64;
            return self.unwritten.clear();
        }
        while let Some(((topic, user), rank)) = self.unwritten.pop_first() {
            let Some(place) = self.find(&topic) else { continue };
            let Some(mark) = self.topics[place].watermarks.get(&user) else { continue };
            // A history that begins anew later has been read by nobody.
            let value = mark.write(self.topics[place].epoch);
            let change = Change { key: format!("{MARK}{user}"), value: Some(value) };
            let has_room = self.facts.get(&topic, &change.key).is_some() || self.has_room_for_mark(desk, rank);
            if !has_room || !facts::fits(&topic, &change) {
                desk.stats.marks_lost += 1;
            } else if self.record(&topic, &[change], rank.token()).is_err() {
                self.unwritten.insert((topic, user), rank);
                return;
            }
        }
    }

    /// A mark that was on its way has not come to disk: it is written later.
    pub(super) fn keep_mark(&mut self, cx: &mut Cx<'_, Mail>, desk: &mut Desk, (full, rank): (&str, Rank)) {
        let key = facts::parts(full).and_then(|(topic, key)| Some((topic, key.strip_prefix(MARK)?)));
        match key {
            Some((topic, user)) if !self.has_failed() => {
                self.plan_marks(cx, desk);
                self.unwritten.insert((topic.into(), user.into()), rank);
            }
            _ => desk.stats.marks_lost += 1,
        }
    }

    fn has_failed(&self) -> bool {
        self.journal.as_ref().and_then(|journal| journal.trouble()) == Some(Trouble::Failed)
    }

    /// Gives up the marks of a topic that only they keep in memory, at one of these kinds of places; whether there was one.
    pub(super) fn give_up_marks(&mut self, desk: &mut Desk, kinds: &[usize]) -> bool {
        let mut next = self.unwritten.keys().next().cloned();
        for _ in 0..GIVE_UP_LOOKS {
            let Some((topic, _)) = next else { return false };
            let is_of = |(of, _): &&(Arc<str>, Arc<str>)| *of == topic;
            let is_idle = |place: &usize| self.is_empty(*place) && !self.facts.is_changing(&topic, MARK);
            let place = self.find(&topic).filter(is_idle).filter(|_| kinds.contains(&self.kind_of_place(&topic)));
            if let Some(place) = place {
                let marks: Vec<_> = self
                    .unwritten
                    .range((topic.clone(), "".into())..)
                    .map(|(mark, _)| mark)
                    .take_while(is_of)
                    .cloned()
                    .collect();
                desk.stats.marks_lost += marks.len() as u64;
                marks.iter().for_each(|mark| _ = self.unwritten.remove(mark));
                self.remove(desk, place);
                return true;
            }
            let behind = (Arc::from(format!("{topic}\0")), Arc::from(""));
            next = self.unwritten.range(behind..).next().map(|(mark, _)| mark.clone());
        }
        false
    }

    fn has_room_for_mark(&self, desk: &Desk, rank: Rank) -> bool {
        let most = desk.limits.topics_max * MARKS_PER_PLACE;
        self.facts.marks() < if rank == Rank::Guest { most / 2 } else { most }
    }

    /// Marks that are facts are those of topics again. Facts of histories that are gone go.
    pub(super) fn wake_marks(&mut self, desk: &mut Desk) {
        let mut stale = Vec::new();
        for (name, key, value) in self.facts.iter() {
            let Some(user) = key.strip_prefix(MARK) else {
                if self.kind_of(key).is_some() && self.epoch_of(name).is_none() {
                    stale.push((Arc::from(name), key.to_owned()));
                }
                continue;
            };
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

    /// Takes marks back that are of no history any more, and what was said of its messages, some at a time.
    pub(super) fn forget_stale_marks(&mut self) {
        for _ in 0..self.stale.len().min(FORGET_AT_ONCE) {
            let Some((name, key)) = self.stale.pop_front() else { return };
            let here = self.epoch_of(&name);
            let is_stale = self.facts.get(&name, &key).is_some_and(|value| match key.starts_with(MARK) {
                // Somebody may have read what has come since.
                true => Watermark::read(value).is_some_and(|(_, epoch)| here != Some(epoch)),
                false => here.is_none(),
            });
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
        let mark = (name.clone(), user.into());
        self.risen.remove(&mark);
        self.unwritten.remove(&mark);
        if self.facts.get(topic, &key).is_some() {
            // A disk that takes nothing keeps the mark: it is where it was if the user comes back.
            let _ = self.record_upkeep(&name, &[Change { key, value: None }]);
        }
    }
}
