//! One process that is kept running: started, followed, restarted with growing pauses, and ended with all its children.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::output::{Output, say};
use crate::limits::{RESTART_DELAY_MAX, RESTART_DELAY_MIN, RESTART_DELAY_RESET, STOP_TIMEOUT};

/// What to run.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Name shown before its output, e.g. `reviews-v1-0/reviews`.
    pub name: String,
    /// The program's path.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Variables on top of our own environment.
    pub environment: Vec<(String, String)>,
    /// Where it runs.
    pub directory: PathBuf,
}

/// What can be seen of a process.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// Its process id while it runs.
    pub pid: Option<u32>,
    /// How often it was started again.
    pub restarts: u32,
}

/// A process under supervision. Dropping it asks it to end; [`Supervised::stop`] also waits.
pub struct Supervised {
    /// Name shown before its output.
    pub name: String,
    status: Rc<RefCell<Status>>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Supervised {
    /// Starts supervising. Must be called on a `LocalSet`.
    pub fn start(launch: Launch, output: Output) -> Self {
        let (stop, stopped) = watch::channel(false);
        let status = Rc::new(RefCell::new(Status::default()));
        let name = launch.name.clone();
        let task = tokio::task::spawn_local(supervise(launch, output, Rc::clone(&status), stopped));
        Self { name, status, stop, task }
    }

    /// What can be seen of it at this moment.
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Ends the process and all its children; returns when it is gone.
    pub async fn stop(self) {
        self.stop.send(true).ok();
        self.task.await.ok();
    }
}

async fn supervise(
    launch: Launch,
    output: Output,
    status: Rc<RefCell<Status>>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut delay = RESTART_DELAY_MIN;
    loop {
        let begun = Instant::now();
        let ended = match spawn(&launch, &output) {
            Ok(mut child) => {
                let id = child.id();
                status.borrow_mut().pid = id;
                let ended = tokio::select! {
                    ended = child.wait() => Some(ended),
                    _ = stopped.wait_for(|stop| *stop) => None,
                };
                match ended {
                    Some(ended) => {
                        // Children it left behind would keep its ports.
                        end_group(id, Signal::SIGKILL);
                        describe(ended)
                    }
                    None => {
                        end(child, id).await;
                        status.borrow_mut().pid = None;
                        return;
                    }
                }
            }
            Err(error) => format!("{error:#}"),
        };
        status.borrow_mut().pid = None;
        if begun.elapsed() > RESTART_DELAY_RESET {
            delay = RESTART_DELAY_MIN;
        }
        say(&format!(
            "{} ended after {:.1} s ({ended}); starting it again in {:.1} s; its output is in {}",
            launch.name,
            begun.elapsed().as_secs_f64(),
            delay.as_secs_f64(),
            output.log_path(&launch.name).display()
        ));
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            _ = stopped.wait_for(|stop| *stop) => return,
        }
        delay = (delay * 2).min(RESTART_DELAY_MAX);
        status.borrow_mut().restarts += 1;
    }
}

fn spawn(launch: &Launch, output: &Output) -> Result<Child> {
    let log = output.open_log(&launch.name)?;
    let mut command = tied_to_us(&launch.program);
    command
        .args(&launch.arguments)
        .envs(launch.environment.iter().map(|(name, value)| (name, value)))
        .current_dir(&launch.directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own: Ctrl-C reaches us alone, and we end the group.
        .process_group(0)
        .kill_on_drop(true);
    let mut child = command.spawn().with_context(|| format!("cannot start {}", launch.program.display()))?;
    if let Some(stdout) = child.stdout.take() {
        tokio::task::spawn_local(output.clone().follow(launch.name.clone(), stdout, log.try_clone()?));
    }
    if let Some(stderr) = child.stderr.take() {
        tokio::task::spawn_local(output.clone().follow(launch.name.clone(), stderr, log));
    }
    Ok(child)
}

/// A command that the kernel ends when we die without a chance to end it ourselves (SIGKILL): util-linux's `setpriv`
/// sets the parent-death signal and then becomes the program. Without `setpriv` that last guard is missing.
fn tied_to_us(program: &Path) -> Command {
    match super::programs::on_path("setpriv") {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", "--"]).arg(program);
            command
        }
        None => Command::new(program),
    }
}

async fn end(mut child: Child, id: Option<u32>) {
    end_group(id, Signal::SIGTERM);
    let ended = tokio::time::timeout(STOP_TIMEOUT, child.wait()).await;
    // What the child started and did not end itself.
    end_group(id, Signal::SIGKILL);
    if ended.is_err() {
        child.wait().await.ok();
    }
}

/// Signals a child's whole group. The group's id cannot be reused while a member lives; without one, nothing happens.
fn end_group(id: Option<u32>, signal: Signal) {
    if let Some(id) = id.and_then(|id| i32::try_from(id).ok()) {
        killpg(Pid::from_raw(id), signal).ok();
    }
}

fn describe(ended: std::io::Result<ExitStatus>) -> String {
    match ended {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn launch(script: &str) -> Launch {
        Launch {
            name: "pod/script".to_owned(),
            program: PathBuf::from("/bin/sh"),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            environment: vec![("GREETING".to_owned(), "hello".to_owned())],
            directory: PathBuf::from("/"),
        }
    }

    fn on_local_set(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        tokio::task::LocalSet::new().block_on(&runtime, test);
    }

    async fn until(what: &str, condition: impl Fn() -> bool) {
        for _ in 0..500 {
            if condition() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never happened: {what}");
    }

    #[test]
    fn output_is_kept_and_stop_ends_grandchildren_too() {
        on_local_set(async {
            let folder = tempfile::tempdir().expect("a folder");
            let output = Output::new(folder.path(), false);
            let process = Supervised::start(launch("sleep 600 & echo $GREETING $!; wait"), output.clone());
            let log = output.log_path("pod/script");
            until("the greeting", || std::fs::read_to_string(&log).is_ok_and(|text| text.contains("hello")))
                .await;
            let text = std::fs::read_to_string(&log).expect("a log");
            let grandchild = text.trim().rsplit(' ').next().expect("a pid").to_owned();
            process.stop().await;
            let state = || std::fs::read_to_string(format!("/proc/{grandchild}/stat")).unwrap_or_default();
            // Nobody has to reap it at once: a zombie is ended, too.
            until("its end", || state().is_empty() || state().contains(") Z ")).await;
        });
    }

    #[test]
    fn a_crashed_process_is_started_again() {
        on_local_set(async {
            let folder = tempfile::tempdir().expect("a folder");
            let process = Supervised::start(launch("exit 3"), Output::new(folder.path(), false));
            until("a restart", || process.status().restarts >= 1).await;
            process.stop().await;
        });
    }
}
