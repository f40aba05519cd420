//! Making a group, and what it is called and how it is used.

use serde::Serialize;

use super::{
    address::{Conversation, is_group_id},
    decide::{Call, Decision, Scene},
    draft::{Done, Draft},
    group::{GROUP_INVITATIONS_MAX, GROUP_MEMBERS_MAX, Group, Role},
    invitation::newcomers,
    notice::Event,
    rank::at_least,
};
use crate::{
    facts::{Facts, Refusal},
    name::{group_name, is_user},
};

#[derive(Serialize)]
struct Made {
    topic: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    invited: Vec<String>,
}

pub(super) fn create(
    id: &str,
    call: &Call<'_>,
    name: &str,
    users: &[String],
    open: bool,
    slow_ms: u32,
) -> Result<Decision, Refusal> {
    let owner = call.who.user;
    if !is_group_id(id) {
        return Err(Refusal::bad("that is not the id of a group"));
    }
    if !is_user(owner) {
        return Err(Refusal::denied("only an account may have a group"));
    }
    let name = group_name(name).map_err(Refusal::bad)?;
    let users = newcomers(call, users)?.into_iter().filter(|user| user != owner);
    let (users, invited): (Vec<String>, Vec<String>) = users.partition(|user| (call.knows)(user));
    let (created_ms, owner) = (call.at_ms, owner.to_owned());
    let group = Group { name, owner, created_ms, members: 0, bans: 0, invitations: 0, open, slow_ms, closed_ms: None };
    let mut draft = Draft::new(id, call, None, group);
    draft.enter(call.who.user, Role::Owner);
    users.iter().for_each(|user| draft.enter(user, Role::Member));
    invited.iter().for_each(|user| draft.invite(user));
    let name = draft.group.name.clone();
    draft.say(&Event::Created { name: &name, users: &users });
    Ok(draft.done(&Made { topic: Conversation::Group(id.to_owned()).topic(), invited }))
}

pub(super) fn rename<F: Facts>(scene: &Scene<'_, F>, name: &str) -> Result<Decision, Refusal> {
    at_least(scene.me.role, Role::Admin)?;
    let name = group_name(name).map_err(Refusal::bad)?;
    let mut draft = scene.draft();
    if name != draft.group.name {
        draft.say(&Event::Renamed { name: &name });
        draft.group.name = name;
    }
    Ok(draft.done(&Done {}))
}

pub(super) fn change<F: Facts>(
    scene: &Scene<'_, F>,
    open: Option<bool>,
    slow_ms: Option<u32>,
) -> Result<Decision, Refusal> {
    at_least(scene.me.role, Role::Admin)?;
    let mut draft = scene.draft();
    let (open, slow_ms) = (open.unwrap_or(draft.group.open), slow_ms.unwrap_or(draft.group.slow_ms));
    if (open, slow_ms) != (draft.group.open, draft.group.slow_ms) {
        (draft.group.open, draft.group.slow_ms) = (open, slow_ms);
        draft.say(&Event::Settings { open, slow_ms });
    }
    Ok(draft.done(&Done {}))
}

const _: () =
    assert!(super::op::USERS_PER_OP_MAX < GROUP_MEMBERS_MAX as usize, "a new group has room for its first users");

const _: () = assert!(super::op::USERS_PER_OP_MAX <= GROUP_INVITATIONS_MAX as usize, "and for invitations to them");
