//! Facts about single messages, for apps that change or take back what was said without the history being written anew:
//! what readers get instead of a message, and whatever else the app says of one.
//!
//! The key of such a fact is its kind and behind that 16 hexadecimal digits, the offset. The value begins with the epoch of
//! the history that is meant: one that begins anew later has other messages. They are as safe as the messages themselves:
//! of a topic that is acknowledged from memory they are in memory too, for as long as it is. They go with the topic.

use handler::{Code, Cx, Level};

use crate::{
    NO_PEER, Topics,
    facts::{self, Change},
    home::Home,
    mail::Mail,
};

/// The kind that says what readers get instead of a message.
const INSTEAD: &str = "instead/";

/// Bytes in front of what is said.
const EPOCH_BYTES: usize = 8;

impl Topics {
    /// Facts whose keys begin so are about single messages. Each kind ends with `/`. To be called before there are topics.
    pub fn speak_of_messages(&mut self, kinds: &'static [&'static str]) {
        assert!(kinds.iter().all(|kind| kind.ends_with('/')), "what comes behind a kind is told from it");
        self.home.kinds = kinds;
    }

    /// The change by which something is said of a message from now on. `None`: there is no such topic.
    #[must_use]
    pub fn say_of(&self, topic: &str, (kind, offset): (&str, u64), value: &[u8]) -> Option<Change> {
        let epoch = self.home.epoch_of(topic)?;
        let value = [&epoch.to_le_bytes(), value].concat();
        Some(Change { key: key(kind, offset), value: Some(value.into()) })
    }

    /// What is said of a message.
    #[must_use]
    pub fn said_of(&self, topic: &str, (kind, offset): (&str, u64)) -> Option<&[u8]> {
        let epoch = self.home.epoch_of(topic)?;
        said(self.home.fact(topic, &key(kind, offset))?, epoch)
    }

    /// The change by which readers get this body instead of the message at an offset from now on, whether it is in memory
    /// or on disk. `None`: there is no such topic.
    #[must_use]
    pub fn instead(&self, topic: &str, offset: u64, body: &[u8]) -> Option<Change> {
        self.say_of(topic, (INSTEAD, offset), body)
    }

    /// What readers get instead of the message at an offset.
    #[must_use]
    pub fn replacement(&self, topic: &str, offset: u64) -> Option<&[u8]> {
        self.said_of(topic, (INSTEAD, offset))
    }

    /// The oldest offset that a topic holds, in memory or on disk.
    #[must_use]
    pub fn oldest(&self, topic: &str) -> u64 {
        self.home.oldest(topic)
    }

    /// Asks for the message at an offset of a topic that is at home here, in memory or on disk. [`Topics::on_mail`] gives a
    /// page with it, or an empty one, whose peer is [`NO_PEER`] and whose id is the ticket.
    pub fn fetch(&mut self, cx: &mut Cx<'_, Mail>, topic: &str, offset: u64, ticket: u32) {
        let Self { desk, home, .. } = self;
        let (parcel, here) = (desk.pack(cx, &[topic, ""], &[]), cx.shard);
        home.on_browse(cx, desk, here, (NO_PEER, ticket), (Some(offset.saturating_add(1)), 1), parcel);
    }

    /// Changes that take back what is said of messages that the topic holds no more: of each kind the oldest few. With them
    /// comes that these messages are never shown again, although they may lie in a segment that a later run keeps for
    /// longer: all of these changes belong into one record.
    #[must_use]
    pub fn stale_facts(&self, topic: &str, most: usize) -> Vec<Change> {
        let first = self.oldest(topic);
        let mut changes = Vec::new();
        for kind in self.home.kinds() {
            let old = self.home.facts().range(topic, kind, None).take(most);
            let old = old.take_while(|(key, _)| offset(kind, key).is_some_and(|offset| offset < first));
            changes.extend(old.map(|(key, _)| Change { key: key.to_owned(), value: None }));
        }
        if !changes.is_empty() {
            changes.extend(self.home.raised_floor(topic, first));
        }
        changes
    }

    /// The newest offset that was given, also to messages that are on their way to disk.
    #[must_use]
    pub fn newest(&self, topic: &str) -> u64 {
        self.home.ends(topic).1
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
    /// The oldest offset that a topic holds, and the newest that was given.
    fn ends(&self, name: &str) -> (u64, u64) {
        match (self.at_home(name), self.head_of(name)) {
            (Some(topic), _) => (topic.first(), topic.history.head() + topic.in_flight),
            // It is asleep, and has no messages.
            (None, Some(head)) => (head.offset + 1, head.offset),
            (None, None) => (1, 0),
        }
    }

    /// The bodies that readers get instead of messages from `first` on, by offset.
    pub(crate) fn replacements(&self, (name, epoch): (&str, u64), first: u64) -> impl Iterator<Item = (u64, &[u8])> {
        let before = first.checked_sub(1).map(|before| key(INSTEAD, before));
        let facts = self.facts().range(name, INSTEAD, before.as_deref());
        facts.filter_map(move |(key, value)| Some((offset(INSTEAD, key)?, said(value, epoch)?)))
    }

    /// What the keys of facts about messages begin with.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = &'static str> + use<> {
        [INSTEAD].into_iter().chain(self.kinds.iter().copied())
    }

    /// The oldest offset that a topic holds, in memory or on disk.
    pub(crate) fn oldest(&self, name: &str) -> u64 {
        self.ends(name).0
    }

    /// Whether a fact is about a message that its topic holds no more.
    pub(crate) fn is_of_gone(&self, name: &str, key: &str) -> bool {
        let offset = self.kind_of(key).and_then(|kind| offset(kind, key));
        offset.is_some_and(|offset| offset < self.oldest(name))
    }

    /// The kind of a fact, if it is about a message.
    pub(crate) fn kind_of(&self, key: &str) -> Option<&'static str> {
        self.kinds().find(|kind| key.starts_with(kind))
    }

    /// Whether a fact is kept in memory and nowhere else.
    pub(crate) fn is_kept_in_memory(&self, name: &str, key: &str) -> bool {
        let of_memory = || self.at_home(name).is_some_and(|topic| topic.level == Level::Memory);
        // What an earlier run has written is changed where it is.
        let is_on_disk = || self.facts().on_disk(&facts::full(name, key)).is_some();
        self.journal.is_none() || (self.kind_of(key).is_some() && of_memory() && !is_on_disk())
    }

    /// A topic that was acknowledged from memory is gone, and with it what was said of its messages.
    pub(crate) fn forget_what_was_said(&mut self, name: &str) {
        for kind in self.kinds() {
            let gone: Vec<String> = self.facts.range(name, kind, None).map(|(key, _)| key.to_owned()).collect();
            gone.iter().for_each(|key| self.facts.remove_from_memory(name, key));
        }
    }
}

fn key(kind: &str, offset: u64) -> String {
    format!("{kind}{offset:016x}")
}

fn offset(kind: &str, key: &str) -> Option<u64> {
    u64::from_str_radix(key.strip_prefix(kind)?, 16).ok()
}

/// What a fact says of a message, if that is one of this history.
pub(crate) fn said(value: &[u8], epoch: u64) -> Option<&[u8]> {
    let (of, said) = value.split_first_chunk::<EPOCH_BYTES>()?;
    (u64::from_le_bytes(*of) == epoch).then_some(said)
}
