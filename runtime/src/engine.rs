//! Which kernel interface a shard runs on, and why. Decided by building the real ring, never by kernel version:
//! seccomp profiles, memory limits and back-ports all make versions lie.

use std::{fmt, io, str::FromStr};

use io_uring::{IoUring, opcode};

use crate::limits;

/// What the operator asks for (`--engine`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineChoice {
    /// io_uring where the kernel allows a ring with `DEFER_TASKRUN` (Linux 6.1), epoll otherwise: without that
    /// flag epoll is the faster one (measured: 13.2 µs a request against 9.9).
    #[default]
    Auto,
    /// io_uring or refuse to start; takes a ring without `DEFER_TASKRUN` where there is no better.
    IoUring,
    /// epoll.
    Epoll,
}

impl FromStr for EngineChoice {
    type Err = EngineError;

    fn from_str(text: &str) -> Result<Self, EngineError> {
        match text {
            "auto" => Ok(EngineChoice::Auto),
            "io_uring" => Ok(EngineChoice::IoUring),
            "epoll" => Ok(EngineChoice::Epoll),
            _ => Err(EngineError::Unknown(text.to_owned())),
        }
    }
}

/// The kernel interface in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// One ring a shard.
    IoUring,
    /// One epoll descriptor a shard.
    Epoll,
}

impl Engine {
    /// The name used in flags, logs and metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Engine::IoUring => "io_uring",
            Engine::Epoll => "epoll",
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Set-up flags of a ring, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingFlags {
    /// `SINGLE_ISSUER | DEFER_TASKRUN`: completions are processed only when the shard asks (Linux 6.1).
    DeferTaskrun,
    /// No flags (Linux 5.10).
    Plain,
}

/// Size of the ring to build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingConfig {
    /// Submission-queue entries, a power of two from 256 (monoio's minimum) to 32,768.
    pub entries: u32,
}

impl Default for RingConfig {
    fn default() -> Self {
        RingConfig { entries: limits::RING_ENTRIES }
    }
}

/// The engine taken and the reason in words, for the log, the admin port and a metric's labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineReport {
    /// What runs.
    pub engine: Engine,
    /// The ring's flags; `None` on epoll.
    pub flags: Option<RingFlags>,
    /// Why, as one clause without a final period.
    pub reason: String,
}

impl fmt::Display for EngineReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.engine, self.reason)
    }
}

/// Why no engine could be taken.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// `--engine` had another word.
    #[error("unknown engine {0:?}: say auto, io_uring or epoll")]
    Unknown(String),
    /// io_uring was forced and the kernel refused it.
    #[error(
        "io_uring was asked for but the kernel refused it ({0}): allow the io_uring system calls in the seccomp \
         profile, raise the memlock limit, or start with --engine auto"
    )]
    Refused(io::Error),
    /// Not even epoll could be set up.
    #[error("cannot set up the event loop: {0}")]
    Unusable(io::Error),
}

/// Decides the engine by building a ring of the real size and flags and passing one operation through it; the
/// ring is dropped again. Must run on a thread whose seccomp filter is the shards' one (threads inherit it).
///
/// # Errors
/// Only when io_uring is forced and refused.
pub fn probe(choice: EngineChoice, config: RingConfig) -> Result<EngineReport, EngineError> {
    decide(choice, |flags| build_ring(flags, config))
}

/// The decision, with the attempt to build a ring passed in.
pub(crate) fn decide(
    choice: EngineChoice,
    mut build: impl FnMut(RingFlags) -> io::Result<()>,
) -> Result<EngineReport, EngineError> {
    let epoll = |reason: String| EngineReport { engine: Engine::Epoll, flags: None, reason };
    let ring = |flags, reason: &str| EngineReport {
        engine: Engine::IoUring,
        flags: Some(flags),
        reason: reason.to_owned(),
    };
    if choice == EngineChoice::Epoll {
        return Ok(epoll("asked for".to_owned()));
    }
    let refusal = match build(RingFlags::DeferTaskrun) {
        Ok(()) => return Ok(ring(RingFlags::DeferTaskrun, "ring with DEFER_TASKRUN works")),
        Err(refusal) => refusal,
    };
    match choice {
        EngineChoice::Auto => Ok(epoll(explain(&refusal))),
        EngineChoice::IoUring => match build(RingFlags::Plain) {
            Ok(()) => Ok(ring(RingFlags::Plain, "asked for; ring without DEFER_TASKRUN")),
            Err(refusal) => Err(EngineError::Refused(refusal)),
        },
        EngineChoice::Epoll => Ok(epoll("asked for".to_owned())),
    }
}

