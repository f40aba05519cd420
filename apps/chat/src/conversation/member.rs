//! Becoming a member of a group and ceasing to be one.

use std::cmp::Reverse;

use handler::Code;

use super::{
    decide::{Call, Decision, Scene},
    draft::{Done, Draft},
    group::{
        self, Ban, GROUP_BANS_MAX, GROUP_MEMBERS_MAX, Group, Member, Role, ban_key, bans_prefix, invitations_prefix,
        members_prefix,
    },
    notice::Event,
    rank::{at_least, outranks},
};
use crate::{
    facts::{Facts, Refusal, parse},
    name::is_user,
};

pub(super) fn join<F: Facts>(facts: &F, id: &str, call: &Call<'_>, group: Group) -> Result<Decision, Refusal> {
    let user = call.who.user;
    if !is_user(user) {
        return Err(Refusal::denied("only an account may be a member"));
    }
    if let Some(ban) = group::ban(facts, id, user, call.at_ms)? {
        return Err(Refusal::denied_until("you are banned", call.at_ms, ban.until_ms));
    }
    let invited = group::invitation(facts, id, user)?.is_some();
    if !group.open && !invited {
        return Err(Refusal::denied("a member has to invite you"));
    }
    room_for(&group, 1)?;
    let mut draft = Draft::new(id, call, Some(group.clone()), group);
    forget_ban(&mut draft, facts, id, user);
    if invited {
        draft.drop_invitation(user, false);
    }
    draft.enter(user, Role::Member);
    draft.say(&Event::Joined { user });
    Ok(draft.done(&Done {}))
}

pub(super) fn leave<F: Facts>(scene: &Scene<'_, F>) -> Result<Decision, Refusal> {
    let Scene { facts, id, call, group, me } = scene;
    let user = call.who.user;
    let mut draft = scene.draft();
    draft.exit(user);
    draft.say(&Event::Left { user });
    if draft.group.members == 0 {
        close(&mut draft, *facts, id, call.at_ms);
        return Ok(draft.done(&Done {}));
    }
    if me.role == Role::Owner {
        let (heir, member) = heir(*facts, id, user)?;
        // Nobody is above an owner: a silence could not be ended.
        draft.put_member(&heir, &Member { role: Role::Owner, muted_until_ms: None, ..member });
        draft.say(&Event::Role { user: &heir, role: Role::Owner });
        draft.group.owner = heir;
    }
    // Leaving and joining again must not end a silence: until it is over, who was muted stays away.
    if let Some(until) = me.muted(call.at_ms).filter(|_| group.bans < GROUP_BANS_MAX) {
        let new = facts.get(&ban_key(id, user)).is_none();
        draft.put_ban(user, &Ban { by: user.to_owned(), at_ms: call.at_ms, until_ms: Some(until) }, new);
    }
    Ok(draft.done(&Done {}))
}

pub(super) fn remove<F: Facts>(scene: &Scene<'_, F>, user: &str) -> Result<Decision, Refusal> {
    at_least(scene.me.role, Role::Admin)?;
    outranks(scene.me.role, scene.member(user)?.role)?;
    let mut draft = scene.draft();
    draft.exit(user);
    draft.say(&Event::Removed { user });
    Ok(draft.done(&Done {}))
}

pub(super) fn room_for(group: &Group, more: usize) -> Result<(), Refusal> {
    if group.members as usize + more <= GROUP_MEMBERS_MAX as usize {
        Ok(())
    } else {
        Err(Refusal::full(format!("a group has at most {GROUP_MEMBERS_MAX} members")))
    }
}

/// A ban that ended is in nobody's way, but a member has none.
pub(super) fn forget_ban(draft: &mut Draft<'_>, facts: &impl Facts, id: &str, user: &str) {
    if facts.get(&ban_key(id, user)).is_some() {
        draft.drop_ban(user);
    }
}

/// Who gets the group when its owner leaves: the admin who is longest in it, else the member.
fn heir(facts: &impl Facts, id: &str, owner: &str) -> Result<(String, Member), Refusal> {
    let prefix = members_prefix(id);
    let mut best: Option<(&str, Member)> = None;
    for (key, value) in facts.range(&prefix, None) {
        let (user, member) = (key.get(prefix.len()..).unwrap_or_default(), parse::<Member>(value)?);
        let order = |member: &Member| (Reverse(member.role), member.joined_ms, member.joined_offset);
        // Keys come in order, so that of two who came together the first name stays.
        if user != owner && best.as_ref().is_none_or(|(_, other)| order(&member) < order(other)) {
            best = Some((user, member));
        }
    }
    let lost = || Refusal::new(Code::Internal, "the group counts members that it has not");
    best.map(|(user, member)| (user.to_owned(), member)).ok_or_else(lost)
}

/// The last member has left: no fact of the group remains.
fn close(draft: &mut Draft<'_>, facts: &impl Facts, id: &str, at_ms: u64) {
    let prefix = bans_prefix(id);
    for (key, _) in facts.range(&prefix, None) {
        draft.drop_ban(key.get(prefix.len()..).unwrap_or_default());
    }
    let prefix = invitations_prefix(id);
    for (key, _) in facts.range(&prefix, None) {
        draft.drop_invitation(key.get(prefix.len()..).unwrap_or_default(), true);
    }
    draft.group.owner.clear();
    draft.group.closed_ms = Some(at_ms);
}
