//! One session: its state and which streams are its.

use std::collections::BTreeSet;

use http::Request;

use crate::h3::{StreamId, frame::Reader};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// It is asked for and not answered.
    Asked,
    /// It was accepted.
    Open,
}

#[derive(Debug)]
pub(crate) struct Session {
    state: State,
    /// The request, while it waits for the client's settings.
    pub(super) held: Option<Box<Request<()>>>,
    /// Whether the client follows draft 2, whose answer has a field of its own.
    pub(super) is_draft_2: bool,
    pub(super) streams: BTreeSet<StreamId>,
    pub(super) capsules: Reader,
}

impl Session {
    pub(crate) fn asked() -> Self {
        Self {
            state: State::Asked,
            held: None,
            is_draft_2: false,
            streams: BTreeSet::new(),
            capsules: Reader::default(),
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    pub(super) fn open(&mut self) {
        self.state = State::Open;
    }
}
