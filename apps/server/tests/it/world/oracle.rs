//! What everybody was told, held against each other: one order for all, nothing acknowledged is lost, nothing is twice.

use std::collections::BTreeMap;

use session::Code;

/// All that clients have heard.
#[derive(Default)]
pub(crate) struct Oracle {
    /// Topic and offset: who said what.
    said: BTreeMap<(String, u64), (String, Vec<u8>)>,
    /// Topic, user and counter: which offset it got.
    acknowledged: BTreeMap<(String, String, u64), u64>,
    /// How many messages a topic keeps.
    pub(crate) history: u64,
    pub(crate) gaps: u64,
    pub(crate) refusals: u64,
    pub(crate) heard: u64,
}

impl Oracle {
    pub(crate) fn new(history: u64) -> Self {
        Self { history, ..Self::default() }
    }

    pub(crate) fn heard(&mut self, topic: &str, offset: u64, from: &str, body: &[u8]) {
        self.heard += 1;
        let new = (from.to_owned(), body.to_vec());
        let text = String::from_utf8_lossy(body);
        assert!(text.contains(&format!("\"{from} ")), "`{from}` is not who said {text}");
        let known = self.said.entry((topic.to_owned(), offset)).or_insert_with(|| new.clone());
        assert_eq!(*known, new, "two readers were told different things at offset {offset}");
    }

    pub(crate) fn acknowledged(&mut self, topic: &str, user: &str, seq: u64, offset: u64) {
        let key = (topic.to_owned(), user.to_owned(), seq);
        let known = self.acknowledged.entry(key).or_insert(offset);
        // Once only within the history: what has left it may be said again.
        if *known + self.history <= offset {
            *known = offset;
        }
        let known = *known;
        assert_eq!(known, offset, "{user}'s message {seq} was taken twice");
    }

    pub(crate) fn gap(&mut self, _topic: &str, _first: u64) {
        self.gaps += 1;
    }

    pub(crate) fn refused(&mut self, code: Code, message: &str) {
        let expected = matches!(code, Code::ResourceExhausted | Code::Unavailable | Code::Unauthenticated);
        assert!(expected, "refused: {code:?} {message}");
        self.refusals += 1;
    }

    pub(crate) fn acknowledged_count(&self) -> usize {
        self.acknowledged.len()
    }

    /// The newest offset of a topic that anybody got an acknowledgement for.
    pub(crate) fn newest(&self, topic: &str) -> u64 {
        let of_topic = self.acknowledged.iter().filter(|((known, _, _), _)| known == topic);
        of_topic.map(|(_, offset)| *offset).max().unwrap_or(0)
    }

    /// At the end, when all have caught up: what was acknowledged was said, at its offset, by whom it was, and once.
    pub(crate) fn settle(&self) {
        let mut offsets = BTreeMap::new();
        for ((topic, user, seq), offset) in &self.acknowledged {
            let twin = offsets.insert((topic, offset), (user, seq));
            assert!(twin.is_none(), "offset {offset} was given twice");
            if let Some((from, body)) = self.said.get(&(topic.clone(), *offset)) {
                let text = String::from_utf8_lossy(body);
                let same = from == user && text.contains(&format!("\"{user} {seq} "));
                assert!(same, "offset {offset} is {user}'s {seq}, but was heard as {from}'s {text}");
            } else {
                assert!(self.gaps > 0, "{user}'s message {seq} was acknowledged at {offset} and never heard");
            }
        }
    }
}
