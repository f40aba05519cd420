//! How large a datagram may be on a path: packetization-layer discovery (RFC 8899, RFC 9000 section 14.3).

use std::time::{Duration, Instant};

use crate::config::{DATAGRAM_MAX, DATAGRAM_MIN};

/// What every path carries: a handshake with smaller datagrams does not come about (RFC 9000, section 14).
pub(crate) const MTU_BASE: u16 = DATAGRAM_MIN as u16;

/// Probes of one size that must be lost before it counts as too large. At 15 % random loss three are lost by chance in
/// 0.3 % of all cases; the search is then over too early, and begun again after [`RAISE_AFTER`].
const TRIES_MAX: u8 = 3;

/// The search ends when no more than this could be gained.
const PRECISION: u16 = 16;

/// After this time a larger size is tried again: the path may have changed (RFC 8899, section 5.1.1).
const RAISE_AFTER: Duration = Duration::from_secs(600);

/// Packets that must be lost, while none of their size or above arrives, before the path counts as a black hole. At 15 %
/// random loss ten in a row are 6 in a thousand million.
const HOLE_PACKETS: u32 = 10;

/// And over so many round trips, in each of which a smaller packet sent between two lost ones arrived.
const HOLE_ROUNDS: u32 = 3;

/// Sizes above the base are told apart by as much as the search is.
const SIZES: usize = (DATAGRAM_MAX - DATAGRAM_MIN).div_ceil(PRECISION as usize);

/// The size of datagrams on one path. What it says changes by probes alone: packets one size larger, whose loss says
/// nothing about congestion.
#[derive(Clone, Debug)]
pub(crate) struct Mtu {
    current: u16,
    // The configured maximum, or the peer's.
    max: u16,
    // The smallest size that is known to be too large, or one more than the maximum.
    too_large: u16,
    // Size of the probe under way.
    probe: Option<u16>,
    // Lost probes of the size under search.
    tries: u8,
    // When the search goes on, once it is over.
    raise_at: Option<Instant>,
    // The largest size above the base that arrived in a packet, and the largest number of such.
    proof: Option<(u16, u64)>,
    // When the last acknowledged packet was sent that was smaller than those lost.
    small_sent_at: Option<Instant>,
    suspicion: Option<Suspicion>,
}

/// Large packets are lost in a row.
#[derive(Clone, Copy, Debug)]
struct Suspicion {
    // By size, since one of that size or above arrived.
    lost: [u8; SIZES],
    rounds: u32,
    // When the first lost packet of this round was sent.
    since: Instant,
    // When the first small packet after it that arrived was sent.
    small_sent_at: Option<Instant>,
}

impl Mtu {
    /// Nothing is known yet; `max` is what may be tried.
    pub(crate) fn new(max: u16) -> Self {
        let max = max.max(MTU_BASE);
        Self {
            current: MTU_BASE,
            max,
            too_large: max.saturating_add(1),
            probe: None,
            tries: 0,
            raise_at: None,
            proof: None,
            small_sent_at: None,
            suspicion: None,
        }
    }

    /// The peer takes no larger datagrams than this.
    pub(crate) fn limit(&mut self, udp_payload_max: u16) {
        self.max = self.max.min(udp_payload_max).max(MTU_BASE);
        self.too_large = self.too_large.min(self.max.saturating_add(1));
        self.current = self.current.min(self.max);
    }

    /// The same on a path that differs by a port only: what is under way there will never be heard of.
    pub(crate) fn on_moved(&self) -> Self {
        Self { probe: None, suspicion: None, ..self.clone() }
    }

    /// Bytes of a datagram at most.
    pub(crate) fn current(&self) -> u16 {
        self.current
    }

    /// Bytes of a datagram that is sent because the peer is silent: if the path has become a black hole, it still
    /// passes.
    pub(crate) fn probe_timeout_size(&self) -> u16 {
        MTU_BASE
    }

    /// The size of a probe that should be sent now. To be asked when there is a connection to keep busy and congestion
    /// control allows; [`Self::on_probe_sent`] follows.
    pub(crate) fn probe_due(&self, now: Instant) -> Option<u16> {
        if self.probe.is_some() {
            return None;
        }
        let too_large = match self.raise_at {
            None => self.too_large,
            Some(at) if at <= now => self.max + 1,
            Some(_) => return None,
        };
        let gain = (too_large - 1).saturating_sub(self.current);
        // The whole range first: most paths carry the maximum, and then one probe is enough.
        let is_first = too_large == self.max + 1;
        match gain {
            0 => None,
            _ if is_first => Some(self.max),
            _ if gain < PRECISION => None,
            _ => Some(self.current + gain.div_ceil(2)),
        }
    }

