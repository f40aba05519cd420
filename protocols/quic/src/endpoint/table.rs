//! Connections by handle, by id and by reset token.

use std::collections::HashMap;

use ahash::RandomState;

use crate::{connection::Connection, event::Handle, id::Id, packet::RESET_TOKEN_LEN};

/// All connections of an endpoint. Ids are hashed with keys that peers do not know, and the maps are never iterated.
#[derive(Debug)]
pub(super) struct Table {
    slots: Vec<Slot>,
    free: Vec<u32>,
    len: usize,
    ids: HashMap<Id, Handle, RandomState>,
    tokens: HashMap<[u8; RESET_TOKEN_LEN], Handle, RandomState>,
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
            tokens: HashMap::with_hasher(state),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many ids lead somewhere.
    pub(super) fn ids(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn by_id(&self, id: &Id) -> Option<Handle> {
        self.ids.get(id).copied()
    }

    pub(super) fn by_token(&self, token: &[u8; RESET_TOKEN_LEN]) -> Option<Handle> {
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
        Handle { index, generation: slot.generation }
    }

    pub(super) fn listen(&mut self, id: Id, handle: Handle) {
        self.ids.insert(id, handle);
    }

    /// Takes an id off, unless another connection has it by now: clients choose their first id.
    pub(super) fn forget(&mut self, id: &Id, handle: Handle) {
        if self.ids.get(id) == Some(&handle) {
            self.ids.remove(id);
        }
    }

    pub(super) fn expect_reset(&mut self, token: [u8; RESET_TOKEN_LEN], handle: Handle) {
        self.tokens.insert(token, handle);
    }

    pub(super) fn remove(&mut self, handle: Handle) {
        let Some(slot) = self.slots.get_mut(handle.index as usize) else { return };
        if slot.generation != handle.generation {
            return;
        }
        let Some(mut connection) = slot.connection.take() else { return };
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(handle.index);
        self.len -= 1;
        for id in connection.ids().chain(connection.first) {
            self.forget(&id, handle);
        }
        while let Some(id) = connection.quiche().retired_scid_next() {
            if let Some(id) = Id::from_slice(&id) {
                self.forget(&id, handle);
            }
        }
        if let Some(token) = connection.token.filter(|token| self.tokens.get(token) == Some(&handle)) {
            self.tokens.remove(&token);
        }
    }
}
