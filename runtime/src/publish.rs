//! One immutable value, published by one thread and read on every shard.
//!
//! ```text
//! Publisher ──slot per shard, latest wins──► adopter task ──Rc──► Subscriber::current ──Rc clone──► Current
//!     ▲                                                                                        last drop │
//!     └─ counts live versions      reclaimer thread ◄── bounded return ring ◄── Arc goes back ───────────┘
//! ```
//!
//! A reader pays one clone of an `Rc`; atomics are paid once per version and shard. Old versions are freed by a
//! thread of their own, so that dropping large tables never stops a shard.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    fmt, io,
    ops::Deref,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError, Weak},
    task::{Poll, Waker},
    thread,
};

use crossbeam_channel::{Sender, TrySendError, bounded};

use crate::{
    limits,
    local::Notify,
    race::{Either, race},
    task, time,
};

/// Sets up a publication for `shards` shards, with the value they start with. Each seat goes to one shard.
///
/// # Errors
/// The reclaimer thread cannot be started.
pub fn publication<T: Send + Sync + 'static>(
    initial: Arc<T>,
    shards: usize,
) -> io::Result<(Publisher<T>, Vec<Seat<T>>)> {
    let (back, returned) = bounded::<Arc<T>>(limits::RETURN_RING_MAX);
    // Ends when the publisher, the seats and all versions on shards are gone.
    thread::Builder::new().name("reclaim".to_owned()).spawn(move || returned.iter().for_each(drop))?;
    let live = Live { versions: vec![Arc::downgrade(&initial)] };
    let seats: Vec<Seat<T>> = (0..shards)
        .map(|_| Seat { slot: Arc::new(Slot::holding(initial.clone())), back: back.clone() })
        .collect();
    let slots = seats.iter().map(|seat| seat.slot.clone()).collect();
    Ok((Publisher { slots, back, latest: initial, number: 0, live }, seats))
}

/// A shard's mailbox of one: the newest value not yet adopted.
struct Slot<T> {
    state: Mutex<SlotState<T>>,
}

struct SlotState<T> {
    newest: Option<Arc<T>>,
    number: u64,
    adopter: Option<Waker>,
    publisher_gone: bool,
}

impl<T> Slot<T> {
    fn holding(value: Arc<T>) -> Self {
        let state = SlotState { newest: Some(value), number: 0, adopter: None, publisher_gone: false };
        Slot { state: Mutex::new(state) }
    }

    fn change<R>(&self, change: impl FnOnce(&mut SlotState<T>) -> R) -> R {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The writing side. Not cloneable: one thread decides what is current.
pub struct Publisher<T: Send + Sync + 'static> {
    slots: Vec<Arc<Slot<T>>>,
    back: Sender<Arc<T>>,
    latest: Arc<T>,
    number: u64,
    live: Live<T>,
}

impl<T: Send + Sync> Publisher<T> {
    /// Makes a value current on all shards, soon: each adopts it at its next turn. A value that a shard has not
    /// adopted yet is replaced, never queued. Returns the version's number, counted from 1 (0 is the initial one).
    pub fn publish(&mut self, value: Arc<T>) -> u64 {
        self.number += 1;
        self.live.add(&value);
        let previous = std::mem::replace(&mut self.latest, value);
        for slot in &self.slots {
            let (unseen, adopter) = slot.change(|state| {
                state.number = self.number;
                (state.newest.replace(self.latest.clone()), state.adopter.take())
            });
            adopter.into_iter().for_each(Waker::wake);
            drop(unseen);
        }
        // The last reference may be this one. The caller's thread is not a shard, but may have better to do.
        let _ = self.back.try_send(previous);
        self.number
    }

    /// What was published last.
    pub fn latest(&self) -> &Arc<T> {
        &self.latest
    }

    /// Versions not yet freed, the latest included. Stays small while shards let go of old ones.
    pub fn live_versions(&mut self) -> usize {
        self.live.count()
    }
}

impl<T: Send + Sync> Drop for Publisher<T> {
    fn drop(&mut self) {
        for slot in &self.slots {
            let adopter = slot.change(|state| {
                state.publisher_gone = true;
                state.adopter.take()
            });
            adopter.into_iter().for_each(Waker::wake);
        }
    }
}

impl<T: Send + Sync> fmt::Debug for Publisher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher").field("number", &self.number).finish_non_exhaustive()
    }
}

struct Live<T> {
    versions: Vec<Weak<T>>,
}

impl<T> Live<T> {
    fn add(&mut self, value: &Arc<T>) {
        self.count();
        self.versions.push(Arc::downgrade(value));
    }

    fn count(&mut self) -> usize {
        self.versions.retain(|version| version.strong_count() > 0);
        self.versions.len()
    }
}

/// One shard's place in a publication, on its way there.
pub struct Seat<T: Send + Sync + 'static> {
    slot: Arc<Slot<T>>,
    back: Sender<Arc<T>>,
}

