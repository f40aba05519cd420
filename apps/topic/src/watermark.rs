//! How far every user of a topic has come: marks that only rise.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;

use crate::limit::WATERMARKS_MAX;

/// How far a user has come in a topic.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Watermark {
    /// All up to here has arrived.
    pub delivered: u64,
    /// All up to here was seen.
    pub read: u64,
}

impl Watermark {
    /// As the value of a fact: three numbers, little endian, the last one the identity of the history.
    pub(crate) fn write(self, epoch: u64) -> Bytes {
        [self.delivered, self.read, epoch].map(u64::to_le_bytes).concat().into()
    }

    /// Reads the value of a fact: marks, and of which history.
    pub(crate) fn read(value: &[u8]) -> Option<(Self, u64)> {
        let (&[delivered, read, epoch], []) = value.as_chunks::<8>() else { return None };
        let [delivered, read, epoch] = [delivered, read, epoch].map(u64::from_le_bytes);
        Some((Self { delivered, read }, epoch))
    }
}

/// The marks of one topic.
#[derive(Default, Debug)]
pub(crate) struct Watermarks {
    users: BTreeMap<Arc<str>, Watermark>,
}

impl Watermarks {
    /// Raises a user's marks, never beyond `head`; whether one has risen. Too many users: the newest ones are not kept.
    pub(crate) fn raise(&mut self, user: &Arc<str>, head: u64, delivered: u64, read: u64) -> bool {
        let full = self.users.len() >= WATERMARKS_MAX;
        let mark = match self.users.get_mut(user) {
            Some(mark) => mark,
            None if full || head == 0 => return false,
            None => self.users.entry(user.clone()).or_default(),
        };
        let before = *mark;
        mark.read = mark.read.max(read.min(head));
        mark.delivered = mark.delivered.max(delivered.min(head)).max(mark.read);
        *mark != before
    }

    /// All of them, by name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, Watermark)> {
        self.users.iter().map(|(user, mark)| (user, *mark))
    }

    /// A user has left.
    pub(crate) fn remove(&mut self, user: &str) {
        self.users.remove(user);
    }

    /// A user's marks.
    pub(crate) fn get(&self, user: &str) -> Option<Watermark> {
        self.users.get(user).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_rise_and_never_fall_or_run_ahead() {
        let mut marks = Watermarks::default();
        let ada: Arc<str> = "ada".into();
        marks.raise(&ada, 0, 5, 5);
        assert_eq!(marks.get("ada"), None);
        marks.raise(&ada, 10, 5, 3);
        marks.raise(&ada, 10, 4, 2);
        assert_eq!(marks.get("ada"), Some(Watermark { delivered: 5, read: 3 }));
        marks.raise(&ada, 10, 0, u64::MAX);
        assert_eq!(marks.get("ada"), Some(Watermark { delivered: 10, read: 10 }));
        for n in 0..WATERMARKS_MAX * 2 {
            marks.raise(&n.to_string().into(), 10, 1, 1);
        }
        assert_eq!(marks.users.len(), WATERMARKS_MAX);
    }
}
