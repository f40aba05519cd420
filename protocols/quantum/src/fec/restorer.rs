//! The receiving side: symbols and rows are kept for a while, and when a group has as many pieces as it has symbols,
//! what is missing of it is restored.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use smallvec::SmallVec;

use super::{
    COLUMNS, Window, columns, engine, fits,
    store::{Piece, SYMBOLS_MAX, Store},
};
use crate::{
    error::{Checked, Code, TransportError},
    frame::Repair,
    range::RangeSet,
    varint,
};

/// Groups that wait for another piece.
const GROUPS_MAX: usize = 32;

/// Ranges of restored symbols that are remembered, for originals that come late.
const RESTORED_RANGES_MAX: usize = 256;
const _: () = assert!(RESTORED_RANGES_MAX * 2 >= SYMBOLS_MAX, "restored or arrived: known of all symbols in the store");

/// Buffers that wait to be used again.
const SPARE_MAX: usize = 16;

/// A REPAIR that names symbols so far beyond the newest is not of this connection: SYMBOL could not number them.
const AHEAD_MAX: u64 = 1 << 15;

/// A group waits no longer, however long the round trip.
pub(crate) const LIFE_MAX: Duration = Duration::from_millis(250);

/// Memory is given back after so long without a symbol or REPAIR.
const IDLE: Duration = Duration::from_secs(2);

const AHEAD: TransportError = TransportError::new(Code::Fec, "REPAIR of symbols that were never sent");
const LARGE: TransportError = TransportError::new(Code::Fec, "group larger than the window");
const SHORT: TransportError = TransportError::new(Code::Fec, "row shorter than its columns");
const LENGTH: TransportError = TransportError::new(Code::Fec, "rows of one group differ in length");
const LONG: TransportError = TransportError::new(Code::Fec, "symbol longer than the row of its group");
const REUSED: TransportError = TransportError::new(Code::Fec, "symbol number used twice");

/// What is known about a symbol that has arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Known {
    /// Its frames are to be handled.
    New(u64),
    /// They were handled when it was restored: a late original must not be delivered again.
    AlreadyRecovered(u64),
    /// Whether they were is no longer remembered.
    Forgotten,
}

/// Counts of one connection.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Counts {
    /// REPAIRs that arrived.
    pub(crate) repairs: u64,
    /// Symbols that were restored.
    pub(crate) recovered: u64,
    /// Originals that arrived after that.
    pub(crate) late: u64,
    /// REPAIRs of groups that have left the window.
    pub(crate) stale: u64,
    /// Groups whose parity contradicts itself.
    pub(crate) mismatched: u64,
    /// Runs of the decoder.
    pub(crate) decodes: u64,
}

/// Restores what is lost.
pub(crate) struct Restorer {
    window: Window,
    life: Duration,
    // The number behind the newest symbol that is known of.
    next: u64,
    // Symbols below are not remembered: whether they arrived is unknown.
    low: u64,
    work: Option<Box<Work>>,
    // What was restored: remembered for late originals, and told by SYMBOL_ACK until that arrives.
    restored: RangeSet,
    // All restored symbols that are not remembered are below.
    restored_floor: u64,
    untold: RangeSet,
    ack_due: bool,
    used_at: Option<Instant>,
    counts: Counts,
}

// What is on the heap only while FEC is used.
struct Work {
    store: Store,
    groups: Vec<Group>,
    recovered: VecDeque<(u64, Vec<u8>)>,
    spare: Vec<Vec<u8>>,
    decoder: engine::Decoder,
}

// A group with rows, but too few yet.
struct Group {
    base: u64,
    k: u8,
    class: u8,
    len: usize,
    rows: SmallVec<[(u8, Piece); 4]>,
    expires_at: Instant,
}

impl Restorer {
    /// Keeps `window` at most.
    pub(crate) fn new(window: Window) -> Self {
        Self {
            window,
            life: LIFE_MAX,
            next: 0,
            low: 0,
            work: None,
            restored: RangeSet::new(),
            restored_floor: 0,
            untold: RangeSet::new(),
            ack_due: false,
            used_at: None,
            counts: Counts::default(),
        }
    }

