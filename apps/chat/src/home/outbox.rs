//! Letters under way to other homes. Each is a fact of its sender until the receiver says that it has it on disk and that
//! fact is gone from this disk, so that a crash on either side loses none; of each pair of names one is under way at a
//! time, so that they keep their order, also when they come again after a crash.

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

/// From whom and to whom.
type Names = (String, String);

/// All letters of this shard's homes.
#[derive(Default, Debug)]
pub(super) struct Outbox {
    next: u64,
    pairs: BTreeMap<Names, VecDeque<Letter>>,
    /// The timer runs.
    armed: bool,
}

#[derive(Debug)]
struct Letter {
    number: u64,
    note: Note,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Its fact is on its way to disk.
    Written,
    /// Its fact is on disk.
    Kept,
    /// It was sent.
    UnderWay,
    /// The receiver has it on disk: its fact is to go.
    Taken,
    /// The end of its fact is on its way to disk.
    Going,
}

impl Outbox {
    /// Takes up the letters that the facts have, and sends them again.
    pub(super) fn start(&mut self, cx: &mut Cx<'_, Mail>, topics: &Topics) {
        for (from, key) in topics.named(PREFIX) {
            let number = key.strip_prefix(PREFIX).and_then(|number| u64::from_str_radix(number, 16).ok());
            let kept = topics.fact(&from, &key).and_then(|fact| serde_json::from_slice::<Kept>(fact).ok());
            let (Some(number), Some(Kept { to, note })) = (number, kept) else { continue };
            self.next = self.next.max(number + 1);
            self.pairs.entry((from, to)).or_default().push_back(Letter { number, note, state: State::Kept });
        }
        self.pairs.iter_mut().for_each(|(names, letters)| pump(cx, topics, names, letters));
    }

    /// A letter, not to be sent yet: its number, and the fact that keeps it.
    pub(super) fn write(&mut self, from: &str, to: &str, note: Note) -> (u64, Change) {
        let number = self.next;
        self.next += 1;
        let kept = Kept { to: to.to_owned(), note };
        let fact = Change { key: key(number), value: Some(json(&kept)) };
        let letters = self.pairs.entry((from.to_owned(), kept.to)).or_default();
        letters.push_back(Letter { number, note: kept.note, state: State::Written });
        (number, fact)
    }

    /// The fact of a letter is on disk: it may go.
    pub(super) fn send(&mut self, cx: &mut Cx<'_, Mail>, topics: &Topics, (from, to): (&str, &str), number: u64) {
        let names = (from.to_owned(), to.to_owned());
        let Some(letters) = self.pairs.get_mut(&names) else { return };
        if let Some(letter) = letters.iter_mut().find(|letter| letter.number == number) {
            letter.state = State::Kept;
        }
        pump(cx, topics, &names, letters);
    }

    /// The fact of a letter is not on disk: it was never written.
    pub(super) fn drop_letter(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        topics: &Topics,
        (from, to): (&str, &str),
        number: u64,
    ) {
        self.remove(cx, topics, &(from.to_owned(), to.to_owned()), number);
    }

    /// The receiver has a letter on disk, or could not take it. Gives the change by which it is kept no longer; what
    /// became of that is told with [`Outbox::on_gone`].
    pub(super) fn on_taken(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        names: &Names,
        (number, taken): (u64, bool),
    ) -> Option<Change> {
        let letter = self.pairs.get_mut(names)?.front_mut();
        let letter = letter.filter(|letter| letter.number == number && letter.state == State::UnderWay)?;
        if taken {
            letter.state = State::Going;
            return Some(end(number));
        }
        letter.state = State::Kept;
        self.put_off(cx);
        None
    }

    /// The fact of a letter is gone from the disk, or could not go. As long as it has not the next one has to wait: after
    /// a crash it would come again behind it.
    pub(super) fn on_gone(&mut self, cx: &mut Cx<'_, Mail>, topics: &Topics, names: &Names, number: u64, gone: bool) {
        if gone {
            return self.remove(cx, topics, names, number);
        }
        let letter = self.pairs.get_mut(names).and_then(VecDeque::front_mut);
        if let Some(letter) = letter.filter(|letter| letter.number == number) {
            letter.state = State::Taken;
        }
        self.put_off(cx);
    }

    /// Sends what was put off; gives the changes that are to be tried again.
    pub(super) fn retry(&mut self, cx: &mut Cx<'_, Mail>, topics: &Topics) -> Vec<(Names, u64, Change)> {
        self.armed = false;
        let mut ends = Vec::new();
        for (names, letters) in &mut self.pairs {
            pump(cx, topics, names, letters);
            if let Some(letter) = letters.front_mut().filter(|letter| letter.state == State::Taken) {
                letter.state = State::Going;
                ends.push((names.clone(), letter.number, end(letter.number)));
            }
        }
        ends
    }

    fn remove(&mut self, cx: &mut Cx<'_, Mail>, topics: &Topics, names: &Names, number: u64) {
        let Some(letters) = self.pairs.get_mut(names) else { return };
        letters.retain(|letter| letter.number != number);
        pump(cx, topics, names, letters);
        if letters.is_empty() {
            self.pairs.remove(names);
        }
    }

    /// The timer goes on that runs already: what comes meanwhile must not put it off for ever.
    fn put_off(&mut self, cx: &mut Cx<'_, Mail>) {
        if !std::mem::replace(&mut self.armed, true) {
            cx.wake_at(RETRY, cx.now + RETRY_AFTER);
        }
    }
}

/// Sends the oldest letter, unless it is under way or not on disk yet.
fn pump(cx: &mut Cx<'_, Mail>, topics: &Topics, (from, to): &Names, letters: &mut VecDeque<Letter>) {
    let Some(letter) = letters.front_mut().filter(|letter| letter.state == State::Kept) else { return };
    letter.state = State::UnderWay;
    let (number, note) = (letter.number, letter.note.clone());
    mail(cx, topics, cx.home(to), Post::Note { from: from.clone(), number, to: to.clone(), note });
}

fn end(number: u64) -> Change {
    Change { key: key(number), value: None }
}

/// Numbers of one length are in order as texts.
fn key(number: u64) -> String {
    format!("{PREFIX}{number:016x}")
}
