//! Transport parameters: what each side tells the other under the handshake's protection (SPEC.md, section 6).

#[cfg(test)]
mod tests;

use std::time::Duration;

use smallvec::SmallVec;

use crate::{
    error::{Checked, Code, TransportError},
    frame::{RESET_TOKEN_LEN, Side},
    guuid::Guuid,
    packet::{INITIAL_BYTES_MIN, VERSION},
    varint,
};

/// Versions that are kept of a peer's list; the others are not looked at.
pub const VERSIONS_MAX: usize = 16;

/// Largest exponent of acknowledgement delays (RFC 9000, section 18.2).
const EXPONENT_MAX: u64 = 20;

/// Acknowledgement delays are below (RFC 9000, section 18.2).
const ACK_DELAY_MS_END: u64 = 1 << 14;

/// Largest message: its offsets take 32 bits.
pub const MESSAGE_BYTES_MAX: u64 = u32::MAX as u64;

/// Most symbols in a window: half of what the 16 bits of a SYMBOL frame tell apart.
pub const SYMBOLS_MAX: u64 = 1 << 15;

/// What one side told the other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parameters {
    /// Destination of the client's very first packet. From the server, always.
    pub original_to: Option<Guuid>,
    /// Source of the sender's first Initial packet. Always.
    pub initial_from: Option<Guuid>,
    /// Source of the Retry packet. From the server, if there was one.
    pub retry_from: Option<Guuid>,
    /// After how long without a packet the connection is gone; zero: never.
    pub idle_timeout: Duration,
    /// Largest datagram that the sender takes.
    pub udp_payload_max: u16,
    /// Bytes on all streams together.
    pub data_max: u64,
    /// Bytes on one stream.
    pub stream_data_max: u64,
    /// Bidirectional streams that the peer may open.
    pub streams_bidirectional_max: u64,
    /// Unidirectional streams that the peer may open.
    pub streams_unidirectional_max: u64,
    /// Delays in ACK frames are in units of 2^this microseconds.
    pub ack_delay_exponent: u8,
    /// Longest delay of an acknowledgement.
    pub ack_delay_max: Duration,
    /// Shortest delay of an acknowledgement that may be asked for; `None`: ACK_FREQUENCY is not understood.
    pub ack_delay_min: Option<Duration>,
    /// Ids of the peer that the sender keeps.
    pub ids_max: u64,
    /// Bytes of a DATAGRAM frame; 0: none may be sent.
    pub datagram_max: u64,
    /// Bytes of one message; 0: none may be sent.
    pub message_max: u64,
    /// Bytes of messages that are under way.
    pub message_bytes_max: u64,
    /// Symbols that are kept for recovery; 0: no forward error correction.
    pub symbols_max: u64,
    /// Bytes of such symbols.
    pub symbol_bytes_max: u64,
    /// Stateless reset token of the id that the handshake gave. From the server only.
    pub reset_token: Option<[u8; RESET_TOKEN_LEN]>,
    /// The version in use.
    pub version: u32,
    /// Versions that the sender speaks, best first.
    pub versions: SmallVec<[u32; 4]>,
    /// Adds a parameter that means nothing: the peer must not care. Not seen by a receiver.
    pub grease: Option<u64>,
}

/// Ids as they stand on the wire; QUIC's where the meaning is QUIC's.
mod id {
    pub(super) const ORIGINAL_TO: u64 = 0x00;
    pub(super) const IDLE_TIMEOUT: u64 = 0x01;
    pub(super) const RESET_TOKEN: u64 = 0x02;
    pub(super) const UDP_PAYLOAD_MAX: u64 = 0x03;
    pub(super) const DATA_MAX: u64 = 0x04;
    pub(super) const STREAM_DATA_MAX: u64 = 0x05;
    pub(super) const STREAMS_BIDIRECTIONAL_MAX: u64 = 0x08;
    pub(super) const STREAMS_UNIDIRECTIONAL_MAX: u64 = 0x09;
    pub(super) const ACK_DELAY_EXPONENT: u64 = 0x0A;
    pub(super) const ACK_DELAY_MAX: u64 = 0x0B;
    pub(super) const IDS_MAX: u64 = 0x0E;
    pub(super) const INITIAL_FROM: u64 = 0x0F;
    pub(super) const RETRY_FROM: u64 = 0x10;
    pub(super) const VERSIONS: u64 = 0x11;
    pub(super) const ACK_DELAY_MIN: u64 = 0x12;
    pub(super) const DATAGRAM_MAX: u64 = 0x20;
    pub(super) const MESSAGE_MAX: u64 = 0x21;
    pub(super) const MESSAGE_BYTES_MAX: u64 = 0x22;
    pub(super) const SYMBOLS_MAX: u64 = 0x23;
    pub(super) const SYMBOL_BYTES_MAX: u64 = 0x24;

    /// Ids below are told apart when one is repeated.
    pub(super) const END: u64 = 0x40;

    /// Never to get a meaning (RFC 9000, section 18.1).
    pub(super) fn grease(seed: u64) -> u64 {
        31 * (seed % (1 << 32)) + 27
    }
}

