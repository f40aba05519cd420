//! The handshake and the keys of a connection: TLS 1.3 by rustls, in QUIC's framing (RFC 9001).
//!
//! ```text
//! CRYPTO frame -> read -> reassembly -> rustls -> keys of the next level
//! CRYPTO frame <- poll <- what is sent until acknowledged <-'
//! ```

mod config;
mod handshake;
mod initial;
#[cfg(any(test, feature = "simulation"))]
#[doc(hidden)]
pub mod simulation;
mod stream;
#[cfg(test)]
mod tests;
mod update;
mod verify;

pub use config::{ALPN, ClientBuilder, ClientConfig, ConfigError, ServerBuilder, ServerConfig, Trust};
pub(crate) use initial::{initial_opens, seal_refusal};
pub(crate) use stream::{AHEAD_BYTES_MAX, PIECES_MAX};
pub(crate) use update::{Generation, PACKETS_PER_KEY};

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{
    pki_types::ServerName,
    quic::{ClientConnection, Connection, HeaderProtectionKey, KeyChange, Keys, PacketKey, ServerConnection, Version},
};

use self::{
    handshake::{AFTER_HANDSHAKE, Handshake},
    stream::{Incoming, Outgoing},
    update::OneRtt,
};
use crate::{
    error::{Checked, Code, TransportError},
    frame::Side,
    guuid::Guuid,
    packet::Space,
};

const UNREAD: TransportError =
    TransportError::new(Code::ProtocolViolation, "new handshake bytes in a space that is done");
const FORGED: TransportError = TransportError::new(Code::AeadLimit, "too many forged packets");
const NO_PARAMETERS: TransportError =
    TransportError { code: MISSING_EXTENSION, reason: "handshake without transport parameters" };
const NO_ALPN: TransportError = TransportError { code: NO_APPLICATION_PROTOCOL, reason: "another protocol was chosen" };

/// TLS alerts as they stand in a CLOSE frame (RFC 9001, section 4.8).
const MISSING_EXTENSION: u64 = 0x100 + 109;
const NO_APPLICATION_PROTOCOL: u64 = 0x100 + 120;

/// What a packet is sealed with. 0-RTT and 1-RTT share the numbers of one space, not the keys.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Level {
    /// Keys that anybody can derive from the client's first destination id.
    Initial,
    /// Keys of an earlier session; only clients seal with them.
    ZeroRtt,
    /// Keys without an authenticated peer yet.
    Handshake,
    /// Keys of the session.
    OneRtt,
}

/// What became of data that was sent before the handshake was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum EarlyData {
    /// There is none.
    None,
    /// The client offers it, and may send; the server has not answered.
    Offered,
    /// The server takes it.
    Accepted,
    /// The server ignores it: all of it must be sent again.
    Rejected,
}

/// The handshake and the keys of one connection.
pub(crate) struct Crypto {
    side: Side,
    complete: bool,
    confirmed: bool,
    early_data: EarlyData,
    // Packets that no key opened.
    forged: u64,
    forged_max: u64,
    // Gone once all of it arrived at the peer, and nothing more is expected: an idle connection has keys, no handshake.
    handshake: Option<Box<Handshake>>,
    one_rtt: Option<Box<OneRtt>>,
    server_name: Option<Box<str>>,
}

/// A key to open a packet with, and which one it is.
pub(crate) struct Opening<'a> {
    /// The key.
    pub(crate) key: &'a dyn PacketKey,
    /// Goes back to [`Crypto::on_opened`] and [`Crypto::on_ack`].
    pub(crate) generation: Generation,
}

/// Keys to seal a packet with.
pub(crate) struct Sealing<'a> {
    /// Protects the header.
    pub(crate) header: &'a dyn HeaderProtectionKey,
    /// Seals the payload.
    pub(crate) packet: &'a dyn PacketKey,
    /// Key phase bit of a short header.
    pub(crate) phase: bool,
}

impl Level {
    /// The space whose numbers its packets have.
    pub(crate) const fn space(self) -> Space {
        match self {
            Level::Initial => Space::Initial,
            Level::Handshake => Space::Handshake,
            Level::ZeroRtt | Level::OneRtt => Space::Application,
        }
    }
}

