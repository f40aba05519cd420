//! `chat.push {target: {group? | users? | all?, except?}, body}`: a program says something to a group, to users or to
//! everybody. Each target is published at its own home, and the answer says of each what became of it.

use std::collections::BTreeMap;

use bytes::Bytes;
use handler::{Code, Cx, Peer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use topic::{Mail, Topics};

use crate::{
    body,
    conversation::{Conversation, USERS_PER_OP_MAX, personal},
    facts::{Refusal, json},
    home,
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
    users: Option<Vec<String>>,
    #[serde(default)]
    all: bool,
    #[serde(default)]
    except: Vec<String>,
}

/// Pushes that are not answered yet.
#[derive(Default, Debug)]
pub(crate) struct Pushes {
    next: u64,
    waiting: BTreeMap<u64, Push>,
}

#[derive(Debug)]
struct Push {
    asker: (Peer, u32),
    left: usize,
    results: Vec<Line>,
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
        let (mut results, mut found) = (Vec::new(), Vec::new());
        for (name, topic) in target.topics()? {
            match topic {
                Some(topic) => found.push((name, topic)),
                None => results.push(Line::new(name, Err(Code::InvalidArgument))),
            }
        }
        if found.is_empty() {
            return Ok(Some(json(&Answer { results })));
        }
        let ticket = self.next;
        self.next += 1;
        self.waiting.insert(ticket, Push { asker, left: found.len(), results });
        for (target, topic) in found {
            let (to, body) = (cx.home(&topic), Bytes::copy_from_slice(body));
            home::mail(cx, topics, to, Post::Push { ticket, target, topic, body });
        }
        Ok(None)
    }

    /// One target is done; the answer, and who gets it, when it was the last one.
    pub(crate) fn on_pushed(
        &mut self,
        ticket: u64,
        target: String,
        result: Result<(), Code>,
    ) -> Option<(Peer, u32, Bytes)> {
        let push = self.waiting.get_mut(&ticket)?;
        push.results.push(Line::new(target, result));
        push.left -= 1;
        if push.left > 0 {
            return None;
        }
        let Push { asker: (peer, id), mut results, .. } = self.waiting.remove(&ticket)?;
        results.sort_by(|a, b| a.target.cmp(&b.target));
        Some((peer, id, json(&Answer { results })))
    }
}

impl Target {
    /// What is pushed to: what it is called in the answer, and its topic if it has one.
    fn topics(self) -> Result<Vec<(String, Option<String>)>, Refusal> {
        let Self { group, users, all, except } = self;
        match (group, users, all) {
            (Some(group), None, false) if except.is_empty() => {
                let is_group = matches!(Conversation::parse(&group), Some(Conversation::Group(_)));
                Ok(vec![(group.clone(), is_group.then_some(group))])
            }
            (None, Some(mut users), false) if users.len() <= USERS_PER_OP_MAX => {
                users.sort();
                users.dedup();
                users.retain(|user| !except.contains(user));
                Ok(users.into_iter().map(|user| (user.clone(), personal(&user))).collect())
            }
            (None, None, true) if except.is_empty() => {
                let world = Conversation::World.topic();
                Ok(vec![(world.clone(), Some(world))])
            }
            _ => Err(Refusal::bad("`target` is one of `group`, `users` (200, perhaps with `except`) and `all`")),
        }
    }
}

impl Line {
    fn new(target: String, result: Result<(), Code>) -> Self {
        Self { target, ok: result.is_ok(), code: result.err().map(Code::name) }
    }
}
