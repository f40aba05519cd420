//! UDP echo in trains: GRO in, GSO out, one blocking `recvmsg` and one `sendmsg` per train.

use std::{io, mem, net::UdpSocket, os::fd::AsRawFd, ptr};

use peers::Start;

/// Bytes of the receive buffer: the longest train that GRO makes.
const TRAIN_BYTES: usize = 64 * 1024;
/// Bytes for one control message in each direction, with room to spare.
const CONTROL_BYTES: usize = 64;

fn main() -> io::Result<()> {
    let start = Start::from_args();
    let socket = start.bind()?;
    enable_gro(&socket)?;
    let mut bytes = vec![0; TRAIN_BYTES];
    loop {
        match Train::receive(&socket, &mut bytes).and_then(|mut train| train.send(&socket)) {
            Ok(()) => {}
            // The far end of an echo is gone, or its queue is full: UDP goes on.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
            Err(error) => return Err(error),
        }
    }
}

fn enable_gro(socket: &UdpSocket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option's value is a c_int that lives through the call.
    let outcome = unsafe {
        let size = size_of::<libc::c_int>() as libc::socklen_t;
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_UDP, libc::UDP_GRO, ptr::from_ref(&on).cast(), size)
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Datagrams of one sender, all of `segment` bytes but the last.
struct Train<'a> {
    bytes: &'a mut [u8],
    segment: u16,
    from: libc::sockaddr_storage,
    from_len: libc::socklen_t,
}

#[repr(align(8))]
struct Control([u8; CONTROL_BYTES]);

impl<'a> Train<'a> {
    fn receive(socket: &UdpSocket, buffer: &'a mut [u8]) -> io::Result<Self> {
        let mut control = Control([0; CONTROL_BYTES]);
        // SAFETY: all-zero is a valid value of these C structs.
        let (mut from, mut header): (libc::sockaddr_storage, libc::msghdr) = unsafe { mem::zeroed() };
        let mut vector = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        header.msg_name = ptr::from_mut(&mut from).cast();
        header.msg_namelen = size_of_val(&from) as libc::socklen_t;
        header.msg_iov = &mut vector;
        header.msg_iovlen = 1;
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = CONTROL_BYTES;
        // SAFETY: every pointer in the header is to memory that outlives the call, with its length beside it.
        let len = unsafe { libc::recvmsg(socket.as_raw_fd(), &mut header, 0) };
        let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
        let segment = segment(&header).unwrap_or(len.min(usize::from(u16::MAX)) as u16);
        Ok(Self { bytes: &mut buffer[..len], segment, from, from_len: header.msg_namelen })
    }

    fn send(&mut self, socket: &UdpSocket) -> io::Result<()> {
        let mut control = Control([0; CONTROL_BYTES]);
        // SAFETY: all-zero is a valid msghdr.
        let mut header: libc::msghdr = unsafe { mem::zeroed() };
        let mut vector = libc::iovec { iov_base: self.bytes.as_mut_ptr().cast(), iov_len: self.bytes.len() };
        header.msg_name = ptr::from_mut(&mut self.from).cast();
        header.msg_namelen = self.from_len;
        header.msg_iov = &mut vector;
        header.msg_iovlen = 1;
        if self.bytes.len() > usize::from(self.segment) {
            header.msg_control = control.0.as_mut_ptr().cast();
            // SAFETY: the control buffer is aligned and larger than one message with a u16.
            unsafe {
                header.msg_controllen = libc::CMSG_SPACE(size_of::<u16>() as u32) as usize;
                let message = libc::CMSG_FIRSTHDR(&header);
                (*message).cmsg_level = libc::SOL_UDP;
                (*message).cmsg_type = libc::UDP_SEGMENT;
                (*message).cmsg_len = libc::CMSG_LEN(size_of::<u16>() as u32) as usize;
                ptr::write_unaligned(libc::CMSG_DATA(message).cast::<u16>(), self.segment);
            }
        }
        // SAFETY: every pointer in the header is to memory that outlives the call, with its length beside it.
        let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &header, 0) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// The size of the datagrams that GRO joined, if it joined any.
fn segment(header: &libc::msghdr) -> Option<u16> {
    // SAFETY: the kernel filled the control buffer and its length; the macros stay within it.
    unsafe {
        let mut message = libc::CMSG_FIRSTHDR(header);
        while !message.is_null() {
            if (*message).cmsg_level == libc::SOL_UDP && (*message).cmsg_type == libc::UDP_GRO {
                let size = ptr::read_unaligned(libc::CMSG_DATA(message).cast::<libc::c_int>());
                return u16::try_from(size).ok();
            }
            message = libc::CMSG_NXTHDR(header, message);
        }
    }
    None
}
