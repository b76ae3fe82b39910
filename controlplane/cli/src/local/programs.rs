//! Where programs are found: beside this one, then on PATH.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

/// One of our own programs. Built together they lie together.
pub fn own(name: &str) -> Result<PathBuf> {
    if let Some(found) = beside_us(name).or_else(|| on_path(name)) {
        return Ok(found);
    }
    bail!(
        "cannot find {name} beside this program or on PATH; in a checkout, build it with `cargo build --release --bin {name}`"
    )
}

/// A workload's program: a path as written (from `directory`), or a name that is searched.
pub fn of_workload(command: &str, directory: &Path) -> Result<PathBuf> {
    if command.contains('/') {
        let path = directory.join(command);
        if path.is_file() {
            return Ok(path);
        }
        bail!("{} does not exist", path.display());
    }
    match beside_us(command).or_else(|| on_path(command)) {
        Some(found) => Ok(found),
        None => bail!("cannot find `{command}` beside this program or on PATH; write its path in `command`"),
    }
}

/// A program on PATH.
pub fn on_path(name: &str) -> Option<PathBuf> {
    let list = env::var_os("PATH")?;
    env::split_paths(&list).map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn beside_us(name: &str) -> Option<PathBuf> {
    let path = env::current_exe().ok()?.parent()?.join(name);
    path.is_file().then_some(path)
}
