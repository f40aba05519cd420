//! What is left of a message that was recalled.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::facts::json;

#[derive(Deserialize)]
struct Original<'a> {
    #[serde(borrow)]
    client_id: Option<Cow<'a, str>>,
}

#[derive(Serialize)]
struct Tombstone<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    offset: u64,
    by: &'a str,
    at_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
}

/// `{"type":"recalled","offset":7,"by":"ada","at_ms":..,"client_id"?}` instead of the message at this offset.
pub(crate) fn tombstone(original: &[u8], offset: u64, (by, at_ms): (&str, u64)) -> Bytes {
    let original = serde_json::from_slice::<Original<'_>>(original).ok().and_then(|original| original.client_id);
    json(&Tombstone { kind: "recalled", offset, by, at_ms, client_id: original.as_deref() })
}
