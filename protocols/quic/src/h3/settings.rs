//! The SETTINGS frame: what this end says of itself, and what the peer said.

use bytes::BytesMut;

use super::{
    Config,
    code::{Code, Fault},
    frame, varint,
};

/// RFC 9114 section 7.2.4.1: bytes of a field section that this end takes.
const MAX_FIELD_SECTION_SIZE: u64 = 0x6;
/// RFC 9204 section 5.
const QPACK_MAX_TABLE_CAPACITY: u64 = 0x1;
const QPACK_BLOCKED_STREAMS: u64 = 0x7;
/// RFC 9220.
const ENABLE_CONNECT_PROTOCOL: u64 = 0x8;
/// RFC 9297 section 2.1.1.
const H3_DATAGRAM: u64 = 0x33;
/// WebTransport says of itself by one of four ids, after the draft that the peer was written to: draft 2 (Chromium,
/// Firefox), 7, 13 (Safari), 15.
const WT_ENABLE_DRAFT_2: u64 = 0x2b60_3742;
const WT_MAX_SESSIONS_DRAFT_7: u64 = 0xc671_706a;
const WT_MAX_SESSIONS_DRAFT_13: u64 = 0x14e9_cd29;
const WT_ENABLED_DRAFT_15: u64 = 0x2c7c_f000;

/// Settings in one frame: known peers send at most 8.
pub(crate) const COUNT_MAX: usize = 64;

/// What the peer said. Until its SETTINGS arrive the protocol's defaults hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Bytes of a field section that the peer takes, 32 more per field than their names and values have.
    pub section_max: u64,
    /// Whether Extended CONNECT may be sent to it (RFC 9220).
    pub connect_protocol: bool,
    /// Whether it takes HTTP datagrams (RFC 9297).
    pub datagrams: bool,
    /// Whether it speaks WebTransport, by any of the four ids.
    pub webtransport: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { section_max: u64::MAX, connect_protocol: false, datagrams: false, webtransport: false }
    }
}

impl Settings {
    /// Reads the payload of a SETTINGS frame.
    pub(crate) fn parse(mut payload: &[u8]) -> Result<Self, Fault> {
        let mut settings = Self::default();
        let mut ids = Vec::new();
        while !payload.is_empty() {
            let (id, value, len) = pair(payload).ok_or(Fault::Connection(Code::FRAME_ERROR, "a setting is cut"))?;
            payload = &payload[len..];
            settings.apply(id, value)?;
            ids.push(id);
            if ids.len() > COUNT_MAX {
                return Err(Fault::Connection(Code::EXCESSIVE_LOAD, "too many settings"));
            }
        }
        ids.sort_unstable();
        match ids.windows(2).all(|pair| pair[0] != pair[1]) {
            true => Ok(settings),
            false => Err(Fault::Connection(Code::SETTINGS_ERROR, "a setting is repeated")),
        }
    }

    fn apply(&mut self, id: u64, value: u64) -> Result<(), Fault> {
        match id {
            0x0 | 0x2..=0x5 => return Err(Fault::Connection(Code::SETTINGS_ERROR, "a setting of HTTP/2")),
            MAX_FIELD_SECTION_SIZE => self.section_max = value,
            ENABLE_CONNECT_PROTOCOL => self.connect_protocol = flag(value)?,
            H3_DATAGRAM => self.datagrams = flag(value)?,
            WT_ENABLE_DRAFT_2 | WT_MAX_SESSIONS_DRAFT_7 | WT_MAX_SESSIONS_DRAFT_13 | WT_ENABLED_DRAFT_15 => {
                self.webtransport |= value > 0;
            }
            // The dynamic table of QPACK is not used, whatever its bounds; unknown settings are skipped.
            _ => {}
        }
        Ok(())
    }
}

/// One setting and its length.
fn pair(payload: &[u8]) -> Option<(u64, u64, usize)> {
    let (id, id_len) = varint::read(payload)?;
    let (value, value_len) = varint::read(&payload[id_len..])?;
    Some((id, value, id_len + value_len))
}

fn flag(value: u64) -> Result<bool, Fault> {
    match value {
        0 | 1 => Ok(value == 1),
        _ => Err(Fault::Connection(Code::SETTINGS_ERROR, "a setting that is 0 or 1 is neither")),
    }
}

