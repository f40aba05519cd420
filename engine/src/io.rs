//! What a reactor may ask for: a plain queue of effects that the ring drains, a test reads and the simulator routes.

use std::{
    mem,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Instant,
};

use bytes::Bytes;
use rand::{SeedableRng, rngs::StdRng};

use crate::{
    buffers::Arena,
    reactor::{ShardId, Socket, Stream, Ticket},
};

/// Mail waiting in one shard that says that its readers do not keep up: 64 boxes of the usual size.
pub const MAIL_WAITING_HIGH: usize = 65_536;

/// An open file of one shard.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct FileId(pub u32);

/// Where a train of datagrams goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Train {
    /// To whom.
    pub to: SocketAddr,
    /// Bytes per datagram; the last one may be shorter.
    pub segment: u16,
    /// The two ECN bits of the IP header.
    pub ecn: u8,
}

/// A disk operation; each ends in one `on_disk` with its ticket. Of two writes to the same bytes the one that was started
/// later counts, a sync is after the writes that were started before it, and a close after all that was started before it
/// on its file; what is started later on a file that closes fails. Anything else may come in any order.
#[derive(Clone, Debug)]
pub enum DiskOperation {
    /// Open, and create if `create`.
    Open {
        /// The file.
        path: PathBuf,
        /// Make it when it is not there.
        create: bool,
    },
    /// Read up to `len` bytes at `offset`.
    Read {
        /// From where.
        file: FileId,
        /// The first byte.
        offset: u64,
        /// How many bytes.
        len: usize,
    },
    /// Write all bytes at `offset`; with `sync` they are on disk when it is done.
    Write {
        /// To where.
        file: FileId,
        /// The first byte.
        offset: u64,
        /// What to write.
        bytes: Bytes,
        /// fdatasync before it counts as done.
        sync: bool,
    },
    /// Reserve room for the first `bytes` of a file; what was not written reads as zeros.
    Allocate {
        /// Of which file.
        file: FileId,
        /// How long it is afterwards, at least.
        bytes: u64,
    },
    /// fdatasync.
    Sync {
        /// Of which file.
        file: FileId,
    },
    /// Close.
    Close {
        /// Which file.
        file: FileId,
    },
    /// Rename, then sync the directory.
    Rename {
        /// The old name.
        from: PathBuf,
        /// The new name.
        to: PathBuf,
    },
    /// Remove a file, then sync the directory.
    Remove {
        /// Which.
        path: PathBuf,
    },
}

/// One thing that a reactor asks for.
#[derive(Debug)]
pub enum Effect<M> {
    /// Send bytes on a stream, in order with all other sends on it.
    Send {
        /// On which stream.
        stream: Stream,
        /// What.
        bytes: Bytes,
    },
    /// FIN after everything queued so far.
    Shutdown {
        /// Which stream.
        stream: Stream,
    },
    /// Close at once; what is queued is dropped.
    Close {
        /// Which stream.
        stream: Stream,
    },
    /// Stop reading, so that the peer's window fills.
    Pause {
        /// Which stream.
        stream: Stream,
    },
    /// Read again.
    Resume {
        /// Which stream.
        stream: Stream,
    },
    /// Open a connection; it ends in `Connected` or `ConnectFailed` with the token.
    Connect {
        /// Comes back in the event.
        token: u64,
        /// The source address, if it matters.
        local: Option<IpAddr>,
        /// To whom.
        remote: SocketAddr,
    },
    /// Send datagrams of equal size.
    Train {
        /// From which socket.
        socket: Socket,
        /// To whom and in which pieces.
        train: Train,
        /// All datagrams, one after the other.
        bytes: Bytes,
    },
    /// Put mail into a shard's box, or the control thread's.
    Mail {
        /// To whom.
        to: ShardId,
        /// What.
        mail: M,
    },
    /// Start a disk operation.
    Disk {
        /// Comes back in `on_disk`.
        ticket: Ticket,
        /// What to do.
        operation: DiskOperation,
    },
    /// Stop accepting on all listeners; open streams go on.
    StopAccepting,
    /// Leave the loop after this turn: the shard has drained.
    Exit,
}

