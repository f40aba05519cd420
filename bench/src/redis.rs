//! Redis as a store: its own process, told to sync before it answers.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::{
    compare::pinned,
    wire::{Item, Wire, put_command},
};

const PROGRAM: &str = "redis-server";
/// How long it may take until it answers.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server's process, ended when dropped.
pub struct Redis {
    child: Child,
    /// Where it listens.
    pub addr: SocketAddr,
}

impl Redis {
    /// Starts it on one core with its data in `dir`: `appendonly yes`, `appendfsync always`, no snapshots and no rewriting.
    pub fn start(dir: &Path, cpu: usize) -> io::Result<Self> {
        // It has no way to say which free port it chose, so one is chosen here and given back just before.
        let addr = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let port = addr.port().to_string();
        let child = pinned(cpu, Path::new(PROGRAM))
            .args(["--port", &port, "--bind", "127.0.0.1", "--dir"])
            .arg(dir)
            .args(["--appendonly", "yes", "--appendfsync", "always"])
            .args(["--save", "", "--auto-aof-rewrite-percentage", "0", "--daemonize", "no"])
            .stdout(Stdio::null())
            .spawn()?;
        let redis = Self { child, addr };
        redis.wait()?;
        Ok(redis)
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Until it answers, and says that it syncs always.
    fn wait(&self) -> io::Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.ask() {
                Ok(true) => return Ok(()),
                Ok(false) => return Err(io::Error::other("redis-server: appendfsync is not always")),
                Err(error) if Instant::now() > end => return Err(error),
                Err(_) => thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    fn ask(&self) -> io::Result<bool> {
        let mut stream = TcpStream::connect(self.addr)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut question = Vec::new();
        put_command(&[b"INFO", b"persistence"], &mut question);
        put_command(&[b"CONFIG", b"GET", b"appendfsync"], &mut question);
        stream.write_all(&question)?;
        let (mut answer, mut buffer) = (Vec::new(), [0; 4_096]);
        loop {
            if let Some(ready) = is_ready(&answer)? {
                return Ok(ready);
            }
            let len = stream.read(&mut buffer)?;
            if len == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            answer.extend_from_slice(&buffer[..len]);
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may be gone already; then there is nothing to end.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Whether both answers say what they must; `None` while they are not whole.
fn is_ready(answer: &[u8]) -> io::Result<Option<bool>> {
    let Some((used, Item::Message(info))) = Wire::Resp.parse(answer).map_err(io::Error::other)? else {
        return Ok(None);
    };
    if info.first() != Some(&b'$') {
        return Err(io::Error::other(String::from_utf8_lossy(info).into_owned()));
    }
    // An array of a name and its value.
    let Some(value) = answer[used..].strip_prefix(b"*2\r\n") else { return Ok(None) };
    let Some((used, _)) = Wire::Resp.parse(value).map_err(io::Error::other)? else { return Ok(None) };
    let Some((_, Item::Message(value))) = Wire::Resp.parse(&value[used..]).map_err(io::Error::other)? else {
        return Ok(None);
    };
    let appends = String::from_utf8_lossy(info).lines().any(|line| line.trim() == "aof_enabled:1");
    Ok(Some(appends && value.ends_with(b"always")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_ready_only_if_it_appends_and_syncs_always() {
        let answer = |info: &str, value: &str| {
            let string = |text: &str| format!("${}\r\n{text}\r\n", text.len());
            format!("{}*2\r\n{}{}", string(info), string("appendfsync"), string(value)).into_bytes()
        };
        let good = answer("# Persistence\r\nloading:0\r\naof_enabled:1\r\n", "always");
        assert_eq!(is_ready(&good).expect("an answer"), Some(true));
        for cut in 0..good.len() {
            assert_eq!(is_ready(&good[..cut]).expect("a part"), None, "{cut}");
        }
        assert_eq!(is_ready(&answer("aof_enabled:1\r\n", "everysec")).expect("an answer"), Some(false));
        assert_eq!(is_ready(&answer("aof_enabled:0\r\n", "always")).expect("an answer"), Some(false));
        assert!(is_ready(b"-LOADING Redis is loading the dataset in memory\r\n").is_err());
    }
}