impl Default for Parameters {
    /// What counts when a parameter is not told.
    fn default() -> Self {
        Self {
            original_to: None,
            initial_from: None,
            retry_from: None,
            idle_timeout: Duration::ZERO,
            udp_payload_max: 65_527,
            data_max: 0,
            stream_data_max: 0,
            streams_bidirectional_max: 0,
            streams_unidirectional_max: 0,
            ack_delay_exponent: 3,
            ack_delay_max: Duration::from_millis(25),
            ack_delay_min: None,
            ids_max: 2,
            datagram_max: 0,
            message_max: 0,
            message_bytes_max: 0,
            symbols_max: 0,
            symbol_bytes_max: 0,
            reset_token: None,
            version: VERSION,
            versions: SmallVec::from_slice(&[VERSION]),
            grease: None,
        }
    }
}

const fn malformed(reason: &'static str) -> TransportError {
    TransportError::new(Code::TransportParameter, reason)
}

const SHORT: TransportError = malformed("transport parameter ends before its value does");
const LONG: TransportError = malformed("transport parameter longer than its value");
const RANGE: TransportError = malformed("transport parameter out of range");
const TWICE: TransportError = malformed("transport parameter told twice");
const SIDE: TransportError = malformed("transport parameter of the other side");
const MISSING: TransportError = malformed("transport parameter is missing");
const VERSION_: TransportError = malformed("malformed versions");

impl Parameters {
    /// Appends what `side` tells. What has its default value is left out.
    pub fn encode(&self, side: Side, out: &mut Vec<u8>) {
        let default = Self::default();
        let server = side == Side::Server;
        let ids = [
            (id::ORIGINAL_TO, self.original_to.filter(|_| server)),
            (id::INITIAL_FROM, self.initial_from),
            (id::RETRY_FROM, self.retry_from.filter(|_| server)),
        ];
        for (name, value) in ids {
            value.inspect(|value| write_bytes(name, value.as_bytes(), out));
        }
        self.reset_token.filter(|_| server).inspect(|token| write_bytes(id::RESET_TOKEN, token, out));
        self.ack_delay_min.inspect(|delay| write_number(id::ACK_DELAY_MIN, delay.as_micros() as u64, out));
        for ((name, value), (_, default)) in self.numbers().into_iter().zip(default.numbers()) {
            if value != default {
                write_number(name, value, out);
            }
        }
        varint::write(id::VERSIONS, out);
        varint::write(4 + 4 * self.versions.len() as u64, out);
        for version in std::iter::once(&self.version).chain(&self.versions) {
            out.extend_from_slice(&version.to_be_bytes());
        }
        self.grease.inspect(|seed| write_bytes(id::grease(*seed), &seed.to_be_bytes()[..(seed % 9) as usize], out));
    }

    /// Reads what `side` told.
    ///
    /// # Errors
    /// `TransportParameter` when a value cannot be read, is out of range, told twice, the other side's to tell, or one is
    /// missing that must be told.
    pub fn parse(side: Side, mut bytes: &[u8]) -> Checked<Self> {
        let (mut parameters, mut seen) = (Self::default(), 0u64);
        while !bytes.is_empty() {
            let (name, len) = (number(&mut bytes)?, number(&mut bytes)?);
            let (mut value, rest) =
                usize::try_from(len).ok().and_then(|len| bytes.split_at_checked(len)).ok_or(SHORT)?;
            bytes = rest;
            if name < id::END {
                if seen & 1 << name != 0 {
                    return Err(TWICE);
                }
                seen |= 1 << name;
            }
            if side == Side::Client && matches!(name, id::ORIGINAL_TO | id::RETRY_FROM | id::RESET_TOKEN) {
                return Err(SIDE);
            }
            let is_known = parameters.read(name, &mut value)?;
            if is_known && !value.is_empty() {
                return Err(LONG);
            }
        }
        let told = |name: u64| seen & 1 << name != 0;
        let from_server = side == Side::Client || told(id::ORIGINAL_TO);
        if !told(id::INITIAL_FROM) || !told(id::VERSIONS) || !from_server { Err(MISSING) } else { Ok(parameters) }
    }

    /// Whether a server that told `remembered` earlier, told `self` now, and takes 0-RTT data, keeps to its word: what was
    /// sent on the strength of the old limits must fit the new ones (RFC 9000, section 7.4.1).
    #[must_use]
    pub fn honours(&self, remembered: &Self) -> bool {
        let limits = |parameters: &Self| {
            [
                parameters.data_max,
                parameters.stream_data_max,
                parameters.streams_bidirectional_max,
                parameters.streams_unidirectional_max,
                parameters.ids_max,
                parameters.datagram_max,
                parameters.message_max,
                parameters.message_bytes_max,
                parameters.symbols_max,
                parameters.symbol_bytes_max,
            ]
        };
        limits(self).iter().zip(limits(remembered)).all(|(now, then)| *now >= then)
    }

