//! The housekeeping thread: what is too slow for a shard (hashing passwords, syncing accounts) and what is seldom.

use std::{
    fmt, io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use handler::Code;
use rand::{Rng, SeedableRng, rngs::StdRng};
use session::auth::{LoginId, Refresh};

use crate::{
    account::{AccountError, Accounts, check_name},
    config::Auth,
    login::{LoginBook, RenewError, Stands},
    throttle::{Throttle, network},
};

/// Jobs that wait. Hashing takes 13 ms (Zen 5, release build), so the last of 64 waits a second, which a person at a
/// login form bears.
pub const JOBS_MAX: usize = 64;

/// How often the seldom things get their chance; also what rates in `/shards` are averaged over.
pub const TICK: Duration = Duration::from_secs(1);

/// When to try again after the queue was full: when all of it is done.
const BUSY_RETRY_MS: u32 = 1000;

/// What a shard wants done.
#[derive(Debug)]
pub enum Job {
    /// Make an account and log in.
    Register(Credentials),
    /// Log in.
    Login(Credentials),
    /// Come in under a name that no account has.
    Guest {
        /// The name.
        name: String,
        /// From where.
        address: IpAddr,
    },
    /// Renew a login.
    Refresh {
        /// What the refresh token says, which is ours.
        refresh: Refresh,
        /// From where.
        address: IpAddr,
    },
    /// End a login, or all of the account.
    Logout {
        /// What the refresh token says, which is ours.
        refresh: Refresh,
        /// Whether all devices are meant.
        all: bool,
        /// From where.
        address: IpAddr,
    },
}

/// A name and a password, and where they come from.
pub struct Credentials {
    /// The name.
    pub name: String,
    /// The password.
    pub password: String,
    /// From where.
    pub address: IpAddr,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("name", &self.name).field("address", &self.address).finish_non_exhaustive()
    }
}

/// Who somebody is, for whoever makes the token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The user's name.
    pub user: String,
    /// Whether nothing proves it.
    pub guest: bool,
    /// The login of an account's device.
    pub login: Option<Stands>,
}

/// What was done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Done {
    /// Somebody may come in.
    Welcome(Identity),
    /// Somebody has logged out.
    Goodbye,
}

/// Logins that have ended before their time: sessions of them end, too.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ended {
    /// Which.
    pub logins: Vec<LoginId>,
    /// Whose; of those that made room for a login, whose that is.
    pub user: String,
    /// Whether all tokens of the user end, also those without a login.
    pub all: bool,
    /// What moderators are told of it, if anything.
    pub record: Option<&'static str>,
}

/// The outcome of a job, and what every shard has to know of it.
#[derive(Debug)]
pub struct Outcome {
    /// For whoever asked.
    pub answer: Result<Done, Refusal>,
    /// For all shards.
    pub ended: Option<Ended>,
}

/// Why not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// What kind.
    pub code: Code,
    /// In words.
    pub message: String,
    /// When to try again.
    pub retry_ms: Option<u32>,
}

impl From<AccountError> for Refusal {
    fn from(error: AccountError) -> Self {
        Self { code: error.code(), message: error.to_string(), retry_ms: None }
    }
}

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
}

impl About {
    fn look(&self, desk: &Desk) {
        self.accounts.store(desk.accounts.count() as u64, Ordering::Relaxed);
        self.logins.store(desk.logins.count() as u64, Ordering::Relaxed);
        self.displaced.store(desk.logins.displaced(), Ordering::Relaxed);
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
            desk.logins.expire(unix_secs(SystemTime::now()));
            about.look(desk);
            next = Instant::now() + TICK;
        }
    }
}

/// Where jobs are done; it has no clock and no thread.
struct Desk {
    accounts: Accounts,
    logins: LoginBook,
    /// What the job that is being done has ended.
    ended: Option<Ended>,
    shared: Arc<chat::Shared>,
    guests: bool,
    by_name: Throttle,
    by_address: Throttle,
    guests_by_address: Throttle,
    refreshes_by_login: Throttle,
    refreshes_by_address: Throttle,
    rng: StdRng,
}

