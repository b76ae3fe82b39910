//! Dialing an endpoint.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use ringsail_runtime::net::{self, Address, ConnectOptions, Keepalive};
use ringsail_runtime::time::timeout;
use ringsail_tables::Tables;
use ringsail_tables::cluster::{ClusterRef, ConnectionSettings};
use ringsail_tables::hcm::UpstreamAlpn;
use ringsail_tables::tls::ClientTls;
use ringsail_tls::context::ClientContext;
use ringsail_tls::settings::Alpn;

use super::cluster::{Choice, ClusterState};
use crate::failure::{ConnectError, Failure};
use crate::stream::Stream;
use crate::tls::{self, FailureText};

/// The options a cluster's settings ask for.
pub(super) fn options(settings: &ConnectionSettings) -> ConnectOptions {
    ConnectOptions {
        timeout: Some(settings.connect_timeout),
        bind_addr: settings.bind,
        keepalive: settings.tcp_keepalive.map(|keepalive| Keepalive {
            time: keepalive.time_secs.map(|seconds| Duration::from_secs(seconds.into())),
            interval: keepalive.interval_secs.map(|seconds| Duration::from_secs(seconds.into())),
            probes: keepalive.probes,
        }),
        ..ConnectOptions::default()
    }
}

/// What tells connections apart that differ in what is around their bytes: one is never used in another's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct TransportKey([u64; 3]);

/// How an endpoint is reached.
#[derive(Clone)]
pub struct Dial {
    /// Options of the socket.
    pub options: ConnectOptions,
    /// What goes around its bytes.
    pub transport: Transport,
}

/// What goes around the bytes of a connection.
#[derive(Clone)]
pub enum Transport {
    /// Nothing.
    Plain,
    /// TLS.
    Tls(Rc<Wrapping>),
    /// TLS that cannot be had; the connection is not made.
    Unavailable(FailureText),
}

/// TLS for one connection.
pub struct Wrapping {
    context: ClientContext,
    alpn: Option<Alpn>,
    key: TransportKey,
}

/// The protocol that a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carries {
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
    /// Bytes.
    Tcp,
}

impl Dial {
    /// To an endpoint of a cluster.
    pub fn to(
        tables: &Tables,
        cluster: &ClusterRef<'_>,
        state: &ClusterState,
        choice: &Choice,
        carries: Carries,
        offer: Option<&UpstreamAlpn>,
    ) -> Dial {
        let settings = &cluster.cluster.connection;
        let endpoint = choice.endpoint(cluster.endpoints);
        let tls = settings.transports.of(endpoint.and_then(|endpoint| endpoint.metadata.as_deref()));
        let transport = match tls {
            None => Transport::Plain,
            Some(tls) => match state.tls.context(tls, tables.secrets()) {
                Ok(context) => Transport::Tls(Rc::new(wrapping(
                    tls,
                    context,
                    carries,
                    offer.filter(|_| may_offer(cluster)),
                ))),
                Err(refusal) => Transport::Unavailable(FailureText::keep(&refusal.compat)),
            },
        };
        Dial { options: options(settings), transport }
    }

    /// See [`TransportKey`].
    pub fn key(&self) -> TransportKey {
        match &self.transport {
            Transport::Tls(wrapping) => wrapping.key,
            Transport::Plain | Transport::Unavailable(_) => TransportKey::default(),
        }
    }
}

/// Whether Istio's filter may choose the protocols: not where a DestinationRule sets up TLS of its own.
fn may_offer(cluster: &ClusterRef<'_>) -> bool {
    let metadata = cluster.cluster.metadata.as_deref();
    metadata.and_then(|metadata| metadata.string("istio", "alpn_override")) != Some("false")
}

fn wrapping(
    tls: &ClientTls,
    context: ClientContext,
    carries: Carries,
    offer: Option<&UpstreamAlpn>,
) -> Wrapping {
    let [high, low] = tls.common.fingerprint;
    let offered = match carries {
        Carries::Http1 => offer.map(|offer| (4, &offer.http1)),
        Carries::Http2 => offer.map(|offer| (5, &offer.http2)),
        Carries::Tcp => None,
    };
    if let Some((number, alpn)) = offered.filter(|(_, alpn)| !alpn.is_empty()) {
        return Wrapping { context, alpn: Some(alpn.clone()), key: TransportKey([high, low, number]) };
    }
    // Compat: a cluster that names no protocols offers the one that is about to be spoken.
    let (number, name) = match carries {
        _ if !tls.common.alpn.is_empty() => (1, None),
        Carries::Tcp => (1, None),
        Carries::Http1 => (2, Some("http/1.1")),
        Carries::Http2 => (3, Some("h2")),
    };
    Wrapping {
        context,
        alpn: name.and_then(|name| Alpn::new([name]).ok()),
        key: TransportKey([high, low, number]),
    }
}

/// Connects, and words a failure as the failure table knows it. The bound on time is for all of it.
pub async fn dial(address: &Address, dial: &Dial) -> Result<Stream, Failure> {
    if let Transport::Unavailable(text) = dial.transport {
        return Err(Failure::ConnectFailure(ConnectError::Tls(text)));
    }
    let connecting = net::Stream::connect(address, &dial.options);
    let Transport::Tls(wrapping) = &dial.transport else {
        return connecting.await.map(Stream::from).map_err(|error| failure(&error));
    };
    // Boxed: a handshake is large, and most tasks that could make one do not.
    let connecting = Box::pin(async {
        let socket = connecting.await.map_err(|error| failure(&error))?;
        let wrapped = tls::connect(socket, &wrapping.context, wrapping.alpn.as_ref()).await;
        wrapped.map_err(|refusal| {
            tracing::debug!(%address, reason = refusal.text, "no TLS session with an upstream");
            Failure::ConnectFailure(ConnectError::Tls(FailureText::keep(&refusal.compat)))
        })
    });
    match timeout(dial.options.timeout.unwrap_or(Duration::MAX), connecting).await {
        Ok(result) => result,
        Err(_) => Err(Failure::ConnectTimeout),
    }
}

fn failure(error: &io::Error) -> Failure {
    match (error.kind(), error.raw_os_error()) {
        // The timer's, or the kernel's own after its last SYN.
        (io::ErrorKind::TimedOut, _) => Failure::ConnectTimeout,
        (_, Some(errno)) => Failure::ConnectFailure(ConnectError::Errno(errno)),
        (_, None) => Failure::ConnectFailure(ConnectError::Local),
    }
}
