//! Tasks: futures that run beside the one that started them, on the same shard.

use std::{
    cell::Cell,
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use pin_project_lite::pin_project;

use crate::{core, executor::Ending, waker::TaskName};

/// Starts a task on this shard. It runs whether or not the handle is kept; it ends when it is ready, panics, is
/// aborted, or the shard ends. At `tasks_max` the future is dropped, counted, and the handle says
/// [`TaskError::Refused`].
///
/// # Panics
/// Outside a shard.
pub fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    let core = core::current();
    let join = Rc::new(Join { result: Cell::new(None), waiter: Cell::new(None) });
    let task = core.executor.spawn(Box::pin(Joined { future, finish: Finish { join: join.clone() } }));
    if task.is_none() {
        core.stats.tasks_refused.add(1);
        join.result.set(Some(Err(TaskError::Refused)));
    }
    JoinHandle { join, task }
}

/// Lets the other ready tasks of the shard run first.
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Waits for a task's result, on the same shard. Dropping it lets the task run on.
pub struct JoinHandle<T> {
    join: Rc<Join<T>>,
    task: Option<TaskName>,
}

impl<T> JoinHandle<T> {
    /// Drops the task's future where it stands; `await` then says [`TaskError::Aborted`]. Nothing happens when it
    /// has ended.
    pub fn abort(&self) {
        if let (Some(task), Some(core)) = (self.task, core::try_current()) {
            core.executor.abort(task);
        }
    }

    /// The task has ended, in whatever way, and its result has not been taken.
    pub fn is_finished(&self) -> bool {
        let result = self.join.result.take();
        let finished = result.is_some();
        self.join.result.set(result);
        finished
    }
}

impl<T> fmt::Debug for JoinHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinHandle").field("task", &self.task).finish()
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = Result<T, TaskError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(result) = self.join.result.take() {
            return Poll::Ready(result);
        }
        self.join.waiter.set(Some(cx.waker().clone()));
        Poll::Pending
    }
}

/// Why a task gave no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    /// It was aborted, or its shard ended.
    #[error("the task was aborted")]
    Aborted,
    /// It panicked; the panic was counted and its message printed by the panic hook.
    #[error("the task panicked")]
    Panicked,
    /// It was not started: the shard has `tasks_max` tasks.
    #[error("the shard has as many tasks as it may have")]
    Refused,
}

struct Join<T> {
    result: Cell<Option<Result<T, TaskError>>>,
    waiter: Cell<Option<Waker>>,
}

impl<T> Join<T> {
    fn finish(&self, result: Result<T, TaskError>) {
        self.result.set(Some(result));
        if let Some(waiter) = self.waiter.take() {
            waiter.wake();
        }
    }
}

/// Tells the handle of an end without result.
struct Finish<T> {
    join: Rc<Join<T>>,
}

impl<T> Drop for Finish<T> {
    fn drop(&mut self) {
        let ending = core::try_current().map_or(Ending::Aborted, |core| core.executor.ending());
        let present = self.join.result.take();
        match (present, ending) {
            (Some(result), _) => self.join.result.set(Some(result)),
            (None, Ending::Aborted) => self.join.finish(Err(TaskError::Aborted)),
            (None, Ending::Panicked) => self.join.finish(Err(TaskError::Panicked)),
        }
    }
}

pin_project! {
    // An async block would hold the future twice.
    struct Joined<F: Future> {
        #[pin]
        future: F,
        finish: Finish<F::Output>,
    }
}

impl<F: Future> Future for Joined<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        this.future.poll(cx).map(|output| this.finish.join.finish(Ok(output)))
    }
}
