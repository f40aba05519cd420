//! What is decided at homes: operations and letters become facts, and when these are on disk, answers and further letters.

mod amend;
mod day;
mod gate;
mod inbox;
mod outbox;
mod query;
mod slow;

use std::collections::BTreeMap;

use bytes::Bytes;
use handler::{Code, Cx, Peer, ShardId};
use topic::{Mail, Topics};

use self::{amend::Parked, inbox::Gathers, outbox::Outbox, slow::SlowWriters};
use crate::{
    audit,
    conversation::{Conversation, may_read, members, personal},
    directory,
    facts::{Change, Facts, Refusal, Who},
    post::{Note, Post},
    shared::Shared,
};

pub(crate) use self::{amend::KINDS, gate::AMENDS, outbox::RETRY};

/// All that waits at this home.
#[derive(Default, Debug)]
pub(crate) struct Home {
    pending: BTreeMap<u64, Pending>,
    next: u64,
    outbox: Outbox,
    gathers: Gathers,
    parked: Parked,
    slow: SlowWriters,
    days: day::Days,
}

/// Who is answered.
#[derive(Clone, Copy, Debug)]
struct Asker {
    shard: ShardId,
    peer: Peer,
    id: u32,
}

/// What is done when changes are on disk.
#[derive(Debug)]
enum After {
    /// Somebody asked.
    Answer(Asker, Bytes),
    /// A letter came, with this number from this name.
    Taken(ShardId, String, u64),
    /// A letter to this name was taken: its fact is to go.
    Gone(String, u64),
    /// A user, who had seen all before, said something that gets this offset.
    Seen(String, u64),
    /// A program said something: the number of the push, and what the target is called.
    Pushed(ShardId, u64, String),
    /// A new day was said.
    Day,
    /// Nothing.
    Nothing,
}

/// A decision under way to disk.
#[derive(Debug)]
struct Pending {
    name: String,
    letters: Vec<(String, u64)>,
    after: After,
    moved: Moved,
}

/// Who takes part in a conversation by a decision, and who does not any more.
#[derive(Default, Debug)]
struct Moved {
    joined: Vec<String>,
    left: Vec<String>,
}

/// A decision: facts of one name, what its topic is told, and letters.
#[derive(Debug)]
struct Work {
    name: String,
    changes: Vec<Change>,
    notices: Vec<Bytes>,
    letters: Vec<(String, Note)>,
    after: After,
    moved: Moved,
}

/// The facts under one name.
pub(crate) struct View<'a> {
    pub(crate) topics: &'a Topics,
    pub(crate) name: &'a str,
}

impl Facts for View<'_> {
    fn get(&self, key: &str) -> Option<&[u8]> {
        self.topics.fact(self.name, key)
    }

    fn range<'f>(&'f self, prefix: &str, after: Option<&str>) -> impl Iterator<Item = (&'f str, &'f [u8])> {
        self.topics.facts(self.name, prefix, after)
    }
}

impl Home {
    /// Makes a decision true: facts and letters go to disk in one record, and what the topic is told right behind it.
    fn commit(&mut self, cx: &mut Cx<'_, Mail>, topics: &mut Topics, work: Work) -> Result<(), Refusal> {
        let Work { name, changes, notices, letters, after, moved } = work;
        let (changes, numbers) = self.written(&name, changes, letters);
        if !notices.is_empty() {
            self.open_day(cx, topics, &name);
        }
        // What is so already may still be on its way to disk.
        if changes.is_empty() && topics.is_settled() {
            notices.iter().for_each(|body| say(cx, topics, &name, body));
            Self::conclude(cx, &name, after, Ok(()), topics);
            return Ok(());
        }
        let token = self.next;
        self.next += 1;
        if let Err((code, message)) = topics.record(&name, &changes, token) {
            numbers.iter().for_each(|(to, number)| self.outbox.drop_letter(cx, topics, (&name, to), *number));
            let refusal = Refusal { code, message: message.into(), retry_ms: None };
            Self::conclude(cx, &name, after, Err(refusal.clone()), topics);
            return Err(refusal);
        }
        self.pending.insert(token, Pending { name: name.clone(), letters: numbers, after, moved });
        notices.iter().for_each(|body| say(cx, topics, &name, body));
        Ok(())
    }

