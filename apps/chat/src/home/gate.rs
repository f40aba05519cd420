//! Who comes in: mail to the home of a conversation is looked at before topics act on it.

use std::borrow::Cow;

use bytes::Bytes;
use handler::{Code, Cx, ShardId};
use topic::{Mail, Page, Topics, Visit, VisitKind};

use super::{
    After, Home, View, Work,
    amend::{Judged, amend, target},
    blocked, changed, is_account, listed, mail, who,
};
use crate::{
    audit,
    body::{self, Amend, What},
    conversation::{Conversation, GROUP_TICKS_MAX, Permit, is_open, may_read, may_write, members, personal},
    directory,
    facts::{Facts, Refusal},
    post::{Note, Post},
    shared::{Settings, Shared},
    words::{Verdict, WordList},
};

/// What is said with a publication that changes another message.
pub(crate) const AMENDS: u8 = 1;

impl Home {
    /// Looks at mail to a home. Gives it back, perhaps with another body, unless it was refused.
    pub(crate) fn judge(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        topics: &mut Topics,
        (settings, shared): (&Settings, &Shared),
        from: ShardId,
        (letter, fetched): (Mail, Option<&Page>),
    ) -> Option<Mail> {
        let Some(visit) = letter.visit() else { return Some(letter) };
        let publishes = visit.kind == VisitKind::Publish;
        let words = if publishes { Some(shared.words.load()).filter(|words| words.is_some()) } else { None };
        // A plain room without a list of words costs nothing more.
        if is_open(visit.topic) && visit.hint == 0 && words.is_none() || (publishes && topics.is_repeat(&letter)) {
            if publishes && self.is_new_day(topics, visit.topic, cx.wall_ms) && !topics.is_repeat(&letter) {
                self.open_day(cx, topics, visit.topic);
            }
            return Some(letter);
        }
        let judged = match publishes {
            true => {
                let words = words.as_deref().and_then(|words| words.as_deref());
                self.publication(cx, topics, (settings, shared), &visit, (words, fetched))
            }
            false if visit.kind == VisitKind::Wave => {
                waver(topics, &visit, shared, cx.wall_ms).map(|()| Judged::Passes(None))
            }
            false => reader(topics, &visit).map(|()| Judged::Passes(None)),
        };
        match judged {
            Ok(Judged::Passes(None)) => Some(letter),
            Ok(Judged::Passes(Some(body))) => Some(letter.with_body(&body)),
            Ok(Judged::Needs(offset)) => {
                self.park(cx, topics, from, letter, offset);
                None
            }
            Err(Refusal { code, message, retry_ms }) => {
                let message = match message {
                    Cow::Borrowed(message) => message,
                    Cow::Owned(_) => "that is not allowed here",
                };
                topics.refuse(cx, from, &letter, (code, message, retry_ms));
                None
            }
        }
    }