impl Crypto {
    /// The client's side of a connection to `server_name`; `to` is the destination id of its first packet, `parameters`
    /// are its encoded transport parameters.
    ///
    /// # Errors
    /// The name is neither a DNS name nor an address, or rustls refuses.
    pub(crate) fn client(
        config: &ClientConfig,
        server_name: &str,
        to: Guuid,
        parameters: Vec<u8>,
    ) -> Result<Self, ConfigError> {
        let name = ServerName::try_from(server_name).map_err(|_| ConfigError::ServerName)?.to_owned();
        let tls = ClientConnection::new(Arc::clone(config.tls()), Version::V1, name, parameters)?;
        let zero_rtt = tls.zero_rtt_keys();
        let early_data = if zero_rtt.is_some() { EarlyData::Offered } else { EarlyData::None };
        let mut crypto = Self::new(Side::Client, Connection::Client(tls), to, config.resumes());
        crypto.early_data = early_data;
        crypto.server_name = Some(server_name.into());
        if let Some(handshake) = &mut crypto.handshake {
            handshake.zero_rtt = zero_rtt;
        }
        // The ClientHello is there at once; it cannot fail, and changes no keys.
        crypto.write().map_err(|_| ConfigError::Hello)?;
        Ok(crypto)
    }

    /// The server's side; `to` is the destination id of the client's first packet (of the first after a Retry).
    ///
    /// # Errors
    /// rustls refuses its configuration: nothing that a peer could bring about.
    pub(crate) fn server(config: &ServerConfig, to: Guuid, parameters: Vec<u8>) -> Result<Self, ConfigError> {
        let tls = ServerConnection::new(Arc::clone(config.tls()), Version::V1, parameters)?;
        Ok(Self::new(Side::Server, Connection::Server(tls), to, false))
    }

    fn new(side: Side, tls: Connection, to: Guuid, wants_ticket: bool) -> Self {
        Self {
            side,
            complete: false,
            confirmed: false,
            early_data: EarlyData::None,
            forged: 0,
            forged_max: u64::MAX,
            handshake: Some(Box::new(Handshake::new(side, tls, to, wants_ticket))),
            one_rtt: None,
            server_name: None,
        }
    }

    /// The server asked for a Retry, and wants to be called `to`: new Initial keys, and the ClientHello once more.
    pub(crate) fn on_retry(&mut self, to: Guuid) {
        if let Some(handshake) = &mut self.handshake {
            handshake.initial = Some(initial::initial_keys(self.side, to));
            handshake.outgoing[Space::Initial.index()].on_all_lost();
        }
    }

    /// Whether TLS has authenticated what it should: on a client the server is who it should be, on a server the client
    /// has derived the same keys.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// HANDSHAKE_DONE came, or (on the server) the handshake is complete (RFC 9001, section 4.1.2). The keys of the
    /// handshake go, and soon the peer's parameters.
    pub(crate) fn confirm(&mut self) {
        self.confirmed = true;
        self.discard(Space::Initial);
        self.discard(Space::Handshake);
    }

    /// What became of 0-RTT.
    pub(crate) fn early_data(&self) -> EarlyData {
        self.early_data
    }

    /// The name that the client asked for.
    pub(crate) fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// The peer's encoded transport parameters: on a client that offers 0-RTT those of the earlier session, until the
    /// server's arrive. To be trusted when the handshake is complete; gone soon after.
    pub(crate) fn peer_parameters(&self) -> Option<&[u8]> {
        let handshake = self.handshake.as_ref()?;
        let late = Some(&*handshake.parameters).filter(|_| self.complete);
        late.or_else(|| handshake.tls.as_ref()?.quic_transport_parameters())
    }

    /// Takes a CRYPTO frame.
    pub(crate) fn read(&mut self, space: Space, offset: u64, data: &[u8]) -> Checked<()> {
        let Some(handshake) = &mut self.handshake else {
            // A server sends tickets when it likes to; a client has nothing to say after its Finished.
            let is_violation = self.side == Side::Server && !data.is_empty();
            return if is_violation { Err(AFTER_HANDSHAKE) } else { Ok(()) };
        };
        let reading = handshake.reading(self.complete);
        if let Some(bytes) = handshake.incoming[space.index()].on_frame(offset, data, space == reading)? {
            handshake.feed(bytes)?;
        }
        self.advance()
    }

    /// Whether CRYPTO frames of this space wait to be sent.
    pub(crate) fn is_pending(&self, space: Space) -> bool {
        self.outgoing(space).is_some_and(Outgoing::is_pending)
    }

    /// Where the next CRYPTO frame would begin: what its head will cost.
    pub(crate) fn next_offset(&self, space: Space) -> Option<u64> {
        self.outgoing(space)?.next_offset()
    }

    /// Bytes for one CRYPTO frame, at most `room`, and their offset: lost ones first. They count as sent.
    pub(crate) fn poll(&mut self, space: Space, room: usize) -> Option<(u64, &[u8])> {
        self.handshake.as_mut()?.outgoing[space.index()].poll(room)
    }

    /// A packet with these bytes arrived.
    pub(crate) fn on_acked(&mut self, space: Space, offset: u64, len: u32) {
        if let Some(handshake) = &mut self.handshake {
            handshake.outgoing[space.index()].on_acked(offset..offset + u64::from(len));
            self.settle();
        }
    }

