//! One proxy process under test.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::ports::{free_address, wait_until_listening};

/// How long a proxy may take until its admin port says LIVE. Envoy needs about 0.1 s; a loaded machine, more.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// The placeholders a bootstrap template may hold; see [`Peer::start_with`].
const ADMIN_PLACEHOLDER: &str = "ADMIN";
const ACCESS_LOG_PLACEHOLDER: &str = "ACCESS_LOG";

/// A running proxy, killed when dropped.
pub struct Peer {
    /// What the output calls it.
    pub name: &'static str,
    process: Child,
    folder: TempDir,
    admin: SocketAddr,
    listeners: Vec<SocketAddr>,
}

impl Peer {
    /// Starts `binary` with `template` as its bootstrap; see [`Peer::start_with`].
    pub fn start(name: &'static str, binary: &Path, template: &Value) -> Result<Peer> {
        Peer::start_with(name, binary, template, &[])
    }

    /// Starts `binary` with `template` as its bootstrap and `arguments` after the common ones.
    ///
    /// In the template every string `"ADMIN"` and `"ACCESS_LOG"` is replaced (admin port, log path), strings that begin
    /// with `ACCESS_LOG.` are files beside the log, and every
    /// number `port_value` that is 0 in a listener is replaced by a free port, in order; [`Peer::address`] gives it.
    pub fn start_with(
        name: &'static str,
        binary: &Path,
        template: &Value,
        arguments: &[&str],
    ) -> Result<Peer> {
        let folder = tempfile::tempdir()?;
        let mut bootstrap = template.clone();
        let admin = free_address()?;
        let mut listeners = Vec::new();
        for listener in bootstrap
            .pointer_mut("/static_resources/listeners")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            let address = free_address()?;
            *listener.pointer_mut("/address/socket_address/port_value").context("a listener has a port")? =
                json!(address.port());
            listeners.push(address);
        }
        let log = folder.path().join("access.log");
        let text = serde_json::to_string_pretty(&bootstrap)?
            .replace(&format!("\"{ADMIN_PLACEHOLDER}\""), &admin.port().to_string())
            .replace(&format!("\"{ACCESS_LOG_PLACEHOLDER}\""), &format!("\"{}\"", log.display()))
            .replace(&format!("\"{ACCESS_LOG_PLACEHOLDER}."), &format!("\"{}.", log.display()));
        let config = folder.path().join("bootstrap.json");
        fs::write(&config, text)?;
        let output = File::create(folder.path().join("output.log"))?;
        let process = Command::new(binary)
            .arg("-c")
            .arg(&config)
            .args([
                "--concurrency",
                "1",
                "--base-id",
                &(std::process::id() % 30_000 + admin.port() as u32).to_string(),
            ])
            .args(["--log-level", "warning", "--file-flush-interval-msec", "50", "--disable-hot-restart"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("starting {}", binary.display()))?;
        let mut peer = Peer { name, process, folder, admin, listeners };
        peer.wait_until_live()?;
        Ok(peer)
    }

    /// The address of the template's listener number `index`.
    pub fn address(&self, index: usize) -> SocketAddr {
        self.listeners[index]
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The folder of this process's files, gone when the peer is dropped.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Sends the process a signal by name, such as `TERM`.
    pub fn signal(&self, name: &str) -> Result<()> {
        let status = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status()?;
        if !status.success() {
            bail!("kill -s {name} ended with {status}");
        }
        Ok(())
    }

    /// Waits for the process to end by itself.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        while Instant::now() < deadline {
            if let Some(status) = self.process.try_wait()? {
                return Ok(status);
            }
            thread::sleep(Duration::from_millis(10));
        }
        bail!("{} did not end within {timeout:?}:\n{}", self.name, self.output())
    }

    /// The body of one admin page.
    pub fn admin(&self, path: &str) -> Result<String> {
        self.admin_request("GET", path)
    }

    /// The answer to a POST on the admin port.
    pub fn admin_post(&self, path: &str) -> Result<String> {
        self.admin_request("POST", path)
    }

    fn admin_request(&self, method: &str, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.admin, Duration::from_secs(20))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        write!(stream, "{method} {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let Some((head, body)) = answer.split_once("\r\n\r\n") else { return Ok(String::new()) };
        let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        Ok(if chunked { without_chunk_lines(body) } else { body.to_string() })
    }

    /// The access log so far, line by line.
    pub fn access_log(&self) -> Vec<String> {
        let text = fs::read_to_string(self.folder.path().join("access.log")).unwrap_or_default();
        text.lines().map(str::to_string).collect()
    }

    /// Where the proxy's own output went.
    pub fn output_path(&self) -> PathBuf {
        self.folder.path().join("output.log")
    }

    fn wait_until_live(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if let Some(status) = self.process.try_wait()? {
                bail!("{} ended at start with {status}:\n{}", self.name, self.output());
            }
            if self.admin("/ready").is_ok_and(|body| body.starts_with("LIVE")) {
                return wait_until_listening(&self.listeners, START_TIMEOUT)
                    .with_context(|| format!("{}:\n{}", self.name, self.output()));
            }
            if Instant::now() > deadline {
                bail!("{} was not ready within {START_TIMEOUT:?}:\n{}", self.name, self.output());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn output(&self) -> String {
        fs::read_to_string(self.output_path()).unwrap_or_default()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("{}: {:?}, its output:\n{}", self.name, self.process.try_wait(), self.output());
        }
        // Both may fail only when the process has ended already, which is what is wanted.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The data of a chunked body; stops where the framing does.
fn without_chunk_lines(mut body: &str) -> String {
    let mut data = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let Ok(size @ 1..) = usize::from_str_radix(size, 16) else { break };
        let (Some(chunk), Some(after)) = (rest.get(..size), rest.get(size + 2..)) else { break };
        data.push_str(chunk);
        body = after;
    }
    data
}
