//! A session's hello: who it is, what it subscribes to, and the welcome when all of that is answered.

use std::{sync::Arc, time::Duration};

use bytes::BytesMut;
use engine::Io;
use handler::{App as _, Code, Message, Peer, PeerInfo, Push};
use rand::Rng;
use session::{AuthError, Credential, Holder, Server, SubResult, SubState};

use crate::{
    connection::Connection,
    fanout::{Encoded, push_id, yields},
    mail::Mail,
    metrics::Drop,
    peers::session::{App, Farewell, app_of_topic},
    shard::{Ground, Shard},
    speaker::{HELLO_IDS, Hello, Speaker, Subscribed},
    wording,
};

impl Ground {
    /// Takes a hello: from here on the session is somebody's.
    pub(crate) fn greet(
        &mut self,
        io: &mut Io<Mail>,
        peer: Peer,
        speaker: &mut Speaker,
        hello: &session::Hello<'_>,
        answers: &mut BytesMut,
    ) -> Result<(), Farewell> {
        let (session, holder) = match self.identify(io, hello) {
            Ok(known) => known,
            Err(error) => {
                self.stats.drop_for(Drop::Unauthenticated);
                self.refuse(speaker, Some(hello.id), Code::Unauthenticated, &error.to_string(), answers);
                return Err(Farewell::unauthenticated(&error.to_string()));
            }
        };
        let ticket = self.setup.keys.ticket(&session, &holder);
        speaker.expires = Some(io.now() + Duration::from_secs(holder.exp.saturating_sub(io.wall_ms() / 1000)));
        self.belongs(speaker, peer, holder.sid);
        speaker.caps = holder.caps.into();
        let (user, device, guest) = (holder.user.into(), holder.device.into(), holder.guest);
        let info = Box::new(PeerInfo { user, device, guest });
        self.stats.sessions.add(1);
        self.stats.sessions_open.set(self.stats.sessions_open.get() + 1);
        self.chat(io, |chat, cx| chat.on_open(cx, peer, &info));
        speaker.info = Some(info);
        speaker.session.open(io.now());
        speaker.hello = Some(Box::new(Hello {
            id: hello.id,
            session,
            ticket,
            waiting: 0,
            subs: Vec::with_capacity(hello.subs.len()),
            held: Vec::new(),
        }));
        self.subscribe(io, peer, speaker, hello);
        Ok(())
    }

    /// The session of a hello and who holds it. A resumed session keeps its id.
    fn identify(&mut self, io: &mut Io<Mail>, hello: &session::Hello<'_>) -> Result<(String, Holder), AuthError> {
        let now = io.wall_ms() / 1000;
        let (session, holder) = match &hello.credential {
            Credential::Token(token) => {
                let claims = self.setup.keys.verify(now, token)?;
                let session = session::auth::session_id(io.wall_ms(), &io.rng().random());
                let device = hello.device.clone().into_owned();
                (session, Holder::new(claims, device))
            }
            Credential::Resume { session, ticket } => {
                let holder = self.setup.keys.verify_ticket(now, session, ticket)?;
                self.stats.sessions_resumed.add(1);
                (session.clone().into_owned(), holder)
            }
        };
        match self.setup.logins.allow((&holder.user, holder.guest), holder.iat, holder.sid) {
            true => Ok((session, holder)),
            false => Err(AuthError::Revoked),
        }
    }

    fn subscribe(&mut self, io: &mut Io<Mail>, peer: Peer, speaker: &mut Speaker, hello: &session::Hello<'_>) {
        let Some(mut pending) = speaker.hello.take() else { return };
        for (id, sub) in (HELLO_IDS..).zip(&hello.subs) {
            let refusal = match app_of_topic(&sub.topic) {
                None => Some((session::Code::NotFound, NO_APP)),
                Some(App::Chat) if !speaker.may(&sub.topic) => Some((session::Code::PermissionDenied, NO_CAP)),
                Some(App::Chat) => None,
            };
            if let Some((code, message)) = refusal {
                speaker.session.forget(&sub.topic);
                pending.subs.push(Subscribed::Refused {
                    topic: sub.topic.as_ref().into(),
                    code,
                    message: message.to_owned(),
                });
                continue;
            }
            pending.subs.push(Subscribed::Waiting(sub.topic.as_ref().into()));
            pending.waiting += 1;
            speaker.asked.push((id, sub.topic.as_ref().into()));
            let message = Message::Sub { id, topic: &sub.topic, epoch: sub.epoch, after: sub.after };
            self.chat(io, |chat, cx| chat.on_message(cx, peer, message));
        }
        speaker.hello = Some(pending);
    }

