//! Where the peer is: the address in use, the one before, and when to believe that it moved (RFC 9000, sections 8 and
//! 9).

mod challenge;
mod mtu;
#[cfg(test)]
mod tests;

pub(crate) use mtu::{MTU_BASE, Mtu};

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use rand::RngCore;

use self::challenge::Challenge;
use crate::{
    frame::Side,
    packet::{NUMBER_LEN_MAX, SHORT_HEAD, TAG_LEN},
};

/// To an address that is not validated, at most so many times what came from it (RFC 9000, section 8.1).
pub(crate) const AMPLIFICATION: u64 = 3;

/// Bytes beyond that which may go to another port of the same host, at most. A NAT that forgets strikes in the middle
/// of a flow: what went to the port before must go again, and the flow goes on for the round trip of the validation.
/// This is enough for 500 messages of 1 KB a second at a round trip of 130 ms.
pub(crate) const CREDIT_BYTES_MAX: u64 = 128 * 1024;

/// After an address was validated, its port has no credit for so long: NATs forget after half a minute or more.
const CREDIT_REST: Duration = Duration::from_secs(3);

/// A short packet with a PATH_CHALLENGE: header, longest number, frame, tag.
const CHALLENGE_BYTES: u64 = (SHORT_HEAD + NUMBER_LEN_MAX + 9 + TAG_LEN) as u64;

/// PATH_RESPONSEs that wait to be sent. Each PATH_CHALLENGE beyond replaces the oldest.
const RESPONSES_MAX: usize = 4;

/// One address of the peer.
#[derive(Debug)]
pub(crate) struct Path {
    /// The address.
    pub(crate) remote: SocketAddr,
    /// Counts paths: packets remember on which they were sent, for their fate says nothing about another one.
    pub(crate) generation: u64,
    /// How large datagrams may be.
    pub(crate) mtu: Mtu,
    validated: bool,
    received: u64,
    sent: u64,
    // Bytes that may be sent beyond what those received allow for.
    credit: u64,
    challenge: Option<Box<Challenge>>,
}

/// Where the peer is, and was.
#[derive(Debug)]
pub(crate) struct Paths {
    side: Side,
    current: Path,
    // The last validated one, until the current one is validated.
    former: Option<Box<Path>>,
    responses: Vec<Response>,
    // The last address that datagrams came from which is neither.
    stray: Option<Box<Stray>>,
    // Whether another port of the same host has credit, and from when on.
    lends: bool,
    lends_at: Option<Instant>,
    next_generation: u64,
    mtu_max: u16,
}

/// Bytes from and to an address, in case that the peer moves there.
#[derive(Clone, Copy, Debug)]
struct Stray {
    remote: SocketAddr,
    received: u64,
    sent: u64,
}

#[derive(Clone, Copy, Debug)]
struct Response {
    to: SocketAddr,
    data: [u8; 8],
    pad: bool,
}

/// What is known about a packet that was opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    /// Where its datagram came from.
    pub(crate) remote: SocketAddr,
    /// Bytes of its datagram.
    pub(crate) bytes: usize,
    /// Whether it holds nothing but PATH_CHALLENGE, PATH_RESPONSE, NEW_ID and PADDING.
    pub(crate) is_probing: bool,
    /// Whether its number is the largest so far.
    pub(crate) is_largest: bool,
    /// Bytes that may be in flight.
    pub(crate) window: u64,
}

/// What changed with the address (section 9.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    /// The host: congestion control and RTT begin anew.
    Host,
    /// Only the port.
    Port,
    /// Only the port, and the new one has credit: a NAT forgot the one before, and what is out is lost.
    Rebound,
}

/// The peer is elsewhere now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Moved {
    /// What is known of the path to it.
    pub(crate) change: Change,
    /// Whether the address before is in use again.
    pub(crate) back: bool,
    /// Whether the address before is kept, to go back to.
    pub(crate) keeps: bool,
}

/// What a timeout did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PathTimeout {
    /// Nothing that the connection must know of.
    None,
    /// Nobody answered at the new address: the one before is in use again.
    Moved(Moved),
    /// Nobody answered, and there is no other address: the connection is over, in silence.
    Lost,
}

