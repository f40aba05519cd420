//! UDP on the ring: trains in by GRO, trains out by GSO, with the ECN bits.

use std::{
    collections::VecDeque,
    ptr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use io_uring::{opcode, squeue, types};

use crate::{
    address::{self, Name},
    bufring::BufferRing,
    control::{Control, Received},
    io::Train,
    reactor::{Datagrams, Socket},
    ring::{Completion, Ring},
    stats::ShardStats,
    tag::{Operation, tag},
    tcp::Sink,
};
use std::os::fd::{AsRawFd, OwnedFd};

/// The group of the buffers that trains are received into.
pub(crate) const TRAIN_GROUP: u16 = 1;

/// Buffers for trains: with fewer than 64 the kernel runs out of them between two turns, and joins less.
pub(crate) const TRAIN_BUFFERS: u16 = 64;

/// Trains that the kernel gives at once, however many wait (`MULTISHOT_MAX_RETRY` in its `io_uring/net.c`).
const PASS_TRAINS: usize = 32;

/// Datagrams from which on a turn takes no further trains: streams, mail and timers wait meanwhile, for about a
/// millisecond. A single pass of whole trains brings more.
const TURN_DATAGRAMS: usize = 512;

/// A train is at most one maximal UDP payload; beside it lie the kernel's header, the sender's name and the control
/// messages.
pub(crate) const TRAIN_BUFFER_BYTES: usize = TRAIN_BYTES_MAX + 512;
const TRAIN_BYTES_MAX: usize = 65_536;

/// The most payload of one send: what fits in an IPv4 packet.
const SEND_BYTES_MAX: usize = 65_507;

/// The most datagrams of one send: UDP_MAX_SEGMENTS of the oldest kernels.
const SEND_SEGMENTS_MAX: usize = 64;

/// Sends that may be with the kernel. Beyond it datagrams are dropped and counted, as a full queue in a router does;
/// a reactor that heeds [`crate::Io::train_room`] never gets there.
const IN_FLIGHT_MAX: usize = 1024;

/// Bytes with the kernel from which on there is no room for more: twice the send buffer of a socket, so that it never
/// runs dry, and little beside the memory that 1,024 whole trains would pin.
const IN_FLIGHT_BYTES_MAX: usize = 8 << 20;

/// Trains that room is kept for, so that a single connection is never refused for the size of its trains.
const _: () = assert!(IN_FLIGHT_BYTES_MAX / TRAIN_BYTES_MAX >= 64, "many whole trains must fit");

/// How long a send that the kernel had no room for is kept back. A socket's buffer empties at the rate of its device:
/// after a millisecond 100 Mbit/s have taken eight datagrams out of it.
const RETRY_AFTER: Duration = Duration::from_millis(1);

/// Bytes that the kernel writes before the name: `struct io_uring_recvmsg_out`.
const HEADER_BYTES: usize = 16;
const NAME_BYTES: usize = size_of::<libc::sockaddr_in6>();
const PAYLOAD_AT: usize = HEADER_BYTES + NAME_BYTES + Control::BYTES;
const _: () = assert!(PAYLOAD_AT <= 512, "a whole train fits in a buffer");

/// One bound address of this shard.
struct Inlet {
    fd: OwnedFd,
    v6: bool,
    segments_max: usize,
    message: libc::msghdr,
    name: Name,
    control: Control,
    vector: libc::iovec,
}

/// One send with the kernel.
struct Outlet {
    message: libc::msghdr,
    name: Name,
    control: Control,
    vector: libc::iovec,
    bytes: Bytes,
    socket: Socket,
    train: Train,
}

/// All UDP sockets of a shard.
pub(crate) struct Udp {
    // Fixed from the start: the kernel points into an inlet while it receives.
    inlets: Box<[Inlet]>,
    #[allow(clippy::vec_box, reason = "the kernel points into an outlet while the table may grow")]
    outlets: Vec<Box<Outlet>>,
    free: Vec<u32>,
    // Sends that found no room in the kernel, and when they are tried again.
    held: VecDeque<u32>,
    retry_at: Option<Instant>,
    bytes_in_flight: usize,
    buffers: Option<BufferRing>,
    stats: Arc<ShardStats>,
    multishot: bool,
    // Trains of the latest pass, and datagrams of the whole turn.
    pass_trains: usize,
    turn_datagrams: usize,
}

impl Udp {
    pub(crate) fn new(
        ring: &Ring,
        sockets: Vec<(OwnedFd, bool)>,
        stats: Arc<ShardStats>,
    ) -> Result<Self, crate::EngineError> {
        let buffers = match sockets.is_empty() {
            true => None,
            false => Some(BufferRing::new(ring, TRAIN_GROUP, TRAIN_BUFFERS, TRAIN_BUFFER_BYTES)?),
        };
        let inlets = sockets.into_iter().map(|(fd, v6)| Inlet::new(fd, v6)).collect();
        let multishot = ring.features().multishot_receive;
        Ok(Self {
            inlets,
            outlets: Vec::new(),
            free: Vec::new(),
            held: VecDeque::new(),
            retry_at: None,
            bytes_in_flight: 0,
            buffers,
            stats,
            multishot,
            pass_trains: 0,
            turn_datagrams: 0,
        })
    }

    pub(crate) fn start(&mut self, ring: &mut Ring) {
        for index in 0..self.inlets.len() {
            self.arm(ring, index);
        }
    }

    /// Whether the kernel stopped for another reason than that nothing was left, and the turn is not long yet.
    pub(crate) fn has_more(&self) -> bool {
        self.pass_trains >= PASS_TRAINS && self.turn_datagrams < TURN_DATAGRAMS
    }

    /// Shows the kernel the buffers that were read, within a turn.
    pub(crate) fn begin_pass(&mut self) {
        self.pass_trains = 0;
        if let Some(buffers) = &mut self.buffers {
            buffers.publish();
        }
    }

    /// The same at the end of a turn.
    pub(crate) fn end_turn(&mut self) {
        self.begin_pass();
        self.turn_datagrams = 0;
    }

    pub(crate) fn unregister(&self, ring: &Ring) {
        if let Some(buffers) = &self.buffers {
            buffers.unregister(ring);
        }
    }

    /// How many more trains find room, if none is split.
    pub(crate) fn room(&self) -> usize {
        let operations = IN_FLIGHT_MAX - (self.outlets.len() - self.free.len());
        operations.min(IN_FLIGHT_BYTES_MAX.saturating_sub(self.bytes_in_flight) / TRAIN_BYTES_MAX)
    }

    /// When sends that are kept back are tried again.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Tries them again, if it is time.
    pub(crate) fn retry(&mut self, ring: &mut Ring, now: Instant) {
        if self.retry_at.is_none_or(|at| at > now) {
            return;
        }
        self.retry_at = None;
        for index in std::mem::take(&mut self.held) {
            self.submit(ring, index);
        }
    }

    /// Sends datagrams, in as few operations as the kernel takes them.
    pub(crate) fn send(&mut self, ring: &mut Ring, socket: Socket, train: Train, mut bytes: Bytes) {
        let Some(inlet) = self.inlets.get(usize::from(socket.0)) else {
            return self.stats.stale_effects.add(1);
        };
        let segment = usize::from(train.segment.max(1));
        let most = (SEND_BYTES_MAX / segment).min(inlet.segments_max).max(1) * segment;
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(most));
            self.send_piece(ring, socket, train, piece);
        }
    }

    fn send_piece(&mut self, ring: &mut Ring, socket: Socket, train: Train, bytes: Bytes) {
        let datagrams = bytes.len().div_ceil(usize::from(train.segment.max(1))) as u64;
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.outlets.len() < IN_FLIGHT_MAX => {
                self.outlets.push(Box::new(Outlet::new()));
                (self.outlets.len() - 1) as u32
            }
            None => return self.stats.datagrams_dropped.add(datagrams),
        };
        self.bytes_in_flight += bytes.len();
        let outlet = &mut self.outlets[index as usize];
        (outlet.bytes, outlet.socket, outlet.train) = (bytes, socket, train);
        self.submit(ring, index);
    }

    fn submit(&mut self, ring: &mut Ring, index: u32) {
        let outlet = &mut self.outlets[index as usize];
        let entry = outlet.prepare(&self.inlets[usize::from(outlet.socket.0)]);
        self.stats.trains_out.add(1);
        // SAFETY: the outlet is boxed, holds the bytes, and is not used again until `on_sent` for this index.
        unsafe { ring.push(&entry.user_data(tag(Operation::SendTrain, index))) };
    }

    /// A train is out, or was refused.
    pub(crate) fn on_sent(&mut self, ring: &mut Ring, now: Instant, done: Completion, index: u32) {
        let error = done.error().and_then(|error| error.raw_os_error());
        if error == Some(libc::EAGAIN) {
            // Not lost, only early: the socket's buffer is full.
            self.stats.trains_retried.add(1);
            self.held.push_back(index);
            self.retry_at.get_or_insert(now + RETRY_AFTER);
            return;
        }
        let outlet = &mut self.outlets[index as usize];
        let (bytes, socket, train) = (std::mem::take(&mut outlet.bytes), outlet.socket, outlet.train);
        self.bytes_in_flight -= bytes.len();
        self.free.push(index);
        let datagrams = bytes.len().div_ceil(usize::from(train.segment.max(1))) as u64;
        match error {
            None => self.stats.datagrams_out.add(datagrams),
            Some(libc::EIO | libc::EOPNOTSUPP) if datagrams > 1 => {
                // The path cannot split trains (no checksum offload, a tunnel): from now on one by one.
                self.inlets[usize::from(socket.0)].segments_max = 1;
                self.send(ring, socket, train, bytes);
            }
            // One datagram of the train is too long for the way, as probes of the MTU are: the others are not.
            Some(libc::EMSGSIZE | libc::EINVAL) if datagrams > 1 => self.send_singly(ring, socket, train, bytes),
            Some(libc::EMSGSIZE) => self.stats.datagrams_too_long.add(datagrams),
            Some(_) => self.stats.datagrams_dropped.add(datagrams),
        }
    }

    fn send_singly(&mut self, ring: &mut Ring, socket: Socket, train: Train, mut bytes: Bytes) {
        let segment = usize::from(train.segment.max(1));
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(segment));
            self.send_piece(ring, socket, train, piece);
        }
    }

    /// A train arrived.
    pub(crate) fn on_received<S: Sink>(&mut self, ring: &mut Ring, done: Completion, index: u32, sink: &mut S) {
        let (Some(buffers), Some(inlet)) = (&mut self.buffers, self.inlets.get(index as usize)) else { return };
        if let Some(id) = done.buffer() {
            if done.result > 0 {
                let bytes = buffers.bytes_mut(id, done.result as usize);
                let train = if self.multishot { split(bytes) } else { inlet.received(bytes) };
                match train {
                    Some(train) if !train.bytes.is_empty() => {
                        let datagrams = train.count();
                        self.pass_trains += 1;
                        self.turn_datagrams += datagrams;
                        self.stats.trains_in.add(1);
                        self.stats.datagrams_in.add(datagrams as u64);
                        sink.on_datagrams(Socket(index as u16), train);
                    }
                    Some(_) => {}
                    None => self.stats.datagrams_dropped.add(1),
                }
            }
            buffers.give_back(id);
        }
        if done.result == -libc::ENOBUFS {
            self.stats.buffers_exhausted.add(1);
        }
        if !done.more() && done.result != -libc::ECANCELED {
            self.arm(ring, index as usize);
        }
    }

    fn arm(&mut self, ring: &mut Ring, index: usize) {
        let inlet = &mut self.inlets[index];
        let entry = if self.multishot { inlet.receive_many() } else { inlet.receive_one() };
        // SAFETY: the inlets are boxed and live until the shard has taken all completions; payloads go to provided
        // buffers.
        unsafe { ring.push(&entry.user_data(tag(Operation::ReceiveTrain, index as u32))) };
    }
}

