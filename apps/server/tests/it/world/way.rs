//! The UDP side of the world: a bad way in each direction between a client and the shards, with an address translator
//! that forgets, and a filter in front of the shards that sometimes errs.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use simnet::{Link, LinkConfig, Loss, Reorder};

/// A datagram on its way, with the client's address as the server sees it.
#[derive(Clone, Debug)]
pub(crate) struct Parcel {
    pub(crate) peer: SocketAddr,
    pub(crate) bytes: Vec<u8>,
}

impl AsRef<[u8]> for Parcel {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsMut<[u8]> for Parcel {
    fn as_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

/// Both directions of one client's way.
pub(crate) struct Way {
    pub(crate) up: Link<Parcel>,
    pub(crate) down: Link<Parcel>,
    address: SocketAddr,
    config: LinkConfig,
    /// Until when nothing passes.
    dead_until: Option<Instant>,
}

impl Way {
    pub(crate) fn new(seed: u64, number: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let config = LinkConfig {
            delay: Duration::from_millis(rng.random_range(0..80)),
            jitter: Duration::from_millis(rng.random_range(0..20)),
            rate_bytes_per_s: rng.random_bool(0.3).then(|| rng.random_range(50_000..500_000)),
            queue_bytes: rng.random_range(20_000..200_000),
            loss: match rng.random_range(0..3) {
                0 => Loss::None,
                1 => Loss::Iid(rng.random_range(0.0..0.2)),
                _ => Loss::GilbertElliott { to_bad: 0.02, to_good: 0.3, good: 0.0, bad: 0.5 },
            },
            reorder: Reorder {
                probability: rng.random_range(0.0..0.1),
                hold: Duration::from_millis(rng.random_range(0..30)),
            },
            duplicate: rng.random_range(0.0..0.05),
            corrupt: rng.random_range(0.0..0.02),
            ..LinkConfig::default()
        };
        Self {
            up: Link::new(rng.random(), config),
            down: Link::new(rng.random(), config),
            address: ([10, 0, (number >> 8) as u8, number as u8], 40_000).into(),
            config,
            dead_until: None,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The translator gives the client another port; what is on its way to the old one reaches nobody.
    pub(crate) fn rebind(&mut self) {
        self.address.set_port(self.address.port().wrapping_add(1));
    }

    /// Nothing passes until then.
    pub(crate) fn cut(&mut self, until: Instant) {
        self.dead_until = Some(until);
        self.configure(LinkConfig { down: true, ..self.config });
    }

    /// Ends a cut whose time is over.
    pub(crate) fn mend(&mut self, now: Instant) {
        if self.dead_until.is_some_and(|until| until <= now) {
            self.dead_until = None;
            self.configure(self.config);
        }
    }

    /// From now on it is only slow.
    pub(crate) fn calm(&mut self) {
        self.config = LinkConfig { loss: Loss::None, corrupt: 0.0, ..self.config };
        self.configure(self.config);
        self.dead_until = None;
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        [self.up.deadline(), self.down.deadline(), self.dead_until].into_iter().flatten().min()
    }

    fn configure(&mut self, config: LinkConfig) {
        self.up.configure(config);
        self.down.configure(config);
    }
}
