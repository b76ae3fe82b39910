//! Sockets: TCP and Unix for discovery, TCP for the debug pages.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::transport::Server;
use tonic::transport::server::Router;

use crate::debug;
use crate::grpc::Discovery;
use crate::limits::{
    DEBUG_CONNECTIONS_MAX, DEBUG_HEAD_TIMEOUT, HTTP2_WINDOW_BYTES, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT,
    STREAMS_PER_CONNECTION_MAX,
};
use crate::plane::Plane;

/// A bound socket for discovery.
#[derive(Debug)]
pub enum Listening {
    /// TCP, in plain text.
    Tcp(TcpListener),
    /// A Unix socket, usable by the user who runs the control plane.
    Unix(UnixListener, PathBuf),
}

impl Listening {
    /// Binds a TCP address.
    ///
    /// # Errors
    /// What the system says, with the address.
    pub async fn tcp(address: SocketAddr) -> io::Result<Self> {
        TcpListener::bind(address).await.map(Self::Tcp).map_err(|error| named(error, &address.to_string()))
    }

    /// Binds a path. A socket file that nobody listens on any more is replaced.
    ///
    /// # Errors
    /// What the system says, with the path; `AddrInUse` when somebody listens there.
    pub async fn unix(path: &Path) -> io::Result<Self> {
        let listener = match UnixListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                if UnixStream::connect(path).await.is_ok() {
                    return Err(named(error, &path.display().to_string()));
                }
                std::fs::remove_file(path)
                    .and_then(|()| UnixListener::bind(path))
                    .map_err(|error| named(error, &path.display().to_string()))?
            }
            result => result.map_err(|error| named(error, &path.display().to_string()))?,
        };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self::Unix(listener, path.to_owned()))
    }
}

impl Listening {
    /// Where this is: the address with the port the system chose, or the path.
    ///
    /// # Errors
    /// What the system says of a TCP socket.
    pub fn address(&self) -> io::Result<String> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(|address| address.to_string()),
            Self::Unix(_, path) => Ok(path.display().to_string()),
        }
    }
}

fn named(error: io::Error, address: &str) -> io::Error {
    io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
}

/// Serves discovery on a socket until `shutdown` ends; then every stream of the plane is closed.
///
/// # Errors
/// When the socket fails for good.
pub async fn serve_discovery(
    plane: Arc<Plane>,
    listening: Listening,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let router = router(Arc::clone(&plane));
    let shutdown = async move {
        shutdown.await;
        plane.close();
    };
    match listening {
        Listening::Tcp(listener) => {
            router.serve_with_incoming_shutdown(TcpListenerStream::new(listener), shutdown).await
        }
        Listening::Unix(listener, path) => {
            let result =
                router.serve_with_incoming_shutdown(UnixListenerStream::new(listener), shutdown).await;
            // A file left behind would only be in the way of the next start.
            let _ = std::fs::remove_file(path);
            result
        }
    }
}

fn router(plane: Arc<Plane>) -> Router {
    Server::builder()
        .initial_stream_window_size(HTTP2_WINDOW_BYTES)
        .initial_connection_window_size(HTTP2_WINDOW_BYTES)
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .tcp_nodelay(true)
        .add_service(Discovery { plane })
}

/// Serves the debug pages until the future is dropped.
pub async fn serve_debug(plane: Arc<Plane>, listener: TcpListener) {
    let places = Arc::new(Semaphore::new(DEBUG_CONNECTIONS_MAX));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let connection = match listener.accept().await {
            Ok((connection, _)) => connection,
            Err(error) => {
                // Out of descriptors, most likely; trying again at once would spin.
                tracing::warn!(%error, "cannot accept a debug connection");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let plane = Arc::clone(&plane);
        tokio::spawn(async move {
            let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let plane = Arc::clone(&plane);
                async move { Ok::<http::Response<Full<Bytes>>, http::Error>(debug::answer(&plane, &request)) }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(DEBUG_HEAD_TIMEOUT)
                .serve_connection(TokioIo::new(connection), service);
            if let Err(error) = served.await {
                tracing::debug!(%error, "debug connection ended");
            }
            drop(place);
        });
    }
}
