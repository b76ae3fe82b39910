//! The command line.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;

use crate::limits::{CONNECTIONS_MAX, RATE_MAX};

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

    /// One request per connection
    #[arg(long)]
    pub new_connections: bool,

    /// Send this many bytes and wait for as many instead of speaking HTTP (for an echo server)
    #[arg(long, value_name = "BYTES", conflicts_with_all = ["path", "headers"])]
    pub echo: Option<usize>,

    /// Send one request on every connection, then hold them all open until standard input ends
    #[arg(long)]
    pub idle: bool,

    /// Print one JSON object instead of a table
    #[arg(long)]
    pub json: bool,
}

impl Options {
    /// The bytes of one request.
    pub fn request(&self) -> Vec<u8> {
        if let Some(bytes) = self.echo {
            return vec![b'x'; bytes];
        }
        let close = if self.new_connections { "connection: close\r\n" } else { "" };
        let headers: String = self.headers.iter().map(|field| format!("{field}\r\n")).collect();
        format!("GET {} HTTP/1.1\r\nhost: {}\r\n{close}{headers}\r\n", self.path, self.host).into_bytes()
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().map_err(|_| format!("{text:?} is not a number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}
