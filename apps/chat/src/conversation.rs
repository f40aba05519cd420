//! Conversations: who takes part in them, decided at the home of their topic out of its facts.
//!
//! Everything here is a function of facts and of what is asked. A [`Decision`] says which facts change, what the others
//! are told, and what the asker is answered; journaling, applying and telling is for whoever keeps the facts.
//!
//! | key | fact |
//! |---|---|
//! | `g/<id>` | a [`Group`] |
//! | `g/<id>/m/<user>` | a [`Member`] of it |
//! | `g/<id>/b/<user>` | a [`Ban`] from it |
//! | `g/<id>/i/<user>` | an [`Invitation`] to it that was not answered |

mod access;
mod address;
mod ask;
mod decide;
mod draft;
mod group;
mod invitation;
mod member;
mod notice;
mod op;
mod page;
mod rank;
mod setting;

pub use access::{Permit, may_read, may_write};
pub use address::{Conversation, GROUP_ID_BYTES_MAX, personal};
pub(crate) use address::{DIRECT, GROUP, is_open, is_topic};
pub use ask::Ask;
pub use decide::{Call, Decision, decide};
pub use group::{
    Ban, GROUP_BANS_MAX, GROUP_INVITATIONS_MAX, GROUP_MEMBERS_MAX, Group, Invitation, Member, Role, SLOW_MS_MAX,
};
pub(crate) use group::{GROUP_TICKS_MAX, group_name, member_names, members};
pub use notice::Event;
pub use op::{Op, USERS_PER_OP_MAX};