/// A datagram of its own, to an address that need not be the current one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PathFrame {
    /// Where it goes.
    pub(crate) to: SocketAddr,
    /// Whether that is the path that was left, for which another id holds.
    pub(crate) is_former: bool,
    /// PATH_RESPONSE, else PATH_CHALLENGE.
    pub(crate) is_response: bool,
    /// What it holds.
    pub(crate) data: [u8; 8],
    /// Whether the datagram must be padded to [`MTU_BASE`].
    pub(crate) pad: bool,
}

impl Path {
    fn new(remote: SocketAddr, generation: u64, validated: bool, mtu: Mtu) -> Self {
        Self { remote, generation, mtu, validated, received: 0, sent: 0, credit: 0, challenge: None }
    }

    /// Whether the peer has shown that it is there.
    pub(crate) fn is_validated(&self) -> bool {
        self.validated
    }

    /// Bytes that may be sent to it now.
    pub(crate) fn room(&self) -> u64 {
        if self.validated { u64::MAX } else { self.allowance().saturating_sub(self.sent) }
    }

    /// Bytes that may be sent to it as long as nobody has shown up there.
    fn allowance(&self) -> u64 {
        AMPLIFICATION * self.received + self.credit
    }

    /// Whether a PATH_CHALLENGE can and should be sent.
    fn is_challenge_due(&self, now: Instant) -> bool {
        self.room() >= CHALLENGE_BYTES && self.challenge.as_ref().is_some_and(|challenge| challenge.is_due(now))
    }

    fn deadline(&self) -> Option<Instant> {
        // What cannot be afforded waits for a datagram, not for a time.
        let can_send = self.room() >= CHALLENGE_BYTES;
        self.challenge.as_ref().map(|challenge| challenge.deadline(can_send))
    }
}

impl Paths {
    /// The path of the handshake. A client trusts it, for it chose the address; a server does if a token says so.
    pub(crate) fn new(side: Side, remote: SocketAddr, validated: bool, mtu_max: u16) -> Self {
        let validated = validated || side == Side::Client;
        let current = Path::new(remote, 0, validated, Mtu::new(mtu_max));
        let (lends, lends_at) = (true, None);
        let (former, responses, stray) = (None, Vec::new(), None);
        Self { side, current, former, responses, stray, lends, lends_at, next_generation: 1, mtu_max }
    }

    /// The path in use.
    pub(crate) fn current(&self) -> &Path {
        &self.current
    }

    /// The path in use.
    pub(crate) fn current_mut(&mut self) -> &mut Path {
        &mut self.current
    }

    /// Whether the path that was left may still be needed. If not, neither is its id.
    pub(crate) fn has_former(&self) -> bool {
        self.former.is_some()
    }

    /// The peer takes no larger datagrams than this.
    pub(crate) fn limit_mtu(&mut self, udp_payload_max: u16) {
        self.mtu_max = self.mtu_max.min(udp_payload_max);
        self.current.mtu.limit(udp_payload_max);
    }

    /// The peer proved in the handshake that it is where it says.
    pub(crate) fn on_validated(&mut self) {
        self.current.validated = true;
    }

    /// A datagram of this connection came. Whether it may be looked at: servers do not move, and clients not before the
    /// handshake is confirmed (section 9).
    pub(crate) fn on_datagram(&mut self, remote: SocketAddr, bytes: usize, confirmed: bool) -> bool {
        let is_former = |path: &&mut Box<Path>| path.remote == remote;
        if self.current.remote == remote {
            self.current.received += bytes as u64;
        } else if let Some(former) = self.former.as_mut().filter(is_former) {
            former.received += bytes as u64;
        } else {
            let may_move = self.side == Side::Server && confirmed;
            if may_move {
                self.stray(remote).received += bytes as u64;
            }
            return may_move;
        }
        true
    }

    fn stray(&mut self, remote: SocketAddr) -> &mut Stray {
        let fresh = || Box::new(Stray { remote, received: 0, sent: 0 });
        let stray = self.stray.get_or_insert_with(fresh);
        if stray.remote != remote {
            **stray = *fresh();
        }
        stray
    }

