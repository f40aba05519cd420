//! The segments of a journal that are read, replaced and removed.

use std::io;

use handler::{Cx, DiskOperation, FileId, Outcome};

use super::{
    format::BLOCK_BYTES,
    segment::name_of,
    writer::{Event, Journal, Purpose},
};
use crate::{mail::Mail, mutant::Mutant};

/// A segment that goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Removal {
    UnderWay(u64),
    Failed(u64),
}

/// A file that is read.
#[derive(Debug)]
pub(super) enum Reading {
    Opening(Vec<(u32, u32)>),
    Open(FileId),
}

impl Journal {
    /// Reads blocks of a segment; [`Event::Read`] brings them.
    pub(crate) fn read(&mut self, cx: &mut Cx<'_, Mail>, segment: u64, (block, blocks): (u32, u32)) {
        match self.files.get_mut(&segment) {
            Some(Reading::Opening(wanted)) => wanted.push((block, blocks)),
            Some(Reading::Open(file)) => {
                let file = *file;
                self.start_read(cx, file, segment, (block, blocks));
            }
            None => {
                self.files.insert(segment, Reading::Opening(vec![(block, blocks)]));
                let operation = DiskOperation::Open { name: name_of(segment), create: false };
                self.disk(cx, Purpose::OpenToRead { segment }, operation);
            }
        }
    }

    fn start_read(&mut self, cx: &mut Cx<'_, Mail>, file: FileId, segment: u64, (block, blocks): (u32, u32)) {
        let (offset, len) = (u64::from(block) * BLOCK_BYTES as u64, blocks as usize * BLOCK_BYTES);
        self.disk(cx, Purpose::Read { segment, block }, DiskOperation::Read { file, offset, len });
    }

    pub(super) fn opened_to_read(&mut self, cx: &mut Cx<'_, Mail>, segment: u64, outcome: Outcome) -> Vec<Event> {
        if !matches!(self.files.get(&segment), Some(Reading::Opening(_))) {
            // It is held open already; what this name means now may be something else.
            if let Outcome::Opened { file, .. } = outcome {
                self.close(cx, file);
            }
            return Vec::new();
        }
        let Some(Reading::Opening(wanted)) = self.files.remove(&segment) else { return Vec::new() };
        match outcome {
            Outcome::Opened { file, .. } if !self.segments.contains_key(&segment) => {
                // It went meanwhile. Those who wait find out when they ask again.
                self.disk(cx, Purpose::Other, DiskOperation::Close { file });
                let read = |block| Event::Read { segment, block, blocks: Err(io::ErrorKind::NotFound.into()) };
                wanted.into_iter().map(|(block, _)| read(block)).collect()
            }
            Outcome::Opened { file, .. } => {
                self.files.insert(segment, Reading::Open(file));
                wanted.into_iter().for_each(|blocks| self.start_read(cx, file, segment, blocks));
                Vec::new()
            }
            Outcome::Failed(error) => {
                let read = |block| Event::Read { segment, block, blocks: Err(error.kind().into()) };
                wanted.into_iter().map(|(block, _)| read(block)).collect()
            }
            Outcome::Read(_) | Outcome::Done => Vec::new(),
        }
    }

    /// Removes what was prepared for a segment.
    pub(crate) fn remove_draft(&mut self, cx: &mut Cx<'_, Mail>, name: String) {
        self.disk(cx, Purpose::Other, DiskOperation::Remove { name });
    }

    /// The oldest segment that is on disk, also if it is going.
    pub(crate) fn oldest_on_disk(&self) -> Option<u64> {
        let going = self.removal.map(|(Removal::UnderWay(number) | Removal::Failed(number))| number);
        going.or_else(|| self.segments.first_key_value().map(|(number, _)| *number))
    }

    /// The file of a segment that gets another one of the same name: whoever reads goes on with it. What was asked of the
    /// name meanwhile is read here, too.
    pub(crate) fn hold(&mut self, cx: &mut Cx<'_, Mail>, segment: u64, file: FileId) {
        match self.files.remove(&segment) {
            Some(Reading::Open(open)) => {
                self.files.insert(segment, Reading::Open(open));
                self.close(cx, file);
            }
            waiting => {
                self.files.insert(segment, Reading::Open(file));
                if let Some(Reading::Opening(wanted)) = waiting {
                    wanted.into_iter().for_each(|blocks| self.start_read(cx, file, segment, blocks));
                }
            }
        }
    }

    /// A segment was written anew: it is so long now, and is read from this file.
    pub(crate) fn replaced(&mut self, cx: &mut Cx<'_, Mail>, number: u64, length: u64, file: FileId) {
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.length = length;
        }
        if let Some(Reading::Open(old)) = self.files.insert(number, Reading::Open(file)) {
            self.close(cx, old);
        }
    }

    /// Removes the oldest segment, if nothing is written to it.
    pub(crate) fn remove_oldest(&mut self, cx: &mut Cx<'_, Mail>) {
        let Some((number, _)) = self.segments.first_key_value() else { return };
        let number = *number;
        if self.is_removing(cx) || number >= self.next.0 {
            return;
        }
        self.segments.remove(&number);
        if let Some(Reading::Open(file)) = self.files.get(&number) {
            let file = *file;
            self.files.remove(&number);
            self.disk(cx, Purpose::Other, DiskOperation::Close { file });
        }
        self.start_removal(cx, number);
    }

    /// Whether a segment is being removed; if that has failed it is tried again.
    pub(crate) fn is_removing(&mut self, cx: &mut Cx<'_, Mail>) -> bool {
        if let Some(Removal::Failed(number)) = self.removal {
            self.start_removal(cx, number);
        }
        self.removal.is_some()
    }

    fn start_removal(&mut self, cx: &mut Cx<'_, Mail>, number: u64) {
        self.removal = Some(Removal::UnderWay(number));
        self.disk(cx, Purpose::Remove, DiskOperation::Remove { name: name_of(number) });
    }

    pub(super) fn removed(&mut self, outcome: &Outcome) -> Event {
        match (self.removal, outcome) {
            // One that is gone is so for sure when the next one is.
            (Some(Removal::UnderWay(number)), Outcome::Failed(error))
                if error.kind() != io::ErrorKind::NotFound && !Mutant::HastyRemoval.is_in() =>
            {
                self.removal = Some(Removal::Failed(number));
                Event::None
            }
            _ => {
                self.removal = None;
                Event::Removed
            }
        }
    }
}
