//! Socket options, each with the one place where it is set.
#![allow(unsafe_code)]

use std::{
    io,
    net::{SocketAddr, SocketAddrV4, SocketAddrV6},
    os::fd::{AsFd, AsRawFd},
    time::Duration,
};

use nix::sys::socket::{
    SockFlag, SockType, SockaddrIn, SockaddrIn6, getsockopt, setsockopt, socket as open_socket, sockopt,
};

use super::Address;

/// TCP keep-alive probes, as Envoy's `TcpKeepalive`; what is not given stays at the system's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keepalive {
    /// Idle time before the first probe; whole seconds, at least one.
    pub time: Option<Duration>,
    /// Between probes; whole seconds, at least one.
    pub interval: Option<Duration>,
    /// Unanswered probes before the connection is dead.
    pub probes: Option<u32>,
}

/// A non-blocking stream socket that is not inherited by child processes.
pub(crate) fn stream_socket(address: &Address) -> io::Result<std::os::fd::OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    Ok(open_socket(address.family(), SockType::Stream, flags, None)?)
}

pub(crate) fn set_keepalive(socket: &impl AsFd, keepalive: Keepalive) -> io::Result<()> {
    let seconds = |length: Duration| u32::try_from(length.as_secs().max(1)).unwrap_or(u32::MAX);
    setsockopt(socket, sockopt::KeepAlive, &true)?;
    if let Some(time) = keepalive.time {
        setsockopt(socket, sockopt::TcpKeepIdle, &seconds(time))?;
    }
    if let Some(interval) = keepalive.interval {
        setsockopt(socket, sockopt::TcpKeepInterval, &seconds(interval))?;
    }
    if let Some(probes) = keepalive.probes {
        setsockopt(socket, sockopt::TcpKeepCount, &probes)?;
    }
    Ok(())
}

/// Lets the socket use addresses that are not this host's (TPROXY). Needs CAP_NET_ADMIN.
pub(crate) fn set_transparent(socket: &impl AsFd, address: &Address) -> io::Result<()> {
    match address {
        Address::Inet(SocketAddr::V4(_)) => Ok(setsockopt(socket, sockopt::IpTransparent, &true)?),
        Address::Inet(SocketAddr::V6(_)) => {
            let on: libc::c_int = 1;
            // SAFETY: the value pointer and length describe `on`, which lives across the call.
            let result = unsafe {
                libc::setsockopt(
                    socket.as_fd().as_raw_fd(),
                    libc::IPPROTO_IPV6,
                    libc::IPV6_TRANSPARENT,
                    (&raw const on).cast(),
                    size_of::<libc::c_int>() as libc::socklen_t,
                )
            };
            nix::errno::Errno::result(result).map(drop).map_err(io::Error::from)
        }
        Address::Unix(_) => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// Makes the close that follows send RST and drop what is unsent.
pub(crate) fn set_reset_on_close(socket: &impl AsFd) -> io::Result<()> {
    Ok(setsockopt(socket, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 })?)
}

/// The destination before netfilter's REDIRECT (`SO_ORIGINAL_DST`), `None` where connection tracking knows nothing.
pub(crate) fn original_destination(socket: &impl AsFd, local: &Address) -> Option<SocketAddr> {
    match local {
        Address::Inet(SocketAddr::V4(_)) => {
            let raw = getsockopt(socket, sockopt::OriginalDst).ok()?;
            Some(SocketAddrV4::from(SockaddrIn::from(raw)).into())
        }
        Address::Inet(SocketAddr::V6(_)) => {
            let raw = getsockopt(socket, sockopt::Ip6tOriginalDst).ok()?;
            Some(SocketAddrV6::from(SockaddrIn6::from(raw)).into())
        }
        Address::Unix(_) => None,
    }
}
