//! A login: what all tokens of one device have in common, from the password until it is left; and the tokens that renew it.
//!
//! ```text
//!  0 u8 version (1)   1 16 bytes the login   17 u64 generation   25 32 bytes of HMAC over all before it
//! ```
//! A refresh token is base64url of that, without padding. It is good once: whoever renews gets the next generation, and a
//! server can give the same one again to somebody whose answer was lost. Nothing of it is secret to the server's disk,
//! which only has to keep which generation is next, and since when.

use std::fmt;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use crate::auth::{AuthError, Keys, hmac256::MAC_LEN};

const VERSION: u8 = 1;
const ID_LEN: usize = 16;
const TEXT_LEN: usize = 1 + ID_LEN + 8;

/// Letters of a refresh token.
pub const REFRESH_BYTES: usize = ((TEXT_LEN + MAC_LEN) * 4).div_ceil(3);

/// One login, by random bytes; written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LoginId(pub [u8; ID_LEN]);

impl LoginId {
    /// The login that is written so.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let small = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let number = u128::from_str_radix(text, 16).ok().filter(|_| small && text.len() == ID_LEN * 2)?;
        Some(Self(number.to_be_bytes()))
    }
}

impl fmt::Display for LoginId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for LoginId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LoginId({self})")
    }
}

impl Serialize for LoginId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for LoginId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom("not a login"))
    }
}

/// What a refresh token says: that its holder was the one who renewed the login so often.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refresh {
    /// Which login.
    pub login: LoginId,
    /// How often it had been renewed.
    pub generation: u64,
}

impl Keys {
    /// The refresh token of a login.
    #[must_use]
    pub fn refresh_token(&self, refresh: Refresh) -> String {
        let mut raw = Vec::with_capacity(TEXT_LEN + MAC_LEN);
        raw.push(VERSION);
        raw.extend_from_slice(&refresh.login.0);
        raw.extend_from_slice(&refresh.generation.to_le_bytes());
        let mac = self.0.refresh.mac([&raw[..]]);
        raw.extend_from_slice(&mac);
        BASE64_URL_SAFE_NO_PAD.encode(raw)
    }

    /// What a refresh token says, if it is ours. Whether it is still good, whoever keeps the logins knows.
    ///
    /// # Errors
    /// [`AuthError::Refresh`].
    pub fn verify_refresh(&self, token: &str) -> Result<Refresh, AuthError> {
        if token.len() != REFRESH_BYTES {
            return Err(AuthError::Refresh);
        }
        let raw = BASE64_URL_SAFE_NO_PAD.decode(token).map_err(|_| AuthError::Refresh)?;
        let (text, mac) = raw.split_last_chunk::<MAC_LEN>().ok_or(AuthError::Refresh)?;
        if !self.0.refresh.is_mac([text], mac) {
            return Err(AuthError::Refresh);
        }
        read(text).ok_or(AuthError::Refresh)
    }
}

fn read(text: &[u8]) -> Option<Refresh> {
    let (version, rest) = text.split_first()?;
    let (login, rest) = rest.split_first_chunk::<ID_LEN>()?;
    let generation = u64::from_le_bytes(rest.try_into().ok()?);
    (*version == VERSION).then_some(Refresh { login: LoginId(*login), generation })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFRESH: Refresh = Refresh { login: LoginId([9; 16]), generation: 7 };

    fn keys() -> Keys {
        Keys::new(&[7; 32])
    }

    #[test]
    fn a_refresh_token_leads_back_to_its_login() {
        let token = keys().refresh_token(REFRESH);
        assert_eq!((token.len(), keys().verify_refresh(&token)), (REFRESH_BYTES, Ok(REFRESH)));
        assert_eq!(Keys::new(&[8; 32]).verify_refresh(&token), Err(AuthError::Refresh));
        assert_ne!(keys().refresh_token(Refresh { generation: 8, ..REFRESH }), token);
    }

    #[test]
    fn every_changed_or_missing_letter_is_noticed() {
        let token = keys().refresh_token(REFRESH);
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).expect("letters");
            assert_eq!(keys().verify_refresh(&changed), Err(AuthError::Refresh), "{at}");
            assert_eq!(keys().verify_refresh(&token[..at]), Err(AuthError::Refresh), "{at}");
        }
        for garbage in ["", "\0", &"A".repeat(REFRESH_BYTES), &"A".repeat(100_000), &"ä".repeat(REFRESH_BYTES / 2)] {
            assert_eq!(keys().verify_refresh(garbage), Err(AuthError::Refresh));
        }
        let access = keys().mint(1, "alice", 60, &[], false);
        assert_eq!(keys().verify_refresh(&access), Err(AuthError::Refresh));
        assert_eq!(keys().verify(1, &token), Err(AuthError::Token));
    }

    #[test]
    fn a_login_is_written_in_one_way() {
        let id = LoginId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]);
        assert_eq!(
            (id.to_string().as_str(), LoginId::parse(&id.to_string())),
            ("000102030405060708090a0b0c0d0eff", Some(id))
        );
        for bad in ["", "0", "+00102030405060708090a0b0c0d0eff", "000102030405060708090A0B0C0D0EFF", &"0".repeat(33)] {
            assert_eq!(LoginId::parse(bad), None, "{bad}");
        }
    }
}
