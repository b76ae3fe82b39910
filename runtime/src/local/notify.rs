//! A wake-up without a value.

use std::{
    cell::RefCell,
    collections::VecDeque,
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};

/// Wakes waiting tasks. A notification that finds nobody waiting is lost: check the condition, then wait, with no
/// await in between.
#[derive(Default)]
pub struct Notify {
    waiters: RefCell<Waiters>,
}

#[derive(Default)]
struct Waiters {
    /// Slots of waiting futures, freed by them; bounded by the tasks of the shard.
    slots: Vec<Waiter>,
    free: Vec<u32>,
    /// Order of arrival; may name waiters that left.
    order: VecDeque<(u32, u32)>,
}

#[derive(Default)]
struct Waiter {
    generation: u32,
    waker: Option<Waker>,
    notified: bool,
}

impl Notify {
    /// Nobody waits.
    pub fn new() -> Self {
        Notify::default()
    }

    /// Wakes the one that has waited longest. `false` when nobody waits.
    pub fn notify_one(&self) -> bool {
        let mut waiters = self.waiters.borrow_mut();
        while let Some((index, generation)) = waiters.order.pop_front() {
            let waiter = &mut waiters.slots[index as usize];
            if waiter.generation == generation && !waiter.notified {
                waiter.notified = true;
                let waker = waiter.waker.take();
                drop(waiters);
                waker.into_iter().for_each(Waker::wake);
                return true;
            }
        }
        false
    }

    /// Wakes all that wait.
    pub fn notify_all(&self) {
        while self.notify_one() {}
    }

    /// Waits for a notification that comes after the first poll.
    pub fn notified(&self) -> Notified<'_> {
        Notified { notify: self, place: None }
    }
}

impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notify").finish_non_exhaustive()
    }
}

/// See [`Notify::notified`]. A notification given to a future that is dropped before it looked is passed on.
#[derive(Debug)]
#[must_use = "futures do nothing unless awaited"]
pub struct Notified<'a> {
    notify: &'a Notify,
    place: Option<(u32, u32)>,
}

impl Future for Notified<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut waiters = self.notify.waiters.borrow_mut();
        let waiters = &mut *waiters;
        let index = match self.place {
            Some((index, _)) => {
                if waiters.slots[index as usize].notified {
                    waiters.release(index);
                    self.place = None;
                    return Poll::Ready(());
                }
                index
            }
            None => {
                let index = waiters.free.pop().unwrap_or_else(|| {
                    waiters.slots.push(Waiter::default());
                    waiters.slots.len() as u32 - 1
                });
                let place = (index, waiters.slots[index as usize].generation);
                waiters.shorten_order();
                waiters.order.push_back(place);
                self.place = Some(place);
                index
            }
        };
        let waker = &mut waiters.slots[index as usize].waker;
        match waker {
            Some(present) => present.clone_from(cx.waker()),
            absent => *absent = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Waiters {
    fn release(&mut self, index: u32) {
        let waiter = &mut self.slots[index as usize];
        waiter.generation = waiter.generation.wrapping_add(1);
        waiter.waker = None;
        waiter.notified = false;
        self.free.push(index);
    }

    /// Keeps the order from growing with waiters that left.
    fn shorten_order(&mut self) {
        if self.order.len() > 2 * self.slots.len() {
            let slots = &self.slots;
            self.order.retain(|(index, generation)| slots[*index as usize].generation == *generation);
        }
    }
}

impl Drop for Notified<'_> {
    fn drop(&mut self) {
        let Some((index, _)) = self.place else { return };
        let mut waiters = self.notify.waiters.borrow_mut();
        let unseen = waiters.slots[index as usize].notified;
        waiters.release(index);
        drop(waiters);
        if unseen {
            self.notify.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn notification_wakes_the_one_that_waited_longest() {
        let notify = Notify::new();
        let (mut first, mut second) = (pin!(notify.notified()), pin!(notify.notified()));
        assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
        assert!(notify.notify_one());
        assert!(poll(second.as_mut()).is_pending());
        assert!(poll(first.as_mut()).is_ready());
    }

    #[test]
    fn notification_of_a_dropped_waiter_is_passed_on() {
        let notify = Notify::new();
        let mut first = Box::pin(notify.notified());
        let mut second = pin!(notify.notified());
        assert!(poll(first.as_mut()).is_pending() && poll(second.as_mut()).is_pending());
        notify.notify_one();
        drop(first);
        assert!(poll(second.as_mut()).is_ready());
    }

    #[test]
    fn waiters_that_come_and_go_take_no_room() {
        let notify = Notify::new();
        for _ in 0..1000 {
            assert!(poll(pin!(notify.notified())).is_pending());
        }
        assert_eq!(notify.waiters.borrow().slots.len(), 1);
        assert!(notify.waiters.borrow().order.len() < 5);
        assert!(!notify.notify_one());
    }
}
