//! One connection: quiche's, told in events, read and written without copies where that is possible.

mod observe;
mod paths;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::{BufMut, Bytes, BytesMut};
use quiche::Shutdown;

use self::paths::Paths;
use crate::{
    buffer::Shared,
    config::TRAIN_BYTES_MAX,
    event::CloseReason,
    id::Id,
    stats::Stats,
    stream::{Direction, Side, StreamError, StreamId},
};

/// quiche's connection, with buffers that are shared.
pub(crate) type Quiche = quiche::Connection<Shared>;

/// Streams whose end was told and not read, at most, if the peer may not have more open; beyond that the application does not
/// look anyway.
const ENDED_MIN: u64 = 1024;

/// A connection.
pub struct Connection {
    quiche: Quiche,
    side: Side,
    /// The client's first destination, or that of its answer to a Retry: it may be repeated while packets are late.
    pub(crate) first: Option<Id>,
    local: SocketAddr,
    remote: SocketAddr,
    /// When the handshake must be done.
    handshake_until: Option<Instant>,
    /// What pacing lets go next, and when.
    release_at: Option<Instant>,
    /// How many streams the peer has opened, by direction.
    opened: [u64; 2],
    /// Which before these are still to come, by direction: rows, by their first, and what is behind their last.
    passed: [BTreeMap<u64, u64>; 2],
    /// How many streams we have opened, by direction.
    opening: [u64; 2],
    /// Whether we wanted to open more than the peer allowed, by direction.
    starved: [bool; 2],
    /// Streams that we may still write, and whether one took less than it was given.
    writing: BTreeMap<u64, bool>,
    /// Streams whose end or reset has not come.
    reading: BTreeMap<u64, Reading>,
    /// Whether a datagram came since those were last looked through.
    heard: bool,
    /// Streams whose end has come without further bytes, and is not read yet.
    ended: BTreeSet<u64>,
    ended_max: usize,
    /// How many streams in one direction may still be stopped before their end.
    stops_left: u64,
    received: usize,
    /// How many streams the peer has stopped, and whether some of them are not told.
    stopped: u64,
    has_stops: bool,
    /// How many streams the peer has reset, and whether some of them may not be told.
    reset: u64,
    has_resets: bool,
    told: Told,
    closing: Option<u64>,
    failure: Option<quiche::Error>,
    /// The handshake took too long: one last packet, if it may be sent, and it is over.
    abandoned: bool,
    over: bool,
    paths: Paths,
    pub(crate) token: Option<[u8; 16]>,
    pub(crate) armed: Option<Instant>,
    pub(crate) queued: bool,
    pub(crate) counts_as_half_open: bool,
}

/// What is known of a stream whose end has not come.
#[derive(Clone, Copy, Default)]
struct Reading {
    /// Something of it was read.
    was_read: bool,
    /// It is not wanted: nothing of it is told.
    is_stopped: bool,
    /// What we wrote on it was given up.
    is_given_up: bool,
}

/// What the application knows already.
#[derive(Clone, Copy, Default)]
struct Told {
    early: bool,
    connected: bool,
    datagram: bool,
    closed: bool,
}

/// A train as it stands in the caller's buffer.
pub(crate) struct Train {
    pub(crate) from: SocketAddr,
    pub(crate) to: SocketAddr,
    pub(crate) size: usize,
    pub(crate) segment: usize,
    pub(crate) release_at: Option<Instant>,
    /// Bytes behind the train that make a datagram of their own: a probe of the path's MTU.
    pub(crate) odd: usize,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("side", &self.side).field("remote", &self.remote).finish_non_exhaustive()
    }
}

