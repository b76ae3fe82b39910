//! The runtime's stream as `h2` wants it: Tokio's traits, nothing else of Tokio.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use ringsail_runtime::buffers::Lease;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::guard::{Guard, Stop};
use crate::connection::Connection;
use crate::inflow::Inflow;
use crate::limits::RECEIVE_BYTES_MAX;
use crate::stream::Stream;

/// One connection.
pub(super) struct Io {
    socket: Socket,
    /// Received and not yet taken by `h2`; none while the connection is idle.
    lease: Option<Lease>,
    guard: Rc<Guard>,
}

/// Whose socket it is.
pub(super) enum Socket {
    /// A client's, which its exchanges know too.
    Downstream(Rc<Connection>),
    /// An upstream's.
    Upstream(Stream),
}

impl Io {
    /// `first_bytes` were received already.
    pub(super) fn new(socket: Socket, first_bytes: Inflow, guard: Rc<Guard>) -> io::Result<Io> {
        let mut lease = first_bytes.into_lease();
        if let Some(received) = &mut lease {
            judge(&guard, received)?;
        }
        Ok(Io { socket, lease, guard })
    }

    /// Tells the guard what went over the wire, for the connection's counters.
    fn count(&self) {
        let stream = self.stream();
        self.guard.set_bytes(stream.bytes_received(), stream.bytes_sent());
    }

    fn stream(&self) -> &Stream {
        match &self.socket {
            Socket::Downstream(connection) => &connection.stream,
            Socket::Upstream(stream) => stream,
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let io = &mut *self;
        let mut lease = match io.lease.take() {
            Some(lease) => lease,
            // Who drives the connection sees the mistake and ends it.
            None if io.guard.mistake().is_some() => return Poll::Pending,
            None => {
                let mut lease = ready!(io.stream().poll_recv(RECEIVE_BYTES_MAX, cx))
                    .inspect_err(|_| io.guard.peer_ends())?;
                let received = lease.len();
                if received == 0 {
                    io.guard.peer_ends();
                }
                io.count();
                judge(&io.guard, &mut lease)?;
                if lease.is_empty() && received > 0 {
                    return Poll::Pending;
                }
                lease
            }
        };
        let count = lease.len().min(buffer.remaining());
        buffer.put_slice(&lease[..count]);
        lease.advance(count);
        io.lease = (!lease.is_empty()).then_some(lease);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.stream().poll_send(bytes, cx) {
            Poll::Ready(Ok(count)) => {
                self.guard.sent(&bytes[..count]);
                self.count();
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                self.guard.sending_is_blocked();
                Poll::Pending
            }
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.stream().poll_send_vectored(parts, cx) {
            Poll::Ready(Ok(count)) => {
                let mut left = count;
                for part in parts {
                    let sent = part.len().min(left);
                    self.guard.sent(&part[..sent]);
                    left -= sent;
                }
                self.count();
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                self.guard.sending_is_blocked();
                Poll::Pending
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A peer that is gone needs no end of ours.
        let _ = self.stream().shutdown_write();
        Poll::Ready(Ok(()))
    }
}

/// Lets the guard look at what was received, and cuts off what a mistake is in.
fn judge(guard: &Guard, received: &mut Lease) -> io::Result<()> {
    match guard.received(received) {
        Ok(()) => Ok(()),
        Err(Stop::Flood(_)) => Err(flooded()),
        Err(Stop::Mistake(_, before)) => {
            received.truncate(before);
            Ok(())
        }
    }
}

fn flooded() -> io::Error {
    io::Error::other("too many frames of a kind")
}