/// The effects of a turn, and what a reactor may know of the world: the time, its place and its random numbers.
#[derive(Debug)]
pub struct Io<M> {
    shard: ShardId,
    shards: u16,
    now: Instant,
    wall_ms: u64,
    deadline: Option<Instant>,
    effects: Vec<Effect<M>>,
    mail_waiting: usize,
    train_room: usize,
    arena: Arena,
    // Bytes of the newest send that are still unsplit in the arena: sends in a row on one stream become one effect.
    open: Option<(Stream, usize)>,
    rng: StdRng,
}

impl<M> Io<M> {
    /// An empty queue for one shard of `shards`; `seed` decides all its random numbers.
    #[must_use]
    pub fn new(shard: ShardId, shards: u16, now: Instant, wall_ms: u64, seed: [u8; 32]) -> Self {
        Self {
            shard,
            shards,
            now,
            wall_ms,
            deadline: None,
            effects: Vec::new(),
            mail_waiting: 0,
            train_room: usize::MAX,
            arena: Arena::new(),
            open: None,
            rng: StdRng::from_seed(seed),
        }
    }

    /// The time of this turn: the clock is read once per turn, and again for each further pass over what piled up.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Milliseconds since 1970 at the start of this turn, for people and records, never for deadlines.
    #[must_use]
    pub fn wall_ms(&self) -> u64 {
        self.wall_ms
    }

