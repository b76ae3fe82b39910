use std::{
    cell::RefCell,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Waker},
    time::{Duration, Instant},
};

use ringsail_runtime::{
    shard::stats,
    task::spawn,
    time::{Elapsed, now, sleep, sleep_until, timeout},
};

use crate::on_each_engine;

fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}

#[test]
fn sleepers_wake_in_order_and_never_early() {
    on_each_engine(|| async {
        let order = Rc::new(RefCell::new(Vec::new()));
        let started = Instant::now();
        let sleepers: Vec<_> = [70, 5, 40, 10, 0, 20]
            .into_iter()
            .map(|length| {
                let order = order.clone();
                spawn(async move {
                    sleep(millis(length)).await;
                    assert!(started.elapsed() >= millis(length));
                    order.borrow_mut().push(length);
                })
            })
            .collect();
        for sleeper in sleepers {
            sleeper.await.unwrap();
        }
        assert_eq!(*order.borrow(), [0, 5, 10, 20, 40, 70]);
    });
}

#[test]
fn ten_thousand_timers_leave_the_wheel_when_dropped() {
    on_each_engine(|| async {
        let sleepers: Vec<_> = (0..10_000u64).map(|index| spawn(sleep(millis(30 + index % 20)))).collect();
        let far_off: Vec<_> = (0..10_000u64).map(|index| spawn(sleep(Duration::from_secs(index)))).collect();
        sleep(millis(1)).await;
        far_off.iter().for_each(|task| task.abort());
        for sleeper in sleepers {
            sleeper.await.unwrap();
        }
        sleep(millis(2)).await;
        assert_eq!(stats().timers.get(), 1, "only the test's own guard is left");
    });
}

#[test]
fn timeout_ends_what_takes_longer_and_leaves_no_timer_otherwise() {
    on_each_engine(|| async {
        assert_eq!(timeout(millis(2), std::future::pending::<()>()).await, Err(Elapsed));
        assert_eq!(timeout(Duration::from_secs(3600), async { 7 }).await, Ok(7));
        assert_eq!(timeout(Duration::MAX, async { 7 }).await, Ok(7));
        sleep(millis(1)).await;
        assert_eq!(stats().timers.get(), 1);
    });
}

#[test]
fn moved_deadline_counts_and_the_old_one_does_not() {
    on_each_engine(|| async {
        let started = Instant::now();
        let mut idle = sleep(millis(10));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut idle).poll(&mut cx).is_pending());
        idle.reset(started + millis(30));
        (&mut idle).await;
        assert!(started.elapsed() >= millis(30));
        idle.reset(started + Duration::from_secs(3600));
        assert!(Pin::new(&mut idle).poll(&mut cx).is_pending());
        idle.reset(started + millis(40));
        idle.await;
    });
}

#[test]
fn shard_clock_keeps_up_with_the_true_one() {
    on_each_engine(|| async {
        sleep_until(now() + millis(3)).await;
        assert!(now() <= Instant::now());
        sleep(millis(1)).await;
        assert!(now().elapsed() < millis(500));
    });
}
