//! The pipe.

use std::collections::VecDeque;

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;
use crate::frame::Frame;

/// Bytes of frames per packet.
pub(super) const ROOM: usize = 1_180;

/// A packet under way: its frames, and what its sender remembers of it.
pub(super) struct Packet {
    pub(super) frames: Vec<u8>,
    pub(super) items: Items,
}

/// What becomes of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    Arrives,
    Lost,
    /// It arrives, and its sender takes it for lost.
    ArrivesLate,
    /// It arrives twice.
    Twice,
}

/// Both sides. Index 0 is the client.
pub(super) struct Pair {
    pub(super) lanes: [Lanes; 2],
    pub(super) wires: [VecDeque<Packet>; 2],
    pub(super) now: Instant,
    pub(super) rng: StdRng,
    pub(super) rtt: Duration,
    pub(super) events: [Vec<LaneEvent>; 2],
    pub(super) packets: usize,
}

pub(super) const CLIENT: usize = 0;
pub(super) const SERVER: usize = 1;

impl Pair {
    pub(super) fn new() -> Self {
        Self::with(&limits(), 1)
    }

    pub(super) fn with(limits: &Limits, seed: u64) -> Self {
        let mut lanes = [Lanes::new(Side::Client, limits), Lanes::new(Side::Server, limits)];
        lanes.iter_mut().for_each(|lanes| lanes.set_peer(&told(limits)).unwrap());
        Self {
            lanes,
            wires: Default::default(),
            now: Instant::now(),
            rng: StdRng::seed_from_u64(seed),
            rtt: Duration::from_millis(40),
            events: Default::default(),
            packets: 0,
        }
    }

    /// Makes one packet of at most `room` bytes and puts it on the wire; false when there is nothing to send.
    pub(super) fn transmit_one(&mut self, side: usize, room: usize) -> bool {
        let lanes = &mut self.lanes[side];
        let has_data = lanes.has_data(self.now);
        let has_control = lanes.has_control();
        let (mut frames, mut items) = (Vec::new(), Items::new());
        lanes.write_control(self.now, self.rtt, room, &mut frames, &mut items);
        let left = room - frames.len();
        let wrote = lanes.write_data(self.now, left, &mut frames, &mut items);
        assert!(frames.len() <= room, "{} bytes in a room of {room}", frames.len());
        assert!(wrote || !has_data || left < 1_000, "said to have data, and wrote none");
        assert!(has_control || has_data || frames.is_empty(), "said to have nothing, and wrote");
        if frames.is_empty() {
            return false;
        }
        assert!(!items.is_empty());
        self.wires[side].push_back(Packet { frames, items });
        self.packets += 1;
        true
    }

    pub(super) fn transmit(&mut self, side: usize) {
        while self.transmit_one(side, ROOM) {}
    }

    /// Hands a packet of `side` to the other one. False: it was refused before it was acknowledged.
    pub(super) fn receive(&mut self, side: usize, frames: &[u8]) -> bool {
        let to = &mut self.lanes[1 - side];
        let all = parse(frames);
        let admitted = all.iter().all(|frame| !matches!(frame, Frame::Message(message) if !to.may_admit(message)));
        if admitted {
            all.iter().for_each(|frame| handle(to, frame).unwrap());
        }
        admitted
    }

    pub(super) fn deliver(&mut self, side: usize, packet: Packet, fate: Fate) {
        let arrives = fate != Fate::Lost && self.receive(side, &packet.frames);
        if fate == Fate::Twice && arrives {
            self.receive(side, &packet.frames);
        }
        for item in &packet.items {
            match fate {
                Fate::Lost | Fate::ArrivesLate => self.lanes[side].on_lost(self.now, item),
                Fate::Arrives | Fate::Twice if arrives => self.lanes[side].on_acked(item),
                Fate::Arrives | Fate::Twice => self.lanes[side].on_lost(self.now, item),
            }
        }
    }

