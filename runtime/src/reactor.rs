//! The only module that names monoio. It gives the rest of the crate three things: a loop that drives one root
//! future, readiness of a descriptor, and a timer for the loop itself. A driver of our own replaces this file.
//!
//! Readiness, not completion: system calls are made on non-blocking sockets when the kernel says they will
//! succeed, so dropping any future of this crate at any await loses no byte. On io_uring a wait is a `POLL_ADD`,
//! on epoll it is an edge-triggered registration. On epoll monoio caches readiness, and only its own operations clear
//! the cache; ours are made behind its back. So each wait begins with `readable(false)`, which asks `poll(2)` and
//! clears the cache when the answer is no; from then on the cache is set by events alone and is asked without a
//! system call (`readable(true)`).

use std::{
    cell::{Cell, RefCell},
    future::Future,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::net::UnixStream as StdUnixStream,
    },
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use monoio::{
    FusionRuntime, IoUringDriver, LegacyDriver, RuntimeBuilder,
    net::UnixStream,
    time::{Instant as DriverInstant, Sleep, TimeDriver},
};
use pin_project_lite::pin_project;

#[cfg(feature = "sim")]
use crate::sim;
use crate::{
    engine::{self, Engine, EngineChoice, EngineError, EngineReport, RingConfig, RingFlags},
    limits,
};

/// One shard's event loop.
pub(crate) struct Reactor {
    runtime: FusionRuntime<TimeDriver<IoUringDriver>, TimeDriver<LegacyDriver>>,
    report: EngineReport,
}

impl Reactor {
    /// Builds the loop on the calling thread, which must be the one that runs it. Under `Auto` a ring that
    /// fails here, after a probe that worked, still ends on epoll.
    pub(crate) fn build(choice: EngineChoice, config: RingConfig) -> Result<Self, EngineError> {
        let report = engine::probe(choice, config)?;
        let Some(flags) = report.flags else { return Self::epoll(report) };
        let ring = || Self::ring(report.clone(), flags, config);
        let built = ring().or_else(|refusal| match refusal.raw_os_error() {
            // The probe's ring may still be charged to us.
            Some(libc::ENOMEM) => {
                std::thread::sleep(limits::RING_RETRY);
                ring()
            }
            _ => Err(refusal),
        });
        match (built, choice) {
            (Ok(reactor), _) => Ok(reactor),
            (Err(refusal), EngineChoice::IoUring) => Err(EngineError::Refused(refusal)),
            (Err(refusal), EngineChoice::Auto | EngineChoice::Epoll) => Self::epoll(EngineReport {
                engine: Engine::Epoll,
                flags: None,
                reason: format!("the probe's ring worked but the shard's did not: {refusal}"),
            }),
        }
    }

    /// A loop on a ring with these flags, whatever the choice.
    pub(crate) fn ring(report: EngineReport, flags: RingFlags, config: RingConfig) -> io::Result<Self> {
        let builder = RuntimeBuilder::<IoUringDriver>::new().with_entries(config.entries);
        let runtime = builder.uring_builder(engine::ring_builder(flags)).enable_timer().build()?;
        Ok(Reactor { runtime: runtime.into(), report })
    }

    fn epoll(report: EngineReport) -> Result<Self, EngineError> {
        let runtime = RuntimeBuilder::<LegacyDriver>::new()
            .with_entries(limits::RING_ENTRIES)
            .enable_timer()
            .build()
            .map_err(EngineError::Unusable)?;
        Ok(Reactor { runtime: runtime.into(), report })
    }

    pub(crate) fn report(&self) -> &EngineReport {
        &self.report
    }

    /// Drives `root` to its end, sleeping in the kernel while it is pending.
    pub(crate) fn block_on<F: Future>(&mut self, root: F) -> F::Output {
        self.runtime.block_on(root)
    }
}

/// A non-blocking descriptor watched by the driver of the current shard. Closed when dropped, as soon as the
/// driver has let go of it.
pub(crate) struct Watched {
    handle: Handle,
    engine: Engine,
    /// The last read found less than it asked for: the next one waits first. Kept by the callers.
    pub(crate) drained: Cell<bool>,
    read: RefCell<Option<Wait>>,
    write: RefCell<Option<Wait>>,
}

