//! A bounded queue.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt,
    future::poll_fn,
    rc::Rc,
    task::{Poll, Waker},
};

use super::Notify;

/// A queue of at most `bound` values from any number of tasks to one.
///
/// # Panics
/// When `bound` is 0.
pub fn channel<T>(bound: usize) -> (Sender<T>, Receiver<T>) {
    assert!(bound > 0, "a queue of nothing");
    let queue = Rc::new(Queue {
        values: RefCell::default(),
        bound,
        senders: Cell::new(1),
        receiver_gone: Cell::new(false),
        not_empty: Cell::new(None),
        not_full: Notify::new(),
    });
    (Sender { queue: queue.clone() }, Receiver { queue })
}

struct Queue<T> {
    values: RefCell<VecDeque<T>>,
    bound: usize,
    senders: Cell<usize>,
    receiver_gone: Cell<bool>,
    not_empty: Cell<Option<Waker>>,
    not_full: Notify,
}

/// The filling half of [`channel`].
pub struct Sender<T> {
    queue: Rc<Queue<T>>,
}

/// Why a value was not queued; it comes back with the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSent<T> {
    /// The queue is at its bound.
    Full(T),
    /// The receiver is gone.
    Closed(T),
}

impl<T> Sender<T> {
    /// Queues a value if there is room.
    ///
    /// # Errors
    /// [`NotSent`], with the value.
    pub fn try_send(&self, value: T) -> Result<(), NotSent<T>> {
        if self.queue.receiver_gone.get() {
            return Err(NotSent::Closed(value));
        }
        let mut values = self.queue.values.borrow_mut();
        if values.len() >= self.queue.bound {
            return Err(NotSent::Full(value));
        }
        values.push_back(value);
        drop(values);
        self.queue.not_empty.take().into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// Waits for room, then queues. Dropped before it is ready, it has queued nothing.
    ///
    /// # Errors
    /// The receiver is gone; the value comes back.
    pub async fn send(&self, value: T) -> Result<(), T> {
        let mut value = value;
        loop {
            match self.try_send(value) {
                Ok(()) => return Ok(()),
                Err(NotSent::Closed(back)) => return Err(back),
                Err(NotSent::Full(back)) => value = back,
            }
            self.queue.not_full.notified().await;
        }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.queue.senders.set(self.queue.senders.get() + 1);
        Sender { queue: self.queue.clone() }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.queue.senders.set(self.queue.senders.get() - 1);
        if self.queue.senders.get() == 0 {
            self.queue.not_empty.take().into_iter().for_each(Waker::wake);
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").finish_non_exhaustive()
    }
}

/// The emptying half of [`channel`].
pub struct Receiver<T> {
    queue: Rc<Queue<T>>,
}

impl<T> Receiver<T> {
    /// The next value; `None` when the queue is empty and all senders are gone. Dropping it loses nothing.
    pub async fn recv(&mut self) -> Option<T> {
        poll_fn(|cx| {
            if let Some(value) = self.try_recv() {
                return Poll::Ready(Some(value));
            }
            if self.queue.senders.get() == 0 {
                return Poll::Ready(None);
            }
            self.queue.not_empty.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await
    }

    /// The next value, if one is queued.
    pub fn try_recv(&mut self) -> Option<T> {
        let value = self.queue.values.borrow_mut().pop_front();
        if value.is_some() {
            self.queue.not_full.notify_one();
        }
        value
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.queue.receiver_gone.set(true);
        let values = self.queue.values.take();
        self.queue.not_full.notify_all();
        drop(values);
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::{Pin, pin},
        task::Context,
    };

    use super::*;

    fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn channel_holds_its_bound_and_no_more() {
        let (sender, mut receiver) = channel(2);
        sender.try_send(1).unwrap();
        sender.try_send(2).unwrap();
        assert_eq!(sender.try_send(3), Err(NotSent::Full(3)));
        let mut waiting = Box::pin(sender.send(3));
        assert!(poll(waiting.as_mut()).is_pending());
        assert_eq!(receiver.try_recv(), Some(1));
        assert_eq!(poll(waiting.as_mut()), Poll::Ready(Ok(())));
        drop(waiting);
        drop(sender);
        let rest: Vec<_> = std::iter::from_fn(|| match poll(pin!(receiver.recv())) {
            Poll::Ready(value) => value,
            Poll::Pending => panic!("waits for senders that are gone"),
        })
        .collect();
        assert_eq!(rest, [2, 3]);
    }

    #[test]
    fn sender_learns_that_the_receiver_left() {
        let (sender, receiver) = channel(1);
        sender.try_send(1).unwrap();
        let mut waiting = pin!(sender.send(2));
        assert!(poll(waiting.as_mut()).is_pending());
        drop(receiver);
        assert_eq!(poll(waiting.as_mut()), Poll::Ready(Err(2)));
    }
}
