//! What a peer may ask for beside its messages: the operations `chat.*`, `contact.*` and `inbox.*`.

use handler::{Cx, ShardId};
use rand::Rng;
use serde::Deserialize;
use topic::Mail;

use crate::{
    conversation::{Ask, Conversation, personal},
    directory::{self, Cursor},
    facts::{Refusal, Who},
    list::PAGE_LINES_MAX,
    post::Query,
    presence,
    search::FOUND_MAX,
};

/// Letters and digits of a group's id: 24 of 36 are 124 bits, which nobody guesses.
const ID_CHARS: usize = 24;
const LETTERS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// Conversations on one page of the list, unless it is said otherwise: what a screen or two show.
const LIST_LINES: usize = 50;

/// Who answers an operation.
#[derive(Debug)]
pub(crate) enum Request {
    /// A home.
    Home { to: ShardId, query: Query },
    /// This shard.
    Search(Search),
    /// This shard and homes.
    Presence(presence::Ask),
}

/// `chat.search {prefix, limit?}`: users whose names begin so.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct Search {
    pub(crate) prefix: String,
    #[serde(default = "found_max")]
    pub(crate) limit: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Marks {
    topic: String,
    after: Option<String>,
    limit: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Read {
    topic: String,
    read: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    after: Option<String>,
    limit: Option<usize>,
}

impl Request {
    /// Reads an operation, and finds who answers it. `None`: there is no such operation.
    pub(crate) fn read(cx: &mut Cx<'_, Mail>, who: &Who<'_>, op: &str, body: &[u8]) -> Option<Result<Self, Refusal>> {
        if let Some(ask) = Ask::read(op, body) {
            return Some(ask.map(|ask| Self::about(cx, who, ask)));
        }
        if let Some(ask) = directory::Op::read(op, body) {
            return Some(ask.and_then(|op| match &op {
                // What is said meanwhile must not be forgotten with it.
                directory::Op::Forget { topic } if !who.guest && topic.len() <= topic::TOPIC_BYTES_MAX => {
                    match Conversation::parse(topic) {
                        Some(on @ Conversation::Direct(..)) => {
                            Ok(Self::Home { to: cx.home(topic), query: Query::End { on } })
                        }
                        _ => Self::of_user(cx, who, Query::Directory(op)),
                    }
                }
                _ => Self::of_user(cx, who, Query::Directory(op)),
            }));
        }
        if let Some(ask) = presence::of_operation(op, body) {
            let denied = || Refusal::denied("only an account has presence, and sees that of others");
            return Some(if who.guest { Err(denied()) } else { ask.map(Self::Presence) });
        }
        Some(match op {
            "chat.marks" | "inbox.read" if who.guest => Err(Refusal::denied("only an account has marks to show")),
            "chat.search" => fields(body).map(Self::Search),
            "chat.marks" => fields(body).and_then(|Marks { topic, after, limit }| {
                let (on, limit) = (conversation(&topic)?, limit.unwrap_or(PAGE_LINES_MAX));
                Ok(Self::Home { to: cx.home(&topic), query: Query::Marks { on, after, limit } })
            }),
            "inbox.read" => fields(body).and_then(|Read { topic, read }| {
                let on = conversation(&topic)?;
                Ok(Self::Home { to: cx.home(&topic), query: Query::Read { on, read } })
            }),
            "inbox.list" => fields(body).and_then(|List { after, limit }| {
                let after = after.map(|after| after.parse::<Cursor>()).transpose()?;
                Self::of_user(cx, who, Query::List { after, limit: limit.unwrap_or(LIST_LINES) })
            }),
            _ => return None,
        })
    }

    fn about(cx: &mut Cx<'_, Mail>, who: &Who<'_>, Ask { on, op }: Ask) -> Self {
        let on = on.unwrap_or_else(|| {
            let letters = (0..ID_CHARS).map(|_| char::from(LETTERS[cx.rng.random_range(0..LETTERS.len())]));
            Conversation::Group(letters.collect())
        });
        // Only the asker's own home knows its contacts, and in how many groups it is.
        let is_vouched = op.is_create() || !op.newcomers().is_empty();
        match personal(who.user).filter(|_| !who.guest && is_vouched) {
            Some(name) => Self::Home { to: cx.home(&name), query: Query::Vouch { on, op } },
            None => Self::Home { to: cx.home(&on.topic()), query: Query::Conversation { on, op } },
        }
    }

    /// What only an account has: its home decides.
    fn of_user(cx: &mut Cx<'_, Mail>, who: &Who<'_>, query: Query) -> Result<Self, Refusal> {
        match personal(who.user).filter(|_| !who.guest) {
            Some(name) => Ok(Self::Home { to: cx.home(&name), query }),
            None => Err(Refusal::denied("only an account has contacts and a list of conversations")),
        }
    }
}

fn conversation(topic: &str) -> Result<Conversation, Refusal> {
    if topic == crate::audit::AUDIT_TOPIC {
        return Err(Refusal::denied("that is for those who keep order"));
    }
    Conversation::parse(topic).ok_or_else(|| Refusal::bad("`topic` is not a conversation"))
}

fn fields<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::bad(error.to_string()))
}

fn found_max() -> usize {
    FOUND_MAX
}
