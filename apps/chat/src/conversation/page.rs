//! What a conversation answers about itself, and its members and bans in pages.

use serde::Serialize;

use super::{
    access::one_of_two,
    address::Conversation,
    decide::{Call, Decision, Scene},
    group::{
        Ban, Group, Invitation, Member, Role, ban_key, bans_prefix, invitation_key, invitations_prefix, member_key,
        members_prefix,
    },
    rank::at_least,
};
use crate::{
    facts::{Facts, Refusal, json},
    list::lines,
};

#[derive(Serialize)]
struct Info<'a> {
    topic: String,
    kind: &'static str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    users: &'a [&'a str],
}

#[derive(Serialize)]
struct GroupInfo<'a> {
    topic: String,
    kind: &'static str,
    #[serde(flatten)]
    group: &'a Group,
    #[serde(skip_serializing_if = "Option::is_none")]
    you: Option<Member>,
}

#[derive(Serialize)]
struct Members<'a> {
    topic: String,
    count: u32,
    more: bool,
    members: Vec<MemberLine<'a>>,
}

#[derive(Serialize)]
struct Bans<'a> {
    topic: String,
    more: bool,
    bans: Vec<BanLine<'a>>,
}

#[derive(Serialize)]
struct Invitations<'a> {
    topic: String,
    more: bool,
    invitations: Vec<InvitationLine<'a>>,
}

#[derive(Serialize)]
struct InvitationLine<'a> {
    user: &'a str,
    #[serde(flatten)]
    invitation: Invitation,
}

#[derive(Serialize)]
struct MemberLine<'a> {
    user: &'a str,
    #[serde(flatten)]
    member: Member,
}

#[derive(Serialize)]
struct BanLine<'a> {
    user: &'a str,
    #[serde(flatten)]
    ban: Ban,
}

/// What anybody may know of a conversation that is no group: `{topic, kind, users?}`.
pub(super) fn info(on: &Conversation, call: &Call<'_>) -> Result<Decision, Refusal> {
    let (kind, users) = match on {
        Conversation::Direct(a, b) => {
            one_of_two(&call.who, a, b)?;
            ("direct", &[a.as_str(), b.as_str()][..])
        }
        Conversation::Personal(_) => return Err(Refusal::denied("that is no conversation")),
        Conversation::World => ("world", &[][..]),
        Conversation::Room(_) => ("room", &[][..]),
        Conversation::Group(_) => ("group", &[][..]),
    };
    Ok(answer(&Info { topic: on.topic(), kind, users }))
}

/// `{topic, kind, name, owner, members, .., you}`; who is no member sees it, without `you`, if the group is open.
pub(super) fn group_info(id: &str, group: &Group, me: Option<Member>) -> Result<Decision, Refusal> {
    if me.is_none() && !group.open {
        return Err(Refusal::denied("you are not a member"));
    }
    Ok(answer(&GroupInfo { topic: topic(id), kind: "group", group, you: me }))
}

/// `{topic, count, more, members: [{user, role, joined_ms, joined_offset, muted_until_ms?}]}`, by name.
pub(super) fn members<F: Facts>(scene: &Scene<'_, F>, after: Option<&str>, limit: usize) -> Result<Decision, Refusal> {
    let Scene { facts, id, group, .. } = scene;
    let after = after.map(|user| member_key(id, user));
    let (lines, more) = lines(*facts, &members_prefix(id), after.as_deref(), limit, |_: &Member| 0)?;
    let members = lines.into_iter().map(|(user, member)| MemberLine { user, member }).collect();
    Ok(answer(&Members { topic: topic(id), count: group.members, more, members }))
}

/// `{topic, more, bans: [{user, by, at_ms, until_ms?}]}`, by name, those that ended included until they are cleared away.
pub(super) fn bans<F: Facts>(scene: &Scene<'_, F>, after: Option<&str>, limit: usize) -> Result<Decision, Refusal> {
    let Scene { facts, id, me, .. } = scene;
    at_least(me.role, Role::Admin)?;
    let after = after.map(|user| ban_key(id, user));
    let (lines, more) = lines(*facts, &bans_prefix(id), after.as_deref(), limit, |ban: &Ban| ban.by.len())?;
    let bans = lines.into_iter().map(|(user, ban)| BanLine { user, ban }).collect();
    Ok(answer(&Bans { topic: topic(id), more, bans }))
}

/// `{topic, more, invitations: [{user, by, at_ms}]}`, by name.
pub(super) fn invitations<F: Facts>(
    scene: &Scene<'_, F>,
    after: Option<&str>,
    limit: usize,
) -> Result<Decision, Refusal> {
    let Scene { facts, id, me, .. } = scene;
    at_least(me.role, Role::Admin)?;
    let after = after.map(|user| invitation_key(id, user));
    let prefix = invitations_prefix(id);
    let (lines, more) = lines(*facts, &prefix, after.as_deref(), limit, |line: &Invitation| line.by.len())?;
    let invitations = lines.into_iter().map(|(user, invitation)| InvitationLine { user, invitation }).collect();
    Ok(answer(&Invitations { topic: topic(id), more, invitations }))
}

fn topic(id: &str) -> String {
    Conversation::Group(id.to_owned()).topic()
}

fn answer(body: &impl Serialize) -> Decision {
    Decision { answer: json(body), ..Decision::default() }
}
