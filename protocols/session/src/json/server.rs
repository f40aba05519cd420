//! JSON text to a server's message: for clients, load generators and tests.

use std::borrow::Cow;

use crate::{
    Code, DecodeError, Level, Names, Server, SubResult, SubState,
    json::{
        decode::object,
        field::{Field, Fields},
    },
};

/// Reads one message of a server.
///
/// # Errors
/// What is wrong with it.
pub fn decode_server(bytes: &[u8]) -> Result<Server<'_>, DecodeError> {
    let fields = Fields::read(bytes)?;
    match &*fields.text(Field::Kind)? {
        "msg" => msg(&fields),
        "eph" => Ok(Server::Eph {
            topic: fields.text(Field::Topic)?,
            alias: 0,
            from: fields.text(Field::From)?,
            key: fields.text(Field::Key)?,
            body: fields.body()?,
        }),
        "pub_ok" => pub_ok(&fields),
        "sub_ok" => sub_ok(&fields),
        "unsub_ok" => Ok(Server::UnsubOk { id: fields.request()?, topic: fields.text(Field::Topic)? }),
        "res" => Ok(Server::Res { id: fields.request()?, body: fields.body()? }),
        "pong" => Ok(Server::Pong { id: fields.id().unwrap_or(0), at_ms: fields.number(Field::AtMs)? }),
        "err" => err(&fields),
        "presence" => presence(&fields),
        "gap" => Ok(Server::Gap { topic: fields.text(Field::Topic)?, alias: 0, first: fields.number(Field::First)? }),
        "goaway" => Ok(Server::Goaway { reason: fields.text(Field::Reason)?, retry_ms: fields.short(Field::RetryMs)? }),
        "welcome" => welcome(&fields),
        _ => Err(DecodeError::unknown_kind(fields.id())),
    }
}

fn msg<'a>(fields: &Fields<'a>) -> Result<Server<'a>, DecodeError> {
    Ok(Server::Msg {
        topic: fields.text(Field::Topic)?,
        alias: 0,
        offset: fields.number(Field::Offset)?,
        from: fields.text(Field::From)?,
        at_ms: fields.number(Field::AtMs)?,
        body: fields.body()?,
    })
}

fn pub_ok<'a>(fields: &Fields<'a>) -> Result<Server<'a>, DecodeError> {
    let level = Level::from_name(&fields.text(Field::Level)?);
    Ok(Server::PubOk {
        id: fields.request()?,
        topic: fields.text(Field::Topic)?,
        offset: fields.number(Field::Offset)?,
        level: level.ok_or(fields.wrong(Field::Level, "not a level"))?,
    })
}

fn sub_ok<'a>(fields: &Fields<'a>) -> Result<Server<'a>, DecodeError> {
    Ok(Server::SubOk {
        id: fields.request()?,
        topic: fields.text(Field::Topic)?,
        alias: 0,
        epoch: fields.epoch()?,
        head: fields.number(Field::Head)?,
    })
}

fn err<'a>(fields: &Fields<'a>) -> Result<Server<'a>, DecodeError> {
    Ok(Server::Err {
        id: fields.id(),
        code: Code::from_name(&fields.text(Field::Code)?),
        message: fields.text_or_empty(Field::Message)?,
        retry_ms: fields.short_if_any(Field::RetryMs)?,
    })
}

fn presence<'a>(fields: &Fields<'a>) -> Result<Server<'a>, DecodeError> {
    Ok(Server::Presence {
        topic: fields.text(Field::Topic)?,
        alias: 0,
        joined: names(fields, Field::Joined)?,
        left: names(fields, Field::Left)?,
        count: fields.short(Field::Count)?,
    })
}

fn names<'a>(fields: &Fields<'a>, field: Field) -> Result<Names<'a>, DecodeError> {
    let mut names: Vec<Cow<'a, str>> = Vec::new();
    fields.each(field, |text| {
        names.push(fields.as_text(field, text)?);
        Ok(())
    })?;
    Ok(Names::Read(names))
}

fn welcome<'a>(fields: &Fields<'a>) -> Result<Server<'a>, DecodeError> {
    let mut subs = Vec::new();
    fields.each(Field::Subs, |text| {
        subs.push(sub_result(&fields.nested(object(fields, Field::Subs, text)?)?)?);
        Ok(())
    })?;
    Ok(Server::Welcome {
        id: fields.request()?,
        session: fields.text(Field::Session)?,
        user: fields.text(Field::User)?,
        ticket: fields.text(Field::Ticket)?,
        shard: fields.short(Field::Shard)?,
        ping_ms: fields.short(Field::PingMs)?,
        subs,
    })
}

fn sub_result<'a>(fields: &Fields<'a>) -> Result<SubResult<'a>, DecodeError> {
    let state = if fields.optional(Field::Code).is_some() {
        SubState::Refused {
            code: Code::from_name(&fields.text(Field::Code)?),
            message: fields.text_or_empty(Field::Message)?,
        }
    } else {
        SubState::Ok { alias: 0, epoch: fields.epoch()?, head: fields.number(Field::Head)? }
    };
    Ok(SubResult { topic: fields.text(Field::Topic)?, state })
}
