//! One connection of a shard, whatever carries it: its layers from TLS up, and the account of what is queued on it.

use std::{net::IpAddr, time::Instant};

use bytes::Bytes;
use engine::{Io, Stream};
use handler::{Close, Push};
use quic::h3::Code;
use tcp::{frame::Deframer, tls::Tls};

use crate::{
    lane::{BULK_BYTES, Lanes},
    line::Line,
    mail::Mail,
    metrics::Transport,
    peers::http3::Http3,
    pipe::{LaneId, Pipe},
    speaker::Speaker,
    wires::Wires,
};

/// A connection from its first byte to its last.
pub(crate) struct Connection {
    pub(crate) line: Line,
    pub(crate) address: IpAddr,
    pub(crate) tls: Option<Box<Tls>>,
    pub(crate) kind: Kind,
    /// As what it is counted.
    pub(crate) transport: Transport,
    /// Bytes that are not gone yet: handed to the engine and not reported as sent, or not let go by what carries it.
    pub(crate) queued: usize,
    /// When the queue last became shorter, or was empty.
    pub(crate) progress: Instant,
    /// When the connection opened, for the limits before a session stands.
    pub(crate) opened: Instant,
    /// The earliest timer that is set for it.
    pub(crate) armed: Option<Instant>,
    /// The kernel has no room for what is queued: messages wait in their topics and not here.
    pub(crate) behind: bool,
    /// Messages are held back: the app pulls them when the queue has drained.
    pub(crate) lagging: bool,
    /// Nothing is read, because HTTP cannot take more in.
    pub(crate) paused: bool,
    /// The peer will send no more.
    pub(crate) ended: bool,
    /// Nothing more is read; until then it may flush.
    pub(crate) closing: Option<Instant>,
    /// A reader that goes on taking what is queued is waited for, but not longer than this.
    pub(crate) closing_max: Instant,
    /// It has not said yet what it wants, and counts against the limit of such.
    pub(crate) half_open: bool,
}

/// Who sends a request.
#[derive(Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) address: IpAddr,
    /// It need not be told where HTTP/3 is.
    pub(crate) is_on_http3: bool,
}

/// What is spoken on a connection.
pub(crate) enum Kind {
    /// Not known yet: the first bytes decide.
    Start(Vec<u8>),
    /// HTTP/1.1 or 2.
    Http(Box<ringshard_http::Connection>),
    /// Frames of the session protocol.
    Framed(Box<Framed>),
    /// The session protocol in WebSocket messages.
    WebSocket(Box<Socket>),
    /// HTTP/3.
    Http3(Box<Http3>),
    /// The session protocol in the lanes of a datagram transport.
    Lanes(Box<Lanes>),
}

/// A session in frames on the byte stream.
pub(crate) struct Framed {
    pub(crate) deframer: Deframer,
    pub(crate) speaker: Speaker,
}

/// A session in WebSocket messages.
pub(crate) struct Socket {
    pub(crate) socket: websocket::Connection,
    pub(crate) speaker: Speaker,
}

impl Connection {
    /// A TCP connection that has not said anything yet.
    pub(crate) fn tcp(stream: Stream, address: IpAddr, tls: Option<Box<Tls>>, now: Instant) -> Self {
        Self::new(Line::Tcp(stream), address, tls, Kind::Start(Vec::new()), Transport::New, now)
    }

    /// A session in lanes, on whatever `line` is, counted as `transport`.
    pub(crate) fn lanes(line: Line, address: IpAddr, lanes: Lanes, transport: Transport, now: Instant) -> Self {
        Self::new(line, address, None, Kind::Lanes(Box::new(lanes)), transport, now)
    }

    /// A QUIC connection that speaks HTTP/3.
    pub(crate) fn http3(handle: quic::Handle, address: IpAddr, now: Instant) -> Self {
        let http = Kind::Http3(Box::new(Http3::new(handle, now)));
        Self::new(Line::Quic(handle), address, None, http, Transport::Http3, now)
    }

    fn new(line: Line, address: IpAddr, tls: Option<Box<Tls>>, kind: Kind, transport: Transport, now: Instant) -> Self {
        Self {
            line,
            address,
            tls,
            kind,
            transport,
            queued: 0,
            paused: false,
            progress: now,
            opened: now,
            armed: None,
            behind: false,
            lagging: false,
            ended: false,
            closing: None,
            closing_max: now,
            half_open: true,
        }
    }

