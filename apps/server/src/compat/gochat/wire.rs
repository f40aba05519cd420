//! GoChat's messages in JSON, and the bodies of ours that they carry.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::Text;

/// What a client says.
#[derive(Deserialize)]
pub(super) struct Envelope<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Text<'a>,
    #[serde(borrow, default)]
    pub(super) data: Option<&'a RawValue>,
}

/// The data of `send-message`. The second names are those of its gateway's code, the third that of its pages.
#[derive(Deserialize)]
pub(super) struct Say<'a> {
    #[serde(borrow, rename = "conversationId", alias = "conversation_id")]
    pub(super) conversation: Text<'a>,
    #[serde(borrow)]
    pub(super) content: Text<'a>,
    #[serde(default, rename = "messageType", alias = "message_type")]
    pub(super) kind: Option<MessageType>,
    #[serde(borrow, default, rename = "client_msg_id", alias = "tempMessageId")]
    pub(super) client_id: Option<Text<'a>>,
}

/// A number as in its specification, or a word as in its pages.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum MessageType {
    Number(i64),
    Word(String),
}

/// The data of `mark-read`.
#[derive(Deserialize)]
pub(super) struct Read<'a> {
    #[serde(borrow, rename = "conversationId", alias = "conversation_id")]
    pub(super) conversation: Text<'a>,
    #[serde(rename = "seqId", alias = "seq_id")]
    pub(super) seq: u64,
}

/// What the server says, in its envelope.
#[derive(Serialize)]
#[serde(tag = "type", content = "data", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub(super) enum Out<'a> {
    NewMessage {
        id: String,
        conversation_id: &'a str,
        sender: Sender<'a>,
        content: Text<'a>,
        message_type: u8,
        seq_id: u64,
        created_at: u64,
    },
    MessageAck {
        #[serde(rename = "client_msg_id", skip_serializing_if = "Option::is_none")]
        client_msg_id: Option<String>,
        message_id: String,
        status: &'static str,
    },
    OnlineStatus {
        user_id: &'a str,
        status: &'static str,
    },
    Error {
        code: &'static str,
        message: &'a str,
        details: Detail,
    },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Sender<'a> {
    pub(super) id: &'a str,
    pub(super) username: &'a str,
    pub(super) avatar_url: &'a str,
}

#[derive(Serialize)]
pub(super) struct Detail {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client_msg_id: Option<String>,
    #[serde(rename = "retryMs", skip_serializing_if = "Option::is_none")]
    pub(super) retry_ms: Option<u32>,
}

/// Writes what always can be written.
pub(super) struct Payload;

/// A body of ours to be published.
#[derive(Serialize)]
pub(super) struct Said<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
}

/// A body of ours that was published.
#[derive(Deserialize)]
pub(super) struct Stored<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow, default)]
    text: Option<Text<'a>>,
    #[serde(borrow, default)]
    file: Option<&'a RawValue>,
    #[serde(skip)]
    whole: &'a str,
}

/// The answer of `inbox.list`.
#[derive(Deserialize)]
pub(super) struct Inbox {
    pub(super) conversations: Vec<Line>,
}

#[derive(Deserialize)]
pub(super) struct Line {
    pub(super) topic: String,
    pub(super) head: u64,
    pub(super) unread: u64,
    pub(super) left: bool,
}

/// What the server says on a user's own topic.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum News {
    Conversation { topic: String, entry: Option<Entry> },
    Contact {},
}

#[derive(Deserialize)]
pub(super) struct Entry {
    pub(super) read: u64,
    #[serde(default)]
    pub(super) left_ms: Option<u64>,
}

impl MessageType {
    /// The type of ours.
    pub(super) fn name(&self) -> Option<&'static str> {
        match self {
            Self::Number(1) => Some("text"),
            Self::Number(2) => Some("image"),
            Self::Number(3) => Some("file"),
            Self::Number(5) => Some("audio"),
            Self::Number(6) => Some("video"),
            Self::Number(_) => None,
            Self::Word(word) => match &**word {
                "text" => Some("text"),
                "image" => Some("image"),
                "file" => Some("file"),
                "voice" => Some("audio"),
                "video" => Some("video"),
                _ => None,
            },
        }
    }
}

impl Payload {
    pub(super) fn json(out: &Out<'_>) -> Vec<u8> {
        serde_json::to_vec(out).unwrap_or_default()
    }
}

impl<'a> Said<'a> {
    /// A body that says `content`; none if that is no file and should be one.
    pub(super) fn new(kind: &'static str, content: &'a str, client_id: Option<&'a str>) -> Option<Self> {
        // Chat takes names of fewer letters than GoChat; the answer has it as it was anyhow.
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"._~:-".contains(&byte);
        let client_id = client_id.filter(|id| id.len() <= chat::body::CLIENT_ID_BYTES_MAX && id.bytes().all(known));
        if kind == "text" {
            return Some(Self { kind, text: Some(content), file: None, client_id });
        }
        let file: &RawValue = serde_json::from_str(content).ok()?;
        file.get().starts_with('{').then_some(Self { kind, text: None, file: Some(file), client_id })
    }

    pub(super) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl<'a> Stored<'a> {
    pub(super) fn read(body: &'a [u8]) -> Option<Self> {
        let whole = std::str::from_utf8(body).ok()?;
        let stored: Self = serde_json::from_str(whole).ok()?;
        Some(Self { whole, ..stored })
    }

    /// The number of its type and its content, if it has any in GoChat.
    pub(super) fn shown(self) -> Option<(u8, Text<'a>)> {
        let file = self.file.map(|file| file.get().into());
        match &*self.kind {
            "text" => Some((1, self.text?)),
            "image" => Some((2, file?)),
            "file" => Some((3, file?)),
            "system" => Some((4, self.whole.into())),
            "audio" => Some((5, file?)),
            "video" => Some((6, file?)),
            _ => None,
        }
    }
}
