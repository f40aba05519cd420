//! How an operation on a conversation is written: its name and a JSON object.

use serde::Deserialize;

use super::{address::Conversation, group::Role, op::Op};
use crate::{facts::Refusal, list::PAGE_LINES_MAX};

/// An operation, and on which conversation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ask {
    /// The conversation; `None` for [`Op::Create`]: the server makes its id.
    pub on: Option<Conversation>,
    /// What is asked.
    pub op: Op,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Create {
    name: String,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    open: bool,
    #[serde(default)]
    slow_ms: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    topic: String,
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    topic: String,
    open: Option<bool>,
    slow_ms: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Several {
    topic: String,
    users: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain {
    topic: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    topic: String,
    user: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ranked {
    topic: String,
    user: String,
    role: Role,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Until {
    topic: String,
    user: String,
    until_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listing {
    topic: String,
    after: Option<String>,
    limit: Option<usize>,
}

impl Ask {
    /// Reads the body of an operation. `None`: it is no operation on a conversation.
    #[must_use]
    pub fn read(op: &str, body: &[u8]) -> Option<Result<Self, Refusal>> {
        let verb = op.strip_prefix("chat.")?;
        let ask = match verb {
            "create" => fields(body)
                .map(|Create { name, users, open, slow_ms }| (None, Op::Create { name, users, open, slow_ms })),
            "rename" => fields(body).map(|Named { topic, name }| (Some(topic), Op::Rename { name })),
            "settings" => {
                fields(body).map(|Rules { topic, open, slow_ms }| (Some(topic), Op::Settings { open, slow_ms }))
            }
            "invite" => fields(body).map(|Several { topic, users }| (Some(topic), Op::Invite { users })),
            "join" => fields(body).map(|Plain { topic }| (Some(topic), Op::Join)),
            "decline" => fields(body).map(|Plain { topic }| (Some(topic), Op::Decline)),
            "leave" => fields(body).map(|Plain { topic }| (Some(topic), Op::Leave)),
            "info" => fields(body).map(|Plain { topic }| (Some(topic), Op::Info)),
            "remove" => fields(body).map(|One { topic, user }| (Some(topic), Op::Remove { user })),
            "unban" => fields(body).map(|One { topic, user }| (Some(topic), Op::Unban { user })),
            "role" => fields(body).map(|Ranked { topic, user, role }| (Some(topic), Op::Role { user, role })),
            "mute" => fields(body).map(|Until { topic, user, until_ms }| (Some(topic), Op::Mute { user, until_ms })),
            "ban" => fields(body).map(|Until { topic, user, until_ms }| (Some(topic), Op::Ban { user, until_ms })),
            "members" => fields(body).map(|Listing { topic, after, limit }| {
                (Some(topic), Op::Members { after, limit: limit.unwrap_or(PAGE_LINES_MAX) })
            }),
            "invitations" => fields(body).map(|Listing { topic, after, limit }| {
                (Some(topic), Op::Invitations { after, limit: limit.unwrap_or(PAGE_LINES_MAX) })
            }),
            "bans" => fields(body).map(|Listing { topic, after, limit }| {
                (Some(topic), Op::Bans { after, limit: limit.unwrap_or(PAGE_LINES_MAX) })
            }),
            _ => return None,
        };
        Some(ask.and_then(|(topic, op)| Self::new(topic.as_deref(), op)))
    }

    fn new(topic: Option<&str>, op: Op) -> Result<Self, Refusal> {
        let no_topic = || Refusal::bad("`topic` is not a conversation");
        let on = topic.map(|topic| Conversation::parse(topic).ok_or_else(no_topic)).transpose()?;
        Ok(Self { on, op })
    }
}

fn fields<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::bad(error.to_string()))
}