    /// Whether something may be published, and with which body instead of its own.
    fn publication(
        &mut self,
        cx: &mut Cx<'_, Mail>,
        topics: &mut Topics,
        (settings, shared): (&Settings, &Shared),
        visit: &Visit<'_>,
        (words, fetched): (Option<&WordList>, Option<&Page>),
    ) -> Result<Judged, Refusal> {
        let on = conversation(visit)?;
        let view = View { topics, name: visit.topic };
        let who = who(visit.user, visit.guest);
        let Permit { role, slow_ms } = may_write(&view, &on, &who, cx.wall_ms)?;
        self.check_slow(cx.wall_ms, visit, slow_ms)?;
        if let Conversation::Direct(a, b) = &on {
            check_direct(&view, (a, b), visit.user, shared)?;
        }
        let text = body::read(visit.body, settings.text_chars_max).map_err(Refusal::bad)?;
        let amends = match text.what {
            What::Edit { offset, .. } => Some((Amend::Edit, offset)),
            What::Recall { offset } => Some((Amend::Recall, offset)),
            What::Text(_) | What::Media { .. } => None,
        };
        let mut letters = Vec::new();
        let of = (visit.topic, visit.user, cx.wall_ms);
        let body = match words.map_or(Filtered::Clean, |words| filter(words, visit.body, &text)) {
            Filtered::Clean => None,
            Filtered::Masked(body) => Some(body),
            Filtered::Flagged(body) => {
                letters.push(audit::note("flagged", of, visit.body));
                body
            }
            Filtered::Rejected => {
                let (name, letters) = (visit.topic.to_owned(), vec![audit::note("rejected", of, visit.body)]);
                let (changes, notices, after) = (Vec::new(), Vec::new(), After::Nothing);
                self.commit(cx, topics, Work { name, changes, notices, letters, after })?;
                return Err(Refusal::denied("there are words in it that are not allowed here"));
            }
        };
        let view = View { topics, name: visit.topic };
        let mut changes = Vec::new();
        let mut amended = None;
        if let Some((kind, offset)) = amends {
            let Some(target) = target(&view, offset, fetched)? else { return Ok(Judged::Needs(offset)) };
            amend(&view, settings, (kind, offset, 0), (&who, role), &target, cx.wall_ms)?;
            amended = Some((kind, offset, target));
        }
        // Nothing is in the way of it any more. A notice that goes before it takes the next offset, and what is on disk
        // together with it is given to topics right before it.
        self.open_day(cx, topics, visit.topic);
        let own = topics.newest(visit.topic) + 1;
        let view = View { topics, name: visit.topic };
        if let Some((kind, offset, target)) = amended {
            changes = amend(&view, settings, (kind, offset, own), (&who, role), &target, cx.wall_ms)?;
            if kind == Amend::Recall && target.from != visit.user {
                letters.push(audit::note("recall", of, visit.body));
            }
        }
        if let Conversation::Direct(a, b) = &on {
            let offset = view.topics.tail(visit.topic).head;
            for user in [a, b] {
                let news = changed(&view, listed(user), Some(Bytes::from_static(b"true")));
                if let (false, Some(to)) = (news.is_empty(), personal(user)) {
                    let (topic, at_ms) = (visit.topic.to_owned(), cx.wall_ms);
                    letters.push((to, Note::Directory(directory::Letter::Listed { topic, at_ms, offset, by: None })));
                    changes.extend(news);
                }
            }
        }
        // Who has seen all that came before has seen what it says itself.
        let seen = topics.watermark(visit.topic, visit.user).map_or(0, |mark| mark.read);
        let sees = !is_open(visit.topic) && seen + 1 == own;
        if sees || !changes.is_empty() || !letters.is_empty() {
            let (name, notices) = (visit.topic.to_owned(), Vec::new());
            let after = if sees { After::Seen(visit.user.to_owned(), own) } else { After::Nothing };
            self.accompany(cx, topics, Work { name, changes, notices, letters, after })?;
        }
        if slow_ms > 0 {
            self.slow.wrote(cx.wall_ms, visit.topic, visit.user, slow_ms);
        }
        Ok(Judged::Passes(body))
    }

    fn check_slow(&self, now_ms: u64, visit: &Visit<'_>, slow_ms: u32) -> Result<(), Refusal> {
        if slow_ms == 0 {
            return Ok(());
        }
        let wait = self.slow.wait_ms(now_ms, visit.topic, visit.user);
        match u32::try_from(wait).unwrap_or(u32::MAX) {
            0 => Ok(()),
            wait => Err(Refusal { retry_ms: Some(wait), ..Refusal::full("this group is slow: wait a little") }),
        }
    }

    /// Users take part no longer: from here on no shard gives them anything of this topic.
    pub(super) fn expel(cx: &mut Cx<'_, Mail>, topics: &Topics, topic: &str, users: &[String]) {
        for (user, shard) in users.iter().flat_map(|user| topics.audience(topic).into_iter().map(move |to| (user, to)))
        {
            mail(cx, topics, shard, Post::Expel { topic: topic.to_owned(), user: user.clone() });
        }
    }
}

