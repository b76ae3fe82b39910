//! A connection as the rest of the engine sees it: bytes in, bytes out, whether or not TLS is between them and the
//! socket.
//!
//! The methods are those of [`ringsail_runtime::net::Stream`] and keep its promises: an idle connection holds no block
//! of memory, and a dropped receive loses nothing. Of a dropped send, the part that was sealed already goes out with the
//! next one: whoever drops a send of a TLS connection either repeats the same bytes or closes the connection.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use ringsail_runtime::buffers::{self, Lease};
use ringsail_runtime::net::{self, Address};
use ringsail_tls::TlsError;
use ringsail_tls::limits::RECORD_BYTES_MAX;
use ringsail_tls::session::{Io, Read, Session};

use crate::limits::RECEIVE_BYTES_MAX;
use crate::tls::Facts;

/// A connection of one shard.
pub struct Stream {
    socket: net::Stream,
    tls: Option<Box<Tls>>,
}

/// What TLS adds to a socket.
struct Tls {
    session: RefCell<Session>,
    facts: Rc<Facts>,
    /// Received and not yet opened; only when a reader took less than there was.
    arrived: RefCell<Option<Lease>>,
    socket_ended: Cell<bool>,
    /// Sealed and not yet taken by the kernel.
    unsent: RefCell<Vec<u8>>,
    /// Plaintext bytes in [`Self::unsent`] that no send has been told of.
    owed: Cell<usize>,
}