impl Desk {
    fn new(
        (accounts, logins): (Accounts, LoginBook),
        auth: &Auth,
        shared: Arc<chat::Shared>,
        now: Instant,
        mut rng: StdRng,
    ) -> Self {
        accounts.names().for_each(|name| shared.people.add(name));
        let by_name = Throttle::new(now, auth.logins_per_min, rng.random());
        let by_address = Throttle::new(now, auth.logins_per_min_address, rng.random());
        let guests_by_address = Throttle::new(now, auth.guests_per_min_address, rng.random());
        let refreshes_by_login = Throttle::new(now, auth.logins_per_min, rng.random());
        let refreshes_by_address = Throttle::new(now, auth.refreshes_per_min_address, rng.random());
        Self {
            accounts,
            logins,
            ended: None,
            shared,
            guests: auth.guest,
            by_name,
            by_address,
            guests_by_address,
            refreshes_by_login,
            refreshes_by_address,
            rng,
        }
    }

    fn handle(&mut self, now: Instant, wall: SystemTime, job: Job) -> Outcome {
        let answer = match job {
            Job::Register(credentials) => self.register(now, wall, &credentials).map(Done::Welcome),
            Job::Login(credentials) => self.login(now, wall, &credentials).map(Done::Welcome),
            Job::Guest { name, address } => self.guest(now, name, address).map(Done::Welcome),
            Job::Refresh { refresh, address } => self.refresh(now, wall, refresh, address).map(Done::Welcome),
            Job::Logout { refresh, all, address } => self.logout(now, wall, (refresh, all), address),
        };
        Outcome { answer, ended: self.ended.take() }
    }