enum Handle {
    // Any pollable descriptor fits; the Unix stream is the least monoio type that watches without reading.
    Kernel(Rc<UnixStream>),
    #[cfg(feature = "sim")]
    Simulated(Rc<sim::Socket>),
}

type Wait = Pin<Box<dyn WaitAgain>>;

impl Watched {
    /// Hands a non-blocking descriptor to the driver, which is of this engine. Only inside [`Reactor::block_on`].
    pub(crate) fn new(descriptor: OwnedFd, engine: Engine) -> io::Result<Self> {
        #[cfg(feature = "sim")]
        let handle = match sim::driver() {
            Some(driver) => Handle::Simulated(driver.watch(descriptor)),
            None => Handle::Kernel(Rc::new(UnixStream::from_std(StdUnixStream::from(descriptor))?)),
        };
        #[cfg(not(feature = "sim"))]
        let handle = Handle::Kernel(Rc::new(UnixStream::from_std(StdUnixStream::from(descriptor))?));
        Ok(Watched {
            handle,
            engine,
            drained: Cell::new(false),
            read: RefCell::default(),
            write: RefCell::default(),
        })
    }

    pub(crate) fn raw(&self) -> RawFd {
        match &self.handle {
            Handle::Kernel(handle) => handle.as_raw_fd(),
            #[cfg(feature = "sim")]
            Handle::Simulated(socket) => socket.raw(),
        }
    }

    /// Ready when a read would not block: data, end of stream or an error. One task may wait at a time. The
    /// wait stays armed when the future that polled it is dropped, so a dropped wait costs nothing.
    #[cfg_attr(not(feature = "sim"), allow(clippy::infallible_destructuring_match))]
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let handle = match &self.handle {
            Handle::Kernel(handle) => handle,
            #[cfg(feature = "sim")]
            Handle::Simulated(socket) => return socket.poll(sim::Side::Read, cx),
        };
        let mut wait = self.read.borrow_mut();
        let wait = wait.get_or_insert_with(|| {
            let handle = handle.clone();
            wait_again(self.engine, move |cached| {
                let handle = handle.clone();
                async move { handle.readable(cached).await }
            })
        });
        wait.as_mut().poll_again(cx)
    }

    /// Ready when a write would not block; otherwise as [`Watched::poll_readable`].
    #[cfg_attr(not(feature = "sim"), allow(clippy::infallible_destructuring_match))]
    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let handle = match &self.handle {
            Handle::Kernel(handle) => handle,
            #[cfg(feature = "sim")]
            Handle::Simulated(socket) => return socket.poll(sim::Side::Write, cx),
        };
        let mut wait = self.write.borrow_mut();
        let wait = wait.get_or_insert_with(|| {
            let handle = handle.clone();
            wait_again(self.engine, move |cached| {
                let handle = handle.clone();
                async move { handle.writable(cached).await }
            })
        });
        wait.as_mut().poll_again(cx)
    }

    /// A wait for readability is in the driver's hands.
    pub(crate) fn awaits_readable(&self) -> bool {
        #[cfg(feature = "sim")]
        if let Handle::Simulated(socket) = &self.handle {
            return socket.awaits(sim::Side::Read);
        }
        self.read.borrow().as_ref().is_some_and(|wait| wait.is_armed())
    }

    /// A wait for writability is in the driver's hands.
    pub(crate) fn awaits_writable(&self) -> bool {
        #[cfg(feature = "sim")]
        if let Handle::Simulated(socket) = &self.handle {
            return socket.awaits(sim::Side::Write);
        }
        self.write.borrow().as_ref().is_some_and(|wait| wait.is_armed())
    }
}

impl AsFd for Watched {
    #[allow(unsafe_code)]
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the handle keeps the descriptor open for as long as `self` is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.raw()) }
    }
}

