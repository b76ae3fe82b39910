use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, mpsc},
    thread::{self, ThreadId},
    time::Duration,
};

use ringsail_runtime::{
    Either, drain,
    limits::RETURN_RING_MAX,
    mailbox::{NotSent, mailbox, outbox},
    publish::publication,
    race,
    shard::{self, Shards, ShardsConfig},
    task::{spawn, yield_now},
    time::{sleep, timeout},
};

use crate::{configs, on_each_engine, tcp_pair};

const SOON: Duration = Duration::from_secs(10);

#[test]
fn mailbox_wakes_a_sleeping_shard_and_refuses_when_full() {
    on_each_engine(|| async {
        let (sender, mut mail) = mailbox(2);
        let (go, gone) = mpsc::channel();
        let other = thread::spawn(move || {
            thread::sleep(Duration::from_millis(5));
            sender.try_send(1).unwrap();
            gone.recv().unwrap();
            sender.try_send(2).unwrap();
            sender.try_send(3).unwrap();
            assert_eq!(sender.try_send(4), Err(NotSent::Full(4)));
            assert_eq!(sender.refused(), 1);
        });
        assert_eq!(mail.recv().await, Some(1));
        go.send(()).unwrap();
        other.join().unwrap();
        assert_eq!((mail.recv().await, mail.recv().await, mail.recv().await), (Some(2), Some(3), None));
    });
}

#[test]
fn no_wake_up_from_another_thread_is_lost() {
    on_each_engine(|| async {
        let (sender, mut mail) = mailbox(8);
        let (back, answers) = outbox(8);
        let other = thread::spawn(move || {
            for round in 0..3000 {
                sender.try_send(round).unwrap();
                assert_eq!(answers.recv_timeout(SOON), Ok(Some(round)));
            }
        });
        while let Some(round) = mail.recv().await {
            back.try_send(round).unwrap();
        }
        other.join().unwrap();
    });
}

#[test]
fn dropped_receive_keeps_the_message() {
    on_each_engine(|| async {
        let (sender, mut mail) = mailbox(1);
        assert!(timeout(Duration::from_millis(1), mail.recv()).await.is_err());
        sender.try_send(7).unwrap();
        assert_eq!(mail.recv().await, Some(7));
    });
}

#[test]
fn drain_reaches_waiting_and_later_tasks_of_all_shards() {
    for config in configs() {
        let config = ShardsConfig { count: NonZeroUsize::new(2).unwrap(), ..config };
        let (waits, waiting) = mpsc::channel();
        let shards = Shards::start(config, |_| {
            let waits = waits.clone();
            move || async move {
                assert!(!drain::draining());
                let (near, _far) = tcp_pair().await;
                let idle = spawn(async move { race(near.recv(1), drain::drain_begun()).await });
                yield_now().await;
                waits.send(()).unwrap();
                assert!(matches!(idle.await.unwrap(), Either::Right(())));
                assert!(drain::draining());
                spawn(drain::drain_begun()).await.unwrap();
            }
        })
        .unwrap();
        (0..2).for_each(|_| waiting.recv_timeout(SOON).unwrap());
        shards.control().drain();
        shards.join().unwrap();
    }
}

#[test]
fn stop_ends_shards_that_wait_for_ever() {
    for config in configs() {
        let (dropped, told) = mpsc::channel();
        let shards = Shards::start(config, |_| {
            let dropped = dropped.clone();
            move || async move {
                struct Tell(mpsc::Sender<()>);
                impl Drop for Tell {
                    fn drop(&mut self) {
                        // The test may be over.
                        let _ = self.0.send(());
                    }
                }
                let tell = Tell(dropped);
                let (near, _far) = tcp_pair().await;
                spawn(async move {
                    let _tell = tell;
                    near.recv(1).await.map(drop)
                });
                std::future::pending().await
            }
        })
        .unwrap();
        shards.control().stop();
        shards.join().unwrap();
        drop(dropped);
        // Sent by the task's drop, or never because the shard was stopped before it began.
        assert!(matches!(told.recv_timeout(SOON), Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected)));
    }
}

/// A value that notes on which thread it was freed.
struct Tracked {
    value: u64,
    freed: Arc<Mutex<Vec<(u64, ThreadId)>>>,
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.freed.lock().unwrap().push((self.value, thread::current().id()));
    }
}

