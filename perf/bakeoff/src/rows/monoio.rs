//! monoio, waiting for readiness before it lends a buffer to a read.

use std::{cell::RefCell, io, net::SocketAddr};

use ::monoio::{
    IoUringDriver, LegacyDriver, RuntimeBuilder,
    io::{AsyncReadRent, AsyncWriteRentExt},
    net::{TcpListener, TcpStream},
    spawn,
};

use super::{RECV_BYTES, listen};
use crate::proxy::{self, Connection, Upstreams};

thread_local! {
    static BUFFERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

impl Connection for TcpStream {
    async fn recv(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        self.readable(false).await?;
        let buffer = BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(RECV_BYTES));
        let (result, mut buffer) = self.read(buffer).await;
        into.extend_from_slice(&buffer);
        buffer.clear();
        BUFFERS.with_borrow_mut(|buffers| buffers.push(buffer));
        result
    }

    async fn send(&mut self, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        let (result, bytes) = self.write_all(bytes).await;
        result.map(|_| bytes)
    }
}

pub fn serve_io_uring(upstream: SocketAddr) -> anyhow::Result<()> {
    let mut ring = io_uring::IoUring::builder();
    ring.setup_single_issuer().setup_defer_taskrun();
    let builder = RuntimeBuilder::<IoUringDriver>::new().with_entries(256).uring_builder(ring);
    builder.build()?.block_on(accept(upstream))
}

pub fn serve_epoll(upstream: SocketAddr) -> anyhow::Result<()> {
    RuntimeBuilder::<LegacyDriver>::new().with_entries(256).build()?.block_on(accept(upstream))
}

async fn accept(upstream: SocketAddr) -> anyhow::Result<()> {
    let listener = listen()?;
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let upstreams = Upstreams::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let dial = async move || {
            let stream = TcpStream::connect(upstream).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        spawn(proxy::serve(stream, upstreams.clone(), dial));
    }
}