fn no_message() -> libc::msghdr {
    // SAFETY: a msghdr is plain numbers and pointers, for which all zeros mean "nothing".
    unsafe { std::mem::zeroed() }
}

impl Inlet {
    fn new(fd: OwnedFd, v6: bool) -> Self {
        Self {
            fd,
            v6,
            segments_max: SEND_SEGMENTS_MAX,
            message: no_message(),
            name: Name::new(),
            control: Control::new(),
            vector: libc::iovec { iov_base: ptr::null_mut(), iov_len: TRAIN_BYTES_MAX },
        }
    }

    // Name, control messages and payload all go to the provided buffer.
    fn receive_many(&mut self) -> squeue::Entry {
        self.message.msg_namelen = NAME_BYTES as u32;
        self.message.msg_controllen = Control::BYTES;
        opcode::RecvMsgMulti::new(types::Fd(self.fd.as_raw_fd()), &self.message, TRAIN_GROUP).build()
    }

    // Before 6.0: name and control messages come here, the payload goes to a provided buffer.
    fn receive_one(&mut self) -> squeue::Entry {
        let (name, _) = self.name.for_kernel();
        self.message.msg_name = name.cast();
        self.message.msg_namelen = NAME_BYTES as u32;
        self.message.msg_control = self.control.for_kernel();
        self.message.msg_controllen = Control::BYTES;
        self.message.msg_iov = &mut self.vector;
        self.message.msg_iovlen = 1;
        opcode::RecvMsg::new(types::Fd(self.fd.as_raw_fd()), &mut self.message)
            .buf_group(TRAIN_GROUP)
            .build()
            .flags(squeue::Flags::BUFFER_SELECT)
    }

