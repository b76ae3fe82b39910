//! Time on a shard: a clock read once per turn, and timers on the shard's wheel.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use pin_project_lite::pin_project;

use crate::{core, wheel::TimerKey};

/// The time at which the present turn of the loop began. Costs no system call; behind the true time by as long
/// as the turn has run (tens of microseconds on a busy shard). For deadlines and idle times.
///
/// # Panics
/// Outside a shard.
pub fn now() -> Instant {
    core::with_current(|core| core.now())
}

/// The true time, about 25 ns. For latencies that are reported.
pub fn precise_now() -> Instant {
    #[cfg(feature = "sim")]
    return crate::sim::now();
    #[cfg(not(feature = "sim"))]
    Instant::now()
}

/// Waits for a length of time; see [`sleep_until`].
pub fn sleep(length: Duration) -> Sleep {
    let now = precise_now();
    // Far enough to mean never, near enough not to overflow.
    sleep_until(now.checked_add(length).unwrap_or(now + NEVER))
}

/// Waits until a point in time. Never early; late by up to 2 ms (one tick of the wheel and one of the driver)
/// and by what the shard is busy with. Takes its place in the wheel at the first poll and leaves it when dropped.
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep { deadline, timer: None }
}

/// Lets `future` run for at most `length`; then it is dropped and the answer is [`Elapsed`]. A future that is
/// ready at its last moment wins.
pub fn timeout<F: Future>(length: Duration, future: F) -> Timeout<F> {
    Timeout { future, sleep: sleep(length) }
}

/// As [`timeout`], with a point in time.
pub fn timeout_at<F: Future>(deadline: Instant, future: F) -> Timeout<F> {
    Timeout { future, sleep: sleep_until(deadline) }
}

const NEVER: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// See [`sleep_until`].
#[derive(Debug)]
#[must_use = "a timer that is not awaited does nothing"]
pub struct Sleep {
    deadline: Instant,
    timer: Option<TimerKey>,
}

impl Sleep {
    /// When it ends.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Moves the end, as for an idle timeout when bytes moved. The next poll sets the timer again.
    pub fn reset(&mut self, deadline: Instant) {
        self.leave_wheel();
        self.deadline = deadline;
    }

    fn leave_wheel(&mut self) {
        if let Some(timer) = self.timer.take()
            && let Some(core) = core::try_current()
        {
            core.wheel().borrow_mut().cancel(timer);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if now() >= self.deadline {
            self.leave_wheel();
            return Poll::Ready(());
        }
        core::with_current(|core| {
            let mut wheel = core.wheel().borrow_mut();
            if !self.timer.is_some_and(|timer| wheel.replace_waker(timer, cx.waker())) {
                self.timer = Some(wheel.insert(core.tick_of(self.deadline), cx.waker().clone()));
            }
        });
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.leave_wheel();
    }
}

pin_project! {
    /// See [`timeout`].
    #[must_use = "futures do nothing unless awaited"]
    pub struct Timeout<F> {
        #[pin]
        future: F,
        sleep: Sleep,
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        Pin::new(this.sleep).poll(cx).map(|()| Err(Elapsed))
    }
}

/// The time ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("timed out")
    }
}

impl std::error::Error for Elapsed {}

impl From<Elapsed> for std::io::Error {
    fn from(elapsed: Elapsed) -> Self {
        std::io::Error::new(std::io::ErrorKind::TimedOut, elapsed)
    }
}
