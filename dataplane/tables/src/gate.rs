//! Limits on connections, which a filter chain has before its terminal filter.

use std::time::Duration;

use ringsail_runtime::lease::Pool;

use crate::strings::Str;
use crate::token_bucket::TokenBucket;

/// A limit that a new connection has to pass.
#[derive(Debug)]
pub enum Gate {
    /// So many at once. Source: `envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit`.
    Connections(ConnectionLimit),
    /// So many in a time. Source: `envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit`.
    Rate(ConnectionRate),
}

/// Connections at once, of the whole process.
#[derive(Debug)]
pub struct ConnectionLimit {
    /// Prefix in statistics.
    pub stat_prefix: Str,
    /// Those that may still come.
    pub room: Pool,
    /// How long one too many is kept before it is closed.
    pub delay: Duration,
}

/// Connections in a time.
#[derive(Debug)]
pub struct ConnectionRate {
    /// Prefix in statistics.
    pub stat_prefix: Str,
    /// One token for each; boxed, because it has a cache line for every shard.
    pub bucket: Box<TokenBucket>,
}
