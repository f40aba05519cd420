//! Congestion control of one path: how much may be in flight, and how fast it may leave.

mod bbr;
mod cubic;
mod delivery;
mod pacer;
#[cfg(test)]
mod tests;
mod unit;
#[cfg(test)]
mod world;

use std::time::{Duration, Instant};

use self::{bbr::Bbr, cubic::Cubic, delivery::Sampler, pacer::Pacer, unit::Nanos};
use crate::rtt::Rtt;

pub(crate) use self::delivery::Stamp;

/// Which congestion controller a connection uses.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Algorithm {
    /// BBR (draft-ietf-ccwg-bbr): follows the measured rate and delay of the path; random loss does not slow it down.
    #[default]
    Bbr,
    /// CUBIC (RFC 9438) with HyStart++ (RFC 9406): follows loss.
    Cubic,
}

/// The congestion state of one path.
#[derive(Debug)]
pub(crate) struct Congestion {
    clock: Clock,
    sampler: Sampler,
    pacer: Pacer,
    controller: Controller,
    mtu: u16,
    /// Since when it is this path: packets sent before went another way.
    path_at: Nanos,
}

/// Time as a number, counted from when the connection began. Packets of one train have one time, and a difference of times
/// is not cheap: what was asked for last is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    at: Instant,
    nanos: Nanos,
}

#[derive(Debug)]
enum Controller {
    Bbr(Bbr),
    Cubic(Cubic),
}

/// What an ACK says beside its sample: the same for both controllers.
#[derive(Clone, Copy, Debug)]
struct Ack {
    sample: delivery::Sample,
    /// `C.delivered`.
    delivered: u64,
    in_flight: u64,
    smoothed_rtt: Nanos,
    latest_rtt: Nanos,
    /// The latest round trip without the peer's delay, and the smallest one ever.
    path_rtt: Nanos,
    path_rtt_min: Nanos,
}

impl Congestion {
    /// Nothing is known about the path yet.
    pub(crate) fn new(now: Instant, algorithm: Algorithm, mtu: u16) -> Self {
        Self::begin(Clock { at: now, nanos: 0 }, algorithm, mtu)
    }

    /// A packet that counts as in flight is sent. The stamp is kept with it.
    pub(crate) fn on_sent(&mut self, now: Instant, bytes: u16, in_flight_before: u64) -> Stamp {
        let now = self.clock.set(now);
        let stamp = self.sampler.on_sent(now, bytes.into(), in_flight_before);
        self.pacer.on_sent(bytes.into());
        match &mut self.controller {
            Controller::Bbr(bbr) => bbr.on_sent(now, &stamp, in_flight_before, stamp.app_limited),
            Controller::Cubic(cubic) => cubic.on_sent(stamp.in_flight.into()),
        }
        stamp
    }

    /// What tells time here, for [`Self::on_acked`].
    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    /// A packet is acknowledged; each of an ACK, in ascending order, before [`Self::on_ack_end`].
    pub(crate) fn on_acked(&mut self, now: Instant, number: u64, bytes: u16, sent_at: Nanos, stamp: &Stamp) {
        let now = self.clock.set(now);
        if sent_at >= self.path_at {
            self.sampler.on_acked(now, number, bytes.into(), sent_at, stamp);
        }
    }

    /// A packet is declared lost, before [`Self::on_ack_end`].
    pub(crate) fn on_lost(&mut self, now: Instant, number: u64, bytes: u16, sent_at: Instant, stamp: &Stamp) {
        let (now, sent_at) = (self.clock.set(now), self.clock.read(sent_at));
        if sent_at < self.path_at {
            return;
        }
        self.sampler.on_lost(bytes.into());
        match &mut self.controller {
            Controller::Bbr(bbr) => bbr.on_lost(now, number, bytes.into(), stamp, &self.sampler),
            Controller::Cubic(cubic) => cubic.on_lost(now, sent_at),
        }
    }

    /// All packets that an ACK acknowledged, or that it or a timer made known as lost, were told. `in_flight` is what
    /// is left. Round trips are told by what was delivered, so that the numbers, which start anew in each space, are
    /// not needed.
    pub(crate) fn on_ack_end(
        &mut self,
        now: Instant,
        rtt: &Rtt,
        _largest_acked: u64,
        _next_number: u64,
        in_flight: u64,
    ) {
        let now = self.clock.set(now);
        let rtt_min = if rtt.has_sample() { duration_nanos(rtt.min()) } else { 0 };
        let ack = Ack {
            sample: self.sampler.take_sample(now, rtt_min),
            delivered: self.sampler.delivered,
            in_flight,
            smoothed_rtt: duration_nanos(rtt.smoothed()),
            latest_rtt: duration_nanos(rtt.latest()),
            path_rtt: duration_nanos(rtt.latest_adjusted()),
            path_rtt_min: rtt_min,
        };
        match &mut self.controller {
            Controller::Bbr(bbr) => bbr.on_ack(now, &ack, &mut self.sampler),
            Controller::Cubic(cubic) => cubic.on_ack(now, &ack),
        }
    }

    /// Everything that was sent over a long time is lost (RFC 9002 section 7.6).
    pub(crate) fn on_persistent_congestion(&mut self, _now: Instant) {
        match &mut self.controller {
            Controller::Bbr(bbr) => bbr.on_persistent_congestion(),
            Controller::Cubic(cubic) => cubic.on_persistent_congestion(),
        }
    }

