//! Whom a user may see: what the user's own facts and the homes of its groups say, and what the other one's home agrees to.

use std::collections::BTreeMap;

use super::roll::Tie;
use crate::{
    conversation::{Conversation, GROUP_TICKS_MAX, member_names, members},
    directory::{blocks, contacts, entries, is_contact, is_listed},
    facts::{Facts, Refusal},
};

/// Users that one user is told of.
pub(crate) const CIRCLE_MAX: usize = 500;

/// Groups that are asked who is in them, those that were joined last.
pub(crate) const CIRCLE_GROUPS_MAX: usize = 50;

/// Members of a group who see each other: as many as are told how far each has come.
pub(crate) const CIRCLE_MEMBERS_MAX: u32 = GROUP_TICKS_MAX;

/// A user's circle, as far as the user's own home knows it.
#[derive(Default, Debug)]
pub(crate) struct Circle {
    pub(crate) ties: BTreeMap<String, Tie>,
    /// Topics of groups that know more.
    pub(crate) groups: Vec<String>,
}

impl Circle {
    /// Out of the facts of the user. Whom the user has blocked is not in it, and not the user.
    pub(crate) fn read(facts: &impl Facts, user: &str) -> Result<Self, Refusal> {
        let mut circle = Self::default();
        for other in contacts(facts, user) {
            circle.ties.entry(other).or_default().contact = true;
        }
        let mut groups = Vec::new();
        for (topic, entry) in entries(facts, user)? {
            match Conversation::parse(&topic) {
                _ if entry.left_ms.is_some() => {}
                Some(Conversation::Direct(a, b)) => {
                    circle.ties.entry(if a == user { b } else { a }).or_default().direct = true;
                }
                Some(Conversation::Group(_)) => groups.push((std::cmp::Reverse(entry.joined_ms), topic)),
                Some(Conversation::Personal(_) | Conversation::World | Conversation::Room(_)) | None => {}
            }
        }
        groups.sort();
        circle.groups = groups.into_iter().take(CIRCLE_GROUPS_MAX).map(|(_, topic)| topic).collect();
        Ok(circle)
    }

    /// Users who are in a group with this one.
    pub(crate) fn add_fellows(&mut self, users: Vec<String>) {
        for user in users {
            self.ties.entry(user).or_default().group = true;
        }
    }

    /// Takes out the user, whom the user has blocked, and who is not among `wanted`; and then who is too many. Whether there
    /// were too many.
    pub(crate) fn finish(&mut self, facts: &impl Facts, user: &str, wanted: Option<&[String]>) -> bool {
        self.ties.remove(user);
        self.ties.retain(|other, _| {
            wanted.is_none_or(|wanted| wanted.contains(other)) && matches!(blocks(facts, user, other), Ok(false))
        });
        let more = self.ties.len() > CIRCLE_MAX;
        while self.ties.len() > CIRCLE_MAX {
            self.ties.pop_last();
        }
        more
    }
}

/// The members of a small group, for one of them.
pub(crate) fn fellows(facts: &impl Facts, topic: &str, user: &str) -> Vec<String> {
    let Some(Conversation::Group(id)) = Conversation::parse(topic) else { return Vec::new() };
    if !members(facts, &id).is_ok_and(|members| members <= CIRCLE_MEMBERS_MAX) {
        return Vec::new();
    }
    let names = member_names(facts, &id);
    if names.iter().any(|name| name == user) { names } else { Vec::new() }
}

/// Whether a user, whose facts these are, is seen by another one.
pub(crate) fn is_seen(facts: &impl Facts, user: &str, by: &str, tie: Tie) -> bool {
    if !matches!(blocks(facts, user, by), Ok(false)) {
        return false;
    }
    let direct = || Conversation::direct(user, by).is_some_and(|on| is_listed(facts, user, &on.topic()));
    tie.group || (tie.contact && is_contact(facts, user, by)) || (tie.direct && direct())
}
