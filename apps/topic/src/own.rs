//! What an app may do with topics beside passing on what peers say: look at mail before it is acted on, write to itself
//! on other shards, and say something itself.

use std::{any::Any, sync::Arc};

use handler::{Code, Cx, Level, Peer, ShardId};

use crate::{
    Topics,
    home::Home,
    mail::{Letter, Mail, Refusal},
    page::Page,
    record::Record,
    watermark::Watermark,
};

/// What mail brought that is the app's business.
#[derive(Debug)]
pub enum News {
    /// A page of history that was asked for.
    Page(Page),
    /// What the app wrote on another shard, or this one.
    App(Arc<dyn Any + Send + Sync>),
}

/// What somebody wants of a topic that is at home here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VisitKind {
    /// To listen.
    Subscribe,
    /// A page of its history.
    Browse,
    /// To pass on an ephemeral value.
    Wave,
    /// To raise marks.
    Ack,
    /// To publish.
    Publish,
}

/// Who wants what, before it is done.
#[derive(Clone, Copy, Debug)]
pub struct Visit<'a> {
    /// What.
    pub kind: VisitKind,
    /// Of which topic.
    pub topic: &'a str,
    /// Who.
    pub user: &'a str,
    /// Whether it is a guest.
    pub guest: bool,
    /// What the app gave with [`Topics::publish`].
    pub hint: u8,
    /// What is published or passed on.
    pub body: &'a [u8],
}

/// The end of a topic.
#[derive(Clone, Copy, Debug)]
pub struct Tail<'a> {
    /// The newest offset; 0: none yet.
    pub head: u64,
    /// When the newest message was taken, milliseconds since 1970; 0: none yet.
    pub at_ms: u64,
    /// The newest message, if it is in memory.
    pub record: Option<Record<'a>>,
}

impl Mail {
    /// What this mail to a home wants, if it is something that an app may want to look at first.
    #[must_use]
    pub fn visit(&self) -> Option<Visit<'_>> {
        let (kind, parcel) = match &self.0 {
            Letter::Subscribe { parcel, .. } => (VisitKind::Subscribe, parcel),
            Letter::Browse { parcel, .. } => (VisitKind::Browse, parcel),
            Letter::Wave { parcel, .. } => (VisitKind::Wave, parcel),
            Letter::Ack { parcel, .. } => (VisitKind::Ack, parcel),
            Letter::Publish { parcel, .. } => (VisitKind::Publish, parcel),
            _ => return None,
        };
        let (topic, user, body) = (parcel.text(0), parcel.text(1), parcel.body());
        Some(Visit { kind, topic, user, guest: parcel.guest, hint: parcel.hint, body })
    }

    /// The same publication with another body.
    #[must_use]
    pub fn with_body(self, body: &[u8]) -> Self {
        match self.0 {
            Letter::Publish { peer, id, seq, parcel } => {
                Self(Letter::Publish { peer, id, seq, parcel: parcel.with_body(body) })
            }
            other => Self(other),
        }
    }
}

impl Topics {
    /// Mails the app on another shard, or this one. It is in order with all other mail of topics.
    pub fn mail_app(&self, cx: &mut Cx<'_, Mail>, to: ShardId, letter: Arc<dyn Any + Send + Sync>) {
        cx.mail(to, Mail(Letter::App(letter)));
    }

    /// Publishes for a peer, with a word to the app at the topic's home.
    pub fn publish(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        (peer, id): (Peer, u32),
        topic: &str,
        (seq, body): (Option<u64>, &[u8]),
        hint: u8,
    ) {
        self.local.on_pub(cx, &mut self.desk, (peer, id), topic, (seq, body, hint));
    }

    /// Whether this mail is a publication that is held already.
    pub fn is_repeat(&mut self, mail: &Mail) -> bool {
        match &mail.0 {
            Letter::Publish { seq, parcel, .. } => self.home.is_repeat(&mut self.desk, *seq, parcel),
            _ => false,
        }
    }