    /// The probe was sent.
    pub(crate) fn on_probe_sent(&mut self, now: Instant, size: u16) {
        if self.raise_at.is_some_and(|at| at <= now) {
            self.raise_at = None;
            self.too_large = self.max + 1;
        }
        self.probe = Some(size);
    }

    /// A probe arrived. The new size, if it is one.
    pub(crate) fn on_probe_acked(&mut self, now: Instant, number: u64, size: u16) -> Option<u16> {
        self.probe.take_if(|probe| *probe == size);
        self.on_large(number, size);
        if size <= self.current || size >= self.too_large {
            return None;
        }
        self.tries = 0;
        self.current = size;
        self.check_end(now);
        Some(size)
    }

    /// A probe was lost, or the kernel would not send it.
    pub(crate) fn on_probe_lost(&mut self, now: Instant, size: u16) {
        if self.probe.take_if(|probe| *probe == size).is_none() {
            return;
        }
        self.tries += 1;
        if self.tries >= TRIES_MAX {
            self.tries = 0;
            self.too_large = self.too_large.min(size);
            self.check_end(now);
        }
    }

    /// An ordinary packet of this number and size arrived.
    pub(crate) fn on_acked(&mut self, number: u64, size: u16, sent_at: Instant) {
        if size > MTU_BASE {
            self.on_large(number, size);
        }
        if size >= self.current {
            return;
        }
        self.small_sent_at = self.small_sent_at.max(Some(sent_at));
        if let Some(suspicion) = &mut self.suspicion
            && sent_at >= suspicion.since
        {
            suspicion.small_sent_at = Some(suspicion.small_sent_at.map_or(sent_at, |before| before.min(sent_at)));
        }
    }

    /// An ordinary packet was lost. The new size, when that shows that the path carries only smaller ones by now.
    pub(crate) fn on_lost(
        &mut self,
        now: Instant,
        rtt: Duration,
        number: u64,
        size: u16,
        sent_at: Instant,
    ) -> Option<u16> {
        let disproved = self.proof.is_some_and(|(proven, later)| size <= proven && number < later);
        if size <= MTU_BASE || self.current <= MTU_BASE || disproved {
            return None;
        }
        let small_sent_at = self.small_sent_at.filter(|small| *small >= sent_at);
        let none = Suspicion { lost: [0; SIZES], rounds: 0, since: sent_at, small_sent_at };
        let suspicion = self.suspicion.get_or_insert(none);
        let lost = &mut suspicion.lost[index(size)];
        *lost = lost.saturating_add(1);
        // Only a small packet between two large ones proves anything: after an outage of the whole path, all that was
        // sent last arrives, whatever its size.
        if sent_at >= suspicion.since + rtt && suspicion.small_sent_at.is_some_and(|small| small < sent_at) {
            suspicion.rounds += 1;
            suspicion.since = sent_at;
            suspicion.small_sent_at = small_sent_at;
        }
        //= SPEC.md#15
        //# An MTU is a black hole only when all packets of one size and above were lost, at least 10 and for 3 round trips,
        //# and smaller ones sent between them were not.
        let lost: u32 = suspicion.lost.iter().copied().map(u32::from).sum();
        if lost < HOLE_PACKETS || suspicion.rounds < HOLE_ROUNDS {
            return None;
        }
        self.too_large = self.current;
        self.current = MTU_BASE;
        (self.suspicion, self.proof, self.probe, self.tries, self.raise_at) = (None, None, None, 0, None);
        self.check_end(now);
        Some(self.current)
    }

    /// A packet above the base size arrived: so may all up to its size, whatever was lost of them.
    fn on_large(&mut self, number: u64, size: u16) {
        self.proof = match self.proof {
            Some((proven, later)) if proven > size => Some((proven, later)),
            Some((proven, later)) if proven == size => Some((size, later.max(number))),
            _ => Some((size, number)),
        };
        let has_news = self.suspicion.as_mut().is_some_and(|suspicion| {
            suspicion.lost[..=index(size)].fill(0);
            suspicion.lost == [0; SIZES]
        });
        if has_news {
            self.suspicion = None;
        }
    }

