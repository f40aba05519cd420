//! All streams of a connection: which are open, how many may be, and how far data may go (RFC 9000, sections 2 to 4).

mod application;
mod arrival;
mod departure;
mod waitlist;

use std::collections::BTreeMap;

pub(super) use self::departure::{CONTROL_BYTES_MAX, Turn};
use self::waitlist::Waitlist;
use crate::{
    error::{Checked, Code, TransportError},
    frame::{Direction, Side, StreamId},
    lane::{
        events::{DIRECTIONS, Events},
        limits::{LaneEvent, Limits, PRIORITY_STREAM, PeerLimits},
        recv::RecvHalf,
        schedule::{Lane, Schedule, Slot},
        send::{Class, SendHalf},
        window::Window,
    },
    range::RangeSet,
};

const STREAM_LIMIT: TransportError = TransportError::new(Code::StreamLimit, "more streams than allowed");
const NOT_OPENED: TransportError = TransportError::new(Code::StreamState, "frame for a stream that was never opened");
const SEND_ONLY: TransportError = TransportError::new(Code::StreamState, "data on a stream that only we send on");
const RECEIVE_ONLY: TransportError =
    TransportError::new(Code::StreamState, "credit on a stream that only we receive on");

/// Counts of streams are encoded with two more bits (RFC 9000, section 4.6).
const STREAMS_MAX: u64 = 1 << 60;

/// What the streams share with the other lanes.
#[derive(Default, Debug)]
pub(super) struct Agenda {
    pub(super) schedule: Schedule,
    pub(super) events: Events,
}

/// Which half of a stream a frame is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Half {
    Send,
    Recv,
}

/// Frames that a stream has to send.
mod due {
    pub(super) const RESET_STREAM: u8 = 1;
    pub(super) const STOP_SENDING: u8 = 2;
    pub(super) const MAX_STREAM_DATA: u8 = 4;
    pub(super) const STREAM_DATA_BLOCKED: u8 = 8;
}

/// One stream: a half is gone when there is nothing more to say about it.
#[derive(Debug)]
struct StreamState {
    send: Option<SendHalf>,
    recv: Option<RecvHalf>,
    /// Bits of [`due`]; when there is one, the stream stands in the control queue.
    due: u8,
}

/// Streams of one direction that we open.
#[derive(Default, Debug)]
struct Ours {
    opened: u64,
    limit: u64,
    /// One was refused.
    is_wanted: bool,
    is_blocked_due: bool,
}

/// Streams of one direction that the peer opens.
#[derive(Default, Debug)]
struct Theirs {
    opened: u64,
    /// How many the application knows.
    announced: u64,
    closed: u64,
    /// The limit that the peer was told.
    limit: u64,
    is_limit_due: bool,
    /// Opened by a higher number only: they exist from their first use on.
    untouched: RangeSet,
}

/// All streams.
#[derive(Debug)]
pub(super) struct Streams {
    side: Side,
    pub(super) limits: Limits,
    table: BTreeMap<StreamId, Box<StreamState>>,
    ours: [Ours; 2],
    theirs: [Theirs; 2],
    /// Credit of the peer for each new stream, and for all together.
    stream_credit: u64,
    credit: u64,
    /// Of that credit, used.
    sent: u64,
    is_blocked_due: bool,
    /// Our credit for the peer, what of it is used, and what the application read.
    window: Window,
    received: u64,
    read: u64,
    is_limit_due: bool,
    /// Bytes that are held, and those of them that were never sent.
    buffered: u64,
    unsent: u64,
    /// Streams with fresh bytes and no credit of the connection.
    parked: Waitlist,
    /// Streams with a write refused for want of room.
    waiting: Waitlist,
    /// Streams with frames due.
    control: Waitlist,
}

impl Streams {
    pub(super) fn new(side: Side, limits: &Limits) -> Self {
        let theirs = |limit| Theirs { limit, ..Theirs::default() };
        Self {
            side,
            limits: *limits,
            table: BTreeMap::new(),
            ours: Default::default(),
            theirs: [theirs(limits.streams_bidirectional_max), theirs(limits.streams_unidirectional_max)],
            stream_credit: 0,
            credit: 0,
            sent: 0,
            is_blocked_due: false,
            window: Window::new(limits.data_max, limits.data_window_max),
            received: 0,
            read: 0,
            is_limit_due: false,
            buffered: 0,
            unsent: 0,
            parked: Waitlist::default(),
            waiting: Waitlist::default(),
            control: Waitlist::default(),
        }
    }