    /// Answers mail to this home with a refusal instead of acting on it.
    pub fn refuse(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        from: ShardId,
        mail: &Mail,
        (code, message, retry_ms): (Code, &'static str, Option<u32>),
    ) {
        Home::refuse(cx, from, &mail.0, Refusal { code, message, retry_ms });
    }

    /// Publishes in a topic that is at home here what no peer waits for. It has its offset when it is on disk.
    ///
    /// # Errors
    /// Why it was not taken.
    pub fn publish_own(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        (topic, from): (&str, &str),
        body: &[u8],
    ) -> Result<Option<(u64, Level)>, (Code, &'static str)> {
        let refused = |refusal: Refusal| (refusal.code, refusal.message);
        self.home.publish_own(cx, &mut self.desk, (topic, from), body).map_err(refused)
    }

    /// Makes sure that a topic that is at home here has a place, or gets one with a publication that follows right now.
    ///
    /// # Errors
    /// Why there is none.
    pub fn make_room(&mut self, topic: &str) -> Result<(), (Code, &'static str)> {
        let Self { desk, home, .. } = self;
        home.has_room(desk, topic).map_err(|refusal| (refusal.code, refusal.message))
    }

    /// Passes on an ephemeral value in a topic that is at home here.
    pub fn wave_own(&mut self, cx: &mut Cx<'_, Mail>, at: (&str, &str, &str), body: &[u8]) {
        self.home.wave_own(cx, &mut self.desk, at, body);
    }

    /// Raises a user's marks in a topic that is at home here.
    pub fn raise(&mut self, cx: &mut Cx<'_, Mail>, (topic, user): (&str, &str), (delivered, read): (u64, u64)) {
        self.home.raise(cx, &mut self.desk, (topic, user), (delivered, read));
    }

    /// Forgets a user's marks in a topic that is at home here: the user has left.
    pub fn forget_marks(&mut self, topic: &str, user: &str) {
        self.home.forget_marks(topic, user);
    }

    /// Keeps half of the places, of topics in memory and of topics that are known, for those whose names begin so: what
    /// anybody can make must not be in their way. To be called before there are topics.
    pub fn reserve(&mut self, beginnings: &'static [&'static str]) {
        self.home.reserve(beginnings);
    }

    /// Marks that have risen since it was last asked, gathered over half a second. Whoever asks too seldom misses some.
    pub fn take_marked(&mut self) -> Vec<(Arc<str>, Arc<str>, Watermark)> {
        std::mem::take(&mut self.home.marked)
    }

    /// The marks of all users in a topic that is at home here, by name.
    pub fn marks(&self, topic: &str) -> impl Iterator<Item = (&str, Watermark)> {
        self.home.marks(topic)
    }

    /// The message at an offset of a topic that is at home here, if it is in memory.
    #[must_use]
    pub fn peek(&self, topic: &str, offset: u64) -> Option<Record<'_>> {
        self.home.peek(topic, offset)
    }

    /// The end of a topic that is at home here.
    #[must_use]
    pub fn tail(&self, topic: &str) -> Tail<'_> {
        let (head, at_ms, record) = self.home.tail(topic);
        Tail { head, at_ms, record }
    }

    /// The shards that listen to a topic that is at home here.
    #[must_use]
    pub fn audience(&self, topic: &str) -> Vec<ShardId> {
        self.home.at_home(topic).map_or_else(Vec::new, |topic| topic.audiences.iter().map(|a| a.shard).collect())
    }

    /// Names of things at home here that have a fact with a key that begins so, with that key.
    pub fn named(&self, prefix: &str) -> Vec<(String, String)> {
        let facts = self.home.facts().iter().filter(|(_, key, _)| key.starts_with(prefix));
        facts.map(|(name, key, _)| (name.to_owned(), key.to_owned())).collect()
    }

    /// Ends all subscriptions of a user to a topic on this shard; gives whose they were.
    pub fn expel(&mut self, cx: &mut Cx<'_, Mail>, user: &str, topic: &str) -> Vec<Peer> {
        self.local.expel(cx, &mut self.desk, user, topic)
    }

    /// Who a peer is, and whether it is a guest.
    #[must_use]
    pub fn who(&self, peer: Peer) -> Option<(Arc<str>, bool)> {
        self.local.members.get(peer).map(|member| (member.user.clone(), member.guest))
    }
}