    /// A datagram was sent.
    pub(crate) fn on_sent(&mut self, to: SocketAddr, bytes: usize) {
        if self.current.remote == to {
            self.current.sent += bytes as u64;
        } else if let Some(former) = self.former.as_mut().filter(|path| path.remote == to) {
            former.sent += bytes as u64;
        } else {
            self.stray(to).sent += bytes as u64;
        }
    }

    /// A 1-RTT packet was opened, all its frames seen. The newest one that means more than a probe says where the peer
    /// is; it is answered there at once, within the limit for addresses that are not validated. `pto` is the present
    /// probe timeout.
    pub(crate) fn on_packet(&mut self, now: Instant, pto: Duration, arrival: Arrival) -> Option<Moved> {
        let Arrival { remote, bytes, is_probing, is_largest, window } = arrival;
        //= SPEC.md#15
        //# A packet with the largest number so far and a frame that is not probing (PADDING, PATH_CHALLENGE,
        //# PATH_RESPONSE, NEW_ID), from a new address of the client, moves the connection there at once
        if remote == self.current.remote || is_probing || !is_largest || self.side == Side::Client {
            return None;
        }
        if let Some(former) = self.former.take_if(|former| former.remote == remote) {
            // Somebody sent a copy of a packet from elsewhere, and the peer never moved (section 9.3.3).
            return Some(self.go_back(*former));
        }
        //= SPEC.md#10
        //# On a new path window, rate, round trip and MTU MUST start anew, unless only the port of the peer changed.
        let mut change = self.change(remote);
        let mtu = if change == Change::Host { Mtu::new(self.mtu_max) } else { self.current.mtu.on_moved() };
        let mut path = Path::new(remote, self.next_generation(), false, mtu);
        // Its first datagram, and what was said before it only asked whether we are here.
        let stray = self.stray.take().filter(|stray| stray.remote == remote);
        (path.received, path.sent) = stray.map_or((bytes as u64, 0), |stray| (stray.received, stray.sent));
        path.challenge = Some(Challenge::new(now, pto));
        if change == Change::Port
            && self.current.validated
            && let Some(credit) = self.lend(now, window)
        {
            (path.credit, change) = (credit, Change::Rebound);
        }
        let mut before = std::mem::replace(&mut self.current, path);
        let keeps = before.validated;
        if keeps {
            // Asked too: if the peer is still there, it answers with more than a probe (section 9.3.3).
            before.challenge = Some(Challenge::new(now, pto));
            self.former = Some(Box::new(before));
        }
        Some(Moved { change, back: false, keeps })
    }

    //= SPEC.md#7.1
    //# To another port of the address that was last validated a server MAY send one congestion window more, at most
    //# 128 KiB, once for each address that was validated, and not within 3 s of that.
    fn lend(&mut self, now: Instant, window: u64) -> Option<u64> {
        let lends = self.lends && self.lends_at.is_none_or(|at| at <= now);
        self.lends &= !lends;
        lends.then(|| window.min(CREDIT_BYTES_MAX))
    }

    fn change(&self, remote: SocketAddr) -> Change {
        if remote.ip() == self.current.remote.ip() { Change::Port } else { Change::Host }
    }

    /// This side's address changed, or is about to: the peer is asked from the new one. For clients.
    pub(crate) fn on_local_moved(&mut self, now: Instant, pto: Duration) {
        self.current.generation = self.next_generation();
        self.current.mtu = Mtu::new(self.mtu_max);
        self.current.challenge = Some(Challenge::new(now, pto));
    }

    /// PATH_CHALLENGE came. Whether something that is no probe should be sent too, so that the peer does not take
    /// another path for the one in use.
    pub(crate) fn on_challenge(&mut self, remote: SocketAddr, bytes: usize, data: [u8; 8]) -> bool {
        if self.responses.len() == RESPONSES_MAX {
            self.responses.remove(0);
        }
        //= SPEC.md#15
        //# Datagrams with either MUST be padded to 1,200 bytes, if section 7.1 allows it, a response if its challenge
        //# paid for it.
        let pad = bytes as u64 * AMPLIFICATION >= u64::from(MTU_BASE);
        self.responses.push(Response { to: remote, data, pad });
        remote == self.current.remote
    }

