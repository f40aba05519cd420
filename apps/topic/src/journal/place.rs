//! Where the messages of one topic lie in the journal: an entry per batch that has some.

use crate::chain::Chain;

/// Messages of a topic in one batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    /// The offset of the first one.
    pub(crate) first: u64,
    /// When the last one was taken, milliseconds since 1970.
    pub(crate) newest_ms: u64,
    /// The segment.
    pub(crate) segment: u64,
    /// Where the batch begins in it, in blocks.
    pub(crate) block: u32,
    /// How many blocks the batch has.
    pub(crate) blocks: u32,
    /// Bytes of these messages' records.
    pub(crate) bytes: u32,
}

/// All places of a topic, oldest first.
#[derive(Default, Debug)]
pub(crate) struct Index {
    places: Chain<Place>,
    bytes: u64,
}

impl Index {
    /// A message was committed.
    pub(crate) fn add(&mut self, message: Place) {
        self.bytes += u64::from(message.bytes);
        match self.places.back_mut() {
            Some(last) if (last.segment, last.block) == (message.segment, message.block) => {
                last.bytes += message.bytes;
                last.newest_ms = message.newest_ms;
            }
            _ => self.places.push_back(message),
        }
    }

    /// The oldest offset that is on disk.
    pub(crate) fn first(&self) -> Option<u64> {
        self.places.front().map(|place| place.first)
    }

    pub(crate) fn oldest(&self) -> Option<&Place> {
        self.places.front()
    }

    /// Where the message with this offset lies, if it is not older than all that there are.
    pub(crate) fn find(&self, offset: u64) -> Option<&Place> {
        let after = self.places.partition_point(|place| place.first <= offset);
        self.places.get(after.checked_sub(1)?)
    }

    /// The first offset behind a batch, if it is in another one.
    pub(crate) fn behind(&self, (segment, block): (u64, u32)) -> Option<u64> {
        let after = self.places.partition_point(|place| (place.segment, place.block) <= (segment, block));
        self.places.get(after).map(|place| place.first)
    }

    /// The oldest batch goes.
    pub(crate) fn drop_oldest(&mut self) -> Option<Place> {
        let place = self.places.pop_front()?;
        self.bytes -= u64::from(place.bytes);
        Some(place)
    }

    /// Nothing before `first`, which is there, is there any more; gives the batches that had nothing else.
    pub(crate) fn begin_at(&mut self, first: u64) -> Vec<Place> {
        let mut gone = Vec::new();
        while self.places.get(1).is_some_and(|next| next.first <= first) {
            gone.extend(self.drop_oldest());
        }
        if let Some(oldest) = self.places.front_mut() {
            oldest.first = oldest.first.max(first);
        }
        gone
    }

    /// All goes.
    pub(crate) fn clear(&mut self) -> impl Iterator<Item = Place> + use<> {
        self.bytes = 0;
        self.places.take()
    }

    /// What lies in a segment lies elsewhere in it now.
    pub(crate) fn relocate(&mut self, segment: u64, mut new: Vec<Place>) {
        let Some(first) = self.first() else { return };
        let start = self.places.partition_point(|place| place.segment < segment);
        let end = self.places.partition_point(|place| place.segment <= segment);
        // What was trimmed while it was copied stays so.
        let behind = self.places.get(end).map(|place| place.first);
        let ends_before =
            |at: &usize| new.get(at + 1).map(|next| next.first).or(behind).is_some_and(|next| next <= first);
        let gone = (0..new.len()).take_while(ends_before).count();
        new.drain(..gone);
        if let Some(place) = new.first_mut() {
            place.first = place.first.max(first);
        }
        let mut places: Vec<_> = self.places.take().collect();
        let old: u64 = places[start..end].iter().map(|place| u64::from(place.bytes)).sum();
        self.bytes += new.iter().map(|place| u64::from(place.bytes)).sum::<u64>();
        self.bytes -= old;
        places.splice(start..end, new);
        places.into_iter().for_each(|place| self.places.push_back(place));
    }

    /// Bytes of all messages.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of those messages that lie in a segment.
    pub(crate) fn bytes_in(&self, segment: u64) -> u64 {
        let start = self.places.partition_point(|place| place.segment < segment);
        let here = self.places.from(start).take_while(|place| place.segment == segment);
        here.map(|place| u64::from(place.bytes)).sum()
    }

    /// How many batches have messages of this topic.
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(first: u64, segment: u64, block: u32) -> Place {
        Place { first, newest_ms: first, segment, block, blocks: 1, bytes: 10 }
    }

    #[test]
    fn messages_of_one_batch_share_an_entry() {
        let mut index = Index::default();
        assert_eq!((index.first(), index.find(1)), (None, None));
        for (first, segment, block) in [(5, 1, 1), (6, 1, 1), (7, 1, 2), (8, 2, 1), (9, 2, 1)] {
            index.add(place(first, segment, block));
        }
        assert_eq!((index.len(), index.bytes(), index.first()), (3, 50, Some(5)));
        let found = |offset| index.find(offset).map(|place| (place.segment, place.block));
        assert_eq!(
            [4, 5, 6, 7, 8, 9].map(found),
            [None, Some((1, 1)), Some((1, 1)), Some((1, 2)), Some((2, 1)), Some((2, 1))]
        );
    }

    #[test]
    fn it_begins_where_it_is_told_to_also_within_a_batch() {
        let mut index = Index::default();
        for (first, segment, block) in [(5, 1, 1), (6, 2, 1), (7, 2, 1), (8, 2, 1), (9, 3, 1)] {
            index.add(place(first, segment, block));
        }
        let firsts = |gone: Vec<Place>| gone.iter().map(|place| place.first).collect::<Vec<_>>();
        assert_eq!((firsts(index.begin_at(4)), index.first()), (vec![], Some(5)));
        assert_eq!((firsts(index.begin_at(7)), index.first(), index.bytes()), (vec![5], Some(7), 40));
        assert_eq!(index.find(6), None);
        assert_eq!(index.find(8).map(|place| (place.segment, place.first)), Some((2, 7)));
        assert_eq!((firsts(index.begin_at(9)), index.first(), index.bytes()), (vec![7], Some(9), 10));
    }

    #[test]
    fn the_oldest_goes_first() {
        let mut index = Index::default();
        for (first, segment, block) in [(5, 1, 1), (6, 2, 1), (7, 2, 2), (8, 3, 1)] {
            index.add(place(first, segment, block));
        }
        assert_eq!(index.drop_oldest().map(|place| place.first), Some(5));
        assert_eq!((index.first(), index.bytes()), (Some(6), 30));
        index.relocate(2, vec![Place { bytes: 20, ..place(6, 2, 1) }]);
        assert_eq!(index.find(7).map(|place| (place.first, place.block)), Some((6, 1)));
        index.relocate(2, vec![place(3, 2, 1), place(4, 2, 2), place(5, 2, 3)]);
        assert_eq!((index.len(), index.first()), (2, Some(6)), "what was trimmed meanwhile stays so");
        index.relocate(2, vec![place(3, 2, 1)]);
        index.relocate(3, Vec::new());
        assert_eq!(index.first(), Some(6));
        assert_eq!((index.clear().count(), index.len()), (1, 0));
        assert_eq!((index.first(), index.bytes()), (None, 0));
    }
}
