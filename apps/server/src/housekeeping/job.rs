//! What the housekeeping thread is asked for, and what comes of it.

use std::{fmt, net::IpAddr};

use handler::Code;
use session::auth::{LoginId, Refresh};

use crate::{account::AccountError, login::Stands};

/// What a shard wants done.
#[derive(Debug)]
pub enum Job {
    /// Make an account and log in.
    Register(Credentials),
    /// Log in.
    Login(Credentials),
    /// Come in under a name that no account has.
    Guest {
        /// The name.
        name: String,
        /// From where.
        address: IpAddr,
    },
    /// Renew a login.
    Refresh {
        /// What the refresh token says, which is ours.
        refresh: Refresh,
        /// From where.
        address: IpAddr,
    },
    /// End a login, or all of the account.
    Logout {
        /// What the refresh token says, which is ours.
        refresh: Refresh,
        /// Whether all devices are meant.
        all: bool,
        /// From where.
        address: IpAddr,
    },
}

/// A name and a password, and where they come from.
pub struct Credentials {
    /// The name.
    pub name: String,
    /// The password.
    pub password: String,
    /// From where.
    pub address: IpAddr,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("name", &self.name).field("address", &self.address).finish_non_exhaustive()
    }
}

/// Who somebody is, for whoever makes the token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The user's name.
    pub user: String,
    /// Whether nothing proves it.
    pub guest: bool,
    /// The login of an account's device.
    pub login: Option<Stands>,
}

/// What was done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Done {
    /// Somebody may come in.
    Welcome(Identity),
    /// Somebody has logged out.
    Goodbye,
}

/// Logins that have ended before their time: sessions of them end, too.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ended {
    /// Which.
    pub logins: Vec<LoginId>,
    /// Whose; of those that made room for a login, whose that is.
    pub user: String,
    /// Whether all tokens of the user end, also those without a login.
    pub all: bool,
    /// What moderators are told of it, if anything.
    pub record: Option<&'static str>,
}

/// The outcome of a job, and what every shard has to know of it.
#[derive(Debug)]
pub struct Outcome {
    /// For whoever asked.
    pub answer: Result<Done, Refusal>,
    /// For all shards.
    pub ended: Option<Ended>,
}

/// Why not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// What kind.
    pub code: Code,
    /// In words.
    pub message: String,
    /// When to try again.
    pub retry_ms: Option<u32>,
}

impl From<AccountError> for Refusal {
    fn from(error: AccountError) -> Self {
        Self { code: error.code(), message: error.to_string(), retry_ms: None }
    }
}
