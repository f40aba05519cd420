//! The real server stops and starts again: what was acknowledged is there, once, at its place; after a crash it is told.

pub(crate) mod client;
mod storm;

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::process::{PATIENCE, Server};
use client::{Client, Heard, Speech};

/// Rooms, so that every shard of three has one, and publishers.
const ROOMS: usize = 5;
const PUBLISHERS: usize = 10;

/// A publisher that keeps at it. What it knows outlives its connections, and so does a server's.
#[derive(Debug)]
struct Publisher {
    number: usize,
    room: String,
    /// The history that it reads, and how far it has come in it.
    epoch: Option<u64>,
    last: u64,
    /// What it has read, by offset.
    heard: BTreeMap<u64, String>,
    /// Its counter, and what was said under it that nobody answered.
    seq: u64,
    waiting: BTreeMap<u64, String>,
    /// What was acknowledged, by counter.
    acknowledged: BTreeMap<u64, u64>,
    farewells: u64,
}

impl Publisher {
    fn new(number: usize) -> Self {
        Self {
            number,
            room: format!("chat/room-{}", number % ROOMS),
            epoch: None,
            last: 0,
            heard: BTreeMap::new(),
            seq: 0,
            waiting: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            farewells: 0,
        }
    }

    fn text(&self, seq: u64) -> String {
        format!("{} says {seq}", self.number)
    }

    fn connect(&mut self, server: &Server) -> Client {
        let speech = [Speech::Socket, Speech::Frames, Speech::Quantum][self.number % 3];
        let user = format!("user-{}", self.number);
        let after = if self.epoch.is_some() { Some(self.last) } else { None };
        let (client, epoch, head) = Client::enter(server, speech, &user, &self.room, self.epoch, after.or(Some(0)));
        assert!(self.epoch.is_none_or(|known| known == epoch), "{} has another epoch", self.room);
        assert!(head >= self.last && self.acknowledged.values().all(|offset| *offset <= head));
        self.epoch = Some(epoch);
        client
    }

    /// Publishes and reads until the server says goodbye; `said` counts what it got acknowledged.
    fn run(&mut self, mut client: Client, said: &AtomicU64, gone: &AtomicBool) {
        for (seq, text) in self.waiting.clone() {
            client.publish(&self.room, seq, &text);
        }
        let until = Instant::now() + PATIENCE;
        let mut goodbye = false;
        loop {
            while !goodbye && self.waiting.len() < WINDOW {
                self.seq += 1;
                let text = self.text(self.seq);
                client.publish(&self.room, self.seq, &text);
                self.waiting.insert(self.seq, text);
            }
            assert!(Instant::now() < until, "the server does not say goodbye");
            match client.hear_unless(PATIENCE, gone) {
                Some(Heard::Goaway) => {
                    self.farewells += 1;
                    goodbye = true;
                }
                Some(heard) => self.take(heard, said),
                None => return,
            }
        }
    }

    fn take(&mut self, heard: Heard, said: &AtomicU64) {
        match heard {
            Heard::PubOk { seq, offset } => {
                assert!(self.waiting.remove(&seq).is_some(), "an answer to nothing");
                self.acknowledged.insert(seq, offset);
                said.fetch_add(1, Ordering::Relaxed);
            }
            Heard::Msg { offset, text } => {
                assert_eq!(offset, self.last + 1, "{}: a gap or a repeat", self.room);
                self.last = offset;
                self.heard.insert(offset, text);
            }
            Heard::Err { code, message } => assert_eq!(code, session::Code::Unavailable, "{message}"),
            Heard::Goaway | Heard::Other => {}
        }
    }

    /// Reads up to what was the newest when it came, and compares.
    fn catch_up(&mut self, server: &Server) {
        let mut client = self.connect(server);
        let newest = self.acknowledged.values().copied().max().unwrap_or(0);
        while self.last < newest {
            let heard = client.hear(PATIENCE).expect("it is not over");
            self.take(heard, &AtomicU64::new(0));
        }
        for (seq, offset) in &self.acknowledged {
            assert_eq!(self.heard[offset], self.text(*seq), "{} at {offset}", self.room);
        }
        // Old and new ones: the answer is where it was the first time.
        let (old, new) = (self.acknowledged.iter().take(10), self.acknowledged.iter().rev().take(10));
        for (seq, offset) in old.chain(new).map(|(seq, offset)| (*seq, *offset)).collect::<Vec<_>>() {
            client.publish(&self.room, seq, &self.text(seq));
            loop {
                match client.hear(PATIENCE).expect("an answer") {
                    Heard::PubOk { seq: answered, offset: place } => {
                        break assert_eq!((answered, place), (seq, offset));
                    }
                    other => self.take(other, &AtomicU64::new(0)),
                }
            }
        }
    }
}

