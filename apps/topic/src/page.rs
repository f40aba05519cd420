//! A page of history, as an app asked for it.

use std::sync::Arc;

use bytes::Bytes;
use handler::Peer;

use crate::{
    mail::PageLetter,
    record::{Record, Records},
};

/// The answer to [`crate::Topics::browse`].
#[derive(Debug)]
pub struct Page {
    /// Who asked.
    pub peer: Peer,
    /// The correlation id of the request.
    pub id: u32,
    /// The topic's name.
    pub topic: Arc<str>,
    /// The identity of the history; 0: there is none.
    pub epoch: u64,
    /// The newest offset; 0: none yet.
    pub head: u64,
    /// Whether the history holds older records.
    pub more: bool,
    first: u64,
    records: Bytes,
}

impl Page {
    pub(crate) fn new(peer: Peer, id: u32, topic: Arc<str>, letter: PageLetter) -> Self {
        let PageLetter { epoch, head, first, more, records, .. } = letter;
        Self { peer, id, topic, epoch, head, more, first, records }
    }

    /// The records, oldest first.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        Records::new(&self.records, self.first).map(|(record, _)| record)
    }
}
