//! Letters under way to other homes. Each is a fact of its sender until the receiver says that it has it on disk, so that
//! a crash on either side loses none; of each pair of names one is under way at a time, so that they keep their order.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use handler::{Cx, Timer};
use serde::{Deserialize, Serialize};
use topic::{Change, Mail, Topics};

use super::mail;
use crate::{
    facts::json,
    post::{Note, Post},
};

/// The timer after which letters that were put off are sent again.
pub(crate) const RETRY: Timer = Timer(0x6f75_7462_6f78);

/// How long a home gets that could not take a letter: about what a full disk needs at least.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// What the keys of letters begin with.
const PREFIX: &str = "out/";

/// A letter as its fact has it.
#[derive(Serialize, Deserialize)]
struct Kept {
    to: String,
    note: Note,
}

/// All letters of this shard's homes.
#[derive(Default, Debug)]
pub(crate) struct Outbox {
    next: u64,
    pairs: BTreeMap<(String, String), Pair>,
}

/// The letters from one name to another one.
#[derive(Default, Debug)]
struct Pair {
    letters: VecDeque<Letter>,
    under_way: bool,
}

#[derive(Debug)]
struct Letter {
    number: u64,
    note: Note,
    /// Its fact is on disk.
    kept: bool,
}

impl Outbox {
    /// Takes up the letters that the facts have, and sends them again.
    pub(crate) fn start(&mut self, cx: &mut Cx<'_, Mail>, topics: &Topics) {
        for (from, key) in topics.named(PREFIX) {
            let number = key.strip_prefix(PREFIX).and_then(|number| u64::from_str_radix(number, 16).ok());
            let kept = topics.fact(&from, &key).and_then(|fact| serde_json::from_slice::<Kept>(fact).ok());
            let (Some(number), Some(Kept { to, note })) = (number, kept) else { continue };
            self.next = self.next.max(number + 1);
            self.pairs.entry((from, to)).or_default().letters.push_back(Letter { number, note, kept: true });
        }
        self.retry(cx, topics);
    }

    /// A letter, not to be sent yet: its number, and the fact that keeps it.
    pub(super) fn write(&mut self, from: &str, to: &str, note: Note) -> (u64, Change) {
        let number = self.next;
        self.next += 1;
        let kept = Kept { to: to.to_owned(), note };
        let fact = Change { key: key(number), value: Some(json(&kept)) };
        let pair = self.pairs.entry((from.to_owned(), kept.to)).or_default();
        pair.letters.push_back(Letter { number, note: kept.note, kept: false });
        (number, fact)
    }

    /// The fact of a letter is on disk: it may go.
    pub(super) fn send(&mut self, cx: &mut Cx<'_, Mail>, topics: &Topics, (from, to): (&str, &str), number: u64) {
        let names = (from.to_owned(), to.to_owned());
        let Some(pair) = self.pairs.get_mut(&names) else { return };
        if let Some(letter) = pair.letters.iter_mut().find(|letter| letter.number == number) {
            letter.kept = true;
        }
        pair.pump(cx, topics, &names);
    }

    /// The fact of a letter is not on disk: it was never written.
    pub(super) fn drop_letter(&mut self, from: &str, to: &str, number: u64) {
        let names = (from.to_owned(), to.to_owned());
        let Some(pair) = self.pairs.get_mut(&names) else { return };
        pair.letters.retain(|letter| letter.number != number);
        if pair.letters.is_empty() {
            self.pairs.remove(&names);
        }
    }

    /// The receiver has the letter on disk, or could not take it.
    pub(crate) fn on_taken(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        topics: &mut Topics,
        names: (String, String),
        (number, taken): (u64, bool),
    ) {
        let Some(pair) = self.pairs.get_mut(&names) else { return };
        pair.under_way = false;
        if !taken {
            return cx.wake_at(RETRY, cx.now + RETRY_AFTER);
        }
        if pair.letters.front().is_some_and(|letter| letter.number == number) {
            pair.letters.pop_front();
            // If it cannot be taken out now it is sent again after the next start, which does no harm.
            let _ = topics.record(&names.0, &[Change { key: key(number), value: None }], u64::MAX);
        }
        pair.pump(cx, topics, &names);
        if pair.letters.is_empty() {
            self.pairs.remove(&names);
        }
    }

    /// Sends what was put off.
    pub(crate) fn retry(&mut self, cx: &mut Cx<'_, Mail>, topics: &Topics) {
        for (names, pair) in &mut self.pairs {
            pair.pump(cx, topics, names);
        }
    }
}

impl Pair {
    /// Sends the oldest letter, unless it is under way or not on disk yet.
    fn pump(&mut self, cx: &mut Cx<'_, Mail>, topics: &Topics, (from, to): &(String, String)) {
        let Some(letter) = self.letters.front().filter(|letter| letter.kept && !self.under_way) else { return };
        self.under_way = true;
        let (number, note) = (letter.number, letter.note.clone());
        let post = Post::Note { from: from.clone(), number, to: to.clone(), note };
        mail(cx, topics, cx.home(to), post);
    }
}

/// Numbers of one length are in order as texts.
fn key(number: u64) -> String {
    format!("{PREFIX}{number:016x}")
}
