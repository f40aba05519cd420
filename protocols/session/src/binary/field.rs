//! Fields of a protobuf body, read where they lie and written without a struct in between.
//!
//! `prost` reads and writes the primitives. Its derived structs own their texts and count their bytes before they write
//! them; a message of the relay path must cost neither.

use bytes::{BufMut, BytesMut};
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};

use crate::DecodeError;

/// The fields of a body, in the order of their bytes.
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

/// One field's value, by its form on the wire.
#[derive(Clone, Copy)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32,
    Bytes(&'a [u8]),
}

impl<'a> Fields<'a> {
    pub(crate) fn new(body: &'a [u8]) -> Self {
        Self { rest: body }
    }

    /// The next field's number and value.
    pub(crate) fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, DecodeError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (tag, form) = decode_key(&mut self.rest).map_err(|_| NOT_PROTOBUF)?;
        let value = match form {
            WireType::Varint => Value::Varint(self.varint()?),
            WireType::SixtyFourBit => Value::Fixed64(u64::from_le_bytes(self.chunk()?)),
            WireType::ThirtyTwoBit => {
                self.chunk::<4>()?;
                Value::Fixed32
            }
            WireType::LengthDelimited => {
                let len = usize::try_from(self.varint()?).map_err(|_| NOT_PROTOBUF)?;
                let (bytes, rest) = self.rest.split_at_checked(len).ok_or(NOT_PROTOBUF)?;
                self.rest = rest;
                Value::Bytes(bytes)
            }
            WireType::StartGroup | WireType::EndGroup => return Err(NOT_PROTOBUF),
        };
        Ok(Some((tag, value)))
    }

    fn varint(&mut self) -> Result<u64, DecodeError> {
        decode_varint(&mut self.rest).map_err(|_| NOT_PROTOBUF)
    }

    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (chunk, rest) = self.rest.split_first_chunk().ok_or(NOT_PROTOBUF)?;
        self.rest = rest;
        Ok(*chunk)
    }
}

impl<'a> Value<'a> {
    pub(crate) fn text(self, field: &'static str) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes(field)?).map_err(|_| DecodeError::invalid(None, field, "not UTF-8"))
    }

    pub(crate) fn bytes(self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        match self {
            Value::Bytes(bytes) => Ok(bytes),
            Value::Varint(_) | Value::Fixed64(_) | Value::Fixed32 => Err(wrong_type(field)),
        }
    }

    pub(crate) fn number(self, field: &'static str) -> Result<u64, DecodeError> {
        match self {
            Value::Varint(number) => Ok(number),
            Value::Bytes(_) | Value::Fixed64(_) | Value::Fixed32 => Err(wrong_type(field)),
        }
    }

    pub(crate) fn short(self, field: &'static str) -> Result<u32, DecodeError> {
        let number = self.number(field)?;
        u32::try_from(number).map_err(|_| DecodeError::invalid(None, field, "greater than 4294967295"))
    }

    pub(crate) fn fixed(self, field: &'static str) -> Result<u64, DecodeError> {
        match self {
            Value::Fixed64(number) => Ok(number),
            Value::Bytes(_) | Value::Varint(_) | Value::Fixed32 => Err(wrong_type(field)),
        }
    }
}

/// Appends a text or bytes, unless there are none.
pub(crate) fn put_bytes(out: &mut BytesMut, tag: u32, value: impl AsRef<[u8]>) {
    let value = value.as_ref();
    if !value.is_empty() {
        put_element(out, tag, value);
    }
}

/// Appends an element of a list, even an empty one.
pub(crate) fn put_element(out: &mut BytesMut, tag: u32, value: &[u8]) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(value.len() as u64, out);
    out.put_slice(value);
}

/// Appends a number, unless it is 0.
pub(crate) fn put_number(out: &mut BytesMut, tag: u32, value: impl Into<u64>) {
    let value = value.into();
    if value != 0 {
        put_number_even_0(out, tag, value);
    }
}

/// Appends a number whose absence is not the same as 0.
pub(crate) fn put_number_if_any(out: &mut BytesMut, tag: u32, value: Option<impl Into<u64>>) {
    if let Some(value) = value {
        put_number_even_0(out, tag, value.into());
    }
}

fn put_number_even_0(out: &mut BytesMut, tag: u32, value: u64) {
    encode_key(tag, WireType::Varint, out);
    encode_varint(value, out);
}

/// Appends a number of eight bytes, unless it is 0.
pub(crate) fn put_fixed(out: &mut BytesMut, tag: u32, value: u64) {
    put_fixed_if_any(out, tag, Some(value).filter(|value| *value != 0));
}

/// Appends a number of eight bytes whose absence is not the same as 0.
pub(crate) fn put_fixed_if_any(out: &mut BytesMut, tag: u32, value: Option<u64>) {
    if let Some(value) = value {
        encode_key(tag, WireType::SixtyFourBit, out);
        out.put_u64_le(value);
    }
}

fn wrong_type(field: &'static str) -> DecodeError {
    DecodeError::invalid(None, field, "of another type")
}

const NOT_PROTOBUF: DecodeError = DecodeError::broken("a body that is not protobuf");
