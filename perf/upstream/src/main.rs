//! `ringsail-upstream`: a programmable backend in one small program: HTTP/1.1, HTTP/2 from the first byte on, and gRPC.
//!
//! It plays every service of the demo application (who it is and whom it calls come from the command line) and
//! is the upstream of the benchmarks, so it answers a plain request in two system calls. It is no example of a
//! careful server: its peers are a proxy under test and a load generator.
//!
//! Start with [`server`]: one connection from first byte to last.

use std::rc::Rc;

use anyhow::{Context, Result};
use clap::Parser;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::options::Options;
use crate::server::Service;

mod call;
mod control;
mod http2;
mod latency;
mod limits;
mod message;
mod options;
mod server;

fn main() -> Result<()> {
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    tokio::task::LocalSet::new().block_on(&runtime, run(options))
}

async fn run(options: Options) -> Result<()> {
    let listener = bind(&options.listen).await?;
    let echo = match &options.tcp_echo {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    println!(
        "{} {} answers on http://{}, calling {} service(s)",
        options.service,
        options.service_version,
        listener.local_addr()?,
        options.calls.len()
    );
    if let Some(echo) = echo {
        println!("TCP echo on {}", echo.local_addr()?);
        tokio::task::spawn_local(accept_echo(echo));
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        () = accept_http(listener, Rc::new(Service::new(options))) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

async fn bind(address: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))
}

async fn accept_http(listener: TcpListener, service: Rc<Service>) {
    loop {
        match listener.accept().await {
            // A peer's mistake ends its connection and nobody else's.
            Ok((stream, _)) => drop(tokio::task::spawn_local(Rc::clone(&service).serve(stream))),
            Err(error) => pause_after(&error).await,
        }
    }
}

async fn accept_echo(listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((mut stream, _)) => drop(tokio::task::spawn_local(async move {
                let (mut from, mut to) = stream.split();
                tokio::io::copy(&mut from, &mut to).await
            })),
            Err(error) => pause_after(&error).await,
        }
    }
}

/// Out of file descriptors or memory: give connections time to end instead of spinning.
async fn pause_after(error: &std::io::Error) {
    eprintln!("accept: {error}");
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
}
