//! Measurements and access logs of the data plane, under the names Envoy and Istio give them.
//!
//! *What it is.* Counters, gauges and histograms that a shard writes without synchronisation and
//! the agent reads ([`Registry`], [`ShardRegistry`], [`Stats`]); their text, JSON and Prometheus
//! forms ([`render`]); Istio's standard metrics ([`istio`]); response flags; access logs: formats
//! compiled once, records filled by the engine, lines rendered and written by a thread of their own
//! ([`access_log`]).
//!
//! *What it is not.* It decides nothing, opens no port and serves no HTTP: the agent does. Who is a
//! peer, and which values Istio's labels get, is the engine's knowledge.
//!
//! Where to start: `metrics.rs` lists every metric in rows; `block.rs` is how one is counted.
//!
//! Invariants:
//! - A cell has one writer. Writing is a relaxed load and store: no read-modify-write, no lock.
//! - Creating statistics for a name takes no lock a reader could hold: the new block travels to
//!   the registry over a channel.
//! - A scope costs memory only on shards that used it; histograms and status codes only once
//!   something was recorded.
//! - The number of scopes is bounded; what comes beyond shares one nameless scope per kind.
//! - A full access-log queue drops records and counts them; it never blocks a shard.

#![forbid(unsafe_code)]

pub mod access_log;
mod block;
pub mod export;
mod flags;
mod histogram;
pub mod istio;
pub mod limits;
mod metrics;
mod registry;
pub mod render;
mod scope;
pub mod trace;

pub use block::{Block, Stats};
pub use flags::{ResponseFlag, ResponseFlags};
pub use histogram::{BUCKET_BOUNDS, Bounds, HistogramSnapshot};
pub use metrics::*;
pub use registry::{BucketSettings, Registry, Seat, ShardRegistry};
pub use scope::{Kind, Scope};

/// Statistics of one cluster on one shard.
pub type ClusterStats = Stats<Cluster>;
/// Statistics of one HTTP connection manager (`stat_prefix`) on one shard.
pub type HttpStats = Stats<Http>;
/// Statistics of gRPC calls on one shard.
pub type GrpcStats = Stats<Grpc>;
/// Statistics of HTTP/2 connections of clients on one shard.
pub type DownstreamHttp2Stats = Stats<DownstreamHttp2>;
/// Statistics of HTTP/2 connections to one cluster on one shard.
pub type UpstreamHttp2Stats = Stats<UpstreamHttp2>;
/// Statistics of one listener on one shard.
pub type ListenerStats = Stats<Listener>;
/// Statistics of one limit of connections at once (`stat_prefix`) on one shard.
pub type ConnectionLimitStats = Stats<ConnectionLimit>;
/// Statistics of one TCP proxy (`stat_prefix`) on one shard.
pub type TcpStats = Stats<Tcp>;
