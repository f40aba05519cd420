//! Where one day of a conversation ends and the next one begins: a notice before the first message of a new day.
//!
//! Which day it was says the newest message, so that the notice is there once, whatever happens in between: it is itself of
//! the new day. Only while it is on its way to disk somebody has to remember it.

use std::collections::BTreeSet;

use handler::Cx;
use topic::{Mail, Topics};

use super::{After, Home, Pending, SERVER};
use crate::{
    audit::AUDIT_TOPIC,
    conversation::{Conversation, Event},
};

const DAY_MS: i64 = 24 * 3_600 * 1_000;

/// Minutes that the midnight of conversations may be east or west of that of UTC: as far as there are people.
pub(crate) const DAY_OFFSET_MIN_MAX: i32 = 14 * 60;

/// The days of all conversations at home here.
#[derive(Default, Debug)]
pub(super) struct Days {
    offset_ms: i64,
    today: u64,
    /// Topics that today's notice was published in. Each has a message, so there are no more of them than topics.
    opened: BTreeSet<String>,
}

impl Days {
    fn of(&self, at_ms: u64) -> u64 {
        let local = i64::try_from(at_ms).unwrap_or(i64::MAX).saturating_add(self.offset_ms);
        u64::try_from(local.div_euclid(DAY_MS)).unwrap_or(0)
    }
}

impl Home {
    /// Conversations whose days begin that many minutes before those of UTC.
    pub(crate) fn new(day_offset_min: i32) -> Self {
        let offset_ms = i64::from(day_offset_min.clamp(-DAY_OFFSET_MIN_MAX, DAY_OFFSET_MIN_MAX)) * 60_000;
        Self { days: Days { offset_ms, ..Days::default() }, ..Self::default() }
    }

    /// Whether the newest message of a topic is of an earlier day than now. What was never written to has no days.
    pub(super) fn is_new_day(&self, topics: &Topics, name: &str, now_ms: u64) -> bool {
        let at_ms = topics.tail(name).at_ms;
        at_ms > 0 && self.days.of(at_ms) < self.days.of(now_ms)
    }

    /// Says what day it is, if something is about to be said on a new one.
    pub(super) fn open_day(&mut self, cx: &mut Cx<'_, Mail>, topics: &mut Topics, name: &str) {
        if !self.is_new_day(topics, name, cx.wall_ms) || !has_days(name) {
            return;
        }
        let day = self.days.of(cx.wall_ms);
        if self.days.today != day {
            self.days.today = day;
            self.days.opened.clear();
        }
        if !self.days.opened.insert(name.to_owned()) {
            return;
        }
        let body = Event::Day { date: &date(day), day }.body(SERVER);
        let token = self.next;
        self.next += 1;
        let published = topics.publish_own(cx, (name, SERVER), &body);
        match published.and_then(|_| topics.record(name, &[], token)) {
            Ok(()) => {
                let (name, letters, after) = (name.to_owned(), Vec::new(), After::Day);
                self.pending.insert(token, Pending { name, letters, after });
            }
            Err(_) => self.close_day(name),
        }
    }

    /// The notice did not come to disk: the next message tries again.
    pub(super) fn close_day(&mut self, name: &str) {
        self.days.opened.remove(name);
    }
}

fn has_days(name: &str) -> bool {
    name != AUDIT_TOPIC && !matches!(Conversation::parse(name), None | Some(Conversation::Personal(_)))
}

/// The date of a day since 1970-01-01, in the Gregorian calendar. (Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", civil_from_days: years begin in March, so that leap days end them.)
fn date(day: u64) -> String {
    let shifted = day + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{of_month:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_dates() {
        for (day, expected) in [
            (0, "1970-01-01"),
            (58, "1970-02-28"),
            (59, "1970-03-01"),
            (11_016, "2000-02-29"),
            (11_017, "2000-03-01"),
            (19_782, "2024-02-29"),
            (20_783, "2026-11-26"),
            (20_818, "2026-12-31"),
            (47_540, "2100-02-28"),
            (47_541, "2100-03-01"),
        ] {
            assert_eq!(date(day), expected, "{day}");
        }
    }

    #[test]
    fn midnight_is_where_it_is_set() {
        let hour = 3_600_000;
        for (offset_min, last_ms) in
            [(0, 24 * hour), (120, 22 * hour), (-300, 29 * hour), (345, 24 * hour - 345 * 60_000)]
        {
            let days = Home::new(offset_min).days;
            assert_eq!((days.of(last_ms - 1), days.of(last_ms)), (0, 1), "{offset_min}");
        }
        assert_eq!(Home::new(0).days.of(u64::MAX), Home::new(0).days.of(i64::MAX as u64));
    }
}
