//! Programs in Python that speak a protocol with a library which is not ours: `kernel-tests/peers/`.

use std::env;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

/// The interpreter that has the libraries: `RINGSAIL_TEST_PYTHON` if set, else the one `cargo xtask` installs.
pub fn interpreter() -> Option<PathBuf> {
    let candidate = match env::var_os("RINGSAIL_TEST_PYTHON") {
        Some(path) => PathBuf::from(path),
        None => kernel_tests().join("../target/tools/python/bin/python3"),
    };
    candidate.is_file().then_some(candidate)
}

/// [`interpreter`], or `None` after saying on standard error that it is missing.
pub fn interpreter_or_notice() -> Option<PathBuf> {
    let found = interpreter();
    if found.is_none() {
        crate::binaries::skip_notice(
            "no Python with grpcio, h2 and websockets: `cargo xtask test` installs it, or set RINGSAIL_TEST_PYTHON",
        );
    }
    found
}

/// Path of the program called `name`.
pub fn program(name: &str) -> PathBuf {
    kernel_tests().join("peers").join(name)
}

fn kernel_tests() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// A program that serves; it ends when this is dropped.
pub struct Server {
    process: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts `NAME serve`, which prints the port it listens on.
    ///
    /// # Errors
    /// When it does not start or prints no port.
    pub fn start(interpreter: &Path, name: &str) -> Result<Server> {
        let mut process = Command::new(interpreter)
            .arg(program(name))
            .arg("serve")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {name}"))?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().context("stdout is piped")?).read_line(&mut line)?;
        let port: u16 =
            line.trim().parse().with_context(|| format!("{name} said {line:?} instead of a port"))?;
        Ok(Server { process, address: SocketAddr::from(([127, 0, 0, 1], port)) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails only when it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs `NAME arguments…` and gives its lines.
///
/// # Errors
/// When it ends without success or prints nothing.
pub fn run(interpreter: &Path, name: &str, arguments: &[&str]) -> Result<Vec<String>> {
    let mut process = Command::new(interpreter)
        .arg(program(name))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {name}"))?;
    let mut text = String::new();
    process.stdout.take().context("stdout is piped")?.read_to_string(&mut text)?;
    let status = process.wait()?;
    if !status.success() || text.is_empty() {
        bail!("{name} ended with {status} after:\n{text}");
    }
    Ok(text.lines().map(str::to_string).collect())
}
