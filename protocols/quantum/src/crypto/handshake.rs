//! What a handshake needs, and nothing after it.

use rustls::{
    AlertDescription,
    quic::{Connection, DirectionalKeys, KeyChange, Keys},
};

use super::{
    initial::initial_keys,
    stream::{Incoming, Outgoing},
};
use crate::{
    error::{Checked, Code, TransportError},
    frame::Side,
    guuid::Guuid,
    packet::Space,
};

pub(super) const AFTER_HANDSHAKE: TransportError =
    TransportError { code: 0x100 + 10, reason: "handshake bytes after the handshake" };

/// 1-RTT packets after the handshake within which a server has sent its tickets, if it sends any: they are in its
/// first.
pub(super) const TICKET_WITHIN: u32 = 256;

/// TLS, its streams and its keys, until the handshake is over.
pub(super) struct Handshake {
    // Gone once TLS has nothing more to say.
    pub(super) tls: Option<Connection>,
    // Whether tickets are welcome after the handshake.
    pub(super) wants_ticket: bool,
    pub(super) incoming: [Incoming; 3],
    pub(super) outgoing: [Outgoing; 3],
    // What TLS writes now belongs to this space.
    pub(super) writing: Space,
    // The peer's, once the handshake is complete.
    pub(super) parameters: Vec<u8>,
    // 1-RTT packets since the handshake was confirmed.
    pub(super) opened: u32,
    pub(super) initial: Option<Keys>,
    pub(super) zero_rtt: Option<DirectionalKeys>,
    pub(super) handshake: Option<Keys>,
}

impl Handshake {
    pub(super) fn new(side: Side, tls: Connection, to: Guuid, wants_ticket: bool) -> Self {
        Self {
            tls: Some(tls),
            wants_ticket,
            incoming: Default::default(),
            outgoing: Default::default(),
            writing: Space::Initial,
            parameters: Vec::new(),
            opened: 0,
            initial: Some(initial_keys(side, to)),
            zero_rtt: None,
            handshake: None,
        }
    }

    /// The space whose bytes TLS reads now.
    pub(super) fn reading(&self, complete: bool) -> Space {
        match &self.handshake {
            _ if complete => Space::Application,
            None => Space::Initial,
            Some(_) => Space::Handshake,
        }
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) -> Checked<()> {
        let Some(tls) = &mut self.tls else { return Err(AFTER_HANDSHAKE) };
        if tls.read_hs(bytes).is_ok() {
            return Ok(());
        }
        let alert = tls.alert().unwrap_or(AlertDescription::InternalError);
        Err(TransportError { code: Code::crypto(alert.into()), reason: reason(alert) })
    }

    pub(super) fn write(&mut self) -> Option<KeyChange> {
        let mut bytes = Vec::new();
        let change = self.tls.as_mut()?.write_hs(&mut bytes);
        self.outgoing[self.writing.index()].write(&bytes);
        change
    }

    /// Whether a ticket may still come: tickets follow the handshake at once, if there are any.
    pub(super) fn awaits_ticket(&self) -> bool {
        match &self.tls {
            Some(Connection::Client(tls)) => {
                self.wants_ticket && tls.tls13_tickets_received() == 0 && self.opened < TICKET_WITHIN
            }
            _ => false,
        }
    }
}

fn reason(alert: AlertDescription) -> &'static str {
    match alert {
        AlertDescription::UnexpectedMessage => "TLS: unexpected message",
        AlertDescription::HandshakeFailure => "TLS: nothing in common",
        AlertDescription::BadCertificate => "TLS: bad certificate",
        AlertDescription::UnsupportedCertificate => "TLS: unsupported certificate",
        AlertDescription::CertificateRevoked => "TLS: certificate revoked",
        AlertDescription::CertificateExpired => "TLS: certificate expired",
        AlertDescription::CertificateUnknown => "TLS: certificate for another name",
        AlertDescription::UnknownCA => "TLS: certificate by an unknown authority",
        AlertDescription::IllegalParameter => "TLS: illegal parameter",
        AlertDescription::DecodeError => "TLS: malformed message",
        AlertDescription::DecryptError => "TLS: wrong signature or Finished",
        AlertDescription::ProtocolVersion => "TLS: no common version",
        AlertDescription::MissingExtension => "TLS: missing extension",
        AlertDescription::UnrecognisedName => "TLS: unknown server name",
        AlertDescription::NoApplicationProtocol => "TLS: no common application protocol",
        _ => "TLS: handshake failed",
    }
}
