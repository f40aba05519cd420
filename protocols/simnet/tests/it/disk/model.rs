//! Random operations and power losses, against a model that knows only what was promised.

use std::collections::BTreeSet;

use rand::{Rng, SeedableRng, rngs::StdRng};
use simnet::{CrashPlan, Disk, DiskConfig, FileId};

const SECTOR: usize = 512;
const NAMES: [&str; 3] = ["a", "b", "c"];

/// What one file must hold.
#[derive(Default)]
struct Model {
    synced: Vec<u8>,
    bytes: Vec<u8>,
    /// Sectors written or cut since the last sync.
    touched: BTreeSet<usize>,
    shortest: usize,
}

impl Model {
    fn set_len(&mut self, len: usize) {
        if len < self.bytes.len() {
            self.touch(len, self.bytes.len());
            self.shortest = self.shortest.min(len);
        }
        self.bytes.resize(len, 0);
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        self.touch(offset, end);
        self.bytes.resize(end.max(self.bytes.len()), 0);
        self.bytes[offset..end].copy_from_slice(bytes);
    }

    fn touch(&mut self, start: usize, end: usize) {
        self.touched.extend(start / SECTOR..end.div_ceil(SECTOR));
    }

    fn sync(&mut self) {
        self.synced.clone_from(&self.bytes);
        self.touched.clear();
        self.shortest = self.bytes.len();
    }

    /// Whether this may be found after a power loss without garbage, or with.
    fn check(&self, found: &[u8], garbage: bool, seed: u64) {
        let lens = self.shortest.min(self.synced.len())..=self.bytes.len().max(self.synced.len());
        assert!(lens.contains(&found.len()), "seed {seed}: {} of {lens:?}", found.len());
        for (number, sector) in found.chunks(SECTOR).enumerate() {
            let start = number * SECTOR;
            let at = |bytes: &[u8], index: usize| bytes.get(index).copied();
            let old: Vec<u8> = (start..start + sector.len()).map(|i| at(&self.synced, i).unwrap_or(0)).collect();
            let new = (start..start + sector.len()).map(|i| at(&self.bytes, i).unwrap_or(old[i - start]));
            let new: Vec<u8> = new.collect();
            let safe = start < self.synced.len() && !self.touched.contains(&number);
            if safe {
                assert_eq!(sector, old, "seed {seed}: synced sector {number}");
            } else if !garbage {
                assert!(sector == old || sector == new, "seed {seed}: sector {number} is neither old nor new");
            }
        }
    }
}

struct Run {
    seed: u64,
    rng: StdRng,
    disk: Disk,
    files: Vec<(FileId, Model)>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut disk = Disk::new(seed, DiskConfig::default());
        let files = NAMES.iter().map(|name| (disk.open(name, true).unwrap().0, Model::default())).collect();
        disk.sync_dir("").unwrap();
        Self { seed, rng: StdRng::seed_from_u64(!seed), disk, files }
    }

    fn step(&mut self) {
        let (file, model) = &mut self.files[self.rng.random_range(0..NAMES.len())];
        match self.rng.random_range(0..10) {
            0..=5 => {
                let offset = self.rng.random_range(0..=model.bytes.len() + 700);
                let bytes = vec![self.rng.random(); self.rng.random_range(1..2_000)];
                self.disk.write(*file, offset as u64, &bytes).unwrap();
                model.write(offset, &bytes);
            }
            6..=7 => {
                self.disk.sync(*file).unwrap();
                model.sync();
            }
            8 => {
                let len = self.rng.random_range(0..6_000);
                self.disk.allocate(*file, len as u64).unwrap();
                model.set_len(len.max(model.bytes.len()));
            }
            _ => {
                let len = self.rng.random_range(0..=model.bytes.len());
                self.disk.truncate(*file, len as u64).unwrap();
                model.set_len(len);
            }
        }
    }

    fn crash(&mut self, plan: CrashPlan) {
        for (name, (_, model)) in NAMES.iter().zip(&self.files) {
            assert_eq!(self.disk.bytes(name).unwrap(), model.bytes, "seed {}", self.seed);
        }
        assert!(self.disk.crash(plan).is_empty());
        for (name, (file, model)) in NAMES.iter().zip(&mut self.files) {
            let found = self.disk.bytes(name).expect("its name was synced").to_vec();
            model.check(&found, plan.garbage > 0.0, self.seed);
            if plan.keep == 0.0 && plan.garbage == 0.0 {
                assert_eq!(found, model.synced, "seed {}", self.seed);
            }
            model.bytes = found;
            model.sync();
            *file = self.disk.open(name, false).unwrap().0;
        }
    }
}

/// Five crashes of a seed, and what is there in the end.
fn run(seed: u64) -> Vec<(String, Vec<u8>)> {
    let mut run = Run::new(seed);
    for _ in 0..5 {
        for _ in 0..run.rng.random_range(1..40) {
            run.step();
        }
        let (keep, garbage) = [(0.0, 0.0), (0.5, 0.0), (1.0, 0.0), (0.5, 0.2)][run.rng.random_range(0..4)];
        run.crash(CrashPlan { keep, garbage, flip_synced_bits: 0 });
    }
    run.disk.files().map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).collect()
}

#[test]
fn a_thousand_power_losses_take_only_what_was_not_synced() {
    for seed in 0..200 {
        run(seed);
    }
}

#[test]
fn the_same_seed_and_calls_leave_the_same_bytes() {
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed), "seed {seed}");
    }
    assert_ne!(run(1), run(2));
}
