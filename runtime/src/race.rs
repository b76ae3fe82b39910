//! Waiting for several futures at once. All I/O futures of this crate may lose a race without losing bytes.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use pin_project_lite::pin_project;

/// Which future was ready first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Either<A, B> {
    /// The first.
    Left(A),
    /// The second.
    Right(B),
}

/// Waits for the first of two futures and drops the other. When both are ready the left one wins: put there what
/// must not be starved.
pub fn race<A: Future, B: Future>(left: A, right: B) -> Race<A, B> {
    Race { left, right }
}

pin_project! {
    /// See [`race`].
    #[must_use = "futures do nothing unless awaited"]
    pub struct Race<A, B> {
        #[pin]
        left: A,
        #[pin]
        right: B,
    }
}

impl<A: Future, B: Future> Future for Race<A, B> {
    type Output = Either<A::Output, B::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.left.poll(cx) {
            return Poll::Ready(Either::Left(output));
        }
        this.right.poll(cx).map(Either::Right)
    }
}

/// Waits for both futures, polling each until it is ready.
pub fn join<A: Future, B: Future>(left: A, right: B) -> Join<A, B> {
    Join { left, right, left_output: None, right_output: None }
}

pin_project! {
    /// See [`join`].
    #[must_use = "futures do nothing unless awaited"]
    pub struct Join<A: Future, B: Future> {
        #[pin]
        left: A,
        #[pin]
        right: B,
        left_output: Option<A::Output>,
        right_output: Option<B::Output>,
    }
}

impl<A: Future, B: Future> Future for Join<A, B> {
    type Output = (A::Output, B::Output);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if this.left_output.is_none()
            && let Poll::Ready(output) = this.left.poll(cx)
        {
            *this.left_output = Some(output);
        }
        if this.right_output.is_none()
            && let Poll::Ready(output) = this.right.poll(cx)
        {
            *this.right_output = Some(output);
        }
        match (this.left_output.take(), this.right_output.take()) {
            (Some(left), Some(right)) => Poll::Ready((left, right)),
            (left, right) => {
                (*this.left_output, *this.right_output) = (left, right);
                Poll::Pending
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::{pending, ready},
        pin::pin,
        task::Waker,
    };

    use super::*;

    fn poll<F: Future>(future: F) -> Poll<F::Output> {
        pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn left_wins_when_both_are_ready() {
        assert_eq!(poll(race(ready(1), ready(2))), Poll::Ready(Either::Left(1)));
        assert_eq!(poll(race(pending::<()>(), ready(2))), Poll::Ready(Either::Right(2)));
    }

    #[test]
    fn join_polls_a_ready_future_no_more() {
        let mut once = pin!(join(ready(1), crate::task::yield_now()));
        let cx = &mut Context::from_waker(Waker::noop());
        assert!(once.as_mut().poll(cx).is_pending());
        assert_eq!(once.as_mut().poll(cx), Poll::Ready((1, ())));
    }
}
