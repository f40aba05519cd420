//! What a user asks of its directory, and what other homes tell it, become changes.

use bytes::Bytes;
use handler::Code;

use super::{
    answer::{self, Done},
    contact::Side,
    entry,
    invitation::{self, Invitation},
    letter::Letter,
    op::Op,
    relation::{BLOCKS, BLOCKS_MAX, CONTACTS, CONTACTS_MAX, INCOMING, OUTGOING, REQUESTS_MAX, Relation, blocks, count},
};
use crate::{
    facts::{Change, Facts, Refusal, Who, json},
    name::is_user,
};

/// What is done about an operation or a letter.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Decision {
    /// Facts that change; the rest is good when they are on disk.
    pub changes: Vec<Change>,
    /// For the homes of other users, in this order.
    pub letters: Vec<(String, Letter)>,
    /// Conversations that made room in the list for others: direct ones come back with their next message.
    pub unlisted: Vec<String>,
    /// Groups that the user was brought into by somebody whom it has blocked: it does not take part.
    pub unwanted: Vec<String>,
    /// For all devices of this user: `{"type":"contact","user":..,"state":..,"text"?}`,
    /// `{"type":"conversation","topic":..,"entry"?}` without an entry when it is no longer in the list, or
    /// `{"type":"invitation","topic":..,"by"?,"name"?,"at_ms"?}` with nothing more when it is answered or taken back.
    pub notices: Vec<Bytes>,
    /// The answer: a JSON object; nothing to a letter.
    pub answer: Bytes,
}

/// Decides what a user asks of its own directory. `is_account` says whether somebody registered this very name.
///
/// # Errors
/// Why not; then nothing changes.
pub fn decide(
    facts: &impl Facts,
    who: &Who<'_>,
    at_ms: u64,
    is_account: &dyn Fn(&str) -> bool,
    op: &Op,
) -> Result<Decision, Refusal> {
    if who.guest || !is_user(who.user) {
        return Err(Refusal::denied("only an account has contacts and a list of conversations"));
    }
    op.check(who.user)?;
    let side = |other| Side::open(facts, who.user, other, at_ms);
    match op {
        Op::Request { user, .. } if !is_account(user) => {
            Err(Refusal::new(Code::NotFound, format!("there is no user {user}")))
        }
        Op::Request { user, text } => asked(facts, side(user)?, |side| side.request(text)),
        Op::Accept { user } => asked(facts, side(user)?, Side::accept),
        Op::Decline { user } => asked(facts, side(user)?, Side::decline),
        Op::Remove { user } => asked(facts, side(user)?, Side::remove),
        Op::Block { user } => {
            let mut decision = asked(facts, side(user)?, Side::block)?;
            for topic in invitation::of(facts, who.user, user)? {
                let gone = answer::invitation(invitation::go(facts, who.user, &topic), &topic, None);
                decision.changes.extend(gone.changes);
                decision.notices.extend(gone.notices);
            }
            Ok(decision)
        }
        Op::Unblock { user } => asked(facts, side(user)?, Side::unblock),
        Op::List { list, after, limit } => answer::list(facts, who.user, *list, after.as_deref(), *limit),
        Op::Set { topic, muted, pinned } => {
            let (changes, entry) = entry::set(facts, who.user, topic, *muted, *pinned)?;
            Ok(answer::entry(changes, topic, entry.as_ref()))
        }
        Op::Forget { topic } => Ok(answer::entry(entry::forget(facts, who.user, topic)?.0, topic, None)),
    }
}

