//! Who may read a conversation, and who may write to it right now.

use super::{
    address::Conversation,
    decide::open_group,
    group::{self, Member, Role},
};
use crate::facts::{Facts, Refusal, Who};

/// What a writer is, for whoever takes the message.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Permit {
    /// The role, in a group.
    pub role: Option<Role>,
    /// The least time between two messages of this user here; 0: as fast as everywhere.
    pub slow_ms: u32,
}

/// Whether a user may read a conversation.
///
/// # Errors
/// Why not.
pub fn may_read(facts: &impl Facts, on: &Conversation, who: &Who<'_>) -> Result<(), Refusal> {
    match on {
        Conversation::World | Conversation::Room(_) => Ok(()),
        Conversation::Direct(a, b) => one_of_two(who, a, b),
        Conversation::Personal(user) if !who.guest && user == who.user => Ok(()),
        Conversation::Personal(_) => Err(Refusal::denied("these news are for somebody else")),
        Conversation::Group(id) => {
            open_group(facts, id)?;
            member(facts, id, who)?.map(|_| ()).ok_or_else(no_member)
        }
    }
}

/// Whether a user may write to a conversation now. Whether one of two has blocked the other, only their directories know:
/// see [`crate::directory::blocks`].
///
/// # Errors
/// Why not, and when it may again.
pub fn may_write(facts: &impl Facts, on: &Conversation, who: &Who<'_>, at_ms: u64) -> Result<Permit, Refusal> {
    let id = match on {
        Conversation::World | Conversation::Room(_) => return Ok(Permit::default()),
        Conversation::Direct(a, b) => return one_of_two(who, a, b).map(|()| Permit::default()),
        Conversation::Personal(_) => return Err(Refusal::denied("only the server writes there")),
        Conversation::Group(id) => id,
    };
    let group = open_group(facts, id)?;
    match member(facts, id, who)? {
        Some(member) => match member.muted(at_ms) {
            Some(until) => Err(Refusal::denied_until("you are muted", at_ms, Some(until))),
            // Slowness is for the crowd, not for those who keep it in order.
            None if member.role > Role::Member => Ok(Permit { role: Some(member.role), slow_ms: 0 }),
            None => Ok(Permit { role: Some(member.role), slow_ms: group.slow_ms }),
        },
        None => match group::ban(facts, id, who.user, at_ms)? {
            Some(ban) => Err(Refusal::denied_until("you are banned", at_ms, ban.until_ms)),
            None => Err(no_member()),
        },
    }
}

/// A guest is nobody in particular, even if it is called as a member is: the next guest may have that name too.
fn member(facts: &impl Facts, id: &str, who: &Who<'_>) -> Result<Option<Member>, Refusal> {
    Ok(group::member(facts, id, who.user)?.filter(|_| !who.guest))
}

pub(super) fn one_of_two(who: &Who<'_>, a: &str, b: &str) -> Result<(), Refusal> {
    if who.guest {
        return Err(Refusal::denied("guests take part in open rooms; register to do more"));
    }
    if who.user == a || who.user == b { Ok(()) } else { Err(Refusal::denied("this conversation is between others")) }
}

fn no_member() -> Refusal {
    Refusal::denied("you are not a member")
}
