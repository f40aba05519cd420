//! Bringing users into a group: contacts of whoever brings them are members at once, all others are asked.

use handler::Code;
use serde::Serialize;

use super::{
    decide::{Call, Decision, Scene},
    draft::{Done, Draft},
    group::{self, GROUP_INVITATIONS_MAX, Group, Role},
    member::{forget_ban, room_for},
    notice::Event,
    rank::at_least,
};
use crate::facts::{Facts, Refusal};

/// `{invited?}`: those that are no members yet.
#[derive(Serialize)]
struct Asked {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    invited: Vec<String>,
}

pub(super) fn invite<F: Facts>(scene: &Scene<'_, F>, users: &[String]) -> Result<Decision, Refusal> {
    let Scene { facts, id, call, group, me } = scene;
    // Whoever could come by itself may be brought by anybody.
    if !group.open {
        at_least(me.role, Role::Admin)?;
    }
    let (mut new, mut invited) = (Vec::new(), Vec::new());
    for user in newcomers(call, users)? {
        if group::ban(*facts, id, &user, call.at_ms)?.is_some() {
            return Err(Refusal::new(Code::FailedPrecondition, format!("{user} is banned")));
        }
        match group::member(*facts, id, &user)? {
            Some(_) => {}
            None if (call.knows)(&user) => new.push(user),
            None => invited.push(user),
        }
    }
    room_for(group, new.len())?;
    let mut draft = scene.draft();
    for user in &new {
        forget_ban(&mut draft, *facts, id, user);
        if group::invitation(*facts, id, user)?.is_some() {
            draft.drop_invitation(user, false);
        }
        draft.enter(user, Role::Member);
    }
    for user in &invited {
        if group::invitation(*facts, id, user)?.is_none() {
            draft.invite(user);
        }
    }
    if draft.group.invitations > GROUP_INVITATIONS_MAX {
        return Err(Refusal::full(format!(
            "a group has at most {GROUP_INVITATIONS_MAX} invitations without an answer"
        )));
    }
    if !new.is_empty() {
        draft.say(&Event::Invited { users: &new });
    }
    Ok(draft.done(&Asked { invited }))
}

/// The one who was asked says no.
pub(super) fn decline<F: Facts>(facts: &F, id: &str, call: &Call<'_>, group: Group) -> Result<Decision, Refusal> {
    let user = call.who.user;
    if group::invitation(facts, id, user)?.is_none() {
        return Err(Refusal::new(Code::NotFound, "there is no such invitation"));
    }
    let mut draft = Draft::new(id, call, Some(group.clone()), group);
    draft.drop_invitation(user, true);
    Ok(draft.done(&Done {}))
}

/// Takes an invitation back, if there is one: admins may, and whoever made it.
pub(super) fn withdraw<F: Facts>(scene: &Scene<'_, F>, user: &str) -> Result<Option<Decision>, Refusal> {
    let Some(invitation) = group::invitation(scene.facts, scene.id, user)? else { return Ok(None) };
    if invitation.by != scene.call.who.user {
        at_least(scene.me.role, Role::Admin)?;
    }
    let mut draft = scene.draft();
    draft.drop_invitation(user, true);
    Ok(Some(draft.done(&Done {})))
}

/// The users of an operation, each once, all of them registered.
pub(super) fn newcomers(call: &Call<'_>, users: &[String]) -> Result<Vec<String>, Refusal> {
    let mut users = users.to_vec();
    users.sort();
    users.dedup();
    match users.iter().find(|user| !(call.is_account)(user)) {
        None => Ok(users),
        Some(user) => Err(Refusal::new(Code::NotFound, format!("there is no user {user}"))),
    }
}
