//! Starting, telling and ending the shards of a process.

use std::{
    cell::Cell,
    fmt,
    future::Future,
    io,
    num::NonZeroUsize,
    rc::Rc,
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
};

use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

use crate::{
    core::{self, Core, Entered, Root},
    engine::{EngineChoice, EngineError, EngineReport, RingConfig},
    limits::ShardLimits,
    reactor::Reactor,
    remote::{Remote, order},
    stats::ShardStats,
    task,
};

/// A shard's number within the process, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The shard of this thread.
///
/// # Panics
/// Outside a shard.
pub fn id() -> ShardId {
    core::current().id
}

/// The statistics of this thread's shard.
///
/// # Panics
/// Outside a shard.
pub fn stats() -> Arc<ShardStats> {
    core::current().stats.clone()
}

/// How to run shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardsConfig {
    /// How many; one thread each.
    pub count: NonZeroUsize,
    /// The engine asked for.
    pub engine: EngineChoice,
    /// The ring's size, where one is used.
    pub ring: RingConfig,
    /// Bind shard *i* to the *i*-th processor this process may use, round robin. Off unless the processors are
    /// the shards' alone: pinned threads cannot move away from a busy neighbor.
    pub pin: bool,
    /// Each shard's limits.
    pub limits: ShardLimits,
}

impl Default for ShardsConfig {
    fn default() -> Self {
        ShardsConfig {
            count: NonZeroUsize::MIN,
            engine: EngineChoice::Auto,
            ring: RingConfig::default(),
            pin: false,
            limits: ShardLimits::default(),
        }
    }
}

/// Why the shards did not start. None is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// A thread, a descriptor or an affinity was refused.
    #[error("cannot start shard {shard}: {error}")]
    Shard {
        /// Which one.
        shard: ShardId,
        /// The system's answer.
        error: io::Error,
    },
}

/// The running shards. Dropping it stops them and waits.
#[derive(Debug)]
pub struct Shards {
    threads: Vec<JoinHandle<()>>,
    reports: Vec<EngineReport>,
    stats: Vec<Arc<ShardStats>>,
    control: Control,
}

impl Shards {
    /// Starts the shards and returns when each has its event loop. `plan` is called here, once per shard in
    /// order, to hand out what belongs to it; its result runs on the shard's thread and gives the shard's main
    /// task. The shard ends when that task ends, or on [`Control::stop`]; other tasks are dropped then.
    ///
    /// # Errors
    /// [`StartError`]; shards already started are stopped.
    pub fn start<P, M, F>(config: ShardsConfig, mut plan: P) -> Result<Shards, StartError>
    where
        P: FnMut(ShardId) -> M,
        M: FnOnce() -> F + Send + 'static,
        F: Future<Output = ()> + 'static,
    {
        let processors = if config.pin { allowed_processors() } else { Vec::new() };
        let mut shards = Shards {
            threads: Vec::new(),
            reports: Vec::new(),
            stats: Vec::new(),
            control: Control { remotes: Arc::default() },
        };
        let mut remotes = Vec::new();
        for index in 0..config.count.get() {
            let id = ShardId(u16::try_from(index).unwrap_or(u16::MAX));
            let refused = |error| StartError::Shard { shard: id, error };
            let remote = Remote::register().map_err(refused)?;
            let stats = Arc::<ShardStats>::default();
            remotes.push(remote.clone());
            shards.control = Control { remotes: remotes.as_slice().into() };
            shards.stats.push(stats.clone());
            let main = plan(id);
            let processor = processors.get(index % processors.len().max(1)).copied();
            let (started, start) = mpsc::sync_channel(1);
            let body = move || run(id, config, processor, stats, remote, main, &started);
            let thread = thread::Builder::new().name(format!("shard-{id}")).spawn(body).map_err(refused)?;
            shards.threads.push(thread);
            let report =
                start.recv().unwrap_or_else(|_| Err(refused(io::Error::other("the thread panicked"))))?;
            match report.flags {
                None if config.engine == EngineChoice::Auto => {
                    tracing::warn!(shard = %id, reason = %report.reason, "io_uring is not used; running on epoll");
                }
                _ => tracing::debug!(shard = %id, engine = %report, "shard started"),
            }
            shards.reports.push(report);
        }
        Ok(shards)
    }

    /// The engine each shard runs on and why. They differ only where memory for rings ended half-way.
    pub fn reports(&self) -> &[EngineReport] {
        &self.reports
    }

    /// Each shard's statistics.
    pub fn stats(&self) -> &[Arc<ShardStats>] {
        &self.stats
    }

    /// A handle to tell the shards things, for any thread.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Waits until all shards have ended.
    ///
    /// # Errors
    /// A shard's thread panicked outside its tasks, which is a bug of this crate.
    pub fn join(mut self) -> thread::Result<()> {
        self.threads.drain(..).try_for_each(JoinHandle::join)
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.control.stop();
            for thread in self.threads.drain(..) {
                // Its panic was printed by the hook; there is nothing to add while dropping.
                let _ = thread.join();
            }
        }
    }
}

/// Tells all shards to drain or stop. Cheap to clone, usable on any thread.
#[derive(Clone, Debug)]
pub struct Control {
    remotes: Arc<[Arc<Remote>]>,
}

impl Control {
    /// Begins to drain on all shards; see [`crate::drain`]. Cannot be undone.
    pub fn drain(&self) {
        self.remotes.iter().for_each(|remote| remote.give_order(order::DRAIN));
    }

    /// Ends all shards at their next turn, dropping their tasks and closing their connections.
    pub fn stop(&self) {
        self.remotes.iter().for_each(|remote| remote.give_order(order::STOP));
    }
}

