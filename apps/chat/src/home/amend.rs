//! Messages that are changed: those that are not in memory any more come from the disk first, and of those that are
//! recalled neither the message nor its edits are given to anybody again.

use std::collections::BTreeMap;

use handler::{Code, Cx, ShardId};
use topic::{Mail, Page, Topics};

use super::{Home, View};
use crate::{
    body::{self, Amend, Original, tombstone},
    conversation::Role,
    facts::{Change, Facts, Refusal, Who, json, parse},
    shared::Settings,
};

/// Changes of messages that wait for the disk on one shard. Beyond them the one that waits longest is refused.
const PARKED_MAX: usize = 1_000;

/// How often one message is edited.
const EDITS_MAX: usize = 100;

/// Facts about messages that are gone, taken away with each new one.
const SWEEP: usize = 4;

/// The kind of facts that say where the edits of a message are.
const EDITS: &str = "edits/";

/// All kinds of facts about messages.
pub(crate) const KINDS: &[&str] = &[EDITS];

/// Publications that wait for the messages that they change.
#[derive(Default, Debug)]
pub(super) struct Parked {
    next: u32,
    waiting: BTreeMap<u32, (ShardId, Mail)>,
}

/// What is to be done about a publication.
pub(super) enum Judged {
    /// It is published, perhaps with another body.
    Passes(Option<Vec<u8>>),
    /// The message at this offset has to be looked at first.
    Needs(u64),
}

/// A message to be changed, as its home has it.
pub(super) struct Target {
    pub(super) from: String,
    at_ms: u64,
    body: Vec<u8>,
}

impl Home {
    /// Puts a publication off until the message is there that it changes.
    pub(super) fn park(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        topics: &mut Topics,
        from: ShardId,
        letter: Mail,
        offset: u64,
    ) {
        let Some(topic) = letter.visit().map(|visit| visit.topic.to_owned()) else { return };
        if self.parked.waiting.len() >= PARKED_MAX
            && let Some((_, (from, letter))) = self.parked.waiting.pop_first()
        {
            topics.refuse(cx, from, &letter, (Code::Unavailable, "the disk is too slow", None));
        }
        let ticket = self.parked.next;
        self.parked.next = ticket.wrapping_add(1);
        self.parked.waiting.insert(ticket, (from, letter));
        topics.fetch(cx, &topic, offset, ticket);
    }

    /// A message is there: the publication that waits for it.
    pub(crate) fn unpark(&mut self, page: &Page) -> Option<(ShardId, Mail)> {
        self.parked.waiting.remove(&page.id)
    }
}

/// The message that somebody wants to change; `None`: it has to come from the disk.
pub(super) fn target(view: &View<'_>, offset: u64, fetched: Option<&Page>) -> Result<Option<Target>, Refusal> {
    if offset > view.topics.tail(view.name).head {
        return Err(Refusal::new(Code::OutOfRange, "there is no such message"));
    }
    if view.topics.replacement(view.name, offset).is_some() {
        return Err(Refusal::new(Code::FailedPrecondition, "that message was recalled"));
    }
    let is_held = offset >= view.topics.oldest(view.name);
    let record = match (view.topics.peek(view.name, offset), fetched) {
        (Some(record), _) => Some(record),
        // It was trimmed, perhaps while it was on its way from the disk.
        (None, _) if !is_held => None,
        (None, Some(page)) => page.records().find(|record| record.offset == offset),
        (None, None) => return Ok(None),
    };
    let gone = || Refusal::new(Code::FailedPrecondition, "that message is too old to be changed");
    let record = record.ok_or_else(gone)?;
    Ok(Some(Target { from: record.from.to_owned(), at_ms: record.at_ms, body: record.body.to_vec() }))
}

/// The facts by which a message is changed, if somebody may do that to it. The publication that does it is at `own`.
pub(super) fn amend(
    view: &View<'_>,
    settings: &Settings,
    (amend, offset, own): (Amend, u64, u64),
    (who, role): (&Who<'_>, Option<Role>),
    target: &Target,
    now_ms: u64,
) -> Result<Vec<Change>, Refusal> {
    let original = Original { from: &target.from, at_ms: target.at_ms, body: &target.body };
    body::may_amend(&settings.amend, amend, &original, who, role, now_ms)?;
    let mut edits = edits(view, offset)?;
    let mut changes = sweep(view);
    match amend {
        Amend::Edit if edits.len() >= EDITS_MAX => {
            return Err(Refusal::new(Code::FailedPrecondition, "that message was edited too often"));
        }
        Amend::Edit => {
            edits.push(own);
            changes.extend(view.topics.say_of(view.name, (EDITS, offset), &json(&edits)).map(of_chat));
        }
        Amend::Recall => {
            let of = |offset: &u64| {
                let body = tombstone(&target.body, *offset, (who.user, now_ms));
                view.topics.instead(view.name, *offset, &body)
            };
            let instead = std::iter::once(&offset).chain(&edits).filter_map(of);
            changes.extend(instead.map(of_chat));
            if !edits.is_empty() {
                changes.push(Change::delete(edits_key(offset)));
            }
        }
    }
    Ok(changes)
}

/// Where the edits of a message are.
fn edits(view: &View<'_>, offset: u64) -> Result<Vec<u64>, Refusal> {
    if let Some(edits) = view.topics.said_of(view.name, (EDITS, offset)) {
        return parse(edits);
    }
    // Such facts once began with no epoch. One of another history is no list.
    let old = view.get(&edits_key(offset)).and_then(|value| serde_json::from_slice(value).ok());
    Ok(old.unwrap_or_default())
}

/// Takes away a few facts about messages that the topic holds no more.
fn sweep(view: &View<'_>) -> Vec<Change> {
    view.topics.stale_facts(view.name, SWEEP).into_iter().map(of_chat).collect()
}

fn of_chat(topic::Change { key, value }: topic::Change) -> Change {
    Change { key, value }
}

fn edits_key(offset: u64) -> String {
    format!("{EDITS}{offset:016x}")
}
