//! `ringsail analyze`: what the control plane would refuse, without starting one.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use ringsail_api::Severity;

use crate::folder;

/// Prints every finding about the folder's files; fails when an object is refused.
pub fn run(folder: &Path) -> Result<ExitCode> {
    let contents = folder::read(folder)?;
    for diagnostic in &contents.diagnostics {
        println!("{diagnostic}");
    }
    let count = |severity| contents.diagnostics.iter().filter(|found| found.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    println!(
        "{} file(s), {} object(s) accepted, {errors} error(s), {warnings} warning(s)",
        contents.file_count,
        contents.objects.len()
    );
    Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
