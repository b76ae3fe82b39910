//! Where a socket listens or connects to.

use std::{
    fmt, io,
    net::SocketAddr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use nix::sys::socket::{AddressFamily, SockaddrLike, SockaddrStorage, UnixAddr};

/// An IP address with port, or a Unix socket. A Unix path that begins with `@` is a name in Linux's abstract
/// namespace, as in Envoy's `pipe` address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// TCP over IPv4 or IPv6.
    Inet(SocketAddr),
    /// A Unix stream socket; an empty path is an unnamed one.
    Unix(PathBuf),
}

impl Address {
    /// The IP address and port, if it has one.
    pub fn as_inet(&self) -> Option<SocketAddr> {
        match self {
            Address::Inet(address) => Some(*address),
            Address::Unix(_) => None,
        }
    }

    pub(crate) fn family(&self) -> AddressFamily {
        match self {
            Address::Inet(SocketAddr::V4(_)) => AddressFamily::Inet,
            Address::Inet(SocketAddr::V6(_)) => AddressFamily::Inet6,
            Address::Unix(_) => AddressFamily::Unix,
        }
    }

    /// The kernel's form. `InvalidInput` for a path longer than 107 bytes.
    pub(crate) fn to_kernel(&self) -> io::Result<Box<dyn SockaddrLike>> {
        match self {
            Address::Inet(address) => Ok(Box::new(SockaddrStorage::from(*address))),
            Address::Unix(path) => {
                let bytes = path.as_os_str().as_bytes();
                let address = match bytes.split_first() {
                    Some((b'@', name)) => UnixAddr::new_abstract(name),
                    _ => UnixAddr::new(path.as_path()),
                };
                address.map(|address| Box::new(address) as Box<dyn SockaddrLike>).map_err(|_| {
                    let text = format!("Unix socket path too long for the kernel: {}", path.display());
                    io::Error::new(io::ErrorKind::InvalidInput, text)
                })
            }
        }
    }

    pub(crate) fn from_kernel(address: &SockaddrStorage) -> io::Result<Self> {
        if let Some(inet) = address.as_sockaddr_in() {
            return Ok(Address::Inet(SocketAddr::V4((*inet).into())));
        }
        if let Some(inet) = address.as_sockaddr_in6() {
            return Ok(Address::Inet(SocketAddr::V6((*inet).into())));
        }
        match address.as_unix_addr() {
            Some(unix) => Ok(Address::Unix(match (unix.path(), unix.as_abstract()) {
                (Some(path), _) => path.to_owned(),
                (None, Some(name)) => Path::new(&format!("@{}", String::from_utf8_lossy(name))).to_owned(),
                (None, None) => PathBuf::new(),
            })),
            None => Err(io::Error::other("socket of an unknown address family")),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Address::Inet(address)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Inet(address) => address.fmt(f),
            Address::Unix(path) => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unix_path_past_the_kernels_limit_is_refused() {
        assert!(Address::Unix("x".repeat(107).into()).to_kernel().is_ok());
        let error = Address::Unix("x".repeat(108).into()).to_kernel().err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
