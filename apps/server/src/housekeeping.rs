//! The housekeeping thread: what is too slow for a shard (hashing passwords, syncing accounts) and what is seldom.

mod desk;
mod job;

use std::{
    fmt, io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use handler::Code;
use rand::{SeedableRng, rngs::StdRng};

use self::desk::Desk;
use crate::{account::Accounts, config::Auth, login::LoginBook};

pub use job::{Credentials, Done, Ended, Identity, Job, Outcome, Refusal};

/// Jobs that wait. Hashing takes 13 ms (Zen 5, release build), so the last of 64 waits a second, which a person at a
/// login form bears.
pub const JOBS_MAX: usize = 64;

/// How often the seldom things get their chance; also what rates in `/shards` are averaged over.
pub const TICK: Duration = Duration::from_secs(1);

/// When to try again after the queue was full: when all of it is done.
const BUSY_RETRY_MS: u32 = 1000;

/// How the outcome of a job comes back: called on the housekeeping thread, so it only posts mail to its shard.
pub type Reply = Box<dyn FnOnce(Outcome) + Send>;

/// Something seldom: called about every [`TICK`], must be quick when nothing is due.
pub type Chore = Box<dyn FnMut(SystemTime) + Send>;

/// The way to the housekeeping thread. The thread ends when the last one is gone.
#[derive(Clone)]
pub struct Housekeeper {
    sender: Sender<(Job, Reply)>,
    about: Arc<About>,
}

/// Figures for the metrics.
#[derive(Debug, Default)]
struct About {
    accounts: AtomicU64,
    logins: AtomicU64,
    displaced: AtomicU64,
    done: AtomicU64,
    refused: AtomicU64,
    /// Files that cannot be written, each with its reason and an end of line.
    troubles: Mutex<String>,
}

impl About {
    fn look(&self, desk: &Desk) {
        self.accounts.store(desk.accounts.count() as u64, Ordering::Relaxed);
        self.logins.store(desk.logins.count() as u64, Ordering::Relaxed);
        self.displaced.store(desk.logins.displaced(), Ordering::Relaxed);
        let troubles = [desk.accounts.trouble(), desk.logins.trouble()].into_iter().flatten();
        let troubles = troubles.map(|trouble| format!("{trouble}\n")).collect();
        *self.troubles.lock().unwrap_or_else(PoisonError::into_inner) = troubles;
    }
}

impl Housekeeper {
    /// Starts the thread.
    ///
    /// # Errors
    /// There is no thread to be had.
    pub(crate) fn start(
        accounts: Accounts,
        logins: LoginBook,
        auth: &Auth,
        shared: Arc<chat::Shared>,
        chores: Vec<Chore>,
    ) -> io::Result<(Self, thread::JoinHandle<()>)> {
        let (sender, receiver) = bounded(JOBS_MAX);
        let about = Arc::new(About::default());
        let mut desk = Desk::new((accounts, logins), auth, shared, Instant::now(), StdRng::from_os_rng());
        about.look(&desk);
        let shared = Arc::clone(&about);
        let thread = thread::Builder::new().name("housekeeping".into());
        let thread = thread.spawn(move || run(&receiver, &mut desk, chores, &shared))?;
        Ok((Self { sender, about }, thread))
    }

    /// Queues a job. Never waits.
    ///
    /// # Errors
    /// The queue is full; `reply` is not called.
    pub fn submit(&self, job: Job, reply: Reply) -> Result<(), Refusal> {
        self.sender.try_send((job, reply)).map_err(|error| {
            self.about.refused.fetch_add(1, Ordering::Relaxed);
            match error {
                TrySendError::Full(_) => Refusal {
                    code: Code::ResourceExhausted,
                    message: "too many people are logging in at this moment".into(),
                    retry_ms: Some(BUSY_RETRY_MS),
                },
                TrySendError::Disconnected(_) => {
                    Refusal { code: Code::Unavailable, message: "the server is stopping".into(), retry_ms: None }
                }
            }
        })
    }

    /// Jobs that wait now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.sender.len()
    }

    /// Accounts that there are.
    #[must_use]
    pub fn accounts(&self) -> u64 {
        self.about.accounts.load(Ordering::Relaxed)
    }

    /// Logins that stand, and those that have ended in this run to make room for others.
    #[must_use]
    pub fn logins_and_displaced(&self) -> (u64, u64) {
        (self.about.logins.load(Ordering::Relaxed), self.about.displaced.load(Ordering::Relaxed))
    }

    /// Which files of accounts and logins cannot be written, and why: a line each.
    #[must_use]
    pub fn troubles(&self) -> String {
        self.about.troubles.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Jobs done, and jobs refused because the queue was full.
    #[must_use]
    pub fn done_and_refused(&self) -> (u64, u64) {
        (self.about.done.load(Ordering::Relaxed), self.about.refused.load(Ordering::Relaxed))
    }
}

impl fmt::Debug for Housekeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Housekeeper").field("waiting", &self.waiting()).field("about", &self.about).finish()
    }
}