/// Settings of a server whose topics are in a journal, or in memory.
fn settings(shards: &'static str, journal: &'static str) -> [(&'static str, &'static str); 7] {
    [
        ("RINGSHARD_JOURNAL_ENABLED", journal),
        ("RINGSHARD_SERVER_SHARDS", shards),
        ("RINGSHARD_SERVER_DRAIN_SECS", "20"),
        ("RINGSHARD_LIMITS_MESSAGES_PER_SEC", "10000"),
        ("RINGSHARD_LIMITS_MESSAGES_BURST", "10000"),
        ("RINGSHARD_LIMITS_HISTORY_MESSAGES", "1000000"),
        ("RINGSHARD_LIMITS_HISTORY_BYTES", "67108864"),
    ]
}

/// Load until so many more messages were acknowledged, and one to each publisher, then a signal in the middle of it. A
/// room where nobody got an answer is not kept over a stop: it would rightly have another epoch.
fn load(server: &Server, publishers: &mut [Publisher], messages: u64, signal: &str) {
    let said: Vec<AtomicU64> = publishers.iter().map(|_| AtomicU64::new(0)).collect();
    let gone = &AtomicBool::new(false);
    thread::scope(|scope| {
        for (publisher, said) in publishers.iter_mut().zip(&said) {
            let client = publisher.connect(server);
            scope.spawn(move || publisher.run(client, said, gone));
        }
        let until = Instant::now() + PATIENCE;
        let heard = || said.iter().map(|said| said.load(Ordering::Relaxed));
        while (heard().sum::<u64>() < messages || heard().any(|said| said == 0)) && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
        server.signal(signal);
        gone.store(signal == "KILL", Ordering::Relaxed);
    });
}

#[test]
fn what_was_acknowledged_in_memory_survives_restarts_under_load_on_other_shards() {
    survive_restarts(MEMORY);
}

#[test]
fn what_was_acknowledged_on_disk_survives_restarts_under_load_on_other_shards() {
    survive_restarts(DURABLE);
}

fn survive_restarts(journal: &'static str) {
    let in_memory = journal == MEMORY;
    let mut publishers: Vec<Publisher> = (0..PUBLISHERS).map(Publisher::new).collect();
    let mut server = Server::start(&settings("2", journal));
    for (run, shards) in ["3", "1", "2"].into_iter().enumerate() {
        load(&server, &mut publishers, 2_000, "TERM");
        assert!(server.ended(PATIENCE).success(), "{}", server.log());
        assert_eq!(server.data().join("topics.snapshot").exists(), in_memory, "{}", server.log());
        for publisher in &publishers {
            assert_eq!(publisher.farewells, run as u64 + 1, "publisher {} was not told to go", publisher.number);
        }
        server = server.next(&settings(shards, journal));
        assert!(!server.data().join("topics.snapshot").exists(), "it is used once");
        publishers.iter_mut().for_each(|publisher| publisher.catch_up(&server));
    }
    everything_is_there_once(&server, &mut publishers);
}

/// Killed again and again in the middle of its work, on other shards each time: `RINGSHARD_CRASHES=200` for as many.
#[test]
fn what_was_acknowledged_on_disk_survives_crashes_under_load() {
    let crashes = std::env::var("RINGSHARD_CRASHES").map_or(20, |count| count.parse().expect("a number"));
    let mut publishers: Vec<Publisher> = (0..PUBLISHERS).map(Publisher::new).collect();
    let mut server = Server::start(&settings("2", DURABLE));
    let mut latest = Duration::ZERO;
    for crash in 0..crashes {
        load(&server, &mut publishers, 300, "KILL");
        assert!(!server.ended(PATIENCE).success());
        server = server.next(&settings(["2", "2", "3", "3", "1"][crash % 5], DURABLE));
        latest = latest.max(first_acknowledgement(&server, crash));
        publishers.iter_mut().for_each(|publisher| publisher.catch_up(&server));
    }
    everything_is_there_once(&server, &mut publishers);
    println!("{crashes} crashes; at the latest {latest:?} from the restart to an acknowledgement");
    server.signal("TERM");
    assert!(server.ended(PATIENCE).success(), "{}", server.log());
    let verify = verify(&server);
    assert!(verify.status.success() && verify.stdout.starts_with(b"ok: "), "{verify:?}");
}

