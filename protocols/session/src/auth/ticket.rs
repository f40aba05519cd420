//! Resume tickets: what a client needs to go on with its session on any shard, at the price of one hash.
//!
//! ```text
//!  0 u8  version (2)     17 u8  flags: 1 guest, 2 login   then 16 bytes of the login, if flagged,
//!  1 u64 expiry          18 u8  capabilities             then user, device, capabilities, each as u16 length | bytes,
//!  9 u64 issued                                          then 32 bytes of HMAC
//! ```
//! The code is over the length of the session's id, the id, and all bytes before it. All of it is base64url without padding.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::{Buf, BufMut};

use crate::{
    auth::{AuthError, CAPS_BYTES_MAX, CAPS_MAX, Claims, Keys, LoginId, hmac256::MAC_LEN},
    name::{DEVICE_BYTES_MAX, USER_CHARS_MAX},
};

/// Bytes of the longest ticket.
pub const TICKET_BYTES_MAX: usize = (RAW_MAX * 4).div_ceil(3);
const RAW_MAX: usize = HEAD_LEN + 4 + USER_CHARS_MAX * 4 + DEVICE_BYTES_MAX + CAPS_MAX * 2 + CAPS_BYTES_MAX + MAC_LEN;
const HEAD_LEN: usize = 19 + 16;
const _: () = assert!(TICKET_BYTES_MAX < 2048, "a ticket leaves half of a hello of 4 KiB to subscriptions");

const VERSION: u8 = 2;
const GUEST: u8 = 1;
const LOGIN: u8 = 2;

/// Whose a session is: what a ticket says, once it was checked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    /// The user's name.
    pub user: String,
    /// The user's device.
    pub device: String,
    /// When the right to speak expires, seconds since 1970: with the token that opened the session, however often it is
    /// resumed.
    pub exp: u64,
    /// What the user may do; none: what users may.
    pub caps: Vec<String>,
    /// Nobody has proved to own this name.
    pub guest: bool,
    /// When the token that opened the session was issued, seconds since 1970.
    pub iat: u64,
    /// The login that it belongs to.
    pub sid: Option<LoginId>,
}

impl Holder {
    /// The holder of a token, on one of its devices.
    #[must_use]
    pub fn new(claims: Claims, device: impl Into<String>) -> Self {
        let Claims { sub, exp, caps, guest, iat, sid, nbf: _ } = claims;
        Self { user: sub, device: device.into(), exp, caps, guest, iat, sid }
    }
}

impl Keys {
    /// The ticket by which `session` may be resumed until its holder's right expires. The holder's names were checked: they
    /// come out of [`Keys::verify`] or a ticket, and of a hello.
    #[must_use]
    pub fn ticket(&self, session: &str, holder: &Holder) -> String {
        let mut raw = write(holder);
        let mac = self.0.ticket.mac([&len_of(session)[..], session.as_bytes(), &raw]);
        raw.extend_from_slice(&mac);
        BASE64_URL_SAFE_NO_PAD.encode(raw)
    }

    /// Whose `session` is, if the ticket is ours for it and valid at `now`, in seconds since 1970.
    ///
    /// # Errors
    /// Why it is not.
    pub fn verify_ticket(&self, now: u64, session: &str, ticket: &str) -> Result<Holder, AuthError> {
        if ticket.len() > TICKET_BYTES_MAX {
            return Err(AuthError::Ticket);
        }
        let raw = BASE64_URL_SAFE_NO_PAD.decode(ticket).map_err(|_| AuthError::Ticket)?;
        let (text, mac) = raw.split_last_chunk::<MAC_LEN>().ok_or(AuthError::Ticket)?;
        if !self.0.ticket.is_mac([&len_of(session)[..], session.as_bytes(), text], mac) {
            return Err(AuthError::Ticket);
        }
        let holder = read(text).ok_or(AuthError::Ticket)?;
        if holder.exp <= now { Err(AuthError::Expired) } else { Ok(holder) }
    }
}

/// Without the length in front, a letter could be moved from the session's end to the ticket's beginning.
fn len_of(session: &str) -> [u8; 8] {
    (session.len() as u64).to_le_bytes()
}

fn write(holder: &Holder) -> Vec<u8> {
    let mut raw = Vec::with_capacity(RAW_MAX);
    raw.put_u8(VERSION);
    raw.put_u64_le(holder.exp);
    raw.put_u64_le(holder.iat);
    raw.put_u8(if holder.guest { GUEST } else { 0 } | if holder.sid.is_some() { LOGIN } else { 0 });
    raw.put_u8(u8::try_from(holder.caps.len()).expect("at most CAPS_MAX"));
    if let Some(login) = holder.sid {
        raw.put_slice(&login.0);
    }
    for text in [&holder.user, &holder.device].into_iter().chain(&holder.caps) {
        raw.put_u16_le(u16::try_from(text.len()).expect("names and capabilities are short"));
        raw.put_slice(text.as_bytes());
    }
    raw
}

