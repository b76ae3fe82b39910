//! Two ends of TLS in one thread, joined by memory.

mod bench;
mod handshakes;
mod memory;
mod refusals;
mod resumption;
