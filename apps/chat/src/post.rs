//! What chat writes to itself on other shards.

use std::sync::Arc;

use bytes::Bytes;
use handler::{Code, Peer, ShardId};
use serde::{Deserialize, Serialize};

use crate::{
    conversation::{self, Conversation},
    directory::{self, Cursor, Last},
    facts::Refusal,
    presence, rate,
};

/// A letter between shards.
#[derive(Debug)]
pub(crate) enum Post {
    /// To a home: somebody asks.
    Ask {
        peer: Peer,
        id: u32,
        user: Arc<str>,
        guest: bool,
        query: Query,
    },
    /// From a home: the answer.
    Answer {
        peer: Peer,
        id: u32,
        answer: Result<Bytes, Refusal>,
    },
    /// To a home: news, which its sender keeps until it was taken.
    Note {
        from: String,
        number: u64,
        to: String,
        note: Note,
    },
    /// Back: whether it is on disk there. If not, it has to come again.
    Taken {
        from: String,
        to: String,
        number: u64,
        taken: bool,
    },
    /// To shards that listen to a conversation: a user takes part no longer.
    Expel {
        topic: String,
        user: String,
    },
    /// To homes of conversations, from a user's home: what is new in them?
    Heads {
        ticket: u64,
        user: Arc<str>,
        /// Their topics, and how far the user has read them at least.
        topics: Vec<(String, u64)>,
    },
    Headed {
        ticket: u64,
        heads: Vec<Head>,
    },
    /// To a home: a program says something there.
    Push {
        ticket: u64,
        target: String,
        topic: String,
        body: Bytes,
    },
    /// To the home of a group: who is to be told one by one?
    PushMembers {
        ticket: u64,
        group: String,
    },
    PushedMembers {
        ticket: u64,
        group: String,
        users: Result<Vec<String>, Code>,
    },
    /// Back: whether it is on disk.
    Pushed {
        ticket: u64,
        target: String,
        result: Result<(), Code>,
    },
    /// Who is there.
    Presence(presence::Letter),
    /// How much users do on all shards together.
    Rates(rate::Letter),
    /// To a user's home: how far the user has come in a conversation.
    Marked {
        user: String,
        topic: String,
        delivered: u64,
        read: u64,
    },
}

/// What is asked of a home.
#[derive(Debug)]
pub(crate) enum Query {
    Conversation {
        on: Conversation,
        op: conversation::Op,
    },
    /// To the asker's own home: which of the users it wants in a group are its contacts?
    Vouch {
        on: Conversation,
        op: conversation::Op,
    },
    /// From there to the group's home; the answer is for a peer of this shard.
    Vouched {
        shard: ShardId,
        on: Conversation,
        op: conversation::Op,
        known: Vec<String>,
    },
    Marks {
        on: Conversation,
        after: Option<String>,
        limit: usize,
    },
    Read {
        on: Conversation,
        read: u64,
    },
    Directory(directory::Op),
    /// To a direct conversation: where does it end, before it goes out of the asker's list?
    End {
        on: Conversation,
    },
    /// From there to the asker's own home; the answer is for a peer of this shard.
    Forget {
        shard: ShardId,
        topic: String,
        upto: u64,
    },
    List {
        after: Option<Cursor>,
        limit: usize,
    },
}

impl Query {
    /// Whether it makes something that is kept.
    pub(crate) fn changes(&self) -> bool {
        match self {
            Query::Conversation { op, .. } => !matches!(
                op,
                conversation::Op::Members { .. }
                    | conversation::Op::Bans { .. }
                    | conversation::Op::Invitations { .. }
                    | conversation::Op::Info
            ),
            Query::Vouch { .. } | Query::Vouched { .. } | Query::End { .. } | Query::Forget { .. } => true,
            Query::Directory(op) => !matches!(op, directory::Op::List { .. }),
            Query::Marks { .. } | Query::Read { .. } | Query::List { .. } => false,
        }
    }
}

/// News of one home for another one, kept as a fact while it is under way.
#[derive(Clone, PartialEq, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Note {
    /// For a user's directory.
    Directory(directory::Letter),
    /// For a direct conversation: one of the two does not hear the other one, or does again.
    Blocked { by: String, on: bool },
    /// For the record of what was done to others.
    Audit { body: String },
    /// For a group: this user was made a member by somebody whom it does not hear, and leaves.
    Unwanted { by: String },
    /// For a direct conversation: it is not in this user's list any longer, whose end was there when the user said so.
    Forgotten {
        by: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        upto: Option<u64>,
    },
}

/// The end of a conversation, and how far a user has come in it.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) topic: String,
    /// What it is called, if it is a group.
    pub(crate) name: Option<String>,
    pub(crate) head: u64,
    pub(crate) at_ms: u64,
    pub(crate) last: Option<Last>,
    pub(crate) read: u64,
    /// The user's own messages behind that.
    pub(crate) own: u64,
}