    /// As [`Home::commit`], together with the publication that topics are given next: both are on disk, or neither is.
    fn accompany(&mut self, cx: &mut Cx<'_, Mail>, topics: &mut Topics, work: Work) -> Result<(), Refusal> {
        let Work { name, changes, letters, after, moved, .. } = work;
        let (changes, numbers) = self.written(&name, changes, letters);
        let token = self.next;
        self.next += 1;
        if let Err((code, message)) = topics.accompany(&name, changes, token) {
            numbers.iter().for_each(|(to, number)| self.outbox.drop_letter(cx, topics, (&name, to), *number));
            return Err(Refusal::new(code, message));
        }
        self.pending.insert(token, Pending { name, letters: numbers, after, moved });
        Ok(())
    }

    /// Changes of facts with those that keep letters, and the numbers of these.
    fn written(
        &mut self,
        name: &str,
        changes: Vec<Change>,
        letters: Vec<(String, Note)>,
    ) -> (Vec<topic::Change>, Vec<(String, u64)>) {
        let mut changes: Vec<topic::Change> =
            changes.into_iter().map(|Change { key, value }| topic::Change { key, value }).collect();
        let mut numbers = Vec::with_capacity(letters.len());
        for (to, note) in letters {
            let (number, fact) = self.outbox.write(name, &to, note);
            changes.push(fact);
            numbers.push((to, number));
        }
        (changes, numbers)
    }

    /// Takes up what an earlier run has left.
    pub(crate) fn start(&mut self, cx: &mut Cx<'_, Mail>, topics: &Topics) {
        self.outbox.start(cx, topics);
    }

    /// The receiver has a letter on disk, or could not take it.
    pub(crate) fn on_taken(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        topics: &mut Topics,
        names: (String, String),
        (number, taken): (u64, bool),
    ) {
        if let Some(end) = self.outbox.on_taken(cx, &names, (number, taken)) {
            self.end_letter(cx, topics, names, (number, end));
        }
    }

    /// The time to try again what was put off.
    pub(crate) fn retry(&mut self, cx: &mut Cx<'_, Mail>, topics: &mut Topics) {
        for (names, number, end) in self.outbox.retry(cx, topics) {
            self.end_letter(cx, topics, names, (number, end));
        }
    }

    fn end_letter(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        topics: &mut Topics,
        (from, to): (String, String),
        (number, end): (u64, topic::Change),
    ) {
        let token = self.next;
        self.next += 1;
        match topics.record(&from, &[end], token) {
            Ok(()) => {
                let after = After::Gone(to, number);
                let pending = Pending { name: from, letters: Vec::new(), after, moved: Moved::default() };
                self.pending.insert(token, pending);
            }
            Err(_) => self.outbox.on_gone(cx, topics, &(from, to), number, false),
        }
    }

