//! The hand-written bodies are those of `proto/session.proto`: the schema is compiled here and reads what the codec wrote.

use bytes::BytesMut;
use prost_reflect::{DescriptorPool, DynamicMessage, Value, prost::Message};
use session::{Client, Codec, Server, binary::Header, encode_client, encode_server};

use crate::sample::Sample;

const SEED: u64 = 11;

fn schema() -> DescriptorPool {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/proto");
    let files = protox::compile(["session.proto"], [folder]).unwrap();
    DescriptorPool::from_file_descriptor_set(files).unwrap()
}

/// The body of a frame, read by the schema, which must write it again to the byte.
fn read(schema: &DescriptorPool, name: &str, frame: &[u8]) -> DynamicMessage {
    let (_, body) = Header::parse(frame).unwrap();
    let descriptor = schema.get_message_by_name(&format!("ringshard.session.v1.{name}")).unwrap();
    let message = DynamicMessage::decode(descriptor, body).unwrap();
    assert_eq!(message.unknown_fields().count(), 0, "{name}: every field is in the schema");
    assert_eq!(message.encode_to_vec(), body, "{name}: the schema writes the same bytes");
    message
}

#[test]
fn the_schema_reads_and_writes_what_clients_send() {
    let (schema, mut sample) = (schema(), Sample::seeded(SEED));
    for _ in 0..2_000 {
        let client = sample.client();
        let name = match &client {
            Client::Hello(_) => "Hello",
            Client::Sub { .. } => "Sub",
            Client::Unsub { .. } => "Unsub",
            Client::Pub { .. } => "Pub",
            Client::Eph { .. } => "Eph",
            Client::Ack { .. } => "Ack",
            Client::Req { .. } => "Req",
            Client::Ping { .. } => "Ping",
        };
        let mut out = BytesMut::new();
        encode_client(Codec::Binary, &client, &mut out);
        read(&schema, name, &out);
    }
}

#[test]
fn the_schema_reads_and_writes_what_servers_send() {
    let (schema, mut sample) = (schema(), Sample::seeded(SEED));
    for _ in 0..2_000 {
        let server = sample.server();
        let name = match &server {
            Server::Welcome { .. } => "Welcome",
            Server::SubOk { .. } => "SubOk",
            Server::UnsubOk { .. } => "UnsubOk",
            Server::PubOk { .. } => "PubOk",
            Server::Res { .. } => "Res",
            Server::Pong { .. } => "Pong",
            Server::Err { .. } => "Err",
            Server::Msg { .. } => "Msg",
            Server::Eph { .. } => "Eph",
            Server::Presence { .. } => "Presence",
            Server::Gap { .. } => "Gap",
            Server::Goaway { .. } => "Goaway",
        };
        let mut out = BytesMut::new();
        encode_server(Codec::Binary, &server, &mut out);
        read(&schema, name, &out);
    }
}

#[test]
fn fields_have_the_names_of_json() {
    let mut out = BytesMut::new();
    let publish = Client::Pub { id: 1, topic: "chat/x".into(), seq: Some(0), body: b"{}" };
    encode_client(Codec::Binary, &publish, &mut out);
    let message = read(&schema(), "Pub", &out);
    assert_eq!(*message.get_field_by_name("topic").unwrap(), Value::String("chat/x".into()));
    assert_eq!(*message.get_field_by_name("seq").unwrap(), Value::U64(0));
    assert!(message.has_field_by_name("seq"), "a seq of 0 is a seq");
    assert_eq!(*message.get_field_by_name("body").unwrap(), Value::Bytes(b"{}"[..].into()));
}

#[test]
fn codes_and_levels_have_the_numbers_of_the_schema() {
    let schema = schema();
    let number = |list: &str, name: &str| {
        let list = schema.get_enum_by_name(&format!("ringshard.session.v1.{list}")).unwrap();
        list.get_value_by_name(name).unwrap().number()
    };
    for code in session::Code::ALL {
        assert_eq!(number("Code", &format!("CODE_{}", code.name().to_uppercase())), code.number() as i32);
    }
    for level in [session::Level::Memory, session::Level::Durable] {
        assert_eq!(number("Level", &format!("LEVEL_{}", level.name().to_uppercase())), level.number() as i32);
    }
}
