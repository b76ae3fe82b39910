//! The load generator and the backend, run as the separate programs they are.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, ChildStdin, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::peer::sibling;
use crate::process::{Folder, LOAD_CORE, Process, pinned, wait_for_port};

/// The body of every answer, in bytes.
pub const BODY_BYTES: usize = 1024;

/// The running backend.
#[derive(Debug)]
pub struct Backend {
    /// Where it speaks HTTP.
    pub http_port: u16,
    /// Where it echoes.
    pub echo_port: u16,
    _process: Process,
}

impl Backend {
    /// Starts the backend.
    pub fn start(folder: &Folder) -> Result<Backend> {
        let (http_port, echo_port) = (free_port()?, free_port()?);
        let arguments = [
            "--listen".to_string(),
            format!("127.0.0.1:{http_port}"),
            "--tcp-echo".to_string(),
            format!("127.0.0.1:{echo_port}"),
            "--size".to_string(),
            BODY_BYTES.to_string(),
        ];
        let process = Process::start(
            &sibling("ringsail-upstream")?,
            &arguments,
            LOAD_CORE,
            &folder.file("upstream.log"),
        )?;
        wait_for_port(http_port, Duration::from_secs(10))?;
        wait_for_port(echo_port, Duration::from_secs(10))?;
        Ok(Backend { http_port, echo_port, _process: process })
    }
}

/// Runs the load generator against `port` and gives what it printed.
///
/// # Errors
/// When it fails, or when more than one exchange in a hundred did.
pub fn run(port: u16, arguments: &[&str]) -> Result<Value> {
    let output = pinned(&sibling("ringsail-loadgen")?, LOAD_CORE)
        .arg(format!("127.0.0.1:{port}"))
        .arg("--json")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("starting the load generator")?;
    if !output.status.success() {
        bail!("the load generator failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let outcome: Value = serde_json::from_slice(&output.stdout)?;
    let (successes, failures) =
        (outcome["successes"].as_u64().unwrap_or(0), outcome["failures"].as_u64().unwrap_or(0));
    if failures * 100 > successes {
        bail!("{failures} of {} exchanges failed", successes + failures);
    }
    Ok(outcome)
}

/// Connections that are held open until this is dropped.
#[derive(Debug)]
pub struct Held {
    child: Child,
    _open: Option<ChildStdin>,
}

impl Held {
    /// Opens `count` connections to `port`, one request on each, and waits until all are idle.
    pub fn open(port: u16, count: usize, extra: Option<&str>) -> Result<Held> {
        let mut child = pinned(&sibling("ringsail-loadgen")?, LOAD_CORE)
            .args([format!("127.0.0.1:{port}"), "--idle".into(), "--connections".into(), count.to_string()])
            .args(extra)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting the load generator")?;
        let open = child.stdin.take();
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("its output is piped")?).read_line(&mut line)?;
        if line.trim() != format!("holding {count}") {
            bail!("the load generator could not hold {count} connections");
        }
        Ok(Held { child, _open: open })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port nobody listens on.
pub fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
