//! Presence: which users are there, over all their devices and shards, for those who may know.
//!
//! Each shard counts the sessions of accounts that it has (`here`) and tells the users' homes, gathered over a moment and
//! again every two minutes. A home keeps what the shards said (`roll`), in memory. Who may see whom (`circle`) is found
//! at the home of the one who looks, out of its contacts, its conversations and what its groups say, and looked at once
//! more at the home of whoever is seen, which knows whom that user has blocked.
//!
//! Between two shards there is at most one letter of who came and went in 50 ms, and for each question one letter to
//! every shard that is asked and one back.

mod ask;
mod circle;
mod here;
mod roll;
mod watch;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use handler::{Cx, Peer, PeerInfo, ShardId, Timer};
use topic::{Mail, Topics};

use self::{
    here::{Beat, Here},
    roll::{News, Roll, Seen, Tie},
    watch::Watches,
};
use crate::{
    conversation::personal,
    home::{View, mail},
    post::Post,
};

pub(crate) use self::ask::{Ask, of_operation};
pub use self::{
    ask::PRESENCE_USERS_MAX,
    roll::{BEAT_TTL, GRACE, QUIET, WATCHERS_MAX},
};

/// The timer of presence.
pub(crate) const TIMER: Timer = Timer(0x7072_6573_656e_6365);

/// The key of ephemeral values that say how a user is.
pub(crate) const KEY: &str = "presence";

/// What presence writes to itself on other shards.
#[derive(Debug)]
pub(crate) enum Letter {
    /// To homes: who is there.
    Beats(Vec<Beat>),
    /// To the home of whoever asks.
    Ask {
        peer: Peer,
        id: u32,
        user: Arc<str>,
        ask: Ask,
    },
    /// To homes of groups: who is in them beside this member?
    Fellows {
        ticket: u64,
        user: Arc<str>,
        groups: Vec<String>,
    },
    Fellowed {
        ticket: u64,
        users: Vec<String>,
    },
    /// To homes of users: how are they, and is this one told of changes from now on?
    Look {
        ticket: u64,
        by: Arc<str>,
        users: Vec<(String, Tie)>,
        watch: bool,
    },
    Looked {
        ticket: u64,
        users: Vec<(String, Seen)>,
        missed: bool,
    },
    /// To homes of those who watch: a user is so now.
    Changed {
        user: String,
        seen: Seen,
        watchers: Vec<String>,
    },
}

/// Presence on one shard.
#[derive(Default, Debug)]
pub(crate) struct Presence {
    here: Here,
    roll: Roll,
    asks: ask::Asks,
    watches: Watches,
    armed: Option<Instant>,
}

impl Presence {
    /// A session opened. Nothing proves the name of a guest, so it is nobody's presence.
    pub(crate) fn on_open(&mut self, cx: &mut Cx<'_, Mail>, info: &PeerInfo) {
        if !info.guest {
            self.here.enter(cx.now, &info.user);
            self.arm(cx);
        }
    }

    /// It has ended.
    pub(crate) fn on_close(&mut self, cx: &mut Cx<'_, Mail>, peer: Peer, (user, guest): (&Arc<str>, bool)) {
        if !guest {
            self.here.leave(cx.now, peer, user);
            self.arm(cx);
        }
    }

    /// A session says whether somebody sits in front of it.
    pub(crate) fn set(&mut self, cx: &mut Cx<'_, Mail>, peer: Peer, user: &Arc<str>, away: bool) {
        self.here.set_away(cx.now, peer, user, away);
        self.arm(cx);
    }

    /// A session asks how others are.
    pub(crate) fn ask(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        topics: &Topics,
        (peer, id): (Peer, u32),
        who: (&Arc<str>, Ask),
    ) {
        let (user, ask) = who;
        let Some(name) = personal(user) else { return };
        if matches!(ask, Ask::Watch) {
            self.here.watch(cx.now, peer, user);
            // Its home hears of that before it hears the question.
            self.tell_homes(cx, topics, cx.now + here::GATHER);
        }
        send(cx, topics, cx.home(&name), Letter::Ask { peer, id, user: Arc::clone(user), ask });
        self.arm(cx);
    }

    pub(crate) fn on_letter(&mut self, cx: &mut Cx<'_, Mail>, topics: &mut Topics, from: ShardId, letter: Letter) {
        match letter {
            Letter::Beats(beats) => {
                for beat in beats {
                    let news = self.roll.beat((cx.now, cx.wall_ms), from, &beat);
                    self.spread(cx, topics, news);
                    self.watches.beat(cx.now, &beat.user, self.roll.watches(cx.now, &beat.user));
                }
            }
            Letter::Ask { peer, id, user, ask } => self.on_ask(cx, topics, (from, peer, id), &user, ask),
            Letter::Fellows { ticket, user, groups } => {
                let fellows = |topic: &String| circle::fellows(&View { topics, name: topic }, topic, &user);
                let users = groups.iter().flat_map(fellows).collect();
                send(cx, topics, from, Letter::Fellowed { ticket, users });
            }
            Letter::Fellowed { ticket, users } => self.on_fellowed(cx, topics, ticket, users),
            Letter::Look { ticket, by, users, watch } => self.on_look(cx, topics, (from, ticket), &by, (users, watch)),
            Letter::Looked { ticket, users, missed } => self.on_looked(cx, topics, ticket, (users, missed)),
            Letter::Changed { user, seen, watchers } => {
                for watcher in watchers {
                    self.asks.overtake(&watcher, &user, seen);
                    if self.watches.show(&watcher, &user, seen) {
                        Self::wave(cx, topics, &watcher, (&user, seen));
                    }
                }
            }
        }
        self.arm(cx);
    }

