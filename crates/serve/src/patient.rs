//! A connection's stream with a limit on how long a client may take to read what is sent: it must take [`LEAST`] bytes in each span
//! of time, else the connection ends.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// Bytes that a client must take in time.
const LEAST: usize = 64 << 10;

/// A stream whose writes must not wait too long.
pub(crate) struct Patient<S> {
    stream: S,
    timeout: Duration,
    /// Runs while writing waits.
    timer: Pin<Box<Sleep>>,
    waits: bool,
    /// Bytes written since the timer began.
    written: usize,
}

impl<S: Unpin> Patient<S> {
    pub(crate) fn new(stream: S, timeout: Duration) -> Patient<S> {
        Patient { stream, timeout, timer: Box::pin(sleep(timeout)), waits: false, written: 0 }
    }

    /// Counts what has been written, and ends what waits too long.
    fn watch<T>(
        &mut self,
        context: &mut Context<'_>,
        found: Poll<io::Result<T>>,
        size: impl FnOnce(&T) -> usize,
    ) -> Poll<io::Result<T>> {
        match found {
            Poll::Ready(Ok(done)) => {
                self.written += size(&done);
                if self.written >= LEAST {
                    self.waits = false;
                }
                Poll::Ready(Ok(done))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                if !self.waits {
                    (self.waits, self.written) = (true, 0);
                    self.timer.as_mut().reset(Instant::now() + self.timeout);
                }
                ready!(self.timer.as_mut().poll(context));
                Poll::Ready(Err(io::Error::from(io::ErrorKind::TimedOut)))
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let found = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, found, |&size| size)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let found = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.watch(context, found, |&size| size)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let found = Pin::new(&mut self.stream).poll_flush(context);
        // What has been flushed waits no longer.
        self.watch(context, found, |()| LEAST)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
