//! Socket addresses as the kernel writes and reads them.

use std::{
    mem,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6},
};

/// Room for the address of either family.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Name {
    bytes: libc::sockaddr_in6,
    len: libc::socklen_t,
}

const _: () = assert!(size_of::<libc::sockaddr_in6>() >= size_of::<libc::sockaddr_in>());

impl Name {
    pub(crate) const fn new() -> Self {
        // SAFETY: a sockaddr_in6 is plain numbers, for which zero is a value.
        Self { bytes: unsafe { mem::zeroed() }, len: 0 }
    }

    /// Where the kernel writes an address and its length.
    pub(crate) fn for_kernel(&mut self) -> (*mut libc::sockaddr, *mut libc::socklen_t) {
        self.len = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
        ((&raw mut self.bytes).cast(), &raw mut self.len)
    }

    /// The address in the kernel's form.
    pub(crate) fn from_address(address: SocketAddr) -> Self {
        let mut this = Self::new();
        match address {
            SocketAddr::V4(v4) => {
                let name = libc::sockaddr_in {
                    sin_family: libc::AF_INET as u16,
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from(*v4.ip()).to_be() },
                    sin_zero: [0; 8],
                };
                // SAFETY: a sockaddr_in6 is larger than a sockaddr_in and aligned at least as strictly.
                unsafe { (&raw mut this.bytes).cast::<libc::sockaddr_in>().write(name) };
                this.len = size_of::<libc::sockaddr_in>() as libc::socklen_t;
            }
            SocketAddr::V6(v6) => {
                this.bytes = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as u16,
                    sin6_port: v6.port().to_be(),
                    sin6_flowinfo: v6.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                    sin6_scope_id: v6.scope_id(),
                };
                this.len = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            }
        }
        this
    }

    /// For the kernel to read.
    pub(crate) fn as_raw(&self) -> (*const libc::sockaddr, libc::socklen_t) {
        ((&raw const self.bytes).cast(), self.len)
    }

    /// The address that the kernel wrote, if it is one of the two families.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        // SAFETY: `self.bytes` is that long, initialised, and bytes have no alignment.
        let bytes = unsafe {
            std::slice::from_raw_parts((&raw const self.bytes).cast::<u8>(), size_of::<libc::sockaddr_in6>())
        };
        parse(&bytes[..bytes.len().min(self.len as usize)])
    }
}

/// An address as the kernel writes it.
pub(crate) fn parse(bytes: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(*bytes.first_chunk()?);
    let port = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
    match i32::from(family) {
        libc::AF_INET => {
            let ip: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
            Some(SocketAddrV4::new(Ipv4Addr::from(ip), port).into())
        }
        libc::AF_INET6 => {
            let flow = u32::from_ne_bytes(bytes.get(4..8)?.try_into().ok()?);
            let ip: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
            let scope = u32::from_ne_bytes(bytes.get(24..28)?.try_into().ok()?);
            Some(SocketAddrV6::new(Ipv6Addr::from(ip), port, flow, scope).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_kernels_form() {
        for text in ["127.0.0.1:80", "[::1]:443", "[fe80::1%3]:9"] {
            let address: SocketAddr = text.parse().expect("an address");
            assert_eq!(Name::from_address(address).address(), Some(address));
        }
        assert_eq!(Name::new().address(), None);
        assert_eq!(parse(&[1, 0]), None);
    }
}
