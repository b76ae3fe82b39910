//! Our own runtime.

use std::{io, net::SocketAddr, rc::Rc};

use ringsail_runtime::{
    engine::EngineChoice,
    net::{Address, ConnectOptions, Listener, ListenerOptions, Stream},
    shard::{ShardsConfig, run_local},
    task::spawn,
};

use super::{RECV_BYTES, announce};
use crate::proxy::{self, Connection, Upstreams};

impl Connection for Stream {
    async fn recv(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        let lease = Stream::recv(self, RECV_BYTES).await?;
        into.extend_from_slice(&lease);
        Ok(lease.len())
    }

    async fn send(&mut self, bytes: Vec<u8>) -> io::Result<Vec<u8>> {
        self.send_all(&bytes).await?;
        Ok(bytes)
    }
}

pub fn serve(upstream: SocketAddr, engine: EngineChoice) -> anyhow::Result<()> {
    let config = ShardsConfig { engine, ..ShardsConfig::default() };
    let ended = run_local(config, move || accept(upstream))?;
    ended.unwrap_or_else(|| Err(anyhow::anyhow!("the accepting task panicked")))
}

async fn accept(upstream: SocketAddr) -> anyhow::Result<()> {
    let listener = Listener::bind(&Address::Inet(([127, 0, 0, 1], 0).into()), ListenerOptions::default())?;
    announce(listener.local_addr().as_inet().expect("bound to an IP address"))?;
    let upstreams = Upstreams::new();
    let upstream = Rc::new(Address::Inet(upstream));
    loop {
        let stream = listener.accept().await?;
        let (upstreams, upstream) = (upstreams.clone(), upstream.clone());
        spawn(async move {
            let dial = async || Stream::connect(&upstream, &ConnectOptions::default()).await;
            proxy::serve(stream, upstreams, dial).await
        });
    }
}