#[test]
fn published_value_is_current_on_all_shards_and_old_ones_are_freed_elsewhere() {
    for config in configs() {
        let config = ShardsConfig { count: NonZeroUsize::new(2).unwrap(), ..config };
        let freed = Arc::new(Mutex::new(Vec::new()));
        let tracked = |value| Arc::new(Tracked { value, freed: freed.clone() });
        let (mut publisher, mut seats) = publication(tracked(0), 2).unwrap();
        let (tell, told) = mpsc::channel();
        let shards = Shards::start(config, |_| {
            let (seat, tell) = (seats.pop().unwrap(), tell.clone());
            move || async move {
                let tables = seat.subscribe();
                let first = tables.current();
                assert_eq!((first.value, first.number()), (0, 0));
                tell.send((shard::id(), thread::current().id(), 0)).unwrap();
                // Held across the change, as by a running request.
                let second = tables.changed(first.number()).await;
                assert_eq!(first.value, 0);
                tell.send((shard::id(), thread::current().id(), second.value)).unwrap();
                drop((first, second));
                std::future::pending().await
            }
        })
        .unwrap();
        let mut shard_threads = Vec::new();
        for _ in 0..2 {
            shard_threads.push(told.recv_timeout(SOON).unwrap().1);
        }
        assert_eq!(publisher.publish(tracked(1)), 1);
        for _ in 0..2 {
            assert_eq!(told.recv_timeout(SOON).unwrap().2, 1);
        }
        let patience = std::time::Instant::now() + SOON;
        while publisher.live_versions() > 1 {
            assert!(std::time::Instant::now() < patience, "version 0 is still alive");
            thread::yield_now();
        }
        shards.control().stop();
        shards.join().unwrap();
        let freed = freed.lock().unwrap();
        let (value, by) = freed[0];
        assert_eq!(value, 0);
        assert!(!shard_threads.contains(&by) && by != thread::current().id(), "freed by the wrong thread");
        drop(freed);
    }
}

#[test]
fn only_the_latest_of_many_published_values_is_adopted() {
    on_each_engine(|| async {
        let (mut publisher, mut seats) = publication(Arc::new(0u64), 1).unwrap();
        let tables = seats.pop().unwrap().subscribe();
        yield_now().await;
        for value in 1..=100 {
            publisher.publish(Arc::new(value));
        }
        let seen = tables.changed(0).await;
        assert_eq!((*seen, seen.number()), (100, 100));
        while publisher.live_versions() > 1 {
            sleep(Duration::from_millis(1)).await;
        }
    });
}

#[test]
fn full_return_ring_keeps_versions_until_there_is_room() {
    on_each_engine(|| async {
        /// Says where it was freed, slowly.
        struct Slow(mpsc::Sender<ThreadId>);
        impl Drop for Slow {
            fn drop(&mut self) {
                thread::sleep(Duration::from_micros(500));
                // The test may be over.
                let _ = self.0.send(thread::current().id());
            }
        }
        let (tell, told) = mpsc::channel();
        let slow = || Arc::new(Slow(tell.clone()));
        let (mut publisher, mut seats) = publication(slow(), 1).unwrap();
        let tables = seats.pop().unwrap().subscribe();
        let mut held = Vec::new();
        for _ in 0..RETURN_RING_MAX + 40 {
            let seen = tables.number();
            publisher.publish(slow());
            held.push(tables.changed(seen).await);
        }
        drop(held);
        for _ in 0..RETURN_RING_MAX + 40 {
            let by = loop {
                match told.try_recv() {
                    Ok(thread) => break thread,
                    Err(_) => sleep(Duration::from_millis(1)).await,
                }
            };
            assert_ne!(by, thread::current().id(), "the shard freed a version itself");
        }
    });
}

#[test]
fn waker_works_from_any_thread() {
    on_each_engine(|| async {
        let (give, given) = mpsc::channel::<std::task::Waker>();
        let other = thread::spawn(move || {
            let waker = given.recv().unwrap();
            thread::sleep(Duration::from_millis(3));
            waker.wake_by_ref();
            waker.wake();
        });
        let mut polls = 0;
        std::future::poll_fn(|cx| {
            polls += 1;
            if polls == 1 {
                give.send(cx.waker().clone()).unwrap();
                return std::task::Poll::Pending;
            }
            std::task::Poll::Ready(())
        })
        .await;
        other.join().unwrap();
    });
}
