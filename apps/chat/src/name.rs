//! What users may be called that take part in more than open rooms, and what people may call their groups.

use unicode_normalization::UnicodeNormalization;

/// Characters of a user's name; the session protocol has no longer ones.
pub const USER_CHARS_MAX: usize = 64;

/// Characters of a group's name: a line on a phone.
pub const GROUP_NAME_CHARS_MAX: usize = 64;

/// Whether a user has a name as accounts have: letters, digits, `.`, `_` and `-`, the first one a letter or a digit.
/// Only such names are in the keys of facts and in the topics of direct conversations: none has a `/` or a `~`. An
/// operator can sign tokens for other names too; they are heard in open rooms and nowhere else.
#[must_use]
pub fn is_user(name: &str) -> bool {
    let known = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-');
    name.starts_with(char::is_alphanumeric) && name.chars().all(known) && name.chars().count() <= USER_CHARS_MAX
}

/// What a group is called: in NFC, so that what looks the same is the same, and without blanks around it.
///
/// # Errors
/// What is wrong with it.
pub fn group_name(name: &str) -> Result<String, &'static str> {
    let name: String = name.trim().nfc().collect();
    match name.chars().count() {
        0 => Err("a group has a name"),
        1..=GROUP_NAME_CHARS_MAX if name.chars().all(is_printable) => Ok(name),
        1..=GROUP_NAME_CHARS_MAX => Err("the name of a group has no control characters and none that are not seen"),
        _ => Err("the name of a group has at most 64 characters"),
    }
}

/// Neither a control character nor one that turns or hides the text around it.
pub(crate) fn is_printable(c: char) -> bool {
    !c.is_control()
        && !matches!(c,
            '\u{00ad}' | '\u{061c}' | '\u{180e}' | '\u{200b}'..='\u{200c}' | '\u{200e}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_as_accounts_have_them() {
        for good in ["a", "Zoë.2-x_y", "张伟", &"x".repeat(64)] {
            assert!(is_user(good), "{good}");
        }
        let long = "x".repeat(65);
        for bad in ["", "-a", ".a", "a/b", "a~b", "a b", "a\n", "\u{301}a", "a\u{202e}", &long] {
            assert!(!is_user(bad), "{bad:?}");
        }
    }

    #[test]
    fn the_same_name_of_a_group_is_the_same_bytes() {
        assert_eq!(group_name("  Cafe\u{301} "), Ok("Café".to_owned()));
        assert_eq!(group_name("👨\u{200d}👩\u{200d}👧 us"), Ok("👨\u{200d}👩\u{200d}👧 us".to_owned()));
        assert_eq!(group_name(&"e\u{301}".repeat(64)), Ok("é".repeat(64)));
        for bad in ["", " \u{3000}", "a\tb", "a\0", "a\u{202e}b", "\u{200b}", &"é".repeat(65)] {
            assert!(group_name(bad).is_err(), "{bad:?}");
        }
    }
}
