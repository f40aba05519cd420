//! The session protocol in WebSocket messages: one message is one JSON object or one frame.

use engine::Io;
use websocket::Event;

use crate::{
    connection::{Connection, Kind, Socket},
    dialect::Dialect,
    mail::Mail,
    metrics::Drop,
    peers::session::Farewell,
    receive::too_large,
    shard::Shard,
};

impl Shard {
    pub(crate) fn feed_socket(&mut self, io: &mut Io<Mail>, connection: &mut Connection, mut bytes: &mut [u8]) {
        let Kind::WebSocket(both) = &mut connection.kind else { return };
        let Socket { socket, speaker } = &mut **both;
        let mut answers = std::mem::take(&mut self.ground.answers);
        let (mut outcome, mut closed) = (Ok(()), false);
        while let Some(event) = socket.next(&mut bytes) {
            let heard = match event {
                Event::Text(text) if speaker.dialect == Dialect::JsonSocket => {
                    self.ground.hear(io, connection.line, speaker, text.as_bytes(), &mut answers)
                }
                Event::Binary(frame) if speaker.dialect == Dialect::BinarySocket => {
                    self.ground.hear(io, connection.line, speaker, &frame, &mut answers)
                }
                Event::Text(_) => {
                    Err(self.ground.unspoken(speaker, "this session speaks binary messages", &mut answers))
                }
                Event::Binary(_) => {
                    Err(self.ground.unspoken(speaker, "this session speaks text messages", &mut answers))
                }
                Event::Pong => {
                    speaker.session.on_traffic(io.now());
                    Ok(())
                }
                Event::Closed { code, clean, .. } => {
                    if !clean {
                        self.ground.stats.drop_for(if code == TOO_BIG { too_large(speaker) } else { Drop::Websocket });
                    }
                    closed = true;
                    Err(Farewell::closed(code))
                }
            };
            if heard.is_err() {
                outcome = heard;
                break;
            }
            if speaker.session.is_open() {
                socket.set_limits(self.ground.setup.socket_limits());
            }
        }
        // Pongs go before the answers, whole frames both. Behind a close nothing may follow (RFC 6455 section 5.5.1).
        let mut control = std::mem::take(&mut self.ground.control);
        socket.take_output(&mut control);
        if !control.is_empty() {
            // Whole pings came. The bytes of a frame that never ends are no sign of life.
            speaker.session.on_traffic(io.now());
        }
        if closed {
            connection.write(io, &answers, &mut self.ground.wires);
            answers.clear();
            self.write_welcome(io, connection);
        }
        connection.write(io, &control, &mut self.ground.wires);
        control.clear();
        self.ground.control = control;
        self.finish_hearing(io, connection, answers, outcome);
    }
}

// The WebSocket close code of a message that is too big.
const TOO_BIG: u16 = 1009;
