//! The first lost packet does not wait for the tables of the code: whoever has an endpoint has them.

use std::alloc::System;

use quantum::{Endpoint, EndpointConfig, Transport, fec};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

// One test: the tables are those of the whole process.
#[test]
fn an_endpoint_brings_the_tables_of_the_code() {
    let boot = Region::new(ALLOCATOR);
    let endpoint = Endpoint::new(EndpointConfig::single([1; 32], Transport::default()), None, [2; 32]);
    let at_boot = boot.change().bytes_allocated;
    assert!(at_boot > 4 << 20, "{at_boot} bytes: where are the tables?");
    let first = Region::new(ALLOCATOR);
    assert!(fec::cost_decode(10, 3, 1_200, 2, 1) > 0);
    let later = first.change().bytes_allocated;
    assert!(later < 1 << 20, "{later} bytes for the first lost packet");
    drop(endpoint);
}
