//! What topics, users, devices, keys and operations may be called.

use thiserror::Error;

/// Bytes of a topic's name: with a header and a short body it still fits in one datagram.
pub const TOPIC_BYTES_MAX: usize = 200;
/// Characters of a user's name.
pub const USER_CHARS_MAX: usize = 64;
/// Bytes of a device's name: it is kept beside every publish counter.
pub const DEVICE_BYTES_MAX: usize = 64;
/// Bytes of the key of an ephemeral value.
pub const KEY_BYTES_MAX: usize = 64;
/// Bytes of an operation's name.
pub const OP_BYTES_MAX: usize = 64;

/// Why a name is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("{}", self.reason())]
pub enum NameError {
    /// Not a topic's name.
    Topic,
    /// Not a user's name.
    User,
    /// Not a device's name.
    Device,
    /// Not a key.
    Key,
    /// Not an operation.
    Op,
}

impl NameError {
    /// The message without a copy of it.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Topic => "a topic is app/rest of 1 to 200 bytes of [a-z0-9._~-], in parts between slashes",
            Self::User => "a user's name has 1 to 64 printable characters and no space at its ends",
            Self::Device => "a device's name has 1 to 64 bytes of printable characters",
            Self::Key => "a key has 1 to 64 bytes of printable characters",
            Self::Op => "an operation is app.verb of 1 to 64 bytes of [a-z0-9._]",
        }
    }
}

/// Checks a topic's name: an app, and behind a slash what the app calls it, in one or more parts.
///
/// # Errors
/// When it is not one.
pub fn topic(name: &str) -> Result<(), NameError> {
    let part = |part: &str| !part.is_empty() && part.bytes().all(is_topic_byte);
    let good = name.len() <= TOPIC_BYTES_MAX && name.contains('/') && name.split('/').all(part);
    if good { Ok(()) } else { Err(NameError::Topic) }
}

/// Checks a user's name.
///
/// # Errors
/// When it is not one.
pub fn user(name: &str) -> Result<(), NameError> {
    let chars = name.chars().take(USER_CHARS_MAX + 1).count();
    let good = (1..=USER_CHARS_MAX).contains(&chars) && name.trim() == name && name.chars().all(is_printable);
    if good { Ok(()) } else { Err(NameError::User) }
}

/// Checks a device's name.
///
/// # Errors
/// When it is not one.
pub fn device(name: &str) -> Result<(), NameError> {
    let good = (1..=DEVICE_BYTES_MAX).contains(&name.len()) && name.chars().all(is_printable);
    if good { Ok(()) } else { Err(NameError::Device) }
}

/// Checks the key of an ephemeral value.
///
/// # Errors
/// When it is not one.
pub fn key(name: &str) -> Result<(), NameError> {
    let good = (1..=KEY_BYTES_MAX).contains(&name.len()) && name.chars().all(is_printable);
    if good { Ok(()) } else { Err(NameError::Key) }
}

/// Checks an operation's name.
///
/// # Errors
/// When it is not one.
pub fn op(name: &str) -> Result<(), NameError> {
    let good = |part: &str| part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._".contains(&b));
    match name.split_once('.') {
        Some((app, verb)) if name.len() <= OP_BYTES_MAX && !app.is_empty() && !verb.is_empty() && good(name) => Ok(()),
        _ => Err(NameError::Op),
    }
}

fn is_topic_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._~-".contains(&byte)
}

/// Neither a control character nor one that turns or hides the text around it: names are shown next to other names.
fn is_printable(c: char) -> bool {
    !c.is_control()
        && !matches!(c,
            '\u{00ad}' | '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_have_one_app_and_plain_letters() {
        for good in
            ["chat/lobby", "a/b", "chat/a.b_c~d-9", "chat/d/ada~bob", "a/b/c/d", &format!("chat/{}", "x".repeat(195))]
        {
            assert_eq!(topic(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "/",
            "chat",
            "chat/",
            "/lobby",
            "chat/a/",
            "chat//b",
            "chat/a//b",
            "Chat/x",
            "chat/ä",
            "chat/a b",
            "chat/\0",
        ] {
            assert_eq!(topic(bad), Err(NameError::Topic), "{bad}");
        }
        assert!(topic(&format!("chat/{}", "x".repeat(196))).is_err());
    }

    #[test]
    fn users_are_printable_and_cannot_hide() {
        for good in ["a", "Alice B.", "日本", &"ä".repeat(64)] {
            assert_eq!(user(good), Ok(()), "{good}");
        }
        for bad in ["", " a", "a ", "a\nb", "a\u{202e}b", "a\u{200b}", "\u{7f}", &"ä".repeat(65)] {
            assert_eq!(user(bad), Err(NameError::User), "{bad:?}");
        }
    }

    #[test]
    fn devices_keys_and_operations_are_short() {
        assert!(device("laptop").is_ok() && key("cursor").is_ok() && op("chat.history").is_ok());
        for bad in ["", "a\0", &"x".repeat(65)] {
            assert!(device(bad).is_err() && key(bad).is_err() && op(bad).is_err(), "{bad:?}");
        }
        for bad in ["chat", ".x", "chat.", "Chat.x", "chat/x.y"] {
            assert_eq!(op(bad), Err(NameError::Op), "{bad}");
        }
    }
}
