//! HTTP/3 on s2n-quic: its streams as the `h3` crate wants them, for a server.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use h3::{
    error::Code,
    quic::{self, ConnectionErrorIncoming, StreamErrorIncoming, StreamId, WriteBuf},
};
use s2n_quic::{
    application,
    connection::{self, Handle, StreamAcceptor},
    stream,
};

/// An accepted connection.
pub struct Connection {
    acceptor: StreamAcceptor,
    opener: Opener,
}

impl From<s2n_quic::Connection> for Connection {
    fn from(connection: s2n_quic::Connection) -> Self {
        let (handle, acceptor) = connection.split();
        Self { acceptor, opener: Opener(handle) }
    }
}

impl<B: Buf> quic::Connection<B> for Connection {
    type RecvStream = RecvStream;
    type OpenStreams = Opener;

    fn poll_accept_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<RecvStream, ConnectionErrorIncoming>> {
        self.acceptor.poll_accept_receive_stream(cx).map(|accepted| accepted_or_left(accepted).map(RecvStream))
    }

    fn poll_accept_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<BidiStream, ConnectionErrorIncoming>> {
        self.acceptor
            .poll_accept_bidirectional_stream(cx)
            .map(|accepted| accepted_or_left(accepted).map(BidiStream::from))
    }

    fn opener(&self) -> Opener {
        self.opener.clone()
    }
}

impl<B: Buf> quic::OpenStreams<B> for Connection {
    type BidiStream = BidiStream;
    type SendStream = SendStream;

    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<BidiStream, StreamErrorIncoming>> {
        quic::OpenStreams::<B>::poll_open_bidi(&mut self.opener, cx)
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<SendStream, StreamErrorIncoming>> {
        quic::OpenStreams::<B>::poll_open_send(&mut self.opener, cx)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        quic::OpenStreams::<B>::close(&mut self.opener, code, reason);
    }
}

/// Opens streams of our own, and closes the connection.
#[derive(Clone)]
pub struct Opener(Handle);

impl<B: Buf> quic::OpenStreams<B> for Opener {
    type BidiStream = BidiStream;
    type SendStream = SendStream;

    fn poll_open_bidi(&mut self, cx: &mut Context<'_>) -> Poll<Result<BidiStream, StreamErrorIncoming>> {
        self.0.poll_open_bidirectional_stream(cx).map_ok(BidiStream::from).map_err(connection_lost)
    }

    fn poll_open_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<SendStream, StreamErrorIncoming>> {
        self.0.poll_open_send_stream(cx).map_ok(SendStream::from).map_err(connection_lost)
    }

    /// s2n-quic sends no reason beside the code.
    fn close(&mut self, code: Code, _reason: &[u8]) {
        self.0.close(error_code(code.value()));
    }
}

/// Both directions of a request.
pub struct BidiStream {
    send: SendStream,
    recv: RecvStream,
}

impl From<stream::BidirectionalStream> for BidiStream {
    fn from(stream: stream::BidirectionalStream) -> Self {
        let (recv, send) = stream.split();
        Self { send: send.into(), recv: RecvStream(recv) }
    }
}

impl<B: Buf> quic::BidiStream<B> for BidiStream {
    type SendStream = SendStream;
    type RecvStream = RecvStream;

    fn split(self) -> (SendStream, RecvStream) {
        (self.send, self.recv)
    }
}

impl<B: Buf> quic::SendStream<B> for BidiStream {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.send.poll_taken(cx)
    }

    fn send_data<T: Into<WriteBuf<B>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        self.send.send_data(data)
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        quic::SendStream::<B>::poll_finish(&mut self.send, cx)
    }

    fn reset(&mut self, reset_code: u64) {
        quic::SendStream::<B>::reset(&mut self.send, reset_code);
    }

    fn send_id(&self) -> StreamId {
        quic::SendStream::<B>::send_id(&self.send)
    }
}

impl quic::RecvStream for BidiStream {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.recv.poll_data(cx)
    }

    fn stop_sending(&mut self, error_code: u64) {
        self.recv.stop_sending(error_code);
    }

    fn recv_id(&self) -> StreamId {
        self.recv.recv_id()
    }
}

