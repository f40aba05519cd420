//! Chats over Quantum in a terminal: lines of the standard input are said in a room, and what is said there is printed.
//!
//! ```text
//! cargo serve &
//! cargo run --release -p ringshard --example quantum_chat -- --connect 127.0.0.1:8443 --room lobby --name ada
//! ```

use std::{
    error::Error,
    fmt::Write as _,
    io::{self, BufRead, Read, Write},
    net::{SocketAddr, TcpStream},
    process::ExitCode,
    sync::mpsc::{Receiver, TryRecvError, channel},
    thread,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use clap::Parser;
use quantum::{ClientConfig, CloseReason, Transport, crypto::Trust};
use ringshard::client::{Heard, Wire};
use serde_json::{Value, json};
use session::{Client as Say, Codec, Credential, Hello, Server, SubState, Subscription};

/// Chats over Quantum. Ends with the end of the input, or with the line /quit.
#[derive(Parser, Debug)]
struct Options {
    /// The UDP address of the server.
    #[arg(long, default_value = "127.0.0.1:8443")]
    connect: SocketAddr,
    /// The SHA-256 of the server's certificate in hex, as `/cert-hash` has it. By default it is asked for at --http.
    #[arg(long, value_name = "HEX")]
    cert_hash: Option<String>,
    /// The room.
    #[arg(long, default_value = "lobby")]
    room: String,
    /// The name to speak under, as a guest.
    #[arg(long, default_value = "guest")]
    name: String,
    /// A token, instead of a guest's.
    #[arg(long)]
    token: Option<String>,
    /// Where the server speaks plain HTTP: for the guest's token, and the hash of the certificate.
    #[arg(long, default_value = "127.0.0.1:8080")]
    http: SocketAddr,
}

/// How often a silent client says that it is there. The server gives up after a minute.
const PING_EVERY: Duration = Duration::from_secs(20);

/// How long lines of the input may wait.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Pauses between attempts to come back: doubled each time, up to the longest.
const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(8);

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quantum_chat: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let hash = match &options.cert_hash {
        Some(hash) => hash.clone(),
        None => text(&http(options.http, "GET", "/cert-hash", "")?["sha256"])?,
    };
    let token = match &options.token {
        Some(token) => token.clone(),
        None => {
            text(&http(options.http, "POST", "/api/v1/guest", &json!({"name": options.name}).to_string())?["token"])?
        }
    };
    let config = ClientConfig::builder(Trust::Certificate(hex(&hash)?)).build()?;
    let wire = Wire::new(options.connect, config, Transport::default())?;
    let topic = format!("chat/{}", options.room);
    let mut chat = Chat { wire, topic, token, resume: None, epoch: None, last: None, seq: 0, unsaid: Vec::new() };
    let lines = lines();
    let mut pause = PAUSE_MIN;
    loop {
        let end = chat.session(&lines, &mut pause)?;
        match end {
            End::Left => return Ok(()),
            End::Refused(why) => return Err(why.into()),
            End::Lost(why) => {
                println!("* {why}; trying again in {pause:?}");
                thread::sleep(pause);
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}

/// A user in a room, over one connection after the other.
struct Chat {
    wire: Wire,
    topic: String,
    token: String,
    resume: Option<(String, String)>,
    epoch: Option<u64>,
    last: Option<u64>,
    seq: u64,
    /// Said, and not acknowledged yet: said again after a reconnect, and taken once.
    unsaid: Vec<(u64, String)>,
}

/// How a connection ended.
enum End {
    Left,
    Refused(String),
    Lost(String),
}

impl Chat {
    /// One connection from its beginning to its end.
    fn session(&mut self, lines: &Receiver<String>, pause: &mut Duration) -> Result<End, Box<dyn Error>> {
        // The certificate is known by its hash, whatever its name.
        self.wire.connect("localhost")?;
        let (mut welcomed, mut pinged) = (false, Instant::now());
        loop {
            match self.wire.hear(LOOK_EVERY)? {
                Some(Heard::Up) => self.hello(),
                Some(Heard::Frame(frame)) => {
                    let Ok(message) = session::decode_server(Codec::Binary, &frame) else { continue };
                    if let Server::Welcome { .. } = message {
                        (welcomed, *pause) = (true, PAUSE_MIN);
                    }
                    if let Some(end) = self.hear(message) {
                        return Ok(end);
                    }
                }
                Some(Heard::Ended) => {
                    self.wire.client().close(Instant::now());
                    self.wire.send()?;
                    return Ok(End::Lost("the server ended the session".to_owned()));
                }
                Some(Heard::Closed(CloseReason::Peer { application: false, code, .. })) if code >= 0x100 => {
                    return Ok(End::Refused(format!("the handshake failed with TLS alert {}", code - 0x100)));
                }
                Some(Heard::Closed(reason)) => return Ok(End::Lost(reason.to_string())),
                None if welcomed => {
                    if !self.read_lines(lines) {
                        return self.leave();
                    }
                    if pinged.elapsed() >= PING_EVERY {
                        pinged = Instant::now();
                        self.say(&Say::Ping { id: 1 });
                    }
                }
                None => {}
            }
        }
    }

    fn hello(&mut self) {
        let credential = match self.resume.take() {
            Some((session, ticket)) => Credential::Resume { session: session.into(), ticket: ticket.into() },
            None => Credential::Token(self.token.clone().into()),
        };
        let mut hello = Hello::new(1, credential, "terminal");
        hello.subs.push(Subscription { topic: self.topic.clone().into(), epoch: self.epoch, after: self.last });
        self.say(&Say::Hello(hello));
    }

    fn hear(&mut self, message: Server<'_>) -> Option<End> {
        match message {
            Server::Welcome { session, ticket, user, subs, .. } => {
                self.resume = Some((session.into_owned(), ticket.into_owned()));
                match subs.first().map(|sub| &sub.state) {
                    Some(SubState::Ok { epoch, head, .. }) => {
                        self.epoch = Some(*epoch);
                        self.last.get_or_insert(*head);
                    }
                    Some(SubState::Refused { message, .. }) => return Some(End::Refused(message.to_string())),
                    None => {}
                }
                println!("* {user} is in {} over Quantum", self.topic);
                for (seq, text) in self.unsaid.clone() {
                    self.publish(seq, &text);
                }
            }
            Server::Msg { offset, from, body, .. } => {
                self.last = Some(offset);
                let body: Value = serde_json::from_slice(body).unwrap_or_default();
                println!("{from}: {}", body["text"].as_str().unwrap_or("(something that is no text)"));
            }
            Server::Gap { first, .. } => {
                println!("* some messages are not kept any more");
                self.last = first.checked_sub(1);
            }
            Server::PubOk { id, .. } => self.unsaid.retain(|(seq, _)| id_of(*seq) != id),
            Server::Presence { joined, left, count, .. } => {
                joined.iter().for_each(|user| println!("* {user} is here now, {count} in all"));
                left.iter().for_each(|user| println!("* {user} has left, {count} remain"));
            }
            Server::Err { message, id, .. } => {
                println!("* refused: {message}");
                if id == Some(1) {
                    // What held the session before may be over; the token is asked for in the next attempt.
                    self.resume = None;
                }
                self.unsaid.retain(|(seq, _)| Some(id_of(*seq)) != id);
            }
            Server::Goaway { reason, .. } => println!("* the server goes away: {reason}"),
            Server::SubOk { .. }
            | Server::UnsubOk { .. }
            | Server::Res { .. }
            | Server::Pong { .. }
            | Server::Eph { .. } => {}
        }
        None
    }

    /// Says the lines that were typed; false when there will be no more.
    fn read_lines(&mut self, lines: &Receiver<String>) -> bool {
        loop {
            match lines.try_recv() {
                Ok(line) if line == "/quit" => return false,
                Ok(line) if line.trim().is_empty() => {}
                Ok(line) => {
                    self.seq += 1;
                    self.unsaid.push((self.seq, line.clone()));
                    self.publish(self.seq, &line);
                }
                Err(TryRecvError::Empty) => return true,
                // What was said last is on its way.
                Err(TryRecvError::Disconnected) => return !self.unsaid.is_empty(),
            }
        }
    }

    fn publish(&mut self, seq: u64, text: &str) {
        let body = json!({"type": "text", "text": text}).to_string();
        let topic = self.topic.clone();
        self.say(&Say::Pub { id: id_of(seq), topic: topic.as_str().into(), seq: Some(seq), body: body.as_bytes() });
    }

    fn say(&mut self, message: &Say<'_>) {
        let mut frame = BytesMut::new();
        session::encode_client(Codec::Binary, message, &mut frame);
        if !self.wire.client().say(&frame) {
            println!("* too much waits to be sent already");
        }
    }

    /// Says goodbye and waits until it has arrived.
    fn leave(&mut self) -> Result<End, Box<dyn Error>> {
        self.wire.client().finish();
        let until = Instant::now() + Duration::from_secs(2);
        while Instant::now() < until {
            match self.wire.hear(LOOK_EVERY)? {
                Some(Heard::Closed(_)) => return Ok(End::Left),
                Some(Heard::Ended) => break,
                Some(Heard::Up | Heard::Frame(_)) | None => {}
            }
        }
        self.wire.client().close(Instant::now());
        self.wire.send()?;
        Ok(End::Left)
    }
}

/// The correlation id of what is said with this counter.
fn id_of(seq: u64) -> u32 {
    u32::try_from(seq).unwrap_or(u32::MAX - 0x1_0000) + 1_000
}

/// Lines of the input as they are typed.
fn lines() -> Receiver<String> {
    let (sender, lines) = channel();
    thread::spawn(move || io::stdin().lock().lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    lines
}

/// The JSON that a request is answered with.
fn http(server: SocketAddr, method: &str, path: &str, body: &str) -> Result<Value, Box<dyn Error>> {
    let failed = |what: &str| format!("{method} http://{server}{path}: {what}");
    let mut stream = TcpStream::connect(server).map_err(|error| failed(&error.to_string()))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {server}\r\nconnection: close\r\n");
    if !body.is_empty() {
        let _ = write!(head, "content-type: application/json\r\ncontent-length: {}\r\n", body.len());
    }
    stream.write_all(format!("{head}\r\n{body}").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| failed("no answer"))?;
    if !head.starts_with("HTTP/1.1 200 ") {
        return Err(failed(&format!("{} {body}", head.lines().next().unwrap_or_default())).into());
    }
    Ok(serde_json::from_str(body)?)
}

fn text(value: &Value) -> Result<String, Box<dyn Error>> {
    Ok(value.as_str().ok_or("the server's answer has not what it should have")?.to_owned())
}

fn hex(text: &str) -> Result<[u8; 32], Box<dyn Error>> {
    let wrong = "--cert-hash must be 64 hexadecimal digits";
    let digits: Vec<u8> = text.chars().map(|c| c.to_digit(16).map(|n| n as u8)).collect::<Option<_>>().ok_or(wrong)?;
    let bytes: Vec<u8> = digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect();
    Ok(bytes.try_into().map_err(|_| wrong)?)
}
