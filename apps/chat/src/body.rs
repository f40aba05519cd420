//! What a message says: `{"type":"text","text":".."}` and its kin, checked without a copy.
//!
//! | type | has |
//! |---|---|
//! | `text` | `text` |
//! | `image`, `file`, `audio`, `video` | `file`, a [`File`]; perhaps `text`, its caption |
//! | `edit` | `offset` of a message of one's own, and the `text` that it has from now on |
//! | `recall` | `offset` of a message that is no more |
//! | `recalled` | what readers get instead of a message that was recalled: `offset`, `by`, `at_ms`, perhaps its `client_id` |
//! | `system` | what the server says, see [`crate::conversation::Event`]; nobody else writes it |
//!
//! All but `system` and `recalled` may have a `client_id`, all but `recall` also `mentions`, messages also `reply_to`, an offset.

mod amend;
mod file;
mod text;
mod tombstone;

use std::borrow::Cow;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

pub(crate) use self::tombstone::tombstone;
pub use self::{
    amend::{Amend, AmendLimits, EDIT_MS_MAX, Original, RECALL_MS_MAX, may_amend},
    file::{FILE_NAME_CHARS_MAX, File, MIME_BYTES_MAX, URL_BYTES_MAX},
    text::Text,
};
use crate::name::is_user;

/// The longest text in characters, unless the configuration has another limit.
pub const TEXT_CHARS_MAX: usize = 5_000;

/// Users that one message mentions: each of them is told.
pub const MENTIONS_MAX: usize = 50;

/// Bytes of a client's own id of a message.
pub const CLIENT_ID_BYTES_MAX: usize = 64;

/// A message that may be published.
#[derive(Clone, PartialEq, Debug)]
pub struct Body<'a> {
    /// What it says or does.
    pub what: What<'a>,
    /// The message that it answers.
    pub reply_to: Option<u64>,
    /// Users that it is about.
    pub mentions: Vec<Cow<'a, str>>,
    /// The client's own id of it.
    pub client_id: Option<&'a str>,
}

/// What a message says or does.
#[derive(Clone, PartialEq, Debug)]
pub enum What<'a> {
    /// Words.
    Text(Text<'a>),
    /// A file.
    Media {
        /// How it is shown.
        kind: Media,
        /// Which.
        file: File<'a>,
        /// Words to it.
        caption: Option<Text<'a>>,
    },
    /// Another message, or its caption, has another text.
    Edit {
        /// Which message.
        offset: u64,
        /// The new text.
        text: Text<'a>,
    },
    /// Another message is no more.
    Recall {
        /// Which message.
        offset: u64,
    },
}

/// How a file is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Media {
    /// As a picture.
    Image,
    /// As a name to click.
    File,
    /// To be heard.
    Audio,
    /// To be seen and heard.
    Video,
}

/// The fields as they are written. What few messages have is not read here: a plain text should cost what it costs.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow, default, deserialize_with = "present")]
    text: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    file: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "present")]
    offset: Option<u64>,
    #[serde(default, deserialize_with = "present")]
    reply_to: Option<u64>,
    #[serde(borrow, default, deserialize_with = "present")]
    mentions: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    client_id: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// Whether this may be published, as far as it can be said without its conversation: whether it changes another message.
/// Readers get what was checked and nothing else, so a field that is not known is refused too.
pub(crate) fn check(body: &[u8], chars_max: usize) -> Result<bool, &'static str> {
    read(body, chars_max).map(|body| matches!(body.what, What::Edit { .. } | What::Recall { .. }))
}

/// Reads a message of a client; a plain text costs no allocation.
///
/// # Errors
/// Why it may not be published, whatever the state of its conversation.
pub fn read(body: &[u8], chars_max: usize) -> Result<Body<'_>, &'static str> {
    const SHAPE: &str = "a message is {\"type\":\"text\",\"text\":\"...\"}";
    // UTF-8 is checked once and not for each field.
    let body = str::from_utf8(body).map_err(|_| SHAPE)?;
    let fields: Fields<'_> = serde_json::from_str(body).map_err(|_| SHAPE)?;
    let text = fields.text.map(|text| text::check(text, chars_max)).transpose()?;
    let what = match (&*fields.kind, text, fields.file, fields.offset) {
        ("text", Some(text), None, None) => What::Text(text),
        ("text", ..) => return Err("a text has `text` and neither `file` nor `offset`"),
        ("image", caption, Some(file), None) => media(Media::Image, file, caption)?,
        ("file", caption, Some(file), None) => media(Media::File, file, caption)?,
        ("audio", caption, Some(file), None) => media(Media::Audio, file, caption)?,
        ("video", caption, Some(file), None) => media(Media::Video, file, caption)?,
        ("image" | "file" | "audio" | "video", ..) => return Err("such a message has `file` and no `offset`"),
        ("edit", Some(text), None, Some(offset)) if fields.reply_to.is_none() => What::Edit { offset, text },
        ("edit", ..) => return Err("an edit has `offset` and `text`, and neither `file` nor `reply_to`"),
        ("recall", None, None, Some(offset)) if fields.reply_to.is_none() && fields.mentions.is_none() => {
            What::Recall { offset }
        }
        ("recall", ..) => return Err("a recall has `offset` and nothing else"),
        ("system", ..) => return Err("only the server says `system`"),
        _ => return Err("unknown type of message"),
    };
    if fields.offset == Some(0) || fields.reply_to == Some(0) {
        return Err("offsets start at 1");
    }
    let mentions = fields.mentions.map_or(Ok(Vec::new()), check_mentions)?;
    let client_id = fields.client_id.map(check_client_id).transpose()?;
    Ok(Body { what, reply_to: fields.reply_to, mentions, client_id })
}

/// A field that is there has a value: `null` is not taken for an absent one.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

