//! glommio. Its streams read into a slice of the caller's, which it fills from a buffer of its own.

use std::{io, net::SocketAddr};

use ::glommio::{
    LocalExecutorBuilder, Placement,
    net::{TcpListener, TcpStream},
    spawn_local,
};
use futures_lite::{AsyncReadExt, AsyncWriteExt};

use super::{RECV_BYTES, announce};
use crate::proxy::{self, Connection, Upstreams};

impl Connection for TcpStream {
    async fn recv(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        let start = into.len();
        into.resize(start + RECV_BYTES, 0);
        let result = AsyncReadExt::read(self, &mut into[start..]).await;
        into.truncate(start + result.as_ref().map_or(0, |count| *count));
        result
    }

    async fn send(&mut self, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        self.write_all(&bytes).await?;
        Ok(bytes)
    }
}

pub fn serve(upstream: SocketAddr) -> anyhow::Result<()> {
    let executor = LocalExecutorBuilder::new(Placement::Fixed(0));
    let executor = executor.make().map_err(|error| anyhow::anyhow!("glommio does not start: {error}"))?;
    executor.run(async move {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
        announce(listener.local_addr().map_err(failed)?)?;
        let upstreams = Upstreams::new();
        loop {
            let stream = listener.accept().await.map_err(failed)?;
            stream.set_nodelay(true).map_err(failed)?;
            let dial = async move || {
                let stream = TcpStream::connect(upstream)
                    .await
                    .map_err(|error| io::Error::other(error.to_string()))?;
                stream.set_nodelay(true).map_err(|error| io::Error::other(error.to_string()))?;
                Ok(stream)
            };
            spawn_local(proxy::serve(stream, upstreams.clone(), dial)).detach();
        }
    })
}

fn failed(error: impl ToString) -> anyhow::Error {
    anyhow::anyhow!(error.to_string())
}
