//! A session on its connection: who speaks, in which dialect, and the hello that is still being answered.

use std::sync::Arc;

use handler::{PeerInfo, Push};
use session::Session;

use crate::dialect::Dialect;

/// Correlation ids from here up are the server's own, for the subscriptions of a hello.
pub(crate) const HELLO_IDS: u32 = 0xffff_f000;

/// Who speaks the session protocol on a connection.
pub(crate) struct Speaker {
    pub(crate) dialect: Dialect,
    pub(crate) session: Session,
    /// Who it is, once the hello was accepted.
    pub(crate) info: Option<Box<PeerInfo>>,
    /// The hello whose subscriptions are not all answered yet.
    pub(crate) hello: Option<Box<Hello>>,
}

/// A hello that waits for the answers to its subscriptions. Until the welcome is out its connection counts as lagging,
/// so that messages wait in their topics, and the few other pushes are held here.
pub(crate) struct Hello {
    pub(crate) id: u32,
    pub(crate) session: String,
    pub(crate) ticket: String,
    pub(crate) waiting: usize,
    pub(crate) subs: Vec<Subscribed>,
    pub(crate) held: Vec<Push>,
}

/// What became of one subscription of a hello.
pub(crate) enum Subscribed {
    /// Not answered yet.
    Waiting(Arc<str>),
    /// It stands.
    Ok { topic: Arc<str>, alias: u32, epoch: u64, head: u64 },
    /// It was refused.
    Refused { topic: Arc<str>, code: session::Code, message: String },
}

impl Speaker {
    pub(crate) fn new(dialect: Dialect, session: Session) -> Self {
        Self { dialect, session, info: None, hello: None }
    }
}
