//! Messages to frames, straight into the output.

use bytes::BytesMut;

use crate::{
    Client, Credential, Hello, Server, SubResult, SubState, Topic,
    binary::{
        field::{put_bytes, put_element, put_fixed, put_fixed_if_any, put_number, put_number_if_any},
        header::{Header, Kind},
    },
};

/// Appends a client's message as one frame.
pub fn encode_client(message: &Client<'_>, out: &mut BytesMut) {
    match message {
        Client::Hello(hello) => Header::new(Kind::Hello).with_id(hello.id).frame(out, |out| put_hello(out, hello)),
        Client::Sub { id, topic, epoch, after } => about(Kind::Sub, topic).with_id(*id).frame(out, |out| {
            put_bytes(out, 1, name(topic));
            put_fixed_if_any(out, 2, *epoch);
            put_number_if_any(out, 3, *after);
        }),
        Client::Unsub { id, topic } => {
            about(Kind::Unsub, topic).with_id(*id).frame(out, |out| put_bytes(out, 1, name(topic)));
        }
        Client::Pub { id, topic, seq, body } => about(Kind::Pub, topic).with_id(*id).frame(out, |out| {
            put_bytes(out, 1, name(topic));
            put_number_if_any(out, 2, *seq);
            put_bytes(out, 3, body);
        }),
        Client::Eph { topic, key, body } => about(Kind::Eph, topic).frame(out, |out| {
            put_bytes(out, 1, name(topic));
            put_bytes(out, 3, &**key);
            put_bytes(out, 4, body);
        }),
        Client::Ack { topic, delivered, read } => about(Kind::Ack, topic).frame(out, |out| {
            put_bytes(out, 1, name(topic));
            put_number(out, 2, *delivered);
            put_number(out, 3, *read);
        }),
        Client::Req { id, op, body } => Header::new(Kind::Req).with_id(*id).frame(out, |out| {
            put_bytes(out, 1, &**op);
            put_bytes(out, 2, body);
        }),
        Client::Ping { id } => Header::new(Kind::Ping).with_id(*id).frame(out, |_| {}),
    }
}

fn about(kind: Kind, topic: &Topic<'_>) -> Header {
    match topic {
        Topic::Name(_) => Header::new(kind),
        Topic::Alias(alias) => Header::new(kind).with_alias(*alias),
    }
}

fn name<'a>(topic: &'a Topic<'_>) -> &'a str {
    match topic {
        Topic::Name(name) => name,
        Topic::Alias(_) => "",
    }
}

fn put_hello(out: &mut BytesMut, hello: &Hello<'_>) {
    let mut part = BytesMut::new();
    put_number_if_any(out, 1, Some(hello.version_min));
    put_number_if_any(out, 2, Some(hello.version_max));
    put_number(out, 3, hello.features);
    match &hello.credential {
        Credential::Token(token) => put_bytes(out, 4, &**token),
        Credential::Resume { session, ticket } => {
            put_bytes(&mut part, 1, &**session);
            put_bytes(&mut part, 2, &**ticket);
            put_element(out, 5, &part);
        }
    }
    put_bytes(out, 6, &*hello.device);
    for sub in &hello.subs {
        part.clear();
        put_bytes(&mut part, 1, &*sub.topic);
        put_fixed_if_any(&mut part, 2, sub.epoch);
        put_number_if_any(&mut part, 3, sub.after);
        put_element(out, 7, &part);
    }
}

