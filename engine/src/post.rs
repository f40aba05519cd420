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

/// Mail between a shard and the control thread, each way: figures and orders, not traffic.
pub(crate) const CONTROL_SLOTS: usize = 4096;

struct Outgoing<M> {
    sender: Sender<M>,
    // Mail that found the box full. It keeps its order, and its length is the reactors' business: mail is an answer to
    // something bounded (a connection's input, a subscription), and the depth is a gauge.
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
    reports_waiting: VecDeque<M>,
    blocked: usize,
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
        if self.blocked > 0 {
            self.retry(stats);
        }
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
        while let Some(mail) = self.reports_waiting.pop_front() {
            if let Err(error) = self.reports.try_send((self.shard, mail)) {
                if let channel::TrySendError::Full((_, mail)) = error {
                    self.reports_waiting.push_front(mail);
                }
                break;
            }
        }
    }

    // Moves what waits into the boxes, in order.
    fn retry(&mut self, stats: &ShardStats) {
        let (mut blocked, mut queued) = (0, 0);
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
            queued += outgoing.waiting.len();
        }
        self.blocked = blocked;
        stats.mail_queued.set(queued as u64);
    }

    /// Takes the mail that is there now, at most [`MAIL_MAX`] of each sender.
    pub(crate) fn deliver(&mut self, stats: &ShardStats, mut on_mail: impl FnMut(ShardId, M)) {
        let mut taken = 0;
        for (from, receiver) in self.incoming.iter_mut().enumerate() {
            let ready = receiver.ready().min(MAIL_MAX);
            if ready == 0 {
                continue;
            }
            for mail in (0..ready).map_while(|_| receiver.pop()) {
                on_mail(ShardId(from as u16), mail);
            }
            receiver.release();
            taken += ready;
        }
        for _ in 0..self.own.len() {
            let Some(mail) = self.own.pop_front() else { break };
            on_mail(self.shard, mail);
            taken += 1;
        }
        while let Some(mail) = self.orders.pop() {
            on_mail(ShardId::CONTROL, mail);
            taken += 1;
        }
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

fn ring_bell(ring: &mut Ring, berth: &Berth) {
    let there = types::Fd(berth.ring.as_raw_fd());
    let bell = opcode::MsgRingData::new(there, 0, tag(Operation::Bell, 0), None).build();
    // A shard that is gone cannot be rung, and its mail reaches nobody anyway.
    ring.push_quiet(bell.user_data(tag(Operation::Quiet, 0)));
}
