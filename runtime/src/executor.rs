//! The run queue and the tasks of one shard. A task is a boxed future in a slot; a panic in it ends that task
//! alone.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use crate::{
    limits,
    waker::{INDEX_MASK, TaskName},
};

type LocalFuture = Pin<Box<dyn Future<Output = ()>>>;

//   spawn ──► Queued ──► Running ──► Idle ──wake──► Queued
//                          │  └─wake─► Woken ─────► Queued
//                          └──ready, panic, abort──► Free
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Idle,
    Queued,
    Running,
    Woken,
    Aborted,
}

struct Slot {
    generation: u32,
    state: State,
    future: Option<LocalFuture>,
}

/// Why a future is being dropped before it was ready; read by its join handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Aborted,
    Panicked,
}

pub(crate) struct Executor {
    shard_slot: u16,
    tasks_max: u32,
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<u32>>,
    queue: RefCell<VecDeque<u32>>,
    ending: Cell<Ending>,
    operations_left: Cell<u32>,
    alive: Cell<u32>,
}

/// How a task's poll ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ran {
    Nothing,
    Pending,
    Ended,
    Panicked,
}

impl Executor {
    pub(crate) fn new(shard_slot: u16, tasks_max: u32) -> Self {
        Executor {
            shard_slot,
            tasks_max: tasks_max.min(INDEX_MASK),
            slots: RefCell::default(),
            free: RefCell::default(),
            queue: RefCell::default(),
            ending: Cell::new(Ending::Aborted),
            operations_left: Cell::new(limits::OPERATIONS_PER_POLL),
            alive: Cell::new(0),
        }
    }

    /// Takes a task; `None` (and the future dropped) when `tasks_max` are alive.
    pub(crate) fn spawn(&self, future: LocalFuture) -> Option<TaskName> {
        if self.alive.get() >= self.tasks_max {
            return None;
        }
        let recycled = self.free.borrow_mut().pop();
        let mut slots = self.slots.borrow_mut();
        let index = match recycled {
            Some(index) => index,
            None => {
                slots.push(Slot { generation: 0, state: State::Free, future: None });
                slots.len() as u32 - 1
            }
        };
        let slot = &mut slots[index as usize];
        slot.future = Some(future);
        slot.state = State::Queued;
        let name = TaskName { shard_slot: self.shard_slot, generation: slot.generation, index };
        drop(slots);
        self.queue.borrow_mut().push_back(index);
        self.alive.set(self.alive.get() + 1);
        Some(name)
    }

    /// Queues a task unless it is queued already or gone.
    pub(crate) fn wake(&self, name: TaskName) {
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots.get_mut(name.index as usize) else { return };
        if slot.generation != name.generation {
            return;
        }
        match slot.state {
            State::Idle => {
                slot.state = State::Queued;
                drop(slots);
                self.queue.borrow_mut().push_back(name.index);
            }
            State::Running => slot.state = State::Woken,
            State::Free | State::Queued | State::Woken | State::Aborted => (),
        }
    }

    /// Queues every task.
    pub(crate) fn wake_all(&self) {
        let names: Vec<TaskName> = (0u32..)
            .zip(self.slots.borrow().iter())
            .map(|(index, slot)| TaskName { shard_slot: self.shard_slot, generation: slot.generation, index })
            .collect();
        names.into_iter().for_each(|name| self.wake(name));
    }

    /// Drops a task's future: at once, or when its present poll returns.
    pub(crate) fn abort(&self, name: TaskName) {
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots.get_mut(name.index as usize) else { return };
        if slot.generation != name.generation {
            return;
        }
        match slot.state {
            State::Running | State::Woken => slot.state = State::Aborted,
            State::Idle | State::Queued => {
                drop(slots);
                self.end(name.index, Ending::Aborted);
            }
            State::Free | State::Aborted => (),
        }
    }

