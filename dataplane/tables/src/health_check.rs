//! Active checks of a cluster's endpoints. Source: `envoy.config.core.v3.HealthCheck`.

use std::time::Duration;

use prost::Message;

use crate::header_ops::HeaderOps;
use crate::strings::Str;

/// One check, made of every endpoint.
#[derive(Clone, PartialEq, Debug)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Pause between checks of a healthy endpoint.
    pub interval: Duration,
    /// Longest random pause before the first check.
    pub initial_jitter: Duration,
    /// Longest random addition to a pause.
    pub interval_jitter: Duration,
    /// The same as percent of the pause.
    pub interval_jitter_percent: u32,
    /// Failures without an answer in a row until an endpoint is unhealthy; at least 1.
    pub unhealthy_threshold: u32,
    /// Successes in a row until it is healthy again; at least 1.
    pub healthy_threshold: u32,
    /// Pause while the cluster has not been used. Default 60 s.
    pub no_traffic_interval: Duration,
    /// The same for healthy endpoints.
    pub no_traffic_healthy_interval: Duration,
    /// Pause between checks of an unhealthy endpoint. Default `interval`.
    pub unhealthy_interval: Duration,
    /// Pause after a check that failed first. Default `unhealthy_interval`.
    pub unhealthy_edge_interval: Duration,
    /// Pause after a check that passed first. Default `interval`.
    pub healthy_edge_interval: Duration,
    /// Port to check instead of the endpoint's.
    pub alt_port: Option<u16>,
}

/// What a check asks.
#[derive(Clone, PartialEq, Debug)]
pub enum Probe {
    /// A request.
    Http(Box<HttpProbe>),
    /// A call of gRPC's health service.
    Grpc(Box<GrpcProbe>),
    /// A connection, and bytes on it.
    Tcp {
        /// Sent first.
        send: Box<[u8]>,
        /// Must come back in this order, with anything in between.
        receive: Box<[Box<[u8]>]>,
    },
}

/// A request that checks. Source: `HealthCheck.HttpHealthCheck`.
#[derive(Clone, PartialEq, Debug)]
pub struct HttpProbe {
    /// Over HTTP/2 with prior knowledge instead of HTTP/1.1.
    pub http2: bool,
    /// Its method.
    pub method: Str,
    /// Its authority; the cluster's name when not given.
    pub host: Option<Str>,
    /// Its path.
    pub path: Str,
    /// Changes of its headers; their values are literal.
    pub headers: HeaderOps,
    /// Its body.
    pub send: Box<[u8]>,
    /// Must be in the answer's body in this order, with anything in between.
    pub receive: Box<[Box<[u8]>]>,
    /// Bytes of the answer's body that are looked at. Default 1024.
    pub answer_bytes_max: u32,
    /// Answers that pass: from each first up to but without each second. Default 200.
    pub expected: Box<[(u16, u16)]>,
    /// Answers that count as none: they need `unhealthy_threshold`.
    pub retriable: Box<[(u16, u16)]>,
}

/// A call of `grpc.health.v1.Health/Check`. Source: `HealthCheck.GrpcHealthCheck`.
#[derive(Clone, PartialEq, Debug)]
pub struct GrpcProbe {
    /// The encoded question, which names a service or the server as a whole.
    pub question: Box<[u8]>,
    /// `:authority`; the cluster's name when not given.
    pub authority: Option<Str>,
    /// Additional headers; their values are literal.
    pub headers: HeaderOps,
}

/// Whether the answer to a gRPC check says that the service is well.
pub fn is_serving(answer: &[u8]) -> bool {
    HealthCheckResponse::decode(answer).is_ok_and(|answer| answer.status == SERVING)
}

/// Source: `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    pub(crate) service: String,
}

/// Source: `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// Source: `grpc.health.v1.HealthCheckResponse.ServingStatus`.
const SERVING: i32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_status_serving_is_well() {
        assert!(is_serving(&[8, 1]));
        for answer in [&[][..], &[8, 0], &[8, 2], &[8, 3], &[8], &[10, 1, 65]] {
            assert!(!is_serving(answer), "{answer:?}");
        }
    }
}
