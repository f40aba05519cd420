//! A NAT between client and server that changes its ports on demand: source ports of the client are rewritten on the
//! way out and back again on the way in, checksums included.
//!
//! A rebinding shows with the client's next packet: it leaves from another port, and from then on what comes for the
//! old one is dropped. Were the old port closed before that, a client that only listens would hear nothing until it
//! speaks of itself, whatever its transport does.

use std::collections::BTreeMap;

/// The first port outside; each mapping takes the next one, so no port is used again.
const OUTSIDE_FIRST: u16 = 20_000;
const UDP: u8 = 17;
const TCP: u8 = 6;

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// It goes on, rewritten if it had ports.
    Yes,
    /// Nobody is behind its port any more.
    No,
}

/// The client's address, a protocol and a port.
type Inside = (u32, u8, u16);

/// The table of one NAT.
#[derive(Clone, Debug)]
pub struct Nat {
    outside: BTreeMap<Inside, u16>,
    inside: BTreeMap<(u8, u16), Inside>,
    next: u16,
}

impl Default for Nat {
    fn default() -> Self {
        Self { outside: BTreeMap::new(), inside: BTreeMap::new(), next: OUTSIDE_FIRST }
    }
}

impl Nat {
    /// The client's next packets leave from other ports.
    pub fn rebind(&mut self) {
        self.outside.clear();
    }

    /// Rewrites a packet of the client.
    pub fn outward(&mut self, packet: &mut [u8]) -> Pass {
        let Some(ports) = Ports::find(packet) else { return Pass::Yes };
        let address = u32::from_be_bytes([packet[12], packet[13], packet[14], packet[15]]);
        let inside = (address, ports.protocol, ports.read(packet, Port::Source));
        let outside = self.outside.get(&inside).copied().unwrap_or_else(|| self.map(inside));
        ports.write(packet, Port::Source, outside);
        Pass::Yes
    }

    /// Rewrites a packet to the client.
    pub fn inward(&self, packet: &mut [u8]) -> Pass {
        let Some(ports) = Ports::find(packet) else { return Pass::Yes };
        let outside = ports.read(packet, Port::Destination);
        let Some(inside) = self.inside.get(&(ports.protocol, outside)) else { return Pass::No };
        ports.write(packet, Port::Destination, inside.2);
        Pass::Yes
    }

    /// Gives a port, and takes back the one that was there before.
    fn map(&mut self, inside: Inside) -> u16 {
        let port = self.next;
        self.next = self.next.checked_add(1).unwrap_or(OUTSIDE_FIRST);
        self.inside.retain(|_, known| *known != inside);
        self.inside.insert((inside.1, port), inside);
        self.outside.insert(inside, port);
        port
    }
}

#[derive(Clone, Copy)]
enum Port {
    Source,
    Destination,
}

/// Where the ports and the checksum of an IPv4 packet are.
struct Ports {
    protocol: u8,
    at: usize,
    checksum_at: usize,
}

impl Ports {
    fn find(packet: &[u8]) -> Option<Self> {
        let first = packet.first()?;
        let (version, at) = (first >> 4, usize::from(first & 15) * 4);
        let fragment = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]) & 0x1fff;
        let protocol = *packet.get(9)?;
        let checksum_at = at + if protocol == UDP { 6 } else { 16 };
        let whole = version == 4 && at >= 20 && fragment == 0 && packet.len() >= checksum_at + 2;
        (whole && matches!(protocol, UDP | TCP)).then_some(Self { protocol, at, checksum_at })
    }

    fn read(&self, packet: &[u8], port: Port) -> u16 {
        let at = self.port_at(port);
        u16::from_be_bytes([packet[at], packet[at + 1]])
    }

    fn write(&self, packet: &mut [u8], port: Port, value: u16) {
        let (at, old) = (self.port_at(port), self.read(packet, port));
        packet[at..at + 2].copy_from_slice(&value.to_be_bytes());
        let sum = [packet[self.checksum_at], packet[self.checksum_at + 1]];
        let sum = u16::from_be_bytes(sum);
        // A UDP packet may come without a checksum, which is 0; one that adds up to 0 is written as its other zero.
        if self.protocol == UDP && sum == 0 {
            return;
        }
        let sum = update(sum, old, value);
        let sum = if self.protocol == UDP && sum == 0 { u16::MAX } else { sum };
        packet[self.checksum_at..self.checksum_at + 2].copy_from_slice(&sum.to_be_bytes());
    }

    fn port_at(&self, port: Port) -> usize {
        match port {
            Port::Source => self.at,
            Port::Destination => self.at + 2,
        }
    }
}

