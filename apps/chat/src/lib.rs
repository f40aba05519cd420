//! Chat rooms: topics `chat/<room>` whose messages are texts.

mod body;
mod chat;
mod history;
mod room;

pub use body::TEXT_CHARS_MAX;
pub use chat::Chat;
