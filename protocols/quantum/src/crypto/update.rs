//! The 1-RTT keys and their generations: key update (RFC 9001, section 6).

use std::time::{Duration, Instant};

use rustls::quic::{HeaderProtectionKey, Keys, PacketKey, Secrets};

use crate::error::{Checked, Code, TransportError};

/// Packets sealed with one key before it is replaced. Far below what AES-GCM allows (2^23), far above what a round trip
/// sees; an update costs two key schedules, some microseconds.
pub(crate) const PACKETS_PER_KEY: u64 = 1 << 20;

/// Packets opened in a phase from which on the keys of the next one are kept ready: making them takes time that an
/// observer could see (RFC 9001, section 6.3). An honest peer does not update sooner without being asked to, and an
/// idle connection, of which there are many, does without half a KiB.
const READY_AFTER: u64 = 1 << 10;

/// Packets kept back from the confidentiality limit, so that a CLOSE can still be sealed.
const RESERVED: u64 = 1 << 10;

const EXHAUSTED: TransportError = TransportError::new(Code::AeadLimit, "a key sealed as many packets as it may");
const TWICE: TransportError = TransportError::new(Code::KeyUpdate, "keys updated twice without a confirmation");
const OLDER: TransportError = TransportError::new(Code::KeyUpdate, "an older key on a newer packet");
const UNCONFIRMED: TransportError =
    TransportError::new(Code::KeyUpdate, "an update was acknowledged under the old key");

/// Which generation of keys a packet was sealed with, relative to what is current here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Generation {
    /// The one before the last update.
    Previous,
    /// The one in use; all packets but short ones have no other.
    Current,
    /// The one after it: the peer updates.
    Next,
}

/// Keys of all generations that a packet may need.
pub(super) struct OneRtt {
    local_header: Box<dyn HeaderProtectionKey>,
    remote_header: Box<dyn HeaderProtectionKey>,
    local: Box<dyn PacketKey>,
    remote: Box<dyn PacketKey>,
    // Made in advance on busy connections, else when a packet asks for it.
    next: Option<Box<dyn PacketKey>>,
    previous: Option<Previous>,
    // Yields the generation after the current one.
    secrets: Secrets,
    phase: bool,
    // Packets sealed with the current key, and the number of the first.
    sealed: u64,
    sealed_first: Option<u64>,
    // The last number sealed with any key.
    sealed_last: Option<u64>,
    // Whether the peer acknowledged a packet of the current phase.
    acked: bool,
    // Numbers opened in the current phase: the smallest, the largest; and how many.
    opened: Option<(u64, u64)>,
    opened_count: u64,
    // The application asked for an update.
    wanted: bool,
}

struct Previous {
    key: Box<dyn PacketKey>,
    // Largest number opened with it.
    largest: Option<u64>,
    // Unset until a packet with the new keys arrives (RFC 9001, section 6.1).
    until: Option<Instant>,
}

impl OneRtt {
    pub(super) fn new(keys: Keys, secrets: Secrets) -> Self {
        Self {
            local_header: keys.local.header,
            remote_header: keys.remote.header,
            local: keys.local.packet,
            remote: keys.remote.packet,
            next: None,
            previous: None,
            secrets,
            phase: false,
            sealed: 0,
            sealed_first: None,
            sealed_last: None,
            acked: false,
            opened: None,
            opened_count: 0,
            wanted: false,
        }
    }

    /// The key phase of what is sealed now.
    pub(super) fn phase(&self) -> bool {
        self.phase
    }

    /// Keys to seal with.
    pub(super) fn sealing(&self) -> (&dyn HeaderProtectionKey, &dyn PacketKey) {
        (&*self.local_header, &*self.local)
    }

    /// Removes the protection of headers, of all generations.
    pub(super) fn remote_header(&self) -> &dyn HeaderProtectionKey {
        &*self.remote_header
    }

    /// The key that a packet of this number and phase was sealed with.
    pub(super) fn opening(&mut self, now: Instant, phase: bool, number: u64) -> (Generation, &dyn PacketKey) {
        self.expire(now);
        if phase == self.phase {
            return (Generation::Current, &*self.remote);
        }
        // Of two packets of different phases, the one with the smaller number is of the older. Before anything arrived
        // in a phase that we began, all is.
        let is_older = self.opened.is_none_or(|(smallest, _)| number < smallest);
        match &self.previous {
            Some(previous) if is_older => (Generation::Previous, &*previous.key),
            _ => (Generation::Next, &**self.next.get_or_insert_with(|| peek(&self.secrets))),
        }
    }

