//! Sets of numbers as ranges: what was received, what was acknowledged, what is lost.

use std::ops::{Range, RangeInclusive};

use smallvec::SmallVec;

/// Ranges whose memory is not worth giving back.
const KEPT: usize = 4;

/// A set of `u64`, kept as ascending disjoint half-open ranges that do not touch.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct RangeSet {
    // Sorted. Changes happen almost always at the end, where a vector is cheapest. One range, which most sets never
    // exceed, takes no more than the vector itself would.
    ranges: SmallVec<[Range<u64>; 1]>,
}

impl RangeSet {
    /// The empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self { ranges: SmallVec::new_const() }
    }

    /// Adds a range; whether any number in it is new.
    pub fn insert(&mut self, range: Range<u64>) -> bool {
        if range.is_empty() {
            return false;
        }
        // The common case: behind everything, or the continuation of the last range.
        match self.ranges.last_mut() {
            Some(last) if last.end == range.start => {
                last.end = range.end;
                return true;
            }
            Some(last) if last.end > range.start => {}
            _ => {
                self.ranges.push(range);
                return true;
            }
        }
        let first = self.ranges.partition_point(|r| r.end < range.start);
        let last = self.ranges.partition_point(|r| r.start <= range.end);
        if first == last {
            self.ranges.insert(first, range);
            return true;
        }
        let (start, end) = (self.ranges[first].start.min(range.start), self.ranges[last - 1].end.max(range.end));
        let covered =
            last - first == 1 && self.ranges[first].start <= range.start && range.end <= self.ranges[first].end;
        self.ranges[first] = start..end;
        self.ranges.drain(first + 1..last);
        !covered
    }

    /// Adds one number; whether it is new.
    pub fn insert_one(&mut self, number: u64) -> bool {
        self.insert(number..number + 1)
    }

    /// Adds what of a range is not in another set.
    pub fn insert_except(&mut self, range: Range<u64>, other: &RangeSet) {
        let mut start = range.start;
        for held in other.overlapping(range.clone()) {
            self.insert(start..held.start.max(start));
            start = held.end;
        }
        self.insert(start..range.end.max(start));
    }

    /// Removes a range; whether any number in it was there.
    pub fn remove(&mut self, range: Range<u64>) -> bool {
        if range.is_empty() {
            return false;
        }
        let first = self.ranges.partition_point(|r| r.end <= range.start);
        let last = self.ranges.partition_point(|r| r.start < range.end);
        if first >= last {
            return false;
        }
        let left = self.ranges[first].start..range.start;
        let right = range.end..self.ranges[last - 1].end;
        match (left.is_empty(), right.is_empty()) {
            (true, true) => drop(self.ranges.drain(first..last)),
            (false, true) => {
                self.ranges[first] = left;
                self.ranges.drain(first + 1..last);
            }
            (true, false) => {
                self.ranges[last - 1] = right;
                self.ranges.drain(first..last - 1);
            }
            (false, false) if last - first == 1 => {
                self.ranges[first] = left;
                self.ranges.insert(first + 1, right);
            }
            (false, false) => {
                self.ranges[first] = left;
                self.ranges[last - 1] = right;
                self.ranges.drain(first + 1..last - 1);
            }
        }
        true
    }

    /// Whether a number is in the set.
    #[must_use]
    pub fn contains(&self, number: u64) -> bool {
        let at = self.ranges.partition_point(|r| r.end <= number);
        self.ranges.get(at).is_some_and(|r| r.start <= number)
    }

    /// The ranges in ascending order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Range<u64>> + ExactSizeIterator + '_ {
        self.ranges.iter().cloned()
    }

    /// The ranges that share a number with `range`, in ascending order.
    pub fn overlapping(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let first = self.ranges.partition_point(|r| r.end <= range.start);
        self.ranges[first..].iter().take_while(move |r| r.start < range.end).cloned()
    }

    /// How many ranges.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The smallest number.
    #[must_use]
    pub fn min(&self) -> Option<u64> {
        self.ranges.first().map(|r| r.start)
    }

    /// The largest number.
    #[must_use]
    pub fn max(&self) -> Option<u64> {
        self.ranges.last().map(|r| r.end - 1)
    }

    /// The first range.
    #[must_use]
    pub fn first(&self) -> Option<Range<u64>> {
        self.ranges.first().cloned()
    }

    /// Takes the first range out.
    pub fn pop_first(&mut self) -> Option<Range<u64>> {
        (!self.ranges.is_empty()).then(|| self.ranges.remove(0))
    }

    /// Removes all numbers below `floor`.
    pub fn remove_below(&mut self, floor: u64) {
        self.remove(0..floor);
    }

    /// Gives back the memory of ranges that are gone.
    pub fn shrink(&mut self) {
        if self.ranges.capacity() > KEPT && self.ranges.len() <= KEPT {
            self.ranges.shrink_to_fit();
        }
    }

    /// Empties the set and keeps its memory.
    pub fn clear(&mut self) {
        self.ranges.clear();
    }
}

