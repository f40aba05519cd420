//! What was said where, as readers and publishers saw it: whether they all saw the same, once, and everything.

use std::collections::{BTreeMap, HashMap};

/// Names of faults that are kept; more of them become one.
const FAULTS_MAX: usize = 64;

/// A message: its publisher, and the number that this one gave it.
pub(crate) type Message = (u32, u64);

/// An acknowledged publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Acknowledged {
    pub(crate) topic: u32,
    pub(crate) offset: u64,
    pub(crate) message: Message,
}

/// One shard's book.
#[derive(Debug, Default)]
pub(crate) struct Book {
    // By topic and offset, the first one at 0: what the first of the readers here read there.
    topics: Vec<Vec<Option<Message>>>,
    acknowledged: Vec<Acknowledged>,
    // How far each reader has come.
    ends: Vec<(u32, u64)>,
    pub(crate) account: Account,
    pub(crate) faults: BTreeMap<String, u64>,
}

/// All that may be wrong, as counts: of a good server all but the first three are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Account {
    /// Publications that were given a number.
    pub published: u64,
    /// Publications that were acknowledged.
    pub acknowledged: u64,
    /// Messages that readers got.
    pub delivered: u64,
    /// Publications that nobody answered until the end, or that were refused for good.
    pub unanswered: u64,
    /// Publications that were acknowledged twice.
    pub acknowledged_twice: u64,
    /// Acknowledgements that did not say that the message is on disk.
    pub from_memory: u64,
    /// Offsets that readers missed: the next one was not the next.
    pub gaps: u64,
    /// Offsets that readers got again.
    pub repeats: u64,
    /// Messages that readers did not get until the end.
    pub lost: u64,
    /// Publications with two places.
    pub doubled: u64,
    /// Offsets at which two readers, or a reader and the publisher, saw different messages; and damaged texts.
    pub different: u64,
    /// Offsets of a topic at which nobody read anything, below the newest.
    pub holes: u64,
    /// Topics that began anew, or that were shorter than a reader knew them.
    pub forgotten: u64,
}

impl Account {
    /// Whether everything came, once and unchanged.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let Self { published, acknowledged, delivered, .. } = *self;
        *self == Self { published, acknowledged, delivered, ..Self::default() }
    }
}

impl Book {
    /// A book of so many topics.
    pub(crate) fn new(topics: u32) -> Self {
        Self { topics: vec![Vec::new(); topics as usize], ..Self::default() }
    }

    /// A reader that had come to `last` got the message at `offset`; it has come to what is returned.
    pub(crate) fn read(&mut self, topic: u32, last: u64, offset: u64, message: Message) -> u64 {
        if offset <= last {
            self.account.repeats += 1;
            return last;
        }
        self.account.gaps += offset - last - 1;
        self.account.delivered += 1;
        self.note(topic, offset, message);
        offset
    }

    /// A publication was acknowledged.
    pub(crate) fn acknowledge(&mut self, acknowledged: Acknowledged) {
        self.account.acknowledged += 1;
        self.acknowledged.push(acknowledged);
    }

    /// A reader has come to `last` at the end.
    pub(crate) fn end(&mut self, topic: u32, last: u64) {
        self.ends.push((topic, last));
    }

    /// Deliveries that there should be of all that was acknowledged, with so many readers of each topic.
    pub(crate) fn expected(&self, readers: impl Fn(u32) -> u64) -> u64 {
        self.acknowledged.iter().map(|acknowledged| readers(acknowledged.topic)).sum()
    }

    /// Something else went wrong.
    pub(crate) fn fault(&mut self, name: impl Into<String>) {
        let name = name.into();
        let name = if self.faults.len() < FAULTS_MAX { name } else { "other faults".to_owned() };
        *self.faults.entry(name).or_default() += 1;
    }

    /// Takes in another shard's.
    pub(crate) fn add(&mut self, other: Book) {
        for (topic, places) in (0..).zip(&other.topics) {
            for (offset, message) in (1..).zip(places) {
                message.iter().for_each(|message| self.note(topic, offset, *message));
            }
        }
        self.acknowledged.extend(other.acknowledged);
        self.ends.extend(other.ends);
        other.faults.into_iter().for_each(|(name, count)| *self.faults.entry(name).or_default() += count);
        let (sum, part) = (&mut self.account, other.account);
        sum.published += part.published;
        sum.acknowledged += part.acknowledged;
        sum.delivered += part.delivered;
        sum.unanswered += part.unanswered;
        sum.from_memory += part.from_memory;
        sum.gaps += part.gaps;
        sum.repeats += part.repeats;
        sum.different += part.different;
        sum.forgotten += part.forgotten;
    }

