//! What must hold whatever the power does: the oracle knows what somebody was told, and panics when that is not so later.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use topic::{Change, Topics, Watermark};

/// What is read instead of messages that were taken back.
pub(crate) const RECALLED: &[u8] = b"taken back";

/// What was promised and seen, over all runs of a machine.
#[derive(Default)]
pub(crate) struct Oracle {
    /// Whether retention may take something.
    pub(crate) trims: bool,
    logs: BTreeMap<String, Log>,
    /// By topic and user: as high as a mark was ever raised, and where it was when all was on disk.
    raised: BTreeMap<(String, String), Watermark>,
    floors: BTreeMap<(String, String), Watermark>,
    /// By topic, epoch and offset: messages that somebody wanted to take back, and whether that is on disk for sure.
    recalls: BTreeMap<(String, u64, u64), bool>,
    /// Messages that were read as taken back.
    pub(crate) covered: u64,
    /// Histories that began anew, as retention had taken all of them.
    pub(crate) begun_anew: u64,
    pub(crate) repeats: u64,
}

#[derive(Default)]
struct Log {
    epoch: u64,
    messages: BTreeMap<u64, Entry>,
    /// By publication: where it is.
    places: BTreeMap<String, u64>,
}

#[derive(PartialEq, Debug)]
struct Entry {
    from: String,
    body: Bytes,
    /// Known only to those who read it.
    at_ms: Option<u64>,
}

impl Oracle {
    pub(crate) fn new(trims: bool) -> Self {
        Self { trims, ..Self::default() }
    }

    /// A publication was acknowledged.
    pub(crate) fn acked(&mut self, topic: &str, offset: u64, from: &str, body: &str) {
        self.learn(topic, offset, Entry { from: from.to_owned(), body: body.to_owned().into(), at_ms: None });
    }

    /// Somebody takes a message back.
    pub(crate) fn recalls(&mut self, topic: &str, (epoch, offset): (u64, u64), is_on_disk: bool) {
        *self.recalls.entry((topic.to_owned(), epoch, offset)).or_default() |= is_on_disk;
    }

    /// A message was read. One that was taken back never is.
    pub(crate) fn saw(&mut self, topic: &str, offset: u64, from: &str, at_ms: u64, body: &[u8]) {
        let epoch = self.logs.get(topic).map_or(0, |log| log.epoch);
        let recall = self.recalls.get(&(topic.to_owned(), epoch, offset));
        if body == RECALLED {
            assert!(epoch == 0 || recall.is_some(), "nobody has taken back {offset} of {topic}");
            self.covered += 1;
            return;
        }
        assert!(recall != Some(&true), "{offset} of {topic} was taken back");
        let body = Bytes::copy_from_slice(body);
        self.learn(topic, offset, Entry { from: from.to_owned(), body, at_ms: Some(at_ms) });
    }

    /// Somebody was told how far a topic goes.
    pub(crate) fn saw_head(&mut self, topic: &str, epoch: u64, head: u64) {
        let log = self.logs.entry(topic.to_owned()).or_default();
        let known = log.messages.keys().next_back().copied().unwrap_or(0);
        if log.epoch != 0 && log.epoch != epoch && known > 0 {
            assert!(self.trims, "the history of {topic} was lost");
            self.begun_anew += 1;
            *log = Log::default();
            self.floors.retain(|(name, _), _| name != topic);
            // Nobody has read anything of the new one.
            self.raised
                .iter_mut()
                .filter(|((name, _), _)| name == topic)
                .for_each(|(_, mark)| *mark = Watermark::default());
        } else {
            assert!(head >= known, "{topic} ended with {known} and ends with {head}");
        }
        if head > 0 {
            log.epoch = epoch;
        }
    }

    /// The newest message that somebody knows of.
    pub(crate) fn known(&self, topic: &str) -> u64 {
        self.logs.get(topic).and_then(|log| log.messages.keys().next_back().copied()).unwrap_or(0)
    }

    fn learn(&mut self, topic: &str, offset: u64, new: Entry) {
        let log = self.logs.entry(topic.to_owned()).or_default();
        let publication = publication(&new.body);
        let before = *log.places.entry(publication.clone()).or_insert(offset);
        self.repeats += u64::from(before == offset && new.at_ms.is_none() && log.messages.contains_key(&offset));
        assert!(before == offset || self.trims, "`{publication}` is in {topic} at {before} and at {offset}");
        let Some(old) = log.messages.get_mut(&offset) else {
            log.messages.insert(offset, new);
            return;
        };
        assert_eq!((&old.from, &old.body), (&new.from, &new.body), "two messages at {offset} of {topic}");
        match (old.at_ms, new.at_ms) {
            (Some(old), Some(new)) => assert_eq!(old, new, "two times at {offset} of {topic}"),
            (None, at_ms) => old.at_ms = at_ms,
            (Some(_), None) => {}
        }
    }

