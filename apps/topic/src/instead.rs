//! What readers get instead of a message, and facts that are as true as a message is: for apps that take back what was
//! said, without the history being written anew.

use handler::{Code, Cx};

use crate::{NO_PEER, Topics, facts::Change, home::Home, mail::Mail};

/// What the keys of facts begin with that say what readers get instead of a message; behind it are 16 hexadecimal digits,
/// its offset.
const INSTEAD: &str = "instead/";

/// Bytes in front of the body: the history that is meant. One that begins anew later has other messages.
const EPOCH_BYTES: usize = 8;

impl Topics {
    /// The change by which readers get this body instead of the message at an offset from now on, whether it is in memory
    /// or on disk. `None`: there is no such topic.
    #[must_use]
    pub fn instead(&self, topic: &str, offset: u64, body: &[u8]) -> Option<Change> {
        let epoch = self.home.at_home(topic)?.epoch;
        let value = [&epoch.to_le_bytes(), body].concat();
        Some(Change { key: key(offset), value: Some(value.into()) })
    }

    /// What readers get instead of the message at an offset.
    #[must_use]
    pub fn replacement(&self, topic: &str, offset: u64) -> Option<&[u8]> {
        let epoch = self.home.at_home(topic)?.epoch;
        body(self.home.fact(topic, &key(offset))?, epoch)
    }

    /// The oldest offset that a topic holds, in memory or on disk.
    #[must_use]
    pub fn oldest(&self, topic: &str) -> u64 {
        self.home.at_home(topic).map_or(1, |topic| topic.first())
    }

    /// Asks for the message at an offset of a topic that is at home here, in memory or on disk. [`Topics::on_mail`] gives a
    /// page with it, or an empty one, whose peer is [`NO_PEER`] and whose id is the ticket.
    pub fn fetch(&mut self, cx: &mut Cx<'_, Mail>, topic: &str, offset: u64, ticket: u32) {
        let Self { desk, home, .. } = self;
        let (parcel, here) = (desk.pack(cx, &[topic, ""], &[]), cx.shard);
        home.on_browse(cx, desk, here, (NO_PEER, ticket), (Some(offset.saturating_add(1)), 1), parcel);
    }

    /// Changes that take back what was said instead of messages that the topic holds no more: the oldest few.
    #[must_use]
    pub fn stale_replacements(&self, topic: &str, most: usize) -> Vec<Change> {
        let first = self.oldest(topic);
        let old = self.home.facts().range(topic, INSTEAD, None).map_while(|(key, _)| Some((key, offset(key)?)));
        let old = old.take(most).take_while(|(_, offset)| *offset < first);
        old.map(|(key, _)| Change { key: key.to_owned(), value: None }).collect()
    }

    /// The newest offset that was given, also to messages that are on their way to disk.
    #[must_use]
    pub fn newest(&self, topic: &str) -> u64 {
        self.home.at_home(topic).map_or(0, |topic| topic.history.head() + topic.in_flight)
    }

    /// Changes that come to disk with the next publication, or not at all if it is refused; [`Topics::settled`] tells.
    ///
    /// # Errors
    /// A name, key or value is too long: nothing has changed.
    pub fn accompany(&mut self, name: &str, changes: Vec<Change>, token: u64) -> Result<(), (Code, &'static str)> {
        self.home.accompany(name, changes, token).map_err(|refusal| (refusal.code, refusal.message))
    }
}

impl Home {
    /// The bodies that readers get instead of messages from `first` on, by offset.
    pub(crate) fn replacements(&self, (name, epoch): (&str, u64), first: u64) -> impl Iterator<Item = (u64, &[u8])> {
        let before = first.checked_sub(1).map(key);
        let facts = self.facts().range(name, INSTEAD, before.as_deref());
        facts.filter_map(move |(key, value)| Some((offset(key)?, body(value, epoch)?)))
    }
}

fn key(offset: u64) -> String {
    format!("{INSTEAD}{offset:016x}")
}

fn offset(key: &str) -> Option<u64> {
    u64::from_str_radix(key.strip_prefix(INSTEAD)?, 16).ok()
}

fn body(value: &[u8], epoch: u64) -> Option<&[u8]> {
    let (of, body) = value.split_first_chunk::<EPOCH_BYTES>()?;
    (u64::from_le_bytes(*of) == epoch).then_some(body)
}
