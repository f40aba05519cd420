//! What the receiver keeps for recovery: the newest symbols and rows, in one ring of bytes.

use std::time::{Duration, Instant};

use super::Window;

/// Symbols that are remembered at most, however large the window.
pub(super) const SYMBOLS_MAX: usize = 512;

/// What it starts with: 64 symbols of a chatty session take no more.
const SYMBOLS_MIN: usize = 64;
const BYTES_MIN: usize = 16 * 1024;

/// Bytes in the ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Piece {
    // Counts all bytes that were ever put: says whether they have been overwritten since.
    at: u64,
    len: usize,
}

#[derive(Clone, Copy)]
struct Slot {
    sid: u64,
    piece: Piece,
    seen_at: Instant,
}

/// The newest symbols by number, and bytes of rows. It grows to the window's limits while what it would overwrite is
/// still young, and never beyond.
pub(super) struct Store {
    slots: Vec<Option<Slot>>,
    bytes: Vec<u8>,
    head: u64,
    // What was put before was overwritten before the ring grew.
    floor: u64,
    symbols_max: usize,
    bytes_max: usize,
    life: Duration,
    round_at: Instant,
}

impl Store {
    pub(super) fn new(now: Instant, window: Window, life: Duration) -> Self {
        let symbols_max = (window.symbols.clamp(1, SYMBOLS_MAX as u64) as usize).next_power_of_two();
        let bytes_max = window.bytes.clamp(1, 1 << 30) as usize;
        Self {
            slots: vec![None; SYMBOLS_MIN.min(symbols_max)],
            bytes: vec![0; BYTES_MIN.min(bytes_max)],
            head: 0,
            floor: 0,
            symbols_max,
            bytes_max,
            life,
            round_at: now,
        }
    }

    /// Symbols below the newest that are remembered.
    pub(super) fn symbols(&self) -> u64 {
        self.slots.len() as u64
    }

    /// Whether a symbol was seen, if the slot still belongs to it.
    pub(super) fn seen(&self, sid: u64) -> bool {
        self.slot(sid).is_some()
    }

    /// The bytes of a symbol.
    pub(super) fn symbol(&self, sid: u64) -> Option<&[u8]> {
        self.piece(self.slot(sid)?.piece)
    }

    /// The bytes of a piece, unless they were overwritten.
    pub(super) fn piece(&self, piece: Piece) -> Option<&[u8]> {
        let start = self.start(piece.at);
        let is_there = piece.at >= self.floor && self.head - piece.at <= self.bytes.len() as u64;
        is_there.then(|| &self.bytes[start..start + piece.len])
    }

    /// Keeps a symbol.
    pub(super) fn put_symbol(&mut self, now: Instant, sid: u64, data: &[u8]) {
        if self.slot_of(sid).is_some_and(|old| old.sid != sid && self.is_young(now, old)) {
            self.grow_slots();
        }
        if self.slot_of(sid).is_some_and(|old| old.sid > sid) {
            return;
        }
        let Some(piece) = self.put(now, data) else { return };
        let at = self.index(sid);
        self.slots[at] = Some(Slot { sid, piece, seen_at: now });
    }

    /// Keeps a row.
    pub(super) fn put_row(&mut self, now: Instant, row: &[u8]) -> Option<Piece> {
        self.put(now, row)
    }

    /// Bytes on the heap.
    pub(super) fn heap(&self) -> usize {
        self.bytes.capacity() + self.slots.capacity() * size_of::<Option<Slot>>()
    }

    fn put(&mut self, now: Instant, data: &[u8]) -> Option<Piece> {
        let len = data.len();
        while len > self.bytes.len() {
            self.grow_bytes()?;
        }
        let mut start = self.start(self.head);
        // A piece does not go over the edge.
        if start + len > self.bytes.len() {
            self.head += (self.bytes.len() - start) as u64;
            // Round once: what is overwritten from here on is as old as the round took.
            if now.saturating_duration_since(self.round_at) < self.life {
                let _ = self.grow_bytes();
            }
            self.round_at = now;
            start = self.start(self.head);
        }
        let piece = Piece { at: self.head, len };
        self.bytes[start..start + len].copy_from_slice(data);
        self.head += len as u64;
        Some(piece)
    }

    // Doubles the ring; every piece keeps its place in the count, so that nobody who holds one has to know.
    fn grow_bytes(&mut self) -> Option<()> {
        let old = self.bytes.len();
        if old * 2 > self.bytes_max {
            return None;
        }
        let mut grown = vec![0; old * 2];
        self.floor = self.floor.max(self.head.saturating_sub(old as u64));
        let mut at = self.floor;
        while at < self.head {
            let (from, to) = (self.start(at), (at % grown.len() as u64) as usize);
            let len = (old - from).min((self.head - at) as usize);
            grown[to..to + len].copy_from_slice(&self.bytes[from..from + len]);
            at += len as u64;
        }
        self.bytes = grown;
        Some(())
    }

    fn start(&self, at: u64) -> usize {
        (at % self.bytes.len() as u64) as usize
    }

    fn grow_slots(&mut self) {
        if self.slots.len() >= self.symbols_max {
            return;
        }
        let old = std::mem::take(&mut self.slots);
        self.slots = vec![None; old.len() * 2];
        for slot in old.into_iter().flatten() {
            let at = self.index(slot.sid);
            self.slots[at] = Some(slot);
        }
    }

    fn is_young(&self, now: Instant, slot: &Slot) -> bool {
        now.saturating_duration_since(slot.seen_at) < self.life
    }

    fn index(&self, sid: u64) -> usize {
        (sid % self.slots.len() as u64) as usize
    }

    fn slot_of(&self, sid: u64) -> Option<&Slot> {
        self.slots[self.index(sid)].as_ref()
    }

    fn slot(&self, sid: u64) -> Option<&Slot> {
        self.slot_of(sid).filter(|slot| slot.sid == sid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_overwritten_stays_so_when_the_ring_grows() {
        let (now, life) = (Instant::now(), Duration::from_millis(100));
        let mut store = Store::new(now, Window { symbols: 64, bytes: 64 * 1024 }, life);
        let data = |sid: u64| vec![sid as u8 + 1; 1_000];
        let late = now + life;
        // Round once, slowly; then quickly, so that it grows.
        for sid in 0..40 {
            store.put_symbol(if sid < 20 { late } else { late + life / 2 }, sid, &data(sid));
            for held in 0..=sid {
                assert!(store.symbol(held).is_none_or(|bytes| bytes == data(held)), "{held} after {sid}");
            }
        }
        assert!(store.bytes.len() > BYTES_MIN);
        assert!((34..40).all(|sid| store.symbol(sid).is_some()));
    }
}