/// Takes a letter to a user's home.
///
/// # Errors
/// When there is no room for what it says, or a fact cannot be read; then nothing changes.
pub fn receive(facts: &impl Facts, user: &str, at_ms: u64, letter: &Letter) -> Result<Decision, Refusal> {
    let side = |other| Side::open(facts, user, other, at_ms);
    let (topic, (changes, entry)) = match letter {
        Letter::Request { from, at_ms, text } => {
            let room = count(facts, user, INCOMING, REQUESTS_MAX) < REQUESTS_MAX;
            return Ok(heard(side(from)?, |side| side.on_request(*at_ms, text, room)));
        }
        Letter::Accept { from, at_ms } => return Ok(heard(side(from)?, |side| side.on_accept(*at_ms))),
        Letter::Decline { from, at_ms } => return Ok(heard(side(from)?, |side| side.on_decline(*at_ms))),
        Letter::Withdraw { from, at_ms } => return Ok(heard(side(from)?, |side| side.on_withdraw(*at_ms))),
        Letter::Remove { from, at_ms } => return Ok(heard(side(from)?, |side| side.on_remove(*at_ms))),
        // The contact was one until a moment ago.
        Letter::Listed { topic, by: Some(by), .. } if blocks(facts, user, by)? => {
            return Ok(Decision { unwanted: vec![topic.clone()], ..Decision::default() });
        }
        Letter::Listed { topic, at_ms, offset, by: _ } => {
            let (mut changes, entry, unlisted) = entry::list(facts, user, topic, *at_ms, *offset)?;
            changes.extend(invitation::go(facts, user, topic));
            let mut decision = answer::news(changes, topic, Some(&entry));
            let gone = unlisted.iter().map(|topic| answer::gone(topic));
            decision.notices.extend(gone);
            return Ok(Decision { unlisted, ..decision });
        }
        Letter::Invited { topic, by, name, at_ms } => {
            let new = Invitation { by: by.clone(), name: name.clone(), at_ms: *at_ms };
            let (changes, invitation) = invitation::come(facts, user, topic, new)?;
            return Ok(answer::invitation(changes, topic, invitation.as_ref()));
        }
        Letter::Uninvited { topic } => {
            return Ok(answer::invitation(invitation::go(facts, user, topic), topic, None));
        }
        Letter::Unlisted { topic, at_ms } => (topic, entry::unlist(facts, user, topic, *at_ms)?),
        Letter::Marked { topic, delivered, read } => (topic, entry::mark(facts, user, topic, *delivered, *read)?),
    };
    Ok(answer::news(changes, topic, entry.as_ref()))
}

fn asked<'a>(
    facts: &impl Facts,
    mut side: Side<'a>,
    work: impl FnOnce(&mut Side<'a>) -> Result<(), Refusal>,
) -> Result<Decision, Refusal> {
    work(&mut side)?;
    check_room(facts, &side)?;
    Ok(Decision { answer: json(&Done {}), ..close(side) })
}

fn heard<'a>(mut side: Side<'a>, work: impl FnOnce(&mut Side<'a>)) -> Decision {
    work(&mut side);
    close(side)
}

/// Whether there is room for what a relation has become. A request counts as the contact that it may become, so that
/// there is always room for its acceptance.
fn check_room(facts: &impl Facts, side: &Side<'_>) -> Result<(), Refusal> {
    let Side { user, was, relation: is, .. } = side;
    let counts = |relation: &Relation| relation.contact.is_some() || relation.outgoing.is_some();
    let sent = || count(facts, user, OUTGOING, REQUESTS_MAX);
    if !counts(was) && counts(is) && count(facts, user, CONTACTS, CONTACTS_MAX) + sent() >= CONTACTS_MAX {
        return Err(Refusal::full(format!("a user has at most {CONTACTS_MAX} contacts")));
    }
    if was.outgoing.is_none() && is.outgoing.is_some() && sent() >= REQUESTS_MAX {
        return Err(Refusal::full(format!("a user has at most {REQUESTS_MAX} requests under way")));
    }
    if was.block.is_none() && is.block.is_some() && count(facts, user, BLOCKS, BLOCKS_MAX) >= BLOCKS_MAX {
        return Err(Refusal::full(format!("a user blocks at most {BLOCKS_MAX} others")));
    }
    Ok(())
}

fn close(side: Side<'_>) -> Decision {
    let Side { user, other, was, relation, letters, .. } = side;
    let changes = relation.changes(&was, user, other);
    let notices = if changes.is_empty() { Vec::new() } else { vec![answer::contact(other, &relation)] };
    let letters = letters.into_iter().map(|letter| (other.to_owned(), letter)).collect();
    Decision { changes, letters, notices, ..Decision::default() }
}