    /// Who sends requests on it.
    pub(crate) fn caller(&self) -> Caller {
        Caller { address: self.address, is_on_http3: self.transport == Transport::Http3 }
    }

    /// Whether a lane of the session is open for the client.
    pub(crate) fn has_lane(&self, id: LaneId) -> bool {
        let Kind::Lanes(lanes) = &self.kind else { return false };
        lanes.ordered_id == Some(id) || lanes.bulk.iter().any(|(other, _)| *other == id)
    }

    /// The session, when one is spoken here.
    pub(crate) fn speaker(&mut self) -> Option<&mut Speaker> {
        match &mut self.kind {
            Kind::Start(_) | Kind::Http(_) | Kind::Http3(_) => None,
            Kind::Framed(framed) => Some(&mut framed.speaker),
            Kind::WebSocket(socket) => Some(&mut socket.speaker),
            Kind::Lanes(lanes) => Some(&mut lanes.speaker),
        }
    }

    /// Queues plain bytes, through TLS if there is one.
    pub(crate) fn write(&mut self, io: &mut Io<Mail>, bytes: &[u8], wires: &mut Wires) {
        if bytes.is_empty() {
            return;
        }
        match self.line {
            Line::Tcp(_) if self.tls.is_some() => {
                if let Some(tls) = &mut self.tls {
                    tls.send(bytes);
                }
                self.flush_tls(io, wires);
            }
            Line::Tcp(stream) => {
                self.account(io.now(), bytes.len());
                io.send_slice(stream, bytes);
            }
            Line::Quantum(_) | Line::Quic(_) | Line::WebTransport(_) => {
                let (Some(mut pipe), Kind::Lanes(lanes)) = (wires.pipe(self.line), &mut self.kind) else { return };
                lanes.write(&mut pipe, bytes);
                let queued = lanes.queued(self.line, wires);
                self.written(io.now(), queued, wires);
            }
        }
    }

    /// Queues bytes that other connections share; only TLS and lanes make their own copy.
    pub(crate) fn write_shared(&mut self, io: &mut Io<Mail>, bytes: &Bytes, wires: &mut Wires) {
        match self.line {
            Line::Tcp(stream) if self.tls.is_none() => {
                self.account(io.now(), bytes.len());
                io.send(stream, bytes.clone());
            }
            // A slice that waits holds its whole chunk of the arena, and here it waits for a round trip at least.
            Line::Tcp(_) | Line::Quantum(_) | Line::Quic(_) | Line::WebTransport(_) => self.write(io, bytes, wires),
        }
    }

    /// Queues what TLS has to say.
    pub(crate) fn flush_tls(&mut self, io: &mut Io<Mail>, wires: &mut Wires) {
        let (Some(tls), Line::Tcp(stream)) = (&mut self.tls, self.line) else { return };
        let cipher = &mut wires.cipher;
        cipher.clear();
        tls.take_output(cipher);
        if !cipher.is_empty() {
            self.account(io.now(), cipher.len());
            io.send_slice(stream, cipher);
        }
    }

    /// Ends the connection after what is queued: FIN now, and the rest at `until` whatever the peer does.
    pub(crate) fn finish(&mut self, io: &mut Io<Mail>, until: Instant, reason: Close, wires: &mut Wires) {
        if self.closing.is_some() {
            return;
        }
        self.closing = Some(until);
        match self.line {
            Line::Tcp(stream) => {
                if let Some(tls) = &mut self.tls {
                    tls.close_notify();
                }
                self.flush_tls(io, wires);
                io.shutdown(stream);
            }
            Line::Quantum(_) | Line::Quic(_) | Line::WebTransport(_) => {
                self.part(reason);
                let ends = match (wires.pipe(self.line), &mut self.kind) {
                    (Some(mut pipe), Kind::Lanes(lanes)) => lanes.finish(&mut pipe),
                    _ => false,
                };
                if !ends {
                    // The client never opened the lane, or has given it up: there is nothing to wait for.
                    self.close(io, wires);
                }
            }
        }
    }

    /// What the peer will be told as the reason of the end, where there are words for it.
    pub(crate) fn part(&mut self, reason: Close) {
        match &mut self.kind {
            Kind::Lanes(lanes) => lanes.parting = reason,
            Kind::Start(_) | Kind::Http(_) | Kind::Http3(_) | Kind::Framed(_) | Kind::WebSocket(_) => {}
        }
    }