    /// Raises the limits that the peer sets; they never sink.
    pub(super) fn set_peer(&mut self, agenda: &mut Agenda, peer: &PeerLimits) {
        self.stream_credit = self.stream_credit.max(peer.stream_data_max);
        let ids: Vec<StreamId> =
            self.table.iter().filter(|(_, state)| state.send.is_some()).map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.raise_stream_credit(agenda, id, peer.stream_data_max));
        self.on_max_data(agenda, peer.data_max);
        self.on_max_streams(agenda, Direction::Bidirectional, peer.streams_bidirectional_max);
        self.on_max_streams(agenda, Direction::Unidirectional, peer.streams_unidirectional_max);
    }

    /// Whether all that was done under other limits could be done under these.
    pub(super) fn fit(&self, peer: &PeerLimits) -> bool {
        let [both, one] = &self.ours;
        let opened = both.opened <= peer.streams_bidirectional_max && one.opened <= peer.streams_unidirectional_max;
        let mut halves = self.table.values().filter_map(|state| state.send.as_ref());
        opened && self.sent <= peer.data_max && halves.all(|send| send.fits(peer.stream_data_max))
    }

    /// Forgets the limits that the peer sets: others follow, in which all of it fits.
    pub(super) fn forget_peer(&mut self) {
        (self.stream_credit, self.credit) = (0, self.sent);
        self.ours.iter_mut().for_each(|ours| ours.limit = ours.opened);
        self.table.values_mut().filter_map(|state| state.send.as_mut()).for_each(SendHalf::forget_credit);
    }

    /// Streams open.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Bytes never sent.
    pub(super) fn unsent(&self) -> u64 {
        self.unsent
    }

    /// The next stream of the peer that the application does not know.
    pub(super) fn poll_opened(&mut self) -> Option<StreamId> {
        let opener = self.side.peer();
        DIRECTIONS.into_iter().zip(&mut self.theirs).find_map(|(direction, theirs)| {
            let index = theirs.announced;
            (index < theirs.opened).then(|| {
                theirs.announced += 1;
                StreamId::new(opener, direction, index)
            })
        })
    }

    /// The application was told: what waited for that is over.
    pub(super) fn on_told(&mut self, event: LaneEvent) {
        match event {
            LaneEvent::Readable(id) => {
                if let Some(recv) = self.table.get_mut(&id).and_then(|state| state.recv.as_mut()) {
                    recv.is_readable_told = false;
                }
            }
            LaneEvent::Reset { id, .. } => {
                if let Some(state) = self.table.get_mut(&id) {
                    state.recv = None;
                    self.reap(id);
                }
            }
            _ => {}
        }
    }

    /// Checks a frame of the peer for one half of a stream, and opens the stream if that is due.
    fn admit(&mut self, id: StreamId, half: Half) -> Checked<()> {
        if self.table.contains_key(&id) && id.direction() == Direction::Bidirectional {
            return Ok(());
        }
        let is_ours = id.opener() == self.side;
        match (id.direction(), is_ours, half) {
            (Direction::Unidirectional, true, Half::Recv) => return Err(SEND_ONLY),
            (Direction::Unidirectional, false, Half::Send) => return Err(RECEIVE_ONLY),
            _ => {}
        }
        let direction = id.direction().bit() as usize;
        if is_ours {
            return if id.index() < self.ours[direction].opened { Ok(()) } else { Err(NOT_OPENED) };
        }
        let theirs = &mut self.theirs[direction];
        if id.index() >= theirs.limit {
            return Err(STREAM_LIMIT);
        }
        if id.index() >= theirs.opened {
            theirs.untouched.insert(theirs.opened..id.index() + 1);
            theirs.opened = id.index() + 1;
        }
        self.touch(id);
        Ok(())
    }

    /// Brings a stream of the peer to life that was opened and not used yet.
    fn touch(&mut self, id: StreamId) {
        let theirs = &mut self.theirs[id.direction().bit() as usize];
        if id.opener() == self.side || theirs.untouched.is_empty() {
            return;
        }
        if theirs.untouched.remove(id.index()..id.index() + 1) {
            if theirs.untouched.is_empty() {
                theirs.untouched = RangeSet::new();
            }
            self.insert(id);
        }
    }

    fn insert(&mut self, id: StreamId) {
        let is_both = id.direction() == Direction::Bidirectional;
        let is_ours = id.opener() == self.side;
        let window = || Window::new(self.limits.stream_data_max, self.limits.stream_window_max);
        let state = StreamState {
            send: (is_both || is_ours).then(|| SendHalf::new(self.stream_credit, PRIORITY_STREAM)),
            recv: (is_both || !is_ours).then(|| RecvHalf::new(window())),
            due: 0,
        };
        self.table.insert(id, Box::new(state));
    }

    /// Forgets a stream both halves of which are over.
    fn reap(&mut self, id: StreamId) {
        let Some(state) = self.table.get(&id).filter(|state| state.send.is_none() && state.recv.is_none()) else {
            return;
        };
        if state.due != 0 {
            self.control.remove(id);
        }
        self.table.remove(&id);
        if id.opener() != self.side {
            self.theirs[id.direction().bit() as usize].closed += 1;
        }
    }

    /// Queues frames of a stream.
    fn mark(&mut self, id: StreamId, due: u8) {
        if let Some(state) = self.table.get_mut(&id) {
            if state.due == 0 {
                self.control.push(id);
            }
            state.due |= due;
        }
    }

    /// Puts a stream into the schedule for what it has; into the parking space, when the connection has no credit.
    fn enlist(&mut self, agenda: &mut Agenda, id: StreamId) {
        let Some(send) = self.table.get_mut(&id).and_then(|state| state.send.as_mut()) else {
            return;
        };
        if send.has(Class::Lost) && !send.in_lost {
            send.in_lost = true;
            agenda.schedule.push(Slot::new(send.priority, Class::Lost), Lane::Stream(id));
        }
        if send.in_fresh || send.is_parked || !send.has(Class::Fresh) {
            return;
        }
        if send.unsent() > 0 && self.sent >= self.credit {
            send.is_parked = true;
            self.parked.push(id);
            self.is_blocked_due = true;
        } else {
            send.in_fresh = true;
            agenda.schedule.push(Slot::new(send.priority, Class::Fresh), Lane::Stream(id));
        }
    }

    /// Takes a stream out of the schedule where it has nothing any more.
    fn delist(&mut self, agenda: &mut Agenda, id: StreamId) {
        let Some(send) = self.table.get_mut(&id).and_then(|state| state.send.as_mut()) else {
            return;
        };
        if send.in_lost && !send.has(Class::Lost) {
            send.in_lost = false;
            agenda.schedule.remove(Slot::new(send.priority, Class::Lost), Lane::Stream(id));
        }
        if send.in_fresh && !send.has(Class::Fresh) {
            send.in_fresh = false;
            agenda.schedule.remove(Slot::new(send.priority, Class::Fresh), Lane::Stream(id));
        }
        if send.is_parked && !send.has(Class::Fresh) {
            send.is_parked = false;
            self.parked.remove(id);
        }
    }

    /// Tells the writers that there is room again, when there is a good deal of it.
    fn wake(&mut self, agenda: &mut Agenda) {
        if self.waiting.is_empty() || self.buffered > self.limits.send_bytes_max / 2 {
            return;
        }
        while let Some(id) = self.waiting.pop() {
            if let Some(send) = self.table.get_mut(&id).and_then(|state| state.send.as_mut()) {
                send.is_room_wanted = false;
                agenda.events.push(LaneEvent::Writable(id));
            }
        }
    }

    /// Gives a sending half up: forgets its bytes, and tells the peer.
    fn reset_half(&mut self, agenda: &mut Agenda, id: StreamId, code: u64, stopped: Option<u64>) -> bool {
        let Some(send) = self.table.get_mut(&id).and_then(|state| state.send.as_mut()) else {
            return false;
        };
        let (buffered, unsent) = (send.buffered(), send.unsent());
        if !send.reset(code, stopped) {
            return false;
        }
        let was_waiting = std::mem::take(&mut send.is_room_wanted);
        self.buffered -= buffered;
        self.unsent -= unsent;
        if was_waiting {
            self.waiting.remove(id);
        }
        self.delist(agenda, id);
        self.mark(id, due::RESET_STREAM);
        self.wake(agenda);
        true
    }

    /// Gives idle buffers back; whether some were kept because they were used since the last time.
    pub(super) fn trim(&mut self, is_active: bool) -> bool {
        if !is_active {
            [&mut self.parked, &mut self.waiting, &mut self.control].into_iter().for_each(Waitlist::trim);
        }
        self.table.values_mut().filter_map(|state| state.send.as_mut()).for_each(SendHalf::trim);
        let halves = self.table.values_mut().filter_map(|state| state.recv.as_mut());
        halves.map(RecvHalf::trim).filter(|kept| *kept).count() > 0
    }

    /// Panics when the books contradict each other, or a limit is exceeded.
    #[cfg(feature = "simulation")]
    pub(super) fn check(&self) {
        assert!(self.sent <= self.credit, "more was sent than the peer allows");
        assert!(self.received <= self.window.limit() && self.read <= self.received, "more was taken than allowed");
        let halves = || self.table.values().filter_map(|state| state.send.as_ref());
        assert_eq!(self.buffered, halves().map(SendHalf::buffered).sum::<u64>());
        assert_eq!(self.unsent, halves().map(SendHalf::unsent).sum::<u64>());
        halves().for_each(SendHalf::check_books);
        self.table.values().filter_map(|state| state.recv.as_ref()).for_each(RecvHalf::check_books);
        let limits = [self.limits.streams_bidirectional_max, self.limits.streams_unidirectional_max];
        for (theirs, limit) in self.theirs.iter().zip(limits) {
            assert!(theirs.opened <= theirs.limit && theirs.limit - theirs.closed <= limit, "too many streams");
        }
    }

    /// Bytes on the heap for what was received.
    pub(super) fn received_heap_bytes(&self) -> usize {
        let halves = self.table.values().filter_map(|state| state.recv.as_ref());
        halves.map(RecvHalf::heap_bytes).sum::<usize>() + self.table.len() * size_of::<StreamState>()
    }
}
