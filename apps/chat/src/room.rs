//! What a room may be called.

/// What the names of all topics of this app begin with.
const PREFIX: &str = "chat/";

/// The longest name of a room: what fits a screen and a link.
const ROOM_BYTES_MAX: usize = 64;

const _: () = assert!(PREFIX.len() + ROOM_BYTES_MAX <= topic::TOPIC_BYTES_MAX, "a room's topic is a topic");

/// Whether this is the topic of a room: `chat/` and 1 to 64 of `[a-z0-9._~-]`, with a letter or digit among them.
pub(crate) fn is_room(topic: &str) -> bool {
    topic.strip_prefix(PREFIX).is_some_and(|room| {
        room.len() <= ROOM_BYTES_MAX
            && room.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'~' | b'-'))
            && room.bytes().any(|byte| byte.is_ascii_alphanumeric())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_have_plain_names() {
        for good in ["chat/lobby", "chat/a", "chat/room-7_x.y~z", &format!("chat/{}", "a".repeat(64))] {
            assert!(is_room(good), "{good}");
        }
        let long = format!("chat/{}", "a".repeat(65));
        for bad in
            ["", "chat", "chat/", "Chat/a", "chat/A", "chat/a/b", "chat/a b", "chat/..", "chat/ü", "canvas/a", &long]
        {
            assert!(!is_room(bad), "{bad}");
        }
    }
}