    /// A group waits two round trips for another piece: then the resend is there.
    pub(crate) fn set_rtt(&mut self, rtt: Duration) {
        //= SPEC.md#11.3
        //# A group waits for as long as min(2 srtt, 250 ms), and is decoded when there are `k` pieces of it, one group
        //# for each packet at most.
        self.life = (2 * rtt).min(LIFE_MAX);
    }

    /// What happened so far.
    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// A packet's SYMBOL and the bytes behind it.
    pub(crate) fn on_symbol(&mut self, now: Instant, sid16: u16, data: &[u8]) -> Checked<Known> {
        let sid = expand(sid16, self.next);
        self.used_at = Some(now);
        if self.restored.contains(sid) {
            self.counts.late += 1;
            return Ok(Known::AlreadyRecovered(sid));
        }
        //= SPEC.md#11.3
        //# Of a symbol of which it no longer knows whether it was restored, it MUST NOT handle the frames either, and
        //# MUST NOT acknowledge the packet.
        if sid < self.restored_floor {
            return Ok(Known::Forgotten);
        }
        let work = Work::get(&mut self.work, now, self.window, self.life);
        if sid < self.low {
            return Ok(Known::New(sid));
        }
        //= SPEC.md#11.3
        //# So is a second symbol under a number that has arrived.
        if work.store.seen(sid) {
            return Err(REUSED);
        }
        work.store.put_symbol(now, sid, data);
        self.advance(sid + 1);
        self.try_restore(now)?;
        Ok(Known::New(sid))
    }

    /// A row of parity.
    pub(crate) fn on_repair(&mut self, now: Instant, repair: &Repair) -> Checked<()> {
        self.counts.repairs += 1;
        self.check(repair)?;
        self.used_at = Some(now);
        Work::get(&mut self.work, now, self.window, self.life);
        self.advance(repair.base + u64::from(repair.k));
        let Some(work) = &mut self.work else { return Ok(()) };
        if repair.base < self.low {
            self.counts.stale += 1;
            return Ok(());
        }
        if work.missing(repair.base, repair.k) == 0 {
            return Ok(());
        }
        work.keep(now, self.life, repair)?;
        self.try_restore(now)
    }

    /// A symbol that was restored: its number and frames. Give the buffer back by `recycle`.
    pub(crate) fn poll_recovered(&mut self) -> Option<(u64, Vec<u8>)> {
        self.work.as_mut()?.recovered.pop_front()
    }

    /// Takes a buffer back.
    pub(crate) fn recycle(&mut self, buffer: Vec<u8>) {
        if let Some(work) = &mut self.work
            && work.spare.len() < SPARE_MAX
        {
            work.spare.push(buffer);
        }
    }

    /// What SYMBOL_ACK is to tell now.
    pub(crate) fn symbol_ack(&self) -> Option<&RangeSet> {
        (self.ack_due && !self.untold.is_empty()).then_some(&self.untold)
    }

    /// It was told.
    pub(crate) fn on_symbol_ack_sent(&mut self) {
        self.ack_due = false;
    }

    /// The packet that told it was lost.
    pub(crate) fn on_symbol_ack_lost(&mut self) {
        self.ack_due = !self.untold.is_empty();
    }

    /// The peer knows about restored symbols up to `largest`.
    pub(crate) fn on_symbol_ack_acked(&mut self, largest: u64) {
        self.untold.remove_below(largest + 1);
    }

