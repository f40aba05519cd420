//! Connecting: a socket is made, moved into the ring's own table and connected there, so that more connections than
//! RLIMIT_NOFILE can be open.

use std::{
    collections::{HashMap, VecDeque},
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd},
};

use io_uring::{opcode, types};

use crate::{
    address::Name,
    reactor::{StreamClose, StreamEvent},
    ring::{Completion, Ring},
    socket,
    stream::{File, number, on_file},
    tag::{Operation, tag},
    tcp::{Sink, Tcp},
};

/// Sockets that are plain descriptors at a time, on their way into the ring's table. Further connects wait their turn.
const STARTING_MAX: usize = 256;

/// The kernel's "any free place" in the ring's table.
const ANY_PLACE: i32 = -1;

/// A connection that is not up yet. Boxed: the kernel reads the name and writes the place.
struct Connecting {
    token: u64,
    name: Name,
    place: RawFd,
    socket: Option<OwnedFd>,
}

struct Wish {
    token: u64,
    local: Option<IpAddr>,
    remote: SocketAddr,
}

/// Connections on their way.
#[derive(Default)]
pub(crate) struct Connector {
    waiting: VecDeque<Wish>,
    starting: usize,
    connecting: HashMap<u32, Box<Connecting>>,
    failed: Vec<(u64, io::ErrorKind)>,
}

impl Connector {
    pub(crate) fn has_failed(&self) -> bool {
        !self.failed.is_empty()
    }
}

impl Tcp {
    /// Opens a connection; it ends in one event with the token.
    pub(crate) fn connect(&mut self, ring: &mut Ring, token: u64, local: Option<IpAddr>, remote: SocketAddr) {
        let wish = Wish { token, local, remote };
        if self.streams.open() as usize + self.connector.waiting.len() >= self.streams.open_max() as usize {
            return self.fail(token, io::ErrorKind::QuotaExceeded);
        }
        if self.connector.starting >= STARTING_MAX {
            self.connector.waiting.push_back(wish);
        } else {
            self.start_connect(ring, wish);
        }
    }

    /// Tells the reactor about connections that failed at once.
    pub(crate) fn report_failed<S: Sink>(&mut self, sink: &mut S) {
        for (token, error) in std::mem::take(&mut self.connector.failed) {
            // No slot was ever used: a handle that no stream has.
            let nobody = crate::reactor::Stream { index: u32::MAX, generation: u32::MAX };
            sink.on_stream(nobody, StreamEvent::ConnectFailed { token, error });
        }
    }

    fn fail(&mut self, token: u64, error: io::ErrorKind) {
        self.stats.connect_errors.add(1);
        self.connector.failed.push((token, error));
    }

    fn start_connect(&mut self, ring: &mut Ring, wish: Wish) {
        let socket = match socket::for_connect(wish.local, wish.remote) {
            Ok(socket) => socket,
            Err(error) => return self.fail(wish.token, error.kind()),
        };
        let index = self.streams.insert(File::Plain(socket.as_raw_fd()));
        self.stats.streams_open.set(u64::from(self.streams.open()));
        let slot = self.streams.slot(index);
        slot.state.connecting = true;
        slot.owed += 1;
        let mut connecting = Box::new(Connecting {
            token: wish.token,
            name: Name::from_address(wish.remote),
            place: socket.as_raw_fd(),
            socket: Some(socket),
        });
        let entry = opcode::FilesUpdate::new(&raw mut connecting.place, 1).offset(ANY_PLACE).build();
        self.connector.starting += 1;
        self.connector.connecting.insert(index, connecting);
        // SAFETY: the place is boxed and kept in the connector until `on_connected`, which follows this completion.
        unsafe { ring.push(&entry.user_data(tag(Operation::Install, index))) };
    }

    /// The socket is in the ring's table, or there is no place and it stays a plain descriptor: connect it.
    pub(crate) fn on_installed(&mut self, ring: &mut Ring, done: Completion, index: u32) {
        self.connector.starting -= 1;
        let Some(connecting) = self.connector.connecting.get_mut(&index) else {
            unreachable!("a slot that connects is in the table until it is connected");
        };
        let file = match (connecting.socket.take(), done.result) {
            (Some(_closed), 1) => File::Direct(connecting.place as u32),
            (Some(socket), _) => File::Plain(socket.into_raw_fd()),
            (None, _) => File::None,
        };
        self.streams.set_file(index, file);
        let (name, len) = connecting.name.as_raw();
        let entry = opcode::Connect::new(number(file), name, len).build();
        // SAFETY: the name is boxed and kept in the connector until this completion was taken.
        unsafe { ring.push(&on_file(file, entry).user_data(tag(Operation::Connect, index))) };
        // As many as there is room for: one that fails at once leaves its room to the next.
        while self.connector.starting < STARTING_MAX {
            let Some(wish) = self.connector.waiting.pop_front() else { break };
            self.start_connect(ring, wish);
        }
    }

    /// The connection is up, or refused.
    pub(crate) fn on_connected<S: Sink>(&mut self, ring: &mut Ring, done: Completion, index: u32, sink: &mut S) {
        let Some(connecting) = self.connector.connecting.remove(&index) else {
            unreachable!("a slot that connects is in the table until it is connected");
        };
        let token = connecting.token;
        let stream = self.streams.handle(index);
        let slot = self.streams.slot(index);
        slot.owed -= 1;
        if let Some(error) = done.error() {
            self.stats.connect_errors.add(1);
            // The slot stays silent: `connecting` is still set.
            self.begin_close(ring, index, StreamClose::Failed(error.kind()));
            return sink.on_stream(stream, StreamEvent::ConnectFailed { token, error: error.kind() });
        }
        slot.state.connecting = false;
        self.stats.connected.add(1);
        self.arm(ring, index);
        sink.on_stream(stream, StreamEvent::Connected { token });
    }
}

const _: () = assert!(size_of::<types::Fd>() == size_of::<RawFd>(), "a descriptor's place holds a table index");
