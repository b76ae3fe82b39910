//! Bounds and times of sources.

use std::time::Duration;

/// Quiet time after the last file event before files are read, so that one save is one reading.
/// Editors write, rename and touch within a few milliseconds.
pub const QUIET: Duration = Duration::from_millis(50);

/// Longest wait for quiet while events keep coming.
pub const QUIET_WAIT_MAX: Duration = Duration::from_millis(500);

/// Time between readings without any event. Events get lost: inotify queues overflow, network file systems
/// send none, a watched folder may be replaced. Reading costs one `stat` per file.
pub const RESCAN_INTERVAL: Duration = Duration::from_secs(2);

/// Most files a source reads; the rest is refused with a diagnostic.
pub const FILE_COUNT_MAX: usize = 50_000;

/// Deepest folder below a source's root, a bound for links that lead in circles.
pub const FOLDER_DEPTH_MAX: usize = 32;
