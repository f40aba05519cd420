//! Frames as a server sends them: unmasked and whole, so that many connections can share one.
//!
//! They may go between any two frames of [`Connection::take_output`](crate::Connection::take_output).

use bytes::{BufMut, BytesMut};

use crate::mask;

/// The longest header of an unmasked frame.
pub const HEADER_MAX: usize = 10;

/// Set in the first byte of a message's last frame.
const FIN: u8 = 0x80;
/// Set in the second byte when a key follows the length.
const MASKED: u8 = 0x80;
/// Payloads up to here have their length in the second byte.
const LEN7_MAX: usize = 125;
const LEN16_MIN: usize = LEN7_MAX + 1;
/// Payloads up to here have their length in two more bytes.
const LEN16_MAX: usize = 65_535;

/// What a message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Opcode {
    /// UTF-8.
    Text = 1,
    /// Bytes.
    Binary = 2,
}

/// Appends one whole frame.
pub fn encode(opcode: Opcode, payload: &[u8], out: &mut BytesMut) {
    put(opcode as u8, payload, out);
}

/// Appends one whole frame whose payload is what `write` appends.
///
/// Room is left for the header of a payload up to 65,535 bytes; only a shorter one than 126 or a longer one is moved.
pub fn encode_with(opcode: Opcode, out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    const GUESS: usize = 4;
    let start = out.len();
    out.put_slice(&[0; GUESS]);
    write(out);
    let len = out.len() - start - GUESS;
    let (header, header_len) = header(opcode as u8, len);
    if header_len > GUESS {
        out.put_slice(&[0; HEADER_MAX - GUESS]);
    }
    if header_len != GUESS {
        out.copy_within(start + GUESS..start + GUESS + len, start + header_len);
        out.truncate(start + header_len + len);
    }
    out[start..start + header_len].copy_from_slice(&header[..header_len]);
}

/// Appends one whole unmasked frame with any opcode.
pub(crate) fn put(opcode: u8, payload: &[u8], out: &mut BytesMut) {
    let (header, len) = header(opcode, payload.len());
    out.reserve(len + payload.len());
    out.put_slice(&header[..len]);
    out.put_slice(payload);
}

/// Appends one whole frame as a client sends it.
pub(crate) fn put_masked(opcode: u8, key: &mut [u8; 4], payload: &[u8], out: &mut BytesMut) {
    let (mut header, len) = header(opcode, payload.len());
    header[1] |= MASKED;
    out.reserve(len + key.len() + payload.len());
    out.put_slice(&header[..len]);
    out.put_slice(&*key);
    let start = out.len();
    out.put_slice(payload);
    mask::apply(key, &mut out[start..]);
}

/// The header of a whole unmasked frame, and how many of its bytes count.
fn header(opcode: u8, len: usize) -> ([u8; HEADER_MAX], usize) {
    let mut header = [0; HEADER_MAX];
    header[0] = FIN | opcode;
    let extra = (len as u64).to_be_bytes();
    let used = match len {
        0..=LEN7_MAX => {
            header[1] = extra[7];
            2
        }
        LEN16_MIN..=LEN16_MAX => {
            header[1] = 126;
            header[2..4].copy_from_slice(&extra[6..]);
            4
        }
        _ => {
            header[1] = 127;
            header[2..].copy_from_slice(&extra);
            HEADER_MAX
        }
    };
    (header, used)
}

#[cfg(test)]
mod tests {
    use tungstenite::protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    };

    use super::*;

    #[test]
    fn frames_are_those_of_tungstenite() {
        for len in [0, 1, 2, 125, 126, 127, 65_535, 65_536, 100_000] {
            let payload = vec![b'x'; len];
            let mut expected = b"before".to_vec();
            Frame::message(payload.clone(), OpCode::Data(Data::Text), true).format(&mut expected).unwrap();
            let mut whole = BytesMut::from(&b"before"[..]);
            encode(Opcode::Text, &payload, &mut whole);
            assert_eq!(whole, expected, "{len} bytes");
            let mut written = BytesMut::from(&b"before"[..]);
            encode_with(Opcode::Text, &mut written, |out| out.put_slice(&payload));
            assert_eq!(written, expected, "{len} bytes, written");
        }
    }
}
