//! What a message says: `{"type":"text","text":".."}`, checked without a copy.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

/// The longest text in characters, unless the configuration has another limit.
pub const TEXT_CHARS_MAX: usize = 5_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    text: &'a RawValue,
}

/// Whether this is a message that may be published; if not, why. Readers get what was checked and nothing else, so a
/// field that is not known is refused too.
pub(crate) fn check(body: &[u8], chars_max: usize) -> Result<(), &'static str> {
    let body: Body<'_> =
        serde_json::from_slice(body).map_err(|_| "a message is {\"type\":\"text\",\"text\":\"...\"}")?;
    if body.kind != "text" {
        return Err("unknown type of message");
    }
    let text = body.text.get().strip_prefix('"').and_then(|text| text.strip_suffix('"')).ok_or("`text` is a string")?;
    match count(text).ok_or("`text` has half a surrogate pair")? {
        0 => Err("`text` is empty"),
        n if n <= chars_max => Ok(()),
        _ => Err("`text` has too many characters"),
    }
}

/// Whether this is an ephemeral value: any JSON object, since nobody keeps it.
pub(crate) fn check_ephemeral(body: &[u8]) -> Result<(), &'static str> {
    let value: &RawValue = serde_json::from_slice(body).map_err(|_| "the body is not JSON")?;
    if value.get().starts_with('{') { Ok(()) } else { Err("the body is not an object") }
}

/// Characters of a JSON string that was found well-formed; `None`: it has half a surrogate pair. Unescaping it would
/// cost a copy.
fn count(text: &str) -> Option<usize> {
    let mut chars = text.chars();
    let mut count = 0;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Result<(), &'static str> {
        super::check(format!("{{\"type\":\"text\",\"text\":\"{text}\"}}").as_bytes(), TEXT_CHARS_MAX)
    }

    #[test]
    fn texts_pass() {
        for good in ["hi", "ü", "\\n", "\\\"", "\\\\", "a\\u0000b", "\\ud83d\\ude00", &"ü".repeat(TEXT_CHARS_MAX)] {
            assert_eq!(text(good), Ok(()), "{good}");
        }
        assert_eq!(text(&"\\ud83d\\ude00".repeat(TEXT_CHARS_MAX)), Ok(()));
        assert_eq!(super::check(b" {\"text\" : \"x\" , \"type\":\"t\\u0065xt\"} ", TEXT_CHARS_MAX), Ok(()));
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in ["", "\\ud83d", "\\ude00", "\\ud83dx", "\\ud83d\\n", "\\ud83d\\u0041", "\\x", "\\u12", "\n"] {
            assert!(text(bad).is_err(), "{bad}");
        }
        assert!(text(&"ü".repeat(TEXT_CHARS_MAX + 1)).is_err());
        assert!(text(&"\\ud83d\\ude00".repeat(TEXT_CHARS_MAX + 1)).is_err());
        for bad in [
            &b""[..],
            b"{}",
            b"[]",
            b"null",
            b"\xff",
            b"{\"type\":\"text\"}",
            b"{\"text\":\"x\"}",
            b"{\"type\":\"text\",\"text\":7}",
            b"{\"type\":\"text\",\"text\":[\"\"]}",
            b"{\"type\":\"image\",\"text\":\"x\"}",
            b"{\"type\":\"text\",\"text\":\"x\",\"from\":\"eve\"}",
            b"{\"type\":\"text\",\"text\":\"x\",\"text\":\"y\"}",
            b"{\"type\":\"text\",\"text\":\"x\"}x",
            b"{\"type\":\"text\",\"text\":\"\xc3\"}",
        ] {
            assert!(super::check(bad, TEXT_CHARS_MAX).is_err(), "{}", String::from_utf8_lossy(bad));
        }
    }
}
