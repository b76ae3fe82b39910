//! compio on io_uring, reading into buffers that the kernel picks from the runtime's pool.

use std::{io, net::SocketAddr, num::NonZero};

use ::compio::{
    driver::ProactorBuilder,
    io::{AsyncReadManaged, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::{RuntimeBuilder, spawn},
};

use super::listen;
use crate::proxy::{self, Connection, Upstreams};

impl Connection for TcpStream {
    async fn recv(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        match self.read_managed(0).await? {
            Some(buffer) => {
                into.extend_from_slice(&buffer);
                Ok(buffer.len())
            }
            None => Ok(0),
        }
    }

    async fn send(&mut self, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        let (result, bytes) = self.write_all(bytes).await.into();
        result.map(|()| bytes)
    }
}

/// One per busy connection and some spare.
const BUFFERS: NonZero<u16> = NonZero::new(128).expect("not zero");

pub fn serve(upstream: SocketAddr) -> anyhow::Result<()> {
    let mut driver = ProactorBuilder::new();
    driver.capacity(256).single_issuer(true).defer_taskrun(true).buffer_pool_size(BUFFERS);
    let runtime = RuntimeBuilder::new().with_proactor(driver).build()?;
    runtime.block_on(async move {
        let listener = TcpListener::from_std(listen()?)?;
        let upstreams = Upstreams::new();
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let dial = async move || {
                let stream = TcpStream::connect(upstream).await?;
                stream.set_nodelay(true)?;
                Ok(stream)
            };
            spawn(proxy::serve(stream, upstreams.clone(), dial)).detach();
        }
    })
}
