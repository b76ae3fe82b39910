//! The proxy itself: accept, route, forward, respond, record. Everything here runs on shards.
//!
//! *What it is.* One shard's worth of proxy: listening sockets that follow the tables ([`acceptor`]), connections that
//! speak HTTP/1 ([`downstream`]) or are relayed as bytes ([`relay`]), requests ([`exchange`]), and the way to upstreams
//! ([`upstream`]).
//!
//! *What it is not.* It does not parse configuration (`ringsail-tables`), bytes of HTTP (`ringsail-http`) or touch the
//! kernel (`ringsail-runtime`), and it knows nothing of the agent: [`control`] is all that connects them.
//!
//! *Where to start.* [`exchange::exchange`] is a request from top to bottom; [`failure`] is all that can go wrong with
//! one; [`run`] is a shard.
//!
//! *Invariants.*
//! - A request sees one version of the tables.
//! - No lock, no atomic read-modify-write and no blocking call between accept and record.
//! - Shard state is borrowed for single statements, never across an await.
//! - A direction of an exchange holds at most one block of bytes: the slower peer holds the faster one back.
//! - An idle connection holds no buffer.
//! - Every failure is a row of [`failure`]; every exchange is recorded, also one that failed.
//! - Every bound is in [`limits`] or in the configuration.

#![forbid(unsafe_code)]

pub mod acceptor;
pub mod body;
pub mod breaker;
pub mod client_hello;
pub mod connection;
pub mod control;
pub mod date;
mod decimal;
pub mod downstream;
pub mod exchange;
pub mod failure;
pub mod filters;
pub mod forward;
pub mod gates;
mod grpc;
pub mod headers;
pub mod http2;
pub mod inflow;
pub mod limits;
pub mod local_reply;
pub mod message;
pub mod pace;
pub mod progress;
mod proxy_protocol;
pub mod record;
pub mod relay;
mod request_id;
pub mod retry;
pub mod serve;
pub mod server_first;
pub mod serving;
pub mod shard;
pub mod sniff;
pub mod stream;
pub mod telemetry;
pub mod tls;
pub mod trace;
pub mod trail;
pub mod upstream;
mod view;

use std::rc::Rc;

use ringsail_runtime::mailbox::{Mailbox, OutboxSender};
use ringsail_runtime::task;

use control::{Command, Event};
use shard::Shard;

/// Runs a shard: its listeners and the upkeep of its pools. Ends when nobody can give commands any more.
pub async fn run(shard: Rc<Shard>, commands: Mailbox<Command>, events: OutboxSender<Event>) {
    let sweeper = task::spawn(shard.clone().sweep_pools());
    let reporter = task::spawn(shard.clone().report_telemetry());
    let judge = shard.take_reports().map(|reports| task::spawn(upstream::upkeep(shard.clone(), reports)));
    acceptor::run(shard, commands, events).await;
    sweeper.abort();
    reporter.abort();
    judge.into_iter().for_each(|judge| judge.abort());
}
