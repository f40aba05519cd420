//! What a user's devices are told of its directory.

use bytes::Bytes;
use serde::Serialize;

use super::{
    decide::Decision,
    entry::Entry,
    invitation::Invitation,
    op::List,
    relation::{Block, Contact, Relation, Request, State, key, prefix},
};
use crate::{
    facts::{Change, Facts, Refusal, json},
    list::lines,
};

/// The answer when there is nothing to say but that it is done.
#[derive(Serialize)]
pub(super) struct Done {}

#[derive(Serialize)]
struct ContactNotice<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    user: &'a str,
    state: State,
    #[serde(skip_serializing_if = "str::is_empty")]
    text: &'a str,
}

#[derive(Serialize)]
struct EntryNotice<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    topic: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    entry: Option<&'a Entry>,
}

#[derive(Serialize)]
struct InvitationNotice<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    topic: &'a str,
    #[serde(flatten)]
    invitation: Option<&'a Invitation>,
}

#[derive(Serialize)]
struct Invitations<'a> {
    more: bool,
    invitations: Vec<InvitationLine<'a>>,
}

#[derive(Serialize)]
struct InvitationLine<'a> {
    topic: &'a str,
    #[serde(flatten)]
    invitation: Invitation,
}

#[derive(Serialize)]
struct Page<'a, T> {
    more: bool,
    users: Vec<Line<'a, T>>,
}

#[derive(Serialize)]
struct Line<'a, T> {
    user: &'a str,
    #[serde(flatten)]
    fact: T,
}

pub(super) fn contact(user: &str, relation: &Relation) -> Bytes {
    let text = relation.incoming.as_ref().map_or("", |request| &request.text);
    json(&ContactNotice { kind: "contact", user, state: relation.state(), text })
}

/// The answer to an operation on an entry.
pub(super) fn entry(changes: Vec<Change>, topic: &str, entry: Option<&Entry>) -> Decision {
    Decision { answer: json(&Done {}), ..news(changes, topic, entry) }
}

/// What an entry became, unless it stayed as it was.
pub(super) fn news(changes: Vec<Change>, topic: &str, entry: Option<&Entry>) -> Decision {
    let notice = (!changes.is_empty()).then(|| json(&EntryNotice { kind: "conversation", topic, entry }));
    Decision { changes, notices: notice.into_iter().collect(), ..Decision::default() }
}

/// The notice that a conversation is no longer in the list.
pub(super) fn gone(topic: &str) -> Bytes {
    json(&EntryNotice { kind: "conversation", topic, entry: None })
}

/// What an invitation became, unless it stayed as it was.
pub(super) fn invitation(changes: Vec<Change>, topic: &str, invitation: Option<&Invitation>) -> Decision {
    let notice = (!changes.is_empty()).then(|| json(&InvitationNotice { kind: "invitation", topic, invitation }));
    Decision { changes, notices: notice.into_iter().collect(), ..Decision::default() }
}

/// `{more, users: [{user, since_ms | at_ms, text?}]}`, by name, or `{more, invitations: [{topic, by, name, at_ms}]}`, by
/// topic.
pub(super) fn list(
    facts: &impl Facts,
    user: &str,
    list: List,
    after: Option<&str>,
    limit: usize,
) -> Result<Decision, Refusal> {
    let (prefix, after) = (prefix(user, list.kind()), after.map(|other| key(user, list.kind(), other)));
    let after = after.as_deref();
    let answer = match list {
        List::Contacts => page(lines(facts, &prefix, after, limit, |_: &Contact| 0)?),
        List::Blocked => page(lines(facts, &prefix, after, limit, |_: &Block| 0)?),
        List::Invitations => {
            let (lines, more) =
                lines(facts, &prefix, after, limit, |line: &Invitation| line.by.len() + line.name.len())?;
            let line = |(topic, invitation)| InvitationLine { topic, invitation };
            json(&Invitations { more, invitations: lines.into_iter().map(line).collect() })
        }
        List::Requests | List::Sent => {
            page(lines(facts, &prefix, after, limit, |request: &Request| request.text.len() * 2)?)
        }
    };
    Ok(Decision { answer, ..Decision::default() })
}

fn page<T: Serialize>((lines, more): crate::list::Lines<'_, T>) -> Bytes {
    let users = lines.into_iter().map(|(user, fact)| Line { user, fact }).collect();
    json(&Page { more, users })
}
