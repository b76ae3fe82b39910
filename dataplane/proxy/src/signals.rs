//! Signals, waited for by the main thread.

use nix::sys::signal::{SigSet, Signal as Number, kill};
use nix::unistd::Pid;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: end in order.
    Terminate(&'static str),
    /// SIGUSR1: open log files again.
    ReopenLogs,
}

/// The signals this process takes. They are blocked in all threads and delivered to whoever waits.
pub struct Signals {
    set: SigSet,
}

impl Signals {
    /// Blocks them for this thread and those it starts.
    ///
    /// # Errors
    /// The kernel refuses, which it has no reason to.
    pub fn block() -> nix::Result<Signals> {
        let mut set = SigSet::empty();
        for signal in [Number::SIGTERM, Number::SIGINT, Number::SIGUSR1] {
            set.add(signal);
        }
        set.thread_block()?;
        Ok(Signals { set })
    }

    /// Waits for the next one.
    ///
    /// # Errors
    /// As [`Signals::block`].
    pub fn wait(&self) -> nix::Result<Signal> {
        loop {
            match self.set.wait()? {
                Number::SIGTERM => return Ok(Signal::Terminate("SIGTERM")),
                Number::SIGINT => return Ok(Signal::Terminate("SIGINT")),
                Number::SIGUSR1 => return Ok(Signal::ReopenLogs),
                _ => {}
            }
        }
    }
}

/// Asks this process to end, as SIGTERM from outside does.
pub fn terminate_self() {
    if let Err(error) = kill(Pid::this(), Number::SIGTERM) {
        tracing::error!(%error, "cannot signal this process");
    }
}
