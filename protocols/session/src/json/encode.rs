//! Messages to JSON text, straight into the output.

use bytes::{BufMut, BytesMut};

use crate::{Client, Credential, Hello, Server, SubResult, SubState, Topic, VERSION, json::scan::plain_len};

/// Appends a client's message.
///
/// # Panics
/// When a topic is named by its alias: JSON has no such thing.
pub fn encode_client(message: &Client<'_>, out: &mut BytesMut) {
    match message {
        Client::Hello(hello) => encode_hello(hello, out),
        Client::Sub { id, topic, epoch, after } => {
            Object::message(out, "sub").number("id", *id).text("topic", name(topic)).since(*epoch, *after).end();
        }
        Client::Unsub { id, topic } => Object::message(out, "unsub").number("id", *id).text("topic", name(topic)).end(),
        Client::Pub { id, topic, seq, body } => Object::message(out, "pub")
            .number("id", *id)
            .text("topic", name(topic))
            .number_if_any("seq", *seq)
            .raw("body", body)
            .end(),
        Client::Eph { topic, key, body } => {
            Object::message(out, "eph").text("topic", name(topic)).text("key", key).raw("body", body).end();
        }
        Client::Ack { topic, delivered, read } => Object::message(out, "ack")
            .text("topic", name(topic))
            .number("delivered", *delivered)
            .number("read", *read)
            .end(),
        Client::Req { id, op, body } => {
            Object::message(out, "req").number("id", *id).text("op", op).raw("body", body).end();
        }
        Client::Ping { id } => Object::message(out, "ping").number("id", *id).end(),
    }
}

fn name<'a>(topic: &'a Topic<'_>) -> &'a str {
    match topic {
        Topic::Name(name) => name,
        Topic::Alias(alias) => panic!("JSON names topics, and {alias} is the alias of one"),
    }
}

fn encode_hello(hello: &Hello<'_>, out: &mut BytesMut) {
    let mut object = Object::message(out, "hello").number("id", hello.id);
    if (hello.version_min, hello.version_max) != (VERSION.into(), VERSION.into()) {
        object = object.number("version_min", hello.version_min).number("version_max", hello.version_max);
    }
    if hello.features != 0 {
        object = object.number("features", hello.features);
    }
    object = match &hello.credential {
        Credential::Token(token) => object.text("token", token),
        Credential::Resume { session, ticket } => {
            object.nested("resume", |resume| resume.text("session", session).text("ticket", ticket))
        }
    };
    if !hello.device.is_empty() {
        object = object.text("device", &hello.device);
    }
    object
        .each("subs", &hello.subs, |sub, out| {
            Object::new(out).text("topic", &sub.topic).since(sub.epoch, sub.after).end();
        })
        .end();
}

/// Appends a server's message.
pub fn encode_server(message: &Server<'_>, out: &mut BytesMut) {
    match message {
        Server::Msg { topic, alias: _, offset, from, at_ms, body } => Object::message(out, "msg")
            .text("topic", topic)
            .number("offset", *offset)
            .text("from", from)
            .number("at_ms", *at_ms)
            .raw("body", body)
            .end(),
        Server::Eph { topic, alias: _, from, key, body } => {
            Object::message(out, "eph")
                .text("topic", topic)
                .text("from", from)
                .text("key", key)
                .raw("body", body)
                .end();
        }
        Server::Presence { topic, alias: _, joined, left, count } => Object::message(out, "presence")
            .text("topic", topic)
            .each("joined", joined.iter(), |name, out| put_text(out, name))
            .each("left", left.iter(), |name, out| put_text(out, name))
            .number("count", *count)
            .end(),
        Server::Gap { topic, alias: _, first } => {
            Object::message(out, "gap").text("topic", topic).number("first", *first).end();
        }
        Server::Goaway { reason, retry_ms } => {
            Object::message(out, "goaway").text("reason", reason).number("retry_ms", *retry_ms).end();
        }
        Server::PubOk { id, topic, offset, level } => Object::message(out, "pub_ok")
            .number("id", *id)
            .text("topic", topic)
            .number("offset", *offset)
            .text("level", level.name())
            .end(),
        Server::SubOk { id, topic, alias: _, epoch, head } => Object::message(out, "sub_ok")
            .number("id", *id)
            .text("topic", topic)
            .epoch(*epoch)
            .number("head", *head)
            .end(),
        Server::UnsubOk { id, topic } => Object::message(out, "unsub_ok").number("id", *id).text("topic", topic).end(),
        Server::Res { id, body } => Object::message(out, "res").number("id", *id).raw("body", body).end(),
        Server::Pong { id, at_ms } => {
            let asked = (*id != 0).then_some(*id);
            Object::message(out, "pong").number_if_any("id", asked).number("at_ms", *at_ms).end();
        }
        Server::Err { id, code, message, retry_ms } => Object::message(out, "err")
            .number_if_any("id", *id)
            .text("code", code.name())
            .text("message", message)
            .number_if_any("retry_ms", *retry_ms)
            .end(),
        Server::Welcome { id, session, user, ticket, shard, ping_ms, subs } => Object::message(out, "welcome")
            .number("id", *id)
            .text("session", session)
            .text("user", user)
            .text("ticket", ticket)
            .number("shard", *shard)
            .number("ping_ms", *ping_ms)
            .each("subs", subs, put_sub_result)
            .end(),
    }
}

