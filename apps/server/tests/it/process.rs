//! The real binary as a child of a test: started on free ports, heard, scraped, and ended by its own number.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    thread,
    time::{Duration, Instant},
};

/// What anything here may take at most, on a busy machine in a debug build.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// What signs tokens in these tests.
pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A running server.
pub(crate) struct Server {
    child: Child,
    lines: Receiver<String>,
    folder: Arc<tempfile::TempDir>,
    pub(crate) plain: SocketAddr,
    pub(crate) secure: SocketAddr,
    pub(crate) udp: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Server {
    /// Starts a server of two shards with these settings beside the defaults, and waits until it is ready.
    pub(crate) fn start(settings: &[(&str, &str)]) -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().expect("a folder")), settings)
    }

    /// Starts the next one on what this one has left, once it has ended.
    pub(crate) fn next(self, settings: &[(&str, &str)]) -> Self {
        Self::start_in(Arc::clone(&self.folder), settings)
    }

    fn start_in(folder: Arc<tempfile::TempDir>, settings: &[(&str, &str)]) -> Self {
        let mut server = Self::start_at(folder, "127.0.0.1:0", settings);
        server.await_ready();
        server
    }

    /// Starts a server on this port, which may be in use still; [`Server::await_ready`] waits until it is ready.
    pub(crate) fn start_at(folder: Arc<tempfile::TempDir>, plain: &str, settings: &[(&str, &str)]) -> Self {
        let mut command = command(folder.path().join("data"), plain);
        command.envs(settings.iter().copied()).stdout(Stdio::piped());
        let log = fs::File::create(folder.path().join("log")).expect("a log");
        let mut child = command.stderr(log).spawn().expect("it starts");
        let lines = listen(&mut child);
        let unbound = SocketAddr::from(([0; 4], 0));
        Self { child, lines, folder, plain: unbound, secure: unbound, udp: unbound, admin: unbound }
    }

    pub(crate) fn await_ready(&mut self) {
        let until = Instant::now() + PATIENCE;
        loop {
            let line = self.lines.recv_timeout(until - Instant::now());
            let line = line.unwrap_or_else(|_| panic!("the server is not ready:\n{}", self.log()));
            match *line.split(' ').collect::<Vec<_>>() {
                ["listening", "plain", "tcp", address] => self.plain = address.parse().expect("an address"),
                ["listening", "secure", "tcp", address] => self.secure = address.parse().expect("an address"),
                ["listening", "secure", "udp", address] => self.udp = address.parse().expect("an address"),
                ["listening", "admin", "tcp", address] => self.admin = address.parse().expect("an address"),
                ["ready"] => return assert_eq!(self.udp, self.secure, "one port does everything"),
                _ => panic!("an unknown line: {line}"),
            }
        }
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let number = self.child.id();
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {number}")).status().expect("a shell");
        assert!(sent.success());
    }

    /// Waits until it has ended.
    pub(crate) fn ended(&mut self, within: Duration) -> ExitStatus {
        // Its end closes its output, and so the channel.
        let until = Instant::now() + within;
        loop {
            match self.lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => return self.child.wait().expect("its status"),
                Err(RecvTimeoutError::Timeout) => panic!("the server runs after {within:?}:\n{}", self.log()),
            }
        }
    }

    /// The body at a path of the admin listener.
    pub(crate) fn admin(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.admin).expect("the admin listener");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        write!(stream, "GET {path} HTTP/1.1\r\nhost: admin\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).expect("a body")
    }

    /// The sum over all shards of the series that start with `name` and contain `label`.
    pub(crate) fn metric(&self, name: &str, label: &str) -> u64 {
        let text = self.admin("/metrics");
        let series = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
        let values = series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        values.sum::<f64>() as u64
    }

    /// How often something was dropped for a reason.
    pub(crate) fn dropped(&self, reason: &str) -> u64 {
        self.metric("ringshard_drops_total", &format!("reason=\"{reason}\""))
    }

    /// Asks until it is so.
    pub(crate) fn until(&self, what: &str, mut so: impl FnMut(&Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !so(self) {
            assert!(Instant::now() < until, "not {what}:\n{}\n{}", self.log(), self.admin("/metrics"));
        }
    }

    /// Resident memory in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/statm", self.child.id())).expect("it runs");
        text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("pages") * 4096
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `ringshard serve` without the variables of whoever runs the tests.
pub(crate) fn command(data: PathBuf, plain: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringshard"));
    command.arg("serve").arg("--data").arg(data).args(["--plain", plain]);
    command.env_clear().env("RINGSHARD_SERVER_SHARDS", "2");
    command.env("RINGSHARD_LISTEN_SECURE", "127.0.0.1:0").env("RINGSHARD_LISTEN_ADMIN", "127.0.0.1:0");
    // Programs publish faster than people.
    command.env("RINGSHARD_CHAT_RATE_MIN", "0").env("RINGSHARD_CHAT_RATE_HOUR", "0");
    command.env("RINGSHARD_AUTH_SECRET", SECRET).env("RINGSHARD_SERVER_PIN", "false");
    command
}

fn listen(child: &mut Child) -> Receiver<String> {
    let output = BufReader::new(child.stdout.take().expect("piped"));
    let (sender, lines) = channel();
    thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    lines
}
