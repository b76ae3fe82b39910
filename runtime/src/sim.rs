//! A driver for tests that draws what the kernel decides: one thread, and from one number the order in which tasks run
//! and sockets become ready, how much a receive or send moves, how long a socket stalls, and what time it is.
//!
//! Only with the feature `sim`, which tests ask for; without it nothing of this is compiled. What is simulated is the
//! driver below `reactor.rs` and the clock; everything above runs as it does in production, system calls on sockets
//! included. Those are deterministic where the simulated parties speak through Unix sockets: within one thread the
//! kernel moves their bytes in the call itself. (Loopback TCP may leave them to another thread.)
//!
//! The clock jumps to the next timer when nothing can run. When there is no timer either, nothing can ever happen again,
//! and [`run`] says so: a test that ends has shown that nothing was stuck.

use std::{
    cell::{Cell, RefCell},
    future::Future,
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd, RawFd},
    pin::pin,
    rc::{Rc, Weak},
    sync::Arc,
    sync::atomic::{AtomicBool, Ordering},
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// What is drawn, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Everything follows from it.
    pub seed: u64,
    /// Receives and sends that move less than they could, percent.
    pub short_percent: u32,
    /// Sends that find no room though there is some, percent.
    pub blocked_percent: u32,
    /// Ready sockets that are left alone for a while, percent.
    pub stall_percent: u32,
    /// The longest such while.
    pub stall_max: Duration,
    /// Turns of the loop after which the run counts as one that never ends.
    pub turns_max: u64,
}

impl Plan {
    /// A rough network.
    pub fn rough(seed: u64) -> Plan {
        Plan {
            seed,
            short_percent: 40,
            blocked_percent: 10,
            stall_percent: 10,
            stall_max: Duration::from_millis(40),
            turns_max: 2_000_000,
        }
    }
}

/// What a run was.
#[derive(Debug)]
pub struct Ran<T> {
    /// What the main task gave; `None` when it panicked.
    pub output: Option<T>,
    /// A hash over everything that was drawn and moved, with its time: the same plan and program give the same.
    pub trace: u64,
    /// Simulated time that passed.
    pub elapsed: Duration,
    /// Panics of tasks other than the main one, and in drops.
    pub panics: u64,
}

/// Why a run did not end by itself.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// No task can run, no socket is ready and no timer is set, yet the main task waits.
    #[error("stuck after {elapsed:?}: nothing can ever happen again")]
    Stuck {
        /// Simulated time that had passed.
        elapsed: Duration,
    },
    /// [`Plan::turns_max`].
    #[error("not at its end after {turns} turns")]
    Endless {
        /// How many.
        turns: u64,
    },
    /// The process has no descriptors left.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// Runs a shard on this thread under `plan` until `main` ends.
///
/// # Errors
/// [`Failed`].
///
/// # Panics
/// On a thread that is a shard.
pub fn run<M, F>(plan: Plan, main: M) -> Result<Ran<F::Output>, Failed>
where
    M: FnOnce() -> F,
    F: Future + 'static,
    F::Output: 'static,
{
    fastrand::seed(plan.seed);
    let driver = Rc::new(Driver::new(plan));
    let previous = DRIVER.with(|slot| slot.replace(Some(driver.clone())));
    assert!(previous.is_none(), "a simulation cannot start within one");
    let _left = Left;
    let output = Rc::new(Cell::new(None));
    let result = output.clone();
    let body = move || {
        let future = main();
        async move { result.set(Some(future.await)) }
    };
    let (life, stats) = crate::shard::simulated(body)?;
    driver.block_on(life)??;
    Ok(Ran {
        output: output.take(),
        trace: driver.trace.get(),
        elapsed: driver.elapsed.get(),
        panics: stats.task_panics.get(),
    })
}

thread_local! {
    static DRIVER: RefCell<Option<Rc<Driver>>> = const { RefCell::new(None) };
}

struct Left;

impl Drop for Left {
    fn drop(&mut self) {
        DRIVER.with(|slot| slot.take());
    }
}

/// The driver of this thread, if it is simulated.
pub(crate) fn driver() -> Option<Rc<Driver>> {
    DRIVER.with(|slot| slot.borrow().clone())
}

/// How much of `length` bytes an operation may move: at least one, if there is any.
pub(crate) fn cut(length: usize) -> usize {
    match driver() {
        Some(driver) if length > 1 && driver.chance(driver.plan.short_percent) => {
            // Small pieces find more than halves do.
            let most = if driver.chance(50) { length.min(16) } else { length };
            let cut = driver.below(most as u64) as usize + 1;
            driver.note(&[1, cut as u64]);
            cut
        }
        _ => length,
    }
}

/// Whether a send is to find no room.
pub(crate) fn blocks() -> bool {
    driver().is_some_and(|driver| driver.chance(driver.plan.blocked_percent))
}