thread_local! {
    /// Where records are sealed on their way to the kernel: memory of the shard, not of a connection.
    static SEALED: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl From<net::Stream> for Stream {
    fn from(socket: net::Stream) -> Stream {
        Stream { socket, tls: None }
    }
}

impl Stream {
    /// A socket whose handshake is over. `arrived` was received with its last bytes.
    pub(crate) fn with_tls(
        socket: net::Stream,
        session: Session,
        facts: Facts,
        arrived: Option<Lease>,
    ) -> Stream {
        let tls = Tls {
            session: RefCell::new(session),
            facts: Rc::new(facts),
            arrived: RefCell::new(arrived),
            socket_ended: Cell::new(false),
            unsent: RefCell::default(),
            owed: Cell::new(0),
        };
        Stream { socket, tls: Some(Box::new(tls)) }
    }

    /// What is known of its TLS session; `None` for plain TCP.
    pub fn tls(&self) -> Option<&Rc<Facts>> {
        self.tls.as_deref().map(|tls| &tls.facts)
    }

    /// See [`net::Stream::recv`].
    ///
    /// # Errors
    /// Those of the socket, and of a TLS session that was broken.
    pub async fn recv(&self, max: usize) -> io::Result<Lease> {
        poll_fn(|cx| self.poll_recv(max, cx)).await
    }

    /// See [`net::Stream::poll_recv`].
    pub fn poll_recv(&self, max: usize, cx: &mut Context<'_>) -> Poll<io::Result<Lease>> {
        let Some(tls) = &self.tls else { return self.socket.poll_recv(max, cx) };
        let mut plain = match buffers::lease() {
            Ok(plain) => plain,
            Err(exhausted) => return Poll::Ready(Err(exhausted.into())),
        };
        match ready!(tls.poll_open(&self.socket, &mut plain, max, cx))? {
            0 => Poll::Ready(Ok(Lease::none())),
            _ => Poll::Ready(Ok(plain)),
        }
    }

    /// See [`net::Stream::recv_more`].
    ///
    /// # Errors
    /// As [`Stream::recv`].
    pub async fn recv_more(&self, lease: &mut Lease) -> io::Result<usize> {
        let Some(tls) = &self.tls else { return self.socket.recv_more(lease).await };
        if lease.room().is_empty() {
            return Ok(0);
        }
        poll_fn(|cx| tls.poll_open(&self.socket, lease, RECEIVE_BYTES_MAX, cx)).await
    }

    /// Waits until a receive would give something: bytes, the end, or an error.
    ///
    /// # Errors
    /// The kernel could not take the wait.
    pub async fn readable(&self) -> io::Result<()> {
        let Some(tls) = &self.tls else { return self.socket.readable().await };
        loop {
            if tls.has_news(&self.socket) {
                return Ok(());
            }
            // What a key update or a ticket made us say goes out here, for nobody may be sending.
            if !tls.unsent.borrow().is_empty() {
                poll_fn(|cx| tls.poll_flush(&self.socket, cx)).await?;
                continue;
            }
            self.socket.readable().await?;
        }
    }

    /// See [`net::Stream::send`].
    ///
    /// # Errors
    /// As [`Stream::recv`].
    pub async fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        poll_fn(|cx| self.poll_send(bytes, cx)).await
    }

    /// See [`net::Stream::poll_send`]. Ready when the kernel has taken all of the record that the bytes are in.
    pub fn poll_send(&self, bytes: &[u8], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match &self.tls {
            Some(tls) => tls.poll_seal(&self.socket, bytes, cx),
            None => self.socket.poll_send(bytes, cx),
        }
    }

    /// See [`net::Stream::poll_send_vectored`]. With TLS, parts that fit into one record go in one.
    pub fn poll_send_vectored(&self, parts: &[IoSlice<'_>], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(tls) = &self.tls else { return self.socket.poll_send_vectored(parts, cx) };
        let mut full = parts.iter().filter(|part| !part.is_empty());
        let (first, second) = (full.next(), full.next());
        match (first, second) {
            (None, _) => Poll::Ready(Ok(0)),
            (Some(first), _) if first.len() >= RECORD_BYTES_MAX => tls.poll_seal(&self.socket, first, cx),
            (Some(first), None) => tls.poll_seal(&self.socket, first, cx),
            (Some(_), Some(_)) => {
                let mut together = match buffers::lease() {
                    Ok(together) => together,
                    Err(exhausted) => return Poll::Ready(Err(exhausted.into())),
                };
                for part in parts {
                    let room = RECORD_BYTES_MAX.saturating_sub(together.len());
                    let wanted = part.len().min(room);
                    if together.append(&part[..wanted]) < part.len() {
                        break;
                    }
                }
                tls.poll_seal(&self.socket, &together, cx)
            }
        }
    }

    /// See [`net::Stream::send_all`].
    ///
    /// # Errors
    /// As [`Stream::recv`].
    pub async fn send_all(&self, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let count = self.send(rest).await?;
            rest = &rest[count..];
        }
        Ok(())
    }

    /// See [`net::Stream::send_vectored`].
    ///
    /// # Errors
    /// As [`Stream::recv`].
    pub async fn send_vectored(&self, parts: &mut [IoSlice<'_>]) -> io::Result<()> {
        let mut rest = parts;
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let count = poll_fn(|cx| self.poll_send_vectored(rest, cx)).await?;
            IoSlice::advance_slices(&mut rest, count);
        }
        Ok(())
    }

    /// Ends our direction; receiving goes on. With TLS the peer is told in both ways, by an alert and by a FIN.
    ///
    /// # Errors
    /// The peer has reset the connection.
    pub fn shutdown_write(&self) -> io::Result<()> {
        if let Some(tls) = &self.tls {
            tls.say_goodbye(&self.socket);
        }
        self.socket.shutdown_write()
    }

    /// Ends both directions: whoever waits to receive gets the end of the stream, and the peer a FIN.
    pub fn shutdown(&self) {
        if let Some(tls) = &self.tls {
            tls.say_goodbye(&self.socket);
        }
        self.socket.shutdown();
    }

    /// Closes at once with RST, dropping what is unsent.
    pub fn reset(mut self) {
        self.reset_when_dropped();
    }

    /// Lets its close be an RST that drops what is unsent.
    pub fn reset_when_dropped(&mut self) {
        self.tls = None;
        self.socket.reset_on_close();
    }

    /// Whether the peer has ended its side, in whatever way, and everything it sent was received.
    pub fn peer_has_ended(&self) -> bool {
        self.socket.peer_has_ended() || self.tls.as_ref().is_some_and(|tls| tls.socket_ended.get())
    }

    /// Bytes received so far; with TLS, of records.
    pub fn bytes_received(&self) -> u64 {
        self.socket.bytes_received()
    }

    /// Whether a pooled connection may carry another request: open, and nothing has come on it but what TLS says to
    /// itself.
    pub fn is_idle_alive(&self) -> bool {
        match &self.tls {
            None => self.socket.is_idle_alive(),
            Some(tls) => self.socket.is_idle_alive() && !tls.is_pending() || !tls.has_news(&self.socket),
        }
    }

    /// See [`net::Stream::peer_addr`].
    ///
    /// # Errors
    /// The peer has gone.
    pub fn peer_addr(&self) -> io::Result<Address> {
        self.socket.peer_addr()
    }

    /// See [`net::Stream::local_addr`].
    ///
    /// # Errors
    /// Those of `getsockname(2)`.
    pub fn local_addr(&self) -> io::Result<Address> {
        self.socket.local_addr()
    }

    /// See [`net::Stream::original_dst`].
    pub fn original_dst(&self) -> Option<SocketAddr> {
        self.socket.original_dst()
    }

    /// Bytes the kernel took so far; with TLS, of records.
    pub fn bytes_sent(&self) -> u64 {
        self.socket.bytes_sent()
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("socket", &self.socket).field("tls", &self.tls.is_some()).finish()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(tls) = &self.tls {
            tls.say_goodbye(&self.socket);
        }
    }
}

impl Tls {
    /// Whether bytes wait inside that the kernel no longer has.
    fn is_pending(&self) -> bool {
        self.arrived.borrow().is_some() || self.session.borrow().has_pending()
    }

