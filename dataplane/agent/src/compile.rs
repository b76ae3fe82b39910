//! The helper thread: changes in, published tables out.
//!
//! Compiling a large push takes longer than an answer on the admin port may wait, and so does freeing a large version.
//! Both happen here.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;
use ringsail_runtime::memory;
use ringsail_runtime::publish::Publisher;
use ringsail_tables::{Change, Compiler, Diagnostic, ResourceType, Tables, Wanted};
use tokio::sync::mpsc;

use crate::limits::START_QUIET;

/// Work for the thread.
pub(crate) enum Job {
    /// Apply and publish.
    Apply(Vec<Change>),
    /// Drop a version the agent no longer looks at.
    Free(Arc<Tables>),
}

/// What came of a [`Job::Apply`].
pub(crate) struct Compiled {
    /// The version published.
    pub(crate) tables: Arc<Tables>,
    /// Findings about the resources of this job.
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// What the resources need from elsewhere.
    pub(crate) wanted: Wanted,
    /// Listeners and clusters that wait for something.
    pub(crate) warming: Vec<(ResourceType, String)>,
    /// Versions that shards or this thread still hold.
    pub(crate) live_versions: usize,
    /// How long it took.
    pub(crate) took: Duration,
}

/// Applies one change set.
pub(crate) fn apply(compiler: &mut Compiler, changes: Vec<Change>) -> Compiled {
    let begun = Instant::now();
    let (tables, diagnostics) = compiler.apply(changes);
    Compiled {
        tables,
        diagnostics,
        wanted: compiler.wanted(),
        warming: compiler.warming().into_iter().map(|(kind, name)| (kind, name.to_string())).collect(),
        live_versions: 1,
        took: begun.elapsed(),
    }
}

/// The first configuration has come and been compiled: what only that needed may leave the memory.
fn forget_start() {
    memory::give_back();
    match memory::forget_file_pages() {
        Ok(bytes) => {
            tracing::debug!(bytes, "the program's pages are resident only as they are used from here on")
        }
        // Nothing depends on it.
        Err(error) => tracing::debug!(%error, "the program's pages stay resident"),
    }
}

/// Starts the thread. It ends when the sender of jobs is gone.
pub(crate) fn start(
    mut compiler: Compiler,
    mut publisher: Publisher<Tables>,
    outcomes: mpsc::UnboundedSender<Compiled>,
) -> std::io::Result<crossbeam_channel::Sender<Job>> {
    let (jobs, inbox) = crossbeam_channel::unbounded();
    std::thread::Builder::new().name("compile".to_string()).spawn(move || {
        let mut started = false;
        loop {
            let job = if started {
                inbox.recv().map_err(RecvTimeoutError::from)
            } else {
                inbox.recv_timeout(START_QUIET)
            };
            let job = match job {
                Ok(job) => job,
                Err(RecvTimeoutError::Timeout) => {
                    started = true;
                    forget_start();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            match job {
                Job::Apply(changes) => {
                    let mut compiled = apply(&mut compiler, changes);
                    // The compiler gives the same version back when nothing visible changed.
                    if !Arc::ptr_eq(publisher.latest(), &compiled.tables) {
                        publisher.publish(compiled.tables.clone());
                    }
                    compiled.live_versions = publisher.live_versions();
                    if outcomes.send(compiled).is_err() {
                        return;
                    }
                }
                Job::Free(tables) => drop(tables),
            }
            // What compiling needed, or a version held, is much; the next job may be hours away.
            if inbox.is_empty() {
                memory::give_back();
            }
        }
    })?;
    Ok(jobs)
}
