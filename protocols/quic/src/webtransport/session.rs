//! One session: its state and which streams are its.

use std::collections::BTreeSet;

use http::Request;

use crate::h3::{StreamId, frame::Reader};

#[derive(Debug)]
pub(crate) struct Session {
    /// Whether it was accepted, not only asked for.
    is_open: bool,
    /// The request, while it waits for the client's settings.
    pub(super) held: Option<Box<Request<()>>>,
    /// Whether the client follows draft 2, whose answer has a field of its own.
    pub(super) is_draft_2: bool,
    pub(super) streams: BTreeSet<StreamId>,
    pub(super) capsules: Reader,
}

impl Session {
    pub(crate) fn asked() -> Self {
        Self { is_open: false, held: None, is_draft_2: false, streams: BTreeSet::new(), capsules: Reader::default() }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.is_open
    }

    pub(super) fn set_open(&mut self, open: bool) {
        self.is_open = open;
    }
}
