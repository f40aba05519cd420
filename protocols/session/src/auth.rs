//! Who may speak: signed tokens that say who somebody is, and tickets that let a session go on elsewhere.
//!
//! Both are checked against the time that is given, never a clock.

mod hmac256;
mod login;
mod ticket;

use std::{fmt, sync::Arc};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::ErrorKind};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::name;

pub use login::{LoginId, REFRESH_BYTES, Refresh};
pub use ticket::{Holder, TICKET_BYTES_MAX};

/// Difference between two clocks that is forgiven where a time must not lie in the future. Never for an expiry.
pub const SKEW_SECS: u64 = 60;

/// Capabilities in a token, in bytes over all: they travel in every ticket, and a ticket must fit in a hello of 4 KiB.
pub const CAPS_BYTES_MAX: usize = 1024;
/// Capabilities in a token.
pub const CAPS_MAX: usize = 32;

/// What a token says, once its signature was checked.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Claims {
    /// The user's name.
    pub sub: String,
    /// When it expires, seconds since 1970.
    pub exp: u64,
    /// When it was issued.
    pub iat: u64,
    /// Before this it is not valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<u64>,
    /// What the user may do; none: what users may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub caps: Vec<String>,
    /// Nobody has proved to own this name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub guest: bool,
    /// The login that it belongs to: it ends with it. None: it is good until it expires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<LoginId>,
}

/// Why somebody may not speak.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum AuthError {
    /// Not a token, or signed by somebody else.
    #[error("the token is not valid")]
    Token,
    /// The token is not signed by HS256, whatever its header asks for.
    #[error("the token is not signed by HS256")]
    Algorithm,
    /// The token or ticket has expired.
    #[error("the token has expired")]
    Expired,
    /// The token is of the future.
    #[error("the token is not valid yet")]
    NotYet,
    /// The token's user name is not one.
    #[error("the token's user name is not one")]
    User,
    /// The token has too many capabilities.
    #[error("the token has too many capabilities")]
    Caps,
    /// Not a ticket, or not of this session.
    #[error("the ticket is not valid for this session")]
    Ticket,
    /// Not a refresh token, or one that is not good any longer.
    #[error("the refresh token is not valid")]
    Refresh,
    /// The login that it belongs to has ended.
    #[error("the token was revoked")]
    Revoked,
}

/// The keys of a server: read-only and shared by all shards. The secret signs tokens; tickets have a key of their own that is
/// derived from it, so that neither can be passed off as the other.
#[derive(Clone)]
pub struct Keys(Arc<Inner>);

struct Inner {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    ticket: hmac256::Key,
    refresh: hmac256::Key,
}

impl Keys {
    /// Keys from a secret; 32 random bytes are a good one.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        hmac256::install();
        let mut validation = Validation::new(Algorithm::HS256);
        // The library would ask a clock; `verify` compares with the time that it is given.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        validation.set_required_spec_claims(&["exp", "sub"]);
        Self(Arc::new(Inner {
            encoding: EncodingKey::from_secret(secret),
            decoding: DecodingKey::from_secret(secret),
            validation,
            ticket: hmac256::Key::new(secret).derive(b"ringshard resume ticket 2"),
            refresh: hmac256::Key::new(secret).derive(b"ringshard refresh token 1"),
        }))
    }

    /// A signed token. `now` is in seconds since 1970. No capabilities means: what users may.
    ///
    /// What is signed here is checked where it is read: a token with a name that is none is good for nothing.
    #[must_use]
    pub fn mint(&self, now: u64, sub: &str, ttl_secs: u64, caps: &[String], guest: bool) -> String {
        let (sub, exp, caps) = (sub.to_owned(), now.saturating_add(ttl_secs), caps.to_vec());
        self.sign(&Claims { sub, exp, iat: now, nbf: None, caps, guest, sid: None })
    }

    /// A signed token of a login, for what users may do.
    #[must_use]
    pub fn mint_for(&self, now: u64, sub: &str, ttl_secs: u64, login: LoginId) -> String {
        let (sub, exp, sid) = (sub.to_owned(), now.saturating_add(ttl_secs), Some(login));
        self.sign(&Claims { sub, exp, iat: now, nbf: None, caps: Vec::new(), guest: false, sid })
    }

    fn sign(&self, claims: &Claims) -> String {
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &self.0.encoding)
            .expect("texts and numbers can be written as JSON, and HMAC takes any bytes")
    }

    /// What a token says, if it is one of ours and valid at `now`, in seconds since 1970.
    ///
    /// # Errors
    /// Why it is not.
    pub fn verify(&self, now: u64, token: &str) -> Result<Claims, AuthError> {
        let data = jsonwebtoken::decode::<Claims>(token, &self.0.decoding, &self.0.validation);
        let claims = data.map_err(|error| match error.kind() {
            ErrorKind::InvalidAlgorithm => AuthError::Algorithm,
            _ => AuthError::Token,
        })?;
        let claims = claims.claims;
        check_times(now, &claims)?;
        check_names(&claims)?;
        Ok(claims)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(..)")
    }
}

fn check_times(now: u64, claims: &Claims) -> Result<(), AuthError> {
    let latest = now.saturating_add(SKEW_SECS);
    if claims.exp <= now {
        Err(AuthError::Expired)
    } else if claims.iat > latest || claims.nbf.is_some_and(|nbf| nbf > latest) {
        Err(AuthError::NotYet)
    } else {
        Ok(())
    }
}

fn check_names(claims: &Claims) -> Result<(), AuthError> {
    name::user(&claims.sub).map_err(|_| AuthError::User)?;
    let fits = claims.caps.len() <= CAPS_MAX && claims.caps.iter().map(String::len).sum::<usize>() <= CAPS_BYTES_MAX;
    if fits { Ok(()) } else { Err(AuthError::Caps) }
}

