//! Waiting for conditions instead of for time.

use std::thread;
use std::time::{Duration, Instant};

/// How long a busy machine may take for what usually takes milliseconds.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Asks `condition` until it holds.
///
/// # Panics
/// When it does not hold within [`PATIENCE`]; the message names `what`.
#[track_caller]
pub fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}
