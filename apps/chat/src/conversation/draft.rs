//! A decision about a group while it is made: the group's own fact changes with its members and bans, once, at the end.

use serde::Serialize;

use super::{
    decide::{Call, Decision},
    group::{Ban, Group, Invitation, Member, Role, ban_key, group_key, invitation_key, member_key},
    notice::Event,
};
use crate::facts::{Change, json};

/// The answer when there is nothing to say but that it is done.
#[derive(Serialize)]
pub(super) struct Done {}

pub(super) struct Draft<'a> {
    id: &'a str,
    call: &'a Call<'a>,
    was: Option<Group>,
    pub(super) group: Group,
    decision: Decision,
}

impl<'a> Draft<'a> {
    /// `was` is the group as its fact has it, `None`: there is no such fact yet.
    pub(super) fn new(id: &'a str, call: &'a Call<'a>, was: Option<Group>, group: Group) -> Self {
        Self { id, call, was, group, decision: Decision::default() }
    }

    /// A new member.
    pub(super) fn enter(&mut self, user: &str, role: Role) {
        let (joined_ms, joined_offset) = (self.call.at_ms, self.call.head);
        self.put_member(user, &Member { role, joined_ms, joined_offset, muted_until_ms: None });
        self.group.members += 1;
        self.decision.joined.push(user.to_owned());
    }

    /// A member less.
    pub(super) fn exit(&mut self, user: &str) {
        self.decision.changes.push(Change::delete(member_key(self.id, user)));
        self.group.members -= 1;
        self.decision.left.push(user.to_owned());
    }

    pub(super) fn put_member(&mut self, user: &str, member: &Member) {
        self.decision.changes.push(Change::put(member_key(self.id, user), member));
    }

    /// A ban; `new` says whether there was none, not even one that ended.
    pub(super) fn put_ban(&mut self, user: &str, ban: &Ban, new: bool) {
        self.decision.changes.push(Change::put(ban_key(self.id, user), ban));
        self.group.bans += u32::from(new);
    }

    /// A ban less; there was one.
    pub(super) fn drop_ban(&mut self, user: &str) {
        self.decision.changes.push(Change::delete(ban_key(self.id, user)));
        self.group.bans -= 1;
    }

    /// Somebody is asked to become a member.
    pub(super) fn invite(&mut self, user: &str) {
        let invitation = Invitation { by: self.call.who.user.to_owned(), at_ms: self.call.at_ms };
        self.decision.changes.push(Change::put(invitation_key(self.id, user), &invitation));
        self.group.invitations += 1;
        self.decision.invited.push(user.to_owned());
    }

    /// An invitation less; there was one. `told` says whether the user hears of it: who enters knows.
    pub(super) fn drop_invitation(&mut self, user: &str, told: bool) {
        self.decision.changes.push(Change::delete(invitation_key(self.id, user)));
        self.group.invitations = self.group.invitations.saturating_sub(1);
        if told {
            self.decision.uninvited.push(user.to_owned());
        }
    }

    /// Tells the members.
    pub(super) fn say(&mut self, event: &Event<'_>) {
        self.decision.notices.push(event.body(self.call.who.user));
    }

    pub(super) fn done(mut self, answer: &impl Serialize) -> Decision {
        if self.group.closed_ms.is_some() {
            self.decision.changes.push(Change::delete(group_key(self.id)));
        } else if self.was.as_ref() != Some(&self.group) {
            self.decision.changes.push(Change::put(group_key(self.id), &self.group));
        }
        if !self.decision.invited.is_empty() {
            self.decision.name.clone_from(&self.group.name);
        }
        self.decision.answer = json(answer);
        self.decision
    }
}
