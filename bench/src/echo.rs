//! The plain echo servers of a comparison: our engine and protocol cores with nothing in between.

use engine::{
    Datagrams, Io, ListenerConfig, Outcome, Reactor, ShardId, Socket, SocketConfig, Stream, StreamEvent, Ticket, Train,
};

use bytes::BytesMut;
use ringshard_http::{Connection as Http, Event as Request};
use websocket::{Connection as WebSocket, Event, Limits, frame};

use crate::options::Contest;

/// Bytes that may wait for a reader before it is not read from any more.
const PENDING_MAX: usize = 256 * 1024;
/// Bytes of a WebSocket message: as large as the largest of Autobahn's cases.
const MESSAGE_MAX: usize = 16 << 20;

/// Sends back whatever arrives.
pub struct Echo {
    contest: Contest,
    peers: Vec<Option<Peer>>,
    scratch: BytesMut,
}

struct Peer {
    stream: Stream,
    pending: usize,
    paused: bool,
    protocol: Protocol,
}

enum Protocol {
    Bytes,
    Http(Box<Http>),
    WebSocket(Box<WebSocket>),
}

impl Echo {
    /// A shard's server for one kind of echo.
    #[must_use]
    pub fn new(contest: Contest) -> Self {
        Self { contest, peers: Vec::new(), scratch: BytesMut::new() }
    }

    /// What it listens on.
    #[must_use]
    pub fn addresses(contest: Contest, addr: std::net::SocketAddr) -> (Vec<ListenerConfig>, Vec<SocketConfig>) {
        match contest.is_udp() {
            true => (vec![], vec![SocketConfig::new(addr)]),
            false => (vec![ListenerConfig::new(addr)], vec![]),
        }
    }

    fn accepted(&mut self, io: &Io<()>, stream: Stream) {
        let protocol = match self.contest {
            Contest::WsEcho => Protocol::Http(Box::new(Http::http1(io.now(), ringshard_http::Limits::default()))),
            _ => Protocol::Bytes,
        };
        let slot = stream.index as usize;
        if self.peers.len() <= slot {
            self.peers.resize_with(slot + 1, || None);
        }
        self.peers[slot] = Some(Peer { stream, pending: 0, paused: false, protocol });
    }

    fn received(&mut self, io: &mut Io<()>, stream: Stream, bytes: &mut [u8]) {
        let Some(peer) = peer(&mut self.peers, stream) else { return };
        let out = &mut self.scratch;
        let keep = match &mut peer.protocol {
            Protocol::Bytes => {
                io.send_slice(stream, bytes);
                peer.pending += bytes.len();
                true
            }
            Protocol::Http(http) => match upgrade(io, http, bytes, out) {
                Step::Wait => true,
                Step::Refuse => false,
                Step::Upgraded(mut socket, mut early) => {
                    let keep = echo(&mut socket, &mut early, out);
                    peer.protocol = Protocol::WebSocket(socket);
                    keep
                }
            },
            Protocol::WebSocket(socket) => echo(socket, bytes, out),
        };
        if !out.is_empty() {
            io.send_slice(stream, out);
            peer.pending += out.len();
            out.clear();
        }
        if !keep {
            io.shutdown(stream);
        }
        if peer.pending > PENDING_MAX && !peer.paused {
            peer.paused = true;
            io.pause(stream);
        }
    }

    fn sent(&mut self, io: &mut Io<()>, stream: Stream, bytes: usize) {
        let Some(peer) = peer(&mut self.peers, stream) else { return };
        peer.pending = peer.pending.saturating_sub(bytes);
        if peer.paused && peer.pending < PENDING_MAX / 2 {
            peer.paused = false;
            io.resume(stream);
        }
    }
}

enum Step {
    Wait,
    Refuse,
    Upgraded(Box<WebSocket>, Vec<u8>),
}

fn peer(peers: &mut [Option<Peer>], stream: Stream) -> Option<&mut Peer> {
    peers.get_mut(stream.index as usize)?.as_mut().filter(|peer| peer.stream == stream)
}

fn upgrade(io: &Io<()>, http: &mut Http, bytes: &[u8], out: &mut BytesMut) -> Step {
    http.handle(io.now(), bytes);
    let step = match http.poll() {
        None => Step::Wait,
        Some(Request::Upgrade { id, .. }) => match http.accept_websocket(io.now(), id, None) {
            Some(early) => {
                let limits = Limits { message_max: MESSAGE_MAX, frame_max: MESSAGE_MAX };
                Step::Upgraded(Box::new(WebSocket::server(limits)), early.to_vec())
            }
            None => Step::Refuse,
        },
        Some(Request::Request { .. } | Request::Refused(_)) => Step::Refuse,
    };
    http.take_output(io.now(), out, usize::MAX);
    step
}

/// Answers all whole messages; false once the connection is over.
fn echo(socket: &mut WebSocket, mut bytes: &mut [u8], out: &mut BytesMut) -> bool {
    let mut open = true;
    while let Some(event) = socket.next(&mut bytes) {
        // A pong that was due before this message goes before its echo.
        socket.take_output(out);
        match event {
            Event::Text(text) => frame::encode(frame::Opcode::Text, text.as_bytes(), out),
            Event::Binary(payload) => frame::encode(frame::Opcode::Binary, &payload, out),
            Event::Pong => {}
            Event::Closed { .. } => open = false,
        }
    }
    socket.take_output(out);
    open
}

impl Reactor for Echo {
    type Mail = ();

    fn on_datagrams(&mut self, io: &mut Io<()>, socket: Socket, train: Datagrams<'_>) {
        let back = Train { to: train.peer, segment: u16::try_from(train.segment).unwrap_or(u16::MAX), ecn: train.ecn };
        io.send_train(socket, back, train.bytes);
    }

    fn on_stream(&mut self, io: &mut Io<()>, stream: Stream, event: StreamEvent<'_>) {
        match event {
            StreamEvent::Accepted { .. } => self.accepted(io, stream),
            StreamEvent::Data(bytes) => self.received(io, stream, bytes),
            StreamEvent::Sent { bytes } => self.sent(io, stream, bytes),
            StreamEvent::Ended => io.shutdown(stream),
            StreamEvent::Closed(_) => self.peers[stream.index as usize] = None,
            StreamEvent::Connected { .. } | StreamEvent::ConnectFailed { .. } | StreamEvent::Behind => {}
        }
    }

    fn on_disk(&mut self, _io: &mut Io<()>, _ticket: Ticket, _outcome: Outcome) {}

    fn on_mail(&mut self, _io: &mut Io<()>, _from: ShardId, _mail: ()) {}

    fn on_turn_end(&mut self, _io: &mut Io<()>) {}
}
