//! Handshakes that repeat bit for bit from a seed. Whoever sees such a handshake can derive its keys: never outside of
//! simulations, and never in a release build (feature `simulation`).

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rand::{RngCore, SeedableRng, rngs::StdRng};
use rustls::{
    Error, NamedGroup,
    crypto::{ActiveKeyExchange, CryptoProvider, GetRandomFailed, SecureRandom, SharedSecret, SupportedKxGroup},
    pki_types::UnixTime,
    time_provider::TimeProvider,
};
use sha2::{Digest, Sha256};

/// A provider whose random numbers follow from `seed`, for one simulation and all its configurations. With it, a
/// signature key of Ed25519 (ECDSA draws random numbers that nobody can seed, and its signatures vary in length) and a
/// [`Clock`], both sides send the same bytes in every run.
///
/// Its memory is never freed: rustls asks for `'static` parts.
#[must_use]
pub fn provider(seed: u64) -> Arc<CryptoProvider> {
    let random: &'static Random = Box::leak(Box::new(Random(Mutex::new(StdRng::seed_from_u64(seed)))));
    let group: &'static Group = Box::leak(Box::new(Group(random)));
    Arc::new(CryptoProvider { kx_groups: vec![group], secure_random: random, ..super::config::provider() })
}

/// The wall clock of a simulation.
#[derive(Debug)]
pub struct Clock(AtomicU64);

impl Clock {
    /// A clock that shows `unix_ms` until it is set.
    #[must_use]
    pub fn new(unix_ms: u64) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(unix_ms)))
    }

    /// Sets it.
    pub fn set(&self, unix_ms: u64) {
        self.0.store(unix_ms, Ordering::Relaxed);
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(self.0.load(Ordering::Relaxed))))
    }
}

struct Random(Mutex<StdRng>);

impl SecureRandom for Random {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), GetRandomFailed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(bytes);
        Ok(())
    }
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Random")
    }
}

/// Looks like X25519, and keeps no secret: ring takes no random numbers but the system's for a real one.
#[derive(Debug)]
struct Group(&'static Random);

impl SupportedKxGroup for Group {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut public = [0; 32];
        self.0.fill(&mut public)?;
        Ok(Box::new(Exchange { public }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

struct Exchange {
    public: [u8; 32],
}

impl ActiveKeyExchange for Exchange {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let (first, second) = if &self.public[..] < peer { (&self.public[..], peer) } else { (peer, &self.public[..]) };
        let secret = Sha256::new().chain_update(first).chain_update(second).finalize();
        Ok(SharedSecret::from(&secret[..]))
    }

    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}
