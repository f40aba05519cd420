//! The conversations in a user's list: since when, how far the user has come in them, and how they are shown.

use handler::Code;
use serde::{Deserialize, Serialize};

use super::relation::{ENTRIES, count, key, prefix};
use crate::facts::{Change, Facts, Refusal, parse, read};

/// Conversations in a user's list, those that it left included until their place is needed.
pub const CONVERSATIONS_MAX: usize = 10_000;

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

pub(super) fn list(facts: &impl Facts, user: &str, topic: &str, at_ms: u64, offset: u64) -> Becomes {
    let new = Entry { joined_ms: at_ms, read: offset, delivered: offset, muted: false, pinned: false, left_ms: None };
    let (mut changes, entry) = match find(facts, user, topic)? {
        Some(old) if old.left_ms.is_none() => return Ok((Vec::new(), Some(old))),
        Some(old) => (Vec::new(), Entry { read: old.read.max(offset), delivered: old.delivered.max(offset), ..new }),
        None => (make_room(facts, user)?, new),
    };
    changes.push(Change::put(key(user, ENTRIES, topic), &entry));
    Ok((changes, Some(entry)))
}

/// All conversations in a user's list.
pub(crate) fn entries(facts: &impl Facts, user: &str) -> Result<Vec<(String, Entry)>, Refusal> {
    let prefix = prefix(user, ENTRIES);
    let entry =
        |(key, value): (&str, &[u8])| Ok((key.get(prefix.len()..).unwrap_or_default().to_owned(), parse(value)?));
    facts.range(&prefix, None).map(entry).collect()
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
    let known = find(facts, user, topic)?.is_some();
    Ok((known.then(|| Change::delete(key(user, ENTRIES, topic))).into_iter().collect(), None))
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

/// Room for one more: when there is none, the conversation goes that was left first.
fn make_room(facts: &impl Facts, user: &str) -> Result<Vec<Change>, Refusal> {
    if count(facts, user, ENTRIES, CONVERSATIONS_MAX) < CONVERSATIONS_MAX {
        return Ok(Vec::new());
    }
    let mut first: Option<(u64, &str)> = None;
    for (key, value) in facts.range(&prefix(user, ENTRIES), None) {
        let left = parse::<Entry>(value)?.left_ms.map(|left_ms| (left_ms, key));
        first = [first, left].into_iter().flatten().min();
    }
    let full = || Refusal::full(format!("a user is in at most {CONVERSATIONS_MAX} conversations"));
    first.map(|(_, key)| vec![Change::delete(key.to_owned())]).ok_or_else(full)
}
