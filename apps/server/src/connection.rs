//! One TCP connection of a shard: its layers from TLS up, and the account of what is queued on it.

use std::{net::IpAddr, time::Instant};

use bytes::{Bytes, BytesMut};
use engine::{Io, Stream};
use tcp::{frame::Deframer, tls::Tls};

use crate::{mail::Mail, metrics::Transport, speaker::Speaker};

/// A connection from its first byte to its last.
pub(crate) struct Connection {
    pub(crate) stream: Stream,
    pub(crate) address: IpAddr,
    pub(crate) tls: Option<Box<Tls>>,
    pub(crate) kind: Kind,
    /// As what it is counted.
    pub(crate) transport: Transport,
    /// Bytes handed to the engine that it has not reported as sent.
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
    pub(crate) fn new(stream: Stream, address: IpAddr, tls: Option<Box<Tls>>, now: Instant) -> Self {
        Self {
            stream,
            address,
            tls,
            kind: Kind::Start(Vec::new()),
            transport: Transport::New,
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
        }
    }

    /// Queues plain bytes, through TLS if there is one.
    pub(crate) fn write(&mut self, io: &mut Io<Mail>, bytes: &[u8], scratch: &mut BytesMut) {
        if bytes.is_empty() {
            return;
        }
        if let Some(tls) = &mut self.tls {
            tls.send(bytes);
            self.flush_tls(io, scratch);
        } else {
            self.account(io.now(), bytes.len());
            io.send_slice(self.stream, bytes);
        }
    }

    /// Queues bytes that other connections share; only TLS makes its own copy.
    pub(crate) fn write_shared(&mut self, io: &mut Io<Mail>, bytes: &Bytes, scratch: &mut BytesMut) {
        if self.tls.is_some() {
            self.write(io, bytes, scratch);
        } else {
            self.account(io.now(), bytes.len());
            io.send(self.stream, bytes.clone());
        }
    }

    /// Queues what TLS has to say.
    pub(crate) fn flush_tls(&mut self, io: &mut Io<Mail>, scratch: &mut BytesMut) {
        let Some(tls) = &mut self.tls else { return };
        scratch.clear();
        tls.take_output(scratch);
        if !scratch.is_empty() {
            self.account(io.now(), scratch.len());
            io.send_slice(self.stream, scratch);
        }
    }

    /// Ends the connection after what is queued: FIN now, and the rest at `until` whatever the peer does.
    pub(crate) fn finish(&mut self, io: &mut Io<Mail>, until: Instant, scratch: &mut BytesMut) {
        if self.closing.is_some() {
            return;
        }
        self.closing = Some(until);
        if let Some(tls) = &mut self.tls {
            tls.close_notify();
        }
        self.flush_tls(io, scratch);
        io.shutdown(self.stream);
    }

    fn account(&mut self, now: Instant, bytes: usize) {
        if self.queued == 0 {
            self.progress = now;
        }
        self.queued += bytes;
    }
}
