//! The admin listener: health, metrics, shards, configuration and the log level, served by threads that are no shard's.

mod answer;

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;

use crate::{housekeeping::Housekeeper, log::Logger, metrics::Stats};
use answer::Answer;

/// Connections at a time, each with a thread. Prometheus, a probe and some people at once need no more.
pub const CONNECTIONS_MAX: usize = 16;

/// Bytes of a request's head. Browsers send up to 2 KiB.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// Headers of a request.
const HEADERS_MAX: usize = 64;

/// How long a request and its answer may take, so that sixteen silent clients do not lock out a probe for long.
const REQUEST_MAX: Duration = Duration::from_secs(5);

/// How long a client may take to close after its answer, before it is cut off.
const LINGER_MAX: Duration = Duration::from_millis(500);

/// How long accepting pauses when the kernel has no descriptor for it.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How far the server is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Shards are starting.
    Starting,
    /// Every shard serves.
    Ready,
    /// Clients are being sent away.
    Draining,
}

/// How far the server is, for all to see.
#[derive(Debug, Default)]
pub struct Readiness(AtomicU8);

impl Readiness {
    /// Says how far it is.
    pub fn set(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Release);
    }

    /// How far it is.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self.0.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            _ => Phase::Draining,
        }
    }
}

/// What the admin listener shows and changes.
#[derive(Debug)]
pub struct State {
    /// All figures.
    pub stats: Arc<Stats>,
    /// How far the server is.
    pub readiness: Arc<Readiness>,
    /// The configuration in effect, printed; it never holds a secret.
    pub config: ArcSwap<String>,
    /// The logs.
    pub logger: Logger,
    /// The housekeeping thread.
    pub housekeeper: Housekeeper,
}

impl State {
    /// Brings the figures of the process up to date.
    fn refresh(&self) {
        let (done, refused) = self.housekeeper.done_and_refused();
        let (logins, displaced) = self.housekeeper.logins_and_displaced();
        let figures = &self.stats.figures;
        for (figure, value) in [
            (&figures.accounts, self.housekeeper.accounts()),
            (&figures.logins, logins),
            (&figures.logins_displaced, displaced),
            (&figures.jobs_waiting, self.housekeeper.waiting() as u64),
            (&figures.jobs_done, done),
            (&figures.jobs_refused, refused),
            (&figures.log_dropped, self.logger.dropped()),
        ] {
            figure.store(value, Ordering::Relaxed);
        }
    }
}

/// Why there is no admin listener.
#[derive(Debug, thiserror::Error)]
#[error("listen.admin = {address}: {source}")]
pub struct AdminError {
    /// The address.
    pub address: SocketAddr,
    /// What the kernel said.
    pub source: io::Error,
}

/// Listens; port 0 is any free one, see `local_addr`.
///
/// # Errors
/// The address is in use or not of this machine.
pub fn bind(address: SocketAddr) -> Result<TcpListener, AdminError> {
    TcpListener::bind(address).map_err(|source| AdminError { address, source })
}

/// Answers requests on threads of its own, until the process ends.
///
/// # Errors
/// There is no thread to be had.
pub fn serve(listener: TcpListener, state: Arc<State>) -> io::Result<()> {
    let open = Arc::new(AtomicUsize::new(0));
    thread::Builder::new().name("admin".into()).spawn(move || {
        loop {
            match listener.accept() {
                Ok((stream, _)) => admit(stream, &state, &open),
                Err(error) => {
                    tracing::warn!(%error, "the admin listener cannot accept");
                    thread::sleep(ACCEPT_PAUSE);
                }
            }
        }
    })?;
    Ok(())
}

fn admit(mut stream: TcpStream, state: &Arc<State>, open: &Arc<AtomicUsize>) {
    let place = Place(Arc::clone(open));
    if open.fetch_add(1, Ordering::AcqRel) >= CONNECTIONS_MAX {
        // It fits the socket's empty buffer, so it does not block.
        let _ = stream.write_all(&Answer::text(503, "too many admin connections\n").bytes(false));
        return;
    }
    let state = Arc::clone(state);
    let spawned = thread::Builder::new().name("admin-connection".into()).spawn(move || {
        let _place = place;
        // The client went away: that is its own business.
        let _ = handle(&mut stream, &state);
    });
    if let Err(error) = spawned {
        tracing::warn!(%error, "no thread for an admin connection");
    }
}

/// A place among the open connections, given back when it is dropped.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// One request and its answer.
fn handle(stream: &mut TcpStream, state: &State) -> io::Result<()> {
    let deadline = Instant::now() + REQUEST_MAX;
    stream.set_write_timeout(Some(REQUEST_MAX))?;
    let (answer, head_only) = match read_head(stream, deadline)? {
        Head::Whole(bytes) => request(&bytes, state),
        Head::TooLarge => (Answer::text(431, "the request is too large\n"), false),
        Head::Late => (Answer::text(408, "the request came too slowly\n"), false),
        Head::Gone => return Ok(()),
    };
    stream.write_all(&answer.bytes(head_only))?;
    stream.shutdown(Shutdown::Write)?;
    linger(stream)
}

/// Reads what the client still sends, so that the kernel does not reset the connection before the answer was read.
fn linger(stream: &mut TcpStream) -> io::Result<()> {
    let deadline = Instant::now() + LINGER_MAX;
    let mut scrap = [0; 1024];
    while let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        stream.set_read_timeout(Some(left))?;
        if stream.read(&mut scrap)? == 0 {
            break;
        }
    }
    Ok(())
}

enum Head {
    Whole(Vec<u8>),
    TooLarge,
    Late,
    Gone,
}

fn read_head(stream: &mut TcpStream, deadline: Instant) -> io::Result<Head> {
    let (mut head, mut chunk) = (Vec::new(), [0; 1024]);
    loop {
        let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
            return Ok(Head::Late);
        };
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(Head::Gone),
            Ok(read) => head.extend_from_slice(&chunk[..read]),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return Ok(Head::Late);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if head.windows(4).any(|four| four == b"\r\n\r\n") {
            return Ok(Head::Whole(head));
        }
        if head.len() > HEAD_BYTES_MAX {
            return Ok(Head::TooLarge);
        }
    }
}

/// The answer to a request, and whether only its head is wanted.
fn request(bytes: &[u8], state: &State) -> (Answer, bool) {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let parsed = request.parse(bytes);
    let (Ok(httparse::Status::Complete(_)), Some(method), Some(target)) = (parsed, request.method, request.path) else {
        return (Answer::text(400, "not an HTTP request\n"), false);
    };
    let foreign = request.headers.iter().any(|header| header.name.eq_ignore_ascii_case("origin"));
    (answer::to(method, target, foreign, state), method == "HEAD")
}

#[cfg(test)]
mod tests;
