//! HTTP/2 on both sides. The one module that names the `h2` crate.
//!
//! `io` lets `h2` read and write the runtime's streams, past the `guard` that counts what floods a connection;
//! `heads` turns its heads into ours and back; `stream` is a message's way in and out, behind
//! [`crate::message`]; [`downstream`] serves clients, [`upstream`] shares connections to servers. Everything else knows our own heads and bodies only.
//!
//! A connection is one task that moves frames; each of its streams is another task, on the same shard. What a stream
//! has received is given back to the sender's window when it has been passed on, so that a reader that stops stops
//! the writer, and what it may have waiting to be sent is bounded.

mod codec_stats;
pub mod downstream;
mod guard;
mod heads;
mod io;
mod keepalive;
mod stream;
pub mod upstream;

pub(crate) use guard::Guard;
pub use stream::{Receive, Send};
pub use upstream::Answer;

/// RFC 9113 §7.
///
/// Compat: the code with which Envoy ends a stream whose answer it cannot complete.
pub const INTERNAL_ERROR: u32 = 0x2;
