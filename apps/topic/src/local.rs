//! What the peers of this shard ask for: checked here, then mailed to the topic's home.

use std::sync::Arc;

use ahash::RandomState;
use handler::{Code, Cx, Peer, PeerInfo, Pressure, Push};

use crate::{
    desk::Desk,
    due::Chore,
    limit::{BODY_BYTES_MAX, EPHEMERAL_BYTES_MAX, KEY_BYTES_MAX, NAME_BYTES_MAX, TOPIC_BYTES_MAX},
    listening::{Aliases, Listening},
    mail::{Letter, Mail, Refusal, SubId},
    member::{Member, Members, State, Sub},
};

/// The peers of this shard and the topics that they listen to.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) members: Members,
    pub(crate) aliases: Aliases,
    tickets: u32,
}

const BAD_TOPIC: Refusal = Refusal::new(Code::InvalidArgument, "a topic's name has 1 to 200 bytes");
const BAD_BODY: Refusal = Refusal::new(Code::InvalidArgument, "the body is too long");
const BAD_KEY: Refusal = Refusal::new(Code::InvalidArgument, "a key has 1 to 64 bytes");
const BAD_USER: Refusal = Refusal::new(Code::InvalidArgument, "the name of the user or device is too long");
const TWICE: Refusal = Refusal::new(Code::AlreadyExists, "already subscribed");
const SUBS_FULL: Refusal = Refusal::new(Code::ResourceExhausted, "too many subscriptions");
const TOPICS_FULL: Refusal = Refusal::full("too many topics");
const NOT_SUBSCRIBED: Refusal = Refusal::new(Code::NotFound, "not subscribed");
const NOT_LISTENING: Refusal = Refusal::new(Code::FailedPrecondition, "subscribe before sending ephemeral values");
const OVERTAKEN: Refusal = Refusal::new(Code::FailedPrecondition, "unsubscribed before it was done");

impl Local {
    pub(crate) fn new(hasher: RandomState) -> Self {
        Self { members: Members::default(), aliases: Aliases::new(hasher), tickets: 0 }
    }

    pub(crate) fn on_open(&mut self, peer: Peer, info: &PeerInfo) {
        self.members.open(peer, info);
    }

    pub(crate) fn on_sub(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        desk: &mut Desk,
        (peer, id): (Peer, u32),
        topic: &str,
        (epoch, after): (Option<u64>, Option<u64>),
    ) {
        let alias = match self.check_sub(desk, peer, topic) {
            Ok(Some(alias)) => alias,
            Ok(None) => self.aliases.insert(topic, cx.home(topic)),
            Err(refusal) => return desk.refuse(cx, peer, Some(id), refusal),
        };
        let (Some(listening), Some(member)) = (self.aliases.get_mut(alias), self.members.get_mut(peer)) else { return };
        self.tickets = self.tickets.wrapping_add(1);
        let ticket = self.tickets;
        // Most peers have one subscription: four at once would be a waste.
        member.subs.reserve_exact(1);
        member.subs.push(Sub { alias, ticket, told: None, state: State::Waiting { id } });
        (listening.subs, listening.pending) = (listening.subs + 1, listening.pending + 1);
        let parcel = desk.pack(cx, &[topic, &member.user], &[]).of_guest(member.guest);
        let (listener, sub) = (listening.listener(alias), SubId { peer, ticket });
        cx.mail(listening.home, Mail(Letter::Subscribe { listener, sub, epoch, after, parcel }));
    }

    pub(crate) fn on_unsub(&mut self, cx: &mut Cx<'_, Mail>, desk: &mut Desk, (peer, id): (Peer, u32), topic: &str) {
        let alias = self.aliases.find(topic);
        let member = self.members.get_mut(peer);
        let Some((alias, user, sub)) = alias.zip(member).and_then(|(alias, member)| {
            let user = member.user.clone();
            member.remove(alias).map(|sub| (alias, user, sub))
        }) else {
            return desk.refuse(cx, peer, Some(id), NOT_SUBSCRIBED);
        };
        let Some(listening) = self.aliases.get(alias) else { return };
        let topic = listening.name.clone();
        if let State::Waiting { id } = sub.state {
            desk.refuse(cx, peer, Some(id), OVERTAKEN);
        }
        self.end(cx, desk, &user, &sub);
        cx.send(peer, Push::UnsubOk { id, topic });
    }

