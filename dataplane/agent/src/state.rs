//! What the admin endpoint can see: read on the agent's thread, between two steps of its loop.

use std::sync::Arc;
use std::time::Instant;

use ringsail_tables::{ResourceType, Tables};

use crate::store::Store;

/// Shared by the loop and the admin endpoint on one thread. No borrow outlives a statement or block without `await`.
pub struct State {
    /// The version published last.
    pub tables: Arc<Tables>,
    /// Listeners and clusters that wait for something.
    pub warming: Vec<(ResourceType, String)>,
    /// Every resource as received.
    pub store: Store,
    /// How far the proxy has come.
    pub phase: Phase,
    /// When the process began.
    pub started: Instant,
    /// Health checks were told to fail.
    pub draining: bool,
}

/// How far the proxy has come. Source: `envoy.admin.v3.ServerInfo.State`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Clusters are missing.
    PreInitializing,
    /// Listeners are missing.
    Initializing,
    /// Everything that was waited for is there.
    Live,
}

impl Phase {
    /// Envoy's name.
    pub fn name(self) -> &'static str {
        match self {
            Phase::PreInitializing => "PRE_INITIALIZING",
            Phase::Initializing => "INITIALIZING",
            Phase::Live => "LIVE",
        }
    }

    /// Value of the gauge `server.state`; 1 stands for draining.
    pub fn number(self) -> u64 {
        match self {
            Phase::Live => 0,
            Phase::PreInitializing => 2,
            Phase::Initializing => 3,
        }
    }
}
