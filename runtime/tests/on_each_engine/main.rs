//! The claims of this crate, checked on each engine with the same bodies. `RINGSAIL_TEST_ENGINE=epoll` (or
//! `io_uring`) runs one only.

mod accept;
mod chaos;
mod connect;
mod connection;
mod fallback;
mod memory;
mod scheduling;
mod threads;
mod timers;

use std::{future::Future, io, time::Duration};

use ringsail_runtime::{
    engine::{self, EngineChoice, RingConfig},
    limits::ShardLimits,
    net::{Address, ConnectOptions, Listener, ListenerOptions, Stream},
    shard::{ShardsConfig, run_local},
    time::timeout,
};

/// Runs `main` as the main task of one shard, once per engine that works here.
fn on_each_engine<F: Future<Output = ()> + 'static>(main: impl Fn() -> F) {
    on_each_engine_with(ShardLimits::default(), main);
}

fn on_each_engine_with<F: Future<Output = ()> + 'static>(limits: ShardLimits, main: impl Fn() -> F) {
    for config in configs() {
        let config = ShardsConfig { limits, ..config };
        // A test that hangs is a failing test.
        let body = || {
            let main = main();
            async { timeout(Duration::from_secs(20), main).await.expect("the test hangs") }
        };
        let ended = run_local(config, body).expect("the engine was probed");
        assert!(ended.is_some(), "failed on {:?}", config.engine);
    }
}

/// A configuration per engine to test.
fn configs() -> Vec<ShardsConfig> {
    let wanted = std::env::var("RINGSAIL_TEST_ENGINE").ok();
    [EngineChoice::IoUring, EngineChoice::Epoll]
        .into_iter()
        .filter(|&choice| match &wanted {
            Some(name) => name.parse::<EngineChoice>().expect("RINGSAIL_TEST_ENGINE") == choice,
            None => match engine::probe(choice, RingConfig::default()) {
                Ok(_) => true,
                Err(error) => {
                    eprintln!("NOT TESTED on {choice:?}: {error}");
                    false
                }
            },
        })
        .map(|engine| ShardsConfig { engine, ..ShardsConfig::default() })
        .collect()
}

fn loopback() -> Address {
    Address::Inet(([127, 0, 0, 1], 0).into())
}

fn listen() -> Listener {
    Listener::bind(&loopback(), ListenerOptions::default()).unwrap()
}

async fn dial(listener: &Listener) -> io::Result<Stream> {
    Stream::connect(listener.local_addr(), &ConnectOptions::default()).await
}

/// Two ends of a TCP connection over loopback: dialed, accepted.
async fn tcp_pair() -> (Stream, Stream) {
    let listener = listen();
    let near = dial(&listener).await.unwrap();
    (near, listener.accept().await.unwrap())
}

/// Receives until `count` bytes or the end have come.
async fn recv_all(stream: &Stream, count: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while bytes.len() < count {
        let lease = stream.recv(count - bytes.len()).await.unwrap();
        if lease.is_empty() {
            break;
        }
        bytes.extend_from_slice(&lease);
    }
    bytes
}
