//! Hawos' messages in protobuf: `global.proto` and `chat.proto`, with their names.

use prost::Message;
use serde::Deserialize;
use serde_json::value::RawValue;

/// What a client says.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Request {
    /// One of [`Id`].
    #[prost(int32, tag = "1")]
    pub(crate) msg_id: i32,
    #[prost(string, tag = "2")]
    pub(crate) token: String,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) payload: Vec<u8>,
}

/// What the server says.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Response {
    #[prost(int32, tag = "1")]
    pub(crate) msg_id: i32,
    #[prost(int32, tag = "2")]
    pub(crate) code: i32,
    #[prost(bytes = "vec", tag = "3")]
    pub(crate) payload: Vec<u8>,
}

/// Who comes in.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AuthMsg {
    #[prost(string, tag = "1")]
    pub(crate) uid: String,
    #[prost(string, tag = "2")]
    pub(crate) app_id: String,
    #[prost(string, tag = "3")]
    pub(crate) secret: String,
}

/// How to come in again.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AuthResp {
    #[prost(string, tag = "1")]
    pub(crate) token: String,
}

/// The answer to a ping.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Pong {
    /// Seconds since 1970.
    #[prost(int64, tag = "1")]
    pub(crate) timestamp: i64,
}

/// It is another day.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct CrossDayMsg {
    #[prost(int32, tag = "1")]
    pub(crate) day_no: i32,
}

/// A room to be made.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct CreateRoomArg {
    /// 0 unknown, 1 chat, 2 game.
    #[prost(int32, tag = "1")]
    pub(crate) kind: i32,
    #[prost(int32, tag = "2")]
    pub(crate) max_member: i32,
}

/// A room to be entered.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct TargetRoom {
    #[prost(string, tag = "1")]
    pub(crate) room_id: String,
}

/// Who is in a room.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct RoomInfo {
    #[prost(string, tag = "1")]
    pub(crate) room_id: String,
    #[prost(int32, tag = "2")]
    pub(crate) member_num: i32,
    #[prost(string, repeated, tag = "3")]
    pub(crate) member_ids: Vec<String>,
}

/// Something said in a room.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ChatMsg {
    #[prost(string, tag = "1")]
    pub(crate) uid: String,
    #[prost(string, tag = "2")]
    pub(crate) room_id: String,
    #[prost(string, tag = "3")]
    pub(crate) nickname: String,
    #[prost(string, tag = "4")]
    pub(crate) msg: String,
}

/// The ids of `msgid.proto`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Id {
    Unknown = 0,
    AuthToken = 100,
    Ping = 101,
    CreateRoom = 102,
    EnterRoom = 103,
    SendGlobalMsg = 104,
    CrossDay = 10_000,
    GlobalMsg = 10_001,
    BroadcastRoomInfo = 10_002,
}

impl Id {
    /// The id of a client's message.
    pub(super) fn of(number: i32) -> Option<Self> {
        [Self::AuthToken, Self::Ping, Self::CreateRoom, Self::EnterRoom, Self::SendGlobalMsg]
            .into_iter()
            .find(|id| *id as i32 == number)
    }
}

/// A body of ours: what of it Hawos has words for.
#[derive(Deserialize)]
pub(super) struct Stored {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) text: Option<String>,
    pub(super) event: Option<String>,
}

/// A body of ours to be published.
#[derive(serde::Serialize)]
pub(super) struct Said<'a> {
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) text: &'a str,
}

/// The answer of `chat.create`.
#[derive(Deserialize)]
pub(super) struct Created {
    pub(super) topic: String,
}

/// The answer of `chat.members`.
#[derive(Deserialize)]
pub(super) struct Members {
    pub(super) count: i32,
    pub(super) members: Vec<Member>,
}

#[derive(Deserialize)]
pub(super) struct Member {
    pub(super) user: String,
}

/// The answer of `inbox.list`.
#[derive(Deserialize)]
pub(super) struct Inbox<'a> {
    #[serde(borrow)]
    conversations: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Line {
    topic: String,
    head: u64,
    unread: u64,
}

impl Inbox<'_> {
    /// The last message of a conversation that the user has seen, if it is in the list.
    pub(super) fn read(list: &[u8], topic: &str) -> Option<u64> {
        let list: Inbox<'_> = serde_json::from_slice(list).ok()?;
        let mut lines = list.conversations.iter().filter_map(|line| serde_json::from_str::<Line>(line.get()).ok());
        let line = lines.find(|line| line.topic == topic)?;
        Some(line.head.saturating_sub(line.unread))
    }
}