    /// When `expire` has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let work = self.work.as_ref()?;
        let group = work.groups.iter().map(|group| group.expires_at).min();
        let idle = self.used_at.map(|used_at| used_at + IDLE);
        [group, idle].into_iter().flatten().min()
    }

    /// Gives up groups that have waited long enough, and all memory after a pause.
    pub(crate) fn expire(&mut self, now: Instant) {
        let Some(work) = &mut self.work else { return };
        work.groups.retain(|group| group.expires_at > now);
        if self.used_at.is_some_and(|used_at| used_at + IDLE <= now) && work.recovered.is_empty() {
            self.work = None;
            self.forget_restored(0);
            self.restored = RangeSet::new();
            self.low = self.next;
        }
    }

    /// Bytes on the heap, but for what waits to be polled and the few ranges of restored symbols.
    pub(crate) fn heap(&self) -> usize {
        let Some(work) = &self.work else { return 0 };
        let spare: usize = work.spare.iter().map(Vec::capacity).sum();
        let groups = work.groups.capacity() * size_of::<Group>();
        let rows: usize = work.groups.iter().map(|group| group.rows.capacity() * size_of::<(u8, Piece)>()).sum();
        size_of::<Work>() + work.store.heap() + work.decoder.heap() + spare + groups + rows
    }

    /// Expects this symbol next.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn start_at(&mut self, sid: u64) {
        (self.next, self.low) = (sid, sid);
    }

    // What no correct peer does.
    fn check(&self, repair: &Repair) -> Checked<()> {
        let end = repair.base + u64::from(repair.k);
        if end > self.next + AHEAD_MAX || end > varint::MAX {
            return Err(AHEAD);
        }
        if !fits(self.window, repair.k.into(), repair.class, repair.data.len()) {
            return Err(LARGE);
        }
        if repair.data.len() < COLUMNS {
            return Err(SHORT);
        }
        Ok(())
    }

    fn advance(&mut self, next: u64) {
        self.next = self.next.max(next);
        if let Some(work) = &self.work {
            self.low = self.low.max(self.next.saturating_sub(work.store.symbols()));
        }
    }

    // Restores the first group that has enough pieces: one per packet that came, so that a packet costs at most one run
    // of the decoder.
    fn try_restore(&mut self, now: Instant) -> Checked<()> {
        let Some(work) = &mut self.work else { return Ok(()) };
        let low = self.low;
        work.groups.retain(|group| group.base >= low);
        let mut at = 0;
        while let Some(group) = work.groups.get(at) {
            match work.missing(group.base, group.k) {
                0 => drop(work.groups.swap_remove(at)),
                missing if missing <= work.rows(group) => break,
                _ => at += 1,
            }
        }
        if at == work.groups.len() {
            return Ok(());
        }
        let group = work.groups.swap_remove(at);
        self.counts.decodes += 1;
        let Some(count) = work.restore(now, &group)? else {
            self.counts.mismatched += 1;
            return Ok(());
        };
        self.counts.recovered += count as u64;
        for (sid, _) in work.recovered.iter().rev().take(count) {
            self.restored.insert_one(*sid);
            self.untold.insert_one(*sid);
        }
        self.ack_due = true;
        for set in [&mut self.restored, &mut self.untold] {
            // SYMBOL could not number them.
            set.remove_below(self.next.saturating_sub(AHEAD_MAX));
        }
        self.forget_restored(RESTORED_RANGES_MAX);
        while self.untold.len() > RESTORED_RANGES_MAX {
            self.untold.pop_first();
        }
        Ok(())
    }

    // Remembers no more ranges than these of what was restored.
    fn forget_restored(&mut self, most: usize) {
        while self.restored.len() > most
            && let Some(range) = self.restored.pop_first()
        {
            self.restored_floor = range.end;
        }
    }
}

impl Work {
    fn get(work: &mut Option<Box<Work>>, now: Instant, window: Window, life: Duration) -> &mut Work {
        work.get_or_insert_with(|| {
            Box::new(Work {
                store: Store::new(now, window, life),
                groups: Vec::new(),
                recovered: VecDeque::new(),
                spare: Vec::new(),
                decoder: engine::Decoder::default(),
            })
        })
    }

