//! Starting and stopping shards: bind everything, start a thread per shard, join them.

use std::{
    net::SocketAddr,
    os::fd::{FromRawFd, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
};

use crossbeam::{channel, queue::ArrayQueue};
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    accept::Acceptor,
    clock::{Clock, CpuTime},
    config::Config,
    cores::Cores,
    disk::Disk,
    error::EngineError,
    io::Io,
    kernel::Kernel,
    limits,
    net::Net,
    park::{Berth, Spin},
    post::{CONTROL_SLOTS, Post, posts},
    reactor::{Listener, Reactor, ShardId, Socket},
    ring::Ring,
    shard::{Next, Shard},
    socket::{self, Inlets},
    stats::ShardStats,
};

/// All addresses are bound; nothing runs yet.
pub struct Bound {
    config: Config,
    cpus: Vec<usize>,
    listeners: Vec<(SocketAddr, Vec<OwnedFd>)>,
    sockets: Vec<Inlets>,
}

/// Shards that run.
pub struct Running<M: Send + 'static> {
    threads: Vec<ExecutorJoinHandle<()>>,
    orders: Vec<Arc<ArrayQueue<M>>>,
    berths: Arc<[Berth]>,
    reports: channel::Receiver<(ShardId, M)>,
    stats: Vec<Arc<ShardStats>>,
    fate: Arc<Fate>,
}

// What all shards and the control thread know of each other.
struct Fate {
    stop: Arc<AtomicBool>,
    alive: AtomicUsize,
    deaths: Mutex<Vec<(ShardId, String)>>,
}

/// Binds every address for every shard, in their order, so that a reuseport group's indexes are the shards' numbers.
///
/// # Errors
/// If the configuration contradicts itself, or an address cannot be had: also when somebody else's reuseport group
/// listens there.
pub fn bind(mut config: Config) -> Result<Bound, EngineError> {
    config.check()?;
    limits::descriptors();
    config.shards = config.shard_count();
    let cpus = config.cpus.clone().unwrap_or_else(|| Cores::detect().place(config.shards));
    let mut tries = PAIR_TRIES;
    let (listeners, sockets) = loop {
        match open(&config) {
            Err(EngineError::AddressInUse { .. }) if tries > 1 && config.pairs_freely() => tries -= 1,
            outcome => break outcome?,
        }
    };
    Ok(Bound { config, cpus, listeners, sockets })
}

/// Times that a port which is free for both of a pair is looked for: half of all ports in use by somebody, and still
/// one bind of 2^64 fails.
const PAIR_TRIES: u32 = 64;

type Listeners = Vec<(SocketAddr, Vec<OwnedFd>)>;

fn open(config: &Config) -> Result<(Listeners, Vec<Inlets>), EngineError> {
    let shards = config.shards;
    let listeners: Listeners =
        config.listeners.iter().map(|one| socket::listen(one, shards)).collect::<Result<_, _>>()?;
    let mut sockets = Vec::new();
    for one in &config.sockets {
        let mut one = one.clone();
        if let Some(beside) = one.beside {
            one.addr.set_port(listeners[usize::from(beside.0)].0.port());
        }
        sockets.push(socket::receive(&one, shards)?);
    }
    Ok((listeners, sockets))
}

impl Bound {
    /// How many shards there will be.
    #[must_use]
    pub fn shards(&self) -> u16 {
        self.config.shards
    }

    /// The CPU of every shard, if they are pinned.
    #[must_use]
    pub fn cpus(&self) -> &[usize] {
        &self.cpus
    }

    /// Where a listener listens: the port that it got, if 0 was asked for.
    ///
    /// # Panics
    /// If there is no such listener in the configuration.
    #[must_use]
    pub fn listener_addr(&self, listener: Listener) -> SocketAddr {
        self.listeners[usize::from(listener.0)].0
    }

    /// Where a UDP socket receives.
    ///
    /// # Panics
    /// If there is no such socket in the configuration.
    #[must_use]
    pub fn socket_addr(&self, socket: Socket) -> SocketAddr {
        self.sockets[usize::from(socket.0)].addr
    }

    /// Whether the kernel steers a socket's datagrams to their shards: not without a [`crate::Steer`], and not where
    /// the kernel refuses its filter. Then its hash spreads them, and shards forward what is not theirs.
    ///
    /// # Panics
    /// If there is no such socket in the configuration.
    #[must_use]
    pub fn is_steered(&self, socket: Socket) -> bool {
        self.sockets[usize::from(socket.0)].steered
    }

