use std::{
    future::Future,
    io::{ErrorKind, IoSlice},
    pin::pin,
    rc::Rc,
    task::{Context, Waker},
    time::Duration,
};

use ringsail_runtime::{
    buffers::BlocksExhausted,
    join,
    limits::{BLOCK_BYTES, ShardLimits},
    net::{Address, ConnectOptions, Keepalive, Listener, ListenerOptions, Stream},
    race,
    shard::stats,
    task::{spawn, yield_now},
    time::{sleep, timeout},
};

use crate::{on_each_engine, on_each_engine_with, recv_all, tcp_pair};

#[test]
fn bytes_arrive_as_sent_in_both_directions() {
    on_each_engine(|| async {
        let (near, far) = tcp_pair().await;
        near.send_all(b"ping").await.unwrap();
        assert_eq!(recv_all(&far, 4).await, b"ping");
        far.send_all(b"pong").await.unwrap();
        assert_eq!(recv_all(&near, 4).await, b"pong");
        assert_eq!((near.bytes_sent(), near.bytes_received()), (4, 4));
        assert_eq!(near.local_addr().unwrap(), far.peer_addr().unwrap());
        near.set_nodelay(true).unwrap();
        near.set_keepalive(Keepalive { time: Some(Duration::from_secs(30)), ..Keepalive::default() })
            .unwrap();
    });
}

#[test]
fn idle_connection_holds_no_buffer() {
    on_each_engine(|| async {
        let mut ends = Vec::new();
        for _ in 0..20 {
            let (near, far) = tcp_pair().await;
            spawn(async move { near.recv(BLOCK_BYTES).await.map(|lease| lease.len()) });
            ends.push(far);
        }
        sleep(Duration::from_millis(5)).await;
        assert_eq!(stats().connections_open.get(), 40);
        assert_eq!(stats().blocks_lent.get(), 0);
        let (near, far) = tcp_pair().await;
        far.send_all(b"x").await.unwrap();
        let lease = near.recv(BLOCK_BYTES).await.unwrap();
        assert_eq!(stats().blocks_lent.get(), 1);
        drop(lease);
        assert_eq!(stats().blocks_lent.get(), 0);
    });
}

#[test]
fn receive_dropped_at_any_time_loses_no_bytes() {
    on_each_engine(|| async {
        let (near, far) = tcp_pair().await;
        let sender = spawn(async move {
            for round in 0..200u32 {
                far.send_all(&round.to_be_bytes()).await.unwrap();
                if round % 3 == 0 {
                    sleep(Duration::from_millis(1)).await;
                }
            }
        });
        let mut got = Vec::new();
        let mut drops = 0;
        while got.len() < 800 {
            // Polled once and dropped, by turns with and without the driver in between.
            {
                let mut once = pin!(near.recv(7));
                match once.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    std::task::Poll::Ready(lease) => got.extend_from_slice(&lease.unwrap()),
                    std::task::Poll::Pending => drops += 1,
                }
            }
            if let Ok(lease) = timeout(Duration::from_millis(1), near.recv(5)).await {
                got.extend_from_slice(&lease.unwrap());
            }
        }
        sender.await.unwrap();
        let wanted: Vec<u8> = (0..200u32).flat_map(u32::to_be_bytes).collect();
        assert_eq!(got, wanted);
        assert!(drops > 0, "the test dropped no pending receive");
    });
}

#[test]
fn receive_without_a_block_is_refused_counted_and_repeatable() {
    let limits = ShardLimits { blocks_max: 1, ..ShardLimits::default() };
    on_each_engine_with(limits, || async {
        let (near, far) = tcp_pair().await;
        far.send_all(b"abcd").await.unwrap();
        let held = near.recv(2).await.unwrap();
        let error = near.recv(2).await.unwrap_err();
        assert!(BlocksExhausted::is(&error), "{error}");
        assert_eq!(stats().blocks_refused.get(), 1);
        assert_eq!(&*held, b"ab");
        drop(held);
        assert_eq!(&*near.recv(2).await.unwrap(), b"cd");
    });
}

