//! The runtimes compared.

mod bare;
mod compio;
mod glommio;
mod monoio;
mod ringsail;
mod tokio;

use std::{cell::RefCell, fmt, io::Write, net::SocketAddr};

use clap::ValueEnum;

use crate::measure;

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Row {
    /// A hand-written epoll loop without tasks: the floor.
    BareEpoll,
    /// ringsail-runtime on io_uring.
    RingsailIoUring,
    /// ringsail-runtime on epoll.
    RingsailEpoll,
    /// monoio on io_uring with SINGLE_ISSUER and DEFER_TASKRUN, waiting for readiness.
    MonoioIoUring,
    /// monoio on epoll, waiting for readiness.
    MonoioEpoll,
    /// compio on io_uring, managed buffers.
    Compio,
    /// tokio's current-thread runtime, waiting for readiness.
    Tokio,
    /// glommio.
    Glommio,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_possible_value() {
            Some(value) => f.write_str(value.get_name()),
            None => Ok(()),
        }
    }
}

/// Bytes of one receive, for every row.
const RECV_BYTES: usize = 16 * 1024;

/// Serves as this row's proxy until killed.
pub fn serve(row: Row, upstream: SocketAddr) -> anyhow::Result<()> {
    measure::pin(0)?;
    match row {
        Row::BareEpoll => bare::serve(upstream),
        Row::RingsailIoUring => ringsail::serve(upstream, ringsail_runtime::engine::EngineChoice::IoUring),
        Row::RingsailEpoll => ringsail::serve(upstream, ringsail_runtime::engine::EngineChoice::Epoll),
        Row::MonoioIoUring => monoio::serve_io_uring(upstream),
        Row::MonoioEpoll => monoio::serve_epoll(upstream),
        Row::Compio => compio::serve(upstream),
        Row::Tokio => tokio::serve(upstream),
        Row::Glommio => glommio::serve(upstream),
    }
}

/// A listener on a free port, announced to the parent.
fn listen() -> anyhow::Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    announce(listener.local_addr()?)?;
    Ok(listener)
}

fn announce(address: SocketAddr) -> anyhow::Result<()> {
    println!("{address}");
    Ok(std::io::stdout().flush()?)
}

thread_local! {
    /// The thread's receive buffer, for runtimes that read without waiting.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; RECV_BYTES]);
}

/// Reads into the thread's buffer and appends to `into`.
fn read_into(
    into: &mut Vec<u8>,
    read: impl FnOnce(&mut [u8]) -> std::io::Result<usize>,
) -> std::io::Result<usize> {
    SCRATCH.with_borrow_mut(|scratch| {
        let count = read(scratch)?;
        into.extend_from_slice(&scratch[..count]);
        Ok(count)
    })
}