/// Whether a conversation is small enough that all are told how far each has come.
pub(super) fn shows_ticks(facts: &impl Facts, topic: &str) -> bool {
    match Conversation::parse(topic) {
        Some(Conversation::Direct(..)) => true,
        Some(Conversation::Group(id)) => members(facts, &id).is_ok_and(|members| members <= GROUP_TICKS_MAX),
        _ => false,
    }
}

fn conversation(visit: &Visit<'_>) -> Result<Conversation, Refusal> {
    Conversation::parse(visit.topic).ok_or_else(|| Refusal::bad("that is no topic of chat"))
}

fn reader(topics: &Topics, visit: &Visit<'_>) -> Result<(), Refusal> {
    may_read(&View { topics, name: visit.topic }, &conversation(visit)?, &who(visit.user, visit.guest))
}

/// Whether somebody may be heard without a message: whoever may not write may not do so either.
fn waver(topics: &Topics, visit: &Visit<'_>, shared: &Shared, now_ms: u64) -> Result<(), Refusal> {
    let (view, on) = (View { topics, name: visit.topic }, conversation(visit)?);
    may_write(&view, &on, &who(visit.user, visit.guest), now_ms)?;
    match &on {
        Conversation::Direct(a, b) => check_direct(&view, (a, b), visit.user, shared),
        _ => Ok(()),
    }
}

/// Whether one of two may write to the other one.
fn check_direct(view: &View<'_>, (a, b): (&str, &str), user: &str, shared: &Shared) -> Result<(), Refusal> {
    let other = if user == a { b } else { a };
    if view.get(&blocked(other)).is_some() {
        return Err(Refusal::denied("that user does not want to hear from you"));
    }
    if view.get(&blocked(user)).is_some() {
        return Err(Refusal::new(Code::FailedPrecondition, "you have blocked that user"));
    }
    if view.get(&listed(other)).is_none() && !is_account(shared, other) {
        return Err(Refusal::new(Code::NotFound, "there is no such user"));
    }
    Ok(())
}

/// What a list of words says of a message.
enum Filtered {
    Clean,
    /// This is published instead.
    Masked(Vec<u8>),
    /// It is published, perhaps masked, and a moderator is told.
    Flagged(Option<Vec<u8>>),
    Rejected,
}

fn filter(words: &WordList, body: &[u8], message: &body::Body<'_>) -> Filtered {
    let (text, file) = match &message.what {
        What::Text(text) | What::Edit { text, .. } => (Some(*text), None),
        What::Media { caption, file, .. } => (*caption, Some(&*file.name)),
        What::Recall { .. } => (None, None),
    };
    let (mut flags, mut masked) = (false, None);
    match text.map(|text| (text, words.check(&text.plain()))) {
        Some((_, Verdict::Rejected)) => return Filtered::Rejected,
        Some((text, Verdict::Masked { text: new, flagged })) => {
            (flags, masked) = (flagged, Some(replace(body, text.quoted(), &new)));
        }
        Some((_, Verdict::Flagged)) => flags = true,
        Some((_, Verdict::Clean)) | None => {}
    }
    match file.map(|name| words.check(name)) {
        // What a file is called can be changed by whoever sends it.
        Some(Verdict::Rejected | Verdict::Masked { .. }) => return Filtered::Rejected,
        Some(Verdict::Flagged) => flags = true,
        Some(Verdict::Clean) | None => {}
    }
    match (flags, masked) {
        (true, masked) => Filtered::Flagged(masked),
        (false, Some(body)) => Filtered::Masked(body),
        (false, None) => Filtered::Clean,
    }
}

/// A body with another text in the place of this one, which is a piece of it.
fn replace(body: &[u8], quoted: &str, text: &str) -> Vec<u8> {
    let start = (quoted.as_ptr() as usize).saturating_sub(body.as_ptr() as usize).min(body.len());
    let end = (start + quoted.len()).min(body.len());
    [&body[..start], &crate::facts::json(&text), &body[end..]].concat()
}
