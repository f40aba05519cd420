//! Groups into which a user is asked. The answer is for the group's home: `chat.join` or `chat.decline`.

use serde::{Deserialize, Serialize};

use super::relation::{INVITATIONS, blocks, count, key, prefix};
use crate::facts::{Change, Facts, Refusal, parse, read};

/// Invitations that a user has not answered. What comes beyond them is dropped.
pub const INVITATIONS_MAX: usize = 1_000;

/// Somebody asks a user into a group.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Invitation {
    /// Who.
    pub by: String,
    /// What the group was called then.
    pub name: String,
    /// When.
    pub at_ms: u64,
}

/// What becomes of an invitation; `None`: it is no more.
type Becomes = Result<(Vec<Change>, Option<Invitation>), Refusal>;

/// An invitation comes. Of somebody who is blocked it is dropped: to whoever invites that looks like no answer yet.
pub(super) fn come(facts: &impl Facts, user: &str, topic: &str, new: Invitation) -> Becomes {
    let old = read::<Invitation>(facts, &key(user, INVITATIONS, topic))?;
    let room = || count(facts, user, INVITATIONS, INVITATIONS_MAX) < INVITATIONS_MAX;
    if old.as_ref() == Some(&new) || blocks(facts, user, &new.by)? || (old.is_none() && !room()) {
        return Ok((Vec::new(), old));
    }
    Ok((vec![Change::put(key(user, INVITATIONS, topic), &new)], Some(new)))
}

/// An invitation goes, if it is there.
pub(super) fn go(facts: &impl Facts, user: &str, topic: &str) -> Vec<Change> {
    let key = key(user, INVITATIONS, topic);
    if facts.get(&key).is_some() { vec![Change::delete(key)] } else { Vec::new() }
}

/// All invitations of somebody go; their topics.
pub(super) fn of(facts: &impl Facts, user: &str, by: &str) -> Result<Vec<String>, Refusal> {
    let prefix = prefix(user, INVITATIONS);
    let mut topics = Vec::new();
    for (key, value) in facts.range(&prefix, None) {
        if parse::<Invitation>(value)?.by == by {
            topics.push(key.get(prefix.len()..).unwrap_or_default().to_owned());
        }
    }
    Ok(topics)
}
