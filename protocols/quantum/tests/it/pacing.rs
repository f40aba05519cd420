//! What leaves, in time: no faster than the rate says, no more than the window, and none before it is due.

use std::{
    cell::RefCell,
    collections::VecDeque,
    rc::Rc,
    time::{Duration, Instant},
};

use quantum::{Algorithm, Direction, Transport};
use simnet::{LinkConfig, Loss};

use crate::world::World;

const WINDOW: Duration = Duration::from_millis(10);

/// Largest burst after idleness: the initial window, or 2 ms at the rate, at most what one send takes.
fn burst(rate: u64) -> u64 {
    (10 * 1_452).max(rate / 500).min(64 * 1024)
}

/// A bulk transfer; panics when the client sends faster than it should.
fn paced(seed: u64, algorithm: Algorithm, link: LinkConfig) {
    let transport = Transport { algorithm, ..Transport::default() };
    let mut world = World::with(seed, link, transport, Transport::default()).connected();
    let sent = Rc::new(RefCell::new(0u64));
    let bytes = Rc::clone(&sent);
    world.drop_up = Some(Box::new(move |packet| {
        // Acknowledgements are not paced.
        *bytes.borrow_mut() += if packet.bytes.len() > 100 { packet.bytes.len() as u64 } else { 0 };
        false
    }));
    let id = world.client().open(Direction::Unidirectional).unwrap();
    let data = vec![1; 1 << 16];
    let mut recent: VecDeque<(Instant, u64, u64)> = VecDeque::new();
    let (start, mut total, mut most) = (world.now, 0, 0.0f64);
    world.pass(Duration::from_secs(4), |world| {
        while world.client().write(id, &data).is_ok_and(|taken| taken == data.len()) {}
        world.flush();
        while let Ok(chunk) = world.server().chunk(id) {
            let len = chunk.len();
            if len == 0 {
                break;
            }
            world.server().consume(id, len);
            total += len;
        }
        world.flush();
        let (now, stats) = (world.now, world.client().stats());
        recent.push_back((now, std::mem::take(&mut *sent.borrow_mut()), stats.pacing_rate));
        while recent.front().is_some_and(|(at, ..)| now.duration_since(*at) > WINDOW) {
            recent.pop_front();
        }
        // The first window may leave as it is.
        if now.duration_since(start) < Duration::from_millis(300) {
            return;
        }
        let bytes: u64 = recent.iter().map(|(_, bytes, _)| bytes).sum();
        let rate = recent.iter().map(|(.., rate)| *rate).max().unwrap_or(0);
        let allowed = rate as f64 * WINDOW.as_secs_f64() * 1.25 + burst(rate) as f64;
        most = most.max(bytes as f64 / allowed);
        assert!(bytes as f64 <= allowed, "{bytes} bytes in {WINDOW:?} at {rate} bytes a second");
    });
    println!("seed {seed} {algorithm:?}: {total} bytes, at most {:.2} of what is allowed", most);
    assert!(total > 500_000, "{total} bytes in four seconds");
}

#[test]
fn nothing_leaves_faster_than_the_rate_says() {
    for algorithm in [Algorithm::Bbr, Algorithm::Cubic] {
        for (seed, rate, loss) in [(1, 1_250_000, 0.0), (2, 1_250_000, 0.02), (3, 12_500_000, 0.0), (4, 500_000, 0.05)]
        {
            let link = LinkConfig {
                delay: Duration::from_millis(20),
                rate_bytes_per_s: Some(rate),
                queue_bytes: (rate / 20) as usize,
                loss: Loss::Iid(loss),
                ..LinkConfig::default()
            };
            paced(seed, algorithm, link);
        }
    }
}
