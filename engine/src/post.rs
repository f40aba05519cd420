//! The mail of one shard: boxes to and from every other shard, and to and from the control thread.

use std::{collections::VecDeque, os::fd::AsRawFd, sync::Arc};

use crossbeam::{channel, queue::ArrayQueue};
use io_uring::{opcode, types};

use crate::{
    mailbox::{Receiver, Sender, mailbox},
    park::Berth,
    reactor::ShardId,
    ring::Ring,
    stats::ShardStats,
    tag::{Operation, tag},
};

/// Mail taken from one sender per turn, so that a flood from one does not keep the others, or the sockets, waiting.
const MAIL_MAX: usize = 4096;

/// Mail that a waiting queue keeps room for once it is empty; one that grew beyond gives its memory back.
const WAITING_KEPT: usize = 4096;

/// Mail between a shard and the control thread, each way: figures and orders, not traffic.
pub(crate) const CONTROL_SLOTS: usize = 4096;

struct Outgoing<M> {
    sender: Sender<M>,
    // Mail that found the box full. It keeps its order and is never dropped, because its loss could not be told from
    // its delay. What bounds it is the reactor: it is told the depth (`Io::mail_waiting`), and refuses new work from
    // `MAIL_WAITING_HIGH` on.
    waiting: VecDeque<M>,
    touched: bool,
}

/// One shard's ends of all boxes.
pub(crate) struct Post<M> {
    shard: ShardId,
    outgoing: Vec<Outgoing<M>>,
    incoming: Vec<Receiver<M>>,
    own: VecDeque<M>,
    touched: Vec<u16>,
    orders: Arc<ArrayQueue<M>>,
    reports: channel::Sender<(ShardId, M)>,
    // Bounded like `Outgoing::waiting`.
    reports_waiting: VecDeque<M>,
    // Boxes that mail waits for, and how much of it waits for them and the control thread.
    blocked: usize,
    waiting: usize,
    // Whose mail is taken first: the next one's after a turn that was cut short.
    first: usize,
}

/// The ends of all boxes of `shards` shards, one `Post` each.
pub(crate) fn posts<M: Send>(
    shards: u16,
    slots: usize,
    orders: &[Arc<ArrayQueue<M>>],
    reports: &channel::Sender<(ShardId, M)>,
) -> Vec<Post<M>> {
    let count = usize::from(shards);
    let mut posts: Vec<Post<M>> = (0..shards)
        .map(|shard| Post {
            shard: ShardId(shard),
            outgoing: Vec::with_capacity(count),
            incoming: Vec::with_capacity(count),
            own: VecDeque::new(),
            touched: Vec::new(),
            orders: orders[usize::from(shard)].clone(),
            reports: reports.clone(),
            reports_waiting: VecDeque::new(),
            blocked: 0,
            waiting: 0,
            first: 0,
        })
        .collect();
    for from in 0..count {
        for to in 0..count {
            // A shard's box to itself is never used; it is small, and keeps the tables square.
            let (sender, receiver) = mailbox(if from == to { 2 } else { slots });
            posts[from].outgoing.push(Outgoing { sender, waiting: VecDeque::new(), touched: false });
            posts[to].incoming.push(receiver);
        }
    }
    posts
}

impl<M: Send> Post<M> {
    /// Puts mail into a box; it can be taken there after [`Post::publish`].
    #[inline(always)]
    pub(crate) fn send(&mut self, stats: &ShardStats, to: ShardId, mail: M) {
        if let Some(outgoing) = self.outgoing.get_mut(to.index())
            && to != self.shard
            && outgoing.waiting.is_empty()
            && outgoing.sender.has_room()
        {
            outgoing.sender.put(mail);
            if !outgoing.touched {
                outgoing.touched = true;
                self.touched.push(to.0);
            }
        } else {
            self.send_otherwise(stats, to, mail);
        }
    }

