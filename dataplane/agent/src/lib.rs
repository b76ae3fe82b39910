//! The proxy's agent: one Tokio thread that learns the configuration and answers questions about it.
//!
//! *What it is.* It reads the [`bootstrap`], follows files and the control plane, keeps every resource as received,
//! has a helper thread compile them to tables, publishes those to the shards, and serves the admin endpoint.
//!
//! *What it is not.* It knows nothing of requests and of the engine: `proxy/main.rs` connects the two. It never waits
//! for a shard, nor a shard for it.
//!
//! *Where to start.* [`Prepared`] is what a process does with it; `agent/main_loop.rs` is where everything meets.
//!
//! ```text
//! Options::parse → Bootstrap::load → Prepared::new → tables() for the shards → start(Seam) → Agent
//! ```
//!
//! *Invariants.*
//! - The last good version of a resource stays when a newer one is refused, a file breaks, or the control plane goes.
//! - Received bytes are kept as they came; JSON for humans is made on demand.
//! - Compiling and freeing tables happens on the helper thread, so that a large push delays no answer.
//! - Every queue between threads is bounded, or holds at most what a bounded one let in.

mod admin;
mod ads;
mod agent;
pub mod bootstrap;
mod compile;
pub mod dns;
pub mod document;
mod export;
mod file;
pub mod limits;
pub mod news;
pub mod options;
pub mod process;
mod references;
mod resolver;
mod sockets;
mod state;
mod store;

pub use agent::{Agent, Prepared, Seam};
pub use bootstrap::Bootstrap;
pub use options::{Command, Options};
pub use process::{Drain, Engine, Process, ShardTotals};
pub use state::Phase;

/// This build's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
