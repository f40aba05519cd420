//! `chat.push {target: {groups?, users?, except?, all?}, body}`: a program says something to groups, to users or to
//! everybody. Each target is published at its own home, and the answer says of each what became of it.
//!
//! Whoever is excepted must not find it in the group later either: so a group with exceptions is asked who is in it, and
//! its members are told on their personal topics, each once, however many groups they are in.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use handler::{Code, Cx, Peer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use topic::{Mail, Topics};

use crate::{
    body,
    conversation::{Conversation, USERS_PER_OP_MAX, member_names, members, personal},
    facts::{Refusal, json},
    home::{self, View},
    post::Post,
};

/// The operation. Whether its caller may is for the server to say: only a token with the capability of this name may.
pub const PUSH_OP: &str = "chat.push";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask<'a> {
    target: Target,
    #[serde(borrow)]
    body: &'a RawValue,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Target {
    group: Option<String>,
    groups: Option<Vec<String>>,
    users: Option<Vec<String>>,
    #[serde(default)]
    all: bool,
    #[serde(default)]
    except: Vec<String>,
}

/// Groups that one push goes to.
pub const PUSH_GROUPS_MAX: usize = 20;

/// Members of a group that is pushed to with exceptions: each gets a message of its own.
pub const PUSH_EXCEPT_MEMBERS_MAX: u32 = 1_000;

/// Pushes that are not answered yet.
#[derive(Default, Debug)]
pub(crate) struct Pushes {
    next: u64,
    waiting: BTreeMap<u64, Push>,
}

#[derive(Debug)]
struct Push {
    asker: (Peer, u32),
    /// Answers that have not come.
    left: usize,
    results: BTreeMap<String, Result<(), Code>>,
    body: Bytes,
    except: BTreeSet<String>,
    /// Users that it went to.
    told: BTreeSet<String>,
}

/// What became of one target: `{target, ok}`, and `code` if it is not.
#[derive(Serialize, Debug)]
struct Line {
    target: String,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<&'static str>,
}

#[derive(Serialize)]
struct Answer {
    results: Vec<Line>,
}

impl Pushes {
    /// Sends a push on its way; gives the answer at once if there is nothing to wait for.
    pub(crate) fn start(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        topics: &Topics,
        asker: (Peer, u32),
        (body, chars_max): (&[u8], usize),
    ) -> Result<Option<Bytes>, Refusal> {
        let Ask { target, body } = serde_json::from_slice(body).map_err(|error| Refusal::bad(error.to_string()))?;
        let body = body.get().as_bytes();
        if body::check(body, chars_max).map_err(Refusal::bad)? {
            return Err(Refusal::bad("a push changes no message"));
        }
        let Target { groups, users, all, except, .. } = target.check()?;
        let except: BTreeSet<String> = except.into_iter().collect();
        let (body, results, told) = (Bytes::copy_from_slice(body), BTreeMap::new(), BTreeSet::new());
        let mut push = Push { asker, left: 0, results, body, except, told };
        let ticket = self.next;
        self.next += 1;
        if all {
            let world = Conversation::World.topic();
            push.send(cx, topics, ticket, (world.clone(), world));
        }
        for group in groups.into_iter().flatten() {
            match Conversation::parse(&group) {
                Some(Conversation::Group(_)) if push.except.is_empty() => {
                    push.send(cx, topics, ticket, (group.clone(), group));
                }
                Some(Conversation::Group(_)) => {
                    push.left += 1;
                    home::mail(cx, topics, cx.home(&group), Post::PushMembers { ticket, group });
                }
                _ => push.note(group, Err(Code::InvalidArgument)),
            }
        }
        push.tell(cx, topics, ticket, users.unwrap_or_default().into_iter().map(|user| (user.clone(), user)));
        if push.left == 0 {
            return Ok(Some(push.answer()));
        }
        self.waiting.insert(ticket, push);
        Ok(None)
    }

