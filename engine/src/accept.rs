//! Accepting: a few accepts per listener wait in the kernel, each with room for the peer's address, or one multishot
//! accept when nobody wants to know it.

use std::{
    io, mem,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::{AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

use io_uring::{opcode, types};

use crate::{
    address::Name,
    reactor::{Listener, StreamEvent},
    ring::{Completion, Ring},
    stream::File,
    tag::{Operation, tag},
    tcp::{Sink, Tcp, push_close},
};

/// Accepts that wait per listener when addresses are wanted: connections taken per turn at most. A multishot accept
/// cannot tell addresses, because its completions would overwrite each other's.
const ACCEPTS: usize = 32;
const ACCEPT_BITS: u32 = ACCEPTS.trailing_zeros();

/// How long accepting rests when the process or the system is out of descriptors or memory: the connection stays in the backlog meanwhile, and
/// trying at once would burn the core.
const REST: Duration = Duration::from_millis(10);

/// What is reported as the peer when addresses are not asked for.
const UNSPECIFIED: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// One listening socket of this shard.
pub(crate) struct Acceptor {
    fd: OwnedFd,
    listener: Listener,
    // Boxed: the kernel writes addresses there while accepts wait. `None`: one multishot accept.
    names: Option<Box<[Name; ACCEPTS]>>,
    resting: u32,
    rest_until: Option<Instant>,
    stopped: bool,
}

impl Acceptor {
    pub(crate) fn new(fd: OwnedFd, listener: Listener, addressed: bool) -> Self {
        let names = addressed.then(|| Box::new([const { Name::new() }; ACCEPTS]));
        Self { fd, listener, names, resting: 0, rest_until: None, stopped: false }
    }

    /// When a rest ends.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.rest_until
    }

    fn count(&self) -> usize {
        self.names.as_ref().map_or(1, |names| names.len())
    }

    fn arm(&mut self, ring: &mut Ring, index: u32, direct: bool) {
        let at = index as usize % ACCEPTS;
        let fd = types::Fd(self.fd.as_raw_fd());
        let entry = match &mut self.names {
            None => opcode::AcceptMulti::new(fd).allocate_file_index(direct).build(),
            Some(names) => {
                let (name, len) = names[at].for_kernel();
                let slot = direct.then(types::DestinationSlot::auto_target);
                opcode::Accept::new(fd, name, len).file_index(slot).build()
            }
        };
        // SAFETY: the name is boxed and belongs to this accept alone until its completion was taken; the acceptor
        // outlives the ring's operations (`Net::shut_down`).
        unsafe { ring.push(&entry.user_data(tag(Operation::Accept, index))) };
    }
}

// Whether an accept failed for want of something that others have to give back first.
fn is_exhaustion(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

impl Tcp {
    /// Lets connections in.
    pub(crate) fn start_accepting(&mut self, ring: &mut Ring) {
        for at in 0..self.acceptors.len() {
            for k in 0..self.acceptors[at].count() {
                self.arm_accept(ring, (at << ACCEPT_BITS | k) as u32);
            }
        }
    }

    /// Lets no more connections in: the sockets stop listening, so that clients are refused at once.
    pub(crate) fn stop_accepting(&mut self) {
        for acceptor in self.acceptors.iter_mut().filter(|acceptor| !acceptor.stopped) {
            acceptor.stopped = true;
            acceptor.rest_until = None;
            // The accepts complete with an error. A socket that cannot be shut down does not listen any more.
            let _ = socket2::SockRef::from(&acceptor.fd).shutdown(std::net::Shutdown::Both);
        }
    }

    /// A connection came in, or accepting failed.
    pub(crate) fn on_accepted<S: Sink>(
        &mut self,
        ring: &mut Ring,
        now: Instant,
        done: Completion,
        index: u32,
        sink: &mut S,
    ) {
        let at = (index >> ACCEPT_BITS) as usize;
        let direct = self.accepts_direct.remove(&index, done.more());
        match done.error() {
            None => {
                let file = if direct { File::Direct(done.result as u32) } else { File::Plain(done.result) };
                self.welcome(ring, at, file, index, sink);
            }
            Some(_) if self.acceptors[at].stopped => return,
            Some(error) => {
                self.stats.accept_errors.add(1);
                if is_exhaustion(&error) {
                    let acceptor = &mut self.acceptors[at];
                    acceptor.resting |= 1 << (index as usize % ACCEPTS);
                    acceptor.rest_until = Some(now + REST);
                    return;
                }
            }
        }
        if !done.more() && !self.acceptors[at].stopped {
            self.arm_accept(ring, index);
        }
    }

    /// Accepts again where it rested long enough.
    pub(crate) fn wake_acceptors(&mut self, ring: &mut Ring, now: Instant) {
        for at in 0..self.acceptors.len() {
            let acceptor = &mut self.acceptors[at];
            if acceptor.rest_until.is_none_or(|until| until > now) {
                continue;
            }
            acceptor.rest_until = None;
            let resting = mem::take(&mut acceptor.resting);
            for k in (0..ACCEPTS).filter(|k| resting & 1 << k != 0) {
                self.arm_accept(ring, (at << ACCEPT_BITS | k) as u32);
            }
        }
    }

    fn welcome<S: Sink>(&mut self, ring: &mut Ring, at: usize, file: File, index: u32, sink: &mut S) {
        if self.streams.is_full() {
            self.stats.refused.add(1);
            return push_close(ring, file, tag(Operation::Refuse, 0));
        }
        let acceptor = &self.acceptors[at];
        let listener = acceptor.listener;
        let peer = acceptor.names.as_ref().and_then(|names| names[index as usize % ACCEPTS].address());
        self.stats.accepted.add(1);
        let stream = self.open(ring, file);
        sink.on_stream(stream, StreamEvent::Accepted { listener, peer: peer.unwrap_or(UNSPECIFIED) });
    }

    fn arm_accept(&mut self, ring: &mut Ring, index: u32) {
        let direct = self.streams.direct() + self.accepts_direct.len() < self.table;
        if direct {
            self.accepts_direct.insert(index);
        }
        self.acceptors[(index >> ACCEPT_BITS) as usize].arm(ring, index, direct);
    }
}

/// Which of the waiting accepts put their connection in the ring's own table.
#[derive(Default)]
pub(crate) struct DirectAccepts(Vec<u32>);

impl DirectAccepts {
    fn insert(&mut self, index: u32) {
        self.0.push(index);
    }

    fn len(&self) -> u32 {
        self.0.len() as u32
    }

    // Whether the accept was direct; it stays so while it goes on.
    fn remove(&mut self, index: &u32, more: bool) -> bool {
        let Some(at) = self.0.iter().position(|direct| direct == index) else { return false };
        if !more {
            self.0.swap_remove(at);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepting_rests_when_descriptors_are_gone_and_not_when_a_client_is() {
        let errors = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ECONNABORTED, libc::EPROTO];
        let rests = errors.map(|code| is_exhaustion(&io::Error::from_raw_os_error(code)));
        assert_eq!(rests, [true, true, true, false, false]);
    }
}
