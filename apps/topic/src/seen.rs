//! What was published under which device's counter, for as long as the topic holds it: the ground of exactly-once.

use std::collections::{HashMap, VecDeque};

use ahash::RandomState;

use crate::name::Name;

/// All publications of a topic that had a counter.
#[derive(Debug)]
pub(crate) struct Seen {
    devices: HashMap<(u32, u32), Device, RandomState>,
    entries: usize,
}

#[derive(Debug)]
struct Device {
    /// Holding the names keeps their numbers.
    _names: (Name, Name),
    /// Counters and offsets, by counter. Counters rise, so that nearly all are added at the end.
    list: VecDeque<(u64, u64)>,
}

/// Entries more than twice those that are held before the others go.
const SLACK: usize = 64;

impl Seen {
    pub(crate) fn new(hasher: RandomState) -> Self {
        Self { devices: HashMap::with_hasher(hasher), entries: 0 }
    }

    /// The offset of this publication, if it was added and not swept out.
    pub(crate) fn find(&self, user: &Name, device: &Name, seq: u64) -> Option<u64> {
        let list = &self.devices.get(&(user.id, device.id))?.list;
        // Counters rise: nearly always this one is new.
        list.back().filter(|(last, _)| seq <= *last)?;
        let place = list.binary_search_by_key(&seq, |(seq, _)| *seq).ok()?;
        list.get(place).map(|(_, offset)| *offset)
    }

    /// A publication got its offset. All before `first` are held no more.
    pub(crate) fn add(&mut self, user: &Name, device: &Name, seq: u64, offset: u64, first: u64) {
        let held = usize::try_from(offset + 1 - first.min(offset)).unwrap_or(usize::MAX);
        if self.entries > held.saturating_mul(2).saturating_add(SLACK) {
            self.sweep(first);
        }
        let names = || Device { _names: (user.clone(), device.clone()), list: VecDeque::new() };
        let list = &mut self.devices.entry((user.id, device.id)).or_insert_with(names).list;
        let before = list.len();
        match list.back() {
            Some((last, _)) if *last >= seq => match list.binary_search_by_key(&seq, |(seq, _)| *seq) {
                Ok(place) => list[place].1 = offset,
                Err(place) => list.insert(place, (seq, offset)),
            },
            _ => list.push_back((seq, offset)),
        }
        self.entries += list.len() - before;
    }

    /// This publication has no offset after all.
    pub(crate) fn remove(&mut self, user: &Name, device: &Name, seq: u64) {
        let Some(Device { list, .. }) = self.devices.get_mut(&(user.id, device.id)) else { return };
        if let Ok(place) = list.binary_search_by_key(&seq, |(seq, _)| *seq) {
            list.remove(place);
            self.entries -= 1;
        }
        if list.is_empty() {
            self.devices.remove(&(user.id, device.id));
        }
    }

    fn sweep(&mut self, first: u64) {
        self.devices.retain(|_, device| {
            device.list.retain(|(_, offset)| *offset >= first);
            !device.list.is_empty()
        });
        self.entries = self.devices.values().map(|device| device.list.len()).sum();
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;
    use crate::name::Names;

    #[test]
    fn it_knows_what_is_held_whatever_the_order_of_counters() {
        for seed in 0..50 {
            println!("seed {seed}");
            let mut rng = StdRng::seed_from_u64(seed);
            let hasher = RandomState::with_seeds(1, 2, 3, 4);
            let mut names = Names::new(hasher.clone());
            let (mut seen, mut model) = (Seen::new(hasher), HashMap::new());
            let mut first = 1;
            for offset in 1..2_000_u64 {
                let (user, device) = (names.intern(["a", "b"][rng.random_range(0..2)]), names.intern("phone"));
                let seq = offset.saturating_sub(rng.random_range(0..20));
                if model.contains_key(&(user.id, seq)) {
                    continue;
                }
                first = first.max(offset.saturating_sub(rng.random_range(50..300)));
                seen.add(&user, &device, seq, offset, first);
                model.insert((user.id, seq), offset);
                if rng.random_ratio(1, 10) {
                    seen.remove(&user, &device, seq);
                    model.remove(&(user.id, seq));
                }
                assert!(seen.len() <= 300 * 2 + SLACK + 1, "{}", seen.len());
            }
            for ((user, seq), offset) in model {
                let name = Name { id: user, text: "".into() };
                let found = seen.find(&name, &names.intern("phone"), seq);
                assert!(found == Some(offset) || (found.is_none() && offset < first), "{seq}: {found:?}");
            }
        }
    }
}
