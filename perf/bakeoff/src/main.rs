//! The runtime bake-off: the same tiny HTTP/1.1 proxy on several runtimes and on a bare epoll loop, under the same
//! load, so that the choice of runtime stays checkable. What is compared is the runtime's share, so everything that
//! is not I/O is the same code (`proxy.rs`, `message.rs`).
//!
//! `ringsail-bakeoff run` starts each row as a child process on one processor, drives it from the other, and prints
//! a table. See README.md for what the columns mean and for measured values.

mod backend;
mod client;
mod measure;
mod message;
mod proxy;
mod rows;
mod table;

use std::net::SocketAddr;

use clap::{Parser, Subcommand};

use crate::rows::Row;

#[derive(Parser)]
#[command(version, about = "Compares runtimes by the CPU and memory of one tiny proxy")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure rows and print a table
    Run(table::Plan),
    /// Be the proxy of one row: prints its address, serves until killed
    Proxy {
        /// Which runtime
        row: Row,
        /// Where requests go
        upstream: SocketAddr,
    },
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Run(plan) => table::run(&plan),
        Command::Proxy { row, upstream } => rows::serve(row, upstream),
    }
}
