//! The agent with real sockets and files: a control plane that says what the test wants, a proxy without shards, and
//! the admin endpoint as people read it.

mod admin;
mod ads;
mod control_plane;
mod files;
mod listening;
mod proxy;
mod secrets;