    /// PATH_RESPONSE came, on whatever path. Whether the current path is validated by it.
    pub(crate) fn on_response(&mut self, now: Instant, pto: Duration, data: [u8; 8]) -> bool {
        if let Some(former) = &mut self.former {
            former.challenge.take_if(|challenge| challenge.answers(data).is_some());
        }
        let answer = self.current.challenge.as_ref().and_then(|challenge| challenge.answers(data));
        if let Some(full) = answer {
            // Its size is another question, as long as it could not be afforded to ask (section 8.2.1).
            self.current.challenge = (!full).then(|| Challenge::new(now, pto));
            if !std::mem::replace(&mut self.current.validated, true) {
                (self.lends, self.lends_at) = (true, Some(now + CREDIT_REST));
            }
        }
        self.settle();
        answer.is_some()
    }

    /// The next datagram that goes out by itself, outside of congestion control: one per round trip and address at
    /// most.
    pub(crate) fn poll(&mut self, now: Instant, rng: &mut impl RngCore) -> Option<PathFrame> {
        if !self.responses.is_empty() {
            let Response { to, data, pad } = self.responses.remove(0);
            let is_former = self.former.as_ref().is_some_and(|former| former.remote == to);
            return Some(PathFrame { to, is_former, is_response: true, data, pad });
        }
        let current = Some((&mut self.current, false));
        let former = self.former.as_mut().map(|former| (&mut **former, true));
        let (path, is_former) = current.into_iter().chain(former).find(|(path, _)| path.is_challenge_due(now))?;
        let pad = path.room() >= u64::from(MTU_BASE);
        let data = path.challenge.as_mut()?.next(now, pad, rng);
        Some(PathFrame { to: path.remote, is_former, is_response: false, data, pad })
    }

    /// When [`Self::handle_timeout`] or [`Self::poll`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        [Some(&self.current), self.former.as_deref()].into_iter().flatten().filter_map(Path::deadline).min()
    }

    /// Gives up on addresses where nobody answers.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> PathTimeout {
        if let Some(former) = &mut self.former {
            former.challenge.take_if(|challenge| challenge.is_expired(now));
        }
        let expired = self.current.challenge.take_if(|challenge| challenge.is_expired(now)).is_some();
        if !expired || self.side == Side::Client {
            self.settle();
            return PathTimeout::None;
        }
        match self.former.take() {
            //= SPEC.md#15
            //# If it is not, the connection MUST go back to the last address that was validated.
            Some(former) => PathTimeout::Moved(self.go_back(*former)),
            // Somebody is there, but no datagram of full size passes: only the base size is left to try.
            None if self.current.validated => PathTimeout::None,
            None => PathTimeout::Lost,
        }
    }

    /// Panics when more went to an address that is not validated than may.
    #[cfg(feature = "simulation")]
    pub(crate) fn check(&self) {
        let paths = [Some(&self.current), self.former.as_deref()];
        for path in paths.into_iter().flatten().filter(|path| !path.validated) {
            assert!(path.credit <= CREDIT_BYTES_MAX);
            assert!(path.sent <= path.allowance(), "{} for {} bytes", path.sent, path.received);
        }
        assert!(self.responses.len() <= RESPONSES_MAX);
    }

    fn go_back(&mut self, mut former: Path) -> Moved {
        let change = self.change(former.remote);
        // Packets of the meantime must not count for it, nor its own of long ago: it is a new one at an old address.
        former.generation = self.next_generation();
        former.challenge = None;
        former.mtu = former.mtu.on_moved();
        self.current = former;
        Moved { change, back: true, keeps: false }
    }

    /// Forgets the path that was left, once nothing depends on it.
    fn settle(&mut self) {
        if self.current.validated && self.former.as_ref().is_some_and(|former| former.challenge.is_none()) {
            self.former = None;
        }
    }

    fn next_generation(&mut self) -> u64 {
        self.next_generation += 1;
        self.next_generation - 1
    }
}
