use std::{io::ErrorKind, time::Duration};

use ringsail_runtime::{
    net::{Address, ConnectOptions, Listener, ListenerOptions, Stream},
    shard::stats,
};

use crate::{dial, listen, loopback, on_each_engine};

#[test]
fn refused_connection_says_so_and_gives_its_permit_back() {
    on_each_engine(|| async {
        let address = listen().local_addr().clone();
        // The listener is gone by now, on io_uring a turn later.
        ringsail_runtime::time::sleep(Duration::from_millis(2)).await;
        let error = Stream::connect(&address, &ConnectOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let missing = Address::Unix("/nonexistent/ringsail.sock".into());
        let error = Stream::connect(&missing, &ConnectOptions::default()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!((stats().connections_open.get(), stats().connections_dialed.get()), (0, 0));
    });
}

#[test]
fn connection_that_is_never_answered_times_out() {
    on_each_engine(|| async {
        // A full backlog drops SYNs: one waits to be accepted, one more is let in by the kernel.
        let options = ListenerOptions { backlog: 1, ..ListenerOptions::default() };
        let listener = Listener::bind(&loopback(), options).unwrap();
        let _first = dial(&listener).await.unwrap();
        let _second = dial(&listener).await.unwrap();
        let started = std::time::Instant::now();
        let options =
            ConnectOptions { timeout: Some(Duration::from_millis(30)), ..ConnectOptions::default() };
        let error = Stream::connect(listener.local_addr(), &options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(started.elapsed() >= Duration::from_millis(30));
        assert_eq!(stats().connections_open.get(), 2, "the attempt gave its permit back");
    });
}

#[test]
fn unix_listener_with_a_full_backlog_is_waited_for() {
    on_each_engine(|| async {
        let address = Address::Unix(
            format!("@ringsail-full-{}-{:?}", std::process::id(), std::thread::current().id()).into(),
        );
        let options = ListenerOptions { backlog: 1, ..ListenerOptions::default() };
        let listener = Listener::bind(&address, options).unwrap();
        let mut waiting = Vec::new();
        for _ in 0..4 {
            let address = address.clone();
            waiting.push(ringsail_runtime::task::spawn(async move {
                Stream::connect(&address, &ConnectOptions::default()).await.map(drop)
            }));
        }
        ringsail_runtime::time::sleep(Duration::from_millis(2)).await;
        for _ in 0..4 {
            listener.accept().await.unwrap();
        }
        for one in waiting {
            one.await.unwrap().unwrap();
        }
    });
}

#[test]
fn source_address_is_the_one_asked_for() {
    on_each_engine(|| async {
        let listener = listen();
        let options =
            ConnectOptions { bind_addr: Some(([127, 0, 0, 9], 0).into()), ..ConnectOptions::default() };
        let near = Stream::connect(listener.local_addr(), &options).await.unwrap();
        let far = listener.accept().await.unwrap();
        let source = far.peer_addr().unwrap().as_inet().unwrap();
        assert_eq!(source.ip(), std::net::IpAddr::from([127, 0, 0, 9]));
        assert_eq!(near.local_addr().unwrap().as_inet(), Some(source));
    });
}

#[test]
fn ipv6_is_dialed_like_ipv4() {
    on_each_engine(|| async {
        let address = Address::Inet("[::1]:0".parse().unwrap());
        let listener = match Listener::bind(&address, ListenerOptions::default()) {
            Ok(listener) => listener,
            Err(error) => {
                eprintln!("NOT TESTED: no IPv6 here: {error}");
                return;
            }
        };
        let near = dial(&listener).await.unwrap();
        let far = listener.accept().await.unwrap();
        assert_eq!(far.peer_addr().unwrap(), near.local_addr().unwrap());
    });
}
