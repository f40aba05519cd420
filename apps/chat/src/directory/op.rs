//! What a user may ask of its own directory, and how it is written.

use serde::Deserialize;

use super::relation::{BLOCKS, CONTACTS, INCOMING, INVITATIONS, OUTGOING};
use crate::{
    facts::Refusal,
    list::{PAGE_LINES_MAX, check_limit},
    name::{is_printable, is_user},
};

/// Characters of what goes with a request: who one is, not a conversation.
pub const REQUEST_CHARS_MAX: usize = 200;

/// An operation on one's own directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// `contact.request {user, text?}`: asks another user to be a contact.
    Request {
        /// Whom.
        user: String,
        /// What to say.
        text: String,
    },
    /// `contact.accept {user}`: says yes to a request.
    Accept {
        /// Whose.
        user: String,
    },
    /// `contact.decline {user}`: says no to a request.
    Decline {
        /// Whose.
        user: String,
    },
    /// `contact.remove {user}`: ends being contacts, or takes a request back.
    Remove {
        /// With whom.
        user: String,
    },
    /// `contact.block {user}`: ends all with another user, who is not heard from then on.
    Block {
        /// Whom.
        user: String,
    },
    /// `contact.unblock {user}`.
    Unblock {
        /// Whom.
        user: String,
    },
    /// `contact.list`, `contact.requests`, `contact.sent`, `contact.blocked` `{after?, limit?}`: a page of users, by name;
    /// `inbox.invitations {after?, limit?}`: a page of invitations, by topic.
    List {
        /// Which list.
        list: List,
        /// The last name of the page before.
        after: Option<String>,
        /// How many at most.
        limit: usize,
    },
    /// `inbox.set {topic, muted?, pinned?}`: how a conversation is in the list; what is absent stays.
    Set {
        /// Which.
        topic: String,
        /// Whether it makes no sound.
        muted: Option<bool>,
        /// Whether it stays on top.
        pinned: Option<bool>,
    },
    /// `inbox.forget {topic}`: takes a conversation out of the list; a message in it may bring it back.
    Forget {
        /// Which.
        topic: String,
    },
}

/// A list of users.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum List {
    /// Contacts.
    Contacts,
    /// Requests that came.
    Requests,
    /// Requests that went out.
    Sent,
    /// Users that are not heard.
    Blocked,
    /// Groups into which the user is asked, by topic.
    Invitations,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    user: String,
    #[serde(default)]
    text: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    user: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listing {
    after: Option<String>,
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Setting {
    topic: String,
    muted: Option<bool>,
    pinned: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Topic {
    topic: String,
}

impl Op {
    /// Reads the body of an operation. `None`: it is no operation on a directory.
    #[must_use]
    pub fn read(op: &str, body: &[u8]) -> Option<Result<Self, Refusal>> {
        let list = |list| {
            let op = |Listing { after, limit }| Self::List { list, after, limit: limit.unwrap_or(PAGE_LINES_MAX) };
            fields(body).map(op)
        };
        Some(match op {
            "contact.request" => fields(body).map(|Asked { user, text }| Self::Request { user, text }),
            "contact.accept" => fields(body).map(|One { user }| Self::Accept { user }),
            "contact.decline" => fields(body).map(|One { user }| Self::Decline { user }),
            "contact.remove" => fields(body).map(|One { user }| Self::Remove { user }),
            "contact.block" => fields(body).map(|One { user }| Self::Block { user }),
            "contact.unblock" => fields(body).map(|One { user }| Self::Unblock { user }),
            "contact.list" => list(List::Contacts),
            "contact.requests" => list(List::Requests),
            "contact.sent" => list(List::Sent),
            "contact.blocked" => list(List::Blocked),
            "inbox.invitations" => list(List::Invitations),
            "inbox.set" => fields(body).map(|Setting { topic, muted, pinned }| Self::Set { topic, muted, pinned }),
            "inbox.forget" => fields(body).map(|Topic { topic }| Self::Forget { topic }),
            _ => return None,
        })
    }

    /// What can be said without any facts.
    pub(super) fn check(&self, own: &str) -> Result<(), Refusal> {
        match self {
            Self::Request { user, text } => {
                let short = text.chars().count() <= REQUEST_CHARS_MAX && text.chars().all(is_printable);
                check_user(user, own)?;
                if short { Ok(()) } else { Err(Refusal::bad("`text` is at most 200 printable characters")) }
            }
            Self::Accept { user }
            | Self::Decline { user }
            | Self::Remove { user }
            | Self::Block { user }
            | Self::Unblock { user } => check_user(user, own),
            Self::List { limit, .. } => check_limit(*limit),
            Self::Set { .. } | Self::Forget { .. } => Ok(()),
        }
    }
}

impl List {
    pub(super) fn kind(self) -> char {
        match self {
            Self::Contacts => CONTACTS,
            Self::Requests => INCOMING,
            Self::Sent => OUTGOING,
            Self::Blocked => BLOCKS,
            Self::Invitations => INVITATIONS,
        }
    }
}

fn check_user(user: &str, own: &str) -> Result<(), Refusal> {
    match is_user(user) {
        true if user == own => Err(Refusal::bad("that is you")),
        true => Ok(()),
        false => Err(Refusal::bad("that is not the name of a user")),
    }
}

fn fields<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::bad(error.to_string()))
}
