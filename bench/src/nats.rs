//! NATS JetStream as a store: its own process, told to sync before it answers, with one stream for all subjects.

use std::{
    fs,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::compare::pinned;

const PROGRAM: &str = "nats-server";
/// How long it may take until it answers.
const PATIENCE: Duration = Duration::from_secs(10);
/// The first version that can sync every message before it answers.
const VERSION_MIN: (u32, u32) = (2, 10);
/// The most that is read of an answer at a start.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// What a client says first; the server answers with a `PONG`.
pub(crate) const HELLO: &str = "CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"rust\",\"version\":\"0\"}\r\n";
/// Subjects of the stream begin so.
pub(crate) const PREFIX: &str = "load.";

const STREAM: &str = r#"{"name":"load","subjects":["load.>"],"storage":"file","retention":"limits","num_replicas":1}"#;

/// A server's process, ended when dropped.
pub struct Nats {
    child: Child,
    /// Where it listens.
    pub addr: SocketAddr,
}

impl Nats {
    /// Starts it on one core with its data in `dir`: JetStream with `sync_interval: always`, and one stream in a file.
    pub fn start(dir: &Path, cpu: usize) -> io::Result<Self> {
        // It has no way to say which free ports it chose, so they are chosen here and given back just before.
        let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let listeners = [free()?, free()?];
        let [addr, monitor] = [listeners[0].local_addr()?, listeners[1].local_addr()?];
        drop(listeners);
        let config = dir.join("nats.conf");
        let store = serde_json::to_string(&dir.join("store"))?;
        fs::write(
            &config,
            format!("listen: {addr}\nhttp: {monitor}\njetstream {{ store_dir: {store}, sync_interval: always }}\n"),
        )?;
        let child = pinned(cpu, Path::new(PROGRAM))
            .arg("-c")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let nats = Self { child, addr };
        nats.wait(monitor)?;
        Ok(nats)
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Until it answers, says that it syncs always, and has made the stream.
    fn wait(&self, monitor: SocketAddr) -> io::Result<()> {
        let end = Instant::now() + PATIENCE;
        let said = loop {
            match ask(monitor, "GET /jsz HTTP/1.0\r\n\r\n", "\n}") {
                Ok(said) => break said,
                Err(error) if Instant::now() > end => return Err(error),
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        };
        if !said.contains("\"sync_always\": true") {
            return Err(io::Error::other("nats-server: it does not sync always"));
        }
        let make = format!(
            "{HELLO}SUB _INBOX.make 1\r\nPUB $JS.API.STREAM.CREATE.load _INBOX.make {}\r\n{STREAM}\r\n",
            STREAM.len()
        );
        let made = ask(self.addr, &make, "_create_response")?;
        if made.contains("\"error\"") {
            return Err(io::Error::other(format!("nats-server: the stream is refused: {made}")));
        }
        Ok(())
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        // It may be gone already; then there is nothing to end.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What is answered up to the end, or the line after this.
fn ask(addr: SocketAddr, question: &str, until: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(question.as_bytes())?;
    let (mut answer, mut buffer) = (Vec::new(), [0; 4_096]);
    loop {
        let len = stream.read(&mut buffer)?;
        answer.extend_from_slice(&buffer[..len]);
        let text = String::from_utf8_lossy(&answer);
        let is_whole =
            text.find(until).is_some_and(|at| len == 0 || text[at..].ends_with("\n") || text[at..].ends_with('}'));
        if is_whole {
            return Ok(text.into_owned());
        }
        if len == 0 || answer.len() > ANSWER_BYTES_MAX {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Why it is not measured here, if so.
#[must_use]
pub fn missing() -> Option<String> {
    match Command::new(PROGRAM).arg("--version").output() {
        Err(error) => Some(format!("nats: skipped, nats-server does not start: {error}")),
        Ok(output) => too_old(&String::from_utf8_lossy(&output.stdout)),
    }
}

fn too_old(said: &str) -> Option<String> {
    let said = said.trim();
    match version(said) {
        Some(found) if found >= VERSION_MIN => None,
        Some(_) => Some(format!("nats: skipped, `sync_interval: always` needs 2.10 ({said})")),
        None => Some(format!("nats: skipped, no version in `{said}`")),
    }
}

/// Major and minor of `nats-server: v2.9.10`.
fn version(said: &str) -> Option<(u32, u32)> {
    let (_, number) = said.rsplit_once('v')?;
    let mut parts = number.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

/// The number of the request that this message of an inbox answers, and whether it was taken.
pub(crate) fn answer(message: &[u8]) -> Option<(u32, bool)> {
    let subject = message.strip_prefix(b"MSG ")?.split(|byte| *byte == b' ').next()?;
    let number = subject.rsplit(|byte| *byte == b'.').next()?;
    let number = str::from_utf8(number).ok()?.parse().ok()?;
    let is_taken =
        memchr::memmem::find(message, b"\"seq\":").is_some() && memchr::memmem::find(message, b"\"error\"").is_none();
    Some((number, is_taken))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_one_is_skipped_and_says_so() {
        assert_eq!(version("nats-server: v2.9.10"), Some((2, 9)));
        let said = too_old("nats-server: v2.9.10\n").expect("too old");
        assert_eq!(said, "nats: skipped, `sync_interval: always` needs 2.10 (nats-server: v2.9.10)");
        assert_eq!(too_old("nats-server: v2.10.27"), None);
        assert!(too_old("").is_some_and(|said| said.contains("no version")));
    }

    #[test]
    fn an_answer_names_its_request_and_says_whether_it_was_taken() {
        assert_eq!(answer(b"MSG _INBOX.3.17 1 26\r\n{\"stream\":\"load\", \"seq\":1}"), Some((17, true)));
        let refused = b"MSG _INBOX.3.18 1 50\r\n{\"error\":{\"code\":503},\"stream\":\"load\",\"seq\":0}";
        assert_eq!(answer(refused), Some((18, false)));
        for other in [&b"-ERR 'x'"[..], b"MSG x 1 2\r\nhi", b"INFO {}", b""] {
            assert_eq!(answer(other), None, "{other:?}");
        }
    }
}
