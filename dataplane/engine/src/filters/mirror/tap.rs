//! A request's body on its way to a mirror: bytes that were read and are not sent yet.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use ringsail_http::Fields;
use ringsail_runtime::local::Notify;

use crate::limits::{MIRROR_WAITING_BYTES_MAX, MIRROR_WAITING_BYTES_OF_SHARD_MAX};

/// Both ends of a tap.
pub fn tap(waiting_of_shard: Rc<Cell<usize>>) -> (Tap, Taken) {
    let shared = Rc::new(Shared {
        bytes: RefCell::default(),
        trailers: RefCell::default(),
        state: Cell::new(State::Open),
        news: Notify::new(),
        waiting_of_shard,
    });
    (Tap(shared.clone()), Taken(shared))
}

/// Where the exchange writes what it reads. It never waits: a copy that cannot keep up is given up.
#[derive(Debug)]
pub struct Tap(Rc<Shared>);

/// Where the copy reads.
#[derive(Debug)]
pub struct Taken(Rc<Shared>);

/// What there is for the copy.
#[derive(Debug)]
pub enum Next {
    /// These bytes.
    Bytes(Vec<u8>),
    /// The body's end, with the trailers it came with.
    End(Option<Box<Fields>>),
    /// The body breaks off: it did not come to its end, or more waited than may.
    Broken,
}

#[derive(Debug)]
struct Shared {
    bytes: RefCell<Vec<u8>>,
    trailers: RefCell<Option<Box<Fields>>>,
    state: Cell<State>,
    news: Notify,
    waiting_of_shard: Rc<Cell<usize>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Complete,
    Broken,
}

impl Tap {
    /// More of the body.
    pub fn push(&self, data: &[u8]) {
        let shared = &*self.0;
        if shared.state.get() != State::Open || data.is_empty() {
            return;
        }
        let of_shard = shared.waiting_of_shard.get() + data.len();
        let mut bytes = shared.bytes.borrow_mut();
        if bytes.len() + data.len() > MIRROR_WAITING_BYTES_MAX || of_shard > MIRROR_WAITING_BYTES_OF_SHARD_MAX
        {
            drop(bytes);
            shared.give_up();
            return;
        }
        shared.waiting_of_shard.set(of_shard);
        bytes.extend_from_slice(data);
        drop(bytes);
        shared.news.notify_all();
    }

    /// The body's end.
    pub fn complete(&self, trailers: Option<&Fields>) {
        if self.0.state.get() == State::Open {
            self.0.trailers.replace(trailers.cloned().map(Box::new));
            self.0.state.set(State::Complete);
            self.0.news.notify_all();
        }
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        if self.0.state.get() == State::Open {
            self.0.give_up();
        }
    }
}

impl Taken {
    /// Waits for the next piece.
    pub async fn next(&self) -> Next {
        loop {
            let bytes = self.0.take();
            match (bytes.is_empty(), self.0.state.get()) {
                (_, State::Broken) => return Next::Broken,
                (false, _) => return Next::Bytes(bytes),
                (true, State::Complete) => return Next::End(self.0.trailers.take()),
                (true, State::Open) => self.0.news.notified().await,
            };
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.give_up();
    }
}

impl Shared {
    fn take(&self) -> Vec<u8> {
        let bytes = self.bytes.take();
        self.waiting_of_shard.set(self.waiting_of_shard.get() - bytes.len());
        bytes
    }

    fn give_up(&self) {
        self.state.set(State::Broken);
        drop(self.take());
        self.news.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::pin!(future).poll(&mut cx) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        }
    }

    #[test]
    fn bytes_come_out_in_their_order_and_then_the_end() {
        let waiting = Rc::new(Cell::new(0));
        let (tap, taken) = tap(waiting.clone());
        assert!(now(taken.next()).is_none());
        tap.push(b"ab");
        tap.push(b"c");
        assert_eq!(waiting.get(), 3);
        assert!(matches!(now(taken.next()), Some(Next::Bytes(bytes)) if bytes == b"abc"));
        assert_eq!(waiting.get(), 0);
        let mut trailers = Fields::new();
        trailers.append("x-sum", b"3").unwrap();
        tap.complete(Some(&trailers));
        drop(tap);
        let Some(Next::End(Some(given))) = now(taken.next()) else { panic!("the end") };
        assert_eq!(given.get("x-sum"), Some(&b"3"[..]));
    }

    #[test]
    fn a_body_that_is_not_completed_breaks_off() {
        let (tap, taken) = tap(Rc::default());
        tap.push(b"ab");
        drop(tap);
        assert!(matches!(now(taken.next()), Some(Next::Broken)));
    }

    #[test]
    fn a_copy_that_cannot_keep_up_is_given_up_and_holds_nothing() {
        let waiting = Rc::new(Cell::new(0));
        let (tap, taken) = tap(waiting.clone());
        tap.push(&vec![0; MIRROR_WAITING_BYTES_MAX]);
        assert_eq!(waiting.get(), MIRROR_WAITING_BYTES_MAX);
        tap.push(b"x");
        assert!(matches!(now(taken.next()), Some(Next::Broken)));
        assert_eq!(waiting.get(), 0);
    }

    #[test]
    fn all_copies_of_a_shard_share_one_bound() {
        let waiting = Rc::new(Cell::new(MIRROR_WAITING_BYTES_OF_SHARD_MAX - 1));
        let (tap, taken) = tap(waiting.clone());
        tap.push(b"x");
        assert!(matches!(now(taken.next()), Some(Next::Bytes(_))));
        tap.push(b"xy");
        assert!(matches!(now(taken.next()), Some(Next::Broken)));
        assert_eq!(waiting.get(), MIRROR_WAITING_BYTES_OF_SHARD_MAX - 1);
    }
}
