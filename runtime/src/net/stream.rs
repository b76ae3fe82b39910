//! A connected socket.

use std::{
    cell::Cell,
    fmt,
    future::poll_fn,
    io::{self, IoSlice},
    net::SocketAddr,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    task::{Context, Poll, ready},
};

use nix::{
    errno::Errno,
    sys::socket::{
        self, AddressFamily, MsgFlags, SockFlag, SockType, SockaddrStorage, getpeername, getsockname,
        setsockopt, sockopt,
    },
};

use super::{Address, Keepalive, options, permit::Permit};
use crate::{buffers::Lease, core, limits, reactor::Watched};

/// A TCP or Unix connection of one shard. All methods take `&self`: one future may receive while another of the
/// same task sends. At most one future may wait to receive and one to send. Closed when dropped.
///
/// No future of this type holds a block of memory while it waits, and none loses bytes when dropped: what was not
/// handed out is still in the kernel.
pub struct Stream {
    // Behind a pointer: streams move through many futures, each of which would hold all of it.
    inner: Box<Inner>,
}

struct Inner {
    io: Watched,
    permit: Permit,
    received: Cell<u64>,
    sent: Cell<u64>,
}

impl Stream {
    pub(crate) fn new(descriptor: OwnedFd, permit: Permit) -> io::Result<Self> {
        let io = Watched::new(descriptor, permit.core().engine)?;
        let inner = Inner { io, permit, received: Cell::new(0), sent: Cell::new(0) };
        Ok(Stream { inner: Box::new(inner) })
    }

    pub(crate) fn watched(&self) -> &Watched {
        &self.inner.io
    }

    /// Two connected Unix sockets, for tests and for tasks that speak bytes to each other.
    ///
    /// # Errors
    /// No descriptors, or `connections_max` reached.
    pub fn pair() -> io::Result<(Stream, Stream)> {
        let core = core::current();
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let (near, far) = socket::socketpair(AddressFamily::Unix, SockType::Stream, None, flags)?;
        Ok((Stream::new(near, Permit::take(&core)?)?, Stream::new(far, Permit::take(&core)?)?))
    }

    /// Waits for bytes, then borrows a block and receives up to `max` of them (at most
    /// [`limits::BLOCK_BYTES`]). An empty lease is the end of the peer's stream.
    ///
    /// # Errors
    /// Those of `recv(2)`; [`crate::buffers::BlocksExhausted`] when the shard has no block, in which case the bytes
    /// stay in the kernel.
    pub async fn recv(&self, max: usize) -> io::Result<Lease> {
        poll_fn(|cx| self.poll_recv(max, cx)).await
    }

    /// Waits for bytes, then receives as many as fit behind those that `lease` holds; says how many. 0 is the end of
    /// the peer's stream, or that there is no room. For what must lie in one piece, such as a head that came in two.
    ///
    /// # Errors
    /// Those of `recv(2)`.
    pub async fn recv_more(&self, lease: &mut Lease) -> io::Result<usize> {
        if lease.room().is_empty() {
            return Ok(0);
        }
        poll_fn(|cx| {
            self.poll_read(cx, || {
                let room = lease.room().len();
                self.receive(lease, room)
            })
        })
        .await
    }

    /// [`Stream::recv`] for hand-written futures.
    pub fn poll_recv(&self, max: usize, cx: &mut Context<'_>) -> Poll<io::Result<Lease>> {
        self.poll_read(cx, || self.try_recv(max))
    }

    /// Receives what is there; `None` when nothing is.
    ///
    /// # Errors
    /// As [`Stream::recv`].
    pub fn try_recv(&self, max: usize) -> io::Result<Option<Lease>> {
        let mut lease = self.inner.permit.core().blocks.lease()?;
        let count = self.receive(&mut lease, max.clamp(1, limits::BLOCK_BYTES))?;
        Ok(count.map(|count| if count == 0 { Lease::none() } else { lease }))
    }