    pub(crate) fn on_timer(&mut self, cx: &mut Cx<'_, Mail>, topics: &mut Topics) {
        self.armed = None;
        self.tell_homes(cx, topics, cx.now);
        while let Some(news) = self.roll.poll(cx.now) {
            self.spread(cx, topics, news);
        }
        while let Some(user) = self.watches.poll(cx.now) {
            match self.roll.watches(cx.now, &user) {
                true => self.look_around(cx, topics, &user),
                false => self.watches.end(&user),
            }
        }
        self.arm(cx);
    }

    /// A user wants to be seen by another one no longer, perhaps: who is not to see is told that there is nobody.
    pub(crate) fn look_again(&mut self, cx: &mut Cx<'_, Mail>, topics: &Topics, user: &str, by: &str) {
        let (Some(name), Some(tie)) = (personal(user), self.roll.tie(user, by)) else { return };
        if circle::is_seen(&View { topics, name: &name }, user, by, tie) {
            return;
        }
        self.roll.unwatch(cx.now, user, by);
        if let Some(to) = personal(by).map(|name| cx.home(&name)) {
            let (user, watchers) = (user.to_owned(), vec![by.to_owned()]);
            send(cx, topics, to, Letter::Changed { user, seen: Seen::default(), watchers });
        }
        self.arm(cx);
    }

    /// Homes hear what is new on this shard, by `until`.
    fn tell_homes(&mut self, cx: &mut Cx<'_, Mail>, topics: &Topics, until: Instant) {
        let mut by_home: BTreeMap<ShardId, Vec<Beat>> = BTreeMap::new();
        for beat in self.here.poll(until) {
            if let Some(name) = personal(&beat.user) {
                by_home.entry(cx.home(&name)).or_default().push(beat);
            }
        }
        for (to, beats) in by_home {
            send(cx, topics, to, Letter::Beats(beats));
        }
    }

    /// Tells of a change whoever watches and may: one letter per shard.
    fn spread(&mut self, cx: &mut Cx<'_, Mail>, topics: &Topics, news: Option<News>) {
        let Some(News { user, seen, watchers }) = news else { return };
        let Some(name) = personal(&user) else { return };
        let view = View { topics, name: &name };
        let mut by_home: BTreeMap<ShardId, [Vec<String>; 2]> = BTreeMap::new();
        for (watcher, tie) in watchers {
            let Some(to) = personal(&watcher).map(|name| cx.home(&name)) else { continue };
            let hidden = !circle::is_seen(&view, &user, &watcher, tie);
            if hidden {
                self.roll.unwatch(cx.now, &user, &watcher);
            }
            by_home.entry(to).or_default()[usize::from(hidden)].push(watcher);
        }
        for (to, lists) in by_home {
            for (watchers, seen) in lists.into_iter().zip([seen, Seen::default()]) {
                if !watchers.is_empty() {
                    send(cx, topics, to, Letter::Changed { user: user.clone(), seen, watchers });
                }
            }
        }
    }

    /// The devices of one who watches hear how another user is.
    fn wave(cx: &mut Cx<'_, Mail>, topics: &mut Topics, watcher: &str, (user, seen): (&str, Seen)) {
        if let Some(name) = personal(watcher) {
            topics.wave_own(cx, (&name, user, KEY), &crate::facts::json(&seen));
        }
    }

    fn arm(&mut self, cx: &mut Cx<'_, Mail>) {
        let due = [self.here.deadline(), self.roll.deadline(), self.watches.deadline()].into_iter().flatten().min();
        let Some(due) = due else { return };
        if self.armed.is_none_or(|armed| due < armed || armed <= cx.now) {
            self.armed = Some(due);
            cx.wake_at(TIMER, due);
        }
    }
}

fn send(cx: &mut Cx<'_, Mail>, topics: &Topics, to: ShardId, letter: Letter) {
    mail(cx, topics, to, Post::Presence(letter));
}

/// How often the circle of a user who watches is looked at again: well within the time for which homes tell of changes.
const LOOK_AGAIN: Duration = Duration::from_secs(120);

const _: () = assert!(LOOK_AGAIN.as_secs() * 2 < BEAT_TTL.as_secs(), "one lost round loses nobody");
