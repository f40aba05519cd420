//! The newest ephemeral value of every (sender, key) that a shard has heard in a topic, for readers that missed it.

use std::time::Instant;

use handler::{Peer, ShardId};

use crate::{
    limit::{CHUNK_BYTES_MAX, EPHEMERAL_AGE_MAX, EPHEMERAL_VALUES_MAX},
    name::Name,
};

/// The newest values of one topic.
#[derive(Default, Debug)]
pub(crate) struct Newest {
    values: Vec<Value>,
    stamp: u64,
    /// The time to forget what is too old, if it is set.
    pub(crate) due: Option<Instant>,
}

/// One value. Its memory is used again by its successors.
#[derive(Debug)]
pub(crate) struct Value {
    pub(crate) from: Name,
    pub(crate) key: Name,
    pub(crate) body: Vec<u8>,
    origin: (ShardId, Peer),
    at: Instant,
    stamp: u64,
}

impl Newest {
    /// Takes a value; the oldest one goes when there are too many.
    pub(crate) fn put(&mut self, now: Instant, origin: (ShardId, Peer), from: Name, key: Name, body: &[u8]) {
        self.stamp += 1;
        let stamp = self.stamp;
        let same = self.values.iter().position(|value| value.from.id == from.id && value.key.id == key.id);
        let place = same.or_else(|| (self.values.len() >= EPHEMERAL_VALUES_MAX).then(|| self.oldest()).flatten());
        match place.map(|place| &mut self.values[place]) {
            Some(value) => {
                value.body.clear();
                value.body.extend_from_slice(body);
                (value.from, value.key, value.origin, value.at, value.stamp) = (from, key, origin, now, stamp);
            }
            None => self.values.push(Value { from, key, body: body.to_vec(), origin, at: now, stamp }),
        }
    }

    /// Forgets what is too old; when to look again, if anything is left.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<Instant> {
        self.values.retain(|value| now < value.at + EPHEMERAL_AGE_MAX);
        self.values.iter().map(|value| value.at + EPHEMERAL_AGE_MAX).min()
    }

    /// What a reader that was away should know, oldest first: never its own, never too old, and of a lot the newest.
    pub(crate) fn for_reader(&self, now: Instant, reader: (ShardId, Peer)) -> Vec<&Value> {
        let fresh = |value: &&Value| value.origin != reader && now < value.at + EPHEMERAL_AGE_MAX;
        let mut values: Vec<&Value> = self.values.iter().filter(fresh).collect();
        values.sort_unstable_by_key(|value| std::cmp::Reverse(value.stamp));
        let mut bytes = 0;
        let fitting = values.iter().take_while(|value| {
            bytes += value.body.len() + value.from.text.len() + value.key.text.len();
            bytes <= CHUNK_BYTES_MAX
        });
        let fitting = fitting.count();
        values.truncate(fitting);
        values.reverse();
        values
    }

    fn oldest(&self) -> Option<usize> {
        (0..self.values.len()).min_by_key(|place| self.values[*place].stamp)
    }
}

#[cfg(test)]
mod tests {
    use ahash::RandomState;

    use super::*;
    use crate::{limit::EPHEMERAL_BYTES_MAX, name::Names};

    const WRITER: (ShardId, Peer) = (ShardId(0), Peer { index: 1, generation: 1 });
    const READER: (ShardId, Peer) = (ShardId(0), Peer { index: 2, generation: 1 });

    #[test]
    fn only_the_newest_of_a_key_counts_and_ages() {
        let mut names = Names::new(RandomState::with_seeds(1, 2, 3, 4));
        let mut newest = Newest::default();
        let start = Instant::now();
        for n in 0..5_u8 {
            newest.put(start, WRITER, names.intern("ada"), names.intern("cursor"), &[n]);
        }
        newest.put(start, READER, names.intern("bob"), names.intern("cursor"), b"own");
        let seen = newest.for_reader(start, READER);
        assert_eq!(seen.iter().map(|value| &value.body[..]).collect::<Vec<_>>(), [&[4]]);
        assert!(newest.for_reader(start + EPHEMERAL_AGE_MAX, READER).is_empty());
        assert_eq!(newest.expire(start), Some(start + EPHEMERAL_AGE_MAX));
        assert_eq!(newest.expire(start + EPHEMERAL_AGE_MAX), None);
        assert!(newest.values.is_empty());
    }

    #[test]
    fn a_flood_of_keys_stays_small() {
        let mut names = Names::new(RandomState::with_seeds(1, 2, 3, 4));
        let mut newest = Newest::default();
        let start = Instant::now();
        for n in 0..10_000 {
            newest.put(start, WRITER, names.intern("eve"), names.intern(&n.to_string()), &[0; EPHEMERAL_BYTES_MAX]);
        }
        assert_eq!(newest.values.len(), EPHEMERAL_VALUES_MAX);
        let seen = newest.for_reader(start, READER);
        assert!(seen.iter().map(|value| value.body.len()).sum::<usize>() <= CHUNK_BYTES_MAX);
        assert_eq!(&*seen.last().expect("some").key.text, "9999");
    }
}
