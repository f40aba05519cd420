//! A frame to a server's message: for clients, load generators and tests.

use std::borrow::Cow;

use crate::{
    Code, DecodeError, Level, Names, Server, SubResult, SubState,
    binary::{
        decode::{about, each, json_body, request},
        header::{Header, Kind},
    },
};

/// Reads one message of a server out of one whole frame.
///
/// # Errors
/// What is wrong with it.
pub fn decode_server(frame: &[u8]) -> Result<Server<'_>, DecodeError> {
    let (header, body) = Header::parse(frame)?;
    decode_body(&header, body).map_err(|error| about(&header, error))
}

fn decode_body<'a>(header: &Header, body: &'a [u8]) -> Result<Server<'a>, DecodeError> {
    let kind = header.known()?;
    if header.offset.is_some() != matches!(kind, Kind::Msg | Kind::PubOk | Kind::Gap) {
        return Err(DecodeError::broken("an offset where none belongs, or none where one does"));
    }
    match kind {
        Kind::Msg => msg(header, body),
        Kind::Eph => eph(header, body),
        Kind::PubOk => pub_ok(header, body),
        Kind::SubOk => sub_ok(header, body),
        Kind::UnsubOk => Ok(Server::UnsubOk { id: request(header)?, topic: Cow::Borrowed(first_text(body, "topic")?) }),
        Kind::Res => res(header, body),
        Kind::Pong => pong(header, body),
        Kind::Err => err(header, body),
        Kind::Presence => presence(header, body),
        Kind::Gap => gap(header, body),
        Kind::Goaway => goaway(body),
        Kind::Welcome => welcome(header, body),
        Kind::Hello | Kind::Ping | Kind::Req | Kind::Sub | Kind::Unsub | Kind::Pub | Kind::Ack | Kind::Credit => {
            Err(header.unknown())
        }
    }
}

fn offset(header: &Header) -> u64 {
    header.offset.unwrap_or(0)
}

/// The text in field 1 of a body that has no other.
fn first_text<'a>(bytes: &'a [u8], field: &'static str) -> Result<&'a str, DecodeError> {
    let mut text = "";
    each(bytes, |tag, value| {
        if tag == 1 {
            text = value.text(field)?;
        }
        Ok(())
    })?;
    Ok(text)
}

/// The topic of a push, by its name or its alias.
fn topic_of<'a>(header: &Header, name: &'a str) -> Result<Cow<'a, str>, DecodeError> {
    match (header.alias, name.is_empty()) {
        (0, false) | (1.., true) => Ok(Cow::Borrowed(name)),
        (0, true) => Err(DecodeError::invalid(None, "topic", "missing")),
        (1.., false) => Err(DecodeError::invalid(None, "topic", "both a name and an alias")),
    }
}

fn gap<'a>(header: &Header, bytes: &'a [u8]) -> Result<Server<'a>, DecodeError> {
    let topic = topic_of(header, first_text(bytes, "topic")?)?;
    Ok(Server::Gap { topic, alias: header.alias, first: offset(header) })
}

fn msg<'a>(header: &Header, bytes: &'a [u8]) -> Result<Server<'a>, DecodeError> {
    let (mut topic, mut from, mut at_ms, mut body) = ("", "", 0, &[][..]);
    each(bytes, |tag, value| {
        match tag {
            1 => topic = value.text("topic")?,
            2 => from = value.text("from")?,
            3 => at_ms = value.number("at_ms")?,
            4 => body = value.bytes("body")?,
            _ => {}
        }
        Ok(())
    })?;
    let (topic, from) = (topic_of(header, topic)?, Cow::Borrowed(from));
    Ok(Server::Msg { topic, alias: header.alias, offset: offset(header), from, at_ms, body: json_body(body)? })
}

fn eph<'a>(header: &Header, bytes: &'a [u8]) -> Result<Server<'a>, DecodeError> {
    let (mut topic, mut from, mut key, mut body) = ("", "", "", &[][..]);
    each(bytes, |tag, value| {
        match tag {
            1 => topic = value.text("topic")?,
            2 => from = value.text("from")?,
            3 => key = value.text("key")?,
            4 => body = value.bytes("body")?,
            _ => {}
        }
        Ok(())
    })?;
    let (topic, from, key) = (topic_of(header, topic)?, Cow::Borrowed(from), Cow::Borrowed(key));
    Ok(Server::Eph { topic, alias: header.alias, from, key, body: json_body(body)? })
}

fn pub_ok<'a>(header: &Header, bytes: &'a [u8]) -> Result<Server<'a>, DecodeError> {
    let (mut topic, mut level) = ("", 0);
    each(bytes, |tag, value| {
        match tag {
            1 => topic = value.text("topic")?,
            2 => level = value.number("level")?,
            _ => {}
        }
        Ok(())
    })?;
    let level = Level::from_number(level).ok_or(DecodeError::invalid(None, "level", "not a level"))?;
    Ok(Server::PubOk { id: request(header)?, topic: Cow::Borrowed(topic), offset: offset(header), level })
}

