//! A user's conversations as a list, those with news first, in pages.

use std::{borrow::Cow, cmp::Reverse, fmt, str::FromStr};

use bytes::Bytes;
use serde::{Deserialize, Serialize, Serializer};

use crate::{
    facts::{Refusal, json},
    list::check_limit,
};

/// Characters of a last message that the list shows: a line.
pub const PREVIEW_CHARS_MAX: usize = 100;

/// Bytes of a line at most: a topic, a preview and its writer, escaped, and what a group is called.
const LINE_BYTES_MAX: usize = 200
    + 6 * 4 * PREVIEW_CHARS_MAX
    + 2 * 4 * crate::name::USER_CHARS_MAX
    + 2 * 4 * crate::name::GROUP_NAME_CHARS_MAX
    + 300;

/// Bytes after which a page has no further line.
const PAGE_BYTES_MAX: usize = 48 * 1024;

const _: () = assert!(PAGE_BYTES_MAX + LINE_BYTES_MAX + 1_024 <= topic::BODY_BYTES_MAX, "a page fits a frame");

/// A conversation: the user's entry, and what its home says of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recent {
    /// Its topic.
    pub topic: String,
    /// What it is called, if it is a group.
    pub name: Option<String>,
    /// Its newest offset.
    pub head: u64,
    /// All up to here was seen by the user.
    pub read: u64,
    /// Messages of the user's own behind that.
    pub own: u64,
    /// When the last thing happened in it; without a message, when the user came.
    pub last_at_ms: u64,
    /// The newest message.
    pub last: Option<Last>,
    /// Whether it makes no sound.
    pub muted: bool,
    /// Whether it stays on top.
    pub pinned: bool,
    /// Whether the user has left it.
    pub left: bool,
}

/// The newest message of a conversation, as much of it as a list shows.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct Last {
    /// Where it is.
    pub offset: u64,
    /// Who wrote it.
    pub from: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The beginning of its text, of its file's name, or what happened.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub text: String,
}

/// A place between two lines of the list.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Cursor {
    // In the order of the list: pinned ones first, then the newest, then by topic.
    unpinned: bool,
    at_ms: Reverse<u64>,
    topic: String,
}

/// A page of the list: `{conversations: [{topic, name?, head, unread, last_at_ms, last?, muted, pinned, left}],
/// next?}`.
#[derive(Clone, PartialEq, Eq, Serialize, Debug)]
pub struct Page {
    /// The lines.
    pub conversations: Vec<Recent>,
    /// Where the next page starts, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<Cursor>,
}

/// A page of a list. What gets news between two pages moves to the front: nothing comes twice, and what is skipped is what
/// the user was told of meanwhile.
///
/// # Errors
/// A limit that no page has.
pub fn page(entries: impl IntoIterator<Item = Recent>, after: Option<&Cursor>, limit: usize) -> Result<Page, Refusal> {
    check_limit(limit)?;
    let behind = |(place, _): &(Cursor, Recent)| after.is_none_or(|after| place > after);
    let mut lines: Vec<(Cursor, Recent)> =
        entries.into_iter().map(|entry| (entry.cursor(), entry)).filter(behind).collect();
    if lines.len() > limit {
        // A page of a long list needs no order in the rest of it.
        lines.select_nth_unstable_by(limit, |(a, _), (b, _)| a.cmp(b));
    }
    let more = lines.len() > limit;
    lines.truncate(limit);
    lines.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    let total = lines.len();
    let mut bytes = 0;
    let fits = |(_, line): &(Cursor, Recent)| {
        let fits = bytes <= PAGE_BYTES_MAX;
        bytes += json(line).len();
        fits
    };
    let lines: Vec<(Cursor, Recent)> = lines.into_iter().take_while(fits).collect();
    let next = lines.last().filter(|_| more || lines.len() < total).map(|(place, _)| place.clone());
    Ok(Page { conversations: lines.into_iter().map(|(_, line)| line).collect(), next })
}

impl Recent {
    /// Messages of others that the user has not seen.
    #[must_use]
    pub fn unread(&self) -> u64 {
        if self.left { 0 } else { self.head.saturating_sub(self.read).saturating_sub(self.own) }
    }

    fn cursor(&self) -> Cursor {
        Cursor { unpinned: !self.pinned, at_ms: Reverse(self.last_at_ms), topic: self.topic.clone() }
    }
}

impl Page {
    /// The page as JSON.
    #[must_use]
    pub fn answer(&self) -> Bytes {
        json(self)
    }
}

#[derive(Deserialize)]
struct Stored<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    text: Option<String>,
    file: Option<StoredFile>,
    event: Option<String>,
}

#[derive(Deserialize)]
struct StoredFile {
    name: String,
}

impl Last {
    /// What a list shows of a message.
    #[must_use]
    pub fn of(offset: u64, from: &str, body: &[u8]) -> Self {
        let (kind, text) = match serde_json::from_slice::<Stored<'_>>(body) {
            Ok(Stored { kind, text, file, event }) => {
                let text = text.or(file.map(|file| file.name)).or(event).unwrap_or_default();
                (kind.chars().take(16).collect(), text.chars().take(PREVIEW_CHARS_MAX).collect())
            }
            Err(_) => ("unknown".to_owned(), String::new()),
        };
        Self { offset, from: from.to_owned(), kind, text }
    }
}

impl Serialize for Recent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Line<'a> {
            topic: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            name: Option<&'a str>,
            head: u64,
            unread: u64,
            last_at_ms: u64,
            #[serde(skip_serializing_if = "Option::is_none")]
            last: Option<&'a Last>,
            muted: bool,
            pinned: bool,
            left: bool,
        }
        let Self { topic, name, head, read: _, own: _, last_at_ms, last, muted, pinned, left } = self;
        let (head, last_at_ms, muted, pinned, left) = (*head, *last_at_ms, *muted, *pinned, *left);
        let (name, last, unread) = (name.as_deref(), last.as_ref(), self.unread());
        Line { topic, name, head, unread, last_at_ms, last, muted, pinned, left }.serialize(serializer)
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { unpinned, at_ms, topic } = self;
        write!(f, "{}.{}.{topic}", u8::from(*unpinned), at_ms.0)
    }
}

impl FromStr for Cursor {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        let bad = || Refusal::bad("that is no place in the list");
        let (unpinned, rest) = text.split_once('.').ok_or_else(bad)?;
        let (at_ms, topic) = rest.split_once('.').ok_or_else(bad)?;
        let unpinned = match unpinned {
            "0" => false,
            "1" => true,
            _ => return Err(bad()),
        };
        Ok(Self { unpinned, at_ms: Reverse(at_ms.parse().map_err(|_| bad())?), topic: topic.to_owned() })
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
