//! A group as its facts have it, and where they are.

use serde::{Deserialize, Serialize};

use super::address::Conversation;
use crate::facts::{Facts, Refusal, read};

/// Members of a group. A message goes to each of them, and whoever is next when the owner leaves is found by looking at
/// all.
pub const GROUP_MEMBERS_MAX: u32 = 10_000;

/// Members of a group in which each is told how far every other one has come. Beyond it the marks are asked for.
pub(crate) const GROUP_TICKS_MAX: u32 = 100;

/// Bans of a group, those that ended not counted. All of them go in one decision when the group is closed.
pub const GROUP_BANS_MAX: u32 = 1_000;

/// Invitations of a group that were not answered. All of them go in one decision when the group is closed.
pub const GROUP_INVITATIONS_MAX: u32 = 1_000;

/// The slowest that a group can be made: a message an hour.
pub const SLOW_MS_MAX: u32 = 3_600_000;

/// What a member may do; the larger one outranks the smaller one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads and writes.
    Member,
    /// Also invites, renames, and removes, mutes and bans members.
    Admin,
    /// There is one. Also gives roles, and does to admins what they do to members.
    Owner,
}

/// A group.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Group {
    /// What it is called.
    pub name: String,
    /// Whose it is; nobody's once it is closed.
    pub owner: String,
    /// When it was made.
    pub created_ms: u64,
    /// How many members it has.
    pub members: u32,
    /// How many bans it has, ended ones that are still there included.
    pub bans: u32,
    /// How many invitations were not answered.
    #[serde(default, skip_serializing_if = "is_none")]
    pub invitations: u32,
    /// Whether everybody may join.
    pub open: bool,
    /// The time between two messages of one member; 0: as fast as everywhere.
    pub slow_ms: u32,
    /// When its last member left. Nothing of such a group is kept any more: ids are drawn by lot, and none comes twice. Once
    /// it stayed as a mark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_ms: Option<u64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_none(count: &u32) -> bool {
    *count == 0
}

/// Somebody who was asked to become a member, and may.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Invitation {
    /// Who asked.
    pub by: String,
    /// When.
    pub at_ms: u64,
}

/// A member of a group.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Member {
    /// What the member may do.
    pub role: Role,
    /// Since when.
    pub joined_ms: u64,
    /// The newest message at that time. What came before may be read, and is not unread.
    pub joined_offset: u64,
    /// May not write until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muted_until_ms: Option<u64>,
}

/// Somebody who may not become a member.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Ban {
    /// Who said so.
    pub by: String,
    /// When.
    pub at_ms: u64,
    /// When it ends; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
}

impl Member {
    /// Until when the member is muted, if it is.
    #[must_use]
    pub fn muted(&self, at_ms: u64) -> Option<u64> {
        self.muted_until_ms.filter(|until| *until > at_ms)
    }
}

impl Ban {
    /// Whether it still holds.
    #[must_use]
    pub fn holds(&self, at_ms: u64) -> bool {
        self.until_ms.is_none_or(|until| until > at_ms)
    }
}

pub(super) fn group_key(id: &str) -> String {
    format!("g/{id}")
}

pub(super) fn members_prefix(id: &str) -> String {
    format!("g/{id}/m/")
}

pub(super) fn member_key(id: &str, user: &str) -> String {
    format!("g/{id}/m/{user}")
}

pub(super) fn bans_prefix(id: &str) -> String {
    format!("g/{id}/b/")
}

pub(super) fn ban_key(id: &str, user: &str) -> String {
    format!("g/{id}/b/{user}")
}

/// What a group is called; nothing if this is no topic of one.
pub(crate) fn group_name(facts: &impl Facts, topic: &str) -> Option<String> {
    let Some(Conversation::Group(id)) = Conversation::parse(topic) else { return None };
    read::<Group>(facts, &group_key(&id)).ok().flatten().map(|group| group.name)
}

pub(super) fn invitations_prefix(id: &str) -> String {
    format!("g/{id}/i/")
}

pub(super) fn invitation_key(id: &str, user: &str) -> String {
    format!("g/{id}/i/{user}")
}

/// How many members a group has.
pub(crate) fn members(facts: &impl Facts, id: &str) -> Result<u32, Refusal> {
    Ok(read::<Group>(facts, &group_key(id))?.map_or(0, |group| group.members))
}

/// Who is in a group, by name.
pub(crate) fn member_names(facts: &impl Facts, id: &str) -> Vec<String> {
    let prefix = members_prefix(id);
    facts.range(&prefix, None).filter_map(|(key, _)| key.strip_prefix(&prefix)).map(str::to_owned).collect()
}

pub(super) fn member(facts: &impl Facts, id: &str, user: &str) -> Result<Option<Member>, Refusal> {
    read(facts, &member_key(id, user))
}

pub(super) fn invitation(facts: &impl Facts, id: &str, user: &str) -> Result<Option<Invitation>, Refusal> {
    read(facts, &invitation_key(id, user))
}

/// The ban of a user, if it still holds.
pub(super) fn ban(facts: &impl Facts, id: &str, user: &str, at_ms: u64) -> Result<Option<Ban>, Refusal> {
    Ok(read::<Ban>(facts, &ban_key(id, user))?.filter(|ban| ban.holds(at_ms)))
}
