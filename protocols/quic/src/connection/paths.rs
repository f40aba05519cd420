//! The paths of a connection: moves of either end, and what quiche 0.30 forgets about the paths before.

use std::net::SocketAddr;

use quiche::PathEvent;
use smallvec::SmallVec;

use super::Connection;
use crate::{event::Event, stream::StreamError};

/// Packets from an address that is not proven after which its proof is asked for again.
const ASK_AGAIN: u8 = 4;

/// Paths that are known to have been given up, at most: quiche has no more at a time than there are ids.
const FAILED_MAX: usize = 8;

/// What is known of the paths beside the one in use.
#[derive(Default)]
pub(super) struct Paths {
    /// Those that were used before, by their two addresses ([`Connection::leave`]).
    left: SmallVec<[(SocketAddr, SocketAddr); 1]>,
    /// Those that quiche has once given up to prove.
    failed: SmallVec<[(SocketAddr, SocketAddr); 1]>,
    /// There has been more than one.
    pub(super) several: bool,
    /// quiche has lost its way ([`Connection::check_paths`]).
    pub(super) lost: bool,
    /// Counts packets from an address that is not proven.
    unproven: u8,
    /// The peer's id that is in use, by its number, and the one before that.
    id_number: u64,
    id_before: Option<u64>,
}

impl Connection {
    /// Moves a client to another address of its own.
    ///
    /// # Errors
    /// [`StreamError::Limit`]: no spare id, or the peer wants no moves.
    pub fn migrate(&mut self, local: SocketAddr) -> Result<(), StreamError> {
        let number = self.quiche.migrate_source(local).map_err(|_| StreamError::Limit)?;
        self.paths.several = true;
        // The one before the old one is given back, and the peer issues another. The old one is still of use: see `leave`.
        if let Some(before) = self.paths.id_before.replace(std::mem::replace(&mut self.paths.id_number, number)) {
            let _ = self.quiche.retire_dcid(before);
        }
        self.leave(local, self.remote);
        Ok(())
    }

    pub(super) fn observe_paths(&mut self, tell: &mut impl FnMut(Event)) {
        // quiche proves new addresses by itself, and uses them when they are.
        while let Some(event) = self.quiche.path_event_next() {
            match event {
                PathEvent::New(..) => self.paths.several = true,
                PathEvent::PeerMigrated(local, remote) => {
                    self.leave(local, remote);
                    tell(Event::Moved);
                }
                PathEvent::FailedValidation(local, remote) => {
                    // A way that is proven later is kept here: quiche does not tell if it is given up once more.
                    if self.paths.failed.len() >= FAILED_MAX {
                        self.paths.failed.remove(0);
                    }
                    self.paths.failed.push((local, remote));
                }
                _ => {}
            }
        }
    }

    /// Uses another path from now on, and finds out what was lost on the ones before. quiche 0.30 looks for losses on a
    /// path only when something that was sent there is acknowledged, and nothing more is sent there: all but the first
    /// packets that were on the way would never be sent again (cloudflare/quiche issue 2452). So a probe is sent on each,
    /// which leaves for the address in use, and the acknowledgement of that one shows what is missing.
    fn leave(&mut self, local: SocketAddr, remote: SocketAddr) {
        let before = (std::mem::replace(&mut self.local, local), std::mem::replace(&mut self.remote, remote));
        self.paths.left.retain(|path| *path != before && *path != (local, remote));
        if before != (local, remote) {
            self.paths.left.push(before);
        }
        // One that quiche has no room for any more, or no id of the peer, is forgotten.
        let Self { paths, quiche, .. } = self;
        paths.left.retain(|(local, remote)| {
            let is_known = quiche.path_stats().any(|path| (path.local_addr, path.peer_addr) == (*local, *remote));
            is_known && quiche.probe_path(*local, *remote).is_ok()
        });
    }

    /// Where a packet for this path leaves from and goes to.
    pub(super) fn route(&self, path: (SocketAddr, SocketAddr)) -> (SocketAddr, SocketAddr) {
        if !self.paths.left.contains(&path) {
            return path;
        }
        let active = self.quiche.path_stats().find(|path| path.active);
        active.map_or(path, |path| (path.local_addr, path.peer_addr))
    }

    /// Asks for the proof of an address again. quiche 0.30 asks once, and does not notice if that was lost while other packets
    /// were not; and what came first may have been too short for a second question: then it gives up, and sends to where
    /// nobody is any more.
    pub(super) fn ask_again(&mut self, local: SocketAddr, remote: SocketAddr) {
        self.paths.unproven = (self.paths.unproven + 1) % ASK_AGAIN;
        if self.paths.unproven == 0 || self.paths.failed.contains(&(local, remote)) {
            let _ = self.quiche.probe_path(local, remote);
        }
    }

    /// After a path was given up, or the peer took back the id of the one in use, quiche marks another as active and may
    /// leave the mark on the first. It adds up the windows of both beyond what a number holds, at the latest when the peer
    /// gives it an id again. Marks change with a timer only, after which this is asked. Without the connection the client
    /// is told at its next packet that it is gone, and comes back.
    pub(super) fn check_paths(&mut self) {
        self.paths.lost |= self.paths.several && self.quiche.path_stats().filter(|path| path.active).count() > 1;
    }
}
