//! What one home tells a user's home.

use serde::{Deserialize, Serialize};

/// News for a user's directory. One that comes twice changes nothing the second time. It is kept as a fact while it is
/// under way.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(tag = "letter", rename_all = "snake_case")]
pub enum Letter {
    /// Another user asks to be a contact.
    Request {
        /// Who.
        from: String,
        /// When; it names the request.
        at_ms: u64,
        /// What the asker says.
        text: String,
    },
    /// The request to another user was accepted.
    Accept {
        /// By whom.
        from: String,
        /// Which request.
        at_ms: u64,
    },
    /// The request to another user was not.
    Decline {
        /// By whom.
        from: String,
        /// Which request.
        at_ms: u64,
    },
    /// The request of another user is taken back.
    Withdraw {
        /// By whom.
        from: String,
        /// Which request.
        at_ms: u64,
    },
    /// Another user is no contact any longer, or never was.
    Remove {
        /// Who.
        from: String,
        /// Which request had led to it.
        at_ms: u64,
    },
    /// The user is in a conversation from now on.
    Listed {
        /// Its topic.
        topic: String,
        /// When.
        at_ms: u64,
        /// The newest message at that time; what came before is not unread.
        offset: u64,
        /// Who brought the user there, if somebody did.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// Another user asks the user into a group.
    Invited {
        /// Its topic.
        topic: String,
        /// Who.
        by: String,
        /// What the group is called.
        name: String,
        /// When.
        at_ms: u64,
    },
    /// The user is asked into a group no longer.
    Uninvited {
        /// Its topic.
        topic: String,
    },
    /// The user is in a conversation no longer.
    Unlisted {
        /// Its topic.
        topic: String,
        /// When.
        at_ms: u64,
    },
    /// How far the user has come in a conversation, as its home knows it: never beyond its end.
    Marked {
        /// Its topic.
        topic: String,
        /// All up to here has arrived.
        delivered: u64,
        /// All up to here was seen.
        read: u64,
    },
}
