//! What tests on real processes and sockets share: finding the binaries, running one proxy, scripted upstreams,
//! and reading a process's memory.
//!
//! Start reading at [`peer::Peer`]. Everything a test starts here ends with it.

pub mod binaries;
pub mod client;
pub mod config;
pub mod dns;
pub mod engines;
pub mod memory;
pub mod peer;
pub mod ports;
pub mod python;
pub mod sniffing;
pub mod upstream;
pub mod wait;
