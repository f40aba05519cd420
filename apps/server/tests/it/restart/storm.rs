//! All clients lose their server in the same moment and come back in the same moment: everybody resumes without gap or
//! repeat. `cargo load storm` does the same with 20,000 and measures it.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use super::{Client, DURABLE, Heard, PUBLISHERS, Publisher, ROOMS, load, settings};
use crate::process::{PATIENCE, Server};

/// Readers, 100 of them in each room.
const READERS: usize = 500;
/// They do little; this keeps 500 threads small.
const STACK_BYTES: usize = 256 * 1024;

/// A reader of one room, over all lives of the server.
struct Reader {
    number: usize,
    epoch: Option<u64>,
    heard: Vec<String>,
}

impl Reader {
    fn room(&self) -> String {
        format!("chat/room-{}", self.number % ROOMS)
    }

    /// Comes in where it was, and reads up to `newest` or else until the server is gone.
    fn read(&mut self, address: SocketAddr, newest: Option<usize>, inside: &AtomicUsize) {
        let after = Some(self.heard.len() as u64);
        let user = format!("reader-{}", self.number);
        let (mut client, epoch, head) = Client::enter_at(address, &user, &self.room(), self.epoch, after);
        assert!(self.heard.is_empty() || self.epoch == Some(epoch), "{} has another history", self.room());
        assert!(head >= self.heard.len() as u64, "{} is shorter than it was", self.room());
        self.epoch = Some(epoch);
        inside.fetch_add(1, Ordering::Relaxed);
        while newest.is_none_or(|newest| self.heard.len() < newest) {
            match client.hear(PATIENCE) {
                Some(Heard::Msg { offset, text }) => {
                    assert_eq!(offset, self.heard.len() as u64 + 1, "reader {}: a gap or a repeat", self.number);
                    self.heard.push(text);
                }
                Some(_) => {}
                None => return assert!(newest.is_none(), "the server is gone"),
            }
        }
    }
}

/// All readers come in at once; `meanwhile` runs when all are inside.
fn together(readers: &mut [Reader], address: SocketAddr, newest: Option<&[usize]>, meanwhile: impl FnOnce()) {
    let inside = &AtomicUsize::new(0);
    thread::scope(|scope| {
        for reader in readers {
            let newest = newest.map(|newest| newest[reader.number % ROOMS]);
            let builder = thread::Builder::new().stack_size(STACK_BYTES);
            builder.spawn_scoped(scope, move || reader.read(address, newest, inside)).expect("a thread");
        }
        let until = Instant::now() + PATIENCE;
        while inside.load(Ordering::Relaxed) < READERS {
            assert!(Instant::now() < until, "{inside:?} of {READERS} readers are inside");
            thread::yield_now();
        }
        meanwhile();
    });
}

#[test]
fn all_clients_at_once_resume_after_a_stop_and_after_a_crash() {
    let mut readers: Vec<Reader> =
        (0..READERS).map(|number| Reader { number, epoch: None, heard: Vec::new() }).collect();
    let mut publishers: Vec<Publisher> = (0..PUBLISHERS).map(Publisher::new).collect();
    let mut server = Server::start(&settings("2", DURABLE));
    for signal in ["TERM", "KILL"] {
        together(&mut readers, server.plain, None, || load(&server, &mut publishers, 200, signal));
        assert_eq!(server.ended(PATIENCE).success(), signal == "TERM", "{}", server.log());
        server = server.next(&settings("2", DURABLE));
    }
    let newest = |room: usize| {
        let offsets = publishers.iter().skip(room).step_by(ROOMS).flat_map(|publisher| publisher.acknowledged.values());
        usize::try_from(offsets.copied().max().expect("acknowledged")).expect("few")
    };
    let newest: Vec<usize> = (0..ROOMS).map(newest).collect();
    let began = Instant::now();
    together(&mut readers, server.plain, Some(&newest), || {
        println!("{READERS} readers were inside {:?} after the server was ready", began.elapsed());
    });
    for reader in &readers {
        let (first, newest) = (&readers[reader.number % ROOMS], newest[reader.number % ROOMS]);
        assert_eq!(reader.heard[..newest], first.heard[..newest], "{} is not the same for all", reader.room());
    }
    for publisher in &publishers {
        let heard = &readers[publisher.number % ROOMS].heard;
        for (seq, offset) in &publisher.acknowledged {
            assert_eq!(heard[*offset as usize - 1], publisher.text(*seq), "{} at {offset}", publisher.room);
        }
    }
    println!("{newest:?} messages in each room, all of them once at every reader");
}
