//! tokio, current-thread, waiting for readiness before it reads into the thread's buffer.

use std::{io, net::SocketAddr};

use ::tokio::{
    net::{TcpListener, TcpStream},
    runtime::Builder,
    task::{LocalSet, spawn_local},
};

use super::{listen, read_into};
use crate::proxy::{self, Connection, Upstreams};

impl Connection for TcpStream {
    async fn recv(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        loop {
            self.readable().await?;
            match read_into(into, |scratch| self.try_read(scratch)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => (),
                result => return result,
            }
        }
    }

    async fn send(&mut self, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            match self.try_write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.writable().await?,
                Err(error) => return Err(error),
            }
        }
        Ok(bytes)
    }
}

pub fn serve(upstream: SocketAddr) -> anyhow::Result<()> {
    let listener = listen()?;
    listener.set_nonblocking(true)?;
    let runtime = Builder::new_current_thread().enable_io().build()?;
    LocalSet::new().block_on(&runtime, async {
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
            spawn_local(proxy::serve(stream, upstreams.clone(), dial));
        }
    })
}
