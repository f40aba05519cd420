//! One direction of a simulated TCP connection: bytes in order, late, and cut where nobody expects it.
//!
//! What the writer gives is cut into segments, each with its own delay; what has arrived is read in pieces of random
//! size, so that two writes come as one and one as two. The window bounds what is on the way and unread; it opens for
//! the writer one delay after the reader has read.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::chance::{Chance, time_of};

/// Probability that a read takes less than what has arrived.
const SHORT_READ: f64 = 0.3;

/// Probability that what was on its way is lost with a reset, as a kernel drops what is unread.
const RESET_DROPS: f64 = 0.5;

/// What is wrong with a pipe.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PipeConfig {
    /// The time that every segment takes.
    pub delay: Duration,
    /// At most so much more, by chance; the order stays.
    pub jitter: Duration,
    /// The rate of the bottleneck; `None`: infinite.
    pub rate_bytes_per_s: Option<u64>,
    /// Bytes that may be on the way and unread.
    pub window_bytes: usize,
    /// Bytes of the largest segment.
    pub segment_max: usize,
    /// Bytes of the largest read.
    pub read_max: usize,
}

impl Default for PipeConfig {
    /// A fast network: no delay, a window of 64 KiB, segments as on Ethernet, reads of 16 KiB.
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            rate_bytes_per_s: None,
            window_bytes: 64 * 1024,
            segment_max: 1_460,
            read_max: 16 * 1024,
        }
    }
}

/// What comes out of a pipe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// Bytes, never none.
    Data(Vec<u8>),
    /// The writer will write no more; only a reset may follow.
    Finished,
    /// The writer is gone; nothing follows.
    Reset,
}

/// What happened in a pipe so far.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct PipeStats {
    /// Bytes that the writer got rid of.
    pub written: u64,
    /// Bytes that were read.
    pub read: u64,
    /// Bytes that a reset dropped.
    pub dropped: u64,
    /// Reads with bytes.
    pub reads: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    Finished,
    Reset,
}

/// One direction of a byte stream.
#[derive(Clone, Debug)]
pub struct Pipe {
    config: PipeConfig,
    chance: Chance,
    segments: VecDeque<(Instant, Vec<u8>)>,
    /// Bytes of the first segment that are read.
    consumed: usize,
    /// How the stream ends, when that arrives, and whether it was handed out.
    end: Option<(Instant, End)>,
    ended: bool,
    /// Bytes on the way, unread, or read and not acknowledged yet.
    used: usize,
    /// What was read, and when the writer knows.
    acknowledgements: VecDeque<(Instant, usize)>,
    /// The writer met a full window.
    blocked: bool,
    stalled: bool,
    idle_at: Option<Instant>,
    newest: Option<Instant>,
    stats: PipeStats,
}

impl Pipe {
    /// An empty pipe; `seed` decides all that happens by chance.
    #[must_use]
    pub fn new(seed: u64, config: PipeConfig) -> Self {
        assert!(config.segment_max > 0 && config.read_max > 0 && config.window_bytes > 0, "nothing could pass");
        Self {
            config,
            chance: Chance::seeded(seed),
            segments: VecDeque::new(),
            consumed: 0,
            end: None,
            ended: false,
            used: 0,
            acknowledgements: VecDeque::new(),
            blocked: false,
            stalled: false,
            idle_at: None,
            newest: None,
            stats: PipeStats::default(),
        }
    }

    /// How many bytes the writer can get rid of now.
    pub fn room(&mut self, now: Instant) -> usize {
        while let Some((_, bytes)) = self.acknowledgements.front().filter(|(at, _)| *at <= now) {
            self.used -= bytes;
            self.acknowledgements.pop_front();
        }
        if self.end.is_some() { 0 } else { self.config.window_bytes.saturating_sub(self.used) }
    }

    /// Writes what there is room for and says how many bytes those were; none after the end.
    pub fn write(&mut self, now: Instant, bytes: &[u8]) -> usize {
        let len = self.room(now).min(bytes.len());
        self.blocked = len < bytes.len() && self.end.is_none();
        let mut rest = &bytes[..len];
        while !rest.is_empty() {
            let cut = self.chance.count(self.config.segment_max).min(rest.len());
            let (segment, behind) = rest.split_at(cut);
            let at = self.depart(now, cut);
            self.segments.push_back((at, segment.to_vec()));
            rest = behind;
        }
        self.used += len;
        self.stats.written += len as u64;
        len
    }