    #[cold]
    fn send_otherwise(&mut self, stats: &ShardStats, to: ShardId, mail: M) {
        if to == ShardId::CONTROL {
            self.reports_waiting.push_back(mail);
        } else if to == self.shard {
            self.own.push_back(mail);
        } else if let Some(outgoing) = self.outgoing.get_mut(to.index()) {
            self.blocked += usize::from(outgoing.waiting.is_empty());
            outgoing.waiting.push_back(mail);
            stats.mail_overflowed.add(1);
        } else {
            stats.stale_effects.add(1);
        }
    }

    /// Shows every destination its mail of this turn, and rings for those that sleep: at most once each.
    pub(crate) fn publish(&mut self, stats: &ShardStats, ring: &mut Ring, berths: &[Berth]) {
        let mut waiting = if self.blocked > 0 { self.retry() } else { 0 };
        for at in 0..self.touched.len() {
            let to = usize::from(self.touched[at]);
            let outgoing = &mut self.outgoing[to];
            outgoing.touched = false;
            if outgoing.sender.publish() && berths[to].must_ring() {
                stats.bells.add(1);
                ring_bell(ring, &berths[to]);
            }
        }
        self.touched.clear();
        self.report();
        waiting += self.reports_waiting.len();
        if waiting != self.waiting {
            self.waiting = waiting;
            stats.mail_queued.set(waiting as u64);
        }
    }

    /// How much mail waits because a box is full.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    // Tells the control thread as much as its box takes.
    fn report(&mut self) {
        while let Some(mail) = self.reports_waiting.pop_front() {
            match self.reports.try_send((self.shard, mail)) {
                Ok(()) => {}
                Err(channel::TrySendError::Full((_, mail))) => return self.reports_waiting.push_front(mail),
                // Nobody listens any more.
                Err(channel::TrySendError::Disconnected(_)) => self.reports_waiting.clear(),
            }
        }
        give_back(&mut self.reports_waiting);
    }

    // Moves what waits into the boxes, in order; how much still waits.
    fn retry(&mut self) -> usize {
        let (mut blocked, mut waiting) = (0, 0);
        for (to, outgoing) in self.outgoing.iter_mut().enumerate() {
            while outgoing.sender.has_room() {
                let Some(mail) = outgoing.waiting.pop_front() else { break };
                outgoing.sender.put(mail);
                if !outgoing.touched {
                    outgoing.touched = true;
                    self.touched.push(to as u16);
                }
            }
            blocked += usize::from(!outgoing.waiting.is_empty());
            waiting += outgoing.waiting.len();
            give_back(&mut outgoing.waiting);
        }
        self.blocked = blocked;
        waiting
    }

    /// Takes the mail that is there now, at most [`MAIL_MAX`] of each sender, until `on_mail` says that it is enough.
    pub(crate) fn deliver(&mut self, stats: &ShardStats, mut on_mail: impl FnMut(ShardId, M) -> bool) {
        let (mut taken, mut more, shards) = (0, true, self.incoming.len());
        // The control thread's few come first: a shard in a flood must hear them too.
        for _ in 0..self.orders.len() {
            let Some(mail) = self.orders.pop() else { break };
            more = on_mail(ShardId::CONTROL, mail);
            taken += 1;
            if !more {
                break;
            }
        }
        for from in (self.first..shards).chain(0..self.first) {
            if !more {
                break;
            }
            let receiver = &mut self.incoming[from];
            let own = from == self.shard.index();
            let ready = if own { self.own.len() } else { receiver.ready() };
            let (before, until) = (taken, taken + ready.min(MAIL_MAX));
            while more && taken < until {
                let Some(mail) = (if own { self.own.pop_front() } else { receiver.pop() }) else { break };
                more = on_mail(ShardId(from as u16), mail);
                taken += 1;
            }
            if taken > before {
                receiver.release();
            }
            if !more {
                self.first = (from + 1) % shards;
            }
        }
        give_back(&mut self.own);
        if taken > 0 {
            stats.mail_in.add(taken as u64);
        }
    }

    /// Whether nothing can be delivered now.
    pub(crate) fn is_empty(&self) -> bool {
        self.own.is_empty() && self.orders.is_empty() && self.incoming.iter().all(Receiver::is_empty)
    }

