//! A user's directory: contacts, and the conversations that the user is in with how far it has read them.
//!
//! It is at home with the user's personal topic, and decided there out of its facts, as [`crate::conversation`] is. What
//! concerns two users is two facts at two homes: one decides and sends the other a [`Letter`]. Letters between two homes
//! keep their order; when all have arrived both say the same, whatever the two users did meanwhile.
//!
//! | key | fact |
//! |---|---|
//! | `u/<user>/c/<topic>` | an [`Entry`]: a conversation in the user's list |
//! | `u/<user>/n` | how many entries there are |
//! | `u/<user>/i/<topic>` | an [`Invitation`] to a group |
//! | `u/<user>/k/<other>` | a [`Contact`] |
//! | `u/<user>/r/<other>` | a [`Request`] that came |
//! | `u/<user>/o/<other>` | a [`Request`] that went out |
//! | `u/<user>/x/<other>` | a [`Block`]: the other one is not heard |

mod answer;
mod contact;
mod decide;
mod entry;
mod invitation;
mod letter;
mod op;
mod recent;
mod relation;

pub use decide::{Decision, decide, receive};
pub use entry::{CONVERSATIONS_MAX, Entry, GROUPS_MAX};
pub(crate) use entry::{entries, groups, is_listed};
pub use invitation::{INVITATIONS_MAX, Invitation};
pub use letter::Letter;
pub use op::{List, Op, REQUEST_CHARS_MAX};
pub use recent::{Cursor, Last, PREVIEW_CHARS_MAX, Page, Recent, page};
pub use relation::{BLOCKS_MAX, Block, CONTACTS_MAX, Contact, REQUESTS_MAX, Request, State, blocks, state};
pub(crate) use relation::{contacts, is_contact};
