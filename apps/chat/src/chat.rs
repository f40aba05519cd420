//! The app: what it checks before topics do the work.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use handler::{App, Close, Code, Cx, Message, Outcome, Peer, PeerInfo, Pressure, Push, ShardId, Ticket, Timer};
use topic::{
    Limits, Mail, NO_PEER, News, Page, Topics,
    journal::{RecoverError, Recovered, Segments},
    snapshot::{Restored, Share, Snapshot},
};

use crate::{
    Refusal, Who,
    audit::AUDIT_TOPIC,
    body, conversation, directory, history,
    home::{self, AMENDS, Home, READ, RETRY},
    post::{Post, Query},
    presence::{self, Ask, Presence},
    push::{self, PUSH_OP, Pushes},
    rate::{self, Ledger, RATE_USERS_MAX, RateTable},
    request::{Request, Search},
    shared::{Settings, Shared},
};

/// Chat on one shard.
#[derive(Debug)]
pub struct Chat {
    topics: Topics,
    home: Home,
    settings: Settings,
    shared: Arc<Shared>,
    seed: u64,
    /// Made with the first publication, which brings the time.
    rates: Option<Ledger>,
    pushes: Pushes,
    presence: Presence,
}

/// What the topics begin with that only accounts can make: rooms that guests think up must not be in their way.
const FOR_ACCOUNTS: &[&str] = &["chat/d/", "chat/g/", "chat/u/"];

const BAD_TOPIC: &str =
    "a topic of chat is chat/ and 1 to 64 of a-z 0-9 . _ ~ -, or that of a group, of two users or of one";

impl Chat {
    /// No rooms yet. The seed keeps hashes secret from whoever chooses names.
    #[must_use]
    pub fn new(limits: Limits, settings: Settings, shared: Arc<Shared>, seed: u64) -> Self {
        let (mut topics, home) = (Topics::new(limits, seed), Home::new(settings.day_offset_min));
        topics.reserve(FOR_ACCOUNTS);
        topics.speak_of_messages(home::KINDS);
        Self {
            topics,
            home,
            settings,
            shared,
            seed,
            rates: None,
            pushes: Pushes::default(),
            presence: Presence::default(),
        }
    }

    /// The rooms, for their numbers.
    #[must_use]
    pub fn topics(&self) -> &Topics {
        &self.topics
    }

