//! Facts about things that are at home here: small values under a name and a key, the newest of each.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use bytes::Bytes;

/// Between a name and a key. Neither has it.
const SEPARATOR: char = '\n';

/// The longest key of a fact in bytes.
pub const FACT_KEY_BYTES_MAX: usize = 600;

/// The longest value of a fact in bytes.
pub const FACT_VALUE_BYTES_MAX: usize = 16 * 1024;

/// What the keys of marks begin with.
pub(crate) const MARK: &str = "mark/";

/// The fact that says how far a topic had come when its last message went.
pub(crate) const HEAD: &str = "~head";

/// The fact that says which message of a topic is the first that may ever be shown again.
pub(crate) const FLOOR: &str = "~floor";

/// How far a topic has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Head {
    pub(crate) epoch: u64,
    /// The newest offset.
    pub(crate) offset: u64,
    /// When that message was taken, milliseconds since 1970; 0: that is not known.
    pub(crate) at_ms: u64,
}

impl Head {
    /// As the value of a fact: three numbers, little endian.
    pub(crate) fn write(&self) -> Bytes {
        [self.epoch, self.offset, self.at_ms].map(u64::to_le_bytes).concat().into()
    }

    /// Reads the value of a fact. Those that were written before there was a time have two numbers.
    pub(crate) fn read(value: &[u8]) -> Option<Self> {
        match value.as_chunks::<8>() {
            (&[epoch, offset], []) => Some((epoch, offset, [0; 8])),
            (&[epoch, offset, at_ms], []) => Some((epoch, offset, at_ms)),
            _ => None,
        }
        .map(|(epoch, offset, at_ms)| {
            let [epoch, offset, at_ms] = [epoch, offset, at_ms].map(u64::from_le_bytes);
            Self { epoch, offset, at_ms }
        })
    }
}

/// The first message of a topic that may be shown, whatever lies in segments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Floor {
    pub(crate) epoch: u64,
    pub(crate) first: u64,
}

impl Floor {
    /// As the value of a fact: two numbers, little endian.
    pub(crate) fn write(&self) -> Bytes {
        [self.epoch, self.first].map(u64::to_le_bytes).concat().into()
    }

    /// Reads the value of a fact.
    pub(crate) fn read(value: &[u8]) -> Option<Self> {
        let (&[epoch, first], []) = value.as_chunks::<8>() else { return None };
        Some(Self { epoch: u64::from_le_bytes(epoch), first: u64::from_le_bytes(first) })
    }
}

/// A change of a fact.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// Which fact of the thing.
    pub key: String,
    /// What is true from now on; `None`: nothing.
    pub value: Option<Bytes>,
}

/// A value, and where its newest record lies.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    pub(crate) value: Bytes,
    /// The segment and the bytes of its record in it; segment 0: on its way to disk, or in memory only if there is no record.
    pub(crate) segment: u64,
    pub(crate) bytes: u32,
}

impl Fact {
    /// One that no journal has.
    pub(crate) fn in_memory(value: Bytes) -> Self {
        Self { value, segment: 0, bytes: 0 }
    }

    /// Whether no journal has it.
    pub(crate) fn is_in_memory(&self) -> bool {
        (self.segment, self.bytes) == (0, 0)
    }
}

/// Some facts, each as the change that makes it true, and the last one that was looked at if there are more.
pub(crate) type Piece = (Vec<(Arc<str>, Change)>, Option<Arc<str>>);

/// All facts of a home.
#[derive(Default, Debug)]
pub(crate) struct Facts {
    /// What is true.
    map: BTreeMap<Arc<str>, Fact>,
    /// Those that are being changed: how many changes are on their way, and what is on disk.
    changing: BTreeMap<Arc<str>, (u32, Option<Fact>)>,
    /// How many are marks.
    marks: usize,
}

impl Facts {
    pub(crate) fn get(&self, name: &str, key: &str) -> Option<&Bytes> {
        self.map.get(&*full(name, key)).map(|fact| &fact.value)
    }