    /// Somebody says how far they have come.
    pub(crate) fn raised(&mut self, topic: &str, user: &str, (delivered, read): (u64, u64)) {
        let mark = self.raised.entry((topic.to_owned(), user.to_owned())).or_default();
        mark.delivered = mark.delivered.max(delivered).max(read);
        mark.read = mark.read.max(read);
    }

    /// Marks are where somebody raised them to, and not below where they were when all was on disk. With `all_on_disk`
    /// they are so from here on.
    pub(crate) fn check_marks<'a>(&mut self, home: impl Fn(&str) -> Option<&'a Topics>, all_on_disk: bool) {
        for ((topic, user), raised) in &self.raised {
            let Some(topics) = home(topic) else { continue };
            let mark = topics.watermark(topic, user).unwrap_or_default();
            let head = self.logs.get(topic).and_then(|log| log.messages.keys().next_back().copied()).unwrap_or(0);
            assert!(mark.delivered <= raised.delivered && mark.read <= raised.read, "{user} in {topic}: {mark:?}");
            assert!(mark.delivered <= head, "{user} in {topic} is beyond {head}: {mark:?}");
            let floor = self.floors.entry((topic.clone(), user.clone())).or_default();
            let rises = mark.delivered >= floor.delivered && mark.read >= floor.read;
            assert!(rises, "the mark of {user} in {topic} fell from {floor:?} to {mark:?}");
            if all_on_disk {
                *floor = mark;
            }
        }
    }
}

/// Who published it and as which: the first four words of a body.
fn publication(body: &[u8]) -> String {
    let text = str::from_utf8(body).expect("a text");
    let words: Vec<&str> = text.splitn(5, ' ').collect();
    assert_eq!(words.len(), 5, "a foreign body: {text:.60}");
    words[..4].join(" ")
}

/// Facts of one shard: those that are on disk for sure, those that are on their way, and those that were taken back.
#[derive(Default)]
pub(crate) struct Ledger {
    on_disk: Facts,
    pending: VecDeque<(u64, String, Vec<Change>)>,
    refused: BTreeMap<u64, (String, Vec<Change>)>,
}

type Facts = BTreeMap<(String, String), Bytes>;

impl Ledger {
    pub(crate) fn recorded(&mut self, token: u64, name: &str, changes: &[Change]) {
        self.pending.push_back((token, name.to_owned(), changes.to_vec()));
    }

    pub(crate) fn settled(&mut self, token: u64, ok: bool) {
        if ok {
            let (first, name, changes) = self.pending.pop_front().expect("something is pending");
            assert_eq!(first, token, "facts settle in their order");
            change(&mut self.on_disk, &name, &changes);
            // What failed before lies behind what counts of an earlier segment.
            self.refused.clear();
        } else {
            let place = self.pending.iter().position(|(pending, ..)| *pending == token).expect("it is pending");
            let (_, name, changes) = self.pending.remove(place).expect("found above");
            self.refused.insert(token, (name, changes));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// While it runs: what was recorded is true at once, what was taken back is not.
    pub(crate) fn check(&self, topics: &Topics, names: &[&str]) {
        let mut all = self.on_disk.clone();
        self.pending.iter().for_each(|(_, name, changes)| change(&mut all, name, changes));
        assert_eq!(facts(topics, names), all, "facts while it runs");
    }

    /// After a crash: what was settled is there, and of the rest some beginning. That is what is true from here on.
    pub(crate) fn check_recovered(&mut self, topics: &Topics, names: &[&str]) {
        let found = facts(topics, names);
        let pending = self.pending.iter().map(|(_, name, changes)| (name, changes)).collect::<Vec<_>>();
        let refused = self.refused.values().map(|(name, changes)| (name, changes)).collect::<Vec<_>>();
        let follows = |rest: &[(&String, &Vec<Change>)]| {
            let mut all = self.on_disk.clone();
            let mut hit = all == found;
            for (name, changes) in rest {
                change(&mut all, name, changes);
                hit |= all == found;
            }
            hit
        };
        // A batch that failed may be there all the same when nothing came after it.
        let hit = follows(&pending) || (0..refused.len()).any(|start| follows(&refused[start..]));
        assert!(hit, "facts after a crash: {found:?}, of {:?} and {pending:?}", self.on_disk);
        (self.on_disk, self.pending, self.refused) = (found, VecDeque::new(), BTreeMap::new());
    }
}

fn change(facts: &mut Facts, name: &str, changes: &[Change]) {
    for Change { key, value } in changes {
        let full = (name.to_owned(), key.clone());
        match value {
            Some(value) => _ = facts.insert(full, value.clone()),
            None => _ = facts.remove(&full),
        }
    }
}

/// All facts of these names that stories record.
fn facts(topics: &Topics, names: &[&str]) -> Facts {
    let of = |name: &&str| {
        let name = (*name).to_owned();
        let found = topics.facts(&name, "f/", None);
        found.map(|(key, value)| ((name.clone(), key.to_owned()), Bytes::copy_from_slice(value))).collect::<Vec<_>>()
    };
    names.iter().flat_map(of).collect()
}