    /// A packet with these bytes was lost.
    pub(crate) fn on_lost(&mut self, space: Space, offset: u64, len: u32) {
        if let Some(handshake) = &mut self.handshake {
            handshake.outgoing[space.index()].on_lost(offset..offset + u64::from(len));
        }
    }

    /// A probe needs something to carry: all that is not acknowledged may be sent again. Whether there is any.
    pub(crate) fn on_probe(&mut self, space: Space) -> bool {
        let Some(handshake) = &mut self.handshake else { return false };
        handshake.outgoing[space.index()].on_all_lost();
        self.is_pending(space)
    }

    /// Nothing is sent or received in this space any more (RFC 9001, section 4.9).
    pub(crate) fn discard(&mut self, space: Space) {
        let Some(handshake) = &mut self.handshake else { return };
        match space {
            Space::Initial => handshake.initial = None,
            Space::Handshake => handshake.handshake = None,
            Space::Application => return,
        }
        handshake.outgoing[space.index()] = Outgoing::default();
        self.settle();
    }

    /// Removes the protection of received headers. `None` without keys, or as long as the peer is not authenticated
    /// enough for this level: a server opens no 1-RTT packet before the client's Finished (RFC 9001, section 5.7).
    pub(crate) fn remote_header(&self, level: Level) -> Option<&dyn HeaderProtectionKey> {
        match level {
            Level::OneRtt => self.one_rtt.as_ref().filter(|_| self.complete).map(|keys| keys.remote_header()),
            Level::ZeroRtt if self.side == Side::Client => None,
            Level::ZeroRtt => self.handshake.as_ref()?.zero_rtt.as_ref().map(|keys| &*keys.header),
            _ => self.handshake_keys(level).map(|keys| &*keys.remote.header),
        }
    }

