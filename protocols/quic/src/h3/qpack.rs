//! QPACK (RFC 9204) with the static table alone: quiche codes the field sections, the peer's two streams are checked.

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use quiche::h3::{
    Header,
    qpack::{Decoder, Encoder, Error},
};

use super::{
    Limits,
    code::{Code, Fault},
    frame::kind,
    message, varint,
};

/// A name and a value to be sent.
pub(crate) type Field<'a> = (&'a [u8], &'a [u8]);

/// What RFC 9114 section 4.2.2 adds to a field's name and value.
const FIELD_OVERHEAD: usize = 32;

/// Bytes that the coding may add to a field: two lengths and an index, each far below 2^21.
const CODING_OVERHEAD: usize = 12;

/// Type and length in front of a section: the length takes four bytes always, so that it can be written afterwards.
const HEAD_LEN: usize = 5;

/// The insert count and the base in front of the fields: one byte each, for both are 0.
const PREFIX_LEN: usize = 2;

/// Continuation bytes of an integer: 62 bits have 9 (RFC 9204 section 4.1.1).
const CONTINUATIONS_MAX: u8 = 9;

const FAILED: Fault = Fault::Connection(Code::QPACK_DECOMPRESSION_FAILED, "a field section cannot be decoded");

/// A field section over a limit: a request gets this status.
pub(crate) const TOO_LARGE: Fault = Fault::Answer(431, "the request head is too large");

/// Decodes a field section.
pub(crate) fn decode(section: &[u8], limits: &Limits) -> Result<Vec<Header>, Fault> {
    // quiche ignores the prefix: an insert count other than 0 wants the dynamic table, and so does a negative base.
    match section {
        [0, base, ..] if base & 0x80 == 0 => {}
        _ => return Err(FAILED),
    }
    let mut decoder = Decoder::new();
    let fields = match decoder.decode(section, limits.section_bytes_max.into()) {
        Ok(fields) => fields,
        // quiche says this of a broken Huffman code as well; the section is short, so decode it once without a limit.
        Err(Error::HeaderListTooLarge) if decoder.decode(section, u64::MAX).is_ok() => return Err(TOO_LARGE),
        Err(_) => return Err(FAILED),
    };
    match fields.len() <= limits.fields_max.into() {
        true => Ok(fields),
        false => Err(TOO_LARGE),
    }
}

