//! JSON text to a client's message.

use crate::{
    Client, Credential, DecodeError, Hello, Subscription, Topic, VERSION,
    json::field::{Field, Fields},
};

/// Subscriptions that one hello may hold: their memory is taken before anybody is authenticated.
pub(crate) const HELLO_SUBS_MAX: usize = 256;

/// Reads one message of a client.
///
/// # Errors
/// What is wrong with it.
pub fn decode_client(bytes: &[u8]) -> Result<Client<'_>, DecodeError> {
    let fields = Fields::read(bytes)?;
    let topic = || fields.text(Field::Topic).map(Topic::Name);
    match &*fields.text(Field::Kind)? {
        "pub" => Ok(Client::Pub {
            id: fields.request()?,
            topic: topic()?,
            seq: fields.number_if_any(Field::Seq)?,
            body: fields.body()?,
        }),
        "eph" => Ok(Client::Eph { topic: topic()?, key: fields.text(Field::Key)?, body: fields.body()? }),
        "ack" => Ok(Client::Ack {
            topic: topic()?,
            delivered: fields.number_if_any(Field::Delivered)?.unwrap_or(0),
            read: fields.number_if_any(Field::Read)?.unwrap_or(0),
        }),
        "req" => Ok(Client::Req { id: fields.request()?, op: fields.text(Field::Op)?, body: fields.body()? }),
        "sub" => Ok(Client::Sub {
            id: fields.request()?,
            topic: topic()?,
            epoch: fields.epoch_if_any()?,
            after: fields.number_if_any(Field::After)?,
        }),
        "unsub" => Ok(Client::Unsub { id: fields.request()?, topic: topic()? }),
        "ping" => Ok(Client::Ping { id: fields.request()? }),
        "hello" => hello(&fields).map(Client::Hello),
        _ => Err(DecodeError::unknown_kind(fields.id())),
    }
}

fn hello<'a>(fields: &Fields<'a>) -> Result<Hello<'a>, DecodeError> {
    let version = u32::from(VERSION);
    let mut subs = Vec::new();
    fields.each(Field::Subs, |text| {
        if subs.len() == HELLO_SUBS_MAX {
            return Err(fields.wrong(Field::Subs, "more than 256 subscriptions"));
        }
        subs.push(subscription(&fields.nested(object(fields, Field::Subs, text)?)?)?);
        Ok(())
    })?;
    Ok(Hello {
        id: fields.request()?,
        version_min: fields.short_if_any(Field::VersionMin)?.unwrap_or(version),
        version_max: fields.short_if_any(Field::VersionMax)?.unwrap_or(version),
        features: fields.number_if_any(Field::Features)?.unwrap_or(0),
        credential: credential(fields)?,
        device: fields.text_or_empty(Field::Device)?,
        subs,
    })
}

fn credential<'a>(fields: &Fields<'a>) -> Result<Credential<'a>, DecodeError> {
    let Some(resume) = fields.optional(Field::Resume) else {
        let token = fields.text(Field::Token)?;
        // As in frames, where an empty text is not written at all.
        return if token.is_empty() {
            Err(fields.wrong(Field::Token, "missing"))
        } else {
            Ok(Credential::Token(token))
        };
    };
    if fields.optional(Field::Token).is_some() {
        return Err(fields.wrong(Field::Resume, "either a token or a session to resume"));
    }
    let resume = fields.nested(object(fields, Field::Resume, resume)?)?;
    Ok(Credential::Resume { session: resume.text(Field::Session)?, ticket: resume.text(Field::Ticket)? })
}

fn subscription<'a>(fields: &Fields<'a>) -> Result<Subscription<'a>, DecodeError> {
    Ok(Subscription {
        topic: fields.text(Field::Topic)?,
        epoch: fields.epoch_if_any()?,
        after: fields.number_if_any(Field::After)?,
    })
}

/// The text, if it is that of an object.
pub(crate) fn object<'a>(fields: &Fields<'a>, field: Field, text: &'a str) -> Result<&'a str, DecodeError> {
    if text.starts_with('{') { Ok(text) } else { Err(fields.wrong(field, "not an object")) }
}