#[test]
fn bytes_that_come_in_two_pieces_can_lie_in_one() {
    on_each_engine(|| async {
        let (near, far) = tcp_pair().await;
        far.send_all(b"GET / HT").await.unwrap();
        let mut lease = near.recv(BLOCK_BYTES).await.unwrap();
        assert!(timeout(Duration::from_millis(1), near.recv_more(&mut lease)).await.is_err());
        far.send_all(b"TP/1.1\r\n").await.unwrap();
        assert_eq!(near.recv_more(&mut lease).await.unwrap(), 8);
        assert_eq!(&*lease, b"GET / HTTP/1.1\r\n");
        let rest = lease.room().len();
        far.send_all(&vec![b'x'; rest + 1]).await.unwrap();
        while !lease.room().is_empty() {
            assert!(near.recv_more(&mut lease).await.unwrap() > 0);
        }
        assert_eq!(near.recv_more(&mut lease).await.unwrap(), 0, "no room");
        assert_eq!(near.recv(BLOCK_BYTES).await.unwrap().len(), 1);
    });
}

#[test]
fn end_of_stream_is_an_empty_lease_and_the_other_direction_goes_on() {
    on_each_engine(|| async {
        let (near, far) = tcp_pair().await;
        near.send_all(b"last words").await.unwrap();
        near.shutdown_write().unwrap();
        assert_eq!(recv_all(&far, 100).await, b"last words");
        assert!(far.recv(1).await.unwrap().is_empty());
        assert!(far.recv(1).await.unwrap().is_empty(), "the end is told again");
        assert_eq!(stats().blocks_lent.get(), 0, "the end holds no block");
        far.send_all(b"answer").await.unwrap();
        assert_eq!(recv_all(&near, 6).await, b"answer");
        assert_eq!(near.send_all(b"x").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    });
}

#[test]
fn reset_reaches_a_peer_that_waits() {
    on_each_engine(|| async {
        let (near, far) = tcp_pair().await;
        let waiting = spawn(async move { far.recv(1).await.map(|lease| lease.len()) });
        yield_now().await;
        near.reset();
        let error = waiting.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn dropped_connection_is_closed_although_a_wait_was_armed() {
    on_each_engine(|| async {
        let (near, far) = tcp_pair().await;
        assert!(timeout(Duration::from_millis(2), near.recv(1)).await.is_err());
        drop(near);
        assert!(far.recv(1).await.unwrap().is_empty());
        assert_eq!(stats().connections_open.get(), 1);
    });
}

#[test]
fn large_body_passes_a_slow_reader_with_flat_memory() {
    on_each_engine(|| async {
        const TOTAL: usize = 8 << 20;
        let (near, far) = tcp_pair().await;
        let sender = spawn(async move {
            let chunk: Vec<u8> = (0..100_000u32).map(|byte| (byte % 251) as u8).collect();
            let mut left = TOTAL;
            while left > 0 {
                let count = left.min(chunk.len());
                near.send_all(&chunk[..count]).await.unwrap();
                left -= count;
            }
            near.bytes_sent()
        });
        let mut position = 0;
        while position < TOTAL {
            let lease = far.recv(BLOCK_BYTES).await.unwrap();
            assert!(stats().blocks_lent.get() <= 2);
            for byte in lease.iter() {
                assert_eq!(*byte, (position % 100_000 % 251) as u8, "at {position}");
                position += 1;
            }
            if position % 64 == 0 {
                yield_now().await;
            }
        }
        assert_eq!(sender.await.unwrap(), TOTAL as u64);
    });
}

#[test]
fn send_that_is_dropped_tells_how_much_went() {
    on_each_engine(|| async {
        let (near, far) = tcp_pair().await;
        let body = vec![7; 32 << 20];
        assert!(timeout(Duration::from_millis(20), near.send_all(&body)).await.is_err());
        let sent = near.bytes_sent() as usize;
        assert!(sent > 0 && sent < body.len());
        near.shutdown_write().unwrap();
        assert_eq!(recv_all(&far, usize::MAX).await.len(), sent);
    });
}

#[test]
fn slices_are_sent_in_order_and_empty_ones_are_skipped() {
    on_each_engine(|| async {
        let (near, far) = tcp_pair().await;
        let parts: Vec<Vec<u8>> = (0..150u8).map(|part| vec![part; usize::from(part % 5) * 700]).collect();
        let mut slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let wanted = parts.concat();
        let (sent, got) = join(near.send_vectored(&mut slices), recv_all(&far, wanted.len())).await;
        sent.unwrap();
        assert_eq!(got, wanted);
        near.send_vectored(&mut []).await.unwrap();
        near.send_vectored(&mut [IoSlice::new(b"")]).await.unwrap();
    });
}

#[test]
fn one_task_receives_and_sends_at_once() {
    on_each_engine(|| async {
        let (near, far) = tcp_pair().await;
        let echo = Rc::new(far);
        let other = echo.clone();
        spawn(async move {
            while let Ok(lease) = other.recv(BLOCK_BYTES).await {
                if lease.is_empty() || other.send_all(&lease).await.is_err() {
                    break;
                }
            }
        });
        let body = vec![1; 4 << 20];
        let (sent, got) = join(near.send_all(&body), recv_all(&near, body.len())).await;
        sent.unwrap();
        assert_eq!(got.len(), body.len());
    });
}

#[test]
fn pooled_connection_is_known_dead_before_reuse() {
    on_each_engine(|| async {
        let (near, far) = tcp_pair().await;
        assert!(near.is_idle_alive());
        far.send_all(b"unasked").await.unwrap();
        near.readable().await.unwrap();
        assert!(!near.is_idle_alive(), "bytes nobody asked for");
        let (near, far) = tcp_pair().await;
        drop(far);
        near.readable().await.unwrap();
        assert!(!near.is_idle_alive(), "closed by the peer");
    });
}

#[test]
fn nothing_received_says_so_without_waiting() {
    on_each_engine(|| async {
        let (near, far) = tcp_pair().await;
        assert!(near.try_recv(10).unwrap().is_none());
        far.send_all(b"x").await.unwrap();
        near.readable().await.unwrap();
        assert_eq!(&*near.try_recv(10).unwrap().unwrap(), b"x");
        assert_eq!(stats().blocks_lent.get(), 0);
    });
}

#[test]
fn unix_sockets_carry_bytes_by_path_and_by_abstract_name() {
    on_each_engine(|| async {
        let directory = std::env::temp_dir().join(format!("ringsail-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let path = directory.join(format!("{:?}.sock", std::thread::current().id()));
        for address in [
            Address::Unix(path.clone()),
            // The file of the listener before is stale by now.
            Address::Unix(path.clone()),
            Address::Unix(format!("@{}", path.display()).into()),
        ] {
            let listener = Listener::bind(&address, ListenerOptions::default()).unwrap();
            assert_eq!(*listener.local_addr(), address);
            let near = Stream::connect(&address, &ConnectOptions::default()).await.unwrap();
            let far = listener.accept().await.unwrap();
            near.send_all(b"hello").await.unwrap();
            assert_eq!(recv_all(&far, 5).await, b"hello");
            assert_eq!(near.original_dst(), None);
            near.set_nodelay(true).unwrap();
            drop(listener);
            // On io_uring a descriptor is closed a turn later.
            sleep(Duration::from_millis(2)).await;
        }
        std::fs::remove_dir_all(&directory).unwrap();
    });
}

#[test]
fn lost_race_leaves_the_bytes_for_the_next_receive() {
    on_each_engine(|| async {
        let (near, far) = Stream::pair().unwrap();
        let (other, _far_other) = Stream::pair().unwrap();
        far.send_all(b"kept").await.unwrap();
        match race(other.recv(1), sleep(Duration::from_millis(2))).await {
            ringsail_runtime::Either::Right(()) => (),
            ringsail_runtime::Either::Left(_) => panic!("nothing was sent"),
        }
        assert_eq!(&*near.recv(100).await.unwrap(), b"kept");
    });
}
