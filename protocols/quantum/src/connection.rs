//! One connection: what came in is checked and handed on, what is to go out is packed, and time passes.

mod application;
mod build;
mod close;
mod frames;
mod handshake;
mod ledger;
mod pending;
mod receive;
mod repair;
mod route;
mod time;
mod transmit;
#[cfg(feature = "simulation")]
mod trial;

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{SeedableRng, rngs::StdRng};

use crate::{
    config::{DATAGRAM_MIN, Transport},
    congestion::Congestion,
    crypto::{ClientConfig, ConfigError, Crypto, ServerConfig},
    event::Event,
    frame::Side,
    guuid::{Guuid, Router},
    id::{self, LocalIds, RemoteIds},
    lane::Lanes,
    packet::Space,
    parameters::Parameters,
    path::Paths,
    qlog::Qlog,
    received::Received,
    recovery::Recovery,
    stats::Stats,
    token::Token,
};

pub(crate) use self::receive::EARLY_MAX;
use self::{close::Ending, pending::Pending, repair::Repairs};

/// What every connection begins with.
pub(crate) struct Start {
    pub(crate) now: Instant,
    pub(crate) unix_ms: u64,
    pub(crate) remote: SocketAddr,
    pub(crate) router: Router,
    pub(crate) reset_key: [u8; 32],
    pub(crate) transport: Arc<Transport>,
    pub(crate) seed: [u8; 32],
    /// A token: a client's from an earlier connection, a server's to be given away.
    pub(crate) token: Vec<u8>,
}

/// Which side of a connection this is, and what only that side knows.
pub(crate) enum Role<'a> {
    Client { config: &'a ClientConfig, server_name: &'a str, first: Guuid },
    Server { config: &'a ServerConfig, to: Guuid, from: Guuid, token: Option<Token> },
}

/// An id that a connection begins or ceases to listen to, for the endpoint's table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum IdChange {
    Listen(Guuid),
    Forget(Guuid),
    Token([u8; 16]),
    ForgetToken([u8; 16]),
}

/// A connection of an endpoint.
pub struct Connection {
    side: Side,
    transport: Arc<Transport>,
    rng: StdRng,
    /// The wall clock as last told, for the ids that are made.
    unix_ms: u64,
    began: Instant,
    crypto: Crypto,
    recovery: Recovery,
    received: [Received; 3],
    lanes: Lanes,
    repairs: Option<Box<Repairs>>,
    paths: Paths,
    local_ids: LocalIds,
    remote_ids: RemoteIds,
    /// The ids of the handshake: ours, and the peer's once its first packet has settled it.
    own: Guuid,
    peer_first: Guuid,
    is_settled: bool,
    /// The reset token that the endpoint watches for us.
    watched: Option<[u8; 16]>,
    router: Router,
    reset_key: [u8; 32],
    /// The id that the client sent its first packet to, and the one that a Retry gave it.
    original_to: Guuid,
    retry_from: Option<Guuid>,
    /// A client's token, for its Initial packets; a server's for its NEW_TOKEN.
    token: Vec<u8>,
    /// A token of the server for a later connection.
    address_token: Option<Box<[u8]>>,
    /// What the peer allows; the defaults until its parameters came.
    peer: Box<Parameters>,
    has_peer: bool,
    handshake: Handshake,
    pending: Pending,
    ending: Ending,
    /// Datagrams that came before the keys for them.
    early: VecDeque<(crate::endpoint::Meta, Vec<u8>)>,
    events: VecDeque<Event>,
    id_changes: VecDeque<IdChange>,
    /// When something was last received, or sent for the first time since.
    heard: Instant,
    sent_since_heard: bool,
    /// When a PING was last sent to keep the connection.
    pinged: Instant,
    /// When pacing lets the next packet go, if it holds one back.
    paced_until: Option<Instant>,
    counters: Stats,
    qlog: Option<Box<Qlog>>,
    /// The MTU that lanes and congestion control were told.
    known_mtu: usize,
    /// Beyond the newest stream that the peer opened.
    next_peer_stream: u64,
    /// The last stream of the peer's GOAWAY, once it said so.
    told_to_go: Option<u64>,
    /// Spaces whose keys are gone.
    discarded: [bool; 3],
    /// Whether the train that is built is marked with ECT(0).
    marks: bool,
    /// Packets of a simulated peer that keeps no rules.
    #[cfg(feature = "simulation")]
    injected: VecDeque<(Space, Vec<u8>)>,
    /// The endpoint's notes about this connection.
    pub(crate) queued: bool,
    pub(crate) armed: Option<Instant>,
    pub(crate) counts_as_half_open: bool,
}