    fn received<'a>(&self, bytes: &'a mut [u8]) -> Option<Datagrams<'a>> {
        if self.message.msg_flags & libc::MSG_TRUNC != 0 {
            return None;
        }
        let peer = self.name.address()?;
        let received = Received::parse(self.control.bytes(self.message.msg_controllen));
        let segment = received.segment.unwrap_or(bytes.len());
        Some(Datagrams { peer, segment, ecn: received.ecn, bytes })
    }
}

// The kernel's layout of a multishot receive: header, name, control messages, payload, each at its fixed place.
fn split(bytes: &mut [u8]) -> Option<Datagrams<'_>> {
    let (head, payload) = bytes.split_at_mut_checked(PAYLOAD_AT)?;
    let number = |at: usize| Some(u32::from_ne_bytes(head.get(at..at + 4)?.try_into().ok()?));
    let (name_len, control_len) = (number(0)? as usize, number(4)? as usize);
    let (payload_len, flags) = (number(8)? as usize, number(12)?);
    if flags & libc::MSG_TRUNC as u32 != 0 || payload_len > payload.len() {
        return None;
    }
    let peer = address::parse(&head[HEADER_BYTES..HEADER_BYTES + name_len.min(NAME_BYTES)])?;
    let control = HEADER_BYTES + NAME_BYTES;
    let received = Received::parse(&head[control..control + control_len.min(Control::BYTES)]);
    let bytes = &mut payload[..payload_len];
    Some(Datagrams { peer, segment: received.segment.unwrap_or(payload_len), ecn: received.ecn, bytes })
}