impl Connection {
    pub(crate) fn new(
        quiche: Quiche,
        side: Side,
        first: Option<Id>,
        (local, remote): (SocketAddr, SocketAddr),
        handshake_until: Instant,
        streams_max: [u64; 2],
    ) -> Self {
        Self {
            quiche,
            side,
            first,
            local,
            remote,
            handshake_until: Some(handshake_until),
            release_at: None,
            opened: [0; 2],
            passed: [BTreeMap::new(), BTreeMap::new()],
            opening: [0; 2],
            starved: [false; 2],
            writing: BTreeMap::new(),
            reading: BTreeMap::new(),
            heard: false,
            ended: BTreeSet::new(),
            ended_max: ENDED_MIN.max(streams_max.iter().sum()) as usize,
            stops_left: streams_max[Direction::Unidirectional as usize] / 2,
            received: 0,
            stopped: 0,
            has_stops: false,
            reset: 0,
            has_resets: false,
            told: Told::default(),
            closing: None,
            failure: None,
            abandoned: false,
            over: false,
            paths: Paths::default(),
            token: None,
            armed: None,
            queued: false,
            counts_as_half_open: false,
        }
    }

    // For the application.

    /// Which end of it this is.
    #[must_use]
    pub fn side(&self) -> Side {
        self.side
    }

