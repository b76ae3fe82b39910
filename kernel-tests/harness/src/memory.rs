//! How much memory a process holds.

use std::fs;

use anyhow::{Context, Result};

/// Resident set of process `pid` in bytes: `VmRSS` of `/proc/PID/status`, see proc(5).
pub fn resident_bytes(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("status has no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}