fn put_sub_result(result: &SubResult<'_>, out: &mut BytesMut) {
    let object = Object::new(out).text("topic", &result.topic);
    match &result.state {
        SubState::Ok { alias: _, epoch, head } => object.epoch(*epoch).number("head", *head).end(),
        SubState::Refused { code, message } => object.text("code", code.name()).text("message", message).end(),
    }
}

/// An object that is being written.
struct Object<'o> {
    out: &'o mut BytesMut,
    empty: bool,
}

impl<'o> Object<'o> {
    fn new(out: &'o mut BytesMut) -> Self {
        out.put_u8(b'{');
        Self { out, empty: true }
    }

    fn message(out: &'o mut BytesMut, kind: &str) -> Self {
        Self::new(out).text("kind", kind)
    }

    fn text(mut self, name: &str, value: &str) -> Self {
        self.name(name);
        put_text(self.out, value);
        self
    }

    fn number(mut self, name: &str, value: impl Into<u64>) -> Self {
        self.name(name);
        self.out.put_slice(itoa::Buffer::new().format(value.into()).as_bytes());
        self
    }

    fn number_if_any(self, name: &str, value: Option<impl Into<u64>>) -> Self {
        match value {
            Some(value) => self.number(name, value),
            None => self,
        }
    }

    fn epoch(mut self, epoch: u64) -> Self {
        self.name("epoch");
        self.out.put_u8(b'"');
        for shift in (0..16).rev() {
            self.out.put_u8(HEX[(epoch >> (4 * shift) & 15) as usize]);
        }
        self.out.put_u8(b'"');
        self
    }

    fn since(self, epoch: Option<u64>, after: Option<u64>) -> Self {
        let object = match epoch {
            Some(epoch) => self.epoch(epoch),
            None => self,
        };
        object.number_if_any("after", after)
    }

    /// A value that is JSON text already.
    fn raw(mut self, name: &str, text: &[u8]) -> Self {
        self.name(name);
        self.out.put_slice(text);
        self
    }

    fn nested(mut self, name: &str, fill: impl FnOnce(Object<'_>) -> Object<'_>) -> Self {
        self.name(name);
        fill(Object::new(self.out)).end();
        self
    }

    fn each<T>(mut self, name: &str, list: impl IntoIterator<Item = T>, mut put: impl FnMut(T, &mut BytesMut)) -> Self {
        self.name(name);
        self.out.put_u8(b'[');
        for (n, element) in list.into_iter().enumerate() {
            if n > 0 {
                self.out.put_u8(b',');
            }
            put(element, self.out);
        }
        self.out.put_u8(b']');
        self
    }

    fn end(self) {
        self.out.put_u8(b'}');
    }

    fn name(&mut self, name: &str) {
        if !self.empty {
            self.out.put_u8(b',');
        }
        self.empty = false;
        self.out.put_u8(b'"');
        self.out.put_slice(name.as_bytes());
        self.out.put_slice(b"\":");
    }
}

fn put_text(out: &mut BytesMut, text: &str) {
    out.put_u8(b'"');
    let mut rest = text.as_bytes();
    loop {
        let (plain, special) = rest.split_at(plain_len(rest));
        out.put_slice(plain);
        let Some((byte, after)) = special.split_first() else { break };
        match byte {
            b'"' | b'\\' => out.put_slice(&[b'\\', *byte]),
            b'\n' => out.put_slice(b"\\n"),
            _ => out.put_slice(&[b'\\', b'u', b'0', b'0', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]),
        }
        rest = after;
    }
    out.put_u8(b'"');
}

const HEX: &[u8; 16] = b"0123456789abcdef";
