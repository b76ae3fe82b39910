//! TLS sessions on BoringSSL, driven with bytes.
//!
//! A session takes what came from the peer and gives what goes to it; it knows no socket, no thread and no file. (Its
//! library looks at the clock, for certificates and tickets, and makes random numbers.) Settings are checked and keys
//! parsed once, where configuration is compiled; each shard makes contexts of its own from them.
//!
//! # Where to start
//! [`session`] is what a connection uses; [`context`] makes sessions of [`settings`]; [`validation`] judges peers;
//! [`certificate`] reads certificates; [`issue`] makes them.
//!
//! # Invariants
//! - A peer whose certificate was not judged good is never served, unless its settings say in so many words that any
//!   certificate will do. Resumed sessions are judged again.
//! - What is not known in settings is an error.
//! - An idle session holds no buffer, and nothing that only its handshake needed.
//! - `unsafe` is in `ffi.rs` alone.

pub mod certificate;
pub mod context;
mod date;
mod error;
mod ffi;
pub mod issue;
pub mod limits;
pub mod session;
pub mod settings;
mod tickets;
pub mod validation;

pub use date::Utc;
pub use error::{Fault, TlsError};
pub use ffi::allocated_bytes;
pub use tickets::{TicketKey, TicketKeys};