/// Appends a server's message as one frame.
pub fn encode_server(message: &Server<'_>, out: &mut BytesMut) {
    match message {
        Server::Msg { topic, alias, offset, from, at_ms, body } => {
            Header::new(Kind::Msg).with_alias(*alias).with_offset(*offset).frame(out, |out| {
                put_bytes(out, 1, unless_alias(topic, *alias));
                put_bytes(out, 2, &**from);
                put_number(out, 3, *at_ms);
                put_bytes(out, 4, body);
            });
        }
        Server::Eph { topic, alias, from, key, body } => Header::new(Kind::Eph).with_alias(*alias).frame(out, |out| {
            put_bytes(out, 1, unless_alias(topic, *alias));
            put_bytes(out, 2, &**from);
            put_bytes(out, 3, &**key);
            put_bytes(out, 4, body);
        }),
        Server::Presence { topic, alias, joined, left, count } => {
            Header::new(Kind::Presence).with_alias(*alias).frame(out, |out| {
                put_bytes(out, 1, unless_alias(topic, *alias));
                joined.iter().for_each(|name| put_element(out, 2, name.as_bytes()));
                left.iter().for_each(|name| put_element(out, 3, name.as_bytes()));
                put_number(out, 4, *count);
            });
        }
        Server::Gap { topic, alias, first } => Header::new(Kind::Gap)
            .with_alias(*alias)
            .with_offset(*first)
            .frame(out, |out| put_bytes(out, 1, unless_alias(topic, *alias))),
        Server::Goaway { reason, retry_ms } => Header::new(Kind::Goaway).frame(out, |out| {
            put_bytes(out, 1, &**reason);
            put_number(out, 2, *retry_ms);
        }),
        Server::PubOk { id, topic, offset, level } => {
            Header::new(Kind::PubOk).with_id(*id).with_offset(*offset).frame(out, |out| {
                put_bytes(out, 1, &**topic);
                put_number(out, 2, level.number());
            });
        }
        Server::SubOk { id, topic, alias, epoch, head } => {
            Header::new(Kind::SubOk).with_id(*id).with_alias(*alias).frame(out, |out| {
                put_bytes(out, 1, &**topic);
                put_fixed(out, 2, *epoch);
                put_number(out, 3, *head);
            });
        }
        Server::UnsubOk { id, topic } => {
            Header::new(Kind::UnsubOk).with_id(*id).frame(out, |out| put_bytes(out, 1, &**topic));
        }
        Server::Res { id, body } => Header::new(Kind::Res).with_id(*id).frame(out, |out| put_bytes(out, 1, body)),
        Server::Pong { id, at_ms } => Header::new(Kind::Pong).with_id(*id).frame(out, |out| put_number(out, 1, *at_ms)),
        Server::Err { id, code, message, retry_ms } => {
            Header::new(Kind::Err).with_id(id.unwrap_or(0)).frame(out, |out| {
                put_number(out, 1, code.number());
                put_bytes(out, 2, &**message);
                put_number_if_any(out, 3, *retry_ms);
            });
        }
        Server::Welcome { id, session, user, ticket, shard, ping_ms, subs } => {
            Header::new(Kind::Welcome).with_id(*id).frame(out, |out| {
                put_bytes(out, 1, &**session);
                put_bytes(out, 2, &**user);
                put_bytes(out, 3, &**ticket);
                put_number(out, 4, *shard);
                put_number(out, 5, *ping_ms);
                put_sub_results(out, 6, subs);
            });
        }
    }
}

/// A push names its topic by the alias, if its reader was given one.
fn unless_alias(topic: &str, alias: u32) -> &str {
    if alias == 0 { topic } else { "" }
}

fn put_sub_results(out: &mut BytesMut, tag: u32, results: &[SubResult<'_>]) {
    let mut part = BytesMut::new();
    for result in results {
        part.clear();
        put_bytes(&mut part, 1, &*result.topic);
        match &result.state {
            SubState::Ok { alias, epoch, head } => {
                put_number(&mut part, 2, *alias);
                put_fixed(&mut part, 3, *epoch);
                put_number(&mut part, 4, *head);
            }
            SubState::Refused { code, message } => {
                put_number(&mut part, 5, code.number());
                put_bytes(&mut part, 6, &**message);
            }
        }
        put_element(out, tag, &part);
    }
}