impl Extend<RangeInclusive<u64>> for RangeSet {
    fn extend<T: IntoIterator<Item = RangeInclusive<u64>>>(&mut self, ranges: T) {
        for range in ranges {
            self.insert(*range.start()..*range.end() + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// Numbers below this, so that ranges meet often.
    const END: u64 = 60;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Insert(u64, u64),
        InsertOne(u64),
        Remove(u64, u64),
        RemoveBelow(u64),
        PopFirst,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0..END, 0..12u64).prop_map(|(start, len)| Step::Insert(start, len)),
            4 => (0..END).prop_map(Step::InsertOne),
            3 => (0..END, 0..12u64).prop_map(|(start, len)| Step::Remove(start, len)),
            1 => (0..END / 4).prop_map(Step::RemoveBelow),
            1 => Just(Step::PopFirst),
        ]
    }

    fn apply(step: Step, set: &mut RangeSet, model: &mut BTreeSet<u64>) {
        let before = model.clone();
        let changed = match step {
            Step::Insert(start, len) => {
                model.extend(start..start + len);
                set.insert(start..start + len)
            }
            Step::InsertOne(number) => {
                model.insert(number);
                set.insert_one(number)
            }
            Step::Remove(start, len) => {
                model.retain(|number| !(start..start + len).contains(number));
                set.remove(start..start + len)
            }
            Step::RemoveBelow(floor) => {
                model.retain(|number| *number >= floor);
                set.remove_below(floor);
                before != *model
            }
            Step::PopFirst => {
                let first = set.pop_first();
                first.clone().into_iter().flatten().for_each(|number| assert!(model.remove(&number), "{number}"));
                first.is_some()
            }
        };
        assert_eq!(changed, before != *model, "{step:?} of {before:?}");
    }

    fn check(set: &RangeSet, model: &BTreeSet<u64>) {
        assert!(set.iter().flatten().eq(model.iter().copied()), "{set:?} is not {model:?}");
        let ranges: Vec<_> = set.iter().collect();
        assert!(ranges.iter().all(|range| range.start < range.end));
        assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start), "{set:?} touches itself");
        assert_eq!((set.min(), set.max()), (model.first().copied(), model.last().copied()));
        assert_eq!((set.len(), set.is_empty()), (ranges.len(), model.is_empty()));
        assert_eq!(set.first(), ranges.first().cloned());
        assert!((0..END + 20).all(|number| set.contains(number) == model.contains(&number)));
    }

    proptest! {
        #[test]
        fn a_range_set_is_a_set(steps in vec(step(), 1..80)) {
            let (mut set, mut model) = (RangeSet::new(), BTreeSet::new());
            for step in steps {
                apply(step, &mut set, &mut model);
                check(&set, &model);
            }
            set.clear();
            check(&set, &BTreeSet::new());
        }
    }
}
