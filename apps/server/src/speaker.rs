//! A session on its connection: who speaks, in which dialect, and the hello that is still being answered.

use std::{sync::Arc, time::Instant};

use bytes::BytesMut;
use handler::{Code, PeerInfo, Push};
use session::{Server, Session, auth::LoginId};

use crate::{compat::Foreign, dialect::Dialect};

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
    /// When its token ends, and with it the session.
    pub(crate) expires: Option<Instant>,
    /// The login that its token belongs to.
    pub(crate) login: Option<LoginId>,
    /// What the token allows, if not everything: topics and operations by name, or by prefix with a `*` at the end.
    pub(crate) caps: Box<[String]>,
    /// Subscriptions that no app has answered yet, by the request's id.
    pub(crate) asked: Vec<(u32, Box<str>)>,
    /// What stands between the session and a client that speaks another protocol.
    pub(crate) foreign: Option<Box<Foreign>>,
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
        Self {
            dialect,
            session,
            info: None,
            hello: None,
            expires: None,
            login: None,
            caps: Box::default(),
            asked: Vec::new(),
            foreign: None,
        }
    }

    /// Appends what the server says, as the client understands it.
    pub(crate) fn say(&mut self, message: &Server<'_>, out: &mut BytesMut) {
        match &mut self.foreign {
            None => self.dialect.encode(message, out),
            Some(foreign) => {
                foreign.told(message);
                foreign.take_output(out);
            }
        }
    }

    /// When something is due: a ping, the end by silence, the end of the token.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        [self.session.deadline(), self.expires].into_iter().flatten().min()
    }

    /// Whether the token allows this topic or operation. What is not for people it has to name.
    pub(crate) fn may(&self, name: &str) -> bool {
        if [chat::PUSH_OP, chat::AUDIT_TOPIC].contains(&name) {
            return self.caps.iter().any(|cap| cap == name);
        }
        let allows = |cap: &String| match cap.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => cap == name,
        };
        self.caps.is_empty() || self.caps.iter().any(allows)
    }

    /// Takes note of the answer to a subscription: a refused one does not count any longer.
    pub(crate) fn settle(&mut self, push: &Push) {
        let (id, counts) = match push {
            Push::SubOk { id, .. } => (*id, true),
            // One of the same name stands.
            Push::Err { id: Some(id), code, .. } => (*id, *code == Code::AlreadyExists),
            Push::UnsubOk { .. }
            | Push::PubOk { .. }
            | Push::Res { .. }
            | Push::Err { id: None, .. }
            | Push::Msg { .. }
            | Push::Eph { .. }
            | Push::Presence { .. }
            | Push::Gap { .. } => return,
        };
        let Some(place) = self.asked.iter().position(|(asked, _)| *asked == id) else { return };
        let (_, topic) = self.asked.swap_remove(place);
        if !counts {
            self.session.forget(&topic);
        }
        if self.asked.is_empty() {
            self.asked = Vec::new();
        }
    }
}