/// The body of a shard's thread.
fn run<M, F>(
    id: ShardId,
    config: ShardsConfig,
    processor: Option<usize>,
    stats: Arc<ShardStats>,
    remote: Arc<Remote>,
    main: M,
    started: &mpsc::SyncSender<Result<EngineReport, StartError>>,
) where
    M: FnOnce() -> F,
    F: Future<Output = ()> + 'static,
{
    let prepared = processor.map_or(Ok(()), pin_to).map_err(|error| StartError::Shard { shard: id, error });
    let reactor = prepared.and_then(|()| Ok(Reactor::build(config.engine, config.ring)?));
    let mut reactor = match reactor {
        Ok(reactor) => reactor,
        Err(error) => {
            // The starter waits for exactly this.
            let _ = started.send(Err(error));
            return;
        }
    };
    let report = reactor.report().clone();
    let core = Rc::new(Core::new(id, report.engine, config.limits, stats, remote));
    let ready = || {
        let _ = started.send(Ok(report));
    };
    if let Err(error) = drive(&mut reactor, core, ready, main) {
        let _ = started.send(Err(StartError::Shard { shard: id, error }));
    }
}

/// Runs one shard on this thread until `main` ends: for tests and small tools. Returns `None` when `main` panicked.
///
/// # Errors
/// [`StartError`].
///
/// # Panics
/// On a thread that is a shard.
pub fn run_local<M, F>(config: ShardsConfig, main: M) -> Result<Option<F::Output>, StartError>
where
    M: FnOnce() -> F,
    F: Future + 'static,
    F::Output: 'static,
{
    let reactor = Reactor::build(config.engine, config.ring)?;
    run_on(reactor, config, main).map_err(|error| StartError::Shard { shard: ShardId(0), error })
}

fn run_on<M, F>(mut reactor: Reactor, config: ShardsConfig, main: M) -> io::Result<Option<F::Output>>
where
    M: FnOnce() -> F,
    F: Future + 'static,
    F::Output: 'static,
{
    let id = ShardId(0);
    let remote = Remote::register()?;
    let core = Rc::new(Core::new(id, reactor.report().engine, config.limits, Arc::default(), remote));
    let output = Rc::new(Cell::new(None));
    let result = output.clone();
    let main = || {
        let future = main();
        async move { result.set(Some(future.await)) }
    };
    drive(&mut reactor, core, || (), main)?;
    Ok(output.take())
}

/// Runs the root with `main` as the first task; `ready` is called when nothing can fail any more.
fn drive<M, F>(reactor: &mut Reactor, core: Rc<Core>, ready: impl FnOnce(), main: M) -> io::Result<()>
where
    M: FnOnce() -> F,
    F: Future<Output = ()> + 'static,
{
    reactor.block_on(life(core, ready, main))
}

/// A shard's life as the simulated driver polls it, and its statistics.
#[cfg(feature = "sim")]
pub(crate) fn simulated<M, F>(main: M) -> io::Result<(impl Future<Output = io::Result<()>>, Arc<ShardStats>)>
where
    M: FnOnce() -> F,
    F: Future<Output = ()> + 'static,
{
    let stats = Arc::<ShardStats>::default();
    let (engine, limits) = (crate::engine::Engine::Epoll, ShardLimits::default());
    let core = Rc::new(Core::new(ShardId(0), engine, limits, stats.clone(), Remote::register()?));
    Ok((life(core, || (), main), stats))
}

/// From the first task to the last drop.
async fn life<M, F>(core: Rc<Core>, ready: impl FnOnce(), main: M) -> io::Result<()>
where
    M: FnOnce() -> F,
    F: Future<Output = ()> + 'static,
{
    let main_ended = Rc::new(Cell::new(false));
    let root = Root::new(core.clone(), main_ended.clone())?;
    ready();
    let entered = Entered::new(core.clone());
    let main = task::spawn(main());
    drop(task::spawn(async move {
        // However it ended; a panic was counted already.
        let _ = main.await;
        main_ended.set(true);
    }));
    root.await;
    // Tasks go while the driver still takes their sockets' closes.
    drop(entered);
    Ok(())
}

/// The processors this thread may run on.
fn allowed_processors() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(Pid::from_raw(0)) else { return Vec::new() };
    (0..CpuSet::count()).filter(|&processor| set.is_set(processor).unwrap_or(false)).collect()
}

fn pin_to(processor: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(processor)?;
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        engine::{Engine, RingFlags},
        net::Stream,
        time,
    };

    /// What kernels before 6.1 run on when io_uring is forced.
    #[test]
    fn ring_without_defer_taskrun_bears_more_events_than_it_holds() {
        let report = EngineReport {
            engine: Engine::IoUring,
            flags: Some(RingFlags::Plain),
            reason: "for this test".to_owned(),
        };
        let reactor = match Reactor::ring(report, RingFlags::Plain, RingConfig::default()) {
            Ok(reactor) => reactor,
            Err(error) => {
                eprintln!("NOT TESTED: no io_uring: {error}");
                return;
            }
        };
        let main = || async {
            let mut senders = Vec::new();
            let mut receivers = Vec::new();
            for _ in 0..900 {
                let (near, far) = Stream::pair().expect("descriptors");
                receivers.push(task::spawn(async move { far.recv(1).await.map(|lease| lease.len()) }));
                senders.push(near);
            }
            time::sleep(Duration::from_millis(2)).await;
            for sender in &senders {
                assert_eq!(sender.try_send(b"x").expect("connected"), Some(1));
            }
            for receiver in receivers {
                assert_eq!(receiver.await.expect("not aborted").expect("connected"), 1);
            }
        };
        assert_eq!(run_on(reactor, ShardsConfig::default(), main).expect("descriptors"), Some(()));
    }
}