    /// Delivers everything in order, as often as it takes.
    pub(super) fn settle(&mut self) {
        for _ in 0..10_000 {
            self.transmit(CLIENT);
            self.transmit(SERVER);
            if self.wires.iter().all(VecDeque::is_empty) {
                return;
            }
            for side in [CLIENT, SERVER] {
                while let Some(packet) = self.wires[side].pop_front() {
                    self.deliver(side, packet, Fate::Arrives);
                }
            }
        }
        panic!("the sides never come to rest");
    }

    /// Loses everything that is on the wire of a side.
    pub(super) fn lose_all(&mut self, side: usize) {
        while let Some(packet) = self.wires[side].pop_front() {
            self.deliver(side, packet, Fate::Lost);
        }
    }

    /// Takes a packet from anywhere on a wire, and rolls its fate.
    pub(super) fn deliver_any(&mut self, side: usize, loss: f64) {
        let len = self.wires[side].len();
        if len == 0 {
            return;
        }
        // Mostly near the front.
        let at = self.rng.random_range(0..len).min(self.rng.random_range(0..len));
        if let Some(packet) = self.wires[side].remove(at) {
            let fate = match self.rng.random::<f64>() {
                roll if roll < loss => Fate::Lost,
                roll if roll < loss * 1.2 => Fate::ArrivesLate,
                roll if roll < loss * 1.4 => Fate::Twice,
                _ => Fate::Arrives,
            };
            self.deliver(side, packet, fate);
        }
    }

    /// Moves events where tests look for them.
    pub(super) fn poll(&mut self, side: usize) -> Vec<LaneEvent> {
        std::iter::from_fn(|| self.lanes[side].poll_event()).collect()
    }

    /// Reads all that is there of a stream.
    pub(super) fn read(&mut self, side: usize, id: StreamId) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Ok(chunk) = self.lanes[side].chunk(id)
            && !chunk.is_empty()
        {
            let len = chunk.len();
            bytes.extend_from_slice(chunk);
            self.lanes[side].consume(id, len);
        }
        bytes
    }

    pub(super) fn open(&mut self, side: usize) -> StreamId {
        self.lanes[side].open(Direction::Bidirectional).unwrap()
    }

    pub(super) fn messages(&mut self, side: usize) -> Vec<(u64, u64, Vec<u8>)> {
        std::iter::from_fn(|| self.lanes[side].recv_message())
            .map(|message| (message.channel, message.number, message.bytes.to_vec()))
            .collect()
    }

    pub(super) fn send(&mut self, side: usize, channel: u64, delivery: Delivery, bytes: &[u8]) -> u64 {
        let bytes = Bytes::copy_from_slice(bytes);
        self.lanes[side].send_message(self.now, channel, delivery, 2, None, bytes).unwrap()
    }
}

pub(super) fn parse(mut bytes: &[u8]) -> Vec<Frame<'_>> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        frames.push(Frame::parse(&mut bytes).unwrap());
    }
    frames
}

pub(super) fn handle(to: &mut Lanes, frame: &Frame<'_>) -> Checked<()> {
    match frame {
        Frame::Stream(stream) => to.on_stream(stream),
        Frame::ResetStream { id, code, final_size } => to.on_reset_stream(*id, *code, *final_size),
        Frame::StopSending { id, code } => to.on_stop_sending(*id, *code),
        Frame::MaxData(limit) => {
            to.on_max_data(*limit);
            Ok(())
        }
        Frame::MaxStreamData { id, limit } => to.on_max_stream_data(*id, *limit),
        Frame::MaxStreams { direction, limit } => {
            to.on_max_streams(*direction, *limit);
            Ok(())
        }
        Frame::DataBlocked(limit) => {
            to.on_data_blocked(*limit);
            Ok(())
        }
        Frame::StreamDataBlocked { id, limit } => to.on_stream_data_blocked(*id, *limit),
        Frame::StreamsBlocked { direction, limit } => {
            to.on_streams_blocked(*direction, *limit);
            Ok(())
        }
        Frame::Message(message) => to.on_message(message),
        Frame::MessageFloor { channel, floor } => to.on_message_floor(*channel, *floor),
        Frame::Datagram(datagram) => to.on_datagram(datagram),
        other => panic!("lanes send no {other:?}"),
    }
}
