//! A segment that is half empty is written anew without what is needed no more, in its place, while the shard goes on.

use bytes::Bytes;
use handler::{Cx, DiskOperation, FileId, Outcome};

use super::Home;
use crate::{
    desk::Desk,
    facts,
    journal::{At, BLOCK_BYTES, Copyist, Found, Header, Record, batches, name_of},
    mail::Mail,
};

/// Bytes that are read at once: what nobody notices whose message comes meanwhile.
const PIECE_BYTES: usize = 256 * 1024;

/// The same where a batch is longer. None is longer than this.
const LONG_PIECE_BYTES: usize = 1024 * 1024;

/// A segment is worth it when this part of it is not needed.
const EMPTY_PART: u64 = 2;

/// Where it is.
#[derive(Debug)]
enum Step {
    OpenOld,
    OpenNew {
        old: FileId,
    },
    Read {
        old: FileId,
        new: FileId,
    },
    Write {
        old: FileId,
        new: FileId,
    },
    Head {
        old: FileId,
        new: FileId,
    },
    Publish {
        new: FileId,
    },
    /// Readers wait for what is in the old one.
    Wait {
        new: FileId,
    },
}

/// A segment on its way.
#[derive(Debug)]
pub(super) struct Compaction {
    segment: u64,
    length: u64,
    /// The file that it is written to until it takes the place of the old one.
    draft: String,
    step: Step,
    /// The next byte to read, how many come with it, and where the next one is written.
    from: u64,
    piece: usize,
    to: u64,
    copyist: Copyist,
}

impl Compaction {
    pub(super) fn is_of(&self, segment: u64) -> bool {
        self.segment == segment
    }
}

impl Home {
    /// Begins with the oldest segment that is worth it.
    pub(super) fn compact(&mut self, cx: &mut Cx<'_, Mail>) {
        if self.compaction.is_some() {
            return;
        }
        let Some(journal) = &mut self.journal else { return };
        let is_half_empty = |length: u64, live: u64| live * EMPTY_PART < length.saturating_sub(BLOCK_BYTES as u64);
        let sealed = journal.segments.iter().filter(|(number, _)| journal.is_sealed(**number));
        let Some((segment, length)) = sealed
            .filter(|(_, it)| it.live > 0 && it.length > 2 * BLOCK_BYTES as u64 && is_half_empty(it.length, it.live))
            // Padding alone does not make it worth it again and again.
            .find(|(number, _)| !self.compacted.contains(number))
            .map(|(number, it)| (*number, it.length))
        else {
            return;
        };
        journal.compact(cx, DiskOperation::Open { name: name_of(segment), create: false });
        let copyist = Copyist::again(journal.header(segment));
        let (from, draft, step) = (BLOCK_BYTES as u64, journal.draft_name(segment), Step::OpenOld);
        self.compaction =
            Some(Compaction { segment, length, draft, step, from, piece: PIECE_BYTES, to: from, copyist });
    }

    /// One of its disk operations ended.
    pub(super) fn on_compact(&mut self, cx: &mut Cx<'_, Mail>, desk: &mut Desk, outcome: Outcome) {
        let Some(mut compaction) = self.compaction.take() else { return };
        match self.advance(cx, &mut compaction, outcome) {
            Some(step) => {
                compaction.step = step;
                self.compaction = Some(compaction);
                self.settle_compaction(cx, desk);
            }
            None => self.give_up(cx, &compaction),
        }
    }

    /// What follows; `None`: it is given up, and everything stays as it was.
    fn advance(&mut self, cx: &mut Cx<'_, Mail>, it: &mut Compaction, outcome: Outcome) -> Option<Step> {
        match (&it.step, outcome) {
            (Step::OpenOld, Outcome::Opened { file, .. }) => {
                let name = it.draft.clone();
                self.journal.as_mut()?.compact(cx, DiskOperation::Open { name, create: true });
                Some(Step::OpenNew { old: file })
            }
            (Step::OpenNew { old }, Outcome::Opened { file, .. }) => {
                let (old, new) = (*old, file);
                self.read_piece(cx, it, old)?;
                Some(Step::Read { old, new })
            }
            (Step::Read { old, new }, Outcome::Read(bytes)) => {
                let (old, new) = (*old, *new);
                self.copy_piece(it, &bytes)?;
                self.write_piece(cx, it, old, new)
            }
            (Step::Write { old, new }, Outcome::Done) => {
                let (old, new) = (*old, *new);
                if it.from < it.length {
                    self.read_piece(cx, it, old)?;
                    return Some(Step::Read { old, new });
                }
                self.write_piece(cx, it, old, new)
            }
            (Step::Head { old, new }, Outcome::Done) => {
                let (old, new) = (*old, *new);
                let journal = self.journal.as_mut()?;
                // Whoever opens this name from here on may get the new file, where nothing is where it was.
                journal.hold(cx, it.segment, old);
                let (from, to) = (it.draft.clone(), name_of(it.segment));
                journal.compact(cx, DiskOperation::Rename { from, to });
                Some(Step::Publish { new })
            }
            (Step::Publish { new }, Outcome::Done) => Some(Step::Wait { new: *new }),
            _ => None,
        }
    }

