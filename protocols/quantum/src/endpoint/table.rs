//! Connections by handle, by id and by reset token.

use std::collections::HashMap;

use ahash::RandomState;

use crate::{
    connection::{Connection, IdChange},
    event::Handle,
    guuid::Guuid,
};

/// All connections of an endpoint. Ids are hashed with keys that peers do not know, and the maps are never iterated.
#[derive(Debug)]
pub(super) struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    len: usize,
    ids: HashMap<Guuid, Handle, RandomState>,
    /// The id that was found last: most datagrams of a train have it.
    found: Option<(Guuid, Handle)>,
    tokens: HashMap<[u8; 16], Handle, RandomState>,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    connection: Option<Box<Connection>>,
}

impl Table {
    pub(super) fn new(keys: [u64; 4]) -> Self {
        let state = RandomState::with_seeds(keys[0], keys[1], keys[2], keys[3]);
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            len: 0,
            ids: HashMap::with_hasher(state.clone()),
            found: None,
            tokens: HashMap::with_hasher(state),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn by_id(&mut self, id: Guuid) -> Option<Handle> {
        if let Some((found, handle)) = self.found
            && found == id
        {
            return Some(handle);
        }
        let handle = self.ids.get(&id).copied()?;
        self.found = Some((id, handle));
        Some(handle)
    }

    pub(super) fn by_token(&self, token: &[u8; 16]) -> Option<Handle> {
        self.tokens.get(token).copied()
    }

    pub(super) fn get(&self, handle: Handle) -> Option<&Connection> {
        let slot = self.slots.get(handle.index as usize).filter(|slot| slot.generation == handle.generation)?;
        slot.connection.as_deref()
    }

    pub(super) fn get_mut(&mut self, handle: Handle) -> Option<&mut Connection> {
        let slot = self.slots.get_mut(handle.index as usize).filter(|slot| slot.generation == handle.generation)?;
        slot.connection.as_deref_mut()
    }

    pub(super) fn insert(&mut self, connection: Box<Connection>) -> Handle {
        self.len += 1;
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, connection: None });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        slot.connection = Some(connection);
        let handle = Handle { index, generation: slot.generation };
        self.follow(handle);
        handle
    }

    pub(super) fn remove(&mut self, handle: Handle) {
        self.follow(handle);
        let Some(slot) = self.slots.get_mut(handle.index as usize) else { return };
        if slot.generation == handle.generation && slot.connection.take().is_some() {
            slot.generation = slot.generation.wrapping_add(1);
            self.free.push(handle.index);
            self.len -= 1;
        }
    }

    /// Takes over the ids and tokens that a connection began or ceased to use.
    pub(super) fn follow(&mut self, handle: Handle) {
        while let Some(change) = self.get_mut(handle).and_then(Connection::poll_id_change) {
            self.found = None;
            match change {
                IdChange::Listen(id) => drop(self.ids.insert(id, handle)),
                IdChange::Forget(id) => forget(&mut self.ids, &id, handle),
                IdChange::Token(token) => drop(self.tokens.insert(token, handle)),
                IdChange::ForgetToken(token) => forget(&mut self.tokens, &token, handle),
            }
        }
    }

    /// All handles, in the order of their slots.
    pub(super) fn handles(&self) -> Vec<Handle> {
        let slots = self.slots.iter().enumerate().filter(|(_, slot)| slot.connection.is_some());
        slots.map(|(index, slot)| Handle { index: index as u32, generation: slot.generation }).collect()
    }
}

/// Takes an entry off a map, unless another connection has it by now: peers choose tokens and the first id.
fn forget<K: Eq + std::hash::Hash>(map: &mut HashMap<K, Handle, RandomState>, key: &K, handle: Handle) {
    if map.get(key) == Some(&handle) {
        map.remove(key);
    }
}
