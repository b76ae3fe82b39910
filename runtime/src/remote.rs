//! The part of a shard that other threads may touch: woken tasks, orders, and one eventfd that ends its sleep on
//! either engine.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::{limits, waker::TaskName};

/// The part of a shard that other threads may touch.
#[derive(Debug)]
pub(crate) struct Remote {
    slot: u16,
    event: EventFd,
    /// An event is on its way: further wake-ups need no system call.
    signaled: AtomicBool,
    woken: Mutex<Woken>,
    orders: AtomicU8,
}

#[derive(Debug, Default)]
struct Woken {
    tasks: Vec<TaskName>,
    all: bool,
}

/// What another thread asks of the whole shard; a set of bits.
pub(crate) mod order {
    /// Begin to drain.
    pub(crate) const DRAIN: u8 = 1;
    /// End at once, dropping all tasks.
    pub(crate) const STOP: u8 = 2;
}

impl Remote {
    /// Registers a shard in the process.
    pub(crate) fn register() -> io::Result<Arc<Self>> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        let mut slots = slots();
        let slot = match slots.iter().position(|entry| entry.strong_count() == 0) {
            Some(free) => free,
            None => {
                slots.push(Weak::new());
                slots.len() - 1
            }
        };
        let slot_id = u16::try_from(slot).map_err(|_| io::Error::other("more than 65,536 shards"))?;
        let remote = Arc::new(Remote {
            slot: slot_id,
            event,
            signaled: AtomicBool::new(false),
            woken: Mutex::default(),
            orders: AtomicU8::new(0),
        });
        slots[slot] = Arc::downgrade(&remote);
        Ok(remote)
    }

    pub(crate) fn slot(&self) -> u16 {
        self.slot
    }

    /// A second descriptor of the event, for the shard's driver to watch.
    pub(crate) fn event_descriptor(&self) -> io::Result<OwnedFd> {
        self.event.as_fd().try_clone_to_owned()
    }

    /// Wakes a task from another thread.
    pub(crate) fn wake(&self, task: TaskName) {
        let mut woken = self.lock();
        if woken.tasks.len() < limits::REMOTE_WAKES_MAX {
            woken.tasks.push(task);
        } else {
            woken.all = true;
        }
        drop(woken);
        self.signal();
    }

    pub(crate) fn give_order(&self, order: u8) {
        self.orders.fetch_or(order, Ordering::AcqRel);
        self.signal();
    }

    pub(crate) fn orders(&self) -> u8 {
        self.orders.load(Ordering::Acquire)
    }

    fn signal(&self) {
        if !self.signaled.swap(true, Ordering::AcqRel) {
            // The counter is at most 1, so the only error would be a closed descriptor, and we own it.
            let _ = self.event.write(1);
        }
    }

    /// Takes what came since the last call: the tasks woken, and whether all tasks must be polled.
    pub(crate) fn take(&self, tasks: &mut Vec<TaskName>) -> bool {
        // EAGAIN when nothing came; the count itself does not matter.
        let _ = self.event.read();
        // Cleared before the list is read: a wake-up that comes in between signals again.
        self.signaled.store(false, Ordering::Release);
        let mut woken = self.lock();
        tasks.append(&mut woken.tasks);
        std::mem::take(&mut woken.all)
    }

    fn lock(&self) -> MutexGuard<'_, Woken> {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shards of the process by slot. Locked when a shard starts and by wake-ups from foreign threads.
fn slots() -> MutexGuard<'static, Vec<Weak<Remote>>> {
    static SLOTS: Mutex<Vec<Weak<Remote>>> = Mutex::new(Vec::new());
    SLOTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The shard in a slot, if it runs.
pub(crate) fn remote_of(slot: u16) -> Option<Arc<Remote>> {
    slots().get(usize::from(slot)).and_then(Weak::upgrade)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wake_ups_past_the_bound_become_one_poll_of_all() {
        let remote = Remote::register().unwrap();
        for index in 0..limits::REMOTE_WAKES_MAX as u32 + 1 {
            remote.wake(TaskName { shard_slot: remote.slot(), generation: 0, index });
        }
        let mut tasks = Vec::new();
        assert!(remote.take(&mut tasks));
        assert_eq!(tasks.len(), limits::REMOTE_WAKES_MAX);
        assert!(!remote.take(&mut tasks));
    }
}
