//! The command line.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;

use crate::limits::{CONNECTIONS_MAX, RATE_MAX, STREAMS_MAX};

/// An open-loop load generator: latency counts from when a request was due, not from when it could be sent.
#[derive(Debug, Clone, Parser)]
#[command(name = "ringsail-loadgen", version)]
pub struct Options {
    /// Where to connect
    #[arg(value_name = "ADDRESS:PORT")]
    pub target: SocketAddr,

    /// Connections
    #[arg(short, long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..=CONNECTIONS_MAX as u64))]
    pub connections: u64,

    /// Requests per second on a fixed schedule; without it every connection sends as fast as it gets answers
    #[arg(short, long, value_name = "PER_SECOND", value_parser = clap::value_parser!(u64).range(1..=RATE_MAX))]
    pub rate: Option<u64>,

    /// Seconds to measure
    #[arg(short, long, default_value = "5", value_parser = seconds)]
    pub duration: Duration,

    /// Seconds to run before measuring
    #[arg(short, long, default_value = "0", value_parser = seconds)]
    pub warmup: Duration,

    /// Request path
    #[arg(long, default_value = "/")]
    pub path: String,

    /// Host header field
    #[arg(long, default_value = "bench.local")]
    pub host: String,

    /// A further header field, NAME: VALUE; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,

    /// Bytes of the request's body
    #[arg(long, default_value_t = 0, value_name = "BYTES")]
    pub body: usize,

    /// Speak HTTP/2 from the first byte on
    #[arg(long)]
    pub http2: bool,

    /// Make gRPC calls over HTTP/2: --path is /package.Service/Method, --body the message's length
    #[arg(long)]
    pub grpc: bool,

    /// Streams at a time on each HTTP/2 connection
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=STREAMS_MAX))]
    pub streams: u64,

    /// One request per connection
    #[arg(long)]
    pub new_connections: bool,

    /// Send this many bytes and wait for as many instead of speaking HTTP (for an echo server)
    #[arg(long, value_name = "BYTES", conflicts_with_all = ["path", "headers", "body", "http2", "grpc"])]
    pub echo: Option<usize>,

    /// Send one request on every connection, then hold them all open until standard input ends
    #[arg(long)]
    pub idle: bool,

    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

impl Options {
    /// The request's method: POST where it has a body.
    pub fn method(&self) -> &'static str {
        if self.body > 0 || self.grpc { "POST" } else { "GET" }
    }

    /// Exchanges that run at a time on one connection.
    pub fn streams(&self) -> usize {
        if self.http2 || self.grpc { self.streams as usize } else { 1 }
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().map_err(|_| format!("{text:?} is not a number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}