/// The size of fields as RFC 9114 section 4.2.2 counts it.
pub(crate) fn section_size(fields: &[Field<'_>]) -> u64 {
    fields.iter().map(|(name, value)| name.len() + value.len() + FIELD_OVERHEAD).sum::<usize>() as u64
}

/// A HEADERS frame with these fields and then `common`, and room for `more` bytes behind it.
pub(crate) fn headers_frame(fields: &[Field<'_>], common: &Common, more: usize) -> BytesMut {
    let bound = PREFIX_LEN + bound(fields);
    let mut out = BytesMut::with_capacity(HEAD_LEN + bound + common.lines.len() + more);
    out.resize(HEAD_LEN + bound, 0);
    let len = Encoder::new().encode(fields, &mut out[HEAD_LEN..]).expect("the bound holds every coding of the fields");
    out.truncate(HEAD_LEN + len);
    out.extend_from_slice(&common.lines);
    out[0] = kind::HEADERS as u8;
    out[1..HEAD_LEN].copy_from_slice(&((len + common.lines.len()) as u32 | 0x8000_0000).to_be_bytes());
    out
}

/// Bytes that the coding of fields may take.
fn bound(fields: &[Field<'_>]) -> usize {
    fields.iter().map(|(name, value)| name.len() + value.len() + CODING_OVERHEAD).sum()
}

/// Fields that many answers have in common, coded once. Without the dynamic table a field line is the same in every
/// section (RFC 9204 section 4.5).
#[derive(Clone, Debug, Default)]
pub struct Common {
    lines: Bytes,
    size: u64,
}

impl Common {
    /// Codes these fields; those about an HTTP/1.1 connection are left away.
    #[must_use]
    pub fn new(headers: &HeaderMap) -> Self {
        let fields: Vec<Field<'_>> = message::fields(headers).collect();
        let mut lines = vec![0; PREFIX_LEN + bound(&fields)];
        let len = Encoder::new().encode(&fields, &mut lines).expect("the bound holds every coding of the fields");
        Self { lines: Bytes::copy_from_slice(&lines[PREFIX_LEN..len]), size: section_size(&fields) }
    }

    /// Their size as RFC 9114 section 4.2.2 counts it.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }
}

/// The peer's encoder stream. This end's capacity is 0: nothing can be inserted, and only 0 can be chosen.
pub(crate) fn check_encoder_stream(bytes: &[u8]) -> Result<(), Fault> {
    const SET_CAPACITY_0: u8 = 0x20;
    match bytes.iter().all(|byte| *byte == SET_CAPACITY_0) {
        true => Ok(()),
        false => Err(Fault::Connection(Code::QPACK_ENCODER_STREAM_ERROR, "the capacity of the table is 0")),
    }
}

/// The peer's decoder stream. This end never inserts: nothing can be acknowledged, only streams be cancelled.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DecoderStream {
    /// Continuation bytes of a stream id that were seen, plus one; 0 between instructions.
    inside: u8,
}

impl DecoderStream {
    pub(crate) fn check(&mut self, bytes: &Bytes) -> Result<(), Fault> {
        const WRONG: Fault = Fault::Connection(Code::QPACK_DECODER_STREAM_ERROR, "nothing was inserted");
        for byte in bytes {
            match self.inside {
                0 if byte & 0xc0 != 0x40 => return Err(WRONG),
                0 => self.inside = u8::from(byte & 0x3f == 0x3f),
                _ if byte & 0x80 == 0 => self.inside = 0,
                CONTINUATIONS_MAX => return Err(WRONG),
                _ => self.inside += 1,
            }
        }
        Ok(())
    }
}

const _: () = assert!(varint::LEN_MAX <= CONTINUATIONS_MAX as usize, "a stream id fits an integer of QPACK");

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use quiche::h3::NameValue;

    use super::*;

    const LIMITS: fn() -> Limits = Limits::default;

    fn section(fields: &[Field<'_>]) -> Bytes {
        headers_frame(fields, &Common::default(), 0).freeze().slice(HEAD_LEN..)
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let fields: [Field<'_>; 4] =
            [(b":status", b"200"), (b"content-type", b"text/html"), (b"x-own", b"\xff\x80"), (b"empty", b"")];
        let decoded = decode(&section(&fields), &LIMITS()).expect("it is valid");
        let pairs: Vec<Field<'_>> = decoded.iter().map(|field| (field.name(), field.value())).collect();
        assert_eq!(pairs, fields);
        let frame = headers_frame(&fields, &Common::default(), 0);
        assert_eq!(varint::read(&frame[1..]), Some(((frame.len() - HEAD_LEN) as u64, 4)));
    }

    #[test]
    fn common_fields_are_as_if_they_were_coded_with_the_others() {
        let headers = HeaderMap::from_iter([
            (http::header::DATE, HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT")),
            (http::header::CONNECTION, HeaderValue::from_static("close")),
            (http::header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        ]);
        let common = Common::new(&headers);
        let own: [Field<'_>; 2] = [(b":status", b"200"), (b"content-length", b"7")];
        let more: [Field<'_>; 2] = [(b"date", b"Sun, 06 Nov 1994 08:49:37 GMT"), (b"x-frame-options", b"DENY")];
        let together: Vec<Field<'_>> = own.into_iter().chain(more).collect();
        assert_eq!(headers_frame(&own, &common, 0), headers_frame(&together, &Common::default(), 0));
        assert_eq!(common.size() + section_size(&own), section_size(&together));
    }

    #[test]
    fn values_of_any_length_fit_the_bound() {
        for len in (0..400).chain([16_383, 16_384, 70_000]) {
            for byte in [b'a', b'~', 0xff] {
                let value = vec![byte; len];
                headers_frame(&[(&value, &value), (b":path", &value)], &Common::default(), 0);
            }
        }
    }

    #[test]
    fn sections_that_want_the_dynamic_table_or_are_broken_fail() {
        for bad in [
            &b""[..],
            b"\0",
            b"\x01\0",
            b"\0\x80",
            b"\0\0\x80",
            b"\0\0\x10",
            b"\0\0\0\x01a",
            b"\0\0\xff\x24",
            b"\0\0\x40\x01a",
            b"\0\0\xff",
            b"\0\0\x51",
            b"\0\0\x23ab",
            b"\0\0\x51\x81\xff",
            b"\0\0\x51\x84\xff\xff\xff\xff",
            b"\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ] {
            assert_eq!(decode(bad, &LIMITS()).unwrap_err(), FAILED, "{}", bad.escape_ascii());
        }
        assert!(decode(b"\0\0", &LIMITS()).is_ok_and(|fields| fields.is_empty()));
    }

    #[test]
    fn a_section_fills_its_limits() {
        let limits = Limits { section_bytes_max: 100, fields_max: 2, ..Limits::default() };
        let value = [b'v'; 27];
        assert!(decode(&section(&[(b"aaaaaaaaa", &value), (b"", b"")]), &limits).is_ok());
        assert_eq!(decode(&section(&[(b"aaaaaaaaaa", &value), (b"", b"")]), &limits).unwrap_err(), TOO_LARGE);
        let limits = Limits { fields_max: 2, ..Limits::default() };
        assert!(decode(&section(&[(&b"a"[..], &b""[..]); 2]), &limits).is_ok());
        assert_eq!(decode(&section(&[(&b"a"[..], &b""[..]); 3]), &limits).unwrap_err(), TOO_LARGE);
        assert_eq!(section_size(&[(b"aaaaaaaaa", &value), (b"", b"")]), 100);
    }

    #[test]
    fn only_capacity_0_comes_over_the_encoder_stream() {
        assert!(check_encoder_stream(b"\x20\x20").is_ok() && check_encoder_stream(b"").is_ok());
        for bad in [&b"\x21"[..], b"\x3f\x01", b"\xc0\x01a", b"\x41a\x01b", b"\x00"] {
            assert!(check_encoder_stream(bad).is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn only_cancellations_come_over_the_decoder_stream() {
        let check = |bytes: &'static [u8]| {
            let mut stream = DecoderStream::default();
            bytes.iter().try_for_each(|byte| stream.check(&Bytes::copy_from_slice(&[*byte])))
        };
        assert!(check(b"\x40\x44\x7f\x80\x80\x01\x7f\x00").is_ok());
        assert!(check(b"\x7f\xff\xff\xff\xff\xff\xff\xff\xff\x01").is_ok());
        for bad in [&b"\x80"[..], b"\xff", b"\x01", b"\x00", b"\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"] {
            assert!(check(bad).is_err(), "{}", bad.escape_ascii());
        }
    }
}