    /// The key that opens a packet; `phase` is its key phase bit.
    pub(crate) fn opening(&mut self, now: Instant, level: Level, phase: bool, number: u64) -> Option<Opening<'_>> {
        if level == Level::OneRtt {
            let keys = self.one_rtt.as_mut().filter(|_| self.complete)?;
            let (generation, key) = keys.opening(now, phase, number);
            return Some(Opening { key, generation });
        }
        let key = match level {
            Level::ZeroRtt if self.side == Side::Client => return None,
            Level::ZeroRtt => &*self.handshake.as_ref()?.zero_rtt.as_ref()?.packet,
            _ => &*self.handshake_keys(level)?.remote.packet,
        };
        Some(Opening { key, generation: Generation::Current })
    }

    /// The packet was opened, and is new. `pto` is the present probe timeout.
    ///
    /// # Errors
    /// `KeyUpdate` when its key is out of turn.
    pub(crate) fn on_opened(
        &mut self,
        now: Instant,
        pto: Duration,
        level: Level,
        number: u64,
        generation: Generation,
    ) -> Checked<()> {
        if level != Level::OneRtt {
            return Ok(());
        }
        if let Some(handshake) = self.handshake.as_mut().filter(|_| self.confirmed) {
            handshake.opened += 1;
            self.settle();
        }
        self.one_rtt.as_mut().map_or(Ok(()), |keys| keys.on_opened(now, pto, number, generation))
    }

    /// The key did not open the packet: it was forged or damaged.
    ///
    /// # Errors
    /// `AeadLimit` after as many as the cipher withstands (RFC 9001, section 6.6).
    pub(crate) fn on_forged(&mut self) -> Checked<()> {
        self.forged += 1;
        if self.forged >= self.forged_max { Err(FORGED) } else { Ok(()) }
    }

    /// An ACK of the application's space came in a packet of `generation`.
    ///
    /// # Errors
    /// `KeyUpdate` when the peer acknowledges a new key without using it.
    pub(crate) fn on_ack(&mut self, generation: Generation, largest: u64) -> Checked<()> {
        self.one_rtt.as_mut().map_or(Ok(()), |keys| keys.on_ack(generation, largest))
    }

    /// Whether packets of this level can be sealed.
    pub(crate) fn can_seal(&self, level: Level) -> bool {
        self.sealing(level).is_some()
    }

    /// Keys to seal a packet with.
    pub(crate) fn sealing(&self, level: Level) -> Option<Sealing<'_>> {
        let (header, packet, phase) = match level {
            Level::OneRtt => {
                let keys = self.one_rtt.as_ref()?;
                let (header, packet) = keys.sealing();
                (header, packet, keys.phase())
            }
            Level::ZeroRtt => {
                let keys = self.handshake.as_ref()?.zero_rtt.as_ref().filter(|_| self.side == Side::Client)?;
                (&*keys.header, &*keys.packet, false)
            }
            _ => {
                let keys = &self.handshake_keys(level)?.local;
                (&*keys.header, &*keys.packet, false)
            }
        };
        Some(Sealing { header, packet, phase })
    }

    /// A packet of this number was sealed.
    ///
    /// # Errors
    /// `AeadLimit` when the key has sealed all that it may but a few: only a CLOSE may follow.
    pub(crate) fn on_sealed(&mut self, level: Level, number: u64) -> Checked<()> {
        match &mut self.one_rtt {
            Some(keys) if level == Level::OneRtt => keys.on_sealed(number),
            _ => Ok(()),
        }
    }

    /// New keys as soon as the rules allow.
    pub(crate) fn want_update(&mut self) {
        if let Some(keys) = &mut self.one_rtt {
            keys.want_update();
        }
    }

    /// Begins a new key phase if one is due and allowed. To be called before packets are sealed. Whether it did.
    pub(crate) fn update_if_due(&mut self, now: Instant) -> bool {
        self.confirmed && self.one_rtt.as_mut().is_some_and(|keys| keys.update_if_due(now))
    }

    fn outgoing(&self, space: Space) -> Option<&Outgoing> {
        self.handshake.as_ref().map(|handshake| &handshake.outgoing[space.index()])
    }

    fn handshake_keys(&self, level: Level) -> Option<&Keys> {
        let handshake = self.handshake.as_ref()?;
        if level == Level::Initial { handshake.initial.as_ref() } else { handshake.handshake.as_ref() }
    }

    /// Lets TLS read all that is in order, and write what it has to say.
    fn advance(&mut self) -> Checked<()> {
        loop {
            self.write()?;
            let Some(handshake) = &mut self.handshake else { return Ok(()) };
            let reading = handshake.reading(self.complete);
            // Left over when TLS went on, or come afterwards (RFC 9001, section 4.1.3).
            if handshake.incoming[..reading.index()].iter().any(Incoming::is_ahead) {
                return Err(UNREAD);
            }
            let Some(bytes) = handshake.incoming[reading.index()].next() else { break };
            handshake.feed(&bytes)?;
        }
        self.settle();
        Ok(())
    }

    /// Takes from TLS what it has to say, and the keys that it has made.
    fn write(&mut self) -> Checked<()> {
        let Some(handshake) = &mut self.handshake else { return Ok(()) };
        while let Some(change) = handshake.write() {
            match change {
                KeyChange::Handshake { keys } => {
                    handshake.handshake = Some(keys);
                    handshake.writing = Space::Handshake;
                    if self.side == Side::Server {
                        handshake.zero_rtt = handshake.tls.as_ref().and_then(Connection::zero_rtt_keys);
                        let is_accepted = handshake.zero_rtt.is_some();
                        self.early_data = if is_accepted { EarlyData::Accepted } else { EarlyData::None };
                    }
                }
                KeyChange::OneRtt { keys, next } => {
                    let keys = OneRtt::new(keys, next);
                    self.forged_max = keys.integrity_limit();
                    self.one_rtt = Some(Box::new(keys));
                    handshake.writing = Space::Application;
                }
            }
        }
        let is_handshaking = handshake.tls.as_ref().is_some_and(|tls| tls.is_handshaking());
        if !self.complete && !is_handshaking { self.on_complete() } else { Ok(()) }
    }

    /// TLS is done but for tickets.
    fn on_complete(&mut self) -> Checked<()> {
        let Some(handshake) = &mut self.handshake else { return Ok(()) };
        let Some(tls) = &handshake.tls else { return Ok(()) };
        if tls.alpn_protocol() != Some(ALPN) {
            return Err(NO_ALPN);
        }
        handshake.parameters = tls.quic_transport_parameters().ok_or(NO_PARAMETERS)?.to_vec();
        match tls {
            Connection::Client(tls) => {
                if self.early_data == EarlyData::Offered {
                    let is_accepted = tls.is_early_data_accepted();
                    self.early_data = if is_accepted { EarlyData::Accepted } else { EarlyData::Rejected };
                }
                // There are better keys now (RFC 9001, section 4.9.3). A server keeps its own for late packets.
                handshake.zero_rtt = None;
            }
            Connection::Server(tls) => {
                self.server_name = tls.server_name().map(Into::into);
                // Its tickets are written, and a client has nothing more to say.
                handshake.tls = None;
            }
        }
        self.complete = true;
        Ok(())
    }

    /// Drops TLS when it has nothing more to read, and the rest when nothing more is to be sent.
    fn settle(&mut self) {
        let Some(handshake) = self.handshake.as_mut().filter(|_| self.confirmed) else { return };
        if !handshake.awaits_ticket() {
            handshake.tls = None;
        }
        let has_keys = handshake.initial.is_some() || handshake.handshake.is_some();
        if handshake.tls.is_none() && !has_keys && handshake.outgoing[Space::Application.index()].is_done() {
            self.handshake = None;
        }
    }
}
