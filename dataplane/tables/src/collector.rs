//! Services that spans and access logs are sent to.

use std::time::Duration;

use crate::strings::Str;

/// A service, and how it is called. The agent calls it; the request path only names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Collector {
    /// The cluster whose endpoints are called.
    pub cluster: Str,
    /// What is spoken.
    pub protocol: CollectorProtocol,
    /// Headers (gRPC: metadata) of each call, names in lower case.
    pub headers: Box<[(Str, Str)]>,
    /// Bound of one call; `None` means the exporter's own.
    pub timeout: Option<Duration>,
}

/// What a collector speaks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CollectorProtocol {
    /// gRPC. Source: `envoy.config.core.v3.GrpcService.EnvoyGrpc`.
    Grpc {
        /// `:authority`; the cluster's name by default.
        authority: Str,
    },
    /// HTTP/1.1 POST. Source: `envoy.config.core.v3.HttpService`.
    Http {
        /// `host`.
        host: Str,
        /// Path with query.
        path: Str,
    },
}
