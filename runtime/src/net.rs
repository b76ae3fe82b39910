//! TCP and Unix stream sockets of one shard.

mod address;
mod connect;
mod listener;
mod options;
mod permit;
mod stream;

pub use self::{
    address::Address,
    connect::ConnectOptions,
    listener::{ListenSocket, Listener, ListenerOptions},
    options::Keepalive,
    permit::ConnectionsExhausted,
    stream::Stream,
};