    /// Receives until there is plaintext behind what `plain` holds; says how much, 0 at the end.
    fn poll_open(
        &self,
        socket: &net::Stream,
        plain: &mut Lease,
        max: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let wanted = plain.room().len().min(max);
            let read = self.open(socket, |session, io| session.read(io, &mut plain.room()[..wanted]));
            match read.map_err(broken)? {
                Read::Bytes(count) => {
                    plain.filled(count);
                    return Poll::Ready(Ok(count));
                }
                Read::End => return Poll::Ready(Ok(0)),
                Read::NeedInput => {}
            }
            if !self.unsent.borrow().is_empty() && self.owed.get() == 0 {
                // Nobody may be sending; if somebody is, the same task waits for the same readiness.
                let _ = self.poll_flush(socket, cx)?;
            }
            let lease = ready!(socket.poll_recv(RECEIVE_BYTES_MAX, cx))?;
            self.take_in(lease);
        }
    }

    fn take_in(&self, lease: Lease) {
        if lease.is_empty() {
            self.socket_ended.set(true);
        } else {
            *self.arrived.borrow_mut() = Some(lease);
        }
    }

    /// Lets the session work on what has arrived.
    fn open<R>(&self, socket: &net::Stream, work: impl FnOnce(&mut Session, &mut Io<'_>) -> R) -> R {
        let mut arrived = self.arrived.borrow_mut();
        let mut sealed = SEALED.take();
        sealed.clear();
        let input = arrived.as_deref().unwrap_or_default();
        let before = input.len();
        let mut io = Io { input, input_ended: self.socket_ended.get(), output: &mut sealed };
        let result = work(&mut self.session.borrow_mut(), &mut io);
        let used = before - io.input.len();
        if let Some(lease) = &mut *arrived {
            lease.advance(used);
            if lease.is_empty() {
                *arrived = None;
            }
        }
        drop(arrived);
        self.pass_on(socket, &sealed);
        SEALED.set(sealed);
        result
    }

    /// Sends what was sealed, behind what waits; keeps what the kernel does not take.
    fn pass_on(&self, socket: &net::Stream, sealed: &[u8]) {
        if sealed.is_empty() {
            return;
        }
        let mut unsent = self.unsent.borrow_mut();
        // A socket that is gone says so to whoever receives from it.
        let sent = if unsent.is_empty() { socket.try_send(sealed).ok().flatten().unwrap_or(0) } else { 0 };
        unsent.extend_from_slice(&sealed[sent..]);
    }

    /// Ready when the kernel has all that was sealed.
    fn poll_flush(&self, socket: &net::Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut unsent = self.unsent.borrow_mut();
        while !unsent.is_empty() {
            let count = ready!(socket.poll_send(&unsent, cx))?;
            unsent.drain(..count);
        }
        *unsent = Vec::new();
        Poll::Ready(Ok(()))
    }

    /// Seals a record of the first of `bytes` and sends it.
    fn poll_seal(&self, socket: &net::Stream, bytes: &[u8], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(socket, cx))?;
        let owed = self.owed.take();
        if owed > 0 {
            return Poll::Ready(Ok(owed.min(bytes.len())));
        }
        let mut sealed = SEALED.take();
        sealed.clear();
        let mut io = Io { input: &[], input_ended: false, output: &mut sealed };
        let written = self.session.borrow_mut().write(&mut io, bytes);
        let sent = match socket.poll_send(&sealed, cx) {
            Poll::Ready(sent) => sent,
            Poll::Pending => Ok(0),
        };
        let result = match (written, sent) {
            (Ok(count), Ok(sent)) if sent == sealed.len() => Poll::Ready(Ok(count)),
            (Ok(count), Ok(sent)) => {
                self.unsent.borrow_mut().extend_from_slice(&sealed[sent..]);
                self.owed.set(count);
                Poll::Pending
            }
            (Err(error), _) => Poll::Ready(Err(broken(error))),
            (_, Err(error)) => Poll::Ready(Err(error)),
        };
        SEALED.set(sealed);
        if result.is_pending() {
            // Asks to be woken; sends more at once where that is possible by now.
            ready!(self.poll_flush(socket, cx))?;
            return Poll::Ready(Ok(self.owed.take()));
        }
        result
    }

    /// Whether data or the end has come; takes in what TLS says to itself.
    fn has_news(&self, socket: &net::Stream) -> bool {
        loop {
            if self.open(socket, |session, io| session.is_readable(io)) {
                return true;
            }
            match socket.try_recv(RECEIVE_BYTES_MAX) {
                Ok(Some(lease)) => self.take_in(lease),
                Ok(None) => return false,
                Err(_) => return true,
            }
        }
    }

    /// Tells the peer that nothing follows, as far as the kernel takes it at once.
    fn say_goodbye(&self, socket: &net::Stream) {
        if self.unsent.borrow().is_empty() {
            self.open(socket, |session, io| session.close(io));
        }
    }
}

fn broken(error: TlsError) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, error)
}
