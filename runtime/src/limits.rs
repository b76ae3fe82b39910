//! Every bound of this crate, with its unit and its reason. At a limit the answer is a refusal that is counted
//! ([`crate::stats::ShardStats`]), never growth.

use std::time::Duration;

/// Submission-queue entries of a shard's ring. One turn of a busy shard submits a few dozen operations; a full
/// queue is flushed early, which costs a system call and nothing else. The completion queue has twice as many
/// and the kernel keeps what overflows. Larger rings are charged to the memlock limit of the user on the whole
/// node: 1,024 entries are 107 kB each.
pub const RING_ENTRIES: u32 = 256;

/// Bytes of one receive block: a full TLS record or a typical socket burst. Larger blocks do not lower the CPU
/// cost of a body measurably, and each connection that is moving bytes holds one.
pub const BLOCK_BYTES: usize = 16 * 1024;

/// Blocks one shard may have lent out at a time: 64 MiB of [`BLOCK_BYTES`].
pub const BLOCKS_MAX: u32 = 4096;

/// Free blocks a shard keeps for the next receive (1 MiB); more go back to the allocator, so that a burst does
/// not raise the resident size for good.
pub const BLOCKS_KEPT_MAX: usize = 64;

/// How long freed memory stays with a process that serves. The box of an exchange is allocated and freed with each
/// request; at mimalloc's 10 ms its pages went back to the kernel and came anew with a fault at every eighth request, 4%
/// of the CPU time. What a burst has left behind goes a second later (mimalloc waits ten times as long for large pieces).
pub const PURGE_DELAY: Duration = Duration::from_millis(100);

/// Accepted and dialed connections one shard may have open at a time. Bounds descriptors and memory; the
/// process's descriptor limit usually ends it earlier.
pub const CONNECTIONS_MAX: u32 = 65_536;

/// Tasks alive on one shard: two per connection and some spare. The index has 24 bits in a waker.
pub const TASKS_MAX: u32 = 262_144;

/// `listen(2)` backlog. The kernel cuts it to `net.core.somaxconn` (4096 since Linux 5.4).
pub const BACKLOG: i32 = 4096;

/// Tasks polled before the driver gets its turn, so that ready tasks cannot starve readiness events and timers.
pub const TASKS_PER_TURN: usize = 256;

/// Socket operations that succeed at once which one task may do per poll before it yields to its neighbors.
pub const OPERATIONS_PER_POLL: u32 = 64;

/// How long `accept` rests when the process or the host is out of descriptors or memory. The pending
/// connection stays in the backlog; a shorter rest would spin on it.
pub const ACCEPT_REST: Duration = Duration::from_millis(100);

/// How long `connect` rests when a Unix socket's backlog is full (`EAGAIN`; there is no readiness to wait for).
pub const CONNECT_UNIX_REST: Duration = Duration::from_millis(5);

/// Messages a mailbox holds unless told otherwise.
pub const MAILBOX_MESSAGES_MAX: usize = 1024;

/// Wake-ups from other threads remembered one by one; beyond that the shard polls all its tasks once.
pub const REMOTE_WAKES_MAX: usize = 1024;

/// Old versions a publication's return ring holds on their way to the thread that frees them. A full ring keeps
/// the version on the shard, which tries again after [`RETURN_RETRY`].
pub const RETURN_RING_MAX: usize = 64;

/// See [`RETURN_RING_MAX`].
pub const RETURN_RETRY: Duration = Duration::from_millis(20);

/// How long a shard waits before it builds its ring a second time when the kernel said ENOMEM: memory of a ring
/// that was just closed is uncharged by a kernel worker, a moment later.
pub const RING_RETRY: Duration = Duration::from_millis(50);

/// The limits an operator may set; the rest above are fixed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardLimits {
    /// See [`CONNECTIONS_MAX`]. Connections are counted per shard.
    pub connections_max: u32,
    /// See [`BLOCKS_MAX`].
    pub blocks_max: u32,
    /// See [`TASKS_MAX`]; larger values are cut to 2²⁴ − 1.
    pub tasks_max: u32,
}

impl Default for ShardLimits {
    fn default() -> Self {
        ShardLimits { connections_max: CONNECTIONS_MAX, blocks_max: BLOCKS_MAX, tasks_max: TASKS_MAX }
    }
}
