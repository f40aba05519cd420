//! Chat rooms: topics `chat/<room>` whose messages are texts.
//!
//! [`conversation`], [`directory`], [`body`], [`rate`] and [`search`] are the model of a whole messenger, of which rooms
//! use the texts so far: functions of facts and of what is asked, without topics, shards or disks.

pub mod body;
mod chat;
pub mod conversation;
pub mod directory;
mod facts;
mod history;
mod list;
mod name;
pub mod rate;
mod room;
pub mod search;
mod words;

pub use body::TEXT_CHARS_MAX;
pub use chat::Chat;
pub use facts::{Change, Facts, Refusal, Who, apply};
pub use list::PAGE_LINES_MAX;
pub use name::{GROUP_NAME_CHARS_MAX, USER_CHARS_MAX, group_name, is_user};
pub use words::{Verdict, WORD_CHARS_MAX, WORDS_BYTES_MAX, WORDS_MAX, WordList, WordsError};