impl Outlet {
    fn new() -> Self {
        let nobody = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
        Self {
            message: no_message(),
            name: Name::new(),
            control: Control::new(),
            vector: libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 },
            bytes: Bytes::new(),
            socket: Socket(0),
            train: Train { to: nobody, segment: 0, ecn: 0 },
        }
    }

    fn prepare(&mut self, inlet: &Inlet) -> squeue::Entry {
        let train = self.train;
        self.vector = libc::iovec { iov_base: self.bytes.as_ptr().cast_mut().cast(), iov_len: self.bytes.len() };
        let segment = (self.bytes.len() > usize::from(train.segment)).then_some(train.segment);
        self.name = Name::from_address(train.to);
        let (name, name_len) = self.name.as_raw();
        self.message.msg_name = name.cast_mut().cast();
        self.message.msg_namelen = name_len;
        self.message.msg_iov = &mut self.vector;
        self.message.msg_iovlen = 1;
        let control_len = self.control.write(inlet.v6, segment, train.ecn);
        self.message.msg_control = if control_len == 0 { ptr::null_mut() } else { self.control.for_kernel() };
        self.message.msg_controllen = control_len;
        opcode::SendMsg::new(types::Fd(inlet.fd.as_raw_fd()), &self.message).build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kernel, SocketConfig, ring::COMPLETIONS_MAX};

    fn udp(ring: &Ring) -> (Udp, std::net::UdpSocket, Train) {
        let any = "127.0.0.1:0".parse().expect("an address");
        let inlets = crate::socket::receive(&SocketConfig::new(any), 1).expect("a free port");
        let sink = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let train = Train { to: sink.local_addr().expect("bound"), segment: 100, ecn: 0 };
        let fds = inlets.fds.into_iter().map(|fd| (fd, false)).collect();
        (Udp::new(ring, fds, Arc::default()).expect("buffers"), sink, train)
    }

    // What the kernel said about the sends that were submitted, by index.
    fn sent(ring: &mut Ring, count: usize) -> Vec<(Completion, u32)> {
        let mut taken = [Completion { tag: 0, result: 0, flags: 0 }; COMPLETIONS_MAX];
        let mut all = Vec::new();
        while all.len() < count {
            ring.wait(Some(Duration::from_secs(5)));
            let got = ring.take(&mut taken);
            taken[..got].iter().for_each(|done| ring.settle(*done));
            all.extend(taken[..got].iter().map(|done| (*done, crate::tag::parse(done.tag).1)));
        }
        all
    }

    fn failing(done: Completion, error: i32) -> Completion {
        Completion { result: -error, ..done }
    }

    #[test]
    fn a_full_socket_buffer_delays_a_train_and_loses_nothing() {
        let (mut ring, now) = (Ring::new(Kernel::running()).expect("io_uring"), Instant::now());
        let (mut udp, sink, train) = udp(&ring);
        udp.send(&mut ring, Socket(0), train, Bytes::from_static(b"kept back"));
        let (done, index) = sent(&mut ring, 1)[0];
        sink.recv(&mut [0; 20]).expect("the kernel did send it");
        udp.on_sent(&mut ring, now, failing(done, libc::EAGAIN), index);
        assert_eq!((udp.deadline(), udp.stats.datagrams_dropped.get()), (Some(now + RETRY_AFTER), 0));
        udp.retry(&mut ring, now);
        assert!(udp.deadline().is_some(), "no busy loop");
        udp.retry(&mut ring, now + RETRY_AFTER);
        let (done, index) = sent(&mut ring, 1)[0];
        udp.on_sent(&mut ring, now, done, index);
        let mut bytes = [0; 20];
        let len = sink.recv(&mut bytes).expect("sent again");
        assert_eq!((&bytes[..len], udp.deadline(), udp.bytes_in_flight), (&b"kept back"[..], None, 0));
    }

    #[test]
    fn a_train_with_a_datagram_too_long_goes_out_one_by_one_and_the_next_as_one() {
        let (mut ring, now) = (Ring::new(Kernel::running()).expect("io_uring"), Instant::now());
        let (mut udp, _sink, train) = udp(&ring);
        for error in [libc::EMSGSIZE, libc::EINVAL] {
            udp.send(&mut ring, Socket(0), train, Bytes::from(vec![1; 250]));
            let (done, index) = sent(&mut ring, 1)[0];
            udp.on_sent(&mut ring, now, failing(done, error), index);
            let singles = sent(&mut ring, 3);
            udp.on_sent(&mut ring, now, failing(singles[0].0, libc::EMSGSIZE), singles[0].1);
            singles[1..].iter().for_each(|(done, index)| udp.on_sent(&mut ring, now, *done, *index));
        }
        let stats = &udp.stats;
        assert_eq!(
            (stats.datagrams_too_long.get(), stats.datagrams_out.get(), stats.datagrams_dropped.get()),
            (2, 4, 0)
        );
        assert_eq!((udp.inlets[0].segments_max, udp.bytes_in_flight), (SEND_SEGMENTS_MAX, 0));
        udp.send(&mut ring, Socket(0), train, Bytes::from(vec![1; 250]));
        let (done, index) = sent(&mut ring, 1)[0];
        udp.on_sent(&mut ring, now, failing(done, libc::EIO), index);
        assert_eq!((udp.inlets[0].segments_max, sent(&mut ring, 3).len()), (1, 3), "a way that splits no trains");
    }
}
