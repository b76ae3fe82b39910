//! Starting, pinning, measuring and ending processes.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How long a process may take to end after SIGTERM before it is killed.
const END_TIMEOUT: Duration = Duration::from_secs(3);

/// The core of the proxy under test.
pub const PROXY_CORE: usize = 0;
/// The core of load generator and backend.
pub const LOAD_CORE: usize = 1;

/// A folder for one run's configuration files and logs, removed at the end.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// A new folder below the system's temporary one.
    pub fn new() -> Result<Folder> {
        let path = std::env::temp_dir().join(format!("ringsail-bench-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Folder { path })
    }

    /// Where `name` is in the folder.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes `text` to `name` and gives its path.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.file(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What stays behind is a few small files in the temporary folder.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A process on one core, ended when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts `program` with `arguments` on `core`; its output goes to `log`.
    pub fn start(program: &Path, arguments: &[String], core: usize, log: &Path) -> Result<Process> {
        let log = File::create(log)?;
        let child = pinned(program, core)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        Ok(Process { child })
    }

    /// CPU time of all threads of the process and its children so far. Source: the first field of
    /// `/proc/PID/task/TID/schedstat`, in nanoseconds.
    pub fn cpu(&self) -> Duration {
        let nanoseconds: u64 =
            self.family().iter().flat_map(|pid| threads(*pid)).map(|stat| on_cpu_ns(&stat)).sum();
        Duration::from_nanos(nanoseconds)
    }

    /// Resident set of the process and its children in bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.family().iter().map(|pid| resident_bytes(*pid).unwrap_or(0)).sum()
    }

    fn family(&self) -> Vec<u32> {
        let mut family = vec![self.child.id()];
        let mut index = 0;
        while let Some(pid) = family.get(index).copied() {
            family.extend(children(pid));
            index += 1;
        }
        family
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        for pid in self.family() {
            // A process that is gone already needs no signal.
            let _ =
                Command::new("kill").args(["-s", "TERM", &pid.to_string()]).stderr(Stdio::null()).status();
        }
        let deadline = Instant::now() + END_TIMEOUT;
        while Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that will run on `core`.
pub fn pinned(program: &Path, core: usize) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string()]).arg(program);
    command
}

/// Waits until something accepts connections on `port` of the loopback address.
pub fn wait_for_port(port: u16, timeout: Duration) -> Result<()> {
    let deadline = Instant::now() + timeout;
    while Instant::now() < deadline {
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(5));
    }
    bail!("nothing listens on port {port} after {timeout:?}")
}

fn threads(pid: u32) -> Vec<String> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    entries.flatten().filter_map(|entry| fs::read_to_string(entry.path().join("schedstat")).ok()).collect()
}

fn on_cpu_ns(schedstat: &str) -> u64 {
    schedstat.split_whitespace().next().and_then(|field| field.parse().ok()).unwrap_or(0)
}

fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn resident_bytes(pid: u32) -> io::Result<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Rss:")).unwrap_or("0 kB");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap_or(0);
    Ok(kib * 1024)
}
