//! Bounded queues between a shard and other threads. Nobody ever waits for the other side to make room: a full
//! queue is an answer, and it is counted.

use std::{
    fmt,
    future::poll_fn,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Poll, Waker},
    time::Duration,
};

use crossbeam_channel::{RecvTimeoutError, TryRecvError, TrySendError, bounded};

/// From any thread to one shard. Make it anywhere, send the receiving half to the shard.
///
/// # Panics
/// When `bound` is 0.
pub fn mailbox<T: Send>(bound: usize) -> (MailboxSender<T>, Mailbox<T>) {
    assert!(bound > 0, "a mailbox for nothing");
    let (sender, receiver) = bounded(bound);
    let bell = Arc::new(Bell::default());
    (MailboxSender { sender: Some(sender), bell: bell.clone() }, Mailbox { receiver, bell })
}

/// From a shard to another thread, which may block on it.
///
/// # Panics
/// When `bound` is 0.
pub fn outbox<T: Send>(bound: usize) -> (OutboxSender<T>, Outbox<T>) {
    assert!(bound > 0, "an outbox for nothing");
    let (sender, receiver) = bounded(bound);
    (OutboxSender { sender, refused: Arc::default() }, Outbox { receiver })
}

/// Why a message was not taken; it comes back with the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSent<T> {
    /// The queue is at its bound; counted.
    Full(T),
    /// The receiving half is gone.
    Closed(T),
}

/// Wakes a waiting shard; shared by the senders.
#[derive(Default)]
struct Bell {
    waiter: Mutex<Option<Waker>>,
    /// A waiter is in place: senders need not take the lock otherwise.
    awaited: AtomicBool,
    refused: AtomicU64,
}

impl Bell {
    fn ring(&self) {
        if self.awaited.swap(false, Ordering::SeqCst) {
            let waiter = self.waiter.lock().unwrap_or_else(PoisonError::into_inner).take();
            waiter.into_iter().for_each(Waker::wake);
        }
    }

    fn await_ring(&self, waker: &Waker) {
        *self.waiter.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker.clone());
        // After the waker is in place, before the caller looks at the queue once more: a message sent in between
        // rings.
        self.awaited.store(true, Ordering::SeqCst);
    }
}

/// The sending half of [`mailbox`], on any thread.
pub struct MailboxSender<T> {
    // Taken only by drop, which must close the channel before it rings.
    sender: Option<crossbeam_channel::Sender<T>>,
    bell: Arc<Bell>,
}

impl<T> MailboxSender<T> {
    /// Leaves a message if there is room. Never blocks.
    ///
    /// # Errors
    /// [`NotSent`], with the message.
    pub fn try_send(&self, message: T) -> Result<(), NotSent<T>> {
        let Some(sender) = &self.sender else { return Err(NotSent::Closed(message)) };
        match sender.try_send(message) {
            Ok(()) => {
                self.bell.ring();
                Ok(())
            }
            Err(TrySendError::Full(message)) => {
                self.bell.refused.fetch_add(1, Ordering::Relaxed);
                Err(NotSent::Full(message))
            }
            Err(TrySendError::Disconnected(message)) => Err(NotSent::Closed(message)),
        }
    }

    /// Messages refused because the mailbox was full, by all senders.
    pub fn refused(&self) -> u64 {
        self.bell.refused.load(Ordering::Relaxed)
    }
}

impl<T> Clone for MailboxSender<T> {
    fn clone(&self) -> Self {
        MailboxSender { sender: self.sender.clone(), bell: self.bell.clone() }
    }
}

impl<T> Drop for MailboxSender<T> {
    fn drop(&mut self) {
        self.sender = None;
        // The last sender's end is news to the receiver; an earlier one's costs it a poll.
        self.bell.ring();
    }
}

impl<T> fmt::Debug for MailboxSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MailboxSender").finish_non_exhaustive()
    }
}

/// The receiving half of [`mailbox`], for one task of a shard.
pub struct Mailbox<T> {
    receiver: crossbeam_channel::Receiver<T>,
    bell: Arc<Bell>,
}

