//! The sending side: symbols are gathered in groups, a group that closes becomes rows of parity, rows become REPAIRs.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{COLUMNS, Ratio, Window, columns, engine, fits, row_len};
use crate::frame::{Frame, Repair};

/// Rows that wait to be sent; on a path that takes none the oldest go.
const PENDING_MAX: usize = 64;

/// Bytes around a symbol or row on the wire: IP, UDP, short header, AEAD tag.
const PACKET_BYTES: usize = 28 + 19 + 16;

/// Parity that may be caught up with: one large group.
const CREDIT_MAX: u64 = 24_000;

/// Memory is given back after so long without a symbol.
const IDLE: Duration = Duration::from_secs(2);

/// Makes parity of what is sent.
pub(crate) struct Protector {
    window: Window,
    // What a packet can carry: rows that have become too long for it are dropped.
    payload_max: usize,
    next_sid: u64,
    ratio: Option<Ratio>,
    // Bytes of parity packets that may be made, in hundredths.
    credit: u64,
    // The last time that is known: rows due until then are no deadline any more, they wait for the congestion window.
    now: Option<Instant>,
    used_at: Option<Instant>,
    work: Option<Box<Work>>,
}

// What is on the heap only while FEC is used.
#[derive(Default)]
struct Work {
    group: Group,
    pending: VecDeque<Row>,
    spare: Vec<Vec<u8>>,
    encoder: engine::Encoder,
}

// The open group.
#[derive(Default)]
struct Group {
    base: u64,
    // Symbols, end to end.
    bytes: Vec<u8>,
    ends: Vec<usize>,
    longest: usize,
    first_at: Option<Instant>,
    close_at: Option<Instant>,
}

struct Row {
    base: u64,
    k: u8,
    row: u8,
    class: u8,
    due: Instant,
    expires_at: Instant,
    bytes: Vec<u8>,
}

impl Protector {
    /// For a peer that keeps `window`.
    pub(crate) fn new(window: Window) -> Self {
        Self {
            window,
            payload_max: usize::MAX,
            next_sid: 0,
            ratio: None,
            credit: CREDIT_MAX / 8 * 100,
            now: None,
            used_at: None,
            work: None,
        }
    }

    /// The peer keeps another window now.
    pub(crate) fn set_window(&mut self, window: Window) {
        self.window = window;
    }

    /// Packets carry so many bytes of frames now.
    pub(crate) fn set_payload_max(&mut self, bytes: usize) {
        self.payload_max = bytes;
    }

    /// Builds groups in another ratio from now on; the open one closes in the old one when FEC goes off.
    pub(crate) fn configure(&mut self, now: Instant, ratio: Option<Ratio>) {
        if ratio.is_none() && self.ratio.is_some() {
            self.close(now);
        }
        self.ratio = ratio;
    }

    /// Whether packets are to carry SYMBOL.
    pub(crate) fn is_on(&self) -> bool {
        self.ratio.is_some() && self.window.symbols >= 2
    }

    /// Bytes that a symbol may have (SYMBOL's own three not counted), so that its REPAIR fits into `payload` bytes.
    pub(crate) fn symbol_bytes_max(&self, payload: usize) -> usize {
        let around = Repair::overhead(self.next_sid, payload) + COLUMNS + 1;
        payload.saturating_sub(around).min(usize::from(u16::MAX))
    }

    /// The frames behind SYMBOL in a packet that is sent now; returns the symbol's number.
    pub(crate) fn on_symbol(&mut self, now: Instant, symbol: &[u8]) -> u64 {
        self.now = Some(now);
        self.used_at = Some(now);
        let sid = self.next_sid;
        self.next_sid += 1;
        let Some(ratio) = self.ratio else { return sid };
        if !self.has_room(symbol.len(), &ratio) {
            self.close(now);
        }
        let work = self.work.get_or_insert_default();
        work.group.push(now, sid, symbol, &ratio);
        self.credit += ((symbol.len() + PACKET_BYTES) as u64) * u64::from(ratio.overhead_percent);
        self.credit = self.credit.min(CREDIT_MAX * 100);
        if work.group.ends.len() as u64 >= u64::from(ratio.k).min(self.window.symbols / 2) {
            self.close(now);
        }
        sid
    }

    /// Nothing waits to be sent. The open group closes if the next symbol does not come when it should.
    pub(crate) fn flush(&mut self, now: Instant) {
        self.now = Some(now);
        let (Some(work), Some(ratio)) = (&mut self.work, self.ratio) else { return };
        if let Some(close_at) = work.group.close_at {
            work.group.close_at = Some(close_at.min(now + ratio.dry));
        }
        self.handle_timeout(now);
    }

