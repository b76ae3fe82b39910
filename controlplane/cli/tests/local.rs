//! `ringsail local` as its users run it: a folder, processes, edits, an end that leaves nothing behind.
//!
//! The pods here ask for no sidecar, so that nothing but this crate is tested; meshes with proxies are the demo's subject.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A running `ringsail local` with its folders.
struct Local {
    child: Child,
    folder: tempfile::TempDir,
}

impl Local {
    /// Starts on a folder with one pod that runs `script`.
    fn start(script: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("mesh")).expect("created");
        let path = stand_in_control_plane(folder.path());
        save(folder.path(), script);
        let child =
            command(folder.path()).env("PATH", path).stdout(Stdio::null()).spawn().expect("it starts");
        Self { child, folder }
    }

    fn run_dir(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    /// What the pod's program printed.
    fn printed(&self) -> String {
        fs::read_to_string(self.run_dir().join("logs/job-0.main.log")).unwrap_or_default()
    }

    fn end(self) {
        self.end_keeping(|| ());
    }

    /// Ends it, then looks at what is left before the folders go.
    fn end_keeping(mut self, look: impl FnOnce()) {
        kill(Pid::from_raw(self.child.id().try_into().expect("a pid")), Signal::SIGTERM).expect("it runs");
        assert!(self.child.wait().expect("it ends").success());
        look();
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ringsail"));
    command
        .arg("local")
        .arg(folder.join("mesh"))
        .arg("--run-dir")
        .arg(folder.join("run"))
        .arg("--proxy")
        .arg("/bin/true");
    command
}

/// A PATH whose `ringsaild` only waits, for a checkout in which the real one is not built.
fn stand_in_control_plane(folder: &Path) -> String {
    use std::os::unix::fs::PermissionsExt;
    let program = folder.join("ringsaild");
    fs::write(&program, "#!/bin/sh\nexec sleep 600\n").expect("written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("executable");
    format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default())
}

fn save(folder: &Path, script: &str) {
    // In a manifest `$$` stands for one dollar sign.
    let script = script.replace("$$", "$$$$");
    let yaml = format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: job}}
spec:
  selector: {{matchLabels: {{app: job}}}}
  template:
    metadata: {{labels: {{app: job, sidecar.istio.io/inject: 'false'}}}}
    spec:
      containers:
      - name: main
        image: job
        command: [sh, -c, '{script}']
"
    );
    fs::write(folder.join("mesh/job.yaml"), yaml).expect("saved");
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(20), "never happened: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn is_gone(pid: &str) -> bool {
    let pid: u32 = pid.parse().expect("a pid");
    let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.is_empty() || state.contains(") Z ")
}

#[test]
fn an_edit_restarts_the_program_and_the_end_leaves_nothing_behind() {
    let local = Local::start("echo one $$ on $POD_IP; exec sleep 600");
    until("the first program", || local.printed().contains("one "));
    assert!(local.printed().contains("on 127.77."), "{}", local.printed());
    save(local.folder.path(), "echo two $$; exec sleep 600");
    until("the second program", || local.printed().contains("two "));
    let printed = local.printed();
    let pids: Vec<&str> = printed.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    assert!(is_gone(pids[0]), "the old program still runs: {printed}");
    until("the state file", || local.run_dir().join("mesh.json").is_file());
    let run_dir = local.run_dir();
    let folder = local.folder.path().to_owned();
    local.end_keeping(|| {
        assert!(is_gone(pids[1]), "the program outlived its mesh");
        let mut left: Vec<String> = fs::read_dir(&run_dir)
            .expect("listed")
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        left.sort();
        assert_eq!(left, ["lock", "logs"], "in {}", folder.display());
    });
}

#[test]
fn a_refused_edit_leaves_the_program_running() {
    let local = Local::start("echo one $$; exec sleep 600");
    until("the first program", || local.printed().contains("one "));
    fs::write(
        local.folder.path().join("mesh/job.yaml"),
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: job}\nspecc: {}\n",
    )
    .expect("saved");
    std::thread::sleep(Duration::from_millis(600));
    let printed = local.printed();
    assert!(!is_gone(printed.trim().rsplit(' ').next().expect("a pid")), "{printed}");
    local.end();
}

#[test]
fn a_second_mesh_needs_its_own_run_directory() {
    let local = Local::start("exec sleep 600");
    until("the claim", || local.run_dir().join("mesh.json").is_file());
    let second = command(local.folder.path()).output().expect("it runs");
    let text = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success() && text.contains("give this one its own --run-dir"), "{text}");
    local.end();
}

#[test]
fn a_folder_without_workloads_is_explained() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("mesh")).expect("created");
    let output = command(folder.path()).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("declares nothing to run"), "{text}");
}
