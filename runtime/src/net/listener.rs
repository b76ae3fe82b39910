//! Listening and accepting.
#![allow(unsafe_code)]

use std::{
    cell::Cell,
    fmt,
    future::poll_fn,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
    rc::Rc,
};

use nix::{
    errno::Errno,
    sys::socket::{
        self, Backlog, SockFlag, SockaddrStorage, accept4, connect, getsockname, setsockopt, sockopt,
    },
};

use super::{Address, Stream, options, permit::Permit};
use crate::{
    core::{self, Core},
    limits,
    local::Notify,
    reactor::Watched,
    task, time,
};

/// How to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerOptions {
    /// `SO_REUSEPORT`: each shard has a listening socket of its own and the kernel spreads connections by their
    /// addresses. Closing one of them drops what waits in its backlog: accept until empty first
    /// ([`Listener::try_accept`]).
    pub reuse_port: bool,
    /// Accept connections to addresses that are not this host's (TPROXY; needs CAP_NET_ADMIN).
    pub transparent: bool,
    /// Bind to an address that does not exist yet (`IP_FREEBIND`).
    pub freebind: bool,
    /// Connections that wait to be accepted; see [`limits::BACKLOG`].
    pub backlog: i32,
    /// `TCP_NODELAY` on accepted connections.
    pub nodelay: bool,
}

impl Default for ListenerOptions {
    fn default() -> Self {
        ListenerOptions {
            reuse_port: true,
            transparent: false,
            freebind: false,
            backlog: limits::BACKLOG,
            nodelay: true,
        }
    }
}

/// A listening socket that is on no shard yet, so that any thread may bind (and report the error) and a shard may
/// take it over with [`Listener::new`].
#[derive(Debug)]
pub struct ListenSocket {
    socket: OwnedFd,
    address: Address,
    options: ListenerOptions,
}

impl ListenSocket {
    /// Binds and listens. A Unix socket file that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// Those of `bind(2)` and `listen(2)`.
    pub fn bind(address: &Address, options: ListenerOptions) -> io::Result<Self> {
        let socket = bound_socket(address, options)?;
        let backlog = Backlog::new(options.backlog.clamp(1, limits::BACKLOG))?;
        socket::listen(&socket, backlog)?;
        let address = Address::from_kernel(&getsockname::<SockaddrStorage>(socket.as_raw_fd())?)?;
        Ok(ListenSocket { socket, address, options })
    }

    /// Whether [`ListenSocket::bind`] would work: nobody else listens there, and we may. No connection can arrive
    /// meanwhile, and nothing is left behind.
    ///
    /// # Errors
    /// Those of `bind(2)`.
    pub fn probe(address: &Address, options: ListenerOptions) -> io::Result<()> {
        match address {
            Address::Inet(_) => bound_socket(address, options).map(drop),
            Address::Unix(path) if path.exists() => {
                let probe = options::stream_socket(address)?;
                match connect(probe.as_raw_fd(), &*address.to_kernel()?) {
                    Ok(()) => Err(Errno::EADDRINUSE.into()),
                    Err(_) => Ok(()),
                }
            }
            Address::Unix(_) => Ok(()),
        }
    }

    /// Where it listens; with the kernel's choice where port 0 was asked for.
    pub fn local_addr(&self) -> &Address {
        &self.address
    }

    /// Another socket for another shard: with `reuse_port` a socket of its own at the same address, otherwise the
    /// same socket, whose connections go to whichever shard asks first.
    ///
    /// # Errors
    /// As [`ListenSocket::bind`].
    pub fn for_another_shard(&self) -> io::Result<Self> {
        match self.address {
            Address::Inet(_) if self.options.reuse_port => ListenSocket::bind(&self.address, self.options),
            Address::Inet(_) | Address::Unix(_) => Ok(ListenSocket {
                socket: self.socket.try_clone()?,
                address: self.address.clone(),
                options: self.options,
            }),
        }
    }
}

/// A socket that is bound and does not listen.
fn bound_socket(address: &Address, options: ListenerOptions) -> io::Result<OwnedFd> {
    let socket = options::stream_socket(address)?;
    match address {
        Address::Inet(_) => {
            setsockopt(&socket, sockopt::ReuseAddr, &true)?;
            setsockopt(&socket, sockopt::ReusePort, &options.reuse_port)?;
            if options.freebind {
                setsockopt(&socket, sockopt::IpFreebind, &true)?;
            }
            if options.transparent {
                options::set_transparent(&socket, address)?;
            }
            if options.nodelay {
                // Accepted sockets inherit it.
                setsockopt(&socket, sockopt::TcpNoDelay, &true)?;
            }
        }
        Address::Unix(path) => remove_stale(path, address)?,
    }
    socket::bind(socket.as_raw_fd(), &*address.to_kernel()?)?;
    Ok(socket)
}

