//! Clients of other protocols: what their adapter asks for goes the way of every session's messages.

use bytes::BytesMut;
use engine::Io;
use handler::Push;
use session::Codec;

use crate::{
    compat::Protocol,
    connection::{Connection, Kind, Socket},
    line::Line,
    mail::Mail,
    metrics::Drop,
    peers::session::Farewell,
    shard::{Ground, Shard},
    speaker::Speaker,
    wording,
};

impl Ground {
    /// Takes one message of a client in its own protocol.
    pub(crate) fn hear_foreign(
        &mut self,
        io: &mut Io<Mail>,
        line: Line,
        speaker: &mut Speaker,
        bytes: &[u8],
        answers: &mut BytesMut,
    ) -> Result<(), Farewell> {
        let Some(foreign) = &mut speaker.foreign else { return Ok(()) };
        if let Err(error) = foreign.hear(bytes) {
            self.undecodable(io, speaker, bytes.len(), &error, answers)?;
        }
        self.perform(io, line, speaker, answers)
    }

    /// Does what the adapter has asked for, until there is nothing left.
    fn perform(
        &mut self,
        io: &mut Io<Mail>,
        line: Line,
        speaker: &mut Speaker,
        answers: &mut BytesMut,
    ) -> Result<(), Farewell> {
        while let Some(ask) = speaker.foreign.as_mut().and_then(|foreign| foreign.next_ask()) {
            self.hear_session(io, line, speaker, (Codec::Json, &ask), answers)?;
        }
        let Some(foreign) = &mut speaker.foreign else { return Ok(()) };
        let reason = match foreign.protocol() {
            Protocol::GoChat => Drop::GoChat,
            Protocol::Hawos => Drop::Hawos,
        };
        (0..foreign.take_dropped()).for_each(|_| self.stats.drop_for(reason));
        foreign.ends().map_or(Ok(()), |reason| Err(Farewell::unauthenticated(reason)))
    }
}

impl Shard {
    /// Tells a client something in its own protocol. Its adapter may ask for more then.
    pub(crate) fn tell_foreign(&mut self, io: &mut Io<Mail>, connection: &mut Connection, push: &Push) {
        let Some(speaker) = connection.speaker() else { return };
        let mut out = std::mem::take(&mut self.ground.control);
        speaker.say(&wording::of(push), &mut out);
        if !out.is_empty() {
            self.ground.stats.sent(out.len());
        }
        connection.write(io, &out, &mut self.ground.wires);
        out.clear();
        self.ground.control = out;
        self.pursue(io, connection);
    }

    /// Does what the adapter of a client asks for by itself, if there is one.
    pub(crate) fn pursue(&mut self, io: &mut Io<Mail>, connection: &mut Connection) {
        let Kind::WebSocket(both) = &mut connection.kind else { return };
        let Socket { socket, speaker } = &mut **both;
        if speaker.foreign.is_none() || connection.closing.is_some() {
            return;
        }
        let mut answers = std::mem::take(&mut self.ground.answers);
        // What is asked here comes of what others do: it is no sign that the client is there.
        let silence = speaker.session.silence();
        let outcome = self.ground.perform(io, connection.line, speaker, &mut answers);
        speaker.session.stay_silent(silence);
        if speaker.session.is_open() {
            socket.set_limits(self.ground.setup.socket_limits());
        }
        self.finish_hearing(io, connection, answers, outcome);
        if connection.closing.is_some() {
            // A push came here, not bytes of the client: nobody else sets the timer of the end.
            self.arm(io.now(), connection);
        }
    }
}
