//! The server of a storm: started on the same data and the same port again and again, and stopped by its own number.

use std::{
    fs::{self, OpenOptions},
    io::{self, BufRead, BufReader, BufWriter, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use super::plan::{SECRET, Stop, user};
use crate::compare::mortal;

/// How long a server may take until it is ready, and until it is gone.
const PATIENCE: Duration = Duration::from_secs(120);
/// The hash of a password that nobody has: these accounts are never logged into.
const HASH: &str = "$argon2id$v=19$m=8,t=1,p=1$bm9ib2R5IGtub3dzIGl0$bm9ib2R5IGhhcyB0aGlzIHBhc3N3b3JkLCBub3QgZXZlbiB1cw";

/// Where a server is started.
pub(crate) struct Host {
    command: String,
    folder: PathBuf,
    is_ours: bool,
}

/// A server that runs; ended when dropped.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<(Instant, String)>,
    pub(crate) addr: SocketAddr,
    pub(crate) started: Instant,
    pub(crate) listening: Instant,
    pub(crate) ready: Instant,
}

impl Host {
    /// A folder for its data, with an account for each client: direct conversations are between accounts.
    pub(crate) fn new(command: &str, dir: Option<&Path>, clients: u32) -> io::Result<Self> {
        let folder = match dir {
            Some(dir) => dir.to_owned(),
            None => std::env::temp_dir().join(format!("ringshard-storm-{}", std::process::id())),
        };
        let host = Self { command: command.to_owned(), is_ours: dir.is_none(), folder };
        // A first start makes the folder a data directory, in which only a server that is stopped can be given accounts.
        host.start(None)?.stop(Stop::Term)?;
        let path = host.folder.join("accounts.jsonl");
        let mut accounts = BufWriter::new(OpenOptions::new().create(true).append(true).open(path)?);
        for id in 0..clients {
            writeln!(accounts, r#"{{"name":"{}","hash":"{HASH}","at_ms":0}}"#, user(id))?;
        }
        accounts.flush()?;
        Ok(host)
    }

    /// Starts it, on the port of before if it had one, and waits until it is ready.
    pub(crate) fn start(&self, addr: Option<SocketAddr>) -> io::Result<Running> {
        let mut words = self.command.split_whitespace();
        let mut command = mortal(words.next().unwrap_or_default());
        let addr = addr.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0)));
        command.args(words).arg("--data").arg(&self.folder).args(["--plain", &addr.to_string()]);
        command.env("RINGSHARD_AUTH_SECRET", SECRET).stdin(Stdio::null()).stdout(Stdio::piped());
        for (name, value) in [("SECURE", "127.0.0.1:0"), ("ADMIN", "127.0.0.1:0")] {
            let name = format!("RINGSHARD_LISTEN_{name}");
            if std::env::var_os(&name).is_none() {
                command.env(name, value);
            }
        }
        let started = Instant::now();
        let mut child = command.spawn()?;
        let lines = listen(&mut child);
        let mut running = Running { child, lines, addr, started, listening: started, ready: started };
        running.await_ready()?;
        Ok(running)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if self.is_ours {
            // What cannot be removed is named by its process and harmless.
            drop(fs::remove_dir_all(&self.folder));
        }
    }
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn await_ready(&mut self) -> io::Result<()> {
        loop {
            let waited = self.lines.recv_timeout(PATIENCE);
            let (at, line) = waited.map_err(|_| io::Error::other("the server did not say `ready`"))?;
            match *line.split(' ').collect::<Vec<_>>() {
                ["listening", "plain", "tcp", addr] => {
                    self.listening = at;
                    self.addr = addr.parse().map_err(io::Error::other)?;
                }
                ["ready"] => {
                    self.ready = at;
                    return Ok(());
                }
                _ => {}
            }
        }
    }

    /// Sends the signal; when it was sent, and when the process was gone.
    pub(crate) fn stop(mut self, how: Stop) -> io::Result<(Instant, Instant)> {
        let signal = match how {
            Stop::Term => rustix::process::Signal::TERM,
            Stop::Kill => rustix::process::Signal::KILL,
        };
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        let sent = Instant::now();
        rustix::process::kill_process(pid.ok_or(io::ErrorKind::NotFound)?, signal)?;
        // Its end closes its output, and so the channel.
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(_) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => return Err(io::Error::other("the server does not stop")),
            }
        }
        let status = self.child.wait()?;
        match how {
            Stop::Term if !status.success() => Err(io::Error::other(format!("the server stopped with {status}"))),
            _ => Ok((sent, Instant::now())),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may be gone already; then there is nothing to end.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Reads to the end, so that a talkative server never waits for us.
fn listen(child: &mut Child) -> Receiver<(Instant, String)> {
    let (sender, lines) = mpsc::channel();
    if let Some(output) = child.stdout.take() {
        thread::spawn(move || {
            BufReader::new(output)
                .lines()
                .map_while(io::Result::ok)
                .try_for_each(|line| sender.send((Instant::now(), line)))
        });
    }
    lines
}