fn sub_ok<'a>(header: &Header, bytes: &'a [u8]) -> Result<Server<'a>, DecodeError> {
    let (mut topic, mut epoch, mut head) = ("", 0, 0);
    each(bytes, |tag, value| {
        match tag {
            1 => topic = value.text("topic")?,
            2 => epoch = value.fixed("epoch")?,
            3 => head = value.number("head")?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(Server::SubOk { id: request(header)?, topic: Cow::Borrowed(topic), alias: header.alias, epoch, head })
}

fn res<'a>(header: &Header, bytes: &'a [u8]) -> Result<Server<'a>, DecodeError> {
    let mut body = &[][..];
    each(bytes, |tag, value| {
        if tag == 1 {
            body = value.bytes("body")?;
        }
        Ok(())
    })?;
    Ok(Server::Res { id: request(header)?, body: json_body(body)? })
}

fn pong<'a>(header: &Header, bytes: &'a [u8]) -> Result<Server<'a>, DecodeError> {
    let mut at_ms = 0;
    each(bytes, |tag, value| {
        if tag == 1 {
            at_ms = value.number("at_ms")?;
        }
        Ok(())
    })?;
    Ok(Server::Pong { id: header.id, at_ms })
}

fn err<'a>(header: &Header, bytes: &'a [u8]) -> Result<Server<'a>, DecodeError> {
    let (mut code, mut message, mut retry_ms) = (Code::Unknown, "", None);
    each(bytes, |tag, value| {
        match tag {
            1 => code = Code::from_number(value.number("code")?),
            2 => message = value.text("message")?,
            3 => retry_ms = Some(value.short("retry_ms")?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(Server::Err { id: header.request_id(), code, message: Cow::Borrowed(message), retry_ms })
}

fn presence<'a>(header: &Header, bytes: &'a [u8]) -> Result<Server<'a>, DecodeError> {
    let (mut topic, mut joined, mut left, mut count) = ("", Vec::new(), Vec::new(), 0);
    each(bytes, |tag, value| {
        match tag {
            1 => topic = value.text("topic")?,
            2 => joined.push(Cow::Borrowed(value.text("joined")?)),
            3 => left.push(Cow::Borrowed(value.text("left")?)),
            4 => count = value.short("count")?,
            _ => {}
        }
        Ok(())
    })?;
    let (topic, joined, left) = (topic_of(header, topic)?, Names::Read(joined), Names::Read(left));
    Ok(Server::Presence { topic, alias: header.alias, joined, left, count })
}

fn goaway(bytes: &[u8]) -> Result<Server<'_>, DecodeError> {
    let (mut reason, mut retry_ms) = ("", 0);
    each(bytes, |tag, value| {
        match tag {
            1 => reason = value.text("reason")?,
            2 => retry_ms = value.short("retry_ms")?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(Server::Goaway { reason: Cow::Borrowed(reason), retry_ms })
}

fn welcome<'a>(header: &Header, bytes: &'a [u8]) -> Result<Server<'a>, DecodeError> {
    let (mut session, mut user, mut ticket) = ("", "", "");
    let (mut shard, mut ping_ms, mut subs) = (0, 0, Vec::new());
    each(bytes, |tag, value| {
        match tag {
            1 => session = value.text("session")?,
            2 => user = value.text("user")?,
            3 => ticket = value.text("ticket")?,
            4 => shard = value.short("shard")?,
            5 => ping_ms = value.short("ping_ms")?,
            6 => subs.push(sub_result(value.bytes("subs")?)?),
            _ => {}
        }
        Ok(())
    })?;
    let (session, user, ticket) = (Cow::Borrowed(session), Cow::Borrowed(user), Cow::Borrowed(ticket));
    Ok(Server::Welcome { id: request(header)?, session, user, ticket, shard, ping_ms, subs })
}

fn sub_result(bytes: &[u8]) -> Result<SubResult<'_>, DecodeError> {
    let (mut topic, mut alias, mut epoch, mut head) = ("", 0, 0, 0);
    let (mut code, mut message) = (None, "");
    each(bytes, |tag, value| {
        match tag {
            1 => topic = value.text("topic")?,
            2 => alias = value.short("alias")?,
            3 => epoch = value.fixed("epoch")?,
            4 => head = value.number("head")?,
            5 => code = Some(Code::from_number(value.number("code")?)),
            6 => message = value.text("message")?,
            _ => {}
        }
        Ok(())
    })?;
    let state = match code {
        None => SubState::Ok { alias, epoch, head },
        Some(code) => SubState::Refused { code, message: Cow::Borrowed(message) },
    };
    Ok(SubResult { topic: Cow::Borrowed(topic), state })
}
