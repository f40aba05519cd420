//! The operation `chat.history`: a page of a room's messages.

use bytes::Bytes;
use handler::Cx;
use serde::{Deserialize, Serialize, Serializer, ser::SerializeSeq};
use serde_json::value::RawValue;
use topic::{Mail, PAGE_RECORDS_MAX, Page, Record};

/// What the operation is called.
pub(crate) const OP: &str = "chat.history";

/// What is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ask<'a> {
    /// The room's topic.
    #[serde(borrow)]
    pub(crate) topic: std::borrow::Cow<'a, str>,
    /// Messages with smaller offsets; absent: the newest.
    pub(crate) before: Option<u64>,
    /// How many at most.
    #[serde(default = "page")]
    pub(crate) limit: u32,
}

#[derive(Serialize)]
struct Answer<'a> {
    topic: &'a str,
    epoch: String,
    head: u64,
    more: bool,
    #[serde(serialize_with = "messages")]
    messages: &'a Page,
}

#[derive(Serialize)]
struct Line<'a> {
    offset: u64,
    from: &'a str,
    at_ms: u64,
    body: &'a RawValue,
}

impl<'a> Ask<'a> {
    /// Reads what is asked for, or says what is wrong with it.
    pub(crate) fn read(body: &'a [u8]) -> Result<Self, String> {
        let ask: Self = serde_json::from_slice(body).map_err(|error| error.to_string())?;
        if ask.limit == 0 || ask.limit as usize > PAGE_RECORDS_MAX {
            return Err(format!("`limit` is 1 to {PAGE_RECORDS_MAX}"));
        }
        Ok(ask)
    }
}

/// The answer as JSON: `{topic, epoch, head, more, messages: [{offset, from, at_ms, body}]}`, oldest first. `more` says
/// that there are older ones; a page of long messages may be shorter than its limit.
pub(crate) fn answer(cx: &mut Cx<'_, Mail>, page: &Page) -> Option<Bytes> {
    let Page { topic, epoch, head, more, .. } = page;
    let answer = Answer { topic, epoch: format!("{epoch:016x}"), head: *head, more: *more, messages: page };
    serde_json::to_vec(&answer).ok().map(|json| cx.copy(&json))
}

fn messages<S: Serializer>(page: &Page, serializer: S) -> Result<S::Ok, S::Error> {
    let mut list = serializer.serialize_seq(None)?;
    for Record { offset, at_ms, from, body } in page.records() {
        let body = serde_json::from_slice(body).map_err(serde::ser::Error::custom)?;
        list.serialize_element(&Line { offset, from, at_ms, body })?;
    }
    list.end()
}

fn page() -> u32 {
    PAGE_RECORDS_MAX as u32
}
