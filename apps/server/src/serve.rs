//! `ringshard serve`: everything brought up in order, joined, and taken down again without losing anything.

use std::{
    io::Write,
    net::{SocketAddr, TcpListener},
    sync::{Arc, OnceLock, atomic::Ordering},
    thread,
    time::{Duration, Instant, SystemTime},
};

use arc_swap::{ArcSwap, ArcSwapOption};
use crossbeam::channel::{Receiver, Sender, bounded, select};
use engine::{Bound, EngineError, Listener, Running, ShardId};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    account::{Accounts, OpenError},
    admin::{self, AdminError, Phase},
    certificate::{CertificateError, Certificates},
    config::{self, Config, Loaded, Problems, Sources},
    data::{Data, DataError},
    housekeeping::{Chore, Housekeeper, Outcome},
    job::{Answer, Asked},
    journal::{self, JournalError, Journals},
    log::{self, LogError, Logger},
    login::LoginBook,
    mail::Mail,
    metrics::{ShardView, Stats},
    routes,
    setup::{self, Setup},
    shard::Shard,
    signal::{self, Signal},
    snapshot::{self, Keeper},
    udp::SECURE_UDP,
    words::{self, WordsError},
};

/// Why the server does not run, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration is wrong.
    #[error("{0}")]
    Config(#[from] Problems),
    /// The log cannot be written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The data directory.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The journals in it.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The list of words.
    #[error(transparent)]
    Words(#[from] WordsError),
    /// The accounts in it.
    #[error(transparent)]
    Accounts(#[from] OpenError),
    /// The certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// TLS.
    #[error("TLS: {0}")]
    Tls(String),
    /// Shards, rings, sockets.
    #[error(transparent)]
    Engine(#[from] engine::EngineError),
    /// The admin listener.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// Shards that do not end.
    #[error("shards did not leave in time")]
    Late,
    /// A thread or signal handler.
    #[error("cannot start {what}: {error}")]
    Start {
        /// What.
        what: &'static str,
        /// Why not.
        error: std::io::Error,
    },
}

/// Runs the server until it is told to stop.
///
/// # Errors
/// See [`ServeError`].
pub fn run(sources: &Sources) -> Result<(), ServeError> {
    let loaded = sources.load()?;
    let logger = log::start(&loaded.config.log)?;
    let outcome = Server::start(&loaded, logger.clone()).and_then(|server| server.serve(sources));
    logger.flush();
    outcome
}

/// An answer on its way back to a shard.
type Reply = (ShardId, Mail);

/// A running server, seen from its control thread.
struct Server {
    loaded: Loaded,
    logger: Logger,
    data: Arc<Data>,
    keeper: Keeper,
    setup: Arc<Setup>,
    certificates: Arc<Certificates>,
    housekeeper: Housekeeper,
    running: Running<Mail>,
    admin: Arc<admin::State>,
    signals: Receiver<Signal>,
    answers: (Sender<Reply>, Receiver<Reply>),
    shards: u16,
}

impl Server {
    fn start(loaded: &Loaded, logger: Logger) -> Result<Self, ServeError> {
        let config = loaded.config.clone();
        let data = Arc::new(Data::open(&config.server.data)?);
        let accounts = Accounts::open(data.path(), &config.auth)?;
        let certificates = Arc::new(Certificates::open(&config.tls, &data, SystemTime::now())?);
        let admin = admin::bind(config.listen.admin)?;
        // Odd, as routing needs it, and secret, so that nobody aims at one shard.
        let multiplier = StdRng::from_os_rng().random::<u32>() | 1;
        let bound = bind(&config, multiplier)?;
        if !bound.is_steered(SECURE_UDP) {
            tracing::warn!("the kernel takes no steering filter: datagrams for another shard are passed on by mail");
        }
        let (shards, addresses) = (bound.shards(), addresses(&bound, &admin)?);
        let at = (bound.socket_addr(SECURE_UDP), bound.listener_addr(PLAIN).port());
        let shared = Arc::new(chat::Shared::default());
        words::load(&config.chat, &shared)?;
        let setup = Arc::new(setup(&config, &data, &certificates, shards, multiplier, at, &shared)?);
        let (sender, signals) = bounded(SIGNALS_MAX);
        signal::listen(move |signal| {
            let _ = sender.try_send(signal);
        })
        .map_err(start_error("the signal thread"))?;

        let (now, shown) = (unix_ms(SystemTime::now()) / 1000, Arc::clone(&setup.logins));
        let logins = LoginBook::open(data.path(), &config.auth, shown, now, |user| accounts.is_name(user))?;
        let running = start_shards(bound, &data, &setup)?;
        let views = setup.stats.iter().zip(running.stats());
        let views = views.map(|(server, engine)| ShardView { server: Arc::clone(server), engine: Arc::clone(engine) });
        let figures = Arc::new(Stats::new(views.collect(), unix_ms(SystemTime::now()), Instant::now()));
        let _ = setup.figures.set(Arc::clone(&figures));

        let chores = chores(&certificates, &data, &figures);
        let (housekeeper, _) = Housekeeper::start(accounts, logins, &config.auth, shared, chores)
            .map_err(start_error("the housekeeping thread"))?;
        let state = Arc::new(admin::State {
            stats: figures,
            readiness: Arc::default(),
            config: ArcSwap::from_pointee(config::print(loaded)),
            logger: logger.clone(),
            housekeeper: housekeeper.clone(),
        });
        admin::serve(admin, Arc::clone(&state)).map_err(start_error("the admin thread"))?;
        announce(&addresses);
        let answers = bounded(ANSWERS_MAX);
        Ok(Self {
            loaded: loaded.clone(),
            logger,
            keeper: Keeper::new(Arc::clone(&data), shards),
            data,
            setup,
            certificates,
            housekeeper,
            running,
            admin: state,
            signals,
            answers,
            shards,
        })
    }

    /// Serves until a signal, then drains.
    fn serve(mut self, sources: &Sources) -> Result<(), ServeError> {
        let mut ready = 0;
        let mut draining: Option<Instant> = None;
        let mut drained = 0;
        while drained < self.shards && !self.running.is_finished() {
            if draining.is_some_and(|until| until + LATE < Instant::now()) {
                self.keep()?;
                return Err(ServeError::Late);
            }
            select! {
                recv(self.signals) -> signal => match signal {
                    Ok(Signal::Reload) => self.reload(sources),
                    Ok(Signal::Stop) if draining.is_none() => draining = Some(self.drain()),
                    Ok(Signal::Stop) => return self.stop_at_once(),
                    Err(_) => {}
                },
                recv(self.running.control()) -> mail => match mail {
                    Ok((_, Mail::Ready)) => {
                        ready += 1;
                        if ready == self.shards {
                            self.ready();
                        }
                    }
                    Ok((from, Mail::Asked(asked))) => self.ask(from, *asked),
                    Ok((_, Mail::Snapshot(share))) => self.keeper.take(share),
                    Ok((_, Mail::Drained)) => drained += 1,
                    Ok((_, Mail::Chat(_) | Mail::Datagrams(_) | Mail::Barrier(_) | Mail::Answered { .. } | Mail::Ended(_) | Mail::Drain { .. })) => {}
                    Err(_) => break,
                },
                recv(self.answers.1) -> answer => if let Ok((shard, mail)) = answer {
                    self.post(shard, mail);
                },
                default(TICK) => {}
            }
        }
        let running = self.keep()?;
        tracing::info!("drained");
        Ok(running.join()?)
    }

    /// Sees to it that the topics that were handed over are on disk.
    fn keep(mut self) -> Result<Running<Mail>, DataError> {
        for (_, mail) in self.running.control().try_iter() {
            if let Mail::Snapshot(share) = mail {
                self.keeper.take(share);
            }
        }
        self.keeper.finish().map(|()| self.running)
    }

    fn ready(&self) {
        // Every shard has its topics: the memory of the snapshot is free again.
        self.setup.snapshot.store(None);
        self.admin.readiness.set(Phase::Ready);
        say("ready");
        tracing::info!(shards = self.shards, data = %self.data.path().display(), "ready");
    }

    /// Hands a job to the housekeeping thread; its answer comes back through `answers`.
    fn ask(&self, shard: ShardId, asked: Asked) {
        let Asked { line, request, job } = asked;
        let answered = move |answer: Answer| (shard, Mail::Answered { line, request, answer: Box::new(answer) });
        let (back, shards) = (self.answers.0.clone(), self.shards);
        let reply = Box::new(move |Outcome { answer, ended }| {
            // From here on no session opens with their tokens; those that are open end before the answer is on its way.
            if let Some(ended) = ended.map(Arc::new) {
                for shard in (0..shards).map(ShardId) {
                    let _ = back.send((shard, Mail::Ended(Arc::clone(&ended))));
                }
            }
            let _ = back.send(answered(answer));
        });
        if let Err(refusal) = self.housekeeper.submit(job, reply) {
            let (shard, mail) = answered(Err(refusal));
            self.post(shard, mail);
        }
    }

    fn post(&self, shard: ShardId, mut mail: Mail) {
        // The shard's box is full only while it is overloaded; it empties it every turn.
        for _ in 0..POST_TRIES {
            match self.running.mail(shard, mail) {
                Ok(()) => return,
                Err(back) => mail = back,
            }
            thread::sleep(Duration::from_millis(1));
        }
        tracing::error!(%shard, "a shard takes no mail");
    }

    fn reload(&mut self, sources: &Sources) {
        let loaded = match sources.load() {
            Ok(loaded) => loaded,
            Err(problems) => return self.not_reloaded(&problems),
        };
        if let Err(error) = words::load(&loaded.config.chat, &self.setup.shared) {
            return self.not_reloaded(&error);
        }
        match self.certificates.reload(&loaded.config.tls, &self.data, SystemTime::now()) {
            Ok(changed) => {
                self.logger.set_level(loaded.config.log.level);
                self.adopt(&loaded);
                self.admin.stats.figures.reloads.fetch_add(1, Ordering::Relaxed);
                tracing::info!(changed, level = ?loaded.config.log.level, "reloaded");
            }
            Err(error) => self.not_reloaded(&error),
        }
    }

    /// What a reload changes is in effect now, and shown as such; all else stays as it was at the start.
    fn adopt(&mut self, new: &Loaded) {
        self.loaded.config.log.level = new.config.log.level;
        self.loaded.config.tls = new.config.tls.clone();
        self.loaded.config.chat.words = new.config.chat.words.clone();
        let reloaded = |key: &config::Key| {
            key.section == "tls" || [("log", "level"), ("chat", "words")].contains(&(key.section, key.name))
        };
        for (index, _) in config::KEYS.iter().enumerate().filter(|(_, key)| reloaded(key)) {
            self.loaded.origins[index] = new.origins[index].clone();
        }
        self.admin.config.store(Arc::new(config::print(&self.loaded)));
    }

    fn not_reloaded(&self, why: &dyn std::fmt::Display) {
        self.admin.stats.figures.reloads_failed.fetch_add(1, Ordering::Relaxed);
        tracing::error!(%why, "not reloaded; what was in effect stays");
    }

    fn drain(&self) -> Instant {
        let limit = self.loaded.config.server.drain_secs;
        let until = Instant::now() + limit;
        tracing::info!(secs = limit.as_secs(), "draining");
        self.admin.readiness.set(Phase::Draining);
        for shard in (0..self.shards).map(ShardId) {
            self.post(shard, Mail::Drain { until });
        }
        until
    }

    fn stop_at_once(self) -> Result<(), ServeError> {
        tracing::warn!("stopping at once");
        let logger = self.logger.clone();
        // Without waiting for the shards: whoever asks twice is in a hurry.
        let _running = self.keep()?;
        logger.flush();
        std::process::exit(0);
    }
}

/// Starts the shards, each with its topics of the run before. Their file is gone before the first message is taken.
fn start_shards(bound: Bound, data: &Data, setup: &Arc<Setup>) -> Result<Running<Mail>, ServeError> {
    let (shards, shared, snapshot) = (bound.shards(), Arc::clone(setup), setup.snapshot.load_full());
    if snapshot.is_some() {
        snapshot::use_up(data)?;
    }
    let running = bound.start(move |shard, _| Shard::new(shard, shards, Instant::now(), Arc::clone(&shared)));
    if let (Err(_), Some(snapshot)) = (&running, &snapshot) {
        // No shard ran, so nothing was acknowledged.
        snapshot::put_back(data, snapshot)?;
    }
    Ok(running?)
}

/// Binds all ports. One that is in use is waited for: when thousands of connections are open, the kernel lets go of the
/// sockets of a ring a moment after its process was killed.
fn bind(config: &Config, multiplier: u32) -> Result<Bound, EngineError> {
    let until = Instant::now() + PORTS_WAIT;
    let mut told = false;
    loop {
        match engine::bind(engine_config(config, multiplier)) {
            Err(error @ EngineError::AddressInUse { .. }) if Instant::now() < until => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(%error, "waiting for it");
                }
                thread::sleep(PORTS_LOOK);
            }
            outcome => return outcome,
        }
    }
}

fn engine_config(config: &Config, multiplier: u32) -> engine::Config {
    let cpus = config.server.cpus.cpus();
    let mut engine = engine::Config {
        shards: config.server.shards,
        cpus: (!cpus.is_empty()).then(|| cpus.to_vec()),
        pin: config.server.pin,
        listeners: [config.listen.plain, config.listen.secure]
            .map(|addr| engine::ListenerConfig { addr, backlog: BACKLOG })
            .into(),
        streams_max: u32::try_from(config.server.connections_max).unwrap_or(u32::MAX),
        spin_us: u32::try_from(config.server.spin_us.as_micros()).unwrap_or(u32::MAX),
        ..engine::Config::default()
    };
    engine.sockets = vec![engine::SocketConfig {
        beside: Some(SECURE),
        steer: Some(engine::Steer::keyed(engine.shard_count(), multiplier)),
        ..engine::SocketConfig::new(config.listen.secure)
    }];
    engine
}

/// What the shards share.
fn setup(
    config: &Config,
    data: &Data,
    certificates: &Arc<Certificates>,
    shards: u16,
    multiplier: u32,
    at: (SocketAddr, u16),
    shared: &Arc<chat::Shared>,
) -> Result<Setup, ServeError> {
    let secret = match &config.auth.secret {
        Some(secret) => secret.expose().to_vec(),
        None => data.secret()?,
    };
    let tls_error = |error: &dyn std::fmt::Display| ServeError::Tls(error.to_string());
    // One for TCP and one for Quantum: a ticket of the one must not mean anything to the other.
    let ticketer = || tcp::tls::ticketer().map_err(|error| tls_error(&error));
    let tls = tcp::tls::server_config_with(Arc::clone(certificates) as _, ALPN, ticketer()?);
    let tls = tls.map_err(|error| tls_error(&error))?;
    let quantum = quantum::ServerConfig::builder_with(Arc::clone(certificates) as _).ticketer(ticketer()?).build();
    let quantum = quantum.map_err(|error| tls_error(&error))?;
    let mut rng = StdRng::from_os_rng();
    let mut quantum = setup::Quantum::new(multiplier, quantum, &mut rng);
    quantum.reset_key = setup::reset_key(&secret, "quantum");
    let hash_seed = rng.random();
    let mut quic = setup::Quic::new(multiplier, at, certificates.der(), &mut rng);
    quic.reset = quic::token::ResetKey::new(&setup::reset_key(&secret, "quic"));
    Ok(Setup {
        config: config.clone(),
        keys: session::Keys::new(&secret),
        logins: Arc::default(),
        stats: (0..shards).map(|_| Arc::default()).collect(),
        figures: OnceLock::new(),
        hash_seed,
        tls: Some((SECURE, tls)),
        quantum: Some(quantum),
        quic: config.quic.enabled.then_some(quic),
        policy: routes::policy(config.quic.enabled.then_some(at.0.port())),
        certificates: Some(Arc::clone(certificates)),
        journal: journals(config, data, shards, shared, hash_seed)?,
        shared: Arc::clone(shared),
        snapshot: ArcSwapOption::new(snapshot::read(data)?.map(Arc::new)),
    })
}

/// The journals of the run before, if there are to be any.
fn journals(
    config: &Config,
    data: &Data,
    shards: u16,
    shared: &Arc<chat::Shared>,
    hash_seed: u64,
) -> Result<Option<Journals>, ServeError> {
    let journal = &config.journal;
    if !journal.enabled {
        if data.path().join(journal::FOLDER).exists() {
            tracing::warn!("there are journals of an earlier run, which are left alone: journal.enabled is false");
        }
        return Ok(None);
    }
    let at = (journal.segment_bytes as u64, journal.in_memory.list());
    Ok(Some(Journals::open(data, shards, at, || setup::new_chat(config, shared, hash_seed))?))
}

fn chores(certificates: &Arc<Certificates>, data: &Arc<Data>, figures: &Arc<Stats>) -> Vec<Chore> {
    let (certificates, data, figures) = (Arc::clone(certificates), Arc::clone(data), Arc::clone(figures));
    let sampled = Arc::clone(&figures);
    vec![
        Box::new(move |_| sampled.sample(Instant::now())),
        Box::new(move |now| {
            match certificates.renew(&data, now) {
                Ok(true) => tracing::info!("renewed the self-made certificate"),
                Ok(false) => {}
                Err(error) => tracing::error!(%error, "the certificate was not renewed"),
            }
            figures.figures.certificate_not_after.store(certificates.about().not_after, Ordering::Relaxed);
        }),
    ]
}

/// Name, transport and address of every listener.
fn addresses(bound: &Bound, admin: &TcpListener) -> Result<[(&'static str, SocketAddr); 4], ServeError> {
    let admin = admin.local_addr().map_err(start_error("the admin listener"))?;
    Ok([
        ("plain tcp", bound.listener_addr(PLAIN)),
        ("secure tcp", bound.listener_addr(SECURE)),
        ("secure udp", bound.socket_addr(SECURE_UDP)),
        ("admin tcp", admin),
    ])
}

fn announce(addresses: &[(&str, SocketAddr)]) {
    for (name, address) in addresses {
        say(&format!("listening {name} {address}"));
    }
}

fn start_error(what: &'static str) -> impl FnOnce(std::io::Error) -> ServeError {
    move |error| ServeError::Start { what, error }
}

fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A line on stdout, at once. Nobody reading it is no reason to stop.
fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

/// The plain listener.
pub const PLAIN: Listener = Listener(0);

/// The listener with TLS.
pub const SECURE: Listener = Listener(1);

const ALPN: &[&[u8]] = &[b"h2", b"http/1.1", b"ringshard/1"];

// Connections that wait to be accepted: a burst of reconnects must not see refusals.
const BACKLOG: u32 = 4096;

/// How long a start waits for a port that is in use, and how often it looks.
const PORTS_WAIT: Duration = Duration::from_secs(5);
const PORTS_LOOK: Duration = Duration::from_millis(50);
const SIGNALS_MAX: usize = 16;
const ANSWERS_MAX: usize = 1024;
const POST_TRIES: usize = 1000;

// How long after the end of a drain shards may still be busy with leaving: each packs up to 256 MiB of history.
const LATE: Duration = Duration::from_secs(5);

// How often the control thread looks whether the shards are still there.
const TICK: Duration = Duration::from_millis(200);