    /// Compares what all have seen, once everybody's is in here.
    pub(crate) fn close(mut self) -> (Account, BTreeMap<String, u64>) {
        let mut answered = HashMap::new();
        for acknowledged in std::mem::take(&mut self.acknowledged) {
            let twice = answered.insert(acknowledged.message, acknowledged.offset).is_some();
            self.account.acknowledged_twice += u64::from(twice);
            self.note(acknowledged.topic, acknowledged.offset, acknowledged.message);
        }
        let mut places: HashMap<Message, u64> = HashMap::new();
        for message in self.topics.iter().flatten() {
            match message {
                Some(message) => *places.entry(*message).or_default() += 1,
                None => self.account.holes += 1,
            }
        }
        self.account.doubled = places.values().map(|count| count - 1).sum();
        for (topic, last) in &self.ends {
            let newest = self.topics[*topic as usize].len() as u64;
            self.account.lost += newest.saturating_sub(*last);
        }
        (self.account, self.faults)
    }

    fn note(&mut self, topic: u32, offset: u64, message: Message) {
        let places = &mut self.topics[topic as usize];
        let at = usize::try_from(offset - 1).unwrap_or(usize::MAX);
        // A server that names an offset out of nowhere must not cost the memory up to it.
        if at > places.len() + PLACES_AHEAD_MAX {
            self.account.different += 1;
            return;
        }
        if places.len() <= at {
            places.resize(at + 1, None);
        }
        match places[at] {
            None => places[at] = Some(message),
            Some(known) => self.account.different += u64::from(known != message),
        }
    }
}

/// Places of a topic that may be missing at once.
const PLACES_AHEAD_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// Two shards with a reader each, and two messages of one publisher.
    fn books() -> [Book; 2] {
        let mut books = [Book::new(1), Book::new(1)];
        for book in &mut books {
            let last = book.read(0, 0, 1, (7, 0));
            let last = book.read(0, last, 2, (7, 1));
            book.end(0, last);
        }
        for (offset, number) in [(1, 0), (2, 1)] {
            books[0].account.published += 1;
            books[0].acknowledge(Acknowledged { topic: 0, offset, message: (7, number) });
        }
        books
    }

    fn close(books: [Book; 2]) -> Account {
        let [mut first, second] = books;
        first.add(second);
        first.close().0
    }

    #[test]
    fn what_all_saw_once_is_clean() {
        let account = close(books());
        assert!(account.is_clean(), "{account:?}");
        assert_eq!((account.published, account.acknowledged, account.delivered), (2, 2, 4));
    }

    #[test]
    fn a_gap_a_repeat_and_a_missing_end_are_counted() {
        let mut books = [Book::new(1), Book::new(1)];
        assert_eq!(books[0].read(0, 0, 3, (7, 2)), 3);
        assert_eq!(books[0].read(0, 3, 2, (7, 1)), 3);
        books[0].end(0, 3);
        assert_eq!(books[1].read(0, 0, 1, (7, 0)), 1);
        books[1].end(0, 1);
        let account = close(books);
        assert_eq!((account.gaps, account.repeats, account.lost, account.holes), (2, 1, 2, 1), "{account:?}");
    }

    #[test]
    fn what_was_acknowledged_and_nobody_read_is_lost() {
        let mut books = books();
        books[1].acknowledge(Acknowledged { topic: 0, offset: 3, message: (8, 0) });
        assert_eq!(close(books).lost, 2);
    }

    #[test]
    fn different_messages_at_one_place_and_one_message_at_two_are_seen() {
        let mut books = books();
        books[1].read(0, 2, 3, (7, 1));
        let account = close(books);
        assert_eq!((account.doubled, account.different), (1, 0), "{account:?}");
        let mut books = self::books();
        books[0].acknowledge(Acknowledged { topic: 0, offset: 2, message: (9, 0) });
        books[0].acknowledge(Acknowledged { topic: 0, offset: 2, message: (9, 0) });
        books[1].read(0, 2, u64::MAX, (9, 9));
        let account = close(books);
        assert_eq!((account.different, account.acknowledged_twice), (3, 1), "{account:?}");
        assert!(!account.is_clean());
    }
}