/// A wait that can be repeated in the same allocation.
trait WaitAgain {
    fn poll_again(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    fn is_armed(&self) -> bool;
}

pin_project! {
    struct Repeat<M, F> {
        // Its argument: whether to believe monoio's cache.
        make: M,
        engine: Engine,
        cache_cleared: bool,
        #[pin]
        wait: Option<F>,
    }
}

fn wait_again<M, F>(engine: Engine, make: M) -> Wait
where
    M: FnMut(bool) -> F + 'static,
    F: Future<Output = io::Result<()>> + 'static,
{
    Box::pin(Repeat { make, engine, cache_cleared: false, wait: None })
}

impl<M: FnMut(bool) -> F, F: Future<Output = io::Result<()>>> WaitAgain for Repeat<M, F> {
    fn poll_again(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut this = self.project();
        if this.wait.is_none() {
            *this.cache_cleared = false;
            this.wait.set(Some((this.make)(false)));
        }
        let Some(wait) = this.wait.as_mut().as_pin_mut() else { return Poll::Pending };
        match (wait.poll(cx), this.engine) {
            (Poll::Ready(result), _) => {
                this.wait.set(None);
                Poll::Ready(result)
            }
            (Poll::Pending, Engine::Epoll) if !*this.cache_cleared => {
                // The waker is registered with the descriptor, not with the future that is replaced here.
                *this.cache_cleared = true;
                this.wait.set(Some((this.make)(true)));
                Poll::Pending
            }
            (Poll::Pending, Engine::Epoll | Engine::IoUring) => Poll::Pending,
        }
    }

    fn is_armed(&self) -> bool {
        self.wait.is_some()
    }
}

/// The loop's one timer.
pub(crate) struct LoopTimer {
    /// `None` in a simulation only.
    sleep: Option<Pin<Box<Sleep>>>,
    armed: Option<Instant>,
}

impl LoopTimer {
    pub(crate) fn new() -> Self {
        #[cfg(feature = "sim")]
        if sim::driver().is_some() {
            return LoopTimer { sleep: None, armed: None };
        }
        LoopTimer { sleep: Some(Box::pin(monoio::time::sleep(Duration::ZERO))), armed: None }
    }

    /// Makes the loop poll its root no later than at `deadline` (up to 1 ms more: monoio's tick). It may poll
    /// earlier: a timer that was canceled is left to fire.
    pub(crate) fn poll_at(&mut self, deadline: Instant, now: Instant, cx: &mut Context<'_>) {
        #[cfg(feature = "sim")]
        if let Some(driver) = sim::driver() {
            return driver.poll_at(deadline);
        }
        if self.armed.is_some_and(|armed| armed <= deadline && armed > now) {
            return;
        }
        self.armed = Some(deadline);
        let Some(sleep) = &mut self.sleep else { return };
        sleep.as_mut().reset(DriverInstant::from_std(deadline));
        if sleep.as_mut().poll(cx).is_ready() {
            self.armed = None;
            cx.waker().wake_by_ref();
        }
    }
}

/// Lets the driver submit, reap and dispatch, then has the root polled again at once.
///
/// Waking the root directly would not do: monoio polls a root that woke itself again before the driver. On
/// io_uring the way through the driver is a poll of a descriptor that is always readable, because a plain submit
/// does not run deferred task work. On epoll it is an empty task, which makes monoio look at the events between
/// two rounds.
pub(crate) enum DriverPass {
    IoUring(Watched),
    Epoll,
}

impl DriverPass {
    pub(crate) fn new(engine: Engine) -> io::Result<Self> {
        match engine {
            Engine::IoUring => {
                let (near, far) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
                // A pipe whose writer is gone is readable for ever.
                drop(far);
                Ok(DriverPass::IoUring(Watched::new(near, engine)?))
            }
            Engine::Epoll => Ok(DriverPass::Epoll),
        }
    }

    pub(crate) fn request(&self, root: &Waker) {
        #[cfg(feature = "sim")]
        if let Some(driver) = sim::driver() {
            return driver.turn_again();
        }
        match self {
            DriverPass::IoUring(always) => {
                let pass = always.poll_readable(&mut Context::from_waker(root));
                if pass.is_ready() {
                    // A pass requested earlier is done; ask for the next.
                    let next = always.poll_readable(&mut Context::from_waker(root));
                    debug_assert!(next.is_pending());
                }
            }
            DriverPass::Epoll => {
                let root = root.clone();
                drop(monoio::spawn(async move { root.wake() }));
            }
        }
    }
}