    /// The facts of a thing whose keys begin with `prefix` and come after `after`, in order.
    pub(crate) fn range<'a>(
        &'a self,
        name: &str,
        prefix: &str,
        after: Option<&str>,
    ) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        let (begin, skip) = (full(name, prefix), name.len() + SEPARATOR.len_utf8());
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(full(name, after)),
            _ => Bound::Included(begin.clone()),
        };
        self.map
            .range::<str, _>((from.as_ref().map(|key| &**key), Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(&*begin))
            .map(move |(key, fact)| (&key[skip..], &*fact.value))
    }

    /// The first key of a thing that is not before `from`.
    pub(crate) fn first_from(&self, name: &str, from: &str) -> Option<&str> {
        let (key, _) = self.map.range::<str, _>((Bound::Included(&*full(name, from)), Bound::Unbounded)).next()?;
        parts(key).filter(|(of, _)| *of == name).map(|(_, key)| key)
    }

    /// Whether facts of a thing whose keys begin with `prefix` are on their way to disk.
    pub(crate) fn is_changing(&self, name: &str, prefix: &str) -> bool {
        let begin = full(name, prefix);
        let next = self.changing.range::<str, _>((Bound::Included(&*begin), Bound::Unbounded)).next();
        next.is_some_and(|(key, _)| key.starts_with(&*begin))
    }

    /// Changes a fact; gives what it was.
    pub(crate) fn set(&mut self, full: &Arc<str>, fact: Option<Fact>) -> Option<Fact> {
        let is_there = fact.is_some();
        let before = match fact {
            Some(fact) => self.map.insert(full.clone(), fact),
            None => self.map.remove(full),
        };
        if is_there != before.is_some() && is_mark(full) {
            self.marks = if is_there { self.marks + 1 } else { self.marks - 1 };
        }
        before
    }

    /// Removes a fact that no journal has.
    pub(crate) fn remove_from_memory(&mut self, name: &str, key: &str) {
        let full = full(name, key);
        if self.map.get(&full).is_some_and(Fact::is_in_memory) {
            self.set(&full, None);
        }
    }

    /// How many facts are marks.
    pub(crate) fn marks(&self) -> usize {
        self.marks
    }

    /// A fact as it is on disk.
    pub(crate) fn on_disk(&self, full: &str) -> Option<&Fact> {
        match self.changing.get(full) {
            Some((_, on_disk)) => on_disk.as_ref(),
            None => self.map.get(full),
        }
        .filter(|fact| !fact.is_in_memory())
    }

    /// Bytes of the newest records that lie in a segment.
    pub(crate) fn bytes_in(&self, segment: u64) -> u64 {
        let changing = self.changing.values().filter_map(|(_, on_disk)| on_disk.as_ref());
        let here = self.map.values().chain(changing).filter(|fact| fact.segment == segment);
        here.map(|fact| u64::from(fact.bytes)).sum()
    }

    /// Changes a fact; the change is on its way to disk.
    pub(crate) fn change(&mut self, full: &Arc<str>, fact: Option<Fact>) {
        let before = self.set(full, fact);
        self.changing.entry(full.clone()).or_insert((0, before)).0 += 1;
    }

    /// The oldest change of a fact is on disk; gives what it replaced there.
    pub(crate) fn settle(&mut self, full: &Arc<str>, fact: Option<Fact>) -> Option<Fact> {
        let (changes, on_disk) = self.changing.get_mut(full)?;
        *changes -= 1;
        let before = std::mem::replace(on_disk, fact);
        if *changes == 0 {
            self.take_back(full);
        }
        before
    }

    /// A fact is again what is on disk.
    pub(crate) fn take_back(&mut self, full: &Arc<str>) {
        if let Some((_, on_disk)) = self.changing.remove(full) {
            self.set(full, on_disk);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// Facts behind `after` whose newest records lie in a segment, after at most so many looks and until so many bytes are
    /// found; and where to go on, if that was not the end.
    pub(crate) fn of_segment(&self, segment: u64, after: Option<&Arc<str>>, (looks, bytes): (usize, usize)) -> Piece {
        let (mut found, mut found_bytes) = (Vec::new(), 0);
        let from = after.map_or(Bound::Unbounded, |after| Bound::Excluded(&**after));
        for (look, (full, fact)) in self.map.range::<str, _>((from, Bound::Unbounded)).enumerate() {
            if fact.segment == segment
                && let Some((name, key)) = parts(full)
            {
                found_bytes += fact.bytes as usize;
                found.push((name.into(), Change { key: key.to_owned(), value: Some(fact.value.clone()) }));
            }
            if look + 1 >= looks || found_bytes >= bytes {
                return (found, Some(full.clone()));
            }
        }
        (found, None)
    }

    /// Name and key in one of those behind `after`.
    pub(crate) fn names_from(&self, after: Option<&Arc<str>>) -> impl Iterator<Item = &Arc<str>> {
        let from = after.map_or(Bound::Unbounded, |after| Bound::Excluded(&**after));
        self.map.range::<str, _>((from, Bound::Unbounded)).map(|(full, _)| full)
    }

    /// Name, key and value of all.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str, &Bytes)> {
        self.map.iter().filter_map(|(full, fact)| line(full, fact))
    }

    /// Name, key and value of those that no journal has, in order. Those are among them that are on their way to one, as
    /// they were before.
    pub(crate) fn in_memory(&self) -> impl Iterator<Item = (&str, &str, &Bytes)> {
        let changing = self.changing.iter().filter_map(|(full, (_, before))| Some((full, before.as_ref()?)));
        let all = self.map.iter().chain(changing).filter(|(_, fact)| fact.is_in_memory());
        let in_order: BTreeMap<_, _> = all.collect();
        in_order.into_iter().filter_map(|(full, fact)| line(full, fact))
    }

    /// The facts of a thing whose keys begin with `prefix` that no journal has, each as the change that makes it true.
    pub(crate) fn in_memory_of(&self, name: &str, prefix: &str) -> Vec<Change> {
        let begin = full(name, prefix);
        let of_prefix = self.map.range::<str, _>((Bound::Included(&*begin), Bound::Unbounded));
        let of_prefix = of_prefix.take_while(|(key, _)| key.starts_with(&*begin)).filter(|(_, it)| it.is_in_memory());
        let change = |key: &str, value: &Bytes| Change { key: key.to_owned(), value: Some(value.clone()) };
        of_prefix.filter_map(|(full, fact)| Some(change(parts(full)?.1, &fact.value))).collect()
    }
}

