//! What an idle connection holds of keys, paths and ids: for a test that measures it (feature `simulation`).

use rand::{SeedableRng, rngs::StdRng};

use crate::{
    crypto::{ClientConfig, Crypto, Level, ServerConfig},
    frame::Side,
    guuid::{Guuid, Router},
    id::{LocalIds, RemoteIds},
    packet::Space,
    path::Paths,
};

/// One side of an established connection, with all ids that it may have.
pub struct Footprint {
    crypto: Crypto,
    _paths: Paths,
    _local: LocalIds,
    _remote: RemoteIds,
}

impl Footprint {
    /// Both sides of a connection after its handshake.
    ///
    /// # Panics
    /// If the handshake fails.
    #[must_use]
    pub fn establish(client: &ClientConfig, server: &ServerConfig) -> (Self, Self) {
        let to = Guuid::from_bytes([1; 16]);
        let client = Crypto::client(client, "localhost", to, vec![0; 100]).expect("a client");
        let server = Crypto::server(server, to, vec![0; 100]).expect("a server");
        let (mut client, mut server) = (Self::new(Side::Client, client), Self::new(Side::Server, server));
        while client.tell(&mut server) | server.tell(&mut client) {}
        server.crypto.confirm();
        client.crypto.confirm();
        (client, server)
    }

    /// Whether anything of the handshake is left.
    #[must_use]
    pub fn has_handshake(&self) -> bool {
        self.crypto.can_seal(Level::Handshake) || self.crypto.peer_parameters().is_some()
    }

    fn new(side: Side, crypto: Crypto) -> Self {
        let (mut local, mut remote) = (LocalIds::new(Guuid::default()), RemoteIds::new(Guuid::default()));
        let mut rng = StdRng::seed_from_u64(1);
        local.set_limit(u64::MAX);
        while local.wanted() > 0 {
            let id = local.issue(0, &Router::single(), &mut rng);
            let Some(new) = local.poll(&[0; 32]) else { break };
            remote.on_new_id(new.sequence, 0, id, new.reset_token).expect("a new id");
        }
        let paths = Paths::new(side, ([192, 0, 2, 1], 1).into(), true, 1452);
        Self { crypto, _paths: paths, _local: local, _remote: remote }
    }

    fn tell(&mut self, other: &mut Self) -> bool {
        let mut told = false;
        for space in Space::ALL {
            while let Some((offset, bytes)) = self.crypto.poll(space, 1_000) {
                let len = bytes.len() as u32;
                other.crypto.read(space, offset, bytes).expect("an honest handshake");
                self.crypto.on_acked(space, offset, len);
                told = true;
            }
        }
        told
    }
}