    pub(crate) fn on_pub(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        desk: &mut Desk,
        (peer, id): (Peer, u32),
        topic: &str,
        (seq, body, hint): (Option<u64>, &[u8], u8),
    ) {
        let refusal = match self.members.get(peer) {
            None => return,
            Some(member) if !fits(member) => BAD_USER,
            Some(_) if !is_name(topic) => BAD_TOPIC,
            Some(_) if body.len() > BODY_BYTES_MAX => BAD_BODY,
            Some(member) => {
                let mut parcel = desk.pack(cx, &[topic, &member.user, &member.device], body).of_guest(member.guest);
                parcel.hint = hint;
                return cx.mail(cx.home(topic), Mail(Letter::Publish { peer, id, seq, parcel }));
            }
        };
        desk.refuse(cx, peer, Some(id), refusal);
    }

    pub(crate) fn on_eph(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        desk: &mut Desk,
        peer: Peer,
        topic: &str,
        (key, body): (&str, &[u8]),
    ) {
        let refusal = match self.subscribed(peer, topic) {
            None => NOT_LISTENING,
            Some(_) if key.is_empty() || key.len() > KEY_BYTES_MAX => BAD_KEY,
            Some(_) if body.len() > EPHEMERAL_BYTES_MAX => BAD_BODY,
            Some((member, listening)) => {
                let parcel = desk.pack(cx, &[topic, &member.user, key], body).of_guest(member.guest);
                return cx.mail(listening.home, Mail(Letter::Wave { peer, parcel }));
            }
        };
        desk.refuse(cx, peer, None, refusal);
    }

    /// Watermarks of a peer that is not subscribed are ignored: there is no request to answer.
    pub(crate) fn on_ack(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        desk: &mut Desk,
        peer: Peer,
        topic: &str,
        (delivered, read): (u64, u64),
    ) {
        if let Some((member, listening)) = self.subscribed(peer, topic) {
            let parcel = desk.pack(cx, &[topic, &member.user], &[]).of_guest(member.guest);
            cx.mail(listening.home, Mail(Letter::Ack { delivered, read, parcel }));
        }
    }

    pub(crate) fn on_browse(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        desk: &mut Desk,
        (peer, id): (Peer, u32),
        topic: &str,
        (before, limit): (Option<u64>, u32),
    ) {
        let refusal = match self.members.get(peer) {
            None => return,
            Some(member) if !fits(member) => BAD_USER,
            Some(_) if !is_name(topic) => BAD_TOPIC,
            Some(member) => {
                let parcel = desk.pack(cx, &[topic, &member.user], &[]).of_guest(member.guest);
                return cx.mail(cx.home(topic), Mail(Letter::Browse { peer, id, before, limit, parcel }));
            }
        };
        desk.refuse(cx, peer, Some(id), refusal);
    }

    pub(crate) fn on_pressure(&mut self, cx: &mut Cx<'_, Mail>, desk: &mut Desk, peer: Peer, pressure: Pressure) {
        match pressure {
            Pressure::Lagging { alias, offset } => self.fall_behind(desk, peer, alias, offset),
            Pressure::Drained => self.catch_up(cx, desk, peer),
        }
    }

    pub(crate) fn on_close(&mut self, cx: &mut Cx<'_, Mail>, desk: &mut Desk, peer: Peer) {
        let Some(member) = self.members.close(peer) else { return };
        for sub in &member.subs {
            self.end(cx, desk, &member.user, sub);
        }
    }

    /// The time to forget old ephemeral values.
    pub(crate) fn expire(&mut self, cx: &mut Cx<'_, Mail>, desk: &mut Desk, alias: u32) {
        let Some(listening) = self.aliases.get_mut(alias) else { return };
        listening.newest.due = listening.newest.expire(cx.now);
        if let Some(at) = listening.newest.due {
            desk.due.plan(cx, at, Chore::Expire(alias));
        }
    }

    /// The name of a topic that a peer subscribes to, by its alias.
    pub(crate) fn topic_of(&self, peer: Peer, alias: u32) -> Option<Arc<str>> {
        self.members.get(peer)?.sub(alias)?;
        self.aliases.get(alias).map(|listening| listening.name.clone())
    }

    /// Ends all subscriptions of a user to a topic that stand, without having been asked; whose.
    pub(crate) fn expel(&mut self, cx: &mut Cx<'_, Mail>, desk: &mut Desk, user: &str, topic: &str) -> Vec<Peer> {
        let Some(alias) = self.aliases.find(topic) else { return Vec::new() };
        let peers = self.members.listening(user, alias);
        for peer in &peers {
            if let Some(sub) = self.members.get_mut(*peer).and_then(|member| member.remove(alias)) {
                self.end(cx, desk, user, &sub);
            }
        }
        peers
    }

