//! Counters that one shard writes and anybody may read, without locks or read-modify-write instructions.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only its shard changes. A reader sees some recent value.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning shard may call it: load and store, no locked instruction.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Sets a gauge. Only the owning shard may call it.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// Some recent value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! stats {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What one shard's engine has done so far. Aligned so that no two shards write one cache line.
        #[derive(Debug, Default)]
        #[repr(align(128))]
        pub struct ShardStats {
            $($(#[$doc])* pub $name: Counter,)*
        }

        impl ShardStats {
            /// Every counter with its name, in the order of declaration.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
                [$((stringify!($name), self.$name.get()),)*].into_iter()
            }
        }
    };
}

stats! {
    /// Laps of the loop.
    turns,
    /// Nanoseconds of CPU that the shard's thread has used, in the kernel and spinning included; renewed every 10 ms
    /// while the shard turns. The busy share is its growth over the wall time.
    busy_ns,
    /// Nanoseconds that it has not used.
    idle_ns,
    /// Nanoseconds spent spinning for work before parking.
    spin_ns,
    /// Times that the shard spun before parking.
    spins,
    /// Spins that found work.
    spins_won,
    /// Times that the shard parked.
    parks,
    /// io_uring_enter calls.
    enters,
    /// Completions taken from the ring.
    completions,
    /// Streams that are open now (gauge).
    streams_open,
    /// Connections accepted.
    accepted,
    /// Connections closed at once because `streams_max` were open.
    refused,
    /// Accepts that failed in the kernel.
    accept_errors,
    /// Connections that came up on our demand.
    connected,
    /// Connections that we asked for and that failed.
    connect_errors,
    /// Streams that ended.
    closed,
    /// Bytes received on streams.
    bytes_in,
    /// Bytes sent on streams.
    bytes_out,
    /// Receives that brought bytes.
    recvs,
    /// Send operations given to the ring.
    sends,
    /// Sends that found the socket's buffer full.
    behind,
    /// Effects on a stream that was already gone.
    stale_effects,
    /// Times that a receive found no free buffer.
    buffers_exhausted,
    /// Datagrams received.
    datagrams_in,
    /// Datagrams sent.
    datagrams_out,
    /// Trains received.
    trains_in,
    /// Send operations for trains.
    trains_out,
    /// Trains that found the socket's buffer full and were kept back.
    trains_retried,
    /// Datagrams that were longer than the way to their receiver takes.
    datagrams_too_long,
    /// Datagrams dropped because too many were in flight, or because the kernel refused them.
    datagrams_dropped,
    /// Mail received.
    mail_in,
    /// Mail sent.
    mail_out,
    /// Mail that waits here because its destination's box, or the control thread's, is full (gauge). It is never dropped;
    /// [`crate::MAIL_WAITING_HIGH`] says how much is too much.
    mail_queued,
    /// Mail that found its destination's box full.
    mail_overflowed,
    /// Bells rung to wake another shard.
    bells,
    /// Disk operations finished.
    disk_done,
    /// Disk operations that failed.
    disk_errors,
    /// Disk operations under way (gauge).
    disk_pending,
}