impl<T: Send + Sync> Seat<T> {
    /// Takes the seat on this shard: adopts the newest value and starts the task that adopts later ones.
    ///
    /// # Panics
    /// Outside a shard.
    pub fn subscribe(self) -> Subscriber<T> {
        let returns =
            Rc::new(Returns { back: self.back, kept: RefCell::default(), kept_more: Notify::new() });
        let (value, number) = self.slot.change(|state| (state.newest.take(), state.number));
        let value = value.expect("a seat holds a value until it is taken, and it is taken once");
        let first = Version { value: Some(value), number, returns: returns.clone() };
        let board = Rc::new(Board {
            current: RefCell::new(Rc::new(first)),
            changed: Notify::new(),
            subscribers: Cell::new(1),
            abandoned: Notify::new(),
        });
        let adopter = adopt(self.slot, board.clone(), returns);
        drop(task::spawn(adopter));
        Subscriber { board }
    }
}

impl<T: Send + Sync> fmt::Debug for Seat<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat").finish_non_exhaustive()
    }
}

/// What the readers of one shard share.
struct Board<T> {
    current: RefCell<Rc<Version<T>>>,
    changed: Notify,
    subscribers: Cell<usize>,
    abandoned: Notify,
}

/// The adopter task: ends with the last subscriber.
async fn adopt<T: Send + Sync>(slot: Arc<Slot<T>>, board: Rc<Board<T>>, returns: Rc<Returns<T>>) {
    let mut publisher_gone = false;
    while board.subscribers.get() > 0 {
        // Here as well as in `retry`, whose rest begins anew with each version.
        returns.give_kept();
        let news = std::future::poll_fn(|cx| {
            slot.change(|state| match state.newest.take() {
                Some(value) => Poll::Ready(Some((value, state.number))),
                None if state.publisher_gone && !publisher_gone => Poll::Ready(None),
                None => {
                    state.adopter = Some(cx.waker().clone());
                    Poll::Pending
                }
            })
        });
        match race(race(news, returns.retry()), board.abandoned.notified()).await {
            Either::Left(Either::Left(Some((value, number)))) => {
                let version = Version { value: Some(value), number, returns: returns.clone() };
                let previous = board.current.replace(Rc::new(version));
                drop(previous);
                board.changed.notify_all();
            }
            Either::Left(Either::Left(None)) => publisher_gone = true,
            Either::Left(Either::Right(())) | Either::Right(()) => (),
        }
    }
}

/// The reading side of one shard. Clones are cheap and share the seat.
pub struct Subscriber<T> {
    board: Rc<Board<T>>,
}

impl<T> Subscriber<T> {
    /// The version of this moment: one clone of an `Rc`. Keep it for as long as one decision needs it, not longer.
    pub fn current(&self) -> Current<T> {
        Current { version: self.board.current.borrow().clone() }
    }

    /// The number of the version of this moment.
    pub fn number(&self) -> u64 {
        self.board.current.borrow().number
    }

    /// Waits until the version is another than the one numbered `seen`.
    pub async fn changed(&self, seen: u64) -> Current<T> {
        while self.number() == seen {
            self.board.changed.notified().await;
        }
        self.current()
    }
}

impl<T> Clone for Subscriber<T> {
    fn clone(&self) -> Self {
        self.board.subscribers.set(self.board.subscribers.get() + 1);
        Subscriber { board: self.board.clone() }
    }
}

impl<T> Drop for Subscriber<T> {
    fn drop(&mut self) {
        self.board.subscribers.set(self.board.subscribers.get() - 1);
        if self.board.subscribers.get() == 0 {
            self.board.abandoned.notify_all();
        }
    }
}

impl<T> fmt::Debug for Subscriber<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriber").field("number", &self.number()).finish_non_exhaustive()
    }
}

/// One published version, held by a reader; dereferences to the value.
pub struct Current<T> {
    version: Rc<Version<T>>,
}

impl<T> Current<T> {
    /// The version's number.
    pub fn number(&self) -> u64 {
        self.version.number
    }
}

impl<T> Clone for Current<T> {
    fn clone(&self) -> Self {
        Current { version: self.version.clone() }
    }
}

impl<T> Deref for Current<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.version.value.as_deref().expect("a version loses its value only when dropped")
    }
}

impl<T> fmt::Debug for Current<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Current").field("number", &self.number()).finish_non_exhaustive()
    }
}

struct Version<T> {
    // `None` only inside drop.
    value: Option<Arc<T>>,
    number: u64,
    returns: Rc<Returns<T>>,
}

impl<T> Drop for Version<T> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            self.returns.give(value);
        }
    }
}

/// A shard's end of the return ring.
struct Returns<T> {
    back: Sender<Arc<T>>,
    /// What the ring had no room for. Grows by at most one per published version.
    kept: RefCell<VecDeque<Arc<T>>>,
    kept_more: Notify,
}

impl<T> Returns<T> {
    fn give(&self, value: Arc<T>) {
        match self.back.try_send(value) {
            Ok(()) => (),
            Err(TrySendError::Full(value)) => {
                self.kept.borrow_mut().push_back(value);
                self.kept_more.notify_one();
            }
            // The reclaimer ends only after this sender; freeing here is the one thing left.
            Err(TrySendError::Disconnected(value)) => drop(value),
        }
    }

    /// Gives back what is kept, as far as there is room.
    fn give_kept(&self) {
        let kept = self.kept.take();
        kept.into_iter().for_each(|value| self.give(value));
    }

    /// Ready when it is time to give back what is kept; pending while nothing is.
    async fn retry(&self) {
        if self.kept.borrow().is_empty() {
            self.kept_more.notified().await;
        }
        time::sleep(limits::RETURN_RETRY).await;
    }
}