    // Symbols of a group whose bytes are not at hand.
    fn missing(&self, base: u64, k: u8) -> usize {
        (base..base + u64::from(k)).filter(|sid| self.store.symbol(*sid).is_none()).count()
    }

    fn rows(&self, group: &Group) -> usize {
        group.rows.iter().filter(|(_, piece)| self.store.piece(*piece).is_some()).count()
    }

    fn keep(&mut self, now: Instant, life: Duration, repair: &Repair) -> Checked<()> {
        let same = |group: &Group| (group.base, group.k, group.class) == (repair.base, repair.k, repair.class);
        let at = self.groups.iter().position(same);
        let at = match at {
            Some(at) if self.groups[at].len != repair.data.len() => return Err(LENGTH),
            Some(at) => at,
            None => {
                if self.groups.len() >= GROUPS_MAX {
                    self.groups.remove(0);
                }
                let Repair { base, k, class, .. } = *repair;
                let (len, expires_at) = (repair.data.len(), now + life);
                self.groups.push(Group { base, k, class, len, rows: SmallVec::new(), expires_at });
                self.groups.len() - 1
            }
        };
        if self.groups[at].rows.iter().all(|(row, _)| *row != repair.row)
            && let Some(piece) = self.store.put_row(now, repair.data)
        {
            self.groups[at].rows.push((repair.row, piece));
        }
        Ok(())
    }

    // Restores a group and queues what was lost of it; `None` when its parity contradicts itself.
    fn restore(&mut self, now: Instant, group: &Group) -> Checked<Option<usize>> {
        let Work { store, recovered, spare, decoder, .. } = self;
        let held = |index: usize| store.symbol(group.base + index as u64).map(|data| (index, data));
        let symbols = || (0..usize::from(group.k)).filter_map(held);
        if symbols().any(|(_, data)| COLUMNS + data.len() > group.len) {
            return Err(LONG);
        }
        let symbols = symbols().map(|(index, data)| (index, (columns(data), data)));
        let rows = group.rows.iter().filter_map(|(row, piece)| Some((usize::from(*row), store.piece(*piece)?)));
        let (mut count, mut sound) = (0, true);
        let code = (usize::from(group.k), group.class, group.len);
        let decoded = decoder.decode(code, symbols, rows, |index, padded| {
            let sid = group.base + index as u64;
            let Some(data) = unpad(padded) else {
                sound = false;
                return;
            };
            // One whose bytes alone were overwritten has been delivered.
            if !store.seen(sid) {
                let mut buffer = spare.pop().unwrap_or_default();
                buffer.clear();
                buffer.extend_from_slice(data);
                recovered.push_back((sid, buffer));
                count += 1;
            }
        });
        if decoded.is_none() || !sound {
            spare.extend(recovered.drain(recovered.len() - count..).map(|(_, buffer)| buffer));
            return Ok(None);
        }
        for (sid, data) in recovered.iter().rev().take(count) {
            store.put_symbol(now, *sid, data);
        }
        Ok(Some(count))
    }
}

/// The symbol number nearest to `next` that ends in these 16 bits (as packet numbers are: RFC 9000, appendix A.3).
fn expand(sid16: u16, next: u64) -> u64 {
    let candidate = (next & !0xFFFF) | u64::from(sid16);
    if candidate + 0x8000 <= next {
        candidate + 0x1_0000
    } else if candidate > next + 0x8000 && candidate >= 0x1_0000 {
        candidate - 0x1_0000
    } else {
        candidate
    }
}

// The symbol in a restored row, if its columns say the truth.
fn unpad(padded: &[u8]) -> Option<&[u8]> {
    let (columns, rest) = padded.split_first_chunk::<COLUMNS>()?;
    let [a, b, crc @ ..] = *columns;
    let (data, padding) = rest.split_at_checked(usize::from(u16::from_be_bytes([a, b])))?;
    let sound = crc32c::crc32c(data) == u32::from_be_bytes(crc) && padding.iter().all(|byte| *byte == 0);
    sound.then_some(data)
}
