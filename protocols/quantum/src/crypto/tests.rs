//! A client and a server in memory, between them a link that shuffles, repeats and loses CRYPTO frames.

mod handshake;
mod resumption;
mod update;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SignatureAlgorithm};
use rustls::{
    AlertDescription, RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use sha2::{Digest, Sha256};

use super::{handshake::TICKET_WITHIN, *};
use crate::{
    frame::Side,
    packet::{OpenError, encode_short, open, unprotect},
};

const PTO: Duration = Duration::from_millis(100);

/// The destination of the client's first packet.
fn to() -> Guuid {
    Guuid::from_bytes([7; 16])
}

/// A certificate for "localhost" and its key.
fn certificate(algorithm: &'static SignatureAlgorithm) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, format!("{:02x?}", &key.public_key_raw()[..8]));
    let certificate = params.self_signed(&key).unwrap();
    (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).unwrap())
}

fn roots(certificate: &CertificateDer<'static>) -> Trust {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    Trust::Roots(Arc::new(roots))
}

/// A server with a fresh certificate, and a client that trusts it.
fn configs() -> (ClientConfig, ServerConfig) {
    let (certificate, key) = certificate(&PKCS_ECDSA_P256_SHA256);
    let client = ClientConfig::builder(roots(&certificate)).build().unwrap();
    (client, ServerConfig::builder(vec![certificate], key).unwrap().build().unwrap())
}

/// What goes from one side to the other.
#[derive(Clone)]
struct Piece {
    to: Side,
    space: Space,
    offset: u64,
    bytes: Vec<u8>,
}

struct Pair {
    client: Crypto,
    server: Crypto,
    rng: StdRng,
    now: Instant,
    // Every CRYPTO byte that was sent: what an observer of the handshake sees.
    trace: Vec<u8>,
}

impl Pair {
    fn new(client: &ClientConfig, server: &ServerConfig, seed: u64) -> Self {
        println!("seed {seed}");
        Self {
            client: Crypto::client(client, "localhost", to(), b"client's".to_vec()).unwrap(),
            server: Crypto::server(server, to(), b"server's".to_vec()).unwrap(),
            rng: StdRng::seed_from_u64(seed),
            now: Instant::now(),
            trace: Vec::new(),
        }
    }

    fn connected(seed: u64) -> Self {
        let (client, server) = configs();
        let mut pair = Self::new(&client, &server, seed);
        pair.run(0.0).unwrap();
        pair
    }

    fn side(&mut self, side: Side) -> &mut Crypto {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    /// Both sides talk until nobody has anything to say. `loss` of the frames are lost, others repeated, all shuffled.
    fn run(&mut self, loss: f64) -> Checked<()> {
        for _ in 0..1_000 {
            let mut pieces = self.poll(Side::Client);
            pieces.extend(self.poll(Side::Server));
            if pieces.is_empty() {
                return Ok(());
            }
            pieces.shuffle(&mut self.rng);
            for piece in pieces {
                if self.rng.random_bool(loss) {
                    self.side(piece.to.peer()).on_lost(piece.space, piece.offset, piece.bytes.len() as u32);
                    continue;
                }
                self.deliver(&piece)?;
                if loss > 0.0 && self.rng.random_bool(0.2) {
                    self.deliver(&piece)?;
                }
            }
        }
        panic!("the handshake does not end");
    }

    fn poll(&mut self, from: Side) -> Vec<Piece> {
        let mut pieces = Vec::new();
        for space in Space::ALL {
            loop {
                let room = self.rng.random_range(1..=400);
                let Some((offset, bytes)) = self.side(from).poll(space, room) else { break };
                let bytes = bytes.to_vec();
                self.trace.extend_from_slice(&bytes);
                pieces.push(Piece { to: from.peer(), space, offset, bytes });
            }
        }
        pieces
    }

    /// A packet that cannot be opened yet is lost; one of a space that is over arrives in vain.
    fn deliver(&mut self, piece: &Piece) -> Checked<()> {
        let level = [Level::Initial, Level::Handshake, Level::OneRtt][piece.space.index()];
        let to = self.side(piece.to);
        if to.remote_header(level).is_none() {
            self.side(piece.to.peer()).on_lost(piece.space, piece.offset, piece.bytes.len() as u32);
            return Ok(());
        }
        to.read(piece.space, piece.offset, &piece.bytes)?;
        if self.server.is_complete() && !self.server.confirmed {
            self.server.confirm();
        }
        if self.server.confirmed && self.client.is_complete() && !self.client.confirmed {
            self.client.confirm();
        }
        self.side(piece.to.peer()).on_acked(piece.space, piece.offset, piece.bytes.len() as u32);
        Ok(())
    }

    /// Seals a packet with the number `number`.
    fn seal(&mut self, from: Side, number: u64) -> Vec<u8> {
        let crypto = self.side(from);
        let mut out = Vec::new();
        let sealing = crypto.sealing(Level::OneRtt).unwrap();
        let draft = encode_short(to(), sealing.phase, false, number, None, &mut out);
        out.extend_from_slice(b"\x01 a frame or two");
        draft.seal(sealing.header, sealing.packet, &mut out);
        crypto.on_sealed(Level::OneRtt, number).unwrap();
        out
    }

    /// Opens a packet.
    fn open(&mut self, at: Side, bytes: &[u8]) -> Result<Generation, OpenError> {
        let (now, crypto) = (self.now, self.side(at));
        let mut bytes = bytes.to_vec();
        let header = crypto.remote_header(Level::OneRtt).expect("keys");
        let bare = unprotect(&mut bytes, 17, header, 0).expect("long enough");
        let opening = crypto.opening(now, Level::OneRtt, bare.key_phase(), bare.number).expect("keys");
        let generation = opening.generation;
        match open(&mut bytes, &bare, opening.key) {
            Ok(_) => crypto.on_opened(now, PTO, Level::OneRtt, bare.number, generation)?,
            Err(error) => {
                crypto.on_forged()?;
                return Err(error);
            }
        }
        Ok(generation)
    }

    /// Seals, opens, acknowledges.
    fn exchange(&mut self, from: Side, number: u64) -> Generation {
        let bytes = self.seal(from, number);
        let generation = self.open(from.peer(), &bytes).unwrap();
        self.side(from).on_ack(Generation::Current, number).unwrap();
        generation
    }
}