    /// Sets the time of the next search when this one is over and left something to gain.
    fn check_end(&mut self, now: Instant) {
        if self.probe_due(now).is_none() && self.current < self.max {
            self.raise_at = Some(now + RAISE_AFTER);
        }
    }
}

/// Which of the sizes above the base this is.
fn index(size: u16) -> usize {
    (usize::from(size.saturating_sub(MTU_BASE + 1)) / usize::from(PRECISION)).min(SIZES - 1)
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;

    const MTU_MAX: u16 = crate::config::DATAGRAM_MAX as u16;
    const RTT: Duration = Duration::from_millis(40);

    /// A path that carries datagrams up to `carries`, and loses `loss` of those. Its sender learns of every fate a
    /// round trip later, of a whole flight at once, acknowledgements before losses: as from one ACK frame.
    struct Link {
        mtu: Mtu,
        now: Instant,
        carries: u16,
        loss: f64,
        rng: StdRng,
        number: u64,
        fell: u32,
    }

    impl Link {
        fn new(carries: u16, loss: f64, seed: u64) -> Self {
            let rng = StdRng::seed_from_u64(seed);
            Self { mtu: Mtu::new(MTU_MAX), now: Instant::now(), carries, loss, rng, number: 0, fell: 0 }
        }

        /// One round trip with packets of these sizes, and a probe if one is due. 0 stands for the present size.
        fn round(&mut self, sizes: &[u16]) {
            let (sent_at, mut fates) = (self.now, Vec::new());
            if let Some(size) = self.mtu.probe_due(sent_at) {
                self.mtu.on_probe_sent(sent_at, size);
                fates.push((true, self.number, size, self.passes(size), sent_at));
                self.number += 1;
            }
            for (at, size) in sizes.iter().enumerate() {
                let size = if *size == 0 { self.mtu.current() } else { *size };
                let sent_at = sent_at + RTT * at as u32 / sizes.len() as u32;
                fates.push((false, self.number, size, self.passes(size), sent_at));
                self.number += 1;
            }
            self.now += RTT;
            for (is_probe, number, size, passes, sent_at) in fates.iter().copied() {
                match (passes, is_probe) {
                    (true, true) => drop(self.mtu.on_probe_acked(self.now, number, size)),
                    (true, false) => self.mtu.on_acked(number, size, sent_at),
                    _ => {}
                }
            }
            // Without a later acknowledgement, nothing is known to be lost.
            let Some(latest) = fates.iter().filter(|fate| fate.3).map(|fate| fate.1).max() else { return };
            for (is_probe, number, size, passes, sent_at) in fates {
                if !passes && is_probe {
                    self.mtu.on_probe_lost(self.now, size);
                } else if !passes && number < latest {
                    self.fell += u32::from(self.mtu.on_lost(self.now, RTT, number, size, sent_at).is_some());
                }
            }
        }

        fn passes(&mut self, size: u16) -> bool {
            size <= self.carries && !self.rng.random_bool(self.loss)
        }
    }

    #[test]
    fn the_search_finds_what_a_path_carries() {
        for carries in (MTU_BASE..=1500).step_by(7) {
            let mut link = Link::new(carries, 0.0, 1);
            (0..40).for_each(|_| link.round(&[0; 4]));
            let found = link.mtu.current();
            assert!(found <= carries && found + PRECISION >= carries.min(MTU_MAX), "{found} of {carries}");
            assert_eq!(link.fell, 0);
        }
        let mut link = Link::new(1500, 0.0, 1);
        link.round(&[]);
        assert_eq!(link.mtu.current(), MTU_MAX, "one round trip, where all is well");
        assert_eq!(link.mtu.probe_due(link.now), None);
    }

    #[test]
    fn the_search_survives_loss() {
        let mut right = 0;
        for seed in 0..200 {
            let mut link = Link::new(1400, 0.15, seed);
            (0..100).for_each(|_| link.round(&[0; 8]));
            assert!(link.mtu.current() <= 1400);
            right += u32::from(link.mtu.current() > 1400 - PRECISION);
        }
        assert!(right > 190, "{right} of 200");
    }

    #[test]
    fn the_peers_limit_holds() {
        let mut link = Link::new(1500, 0.0, 1);
        link.mtu.limit(1300);
        (0..20).for_each(|_| link.round(&[0]));
        assert_eq!(link.mtu.current(), 1300);
        link.mtu.limit(100);
        assert_eq!(link.mtu.current(), MTU_BASE, "nobody may ask for less");
    }

    #[test]
    fn a_wrong_result_is_corrected_in_time() {
        let mut link = Link::new(1250, 0.0, 1);
        (0..40).for_each(|_| link.round(&[0]));
        assert!(link.mtu.current() <= 1250);
        link.carries = 1500;
        (0..40).for_each(|_| link.round(&[0]));
        assert!(link.mtu.current() <= 1250, "the path is not asked all the time");
        link.now += RAISE_AFTER;
        link.round(&[0]);
        assert_eq!(link.mtu.current(), MTU_MAX);
    }

    #[test]
    fn random_loss_is_no_black_hole() {
        // A bulk transfer, a busy game, one large message per round trip between small ones.
        let flows: [&[u16]; 3] = [&[0; 50], &[200, 0, 200, 200, 0, 200], &[200, 0, 200]];
        for (seed, flow) in flows.iter().cycle().take(30).enumerate() {
            let mut link = Link::new(1500, 0.15, seed as u64);
            (0..20_000).for_each(|_| link.round(flow));
            assert_eq!((link.fell, link.mtu.current()), (0, MTU_MAX), "seed {seed}");
        }
    }

    #[test]
    fn an_outage_of_everything_is_no_black_hole() {
        for seed in 0..50 {
            let mut link = Link::new(1500, 0.0, seed);
            (0..10).for_each(|_| link.round(&[0, 200, 0, 200]));
            // Nothing passes for 250 ms, and the first to pass is small: all at once is lost that was sent before.
            let (mtu, mut lost) = (&mut link.mtu, Vec::new());
            for at in 0..25 {
                lost.push((link.number + at, link.now + Duration::from_millis(10) * at as u32));
            }
            mtu.on_acked(link.number + 25, 200, link.now + Duration::from_millis(250));
            for (number, sent_at) in lost {
                assert_eq!(mtu.on_lost(link.now + Duration::from_millis(290), RTT, number, MTU_MAX, sent_at), None);
            }
        }
    }

    #[test]
    fn what_was_lost_before_a_large_packet_arrived_proves_nothing() {
        let mut link = Link::new(1500, 0.0, 1);
        (0..10).for_each(|_| link.round(&[0]));
        // Reported late, after the acknowledgement of a large packet that was sent last.
        let (mtu, start) = (&mut link.mtu, link.now);
        mtu.on_acked(1_000, MTU_MAX, start + 30 * RTT);
        for at in 0..30 {
            mtu.on_acked(501 + 2 * u64::from(at), 200, start + RTT * at + RTT / 2);
            assert_eq!(mtu.on_lost(start + 31 * RTT, RTT, 500 + 2 * u64::from(at), MTU_MAX, start + RTT * at), None);
        }
    }

    #[test]
    fn a_black_hole_is_noticed_and_measured_anew() {
        // Probe timeouts send small packets, so that something passes: see `probe_timeout_size`.
        // One that is a little larger than the smallest, as parity of what a probe resends is, proves nothing.
        let flows = [[0, 0, 0, 0, 1200], [0, 200, 0, 200, 0], [0, 0, 200, 200, 200], [0, 0, 0, 0, 1_216]];
        for (seed, flow) in flows.iter().enumerate() {
            let mut link = Link::new(1500, 0.05, seed as u64);
            (0..50).for_each(|_| link.round(flow));
            assert_eq!(link.mtu.current(), MTU_MAX);
            link.carries = 1280;
            let mut rounds = 0;
            while link.fell == 0 {
                link.round(flow);
                rounds += 1;
                assert!(rounds < 30, "the hole swallows everything");
            }
            println!("noticed after {rounds} round trips");
            (0..60).for_each(|_| link.round(flow));
            assert!(link.mtu.current() > 1280 - PRECISION && link.mtu.current() <= 1280, "{}", link.mtu.current());
            assert_eq!(link.fell, 1);
        }
    }
}
