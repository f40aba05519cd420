//! The text of a message, counted and kept as it is written in the JSON.

use std::borrow::Cow;

use serde_json::value::RawValue;

/// A text that was found well-formed and neither empty nor too long, as it is in the JSON: in quotes and escaped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Text<'a>(&'a str);

impl<'a> Text<'a> {
    /// As it is in the JSON.
    pub(crate) fn quoted(self) -> &'a str {
        self.0
    }

    /// The text itself; a copy only if something in it is escaped.
    #[must_use]
    pub fn plain(self) -> Cow<'a, str> {
        match self.0.contains('\\') {
            true => serde_json::from_str::<String>(self.0).map_or(Cow::Borrowed(""), Cow::Owned),
            false => Cow::Borrowed(self.0.trim_matches('"')),
        }
    }
}

/// Whether a JSON value is the text of a message.
pub(super) fn check(text: &RawValue, chars_max: usize) -> Result<Text<'_>, &'static str> {
    let quoted = text.get();
    let text = quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"')).ok_or("`text` is a string")?;
    match count(text).ok_or("`text` has half a surrogate pair")? {
        0 => Err("`text` is empty"),
        n if n <= chars_max => Ok(Text(quoted)),
        _ => Err("`text` has too many characters"),
    }
}

/// Characters of a JSON string that was found well-formed; `None`: it has half a surrogate pair. Unescaping it would
/// cost a copy.
fn count(text: &str) -> Option<usize> {
    // Most texts have no escape, and whole runs are counted many bytes at a time.
    let (plain, rest) = text.split_at(text.find('\\').unwrap_or(text.len()));
    let mut chars = rest.chars();
    let mut count = plain.chars().count();
    while let Some(char) = chars.next() {
        count += 1;
        if char != '\\' || chars.next()? != 'u' {
            continue;
        }
        match unit(&mut chars)? {
            0xd800..0xdc00 => {
                let low = (chars.next()? == '\\' && chars.next()? == 'u').then(|| unit(&mut chars)).flatten()?;
                (0xdc00..0xe000).contains(&low).then_some(())?;
            }
            0xdc00..0xe000 => return None,
            _ => {}
        }
    }
    Some(count)
}

/// The four hexadecimal digits of `\u`.
fn unit(chars: &mut std::str::Chars<'_>) -> Option<u32> {
    (0..4).try_fold(0, |unit, _| Some(unit * 16 + chars.next()?.to_digit(16)?))
}