    /// Tries `read` whenever the socket is readable, until it gives something.
    fn poll_read<T>(
        &self,
        cx: &mut Context<'_>,
        mut read: impl FnMut() -> io::Result<Option<T>>,
    ) -> Poll<io::Result<T>> {
        loop {
            ready!(self.poll_budget(cx));
            if self.inner.io.drained.get() || self.inner.io.awaits_readable() {
                ready!(self.inner.io.poll_readable(cx))?;
                self.inner.io.drained.set(false);
            }
            if let Some(something) = read()? {
                return Poll::Ready(Ok(something));
            }
        }
    }

    /// Receives at most `wanted` bytes into the lease's room, which has as many; `None` when nothing is there.
    fn receive(&self, lease: &mut Lease, wanted: usize) -> io::Result<Option<usize>> {
        #[cfg(feature = "sim")]
        let wanted = crate::sim::cut(wanted);
        let room = &mut lease.room()[..wanted];
        match retry(|| socket::recv(self.inner.io.raw(), room, MsgFlags::empty())) {
            Ok(count) => {
                lease.filled(count);
                self.inner.io.drained.set(count < wanted);
                self.inner.received.set(self.inner.received.get() + count as u64);
                Ok(Some(count))
            }
            Err(Errno::EAGAIN) => {
                self.inner.io.drained.set(true);
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Waits until a receive would give something: bytes, the end, or an error.
    ///
    /// # Errors
    /// The kernel could not take the wait.
    pub async fn readable(&self) -> io::Result<()> {
        poll_fn(|cx| self.inner.io.poll_readable(cx)).await?;
        self.inner.io.drained.set(false);
        Ok(())
    }

    /// Sends some of `bytes` and says how many. Dropped before it is ready, it has sent none.
    ///
    /// # Errors
    /// Those of `send(2)`; `BrokenPipe` where the peer is gone.
    pub async fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_send(bytes, cx)).await
    }

    /// [`Stream::send`] for hand-written futures.
    pub fn poll_send(&self, bytes: &[u8], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        #[cfg(feature = "sim")]
        let bytes = &bytes[..crate::sim::cut(bytes.len())];
        self.poll_write(cx, || {
            socket::send(self.inner.io.raw(), bytes, MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT)
        })
    }

    /// Sends some of `parts`, in order, and says how many bytes: for hand-written futures.
    pub fn poll_send_vectored(&self, parts: &[IoSlice<'_>], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.poll_write(cx, || {
            let batch = &parts[..parts.len().min(SLICES_MAX)];
            #[cfg(feature = "sim")]
            let batch = &batch[..crate::sim::cut(batch.len())];
            let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
            socket::sendmsg::<SockaddrStorage>(self.inner.io.raw(), batch, &[], flags, None)
        })
    }

