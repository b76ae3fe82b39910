//! The discovery server: hands every connected proxy what the newest mesh snapshot means for it.
//!
//! It speaks aggregated discovery (ADS, delta and state of the world) over gRPC, and HTTP for people
//! (`/debug/…`, `/ready`, `/metrics`). What a proxy is sent is computed by `ringsail-translate`; the
//! protocol itself is the sans-io server half in `ringsail-xds`.
//!
//! Where to start: [`Plane`] (what is published), `update.rs` (changes → snapshot, debounced), then
//! `stream.rs` (one proxy: requests in, responses out).
//!
//! Invariants:
//! - A stream holds no queue of pushes: it wakes, looks at the newest snapshot and sends what the proxy
//!   lacks. However slow a proxy is, it costs at most one pending push, and no other proxy waits for it.
//! - Unsolicited pushes of a type wait until the last response of that type was answered.
//! - Responses go out in the order clusters, endpoints, listeners, routes (make before break).
//! - A refused response (NACK) is recorded and shown, and never ends the stream.

mod connections;
mod debounce;
mod debug;
mod grpc;
pub mod limits;
mod listen;
mod metrics;
mod plane;
mod stream;
mod update;
mod wire;

pub use debounce::Debounce;
pub use listen::{Listening, serve_debug, serve_discovery};
pub use plane::{Plane, Published};
pub use update::{Update, Updater};