/// A session's id: a UUID of version 7 out of the time, in milliseconds since 1970, and random bytes.
#[must_use]
pub fn session_id(at_ms: u64, random: &[u8; 10]) -> String {
    uuid::Builder::from_unix_timestamp_millis(at_ms, random).into_uuid().to_string()
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn keys() -> Keys {
        Keys::new(&[7; 32])
    }

    fn signed(header: &str, claims: &str) -> String {
        let text = format!("{}.{}", BASE64_URL_SAFE_NO_PAD.encode(header), BASE64_URL_SAFE_NO_PAD.encode(claims));
        let mac = hmac256::Key::new(&[7; 32]).mac([text.as_bytes()]);
        format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac))
    }

    const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

    #[test]
    fn a_minted_token_says_who_until_it_expires() {
        //= SPEC.md#5.2
        let caps = vec!["chat/*".to_owned()];
        let token = keys().mint(NOW, "alice", 3600, &caps, true);
        let claims = Claims { sub: "alice".into(), exp: NOW + 3600, iat: NOW, nbf: None, caps, guest: true, sid: None };
        assert_eq!(keys().verify(NOW, &token), Ok(claims.clone()));
        assert_eq!(keys().verify(NOW + 3599, &token), Ok(claims.clone()));
        assert_eq!(keys().verify(NOW + 3600, &token), Err(AuthError::Expired));
        assert_eq!(keys().verify(NOW - SKEW_SECS, &token), Ok(claims));
        assert_eq!(keys().verify(NOW - SKEW_SECS - 1, &token), Err(AuthError::NotYet));
    }

    #[test]
    fn a_token_of_a_login_names_it() {
        let claims = keys().verify(NOW, &keys().mint_for(NOW, "alice", 60, LoginId([7; 16]))).expect("ours");
        assert_eq!((claims.sub.as_str(), claims.sid, claims.guest), ("alice", Some(LoginId([7; 16])), false));
        let odd = signed(HS256, &format!(r#"{{"sub":"bob","exp":{},"iat":{NOW},"sid":"x"}}"#, NOW + 1));
        assert_eq!(keys().verify(NOW, &odd), Err(AuthError::Token));
    }

    #[test]
    fn a_token_of_another_issuer_with_the_secret_is_good() {
        let token = signed(HS256, &format!(r#"{{"sub":"bob","exp":{},"iat":{NOW},"role":"x"}}"#, NOW + 1));
        assert_eq!(keys().verify(NOW, &token).map(|claims| (claims.sub, claims.guest)), Ok(("bob".to_owned(), false)));
    }

    #[test]
    fn nobody_chooses_the_algorithm_but_us() {
        //= SPEC.md#5.1
        let claims = format!(r#"{{"sub":"bob","exp":{},"iat":{NOW}}}"#, NOW + 1);
        for alg in ["HS384", "HS512", "RS256", "ES256", "EdDSA"] {
            let token = signed(&format!(r#"{{"alg":"{alg}"}}"#), &claims);
            assert_eq!(keys().verify(NOW, &token), Err(AuthError::Algorithm), "{alg}");
        }
        for header in [r#"{"alg":"none"}"#, r#"{"alg":"hs256"}"#, "{}", ""] {
            assert_eq!(keys().verify(NOW, &signed(header, &claims)), Err(AuthError::Token), "{header}");
        }
        let unsigned = signed(HS256, &claims).rsplit_once('.').map(|(text, _)| format!("{text}.")).unwrap();
        assert_eq!(keys().verify(NOW, &unsigned), Err(AuthError::Token));
    }

    #[test]
    fn every_changed_letter_is_noticed() {
        let token = keys().mint(NOW, "alice", 3600, &[], false);
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(keys().verify(NOW, &changed).is_err(), "{at}");
        }
        assert!(Keys::new(&[8; 32]).verify(NOW, &token).is_err());
        for garbage in ["", ".", "..", "a.b.c", "\0", &"x".repeat(100_000)] {
            assert!(keys().verify(NOW, garbage).is_err());
        }
    }

    #[test]
    fn claims_are_complete_and_bounded() {
        for claims in [
            format!(r#"{{"sub":"bob","iat":{NOW}}}"#),
            format!(r#"{{"exp":{},"iat":{NOW}}}"#, NOW + 1),
            format!(r#"{{"sub":"bob","exp":"{}","iat":{NOW}}}"#, NOW + 1),
            format!(r#"{{"sub":"a\nb","exp":{},"iat":{NOW}}}"#, NOW + 1),
            format!(r#"{{"sub":"bob","exp":{},"iat":{NOW},"nbf":{}}}"#, NOW + 1, NOW + 61),
        ] {
            assert!(keys().verify(NOW, &signed(HS256, &claims)).is_err(), "{claims}");
        }
        for caps in [vec!["x".repeat(1025)], vec![String::new(); 33]] {
            assert_eq!(keys().verify(NOW, &keys().mint(NOW, "a", 1, &caps, false)), Err(AuthError::Caps));
        }
    }

    #[test]
    fn session_ids_are_uuids_of_version_7_in_the_order_of_time() {
        let id = session_id(0x0123_4567_89ab, &[0xff; 10]);
        assert_eq!(id, "01234567-89ab-7fff-bfff-ffffffffffff");
        assert!(session_id(1, &[0xff; 10]) < session_id(2, &[0; 10]));
    }

    #[test]
    fn keys_are_not_shown() {
        assert_eq!(format!("{:?}", keys()), "Keys(..)");
    }
}
