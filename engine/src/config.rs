//! How many shards, where, and what they listen on.

use std::net::SocketAddr;

use crate::{cores::Cores, error::EngineError, reactor::Listener, steer::Steer};

/// The most shards of one engine: ids are small and dense, and a mailbox exists for every pair.
pub const SHARDS_MAX: u16 = 256;

/// What the engine needs to know before it starts. Every number is a limit that holds per shard.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many shards; 0: one per physical core that this process may use.
    pub shards: u16,
    /// The CPU of each shard, instead of the engine's own choice.
    pub cpus: Option<Vec<usize>>,
    /// Whether each shard's thread stays on its CPU.
    pub pin: bool,
    /// TCP addresses; [`crate::Listener`] counts them.
    pub listeners: Vec<ListenerConfig>,
    /// UDP addresses; [`crate::Socket`] counts them.
    pub sockets: Vec<SocketConfig>,
    /// Open streams at most; further connections are closed at once and counted as refused.
    pub streams_max: u32,
    /// Buffers that streams receive into, shared by all of them; a power of two.
    pub receive_buffers: u16,
    /// Bytes per receive buffer.
    pub receive_buffer_bytes: u32,
    /// Microseconds to look for work before parking, while that has found mail recently; 0: park at once.
    pub spin_us: u32,
    /// Mail that fits in the box between two shards; a power of two. Mail beyond waits with its sender.
    pub mailbox_slots: usize,
    /// Decides all random numbers of all shards; `None`: the system's.
    pub seed: Option<[u8; 32]>,
    /// Whether `Accepted` names the peer. It costs one ring operation per connection instead of one per burst; without
    /// it the address is unspecified.
    pub peer_addresses: bool,
    /// Use no kernel feature that is newer than this version (major, minor): for tests of the fallbacks.
    pub kernel_max: Option<(u16, u16)>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            shards: 0,
            cpus: None,
            pin: true,
            listeners: Vec::new(),
            sockets: Vec::new(),
            streams_max: 65_536,
            receive_buffers: 512,
            receive_buffer_bytes: 8 * 1024,
            spin_us: 20,
            mailbox_slots: 1024,
            seed: None,
            peer_addresses: true,
            kernel_max: None,
        }
    }
}

/// A TCP address to listen on.
#[derive(Clone, Debug)]
pub struct ListenerConfig {
    /// Where; port 0 takes a free one, the same on all shards.
    pub addr: SocketAddr,
    /// Connections that the kernel keeps until they are accepted.
    pub backlog: u32,
}

impl ListenerConfig {
    /// `addr` with a backlog of 4,096.
    #[must_use]
    pub fn new(addr: SocketAddr) -> Self {
        Self { addr, backlog: 4096 }
    }
}

/// A UDP address to receive on.
#[derive(Clone, Debug)]
pub struct SocketConfig {
    /// Where; port 0 takes a free one, the same on all shards.
    pub addr: SocketAddr,
    /// Whose port it shares, whatever its own says: with port 0 both get one that is free for both.
    pub beside: Option<Listener>,
    /// Which shard gets which datagram; `None`: the kernel's hash over the addresses.
    pub steer: Option<Steer>,
    /// Bytes of the kernel's receive buffer, as far as the system allows; 0: the system's default.
    pub receive_bytes: u32,
    /// Bytes of the kernel's send buffer, as far as the system allows; 0: the system's default.
    pub send_bytes: u32,
}

impl SocketConfig {
    /// `addr` without steering and with 4 MiB of kernel buffers: 64 trains of 64 KiB.
    #[must_use]
    pub fn new(addr: SocketAddr) -> Self {
        Self { addr, beside: None, steer: None, receive_bytes: 4 << 20, send_bytes: 4 << 20 }
    }
}

impl Config {
    /// How many shards there will be: as many as asked for, or as the CPUs and the quota of this process allow.
    #[must_use]
    pub fn shard_count(&self) -> u16 {
        match &self.cpus {
            _ if self.shards > 0 => self.shards,
            Some(cpus) => cpus.len().min(usize::from(SHARDS_MAX)) as u16,
            None => Cores::detect().shards(),
        }
    }

    // Whether a socket has to fit beside a listener whose port is still to be chosen.
    pub(crate) fn pairs_freely(&self) -> bool {
        let beside = |one: &SocketConfig| one.beside.and_then(|at| self.listeners.get(usize::from(at.0)));
        self.sockets.iter().filter_map(beside).any(|listener| listener.addr.port() == 0)
    }

    /// Refuses what cannot work, with the key that is to blame.
    pub(crate) fn check(&self) -> Result<(), EngineError> {
        let wrong = |text: &str| Err(EngineError::Config(text.to_owned()));
        if self.shards > SHARDS_MAX {
            return wrong("shards: at most 256");
        }
        if !self.receive_buffers.is_power_of_two() || self.receive_buffers > 32_768 {
            return wrong("receive_buffers: a power of two up to 32,768");
        }
        if self.receive_buffer_bytes < 256 || self.receive_buffer_bytes > 1 << 20 {
            return wrong("receive_buffer_bytes: from 256 to 1,048,576");
        }
        if !self.mailbox_slots.is_power_of_two() || self.mailbox_slots < 2 {
            return wrong("mailbox_slots: a power of two, at least 2");
        }
        if self.streams_max == 0 {
            return wrong("streams_max: at least 1");
        }
        if self.sockets.iter().filter_map(|socket| socket.beside).any(|one| self.listeners.len() <= one.0.into()) {
            return wrong("sockets: beside names no listener");
        }
        match &self.cpus {
            Some(cpus) if cpus.is_empty() => wrong("cpus: name at least one, or leave the choice to the engine"),
            Some(cpus) if self.shards != 0 && cpus.len() < usize::from(self.shards) => wrong("cpus: fewer than shards"),
            _ => Ok(()),
        }
    }
}