fn read(mut raw: &[u8]) -> Option<Holder> {
    if raw.try_get_u8().ok()? != VERSION {
        return None;
    }
    let exp = raw.try_get_u64_le().ok()?;
    let iat = raw.try_get_u64_le().ok()?;
    let flags = raw.try_get_u8().ok()?;
    let guest = flags & GUEST != 0;
    let caps = raw.try_get_u8().ok()?;
    let sid = match flags & LOGIN {
        0 => None,
        _ => {
            let (login, rest) = raw.split_first_chunk()?;
            raw = rest;
            Some(LoginId(*login))
        }
    };
    let user = read_text(&mut raw)?;
    let device = read_text(&mut raw)?;
    let caps = (0..caps).map(|_| read_text(&mut raw)).collect::<Option<_>>()?;
    raw.is_empty().then_some(Holder { user, device, exp, caps, guest, iat, sid })
}

fn read_text(raw: &mut &[u8]) -> Option<String> {
    let len = raw.try_get_u16_le().ok()?;
    let (text, rest) = raw.split_at_checked(len.into())?;
    *raw = rest;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;
    const SESSION: &str = "01234567-89ab-7fff-bfff-ffffffffffff";

    fn keys() -> Keys {
        Keys::new(&[7; 32])
    }

    fn alice() -> Holder {
        let caps = vec!["chat/*".to_owned(), String::new()];
        let (iat, sid) = (NOW - 5, Some(LoginId([5; 16])));
        Holder { user: "alice ä".into(), device: "laptop".into(), exp: NOW + 60, caps, guest: true, iat, sid }
    }

    #[test]
    fn a_ticket_leads_back_to_its_holder_until_it_expires() {
        let ticket = keys().ticket(SESSION, &alice());
        assert_eq!(keys().verify_ticket(NOW + 59, SESSION, &ticket), Ok(alice()));
        assert_eq!(keys().verify_ticket(NOW + 60, SESSION, &ticket), Err(AuthError::Expired));
    }

    #[test]
    fn a_ticket_is_for_one_session_of_one_server() {
        //= SPEC.md#5.3
        let ticket = keys().ticket(SESSION, &alice());
        assert_eq!(keys().verify_ticket(NOW, &SESSION[1..], &ticket), Err(AuthError::Ticket));
        assert_eq!(keys().verify_ticket(NOW, "", &ticket), Err(AuthError::Ticket));
        assert_eq!(Keys::new(&[8; 32]).verify_ticket(NOW, SESSION, &ticket), Err(AuthError::Ticket));
    }

    #[test]
    fn every_changed_or_missing_letter_is_noticed() {
        let ticket = keys().ticket(SESSION, &alice());
        for at in 0..ticket.len() {
            let mut bytes = ticket.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(keys().verify_ticket(NOW, SESSION, &changed), Err(AuthError::Ticket), "{at}");
            assert_eq!(keys().verify_ticket(NOW, SESSION, &ticket[..at]), Err(AuthError::Ticket), "{at}");
        }
        for garbage in ["", "=", "a b", "\0", &"A".repeat(100_000)] {
            assert_eq!(keys().verify_ticket(NOW, SESSION, garbage), Err(AuthError::Ticket));
        }
    }

    #[test]
    fn bytes_do_not_move_between_session_and_ticket() {
        let ticket = keys().ticket(SESSION, &alice());
        let raw = BASE64_URL_SAFE_NO_PAD.decode(&ticket).unwrap();
        let (moved, shifted) = (format!("{SESSION}\u{1}"), BASE64_URL_SAFE_NO_PAD.encode(&raw[1..]));
        assert_eq!(keys().verify_ticket(NOW, &moved, &shifted), Err(AuthError::Ticket));
    }

    #[test]
    fn the_longest_ticket_is_as_long_as_promised() {
        let caps = vec!["x".repeat(CAPS_BYTES_MAX / CAPS_MAX); CAPS_MAX];
        let (user, device, exp, sid) = ("𝕏".repeat(64), "d".repeat(64), NOW + 1, Some(LoginId([1; 16])));
        let holder = Holder { user, device, exp, caps, guest: false, iat: NOW, sid };
        let ticket = keys().ticket(SESSION, &holder);
        assert_eq!(ticket.len(), TICKET_BYTES_MAX);
        assert_eq!(keys().verify_ticket(NOW, SESSION, &ticket), Ok(holder));
    }

    #[test]
    fn a_token_is_no_ticket_and_a_ticket_no_token() {
        let token = keys().mint(NOW, "alice", 60, &[], false);
        let ticket = keys().ticket(SESSION, &alice());
        assert_eq!(keys().verify_ticket(NOW, SESSION, &token), Err(AuthError::Ticket));
        assert_eq!(keys().verify(NOW, &ticket), Err(AuthError::Token));
    }
}
