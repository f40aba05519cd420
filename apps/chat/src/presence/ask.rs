//! Questions of how others are: `presence.get` and `presence.watch`, answered at the home of whoever asks, when the homes
//! of its groups and of the others have answered.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use handler::{Cx, Peer, ShardId};
use serde::{Deserialize, Serialize};
use topic::{Mail, Topics};

use super::{
    Letter, Presence,
    circle::{self, Circle},
    roll::{Seen, Tie},
    send,
};
use crate::{
    conversation::personal,
    facts::{Refusal, json},
    home::{View, mail},
    name::USER_CHARS_MAX,
    post::Post,
};

/// Users that are asked for at once: what a screen or two show.
pub const PRESENCE_USERS_MAX: usize = 100;

/// Questions of one user at once, after a pause; they make work for other shards.
const ASKS_BURST: u32 = 10;

/// The time between two questions of one user in the long run.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Users whose last questions are remembered; the table is emptied of those that do not count any longer when it is full.
const ASKERS_MAX: usize = 16_384;

/// A question, or a word about oneself.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Ask {
    /// `presence.get {users}`
    Get(Vec<String>),
    /// `presence.watch {}`
    Watch,
    /// `presence.set {state}`
    Set { away: bool },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Get {
    users: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Set {
    state: Here,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Here {
    Online,
    Away,
}

/// Reads an operation. `None`: there is no such operation.
pub(crate) fn of_operation(op: &str, body: &[u8]) -> Option<Result<Ask, Refusal>> {
    fn fields<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
        serde_json::from_slice(body).map_err(|error| Refusal::bad(error.to_string()))
    }
    Some(match op {
        "presence.get" => fields(body).and_then(|Get { users }| match users.len() {
            1..=PRESENCE_USERS_MAX if users.iter().all(|user| user.chars().count() <= USER_CHARS_MAX) => {
                Ok(Ask::Get(users))
            }
            _ => Err(Refusal::bad("`users` is 1 to 100 names")),
        }),
        "presence.watch" => fields(body).map(|Nothing {}| Ask::Watch),
        "presence.set" => fields(body).map(|Set { state }| Ask::Set { away: matches!(state, Here::Away) }),
        _ => return None,
    })
}

/// Questions that wait for other homes.
#[derive(Default, Debug)]
pub(super) struct Asks {
    next: u64,
    waiting: BTreeMap<u64, Question>,
    /// When each user's questions will have been paid for.
    paid: BTreeMap<Arc<str>, Instant>,
}

#[derive(Debug)]
struct Question {
    user: Arc<str>,
    /// Who is answered; nobody, when a circle is looked at again.
    asker: Option<(ShardId, Peer, u32)>,
    /// Who is asked for; everybody in the circle, to be watched from now on.
    wanted: Option<Vec<String>>,
    circle: Circle,
    /// Homes that have not answered.
    left: usize,
    seen: BTreeMap<String, Seen>,
    more: bool,
}

#[derive(Serialize)]
struct Answer<'a> {
    users: Vec<Line<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    more: Option<bool>,
}

#[derive(Serialize)]
struct Line<'a> {
    user: &'a str,
    #[serde(flatten)]
    seen: Seen,
}

impl Asks {
    fn take(&mut self, now: Instant, user: &Arc<str>) -> Result<(), Refusal> {
        if self.paid.len() >= ASKERS_MAX {
            self.paid.retain(|_, paid| *paid > now);
        }
        let paid = self.paid.get(user).copied().unwrap_or(now).max(now);
        let wait = (paid - now).saturating_sub(ASK_EVERY * (ASKS_BURST - 1));
        if !wait.is_zero() || (self.paid.len() >= ASKERS_MAX && !self.paid.contains_key(user)) {
            let retry_ms = u32::try_from(wait.max(ASK_EVERY).as_millis()).ok();
            return Err(Refusal { retry_ms, ..Refusal::full("you ask how others are too often") });
        }
        self.paid.insert(Arc::clone(user), paid + ASK_EVERY);
        Ok(())
    }

    /// A change that came while others have not answered yet: it is newer than what was answered.
    pub(super) fn overtake(&mut self, watcher: &str, user: &str, seen: Seen) {
        for question in self.waiting.values_mut().filter(|question| &*question.user == watcher) {
            if let Some(old) = question.seen.get_mut(user) {
                *old = seen;
            }
        }
    }
}

impl Presence {
    /// Somebody at home here asks.
    pub(super) fn on_ask(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        topics: &mut Topics,
        asker: (ShardId, Peer, u32),
        user: &Arc<str>,
        ask: Ask,
    ) {
        let wanted = match ask {
            Ask::Get(users) => Some(users),
            Ask::Watch => None,
            // That is for the shard of the session.
            Ask::Set { .. } => return,
        };
        if wanted.is_none() {
            self.watches.beat(cx.now, user, true);
        }
        let asked = self.asks.take(cx.now, user);
        if let Err(refusal) = asked.and_then(|()| self.question(cx, topics, Some(asker), user, wanted)) {
            let (shard, peer, id) = asker;
            mail(cx, topics, shard, Post::Answer { peer, id, answer: Err(refusal) });
        }
    }