    /// Takes what belongs to an unanswered hello out of a peer's pushes, and gives back what does not.
    pub(crate) fn intercept(speaker: &mut Speaker, push: Push) -> Option<Push> {
        let Some(hello) = &mut speaker.hello else { return Some(push) };
        match push_id(&push).filter(|id| *id >= HELLO_IDS) {
            Some(id) => hello.answer((id - HELLO_IDS) as usize, push),
            None if yields(&push).is_some() => return Some(push),
            None => hello.held.push(push),
        }
        None
    }
}

impl Hello {
    fn answer(&mut self, place: usize, push: Push) {
        let Some(sub) = self.subs.get_mut(place) else { return };
        let Subscribed::Waiting(name) = sub else { return };
        *sub = match push {
            Push::SubOk { topic, alias, epoch, head, .. } => Subscribed::Ok { topic, alias, epoch, head },
            Push::Err { code, message, .. } => {
                Subscribed::Refused { topic: Arc::clone(name), code: wording::code(code), message }
            }
            Push::UnsubOk { .. }
            | Push::PubOk { .. }
            | Push::Res { .. }
            | Push::Msg { .. }
            | Push::Eph { .. }
            | Push::Presence { .. }
            | Push::Gap { .. } => return,
        };
        self.waiting -= 1;
    }

    fn result(sub: &Subscribed) -> SubResult<'_> {
        let (topic, state) = match sub {
            Subscribed::Waiting(topic) => {
                (topic, SubState::Refused { code: session::Code::Internal, message: "not answered".into() })
            }
            Subscribed::Ok { topic, alias, epoch, head } => {
                (topic, SubState::Ok { alias: *alias, epoch: *epoch, head: *head })
            }
            Subscribed::Refused { topic, code, message } => {
                (topic, SubState::Refused { code: *code, message: message.as_str().into() })
            }
        };
        SubResult { topic: (&**topic).into(), state }
    }
}

impl Shard {
    /// Writes the welcome once all subscriptions of the hello are answered, then what waited behind it.
    pub(crate) fn write_welcome(&mut self, io: &mut Io<Mail>, connection: &mut Connection) {
        let Some(speaker) = connection.speaker() else { return };
        if speaker.hello.as_ref().is_none_or(|hello| hello.waiting > 0) {
            return;
        }
        let user = speaker.info.as_ref().map(|info| info.user.clone());
        let (Some(hello), Some(user)) = (speaker.hello.take(), user) else { return };
        let mut out = std::mem::take(&mut self.ground.control);
        let welcome = Server::Welcome {
            id: hello.id,
            session: hello.session.as_str().into(),
            user: (&*user).into(),
            ticket: hello.ticket.as_str().into(),
            shard: u32::from(io.shard().0),
            ping_ms: u32::try_from(self.ground.limits.ping_secs.as_millis()).unwrap_or(u32::MAX),
            subs: hello.subs.iter().map(Hello::result).collect(),
        };
        speaker.say(&welcome, &mut out);
        connection.write(io, &out, &mut self.ground.wires);
        self.ground.stats.sent(out.len());
        out.clear();
        self.ground.control = out;
        for push in &hello.held {
            self.tell(io, connection, push, &mut Encoded::default());
        }
        if connection.lagging {
            self.drained(io, connection);
        }
        self.pursue(io, connection);
    }
}

pub(crate) const NO_APP: &str = "no app serves topics with this prefix";
pub(crate) const NO_CAP: &str = "the token does not allow this";
