//! What happened to each packet on a link, kept in memory while it runs and written as CSV afterwards.

use std::{
    io::{self, Write},
    time::Instant,
};

use simnet::Fate;

use super::clock::Anchor;

/// Packets that are kept at most; 40 bytes each.
const ENTRIES_MAX: usize = 8_000_000;

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the server.
    Up,
    /// To the client.
    Down,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    at: Instant,
    len: u16,
    way: Way,
    /// `None`: it arrived, and the NAT did not know the port any more.
    fate: Option<Fate>,
}

/// The log of one link.
#[derive(Debug)]
pub struct Journal {
    entries: Vec<Entry>,
    is_on: bool,
}

impl Journal {
    /// An empty log, which stays empty if it is not `on`.
    #[must_use]
    pub fn new(is_on: bool) -> Self {
        Self { entries: Vec::with_capacity(if is_on { 1 << 16 } else { 0 }), is_on }
    }

    /// A packet came to the link; or it arrived, and its fate is `None`: the NAT knew no port for it.
    pub fn add(&mut self, at: Instant, way: Way, len: usize, fate: Option<Fate>) {
        if self.is_on && self.entries.len() < ENTRIES_MAX {
            let len = u16::try_from(len).unwrap_or(u16::MAX);
            self.entries.push(Entry { at, len, way, fate });
        }
    }

    /// One line per packet: when it came (CLOCK_MONOTONIC), its way and bytes, its fate, when it left the bottleneck,
    /// and when it arrived or would have.
    pub fn write(&self, anchor: &Anchor, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "at_ns,way,bytes,fate,leaves_ns,arrives_ns")?;
        for entry in &self.entries {
            let way = if entry.way == Way::Up { "up" } else { "down" };
            write!(out, "{},{way},{},", anchor.ns(entry.at), entry.len)?;
            match entry.fate {
                Some(Fate::Arrives { leaves, at }) => writeln!(out, "arrives,{},{}", anchor.ns(leaves), anchor.ns(at))?,
                Some(Fate::Lost { leaves, would }) => writeln!(out, "lost,{},{}", anchor.ns(leaves), anchor.ns(would))?,
                Some(Fate::QueueFull) => writeln!(out, "queue_full,,")?,
                Some(Fate::TooLong) => writeln!(out, "too_long,,")?,
                None => writeln!(out, "unmapped,,")?,
            }
        }
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_fate_is_a_line() {
        let (anchor, mut journal, mut off) = (Anchor::now(), Journal::new(true), Journal::new(false));
        let now = anchor.instant(1_000_000_000_000);
        let later = now + Duration::from_millis(20);
        let fates = [
            Some(Fate::Arrives { leaves: now, at: later }),
            Some(Fate::Lost { leaves: now, would: later }),
            Some(Fate::QueueFull),
            Some(Fate::TooLong),
            None,
        ];
        for fate in fates {
            journal.add(now, Way::Up, 1_200, fate);
            off.add(now, Way::Up, 1_200, fate);
        }
        let mut text = Vec::new();
        journal.write(&anchor, &mut text).expect("memory takes all");
        let text = String::from_utf8(text).expect("text");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 6);
        assert_eq!(lines[1], "1000000000000,up,1200,arrives,1000000000000,1000020000000");
        assert_eq!(lines[2], "1000000000000,up,1200,lost,1000000000000,1000020000000");
        assert_eq!((lines[3], lines[5]), ("1000000000000,up,1200,queue_full,,", "1000000000000,up,1200,unmapped,,"));
        assert!(off.entries.is_empty());
    }
}