    /// The run ends: what is written now and then is written now.
    pub fn finish(&mut self, cx: &mut Cx<'_, Mail>) {
        self.topics.finish(cx);
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
        self.home.start(cx, &self.topics);
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

    /// Writes into the record for moderators what happened to a user's account, if that is at home here: each shard is
    /// told, and one of them does it.
    pub fn record(&mut self, cx: &mut Cx<'_, Mail>, what: &str, user: &str) {
        self.home.record(cx, &mut self.topics, what, user);
    }

    fn on_req(&mut self, cx: &mut Cx<'_, Mail>, (peer, id): (Peer, u32), op: &str, body: &[u8]) {
        if op == history::OP {
            return self.on_history(cx, (peer, id), body);
        }
        if op == PUSH_OP {
            let chars_max = self.settings.text_chars_max;
            return match self.pushes.start(cx, &self.topics, (peer, id), (body, chars_max)) {
                Ok(None) => {}
                Ok(Some(body)) => answer(cx, (peer, id), Ok(body)),
                Err(refusal) => answer(cx, (peer, id), Err(refusal)),
            };
        }
        let Some((user, guest)) = self.topics.who(peer) else { return };
        let who = Who { user: &user, guest };
        match Request::read(cx, &who, op, body) {
            None => refuse(cx, peer, Some(id), Code::Unimplemented, "no such operation"),
            Some(Err(refusal)) => answer(cx, (peer, id), Err(refusal)),
            Some(Ok(Request::Search(_))) if guest => {
                refuse(cx, peer, Some(id), Code::PermissionDenied, "only an account may search for people");
            }
            Some(Ok(Request::Search(Search { prefix, limit }))) => {
                let users = self.shared.people.find(&prefix, limit);
                answer(cx, (peer, id), Ok(crate::facts::json(&Found { users: &users })));
            }
            Some(Ok(Request::Presence(Ask::Set { away }))) => {
                self.presence.set(cx, peer, &user, away);
                answer(cx, (peer, id), Ok(Bytes::from_static(b"{}")));
            }
            Some(Ok(Request::Presence(ask))) => self.presence.ask(cx, &self.topics, (peer, id), (&user, ask)),
            Some(Ok(Request::Home { query, .. })) if query.changes() && !self.take_rate(cx, (peer, id)) => {}
            Some(Ok(Request::Home { to, query })) => {
                home::mail(cx, &self.topics, to, Post::Ask { peer, id, user, guest, query });
            }
        }
    }

    fn on_history(&mut self, cx: &mut Cx<'_, Mail>, (peer, id): (Peer, u32), body: &[u8]) {
        match history::Ask::read(body) {
            Ok(ask) if ask.topic == AUDIT_TOPIC => {
                refuse(cx, peer, Some(id), Code::PermissionDenied, "that topic is read by subscribing to it");
            }
            Ok(ask) if conversation::is_topic(&ask.topic) => {
                self.topics.browse(cx, (peer, id), &ask.topic, ask.before, ask.limit);
            }
            Ok(_) => refuse(cx, peer, Some(id), Code::InvalidArgument, BAD_TOPIC),
            Err(why) => refuse(cx, peer, Some(id), Code::InvalidArgument, &why),
        }
    }

    /// Counts something that a user does for others to see or for the server to keep; if that is too much it is refused.
    fn take_rate(&mut self, cx: &mut Cx<'_, Mail>, (peer, id): (Peer, u32)) -> bool {
        if self.settings.rates.0.iter().all(|rate| rate.count == 0) {
            return true;
        }
        let Some((user, _)) = self.topics.who(peer) else { return false };
        let Err(retry_ms) = self.ledger(cx.now).take(cx, &user) else { return true };
        let (code, message) = (Code::ResourceExhausted, "you do too much at once".to_owned());
        cx.send(peer, Push::Err { id: Some(id), code, message, retry_ms: Some(retry_ms) });
        false
    }

    fn ledger(&mut self, now: Instant) -> &mut Ledger {
        let new = || Ledger::new(RateTable::new(now, self.settings.rates, RATE_USERS_MAX, self.seed));
        self.rates.get_or_insert_with(new)
    }

    /// The other shards hear what users did here, and the users' homes what they did on all.
    fn tell_rates(&mut self, cx: &mut Cx<'_, Mail>) {
        let Some(ledger) = &mut self.rates else { return };
        for (to, letter) in ledger.on_timer(cx) {
            home::mail(cx, &self.topics, to, Post::Rates(letter));
        }
    }

    /// Publishes, unless the user has published too much.
    fn publish(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        (peer, id): (Peer, u32),
        topic: &str,
        (seq, body): (Option<u64>, &[u8]),
        amends: bool,
    ) {
        if !self.take_rate(cx, (peer, id)) {
            return;
        }
        self.topics.publish(cx, (peer, id), topic, (seq, body), if amends { AMENDS } else { 0 });
    }

    /// Gives mail to topics, if it is allowed.
    fn take_mail(&mut self, cx: &mut Cx<'_, Mail>, from: ShardId, mail: Mail, fetched: Option<&Page>) -> Option<News> {
        let Self { topics, home, settings, shared, .. } = self;
        let mail = home.judge(cx, topics, (settings, shared), from, (mail, fetched))?;
        topics.on_mail(cx, from, mail)
    }

    fn on_post(&mut self, cx: &mut Cx<'_, Mail>, from: ShardId, post: Post) {
        let Self { topics, home, shared, pushes, presence, .. } = self;
        match post {
            Post::Ask { peer, id, user, guest, query } => {
                let hidden = hides(&query);
                home.on_ask(cx, topics, shared, (from, peer, id), (&user, guest), query);
                if let Some(other) = hidden {
                    presence.look_again(cx, topics, &user, &other);
                }
            }
            Post::Answer { peer, id, answer: result } => {
                if topics.who(peer).is_some() {
                    answer(cx, (peer, id), result);
                }
            }
            Post::Note { from: sender, number, to, note } => {
                home.on_note(cx, topics, from, (sender, number), (to, &note));
            }
            Post::Taken { from: sender, to, number, taken } => {
                home.on_taken(cx, topics, (sender, to), (number, taken));
            }
            Post::Expel { topic, user } => {
                for peer in topics.expel(cx, &user, &topic) {
                    let why = format!("you take part in {topic} no longer");
                    refuse(cx, peer, None, Code::PermissionDenied, &why);
                }
            }
            Post::Heads { ticket, user, topics: names } => Home::on_heads(cx, topics, from, (ticket, &user), &names),
            Post::Headed { ticket, heads } => home.on_headed(cx, topics, ticket, heads),
            Post::Push { ticket, target, topic, body } => {
                home.on_push(cx, topics, shared, (from, ticket, target), (topic, &body));
            }
            Post::PushMembers { ticket, group } => {
                let users = push::members_of(topics, &group);
                home::mail(cx, topics, from, Post::PushedMembers { ticket, group, users });
            }
            Post::PushedMembers { ticket, group, users } => {
                if let Some((peer, id, body)) = pushes.on_members(cx, topics, ticket, (group, users))
                    && topics.who(peer).is_some()
                {
                    answer(cx, (peer, id), Ok(body));
                }
            }
            Post::Pushed { ticket, target, result } => {
                if let Some((peer, id, body)) = pushes.on_pushed(ticket, target, result)
                    && topics.who(peer).is_some()
                {
                    answer(cx, (peer, id), Ok(body));
                }
            }
            Post::Rates(letter) => self.ledger(cx.now).on_letter(cx, from, letter),
            Post::Presence(letter) => presence.on_letter(cx, topics, from, letter),
            Post::Marked { user, topic, delivered, read } => {
                Home::on_marked(cx, topics, &user, (&topic, delivered, read));
            }
        }
    }
}

impl App for Chat {
    type Mail = Mail;

