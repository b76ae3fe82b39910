//! Running commands so that the reader can repeat them by hand.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// A command in the repository's root; its line is printed before it runs.
pub struct Shell {
    command: Command,
    environment: Vec<(String, String)>,
}

impl Shell {
    /// `program` with `arguments`, to be run in `root`.
    pub fn new<S: AsRef<OsStr>>(root: &Path, program: &str, arguments: impl IntoIterator<Item = S>) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(root).stdin(Stdio::null());
        Self { command, environment: Vec::new() }
    }

    /// `cargo` with `arguments`, words separated by spaces.
    pub fn cargo(root: &Path, arguments: &str) -> Self {
        Self::new(root, "cargo", arguments.split_whitespace())
    }

    /// Sets an environment variable; it is printed with the command.
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        let value = value.into();
        self.command.env(name, &value);
        self.environment.push((name.to_owned(), value));
        self
    }

    /// Runs it with its output passed through; a failure names the command.
    pub fn run(mut self) -> Result<()> {
        let line = self.announce();
        let status = self.command.status().with_context(|| format!("cannot start `{line}`"))?;
        if !status.success() {
            bail!("`{line}` failed ({status})");
        }
        Ok(())
    }

    /// Gives the command and the line that was printed for it, for callers that read its output.
    pub fn into_command(self) -> (Command, String) {
        let line = self.announce();
        (self.command, line)
    }

    fn announce(&self) -> String {
        let mut words: Vec<String> =
            self.environment.iter().map(|(name, value)| format!("{name}={value:?}")).collect();
        words.push(self.command.get_program().to_string_lossy().into_owned());
        words.extend(self.command.get_args().map(|word| word.to_string_lossy().into_owned()));
        let line = words.join(" ");
        println!("$ {line}");
        line
    }
}

/// Output of a command that must succeed, without printing it.
pub fn output_of(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot start `{program}`"))?;
    if !output.status.success() {
        bail!(
            "`{program} {}` failed: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The program's path when it is on PATH.
pub fn find_program(name: &str) -> Option<std::path::PathBuf> {
    let directories = std::env::var_os("PATH")?;
    std::env::split_paths(&directories).map(|directory| directory.join(name)).find(|path| path.is_file())
}