/// How long after the server said that it is ready a message is on disk.
fn first_acknowledgement(server: &Server, crash: usize) -> Duration {
    let ready = Instant::now();
    let (mut client, ..) = Client::enter(server, Speech::Frames, "first", "chat/first", None, None);
    let seq = crash as u64 + 1;
    client.publish("chat/first", seq, "here");
    while !matches!(client.hear(PATIENCE), Some(Heard::PubOk { seq: answered, .. }) if answered == seq) {}
    ready.elapsed()
}

/// `ringshard journal verify` on the data of a server that has ended.
fn verify(server: &Server) -> std::process::Output {
    let binary = env!("CARGO_BIN_EXE_ringshard");
    std::process::Command::new(binary).args(["journal", "verify"]).arg(server.data()).output().expect("it runs")
}

#[test]
fn a_damaged_journal_is_told_and_not_used() {
    let mut publishers = [Publisher::new(0)];
    let mut server = Server::start(&settings("1", DURABLE));
    let running = verify(&server);
    let text = String::from_utf8_lossy(&running.stderr);
    assert!(!running.status.success() && text.contains("is used by a server (process "), "{text}");
    load(&server, &mut publishers, 200, "KILL");
    server.ended(PATIENCE);
    let origin = fs::read_dir(server.data().join("journal")).expect("there").flatten();
    let folder = origin.map(|entry| entry.path()).find(|path| path.is_dir()).expect("journals");
    let path = folder.join("000/000000000001.seg");
    let mut bytes = fs::read(&path).expect("written");
    bytes[4096 + 100] ^= 1;
    fs::write(&path, &bytes).expect("written");
    let output = crate::process::command(server.data(), "127.0.0.1:0").envs(settings("1", DURABLE)).output();
    let output = output.expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(
        text.contains("000000000001.seg: at byte 4096: its checksum does not match, but a batch follows"),
        "{text}"
    );
    assert_eq!(fs::read(&path).expect("there"), bytes, "nothing was changed");
    let found = verify(&server);
    assert!(!found.status.success() && String::from_utf8_lossy(&found.stdout).contains("at byte 4096"), "{found:?}");
    bytes[4096 + 100] ^= 1;
    fs::write(&path, &bytes).expect("written");
    assert!(verify(&server).status.success());
    // Nor is a journal thrown away because what names it is gone.
    let manifest = server.data().join("journal/manifest");
    let said = fs::read(&manifest).expect("there");
    let other = String::from_utf8_lossy(&said).replace("shards = 1", "shards = 3").into_bytes();
    for wrong in [None, Some(other)] {
        match &wrong {
            None => fs::remove_file(&manifest).expect("removed"),
            Some(wrong) => fs::write(&manifest, wrong).expect("written"),
        }
        let output = crate::process::command(server.data(), "127.0.0.1:0").envs(settings("1", DURABLE)).output();
        assert_eq!(output.expect("it runs").status.code(), Some(1));
        assert_eq!(fs::read(&path).expect("there"), bytes, "nothing was changed");
    }
    fs::write(&manifest, said).expect("written");
    let server = server.next(&settings("1", DURABLE));
    publishers[0].catch_up(&server);
}

/// The whole history of every room: no text twice, and all that was acknowledged.
fn everything_is_there_once(server: &Server, publishers: &mut [Publisher]) {
    let (mut all, mut acknowledged) = (0, 0);
    for room in 0..ROOMS {
        let mut reader = Publisher { room: format!("chat/room-{room}"), ..Publisher::new(100 + room) };
        let newest =
            publishers.iter().filter(|publisher| publisher.room == reader.room).map(|publisher| publisher.last);
        let newest = newest.max().expect("publishers");
        let mut client = reader.connect(server);
        while reader.last < newest {
            reader.take(client.hear(PATIENCE).expect("more"), &AtomicU64::new(0));
        }
        let mut texts: Vec<&String> = reader.heard.values().collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), reader.heard.len(), "a message comes twice in {}", reader.room);
        for publisher in publishers.iter().filter(|publisher| publisher.room == reader.room) {
            assert!(publisher.acknowledged.iter().all(|(seq, offset)| reader.heard[offset] == publisher.text(*seq)));
            assert!(publisher.heard.iter().all(|(offset, text)| reader.heard.get(offset) == Some(text)));
            acknowledged += publisher.acknowledged.len();
        }
        all += reader.heard.len();
    }
    println!("{acknowledged} of {all} messages acknowledged over three stops");
    assert!(acknowledged >= 3_000);
}