fn run(jobs: &Receiver<(Job, Reply)>, desk: &mut Desk, mut chores: Vec<Chore>, about: &About) {
    let mut next = Instant::now() + TICK;
    loop {
        match jobs.recv_deadline(next) {
            Ok((job, reply)) => {
                let outcome = desk.handle(Instant::now(), SystemTime::now(), job);
                about.look(desk);
                reply(outcome);
                about.done.fetch_add(1, Ordering::Relaxed);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if Instant::now() >= next {
            chores.iter_mut().for_each(|chore| chore(SystemTime::now()));
            desk.tend(SystemTime::now());
            about.look(desk);
            next = Instant::now() + TICK;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::{
        desk::tests::{auth, books, guest},
        *,
    };

    #[test]
    fn a_full_queue_refuses_and_the_thread_ends_with_its_last_handle() {
        let (folder, auth) = (tempfile::tempdir().expect("a folder"), auth());
        let (accounts, logins) = books(&folder, &auth);
        let (held, hold) = mpsc::channel::<()>();
        let (sender, receiver) = mpsc::channel();
        let (housekeeper, thread) =
            Housekeeper::start(accounts, logins, &auth, Arc::default(), Vec::new()).expect("started");

        let (started, first) = mpsc::channel();
        let wait = Box::new(move |_| {
            started.send(()).expect("waited for");
            let _ = hold.recv();
        });
        housekeeper.submit(guest("a"), wait).expect("room");
        first.recv_timeout(Duration::from_secs(10)).expect("the first job is being answered");
        for _ in 0..JOBS_MAX {
            let sender = sender.clone();
            housekeeper.submit(guest("a"), Box::new(move |outcome| drop(sender.send(outcome)))).expect("room");
        }
        let refusal = housekeeper.submit(guest("a"), Box::new(|_| panic!("refused"))).expect_err("full");
        assert_eq!((refusal.code, refusal.retry_ms), (Code::ResourceExhausted, Some(BUSY_RETRY_MS)));
        assert_eq!((housekeeper.waiting(), housekeeper.done_and_refused().1), (JOBS_MAX, 1));
        drop(held);
        for _ in 0..JOBS_MAX {
            let outcome: Outcome = receiver.recv_timeout(Duration::from_secs(10)).expect("answered");
            outcome.answer.expect("a guest");
        }
        drop(housekeeper);
        thread.join().expect("ended");
    }

    #[test]
    fn chores_get_their_chance() {
        let folder = tempfile::tempdir().expect("a folder");
        let (accounts, logins) = books(&folder, &auth());
        let (sender, receiver) = mpsc::channel();
        let chore: Chore = Box::new(move |now| {
            let _ = sender.send(now);
        });
        let (housekeeper, _thread) =
            Housekeeper::start(accounts, logins, &auth(), Arc::default(), vec![chore]).expect("started");
        receiver.recv_timeout(Duration::from_secs(10)).expect("called");
        drop(housekeeper);
    }
}
