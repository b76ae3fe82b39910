//! Shards: event-loop threads that own their sockets, buffers, timers and tasks, and share nothing.
//!
//! This crate is the ground of the data plane. It gives concrete types, not traits: nothing above is generic over a
//! runtime, stream or clock. It is not a general runtime: there is no file I/O, no UDP, no blocking pool, no work
//! stealing. Everything but [`mailbox`], [`publish`], [`shard::Control`] and [`stats`] stays on its thread.
//!
//! ```no_run
//! use ringsail_runtime::{net::{Address, Listener, ListenerOptions}, shard::{Shards, ShardsConfig}, task};
//!
//! let address = Address::Inet(([127, 0, 0, 1], 8080).into());
//! let shards = Shards::start(ShardsConfig::default(), |_shard| {
//!     let address = address.clone();
//!     move || async move {
//!         let listener = Listener::bind(&address, ListenerOptions::default()).expect("port is free");
//!         while let Ok(stream) = listener.accept().await {
//!             task::spawn(async move {
//!                 while let Ok(bytes) = stream.recv(16_384).await {
//!                     if bytes.is_empty() || stream.send_all(&bytes).await.is_err() {
//!                         break;
//!                     }
//!                 }
//!             });
//!         }
//!     }
//! });
//! ```
//!
//! # Where to start
//! [`shard`] starts threads; `core.rs` is one turn of the loop; [`net::Stream`] is what most callers use; `reactor.rs`
//! is the one module that names monoio and the one a driver of our own would replace.
//!
//! # Invariants
//! - A connection that waits for its peer holds no block of memory ([`buffers`]).
//! - Dropping any future at any await loses no byte, no connection and no message, and its timers leave the wheel.
//! - A receive hands out a [`buffers::Lease`] on a block the runtime chose; callers never lend memory to the kernel.
//! - Every bound is a constant in [`limits`] or a field of [`limits::ShardLimits`]; at a bound there is a counted
//!   refusal.
//! - A panic ends its task, is counted, and touches no other task.
//! - A shard never waits for another thread: queues between them have `try_send` only.
//! - `unsafe` is in `waker.rs` (a waker is a number), `net/options.rs` and `net/listener.rs` (two system calls without
//!   a safe wrapper), `reactor.rs` (a borrow of a descriptor), `engine.rs` (a no-op through a ring) and `memory.rs`
//!   (one call of the allocator, one of the kernel, and an allocator that tests watch).

pub mod buffers;
mod core;
pub mod drain;
pub mod engine;
mod executor;
pub mod lease;
pub mod limits;
pub mod local;
pub mod mailbox;
pub mod memory;
pub mod net;
pub mod publish;
mod race;
pub mod random;
mod reactor;
mod remote;
pub mod shard;
#[cfg(feature = "sim")]
pub mod sim;
pub mod stats;
pub mod task;
pub mod time;
mod waker;
mod wheel;

pub use race::{Either, Join, Race, join, race};
