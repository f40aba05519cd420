//! The record of what was done to others, and of what they tried to say: a topic that only the server writes.

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{conversation::Op, facts::json, post::Note};

/// The topic. Whether somebody may read it is for the server to say: only a token with the capability of this name may.
pub const AUDIT_TOPIC: &str = "chat/audit";

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    what: &'a str,
    topic: &'a str,
    by: &'a str,
    at_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a RawValue>,
}

/// A letter to the record: `{"type":"audit","what":..,"topic":..,"by":..,"at_ms":..,"detail"?}`. The detail is the notice
/// that the conversation got, or the message that somebody sent.
pub(crate) fn note(what: &str, (topic, by, at_ms): (&str, &str, u64), detail: &[u8]) -> (String, Note) {
    // What is longer than a fact is not repeated.
    let short = (detail.len() <= topic::FACT_VALUE_BYTES_MAX / 4).then_some(detail);
    let detail = short.and_then(|detail| serde_json::from_slice(detail).ok());
    let body = json(&Body { kind: "audit", what, topic, by, at_ms, detail });
    let body = String::from_utf8_lossy(&body).into_owned();
    (AUDIT_TOPIC.to_owned(), Note::Audit { body })
}

/// What an operation is called in the record, if it is in it.
pub(crate) fn name(op: &Op) -> Option<&'static str> {
    match op {
        Op::Remove { .. } => Some("remove"),
        Op::Role { .. } => Some("role"),
        Op::Mute { .. } => Some("mute"),
        Op::Ban { .. } => Some("ban"),
        Op::Unban { .. } => Some("unban"),
        Op::Create { .. }
        | Op::Rename { .. }
        | Op::Settings { .. }
        | Op::Invite { .. }
        | Op::Join
        | Op::Decline
        | Op::Leave
        | Op::Members { .. }
        | Op::Bans { .. }
        | Op::Invitations { .. }
        | Op::Info => None,
    }
}

/// The text that a letter to the record carries.
pub(crate) fn bytes(body: &str) -> Bytes {
    Bytes::copy_from_slice(body.as_bytes())
}