    /// A packet was opened with the key of `generation`.
    pub(super) fn on_opened(
        &mut self,
        now: Instant,
        pto: Duration,
        number: u64,
        generation: Generation,
    ) -> Checked<()> {
        match generation {
            Generation::Previous => {
                let largest = self.previous.as_mut().map(|previous| &mut previous.largest);
                if let Some(largest) = largest {
                    *largest = (*largest).max(Some(number));
                }
                return Ok(());
            }
            Generation::Current => {}
            Generation::Next => self.on_peer_updated()?,
        }
        let (smallest, largest) = self.opened.unwrap_or((number, number));
        self.opened = Some((smallest.min(number), largest.max(number)));
        self.opened_count += 1;
        if let Some(previous) = &mut self.previous {
            //= SPEC.md#4.1
            //# A packet under older keys with a larger number than one under newer keys is a KEY_UPDATE error.
            if previous.largest.is_some_and(|largest| largest > number) {
                return Err(OLDER);
            }
            previous.until.get_or_insert(now + 3 * pto);
        } else if self.next.is_none() && self.opened_count >= READY_AFTER {
            self.next = Some(peek(&self.secrets));
        }
        Ok(())
    }

    /// A packet was sealed with the current key.
    ///
    /// # Panics
    /// When its number is not larger than those before: a nonce used twice gives the key away.
    pub(super) fn on_sealed(&mut self, number: u64) -> Checked<()> {
        assert!(self.sealed_last.is_none_or(|last| number > last), "a number was used before");
        self.sealed_last = Some(number);
        self.sealed_first.get_or_insert(number);
        self.sealed += 1;
        if self.sealed + RESERVED > self.local.confidentiality_limit() { Err(EXHAUSTED) } else { Ok(()) }
    }

    /// An ACK came in a packet of `generation`.
    pub(super) fn on_ack(&mut self, generation: Generation, largest: u64) -> Checked<()> {
        if self.sealed_first.is_some_and(|first| largest >= first) {
            // Whoever saw the new phase must have answered in it (RFC 9001, section 6.2).
            if generation == Generation::Previous {
                return Err(UNCONFIRMED);
            }
            self.acked = true;
        }
        Ok(())
    }

    /// Begins a new phase as soon as the rules allow.
    pub(super) fn want_update(&mut self) {
        self.wanted = true;
    }

    /// Begins a new phase if one is due and allowed: the peer has seen the current one, and nobody needs the one
    /// before.
    pub(super) fn update_if_due(&mut self, now: Instant) -> bool {
        if !self.wanted && self.sealed < PACKETS_PER_KEY {
            return false;
        }
        self.expire(now);
        //= SPEC.md#4.1
        //# It MUST NOT before the handshake is confirmed, nor before a packet of the current phase was acknowledged,
        //# nor while it keeps the previous keys.
        if !self.acked || self.previous.is_some() {
            return false;
        }
        self.promote();
        true
    }

    /// How many forged packets the keys withstand.
    pub(super) fn integrity_limit(&self) -> u64 {
        self.remote.integrity_limit()
    }

    #[cfg(test)]
    pub(super) fn has_next(&self) -> bool {
        self.next.is_some()
    }

    #[cfg(test)]
    pub(super) fn forget_previous(&mut self) {
        self.previous = None;
    }

    #[cfg(test)]
    pub(super) fn forget_sealed(&mut self) {
        self.sealed_last = None;
    }

    fn on_peer_updated(&mut self) -> Checked<()> {
        // The peer may go on only after an acknowledgement of its phase, which we have not sent if we sealed nothing.
        if self.sealed == 0 && self.previous.is_some() {
            return Err(TWICE);
        }
        self.promote();
        Ok(())
    }

    fn promote(&mut self) {
        let keys = self.secrets.next_packet_keys();
        let remote = self.next.take().unwrap_or(keys.remote);
        let key = std::mem::replace(&mut self.remote, remote);
        let largest = self.opened.take().map(|(_, largest)| largest);
        self.previous = Some(Previous { key, largest, until: None });
        self.local = keys.local;
        self.phase = !self.phase;
        (self.sealed, self.sealed_first, self.opened_count, self.acked, self.wanted) = (0, None, 0, false, false);
    }

    fn expire(&mut self, now: Instant) {
        if self.previous.as_ref().and_then(|previous| previous.until).is_some_and(|until| until <= now) {
            self.previous = None;
        }
    }
}

/// The peer's key of the next generation. Its counterpart is made again when it is needed: it would lie idle for a
/// million packets, in every connection.
fn peek(secrets: &Secrets) -> Box<dyn PacketKey> {
    secrets.clone().next_packet_keys().remote
}
