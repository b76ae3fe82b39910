//! The upstream half of the engine: choosing an endpoint, and connections to it.

pub mod balance;
mod cluster;
mod connect;
pub mod health;
mod host;
pub mod outlier;
mod pool;
mod upkeep;

pub use crate::breaker::Lease;
pub use cluster::{Choice, ClusterState, Clusters, Wish};
pub use connect::{Carries, Dial, Transport, TransportKey, dial};
pub use host::{Host, HostKey, Outcome, Report};
pub use pool::{Acquired, Connection, Reuse, UpstreamConnection, acquire, open};
pub(crate) use pool::{Ended, Pending, Slot};
pub use upkeep::upkeep;