fn line<'a>(full: &'a str, fact: &'a Fact) -> Option<(&'a str, &'a str, &'a Bytes)> {
    let (name, key) = parts(full)?;
    Some((name, key, &fact.value))
}

/// Name and key.
pub(crate) fn parts(full: &str) -> Option<(&str, &str)> {
    full.split_once(SEPARATOR)
}

fn is_mark(full: &str) -> bool {
    parts(full).is_some_and(|(_, key)| key.starts_with(MARK))
}

/// Name and key in one.
pub(crate) fn full(name: &str, key: &str) -> Arc<str> {
    let mut full = String::with_capacity(name.len() + key.len() + SEPARATOR.len_utf8());
    full.push_str(name);
    full.push(SEPARATOR);
    full.push_str(key);
    full.into()
}

/// Whether a fact can have this name and key.
pub(crate) fn fits(name: &str, change: &Change) -> bool {
    name.len() <= crate::limit::TOPIC_BYTES_MAX
        && !name.contains(SEPARATOR)
        && change.key.len() <= FACT_KEY_BYTES_MAX
        && !change.key.contains(SEPARATOR)
        && change.value.as_ref().is_none_or(|value| value.len() <= FACT_VALUE_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fact_is_what_was_said_last_until_that_is_taken_back() {
        let mut facts = Facts::default();
        let name = full("a", "k");
        let fact = |text: &'static str, segment| Some(Fact { value: text.into(), segment, bytes: 1 });
        let value = |facts: &Facts| facts.get("a", "k").map(|value| String::from_utf8_lossy(value).into_owned());
        facts.change(&name, fact("one", 0));
        facts.change(&name, None);
        facts.change(&name, fact("three", 0));
        assert!(facts.settle(&name, fact("one", 7)).is_none());
        assert_eq!(value(&facts).as_deref(), Some("three"));
        assert_eq!(facts.settle(&name, None).map(|before| before.segment), Some(7));
        facts.take_back(&name);
        facts.take_back(&name);
        assert_eq!(value(&facts), None);
        facts.change(&name, fact("four", 0));
        assert!(facts.settle(&name, fact("four", 8)).is_none());
        assert_eq!((value(&facts).as_deref(), facts.of_segment(8, None, (9, 9)).0.len()), (Some("four"), 1));
    }

    #[test]
    fn ranges_hold_one_things_facts_in_order() {
        let mut facts = Facts::default();
        for (name, key) in [("a", "m/1"), ("a", "m/2"), ("a", "m/3"), ("a", "n"), ("ab", "m/1"), ("b", "m/9")] {
            let value = Bytes::from(format!("{name} {key}"));
            facts.set(&full(name, key), Some(Fact { value, segment: 0, bytes: 0 }));
        }
        let keys = |prefix, after| facts.range("a", prefix, after).map(|(key, _)| key).collect::<Vec<_>>();
        assert_eq!(keys("", None), ["m/1", "m/2", "m/3", "n"]);
        assert_eq!(keys("m/", None), ["m/1", "m/2", "m/3"]);
        assert_eq!(keys("m/", Some("m/1")), ["m/2", "m/3"]);
        assert_eq!(keys("m/", Some("m/3")), [""; 0]);
        assert_eq!(keys("m/", Some("a")), ["m/1", "m/2", "m/3"]);
        assert_eq!(facts.get("b", "m/9").map(|value| &value[..]), Some(&b"b m/9"[..]));
        assert_eq!(facts.get("b", "m/1"), None);
    }
}
