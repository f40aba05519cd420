//! QUIC as the connections of a shard use it: its endpoint, HTTP/3 on each connection, and the WebTransport sessions there.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Instant};

use quic::{Connection, Endpoint, Event, Handle, Side, StreamId, Web, h3};

use crate::{
    line::{Line, SessionHandle},
    pipe::Pipe,
};

/// All of QUIC on one shard.
pub(crate) struct Quic {
    pub(crate) endpoint: Endpoint,
    /// The address of ours that all clients use.
    pub(crate) local: SocketAddr,
    /// Holds one train on its way out.
    pub(crate) train: Vec<u8>,
    /// The certificate that new connections are shown.
    pub(crate) certificate: u64,
    config: Arc<h3::Config>,
    /// What was told of connections in 0-RTT whose sessions have to wait. Of a stream little is told before it is read, so
    /// that it is bounded by the streams that a client may open.
    early: BTreeMap<Handle, Vec<Event>>,
    /// HTTP/3 by the slot of its connection.
    webs: Vec<Option<Joined>>,
    sessions: Vec<Option<Session>>,
    free: Vec<u32>,
    generation: u32,
    /// Connections whose HTTP/3 was used and has something to carry out.
    stirred: Vec<Handle>,
    /// Sessions that ended by our own wish: nobody else tells.
    ended: Vec<Line>,
}

struct Joined {
    handle: Handle,
    web: Box<Web>,
    sessions: Vec<SessionHandle>,
    /// It is in the list of those that were used.
    stirred: bool,
}

/// A WebTransport session: its connection, and its CONNECT there.
#[derive(Clone, Copy)]
struct Session {
    handle: SessionHandle,
    carrier: Handle,
    id: StreamId,
}

impl Quic {
    pub(crate) fn new(endpoint: Endpoint, local: SocketAddr, config: Arc<h3::Config>, certificate: u64) -> Self {
        Self {
            endpoint,
            local,
            train: vec![0; quic::config::TRAIN_BYTES_MAX],
            certificate,
            config,
            early: BTreeMap::new(),
            webs: Vec::new(),
            sessions: Vec::new(),
            free: Vec::new(),
            generation: 0,
            stirred: Vec::new(),
            ended: Vec::new(),
        }
    }

    /// Keeps what was told of a connection too early.
    pub(crate) fn keep_early(&mut self, handle: Handle, event: Event) {
        self.early.entry(handle).or_default().push(event);
    }

    /// What was told of a connection too early, in order.
    pub(crate) fn take_early(&mut self, handle: Handle) -> Vec<Event> {
        self.early.remove(&handle).unwrap_or_default()
    }

    /// Speaks HTTP/3 on a connection from now on.
    pub(crate) fn join(&mut self, now: Instant, handle: Handle) {
        let index = handle.index as usize;
        if self.webs.len() <= index {
            self.webs.resize_with(index + 1, || None);
        }
        let web = Box::new(Web::new(now, Side::Server, Arc::clone(&self.config)));
        self.webs[index] = Some(Joined { handle, web, sessions: Vec::new(), stirred: false });
    }

    /// HTTP/3 of a connection, and the connection. What is done with it is carried out at the end of the lap.
    pub(crate) fn web(&mut self, handle: Handle) -> Option<(&mut Web, &mut Connection)> {
        let joined = self.webs.get_mut(handle.index as usize)?.as_mut().filter(|joined| joined.handle == handle)?;
        if !std::mem::replace(&mut joined.stirred, true) {
            self.stirred.push(handle);
        }
        Some((&mut joined.web, self.endpoint.connection(handle)?))
    }

    /// Bytes of a session's stream that QUIC has not taken.
    pub(crate) fn waiting(&self, handle: SessionHandle, id: StreamId) -> usize {
        let joined = |carrier: Handle| self.webs.get(carrier.index as usize)?.as_ref();
        let joined = self.session(handle).and_then(|session| joined(session.carrier));
        joined.map_or(0, |joined| joined.web.peek().send_waiting(id))
    }

    /// When HTTP/3 of a connection is to be called again.
    pub(crate) fn web_deadline(&mut self, handle: Handle) -> Option<Instant> {
        self.joined(handle)?.web.deadline()
    }

    /// All that was done with HTTP/3 of a connection is carried out.
    pub(crate) fn settled(&mut self, handle: Handle) {
        if let Some(joined) = self.joined(handle) {
            joined.stirred = false;
        }
    }

    /// The next connection whose HTTP/3 was used.
    pub(crate) fn next_stirred(&mut self) -> Option<Handle> {
        while let Some(handle) = self.stirred.pop() {
            if self.joined(handle).is_some_and(|joined| std::mem::take(&mut joined.stirred)) {
                return Some(handle);
            }
        }
        None
    }

    /// A connection is gone, and HTTP/3 on it; the sessions that were on it.
    pub(crate) fn part(&mut self, handle: Handle) -> Vec<SessionHandle> {
        self.early.remove(&handle);
        let slot = self.webs.get_mut(handle.index as usize);
        let joined = slot.and_then(|slot| slot.take_if(|joined| joined.handle == handle));
        joined.map_or_else(Vec::new, |joined| joined.sessions)
    }

    /// A session begins.
    pub(crate) fn begin(&mut self, carrier: Handle, id: StreamId) -> SessionHandle {
        let index = self.free.pop().unwrap_or_else(|| {
            self.sessions.push(None);
            (self.sessions.len() - 1) as u32
        });
        self.generation = self.generation.wrapping_add(1);
        let handle = SessionHandle { index, generation: self.generation };
        self.sessions[index as usize] = Some(Session { handle, carrier, id });
        if let Some(joined) = self.joined(carrier) {
            joined.sessions.push(handle);
        }
        handle
    }

    /// A session is over: its slot is free.
    pub(crate) fn forget(&mut self, handle: SessionHandle) {
        let Some(session) = self.session(handle) else { return };
        self.sessions[handle.index as usize] = None;
        self.free.push(handle.index);
        if let Some(joined) = self.joined(session.carrier) {
            joined.sessions.retain(|other| *other != handle);
        }
    }

    /// The connection that carries a session.
    pub(crate) fn carrier(&self, handle: SessionHandle) -> Option<Handle> {
        self.session(handle).map(|session| session.carrier)
    }

    /// A session as a pipe.
    pub(crate) fn pipe(&mut self, handle: SessionHandle) -> Option<Pipe<'_>> {
        let Session { carrier, id, .. } = self.session(handle)?;
        let (web, quic) = self.web(carrier)?;
        Some(Pipe::Web { web, quic, session: id })
    }

    /// A session was closed by us.
    pub(crate) fn ends(&mut self, line: Line) {
        self.ended.push(line);
    }

    /// The next session that was closed by us.
    pub(crate) fn next_ended(&mut self) -> Option<Line> {
        self.ended.pop()
    }

    fn joined(&mut self, handle: Handle) -> Option<&mut Joined> {
        self.webs.get_mut(handle.index as usize)?.as_mut().filter(|joined| joined.handle == handle)
    }

    fn session(&self, handle: SessionHandle) -> Option<Session> {
        let session = *self.sessions.get(handle.index as usize)?;
        session.filter(|session| session.handle == handle)
    }
}