    fn read_piece(&mut self, cx: &mut Cx<'_, Mail>, it: &Compaction, file: FileId) -> Option<()> {
        let len = usize::try_from(it.length - it.from).ok()?.min(it.piece);
        self.journal.as_mut()?.compact(cx, DiskOperation::Read { file, offset: it.from, len });
        Some(())
    }

    /// Copies what is needed out of the whole batches of a piece.
    fn copy_piece(&mut self, it: &mut Compaction, bytes: &Bytes) -> Option<()> {
        let header = self.journal.as_ref()?.header(it.segment);
        let block = u32::try_from(it.from / BLOCK_BYTES as u64).ok()?;
        let at = At { segment: it.segment, block, blocks: 0 };
        let is_last = it.from + bytes.len() as u64 >= it.length;
        let (copyist, home) = (&mut it.copyist, &*self);
        let read = batches(&header, at, bytes, is_last, &mut |found| {
            if home.is_needed(&found) {
                copyist.add(&found);
            }
        });
        // What cannot be read stays as it is, for whoever has to find out.
        match read {
            Ok(read) if read > 0 => (it.from, it.piece) = (it.from + read as u64, PIECE_BYTES),
            _ if it.piece < LONG_PIECE_BYTES && !is_last => it.piece = LONG_PIECE_BYTES,
            _ => return None,
        }
        Some(())
    }

    /// Whether a record of an old segment still says something that nothing else does.
    fn is_needed(&self, found: &Found<'_>) -> bool {
        match found.record {
            Record::Name { .. } => false,
            Record::Message { offset, .. } => {
                let topic = self.find(found.name).map(|place| &self.topics[place]);
                topic.is_some_and(|topic| topic.epoch == found.epoch && offset >= topic.first())
            }
            Record::Fact { key, value, .. } => {
                let fact = self.facts.on_disk(&facts::full(found.name, key));
                match value {
                    Some(_) => fact.is_some_and(|fact| fact.segment == found.at.segment),
                    // What it took back may still be in an older segment.
                    None => fact.is_none(),
                }
            }
        }
    }

    /// Writes what has been copied when it is enough, or the rest of it, or the header when that is done.
    fn write_piece(&mut self, cx: &mut Cx<'_, Mail>, it: &mut Compaction, old: FileId, new: FileId) -> Option<Step> {
        let is_over = it.from >= it.length;
        if is_over {
            it.copyist.finish_batch();
        }
        let piece = it.copyist.take_piece();
        let journal = self.journal.as_mut()?;
        if !piece.is_empty() {
            let (offset, len) = (it.to, piece.len() as u64);
            journal.compact(cx, DiskOperation::Write { file: new, offset, bytes: piece.into() });
            it.to += len;
            return Some(Step::Write { old, new });
        }
        if !is_over {
            self.read_piece(cx, it, old)?;
            return Some(Step::Read { old, new });
        }
        // The segment before it ends by what this header says, as long as it is there.
        let previous = journal.segments.get(&it.segment).map_or(0, |segment| segment.previous);
        let header = Header { own: it.to, previous, ..journal.header(it.segment) };
        journal.compact(cx, DiskOperation::Write { file: new, offset: 0, bytes: header.write().into() });
        Some(Step::Head { old, new })
    }

    /// Readers that wait for the old segment have its places: when there are none the new one takes over.
    pub(super) fn settle_compaction(&mut self, cx: &mut Cx<'_, Mail>, desk: &mut Desk) {
        let Some(Compaction { segment, step: Step::Wait { new }, .. }) = &self.compaction else { return };
        if self.reads.waits_for(*segment) {
            return;
        }
        let (segment, new) = (*segment, *new);
        let Some(compaction) = self.compaction.take() else { return };
        let Some(journal) = &mut self.journal else { return };
        journal.replaced(cx, segment, compaction.to, new);
        self.reads.forget(segment);
        let mut live = 0;
        for (name, epoch, places) in compaction.copyist.into_places() {
            let place = self.by_name.get(&*name).copied().filter(|place| self.topics[*place].epoch == epoch);
            let Some(place) = place else { continue };
            let topic = &mut self.topics[place];
            if topic.index.first().is_some() {
                topic.index.relocate(segment, places);
                live += topic.index.bytes_in(segment);
            }
        }
        live += self.facts.bytes_in(segment);
        if let Some(journal) = &mut self.journal
            && let Some(it) = journal.segments.get_mut(&segment)
        {
            it.live = live;
        }
        self.compacted.insert(segment);
        desk.stats.compacted += 1;
        self.compact(cx);
    }

    fn give_up(&mut self, cx: &mut Cx<'_, Mail>, it: &Compaction) {
        let files = match it.step {
            Step::OpenOld => [None, None],
            Step::OpenNew { old } => [Some(old), None],
            Step::Read { old, new } | Step::Write { old, new } | Step::Head { old, new } => [Some(old), Some(new)],
            Step::Publish { new } | Step::Wait { new } => [None, Some(new)],
        };
        self.compacted.insert(it.segment);
        let Some(journal) = &mut self.journal else { return };
        files.into_iter().flatten().for_each(|file| journal.close(cx, file));
        if !matches!(it.step, Step::OpenOld | Step::Publish { .. } | Step::Wait { .. }) {
            // Its space may be what is missing.
            journal.remove_draft(cx, it.draft.clone());
        }
    }
}
