//! One value, once.

use std::{
    cell::Cell,
    fmt,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

/// A value that one task gives to another once.
pub fn oneshot<T>() -> (OneSender<T>, OneReceiver<T>) {
    let shared = Rc::new(One { value: Cell::new(None), closed: Cell::new(false), waiter: Cell::new(None) });
    (OneSender { shared: shared.clone() }, OneReceiver { shared })
}

struct One<T> {
    value: Cell<Option<T>>,
    /// The other half is gone.
    closed: Cell<bool>,
    waiter: Cell<Option<Waker>>,
}

impl<T> One<T> {
    fn close(&self) {
        self.closed.set(true);
        self.waiter.take().into_iter().for_each(Waker::wake);
    }
}

/// The giving half of [`oneshot`].
pub struct OneSender<T> {
    shared: Rc<One<T>>,
}

impl<T> OneSender<T> {
    /// Gives the value; back to the caller when nobody can take it any more.
    ///
    /// # Errors
    /// The receiver is gone.
    pub fn send(self, value: T) -> Result<(), T> {
        if self.shared.closed.get() {
            return Err(value);
        }
        self.shared.value.set(Some(value));
        Ok(())
    }

    /// The receiver is gone.
    pub fn is_closed(&self) -> bool {
        self.shared.closed.get()
    }
}

impl<T> Drop for OneSender<T> {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl<T> fmt::Debug for OneSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OneSender").finish_non_exhaustive()
    }
}

/// The taking half of [`oneshot`]; a future.
pub struct OneReceiver<T> {
    shared: Rc<One<T>>,
}

impl<T> Future for OneReceiver<T> {
    type Output = Result<T, Closed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(value) = self.shared.value.take() {
            return Poll::Ready(Ok(value));
        }
        if self.shared.closed.get() {
            return Poll::Ready(Err(Closed));
        }
        self.shared.waiter.set(Some(cx.waker().clone()));
        Poll::Pending
    }
}

impl<T> Drop for OneReceiver<T> {
    fn drop(&mut self) {
        self.shared.closed.set(true);
    }
}

impl<T> fmt::Debug for OneReceiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OneReceiver").finish_non_exhaustive()
    }
}

/// The other half is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the other half is gone")]
pub struct Closed;

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn oneshot_tells_of_a_lost_half() {
        let (sender, receiver) = oneshot::<u8>();
        drop(sender);
        assert_eq!(poll(pin!(receiver)), Poll::Ready(Err(Closed)));
        let (sender, receiver) = oneshot();
        drop(receiver);
        assert_eq!(sender.send(7), Err(7));
        let (sender, receiver) = oneshot();
        sender.send(7).unwrap();
        assert_eq!(poll(pin!(receiver)), Poll::Ready(Ok(7)));
    }
}
