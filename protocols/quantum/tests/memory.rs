//! What an established connection holds of keys, paths and ids.

#![allow(clippy::unwrap_used)]

use std::{alloc::System, sync::Arc};

use quantum::{
    crypto::{ClientConfig, ServerConfig, Trust},
    footprint::Footprint,
};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::{client::ClientSessionMemoryCache, crypto::ring::Ticketer, pki_types::PrivateKeyDer};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CONNECTIONS: usize = 200;

/// Both sides together. A million idle sessions at a server are to fit into a few GiB.
const BOTH_MAX: usize = 9 * 1024;

// One test: the counters are those of the whole process.
#[test]
fn an_established_connection_has_keys_and_no_handshake() {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let server = ServerConfig::builder(vec![certificate.der().clone()], key).unwrap();
    let server = server.ticketer(Ticketer::new().unwrap()).build().unwrap();
    let client = ClientConfig::builder(Trust::DangerousAnybody);
    let client = client.sessions(Arc::new(ClientSessionMemoryCache::new(8))).build().unwrap();
    // The caches fill.
    let warm: Vec<_> = (0..20).map(|_| Footprint::establish(&client, &server)).collect();
    assert!(warm.iter().all(|(client, server)| !client.has_handshake() && !server.has_handshake()));

    let region = Region::new(ALLOCATOR);
    let mut all = Vec::with_capacity(CONNECTIONS);
    all.extend((0..CONNECTIONS).map(|_| Footprint::establish(&client, &server)));
    let change = region.change();
    let held = change.bytes_allocated - change.bytes_deallocated;
    let (inline, both) = (size_of::<Footprint>(), held / CONNECTIONS);
    println!("{both} bytes for both sides, of which 2 * {inline} inline");
    assert!(both <= BOTH_MAX, "{both} bytes");
}
