//! What one file holds, and what of it a power loss may take: all that changed since the last sync.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    ops::Range,
};

use crate::{chance::Chance, disk::CrashPlan};

/// A file. What readers see is in `bytes`; what the disk holds for sure is the same without the changes.
///
/// Only sectors below `synced_len` have an old content that must be kept. Those behind it hold nothing for sure, so
/// that an append costs no memory besides its bytes.
#[derive(Clone, Debug)]
pub(super) struct File {
    sector: usize,
    bytes: Vec<u8>,
    synced_len: usize,
    /// The shortest length since the last sync, the one of the sync included.
    shortest: usize,
    changed: BTreeMap<usize, Changed>,
}

/// A sector that was changed since the last sync.
#[derive(Clone, Debug)]
struct Changed {
    /// What the disk holds for sure; zeros follow.
    old: Vec<u8>,
    /// A sync has failed on it. The kernel takes it for clean from then on, so that no later sync writes it.
    given_up: bool,
}

impl File {
    pub(super) fn new(sector: usize) -> Self {
        Self { sector, bytes: Vec::new(), synced_len: 0, shortest: 0, changed: BTreeMap::new() }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn read(&self, offset: usize, len: usize) -> &[u8] {
        let start = offset.min(self.bytes.len());
        &self.bytes[start..offset.saturating_add(len).min(self.bytes.len())]
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let range = offset..offset + bytes.len();
        self.change(range.clone());
        if range.end > self.bytes.len() {
            self.bytes.resize(range.end, 0);
        }
        self.bytes[range].copy_from_slice(bytes);
    }

    /// Makes the file shorter, or longer by zeros. The sector of a new end is rewritten, as file systems fill its rest
    /// with zeros.
    pub(super) fn set_len(&mut self, len: usize) {
        if len < self.bytes.len() {
            self.change(len..self.bytes.len());
            self.shortest = self.shortest.min(len);
        }
        self.bytes.resize(len, 0);
    }

    pub(super) fn is_synced(&self) -> bool {
        self.changed.is_empty() && self.shortest == self.bytes.len() && self.synced_len == self.bytes.len()
    }

    pub(super) fn sync(&mut self) {
        let (sector, len) = (self.sector, self.bytes.len());
        self.changed.retain(|number, changed| changed.given_up && number * sector < len);
        (self.synced_len, self.shortest) = (len, len);
    }

    /// A sync fails: what has changed may or may not be on the disk, and only writing it again helps.
    pub(super) fn give_up(&mut self) {
        for number in self.synced_len.div_ceil(self.sector)..self.bytes.len().div_ceil(self.sector) {
            self.changed.entry(number).or_insert(Changed { old: Vec::new(), given_up: true });
        }
        for changed in self.changed.values_mut() {
            changed.given_up = true;
        }
    }

    /// A bit rots, in what readers see and in what is on the disk.
    pub(super) fn flip(&mut self, offset: usize, bit: u8) {
        self.bytes[offset] ^= 1 << bit;
        let changed = self.changed.get_mut(&(offset / self.sector));
        if let Some(old) = changed.and_then(|changed| changed.old.get_mut(offset % self.sector)) {
            *old ^= 1 << bit;
        }
    }

    /// Power loss. What is left is on the disk for sure; gives the bits of synced bytes that flipped.
    pub(super) fn crash(&mut self, chance: &mut Chance, plan: CrashPlan, flips: u32) -> Vec<(u64, u8)> {
        let intact = if flips > 0 { self.intact() } else { Vec::new() };
        let intact_end = self.synced_len;
        if !self.is_synced() {
            self.forget(chance, plan);
        }
        self.rot(chance, &intact, intact_end.min(self.bytes.len()), flips)
    }

    /// Before sectors change: keeps what the disk holds of them.
    fn change(&mut self, range: Range<usize>) {
        for number in range.start / self.sector..range.end.div_ceil(self.sector) {
            let start = number * self.sector;
            if let Some(changed) = self.changed.get_mut(&number) {
                changed.given_up = false;
            } else if start < self.synced_len {
                // Whole: what a shorter length cut off was kept when it was cut off.
                let old = self.bytes[start..self.synced_len.min(start + self.sector)].to_vec();
                self.changed.insert(number, Changed { old, given_up: false });
            }
        }
    }

    /// Decides for each sector that is not on the disk for sure, alone, what is found there.
    fn forget(&mut self, chance: &mut Chance, plan: CrashPlan) {
        let written_len = self.bytes.len();
        let len = self.surviving_len(chance, plan);
        let first_new = self.synced_len.div_ceil(self.sector);
        self.bytes.resize(len, 0);
        let mut changed = mem::take(&mut self.changed);
        for (number, Changed { old, .. }) in &mut changed {
            let range = (number * self.sector).min(len)..((number + 1) * self.sector).min(len);
            old.resize(range.len(), 0);
            // A length that was cut in vain uncovers what was there.
            let cut = written_len.clamp(range.start, range.end) - range.start;
            let place = &mut self.bytes[range];
            place[cut..].copy_from_slice(&old[cut..]);
            settle(place, old, chance, plan);
        }
        let zeros = vec![0; self.sector];
        for number in (first_new..len.div_ceil(self.sector)).filter(|number| !changed.contains_key(number)) {
            let place = &mut self.bytes[number * self.sector..((number + 1) * self.sector).min(len)];
            settle(place, &zeros[..place.len()], chance, plan);
        }
        (self.synced_len, self.shortest) = (len, len);
    }

    /// The synced length, the last one, or any that a file system may have been at between.
    fn surviving_len(&self, chance: &mut Chance, plan: CrashPlan) -> usize {
        let len = self.bytes.len();
        if (self.shortest == len && self.synced_len == len) || !chance.happens(plan.keep) {
            self.synced_len
        } else if chance.happens(plan.keep) {
            len
        } else {
            self.shortest + chance.count(len - self.shortest + 1) - 1
        }
    }

    /// Which sectors no power loss can touch; only the last one may be short.
    fn intact(&self) -> Vec<usize> {
        let synced = 0..self.synced_len.div_ceil(self.sector);
        synced.filter(|number| !self.changed.contains_key(number)).collect()
    }

    fn rot(&mut self, chance: &mut Chance, intact: &[usize], end: usize, flips: u32) -> Vec<(u64, u8)> {
        let whole = intact.partition_point(|number| (number + 1) * self.sector <= end);
        let rest = intact.get(whole).map_or(0, |number| end.saturating_sub(number * self.sector));
        let bits = (whole * self.sector + rest) * 8;
        let mut flipped = BTreeSet::new();
        while flipped.len() < bits.min(flips as usize) {
            let bit = chance.count(bits) - 1;
            let (index, within) = (bit / 8 / self.sector, bit / 8 % self.sector);
            let offset = intact[index] * self.sector + within;
            let bit = (bit % 8) as u8;
            if flipped.insert((offset as u64, bit)) {
                self.bytes[offset] ^= 1 << bit;
            }
        }
        flipped.into_iter().collect()
    }
}

/// What is found in a sector after a power loss: the `new` that is there, the old, or garbage.
fn settle(new: &mut [u8], old: &[u8], chance: &mut Chance, plan: CrashPlan) {
    if chance.happens(plan.garbage) {
        spoil(new, old, chance);
    } else if !chance.happens(plan.keep) {
        new.copy_from_slice(old);
    }
}

/// A sector that the power left in the middle of: torn at one place, mixed byte by byte, or noise.
fn spoil(new: &mut [u8], old: &[u8], chance: &mut Chance) {
    if new.is_empty() {
        return;
    }
    match chance.count(3) {
        1 => {
            let torn = chance.count(new.len());
            new[torn..].copy_from_slice(&old[torn..]);
        }
        2 => {
            let mut dice = vec![0; new.len()];
            chance.fill(&mut dice);
            for ((new, old), _) in new.iter_mut().zip(old).zip(dice).filter(|(_, die)| die % 2 == 0) {
                *new = *old;
            }
        }
        _ => chance.fill(new),
    }
}