    /// Reads the value of one parameter; whether it is a known one.
    fn read(&mut self, name: u64, value: &mut &[u8]) -> Checked<bool> {
        match name {
            id::ORIGINAL_TO => self.original_to = Some(Guuid::from_bytes(array(value)?)),
            id::INITIAL_FROM => self.initial_from = Some(Guuid::from_bytes(array(value)?)),
            id::RETRY_FROM => self.retry_from = Some(Guuid::from_bytes(array(value)?)),
            id::RESET_TOKEN => self.reset_token = Some(array(value)?),
            id::VERSIONS => self.read_versions(value)?,
            id::IDLE_TIMEOUT => self.idle_timeout = Duration::from_millis(number(value)?),
            id::UDP_PAYLOAD_MAX => {
                // What is larger than any datagram says "no limit" (RFC 9000, section 18.2).
                let max = within(number(value)?, INITIAL_BYTES_MIN as u64..=varint::MAX)?;
                self.udp_payload_max = max.min(65_527) as u16;
            }
            id::DATA_MAX => self.data_max = number(value)?,
            id::STREAM_DATA_MAX => self.stream_data_max = number(value)?,
            id::STREAMS_BIDIRECTIONAL_MAX => self.streams_bidirectional_max = within(number(value)?, 0..=1 << 60)?,
            id::STREAMS_UNIDIRECTIONAL_MAX => self.streams_unidirectional_max = within(number(value)?, 0..=1 << 60)?,
            id::ACK_DELAY_EXPONENT => self.ack_delay_exponent = within(number(value)?, 0..=EXPONENT_MAX)? as u8,
            id::ACK_DELAY_MAX => {
                self.ack_delay_max = Duration::from_millis(within(number(value)?, 0..=ACK_DELAY_MS_END - 1)?);
            }
            id::ACK_DELAY_MIN => {
                let us = within(number(value)?, 0..=1000 * ACK_DELAY_MS_END - 1)?;
                self.ack_delay_min = Some(Duration::from_micros(us));
            }
            id::IDS_MAX => self.ids_max = within(number(value)?, 2..=varint::MAX)?,
            id::DATAGRAM_MAX => self.datagram_max = number(value)?,
            id::MESSAGE_MAX => self.message_max = within(number(value)?, 0..=MESSAGE_BYTES_MAX)?,
            id::MESSAGE_BYTES_MAX => self.message_bytes_max = number(value)?,
            id::SYMBOLS_MAX => self.symbols_max = within(number(value)?, 0..=SYMBOLS_MAX)?,
            id::SYMBOL_BYTES_MAX => self.symbol_bytes_max = number(value)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The version in use, then all that are spoken (RFC 9368, section 3). Zero is no version.
    fn read_versions(&mut self, value: &mut &[u8]) -> Checked<()> {
        let (versions, rest) = value.as_chunks::<4>();
        let mut versions = versions.iter().map(|version| u32::from_be_bytes(*version));
        self.version = versions.next().ok_or(VERSION_)?;
        if !rest.is_empty() || self.version == 0 || versions.clone().any(|version| version == 0) {
            return Err(VERSION_);
        }
        self.versions = versions.take(VERSIONS_MAX).collect();
        *value = &[];
        Ok(())
    }

    /// All that are plain numbers.
    fn numbers(&self) -> [(u64, u64); 14] {
        [
            (id::IDLE_TIMEOUT, self.idle_timeout.as_millis() as u64),
            (id::UDP_PAYLOAD_MAX, self.udp_payload_max.into()),
            (id::DATA_MAX, self.data_max),
            (id::STREAM_DATA_MAX, self.stream_data_max),
            (id::STREAMS_BIDIRECTIONAL_MAX, self.streams_bidirectional_max),
            (id::STREAMS_UNIDIRECTIONAL_MAX, self.streams_unidirectional_max),
            (id::ACK_DELAY_EXPONENT, self.ack_delay_exponent.into()),
            (id::ACK_DELAY_MAX, self.ack_delay_max.as_millis() as u64),
            (id::IDS_MAX, self.ids_max),
            (id::DATAGRAM_MAX, self.datagram_max),
            (id::MESSAGE_MAX, self.message_max),
            (id::MESSAGE_BYTES_MAX, self.message_bytes_max),
            (id::SYMBOLS_MAX, self.symbols_max),
            (id::SYMBOL_BYTES_MAX, self.symbol_bytes_max),
        ]
    }
}

fn within(value: u64, range: std::ops::RangeInclusive<u64>) -> Checked<u64> {
    if range.contains(&value) { Ok(value) } else { Err(RANGE) }
}

fn number(bytes: &mut &[u8]) -> Checked<u64> {
    varint::read(bytes).ok_or(SHORT)
}

fn array<const N: usize>(bytes: &mut &[u8]) -> Checked<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk().ok_or(SHORT)?;
    *bytes = rest;
    Ok(*taken)
}

fn write_bytes(name: u64, value: &[u8], out: &mut Vec<u8>) {
    varint::write(name, out);
    varint::write(value.len() as u64, out);
    out.extend_from_slice(value);
}

fn write_number(name: u64, value: u64, out: &mut Vec<u8>) {
    varint::write(name, out);
    varint::write(varint::len(value) as u64, out);
    varint::write(value, out);
}
