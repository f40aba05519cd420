//! The figures of a shard's journal.

use engine::Counter;
use topic::{JournalSize, Stats, Topics};

use super::{catalogue::Kind, label::Family};

/// A figure: name, help, kind, and where it comes from.
type Figure = (&'static str, &'static str, Kind, fn(&JournalSize, &Stats) -> u64);

/// Every figure.
pub(super) const FIGURES: [Figure; 18] = [
    ("stuck", "Whether the journal takes nothing: the disk is full, read-only or has failed.", Kind::Gauge, |j, _| {
        u64::from(j.trouble.is_some())
    }),
    ("segments", "Files of the journal.", Kind::Gauge, |j, _| j.segments as u64),
    ("bytes", "Bytes of them that count.", Kind::Gauge, |j, _| j.bytes),
    ("live_bytes", "Bytes of records in them that are still needed.", Kind::Gauge, |j, _| j.live_bytes),
    ("waiting_bytes", "Bytes of records that wait for the disk.", Kind::Gauge, |j, _| j.waiting_bytes as u64),
    ("facts", "Facts about conversations and users.", Kind::Gauge, |j, _| j.facts as u64),
    ("readers", "Readers that wait for history from the disk.", Kind::Gauge, |j, _| j.readers as u64),
    ("commits_total", "Batches that were committed.", Kind::Counter, |j, _| j.commits),
    ("written_bytes_total", "Bytes written for them.", Kind::Counter, |j, _| j.bytes_written),
    ("troubles_total", "Times that the disk did not take something.", Kind::Counter, |j, _| j.troubles),
    ("gathered_total", "Answers gathered from the disk.", Kind::Counter, |_, s| s.gathered),
    ("unreadable_total", "Batches that could not be read when they were needed.", Kind::Counter, |_, s| s.unreadable),
    ("given_up_total", "Times that a reader went on without a batch.", Kind::Counter, |_, s| s.given_up),
    ("forgotten_total", "Topics without messages that were forgotten.", Kind::Counter, |_, s| s.forgotten),
    ("trimmed_batches_total", "Batches of topics that went by age or bytes.", Kind::Counter, |_, s| s.trimmed_batches),
    ("moved_total", "Messages of an earlier run in memory only that were written to it.", Kind::Counter, |_, s| {
        s.moved
    }),
    ("compacted_total", "Segments that were written anew.", Kind::Counter, |_, s| s.compacted),
    ("marks_lost_total", "Marks that could not be written.", Kind::Counter, |_, s| s.marks_lost),
];

/// What is told of a journal that takes nothing, by number.
const TROUBLES: [&str; 4] =
    ["the disk is full", "the disk is read-only", "no file can be made for now", "the disk has failed"];

/// What the journal of one shard has counted.
#[derive(Debug, Default)]
pub struct JournalStats {
    pub(super) figures: Family<{ FIGURES.len() }>,
    /// Which trouble, from 1; 0: none.
    trouble: Counter,
    revision: Counter,
}

impl JournalStats {
    /// Shows what there is, if it has changed.
    pub(crate) fn show(&self, topics: &Topics) {
        let revision = topics.journal_revision();
        if revision == self.revision.get() {
            return;
        }
        self.revision.set(revision);
        let Some(size) = topics.journal() else { return };
        let stats = topics.stats();
        for (at, (.., pick)) in FIGURES.iter().enumerate() {
            self.figures.at(at).set(pick(&size, &stats));
        }
        let number = size.trouble.map_or(0, |trouble| {
            TROUBLES.iter().position(|known| *known == trouble).map_or(TROUBLES.len(), |at| at + 1)
        });
        self.trouble.set(number as u64);
    }

    /// A figure by its name.
    #[must_use]
    pub fn figure(&self, name: &str) -> u64 {
        let at = FIGURES.iter().position(|(known, ..)| *known == name);
        at.map_or(0, |at| self.figures.at(at).get())
    }

    /// Why it takes nothing, if so.
    #[must_use]
    pub fn trouble(&self) -> Option<&'static str> {
        let at = usize::try_from(self.trouble.get()).ok()?.checked_sub(1)?;
        TROUBLES.get(at).copied()
    }
}