/// How far the handshake is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Handshake {
    /// Keys are being agreed on.
    Open,
    /// Both sides' messages are complete here.
    Complete,
    /// The peer is known to have completed it too.
    Confirmed,
}

impl Connection {
    pub(crate) fn new(start: Start, role: Role<'_>) -> Result<Self, ConfigError> {
        let mut rng = StdRng::from_seed(start.seed);
        let (side, original_to) = match &role {
            Role::Client { first, .. } => (Side::Client, *first),
            Role::Server { to, .. } => (Side::Server, *to),
        };
        let own = id::make(start.unix_ms, &start.router, &mut rng);
        let mut local = local_parameters(&start.transport);
        local.initial_from = Some(own);
        let (crypto, peer_first, retry_from, validated) = match role {
            Role::Client { config, server_name, first } => {
                let crypto = Crypto::client(config, server_name, first, encoded(&local, side))?;
                (crypto, first, None, true)
            }
            Role::Server { config, to, from, token } => {
                let retried = match &token {
                    Some(Token::Retry { original_to, .. }) => Some(*original_to),
                    Some(Token::Address) | None => None,
                };
                local.original_to = Some(retried.unwrap_or(to));
                local.retry_from = retried.map(|_| to);
                local.reset_token = Some(crate::token::reset_token(&start.reset_key, own));
                let crypto = Crypto::server(config, to, encoded(&local, side))?;
                (crypto, from, retried.map(|_| to), token.is_some())
            }
        };
        let mut connection = Self {
            side,
            rng,
            unix_ms: start.unix_ms,
            began: start.now,
            crypto,
            recovery: Recovery::new(
                start.now,
                side,
                start.transport.rtt_initial,
                Parameters::default().ack_delay_max,
                Congestion::new(start.now, start.transport.algorithm, DATAGRAM_MIN as u16),
            ),
            received: Space::ALL.map(Received::new),
            lanes: Lanes::new(side, &application::limits(&start.transport)),
            repairs: None,
            paths: Paths::new(side, start.remote, validated, start.transport.udp_payload_max as u16),
            local_ids: LocalIds::new(own),
            remote_ids: RemoteIds::new(peer_first),
            own,
            peer_first,
            is_settled: side == Side::Server,
            watched: None,
            router: start.router,
            reset_key: start.reset_key,
            original_to,
            retry_from,
            token: start.token,
            address_token: None,
            peer: Box::default(),
            has_peer: false,
            handshake: Handshake::Open,
            pending: Pending::default(),
            ending: Ending::No,
            early: VecDeque::new(),
            events: VecDeque::new(),
            id_changes: VecDeque::new(),
            heard: start.now,
            sent_since_heard: false,
            pinged: start.now,
            paced_until: None,
            counters: Stats::default(),
            qlog: None,
            known_mtu: 0,
            next_peer_stream: 0,
            told_to_go: None,
            discarded: [false; 3],
            marks: false,
            #[cfg(feature = "simulation")]
            injected: VecDeque::new(),
            queued: false,
            armed: None,
            counts_as_half_open: false,
            transport: start.transport,
        };
        #[cfg(feature = "simulation")]
        connection.start_numbers();
        connection.id_changes.push_back(IdChange::Listen(own));
        if side == Side::Server {
            //= SPEC.md#7
            //# A server MUST know a connection by the destination of its first Initial packet too, as long as the
            //# connection lives: a late copy of that packet begins nothing.
            connection.id_changes.push_back(IdChange::Listen(original_to));
        }
        if connection.transport.qlog {
            let qlog = Qlog::new(start.now, start.unix_ms, side, connection.id());
            connection.qlog = Some(Box::new(qlog));
        }
        connection.set_packet_room();
        connection.take_remembered();
        Ok(connection)
    }

