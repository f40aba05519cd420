//! What a home shard knows: facts, sorted by their keys, and what a decision makes of them.

use std::{borrow::Cow, collections::BTreeMap, ops::Bound};

use bytes::Bytes;
use handler::Code;
use serde::{Serialize, de::DeserializeOwned};

/// The facts of a home shard, to be read. They are JSON; whoever keeps them need not know.
pub trait Facts {
    /// One fact.
    fn get(&self, key: &str) -> Option<&[u8]>;

    /// The facts whose keys begin with `prefix`, in the order of their keys; with `after`, only those behind that key.
    fn range<'f>(&'f self, prefix: &str, after: Option<&str>) -> impl Iterator<Item = (&'f str, &'f [u8])>;
}

impl<V: AsRef<[u8]>> Facts for BTreeMap<String, V> {
    fn get(&self, key: &str) -> Option<&[u8]> {
        BTreeMap::get(self, key).map(AsRef::as_ref)
    }

    fn range<'f>(&'f self, prefix: &str, after: Option<&str>) -> impl Iterator<Item = (&'f str, &'f [u8])> {
        let start = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            Some(_) | None => Bound::Included(prefix),
        };
        BTreeMap::range::<str, _>(self, (start, Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(key, value)| (key.as_str(), value.as_ref()))
    }
}

/// A fact that becomes another one. A decision changes no key twice, so that the order of its changes says nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// Which fact.
    pub key: String,
    /// What it becomes; `None`: it is no more.
    pub value: Option<Bytes>,
}

impl Change {
    pub(crate) fn put(key: String, value: &impl Serialize) -> Self {
        Self { key, value: Some(json(value)) }
    }

    pub(crate) fn delete(key: String) -> Self {
        Self { key, value: None }
    }
}

/// Applies changes, as a home does once they are journaled.
pub fn apply(facts: &mut BTreeMap<String, Bytes>, changes: &[Change]) {
    for Change { key, value } in changes {
        match value {
            Some(value) => facts.insert(key.clone(), value.clone()),
            None => facts.remove(key),
        };
    }
}

/// Who asks; it was authenticated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Who<'a> {
    /// The user's name.
    pub user: &'a str,
    /// Whether it is a guest, whose name is not reserved: the next guest may have it too.
    pub guest: bool,
}

/// Why something is not done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// What kind.
    pub code: Code,
    /// In words.
    pub message: Cow<'static, str>,
    /// When to try again.
    pub retry_ms: Option<u32>,
}

impl Refusal {
    pub(crate) fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), retry_ms: None }
    }

    pub(crate) fn bad(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    pub(crate) fn denied(message: &'static str) -> Self {
        Self::new(Code::PermissionDenied, message)
    }

    /// Denied until a time; without one, for good.
    pub(crate) fn denied_until(message: &'static str, at_ms: u64, until_ms: Option<u64>) -> Self {
        let wait = until_ms.map(|until| u32::try_from(until.saturating_sub(at_ms)).unwrap_or(u32::MAX));
        Self { retry_ms: wait, ..Self::denied(message) }
    }

    pub(crate) fn full(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::ResourceExhausted, message)
    }
}

/// Reads one fact. One that cannot be read is our fault, and nothing may be decided as if it were not there.
pub(crate) fn read<T: DeserializeOwned>(facts: &impl Facts, key: &str) -> Result<Option<T>, Refusal> {
    facts.get(key).map(parse).transpose()
}

pub(crate) fn parse<T: DeserializeOwned>(value: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(value).map_err(|_| Refusal::new(Code::Internal, "a stored fact cannot be read"))
}

pub(crate) fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("our own types have plain keys and no errors").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_ends_with_its_prefix_and_starts_behind_a_key() {
        let keys = ["a", "g/1", "g/1/m/ada", "g/1/m/bob", "g/1/m/eve", "g/10/m/zoe", "h"];
        let facts: BTreeMap<String, &[u8]> = keys.iter().map(|key| ((*key).to_owned(), &b"1"[..])).collect();
        let range = |prefix: &str, after| Facts::range(&facts, prefix, after).map(|(key, _)| key).collect::<Vec<_>>();
        assert_eq!(range("g/1/m/", None), ["g/1/m/ada", "g/1/m/bob", "g/1/m/eve"]);
        assert_eq!(range("g/1/m/", Some("g/1/m/ada")), ["g/1/m/bob", "g/1/m/eve"]);
        assert_eq!(range("g/1/m/", Some("g/1/m/b")), ["g/1/m/bob", "g/1/m/eve"]);
        assert_eq!(range("g/1/m/", Some("a")), ["g/1/m/ada", "g/1/m/bob", "g/1/m/eve"]);
        assert_eq!(range("g/1/m/", Some("z")), [""; 0]);
        assert_eq!(range("x", None), [""; 0]);
    }
}
