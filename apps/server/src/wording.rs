//! The same thing in two vocabularies: what apps say, and what the session protocol says.

use std::borrow::Cow;

use handler::{Message, Push};
use session::{Client, Code, Level, Names, Server};

/// A push of an app as a message of the protocol.
pub(crate) fn of(push: &Push) -> Server<'_> {
    match push {
        Push::SubOk { id, topic, alias, epoch, head } => {
            Server::SubOk { id: *id, topic: text(topic), alias: *alias, epoch: *epoch, head: *head }
        }
        Push::UnsubOk { id, topic } => Server::UnsubOk { id: *id, topic: text(topic) },
        Push::PubOk { id, topic, offset, level: how } => {
            Server::PubOk { id: *id, topic: text(topic), offset: *offset, level: level(*how) }
        }
        Push::Res { id, body } => Server::Res { id: *id, body },
        Push::Err { id, code: what, message, retry_ms } => {
            Server::Err { id: *id, code: code(*what), message: text(message), retry_ms: *retry_ms }
        }
        Push::Msg { topic, alias, offset, from, at_ms, body } => {
            Server::Msg { topic: text(topic), alias: *alias, offset: *offset, from: text(from), at_ms: *at_ms, body }
        }
        Push::Eph { topic, alias, from, key, body } => {
            Server::Eph { topic: text(topic), alias: *alias, from: text(from), key: text(key), body }
        }
        Push::Presence { topic, alias, joined, left, count } => Server::Presence {
            topic: text(topic),
            alias: *alias,
            joined: Names::Shared(joined),
            left: Names::Shared(left),
            count: *count,
        },
        Push::Gap { topic, alias, first } => Server::Gap { topic: text(topic), alias: *alias, first: *first },
    }
}

/// What a client says about a topic, for the app that has it; none for what is not about a topic.
pub(crate) fn about<'a>(client: &'a Client<'_>, topic: &'a str) -> Option<Message<'a>> {
    Some(match client {
        Client::Sub { id, epoch, after, .. } => Message::Sub { id: *id, topic, epoch: *epoch, after: *after },
        Client::Unsub { id, .. } => Message::Unsub { id: *id, topic },
        Client::Pub { id, seq, body, .. } => Message::Pub { id: *id, topic, seq: *seq, body },
        Client::Eph { key, body, .. } => Message::Eph { topic, key, body },
        Client::Ack { delivered, read, .. } => Message::Ack { topic, delivered: *delivered, read: *read },
        Client::Hello(_) | Client::Req { .. } | Client::Ping { .. } => return None,
    })
}

/// A code in the protocol's words.
pub(crate) fn code(code: handler::Code) -> Code {
    match code {
        handler::Code::InvalidArgument => Code::InvalidArgument,
        handler::Code::NotFound => Code::NotFound,
        handler::Code::AlreadyExists => Code::AlreadyExists,
        handler::Code::PermissionDenied => Code::PermissionDenied,
        handler::Code::Unauthenticated => Code::Unauthenticated,
        handler::Code::ResourceExhausted => Code::ResourceExhausted,
        handler::Code::FailedPrecondition => Code::FailedPrecondition,
        handler::Code::OutOfRange => Code::OutOfRange,
        handler::Code::Unimplemented => Code::Unimplemented,
        handler::Code::Internal => Code::Internal,
        handler::Code::Unavailable => Code::Unavailable,
        handler::Code::DeadlineExceeded => Code::DeadlineExceeded,
    }
}

/// A code in the apps' words.
pub(crate) fn app_code(code: Code) -> handler::Code {
    match code {
        Code::InvalidArgument => handler::Code::InvalidArgument,
        Code::NotFound => handler::Code::NotFound,
        Code::AlreadyExists => handler::Code::AlreadyExists,
        Code::PermissionDenied => handler::Code::PermissionDenied,
        Code::Unauthenticated => handler::Code::Unauthenticated,
        Code::ResourceExhausted => handler::Code::ResourceExhausted,
        Code::FailedPrecondition => handler::Code::FailedPrecondition,
        Code::OutOfRange => handler::Code::OutOfRange,
        Code::Unimplemented => handler::Code::Unimplemented,
        Code::Unavailable => handler::Code::Unavailable,
        Code::DeadlineExceeded => handler::Code::DeadlineExceeded,
        Code::Unknown | Code::Internal => handler::Code::Internal,
    }
}

fn level(level: handler::Level) -> Level {
    match level {
        handler::Level::Memory => Level::Memory,
        handler::Level::Durable => Level::Durable,
    }
}

fn text(text: &str) -> Cow<'_, str> {
    Cow::Borrowed(text)
}
