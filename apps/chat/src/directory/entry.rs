//! The conversations in a user's list: since when, how far the user has come in them, and how they are shown.

use handler::Code;
use serde::{Deserialize, Serialize};

use super::relation::{ENTRIES, count, entries_key, key, prefix};
use crate::{
    conversation::{DIRECT, GROUP},
    facts::{Change, Facts, Refusal, parse, read},
};

/// Conversations in a user's list, those that it left included until their place is needed.
pub const CONVERSATIONS_MAX: usize = 10_000;

/// Groups in a user's list that the user has not left, beyond which it makes no further one. Others may still take it into
/// theirs.
pub const GROUPS_MAX: usize = 1_000;

/// Conversations that make room at once when the list is full.
const ROOM_MADE: usize = CONVERSATIONS_MAX / 100;

/// A conversation in a user's list.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Entry {
    /// Since when.
    pub joined_ms: u64,
    /// All up to here was seen.
    pub read: u64,
    /// All up to here has arrived.
    pub delivered: u64,
    /// Whether it makes no sound.
    #[serde(default, skip_serializing_if = "is_not")]
    pub muted: bool,
    /// Whether it stays on top.
    #[serde(default, skip_serializing_if = "is_not")]
    pub pinned: bool,
    /// When the user left it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_ms: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_not(flag: &bool) -> bool {
    !flag
}

/// What becomes of an entry; `None`: it is no more.
type Becomes = Result<(Vec<Change>, Option<Entry>), Refusal>;

/// A conversation comes into the list: the changes, its entry, and the conversations that make room.
pub(super) fn list(
    facts: &impl Facts,
    user: &str,
    topic: &str,
    at_ms: u64,
    offset: u64,
) -> Result<(Vec<Change>, Entry, Vec<String>), Refusal> {
    let new = Entry { joined_ms: at_ms, read: offset, delivered: offset, muted: false, pinned: false, left_ms: None };
    let put = |entry: &Entry| Change::put(key(user, ENTRIES, topic), entry);
    if let Some(old) = find(facts, user, topic)? {
        if old.left_ms.is_none() {
            return Ok((Vec::new(), old, Vec::new()));
        }
        let entry = Entry { read: old.read.max(offset), delivered: old.delivered.max(offset), ..new };
        return Ok((vec![put(&entry)], entry, Vec::new()));
    }
    let count = counted(facts, user)?;
    let gone = if count < CONVERSATIONS_MAX { Vec::new() } else { first_to_go(facts, user)? };
    let mut changes: Vec<Change> = gone.iter().map(|topic| Change::delete(key(user, ENTRIES, topic))).collect();
    changes.extend([put(&new), Change::put(entries_key(user), &(count - gone.len() + 1))]);
    Ok((changes, new, gone))
}

/// All conversations in a user's list.
pub(crate) fn entries(facts: &impl Facts, user: &str) -> Result<Vec<(String, Entry)>, Refusal> {
    let prefix = prefix(user, ENTRIES);
    let entry =
        |(key, value): (&str, &[u8])| Ok((key.get(prefix.len()..).unwrap_or_default().to_owned(), parse(value)?));
    facts.range(&prefix, None).map(entry).collect()
}

/// In how many groups a user is.
pub(crate) fn groups(facts: &impl Facts, user: &str) -> Result<usize, Refusal> {
    let is_one = |(topic, entry): &(String, Entry)| topic.starts_with(GROUP) && entry.left_ms.is_none();
    Ok(entries(facts, user)?.iter().filter(|entry| is_one(entry)).count())
}

/// Whether a conversation is in a user's list, and the user has not left it.
pub(crate) fn is_listed(facts: &impl Facts, user: &str, topic: &str) -> bool {
    find(facts, user, topic).is_ok_and(|entry| entry.is_some_and(|entry| entry.left_ms.is_none()))
}

/// The entry stays, so that the user can still see what it has been in.
pub(super) fn unlist(facts: &impl Facts, user: &str, topic: &str, at_ms: u64) -> Becomes {
    change(facts, user, topic, |entry| entry.left_ms = entry.left_ms.or(Some(at_ms)))
}

/// Marks only rise.
pub(super) fn mark(facts: &impl Facts, user: &str, topic: &str, delivered: u64, read: u64) -> Becomes {
    change(facts, user, topic, |entry| {
        entry.read = entry.read.max(read);
        entry.delivered = entry.delivered.max(delivered).max(entry.read);
    })
}

pub(super) fn set(facts: &impl Facts, user: &str, topic: &str, muted: Option<bool>, pinned: Option<bool>) -> Becomes {
    let unknown = || Refusal::new(Code::NotFound, "that conversation is not in your list");
    let (changes, entry) = change(facts, user, topic, |entry| {
        entry.muted = muted.unwrap_or(entry.muted);
        entry.pinned = pinned.unwrap_or(entry.pinned);
    })?;
    entry.ok_or_else(unknown).map(|entry| (changes, Some(entry)))
}

pub(super) fn forget(facts: &impl Facts, user: &str, topic: &str) -> Becomes {
    if find(facts, user, topic)?.is_none() {
        return Ok((Vec::new(), None));
    }
    let count = match counted(facts, user)?.saturating_sub(1) {
        0 => Change::delete(entries_key(user)),
        left => Change::put(entries_key(user), &left),
    };
    Ok((vec![Change::delete(key(user, ENTRIES, topic)), count], None))
}

fn find(facts: &impl Facts, user: &str, topic: &str) -> Result<Option<Entry>, Refusal> {
    read(facts, &key(user, ENTRIES, topic))
}

/// Changes an entry, if it is there.
fn change(facts: &impl Facts, user: &str, topic: &str, work: impl FnOnce(&mut Entry)) -> Becomes {
    let Some(old) = find(facts, user, topic)? else { return Ok((Vec::new(), None)) };
    let mut new = old.clone();
    work(&mut new);
    let change = (new != old).then(|| Change::put(key(user, ENTRIES, topic), &new));
    Ok((change.into_iter().collect(), Some(new)))
}

/// How many entries there are. A list that was never counted is counted once.
fn counted(facts: &impl Facts, user: &str) -> Result<usize, Refusal> {
    let known = read::<usize>(facts, &entries_key(user))?;
    Ok(known.unwrap_or_else(|| count(facts, user, ENTRIES, usize::MAX)))
}

/// Conversations that make room in a full list, a hundredth at once, so that not every one that comes costs a look at all:
/// first those that were left, then those of two, which come back with their next message, then groups, the oldest first
/// and pinned ones last.
fn first_to_go(facts: &impl Facts, user: &str) -> Result<Vec<String>, Refusal> {
    let prefix = prefix(user, ENTRIES);
    let mut order = Vec::with_capacity(CONVERSATIONS_MAX);
    for (key, value) in facts.range(&prefix, None) {
        let (entry, topic) = (parse::<Entry>(value)?, key.get(prefix.len()..).unwrap_or_default());
        let class = match entry {
            Entry { left_ms: Some(_), .. } => 0,
            Entry { pinned: true, .. } => 3,
            _ if topic.starts_with(DIRECT) => 1,
            _ => 2,
        };
        order.push((class, entry.left_ms.unwrap_or(entry.joined_ms), topic));
    }
    if order.len() > ROOM_MADE {
        order.select_nth_unstable(ROOM_MADE);
        order.truncate(ROOM_MADE);
    }
    order.sort_unstable();
    Ok(order.into_iter().map(|(.., topic)| topic.to_owned()).collect())
}
