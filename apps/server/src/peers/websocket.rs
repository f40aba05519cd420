//! The session protocol in WebSocket messages: one message is one JSON object or one frame.

use engine::Io;
use websocket::Event;

use crate::{
    connection::{Connection, Kind, Socket},
    dialect::Dialect,
    mail::Mail,
    peers::session::Farewell,
    shard::Shard,
};

impl Shard {
    pub(crate) fn feed_socket(&mut self, io: &mut Io<Mail>, connection: &mut Connection, mut bytes: &mut [u8]) {
        let Kind::WebSocket(both) = &mut connection.kind else { return };
        let Socket { socket, speaker } = &mut **both;
        let mut answers = std::mem::take(&mut self.ground.answers);
        let mut outcome = Ok(());
        while let Some(event) = socket.next(&mut bytes) {
            let heard = match event {
                Event::Text(text) if speaker.dialect == Dialect::JsonSocket => {
                    self.ground.hear(io, connection.stream, speaker, text.as_bytes(), &mut answers)
                }
                Event::Binary(frame) if speaker.dialect == Dialect::BinarySocket => {
                    self.ground.hear(io, connection.stream, speaker, &frame, &mut answers)
                }
                Event::Text(_) => Err(self.ground.broken(speaker, "this session speaks binary messages", &mut answers)),
                Event::Binary(_) => Err(self.ground.broken(speaker, "this session speaks text messages", &mut answers)),
                Event::Pong => {
                    speaker.session.on_traffic(io.now());
                    Ok(())
                }
                Event::Closed { code, .. } => Err(Farewell::closed(code)),
            };
            if heard.is_err() {
                outcome = heard;
                break;
            }
        }
        // Pongs and the echo of a close go before the answers, whole frames both.
        let mut control = std::mem::take(&mut self.ground.control);
        socket.take_output(&mut control);
        connection.write(io, &control, &mut self.ground.cipher);
        control.clear();
        self.ground.control = control;
        self.finish_hearing(io, connection, answers, outcome);
    }
}