/// Removes a socket file whose listener is gone.
fn remove_stale(path: &Path, address: &Address) -> io::Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let probe = options::stream_socket(address)?;
    match connect(probe.as_raw_fd(), &*address.to_kernel()?) {
        Err(Errno::ECONNREFUSED) => std::fs::remove_file(path),
        _ => Ok(()),
    }
}

/// A listening socket of one shard. Closed when dropped (on io_uring at the end of the turn: its address is not free
/// before), and with it what waits in its backlog.
pub struct Listener {
    io: Watched,
    core: Rc<Core>,
    address: Address,
    paused: Cell<bool>,
    resumed: Notify,
}

impl Listener {
    /// Takes a listening socket over.
    ///
    /// # Errors
    /// The driver cannot watch it.
    ///
    /// # Panics
    /// Outside a shard.
    pub fn new(socket: ListenSocket) -> io::Result<Self> {
        let core = core::current();
        Ok(Listener {
            io: Watched::new(socket.socket, core.engine)?,
            core,
            address: socket.address,
            paused: Cell::new(false),
            resumed: Notify::new(),
        })
    }

    /// [`ListenSocket::bind`] and [`Listener::new`].
    ///
    /// # Errors
    /// Those of both.
    pub fn bind(address: &Address, options: ListenerOptions) -> io::Result<Self> {
        Listener::new(ListenSocket::bind(address, options)?)
    }

    /// Where it listens.
    pub fn local_addr(&self) -> &Address {
        &self.address
    }

    /// The next connection. At `connections_max` connections are taken, closed and counted, and it waits on. When
    /// descriptors or memory run out it rests ([`limits::ACCEPT_REST`]). One task may wait at a time; dropping the
    /// future loses no connection.
    ///
    /// # Errors
    /// The socket itself is unusable.
    pub async fn accept(&self) -> io::Result<Stream> {
        loop {
            if self.paused.get() {
                self.resumed.notified().await;
                continue;
            }
            if self.io.drained.get() || self.io.awaits_readable() {
                poll_fn(|cx| self.io.poll_readable(cx)).await?;
                self.io.drained.set(false);
                continue;
            }
            if !self.core.executor.consume_operation() {
                task::yield_now().await;
            }
            match self.try_accept() {
                Ok(Some(stream)) => return Ok(stream),
                Ok(None) => (),
                Err(error) if is_shortage(&error) => {
                    self.core.stats.accept_rests.add(1);
                    time::sleep(limits::ACCEPT_REST).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// A connection that waits already, also while paused; `None` when there is none (or one was refused).
    ///
    /// # Errors
    /// As [`Listener::accept`], and those of shortage.
    pub fn try_accept(&self) -> io::Result<Option<Stream>> {
        let socket = match accept4(self.io.raw(), SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC) {
            // SAFETY: the kernel just gave us this descriptor and nobody else knows it.
            Ok(socket) => unsafe { OwnedFd::from_raw_fd(socket) },
            Err(Errno::EAGAIN) => {
                self.io.drained.set(true);
                return Ok(None);
            }
            // The connection failed before we took it, or the call was interrupted: ask again. accept(2) lists
            // the pending network errors that Linux passes on here.
            Err(
                Errno::EINTR
                | Errno::ECONNABORTED
                | Errno::EPROTO
                | Errno::EPERM
                | Errno::ENETDOWN
                | Errno::ENOPROTOOPT
                | Errno::EHOSTDOWN
                | Errno::ENONET
                | Errno::EHOSTUNREACH
                | Errno::EOPNOTSUPP
                | Errno::ENETUNREACH,
            ) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        match Permit::take(&self.core) {
            Ok(permit) => {
                let stream = Stream::new(socket, permit)?;
                self.core.stats.connections_accepted.add(1);
                Ok(Some(stream))
            }
            Err(_refused) => Ok(None),
        }
    }

    /// Leaves new connections in the backlog until [`Listener::resume`].
    pub fn pause(&self) {
        self.paused.set(true);
    }

    /// Undoes [`Listener::pause`].
    pub fn resume(&self) {
        self.paused.set(false);
        self.resumed.notify_all();
    }
}

fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("address", &self.address).finish_non_exhaustive()
    }
}
