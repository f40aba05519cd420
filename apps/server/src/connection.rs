//! One connection of a shard, whatever carries it: its layers from TLS up, and the account of what is queued on it.

use std::{net::IpAddr, time::Instant};

use bytes::Bytes;
use engine::{Io, Stream};
use handler::{Close, Push};
use quantum::{Direction, Handle, StreamId};
use tcp::{frame::Deframer, tls::Tls};

use crate::{
    lane::{BULK_BYTES, Lanes, ORDERED, PRIORITY_BULK},
    line::Line,
    mail::Mail,
    metrics::Transport,
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
    /// Bytes that are not gone yet: handed to the engine and not reported as sent, or on Quantum not acknowledged.
    pub(crate) queued: usize,
    /// When the queue last became shorter, or was empty.
    pub(crate) progress: Instant,
    /// When the connection opened, for the limits before a session stands.
    pub(crate) opened: Instant,
    /// The earliest timer that is set for it.
    pub(crate) armed: Option<Instant>,
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
    /// The session protocol in the lanes of a Quantum connection.
    Quantum(Box<Lanes>),
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

    /// A Quantum connection whose handshake is done.
    pub(crate) fn quantum(handle: Handle, address: IpAddr, lanes: Lanes, now: Instant) -> Self {
        Self::new(Line::Quantum(handle), address, None, Kind::Quantum(Box::new(lanes)), Transport::Quantum, now)
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
            lagging: false,
            ended: false,
            closing: None,
            closing_max: now,
            half_open: true,
        }
    }

    /// The session, when one is spoken here.
    pub(crate) fn speaker(&mut self) -> Option<&mut Speaker> {
        match &mut self.kind {
            Kind::Start(_) | Kind::Http(_) => None,
            Kind::Framed(framed) => Some(&mut framed.speaker),
            Kind::WebSocket(socket) => Some(&mut socket.speaker),
            Kind::Quantum(lanes) => Some(&mut lanes.speaker),
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
            Line::Quantum(handle) => {
                let (Some(transport), Kind::Quantum(lanes)) = (wires.connection(handle), &mut self.kind) else {
                    return;
                };
                lanes.write(transport, ORDERED, bytes);
                let queued = lanes.queued(transport);
                self.written(io.now(), queued, wires);
            }
        }
    }

    /// Queues bytes that other connections share; only TLS and Quantum make their own copy.
    pub(crate) fn write_shared(&mut self, io: &mut Io<Mail>, bytes: &Bytes, wires: &mut Wires) {
        match self.line {
            Line::Tcp(stream) if self.tls.is_none() => {
                self.account(io.now(), bytes.len());
                io.send(stream, bytes.clone());
            }
            // A slice that waits holds its whole chunk of the arena, and here it waits for a round trip at least.
            Line::Tcp(_) | Line::Quantum(_) => self.write(io, bytes, wires),
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
            Line::Quantum(handle) => {
                self.part(reason);
                let (Some(transport), Kind::Quantum(lanes)) = (wires.connection(handle), &mut self.kind) else {
                    return;
                };
                if !lanes.finish(transport, ORDERED) {
                    // The client never opened the lane, or has given it up: there is nothing to wait for.
                    self.close(io, wires);
                }
            }
        }
    }

    /// What the peer will be told as the reason of the end, where there are words for it.
    pub(crate) fn part(&mut self, reason: Close) {
        match &mut self.kind {
            Kind::Quantum(lanes) => lanes.parting = reason,
            Kind::Start(_) | Kind::Http(_) | Kind::Framed(_) | Kind::WebSocket(_) => {}
        }
    }

    /// Ends the connection now; what is queued may be lost.
    pub(crate) fn close(&mut self, io: &mut Io<Mail>, wires: &mut Wires) {
        match self.line {
            Line::Tcp(stream) => io.close(stream),
            Line::Quantum(handle) => {
                let Kind::Quantum(lanes) = &self.kind else { return };
                let (code, reason) = crate::lane::parting(lanes.parting);
                if let Some(connection) = wires.connection(handle) {
                    connection.close(io.now(), code, reason.as_bytes());
                }
            }
        }
    }

    /// Stops reading, or goes on. From a Quantum connection bytes are fetched, so there is nothing to stop.
    pub(crate) fn pause(&mut self, io: &mut Io<Mail>, pause: bool) {
        match self.line {
            Line::Tcp(stream) if pause => io.pause(stream),
            Line::Tcp(stream) => io.resume(stream),
            Line::Quantum(_) => {}
        }
    }

    /// Asks Quantum how much is still queued; whether that is less than it was. TCP tells by itself.
    pub(crate) fn refresh(&mut self, now: Instant, wires: &mut Wires) -> bool {
        let (Line::Quantum(handle), Kind::Quantum(lanes)) = (self.line, &self.kind) else { return false };
        let queued = wires.peek(handle).map_or(0, |transport| lanes.queued(transport));
        let less = self.settle(now, queued);
        wires.stirred |= less;
        less
    }

    /// Quantum has room on a stream again.
    pub(crate) fn resume(&mut self, now: Instant, id: StreamId, wires: &mut Wires) {
        let Line::Quantum(handle) = self.line else { return };
        let (Some(transport), Kind::Quantum(lanes)) = (wires.connection(handle), &mut self.kind) else { return };
        lanes.resume(transport, id);
        let queued = lanes.queued(transport);
        wires.stirred |= self.settle(now, queued);
    }

    /// Sends on a lane of its own what need not wait behind the ordered one; false if there is none for it.
    pub(crate) fn write_aside(&mut self, io: &Io<Mail>, push: &Push, bytes: &Bytes, wires: &mut Wires) -> bool {
        let Line::Quantum(handle) = self.line else { return false };
        let (Some(transport), Kind::Quantum(lanes)) = (wires.connection(handle), &mut self.kind) else { return false };
        match push {
            // A copy, because a slice that waits would hold its whole chunk of the arena.
            Push::Eph { .. } => transport.send_datagram(Bytes::copy_from_slice(bytes)).is_ok(),
            Push::Res { .. } if bytes.len() >= BULK_BYTES => {
                let Some(id) = transport.open(Direction::Unidirectional) else { return false };
                let _ = transport.set_priority(id, PRIORITY_BULK);
                lanes.write(transport, id, bytes);
                lanes.finish(transport, id);
                let queued = lanes.queued(transport);
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
        let Kind::Quantum(lanes) = &mut self.kind else { return };
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
        let Kind::Quantum(lanes) = &mut self.kind else { return };
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
