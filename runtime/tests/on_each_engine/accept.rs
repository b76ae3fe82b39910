use std::{num::NonZeroUsize, sync::mpsc, time::Duration};

use ringsail_runtime::{
    limits::ShardLimits,
    net::{ConnectionsExhausted, ListenSocket, Listener, ListenerOptions, Stream},
    shard::{self, Shards, ShardsConfig, stats},
    task::spawn,
    time::{sleep, timeout},
};

use crate::{configs, dial, listen, loopback, on_each_engine, on_each_engine_with};

#[test]
fn shards_share_a_port_and_each_accepts() {
    for config in configs() {
        let config = ShardsConfig { count: NonZeroUsize::new(3).unwrap(), pin: true, ..config };
        let first = ListenSocket::bind(&loopback(), ListenerOptions::default()).unwrap();
        let address = first.local_addr().as_inet().unwrap();
        let mut sockets: Vec<ListenSocket> = (1..3).map(|_| first.for_another_shard().unwrap()).collect();
        sockets.push(first);
        let (accepted, told) = mpsc::channel();
        let shards = Shards::start(config, |_| {
            let socket = sockets.pop().unwrap();
            let accepted = accepted.clone();
            move || async move {
                let listener = Listener::new(socket).unwrap();
                loop {
                    let stream = listener.accept().await.unwrap();
                    accepted.send(shard::id()).unwrap();
                    drop(stream);
                }
            }
        })
        .unwrap();
        assert_eq!(shards.reports().len(), 3);
        let mut seen = [0; 3];
        for _ in 0..300 {
            let _client = std::net::TcpStream::connect(address).unwrap();
            seen[usize::from(told.recv_timeout(Duration::from_secs(5)).unwrap().0)] += 1;
        }
        assert!(seen.iter().all(|&count| count > 20), "{seen:?}");
        let total: u64 = shards.stats().iter().map(|stats| stats.connections_accepted.get()).sum();
        assert_eq!(total, 300);
        shards.control().stop();
        shards.join().unwrap();
    }
}

#[test]
fn connection_past_the_limit_is_closed_and_counted() {
    let limits = ShardLimits { connections_max: 3, ..ShardLimits::default() };
    on_each_engine_with(limits, || async {
        let listener = listen();
        let address = listener.local_addr().as_inet().unwrap();
        let dialed = std::thread::spawn(move || {
            let mut clients: Vec<_> =
                (0..5).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
            // Ends when the shard closes the refused one.
            let end = std::io::Read::read(clients.last_mut().unwrap(), &mut [0; 1]);
            (clients, end)
        });
        let mut held = Vec::new();
        for _ in 0..3 {
            held.push(listener.accept().await.unwrap());
        }
        while stats().connections_refused.get() < 2 {
            assert!(timeout(Duration::from_millis(5), listener.accept()).await.is_err());
        }
        assert_eq!(stats().connections_open.get(), 3);
        let (_clients, end) = dialed.join().unwrap();
        assert!(matches!(end, Ok(0) | Err(_)));
        let error = dial(&listener).await.unwrap_err();
        assert!(ConnectionsExhausted::is(&error), "{error}");
        held.pop();
        dial(&listener).await.unwrap();
    });
}

#[test]
fn paused_listener_leaves_connections_in_the_backlog() {
    on_each_engine(|| async {
        let listener = std::rc::Rc::new(listen());
        let accepting = listener.clone();
        let first = spawn(async move { accepting.accept().await.map(drop) });
        sleep(Duration::from_millis(2)).await;
        listener.pause();
        let near = dial(&listener).await.unwrap();
        sleep(Duration::from_millis(5)).await;
        assert!(!first.is_finished());
        listener.resume();
        first.await.unwrap().unwrap();
        assert!(near.recv(1).await.unwrap().is_empty());
    });
}

#[test]
fn closed_listener_refuses_and_its_port_is_free() {
    on_each_engine(|| async {
        let listener = listen();
        let address = listener.local_addr().clone();
        assert!(timeout(Duration::from_millis(2), listener.accept()).await.is_err());
        drop(listener);
        sleep(Duration::from_millis(2)).await;
        Stream::connect(&address, &Default::default()).await.unwrap_err();
        let options = ListenerOptions { reuse_port: false, ..ListenerOptions::default() };
        Listener::bind(&address, options).unwrap();
    });
}

#[test]
fn port_in_use_is_told_at_bind() {
    let options = ListenerOptions { reuse_port: false, ..ListenerOptions::default() };
    let first = ListenSocket::bind(&loopback(), options).unwrap();
    let error = ListenSocket::bind(first.local_addr(), options).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
}