    /// Sends what the kernel takes at once; `None` when it takes nothing.
    ///
    /// # Errors
    /// As [`Stream::send`].
    pub fn try_send(&self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        match retry(|| socket::send(self.inner.io.raw(), bytes, flags)) {
            Ok(count) => Ok(Some(self.sent_more(count))),
            Err(Errno::EAGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends all of `bytes`. Dropped before it is ready it may have sent a part: the growth of
    /// [`Stream::bytes_sent`] tells how much.
    ///
    /// # Errors
    /// As [`Stream::send`].
    pub async fn send_all(&self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let count = self.send(rest).await?;
            rest = &rest[count..];
        }
        Ok(())
    }

    /// Sends all of `parts` in order, several per system call, using up the slices. Dropped before it is ready it
    /// behaves as [`Stream::send_all`].
    ///
    /// # Errors
    /// As [`Stream::send`].
    pub async fn send_vectored(&self, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        let mut rest = parts;
        // Drops empty slices at the front, which would make a send of nothing.
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let count = poll_fn(|cx| self.poll_send_vectored(rest, cx)).await?;
            IoSlice::advance_slices(&mut rest, count);
        }
        Ok(())
    }

    /// Ends our direction (FIN); receiving goes on.
    ///
    /// # Errors
    /// The peer has reset the connection.
    pub fn shutdown_write(&self) -> io::Result<()> {
        Ok(socket::shutdown(self.inner.io.raw(), socket::Shutdown::Write)?)
    }

    /// Ends both directions: whoever waits to receive gets the end of the stream, and the peer a FIN.
    pub fn shutdown(&self) {
        // A connection the peer has reset is at its end already.
        let _ = socket::shutdown(self.inner.io.raw(), socket::Shutdown::Both);
    }

    /// Closes at once with RST, dropping what is unsent.
    pub fn reset(self) {
        self.reset_on_close();
    }

    /// From here on a close is a RST that drops what is unsent.
    pub fn reset_on_close(&self) {
        // A socket that cannot take the option is gone already.
        let _ = options::set_reset_on_close(&self.inner.io);
    }

    /// Whether the peer has ended its side, in whatever way, and everything it sent was received. One system call.
    pub fn peer_has_ended(&self) -> bool {
        let mut byte = [0];
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        !matches!(retry(|| socket::recv(self.inner.io.raw(), &mut byte, flags)), Ok(1..) | Err(Errno::EAGAIN))
    }

    /// Whether a pooled connection may carry another request: open, and nothing has come on it. One system call.
    pub fn is_idle_alive(&self) -> bool {
        let mut byte = [0];
        let peeked = retry(|| {
            socket::recv(self.inner.io.raw(), &mut byte, MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT)
        });
        peeked == Err(Errno::EAGAIN)
    }

    /// The peer's address.
    ///
    /// # Errors
    /// The peer has gone.
    pub fn peer_addr(&self) -> io::Result<Address> {
        Address::from_kernel(&getpeername::<SockaddrStorage>(self.inner.io.raw())?)
    }

    /// Our address; with TPROXY, the one the client dialed.
    ///
    /// # Errors
    /// Those of `getsockname(2)`.
    pub fn local_addr(&self) -> io::Result<Address> {
        Address::from_kernel(&getsockname::<SockaddrStorage>(self.inner.io.raw())?)
    }

    /// The address the client dialed before netfilter's REDIRECT changed it (`SO_ORIGINAL_DST`). Where nothing was
    /// changed it is our own address, or `None` if connection tracking does not know the connection. With TPROXY use
    /// [`Stream::local_addr`].
    pub fn original_dst(&self) -> Option<SocketAddr> {
        options::original_destination(&self.inner.io, &self.local_addr().ok()?)
    }

    /// Sends small segments at once (`TCP_NODELAY`). Nothing on Unix sockets.
    ///
    /// # Errors
    /// Those of `setsockopt(2)`.
    pub fn set_nodelay(&self, on: bool) -> io::Result<()> {
        match setsockopt(&self.inner.io, sockopt::TcpNoDelay, &on) {
            Err(Errno::EOPNOTSUPP | Errno::ENOPROTOOPT) => Ok(()),
            result => Ok(result?),
        }
    }

    /// Turns keep-alive probes on.
    ///
    /// # Errors
    /// Those of `setsockopt(2)`; always on Unix sockets.
    pub fn set_keepalive(&self, keepalive: Keepalive) -> io::Result<()> {
        options::set_keepalive(&self.inner.io, keepalive)
    }

    /// Bytes handed out by receives so far.
    pub fn bytes_received(&self) -> u64 {
        self.inner.received.get()
    }

    /// Bytes the kernel took so far.
    pub fn bytes_sent(&self) -> u64 {
        self.inner.sent.get()
    }

    fn poll_write(
        &self,
        cx: &mut Context<'_>,
        mut write: impl FnMut() -> nix::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_budget(cx));
            if self.inner.io.awaits_writable() {
                ready!(self.inner.io.poll_writable(cx))?;
            }
            #[cfg(feature = "sim")]
            if crate::sim::blocks() {
                ready!(self.inner.io.poll_writable(cx))?;
                continue;
            }
            match retry(&mut write) {
                Ok(count) => return Poll::Ready(Ok(self.sent_more(count))),
                Err(Errno::EAGAIN) => ready!(self.inner.io.poll_writable(cx))?,
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
    }

    fn sent_more(&self, count: usize) -> usize {
        self.inner.sent.set(self.inner.sent.get() + count as u64);
        count
    }

    /// A task whose sockets are always ready yields after a while.
    fn poll_budget(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.inner.permit.core().executor.consume_operation() {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Slices per `sendmsg(2)`; the kernel takes 1,024, and copies that many descriptors each time.
const SLICES_MAX: usize = 64;

fn retry<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => (),
            result => return result,
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("descriptor", &self.inner.io.as_fd().as_raw_fd()).finish()
    }
}
