//! Control messages beside a datagram: the train's segment size and the ECN bits, written and read as plain bytes.

/// Length, level and type.
const HEADER_BYTES: usize = 16;
const ALIGNMENT: usize = 8;

/// The two ECN bits of the traffic class.
const ECN_MASK: u8 = 0b11;

/// Room for control messages, aligned as the kernel wants it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(crate) struct Control([u8; Control::BYTES]);

impl Control {
    /// Two messages of 24 bytes come in; the rest is for what a kernel may add.
    pub(crate) const BYTES: usize = 96;

    pub(crate) const fn new() -> Self {
        Self([0; Self::BYTES])
    }

    pub(crate) fn for_kernel(&mut self) -> *mut libc::c_void {
        self.0.as_mut_ptr().cast()
    }

    pub(crate) fn bytes(&self, len: usize) -> &[u8] {
        &self.0[..len.min(Self::BYTES)]
    }

    /// What a send says about its datagrams; how many bytes that takes.
    pub(crate) fn write(&mut self, v6: bool, segment: Option<u16>, ecn: u8) -> usize {
        let mut at = 0;
        if let Some(segment) = segment {
            at = self.put(at, libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes());
        }
        if ecn & ECN_MASK != 0 {
            let class = i32::from(ecn & ECN_MASK).to_ne_bytes();
            at = match v6 {
                true => self.put(at, libc::IPPROTO_IPV6, libc::IPV6_TCLASS, &class),
                false => self.put(at, libc::IPPROTO_IP, libc::IP_TOS, &class),
            };
        }
        at
    }

    fn put(&mut self, at: usize, level: i32, kind: i32, data: &[u8]) -> usize {
        let len = HEADER_BYTES + data.len();
        let end = at + len.next_multiple_of(ALIGNMENT);
        let place = &mut self.0[at..end];
        place.fill(0);
        place[..8].copy_from_slice(&len.to_ne_bytes());
        place[8..12].copy_from_slice(&level.to_ne_bytes());
        place[12..16].copy_from_slice(&kind.to_ne_bytes());
        place[16..len].copy_from_slice(data);
        end
    }
}

/// What the kernel said about a train.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Received {
    /// Bytes per datagram, if several were joined.
    pub(crate) segment: Option<usize>,
    pub(crate) ecn: u8,
}

impl Received {
    pub(crate) fn parse(mut bytes: &[u8]) -> Self {
        let mut this = Self::default();
        while let Some((kind, data, rest)) = next(bytes) {
            bytes = rest;
            match kind {
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    let segment = data.first_chunk().map(|&bytes| i32::from_ne_bytes(bytes));
                    this.segment = segment.and_then(|n| usize::try_from(n).ok()).filter(|&n| n > 0);
                }
                (libc::IPPROTO_IP, libc::IP_TOS) | (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                    // One byte for IPv4, an int for IPv6: the low byte comes first on the machines we run on.
                    this.ecn = data.first().map_or(0, |class| class & ECN_MASK);
                }
                _ => {}
            }
        }
        this
    }
}

const _: () = assert!(cfg!(target_endian = "little"), "the low byte of a traffic class is read first");

// Level and type, data, and what follows.
type Message<'a> = ((i32, i32), &'a [u8], &'a [u8]);

fn next(bytes: &[u8]) -> Option<Message<'_>> {
    let len = usize::from_ne_bytes(*bytes.first_chunk()?);
    let level = i32::from_ne_bytes(bytes.get(8..12)?.try_into().ok()?);
    let kind = i32::from_ne_bytes(bytes.get(12..16)?.try_into().ok()?);
    let data = bytes.get(HEADER_BYTES..len)?;
    let rest = bytes.get(len.checked_next_multiple_of(ALIGNMENT)?..).unwrap_or(&[]);
    Some(((level, kind), data, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_the_kernel_expects() {
        let mut control = Control::new();
        assert_eq!(control.write(false, None, 0), 0);
        assert_eq!(control.write(false, Some(1200), 2), 48);
        let (kind, data, rest) = next(control.bytes(48)).expect("a message");
        assert_eq!((kind, data), ((libc::SOL_UDP, libc::UDP_SEGMENT), &1200u16.to_ne_bytes()[..]));
        assert_eq!(Received::parse(rest).ecn, 2);
    }

    #[test]
    fn garbage_is_read_as_nothing() {
        for len in [0usize, 3, 15, 16, usize::MAX] {
            let mut bytes = [0xFF; 24];
            bytes[..8].copy_from_slice(&len.to_ne_bytes());
            assert_eq!(Received::parse(&bytes), Received::default());
        }
    }
}
