//! Chat rooms: topics `chat/<room>` whose messages are texts.

mod body;
mod chat;
mod history;
mod room;

pub use chat::Chat;
