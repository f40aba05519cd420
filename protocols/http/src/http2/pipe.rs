//! The stream that h2 reads and writes: two buffers in memory, both bounded, never waking anybody.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::limit::OUTPUT_PAUSE;

/// One end is h2's, the other ours. h2 keeps its end to itself, so both share the buffers; the lock is never contended
/// (one thread at a time owns a connection) and keeps the connection `Send`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pipe(Arc<Mutex<Buffers>>);

#[derive(Debug, Default)]
pub(crate) struct Buffers {
    pub(crate) input: BytesMut,
    pub(crate) ended: bool,
    output: BytesMut,
    closed: bool,
}

impl Pipe {
    pub(crate) fn buffers(&self) -> MutexGuard<'_, Buffers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Buffers {
    pub(crate) fn output_len(&self) -> usize {
        self.output.len()
    }

    pub(crate) fn take_output(&mut self, max: usize) -> Option<Bytes> {
        let len = self.output.len().min(max);
        if len == 0 {
            return None;
        }
        let piece = self.output.split_to(len).freeze();
        if self.output.is_empty() {
            self.output = BytesMut::new();
        }
        Some(piece)
    }

    pub(crate) fn clear(&mut self) {
        *self = Self { closed: true, ..Self::default() };
    }

    /// Room before h2 has to wait; it then stops reading too, so a peer cannot make answers to pings pile up.
    fn room(&self) -> usize {
        OUTPUT_PAUSE.saturating_sub(self.output.len())
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if self.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let mut written = 0;
        for slice in slices {
            let len = slice.len().min(self.room());
            self.output.extend_from_slice(&slice[..len]);
            written += len;
        }
        if written == 0 && slices.iter().any(|slice| !slice.is_empty()) {
            return Poll::Pending;
        }
        Poll::Ready(Ok(written))
    }
}

impl AsyncRead for Pipe {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut buffers = self.buffers();
        let len = buffers.input.len().min(buf.remaining());
        if len == 0 && !buffers.ended && !buffers.closed {
            return Poll::Pending;
        }
        buf.put_slice(&buffers.input.split_to(len));
        if buffers.input.is_empty() {
            buffers.input = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.buffers().write(&[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.buffers().write(slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