/// Which of `count` ready tasks runs next.
pub(crate) fn choose(count: usize) -> usize {
    match driver() {
        Some(driver) if count > 1 => {
            let chosen = driver.below(count as u64) as usize;
            driver.note(&[2, chosen as u64]);
            chosen
        }
        _ => 0,
    }
}

/// The time, simulated or true.
pub(crate) fn now() -> Instant {
    driver().map_or_else(Instant::now, |driver| driver.now())
}

/// The simulated kernel.
pub(crate) struct Driver {
    plan: Plan,
    random: RefCell<fastrand::Rng>,
    begun: Instant,
    elapsed: Cell<Duration>,
    timer: Cell<Option<Instant>>,
    again: Cell<bool>,
    sockets: RefCell<Vec<Weak<Socket>>>,
    opened: Cell<u64>,
    trace: Cell<u64>,
}

/// The two things that are waited for.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    Read = 0,
    Write = 1,
}

/// A descriptor that the driver watches.
pub(crate) struct Socket {
    descriptor: OwnedFd,
    number: u64,
    granted: [Cell<bool>; 2],
    waiting: [RefCell<Option<Waker>>; 2],
    stalled_until: Cell<Duration>,
}

struct RootWaker(AtomicBool);

impl Wake for RootWaker {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Driver {
    fn new(plan: Plan) -> Driver {
        Driver {
            plan,
            random: RefCell::new(fastrand::Rng::with_seed(plan.seed ^ 0x9e37_79b9_7f4a_7c15)),
            begun: Instant::now(),
            elapsed: Cell::default(),
            timer: Cell::default(),
            again: Cell::default(),
            sockets: RefCell::default(),
            opened: Cell::default(),
            trace: Cell::new(0xcbf2_9ce4_8422_2325),
        }
    }

    pub(crate) fn now(&self) -> Instant {
        self.begun + self.elapsed.get()
    }

    pub(crate) fn watch(&self, descriptor: OwnedFd) -> Rc<Socket> {
        let number = self.opened.get();
        self.opened.set(number + 1);
        let socket = Rc::new(Socket {
            descriptor,
            number,
            granted: Default::default(),
            waiting: Default::default(),
            stalled_until: Cell::default(),
        });
        self.sockets.borrow_mut().push(Rc::downgrade(&socket));
        socket
    }

    /// The loop's one timer.
    pub(crate) fn poll_at(&self, deadline: Instant) {
        self.timer.set(Some(deadline));
    }

    /// The root wants another turn.
    pub(crate) fn turn_again(&self) {
        self.again.set(true);
    }

    fn chance(&self, percent: u32) -> bool {
        self.random.borrow_mut().u32(..100) < percent
    }

    fn below(&self, bound: u64) -> u64 {
        self.random.borrow_mut().u64(..bound)
    }

    /// FNV-1a over numbers.
    fn note(&self, event: &[u64]) {
        let bytes = event.iter().flat_map(|number| number.to_le_bytes());
        let hash =
            bytes.fold(self.trace.get(), |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        self.trace.set(hash);
    }

    fn block_on<F: Future>(&self, root: F) -> Result<F::Output, Failed> {
        let mut root = pin!(root);
        let woken = Arc::new(RootWaker(AtomicBool::new(false)));
        let waker = Waker::from(woken.clone());
        for _ in 0..self.plan.turns_max {
            self.timer.set(None);
            self.again.set(false);
            if let Poll::Ready(output) = root.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Ok(output);
            }
            // A turn takes time.
            self.elapsed.set(self.elapsed.get() + Duration::from_micros(self.below(50) + 1));
            let wants = woken.0.swap(false, Ordering::Relaxed) || self.again.get();
            if !self.grant() && !wants {
                self.jump()?;
            }
        }
        Err(Failed::Endless { turns: self.plan.turns_max })
    }

    /// Tells some of the sockets that are ready; `false` when there is none.
    fn grant(&self) -> bool {
        self.sockets.borrow_mut().retain(|socket| socket.strong_count() > 0);
        let sockets: Vec<Rc<Socket>> = self.sockets.borrow().iter().filter_map(Weak::upgrade).collect();
        let mut ready: Vec<(Rc<Socket>, Side)> = Vec::new();
        for socket in sockets.into_iter().filter(|socket| socket.stalled_until.get() <= self.elapsed.get()) {
            for side in socket.ready_sides() {
                ready.push((socket.clone(), side));
            }
        }
        if ready.is_empty() {
            return false;
        }
        self.random.borrow_mut().shuffle(&mut ready);
        let told = self.below(ready.len() as u64) as usize + 1;
        let mut any = false;
        for (socket, side) in ready.into_iter().take(told) {
            // The first socket is the shard's own event, which is no network.
            if socket.number > 0 && self.chance(self.plan.stall_percent) {
                let length = Duration::from_micros(self.below(self.plan.stall_max.as_micros() as u64 + 1));
                self.note(&[3, socket.number, length.as_micros() as u64]);
                socket.stalled_until.set(self.elapsed.get() + length);
                continue;
            }
            self.note(&[4, socket.number, side as u64, self.elapsed.get().as_micros() as u64]);
            socket.granted[side as usize].set(true);
            if let Some(waker) = socket.waiting[side as usize].take() {
                waker.wake();
            }
            any = true;
        }
        any
    }

