//! What the agent asks of the process around it.

use crate::options::LogLevel;

/// Implemented where the threads are started. Called on the agent's thread; must not block.
pub trait Process: Send + Sync + 'static {
    /// The I/O engine in use and why it was chosen.
    fn engine(&self) -> Engine;
    /// Shards that serve.
    fn concurrency(&self) -> u32;
    /// What the shards count about themselves, added up.
    fn totals(&self) -> ShardTotals;
    /// Stops accepting, in the way asked for. Source: Envoy `/drain_listeners`.
    fn drain_listeners(&self, drain: Drain);
    /// Ends the process in order, as SIGTERM does.
    fn quit(&self);
    /// Levels by component, sorted by name.
    fn log_levels(&self) -> Vec<(String, LogLevel)>;
    /// Sets the level of one component, or of all. False if there is no such component.
    fn set_log_level(&self, component: Option<&str>, level: LogLevel) -> bool;
    /// Opens access-log files again, after they were moved away.
    fn reopen_logs(&self);
    /// Health checks are to fail, or to pass again. Source: Envoy `/healthcheck/fail`.
    fn fail_health_checks(&self, fail: bool);
}

/// The I/O engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    /// `io_uring` or `epoll`.
    pub name: String,
    /// Why this one.
    pub reason: String,
}

/// What the shards count about themselves, added up; see `ringsail_runtime::stats`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardTotals {
    /// Connections open, both sides.
    pub connections_open: u64,
    /// Connections closed at once or not dialed because `--shard-connections-max` was reached.
    pub connections_refused: u64,
    /// Times accepting rested because descriptors or memory ran out.
    pub accept_rests: u64,
    /// Receive buffers lent out.
    pub buffers_lent: u64,
    /// Receives refused because `--shard-buffers-max` was reached.
    pub buffers_refused: u64,
    /// Tasks alive.
    pub tasks: u64,
    /// Tasks not started because `--shard-tasks-max` was reached.
    pub tasks_refused: u64,
    /// Tasks that ended by a panic.
    pub task_panics: u64,
    /// Commands not taken because `--shard-commands-max` were waiting.
    pub commands_refused: u64,
    /// Times news had to wait because `--shard-events-max` were waiting.
    pub events_refused: u64,
    /// Reports of failing endpoints lost because `--shard-reports-max` were waiting.
    pub reports_refused: u64,
    /// Access-log records dropped because the queue was full.
    pub access_log_dropped: u64,
}

/// How to drain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drain {
    /// Only listeners of direction INBOUND.
    pub inbound_only: bool,
    /// Ask connections to close and go on accepting for the drain time.
    pub graceful: bool,
    /// Ask connections to close and never stop accepting.
    pub skip_exit: bool,
}