/// The reason an operator can act on, for each error that `io_uring_setup(2)` gives in practice.
fn explain(refusal: &io::Error) -> String {
    let meaning = match refusal.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "io_uring is forbidden by seccomp or kernel.io_uring_disabled",
        Some(libc::ENOSYS) => "this kernel or sandbox has no io_uring",
        Some(libc::ENOMEM) => "the memlock limit of this user leaves no room for a ring",
        Some(libc::EINVAL) => "this kernel's io_uring has no DEFER_TASKRUN (Linux 6.1)",
        Some(libc::EMFILE | libc::ENFILE) => "no descriptor left for a ring",
        _ => "io_uring does not work here",
    };
    format!("{meaning}: {refusal}")
}

/// The builder for a ring with these flags; also given to the driver, so that probe and use cannot differ.
pub(crate) fn ring_builder(flags: RingFlags) -> io_uring::Builder {
    let mut builder = IoUring::builder();
    if flags == RingFlags::DeferTaskrun {
        builder.setup_single_issuer().setup_defer_taskrun();
    }
    builder
}

/// Builds a ring and sends a no-op through it: a filter may allow `io_uring_setup` and forbid `io_uring_enter`.
#[allow(unsafe_code)]
pub(crate) fn build_ring(flags: RingFlags, config: RingConfig) -> io::Result<()> {
    let mut ring = ring_builder(flags).build(config.entries)?;
    let no_op = opcode::Nop::new().build();
    // SAFETY: a no-op refers to no memory, so nothing has to outlive the push.
    unsafe { ring.submission().push(&no_op) }.map_err(|_| io::Error::from_raw_os_error(libc::EBUSY))?;
    ring.submit_and_wait(1)?;
    match ring.completion().next() {
        Some(_) => Ok(()),
        None => Err(io::Error::from_raw_os_error(libc::EIO)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refuses(errno: i32) -> impl FnMut(RingFlags) -> io::Result<()> {
        move |_| Err(io::Error::from_raw_os_error(errno))
    }

    #[test]
    fn auto_falls_back_to_epoll_on_every_error_and_names_it() {
        for (errno, word) in [
            (libc::EPERM, "seccomp"),
            (libc::ENOSYS, "no io_uring"),
            (libc::ENOMEM, "memlock"),
            (libc::EINVAL, "DEFER_TASKRUN"),
            (libc::EMFILE, "descriptor"),
            (libc::EIO, "does not work"),
        ] {
            let report = decide(EngineChoice::Auto, refuses(errno)).unwrap();
            assert_eq!(report.engine, Engine::Epoll);
            assert!(report.reason.contains(word), "{}", report.reason);
        }
    }

    #[test]
    fn auto_takes_no_ring_without_defer_taskrun() {
        let old_kernel = |flags| match flags {
            RingFlags::DeferTaskrun => Err(io::Error::from_raw_os_error(libc::EINVAL)),
            RingFlags::Plain => Ok(()),
        };
        assert_eq!(decide(EngineChoice::Auto, old_kernel).unwrap().engine, Engine::Epoll);
        let forced = decide(EngineChoice::IoUring, old_kernel).unwrap();
        assert_eq!((forced.engine, forced.flags), (Engine::IoUring, Some(RingFlags::Plain)));
    }

    #[test]
    fn forced_io_uring_refuses_to_start_where_it_is_forbidden() {
        let error = decide(EngineChoice::IoUring, refuses(libc::EPERM)).unwrap_err();
        assert!(error.to_string().contains("--engine auto"), "{error}");
    }

    #[test]
    fn forced_epoll_builds_no_ring() {
        let report = decide(EngineChoice::Epoll, |_| panic!("built a ring")).unwrap();
        assert_eq!(report.engine, Engine::Epoll);
    }
}