    /// The connection's name in logs and metrics: the first id of the server, or the client's first guess at it.
    #[must_use]
    pub fn id(&self) -> Guuid {
        match self.side {
            Side::Client => self.peer_first,
            Side::Server => self.own,
        }
    }

    /// Which side this is.
    #[must_use]
    pub fn side(&self) -> Side {
        self.side
    }

    /// The peer's address as it is now.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.paths.current().remote
    }

    /// The name that the client asked for.
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        self.crypto.server_name()
    }

    /// Streams open in either direction, by whomever.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.lanes.open_streams()
    }

    /// Whether the handshake is done.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.handshake >= Handshake::Complete && matches!(self.ending, Ending::No)
    }

    /// What was counted, and how the path looks now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let (rtt, congestion, sent) = (&self.recovery.rtt, &self.recovery.congestion, self.recovery.counts());
        let drops = self.lanes.drops();
        Stats {
            rtt: rtt.smoothed(),
            rtt_min: rtt.min(),
            window: congestion.window(),
            in_flight: self.recovery.in_flight(),
            pacing_rate: congestion.pacing_rate(),
            mtu: self.mtu() as u16,
            packets_lost: sent.lost,
            packets_spurious: sent.spurious,
            repairs_mismatched: self.repairs.as_ref().map_or(0, |repairs| repairs.restorer.counts().mismatched),
            datagrams_dropped: drops.datagrams_sent + drops.datagrams_received,
            messages_dropped: drops.messages_expired + drops.messages_superseded,
            ..self.counters
        }
    }

    pub(crate) fn poll_id_change(&mut self) -> Option<IdChange> {
        self.id_changes.pop_front()
    }

    /// Whether the endpoint's table has something to learn: ids, or that it is over.
    pub(crate) fn has_news(&self) -> bool {
        !self.id_changes.is_empty() || self.is_over()
    }

    // One that ends in the handshake is held for a while longer, and counts as long.
    pub(crate) fn is_half_open(&self) -> bool {
        self.side == Side::Server && self.handshake == Handshake::Open
    }

    /// Nothing is left to be done: the endpoint forgets the connection.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.ending, Ending::Over) && self.events.is_empty() && self.id_changes.is_empty()
    }

    // Whether a space's packets can be sent.
    fn can_send(&self, space: Space) -> bool {
        self.crypto.can_seal(self.level(space))
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { side, handshake, ending, .. } = self;
        f.debug_struct("Connection").field("side", side).field("handshake", handshake).field("ending", ending).finish()
    }
}

/// An idle timeout from which on it is none.
const FOREVER: Duration = Duration::from_secs(1 << 40);

fn encoded(parameters: &Parameters, side: Side) -> Vec<u8> {
    let mut out = Vec::new();
    parameters.encode(side, &mut out);
    out
}

fn local_parameters(transport: &Transport) -> Parameters {
    Parameters {
        // Forever is what needs no number (RFC 9000, section 18.2).
        idle_timeout: Some(transport.idle_timeout).filter(|idle| *idle < FOREVER).unwrap_or_default(),
        ack_delay_max: crate::received::DELAY_MAX,
        ids_max: id::REMOTE_IDS_MAX as u64,
        udp_payload_max: crate::config::DATAGRAM_MAX as u16,
        data_max: transport.data_max,
        stream_data_max: transport.stream_data_max,
        streams_bidirectional_max: transport.streams_bidirectional_max,
        streams_unidirectional_max: transport.streams_unidirectional_max,
        datagram_max: transport.datagram_bytes_max as u64,
        message_max: transport.message_max,
        message_bytes_max: transport.message_bytes_max,
        symbols_max: transport.symbols_max,
        symbol_bytes_max: transport.symbol_bytes_max,
        ..Parameters::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_small() {
        // A million of them are a few gigabytes; keys and the table come on top.
        assert!(size_of::<Connection>() <= 5 * 1024, "{} bytes", size_of::<Connection>());
    }
}