/// The Internet checksum after one of its words changed: RFC 1624, equation 3.
fn update(sum: u16, old: u16, new: u16) -> u16 {
    let mut total = u32::from(!sum) + u32::from(!old) + u32::from(new);
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !(total as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An IPv4 packet with a right checksum over pseudo-header and payload.
    fn packet(protocol: u8, source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
        let header = if protocol == UDP { 8 } else { 20 };
        let mut packet = vec![0; 20 + header + payload.len()];
        packet[0] = 0x45;
        packet[9] = protocol;
        packet[12..20].copy_from_slice(&[10, 77, 0, 2, 10, 77, 1, 1]);
        packet[20..22].copy_from_slice(&source.to_be_bytes());
        packet[22..24].copy_from_slice(&destination.to_be_bytes());
        packet[20 + header..].copy_from_slice(payload);
        let at = if protocol == UDP { 26 } else { 36 };
        // Of the two zeros that a sum can be, UDP writes the other one.
        let sum = if total(&packet) == u16::MAX && protocol == UDP { u16::MAX } else { !total(&packet) };
        packet[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        packet
    }

    /// What the receiver adds up: all ones if the checksum is right.
    fn total(packet: &[u8]) -> u16 {
        let words = packet[12..].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
        let mut sum = words.sum::<u32>() + u32::from(packet[9]) + (packet.len() as u32 - 20);
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    #[test]
    fn ports_change_both_ways_and_the_checksums_stay_right() {
        for protocol in [UDP, TCP] {
            for port in [1, 4_433, 20_000, u16::MAX] {
                let mut nat = Nat::default();
                let mut out = packet(protocol, port, 443, b"some payload of odd length.");
                assert_eq!((total(&out), nat.outward(&mut out), total(&out)), (0xffff, Pass::Yes, 0xffff));
                let outside = u16::from_be_bytes([out[20], out[21]]);
                assert_eq!(outside, OUTSIDE_FIRST);
                let mut back = packet(protocol, 443, outside, b"answer");
                assert_eq!((nat.inward(&mut back), total(&back)), (Pass::Yes, 0xffff));
                assert_eq!(u16::from_be_bytes([back[22], back[23]]), port);
            }
        }
    }

    #[test]
    fn a_rebinding_gives_another_port_with_the_next_packet_and_closes_the_old_one() {
        let mut nat = Nat::default();
        let mut out = packet(UDP, 5_000, 443, b"one");
        nat.outward(&mut out);
        nat.rebind();
        assert_eq!(nat.inward(&mut packet(UDP, 443, OUTSIDE_FIRST, b"early")), Pass::Yes);
        let mut out = packet(UDP, 5_000, 443, b"two");
        nat.outward(&mut out);
        assert_eq!(u16::from_be_bytes([out[20], out[21]]), OUTSIDE_FIRST + 1);
        assert_eq!(nat.inward(&mut packet(UDP, 443, OUTSIDE_FIRST, b"late")), Pass::No);
        assert_eq!(nat.inward(&mut packet(UDP, 443, OUTSIDE_FIRST + 1, b"answer")), Pass::Yes);
    }

    #[test]
    fn a_checksum_of_zero_stays_none_and_is_never_made() {
        let mut without = packet(UDP, 7, 8, b"x");
        without[26..28].fill(0);
        Nat::default().outward(&mut without);
        assert_eq!(without[26..28], [0, 0]);
        for old in 0..=u16::MAX {
            let mut packet = packet(UDP, old, 443, b"zero");
            Nat::default().outward(&mut packet);
            assert_ne!(packet[26..28], [0, 0], "from port {old}");
        }
    }

    #[test]
    fn anything_else_passes_as_it_is() {
        for other in [vec![], vec![0x45; 19], packet(1, 7, 8, b"icmp"), vec![0x60; 60]] {
            let mut same = other.clone();
            assert_eq!((Nat::default().outward(&mut same), &same), (Pass::Yes, &other));
        }
    }
}