    /// Makes an account and its first login. The login is stored first: as long as there is no account of that name it is
    /// nobody's, and ends with the next start. So a name is taken only by a registration that has gone all the way, also
    /// when a disk is full or the server ends in between.
    fn register(&mut self, now: Instant, wall: SystemTime, new: &Credentials) -> Result<Identity, Refusal> {
        self.by_address.take(now, network(new.address)).map_err(throttled)?;
        let at_ms = wall.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0));
        let account = self.accounts.prepare(&new.name, &new.password, &mut self.rng)?;
        let identity = self.begin(wall, new.name.clone())?;
        self.accounts.add(account, at_ms).inspect_err(|_| self.withdraw(&identity))?;
        self.shared.people.add(&new.name);
        tracing::info!(user = new.name, "registered");
        Ok(identity)
    }

    fn login(&mut self, now: Instant, wall: SystemTime, login: &Credentials) -> Result<Identity, Refusal> {
        self.by_address.take(now, network(login.address)).map_err(throttled)?;
        // A name that nobody can have needs no hashing, and its length must not fill the table's hasher.
        check_name(&login.name).map_err(|_| AccountError::Wrong)?;
        // Per name and network: attempts from elsewhere must not lock the owner of a name out.
        let who = (login.name.to_lowercase(), network(login.address));
        self.by_name.take(now, who).map_err(throttled)?;
        let user = self.accounts.verify(&login.name, &login.password)?.to_owned();
        self.begin(wall, user)
    }

    /// A device of an account is logged in from here on.
    fn begin(&mut self, wall: SystemTime, user: String) -> Result<Identity, Refusal> {
        let id = LoginId(self.rng.random());
        let (stands, logins) = self.logins.begin(unix_secs(wall), &user, id)?;
        if !logins.is_empty() {
            self.ended = Some(Ended { logins, user: user.clone(), all: false, record: None });
        }
        Ok(Identity { user, guest: false, login: Some(stands) })
    }

    /// Nobody was told of this login, and nobody will be.
    fn withdraw(&mut self, identity: &Identity) {
        if let Some(Stands { refresh, .. }) = identity.login {
            self.logins.withdraw(refresh.login);
        }
    }

    fn refresh(
        &mut self,
        now: Instant,
        wall: SystemTime,
        refresh: Refresh,
        address: IpAddr,
    ) -> Result<Identity, Refusal> {
        self.refreshes_by_address.take(now, network(address)).map_err(throttled)?;
        self.refreshes_by_login.take(now, refresh.login).map_err(throttled)?;
        let renewed = self.logins.renew(unix_secs(wall), refresh);
        let (user, stands) = renewed.map_err(|error| self.not_renewed(refresh, error))?;
        Ok(Identity { user, guest: false, login: Some(stands) })
    }

    fn logout(
        &mut self,
        now: Instant,
        wall: SystemTime,
        (refresh, all): (Refresh, bool),
        address: IpAddr,
    ) -> Result<Done, Refusal> {
        self.refreshes_by_address.take(now, network(address)).map_err(throttled)?;
        match self.logins.leave(unix_secs(wall), refresh, all) {
            Ok((user, logins)) => {
                let record = all.then_some("logout_all");
                self.ended = Some(Ended { logins, user, all, record });
                Ok(Done::Goodbye)
            }
            // It has ended already, which is what was wanted.
            Err(RenewError::Unknown) if !all => Ok(Done::Goodbye),
            Err(error) => Err(self.not_renewed(refresh, error)),
        }
    }

    fn not_renewed(&mut self, refresh: Refresh, error: RenewError) -> Refusal {
        let refused =
            |message: &str| Refusal { code: Code::Unauthenticated, message: message.to_owned(), retry_ms: None };
        match error {
            RenewError::Unknown => refused("the refresh token is not valid; log in again"),
            RenewError::Reused { user } => {
                tracing::warn!(user, "a refresh token was used a second time: its login has ended");
                let (logins, record) = (vec![refresh.login], Some("refresh_reused"));
                self.ended = Some(Ended { logins, user, all: false, record });
                refused("the refresh token was used before, so that its login has ended; log in again")
            }
            RenewError::Storage(error) => error.into(),
        }
    }

    fn guest(&mut self, now: Instant, name: String, address: IpAddr) -> Result<Identity, Refusal> {
        if !self.guests {
            let message = "this server has no guests; register or log in".into();
            return Err(Refusal { code: Code::PermissionDenied, message, retry_ms: None });
        }
        check_name(&name)?;
        self.guests_by_address.take(now, network(address)).map_err(throttled)?;
        if self.accounts.has(&name) {
            return Err(AccountError::Taken.into());
        }
        Ok(Identity { user: name, guest: true, login: None })
    }
}

