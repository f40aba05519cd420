//! What a conversation is told about itself: bodies of the type `system`, which only the server writes.

use bytes::Bytes;
use serde::Serialize;

use super::group::Role;
use crate::facts::json;

/// What happened.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event<'a> {
    /// There is a group, with these members beside its owner.
    Created {
        /// What it is called.
        name: &'a str,
        /// Who else is in it.
        users: &'a [String],
    },
    /// It is called otherwise.
    Renamed {
        /// What it is called now.
        name: &'a str,
    },
    /// Its rules are others.
    Settings {
        /// Whether everybody may join.
        open: bool,
        /// The time between two messages of one member.
        slow_ms: u32,
    },
    /// Users were made members: contacts of whoever did it.
    Invited {
        /// Which.
        users: &'a [String],
    },
    /// A user became a member.
    Joined {
        /// Which.
        user: &'a str,
    },
    /// A member left.
    Left {
        /// Which.
        user: &'a str,
    },
    /// A member was made to leave.
    Removed {
        /// Which.
        user: &'a str,
    },
    /// A member has another role.
    Role {
        /// Which.
        user: &'a str,
        /// The new role.
        role: Role,
    },
    /// A member may not write for a while, or may again.
    Muted {
        /// Which.
        user: &'a str,
        /// Until when; absent: it may write.
        #[serde(skip_serializing_if = "Option::is_none")]
        until_ms: Option<u64>,
    },
    /// A user may not be a member.
    Banned {
        /// Which.
        user: &'a str,
        /// Until when; absent: for good.
        #[serde(skip_serializing_if = "Option::is_none")]
        until_ms: Option<u64>,
    },
    /// A new day has come, which the messages behind this one are of.
    Day {
        /// The date, `YYYY-MM-DD`.
        date: &'a str,
        /// Days since 1970-01-01.
        day: u64,
    },
    /// A user may be a member again.
    Unbanned {
        /// Which.
        user: &'a str,
    },
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(flatten)]
    event: &'a Event<'a>,
    by: &'a str,
}

impl Event<'_> {
    /// The body: `{"type":"system","event":"joined","user":"bob","by":"bob"}`.
    #[must_use]
    pub fn body(&self, by: &str) -> Bytes {
        json(&Body { kind: "system", event: self, by })
    }
}