    /// Ends the connection now; what is queued may be lost.
    pub(crate) fn close(&mut self, io: &mut Io<Mail>, wires: &mut Wires) {
        match self.line {
            Line::Tcp(stream) => io.close(stream),
            Line::Quantum(_) | Line::Quic(_) | Line::WebTransport(_) => {
                match (wires.pipe(self.line), &self.kind) {
                    (Some(mut pipe), Kind::Lanes(lanes)) => pipe.close(io.now(), lanes.parting),
                    (Some(Pipe::Quic(transport)), Kind::Http3(_)) => transport.close(Code::NO_ERROR.0, &[]),
                    _ => {}
                }
                // Connections tell of their end by themselves.
                if let (Line::WebTransport(_), Some(quic)) = (self.line, &mut wires.quic) {
                    quic.ends(self.line);
                }
            }
        }
    }

    /// Stops reading, or goes on. From lanes bytes are fetched, so there is nothing to stop.
    pub(crate) fn pause(&mut self, io: &mut Io<Mail>, pause: bool) {
        match self.line {
            Line::Tcp(stream) if pause => io.pause(stream),
            Line::Tcp(stream) => io.resume(stream),
            Line::Quantum(_) | Line::Quic(_) | Line::WebTransport(_) => {}
        }
    }

    /// Asks the carrier how much is still queued; whether that is less than it was. TCP tells by itself.
    pub(crate) fn refresh(&mut self, now: Instant, wires: &mut Wires) -> bool {
        let Kind::Lanes(lanes) = &mut self.kind else { return false };
        let queued = lanes.queued(self.line, wires);
        let less = self.settle(now, queued);
        wires.stirred |= less;
        less
    }

    /// The carrier has room on a stream again.
    pub(crate) fn resume(&mut self, now: Instant, id: LaneId, wires: &mut Wires) {
        let (Some(mut pipe), Kind::Lanes(lanes)) = (wires.pipe(self.line), &mut self.kind) else { return };
        lanes.resume(&mut pipe, id);
        let queued = lanes.queued(self.line, wires);
        wires.stirred |= self.settle(now, queued);
    }

    /// Sends on a lane of its own what need not wait behind the ordered one; false if there is none for it.
    pub(crate) fn write_aside(&mut self, io: &Io<Mail>, push: &Push, bytes: &Bytes, wires: &mut Wires) -> bool {
        let (Some(mut pipe), Kind::Lanes(lanes)) = (wires.pipe(self.line), &mut self.kind) else { return false };
        match push {
            Push::Eph { .. } => pipe.send_datagram(bytes),
            Push::Res { .. } if bytes.len() >= BULK_BYTES => {
                if !lanes.transfer(&mut pipe, bytes) {
                    return false;
                }
                let queued = lanes.queued(self.line, wires);
                self.written(io.now(), queued, wires);
                true
            }
            Push::Res { .. }
            | Push::SubOk { .. }
            | Push::UnsubOk { .. }
            | Push::PubOk { .. }
            | Push::Err { .. }
            | Push::Msg { .. }
            | Push::Presence { .. }
            | Push::Gap { .. } => false,
        }
    }

    /// Was looked at, and is again as long as something is queued.
    pub(crate) fn watch(&mut self, wires: &mut Wires) {
        let Kind::Lanes(lanes) = &mut self.kind else { return };
        lanes.watched = self.queued > 0 || self.lagging;
        if lanes.watched {
            wires.watched.push_back(self.line);
        }
    }

    /// Takes note of what is queued after a write.
    fn written(&mut self, now: Instant, queued: usize, wires: &mut Wires) {
        if self.queued == 0 {
            self.progress = now;
        }
        wires.stirred |= self.settle(now, queued);
        let Kind::Lanes(lanes) = &mut self.kind else { return };
        if !std::mem::replace(&mut lanes.watched, true) {
            wires.watched.push_back(self.line);
        }
    }

    fn settle(&mut self, now: Instant, queued: usize) -> bool {
        let less = queued < self.queued;
        if less {
            self.progress = now;
        }
        self.queued = queued;
        less
    }

    fn account(&mut self, now: Instant, bytes: usize) {
        if self.queued == 0 {
            self.progress = now;
        }
        self.queued += bytes;
    }
}
