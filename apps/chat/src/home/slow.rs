//! When members of slow groups may write again: as many as are remembered at once, each of them found without a search.

use std::collections::{BTreeMap, BTreeSet};

/// Members that are remembered. Beyond them whoever may write again soonest is forgotten.
const WRITERS_MAX: usize = 10_000;

/// Members that are looked at per new one: more than one, so that the table shrinks faster than it grows.
const SWEEP: usize = 2;

/// A topic and a user.
type Writer = (String, String);

/// Those who have written.
#[derive(Default, Debug)]
pub(super) struct SlowWriters {
    free_at_ms: BTreeMap<Writer, u64>,
    by_time: BTreeSet<(u64, Writer)>,
}

impl SlowWriters {
    /// How long somebody has to wait.
    pub(super) fn wait_ms(&self, now_ms: u64, topic: &str, user: &str) -> u64 {
        let free_at_ms = self.free_at_ms.get(&(topic.to_owned(), user.to_owned()));
        free_at_ms.map_or(0, |free_at_ms| free_at_ms.saturating_sub(now_ms))
    }

    /// Somebody has written, and may again when so much time has passed.
    pub(super) fn wrote(&mut self, now_ms: u64, topic: &str, user: &str, slow_ms: u32) {
        self.sweep(now_ms);
        let (writer, free_at_ms) = ((topic.to_owned(), user.to_owned()), now_ms + u64::from(slow_ms));
        if let Some(before) = self.free_at_ms.insert(writer.clone(), free_at_ms) {
            self.by_time.remove(&(before, writer.clone()));
        }
        self.by_time.insert((free_at_ms, writer));
    }

    fn sweep(&mut self, now_ms: u64) {
        for _ in 0..SWEEP {
            let full = self.by_time.len() >= WRITERS_MAX;
            if self.by_time.first().is_none_or(|(free_at_ms, _)| *free_at_ms > now_ms && !full) {
                return;
            }
            if let Some((_, writer)) = self.by_time.pop_first() {
                self.free_at_ms.remove(&writer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_wait_and_a_crowd_costs_neither_memory_nor_a_search() {
        let mut slow = SlowWriters::default();
        slow.wrote(0, "g", "ada", 3_600_000);
        assert_eq!(slow.wait_ms(600_000, "g", "ada"), 3_000_000);
        assert_eq!((slow.wait_ms(0, "h", "ada"), slow.wait_ms(0, "g", "bob")), (0, 0));
        for n in 0..30_000_u64 {
            slow.wrote(n, "g", &format!("user{n}"), 60_000);
            assert!(slow.by_time.len() <= WRITERS_MAX, "{n}");
        }
        assert_eq!(slow.by_time.len(), slow.free_at_ms.len());
        assert_eq!(slow.wait_ms(30_000, "g", "ada"), 3_570_000, "those who wait longest stay");
        assert_eq!(slow.wait_ms(30_000, "g", "user29999"), 59_999);
        slow.wrote(30_000, "g", "ada", 10);
        assert_eq!((slow.wait_ms(30_000, "g", "ada"), slow.by_time.len()), (10, slow.free_at_ms.len()));
        for n in 0..6_000 {
            slow.wrote(200_000 + n, "g", "bob", 10);
        }
        assert_eq!(slow.by_time.len(), 1, "those who may write are forgotten");
    }
}
