//! What a user is to another one, on this user's side.

use serde::{Deserialize, Serialize};

use crate::facts::{Change, Facts, Refusal, read};

/// Contacts of a user, with the requests that would make more of them.
pub const CONTACTS_MAX: usize = 5_000;

/// Requests that a user has not answered; and as many that others have not.
pub const REQUESTS_MAX: usize = 1_000;

/// Users that a user has blocked.
pub const BLOCKS_MAX: usize = 5_000;

/// Somebody whom a user knows, and who knows the user.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Contact {
    /// Since when.
    pub since_ms: u64,
    /// The time of the request that led to it, the same on both sides: so that an answer to an older one is told apart.
    pub request_ms: u64,
}

/// A request to be a contact.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Request {
    /// When it was made, by the clock of the asker's home. It tells requests of one user to the same other one apart.
    pub at_ms: u64,
    /// What the asker says.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
}

/// Somebody who is not heard.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Block {
    /// Since when.
    pub at_ms: u64,
}

/// What somebody is to a user, in a word.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing.
    Stranger,
    /// The user has asked.
    Outgoing,
    /// The other one has asked.
    Incoming,
    /// They know each other.
    Contact,
    /// The user does not want to hear of the other one.
    Blocked,
}

/// All that a user's facts say of another one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Relation {
    pub(super) contact: Option<Contact>,
    pub(super) incoming: Option<Request>,
    pub(super) outgoing: Option<Request>,
    pub(super) block: Option<Block>,
}

/// Whether a user has blocked another one. A direct conversation is written to if neither has.
///
/// # Errors
/// A fact that cannot be read.
pub fn blocks(facts: &impl Facts, user: &str, other: &str) -> Result<bool, Refusal> {
    Ok(read::<Block>(facts, &key(user, BLOCKS, other))?.is_some())
}

/// What another one is to a user.
///
/// # Errors
/// A fact that cannot be read.
pub fn state(facts: &impl Facts, user: &str, other: &str) -> Result<State, Refusal> {
    Ok(Relation::read(facts, user, other)?.state())
}

/// Whether they know each other.
pub(crate) fn is_contact(facts: &impl Facts, user: &str, other: &str) -> bool {
    facts.get(&key(user, CONTACTS, other)).is_some()
}

/// The contacts of a user, by name.
pub(crate) fn contacts(facts: &impl Facts, user: &str) -> Vec<String> {
    let prefix = prefix(user, CONTACTS);
    facts.range(&prefix, None).filter_map(|(key, _)| key.strip_prefix(&prefix)).map(str::to_owned).collect()
}

/// The letters of the kinds of facts in their keys.
pub(super) const CONTACTS: char = 'k';
pub(super) const INCOMING: char = 'r';
pub(super) const OUTGOING: char = 'o';
pub(super) const BLOCKS: char = 'x';
pub(super) const ENTRIES: char = 'c';
pub(super) const INVITATIONS: char = 'i';

/// The key of the fact that counts the entries.
pub(super) fn entries_key(user: &str) -> String {
    format!("u/{user}/n")
}

pub(super) fn prefix(user: &str, kind: char) -> String {
    format!("u/{user}/{kind}/")
}

pub(super) fn key(user: &str, kind: char, of: &str) -> String {
    format!("u/{user}/{kind}/{of}")
}

/// How many facts of a kind a user has, as far as `most`.
pub(super) fn count(facts: &impl Facts, user: &str, kind: char, most: usize) -> usize {
    facts.range(&prefix(user, kind), None).take(most).count()
}

impl Relation {
    pub(super) fn read(facts: &impl Facts, user: &str, other: &str) -> Result<Self, Refusal> {
        Ok(Self {
            contact: read(facts, &key(user, CONTACTS, other))?,
            incoming: read(facts, &key(user, INCOMING, other))?,
            outgoing: read(facts, &key(user, OUTGOING, other))?,
            block: read(facts, &key(user, BLOCKS, other))?,
        })
    }

    pub(super) fn state(&self) -> State {
        match self {
            Self { block: Some(_), .. } => State::Blocked,
            Self { contact: Some(_), .. } => State::Contact,
            Self { incoming: Some(_), .. } => State::Incoming,
            Self { outgoing: Some(_), .. } => State::Outgoing,
            Self { contact: None, incoming: None, outgoing: None, block: None } => State::Stranger,
        }
    }

    /// What became of another relation.
    pub(super) fn changes(&self, was: &Self, user: &str, other: &str) -> Vec<Change> {
        let changes = [
            change(user, CONTACTS, other, &was.contact, &self.contact),
            change(user, INCOMING, other, &was.incoming, &self.incoming),
            change(user, OUTGOING, other, &was.outgoing, &self.outgoing),
            change(user, BLOCKS, other, &was.block, &self.block),
        ];
        changes.into_iter().flatten().collect()
    }
}

fn change<T: PartialEq + Serialize>(
    user: &str,
    kind: char,
    other: &str,
    was: &Option<T>,
    is: &Option<T>,
) -> Option<Change> {
    let key = || key(user, kind, other);
    match is {
        _ if was == is => None,
        Some(is) => Some(Change::put(key(), is)),
        None => Some(Change::delete(key())),
    }
}