    fn on_open(&mut self, cx: &mut Cx<'_, Mail>, peer: Peer, info: &PeerInfo) {
        self.topics.on_open(peer, info);
        self.presence.on_open(cx, info);
    }

    fn on_message(&mut self, cx: &mut Cx<'_, Mail>, peer: Peer, message: Message<'_>) {
        match check(&message, self.settings.text_chars_max) {
            Err((id, why)) => refuse(cx, peer, id, Code::InvalidArgument, why),
            Ok(amends) => match message {
                Message::Req { id, op, body } => self.on_req(cx, (peer, id), op, body),
                Message::Pub { id, topic, seq, body } => self.publish(cx, (peer, id), topic, (seq, body), amends),
                Message::Sub { .. } | Message::Unsub { .. } | Message::Eph { .. } | Message::Ack { .. } => {
                    self.topics.on_message(cx, peer, message);
                }
            },
        }
    }

    fn on_pressure(&mut self, cx: &mut Cx<'_, Mail>, peer: Peer, pressure: Pressure) {
        self.topics.on_pressure(cx, peer, pressure);
    }

    fn on_close(&mut self, cx: &mut Cx<'_, Mail>, peer: Peer, _: Close) {
        if let Some((user, guest)) = self.topics.who(peer) {
            self.presence.on_close(cx, peer, (&user, guest));
        }
        self.topics.on_close(cx, peer);
    }

