//! An HTTP/2 client (h2's) over memory, and frames written by hand for what h2 would never send.

use std::{
    collections::VecDeque,
    future::Future,
    io,
    pin::{Pin, pin},
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use h2::{
    RecvStream, SendStream,
    client::{Connection, ResponseFuture, SendRequest},
};
use http::{Request, Response};
use ringshard_http::PREFACE;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::owner::Owner;

#[derive(Clone, Default)]
struct Wire(Arc<Mutex<(VecDeque<u8>, Vec<u8>)>>);

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut wire = self.0.lock().unwrap();
        if wire.0.is_empty() {
            return Poll::Pending;
        }
        let len = wire.0.len().min(buf.remaining());
        buf.put_slice(&wire.0.drain(..len).collect::<Vec<_>>());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.lock().unwrap().1.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Polls once.
pub(crate) fn now<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    match Pin::new(&mut future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// A client and the server that it talks to.
pub(crate) struct Client {
    pub(crate) owner: Owner,
    wire: Wire,
    connection: Connection<Wire>,
    send: SendRequest<Bytes>,
    /// What ended the connection, if it did.
    pub(crate) ended: Option<Result<(), h2::Error>>,
}

impl Client {
    pub(crate) fn new(owner: Owner) -> Self {
        let wire = Wire::default();
        let handshake = pin!(h2::client::handshake(wire.clone()));
        let (send, connection) = now(handshake).unwrap().unwrap();
        let mut client = Self { owner, wire, connection, send, ended: None };
        client.pump();
        client
    }

    /// Lets both sides talk until both are silent.
    pub(crate) fn pump(&mut self) {
        loop {
            if self.ended.is_none() {
                self.ended = now(&mut self.connection);
            }
            let sent = std::mem::take(&mut self.wire.0.lock().unwrap().1);
            self.owner.feed(&sent);
            let received = self.owner.output_bytes();
            self.wire.0.lock().unwrap().0.extend(&received);
            if sent.is_empty() && received.is_empty() {
                return;
            }
        }
    }

    pub(crate) fn request(&mut self, request: Request<()>, ends: bool) -> (ResponseFuture, SendStream<Bytes>) {
        let sent = self.send.send_request(request, ends).unwrap();
        self.pump();
        sent
    }

    pub(crate) fn get(&mut self, uri: &str) -> ResponseFuture {
        self.request(Request::get(uri).body(()).unwrap(), true).0
    }

    /// The answer with as much of its body as has come; windows are opened as `open` says.
    pub(crate) fn response(&mut self, future: &mut ResponseFuture) -> Result<Response<RecvStream>, h2::Error> {
        self.pump();
        now(future).expect("there must be an answer")
    }

    pub(crate) fn whole(&mut self, future: &mut ResponseFuture) -> (u16, Vec<u8>) {
        let (head, mut stream) = self.response(future).unwrap().into_parts();
        let mut body = Vec::new();
        while let Some(data) = self.read(&mut stream) {
            body.extend_from_slice(&data);
        }
        assert!(stream.is_end_stream());
        (head.status.as_u16(), body)
    }

    /// What has come of a body; its window is opened again.
    pub(crate) fn read(&mut self, stream: &mut RecvStream) -> Option<Bytes> {
        self.pump();
        match stream.poll_data(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Some(data)) => {
                let data = data.unwrap();
                stream.flow_control().release_capacity(data.len()).unwrap();
                Some(data)
            }
            Poll::Ready(None) | Poll::Pending => None,
        }
    }
}

/// A frame of HTTP/2.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// The preface and empty settings.
pub(crate) fn hello() -> Vec<u8> {
    [&PREFACE[..], &frame(4, 0, 0, &[])].concat()
}

/// A header block of literals that enter no table.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            assert!(text.len() < 127);
            bytes.push(text.len() as u8);
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}

pub(crate) const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")];

/// The frames in the server's bytes: kind, flags, stream, payload.
pub(crate) fn frames(mut bytes: &[u8]) -> Vec<(u8, u8, u32, Vec<u8>)> {
    let mut frames = Vec::new();
    while bytes.len() >= 9 {
        let len = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]) as usize;
        let stream = u32::from_be_bytes([bytes[5], bytes[6], bytes[7], bytes[8]]);
        frames.push((bytes[3], bytes[4], stream, bytes[9..9 + len].to_vec()));
        bytes = &bytes[9 + len..];
    }
    frames
}
