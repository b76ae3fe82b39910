use std::{cell::Cell, rc::Rc, time::Duration};

use ringsail_runtime::{
    limits::ShardLimits,
    net::Stream,
    shard::{run_local, stats},
    task::{TaskError, spawn, yield_now},
    time::sleep,
};

use crate::{configs, on_each_engine, on_each_engine_with, tcp_pair};

#[test]
fn panic_in_a_task_is_counted_and_touches_no_other() {
    on_each_engine(|| async {
        let (near, far) = tcp_pair().await;
        let bystander = spawn(async move { far.recv(10).await.map(|lease| lease.len()) });
        let guilty = spawn(async { panic!("expected in this test") });
        assert_eq!(guilty.await, Err(TaskError::Panicked));
        near.send_all(b"still here").await.unwrap();
        assert_eq!(bystander.await.unwrap().unwrap(), 10);
        assert_eq!(stats().task_panics.get(), 1);
    });
}

#[test]
fn panic_in_the_main_task_ends_the_shard_and_not_the_process() {
    for config in configs() {
        let output = run_local(config, || async { panic!("expected in this test") }).unwrap();
        assert_eq!(output, None::<()>);
    }
}

#[test]
fn aborted_task_is_dropped_where_it_stands() {
    on_each_engine(|| async {
        let (near, far) = tcp_pair().await;
        let task = spawn(async move { far.recv(1).await.map(drop) });
        yield_now().await;
        task.abort();
        assert_eq!(task.await.map(drop), Err(TaskError::Aborted));
        assert!(near.recv(1).await.unwrap().is_empty(), "its connection is closed");
        let done = spawn(async { 7 });
        yield_now().await;
        done.abort();
        assert_eq!(done.await, Ok(7));
    });
}

#[test]
fn task_past_the_limit_is_refused_and_counted() {
    // The test's main task and the one that watches it are tasks as well.
    let limits = ShardLimits { tasks_max: 4, ..ShardLimits::default() };
    on_each_engine_with(limits, || async {
        let kept: Vec<_> = (0..2).map(|_| spawn(std::future::pending::<()>())).collect();
        assert_eq!(spawn(async {}).await, Err(TaskError::Refused));
        assert_eq!(stats().tasks_refused.get(), 1);
        kept[0].abort();
        assert_eq!(spawn(async {}).await, Ok(()));
    });
}

#[test]
fn busy_tasks_starve_neither_sockets_nor_timers() {
    on_each_engine(|| async {
        let stop = Rc::new(Cell::new(false));
        for _ in 0..3 {
            let stop = stop.clone();
            spawn(async move {
                while !stop.get() {
                    yield_now().await;
                }
            });
        }
        let (near, far) = tcp_pair().await;
        let echo = spawn(async move {
            for _ in 0..50 {
                let lease = far.recv(1).await.unwrap();
                far.send_all(&lease).await.unwrap();
            }
        });
        for _ in 0..50 {
            near.send_all(b"x").await.unwrap();
            assert_eq!(&*near.recv(1).await.unwrap(), b"x");
        }
        echo.await.unwrap();
        sleep(Duration::from_millis(3)).await;
        stop.set(true);
    });
}

#[test]
fn task_whose_socket_is_always_ready_yields() {
    on_each_engine(|| async {
        let (near, far) = Stream::pair().unwrap();
        let sender = spawn(async move {
            loop {
                near.send_all(&[0; 1000]).await.unwrap();
            }
        });
        let turns = Rc::new(Cell::new(0));
        let counter = turns.clone();
        spawn(async move {
            loop {
                counter.set(counter.get() + 1);
                yield_now().await;
            }
        });
        for _ in 0..2000 {
            far.recv(1000).await.unwrap();
        }
        sender.abort();
        assert!(turns.get() > 10, "{}", turns.get());
    });
}

#[test]
fn burst_beyond_the_completion_queue_reaches_every_task() {
    on_each_engine(|| async {
        // More than the 512 completions a ring holds.
        const PAIRS: usize = 900;
        let mut senders = Vec::new();
        let mut receivers = Vec::new();
        for _ in 0..PAIRS {
            let (near, far) = Stream::pair().unwrap();
            receivers.push(spawn(async move { far.recv(1).await.map(|lease| lease.len()) }));
            senders.push(near);
        }
        sleep(Duration::from_millis(2)).await;
        for sender in &senders {
            assert_eq!(sender.try_send(b"x").unwrap(), Some(1));
        }
        for receiver in receivers {
            assert_eq!(receiver.await.unwrap().unwrap(), 1);
        }
    });
}
