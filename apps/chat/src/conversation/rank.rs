//! Who may do what to whom: roles, and silencing and banning those below.

use handler::Code;

use super::{
    decide::{Decision, Scene},
    draft::{Done, Draft},
    group::{self, Ban, GROUP_BANS_MAX, Member, Role, ban_key, bans_prefix},
    notice::Event,
};
use crate::facts::{Facts, Refusal, parse};

/// Gives a member a role. There is always one owner: who makes another one is an admin from then on.
pub(super) fn give<F: Facts>(scene: &Scene<'_, F>, user: &str, role: Role) -> Result<Decision, Refusal> {
    at_least(scene.me.role, Role::Owner)?;
    let member = scene.member(user)?;
    let mut draft = scene.draft();
    if member.role == role {
        return Ok(draft.done(&Done {}));
    }
    let own = scene.call.who.user;
    if user == own {
        return Err(Refusal::new(Code::FailedPrecondition, "a group has an owner: make somebody else the owner"));
    }
    draft.say(&Event::Role { user, role });
    if role == Role::Owner {
        draft.put_member(own, &Member { role: Role::Admin, ..scene.me.clone() });
        draft.group.owner = user.to_owned();
        // Nobody is above an owner: a silence could not be ended.
        draft.put_member(user, &Member { role, muted_until_ms: None, ..member });
    } else {
        draft.put_member(user, &Member { role, ..member });
    }
    Ok(draft.done(&Done {}))
}

pub(super) fn mute<F: Facts>(scene: &Scene<'_, F>, user: &str, until_ms: Option<u64>) -> Result<Decision, Refusal> {
    at_least(scene.me.role, Role::Admin)?;
    let member = scene.member(user)?;
    outranks(scene.me.role, member.role)?;
    let until_ms = until_ms.filter(|until| *until > scene.call.at_ms);
    let mut draft = scene.draft();
    if until_ms != member.muted(scene.call.at_ms) {
        draft.put_member(user, &Member { muted_until_ms: until_ms, ..member });
        draft.say(&Event::Muted { user, until_ms });
    }
    Ok(draft.done(&Done {}))
}

/// Bans a user, who need not be a member.
pub(super) fn ban<F: Facts>(scene: &Scene<'_, F>, user: &str, until_ms: Option<u64>) -> Result<Decision, Refusal> {
    let Scene { facts, id, call, me, .. } = scene;
    at_least(me.role, Role::Admin)?;
    let ban = Ban { by: call.who.user.to_owned(), at_ms: call.at_ms, until_ms };
    if !ban.holds(call.at_ms) {
        return Err(Refusal::bad("`until_ms` is over"));
    }
    let mut draft = scene.draft();
    if let Some(member) = group::member(*facts, id, user)? {
        outranks(me.role, member.role)?;
        draft.exit(user);
    }
    if group::invitation(*facts, id, user)?.is_some() {
        draft.drop_invitation(user, true);
    }
    if group::ban(*facts, id, user, call.at_ms)?.is_some_and(|old| old.until_ms == until_ms) {
        return Ok(draft.done(&Done {}));
    }
    let new = facts.get(&ban_key(id, user)).is_none();
    if new {
        make_room(scene, &mut draft)?;
    }
    draft.put_ban(user, &ban, new);
    draft.say(&Event::Banned { user, until_ms });
    Ok(draft.done(&Done {}))
}

pub(super) fn unban<F: Facts>(scene: &Scene<'_, F>, user: &str) -> Result<Decision, Refusal> {
    let Scene { facts, id, call, me, .. } = scene;
    at_least(me.role, Role::Admin)?;
    let mut draft = scene.draft();
    if facts.get(&ban_key(id, user)).is_some() {
        let held = group::ban(*facts, id, user, call.at_ms)?.is_some();
        draft.drop_ban(user);
        if held {
            draft.say(&Event::Unbanned { user });
        }
    }
    Ok(draft.done(&Done {}))
}

pub(super) fn at_least(mine: Role, least: Role) -> Result<(), Refusal> {
    match least {
        _ if mine >= least => Ok(()),
        Role::Owner => Err(Refusal::denied("only the owner may do that")),
        Role::Admin | Role::Member => Err(Refusal::denied("only the owner and admins may do that")),
    }
}

pub(super) fn outranks(mine: Role, other: Role) -> Result<(), Refusal> {
    if mine > other { Ok(()) } else { Err(Refusal::denied("only somebody above that member may do that")) }
}

/// Room for one more ban; only when there is none are those looked for that ended.
fn make_room<F: Facts>(scene: &Scene<'_, F>, draft: &mut Draft<'_>) -> Result<(), Refusal> {
    if draft.group.bans < GROUP_BANS_MAX {
        return Ok(());
    }
    let prefix = bans_prefix(scene.id);
    for (key, value) in scene.facts.range(&prefix, None) {
        if !parse::<Ban>(value)?.holds(scene.call.at_ms) {
            draft.drop_ban(key.get(prefix.len()..).unwrap_or_default());
        }
    }
    if draft.group.bans < GROUP_BANS_MAX {
        Ok(())
    } else {
        Err(Refusal::full(format!("a group has at most {GROUP_BANS_MAX} bans")))
    }
}