    /// The writer will write no more: FIN behind all that was written.
    pub fn finish(&mut self, now: Instant) {
        if self.end.is_none() {
            self.end = Some((self.depart(now, 0), End::Finished));
            self.blocked = false;
        }
    }

    /// The writer is gone: RST, and with it maybe what was on its way.
    pub fn reset(&mut self, now: Instant) {
        if matches!(self.end, Some((_, End::Reset))) {
            return;
        }
        if self.chance.happens(RESET_DROPS) {
            let unread: usize = self.segments.iter().map(|(_, segment)| segment.len()).sum();
            self.stats.dropped += (unread - self.consumed) as u64;
            self.segments.clear();
            self.consumed = 0;
        }
        self.end = Some((self.depart(now, 0), End::Reset));
        self.ended = false;
        self.blocked = false;
    }

    /// The reader stops reading, so that the window fills, or goes on.
    pub fn stall(&mut self, stalled: bool) {
        self.stalled = stalled;
    }

    /// Nothing arrives before `until`: the way is cut, and repaired by retransmissions later.
    pub fn hold(&mut self, until: Instant) {
        for (at, _) in &mut self.segments {
            *at = until.max(*at);
        }
        if let Some((at, _)) = &mut self.end {
            *at = until.max(*at);
        }
        self.newest = Some(self.newest.map_or(until, |newest| newest.max(until)));
    }

    /// The next thing that has arrived, unless the reader is stalled.
    pub fn poll(&mut self, now: Instant) -> Option<Arrival> {
        if self.stalled || self.ended {
            return None;
        }
        if self.segments.is_empty() {
            let (_, end) = self.end.filter(|(at, _)| *at <= now)?;
            self.ended = true;
            return Some(match end {
                End::Finished => Arrival::Finished,
                End::Reset => Arrival::Reset,
            });
        }
        let arrived: usize =
            self.segments.iter().take_while(|(at, _)| *at <= now).map(|(_, segment)| segment.len()).sum();
        (arrived > 0).then(|| self.read(now, arrived - self.consumed))
    }

    /// When something happens that `poll` or `room` tells: an arrival, or room for a writer who had too little.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let first = self.segments.front().map(|(at, _)| *at).or(self.end.map(|(at, _)| at));
        let arrival = first.filter(|_| !self.stalled && !self.ended);
        let room = self.acknowledgements.front().map(|(at, _)| *at).filter(|_| self.blocked);
        arrival.into_iter().chain(room).min()
    }

    /// The reader has got the end; nothing comes any more.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// What happened so far.
    #[must_use]
    pub fn stats(&self) -> PipeStats {
        self.stats
    }

    /// When what is written now arrives.
    fn depart(&mut self, now: Instant, len: usize) -> Instant {
        let starts = self.idle_at.map_or(now, |idle_at| idle_at.max(now));
        let leaves = starts + time_of(len, self.config.rate_bytes_per_s);
        self.idle_at = Some(leaves);
        let at = leaves + self.config.delay + self.chance.up_to(self.config.jitter);
        let at = self.newest.map_or(at, |newest| newest.max(at));
        self.newest = Some(at);
        at
    }

    /// Reads some or all of what has arrived.
    fn read(&mut self, now: Instant, available: usize) -> Arrival {
        let most = available.min(self.config.read_max);
        let len = if self.chance.happens(SHORT_READ) { self.chance.count(most) } else { most };
        let mut data = Vec::with_capacity(len);
        while let Some((_, segment)) = self.segments.front()
            && data.len() < len
        {
            let unread = &segment[self.consumed..];
            let taken = unread.len().min(len - data.len());
            data.extend_from_slice(&unread[..taken]);
            self.consumed += taken;
            if self.consumed == segment.len() {
                self.segments.pop_front();
                self.consumed = 0;
            }
        }
        self.acknowledgements.push_back((now + self.config.delay, len));
        self.stats.read += len as u64;
        self.stats.reads += 1;
        Arrival::Data(data)
    }
}
