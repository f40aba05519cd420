//! What a home is asked: decided out of its facts, answered when they are on disk.

use std::sync::Arc;

use bytes::Bytes;
use handler::{Code, Cx, Peer, ShardId};
use serde::Serialize;
use topic::{Mail, Topics};

use super::{After, Asker, Home, Moved, View, Work, forgotten, is_account, mail, to_users, who};
use crate::{
    audit,
    conversation::{self, Call, Conversation, may_read, personal},
    directory::{self, GROUPS_MAX, State},
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
            Query::Conversation { on, op } => self.conversation(cx, topics, shared, asker, &who, (&on, &op, &[])),
            Query::Vouched { shard, on, op, known } => {
                let asker = Asker { shard, ..asker };
                if let Err(refusal) = self.conversation(cx, topics, shared, asker, &who, (&on, &op, &known)) {
                    answer(cx, topics, asker, Err(refusal));
                }
                return;
            }
            Query::Vouch { on, op } => known(topics, user, &op).map(|known| {
                let (to, user) = (cx.home(&on.topic()), user.clone());
                let query = Query::Vouched { shard: from, on, op, known };
                mail(cx, topics, to, Post::Ask { peer, id, user, guest, query });
            }),
            Query::Directory(op) => self.directory(cx, topics, shared, asker, &who, (&op, None)),
            Query::End { on } => end(topics, &who, &on).map(|(to, topic, upto)| {
                let (to, query) = (cx.home(&to), Query::Forget { shard: from, topic, upto });
                mail(cx, topics, to, Post::Ask { peer, id, user: user.clone(), guest, query });
            }),
            Query::Forget { shard, topic, upto } => {
                let (asker, op) = (Asker { shard, ..asker }, directory::Op::Forget { topic });
                if let Err(refusal) = self.directory(cx, topics, shared, asker, &who, (&op, Some(upto))) {
                    answer(cx, topics, asker, Err(refusal));
                }
                return;
            }
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
        (on, op, known): (&Conversation, &conversation::Op, &[String]),
    ) -> Result<(), Refusal> {
        let name = on.topic();
        let (at_ms, head) = (cx.wall_ms, topics.tail(&name).head);
        let (is_account, knows) =
            (|user: &str| is_account(shared, user), |user: &str| known.iter().any(|it| it == user));
        let call = Call { who: *who, at_ms, head, is_account: &is_account, knows: &knows };
        let mut decision = conversation::decide(&View { topics, name: &name }, on, &call, op)?;
        if op.is_create() {
            // A group without a place for its messages is none.
            topics.make_room(&name).map_err(|(code, message)| Refusal::new(code, message))?;
        }
        let mut letters = letters(&name, who.user, (at_ms, head), &mut decision);
        let conversation::Decision { changes, notices, answer, joined, left, .. } = decision;
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

    /// Somebody was made a member of a group by another user whom it does not hear: to all others it just leaves.
    pub(super) fn unwanted(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        topics: &mut Topics,
        (to, user): (String, &str),
        after: After,
    ) {
        let (at_ms, head) = (cx.wall_ms, topics.tail(&to).head);
        let call = Call { who: who(user, false), at_ms, head, is_account: &|_| false, knows: &|_| false };
        let view = View { topics, name: &to };
        let leave = |on| conversation::decide(&view, &on, &call, &conversation::Op::Leave).ok();
        // Who is no member any longer needs not leave.
        let mut decision = Conversation::parse(&to).and_then(leave).unwrap_or_default();
        let letters = letters(&to, user, (at_ms, head), &mut decision);
        let conversation::Decision { changes, notices, left, .. } = decision;
        let moved = Moved { joined: Vec::new(), left: left.clone() };
        let work = Work { name: to.clone(), changes, notices, letters, after, moved };
        if self.commit(cx, topics, work).is_ok() {
            Self::expel(cx, topics, &to, &left);
        }
    }

    fn directory(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        topics: &mut Topics,
        shared: &Shared,
        asker: Asker,
        who: &Who<'_>,
        (op, upto): (&directory::Op, Option<u64>),
    ) -> Result<(), Refusal> {
        let name = personal(who.user).ok_or_else(|| Refusal::denied("that is not the name of an account"))?;
        let view = View { topics, name: &name };
        let decision = directory::decide(&view, who, cx.wall_ms, &|user| is_account(shared, user), op)?;
        let directory::Decision { changes, letters, notices, answer, .. } = decision;
        let mut letters = to_users(letters);
        letters.extend(to_conversation(who.user, (op, upto)).filter(|_| !changes.is_empty()));
        let work =
            Work { name, changes, notices, letters, after: After::Answer(asker, answer), moved: Moved::default() };
        let _ = self.commit(cx, topics, work);
        Ok(())
    }
}

