//! The app: what it checks before topics do the work.

use std::sync::Arc;

use handler::{App, Close, Code, Cx, Message, Outcome, Peer, PeerInfo, Pressure, Push, ShardId, Ticket, Timer};
use topic::{
    Limits, Mail, Topics,
    journal::{RecoverError, Recovered, Segments},
    snapshot::{Restored, Share, Snapshot},
};

use crate::{body, history, room};

/// Chat on one shard.
#[derive(Debug)]
pub struct Chat {
    topics: Topics,
    text_chars_max: usize,
}

const BAD_ROOM: &str = "a room is chat/ and 1 to 64 of a-z 0-9 . _ ~ -";

impl Chat {
    /// No rooms yet. The seed keeps hashes secret from whoever chooses names.
    #[must_use]
    pub fn new(limits: Limits, text_chars_max: usize, seed: u64) -> Self {
        Self { topics: Topics::new(limits, seed), text_chars_max }
    }

    /// The rooms, for their numbers.
    #[must_use]
    pub fn topics(&self) -> &Topics {
        &self.topics
    }

    /// All rooms that are at home here, for the next run. From here on nothing is published but what is repeated.
    #[must_use]
    pub fn hand_over(&mut self) -> Share {
        self.topics.hand_over()
    }

    /// Brings back what a shard's journal has, and journals from now on; see [`Topics::recover`].
    ///
    /// # Errors
    /// The journal cannot be read, or is damaged.
    pub fn recover(
        &mut self,
        at: (ShardId, u64),
        in_memory: Vec<String>,
        source: &mut dyn Segments,
    ) -> Result<Recovered, RecoverError> {
        self.topics.recover(at, in_memory, source)
    }

    /// The shard runs.
    pub fn on_start(&mut self, cx: &mut Cx<'_, Mail>) {
        self.topics.on_start(cx);
    }

    /// Takes up the rooms of an earlier run, of those that `keep` wants: it knows which are at home here. Those that are
    /// in the journal stay as they are.
    pub fn take_up(&mut self, snapshot: &Snapshot, keep: impl Fn(&str) -> bool) -> Restored {
        self.topics.take_up(snapshot, keep)
    }

    /// The room that a peer means with an alias: only one that it subscribes to.
    #[must_use]
    pub fn topic_of(&self, peer: Peer, alias: u32) -> Option<Arc<str>> {
        self.topics.topic_of(peer, alias)
    }

    fn on_req(&mut self, cx: &mut Cx<'_, Mail>, (peer, id): (Peer, u32), op: &str, body: &[u8]) {
        if op != history::OP {
            return refuse(cx, peer, Some(id), Code::Unimplemented, "no such operation");
        }
        match history::Ask::read(body) {
            Ok(ask) if room::is_room(&ask.topic) => {
                self.topics.browse(cx, (peer, id), &ask.topic, ask.before, ask.limit);
            }
            Ok(_) => refuse(cx, peer, Some(id), Code::InvalidArgument, BAD_ROOM),
            Err(why) => refuse(cx, peer, Some(id), Code::InvalidArgument, &why),
        }
    }
}

impl App for Chat {
    type Mail = Mail;

    fn on_open(&mut self, _: &mut Cx<'_, Mail>, peer: Peer, info: &PeerInfo) {
        self.topics.on_open(peer, info);
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Mail>, peer: Peer, message: Message<'_>) {
        match check(&message, self.text_chars_max) {
            Err((id, why)) => refuse(cx, peer, id, Code::InvalidArgument, why),
            Ok(()) => match message {
                Message::Req { id, op, body } => self.on_req(cx, (peer, id), op, body),
                Message::Sub { .. }
                | Message::Unsub { .. }
                | Message::Pub { .. }
                | Message::Eph { .. }
                | Message::Ack { .. } => self.topics.on_message(cx, peer, message),
            },
        }
    }

    fn on_pressure(&mut self, cx: &mut Cx<'_, Mail>, peer: Peer, pressure: Pressure) {
        self.topics.on_pressure(cx, peer, pressure);
    }

    fn on_close(&mut self, cx: &mut Cx<'_, Mail>, peer: Peer, _: Close) {
        self.topics.on_close(cx, peer);
    }

    fn on_mail(&mut self, cx: &mut Cx<'_, Mail>, from: ShardId, mail: Mail) {
        let Some(page) = self.topics.on_mail(cx, from, mail) else { return };
        match history::answer(cx, &page) {
            Some(body) => cx.send(page.peer, Push::Res { id: page.id, body }),
            None => refuse(cx, page.peer, Some(page.id), Code::Internal, "the history cannot be read"),
        }
    }

    fn on_disk(&mut self, cx: &mut Cx<'_, Mail>, ticket: Ticket, outcome: Outcome) {
        self.topics.on_disk(cx, ticket, outcome);
    }

    fn on_turn_end(&mut self, cx: &mut Cx<'_, Mail>) {
        self.topics.on_turn_end(cx);
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Mail>, timer: Timer) {
        self.topics.on_timer(cx, timer);
    }
}

/// What is wrong with a message, and which request it is.
fn check(message: &Message<'_>, text_chars_max: usize) -> Result<(), (Option<u32>, &'static str)> {
    let (id, topic) = match message {
        Message::Sub { id, topic, .. } | Message::Unsub { id, topic } | Message::Pub { id, topic, .. } => {
            (Some(*id), *topic)
        }
        Message::Eph { topic, .. } | Message::Ack { topic, .. } => (None, *topic),
        Message::Req { .. } => return Ok(()),
    };
    if !room::is_room(topic) {
        return Err((id, BAD_ROOM));
    }
    match message {
        Message::Pub { body, .. } => body::check(body, text_chars_max).map_err(|why| (id, why)),
        Message::Eph { body, .. } => body::check_ephemeral(body).map_err(|why| (id, why)),
        Message::Sub { .. } | Message::Unsub { .. } | Message::Ack { .. } | Message::Req { .. } => Ok(()),
    }
}

fn refuse(cx: &mut Cx<'_, Mail>, peer: Peer, id: Option<u32>, code: Code, why: &str) {
    cx.send(peer, Push::Err { id, code, message: why.to_owned(), retry_ms: None });
}
