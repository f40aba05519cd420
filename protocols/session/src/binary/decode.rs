//! A frame to a client's message.

use std::borrow::Cow;

use crate::{
    Client, Credential, DecodeError, Flaw, Hello, Subscription, Topic,
    binary::{
        field::{Fields, Value},
        header::{Header, Kind},
    },
    json,
};

/// Reads one message of a client out of one whole frame.
///
/// # Errors
/// What is wrong with it.
pub fn decode_client(frame: &[u8]) -> Result<Client<'_>, DecodeError> {
    let (header, body) = Header::parse(frame)?;
    decode_body(&header, body).map_err(|error| about(&header, error))
}

fn decode_body<'a>(header: &Header, body: &'a [u8]) -> Result<Client<'a>, DecodeError> {
    let kind = header.known()?;
    if header.offset.is_some() {
        return Err(DecodeError::broken("an offset where none belongs"));
    }
    match kind {
        Kind::Pub => publish(header, body),
        Kind::Eph => eph(header, body),
        Kind::Ack => ack(header, body),
        Kind::Req => req(header, body),
        Kind::Sub => sub(header, body),
        Kind::Unsub => unsub(header, body),
        Kind::Ping => {
            each(body, |_, _| Ok(()))?;
            Ok(Client::Ping { id: request(header)? })
        }
        Kind::Hello => hello(header, body).map(Client::Hello),
        Kind::Welcome
        | Kind::Pong
        | Kind::Goaway
        | Kind::Res
        | Kind::Err
        | Kind::SubOk
        | Kind::UnsubOk
        | Kind::PubOk
        | Kind::Msg
        | Kind::Gap
        | Kind::Presence
        | Kind::Credit => Err(header.unknown()),
    }
}

/// Names the request that an error is about.
pub(crate) fn about(header: &Header, error: DecodeError) -> DecodeError {
    let id = if error.flaw == Flaw::Broken { None } else { header.request_id() };
    DecodeError { id, ..error }
}

/// Calls `field` with every field of a body.
pub(crate) fn each<'a>(
    body: &'a [u8],
    mut field: impl FnMut(u32, Value<'a>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let mut fields = Fields::new(body);
    while let Some((tag, value)) = fields.next()? {
        field(tag, value)?;
    }
    Ok(())
}

/// The correlation id of a request.
pub(crate) fn request(header: &Header) -> Result<u32, DecodeError> {
    header.request_id().ok_or(DecodeError::invalid(None, "id", "a request has one, and it is not 0"))
}

/// A body of an app: JSON text, checked, because it goes into other clients' messages as it is. Space around it is dropped, as
/// in JSON, where nobody could tell whose it is.
pub(crate) fn json_body(body: &[u8]) -> Result<&[u8], DecodeError> {
    match json::check_object(body) {
        Ok(()) => Ok(body.trim_ascii()),
        Err(error) => Err(DecodeError::invalid(None, "body", error.reason)),
    }
}

fn topic<'a>(header: &Header, name: &'a str) -> Result<Topic<'a>, DecodeError> {
    match (header.alias, name.is_empty()) {
        (0, false) => Ok(Topic::from(name)),
        (0, true) => Err(DecodeError::invalid(None, "topic", "missing")),
        (alias, true) => Ok(Topic::Alias(alias)),
        (_, false) => Err(DecodeError::invalid(None, "topic", "both a name and an alias")),
    }
}

fn publish<'a>(header: &Header, bytes: &'a [u8]) -> Result<Client<'a>, DecodeError> {
    let (mut name, mut seq, mut body) = ("", None, &[][..]);
    each(bytes, |tag, value| {
        match tag {
            1 => name = value.text("topic")?,
            2 => seq = Some(value.number("seq")?),
            3 => body = value.bytes("body")?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(Client::Pub { id: request(header)?, topic: topic(header, name)?, seq, body: json_body(body)? })
}

fn eph<'a>(header: &Header, bytes: &'a [u8]) -> Result<Client<'a>, DecodeError> {
    let (mut name, mut key, mut body) = ("", "", &[][..]);
    each(bytes, |tag, value| {
        match tag {
            1 => name = value.text("topic")?,
            3 => key = value.text("key")?,
            4 => body = value.bytes("body")?,
            // 2 is the sender: the server knows better.
            _ => {}
        }
        Ok(())
    })?;
    Ok(Client::Eph { topic: topic(header, name)?, key: Cow::Borrowed(key), body: json_body(body)? })
}

