//! What processes print: kept in one file each, and shown with the process's name in front.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};

use crate::limits::OUTPUT_LINE_BYTES_MAX;

/// Colours of the names, so that eyes can follow one process; ANSI codes that read well on dark and light.
const COLOURS: [u8; 6] = [36, 33, 35, 32, 34, 31];

/// Where lines go: the log folder, and the terminal unless it should be quiet.
#[derive(Clone)]
pub struct Output {
    folder: PathBuf,
    show: bool,
    colour: bool,
}

impl Output {
    /// Keeps logs in `folder` and shows lines when `show`.
    pub fn new(folder: &Path, show: bool) -> Self {
        let colour = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { folder: folder.to_owned(), show, colour }
    }

    /// The log file of a process.
    pub fn log_path(&self, process: &str) -> PathBuf {
        self.folder.join(format!("{}.log", process.replace('/', ".")))
    }

    /// Opens the log of a process, going on where an earlier run of it ended.
    pub fn open_log(&self, process: &str) -> Result<File> {
        let path = self.log_path(process);
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Passes a stream on line by line until it ends.
    pub async fn follow(self, process: String, from: impl AsyncRead + Unpin, mut log: File) {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        loop {
            line.clear();
            match (&mut from).take(OUTPUT_LINE_BYTES_MAX).read_until(b'\n', &mut line).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            if line.last() != Some(&b'\n') {
                line.push(b'\n');
            }
            // A full disk must not end the mesh; the line is still shown.
            log.write_all(&line).ok();
            if self.show {
                self.print(&process, &String::from_utf8_lossy(&line));
            }
        }
    }

    fn print(&self, process: &str, line: &str) {
        let mut stdout = std::io::stdout().lock();
        let written = if self.colour {
            let sum: usize = process.bytes().map(usize::from).sum();
            write!(stdout, "\x1b[{}m{process:<28}\x1b[0m | {line}", COLOURS[sum % COLOURS.len()])
        } else {
            write!(stdout, "{process:<28} | {line}")
        };
        // A reader that went away (a closed pipe) is no reason to stop the mesh.
        written.ok();
    }
}

/// One line of our own. A reader that went away is no reason to stop the mesh.
pub fn say(text: &str) {
    writeln!(std::io::stdout(), "ringsail: {text}").ok();
}
