//! Strangers before a server: any datagrams from a few addresses, and true ones that were changed on their way.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::OnceLock,
    time::{Duration, Instant},
};

use quantum::{
    Endpoint, Guuid, Meta, Side, Verdict,
    packet::{self, LongKind},
};

use super::pair::{self, EPOCH_MS, Pair};

/// Steps that an input takes, at most.
const STEPS_MAX: usize = 200;

/// Handshakes from which on the server asks for a token, and those that it holds with one.
const RETRY_ABOVE: usize = 4;
const HALF_OPEN_MAX: usize = 6;

/// The server, the time, and for each address how many bytes came from there and went there.
struct Gate {
    now: Instant,
    began: Instant,
    server: Endpoint,
    ledger: BTreeMap<SocketAddr, (usize, usize)>,
}

/// What four bytes say is done next: what, from where, and two numbers for it. More bytes follow as they are needed.
pub(crate) fn run(mut data: &[u8]) {
    let now = Instant::now();
    let server = pair::server(|config| (config.retry_above, config.half_open_max) = (RETRY_ABOVE, HALF_OPEN_MAX));
    let mut gate = Gate { now, began: now, server, ledger: BTreeMap::new() };
    for _ in 0..STEPS_MAX {
        let Some(([what, from, one, two], rest)) = data.split_first_chunk() else { break };
        data = rest;
        let mut take = |len: usize| {
            let (taken, rest) = data.split_at(len.min(data.len()));
            data = rest;
            taken
        };
        let datagram = match what % 5 {
            0 => take(usize::from(u16::from_be_bytes([*one, *two])) % 1_500).to_vec(),
            1 => changed(model(*one), take(3 * usize::from(two % 16))),
            2 => resized(model(*one), 6 * usize::from(*two)),
            3 => sealed(*one, take(usize::from(*two))),
            _ => {
                gate.wait(Duration::from_millis(u64::from(*one) << (two % 8)));
                continue;
            }
        };
        gate.datagram(address(*from), datagram);
    }
    gate.wait(Duration::from_secs(60));
    assert!(gate.server.is_empty(), "nobody is remembered for ever");
}

/// The first one is where the tokens among the true datagrams are good.
fn address(number: u8) -> SocketAddr {
    if number.is_multiple_of(8) { pair::client_address() } else { ([10, 0, 0, number % 8], 1_000).into() }
}

/// The datagrams of a true client and its server, with a Retry between them.
fn model(number: u8) -> Vec<u8> {
    static MADE: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    let models = MADE.get_or_init(|| {
        let (mut pair, mut models) = (Pair::new(|config| config.retry_above = 0), Vec::new());
        for _ in 0..6 {
            models.extend(pair.pass(Side::Client));
            models.extend(pair.pass(Side::Server));
        }
        assert!(pair.client.connection().is_some_and(|connection| connection.is_connected()));
        models
    });
    models[usize::from(number) % models.len()].clone()
}

/// Each change is a place and the bits that turn over there.
fn changed(mut datagram: Vec<u8>, changes: &[u8]) -> Vec<u8> {
    for [high, low, bits] in changes.as_chunks().0 {
        let at = usize::from(u16::from_be_bytes([*high, *low])) % datagram.len();
        datagram[at] ^= bits;
    }
    datagram
}

fn resized(mut datagram: Vec<u8>, len: usize) -> Vec<u8> {
    datagram.resize(len, 0);
    datagram
}

/// Any frames in an Initial packet that opens.
fn sealed(name: u8, frames: &[u8]) -> Vec<u8> {
    let (to, from) = (Guuid::from_bytes([name; 16]), Guuid::from_bytes([!name; 16]));
    let (keys, mut out) = (super::keys(to), Vec::new());
    let draft = packet::encode_long(LongKind::Initial, to, from, &[], 0, None, &mut out);
    out.extend_from_slice(frames);
    draft.pad(1_200, &mut out);
    draft.seal(&*keys.header, &*keys.packet, &mut out);
    out
}

impl Gate {
    fn datagram(&mut self, from: SocketAddr, mut bytes: Vec<u8>) {
        self.ledger.entry(from).or_default().0 += bytes.len();
        let unix_ms = EPOCH_MS + (self.now - self.began).as_millis() as u64;
        let meta = Meta { remote: from, ecn: bytes.first().map_or(0, |byte| byte % 4) };
        let verdict = self.server.handle(self.now, unix_ms, meta, &mut bytes);
        assert!(!matches!(verdict, Verdict::Foreign(_)), "there is one shard");
        self.flush();
    }

    /// Sends all, and looks at what must always hold.
    fn flush(&mut self) {
        let mut train = Vec::new();
        while let Some(transmit) = self.server.poll_transmit(self.now, &mut train) {
            let (came, went) = self.ledger.get_mut(&transmit.to).expect("nobody is spoken to who said nothing");
            *went += train.len();
            // Who has a token has shown that it gets what is sent to it.
            let is_known = transmit.to == pair::client_address();
            assert!(is_known || *went <= 3 * *came, "{went} bytes for {came}");
        }
        while let Some((handle, _)) = self.server.poll_event() {
            if let Some(connection) = self.server.peek(handle) {
                connection.check();
                assert!(connection.memory() < 100_000, "{} bytes are held", connection.memory());
            }
        }
        // None of them gets so far as to be no handshake any more.
        assert!(self.server.len() <= HALF_OPEN_MAX, "{} handshakes", self.server.len());
    }

    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.server.deadline().filter(|at| *at <= until) {
            self.now = at.max(self.now);
            self.server.handle_timeout(self.now);
            self.flush();
        }
        self.now = until;
    }
}