/// Our direction of a stream, and the frame that it has no room for yet.
pub struct SendStream {
    stream: stream::SendStream,
    waiting: Bytes,
}

impl SendStream {
    /// Ready once the stream has taken the whole frame; it does so as soon as its buffer has any room.
    fn poll_taken(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        if self.waiting.is_empty() {
            return Poll::Ready(Ok(()));
        }
        self.stream.poll_send(&mut self.waiting, cx).map_err(stream_lost)
    }
}

impl From<stream::SendStream> for SendStream {
    fn from(stream: stream::SendStream) -> Self {
        Self { stream, waiting: Bytes::new() }
    }
}

impl<B: Buf> quic::SendStream<B> for SendStream {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.poll_taken(cx)
    }

    /// Header and payload go as one piece: each call takes the connection's lock, and `WriteBuf` copies its payload anyway.
    fn send_data<T: Into<WriteBuf<B>>>(&mut self, data: T) -> Result<(), StreamErrorIncoming> {
        if !self.waiting.is_empty() {
            let connection_error = ConnectionErrorIncoming::InternalError("a frame before there was room".to_owned());
            return Err(StreamErrorIncoming::ConnectionErrorIncoming { connection_error });
        }
        let mut data = data.into();
        self.waiting = data.copy_to_bytes(data.remaining());
        Ok(())
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        ready!(self.poll_taken(cx))?;
        Poll::Ready(self.stream.finish().map_err(stream_lost))
    }

    /// A stream that is over already needs no reset.
    fn reset(&mut self, reset_code: u64) {
        let _ = self.stream.reset(error_code(reset_code));
    }

    fn send_id(&self) -> StreamId {
        stream_id(self.stream.id())
    }
}

/// The client's direction of a stream.
pub struct RecvStream(stream::ReceiveStream);

impl quic::RecvStream for RecvStream {
    type Buf = Bytes;

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        self.0.poll_receive(cx).map_err(stream_lost)
    }

    /// A stream that is over already need not be stopped.
    fn stop_sending(&mut self, code: u64) {
        let _ = self.0.stop_sending(error_code(code));
    }

    fn recv_id(&self) -> StreamId {
        stream_id(self.0.id())
    }
}

fn stream_id(id: u64) -> StreamId {
    id.try_into().expect("QUIC's ids fit 62 bits")
}

/// h3's own codes all fit; one that an application made up may not.
fn error_code(code: u64) -> application::Error {
    application::Error::new(code).unwrap_or(application::Error::UNKNOWN)
}

/// No stream and no error: the client left.
fn accepted_or_left<S>(accepted: connection::Result<Option<S>>) -> Result<S, ConnectionErrorIncoming> {
    accepted.map_err(connection_error)?.ok_or_else(left)
}

fn left() -> ConnectionErrorIncoming {
    ConnectionErrorIncoming::ApplicationClose { error_code: Code::H3_NO_ERROR.value() }
}

fn connection_error(error: connection::Error) -> ConnectionErrorIncoming {
    match error {
        connection::Error::Closed { .. } => left(),
        connection::Error::Application { error, .. } => {
            ConnectionErrorIncoming::ApplicationClose { error_code: error.into() }
        }
        connection::Error::IdleTimerExpired { .. } => ConnectionErrorIncoming::Timeout,
        other => ConnectionErrorIncoming::Undefined(Arc::new(other)),
    }
}

fn connection_lost(error: connection::Error) -> StreamErrorIncoming {
    StreamErrorIncoming::ConnectionErrorIncoming { connection_error: connection_error(error) }
}

/// s2n-quic names a stream reset for both directions: also when the client will not read on.
fn stream_lost(error: stream::Error) -> StreamErrorIncoming {
    match error {
        stream::Error::StreamReset { error, .. } => StreamErrorIncoming::StreamTerminated { error_code: error.into() },
        stream::Error::ConnectionError { error, .. } => connection_lost(error),
        other => StreamErrorIncoming::Unknown(Box::new(other)),
    }
}