    /// Which shard this is.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        self.shard
    }

    /// How many shards there are.
    #[must_use]
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// The shard's random numbers: cryptographic (ChaCha), and replayable from the seed.
    pub fn rng(&mut self) -> &mut StdRng {
        &mut self.rng
    }

    /// Where frames that several streams share are built without allocation.
    pub fn arena(&mut self) -> &mut Arena {
        self.seal();
        &mut self.arena
    }

    /// The random numbers and the arena at once, for whoever needs both.
    pub fn rng_and_arena(&mut self) -> (&mut StdRng, &mut Arena) {
        self.seal();
        (&mut self.rng, &mut self.arena)
    }

    /// Queues bytes, copied. The cheap way for small answers: sends in a row on one stream leave as one.
    pub fn send_slice(&mut self, stream: Stream, bytes: &[u8]) {
        match &mut self.open {
            Some((open, len)) if *open == stream && self.arena.fits(bytes.len()) => *len += bytes.len(),
            _ => {
                self.seal();
                self.arena.reserve(bytes.len());
                self.open = Some((stream, bytes.len()));
            }
        }
        self.arena.extend(bytes);
    }

    /// Queues shared bytes without a copy.
    pub fn send(&mut self, stream: Stream, bytes: Bytes) {
        self.push(Effect::Send { stream, bytes });
    }

    /// FIN after everything queued so far.
    pub fn shutdown(&mut self, stream: Stream) {
        self.push(Effect::Shutdown { stream });
    }

    /// Closes at once; what is queued is dropped.
    pub fn close(&mut self, stream: Stream) {
        self.push(Effect::Close { stream });
    }

    /// Stops reading, so that the peer's window fills. At most what was already received still arrives.
    pub fn pause(&mut self, stream: Stream) {
        self.push(Effect::Pause { stream });
    }

    /// Reads again after [`Io::pause`].
    pub fn resume(&mut self, stream: Stream) {
        self.push(Effect::Resume { stream });
    }

    /// Opens a connection, from `local` if given.
    pub fn connect(&mut self, token: u64, local: Option<IpAddr>, remote: SocketAddr) {
        self.push(Effect::Connect { token, local, remote });
    }

    /// Sends datagrams of `train.segment` bytes, copied.
    pub fn send_train(&mut self, socket: Socket, train: Train, bytes: &[u8]) {
        self.seal();
        let bytes = self.arena.copy(bytes);
        self.train_room = self.train_room.saturating_sub(1);
        self.effects.push(Effect::Train { socket, train, bytes });
    }

    /// Sends mail. Mail to one shard arrives in the order it was sent; one wake per destination and turn.
    pub fn mail(&mut self, to: ShardId, mail: M) {
        self.push(Effect::Mail { to, mail });
    }

    /// Mail of earlier turns that found its box full and still waits here. None is ever dropped: from
    /// [`MAIL_WAITING_HIGH`] on a reactor should refuse what would lead to more.
    #[must_use]
    pub fn mail_waiting(&self) -> usize {
        self.mail_waiting
    }

    /// How many trains of this turn are sent for sure; those beyond may be dropped. Whoever has more to send keeps it:
    /// a turn follows when trains have left.
    #[must_use]
    pub fn train_room(&self) -> usize {
        self.train_room
    }

    /// Starts a disk operation.
    pub fn disk(&mut self, ticket: Ticket, operation: DiskOperation) {
        self.push(Effect::Disk { ticket, operation });
    }

    /// Stops accepting on all listeners; open streams go on.
    pub fn stop_accepting(&mut self) {
        self.push(Effect::StopAccepting);
    }

    /// Leaves the loop after this turn, when queued sends of the turn are submitted.
    pub fn exit(&mut self) {
        self.push(Effect::Exit);
    }

    /// The next turn must start no later than this; `None`: only when something happens.
    pub fn wake_at(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    /// The deadline that the reactor set last.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// For whoever turns the reactor: the time of the turn that starts now.
    pub fn begin_turn(&mut self, now: Instant, wall_ms: u64) {
        self.now = now;
        self.wall_ms = wall_ms;
    }

    /// For whoever turns the reactor: what [`Io::mail_waiting`] says from now on.
    pub fn set_mail_waiting(&mut self, mails: usize) {
        self.mail_waiting = mails;
    }

    /// For whoever turns the reactor: what [`Io::train_room`] says from now on.
    pub fn set_train_room(&mut self, trains: usize) {
        self.train_room = trains;
    }

    // How many effects this turn has led to so far.
    pub(crate) fn queued(&self) -> usize {
        self.effects.len()
    }

    /// For whoever turns the reactor: takes the queued effects into `into`, which must be empty, and leaves its
    /// capacity for the next ones.
    pub fn take_effects(&mut self, into: &mut Vec<Effect<M>>) {
        assert!(into.is_empty(), "effects of the last turn were not drained");
        self.seal();
        mem::swap(&mut self.effects, into);
    }

    fn push(&mut self, effect: Effect<M>) {
        self.seal();
        self.effects.push(effect);
    }

    fn seal(&mut self) {
        if let Some((stream, len)) = self.open.take() {
            let bytes = self.arena.take(len);
            self.effects.push(Effect::Send { stream, bytes });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn io() -> Io<()> {
        Io::new(ShardId(0), 1, Instant::now(), 0, [7; 32])
    }

    #[test]
    fn sends_in_a_row_on_one_stream_leave_as_one() {
        let mut io = io();
        let (a, b) = (Stream { index: 1, generation: 0 }, Stream { index: 2, generation: 0 });
        io.send_slice(a, b"one ");
        io.send_slice(a, b"two");
        io.send_slice(b, b"three");
        io.shutdown(a);
        let mut effects = Vec::new();
        io.take_effects(&mut effects);
        let sent: Vec<_> = effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Send { stream, bytes } => Some((stream.index, bytes.to_vec())),
                _ => None,
            })
            .collect();
        assert_eq!(sent, [(1, b"one two".to_vec()), (2, b"three".to_vec())]);
        assert!(matches!(effects[2], Effect::Shutdown { stream } if stream == a));
    }
}
