//! A client and a server with nothing between them, for the targets that need keys.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use quantum::{
    ClientConfig, CloseReason, Connection, Endpoint, EndpointConfig, Event, Handle, Meta, ServerConfig, Side,
    Transport, Verdict,
    crypto::{Trust, simulation},
};
use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
};

/// The wall clock when everything begins.
pub(crate) const EPOCH_MS: u64 = 1_800_000_000_000;

/// An Ed25519 key in PKCS #8 (RFC 8410) but for its 32 bytes.
const KEY_HEAD: [u8; 16] = [0x30, 46, 2, 1, 0, 0x30, 5, 6, 3, 0x2B, 0x65, 0x70, 4, 34, 4, 32];

/// Datagrams of one end in a row, at most: a window of them.
const DATAGRAMS_MAX: usize = 10_000;

/// Timers that may go off before time has passed.
const STUCK_MAX: usize = 10;

pub(crate) fn client_address() -> SocketAddr {
    ([192, 0, 2, 1], 40_000).into()
}

fn server_address() -> SocketAddr {
    ([198, 51, 100, 1], 8_443).into()
}

/// Made once: simulations never give back what they make.
fn provider() -> Arc<CryptoProvider> {
    static MADE: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(MADE.get_or_init(|| simulation::provider(1)))
}

fn server_config() -> ServerConfig {
    static MADE: OnceLock<(CertificateDer<'static>, PrivatePkcs8KeyDer<'static>)> = OnceLock::new();
    let (certificate, key) = MADE.get_or_init(|| {
        let key = PrivatePkcs8KeyDer::from([&KEY_HEAD[..], &[7; 32]].concat());
        let pair = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&key, &rcgen::PKCS_ED25519).expect("a key");
        let parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        (parameters.self_signed(&pair).expect("a certificate").der().clone(), key)
    });
    ServerConfig::builder(vec![certificate.clone()], key.clone_key().into())
        .expect("a certificate and its key")
        .provider(provider())
        .clock(simulation::Clock::new(EPOCH_MS))
        .build()
        .expect("a configuration")
}

/// Limits that everything runs into.
fn transport() -> Transport {
    Transport {
        idle_timeout: Duration::from_secs(5),
        data_max: 64 * 1024,
        data_window_max: 64 * 1024,
        stream_data_max: 32 * 1024,
        stream_window_max: 32 * 1024,
        message_max: 16 * 1024,
        message_bytes_max: 64 * 1024,
        datagram_bytes_max: 16 * 1024,
        symbol_bytes_max: 64 * 1024,
        ..Transport::default()
    }
}

/// A server with them.
pub(crate) fn server(change: impl FnOnce(&mut EndpointConfig)) -> Endpoint {
    let mut config = EndpointConfig::single([9; 32], transport());
    change(&mut config);
    Endpoint::new(config, Some(server_config()), [2; 32])
}

/// One end, and why its connections are over.
pub(crate) struct End {
    pub(crate) endpoint: Endpoint,
    pub(crate) handle: Handle,
    pub(crate) closed: Vec<(Handle, CloseReason)>,
    address: SocketAddr,
}

impl End {
    pub(crate) fn connection(&mut self) -> Option<&mut Connection> {
        self.endpoint.connection(self.handle)
    }

    fn take_events(&mut self) {
        while let Some((handle, event)) = self.endpoint.poll_event() {
            let ended = self.closed.iter().any(|(closed, _)| *closed == handle);
            assert!(!ended, "{event:?} after the end");
            if let Event::Closed(reason) = event {
                self.closed.push((handle, reason));
            }
        }
    }
}

/// Both ends.
pub(crate) struct Pair {
    pub(crate) now: Instant,
    began: Instant,
    pub(crate) client: End,
    pub(crate) server: End,
}

impl Pair {
    /// A server, and a client whose first packet is still to be sent.
    pub(crate) fn new(change: impl FnOnce(&mut EndpointConfig)) -> Self {
        let now = Instant::now();
        let config = EndpointConfig::single([8; 32], transport());
        let mut client = Endpoint::new(config, None, [1; 32]);
        let clock = simulation::Clock::new(EPOCH_MS);
        let tls = ClientConfig::builder(Trust::DangerousAnybody).provider(provider()).clock(clock).build();
        let tls = tls.expect("a configuration");
        let handle = client.connect(now, EPOCH_MS, server_address(), "localhost", &tls).expect("a connection");
        let end = |endpoint, handle, address| End { endpoint, handle, closed: Vec::new(), address };
        let client = end(client, handle, client_address());
        // It will have the first slot there, too.
        Self { now, began: now, client, server: end(server(change), handle, server_address()) }
    }

    pub(crate) fn end(&mut self, side: Side) -> &mut End {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    /// All that a side has to send reaches the other; what that was.
    pub(crate) fn pass(&mut self, side: Side) -> Vec<Vec<u8>> {
        let unix_ms = EPOCH_MS + (self.now - self.began).as_millis() as u64;
        let (from, to) = match side {
            Side::Client => (&mut self.client, &mut self.server),
            Side::Server => (&mut self.server, &mut self.client),
        };
        let (mut train, mut passed) = (Vec::new(), Vec::new());
        while let Some(transmit) = from.endpoint.poll_transmit(self.now, &mut train) {
            for datagram in train.chunks_mut(transmit.segment) {
                passed.push(datagram.to_vec());
                let meta = Meta { remote: from.address, ecn: transmit.ecn };
                let verdict = to.endpoint.handle(self.now, unix_ms, meta, datagram);
                assert!(!matches!(verdict, Verdict::Foreign(_)), "there is one shard");
            }
            assert!(passed.len() < DATAGRAMS_MAX, "an end sends without end");
        }
        self.client.take_events();
        self.server.take_events();
        passed
    }

    /// Both sides say what they have to say, and time passes.
    pub(crate) fn run(&mut self, time: Duration) {
        let (until, mut stuck) = (self.now + time, 0);
        loop {
            self.pass(Side::Client);
            self.pass(Side::Server);
            let next = [&self.client, &self.server].into_iter().filter_map(|end| end.endpoint.deadline()).min();
            let Some(at) = next.filter(|at| *at <= until) else { break };
            stuck = if at <= self.now { stuck + 1 } else { 0 };
            assert!(stuck < STUCK_MAX, "time stands still");
            self.now = at.max(self.now);
            for end in [&mut self.client, &mut self.server] {
                if end.endpoint.deadline().is_some_and(|at| at <= self.now) {
                    end.endpoint.handle_timeout(self.now);
                }
            }
        }
        self.now = until;
    }
}