    /// Polls the task at the head of the queue.
    pub(crate) fn run_next(&self) -> Ran {
        let Some(index) = self.next() else { return Ran::Nothing };
        let (name, future) = {
            let mut slots = self.slots.borrow_mut();
            let slot = &mut slots[index as usize];
            if slot.state != State::Queued {
                // Aborted while queued; the slot may be idle in its next life.
                return Ran::Pending;
            }
            slot.state = State::Running;
            let name = TaskName { shard_slot: self.shard_slot, generation: slot.generation, index };
            (name, slot.future.take())
        };
        let Some(mut future) = future else { return Ran::Pending };
        self.operations_left.set(limits::OPERATIONS_PER_POLL);
        let waker = name.waker();
        let polled =
            catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut Context::from_waker(&waker))));
        let mut slots = self.slots.borrow_mut();
        let slot = &mut slots[index as usize];
        let (ran, ending) = match (polled, slot.state) {
            (Ok(Poll::Pending), State::Running) => {
                slot.state = State::Idle;
                slot.future = Some(future);
                return Ran::Pending;
            }
            (Ok(Poll::Pending), State::Woken) => {
                slot.state = State::Queued;
                slot.future = Some(future);
                drop(slots);
                self.queue.borrow_mut().push_back(index);
                return Ran::Pending;
            }
            (Ok(_), _) => (Ran::Ended, Ending::Aborted),
            (Err(_), _) => (Ran::Panicked, Ending::Panicked),
        };
        slot.future = Some(future);
        drop(slots);
        if self.end(index, ending) { ran } else { Ran::Panicked }
    }

    /// Takes the next task from the queue.
    fn next(&self) -> Option<u32> {
        let mut queue = self.queue.borrow_mut();
        #[cfg(feature = "sim")]
        let next = {
            let chosen = crate::sim::choose(queue.len());
            queue.remove(chosen)
        };
        #[cfg(not(feature = "sim"))]
        let next = queue.pop_front();
        next
    }

    /// Frees the slot and drops its future. `false` when the drop panicked.
    fn end(&self, index: u32, ending: Ending) -> bool {
        let future = {
            let mut slots = self.slots.borrow_mut();
            let slot = &mut slots[index as usize];
            slot.state = State::Free;
            slot.generation = (slot.generation + 1) & INDEX_MASK;
            slot.future.take()
        };
        // A drop may spawn, wake and abort, so no borrow is held here.
        self.ending.set(ending);
        let dropped = catch_unwind(AssertUnwindSafe(|| drop(future)));
        self.ending.set(Ending::Aborted);
        self.free.borrow_mut().push(index);
        self.alive.set(self.alive.get() - 1);
        dropped.is_ok()
    }

    /// Drops all tasks, and those that their drops spawn. Returns how many drops panicked.
    pub(crate) fn clear(&self) -> u64 {
        let mut panics = 0;
        loop {
            let next = self.slots.borrow().iter().position(|slot| slot.state != State::Free);
            let Some(index) = next else { return panics };
            if !self.end(index as u32, Ending::Aborted) {
                panics += 1;
            }
        }
    }

    pub(crate) fn has_ready(&self) -> bool {
        !self.queue.borrow().is_empty()
    }

    pub(crate) fn alive(&self) -> u32 {
        self.alive.get()
    }

    pub(crate) fn ending(&self) -> Ending {
        self.ending.get()
    }

    /// One socket operation of the running task; `false` when it must yield first.
    pub(crate) fn consume_operation(&self) -> bool {
        let left = self.operations_left.get();
        self.operations_left.set(left.saturating_sub(1));
        left > 0
    }
}

#[cfg(test)]
mod tests {
    use std::{future, rc::Rc};

    use super::*;

    fn executor() -> Executor {
        Executor::new(0, 4)
    }

    #[test]
    fn task_past_the_limit_is_refused() {
        let executor = executor();
        for _ in 0..4 {
            assert!(executor.spawn(Box::pin(future::pending())).is_some());
        }
        assert!(executor.spawn(Box::pin(future::pending())).is_none());
        assert_eq!(executor.alive(), 4);
    }

    #[test]
    fn panic_ends_its_task_only() {
        let executor = executor();
        executor.spawn(Box::pin(async { panic!("expected in this test") }));
        executor.spawn(Box::pin(async {}));
        assert_eq!(executor.run_next(), Ran::Panicked);
        assert_eq!(executor.run_next(), Ran::Ended);
        assert_eq!(executor.alive(), 0);
    }

    #[test]
    fn panic_in_a_drop_is_a_panic_of_the_task() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                panic!("expected in this test");
            }
        }
        let executor = executor();
        executor.spawn(Box::pin(async {
            let _bomb = Bomb;
            future::pending::<()>().await;
        }));
        executor.run_next();
        assert_eq!(executor.clear(), 1);
        assert_eq!(executor.alive(), 0);
    }

    #[test]
    fn stale_name_wakes_and_aborts_nothing() {
        let executor = executor();
        let name = executor.spawn(Box::pin(async {})).unwrap();
        executor.run_next();
        let next = executor.spawn(Box::pin(future::pending())).unwrap();
        assert_eq!(next.index, name.index);
        executor.run_next();
        executor.wake(name);
        assert!(!executor.has_ready());
        executor.abort(name);
        assert_eq!(executor.alive(), 1);
    }

    #[test]
    fn task_aborted_while_queued_is_not_polled() {
        let executor = executor();
        let name = executor.spawn(Box::pin(async { panic!("polled") })).unwrap();
        executor.abort(name);
        assert_eq!(executor.run_next(), Ran::Pending);
        assert_eq!(executor.run_next(), Ran::Nothing);
    }

    #[test]
    fn task_woken_during_its_poll_runs_again() {
        let executor = Rc::new(executor());
        let inner = executor.clone();
        let polls = Rc::new(Cell::new(0));
        let seen = polls.clone();
        let name = Rc::new(Cell::new(None));
        let own_name = name.clone();
        name.set(executor.spawn(Box::pin(future::poll_fn(move |_| {
            seen.set(seen.get() + 1);
            if let Some(name) = own_name.get() {
                inner.wake(name);
            }
            if seen.get() == 3 { Poll::Ready(()) } else { Poll::Pending }
        }))));
        while executor.run_next() != Ran::Ended {}
        assert_eq!(polls.get(), 3);
    }
}
