//! What machine the figures come from.

use std::fs;
use std::process::Command;

/// One line: processor, cores, kernel.
pub fn describe() -> String {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown processor", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(1, |count| count.get());
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{model}, {cores} cores, Linux {}", kernel.trim())
}

/// What `program` says behind `version:` when asked with `flag`, for the report: never where it is installed.
pub fn version_of(program: &std::path::Path, flag: &str) -> String {
    let Ok(output) = Command::new(program).arg(flag).output() else { return "not found".to_string() };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let named = text.lines().find_map(|line| line.split_once("version:"));
    named.map_or("unknown version", |(_, version)| version.trim()).to_string()
}
