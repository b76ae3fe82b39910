//! Dialing.

use std::{future::poll_fn, io, net::SocketAddr, os::fd::AsRawFd, time::Duration};

use nix::{
    errno::Errno,
    sys::socket::{bind, connect, getsockopt, setsockopt, sockopt},
};

use super::{Address, Keepalive, Stream, options, permit::Permit};
use crate::{core, limits, reactor::Watched, time};

/// How to dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectOptions {
    /// Longest time until the connection stands; `None` leaves it to the kernel (about two minutes of SYNs).
    pub timeout: Option<Duration>,
    /// Source address; port 0 lets the kernel choose one at connect time.
    pub bind_addr: Option<SocketAddr>,
    /// The source address need not be this host's (`IP_TRANSPARENT`; needs CAP_NET_ADMIN).
    pub transparent: bool,
    /// `TCP_NODELAY`; ignored for Unix sockets.
    pub nodelay: bool,
    /// Keep-alive probes; ignored for Unix sockets.
    pub keepalive: Option<Keepalive>,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        ConnectOptions { timeout: None, bind_addr: None, transparent: false, nodelay: true, keepalive: None }
    }
}

impl Stream {
    /// Connects. Dropping the future gives the attempt up.
    ///
    /// # Errors
    /// Those of `connect(2)`; `TimedOut` after `options.timeout`; [`super::ConnectionsExhausted`] when the shard has
    /// `connections_max`.
    pub async fn connect(address: &Address, options: &ConnectOptions) -> io::Result<Stream> {
        match options.timeout {
            Some(length) => time::timeout(length, dial(address, options)).await?,
            None => dial(address, options).await,
        }
    }
}

async fn dial(address: &Address, options: &ConnectOptions) -> io::Result<Stream> {
    let core = core::current();
    let permit = Permit::take(&core)?;
    let socket = options::stream_socket(address)?;
    if let Address::Inet(_) = address {
        setsockopt(&socket, sockopt::TcpNoDelay, &options.nodelay)?;
        if let Some(keepalive) = options.keepalive {
            options::set_keepalive(&socket, keepalive)?;
        }
        if options.transparent {
            options::set_transparent(&socket, address)?;
        }
        if let Some(source) = options.bind_addr {
            // Without this the kernel would reserve a port per source, and run out at 28,000 connections.
            setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
            bind(socket.as_raw_fd(), &*Address::Inet(source).to_kernel()?)?;
        }
    }
    let pending = loop {
        match connect(socket.as_raw_fd(), &*address.to_kernel()?) {
            Ok(()) => break false,
            Err(Errno::EINPROGRESS | Errno::EINTR) => break true,
            Err(Errno::EAGAIN) if matches!(address, Address::Unix(_)) => {
                time::sleep(limits::CONNECT_UNIX_REST).await;
            }
            Err(error) => return Err(error.into()),
        }
    };
    let stream = Stream::new(socket, permit)?;
    if pending {
        await_connected(stream.watched()).await?;
    }
    core.stats.connections_dialed.add(1);
    Ok(stream)
}

async fn await_connected(socket: &Watched) -> io::Result<()> {
    poll_fn(|cx| socket.poll_writable(cx)).await?;
    match getsockopt(socket, sockopt::SocketError)? {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}
