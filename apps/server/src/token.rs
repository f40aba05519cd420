//! `ringshard token`: a token signed with the server's secret, for programs and tests that should not log in.

use std::{
    env,
    time::{SystemTime, UNIX_EPOCH},
};

use session::{
    Keys,
    auth::{CAPS_BYTES_MAX, CAPS_MAX},
    name,
};

use crate::{
    config::Problems,
    data::{self, DataError},
    flags::TokenFlags,
};

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] Problems),
    /// The secret cannot be had.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The name or a capability cannot be in a token.
    #[error("--{flag} {value:?}: {reason}")]
    Value {
        /// The flag.
        flag: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// Characters of a capability.
const CAP_CHARS_MAX: usize = 64;

/// Signs a token, also while the server runs.
///
/// # Errors
/// See [`TokenError`].
pub fn run(flags: &TokenFlags) -> Result<String, TokenError> {
    let config = flags.sources(env::vars_os()).load()?.config;
    check(flags)?;
    let secret = match &config.auth.secret {
        Some(secret) => secret.expose().to_vec(),
        None => data::secret(&config.server.data)?,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let ttl = flags.ttl.unwrap_or(config.auth.token_ttl).as_secs();
    Ok(Keys::new(&secret).mint(now, &flags.sub, ttl, &flags.caps, false))
}

fn check(flags: &TokenFlags) -> Result<(), TokenError> {
    let wrong = |flag, value: &str, reason| Err(TokenError::Value { flag, value: value.to_owned(), reason });
    if let Err(error) = name::user(&flags.sub) {
        return wrong("sub", &flags.sub, error.reason());
    }
    if flags.caps.len() > CAPS_MAX || flags.caps.iter().map(String::len).sum::<usize>() > CAPS_BYTES_MAX {
        return wrong("cap", &flags.caps.join(" "), "a token carries at most 32 capabilities of 1,024 bytes together");
    }
    let fits = |cap: &str| {
        !cap.is_empty() && cap.chars().count() <= CAP_CHARS_MAX && !cap.chars().any(|c| c.is_control() || c == ' ')
    };
    match flags.caps.iter().find(|cap| !fits(cap)) {
        Some(cap) => wrong("cap", cap, "a capability has 1 to 64 characters without blanks"),
        None => Ok(()),
    }
}
