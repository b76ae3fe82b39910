//! Active checks of a cluster's endpoints. Source: `envoy.config.core.v3.HealthCheck`.

use std::time::Duration;

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
    /// A request over HTTP/1.1.
    Http {
        /// Its method.
        method: Str,
        /// Its authority; the endpoint's name, else the cluster's, when not given.
        host: Option<Str>,
        /// Its path.
        path: Str,
        /// Answers that pass: from each first up to but without each second. Default 200.
        expected: Box<[(u16, u16)]>,
        /// Answers that count as none: they need `unhealthy_threshold`.
        retriable: Box<[(u16, u16)]>,
    },
    /// A connection, and bytes on it.
    Tcp {
        /// Sent first.
        send: Box<[u8]>,
        /// Must come back in this order, with anything in between.
        receive: Box<[Box<[u8]>]>,
    },
}
