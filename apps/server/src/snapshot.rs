//! Topics from one run to the next, through a file in the data directory that is used once: a crash after it was read must
//! not bring an old history back, with offsets that were given out twice.

use std::{
    fs::File,
    io::{self, ErrorKind, Read},
    sync::Arc,
};

use engine::ShardId;
use topic::snapshot::{self, HEAD_BYTES, Restored, Share, Snapshot, SnapshotError};

use crate::data::{Data, DataError};

/// The file.
pub const NAME: &str = "topics.snapshot";

/// Where a file goes that cannot be used, for whoever wants to know why.
pub const DAMAGED: &str = "topics.snapshot.damaged";

/// Bytes of a file that is read: 64 shards that are full of history. It is held in memory until all shards have theirs.
const BYTES_MAX: u64 = 16 << 30;

/// Reads the topics of the run before. A damaged file is set aside: the server starts without it, as after a crash.
///
/// # Errors
/// The file is there but cannot be read, or not be set aside.
pub fn read(data: &Data) -> Result<Option<Snapshot>, DataError> {
    let path = data.path().join(NAME);
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(data, "open", error)),
    };
    match load(&mut file).map_err(|error| failed(data, "read", error))? {
        Ok(snapshot) => Ok(Some(snapshot)),
        Err(reason) => {
            data.discard(NAME, Some(DAMAGED))?;
            tracing::error!(%reason, file = DAMAGED, "the topics of the last run cannot be used and were set aside");
            Ok(None)
        }
    }
}

/// Removes the file: before anything is served, and for good.
///
/// # Errors
/// It cannot be removed.
pub fn use_up(data: &Data) -> Result<(), DataError> {
    data.discard(NAME, None)
}

/// Puts a file back that was used up for nothing.
///
/// # Errors
/// It cannot be written.
pub fn put_back(data: &Data, snapshot: &Snapshot) -> Result<(), DataError> {
    data.put(NAME, snapshot.bytes())
}

/// Says what became of the topics on a shard.
pub(crate) fn tell(shard: ShardId, restored: Restored) {
    let Restored { topics, records, topics_dropped, records_dropped, facts, facts_dropped } = restored;
    tracing::info!(%shard, topics, records, facts, "took up the topics of the last run");
    if topics_dropped > 0 || records_dropped > 0 {
        let why = "topics of the last run found no room, or the journal has other histories of them";
        tracing::warn!(%shard, topics_dropped, records_dropped, "{why}");
    }
    if facts_dropped > 0 {
        tracing::warn!(%shard, facts_dropped, "groups and contacts of the last run found no room");
    }
}

/// Gathers the topics of all shards, and writes them when the last one has handed over its own.
#[derive(Debug)]
pub struct Keeper {
    data: Arc<Data>,
    shards: u16,
    shares: Vec<Share>,
    outcome: Option<Result<(), DataError>>,
}

impl Keeper {
    /// For so many shards.
    #[must_use]
    pub fn new(data: Arc<Data>, shards: u16) -> Self {
        Self { data, shards, shares: Vec::new(), outcome: None }
    }

    /// A shard has handed over its topics.
    pub fn take(&mut self, share: Share) {
        self.shares.push(share);
        if self.shares.len() == usize::from(self.shards) {
            self.write();
        }
    }

    /// Writes what there is, if that was not done yet.
    ///
    /// # Errors
    /// It could not be written, now or before.
    pub fn finish(mut self) -> Result<(), DataError> {
        if self.outcome.is_none() && !self.shares.is_empty() {
            tracing::warn!(shards = self.shares.len(), of = self.shards, "not all shards handed over their topics");
            self.write();
        }
        self.outcome.unwrap_or(Ok(()))
    }

    fn write(&mut self) {
        let (head, topics) = (snapshot::head(&self.shares), self.shares.iter().map(Share::topics).sum::<u32>());
        let bytes: usize = self.shares.iter().map(|share| share.bytes().len()).sum();
        let parts: Vec<&[u8]> = std::iter::once(&head[..]).chain(self.shares.iter().map(Share::bytes)).collect();
        let is_empty = self.shares.iter().all(Share::is_empty);
        let outcome = if !is_empty { self.data.put_parts(NAME, &parts) } else { Ok(()) };
        match &outcome {
            Ok(()) => tracing::info!(topics, bytes, "kept the topics for the next run"),
            Err(error) => tracing::error!(%error, topics, "the topics are not kept for the next run"),
        }
        self.outcome = Some(outcome);
        self.shares.iter_mut().for_each(|share| *share = Share::default());
    }
}

/// The file's snapshot, or what is wrong with it. Nothing is believed before it is checked.
fn load(file: &mut File) -> io::Result<Result<Snapshot, SnapshotError>> {
    let found = file.metadata()?.len();
    let mut bytes = Vec::new();
    file.take(HEAD_BYTES as u64).read_to_end(&mut bytes)?;
    let said = match Snapshot::length(&bytes) {
        Ok(said) => said,
        Err(reason) => return Ok(Err(reason)),
    };
    if said != found || said > BYTES_MAX {
        return Ok(Err(SnapshotError::Length { said, found }));
    }
    let rest = usize::try_from(said).map_err(io::Error::other)?.saturating_sub(bytes.len());
    bytes.try_reserve_exact(rest)?;
    file.take(rest as u64).read_to_end(&mut bytes)?;
    Ok(Snapshot::read(bytes))
}

fn failed(data: &Data, what: &'static str, source: io::Error) -> DataError {
    DataError::Io { path: data.path().to_owned(), what, name: NAME.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn data() -> (tempfile::TempDir, Arc<Data>) {
        let folder = tempfile::tempdir().expect("a folder");
        let data = Data::open(&folder.path().join("data")).expect("opened");
        (folder, Arc::new(data))
    }

    #[test]
    fn nothing_to_keep_leaves_no_file() {
        let (_folder, data) = data();
        let mut keeper = Keeper::new(Arc::clone(&data), 2);
        keeper.take(Share::default());
        keeper.take(Share::default());
        keeper.finish().expect("nothing failed");
        assert!(!data.path().join(NAME).exists());
        assert!(read(&data).expect("read").is_none());
    }

    #[test]
    fn a_damaged_file_is_set_aside_and_a_good_one_is_used_once() {
        let (_folder, data) = data();
        let empty = snapshot::head(&[]);
        for bad in [&b"nonsense"[..], &[7; 4096], &empty[..27], &[&empty[..], b"more"].concat()] {
            fs::write(data.path().join(NAME), bad).expect("written");
            assert!(read(&data).expect("read").is_none());
            assert!(!data.path().join(NAME).exists());
            assert_eq!(fs::read(data.path().join(DAMAGED)).expect("there"), bad);
        }
        fs::write(data.path().join(NAME), empty).expect("written");
        let snapshot = read(&data).expect("read").expect("whole");
        use_up(&data).expect("removed");
        assert!(read(&data).expect("read").is_none());
        put_back(&data, &snapshot).expect("written");
        assert_eq!(fs::read(data.path().join(NAME)).expect("there"), empty);
    }

    #[test]
    fn what_cannot_be_read_stops_the_start() {
        let (_folder, data) = data();
        fs::create_dir(data.path().join(NAME)).expect("made");
        let text = read(&data).expect_err("a folder").to_string();
        assert!(text.contains("cannot read topics.snapshot"), "{text}");
    }
}
