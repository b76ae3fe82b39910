//! The command line.

use clap::Parser;

use crate::latency::Latency;

/// A programmable HTTP/1.1, HTTP/2 and gRPC backend: the demo's application and the benchmark's upstream.
///
/// Every answer names this service and what the services it called answered, as JSON. With --size the
/// answer is that many bytes instead. One request can change its answer with the query parameters delay, status
/// and size (?delay=3s&status=503), or with the header fields x-upstream-delay, x-upstream-status, x-upstream-size.
#[derive(Debug, Parser)]
#[command(name = "ringsail-upstream", version)]
pub struct Options {
    /// Where to accept connections
    #[arg(long, default_value = "0.0.0.0:9080", value_name = "ADDRESS:PORT")]
    pub listen: String,

    /// Accept connections here too and send every byte back (TCP)
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub tcp_echo: Option<String>,

    /// Service name to answer with
    #[arg(long, default_value = "upstream")]
    pub service: String,

    /// Service version to answer with
    #[arg(long, default_value = "v1")]
    pub service_version: String,

    /// Hold every answer back: 50ms, normal(50ms,10ms) or exponential(20ms)
    #[arg(long, default_value = "0", value_name = "DELAY")]
    pub delay: Latency,

    /// Share of requests answered with --error-status, 0 to 1
    #[arg(long, default_value_t = 0.0, value_parser = parse_share)]
    pub error_rate: f64,

    /// Status of those answers
    #[arg(long, default_value_t = 503, value_parser = clap::value_parser!(u16).range(200..=599))]
    pub error_status: u16,

    /// Answer with this many bytes instead of JSON
    #[arg(long, value_name = "BYTES")]
    pub size: Option<u64>,

    /// Call this service before answering, e.g. http://details:9080/details/0; may be repeated, calls run side by side
    #[arg(long = "call", value_name = "URL")]
    pub calls: Vec<crate::call::Target>,

    /// Connect calls to this address instead of the name in their URL (a sidecar's explicit listener)
    #[arg(long, env = "OUTBOUND_ADDRESS", value_name = "ADDRESS")]
    pub outbound_address: Option<std::net::IpAddr>,
}

fn parse_share(text: &str) -> Result<f64, String> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "a share is in 0..=1".into())
}
