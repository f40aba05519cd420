//! The disk of a simulated shard: operations take time, and what was not synced when the power goes may be anything.

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    time::{Duration, Instant},
};

use engine::{DiskOperation, FileId, Outcome, Ticket};
use rand::{Rng, SeedableRng, rngs::StdRng};
use simnet::{CrashPlan, Disk, DiskConfig, DiskError, DiskKind, Latency};
use topic::journal::{Segments, name_of, number_of};

/// A disk, and what is under way on it.
pub(crate) struct Platter {
    disk: Disk,
    rng: StdRng,
    /// What ends when, in the order asked for at one instant.
    due: BTreeMap<(Instant, u64), (Ticket, Pending)>,
    count: u64,
    full_until: Option<Instant>,
}

enum Pending {
    Over(Outcome),
    /// What was written before is on disk when this ends.
    Sync(simnet::FileId),
}

/// Room for everything that a world writes.
const ROOM: u64 = 1 << 30;

impl Platter {
    pub(crate) fn new(rng: &mut StdRng) -> Self {
        let slow = if rng.random_bool(0.2) { 20_000 } else { 800 };
        let latency = |most| Latency { min: Duration::from_micros(20), max: Duration::from_micros(most) };
        let config = DiskConfig {
            read_latency: latency(slow / 4 + 21),
            write_latency: latency(slow),
            sync_latency: latency(slow),
            capacity_bytes: ROOM,
            ..DiskConfig::default()
        };
        let rng = StdRng::seed_from_u64(rng.random());
        Self { disk: Disk::new(rng.clone().random(), config), rng, due: BTreeMap::new(), count: 0, full_until: None }
    }

    /// Starts an operation.
    pub(crate) fn start(&mut self, now: Instant, ticket: Ticket, operation: DiskOperation) {
        let kind = match &operation {
            DiskOperation::Read { .. } => DiskKind::Read,
            DiskOperation::Write { .. } => DiskKind::Write,
            _ => DiskKind::Sync,
        };
        let mut took = self.disk.latency(kind);
        let pending = match self.perform(operation) {
            Ok(Pending::Sync(file)) => {
                took += self.disk.latency(DiskKind::Sync);
                Pending::Sync(file)
            }
            Ok(pending) => pending,
            Err(error) => Pending::Over(failed(error)),
        };
        self.count += 1;
        self.due.insert((now + took, self.count), (ticket, pending));
    }

    fn perform(&mut self, operation: DiskOperation) -> Result<Pending, DiskError> {
        let id = |file: FileId| simnet::FileId(file.0);
        let disk = &mut self.disk;
        let done = Pending::Over(Outcome::Done);
        Ok(match operation {
            DiskOperation::Open { path, create } => {
                let (file, len) = disk.open(&file_name(&path), create)?;
                Pending::Over(Outcome::Opened { file: FileId(file.0), len })
            }
            DiskOperation::Allocate { file, bytes } => disk.allocate(id(file), bytes).map(|()| done)?,
            DiskOperation::Read { file, offset, len } => {
                Pending::Over(Outcome::Read(disk.read(id(file), offset, len)?.into()))
            }
            DiskOperation::Write { file, offset, bytes, sync } => {
                disk.write(id(file), offset, &bytes)?;
                if sync { Pending::Sync(id(file)) } else { done }
            }
            DiskOperation::Sync { file } => Pending::Sync(id(file)),
            DiskOperation::Close { file } => disk.close(id(file)).map(|()| done)?,
            DiskOperation::Rename { from, to } => disk.rename(&file_name(&from), &file_name(&to)).map(|()| done)?,
            DiskOperation::Remove { path } => {
                disk.remove(&file_name(&path))?;
                disk.sync_dir("").map(|()| done)?
            }
        })
    }

    /// When the next operation ends, or there is room again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    /// An operation that has ended.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<(Ticket, Outcome)> {
        if self.full_until.is_some_and(|until| until <= now) {
            self.full_until = None;
            self.disk.set_capacity(ROOM);
        }
        if self.deadline()? > now {
            return None;
        }
        let (_, (ticket, pending)) = self.due.pop_first()?;
        let outcome = match pending {
            Pending::Over(outcome) => outcome,
            Pending::Sync(file) => self.disk.sync(file).map_or_else(failed, |()| Outcome::Done),
        };
        Some((ticket, outcome))
    }

    /// There is no room until then.
    pub(crate) fn fill(&mut self, until: Instant) {
        self.full_until = Some(until);
        self.disk.set_capacity(self.disk.used_bytes());
    }

    /// The power goes, or only the process: what was under way never ends.
    pub(crate) fn crash(&mut self) {
        self.due.clear();
        if self.rng.random_bool(0.3) {
            return self.disk.kill();
        }
        let (keep, garbage) = (self.rng.random_range(0.0..1.0), self.rng.random_range(0.0..0.3));
        self.disk.crash(CrashPlan { keep, garbage, flip_synced_bits: 0 });
    }
}

/// Every shard has a disk of its own, so that the folder does not matter.
fn file_name(path: &Path) -> String {
    path.file_name().expect("a file").to_string_lossy().into_owned()
}

fn failed(error: DiskError) -> Outcome {
    Outcome::Failed(io::Error::from_raw_os_error(error.errno()))
}

fn told(error: DiskError) -> io::Error {
    io::Error::from_raw_os_error(error.errno())
}

impl Segments for Platter {
    fn numbers(&mut self) -> io::Result<Vec<u64>> {
        Ok(self.disk.list().iter().filter_map(|name| number_of(name)).collect())
    }

    fn read(&mut self, number: u64, most: usize) -> io::Result<Vec<u8>> {
        let (file, len) = self.disk.open(&name_of(number), false).map_err(told)?;
        let len = usize::try_from(len).expect("a small file").min(most);
        let bytes = self.disk.read(file, 0, len).map_err(told);
        self.disk.close(file).map_err(told)?;
        bytes
    }

    fn cut(&mut self, number: u64, length: u64) -> io::Result<()> {
        let (file, _) = self.disk.open(&name_of(number), false).map_err(told)?;
        self.disk.truncate(file, length).and_then(|()| self.disk.sync(file)).map_err(told)?;
        self.disk.close(file).map_err(told)
    }
}
