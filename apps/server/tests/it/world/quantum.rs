//! Quantum in the world: keys that follow from the seed, and a client's end on its own bad way.

use std::{
    sync::{Arc, LazyLock},
    time::Instant,
};

use quantum::{
    ClientConfig, Meta, ServerConfig, Transport,
    crypto::{
        Trust,
        simulation::{self, Clock},
    },
};
use rand::Rng;
use rcgen::{CertificateParams, KeyPair};
use ringshard::{
    client::{self, Client},
    setup,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

use super::{
    end::{End, Heard},
    kernel::{Kernel, SERVER, WALL_MS},
};

/// A key of Ed25519, whose signatures follow from what is signed.
const KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
                   MC4CAQAwBQYDK2VwBCIEIHd0z1jh1+RWne9HvR4yOOhf4+mkeMceMIMp00kGaOcN\n\
                   -----END PRIVATE KEY-----\n";

/// One certificate for all worlds: it says nothing that is not always the same.
static CERTIFICATE: LazyLock<(CertificateDer<'static>, PrivateKeyDer<'static>)> = LazyLock::new(|| {
    let key = KeyPair::from_pem(KEY).expect("a key");
    let mut params = CertificateParams::new(["world".to_owned()]).expect("a name");
    params.serial_number = Some(7u64.into());
    let certificate = params.self_signed(&key).expect("a certificate");
    (certificate.der().clone(), PrivateKeyDer::try_from(key.serialize_der()).expect("its key"))
});

/// What the shards of a world and its clients need to speak Quantum.
pub(crate) struct Keys {
    pub(crate) clock: Arc<Clock>,
    pub(crate) server: setup::Quantum,
    pub(crate) client: ClientConfig,
}

impl Keys {
    pub(crate) fn new(rng: &mut impl Rng) -> Self {
        let (clock, provider) = (Clock::new(WALL_MS), simulation::provider(rng.random()));
        let (certificate, key) = (CERTIFICATE.0.clone(), CERTIFICATE.1.clone_key());
        let trust = Trust::Certificate(Sha256::digest(&certificate).into());
        let server = ServerConfig::builder(vec![certificate], key).expect("the key fits");
        let server = server.clock(clock.clone()).provider(provider.clone()).build().expect("a configuration");
        let client = ClientConfig::builder(trust).clock(clock.clone()).provider(provider);
        let client = client.build().expect("a configuration");
        Self { clock, server: setup::Quantum::new(rng.random::<u32>() | 1, server, rng), client }
    }
}

/// A client's end: its endpoint, and the way to the shards.
pub(crate) struct Line {
    client: Client,
    way: usize,
}

impl Line {
    pub(crate) fn new(kernel: &mut Kernel, config: &ClientConfig, seed: [u8; 32]) -> Self {
        Self { client: Client::new(config.clone(), Transport::default(), seed), way: kernel.pave() }
    }
}

impl End for Line {
    fn way(&self) -> usize {
        self.way
    }

    fn deadline(&mut self) -> Option<Instant> {
        self.client.deadline()
    }

    fn connect(&mut self, kernel: &mut Kernel) {
        self.client.connect(kernel.now, kernel.unix_ms(), SERVER, "world").expect("it may connect");
        self.send(kernel);
    }

    fn exchange(&mut self, kernel: &mut Kernel) -> Vec<Heard> {
        while let Some(mut datagram) = kernel.receive_datagram(self.way) {
            self.client.handle(kernel.now, kernel.unix_ms(), Meta { remote: SERVER, ecn: 0 }, &mut datagram);
        }
        if self.client.deadline().is_some_and(|at| at <= kernel.now) {
            self.client.handle_timeout(kernel.now);
        }
        self.send(kernel);
        let heard = std::iter::from_fn(|| self.client.poll());
        let heard = heard.map(|one| match one {
            client::Heard::Up => Heard::Up,
            client::Heard::Frame(frame) => Heard::Frame(frame),
            client::Heard::Ended | client::Heard::Closed(_) => Heard::Over,
        });
        heard.collect()
    }

    fn send(&mut self, kernel: &mut Kernel) {
        let mut train = Vec::new();
        while let Some(transmit) = self.client.poll_transmit(kernel.now, &mut train) {
            kernel.send_datagrams(self.way, &train, transmit.segment);
        }
    }

    fn say(&mut self, _: &Kernel, frame: &[u8]) {
        self.client.say(frame);
    }

    fn wave(&mut self, _: &Kernel, frame: &[u8]) {
        self.client.wave(frame);
    }

    fn stall(&mut self, _: &Kernel, stalled: bool) {
        self.client.stall(stalled);
    }

    fn wander(&mut self, kernel: &mut Kernel) {
        kernel.way(self.way).rebind();
    }

    fn finish(&mut self, _: &Kernel, _: &[u8]) -> bool {
        self.client.finish();
        false
    }

    fn close(&mut self, kernel: &Kernel) {
        self.client.close(kernel.now);
    }

    fn vanish(&mut self) {
        self.client.vanish();
    }
}