/// The payload of the SETTINGS frame that this end sends.
pub(crate) fn payload(config: &Config, is_server: bool) -> BytesMut {
    let mut out = BytesMut::new();
    let mut put = |id, value| {
        varint::write(&mut out, id);
        varint::write(&mut out, value);
    };
    put(QPACK_MAX_TABLE_CAPACITY, 0);
    put(MAX_FIELD_SECTION_SIZE, config.limits.section_bytes_max.into());
    put(QPACK_BLOCKED_STREAMS, 0);
    if is_server && (config.extended_connect || config.webtransport) {
        put(ENABLE_CONNECT_PROTOCOL, 1);
    }
    if config.webtransport || config.extended_connect {
        put(H3_DATAGRAM, 1);
    }
    if config.webtransport {
        put(WT_ENABLE_DRAFT_2, 1);
        put(WT_MAX_SESSIONS_DRAFT_7, config.limits.sessions_max.into());
        // More than 1 would promise the flow control of sessions, which those drafts add.
        put(WT_MAX_SESSIONS_DRAFT_13, 1);
        put(WT_ENABLED_DRAFT_15, 1);
    }
    if let Some(seed) = config.grease {
        put(frame::grease(seed), seed & 0xff);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(u64, u64)]) -> BytesMut {
        let mut out = BytesMut::new();
        for (id, value) in pairs {
            varint::write(&mut out, *id);
            varint::write(&mut out, *value);
        }
        out
    }

    #[test]
    fn what_browsers_send_is_understood() {
        // Chromium 156 and Firefox 153, as captured.
        let chromium = settings(&[(1, 65_536), (6, 16_384), (7, 100), (0x33, 1), (0xff_d277, 1), (0x2b60_3742, 1)]);
        let expected = Settings { section_max: 16_384, connect_protocol: false, datagrams: true, webtransport: true };
        assert_eq!(Settings::parse(&chromium), Ok(expected));
        let firefox = settings(&[(1, 65_536), (7, 20), (0x2b60_3742, 1), (0xff_d277, 1), (0x33, 1), (8, 1)]);
        let expected = Settings { section_max: u64::MAX, connect_protocol: true, datagrams: true, webtransport: true };
        assert_eq!(Settings::parse(&firefox), Ok(expected));
    }

    #[test]
    fn bad_settings_are_refused_with_their_code() {
        let code = |payload: &[u8]| match Settings::parse(payload) {
            Err(Fault::Connection(code, _)) => Some(code),
            _ => None,
        };
        for id in [0, 2, 3, 4, 5] {
            assert_eq!(code(&settings(&[(id, 0)])), Some(Code::SETTINGS_ERROR));
        }
        assert_eq!(code(&settings(&[(6, 1), (0x21, 1), (6, 1)])), Some(Code::SETTINGS_ERROR));
        assert_eq!(code(&settings(&[(0x21, 1), (0x21, 1)])), Some(Code::SETTINGS_ERROR));
        assert_eq!(code(&settings(&[(8, 2)])), Some(Code::SETTINGS_ERROR));
        assert_eq!(code(&settings(&[(0x33, 2)])), Some(Code::SETTINGS_ERROR));
        assert_eq!(code(&[0x6]), Some(Code::FRAME_ERROR));
        assert_eq!(code(&[0x6, 0x40]), Some(Code::FRAME_ERROR));
        let many: Vec<_> = (0..=COUNT_MAX as u64).map(|n| (0x1000 + n, 0)).collect();
        assert_eq!(code(&settings(&many)), Some(Code::EXCESSIVE_LOAD));
        assert_eq!(code(&settings(&many[1..])), None);
    }

    #[test]
    fn a_server_says_all_four_ids_and_reads_them_back() {
        let config = Config { grease: Some(9), ..Config::default() };
        let parsed = Settings::parse(&payload(&config, true)).expect("own settings are valid");
        assert!(parsed.webtransport && parsed.datagrams && parsed.connect_protocol);
        let config = Config { webtransport: false, extended_connect: false, ..Config::default() };
        let parsed = Settings::parse(&payload(&config, true)).expect("own settings are valid");
        assert!(!parsed.webtransport && !parsed.datagrams && !parsed.connect_protocol);
    }
}