    /// Starts all shards; `make` builds each one's reactor, on its own thread. Returns when all rings are up.
    ///
    /// # Errors
    /// If one of them does not come up; then none runs.
    pub fn start<R, F>(self, make: F) -> Result<Running<R::Mail>, EngineError>
    where
        R: Reactor + 'static,
        F: Fn(ShardId, Arc<ShardStats>) -> R + Send + Sync + 'static,
    {
        let shards = self.config.shards;
        let stats: Vec<_> = (0..shards).map(|_| Arc::new(ShardStats::default())).collect();
        let orders: Vec<_> = (0..shards).map(|_| Arc::new(ArrayQueue::new(CONTROL_SLOTS))).collect();
        let (reports_in, reports) = channel::bounded(CONTROL_SLOTS);
        let posts = posts(shards, self.config.mailbox_slots, &orders, &reports_in);
        let fate = Arc::new(Fate {
            stop: Arc::default(),
            alive: AtomicUsize::new(usize::from(shards)),
            deaths: Mutex::default(),
        });
        let make = Arc::new(make);
        let seeds = seeds(self.config.seed, shards);
        let (ready, readiness) = mpsc::channel();
        let (mut threads, mut starts) = (Vec::new(), Vec::new());
        for (place, post) in self.places(&stats, seeds).into_iter().zip(posts) {
            let (go, start) = mpsc::sync_channel(1);
            starts.push(go);
            let (shard, cpu, pin) = (place.shard, place.cpu, place.config.pin);
            let thread = Thread { place, post, fate: fate.clone(), ready: ready.clone(), start, make: make.clone() };
            threads.push(thread.spawn(cpu, pin).map_err(|message| EngineError::Start { shard, message })?);
        }
        drop(ready);
        let berths = gather(&readiness, shards)?;
        for go in starts {
            // A thread that is gone has said why.
            let _ = go.send(berths.clone());
        }
        Ok(Running { threads, orders, berths, reports, stats, fate })
    }

    // What belongs to each shard, in their order.
    fn places(self, stats: &[Arc<ShardStats>], seeds: Vec<[u8; 32]>) -> Vec<Place> {
        let config = Arc::new(self.config);
        let mut places: Vec<Place> = seeds
            .into_iter()
            .zip(stats)
            .enumerate()
            .map(|(shard, (seed, stats))| Place {
                shard: ShardId(shard as u16),
                cpu: self.cpus[shard],
                config: config.clone(),
                listeners: Vec::new(),
                sockets: Vec::new(),
                stats: stats.clone(),
                seed,
            })
            .collect();
        for (_, fds) in self.listeners {
            places.iter_mut().zip(fds).for_each(|(place, fd)| place.listeners.push(fd));
        }
        for Inlets { addr, fds, .. } in self.sockets {
            places.iter_mut().zip(fds).for_each(|(place, fd)| place.sockets.push((fd, addr.is_ipv6())));
        }
        places
    }
}

// The shards' seeds out of the engine's.
fn seeds(seed: Option<[u8; 32]>, shards: u16) -> Vec<[u8; 32]> {
    let mut rng = seed.map_or_else(StdRng::from_os_rng, StdRng::from_seed);
    (0..shards).map(|_| rng.random()).collect()
}

// Waits until every thread has its ring, or one says that it has none.
fn gather(
    readiness: &mpsc::Receiver<(ShardId, Result<Berth, EngineError>)>,
    shards: u16,
) -> Result<Arc<[Berth]>, EngineError> {
    let mut berths: Vec<Option<Berth>> = (0..shards).map(|_| None).collect();
    for _ in 0..shards {
        match readiness.recv() {
            Ok((shard, berth)) => berths[shard.index()] = Some(berth?),
            Err(_) => break,
        }
    }
    let missing = berths.iter().position(Option::is_none);
    if let Some(missing) = missing {
        let message = "its executor did not start (io_uring refused, or no locked memory)".to_owned();
        return Err(EngineError::Start { shard: ShardId(missing as u16), message });
    }
    Ok(berths.into_iter().flatten().collect())
}

struct Place {
    shard: ShardId,
    cpu: usize,
    config: Arc<Config>,
    listeners: Vec<OwnedFd>,
    sockets: Vec<(OwnedFd, bool)>,
    stats: Arc<ShardStats>,
    seed: [u8; 32],
}

struct Thread<R: Reactor, F> {
    place: Place,
    post: Post<R::Mail>,
    fate: Arc<Fate>,
    ready: mpsc::Sender<(ShardId, Result<Berth, EngineError>)>,
    start: mpsc::Receiver<Arc<[Berth]>>,
    make: Arc<F>,
}

impl<R, F> Thread<R, F>
where
    R: Reactor + 'static,
    F: Fn(ShardId, Arc<ShardStats>) -> R + Send + Sync + 'static,
{
    fn spawn(self, cpu: usize, pin: bool) -> Result<ExecutorJoinHandle<()>, String> {
        let placement = if pin { Placement::Fixed(cpu) } else { Placement::Unbound };
        LocalExecutorBuilder::new(placement)
            .name(&format!("shard-{}", self.place.shard))
            .spawn(move || self.run())
            .map_err(|error| error.to_string())
    }

    async fn run(self) {
        let Self { place, post, fate, ready, start, make } = self;
        let (shard, stats) = (place.shard, place.stats.clone());
        let seed = place.seed;
        let shards = place.config.shards;
        let spin = Spin::new(place.config.spin_us);
        let set_up = place.set_up();
        let net = match set_up {
            Ok((net, berth)) => {
                let _ = ready.send((shard, Ok(berth)));
                net
            }
            Err(error) => {
                let _ = ready.send((shard, Err(error)));
                return;
            }
        };
        drop(ready);
        let Ok(berths) = start.recv() else { return net.shut_down() };
        let mut clock = Clock::new();
        let (now, wall_ms) = clock.now();
        let reactor = match catch_unwind(AssertUnwindSafe(|| make(shard, stats.clone()))) {
            Ok(reactor) => reactor,
            Err(panic) => {
                fate.died(shard, &*panic, &berths);
                return net.shut_down();
            }
        };
        let shard = Shard {
            me: shard,
            reactor,
            io: Io::new(shard, shards, now, wall_ms, seed),
            net,
            post,
            disk: Disk::default(),
            berths,
            stop: fate.stop.clone(),
            stats,
            spin,
            clock,
            effects: Vec::new(),
            cpu_time: CpuTime::new(now),
            yielded_at: now,
            exiting: false,
        };
        turn(shard, &fate).await;
    }
}