    /// Does what waited for changes that are on disk now, or were taken back.
    pub(crate) fn settle(&mut self, cx: &mut Cx<'_, Mail>, topics: &mut Topics) {
        loop {
            let settled: Vec<_> = topics.settled().collect();
            if settled.is_empty() {
                return;
            }
            for (token, outcome) in settled {
                let Some(Pending { name, letters, after, moved }) = self.pending.remove(&token) else { continue };
                for (to, number) in letters {
                    match outcome {
                        Ok(()) => self.outbox.send(cx, topics, (&name, &to), number),
                        Err(_) => self.outbox.drop_letter(cx, topics, (&name, &to), number),
                    }
                }
                Self::settle_moved(cx, topics, &name, moved, outcome.is_ok());
                if matches!(after, After::Day) && outcome.is_err() {
                    self.close_day(&name);
                }
                let refused = |(code, message): (Code, &'static str)| Refusal::new(code, message);
                match after {
                    After::Gone(to, number) => {
                        self.outbox.on_gone(cx, topics, &(name, to), number, outcome.is_ok());
                    }
                    After::Seen(user, offset) if outcome.is_ok() => topics.raise(cx, (&name, &user), (offset, offset)),
                    after => Self::conclude(cx, &name, after, outcome.map_err(refused), topics),
                }
            }
        }
    }

    /// Whoever has left leaves no marks. Whoever joined when the disk did not take it has come in meanwhile, and goes.
    fn settle_moved(cx: &mut Cx<'_, Mail>, topics: &mut Topics, name: &str, moved: Moved, is_so: bool) {
        let Some(on) = Conversation::parse(name) else { return };
        let Moved { joined, left } = moved;
        let users = if is_so { left } else { joined };
        // What has happened since counts.
        let is_stranger = |user: &String| may_read(&View { topics, name }, &on, &who(user, false)).is_err();
        let strangers: Vec<String> = users.into_iter().filter(is_stranger).collect();
        if is_so {
            strangers.iter().for_each(|user| topics.forget_marks(name, user));
        } else {
            Self::expel(cx, topics, name, &strangers);
        }
    }

    fn conclude(cx: &mut Cx<'_, Mail>, to: &str, after: After, outcome: Result<(), Refusal>, topics: &Topics) {
        let (shard, post) = match after {
            After::Nothing | After::Gone(..) | After::Seen(..) | After::Day => return,
            After::Answer(Asker { shard, peer, id }, body) => {
                (shard, Post::Answer { peer, id, answer: outcome.map(|()| body) })
            }
            After::Pushed(shard, ticket, target) => {
                (shard, Post::Pushed { ticket, target, result: outcome.map_err(|refusal| refusal.code) })
            }
            After::Taken(shard, from, number) => {
                (shard, Post::Taken { from, to: to.to_owned(), number, taken: outcome.is_ok() })
            }
        };
        mail(cx, topics, shard, post);
    }

    /// Publishes for a program, which hears of it when it is on disk.
    pub(crate) fn on_push(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        topics: &mut Topics,
        shared: &Shared,
        after: (ShardId, u64, String),
        (name, body): (String, &[u8]),
    ) {
        let after = After::Pushed(after.0, after.1, after.2);
        let is_there = match Conversation::parse(&name) {
            Some(Conversation::Personal(user)) => is_account(shared, &user),
            Some(Conversation::Group(id)) => {
                members(&View { topics, name: &name }, &id).is_ok_and(|members| members > 0)
            }
            Some(Conversation::World | Conversation::Room(_) | Conversation::Direct(..)) => true,
            None => false,
        };
        if is_there {
            return self.publish(cx, topics, (name, body), after);
        }
        let missing = Refusal::new(Code::NotFound, "there is no such user or group");
        Self::conclude(cx, &name, after, Err(missing), topics);
    }

    /// Writes into the record what happened to an account that is at home here.
    pub(crate) fn record(&mut self, cx: &mut Cx<'_, Mail>, topics: &mut Topics, what: &str, user: &str) {
        let Some(name) = personal(user).filter(|name| cx.home(name) == cx.shard) else { return };
        let letters = vec![audit::note(what, (&name, user, cx.wall_ms), &[])];
        let (changes, notices, after) = (Vec::new(), Vec::new(), After::Nothing);
        // A home that takes nothing says so in its log and figures.
        let _ = self.commit(cx, topics, Work { name, changes, notices, letters, after, moved: Moved::default() });
    }

    /// Publishes what the server says, and goes on when it is on disk.
    fn publish(&mut self, cx: &mut Cx<'_, Mail>, topics: &mut Topics, (name, body): (String, &[u8]), after: After) {
        self.open_day(cx, topics, &name);
        let published = topics.publish_own(cx, (&name, SERVER), body).map(|_| ());
        // Facts come to disk in the order of what was written: so do none.
        let token = self.next;
        self.next += 1;
        match published.and_then(|()| topics.record(&name, &[], token)) {
            Ok(()) => {
                drop(self.pending.insert(token, Pending { name, letters: Vec::new(), after, moved: Moved::default() }))
            }
            Err((code, message)) => {
                Self::conclude(cx, &name, after, Err(Refusal::new(code, message)), topics);
            }
        }
    }

    /// Takes news from another home. What comes again changes nothing.
    pub(crate) fn on_note(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        topics: &mut Topics,
        from: ShardId,
        (sender, number): (String, u64),
        (to, note): (String, &Note),
    ) {
        let after = After::Taken(from, sender, number);
        if let Note::Audit { body } = note {
            return self.publish(cx, topics, (to, &audit::bytes(body)), after);
        }
        let view = View { topics, name: &to };
        let (changes, letters, notices) = match note {
            Note::Directory(letter) => {
                let Some(user) = owner(&to) else { return };
                match directory::receive(&view, &user, cx.wall_ms, letter) {
                    Ok(directory::Decision { changes, letters, notices, unwanted, unlisted, .. }) => {
                        let leave = |topic| (topic, Note::Unwanted { by: user.clone() });
                        let forget = |topic: String| forgotten(&topic, &user, None);
                        let letters = to_users(letters).into_iter().chain(unwanted.into_iter().map(leave));
                        (changes, letters.chain(unlisted.into_iter().filter_map(forget)).collect(), notices)
                    }
                    // A fact cannot be read: that must not be in the way of what follows.
                    Err(_) => (Vec::new(), not_listed(&user, letter), Vec::new()),
                }
            }
            Note::Blocked { by, on } => {
                let (key, value) = (blocked(by), on.then(|| Bytes::from_static(b"true")));
                (changed(&view, key, value), Vec::new(), Vec::new())
            }
            Note::Unwanted { by } => return self.unwanted(cx, topics, (to, by), after),
            Note::Audit { .. } => return,
            Note::Forgotten { by, upto } => match (upto.filter(|upto| topics.newest(&to) > *upto), personal(by)) {
                // Something was said meanwhile: the conversation is in the list again, with that as its news.
                (Some(offset), Some(user)) => {
                    let (topic, at_ms) = (to.clone(), cx.wall_ms);
                    let letter = directory::Letter::Listed { topic, at_ms, offset, by: None };
                    (Vec::new(), vec![(user, Note::Directory(letter))], Vec::new())
                }
                _ => (changed(&view, listed(by), None), Vec::new(), Vec::new()),
            },
        };
        // Who sent it hears of a failure, and sends it again.
        let _ = self.commit(cx, topics, Work { name: to, changes, notices, letters, after, moved: Moved::default() });
    }

    /// Marks have risen: who shows ticks is told, and the user's other devices.
    pub(crate) fn on_marks(cx: &mut Cx<'_, Mail>, topics: &mut Topics) {
        for (topic, user, mark) in topics.take_marked() {
            if crate::conversation::is_open(&topic) {
                continue;
            }
            let (delivered, read) = (mark.delivered, mark.read);
            if gate::shows_ticks(&View { topics, name: &topic }, &topic) {
                let body = format!("{{\"delivered\":{delivered},\"read\":{read}}}");
                topics.wave_own(cx, (&topic, &user, READ), body.as_bytes());
            }
            if let Some(name) = personal(&user) {
                let (user, topic, to) = (user.to_string(), topic.to_string(), cx.home(&name));
                mail(cx, topics, to, Post::Marked { user, topic, delivered, read });
            }
        }
    }

    /// The user's devices hear how far the user has come.
    pub(crate) fn on_marked(
        cx: &mut Cx<'_, Mail>,
        topics: &mut Topics,
        user: &str,
        (topic, delivered, read): (&str, u64, u64),
    ) {
        let Some(name) = personal(user) else { return };
        let body = format!("{{\"topic\":\"{topic}\",\"delivered\":{delivered},\"read\":{read}}}");
        topics.wave_own(cx, (&name, "", READ), body.as_bytes());
    }
}

/// The key of ephemeral values that say how far users have come.
pub(crate) const READ: &str = "read";

/// Who says what the server says.
const SERVER: &str = "";

fn say(cx: &mut Cx<'_, Mail>, topics: &mut Topics, topic: &str, body: &[u8]) {
    // A home that takes no messages has refused the facts before.
    let _ = topics.publish_own(cx, (topic, SERVER), body);
}

pub(crate) fn mail(cx: &mut Cx<'_, Mail>, topics: &Topics, to: ShardId, post: Post) {
    topics.mail_app(cx, to, std::sync::Arc::new(post));
}

/// The user whose personal topic this is.
fn owner(name: &str) -> Option<String> {
    match Conversation::parse(name)? {
        Conversation::Personal(user) => Some(user),
        _ => None,
    }
}

fn to_users(letters: Vec<(String, directory::Letter)>) -> Vec<(String, Note)> {
    let addressed = |(user, letter): (String, _)| Some((personal(&user)?, Note::Directory(letter)));
    letters.into_iter().filter_map(addressed).collect()
}

fn changed(view: &View<'_>, key: String, value: Option<Bytes>) -> Vec<Change> {
    let same = view.get(&key) == value.as_deref();
    (!same).then_some(Change { key, value }).into_iter().collect()
}

/// The fact of a direct conversation that one of the two does not hear the other one.
fn blocked(by: &str) -> String {
    format!("blocked/{by}")
}

/// The fact of a direct conversation that it is in the list of one of the two.
fn listed(user: &str) -> String {
    format!("listed/{user}")
}

/// To a direct conversation that is not in a user's list any longer, up to this offset.
fn forgotten(topic: &str, user: &str, upto: Option<u64>) -> Option<(String, Note)> {
    matches!(Conversation::parse(topic)?, Conversation::Direct(..)).then(|| {
        let by = user.to_owned();
        (topic.to_owned(), Note::Forgotten { by, upto })
    })
}

/// What the home of a conversation has to know that could not come into a user's list: the next message tries again.
fn not_listed(user: &str, letter: &directory::Letter) -> Vec<(String, Note)> {
    match letter {
        directory::Letter::Listed { topic, .. } => forgotten(topic, user, None).into_iter().collect(),
        _ => Vec::new(),
    }
}

fn is_account(shared: &Shared, name: &str) -> bool {
    shared.people.has(name) && personal(name).is_some()
}

fn who<'a>(user: &'a str, guest: bool) -> Who<'a> {
    Who { user, guest }
}