    fn on_mail(&mut self, cx: &mut Cx<'_, Mail>, from: ShardId, mail: Mail) {
        match self.take_mail(cx, from, mail, None) {
            None => {}
            Some(News::Page(page)) if page.peer == NO_PEER => {
                if let Some((from, mail)) = self.home.unpark(&page) {
                    self.take_mail(cx, from, mail, Some(&page));
                }
            }
            Some(News::App(post)) => {
                if let Some(post) = post.downcast::<Post>().ok().and_then(Arc::into_inner) {
                    self.on_post(cx, from, post);
                }
            }
            Some(News::Page(page)) => match history::answer(cx, &page) {
                Some(body) => cx.send(page.peer, Push::Res { id: page.id, body }),
                None => refuse(cx, page.peer, Some(page.id), Code::Internal, "the history cannot be read"),
            },
        }
        self.home.settle(cx, &mut self.topics);
    }

    fn on_disk(&mut self, cx: &mut Cx<'_, Mail>, ticket: Ticket, outcome: Outcome) {
        self.topics.on_disk(cx, ticket, outcome);
        self.home.settle(cx, &mut self.topics);
    }

    fn on_turn_end(&mut self, cx: &mut Cx<'_, Mail>) {
        self.topics.on_turn_end(cx);
    }

    fn on_timer(&mut self, cx: &mut Cx<'_, Mail>, timer: Timer) {
        if timer == RETRY {
            self.home.retry(cx, &mut self.topics);
        }
        if timer == rate::TIMER {
            self.tell_rates(cx);
        }
        if timer == presence::TIMER {
            self.presence.on_timer(cx, &mut self.topics);
        }
        self.topics.on_timer(cx, timer);
        Home::on_marks(cx, &mut self.topics);
        self.home.settle(cx, &mut self.topics);
    }
}

/// Whom somebody may not want to be seen by any longer, after such a question.
fn hides(query: &Query) -> Option<String> {
    match query {
        Query::Directory(directory::Op::Block { user } | directory::Op::Remove { user }) => Some(user.clone()),
        _ => None,
    }
}

/// `{users: [..]}`.
#[derive(serde::Serialize)]
struct Found<'a> {
    users: &'a [String],
}

/// What is wrong with a message, and which request it is; else whether it changes another message.
fn check(message: &Message<'_>, text_chars_max: usize) -> Result<bool, (Option<u32>, &'static str)> {
    let (id, topic) = match message {
        Message::Sub { id, topic, .. } | Message::Unsub { id, topic } | Message::Pub { id, topic, .. } => {
            (Some(*id), *topic)
        }
        Message::Eph { topic, .. } | Message::Ack { topic, .. } => (None, *topic),
        Message::Req { .. } => return Ok(false),
    };
    if !conversation::is_topic(topic) {
        return Err((id, BAD_TOPIC));
    }
    match message {
        Message::Pub { .. } | Message::Eph { .. } if topic == AUDIT_TOPIC => Err((id, "only the server writes there")),
        Message::Pub { body, .. } => body::check(body, text_chars_max).map_err(|why| (id, why)),
        Message::Eph { key: READ, .. } if !conversation::is_open(topic) => Err((id, "only the server says `read`")),
        Message::Eph { body, .. } => body::check_ephemeral(body).map(|()| false).map_err(|why| (id, why)),
        Message::Sub { .. } | Message::Unsub { .. } | Message::Ack { .. } | Message::Req { .. } => Ok(false),
    }
}

fn answer(cx: &mut Cx<'_, Mail>, (peer, id): (Peer, u32), answer: Result<Bytes, Refusal>) {
    let push = match answer {
        Ok(body) => Push::Res { id, body },
        Err(Refusal { code, message, retry_ms }) => {
            Push::Err { id: Some(id), code, message: message.into_owned(), retry_ms }
        }
    };
    cx.send(peer, push);
}

fn refuse(cx: &mut Cx<'_, Mail>, peer: Peer, id: Option<u32>, code: Code, why: &str) {
    cx.send(peer, Push::Err { id, code, message: why.to_owned(), retry_ms: None });
}