/// The personal topic of one of two, their topic, and its newest offset.
fn end(topics: &Topics, who: &Who<'_>, on: &Conversation) -> Result<(String, String, u64), Refusal> {
    let topic = on.topic();
    may_read(&View { topics, name: &topic }, on, who)?;
    let own = personal(who.user).ok_or_else(|| Refusal::denied("that is not the name of an account"))?;
    let newest = topics.newest(&topic);
    Ok((own, topic, newest))
}

/// Which of the users that somebody wants in a group are its contacts.
fn known(topics: &Topics, user: &str, op: &conversation::Op) -> Result<Vec<String>, Refusal> {
    op.check()?;
    let name = personal(user).unwrap_or_default();
    let view = View { topics, name: &name };
    if op.is_create() && directory::groups(&view, user)? >= GROUPS_MAX {
        return Err(Refusal::full(format!("a user who is in {GROUPS_MAX} groups makes no further one")));
    }
    let mut known = Vec::new();
    for other in op.newcomers() {
        match directory::state(&view, user, other)? {
            State::Contact => known.push(other.clone()),
            State::Blocked => return Err(Refusal::new(Code::FailedPrecondition, "you have blocked that user")),
            State::Stranger | State::Outgoing | State::Incoming => {}
        }
    }
    Ok(known)
}

/// What users' homes have to know of a decision about a group.
fn letters(
    on: &str,
    asker: &str,
    (at_ms, offset): (u64, u64),
    decision: &mut conversation::Decision,
) -> Vec<(String, Note)> {
    let take = std::mem::take::<Vec<String>>;
    let topic = || on.to_owned();
    let group = std::mem::take(&mut decision.name);
    let listed = decision.joined.clone().into_iter().map(|user| {
        let by = (user != asker).then(|| asker.to_owned());
        (user, directory::Letter::Listed { topic: topic(), at_ms, offset, by })
    });
    let unlisted =
        decision.left.iter().map(|user| (user.clone(), directory::Letter::Unlisted { topic: topic(), at_ms }));
    let invited = take(&mut decision.invited).into_iter().map(|user| {
        (user, directory::Letter::Invited { topic: topic(), by: asker.to_owned(), name: group.clone(), at_ms })
    });
    let uninvited =
        take(&mut decision.uninvited).into_iter().map(|user| (user, directory::Letter::Uninvited { topic: topic() }));
    to_users(listed.chain(unlisted).chain(invited).chain(uninvited).collect())
}

/// What the direct conversation with another user has to know of an operation.
fn to_conversation(user: &str, (op, upto): (&directory::Op, Option<u64>)) -> Option<(String, Note)> {
    let with = |other: &str| Conversation::direct(user, other).map(|on| on.topic());
    let by = user.to_owned();
    match op {
        directory::Op::Block { user: other } => Some((with(other)?, Note::Blocked { by, on: true })),
        directory::Op::Unblock { user: other } => Some((with(other)?, Note::Blocked { by, on: false })),
        directory::Op::Forget { topic } => forgotten(topic, user, upto),
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
