//! ENet (rusty_enet) on a link: reliable packets; messages take turns over 254 channels, which is its way to send
//! independent ones, bulk has a channel of its own.

use std::{io, net::UdpSocket, os::fd::AsFd};

use peers::link::{
    self,
    clock::now_ns,
    plan::{Plan, Side, Workload},
    talk::{Account, Source, bulk},
};
use rustix::event::{PollFd, PollFlags};
use rusty_enet::{EventNoRef, Host, HostSettings, Packet, PeerID};

/// As many as ENet has.
const CHANNELS: usize = 255;
/// The channel of bulk, and where its receiver says how much it has.
const BULK_CHANNEL: u8 = 0;
/// Bytes of one packet of bulk, which ENet cuts into fragments.
const PIECE_BYTES: usize = 8 * 1024;
/// Bulk that is given to ENet before its receiver has said that it came. ENet itself lets 64 KiB on the wire.
const AHEAD_BYTES: u64 = 1 << 20;
/// Bytes after which a receiver of bulk says how much it has.
const CREDIT_BYTES: u64 = 64 * 1024;
/// ENet's timers run when it is served, so that has to happen even if nothing comes.
const TICK_NS: u64 = 2_000_000;

struct Peer {
    id: PeerID,
    number: u32,
    source: Option<Source>,
    channel: u8,
    sent: u64,
    confirmed: u64,
    received: u64,
    told: u64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let plan = link::start();
    let mut account = Account::new(&plan);
    let mut hosts = Vec::new();
    match plan.side {
        Side::Server => {
            let socket = link::udp(plan.addr)?;
            link::announce(socket.local_addr()?);
            hosts.push(host(socket)?);
        }
        Side::Client => {
            for number in 0..plan.connections {
                let mut host = host(link::udp(plan.local(number))?)?;
                host.connect(plan.addr, CHANNELS, number)?;
                hosts.push(host);
            }
        }
    }
    let mut peers: Vec<Vec<Peer>> = hosts.iter().map(|_| Vec::new()).collect();
    while now_ns() < plan.end_ns {
        wait(&plan, &hosts, &peers)?;
        for (host, (own, peers)) in hosts.iter_mut().zip(peers.iter_mut().enumerate()) {
            while let Some(event) = host.service()?.map(|event| event.no_ref()) {
                on_event(&plan, &mut account, event, own as u32, peers);
            }
            for peer in peers.iter_mut() {
                send(&plan, host, peer);
            }
            host.flush();
        }
    }
    link::report(&plan, &account);
    Ok(())
}

fn host(socket: UdpSocket) -> Result<Host<UdpSocket>, Box<dyn std::error::Error>> {
    let settings = HostSettings { peer_limit: 64, channel_limit: CHANNELS, ..HostSettings::default() };
    Host::new(socket, settings).map_err(|error| format!("{error:?}").into())
}

fn wait(plan: &Plan, hosts: &[Host<UdpSocket>], peers: &[Vec<Peer>]) -> io::Result<()> {
    let next = peers.iter().flatten().filter_map(|peer| peer.source.as_ref()?.next_ns()).min();
    let until_ns = next.unwrap_or(u64::MAX).min(now_ns() + TICK_NS).min(plan.end_ns);
    let mut fds: Vec<_> =
        hosts.iter().map(|host| PollFd::from_borrowed_fd(host.socket().as_fd(), PollFlags::IN)).collect();
    link::wait(&mut fds, until_ns)
}

fn on_event(plan: &Plan, account: &mut Account, event: EventNoRef, own: u32, peers: &mut Vec<Peer>) {
    match event {
        EventNoRef::Connect { peer, data } => {
            account.connected();
            // The client's event carries nothing; it knows its number.
            let number = if plan.side == Side::Server { data } else { own };
            let source = Source::new(plan, number, now_ns());
            peers.push(Peer { id: peer, number, source, channel: 0, sent: 0, confirmed: 0, received: 0, told: 0 });
        }
        EventNoRef::Disconnect { peer, .. } => {
            peers.retain(|one| one.id != peer);
            if now_ns() < plan.to_ns {
                account.lost("ENet gave up");
            }
        }
        EventNoRef::Receive { peer, channel_id, packet } => {
            let Some(peer) = peers.iter_mut().find(|one| one.id == peer) else { return };
            if channel_id != BULK_CHANNEL {
                account.message(now_ns(), packet.data());
            } else if plan.side == Side::Client {
                account.bulk(now_ns(), peer.number, packet.data());
                peer.received += packet.data().len() as u64;
            } else if let Some(bytes) = packet.data().first_chunk() {
                peer.confirmed = peer.confirmed.max(u64::from_le_bytes(*bytes));
            }
        }
    }
}

/// Gives ENet what is due. It refuses packets only of peers that are gone, which it tells by an event.
fn send(plan: &Plan, host: &mut Host<UdpSocket>, peer: &mut Peer) {
    let Some(to) = host.get_peer_mut(peer.id) else { return };
    while let Some(message) = peer.source.as_mut().and_then(|source| source.take(now_ns())) {
        let channels = if plan.workload == Workload::Ordered { 1 } else { CHANNELS as u8 - 1 };
        let _ = to.send(1 + peer.channel, &Packet::reliable(&message[..]));
        peer.channel = (peer.channel + 1) % channels;
    }
    if !plan.workload.has_bulk() {
        return;
    }
    if plan.side == Side::Client {
        if peer.received - peer.told >= CREDIT_BYTES {
            peer.told = peer.received;
            let _ = to.send(BULK_CHANNEL, &Packet::reliable(&peer.received.to_le_bytes()[..]));
        }
        return;
    }
    while peer.sent - peer.confirmed < AHEAD_BYTES && now_ns() < plan.to_ns {
        if to.send(BULK_CHANNEL, &Packet::reliable(&bulk(peer.sent)[..PIECE_BYTES])).is_err() {
            return;
        }
        peer.sent += PIECE_BYTES as u64;
    }
}
