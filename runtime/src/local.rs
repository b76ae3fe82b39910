//! Signals and queues between tasks of one shard: cells and `Rc`, no atomics. To reach a shard from another
//! thread use [`crate::mailbox`].

mod channel;
mod notify;
mod oneshot;

pub use self::{
    channel::{NotSent, Receiver, Sender, channel},
    notify::{Notified, Notify},
    oneshot::{Closed, OneReceiver, OneSender, oneshot},
};