fn unix_secs(wall: SystemTime) -> u64 {
    wall.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn throttled(wait: Duration) -> Refusal {
    let retry_ms = u32::try_from(wait.as_millis()).unwrap_or(u32::MAX).max(1);
    Refusal { code: Code::ResourceExhausted, message: "too many attempts".into(), retry_ms: Some(retry_ms) }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn auth() -> Auth {
        Auth { argon2_kib: 8, argon2_passes: 1, logins_per_min: 3, logins_per_min_address: 8, ..Auth::default() }
    }

    fn desk(auth: &Auth) -> (tempfile::TempDir, Desk, Instant) {
        let folder = tempfile::tempdir().expect("a folder");
        let (books, now) = (books(&folder, auth), Instant::now());
        (folder, Desk::new(books, auth, Arc::default(), now, StdRng::seed_from_u64(7)), now)
    }

    fn books(folder: &tempfile::TempDir, auth: &Auth) -> (Accounts, LoginBook) {
        let accounts = Accounts::open(folder.path(), auth).expect("opened");
        let known = |user: &str| accounts.is_name(user);
        let logins = LoginBook::open(folder.path(), auth, Arc::default(), 0, known).expect("opened");
        (accounts, logins)
    }

    fn credentials(name: &str, password: &str) -> Credentials {
        Credentials { name: name.into(), password: password.into(), address: HERE }
    }

    fn guest(name: &str) -> Job {
        Job::Guest { name: name.into(), address: HERE }
    }

    fn code(outcome: Outcome) -> Result<(String, bool), (Code, bool)> {
        match outcome.answer {
            Ok(Done::Welcome(who)) => Ok((who.user, who.guest)),
            Ok(Done::Goodbye) => Ok((String::new(), false)),
            Err(why) => Err((why.code, why.retry_ms.is_some())),
        }
    }

    #[test]
    fn what_ends_is_told_and_recorded() {
        let (_folder, mut desk, now) = desk(&Auth { logins_per_min: 100, ..auth() });
        let login = |outcome: Outcome| match outcome.answer {
            Ok(Done::Welcome(Identity { login: Some(stands), .. })) => stands.refresh,
            other => panic!("{other:?}"),
        };
        let first = login(desk.handle(now, UNIX_EPOCH, Job::Register(credentials("ada", "long enough"))));
        let again = Job::Refresh { refresh: first, address: HERE };
        let second = login(desk.handle(now, UNIX_EPOCH, again));
        assert_eq!(second, Refresh { generation: 1, ..first });
        let lost = desk.handle(now, UNIX_EPOCH, Job::Refresh { refresh: first, address: HERE });
        assert_eq!((lost.ended.clone(), login(lost)), (None, second), "its answer was lost: the same one again");
        let third = login(desk.handle(now, UNIX_EPOCH, Job::Refresh { refresh: second, address: HERE }));
        assert_eq!(third, Refresh { generation: 2, ..first });
        let stolen = desk.handle(now, UNIX_EPOCH, Job::Refresh { refresh: first, address: HERE });
        let ended = Ended { logins: vec![first.login], user: "ada".into(), all: false, record: Some("refresh_reused") };
        assert_eq!((stolen.ended.clone(), code(stolen)), (Some(ended), Err((Code::Unauthenticated, false))));
        let gone = desk.handle(now, UNIX_EPOCH, Job::Logout { refresh: third, all: false, address: HERE });
        assert_eq!((gone.ended.clone(), gone.answer), (None, Ok(Done::Goodbye)), "it has ended already");
        let other = login(desk.handle(now, UNIX_EPOCH, Job::Login(credentials("ada", "long enough"))));
        let left = desk.handle(now, UNIX_EPOCH, Job::Logout { refresh: other, all: true, address: HERE });
        let ended = Ended { logins: vec![other.login], user: "ada".into(), all: true, record: Some("logout_all") };
        assert_eq!((left.ended, left.answer), (Some(ended), Ok(Done::Goodbye)));
    }

    #[test]
    fn renewals_are_slowed_down_by_login_and_by_address() {
        let (_folder, mut desk, now) = desk(&Auth { refreshes_per_min_address: 5, ..auth() });
        let mut ask = |n: u8| {
            let refresh = Refresh { login: LoginId([n; 16]), generation: 0 };
            code(desk.handle(now, UNIX_EPOCH, Job::Refresh { refresh, address: HERE }))
        };
        (0..3).for_each(|_| assert_eq!(ask(1), Err((Code::Unauthenticated, false))));
        assert_eq!(ask(1), Err((Code::ResourceExhausted, true)), "three of one login");
        assert_eq!(ask(2), Err((Code::Unauthenticated, false)));
        assert_eq!(ask(3), Err((Code::ResourceExhausted, true)), "five from one address");
    }

    #[test]
    fn a_guest_never_gets_the_name_of_an_account() {
        let (_folder, mut desk, now) = desk(&auth());
        let mut ask = |job| code(desk.handle(now, UNIX_EPOCH, job));
        assert_eq!(ask(guest("alice")), Ok(("alice".into(), true)));
        assert_eq!(ask(Job::Register(credentials("Alice", "long enough"))), Ok(("Alice".into(), false)));
        assert_eq!(ask(guest("alice")), Err((Code::AlreadyExists, false)));
        assert_eq!(ask(guest("<script>")), Err((Code::InvalidArgument, false)));
        assert_eq!(ask(Job::Login(credentials("alice", "long enough"))), Ok(("Alice".into(), false)));
    }

    #[test]
    fn a_registration_that_fails_leaves_the_name_free() {
        let failures: [fn(&mut Desk); 2] = [|desk| desk.logins.be_full(), |desk| desk.accounts.be_full()];
        for fail in failures {
            let (folder, mut desk, now) = desk(&auth());
            fail(&mut desk);
            let outcome = desk.handle(now, UNIX_EPOCH, Job::Register(credentials("ada", "long enough")));
            assert_eq!(code(outcome), Err((Code::Unavailable, false)));
            assert!(!desk.accounts.has("ada") && desk.logins.count() == 0);
            assert_eq!(code(desk.handle(now, UNIX_EPOCH, guest("ada"))), Ok(("ada".into(), true)));
            // There is space again, and somebody takes it.
            let mut desk = Desk::new(books(&folder, &auth()), &auth(), Arc::default(), now, StdRng::seed_from_u64(8));
            assert_eq!(desk.logins.count(), 0);
            let ours = Job::Register(credentials("ada", "another one"));
            assert_eq!(code(desk.handle(now, UNIX_EPOCH, ours)), Ok(("ada".into(), false)));
        }
    }

    #[test]
    fn a_registration_that_a_crash_cuts_off_leaves_the_name_free_and_no_login() {
        let (folder, mut desk, now) = desk(&auth());
        // As far as it comes before the account is on disk.
        desk.begin(UNIX_EPOCH, "ada".into()).expect("stored");
        drop(desk);
        let mut desk = Desk::new(books(&folder, &auth()), &auth(), Arc::default(), now, StdRng::seed_from_u64(8));
        assert!(!desk.accounts.has("ada") && desk.logins.count() == 0);
        let again = Job::Register(credentials("ada", "long enough"));
        assert_eq!(code(desk.handle(now, UNIX_EPOCH, again)), Ok(("ada".into(), false)));
        assert_eq!(desk.logins.count(), 1);
    }

    #[test]
    fn a_server_may_refuse_guests() {
        let (_folder, mut desk, now) = desk(&Auth { guest: false, ..auth() });
        let outcome = desk.handle(now, UNIX_EPOCH, guest("alice"));
        assert_eq!(code(outcome), Err((Code::PermissionDenied, false)));
    }

    #[test]
    fn one_address_cannot_use_up_all_guests() {
        let (_folder, mut desk, now) = desk(&Auth { guests_per_min_address: 2, ..auth() });
        let mut ask = |job| code(desk.handle(now, UNIX_EPOCH, job));
        assert_eq!((ask(guest("a")).is_ok(), ask(guest("b")).is_ok()), (true, true));
        assert_eq!(ask(guest("c")), Err((Code::ResourceExhausted, true)));
        let elsewhere = Job::Guest { name: "d".into(), address: IpAddr::V4([127, 0, 0, 2].into()) };
        assert_eq!(ask(elsewhere), Ok(("d".into(), true)));
    }

    #[test]
    fn guessing_is_slowed_down_by_name_and_by_address() {
        let (_folder, mut desk, now) = desk(&auth());
        let mut ask = |at, job| code(desk.handle(at, UNIX_EPOCH, job));
        let login = |name| Job::Login(credentials(name, "a wrong one"));
        (0..3).for_each(|_| assert_eq!(ask(now, login("alice")), Err((Code::Unauthenticated, false))));
        assert_eq!(ask(now, login("ALICE")), Err((Code::ResourceExhausted, true)));
        (0..3).for_each(|_| assert_eq!(ask(now, login("bob")), Err((Code::Unauthenticated, false))));
        assert_eq!(ask(now, login("carol")), Err((Code::Unauthenticated, false)));
        assert_eq!(ask(now, login("dave")), Err((Code::ResourceExhausted, true)), "eight from one address");
        assert_eq!(ask(now, Job::Register(credentials("eve", "long enough"))), Err((Code::ResourceExhausted, true)));
        assert_eq!(ask(now + Duration::from_secs(60), login("alice")), Err((Code::Unauthenticated, false)));
    }

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