    /// The alias of this topic if there is one, or why the peer may not subscribe to it.
    fn check_sub(&self, desk: &Desk, peer: Peer, topic: &str) -> Result<Option<u32>, Refusal> {
        let alias = self.aliases.find(topic);
        let member = self.members.get(peer).ok_or(NOT_SUBSCRIBED)?;
        if !fits(member) {
            Err(BAD_USER)
        } else if !is_name(topic) {
            Err(BAD_TOPIC)
        } else if alias.is_some_and(|alias| member.sub(alias).is_some()) {
            Err(TWICE)
        } else if member.subs.len() >= desk.limits.subs_max {
            Err(SUBS_FULL)
        } else if alias.is_none() && self.aliases.len() >= desk.limits.listening_max {
            Err(TOPICS_FULL)
        } else {
            Ok(alias)
        }
    }

    fn subscribed(&self, peer: Peer, topic: &str) -> Option<(&Member, &Listening)> {
        let alias = self.aliases.find(topic)?;
        let member = self.members.get(peer)?;
        member.sub(alias)?;
        Some((member, self.aliases.get(alias)?))
    }

    /// Ends a subscription that was taken out of its member. One that waits is ended when the home has answered it.
    fn end(&mut self, cx: &mut Cx<'_, Mail>, desk: &mut Desk, user: &str, sub: &Sub) {
        let Some(listening) = self.aliases.get_mut(sub.alias) else { return };
        listening.subs -= 1;
        match sub.state {
            State::Waiting { .. } => return,
            State::Live { place } => listening.leave(&mut self.members, sub.alias, place),
            State::Pulling { .. } => {}
        }
        let parcel = desk.pack(cx, &[&listening.name, user], &[]);
        cx.mail(listening.home, Mail(Letter::Unsubscribe { parcel }));
        self.aliases.tidy(&mut desk.due, sub.alias);
    }

    /// A push of this topic was not queued: it and all later ones are pulled once the queue has drained.
    fn fall_behind(&mut self, desk: &mut Desk, peer: Peer, alias: u32, offset: Option<u64>) {
        let Some(member) = self.members.get_mut(peer) else { return };
        member.lagging = true;
        let (Some(sub), Some(listening)) = (member.sub_mut(alias), self.aliases.get_mut(alias)) else { return };
        let missed = offset.unwrap_or(u64::MAX);
        match sub.state {
            State::Waiting { .. } => {}
            State::Pulling { next, asked, .. } => {
                sub.state = State::Pulling { next: next.min(missed), asked, lagged: true };
            }
            State::Live { place } => {
                desk.stats.lagged += 1;
                let next = missed.min(listening.head + 1);
                sub.state = State::Pulling { next, asked: false, lagged: true };
                sub.told = None;
                listening.leave(&mut self.members, alias, place);
            }
        }
    }

    fn catch_up(&mut self, cx: &mut Cx<'_, Mail>, desk: &mut Desk, peer: Peer) {
        let Some(member) = self.members.get_mut(peer) else { return };
        member.lagging = false;
        for sub in &mut member.subs {
            if let Some(listening) = self.aliases.get(sub.alias) {
                sub.pull(cx, desk, peer, listening);
            }
        }
    }
}

impl Sub {
    /// Asks for what is missing, unless that is done.
    pub(crate) fn pull(&mut self, cx: &mut Cx<'_, Mail>, desk: &mut Desk, peer: Peer, listening: &Listening) {
        if let State::Pulling { next, asked, .. } = &mut self.state
            && !std::mem::replace(asked, true)
        {
            let parcel = desk.pack(cx, &[&listening.name], &[]);
            let (listener, sub) = (listening.listener(self.alias), SubId { peer, ticket: self.ticket });
            cx.mail(listening.home, Mail(Letter::Pull { listener, sub, next: *next, parcel }));
        }
    }
}

/// Whether it can be carried; what is in it is the app's business.
fn is_name(topic: &str) -> bool {
    (1..=TOPIC_BYTES_MAX).contains(&topic.len())
}

fn fits(member: &Member) -> bool {
    member.user.len() <= NAME_BYTES_MAX && member.device.len() <= NAME_BYTES_MAX
}
