//! The upstream half of the engine: choosing an endpoint, and connections to it.

pub mod balance;
mod cluster;
mod connect;
mod pool;

pub use cluster::{Choice, ClusterState, Clusters, Host, HostKey, Lease, Wish};
pub use connect::options;
pub use pool::{Acquired, Connection, Reuse, acquire, open};
