//! The peers of this shard and what each of them subscribes to.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use handler::{Peer, PeerInfo};

/// A peer and its subscriptions. Thousands of them are idle, so it is small.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) generation: u32,
    /// The peer's queue is over its soft limit: nothing is pulled for it.
    pub(crate) lagging: bool,
    pub(crate) user: Arc<str>,
    pub(crate) device: Arc<str>,
    pub(crate) guest: bool,
    pub(crate) subs: Vec<Sub>,
}

/// A subscription.
#[derive(Debug)]
pub(crate) struct Sub {
    pub(crate) alias: u32,
    pub(crate) ticket: u32,
    /// The number of users that the peer was told; `None`: whatever was pushed while it was live.
    pub(crate) told: Option<u32>,
    pub(crate) state: State,
}

/// How a subscription gets its messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum State {
    /// Not yet: the home has not answered the request with this correlation id.
    Waiting {
        /// The request.
        id: u32,
    },
    /// As they come: the peer has everything that has arrived here. Its place in the topic's list.
    Live {
        /// The place.
        place: u32,
    },
    /// Out of the history, from `next` on.
    Pulling {
        /// The first offset that the peer has not got.
        next: u64,
        /// A pull is on its way.
        asked: bool,
        /// It was live before: it has missed ephemeral values.
        lagged: bool,
    },
}

/// All peers, by slot.
#[derive(Default, Debug)]
pub(crate) struct Members {
    slots: Vec<Option<Box<Member>>>,
    len: usize,
    /// The slots of those who have an account, by user. A guest is nobody in particular.
    by_user: BTreeMap<Arc<str>, BTreeSet<u32>>,
}

impl Members {
    pub(crate) fn open(&mut self, peer: Peer, info: &PeerInfo) {
        let index = peer.index as usize;
        if index >= self.slots.len() {
            self.slots.resize_with(index + 1, || None);
        }
        assert!(self.slots[index].is_none(), "a slot is closed before it is used again");
        let (user, device, guest) = (info.user.clone(), info.device.clone(), info.guest);
        let (generation, subs) = (peer.generation, Vec::new());
        if !guest {
            self.by_user.entry(user.clone()).or_default().insert(peer.index);
        }
        self.slots[index] = Some(Box::new(Member { generation, lagging: false, user, device, guest, subs }));
        self.len += 1;
    }

    pub(crate) fn close(&mut self, peer: Peer) -> Option<Box<Member>> {
        self.get(peer)?;
        self.len -= 1;
        let member = self.slots[peer.index as usize].take()?;
        if let Some(slots) = self.by_user.get_mut(&member.user)
            && slots.remove(&peer.index)
            && slots.is_empty()
        {
            self.by_user.remove(&member.user);
        }
        Some(member)
    }

    pub(crate) fn get(&self, peer: Peer) -> Option<&Member> {
        self.slots.get(peer.index as usize)?.as_deref().filter(|member| member.generation == peer.generation)
    }

    pub(crate) fn get_mut(&mut self, peer: Peer) -> Option<&mut Member> {
        self.slots.get_mut(peer.index as usize)?.as_deref_mut().filter(|member| member.generation == peer.generation)
    }

    /// The subscription with this number.
    pub(crate) fn sub_mut(&mut self, peer: Peer, ticket: u32) -> Option<&mut Sub> {
        self.get_mut(peer)?.subs.iter_mut().find(|sub| sub.ticket == ticket)
    }

    /// The peers of an account whose subscription to this topic stands.
    pub(crate) fn listening(&self, user: &str, alias: u32) -> Vec<Peer> {
        let stands = |member: &Member| member.sub(alias).is_some_and(|sub| !matches!(sub.state, State::Waiting { .. }));
        let theirs = self.by_user.get(user).into_iter().flatten();
        let members = theirs.filter_map(|index| Some((*index, self.slots.get(*index as usize)?.as_deref()?)));
        let standing = members.filter(|(_, member)| stands(member));
        standing.map(|(index, member)| Peer { index, generation: member.generation }).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn subs(&self) -> usize {
        self.slots.iter().flatten().map(|member| member.subs.len()).sum()
    }
}

impl Member {
    /// The subscription of this topic.
    pub(crate) fn sub(&self, alias: u32) -> Option<&Sub> {
        self.subs.iter().find(|sub| sub.alias == alias)
    }

    pub(crate) fn sub_mut(&mut self, alias: u32) -> Option<&mut Sub> {
        self.subs.iter_mut().find(|sub| sub.alias == alias)
    }

    pub(crate) fn remove(&mut self, alias: u32) -> Option<Sub> {
        let place = self.subs.iter().position(|sub| sub.alias == alias)?;
        Some(self.subs.swap_remove(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peers_of_a_user_are_found_among_many_without_looking_at_the_others() {
        let mut members = Members::default();
        let open = |members: &mut Members, index: u32, user: &str, guest: bool| {
            let (peer, device) = (Peer { index, generation: 1 }, Arc::from("laptop"));
            members.open(peer, &PeerInfo { user: user.into(), device, guest });
            let sub = Sub { alias: 7, ticket: index, told: None, state: State::Live { place: 0 } };
            members.get_mut(peer).expect("open").subs.push(sub);
            peer
        };
        for index in 0..1_000 {
            open(&mut members, index, &format!("user{index}"), false);
        }
        let [phone, laptop] = [1_000, 1_001].map(|index| open(&mut members, index, "ada", false));
        open(&mut members, 1_002, "ada", true);
        assert_eq!(members.listening("ada", 7), [phone, laptop], "a guest of that name is somebody else");
        assert_eq!((members.listening("ada", 8), members.by_user.len()), (vec![], 1_001));
        assert_eq!(members.by_user["ada"].len(), 2, "what is looked at");
        members.close(phone);
        assert_eq!(members.listening("ada", 7), [laptop]);
        members.close(laptop);
        assert_eq!((members.listening("ada", 7), members.by_user.contains_key("ada")), (vec![], false));
        assert!(members.close(phone).is_none(), "twice");
    }
}
