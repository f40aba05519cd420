//! The topics that this shard listens to, by alias, and who of its peers gets each message as it comes.

use std::{collections::HashMap, sync::Arc};

use ahash::RandomState;
use handler::{Peer, ShardId};
use slab::Slab;

use crate::{
    due::{Chore, Due},
    ephemeral::Newest,
    mail::Listener,
    member::{Members, State},
};

/// A topic that this shard listens to.
#[derive(Debug)]
pub(crate) struct Listening {
    pub(crate) name: Arc<str>,
    pub(crate) home: ShardId,
    pub(crate) generation: u32,
    /// Peers that get what comes.
    pub(crate) live: Vec<Peer>,
    /// Subscriptions of peers here.
    pub(crate) subs: u32,
    /// Subscriptions that the home has not answered; their peers may be gone.
    pub(crate) pending: u32,
    /// The newest offset that has arrived: what every live peer has.
    pub(crate) head: u64,
    /// Users that are there.
    pub(crate) count: u32,
    pub(crate) newest: Newest,
}

/// All topics that this shard listens to.
#[derive(Debug)]
pub(crate) struct Aliases {
    topics: Slab<Box<Listening>>,
    by_name: HashMap<Arc<str>, u32, RandomState>,
    generation: u32,
}

impl Aliases {
    pub(crate) fn new(hasher: RandomState) -> Self {
        Self { topics: Slab::new(), by_name: HashMap::with_hasher(hasher), generation: 0 }
    }

    pub(crate) fn find(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn get(&self, alias: u32) -> Option<&Listening> {
        self.topics.get(slot(alias)?).map(|listening| &**listening)
    }

    pub(crate) fn get_mut(&mut self, alias: u32) -> Option<&mut Listening> {
        self.topics.get_mut(slot(alias)?).map(|listening| &mut **listening)
    }

    /// The entry that a letter means, unless it is gone.
    pub(crate) fn heard(&mut self, listener: Listener) -> Option<&mut Listening> {
        self.get_mut(listener.alias).filter(|listening| listening.generation == listener.generation)
    }

    /// Makes an entry. Aliases start at 1: 0 means none in a frame.
    pub(crate) fn insert(&mut self, name: &str, home: ShardId) -> u32 {
        let name: Arc<str> = name.into();
        self.generation = self.generation.wrapping_add(1);
        let place = self.topics.insert(Box::new(Listening {
            name: name.clone(),
            home,
            generation: self.generation,
            live: Vec::new(),
            subs: 0,
            pending: 0,
            head: 0,
            count: 0,
            newest: Newest::default(),
        }));
        let alias = u32::try_from(place + 1).expect("limited to far fewer");
        self.by_name.insert(name, alias);
        alias
    }

    /// Removes the entry if nobody needs it.
    pub(crate) fn tidy(&mut self, due: &mut Due, alias: u32) {
        if self.get(alias).is_some_and(|listening| listening.subs == 0 && listening.pending == 0)
            && let Some(slot) = slot(alias)
        {
            let listening = self.topics.remove(slot);
            self.by_name.remove(&listening.name);
            if let Some(at) = listening.newest.due {
                due.cancel(at, Chore::Expire(alias));
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.topics.len()
    }

    pub(crate) fn pending(&self) -> usize {
        self.topics.iter().map(|(_, listening)| listening.pending as usize).sum()
    }
}

impl Listening {
    pub(crate) fn listener(&self, alias: u32) -> Listener {
        Listener { alias, generation: self.generation }
    }

    /// Adds a peer to those who get what comes; gives the state of its subscription.
    pub(crate) fn enter(&mut self, peer: Peer) -> State {
        let place = u32::try_from(self.live.len()).expect("peers are numbered with 32 bits");
        self.live.push(peer);
        State::Live { place }
    }

    /// Takes a peer out; the last one in the list moves to its place.
    pub(crate) fn leave(&mut self, members: &mut Members, alias: u32, place: u32) {
        self.live.swap_remove(place as usize);
        let Some(moved) = self.live.get(place as usize) else { return };
        let sub = members.get_mut(*moved).and_then(|member| member.sub_mut(alias));
        sub.expect("a live peer is subscribed").state = State::Live { place };
    }
}

fn slot(alias: u32) -> Option<usize> {
    alias.checked_sub(1).map(|slot| slot as usize)
}