fn media<'a>(kind: Media, file: &'a RawValue, caption: Option<Text<'a>>) -> Result<What<'a>, &'static str> {
    let file: File<'_> = serde_json::from_str(file.get())
        .map_err(|_| "`file` is {url, name, bytes, mime, width?, height?, duration_ms?}")?;
    file.check(kind)?;
    Ok(What::Media { kind, file, caption })
}

fn check_mentions(names: &RawValue) -> Result<Vec<Cow<'_, str>>, &'static str> {
    let names: Vec<Name<'_>> = serde_json::from_str(names.get()).map_err(|_| "`mentions` is a list of names")?;
    if names.len() > MENTIONS_MAX {
        return Err("a message mentions at most 50 users");
    }
    let all = names.iter().all(|name| is_user(&name.0));
    if all { Ok(names.into_iter().map(|name| name.0).collect()) } else { Err("`mentions` are names of users") }
}

/// Letters that need no escape, so that the id is compared as it is.
fn check_client_id(id: &RawValue) -> Result<&str, &'static str> {
    let id = id.get().strip_prefix('"').and_then(|id| id.strip_suffix('"')).ok_or("`client_id` is a string")?;
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._~:-".contains(&byte);
    let good = (1..=CLIENT_ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(known);
    if good { Ok(id) } else { Err("`client_id` is 1 to 64 of a-z A-Z 0-9 . _ ~ : -") }
}

/// Whether this is an ephemeral value: any JSON object, since nobody keeps it.
pub(crate) fn check_ephemeral(body: &[u8]) -> Result<(), &'static str> {
    let value: &RawValue = serde_json::from_slice(body).map_err(|_| "the body is not JSON")?;
    if value.get().starts_with('{') { Ok(()) } else { Err("the body is not an object") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Result<(), &'static str> {
        super::check(format!("{{\"type\":\"text\",\"text\":\"{text}\"}}").as_bytes(), TEXT_CHARS_MAX).map(|_| ())
    }

    #[test]
    fn texts_pass() {
        for good in ["hi", "ü", "\\n", "\\\"", "\\\\", "a\\u0000b", "\\ud83d\\ude00", &"ü".repeat(TEXT_CHARS_MAX)] {
            assert_eq!(text(good), Ok(()), "{good}");
        }
        assert_eq!(text(&"\\ud83d\\ude00".repeat(TEXT_CHARS_MAX)), Ok(()));
        assert_eq!(super::check(b" {\"text\" : \"x\" , \"type\":\"t\\u0065xt\"} ", TEXT_CHARS_MAX), Ok(false));
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

    fn read(body: &str) -> Result<Body<'_>, &'static str> {
        super::read(body.as_bytes(), TEXT_CHARS_MAX)
    }

    #[test]
    fn a_text_may_answer_and_mention() {
        let body =
            r#"{"type":"text","text":"\u0041da \"x\"","reply_to":7,"mentions":["ada","张伟"],"client_id":"0190-a.b"}"#;
        let body = read(body).expect("a message");
        let What::Text(text) = body.what else { panic!("a text") };
        assert_eq!(text.plain(), "Ada \"x\"");
        assert_eq!(
            (body.reply_to, &body.mentions[..], body.client_id),
            (Some(7), &["ada".into(), "张伟".into()][..], Some("0190-a.b"))
        );
        let many = |n: usize| format!(r#"{{"type":"text","text":"x","mentions":[{}]}}"#, vec!["\"a\""; n].join(","));
        assert!(read(&many(MENTIONS_MAX)).is_ok() && read(&many(MENTIONS_MAX + 1)).is_err());
        for bad in [
            r#""reply_to":0"#,
            r#""reply_to":-1"#,
            r#""reply_to":null"#,
            r#""offset":3"#,
            r#""mentions":["a b"]"#,
            r#""mentions":"ada""#,
            r#""mentions":[7]"#,
            r#""client_id":"""#,
            r#""client_id":"a b""#,
            r#""client_id":7"#,
            r#""file":null"#,
        ] {
            let body = format!(r#"{{"type":"text","text":"x",{bad}}}"#);
            assert!(read(&body).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_text_that_is_not_escaped_is_not_copied() {
        for text in ["x", "ü", "a b"] {
            let body = format!(r#"{{"type":"text","text":"{text}"}}"#);
            let What::Text(read) = read(&body).expect("a message").what else { panic!("a text") };
            assert!(matches!(read.plain(), Cow::Borrowed(plain) if plain == text));
        }
    }

    #[test]
    fn edits_and_recalls_name_a_message() {
        let edit = read(r#"{"type":"edit","offset":3,"text":"x","mentions":["ada"]}"#).map(|body| body.what);
        assert!(matches!(edit, Ok(What::Edit { offset: 3, text }) if text.plain() == "x"));
        let recall = read(r#"{"type":"recall","offset":3,"client_id":"a"}"#).map(|body| body.what);
        assert_eq!(recall, Ok(What::Recall { offset: 3 }));
        for bad in [
            r#"{"type":"edit","text":"x"}"#,
            r#"{"type":"edit","offset":3}"#,
            r#"{"type":"edit","offset":3,"text":""}"#,
            r#"{"type":"edit","offset":3,"text":"x","reply_to":1}"#,
            r#"{"type":"recall"}"#,
            r#"{"type":"recall","offset":0}"#,
            r#"{"type":"recall","offset":3,"text":"x"}"#,
            r#"{"type":"recall","offset":3,"mentions":[]}"#,
            r#"{"type":"system","event":"joined","user":"ada","by":"ada"}"#,
            r#"{"type":"system","text":"x"}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert_eq!(super::check(br#"{"type":"recall","offset":3}"#, TEXT_CHARS_MAX), Ok(true));
    }
}