    /// A group has said who is in it.
    pub(crate) fn on_members(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        topics: &Topics,
        ticket: u64,
        (group, users): (String, Result<Vec<String>, Code>),
    ) -> Option<(Peer, u32, Bytes)> {
        let push = self.waiting.get_mut(&ticket)?;
        let result = users.map(|users| {
            push.tell(cx, topics, ticket, users.into_iter().map(|user| (group.clone(), user)));
        });
        self.on_pushed(ticket, group, result)
    }

    /// One target is done, or a part of it; the answer, and who gets it, when it was the last one.
    pub(crate) fn on_pushed(
        &mut self,
        ticket: u64,
        target: String,
        result: Result<(), Code>,
    ) -> Option<(Peer, u32, Bytes)> {
        let push = self.waiting.get_mut(&ticket)?;
        push.note(target, result);
        push.left -= 1;
        if push.left > 0 {
            return None;
        }
        let push = self.waiting.remove(&ticket)?;
        let (peer, id) = push.asker;
        Some((peer, id, push.answer()))
    }
}

impl Push {
    /// Sends it to a topic.
    fn send(&mut self, cx: &mut Cx<'_, Mail>, topics: &Topics, ticket: u64, (target, topic): (String, String)) {
        self.left += 1;
        let (to, body) = (cx.home(&topic), self.body.clone());
        home::mail(cx, topics, to, Post::Push { ticket, target, topic, body });
    }

    /// Sends it to users, each with the target that it counts for: who is excepted gets nothing, and nobody gets it twice.
    fn tell(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        topics: &Topics,
        ticket: u64,
        users: impl Iterator<Item = (String, String)>,
    ) {
        for (target, user) in users {
            if self.except.contains(&user) || !self.told.insert(user.clone()) {
                continue;
            }
            match personal(&user) {
                Some(topic) => self.send(cx, topics, ticket, (target, topic)),
                None => self.note(target, Err(Code::InvalidArgument)),
            }
        }
    }

    /// What became of a target; of its parts the first failure counts.
    fn note(&mut self, target: String, result: Result<(), Code>) {
        let so_far = self.results.entry(target).or_insert(Ok(()));
        *so_far = so_far.and(result);
    }

    fn answer(self) -> Bytes {
        let results = self.results.into_iter().map(|(target, result)| Line::new(target, result)).collect();
        json(&Answer { results })
    }
}

/// Who is in a group that is at home here.
pub(crate) fn members_of(topics: &Topics, group: &str) -> Result<Vec<String>, Code> {
    let Some(Conversation::Group(id)) = Conversation::parse(group) else { return Err(Code::InvalidArgument) };
    let view = View { topics, name: group };
    match members(&view, &id).map_err(|refusal| refusal.code)? {
        0 => Err(Code::NotFound),
        1..=PUSH_EXCEPT_MEMBERS_MAX => Ok(member_names(&view, &id)),
        _ => Err(Code::ResourceExhausted),
    }
}

impl Target {
    /// The same with `group` among `groups`, if it makes sense.
    fn check(mut self) -> Result<Self, Refusal> {
        if let Some(group) = self.group.take() {
            self.groups.get_or_insert_default().push(group);
        }
        let groups = self.groups.as_ref().map_or(0, Vec::len);
        let users = self.users.as_ref().map_or(0, Vec::len);
        let is_some = self.groups.is_some() || self.users.is_some();
        let fits = groups <= PUSH_GROUPS_MAX && users <= USERS_PER_OP_MAX && self.except.len() <= USERS_PER_OP_MAX;
        match self.all {
            true if !is_some && self.except.is_empty() => Ok(self),
            false if is_some && fits => Ok(self),
            _ => {
                Err(Refusal::bad("`target` is `all`, or `groups` (20) and `users` (200), perhaps with `except` (200)"))
            }
        }
    }
}

impl Line {
    fn new(target: String, result: Result<(), Code>) -> Self {
        Self { target, ok: result.is_ok(), code: result.err().map(Code::name) }
    }
}
