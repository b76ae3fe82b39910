//! The I/O engines a test runs on.

use std::env;

/// The values of `--engine` to test: `RINGSAIL_ENGINE` alone if set, else both.
///
/// Where the kernel forbids io_uring the proxy refuses to start with it forced; set the variable to `epoll` there.
pub fn available() -> Vec<&'static str> {
    match env::var("RINGSAIL_ENGINE").as_deref() {
        Ok("epoll") => vec!["epoll"],
        Ok("io_uring") => vec!["io_uring"],
        _ => vec!["io_uring", "epoll"],
    }
}
