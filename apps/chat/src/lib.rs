//! Chat rooms: topics `chat/<room>` whose messages are texts.

mod body;
mod chat;
mod history;
mod room;
mod words;

pub use body::TEXT_CHARS_MAX;
pub use chat::Chat;
pub use words::{Verdict, WORD_CHARS_MAX, WORDS_BYTES_MAX, WORDS_MAX, WordList, WordsError};
