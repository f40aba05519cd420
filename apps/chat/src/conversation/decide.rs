//! An operation and the facts in, a decision out.

use bytes::Bytes;
use handler::Code;

use super::{
    address::Conversation,
    draft::Draft,
    group::{self, Group, Member},
    invitation, member,
    op::Op,
    page, rank, setting,
};
use crate::facts::{Change, Facts, Refusal, Who, read};

/// Who asks, when and where.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// Who asks.
    pub who: Who<'a>,
    /// Now, in milliseconds since 1970.
    pub at_ms: u64,
    /// The newest offset of the conversation's topic; 0: none yet.
    pub head: u64,
    /// Whether somebody registered this very name. Nobody else is made a member, least of all a guest.
    pub is_account: &'a dyn Fn(&str) -> bool,
    /// Whether this user is a contact of the asker, and so may be made a member without being asked.
    pub knows: &'a dyn Fn(&str) -> bool,
}

/// What is done about an operation. An operation that was done before is done again without a change.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Decision {
    /// Facts that change; the answer is good when they are on disk.
    pub changes: Vec<Change>,
    /// Bodies to publish in the conversation, in this order; see [`super::Event`].
    pub notices: Vec<Bytes>,
    /// The answer: a JSON object.
    pub answer: Bytes,
    /// Users that have the conversation in their list from now on.
    pub joined: Vec<String>,
    /// Users that take part no longer.
    pub left: Vec<String>,
    /// Users that are asked to take part.
    pub invited: Vec<String>,
    /// What the group is called, for those who are asked.
    pub name: String,
    /// Users that are asked no longer.
    pub uninvited: Vec<String>,
}

/// Decides an operation. The id of a new group is the server's to choose, as one that nobody can guess.
///
/// # Errors
/// Why not; then nothing changes.
pub fn decide<F: Facts>(facts: &F, on: &Conversation, call: &Call<'_>, op: &Op) -> Result<Decision, Refusal> {
    op.check()?;
    match (on, op) {
        (_, _) if call.who.guest && !matches!(op, Op::Info) => {
            Err(Refusal::denied("guests take part in open rooms; register to do more"))
        }
        (Conversation::Group(id), Op::Create { name, users, open, slow_ms }) => {
            // What was said in one whose last member has left is for no other.
            if call.head > 0 || read::<Group>(facts, &group::group_key(id))?.is_some() {
                return Err(Refusal::new(Code::AlreadyExists, "there is such a group"));
            }
            setting::create(id, call, name, users, *open, *slow_ms)
        }
        (Conversation::Group(id), _) => in_group(facts, id, call, op),
        (_, Op::Info) => page::info(on, call),
        (_, _) => Err(Refusal::new(Code::FailedPrecondition, "only a group can do that")),
    }
}

/// A group, and the member of it that asks.
pub(super) struct Scene<'a, F> {
    pub(super) facts: &'a F,
    pub(super) id: &'a str,
    pub(super) call: &'a Call<'a>,
    pub(super) group: Group,
    pub(super) me: Member,
}

impl<F: Facts> Scene<'_, F> {
    pub(super) fn draft(&self) -> Draft<'_> {
        Draft::new(self.id, self.call, Some(self.group.clone()), self.group.clone())
    }

    /// Another member.
    pub(super) fn member(&self, user: &str) -> Result<Member, Refusal> {
        let missing = || Refusal::new(Code::NotFound, "there is no such member");
        group::member(self.facts, self.id, user)?.ok_or_else(missing)
    }
}

fn in_group<F: Facts>(facts: &F, id: &str, call: &Call<'_>, op: &Op) -> Result<Decision, Refusal> {
    let group = open_group(facts, id)?;
    let me = group::member(facts, id, call.who.user)?.filter(|_| !call.who.guest);
    let me = match (me, op) {
        (me, Op::Info) => return page::group_info(id, &group, me),
        (Some(_), Op::Join | Op::Decline) => {
            return Ok(Draft::new(id, call, Some(group.clone()), group).done(&super::draft::Done {}));
        }
        (None, Op::Join) => return member::join(facts, id, call, group),
        (None, Op::Decline) => return invitation::decline(facts, id, call, group),
        (Some(me), _) => me,
        (None, _) => return Err(Refusal::denied("you are not a member")),
    };
    let scene = Scene { facts, id, call, group, me };
    match op {
        Op::Rename { name } => setting::rename(&scene, name),
        Op::Settings { open, slow_ms } => setting::change(&scene, *open, *slow_ms),
        Op::Invite { users } => invitation::invite(&scene, users),
        Op::Leave => member::leave(&scene),
        Op::Remove { user } => match invitation::withdraw(&scene, user)? {
            Some(withdrawn) => Ok(withdrawn),
            None => member::remove(&scene, user),
        },
        Op::Role { user, role } => rank::give(&scene, user, *role),
        Op::Mute { user, until_ms } => rank::mute(&scene, user, *until_ms),
        Op::Ban { user, until_ms } => rank::ban(&scene, user, *until_ms),
        Op::Unban { user } => rank::unban(&scene, user),
        Op::Members { after, limit } => page::members(&scene, after.as_deref(), *limit),
        Op::Bans { after, limit } => page::bans(&scene, after.as_deref(), *limit),
        Op::Invitations { after, limit } => page::invitations(&scene, after.as_deref(), *limit),
        Op::Create { .. } | Op::Join | Op::Decline | Op::Info => Err(Refusal::new(Code::Internal, "decided before")),
    }
}

/// A group that is not closed.
pub(super) fn open_group(facts: &impl Facts, id: &str) -> Result<Group, Refusal> {
    let group = read::<Group>(facts, &group::group_key(id))?.filter(|group| group.closed_ms.is_none());
    group.ok_or_else(|| Refusal::new(Code::NotFound, "there is no such group"))
}

impl std::fmt::Debug for Call<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { who, at_ms, head, is_account: _, knows: _ } = self;
        f.debug_struct("Call").field("who", who).field("at_ms", at_ms).field("head", head).finish_non_exhaustive()
    }
}