    /// When `handle_timeout` has something to do, or a row becomes due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let work = self.work.as_ref()?;
        let due = work.pending.iter().map(|row| row.due).filter(|due| self.now.is_none_or(|now| *due > now)).min();
        let idle = self.used_at.map(|used_at| used_at + IDLE);
        [work.group.close_at, due, idle].into_iter().flatten().min()
    }

    /// Closes a group that has waited long enough, drops rows that nobody needs any more.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.now = Some(now);
        let Some(work) = &mut self.work else { return };
        if work.group.close_at.is_some_and(|close_at| close_at <= now) {
            self.close(now);
        }
        let Some(work) = &mut self.work else { return };
        while work.pending.front().is_some_and(|row| row.expires_at <= now) {
            work.spare.extend(work.pending.pop_front().map(|row| row.bytes));
        }
        self.rest(now);
    }

    /// Bytes of the REPAIR frame that is to be sent now.
    pub(crate) fn repair_due(&self, now: Instant) -> Option<usize> {
        self.due(now).map(|row| Repair::overhead(row.base, row.bytes.len()) + row.bytes.len())
    }

    /// Appends the REPAIR frame that is due.
    pub(crate) fn write_repair(&mut self, now: Instant, out: &mut Vec<u8>) {
        self.now = Some(now);
        let Some(at) = self.due_at(now) else { return };
        let Some(work) = &mut self.work else { return };
        let Some(Row { base, k, row, class, bytes, .. }) = work.pending.remove(at) else { return };
        Frame::Repair(Repair { base, k, row, class, data: &bytes }).encode(out);
        work.spare.push(bytes);
    }

    /// Bytes on the heap.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn heap(&self) -> usize {
        self.work.as_ref().map_or(0, |work| size_of::<Work>() + work.group.bytes.capacity())
    }

    /// Numbers symbols from here on.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn start_at(&mut self, sid: u64) {
        self.next_sid = sid;
    }

    fn due_at(&self, now: Instant) -> Option<usize> {
        let fits = |row: &Row| Repair::overhead(row.base, row.bytes.len()) + row.bytes.len() <= self.payload_max;
        self.work.as_ref()?.pending.iter().position(|row| row.due <= now && now < row.expires_at && fits(row))
    }

    fn due(&self, now: Instant) -> Option<&Row> {
        self.due_at(now).and_then(|at| self.work.as_ref()?.pending.get(at))
    }

    fn rest(&mut self, now: Instant) {
        if self.used_at.is_some_and(|used_at| used_at + IDLE <= now) {
            self.work = None;
            self.used_at = None;
        }
    }

    // Whether the open group takes a symbol and still fits into half of the peer's window: rows have to be kept there
    // too, and what is sent until they arrive.
    fn has_room(&self, len: usize, ratio: &Ratio) -> bool {
        let Some(work) = &self.work else { return true };
        let (k, longest) = (work.group.ends.len() + 1, work.group.longest.max(len));
        let class = engine::class_of(ratio.r.into());
        (work.group.bytes.len() + len) as u64 <= self.window.bytes / 2 && fits(self.window, k, class, row_len(longest))
    }

    fn close(&mut self, now: Instant) {
        let (Some(work), Some(ratio)) = (&mut self.work, self.ratio) else { return };
        let Work { group, pending, spare, encoder } = &mut **work;
        let k = group.ends.len();
        if k == 0 {
            return;
        }
        let len = row_len(group.longest);
        let row_cost = ((len + PACKET_BYTES + 8) as u64) * 100;
        let wanted = (usize::from(ratio.r) * k).div_ceil(usize::from(ratio.k)).max(1);
        let mut rows = wanted.min((self.credit / row_cost) as usize);
        if !fits(self.window, k, engine::class_of(rows.max(1)), len) {
            rows = 0;
        }
        self.credit -= rows as u64 * row_cost;
        if rows > 0 {
            let (base, class) = (group.base, engine::class_of(rows));
            let mut due = now;
            encoder.encode((k, rows, len), group.symbols(), |row, parity| {
                due += ratio.spread;
                let mut bytes = spare.pop().unwrap_or_default();
                bytes.clear();
                bytes.extend_from_slice(parity);
                let expires_at = due + ratio.life;
                pending.push_back(Row { base, k: k as u8, row: row as u8, class, due, expires_at, bytes });
            });
            while pending.len() > PENDING_MAX {
                spare.extend(pending.pop_front().map(|row| row.bytes));
            }
        }
        group.clear();
    }
}

impl Group {
    fn push(&mut self, now: Instant, sid: u64, symbol: &[u8], ratio: &Ratio) {
        if self.ends.is_empty() {
            self.base = sid;
            self.first_at = Some(now);
        }
        // Anew with every symbol: a dry queue may have brought it forward.
        self.close_at = self.first_at.map(|first_at| first_at + ratio.flush);
        self.bytes.extend_from_slice(symbol);
        self.ends.push(self.bytes.len());
        self.longest = self.longest.max(symbol.len());
    }

    fn symbols(&self) -> impl Iterator<Item = engine::Symbol<'_>> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end]).map(|data| (columns(data), data))
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.longest = 0;
        self.first_at = None;
        self.close_at = None;
    }
}
