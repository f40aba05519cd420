//! What must hold for any bytes that a peer sends: shared by the fuzz target and the replay of its corpus.

use bytes::BytesMut;
use websocket::{Connection, Event, Limits};

/// Small, so that the limits are met by small inputs.
const LIMITS: Limits = Limits { message_max: 300, frame_max: 200 };

/// The first byte says at which end and in which pieces the rest is received.
pub(crate) fn messages(data: &[u8]) {
    let Some((&how, bytes)) = data.split_first() else { return };
    let (client, size) = (how & 0x80 != 0, usize::from(how & 0x7f).max(1));
    let (whole, whole_output) = receive(client, bytes, usize::MAX);
    let (cut, cut_output) = receive(client, bytes, size);
    assert_eq!((&whole, &whole_output), (&cut, &cut_output), "it matters where the bytes are cut");
    let end = whole.iter().position(|event| matches!(event, Event::Closed { .. }));
    assert!(end.is_none_or(|at| at + 1 == whole.len()), "something comes after the end");
    for event in &whole {
        match event {
            Event::Text(text) => assert!(text.len() <= LIMITS.message_max),
            Event::Binary(bytes) => assert!(bytes.len() <= LIMITS.message_max),
            Event::Pong | Event::Closed { .. } => {}
        }
    }
}

fn receive(client: bool, bytes: &[u8], size: usize) -> (Vec<Event<'static>>, BytesMut) {
    let mut connection = if client { Connection::client(LIMITS, [7; 32]) } else { Connection::server(LIMITS) };
    let (mut bytes, mut events, mut output) = (bytes.to_vec(), Vec::new(), BytesMut::new());
    for mut piece in bytes.chunks_mut(size) {
        while let Some(event) = connection.next(&mut piece) {
            events.push(event.into_owned());
        }
        connection.take_output(&mut output);
    }
    assert!(output.len() <= 3 * bytes.len() + 127, "more goes out than a mask explains");
    (events, output)
}
