//! Dialing an endpoint.

use std::io;
use std::time::Duration;

use ringsail_runtime::net::{Address, ConnectOptions, Keepalive, Stream};
use ringsail_tables::cluster::ConnectionSettings;

use crate::failure::{ConnectError, Failure};

/// The options a cluster's settings ask for.
pub fn options(settings: &ConnectionSettings) -> ConnectOptions {
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

/// Connects, and words a failure as the failure table knows it.
pub async fn dial(address: &Address, options: &ConnectOptions) -> Result<Stream, Failure> {
    Stream::connect(address, options).await.map_err(|error| failure(&error))
}

fn failure(error: &io::Error) -> Failure {
    match (error.kind(), error.raw_os_error()) {
        // The timer's, or the kernel's own after its last SYN.
        (io::ErrorKind::TimedOut, _) => Failure::ConnectTimeout,
        (_, Some(errno)) => Failure::ConnectFailure(ConnectError::Errno(errno)),
        (_, None) => Failure::ConnectFailure(ConnectError::Local),
    }
}