    /// Whether mail waits for a full box, so that the shard has to look again soon.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked > 0 || !self.reports_waiting.is_empty()
    }
}

// Frees what a spike has left.
fn give_back<M>(queue: &mut VecDeque<M>) {
    if queue.is_empty() && queue.capacity() > WAITING_KEPT {
        *queue = VecDeque::new();
    }
}

fn ring_bell(ring: &mut Ring, berth: &Berth) {
    let there = types::Fd(berth.ring.as_raw_fd());
    let bell = opcode::MsgRingData::new(there, 0, tag(Operation::Bell, 0), None).build();
    // A shard that is gone cannot be rung, and its mail reaches nobody anyway.
    ring.push_quiet(bell.user_data(tag(Operation::Quiet, 0)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three(slots: usize) -> (Vec<Post<u64>>, channel::Receiver<(ShardId, u64)>) {
        let orders: Vec<_> = (0..3).map(|_| Arc::new(ArrayQueue::new(CONTROL_SLOTS))).collect();
        let (reports_in, reports) = channel::bounded(1);
        (posts(3, slots, &orders, &reports_in), reports)
    }

    // Sends without a ring to ring with: in tests nobody sleeps.
    fn post(post: &mut Post<u64>, to: u16, numbers: std::ops::Range<u64>) {
        numbers.for_each(|number| post.send(&ShardStats::default(), ShardId(to), number));
        post.outgoing[usize::from(to)].sender.publish();
    }

    #[test]
    fn a_turn_that_is_cut_short_starts_with_the_next_sender_and_loses_nothing() {
        let stats = ShardStats::default();
        let (mut posts, _reports) = three(64);
        posts.iter_mut().for_each(|from| post(from, 0, 0..30));
        posts[0].orders.push(77).expect("room");
        let mut seen = vec![Vec::new(); 3];
        let mut firsts = Vec::new();
        for turn in 0..9 {
            let mut count = 0;
            posts[0].deliver(&stats, |from, mail| {
                if from == ShardId::CONTROL {
                    assert_eq!((turn, count, mail), (0, 0, 77), "orders come first");
                    return true;
                }
                if count == 0 {
                    firsts.push(from.0);
                }
                seen[from.index()].push(mail);
                count += 1;
                count < 10
            });
            assert_eq!(count, 10);
        }
        assert!(posts[0].is_empty());
        assert_eq!(firsts, [0, 1, 2, 0, 1, 2, 0, 1, 2]);
        assert!(seen.iter().all(|numbers| numbers.iter().copied().eq(0..30)));
        assert_eq!(stats.mail_in.get(), 91);
    }

    #[test]
    fn waiting_mail_is_counted_wherever_it_waits() {
        let stats = ShardStats::default();
        let (mut posts, reports) = three(2);
        let mut ring = Ring::new(crate::Kernel::running()).expect("this kernel has io_uring");
        post(&mut posts[1], 2, 0..10_000);
        (0..5).for_each(|number| posts[1].send(&stats, ShardId::CONTROL, number));
        let publish = |post: &mut Post<u64>, ring: &mut Ring| {
            // Nothing is touched that a berth would have to be looked up for.
            post.touched.clear();
            post.publish(&stats, ring, &[]);
        };
        publish(&mut posts[1], &mut ring);
        assert_eq!((posts[1].waiting(), stats.mail_queued.get()), (9_998 + 4, 9_998 + 4));
        while posts[1].outgoing[2].waiting.len() > 2 {
            posts[2].deliver(&stats, |_, _| true);
            posts[1].retry();
            posts[1].outgoing[2].sender.publish();
        }
        assert_eq!(reports.try_iter().count(), 1);
        publish(&mut posts[1], &mut ring);
        assert_eq!(stats.mail_queued.get(), 2 + 3);
        drop(reports);
        publish(&mut posts[1], &mut ring);
        assert_eq!(stats.mail_queued.get(), 2, "nobody listens to reports any more");
    }
}
