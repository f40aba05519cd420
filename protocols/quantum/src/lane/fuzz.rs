//! For the fuzz target `reassembly`, pieces against a plain model; and a bulk transfer for counting instructions.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{Lanes, Limits, PeerLimits, Received};
use crate::{
    frame::{Delivery, Direction, Frame, Message, Side, Stream, StreamId},
    item::Items,
};

const STREAM_BYTES: u64 = 4096;
const DATA_BYTES: u64 = 10_000;
const MESSAGE_BYTES: u64 = 20_000;

fn limits() -> Limits {
    Limits {
        data_max: DATA_BYTES,
        data_window_max: DATA_BYTES,
        stream_data_max: STREAM_BYTES,
        stream_window_max: STREAM_BYTES,
        streams_bidirectional_max: 0,
        streams_unidirectional_max: 4,
        datagram_max: 0,
        message_max: STREAM_BYTES,
        message_bytes_max: MESSAGE_BYTES,
        send_bytes_max: 0,
        datagram_send_bytes_max: 0,
        datagram_receive_bytes_max: 0,
    }
}

/// One piece as the input describes it.
struct Piece<'a> {
    is_message: bool,
    fin: bool,
    reads: bool,
    which: u64,
    offset: u64,
    total: u64,
    data: &'a [u8],
}

fn piece<'a>(input: &mut &'a [u8]) -> Option<Piece<'a>> {
    let (head, rest) = input.split_first_chunk::<5>()?;
    let len = usize::from(head[4]).min(rest.len());
    *input = &rest[len..];
    Some(Piece {
        is_message: head[0] & 1 != 0,
        fin: head[0] & 2 != 0,
        reads: head[0] & 4 != 0,
        which: u64::from(head[0] >> 4),
        offset: u64::from(u16::from_be_bytes([head[1], head[2]]) & 0x1FFF),
        total: u64::from(head[3]) << 4,
        data: &rest[..len],
    })
}

/// What the pieces say: the first that names a byte is right about it.
#[derive(Default)]
struct Model {
    streams: BTreeMap<u64, BTreeMap<u64, u8>>,
    read: BTreeMap<u64, u64>,
    /// How long each is, and what came of it.
    messages: BTreeMap<(u64, u64), (u64, BTreeMap<u64, u8>)>,
    delivered: BTreeMap<(u64, u64), ()>,
}

/// Any sequence of pieces: what comes out is what went in first, and what is held is bounded.
pub fn reassembly(mut input: &[u8]) {
    let (mut lanes, mut model) = (Lanes::new(Side::Server, &limits()), Model::default());
    while let Some(piece) = piece(&mut input) {
        let is_fine = if piece.is_message {
            message(&mut lanes, &mut model, &piece)
        } else {
            stream(&mut lanes, &mut model, &piece)
        };
        assert!(lanes.received_bytes() <= 2 * DATA_BYTES + 2 * MESSAGE_BYTES + 16_384, "bounded");
        if !is_fine {
            return;
        }
        if piece.reads {
            read(&mut lanes, &mut model, piece.which & 3);
        }
    }
    (0..4).for_each(|which| read(&mut lanes, &mut model, which));
}

fn stream(lanes: &mut Lanes, model: &mut Model, piece: &Piece<'_>) -> bool {
    let id = StreamId::new(Side::Client, Direction::Unidirectional, piece.which & 3);
    let Piece { offset, fin, data, .. } = *piece;
    let is_fine = lanes.on_stream(&Stream { id, offset, fin, has_len: true, data }).is_ok();
    let bytes = model.streams.entry(piece.which & 3).or_default();
    for (at, byte) in (offset..).zip(data) {
        bytes.entry(at).or_insert(*byte);
    }
    is_fine
}

fn message(lanes: &mut Lanes, model: &mut Model, piece: &Piece<'_>) -> bool {
    let (channel, number) = (piece.which & 1, piece.which >> 1);
    let delivery = if channel == 0 { Delivery::Independent } else { Delivery::Ordered };
    let Piece { offset, total, data, .. } = *piece;
    if offset + data.len() as u64 > total || (data.is_empty() && total > 0) {
        return true; // Such frames do not parse.
    }
    let frame = Message { channel, number, delivery, offset, total, data };
    if !lanes.may_admit(&frame) {
        return true;
    }
    let is_fine = lanes.on_message(&frame).is_ok();
    if !model.delivered.contains_key(&(channel, number)) {
        let (total, bytes) = model.messages.entry((channel, number)).or_insert((total, BTreeMap::new()));
        // What is whole takes nothing more, whether it was read or not.
        let is_whole = bytes.len() as u64 == *total;
        for (at, byte) in (offset..).zip(data).filter(|_| !is_whole) {
            bytes.entry(at).or_insert(*byte);
        }
    }
    is_fine
}