fn ack<'a>(header: &Header, bytes: &'a [u8]) -> Result<Client<'a>, DecodeError> {
    let (mut name, mut delivered, mut read) = ("", 0, 0);
    each(bytes, |tag, value| {
        match tag {
            1 => name = value.text("topic")?,
            2 => delivered = value.number("delivered")?,
            3 => read = value.number("read")?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(Client::Ack { topic: topic(header, name)?, delivered, read })
}

fn req<'a>(header: &Header, bytes: &'a [u8]) -> Result<Client<'a>, DecodeError> {
    let (mut op, mut body) = ("", &[][..]);
    each(bytes, |tag, value| {
        match tag {
            1 => op = value.text("op")?,
            2 => body = value.bytes("body")?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(Client::Req { id: request(header)?, op: Cow::Borrowed(op), body: json_body(body)? })
}

fn sub<'a>(header: &Header, bytes: &'a [u8]) -> Result<Client<'a>, DecodeError> {
    let (name, epoch, after) = subscription(bytes)?;
    Ok(Client::Sub { id: request(header)?, topic: topic(header, name)?, epoch, after })
}

fn unsub<'a>(header: &Header, bytes: &'a [u8]) -> Result<Client<'a>, DecodeError> {
    let mut name = "";
    each(bytes, |tag, value| {
        if tag == 1 {
            name = value.text("topic")?;
        }
        Ok(())
    })?;
    Ok(Client::Unsub { id: request(header)?, topic: topic(header, name)? })
}

/// The topic's name, epoch and last offset of a subscription: the same fields alone and inside of a hello.
fn subscription(bytes: &[u8]) -> Result<(&str, Option<u64>, Option<u64>), DecodeError> {
    let (mut name, mut epoch, mut after) = ("", None, None);
    each(bytes, |tag, value| {
        match tag {
            1 => name = value.text("topic")?,
            2 => epoch = Some(value.fixed("epoch")?),
            3 => after = Some(value.number("after")?),
            _ => {}
        }
        Ok(())
    })?;
    Ok((name, epoch, after))
}

fn hello<'a>(header: &Header, bytes: &'a [u8]) -> Result<Hello<'a>, DecodeError> {
    let (mut token, mut resume) = (None, None);
    let mut hello = Hello::new(request(header)?, Credential::Token(Cow::Borrowed("")), "");
    each(bytes, |tag, value| {
        match tag {
            1 => hello.version_min = value.short("version_min")?,
            2 => hello.version_max = value.short("version_max")?,
            3 => hello.features = value.number("features")?,
            4 => token = Some(value.text("token")?).filter(|token| !token.is_empty()),
            5 => resume = Some(credential(value.bytes("resume")?)?),
            6 => hello.device = Cow::Borrowed(value.text("device")?),
            7 if hello.subs.len() == json::HELLO_SUBS_MAX => {
                return Err(DecodeError::invalid(None, "subs", "more than 256 subscriptions"));
            }
            7 => {
                let (name, epoch, after) = subscription(value.bytes("subs")?)?;
                hello.subs.push(Subscription { topic: Cow::Borrowed(name), epoch, after });
            }
            _ => {}
        }
        Ok(())
    })?;
    hello.credential = match (token, resume) {
        (Some(token), None) => Credential::Token(Cow::Borrowed(token)),
        (None, Some(resume)) => resume,
        (None, None) => return Err(DecodeError::invalid(None, "token", "missing")),
        (Some(_), Some(_)) => {
            return Err(DecodeError::invalid(None, "resume", "either a token or a session to resume"));
        }
    };
    if hello.subs.iter().any(|sub| sub.topic.is_empty()) {
        return Err(DecodeError::invalid(None, "topic", "missing"));
    }
    Ok(hello)
}

fn credential(bytes: &[u8]) -> Result<Credential<'_>, DecodeError> {
    let (mut session, mut ticket) = ("", "");
    each(bytes, |tag, value| {
        match tag {
            1 => session = value.text("session")?,
            2 => ticket = value.text("ticket")?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(Credential::Resume { session: Cow::Borrowed(session), ticket: Cow::Borrowed(ticket) })
}