#[test]
fn after_a_crash_nothing_that_was_in_memory_comes_back() {
    let mut publishers: Vec<Publisher> = (0..4).map(Publisher::new).collect();
    let mut server = Server::start(&settings("2", MEMORY));
    load(&server, &mut publishers, 200, "TERM");
    assert!(server.ended(PATIENCE).success());
    server = server.next(&settings("2", MEMORY));
    load(&server, &mut publishers, 200, "KILL");
    assert!(!server.ended(PATIENCE).success());
    assert!(!server.data().join("topics.snapshot").exists());
    server = server.next(&settings("3", MEMORY));
    for publisher in &publishers {
        let (epoch, after) = (publisher.epoch, Some(publisher.last));
        let (_, new, head) = Client::enter(&server, Speech::Socket, "user-9", &publisher.room, epoch, after);
        assert!(Some(new) != epoch && head == 0, "{} goes on at {head}", publisher.room);
    }
    server.signal("TERM");
    assert!(server.ended(PATIENCE).success());
}

#[test]
fn a_snapshot_that_cannot_be_written_is_told_and_makes_the_exit_code_1() {
    let mut publishers = [Publisher::new(0)];
    let mut server = Server::start(&settings("2", MEMORY));
    fs::create_dir(server.data().join("topics.snapshot.new")).expect("in the way");
    load(&server, &mut publishers, 10, "TERM");
    assert_eq!(server.ended(PATIENCE).code(), Some(1));
    assert!(server.log().contains("the topics are not kept for the next run"), "{}", server.log());
}

#[test]
fn a_damaged_snapshot_is_set_aside_and_told() {
    let mut publishers = [Publisher::new(0)];
    let mut server = Server::start(&settings("2", MEMORY));
    load(&server, &mut publishers, 10, "TERM");
    assert!(server.ended(PATIENCE).success());
    let path = server.data().join("topics.snapshot");
    let mut bytes = fs::read(&path).expect("written");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).expect("written");
    let server = server.next(&settings("2", MEMORY));
    assert!(server.log().contains("its checksum does not match"), "{}", server.log());
    assert!(!path.exists());
    assert_eq!(fs::read(server.data().join("topics.snapshot.damaged")).expect("set aside"), bytes);
    let (_, epoch, head) = Client::enter(&server, Speech::Frames, "user-9", "chat/room-0", None, None);
    assert!(Some(epoch) != publishers[0].epoch && head == 0);
}

#[test]
fn a_start_that_fails_keeps_the_snapshot() {
    let mut publishers = [Publisher::new(0)];
    let mut server = Server::start(&settings("2", MEMORY));
    load(&server, &mut publishers, 10, "TERM");
    assert!(server.ended(PATIENCE).success());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound").to_string();
    let output = crate::process::command(server.data(), &address).output().expect("it runs");
    assert_eq!(output.status.code(), Some(1));
    let server = server.next(&settings("2", MEMORY));
    publishers[0].catch_up(&server);
}

/// The kernel has the sockets of a server that was killed a moment longer than its process.
#[test]
fn a_port_that_is_in_use_for_a_moment_is_waited_for() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("bound");
    let folder = Arc::new(tempfile::tempdir().expect("a folder"));
    let mut server = Server::start_at(folder, &address.to_string(), &settings("2", MEMORY));
    let until = Instant::now() + PATIENCE;
    while !server.log().contains("in use by another process") {
        assert!(Instant::now() < until, "it does not say that it waits:\n{}", server.log());
        thread::yield_now();
    }
    drop(taken);
    server.await_ready();
    assert_eq!(server.plain, address);
}

#[test]
fn config_shows_what_a_reload_changed_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("ringshard.toml");
    fs::write(&path, "[log]\nlevel = \"info\"\n").expect("written");
    let server = Server::start(&[("RINGSHARD_CONFIG", path.to_str().expect("text"))]);
    let lines = |server: &Server| server.admin("/config").lines().map(str::to_owned).collect::<Vec<_>>();
    let before = lines(&server);
    fs::write(&path, "[log]\nlevel = \"debug\"\n[server]\ndrain_secs = 77\n").expect("written");
    server.signal("HUP");
    server.until("reloaded", |server| lines(server).contains(&"level = \"debug\"".to_owned()));
    let after = lines(&server);
    let changed: Vec<_> = before.iter().zip(&after).filter(|(before, after)| before != after).collect();
    assert_eq!(changed.len(), 1, "a drain still takes as long as at the start: {changed:?}");
    assert_eq!(changed[0].0, "level = \"info\"");
}

const MEMORY: &str = "false";
const DURABLE: &str = "true";

/// Publications that a publisher has in flight.
const WINDOW: usize = 16;