    /// Goes to the next point in time at which something can happen.
    fn jump(&self) -> Result<(), Failed> {
        let elapsed = self.elapsed.get();
        let timer = self.timer.get().map(|deadline| deadline.saturating_duration_since(self.begun));
        let stalls = self.sockets.borrow();
        let stalls =
            stalls.iter().filter_map(Weak::upgrade).filter(|socket| socket.ready_sides().next().is_some());
        let next = stalls.map(|socket| socket.stalled_until.get()).chain(timer).min();
        let next = next.ok_or(Failed::Stuck { elapsed })?;
        self.elapsed.set(elapsed.max(next));
        self.note(&[5, self.elapsed.get().as_micros() as u64]);
        Ok(())
    }
}

impl Socket {
    pub(crate) fn raw(&self) -> RawFd {
        self.descriptor.as_raw_fd()
    }

    pub(crate) fn poll(&self, side: Side, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.granted[side as usize].take() {
            return Poll::Ready(Ok(()));
        }
        self.waiting[side as usize].replace(Some(cx.waker().clone()));
        Poll::Pending
    }

    pub(crate) fn awaits(&self, side: Side) -> bool {
        self.granted[side as usize].get() || self.waiting[side as usize].borrow().is_some()
    }

    /// The sides that are waited for and would not block.
    fn ready_sides(&self) -> impl Iterator<Item = Side> {
        let waited = |side: Side| self.waiting[side as usize].borrow().is_some();
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::POLLIN, waited(Side::Read));
        flags.set(PollFlags::POLLOUT, waited(Side::Write));
        let mut asked = [PollFd::new(self.descriptor.as_fd(), flags)];
        let told = match flags.is_empty() {
            true => PollFlags::empty(),
            // An error of the call itself would be a closed descriptor, and we own it.
            false => poll(&mut asked, PollTimeout::ZERO)
                .ok()
                .and_then(|_| asked[0].revents())
                .unwrap_or(PollFlags::empty()),
        };
        let ended = PollFlags::POLLERR | PollFlags::POLLHUP;
        let sides = [(Side::Read, PollFlags::POLLIN), (Side::Write, PollFlags::POLLOUT)];
        sides
            .into_iter()
            .filter(move |(_, flag)| flags.contains(*flag) && told.intersects(*flag | ended))
            .map(|(side, _)| side)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{net::Stream, task, time};

    /// Twenty pairs that send each other bytes; gives what arrived.
    async fn talk() -> Vec<usize> {
        let mut ends = Vec::new();
        for _ in 0..20 {
            let (near, far) = Stream::pair().unwrap();
            drop(task::spawn(async move {
                near.send_all(&[7; 100_000]).await.unwrap();
                near.shutdown_write().unwrap();
            }));
            ends.push(task::spawn(async move {
                let mut sum = 0;
                loop {
                    let bytes = far.recv(4096).await.unwrap();
                    if bytes.is_empty() {
                        return sum;
                    }
                    sum += bytes.len();
                }
            }));
        }
        let mut sums = Vec::new();
        for end in ends {
            sums.push(end.await.unwrap());
        }
        sums
    }

    #[test]
    fn the_same_seed_gives_the_same_trace_and_another_seed_another() {
        let ran = |seed| run(Plan::rough(seed), talk).unwrap();
        let (first, second, other) = (ran(1), ran(1), ran(2));
        assert_eq!(first.output, Some(vec![100_000; 20]));
        assert_eq!((first.trace, first.elapsed), (second.trace, second.elapsed));
        assert_ne!(first.trace, other.trace);
    }

    #[test]
    fn the_clock_jumps_over_sleeps() {
        let began = Instant::now();
        let ran = run(Plan::rough(1), || time::sleep(Duration::from_secs(3600))).unwrap();
        assert!(ran.elapsed >= Duration::from_secs(3600), "{:?}", ran.elapsed);
        assert!(began.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn waiting_for_nobody_is_stuck() {
        let main = || async {
            let (near, _far) = Stream::pair().unwrap();
            let _ = near.recv(1).await;
        };
        assert!(matches!(run(Plan::rough(1), main), Err(Failed::Stuck { .. })));
    }
}