    /// A packet that was declared lost turned out to have arrived.
    pub(crate) fn on_spurious_loss(&mut self, _now: Instant, number: u64) {
        match &mut self.controller {
            Controller::Bbr(bbr) => bbr.on_spurious_loss(number),
            Controller::Cubic(cubic) => cubic.on_spurious_loss(),
        }
    }

    /// The peer reports `newly_ce` more packets that the network marked as having met congestion; before
    /// [`Self::on_ack_end`].
    pub(crate) fn on_ecn(&mut self, now: Instant, newly_ce: u64) {
        let now = self.clock.set(now);
        match &mut self.controller {
            Controller::Bbr(bbr) => bbr.on_ecn(now, newly_ce, &mut self.sampler),
            Controller::Cubic(cubic) => cubic.on_ecn(now, self.sampler.newest_sent_at().unwrap_or(now)),
        }
    }

    /// The window and the pacer had room, and there was nothing to send.
    pub(crate) fn set_app_limited(&mut self, in_flight: u64) {
        self.pacer.on_idle();
        if in_flight < self.window() {
            self.sampler.set_app_limited(in_flight);
        }
    }

    /// How many bytes may be in flight.
    pub(crate) fn window(&self) -> u64 {
        match &self.controller {
            Controller::Bbr(bbr) => bbr.window(),
            Controller::Cubic(cubic) => cubic.window(),
        }
    }

    /// How fast packets may leave, in bytes per second.
    pub(crate) fn pacing_rate(&self) -> u64 {
        match &self.controller {
            Controller::Bbr(bbr) => bbr.pacing_rate(),
            Controller::Cubic(cubic) => cubic.pacing_rate(),
        }
    }

    /// How many bytes pacing lets go now, at least a packet and at most a train, or when it will. The window is not
    /// looked at.
    pub(crate) fn budget(&mut self, now: Instant) -> Result<usize, Instant> {
        let (at, rate, mtu) = (self.clock.set(now), self.pacing_rate(), self.mtu.into());
        match self.pacer.budget(at, rate, mtu) {
            Ok(bytes) => Ok(bytes as usize),
            Err(at) => Err(self.clock.instant(at)),
        }
    }

    /// The path carries packets of this size from now on.
    pub(crate) fn on_mtu(&mut self, mtu: u16) {
        self.mtu = mtu;
        match &mut self.controller {
            Controller::Bbr(bbr) => bbr.on_mtu(mtu),
            Controller::Cubic(cubic) => cubic.on_mtu(mtu),
        }
    }

    /// The path is a new one, and nothing is known about it. What is heard about packets sent before is ignored from
    /// now on.
    pub(crate) fn reset(&mut self, now: Instant) {
        self.clock.set(now);
        *self = Self::begin(self.clock, self.algorithm(), self.mtu);
    }

    /// Which controller this is.
    pub(crate) fn algorithm(&self) -> Algorithm {
        match &self.controller {
            Controller::Bbr(_) => Algorithm::Bbr,
            Controller::Cubic(_) => Algorithm::Cubic,
        }
    }

    /// Whether the application, not the path, limits what is in flight.
    #[cfg(test)]
    pub(crate) fn is_app_limited(&self) -> bool {
        self.sampler.is_app_limited()
    }

    /// The BBR state, for tests.
    #[cfg(test)]
    fn bbr(&self) -> &Bbr {
        match &self.controller {
            Controller::Bbr(bbr) => bbr,
            Controller::Cubic(_) => panic!("CUBIC"),
        }
    }

    /// Bytes delivered over the life of the path.
    #[cfg(test)]
    pub(crate) fn delivered(&self) -> u64 {
        self.sampler.delivered
    }

    fn begin(clock: Clock, algorithm: Algorithm, mtu: u16) -> Self {
        let now = clock.nanos;
        let controller = match algorithm {
            Algorithm::Bbr => Controller::Bbr(Bbr::new(now, mtu)),
            Algorithm::Cubic => Controller::Cubic(Cubic::new(mtu)),
        };
        Self { clock, sampler: Sampler::new(now), pacer: Pacer::new(now), controller, mtu, path_at: now }
    }
}

impl Clock {
    /// A time as a number.
    pub(crate) fn set(&mut self, at: Instant) -> Nanos {
        if at != self.at {
            *self = Self { at, nanos: self.read(at) };
        }
        self.nanos
    }

    fn read(&self, at: Instant) -> Nanos {
        if at >= self.at {
            self.nanos + duration_nanos(at - self.at)
        } else {
            self.nanos.saturating_sub(duration_nanos(self.at - at))
        }
    }

    fn instant(&self, nanos: Nanos) -> Instant {
        match nanos.checked_sub(self.nanos) {
            Some(later) => self.at + Duration::from_nanos(later),
            None => self.at - Duration::from_nanos(self.nanos - nanos),
        }
    }
}

/// RFC 9002 section 7.2.
fn initial_window(mtu: u16) -> u64 {
    let mtu = u64::from(mtu);
    (10 * mtu).min((2 * mtu).max(14_720))
}

fn duration_nanos(span: Duration) -> Nanos {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX / 4)
}
