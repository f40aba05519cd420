//! What a home is asked: decided out of its facts, answered when they are on disk.

use std::sync::Arc;

use bytes::Bytes;
use handler::{Cx, Peer, ShardId};
use serde::Serialize;
use topic::{Mail, Topics};

use super::{After, Asker, Home, Moved, View, Work, is_account, mail, to_users, who};
use crate::{
    audit,
    conversation::{self, Call, Conversation, may_read, personal},
    directory,
    facts::{Refusal, Who, json},
    list::check_limit,
    post::{Note, Post, Query},
    shared::Shared,
};

#[derive(Serialize)]
struct Marks<'a> {
    topic: &'a str,
    more: bool,
    marks: Vec<Mark<'a>>,
}

#[derive(Serialize)]
struct Mark<'a> {
    user: &'a str,
    delivered: u64,
    read: u64,
}

impl Home {
    /// Somebody asks something of a name that is at home here.
    pub(crate) fn on_ask(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        topics: &mut Topics,
        shared: &Shared,
        (from, peer, id): (ShardId, Peer, u32),
        (user, guest): (&Arc<str>, bool),
        query: Query,
    ) {
        let (asker, who) = (Asker { shard: from, peer, id }, who(user, guest));
        let refused = match query {
            Query::Conversation { on, op } => self.conversation(cx, topics, shared, asker, &who, (&on, &op)),
            Query::Directory(op) => self.directory(cx, topics, shared, asker, &who, &op),
            Query::List { after, limit } => self.list(cx, topics, asker, user, (after, limit)),
            Query::Marks { on, after, limit } => {
                let page = marks(topics, &who, &on, (after.as_deref(), limit));
                page.map(|page| answer(cx, topics, asker, Ok(page)))
            }
            Query::Read { on, read } => {
                let topic = on.topic();
                may_read(&View { topics, name: &topic }, &on, &who).map(|()| {
                    topics.raise(cx, (&topic, user), (read, read));
                    answer(cx, topics, asker, Ok(Bytes::from_static(b"{}")));
                })
            }
        };
        if let Err(refusal) = refused {
            answer(cx, topics, asker, Err(refusal));
        }
    }

    fn conversation(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        topics: &mut Topics,
        shared: &Shared,
        asker: Asker,
        who: &Who<'_>,
        (on, op): (&Conversation, &conversation::Op),
    ) -> Result<(), Refusal> {
        let name = on.topic();
        let (at_ms, head) = (cx.wall_ms, topics.tail(&name).head);
        let call = Call { who: *who, at_ms, head, is_account: &|user| is_account(shared, user) };
        let decision = conversation::decide(&View { topics, name: &name }, on, &call, op)?;
        let conversation::Decision { changes, notices, answer, joined, left } = decision;
        let listed = |user: &String| {
            let letter = directory::Letter::Listed { topic: name.clone(), at_ms, offset: head };
            (user.clone(), letter)
        };
        let unlisted = |user: &String| (user.clone(), directory::Letter::Unlisted { topic: name.clone(), at_ms });
        let mut letters = to_users(joined.iter().map(listed).chain(left.iter().map(unlisted)).collect());
        if let Some(what) = audit::name(op) {
            let of = (name.as_str(), who.user, at_ms);
            letters.extend(notices.iter().map(|notice| audit::note(what, of, notice)));
        }
        let moved = Moved { joined, left: left.clone() };
        let work = Work { name: name.clone(), changes, notices, letters, after: After::Answer(asker, answer), moved };
        // A refused record is answered by the commit.
        if self.commit(cx, topics, work).is_ok() {
            Self::expel(cx, topics, &name, &left);
        }
        Ok(())
    }

    fn directory(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        topics: &mut Topics,
        shared: &Shared,
        asker: Asker,
        who: &Who<'_>,
        op: &directory::Op,
    ) -> Result<(), Refusal> {
        let name = personal(who.user).ok_or_else(|| Refusal::denied("that is not the name of an account"))?;
        let view = View { topics, name: &name };
        let decision = directory::decide(&view, who, cx.wall_ms, &|user| is_account(shared, user), op)?;
        let directory::Decision { changes, letters, notices, answer } = decision;
        let mut letters = to_users(letters);
        letters.extend(to_conversation(who.user, op).filter(|_| !changes.is_empty()));
        let work =
            Work { name, changes, notices, letters, after: After::Answer(asker, answer), moved: Moved::default() };
        let _ = self.commit(cx, topics, work);
        Ok(())
    }
}

/// What the direct conversation with another user has to know of an operation.
fn to_conversation(user: &str, op: &directory::Op) -> Option<(String, Note)> {
    let with = |other: &str| Conversation::direct(user, other).map(|on| on.topic());
    let by = user.to_owned();
    match op {
        directory::Op::Block { user: other } => Some((with(other)?, Note::Blocked { by, on: true })),
        directory::Op::Unblock { user: other } => Some((with(other)?, Note::Blocked { by, on: false })),
        directory::Op::Forget { topic } => match Conversation::parse(topic)? {
            on @ Conversation::Direct(..) => Some((on.topic(), Note::Forgotten { by })),
            _ => None,
        },
        _ => None,
    }
}

/// `{topic, more, marks: [{user, delivered, read}]}`, by name.
fn marks(
    topics: &Topics,
    who: &Who<'_>,
    on: &Conversation,
    (after, limit): (Option<&str>, usize),
) -> Result<Bytes, Refusal> {
    let topic = on.topic();
    may_read(&View { topics, name: &topic }, on, who)?;
    check_limit(limit)?;
    let mut behind = topics.marks(&topic).skip_while(|(user, _)| after.is_some_and(|after| *user <= after));
    let line = |(user, mark): (_, topic::Watermark)| Mark { user, delivered: mark.delivered, read: mark.read };
    let marks = behind.by_ref().take(limit).map(line).collect();
    let more = behind.next().is_some();
    Ok(json(&Marks { topic: &topic, more, marks }))
}

fn answer(cx: &mut Cx<'_, Mail>, topics: &Topics, asker: Asker, answer: Result<Bytes, Refusal>) {
    let Asker { shard, peer, id } = asker;
    mail(cx, topics, shard, Post::Answer { peer, id, answer });
}
