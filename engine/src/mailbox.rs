//! The box between two shards: a bounded ring with one sender and one receiver, published a batch at a time.

use std::{
    cell::UnsafeCell,
    mem::MaybeUninit,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crossbeam::utils::CachePadded;

struct Shared<T> {
    // Counts what was received; written by the receiver alone.
    head: CachePadded<AtomicUsize>,
    // Counts what was published; written by the sender alone.
    tail: CachePadded<AtomicUsize>,
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
}

// SAFETY: a slot is touched by the sender before its publication and by the receiver after it, never by both; values
// only move from one thread to the other, so `T: Send` is enough.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for Shared<T> {}

/// The sending end.
pub(crate) struct Sender<T> {
    shared: Arc<Shared<T>>,
    tail: usize,
    head_seen: usize,
    published: usize,
}

/// The receiving end.
pub(crate) struct Receiver<T> {
    shared: Arc<Shared<T>>,
    head: usize,
    tail_seen: usize,
}

/// A box of `slots` values, a power of two.
pub(crate) fn mailbox<T: Send>(slots: usize) -> (Sender<T>, Receiver<T>) {
    assert!(slots.is_power_of_two(), "positions are taken modulo the number of slots");
    let slots = (0..slots).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect();
    let shared = Arc::new(Shared { head: CachePadded::default(), tail: CachePadded::default(), slots });
    (Sender { shared: shared.clone(), tail: 0, head_seen: 0, published: 0 }, Receiver { shared, head: 0, tail_seen: 0 })
}

impl<T> Shared<T> {
    fn slot(&self, position: usize) -> *mut MaybeUninit<T> {
        self.slots[position & (self.slots.len() - 1)].get()
    }
}

impl<T: Send> Sender<T> {
    /// Whether a value can be put in.
    #[inline]
    pub(crate) fn has_room(&mut self) -> bool {
        if self.tail.wrapping_sub(self.head_seen) < self.shared.slots.len() {
            return true;
        }
        self.head_seen = self.shared.head.load(Ordering::Acquire);
        self.tail.wrapping_sub(self.head_seen) < self.shared.slots.len()
    }

    /// Puts a value in; the receiver sees it after [`Sender::publish`].
    ///
    /// What bounds it is that each line has to come back from the other core's cache, about 100 ns per line on the
    /// machine measured: small mail is cheap mail. Prefetching the lines for writing made it twice as slow.
    #[inline(always)]
    pub(crate) fn put(&mut self, value: T) {
        assert!(self.tail.wrapping_sub(self.head_seen) < self.shared.slots.len(), "ask for room first");
        // SAFETY: the slot is free: the receiver has moved past it, and nobody else sends.
        unsafe { (*self.shared.slot(self.tail)).write(value) };
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the receiver everything put in so far; whether there was anything new.
    pub(crate) fn publish(&mut self) -> bool {
        if self.published == self.tail {
            return false;
        }
        self.published = self.tail;
        self.shared.tail.store(self.tail, Ordering::Release);
        true
    }
}

impl<T: Send> Receiver<T> {
    /// How many values can be taken now.
    pub(crate) fn ready(&mut self) -> usize {
        self.tail_seen = self.shared.tail.load(Ordering::Acquire);
        self.tail_seen.wrapping_sub(self.head)
    }

    /// Whether nothing can be taken now.
    pub(crate) fn is_empty(&self) -> bool {
        self.shared.tail.load(Ordering::Acquire) == self.head
    }

    /// Takes a value of those that [`Receiver::ready`] counted.
    pub(crate) fn pop(&mut self) -> Option<T> {
        if self.head == self.tail_seen {
            return None;
        }
        // SAFETY: the slot lies before the published tail and was not taken yet; the sender leaves it alone until
        // `head` has passed it.
        let value = unsafe { (*self.shared.slot(self.head)).assume_init_read() };
        self.head = self.head.wrapping_add(1);
        Some(value)
    }

    /// Gives the slots of everything taken so far back to the sender.
    pub(crate) fn release(&mut self) {
        self.shared.head.store(self.head, Ordering::Release);
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.shared.tail.store(self.tail, Ordering::Release);
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.head.store(self.head, Ordering::Release);
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let (mut head, tail) = (*self.head.get_mut(), *self.tail.get_mut());
        while head != tail {
            // SAFETY: the slots between head and tail hold published values that nobody has taken.
            unsafe { (*self.slot(head)).assume_init_drop() };
            head = head.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{rc::Rc, thread};

    #[test]
    fn values_cross_threads_once_and_in_order() {
        const COUNT: u64 = 200_000;
        let (mut sender, mut receiver) = mailbox::<Box<u64>>(64);
        let thread = thread::spawn(move || {
            for n in 0..COUNT {
                while !sender.has_room() {
                    sender.publish();
                    thread::yield_now();
                }
                sender.put(Box::new(n));
                if n % 7 == 0 {
                    sender.publish();
                }
            }
            sender.publish();
        });
        let mut expected = 0;
        while expected < COUNT {
            if receiver.ready() == 0 {
                thread::yield_now();
            }
            while let Some(value) = receiver.pop() {
                assert_eq!(*value, expected);
                expected += 1;
            }
            receiver.release();
        }
        thread.join().expect("the sender is done");
    }

    #[test]
    fn a_full_box_says_so_and_nothing_is_leaked() {
        let counted = std::sync::Arc::new(());
        let (mut sender, mut receiver) = mailbox(4);
        for _ in 0..4 {
            assert!(sender.has_room());
            sender.put(counted.clone());
        }
        assert!(!sender.has_room());
        assert_eq!(receiver.ready(), 0, "nothing is seen before it is published");
        assert!(sender.publish() && !sender.publish());
        assert_eq!(receiver.ready(), 4);
        assert!(receiver.pop().is_some());
        assert!(!sender.has_room(), "the slot is not released yet");
        receiver.release();
        assert!(sender.has_room());
        sender.put(counted.clone());
        sender.publish();
        drop((sender, receiver));
        assert_eq!(std::sync::Arc::strong_count(&counted), 1);
        let _only_send_is_asked_for = Rc::new(());
    }
}
