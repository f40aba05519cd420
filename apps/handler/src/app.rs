//! What an app is told: the trait `App` and who its peers are.

use std::sync::Arc;

use crate::{
    Message, ShardId,
    cx::Cx,
    disk::{Outcome, Ticket},
};

/// An app on one shard. All methods get the time and their wishes' queue in `cx`; none may block.
pub trait App {
    /// What this app sends itself on other shards.
    type Mail: Send + 'static;

    /// A session opened.
    fn on_open(&mut self, cx: &mut Cx<'_, Self::Mail>, peer: Peer, info: &PeerInfo);
    /// A session asks for something.
    fn on_message(&mut self, cx: &mut Cx<'_, Self::Mail>, peer: Peer, message: Message<'_>);
    /// A session's outbound queue crossed its soft limit, or is empty again.
    fn on_pressure(&mut self, cx: &mut Cx<'_, Self::Mail>, peer: Peer, pressure: Pressure);
    /// A session is gone. Its handle is dead after this.
    fn on_close(&mut self, cx: &mut Cx<'_, Self::Mail>, peer: Peer, reason: Close);
    /// The app on another shard sent mail. Mail of one shard arrives in order.
    fn on_mail(&mut self, cx: &mut Cx<'_, Self::Mail>, from: ShardId, mail: Self::Mail);
    /// A disk operation ended.
    fn on_disk(&mut self, cx: &mut Cx<'_, Self::Mail>, ticket: Ticket, outcome: Outcome);
    /// The shard has done what was to be done for now: the time to do at once what was gathered.
    fn on_turn_end(&mut self, cx: &mut Cx<'_, Self::Mail>);
    /// A timer that [`Cx::wake_at`] set is due.
    fn on_timer(&mut self, cx: &mut Cx<'_, Self::Mail>, timer: Timer);
}

/// A connected client as an app sees it: a slot of this shard and the generation of its use.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Peer {
    /// The slot, dense and small: good as an index into a table.
    pub index: u32,
    /// Counts the uses of the slot, so that mail for a gone peer never reaches its successor.
    pub generation: u32,
}

/// Who a peer is; all of it was authenticated.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// The user's name: what `from` will say.
    pub user: Arc<str>,
    /// The user's device: the scope of its publish counters.
    pub device: Arc<str>,
    /// Whether nothing proves the name: the next guest may have it too.
    pub guest: bool,
}

/// What a peer's outbound queue does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pressure {
    /// It is over the soft limit, so that a [`Push::Msg`](crate::Push::Msg) or [`Push::Eph`](crate::Push::Eph) was not queued, and no later one of any topic
    /// will be until `Drained`. Told once for every push that was not queued, also for those that were on their way when
    /// the limit was crossed: only so does the app know where each topic stands. It stops pushing a topic with the first.
    Lagging {
        /// The alias of the topic.
        alias: u32,
        /// The offset that this peer did not get; `None` for an ephemeral message.
        offset: Option<u64>,
    },
    /// It is empty again: the app may pull what is missing.
    Drained,
}

/// Why a session is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Close {
    /// The client left.
    PeerLeft,
    /// The client was silent for too long.
    PeerSilent,
    /// The client broke a rule.
    PeerMisbehaved,
    /// A limit of ours.
    OutOfLimit,
    /// The server is stopping.
    Draining,
    /// What proved who the client is does so no longer.
    Unauthenticated,
}

/// A timer of an app, named by the app.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Timer(pub u64);
