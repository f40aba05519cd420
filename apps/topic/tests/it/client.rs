//! A client as the world sees it: it knows what it is owed and panics at the first push that it is not.

use std::collections::{BTreeMap, VecDeque};

use handler::{Code, Peer, Push};

use crate::world::Truth;

/// Somebody's device: it remembers what it has over its connections.
#[derive(Default)]
pub(crate) struct Device {
    pub(crate) user: String,
    pub(crate) name: String,
    pub(crate) line: Option<Line>,
    /// By topic: epoch and last offset.
    pub(crate) marks: BTreeMap<String, (u64, u64)>,
    /// By topic: the last counter used.
    pub(crate) seqs: BTreeMap<String, u64>,
    pub(crate) eph: u64,
    pub(crate) pages: u64,
}

/// A connection.
pub(crate) struct Line {
    pub(crate) number: u64,
    pub(crate) shard: usize,
    pub(crate) peer: Peer,
    pub(crate) inbox: VecDeque<Push>,
    pub(crate) queued: usize,
    pub(crate) lagging: bool,
    pub(crate) slow: bool,
    pub(crate) next_id: u32,
    pub(crate) asks: BTreeMap<u32, Ask>,
    pub(crate) subs: BTreeMap<String, Sub>,
    pub(crate) gaps: u64,
    pub(crate) msgs: u64,
}

#[derive(Clone, Debug)]
pub(crate) enum Ask {
    Sub { topic: String, epoch: Option<u64>, after: Option<u64>, bogus: bool },
    Unsub { topic: String },
    Pub { topic: String, seq: Option<u64> },
}

pub(crate) struct Sub {
    pub(crate) alias: u32,
    pub(crate) next: u64,
    pub(crate) count: Option<u32>,
    /// By key: the newest value.
    pub(crate) eph: BTreeMap<String, u64>,
}

impl Line {
    pub(crate) fn new(number: u64, shard: usize, peer: Peer, slow: bool) -> Self {
        Self {
            number,
            shard,
            peer,
            inbox: VecDeque::new(),
            queued: 0,
            lagging: false,
            slow,
            next_id: 0,
            asks: BTreeMap::new(),
            subs: BTreeMap::new(),
            gaps: 0,
            msgs: 0,
        }
    }

    pub(crate) fn ask(&mut self, ask: Ask) -> u32 {
        self.next_id += 1;
        self.asks.insert(self.next_id, ask);
        self.next_id
    }

    pub(crate) fn asked_for(&self, topic: &str) -> bool {
        self.asks.values().any(|ask| matches!(ask, Ask::Sub { topic: asked, .. } if asked == topic))
    }
}

/// How much a push weighs in a connection's queue.
pub(crate) fn weight(push: &Push) -> usize {
    64 + match push {
        Push::Msg { body, .. } | Push::Eph { body, .. } | Push::Res { body, .. } => body.len(),
        _ => 0,
    }
}

impl Device {
    /// Reads one push and checks it against what the client is owed.
    pub(crate) fn read(&mut self, truth: &mut Truth, push: &Push) {
        let line = self.line.as_mut().expect("connected");
        match push {
            Push::SubOk { id, topic, alias, epoch, head } => {
                let Some(Ask::Sub { topic: asked, epoch: claimed, after, bogus }) = line.asks.remove(id) else {
                    panic!("unasked: {push:?}");
                };
                assert_eq!(*asked, **topic);
                assert!(!bogus || claimed != Some(*epoch), "beyond the end: {push:?}");
                let next = match after {
                    None => head + 1,
                    Some(_) if claimed.is_some_and(|claimed| claimed != *epoch) => 1,
                    Some(after) => after + 1,
                };
                let sub = Sub { alias: *alias, next, count: None, eph: BTreeMap::new() };
                assert!(line.subs.insert(asked.clone(), sub).is_none(), "subscribed twice");
                truth.see_epoch(&asked, *epoch, *head);
                truth.see_head(&asked, *head);
                self.marks.insert(asked, (*epoch, next - 1));
            }
            Push::UnsubOk { id, topic } => {
                let Some(Ask::Unsub { topic: asked }) = line.asks.remove(id) else { panic!("unasked: {push:?}") };
                assert_eq!(*asked, **topic);
                line.subs.remove(&asked);
            }
            Push::PubOk { id, topic, offset, .. } => {
                let Some(Ask::Pub { topic: asked, seq }) = line.asks.remove(id) else { panic!("unasked: {push:?}") };
                assert_eq!(*asked, **topic);
                truth.see_head(topic, *offset);
                if let Some(seq) = seq {
                    truth.see_place(topic, (&self.user, &self.name, seq), *offset);
                }
            }
            Push::Err { id: Some(id), code, .. } => {
                let ask = line.asks.remove(id).expect("an error about something asked");
                match (&ask, code) {
                    (Ask::Sub { bogus: true, .. }, Code::OutOfRange)
                    | (Ask::Sub { .. }, Code::AlreadyExists | Code::FailedPrecondition)
                    | (Ask::Unsub { .. }, Code::NotFound) => {}
                    (ask, code) => panic!("{ask:?} was answered {code:?}"),
                }
            }
            Push::Msg { topic, alias, offset, from, at_ms, body } => {
                let sub = line.subs.get_mut(&**topic).unwrap_or_else(|| panic!("not subscribed: {push:?}"));
                assert_eq!(sub.alias, *alias);
                assert_eq!(sub.next, *offset, "a gap or a repeat in {topic} for {}", line.number);
                sub.next += 1;
                line.msgs += 1;
                truth.see(topic, *offset, from, *at_ms, body);
                self.marks.get_mut(&**topic).expect("set with the subscription").1 = *offset;
            }
            Push::Gap { topic, first, .. } => {
                let sub = line.subs.get_mut(&**topic).expect("subscribed");
                assert!(*first > sub.next, "a gap that is none");
                sub.next = *first;
                line.gaps += 1;
                truth.see_gap(topic, *first);
            }
            Push::Presence { topic, count, joined, left, .. } => {
                let sub = line.subs.get_mut(&**topic).expect("subscribed");
                sub.count = Some(*count);
                assert!(joined.len() <= topic::PRESENCE_NAMES_MAX && left.len() <= topic::PRESENCE_NAMES_MAX);
            }
            Push::Eph { topic, from, key, body, .. } => {
                let sub = line.subs.get_mut(&**topic).expect("subscribed");
                let text = str::from_utf8(body).expect("a text");
                let (number, value) = text.split_once(' ').expect("number and value");
                assert_ne!(number, line.number.to_string(), "its own value came back");
                assert!(key.ends_with(number) && text.len() > 2 && !from.is_empty());
                let value = value.parse().expect("a number");
                let seen = sub.eph.entry(key.to_string()).or_insert(value);
                assert!(value >= *seen, "{key} went back");
                *seen = value;
            }
            Push::Err { id: None, code, .. } => assert_eq!(*code, Code::FailedPrecondition),
            Push::Res { .. } => panic!("topics answer no operation"),
        }
    }
}