    /// The circle of a user who watches is looked at again.
    pub(super) fn look_around(&mut self, cx: &mut Cx<'_, Mail>, topics: &mut Topics, user: &str) {
        // What cannot be read now may be in two minutes.
        let _ = self.question(cx, topics, None, &Arc::from(user), None);
    }

    fn question(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        topics: &mut Topics,
        asker: Option<(ShardId, Peer, u32)>,
        user: &Arc<str>,
        wanted: Option<Vec<String>>,
    ) -> Result<(), Refusal> {
        let name = personal(user).unwrap_or_default();
        let circle = Circle::read(&View { topics, name: &name }, user)?;
        let mut by_home: BTreeMap<ShardId, Vec<String>> = BTreeMap::new();
        for topic in &circle.groups {
            by_home.entry(cx.home(topic)).or_default().push(topic.clone());
        }
        let (left, seen, more) = (by_home.len(), BTreeMap::new(), false);
        let ticket = self.asks.next;
        self.asks.next += 1;
        self.asks.waiting.insert(ticket, Question { user: Arc::clone(user), asker, wanted, circle, left, seen, more });
        if by_home.is_empty() {
            self.look(cx, topics, ticket);
        }
        for (to, groups) in by_home {
            send(cx, topics, to, Letter::Fellows { ticket, user: Arc::clone(user), groups });
        }
        Ok(())
    }

    pub(super) fn on_fellowed(&mut self, cx: &mut Cx<'_, Mail>, topics: &mut Topics, ticket: u64, users: Vec<String>) {
        let Some(question) = self.asks.waiting.get_mut(&ticket) else { return };
        question.circle.add_fellows(users);
        question.left -= 1;
        if question.left == 0 {
            self.look(cx, topics, ticket);
        }
    }

    /// The circle is known: its homes are asked.
    fn look(&mut self, cx: &mut Cx<'_, Mail>, topics: &mut Topics, ticket: u64) {
        let Some(question) = self.asks.waiting.get_mut(&ticket) else { return };
        let name = personal(&question.user).unwrap_or_default();
        let view = View { topics, name: &name };
        question.more = question.circle.finish(&view, &question.user, question.wanted.as_deref());
        let mut by_home: BTreeMap<ShardId, Vec<(String, Tie)>> = BTreeMap::new();
        for (user, tie) in &question.circle.ties {
            if let Some(name) = personal(user) {
                by_home.entry(cx.home(&name)).or_default().push((user.clone(), *tie));
            }
        }
        question.left = by_home.len();
        let (by, watch) = (Arc::clone(&question.user), question.wanted.is_none());
        if by_home.is_empty() {
            return self.answer(cx, topics, ticket);
        }
        for (to, users) in by_home {
            send(cx, topics, to, Letter::Look { ticket, by: Arc::clone(&by), users, watch });
        }
    }

    /// How users at home here are, for one who may know.
    pub(super) fn on_look(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        topics: &Topics,
        (from, ticket): (ShardId, u64),
        by: &Arc<str>,
        (users, watch): (Vec<(String, Tie)>, bool),
    ) {
        let mut missed = false;
        let mut look = |(user, tie): (String, Tie)| {
            let name = personal(&user).unwrap_or_default();
            let may = circle::is_seen(&View { topics, name: &name }, &user, by, tie);
            if may && watch {
                missed |= !self.roll.watch(cx.now, &user, (by, tie));
            } else if watch {
                self.roll.unwatch(cx.now, &user, by);
            }
            let seen = if may { self.roll.see(&user) } else { Seen::default() };
            (user, seen)
        };
        let users = users.into_iter().map(&mut look).collect();
        send(cx, topics, from, Letter::Looked { ticket, users, missed });
    }

    pub(super) fn on_looked(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        topics: &mut Topics,
        ticket: u64,
        (users, missed): (Vec<(String, Seen)>, bool),
    ) {
        let Some(question) = self.asks.waiting.get_mut(&ticket) else { return };
        question.seen.extend(users);
        question.more |= missed;
        question.left -= 1;
        if question.left == 0 {
            self.answer(cx, topics, ticket);
        }
    }

    fn answer(&mut self, cx: &mut Cx<'_, Mail>, topics: &mut Topics, ticket: u64) {
        let Some(Question { user, asker, wanted, seen, more, .. }) = self.asks.waiting.remove(&ticket) else { return };
        let body = match &wanted {
            Some(wanted) => {
                let line = |user| Line { user, seen: seen.get(user).copied().unwrap_or_default() };
                json(&Answer { users: wanted.iter().map(|user| line(user.as_str())).collect(), more: None })
            }
            None => {
                let lines = seen.iter().map(|(user, seen)| Line { user, seen: *seen });
                json(&Answer { users: lines.collect(), more: Some(more) })
            }
        };
        if wanted.is_none() {
            let circle: Vec<(String, Seen)> = seen.into_iter().collect();
            for (other, seen) in self.watches.replace(&user, &circle) {
                Self::wave(cx, topics, &user, (&other, seen));
            }
        }
        if let Some((shard, peer, id)) = asker {
            mail(cx, topics, shard, Post::Answer { peer, id, answer: Ok(body) });
        }
    }
}