// The life of a shard, panics included.
async fn turn<R: Reactor>(mut shard: Shard<R>, fate: &Fate) {
    let mut next = catch_unwind(AssertUnwindSafe(|| {
        shard.start();
        Next::Turn
    }));
    loop {
        match next {
            Ok(Next::Turn) => {}
            Ok(Next::Yield(most)) => {
                shard.listen_for_disk();
                shard.disk.wait(most).await;
                shard.wake_from_disk();
            }
            Ok(Next::Exit) => break fate.ended(),
            Err(panic) => break fate.died(shard.me, &*panic, &shard.berths),
        }
        next = catch_unwind(AssertUnwindSafe(|| shard.lap()));
    }
    shard.net.shut_down();
}

impl Place {
    // The ring is made on the thread that will use it.
    fn set_up(self) -> Result<(Net, Berth), EngineError> {
        let ring = Ring::new(Kernel::usable(self.config.kernel_max))?;
        let failed = |what| move |error| EngineError::Ring { what, error };
        // SAFETY: the ring outlives this borrow of its descriptor, which is only duplicated.
        let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(ring.fd()) };
        let bell = fd.try_clone_to_owned().map_err(failed("duplicate of the ring"))?;
        let eventfd = eventfd().map_err(failed("eventfd"))?;
        let own = eventfd.try_clone().map_err(failed("duplicate of the eventfd"))?;
        let addressed = self.config.peer_addresses;
        let acceptors = self
            .listeners
            .into_iter()
            .enumerate()
            .map(|(at, fd)| Acceptor::new(fd, Listener(at as u16), addressed))
            .collect();
        let net = Net::new(ring, &self.config, acceptors, self.sockets, own, self.stats)?;
        Ok((net, Berth::new(bell, eventfd)))
    }
}

/// An eventfd, which counts rings until they are read.
pub(crate) fn eventfd() -> std::io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

impl Fate {
    fn ended(&self) {
        self.alive.fetch_sub(1, Ordering::Release);
    }

    fn died(&self, shard: ShardId, panic: &(dyn std::any::Any + Send), berths: &[Berth]) {
        let message = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
            (Some(text), _) => (*text).to_owned(),
            (_, Some(text)) => text.clone(),
            _ => "panic without a message".to_owned(),
        };
        self.deaths.lock().unwrap_or_else(PoisonError::into_inner).push((shard, message));
        self.stop.store(true, Ordering::SeqCst);
        berths.iter().for_each(Berth::ring_eventfd);
        self.ended();
    }
}

impl<M: Send + 'static> Running<M> {
    /// Puts mail into a shard's box and wakes the shard. Gives the mail back when the box is full or there is no such
    /// shard.
    ///
    /// # Errors
    /// The mail itself.
    pub fn mail(&self, to: ShardId, mail: M) -> Result<(), M> {
        let (Some(orders), Some(berth)) = (self.orders.get(to.index()), self.berths.get(to.index())) else {
            return Err(mail);
        };
        orders.push(mail)?;
        berth.ring_eventfd();
        Ok(())
    }

    /// Mail that shards sent to [`ShardId::CONTROL`]. What it does not hold waits with its sender.
    #[must_use]
    pub fn control(&self) -> &channel::Receiver<(ShardId, M)> {
        &self.reports
    }

    /// The counters of every shard.
    #[must_use]
    pub fn stats(&self) -> &[Arc<ShardStats>] {
        &self.stats
    }

    /// Whether every shard has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.fate.alive.load(Ordering::Acquire) == 0
    }

    /// Waits until every shard has ended by [`Io::exit`].
    ///
    /// # Errors
    /// If one of them died instead.
    pub fn join(self) -> Result<(), EngineError> {
        let mut failed = None;
        for (shard, thread) in self.threads.into_iter().enumerate() {
            if let Err(error) = thread.join() {
                let shard = ShardId(shard as u16);
                failed.get_or_insert(EngineError::ShardDied { shard, message: error.to_string() });
            }
        }
        let mut deaths = self.fate.deaths.lock().unwrap_or_else(PoisonError::into_inner);
        match deaths.drain(..).next() {
            Some((shard, message)) => Err(EngineError::ShardDied { shard, message }),
            None => failed.map_or(Ok(()), Err),
        }
    }
}