fn read(lanes: &mut Lanes, model: &mut Model, which: u64) {
    let id = StreamId::new(Side::Client, Direction::Unidirectional, which);
    while let Ok(chunk) = lanes.chunk(id)
        && !chunk.is_empty()
    {
        let read = model.read.entry(which).or_default();
        for (at, byte) in (*read..).zip(chunk) {
            assert_eq!(model.streams[&which].get(&at), Some(byte), "first wins");
        }
        let len = chunk.len();
        *read += len as u64;
        lanes.consume(id, len);
    }
    while let Some(Received { channel, number, bytes }) = lanes.recv_message() {
        let (_, expected) = model.messages.remove(&(channel, number)).unwrap_or_default();
        let expected: Vec<u8> = expected.into_values().collect();
        assert!(bytes == expected, "first wins");
        assert!(model.delivered.insert((channel, number), ()).is_none(), "once");
    }
}

/// Moves so many packets of a stream from one side to the other, in order; how many bytes that were. The difference of
/// two counts is what lanes cost for each packet.
#[must_use]
pub fn cost_bulk(now: Instant, packets: usize) -> u64 {
    const WINDOW: u64 = 1 << 20;
    let mut limits = limits();
    (limits.data_max, limits.data_window_max, limits.send_bytes_max) = (WINDOW, WINDOW, WINDOW);
    (limits.stream_data_max, limits.stream_window_max) = (WINDOW, WINDOW);
    let [mut sender, mut receiver] = [Side::Client, Side::Server].map(|side| Lanes::new(side, &limits));
    let peer = PeerLimits {
        data_max: WINDOW,
        stream_data_max: WINDOW,
        streams_unidirectional_max: 1,
        ..PeerLimits::default()
    };
    if sender.set_peer(&peer).is_err() {
        return 0;
    }
    let Some(id) = sender.open(Direction::Unidirectional) else { return 0 };
    let data = Bytes::from(vec![7; 65_536]);
    let (mut out, mut back, mut items, mut total) = (Vec::with_capacity(2_000), Vec::new(), Items::new(), 0);
    for _ in 0..packets {
        if sender.queued_bytes() < 1_400 {
            let _ = sender.write_bytes(id, data.clone());
        }
        if sender.has_control() || sender.has_data(now) {
            sender.write_data(now, 1_400, &mut out, &mut items);
        }
        if let Ok(Frame::Stream(frame)) = Frame::parse(&mut &out[..]) {
            let _ = receiver.on_stream(&frame);
        }
        while receiver.poll_event().is_some() {}
        while let Ok(chunk) = receiver.chunk(id)
            && !chunk.is_empty()
        {
            let len = chunk.len();
            total += len as u64;
            receiver.consume(id, len);
        }
        items.drain(..).for_each(|item| sender.on_acked(&item));
        if receiver.has_control() && receiver.write_control(now, Duration::ZERO, 1_400, &mut back, &mut Items::new()) {
            let mut rest = &back[..];
            while let Ok(frame) = Frame::parse(&mut rest) {
                match frame {
                    Frame::MaxData(limit) => sender.on_max_data(limit),
                    Frame::MaxStreamData { id, limit } => drop(sender.on_max_stream_data(id, limit)),
                    _ => {}
                }
            }
            back.clear();
        }
        out.clear();
    }
    total
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    #[test]
    fn random_pieces_come_out_as_they_went_in() {
        for seed in 0..2_000 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut input = vec![0; rng.random_range(0..4_000)];
            rng.fill(&mut input[..]);
            // Offsets near each other, so that pieces touch and overlap.
            let narrow = rng.random_range(0..=0x0F);
            input.iter_mut().skip(1).step_by(5).for_each(|byte| *byte &= narrow);
            super::reassembly(&input);
        }
    }

    #[test]
    fn bulk_moves() {
        assert!(super::cost_bulk(std::time::Instant::now(), 1_000) > 1_380_000);
    }
}
