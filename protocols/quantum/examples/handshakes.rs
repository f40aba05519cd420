//! Many connections from one client to one server in memory: what a handshake costs, and what an idle connection holds.
//!
//! ```text
//! cargo run --release -p quantum --example handshakes -- 20000
//! ```

use std::{
    env, fs,
    time::{Duration, Instant},
};

use quantum::{ClientConfig, Endpoint, EndpointConfig, Event, Meta, ServerConfig, Transport, crypto::Trust};

/// Handshakes that are under way at once.
const AT_ONCE: usize = 64;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count: usize = env::args().nth(1).unwrap_or_else(|| "20000".to_owned()).parse()?;
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into();
    let server = ServerConfig::builder(vec![made.cert.der().clone()], key)?.build()?;
    let client = ClientConfig::builder(Trust::DangerousAnybody).build()?;
    let transport = || Transport { idle_timeout: Duration::from_secs(3600), ..Transport::default() };
    let mut ends = [
        Endpoint::new(EndpointConfig::single([1; 32], transport()), None, [1; 32]),
        Endpoint::new(EndpointConfig::single([2; 32], transport()), Some(server), [2; 32]),
    ];
    let before = resident()?;
    let (from, mut now) = (Instant::now(), Instant::now());
    let (mut begun, mut connected, mut busy) = (0, 0, [Duration::ZERO; 2]);
    while connected < count {
        while begun < count && begun < connected + AT_ONCE {
            ends[0].connect(now, 0, "127.0.0.1:1".parse()?, "localhost", &client)?;
            begun += 1;
        }
        now += Duration::from_millis(1);
        connected += lap(now, &mut ends, &mut busy);
    }
    let took = from.elapsed();
    for _ in 0..3_000 {
        now += Duration::from_millis(1);
        lap(now, &mut ends, &mut busy);
    }
    let per_second = |time: Duration| count as f64 / time.as_secs_f64();
    println!("{count} handshakes in {took:?}");
    println!("client {:.0}/s, server {:.0}/s, each on a core", per_second(busy[0]), per_second(busy[1]));
    println!("{} bytes per connection, both ends together", (resident()? - before) / count);
    Ok(())
}

/// Both ends once; how many clients were connected by it.
fn lap(now: Instant, ends: &mut [Endpoint; 2], busy: &mut [Duration; 2]) -> usize {
    let meta = Meta { remote: "127.0.0.1:1".parse().expect("an address"), ecn: 0 };
    let mut buffer = Vec::new();
    for from in 0..2 {
        let begun = Instant::now();
        ends[from].handle_timeout(now);
        busy[from] += begun.elapsed();
        loop {
            let begun = Instant::now();
            let Some(transmit) = ends[from].poll_transmit(now, &mut buffer) else { break };
            let sent = Instant::now();
            for datagram in buffer.chunks_mut(transmit.segment) {
                ends[1 - from].handle(now, 0, meta, datagram);
            }
            busy[from] += sent - begun;
            busy[1 - from] += sent.elapsed();
        }
    }
    while ends[1].poll_event().is_some() {}
    std::iter::from_fn(|| ends[0].poll_event()).filter(|(_, event)| *event == Event::Connected).count()
}

/// Bytes of memory that this process holds.
fn resident() -> Result<usize, Box<dyn std::error::Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
    let kilobytes: usize = line.split_whitespace().nth(1).ok_or("no number")?.parse()?;
    Ok(kilobytes * 1024)
}
