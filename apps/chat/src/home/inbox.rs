//! A user's list of conversations, put together from the user's entries and what the conversations' homes say of them.

use std::{collections::BTreeMap, sync::Arc};

use handler::{Cx, ShardId};
use topic::{Mail, Topics};

use super::{Asker, Home, View, mail, who};
use crate::{
    conversation::{Conversation, group_name, may_read, personal},
    directory::{self, Cursor, Entry, Last, Recent},
    facts::Refusal,
    post::{Head, Post},
};

/// Messages that are looked at for one list on one shard, so that its unread ones are counted without the user's own: a
/// few milliseconds.
const LOOKS_MAX: u64 = 50_000;

/// Lists that wait for the answers of other homes.
#[derive(Default, Debug)]
pub(super) struct Gathers {
    next: u64,
    waiting: BTreeMap<u64, Gather>,
}

#[derive(Debug)]
struct Gather {
    asker: Asker,
    after: Option<Cursor>,
    limit: usize,
    /// Homes that have not answered.
    left: usize,
    lines: BTreeMap<String, Recent>,
}

impl Home {
    /// Asks the homes of all conversations in a user's list what is new; one letter per shard.
    pub(super) fn list(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        topics: &Topics,
        asker: Asker,
        user: &Arc<str>,
        (after, limit): (Option<Cursor>, usize),
    ) -> Result<(), Refusal> {
        let name = personal(user).unwrap_or_default();
        let entries = directory::entries(&View { topics, name: &name }, user)?;
        let mut by_shard: BTreeMap<ShardId, Vec<(String, u64)>> = BTreeMap::new();
        let mut lines = BTreeMap::new();
        for (topic, entry) in entries {
            if entry.left_ms.is_none() {
                by_shard.entry(cx.home(&topic)).or_default().push((topic.clone(), entry.read));
            }
            lines.insert(topic.clone(), line(topic, &entry));
        }
        let gather = Gather { asker, after, limit, left: by_shard.len(), lines };
        if by_shard.is_empty() {
            return gather.answer(cx, topics);
        }
        let ticket = self.gathers.next;
        self.gathers.next += 1;
        self.gathers.waiting.insert(ticket, gather);
        for (shard, of) in by_shard {
            mail(cx, topics, shard, Post::Heads { ticket, user: user.clone(), topics: of });
        }
        Ok(())
    }

    /// Says what is new in conversations that are at home here, as far as the user may know.
    pub(crate) fn on_heads(
        cx: &mut Cx<'_, Mail>,
        topics: &Topics,
        from: ShardId,
        (ticket, user): (u64, &Arc<str>),
        names: &[(String, u64)],
    ) {
        let may = |(topic, _): &&(String, u64)| {
            let view = View { topics, name: topic };
            Conversation::parse(topic).is_some_and(|on| may_read(&view, &on, &who(user, false)).is_ok())
        };
        let mut looks = LOOKS_MAX;
        let head = |(topic, read): &(String, u64)| {
            let tail = topics.tail(topic);
            let last = tail.record.map(|record| Last::of(record.offset, record.from, record.body));
            let read = topics.watermark(topic, user).map_or(0, |mark| mark.read).max(*read);
            let own = own(topics, (topic, user), (read, tail.head), &mut looks);
            let name = group_name(&View { topics, name: topic }, topic);
            Head { topic: topic.clone(), name, head: tail.head, at_ms: tail.at_ms, last, read, own }
        };
        let heads = names.iter().filter(may).map(head).collect();
        mail(cx, topics, from, Post::Headed { ticket, heads });
    }

    /// One home has answered; when all have, so has the list.
    pub(crate) fn on_headed(&mut self, cx: &mut Cx<'_, Mail>, topics: &Topics, ticket: u64, heads: Vec<Head>) {
        let Some(gather) = self.gathers.waiting.get_mut(&ticket) else { return };
        for Head { topic, name, head, at_ms, last, read, own } in heads {
            if let Some(line) = gather.lines.get_mut(&topic) {
                (line.name, line.head, line.read, line.own, line.last) = (name, head, line.read.max(read), own, last);
                line.last_at_ms = line.last_at_ms.max(at_ms);
            }
        }
        gather.left -= 1;
        if gather.left == 0
            && let Some(gather) = self.gathers.waiting.remove(&ticket)
        {
            let asker = gather.asker;
            if let Err(refusal) = gather.answer(cx, topics) {
                let post = Post::Answer { peer: asker.peer, id: asker.id, answer: Err(refusal) };
                mail(cx, topics, asker.shard, post);
            }
        }
    }
}

/// Messages of the user itself behind what it has read, as far as they are in memory and there are looks left.
fn own(topics: &Topics, (topic, user): (&str, &str), (read, head): (u64, u64), looks: &mut u64) -> u64 {
    let behind = head.saturating_sub(read).min(*looks);
    let records = (0..behind).map_while(|back| topics.peek(topic, head - back));
    let own = records.inspect(|_| *looks -= 1).filter(|record| record.from == user).count();
    u64::try_from(own).unwrap_or(0)
}

impl Gather {
    fn answer(self, cx: &mut Cx<'_, Mail>, topics: &Topics) -> Result<(), Refusal> {
        let Asker { shard, peer, id } = self.asker;
        let page = directory::page(self.lines.into_values(), self.after.as_ref(), self.limit)?;
        mail(cx, topics, shard, Post::Answer { peer, id, answer: Ok(page.answer()) });
        Ok(())
    }
}

/// An entry before its conversation's home has said anything.
fn line(topic: String, entry: &Entry) -> Recent {
    Recent {
        topic,
        name: None,
        head: entry.read,
        read: entry.read,
        own: 0,
        last_at_ms: entry.left_ms.unwrap_or(entry.joined_ms),
        last: None,
        muted: entry.muted,
        pinned: entry.pinned,
        left: entry.left_ms.is_some(),
    }
}
