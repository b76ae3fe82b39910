//! Every bound of this program, with its reason.

use std::time::Duration;

/// Most workloads of one local mesh: each has one address in a /24, whose last five belong to the mesh itself.
pub const WORKLOADS_MAX: usize = 250;

/// How often the folder is looked at. A save should be visible before its author has switched windows.
pub const FOLDER_POLL_INTERVAL: Duration = Duration::from_millis(250);

/// First and longest wait before a crashed process is started again; doubled in between.
pub const RESTART_DELAY_MIN: Duration = Duration::from_millis(500);
/// See [`RESTART_DELAY_MIN`].
pub const RESTART_DELAY_MAX: Duration = Duration::from_secs(15);

/// A process that lived this long starts over with the first delay.
pub const RESTART_DELAY_RESET: Duration = Duration::from_secs(10);

/// How long a process may take to end after SIGTERM; then it gets SIGKILL.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a mesh may take until every proxy is ready, before we say which one is not.
pub const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest line of a child's output that is passed on in one piece, in bytes.
pub const OUTPUT_LINE_BYTES_MAX: u64 = 64 * 1024;

/// Longest path of a Unix socket: `sun_path` of Linux, with its terminating zero.
pub const SOCKET_PATH_BYTES_MAX: usize = 107;
