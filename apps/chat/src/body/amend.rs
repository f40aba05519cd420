//! Whether a message may still be changed, and by whom.

use std::borrow::Cow;

use handler::Code;
use serde::Deserialize;

use crate::{
    conversation::Role,
    facts::{Refusal, Who},
};

/// How long a message may be edited: long enough for an error that its readers notice.
pub const EDIT_MS_MAX: u64 = 15 * 60 * 1_000;

/// How long a message may be recalled by whoever wrote it: as long as it may well be unread.
pub const RECALL_MS_MAX: u64 = 2 * 60 * 1_000;

/// The times that a configuration may change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AmendLimits {
    /// How long a message may be edited.
    pub edit_ms: u64,
    /// How long a message may be recalled.
    pub recall_ms: u64,
}

impl Default for AmendLimits {
    fn default() -> Self {
        Self { edit_ms: EDIT_MS_MAX, recall_ms: RECALL_MS_MAX }
    }
}

/// What is done to a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Amend {
    /// It says something else.
    Edit,
    /// It is no more.
    Recall,
}

/// The message as its home has it.
#[derive(Clone, Copy, Debug)]
pub struct Original<'a> {
    /// Who wrote it.
    pub from: &'a str,
    /// When.
    pub at_ms: u64,
    /// What it says.
    pub body: &'a [u8],
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
}

/// Whether somebody may do that to a message. Its author may for a while; the owner and the admins of a group may recall
/// anything at any time, and edit nothing: nobody puts words into another one's mouth.
///
/// # Errors
/// Why not.
pub fn may_amend(
    limits: &AmendLimits,
    amend: Amend,
    original: &Original<'_>,
    who: &Who<'_>,
    role: Option<Role>,
    now_ms: u64,
) -> Result<(), Refusal> {
    let kind = serde_json::from_slice::<Kind<'_>>(original.body).map(|kind| kind.kind);
    if !matches!(kind.as_deref(), Ok("text" | "image" | "file" | "audio" | "video")) {
        return Err(Refusal::new(Code::FailedPrecondition, "that is not a message of a user"));
    }
    if who.guest {
        // The next guest may have the same name.
        return Err(Refusal::denied("guests cannot change what they wrote"));
    }
    if amend == Amend::Recall && role.is_some_and(|role| role >= Role::Admin) {
        return Ok(());
    }
    if original.from != who.user {
        return Err(Refusal::denied("somebody else wrote that"));
    }
    let (limit_ms, late) = match amend {
        Amend::Edit => (limits.edit_ms, "it is too late to edit that"),
        Amend::Recall => (limits.recall_ms, "it is too late to recall that"),
    };
    if now_ms.saturating_sub(original.at_ms) <= limit_ms {
        Ok(())
    } else {
        Err(Refusal::new(Code::FailedPrecondition, late))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000_000;

    fn amend(amend: Amend, user: &str, role: Option<Role>, age_ms: u64, kind: &str) -> Option<Code> {
        let body = format!(r#"{{"type":"{kind}","text":"x"}}"#);
        let original = Original { from: "ada", at_ms: NOW - age_ms, body: body.as_bytes() };
        let who = Who { user, guest: false };
        may_amend(&AmendLimits::default(), amend, &original, &who, role, NOW).err().map(|refusal| refusal.code)
    }

    #[test]
    fn an_author_has_a_while_and_admins_may_recall() {
        use Amend::{Edit, Recall};
        const LATE: Option<Code> = Some(Code::FailedPrecondition);
        const DENIED: Option<Code> = Some(Code::PermissionDenied);
        for (what, user, role, age_ms, answer) in [
            (Edit, "ada", None, EDIT_MS_MAX, None),
            (Edit, "ada", Some(Role::Owner), EDIT_MS_MAX + 1, LATE),
            (Recall, "ada", Some(Role::Member), RECALL_MS_MAX, None),
            (Recall, "ada", None, RECALL_MS_MAX + 1, LATE),
            (Recall, "bob", None, 0, DENIED),
            (Recall, "bob", Some(Role::Member), 0, DENIED),
            (Recall, "bob", Some(Role::Admin), NOW, None),
            (Edit, "bob", Some(Role::Owner), 0, DENIED),
        ] {
            assert_eq!(amend(what, user, role, age_ms, "text"), answer, "{what:?} {user} {role:?} {age_ms}");
        }
        assert_eq!(amend(Edit, "ada", None, 0, "image"), None);
        for kind in ["system", "edit", "recall"] {
            assert_eq!(amend(Recall, "ada", Some(Role::Owner), 0, kind), LATE, "{kind}");
        }
    }

    #[test]
    fn a_clock_that_steps_back_and_a_guest_change_nothing_about_it() {
        let body = br#"{"type":"text","text":"x"}"#;
        let original = Original { from: "ada", at_ms: NOW + 5_000, body };
        let may = |guest| {
            let who = Who { user: "ada", guest };
            may_amend(&AmendLimits::default(), Amend::Edit, &original, &who, None, NOW).is_ok()
        };
        assert_eq!((may(false), may(true)), (true, false));
    }
}
