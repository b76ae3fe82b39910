//! What one shard owns, reachable from its thread, and the root future that runs it.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use crate::{
    buffers::BlockPool,
    engine::Engine,
    executor::{Executor, Ran},
    limits::{self, ShardLimits},
    local::Notify,
    reactor::{DriverPass, LoopTimer, Watched},
    remote::{Remote, order},
    shard::ShardId,
    stats::ShardStats,
    time,
    waker::TaskName,
    wheel::Wheel,
};

/// One tick of the timer wheel.
const TICK: Duration = Duration::from_millis(1);

/// A shard. Never leaves its thread.
pub(crate) struct Core {
    pub(crate) id: ShardId,
    pub(crate) engine: Engine,
    pub(crate) limits: ShardLimits,
    pub(crate) stats: Arc<ShardStats>,
    pub(crate) executor: Executor,
    pub(crate) blocks: Rc<BlockPool>,
    pub(crate) draining: Cell<bool>,
    pub(crate) drain: Notify,
    pub(crate) connections: Cell<u32>,
    remote: Arc<Remote>,
    wheel: RefCell<Wheel>,
    started: Instant,
    now: Cell<Instant>,
    in_turn: Cell<bool>,
    root: RefCell<Option<Waker>>,
}

thread_local! {
    static CORE: RefCell<Option<Rc<Core>>> = const { RefCell::new(None) };
}

/// The shard of this thread.
///
/// # Panics
/// Outside a shard: the caller is not written for this thread.
pub(crate) fn current() -> Rc<Core> {
    try_current().expect("this function runs on a shard only (Shards::start or run_local)")
}

/// [`current`] for a look that keeps nothing: without counting a reference up and down.
///
/// # Panics
/// As [`current`].
pub(crate) fn with_current<T>(look: impl FnOnce(&Core) -> T) -> T {
    CORE.with(|core| {
        look(core.borrow().as_ref().expect("this function runs on a shard only (Shards::start or run_local)"))
    })
}

/// The shard of this thread, if it is one.
pub(crate) fn try_current() -> Option<Rc<Core>> {
    CORE.try_with(|core| core.borrow().clone()).ok().flatten()
}

/// Wakes a task of this thread's shard; `false` when it belongs to another.
pub(crate) fn wake_local(task: TaskName) -> bool {
    CORE.try_with(|core| match &*core.borrow() {
        Some(core) if core.remote.slot() == task.shard_slot => {
            core.wake(task);
            true
        }
        _ => false,
    })
    .unwrap_or(false)
}

impl Core {
    pub(crate) fn new(
        id: ShardId,
        engine: Engine,
        limits: ShardLimits,
        stats: Arc<ShardStats>,
        remote: Arc<Remote>,
    ) -> Self {
        let now = time::precise_now();
        Core {
            id,
            engine,
            limits,
            executor: Executor::new(remote.slot(), limits.tasks_max),
            blocks: Rc::new(BlockPool::new(limits.blocks_max, stats.clone())),
            draining: Cell::new(false),
            drain: Notify::new(),
            connections: Cell::new(0),
            stats,
            remote,
            wheel: RefCell::new(Wheel::new()),
            started: now,
            now: Cell::new(now),
            in_turn: Cell::new(false),
            root: RefCell::default(),
        }
    }

    /// The time at which the present turn's batch began.
    pub(crate) fn now(&self) -> Instant {
        self.now.get()
    }

    pub(crate) fn wheel(&self) -> &RefCell<Wheel> {
        &self.wheel
    }

    /// The tick at which a timer for this time fires: the first not before it.
    pub(crate) fn tick_of(&self, deadline: Instant) -> u64 {
        let since = deadline.saturating_duration_since(self.started);
        u64::try_from(since.as_nanos().div_ceil(TICK.as_nanos())).unwrap_or(u64::MAX)
    }

    fn wake(&self, task: TaskName) {
        self.executor.wake(task);
        if !self.in_turn.get()
            && let Some(root) = &*self.root.borrow()
        {
            root.wake_by_ref();
        }
    }

    fn fire_timers(&self) {
        let elapsed = self.now().saturating_duration_since(self.started);
        let tick = (elapsed.as_nanos() / TICK.as_nanos()) as u64;
        self.wheel.borrow_mut().advance(tick, Waker::wake);
        self.stats.timers.set(self.wheel.borrow().len() as u64);
    }

    fn take_remote(&self) {
        let mut woken = Vec::new();
        if self.remote.take(&mut woken) {
            self.executor.wake_all();
        }
        woken.into_iter().for_each(|task| self.executor.wake(task));
        if self.remote.orders() & order::DRAIN != 0 && !self.draining.replace(true) {
            self.drain.notify_all();
        }
    }
}

/// Runs a shard until its main task ends or it is told to stop.
pub(crate) struct Root {
    core: Rc<Core>,
    main_ended: Rc<Cell<bool>>,
    event: Watched,
    timer: LoopTimer,
    pass: DriverPass,
}

impl Root {
    pub(crate) fn new(core: Rc<Core>, main_ended: Rc<Cell<bool>>) -> std::io::Result<Self> {
        Ok(Root {
            event: Watched::new(core.remote.event_descriptor()?, core.engine)?,
            timer: LoopTimer::new(),
            pass: DriverPass::new(core.engine)?,
            core,
            main_ended,
        })
    }
}

impl Future for Root {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let core = &*this.core;
        core.in_turn.set(true);
        core.root.borrow_mut().get_or_insert_with(|| cx.waker().clone());
        core.stats.turns.add(1);
        core.now.set(time::precise_now());
        let mut event_failed = false;
        while let Poll::Ready(result) = this.event.poll_readable(cx) {
            core.take_remote();
            if result.is_err() {
                // Out of kernel memory for the wait, at most; it is set up again after a pass of the driver.
                event_failed = true;
                break;
            }
        }
        core.fire_timers();
        for _ in 0..limits::TASKS_PER_TURN {
            match core.executor.run_next() {
                Ran::Nothing => break,
                Ran::Pending | Ran::Ended => (),
                Ran::Panicked => core.stats.task_panics.add(1),
            }
        }
        core.stats.tasks.set(u64::from(core.executor.alive()));
        if this.main_ended.get() || core.remote.orders() & order::STOP != 0 {
            return Poll::Ready(());
        }
        if core.executor.has_ready() || event_failed {
            this.pass.request(cx.waker());
        } else if let Some(tick) = core.wheel.borrow().next_tick() {
            let deadline = core.started + TICK * u32::try_from(tick).unwrap_or(u32::MAX);
            this.timer.poll_at(deadline, core.now(), cx);
        }
        core.in_turn.set(false);
        Poll::Pending
    }
}

/// Makes `core` the shard of this thread until the guard is dropped, which drops the shard's tasks first.
pub(crate) struct Entered(());

impl Entered {
    /// # Panics
    /// When this thread is a shard already.
    pub(crate) fn new(core: Rc<Core>) -> Self {
        let previous = CORE.with(|slot| slot.borrow_mut().replace(core));
        assert!(previous.is_none(), "a shard cannot start on a shard's thread");
        Entered(())
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Some(core) = try_current() {
            let panics = core.executor.clear();
            core.stats.task_panics.add(panics);
            core.stats.tasks.set(0);
            CORE.with(|slot| slot.borrow_mut().take());
        }
    }
}
