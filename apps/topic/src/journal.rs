//! What makes an acknowledgement mean *on disk*: a journal of segments for every shard, written in batches that are
//! committed together, and an index of where each topic's messages lie.
//!
//! All numbers are little endian; a block has 4,096 bytes.
//!
//! ```text
//! segment   header, then batches, each from the beginning of a block on; zeros behind the last one
//! header    magic "ringjrnl"  version:u32=2  shard:u16  zero:u16  origin:u64  number:u64  previous:u64  own:u64
//!           crc:u32, then zeros up to the end of the block                     crc: of the 48 bytes before it
//! batch     magic:u32  bytes:u32  records:u32  unsettled:u32  crc:u32  record[records], then zeros up to the end of
//!           the block
//!           bytes: of the records; unsettled: how many blocks before it were not on disk for sure when it was written;
//!           crc: of origin:u64, number:u64 and place:u64 of the batch, of the 16 bytes before it, and of the records
//! record    kind:u8, and by kind
//!   1 name     epoch:u64  len:u16  name                   from here on the next number of this batch means this name
//!   2 message  name:u16  offset:u64  at_ms:u64  seq:u64  from_len:u16  device_len:u16  body_len:u32  from  device  body
//!   3 fact     name:u16  key_len:u16  value_len:u32  key  value
//! ```
//!
//! Version 1, which is read and not written, has batches without `unsettled`, and another magic.
//!
//! A message that was published without a counter has `device_len` 0xffff and `seq` 0; a fact that was taken back has
//! `value_len` 0xffffffff. The name of a topic comes with the epoch of its history, the name of anything else with 0.
//!
//! What keeps it honest:
//!
//! - A batch is written once, from a block on that holds nothing else, and synced before anything in it is acknowledged
//!   or shown to a reader. A second one may be under way behind it, and counts only when both are on disk.
//! - The checksum knows where the batch belongs: bytes of another file or place are no batch.
//! - `previous` is how many bytes of the segment before count. A batch whose write failed lies behind that, whatever
//!   became of its bytes, and so does a tail that was torn when the power went. `own` is the same for a segment that
//!   was written anew by a compaction.
//! - A batch that failed is overwritten with a block of zeros as far as the disk takes that, and recovery syncs the last
//!   segment before anybody sees what is in it: a process that ended may have left what only the kernel remembers.
//! - Segments go one after the other, oldest first: what could not be removed is before the next one is.
//! - The space of the next segment is taken beforehand. While there is none, messages are refused, and what is left of the
//!   segment that is being written is for facts that must be written anew so that an old one can go.
//! - In the last segment the first thing that is no batch ends the journal, with what was under way behind it. If a batch
//!   follows that was written when all of this was on disk, or in any segment before, something that was on disk has
//!   changed: that is reported and never skipped.
//! - A segment is filled with zeros before it is written to, the first one of a run only at its beginning: a write into
//!   blocks that were never written makes the file system keep a journal of its own, which takes as long again.

mod batch;
mod copy;
mod format;
mod making;
mod place;
mod reading;
mod recovery;
mod segment;
#[cfg(test)]
mod tests;
mod writer;

pub(crate) use batch::{Batch, Message, Waiting};
pub use copy::Copyist;
pub use format::{BLOCK_BYTES, Header, Record};
pub(crate) use place::{Index, Place};
pub use recovery::{At, Damage, Found, RecoverError, Recovered, Segments, walk};
pub(crate) use recovery::{batches, messages, walk_segments};
pub use segment::{name_of, number_of};
pub(crate) use writer::{Event, Flight, Journal, Trouble};
