//! The first message of a topic that may be shown, as a fact that only rises. What was trimmed comes back with a new start
//! as far as it lies in segments, if it is to be kept for longer then; what facts spoke of that are gone must not.

use std::sync::Arc;

use handler::Level;

use super::Home;
use crate::{
    desk::Desk,
    facts::{Change, FLOOR, Floor},
    history::History,
    journal::Place,
    mutant::Mutant,
    seen::Seen,
};

impl Home {
    /// The change by which nothing of a topic that is older than `first` is shown again; `None`: that is so.
    pub(crate) fn raised_floor(&self, name: &str, first: u64) -> Option<Change> {
        if self.journal.is_none() || self.at_home(name).is_some_and(|topic| topic.level == Level::Memory) {
            // With it goes everything.
            return None;
        }
        let floor = Floor { epoch: self.epoch_of(name)?, first };
        let known = self.facts.get(name, FLOOR).and_then(|value| Floor::read(value));
        let is_known = known.is_some_and(|known| known.epoch == floor.epoch && known.first >= first);
        (!is_known).then(|| Change { key: FLOOR.to_owned(), value: Some(floor.write()) })
    }

    /// What was found of topics begins where it may be shown.
    pub(super) fn wake_floors(&mut self, desk: &Desk, mut gone: impl FnMut(&Place)) {
        let floors: Vec<(Arc<str>, Floor)> =
            self.facts.iter().filter_map(|(name, key, value)| floor(name, key, value)).collect();
        for (name, Floor { epoch, first }) in floors {
            let Some(place) = self.find(&name).filter(|_| !Mutant::NoFloor.is_in()) else { continue };
            let topic = &mut self.topics[place];
            if topic.epoch != epoch || first <= topic.first() {
                continue;
            }
            if first > topic.history.head() {
                topic.index.clear().for_each(|place| gone(&place));
                self.history_bytes -= topic.history.body_bytes();
                (topic.history, topic.seen) = (History::resumed(first), Seen::new(desk.hasher.clone()));
                continue;
            }
            topic.index.begin_at(first).iter().for_each(&mut gone);
            self.trim_ring(place, first);
        }
    }

    /// A topic's ring has nothing before `first` any more.
    pub(super) fn trim_ring(&mut self, place: usize, first: u64) {
        let history = &mut self.topics[place].history;
        let held = history.body_bytes();
        history.trim_to(first);
        self.history_bytes = self.history_bytes - held + history.body_bytes();
    }
}

fn floor(name: &str, key: &str, value: &[u8]) -> Option<(Arc<str>, Floor)> {
    (key == FLOOR).then(|| Some((name.into(), Floor::read(value)?)))?
}