impl<T> Mailbox<T> {
    /// The next message; `None` when it is empty and all senders are gone. Dropping the future loses nothing.
    pub async fn recv(&mut self) -> Option<T> {
        poll_fn(|cx| {
            match self.receiver.try_recv() {
                Ok(message) => return Poll::Ready(Some(message)),
                Err(TryRecvError::Disconnected) => return Poll::Ready(None),
                Err(TryRecvError::Empty) => self.bell.await_ring(cx.waker()),
            }
            match self.receiver.try_recv() {
                Ok(message) => Poll::Ready(Some(message)),
                Err(TryRecvError::Disconnected) => Poll::Ready(None),
                Err(TryRecvError::Empty) => Poll::Pending,
            }
        })
        .await
    }

    /// The next message, if one is there.
    pub fn try_recv(&mut self) -> Option<T> {
        self.receiver.try_recv().ok()
    }
}

impl<T> fmt::Debug for Mailbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").finish_non_exhaustive()
    }
}

/// The sending half of [`outbox`]. On a shard; clones share the bound and the count.
pub struct OutboxSender<T> {
    sender: crossbeam_channel::Sender<T>,
    refused: Arc<AtomicU64>,
}

impl<T> OutboxSender<T> {
    /// Leaves a message if there is room. Never blocks.
    ///
    /// # Errors
    /// [`NotSent`], with the message.
    pub fn try_send(&self, message: T) -> Result<(), NotSent<T>> {
        self.sender.try_send(message).map_err(|error| match error {
            TrySendError::Full(message) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                NotSent::Full(message)
            }
            TrySendError::Disconnected(message) => NotSent::Closed(message),
        })
    }

    /// Messages refused because the outbox was full.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

impl<T> Clone for OutboxSender<T> {
    fn clone(&self) -> Self {
        OutboxSender { sender: self.sender.clone(), refused: self.refused.clone() }
    }
}

impl<T> fmt::Debug for OutboxSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboxSender").finish_non_exhaustive()
    }
}

/// The receiving half of [`outbox`], on a thread that may block.
pub struct Outbox<T> {
    receiver: crossbeam_channel::Receiver<T>,
}

impl<T> Outbox<T> {
    /// Blocks until there is a message; `None` when all senders are gone.
    pub fn recv(&self) -> Option<T> {
        self.receiver.recv().ok()
    }

    /// Blocks for at most `length`; `Ok(None)` when all senders are gone.
    ///
    /// # Errors
    /// [`crate::time::Elapsed`] when nothing came.
    pub fn recv_timeout(&self, length: Duration) -> Result<Option<T>, crate::time::Elapsed> {
        match self.receiver.recv_timeout(length) {
            Ok(message) => Ok(Some(message)),
            Err(RecvTimeoutError::Disconnected) => Ok(None),
            Err(RecvTimeoutError::Timeout) => Err(crate::time::Elapsed),
        }
    }

    /// The next message, if one is there.
    pub fn try_recv(&self) -> Option<T> {
        self.receiver.try_recv().ok()
    }
}

impl<T> fmt::Debug for Outbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbox").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_past_the_bound_is_refused_and_counted() {
        let (sender, mut mailbox) = mailbox(2);
        sender.try_send(1).unwrap();
        sender.clone().try_send(2).unwrap();
        assert_eq!(sender.try_send(3), Err(NotSent::Full(3)));
        assert_eq!(sender.refused(), 1);
        assert_eq!((mailbox.try_recv(), mailbox.try_recv(), mailbox.try_recv()), (Some(1), Some(2), None));
        drop(mailbox);
        assert_eq!(sender.try_send(4), Err(NotSent::Closed(4)));
    }

    #[test]
    fn full_outbox_never_blocks_the_shard() {
        let (sender, outbox) = outbox(1);
        sender.try_send(1).unwrap();
        assert_eq!(sender.try_send(2), Err(NotSent::Full(2)));
        assert_eq!(sender.refused(), 1);
        assert_eq!(outbox.recv(), Some(1));
        drop(sender);
        assert_eq!(outbox.recv(), None);
    }
}