    /// The peer's address.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.remote
    }

    /// The address of ours that the peer uses.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The protocol that was agreed on; empty before the handshake is done.
    #[must_use]
    pub fn alpn(&self) -> &[u8] {
        self.quiche.application_proto()
    }

    /// The name that the client asked for.
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        self.quiche.server_name()
    }

    /// The certificate (DER) that the peer has shown. Who trusts it by its hash, and not by whom it is signed, compares it.
    #[must_use]
    pub fn peer_certificate(&self) -> Option<&[u8]> {
        self.quiche.peer_cert()
    }

    /// Whether the handshake is done.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.quiche.is_established()
    }

    /// Whether what is read now came with the client's first packet, and may be a replay.
    #[must_use]
    pub fn is_early(&self) -> bool {
        self.quiche.is_in_early_data()
    }

    /// Whether the handshake took a ticket of an earlier connection.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.quiche.is_resumed()
    }

    /// What a client needs to resume later: the newest ticket that came.
    #[must_use]
    pub fn session(&self) -> Option<&[u8]> {
        self.quiche.session()
    }

    /// The next stream of ours. Nothing is sent before something is written.
    ///
    /// # Errors
    /// [`StreamError::Limit`]: the peer allows no more for now, and [`Event::StreamsAvailable`](crate::Event::StreamsAvailable) will tell.
    pub fn open(&mut self, direction: Direction) -> Result<StreamId, StreamError> {
        let kind = direction as usize;
        let id = StreamId::new(self.side, direction, self.opening[kind]);
        match self.quiche.stream_send(id.0, &[], false) {
            Ok(_) => {
                self.opening[kind] += 1;
                self.writing.insert(id.0, false);
                if direction == Direction::Bidirectional {
                    self.reading.insert(id.0, Reading::default());
                }
                Ok(id)
            }
            Err(error) => {
                self.starved[kind] = true;
                Err(error.into())
            }
        }
    }

    /// How many more streams the peer allows.
    #[must_use]
    pub fn streams_left(&self, direction: Direction) -> u64 {
        match direction {
            Direction::Bidirectional => self.quiche.peer_streams_left_bidi(),
            Direction::Unidirectional => self.quiche.peer_streams_left_uni(),
        }
    }

    /// How many more streams the peer allows. If there are none, [`Event::StreamsAvailable`](crate::Event::StreamsAvailable) will tell.
    pub(crate) fn credit(&mut self, direction: Direction) -> u64 {
        let left = self.streams_left(direction);
        self.starved[direction as usize] |= left == 0;
        left
    }

    /// Whether a stream is over: all that was written has arrived or was given up, and its end was read.
    pub(crate) fn is_gone(&mut self, id: StreamId) -> bool {
        matches!(self.quiche.stream_capacity(id.0), Err(quiche::Error::InvalidStreamState(_)))
    }

    /// Whether the end is all that is left to read of a stream, and quiche has given it away.
    pub(crate) fn is_at_end(&self, id: StreamId) -> bool {
        self.ended.contains(&id.0)
    }

    /// Whether nothing more can be said to the peer.
    pub(crate) fn is_closing(&self) -> bool {
        self.told.closed || self.closing.is_some() || self.is_over()
    }

    /// Reads from a stream; whether that was its end.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub fn read(&mut self, id: StreamId, into: &mut [u8]) -> Result<(usize, bool), StreamError> {
        if self.ended.remove(&id.0) {
            return Ok((0, true));
        }
        let outcome = self.quiche.stream_recv(id.0, into);
        self.note_read(id, &outcome);
        Ok(outcome?)
    }

    fn note_read(&mut self, id: StreamId, outcome: &quiche::Result<(usize, bool)>) {
        match outcome {
            Ok((_, false)) => self.reading.entry(id.0).or_default().was_read = true,
            Err(quiche::Error::Done) => {}
            Ok((_, true)) | Err(_) => drop(self.reading.remove(&id.0)),
        }
    }

    /// Reads at most so many bytes from a stream into memory of their own; whether that was its end.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub fn read_shared(&mut self, id: StreamId, len_max: usize) -> Result<(Bytes, bool), StreamError> {
        // An end without bytes is given only to who has room.
        let len = self.quiche.stream_readable_len(id.0, len_max).max(1);
        if self.is_at_end(id) {
            return self.read(id, &mut []).map(|(_, end)| (Bytes::new(), end));
        }
        let mut into = BytesMut::with_capacity(len).limit(len);
        let outcome = self.quiche.stream_recv_buf(id.0, &mut into);
        self.note_read(id, &outcome);
        Ok((into.into_inner().freeze(), outcome?.1))
    }

    /// Writes to a stream what fits, and says how much that was; `end`: these are its last bytes, if all fit. After less
    /// than all, [`Event::Writable`](crate::Event::Writable) will tell.
    ///
    /// An end should come with the last bytes: quiche 0.30 forgets a stream whose bytes are acknowledged, and does not
    /// send an end again that left in a packet of its own and was lost (cloudflare/quiche issue 2525).
    ///
    /// # Errors
    /// See [`StreamError`].
    pub fn write(&mut self, id: StreamId, bytes: &[u8], end: bool) -> Result<usize, StreamError> {
        let taken = match self.quiche.stream_send(id.0, bytes, end) {
            Ok(taken) => taken,
            Err(error) => self.untaken(id, error)?,
        };
        self.note_written(id, taken < bytes.len(), end);
        Ok(taken)
    }

    /// Nothing was taken: because nothing fits, or because the stream is over. quiche says `Done` for both.
    fn untaken(&mut self, id: StreamId, error: quiche::Error) -> Result<usize, StreamError> {
        let error = match (error, self.quiche.stream_capacity(id.0)) {
            (quiche::Error::Done, Ok(_)) => return Ok(0),
            (quiche::Error::Done, Err(error)) => error,
            (error, _) => error,
        };
        // It is learnt here, and not told again.
        self.writing.remove(&id.0);
        self.starved[id.direction() as usize] |= error == quiche::Error::StreamLimit;
        Err(error.into())
    }

    fn note_written(&mut self, id: StreamId, is_short: bool, end: bool) {
        // One of ours may be written without being opened first.
        let may_be_new = id.side() == self.side && !id.is_uni() && !self.writing.contains_key(&id.0);
        if may_be_new && !self.quiche.stream_finished(id.0) {
            self.reading.entry(id.0).or_default();
        }
        if end && !is_short {
            self.writing.remove(&id.0);
        } else {
            *self.writing.entry(id.0).or_default() |= is_short;
        }
    }

    /// Writes shared bytes without a copy; what does not fit is given back.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub fn write_shared(&mut self, id: StreamId, bytes: Bytes, end: bool) -> Result<Option<Bytes>, StreamError> {
        if bytes.is_empty() {
            self.write(id, &[], end)?;
            return Ok(None);
        }
        let copy = bytes.clone();
        // quiche keeps no end for what it did not take whole, and gives it back.
        let taken = match self.quiche.stream_send_zc(id.0, bytes, end) {
            Ok((taken, _)) => taken,
            Err(error) => self.untaken(id, error)?,
        };
        self.note_written(id, taken < copy.len(), end);
        Ok((taken < copy.len()).then(|| copy.slice(taken..)))
    }

    /// Bytes that [`Connection::write`] would take now.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub fn capacity(&mut self, id: StreamId) -> Result<usize, StreamError> {
        Ok(self.quiche.stream_capacity(id.0)?)
    }

    /// Asks the peer to send no more on a stream. Nothing more of it is told.
    ///
    /// quiche 0.30 never forgets a stream in one direction that it stops before its end (cloudflare/quiche issue 1968), and
    /// the peer may open one less for ever. So the peer is asked for half of those that it may have open, and what comes on
    /// further ones is dropped.
    pub fn stop(&mut self, id: StreamId, code: u64) {
        self.open_unsent(id);
        self.ended.remove(&id.0);
        if id.is_uni() && id.side() == self.side {
            return;
        }
        // What has ended is not to be stopped, and would not be forgotten either.
        if self.discard(id) || self.quiche.stream_finished(id.0) {
            self.reading.remove(&id.0);
            return;
        }
        self.reading.entry(id.0).or_default().is_stopped = true;
        if id.is_uni() && self.stops_left == 0 {
            return;
        }
        let is_first = self.quiche.stream_shutdown(id.0, Shutdown::Read, code).is_ok();
        self.stops_left -= u64::from(is_first && id.is_uni());
    }

    /// Drops what has come on a stream; whether that was all of it.
    fn discard(&mut self, id: StreamId) -> bool {
        loop {
            let outcome = self.quiche.stream_discard(id.0, usize::MAX);
            self.note_read(id, &outcome);
            match outcome {
                Ok((_, false)) => {}
                Ok((_, true)) | Err(quiche::Error::StreamReset(_)) => return true,
                Err(_) => return false,
            }
        }
    }

    /// Gives up what is written on a stream and not acknowledged.
    pub fn reset(&mut self, id: StreamId, code: u64) {
        self.open_unsent(id);
        // quiche 0.30 also sends an end of what it drops here, one stream per packet. As the next one it shares a packet with
        // the reset, which is read first, unless the window is but a few bytes; in a later one it passes for a good end when
        // that of the reset is lost.
        let _ = self.quiche.stream_priority(id.0, 0, false);
        // It may be over already.
        let _ = self.quiche.stream_shutdown(id.0, Shutdown::Write, code);
        self.writing.remove(&id.0);
        if !id.is_uni() && !self.quiche.stream_finished(id.0) {
            self.reading.entry(id.0).or_default().is_given_up = true;
        }
    }

    /// Opens a stream of ours on which nothing was sent, so that the peer hears of its end: else it would count it as
    /// open for ever, once it hears of one behind it (RFC 9000, section 3.2).
    fn open_unsent(&mut self, id: StreamId) {
        if id.side() == self.side && !self.writing.contains_key(&id.0) {
            // One that is over takes nothing.
            if self.quiche.stream_send(id.0, &[], false).is_ok() {
                self.writing.insert(id.0, false);
            }
        }
    }

    /// Whether a stream is read to its end, or unknown.
    #[must_use]
    pub fn is_finished(&self, id: StreamId) -> bool {
        self.quiche.stream_finished(id.0) && !self.is_at_end(id)
    }

    /// How urgent a stream is (0 first, 127 as a rule), and whether it shares with others of the same urgency.
    ///
    /// # Errors
    /// See [`StreamError`].
    pub fn prioritise(&mut self, id: StreamId, urgency: u8, incremental: bool) -> Result<(), StreamError> {
        Ok(self.quiche.stream_priority(id.0, urgency, incremental)?)
    }

    /// Queues a datagram; whether there was room, and the peer takes ones of this size.
    pub fn send_datagram(&mut self, bytes: Bytes) -> bool {
        self.quiche.dgram_send_buf(bytes).is_ok()
    }

    /// The oldest datagram that waits.
    pub fn recv_datagram(&mut self) -> Option<Bytes> {
        let datagram = self.quiche.dgram_recv_buf().ok();
        self.told.datagram = datagram.is_some();
        datagram
    }

    /// Bytes of the largest datagram that can be sent; `None`: the peer takes none.
    #[must_use]
    pub fn datagram_max(&self) -> Option<usize> {
        self.quiche.dgram_max_writable_len()
    }

    /// Datagrams that wait to be sent.
    #[must_use]
    pub fn datagrams_waiting(&self) -> usize {
        self.quiche.dgram_send_queue_len()
    }

    /// Ends the connection: the peer is told the application's code and a reason for people.
    pub fn close(&mut self, code: u64, reason: &[u8]) {
        if self.quiche.close(true, code, reason).is_ok() {
            self.closing = Some(code);
        }
    }

    /// Asks the peer to answer, so that a silent connection stays.
    pub fn ping(&mut self) {
        // A connection that cannot ask is over.
        let _ = self.quiche.send_ack_eliciting();
    }

    /// The id that the peer reaches us by, for logs.
    #[must_use]
    pub fn id(&self) -> Option<Id> {
        Id::from_slice(&self.quiche.source_id())
    }

    /// All ids that the peer may reach us by, its own first choice not included.
    pub fn ids(&self) -> impl Iterator<Item = Id> {
        self.quiche.source_ids().filter_map(|id| Id::from_slice(id))
    }

    /// The id that we reach the peer by.
    #[must_use]
    pub fn peer_id(&self) -> Option<Id> {
        Id::from_slice(&self.quiche.destination_id())
    }

    /// What was counted.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let all = self.quiche.stats();
        let path = self.quiche.path_stats().find(|path| path.active);
        Stats {
            rtt: path.as_ref().map_or(Duration::ZERO, |path| path.rtt),
            rtt_min: path.as_ref().and_then(|path| path.min_rtt).unwrap_or_default(),
            window: path.map_or(0, |path| path.cwnd as u64),
            mtu: self.quiche.max_send_udp_payload_size(),
            packets_sent: all.sent as u64,
            packets_received: all.recv as u64,
            packets_lost: all.lost as u64,
            packets_spurious: all.spurious_lost as u64,
            bytes_sent: all.sent_bytes,
            bytes_received: all.recv_bytes,
            stream_bytes_resent: all.stream_retrans_bytes,
            amplification_limited: all.amplification_limited_count,
        }
    }

    // For the endpoint.

    /// Takes a datagram. `Ok(false)`: nothing in it could be used.
    pub(crate) fn handle(
        &mut self,
        (local, remote): (SocketAddr, SocketAddr),
        datagram: &mut [u8],
    ) -> Result<bool, quiche::Error> {
        let outcome = self.quiche.recv(datagram, quiche::RecvInfo { from: remote, to: local });
        self.heard = true;
        // Any answer may be due, and with bbr2 an earlier release.
        self.release_at = None;
        if let Err(error) = outcome {
            self.failure.get_or_insert(error);
            return Err(error);
        }
        let stats = self.quiche.stats();
        let is_used = std::mem::replace(&mut self.received, stats.recv) < stats.recv;
        let stopped = stats.stopped_stream_count_remote;
        self.has_stops |= std::mem::replace(&mut self.stopped, stopped) < stopped;
        let reset = stats.reset_stream_count_remote;
        self.has_resets |= std::mem::replace(&mut self.reset, reset) < reset;
        if is_used && (local, remote) != (self.local, self.remote) && self.quiche.is_established() {
            self.ask_again(local, remote);
        }
        Ok(is_used || self.quiche.is_closed())
    }

    /// Whether [`Connection::observe`] may wait until more datagrams are handled: not while the handshake or an end is
    /// under way, and not when a stream was stopped, which quiche forgets with the next packet.
    pub(crate) fn can_wait(&self) -> bool {
        self.told.connected && !self.told.closed && !self.has_stops && !self.is_over() && !self.quiche.is_draining()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.release_at = self.release_at.filter(|at| *at > now);
        if self.handshake_until.is_some_and(|until| until <= now) && !self.quiche.is_established() {
            self.handshake_until = None;
            self.abandoned = true;
            self.failure.get_or_insert(quiche::Error::Done);
            // Whoever is there learns it.
            let _ = self.quiche.close(false, quiche::WireErrorCode::ApplicationError as u64, b"handshake timeout");
        }
        if self.quiche.timeout_instant().is_some_and(|at| at <= now) {
            self.quiche.on_timeout();
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let timers = [self.quiche.timeout_instant(), self.handshake_until, self.release_at];
        timers.into_iter().flatten().min()
    }

    /// Fills `out` with datagrams for one send.
    ///
    /// Until one is shorter or longer than the first, the caller's room is used up, quiche's send quantum is reached, or,
    /// with bbr2, the next one is to leave at another time.
    pub(crate) fn poll_transmit(&mut self, now: Instant, out: &mut [u8], segments_max: usize) -> Option<Train> {
        let release = self.quiche.get_next_release_time();
        if let Some(at) = release.and_then(|release| release.time(now)) {
            self.release_at = Some(at);
            return None;
        }
        let paces = self.quiche.gcongestion_enabled().unwrap_or(false);
        let quantum = if paces { TRAIN_BYTES_MAX } else { self.quiche.send_quantum().max(1) };
        let room = out.len().min(TRAIN_BYTES_MAX);
        let Ok((segment, info)) = self.quiche.send(&mut out[..room]) else {
            self.over |= self.abandoned;
            return None;
        };
        let mut train = Train {
            from: info.from,
            to: info.to,
            size: segment,
            segment,
            release_at: (info.at > now).then_some(info.at),
            odd: 0,
        };
        let mtu = self.quiche.max_send_udp_payload_size().max(segment);
        let mut segments = 1;
        while segments < segments_max.max(1) && train.size + segment <= quantum && train.size + mtu <= room {
            let next = self.quiche.get_next_release_time();
            let leaves_together = match (release, next) {
                (Some(release), Some(next)) => !paces || next.can_burst() || next.time_eq(&release, now),
                _ => true,
            };
            if !leaves_together {
                break;
            }
            let behind = &mut out[train.size..room];
            let Ok((len, _)) = self.quiche.send_on_path(behind, Some(train.from), Some(train.to)) else { break };
            segments += 1;
            if len > segment {
                train.odd = len;
                break;
            }
            train.size += len;
            if len < segment {
                break;
            }
        }
        (train.from, train.to) = self.route((train.from, train.to));
        Some(train)
    }

    fn close_reason(&self) -> CloseReason {
        if let Some(code) = self.closing {
            return CloseReason::Local { code };
        }
        if self.paths.lost {
            return CloseReason::Reset;
        }
        if let Some(error) = self.quiche.peer_error() {
            let reason = error.reason.clone().into_boxed_slice();
            return CloseReason::Peer { application: error.is_app, code: error.error_code, reason };
        }
        match (self.failure, self.quiche.local_error()) {
            (Some(quiche::Error::UnknownVersion), _) => CloseReason::Version,
            (Some(quiche::Error::Done), _) => CloseReason::HandshakeTimeout,
            (_, Some(error)) => CloseReason::Transport { code: error.error_code },
            (_, None) if self.quiche.is_timed_out() && self.told.connected => CloseReason::Idle,
            (_, None) if self.quiche.is_timed_out() => CloseReason::HandshakeTimeout,
            (_, None) => CloseReason::Reset,
        }
    }

    pub(crate) fn is_half_open(&self) -> bool {
        self.side == Side::Server && !self.quiche.is_established() && !self.told.closed
    }

    /// Whether the peer would take another id.
    pub(crate) fn lacks_ids(&self) -> bool {
        self.quiche.scids_left() > 0 && !self.told.closed
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over || self.paths.lost || self.quiche.is_closed()
    }

    pub(crate) fn quiche(&mut self) -> &mut Quiche {
        &mut self.quiche
    }
}
