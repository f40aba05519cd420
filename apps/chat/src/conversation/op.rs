//! What may be asked of a conversation.

use super::group::{Role, SLOW_MS_MAX};
use crate::{facts::Refusal, list::check_limit, name};

/// Users that one operation names: their names fit the notice that lists them, and deciding stays a part of a turn.
pub const USERS_PER_OP_MAX: usize = 200;

const _: () = assert!(
    USERS_PER_OP_MAX * (name::USER_CHARS_MAX * 4 + 3) + 1_024 <= topic::BODY_BYTES_MAX,
    "a notice with all their names is a message"
);

/// An operation on a conversation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// `chat.create {name, users?, open?, slow_ms?}`: a group of the asker. Of the users its contacts are in it, the others
    /// are invited.
    Create {
        /// What it is called.
        name: String,
        /// Who else is to be in it.
        users: Vec<String>,
        /// Whether everybody may join.
        open: bool,
        /// The time between two messages of one member.
        slow_ms: u32,
    },
    /// `chat.rename {topic, name}`.
    Rename {
        /// What it is called from now on.
        name: String,
    },
    /// `chat.settings {topic, open?, slow_ms?}`: what is absent stays.
    Settings {
        /// Whether everybody may join.
        open: Option<bool>,
        /// The time between two messages of one member.
        slow_ms: Option<u32>,
    },
    /// `chat.invite {topic, users}`: makes contacts of the asker members, and asks the others; members stay what they are.
    Invite {
        /// Whom.
        users: Vec<String>,
    },
    /// `chat.join {topic}`: also accepts an invitation.
    Join,
    /// `chat.decline {topic}`: says no to an invitation.
    Decline,
    /// `chat.leave {topic}`.
    Leave,
    /// `chat.remove {topic, user}`: makes a member leave, or takes an invitation back. It may come back if the group is
    /// open.
    Remove {
        /// Whom.
        user: String,
    },
    /// `chat.role {topic, user, role}`: the owner gives roles. Who gives the role of the owner becomes an admin.
    Role {
        /// To whom.
        user: String,
        /// Which.
        role: Role,
    },
    /// `chat.mute {topic, user, until_ms?}`: until then the member may not write. Absent or over: it may.
    Mute {
        /// Whom.
        user: String,
        /// Until when.
        until_ms: Option<u64>,
    },
    /// `chat.ban {topic, user, until_ms?}`: makes the user leave and keeps it out; absent: for good.
    Ban {
        /// Whom.
        user: String,
        /// Until when.
        until_ms: Option<u64>,
    },
    /// `chat.unban {topic, user}`.
    Unban {
        /// Whom.
        user: String,
    },
    /// `chat.members {topic, after?, limit?}`: a page of the members, by name.
    Members {
        /// The last name of the page before.
        after: Option<String>,
        /// How many at most.
        limit: usize,
    },
    /// `chat.bans {topic, after?, limit?}`: a page of the bans, by name.
    Bans {
        /// The last name of the page before.
        after: Option<String>,
        /// How many at most.
        limit: usize,
    },
    /// `chat.invitations {topic, after?, limit?}`: a page of those who were invited and have not answered, by name.
    Invitations {
        /// The last name of the page before.
        after: Option<String>,
        /// How many at most.
        limit: usize,
    },
    /// `chat.info {topic}`.
    Info,
}

impl Op {
    /// Users that the asker wants in a group.
    pub(crate) fn newcomers(&self) -> &[String] {
        match self {
            Self::Create { users, .. } | Self::Invite { users } => users,
            _ => &[],
        }
    }

    /// Whether it makes a group.
    pub(crate) fn is_create(&self) -> bool {
        matches!(self, Self::Create { .. })
    }

    /// What can be said without any facts.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        match self {
            Self::Create { users, slow_ms, .. } => {
                check_users(users)?;
                check_slow(*slow_ms)
            }
            Self::Settings { slow_ms, .. } => check_slow(slow_ms.unwrap_or(0)),
            Self::Invite { users } => check_users(users),
            Self::Remove { user }
            | Self::Role { user, .. }
            | Self::Mute { user, .. }
            | Self::Ban { user, .. }
            | Self::Unban { user } => check_users(std::slice::from_ref(user)),
            Self::Members { limit, .. } | Self::Bans { limit, .. } | Self::Invitations { limit, .. } => {
                check_limit(*limit)
            }
            Self::Rename { .. } | Self::Join | Self::Decline | Self::Leave | Self::Info => Ok(()),
        }
    }
}

fn check_users(users: &[String]) -> Result<(), Refusal> {
    if users.len() > USERS_PER_OP_MAX {
        return Err(Refusal::bad(format!("an operation names at most {USERS_PER_OP_MAX} users")));
    }
    let all = users.iter().all(|user| name::is_user(user));
    if all { Ok(()) } else { Err(Refusal::bad("that is not the name of a user")) }
}

fn check_slow(slow_ms: u32) -> Result<(), Refusal> {
    if slow_ms <= SLOW_MS_MAX { Ok(()) } else { Err(Refusal::bad(format!("`slow_ms` is at most {SLOW_MS_MAX}"))) }
}
