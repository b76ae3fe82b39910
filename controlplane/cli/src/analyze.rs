//! `ringsail analyze`: what the control plane would refuse, without starting one.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use ringsail_api::{Diagnostic, MeshConfig, Object, Severity, find_mesh_config, read_mesh_config};
use ringsail_model::{Change, MeshBuilder, MeshSettings};

use crate::folder;

/// DNS suffix of services, as `ringsaild` has it by default.
const CLUSTER_DOMAIN: &str = "cluster.local";

/// Prints every finding about the folder's files; fails when an object is refused.
pub fn run(folder: &Path) -> Result<ExitCode> {
    let contents = folder::read(folder)?;
    let mut found = contents.diagnostics;
    let objects: Vec<Arc<Object>> = contents.objects.into_iter().map(Arc::new).collect();
    found.extend(together(&objects));
    for diagnostic in &found {
        println!("{diagnostic}");
    }
    let count = |severity| found.iter().filter(|found| found.severity == severity).count();
    let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
    println!(
        "{} file(s), {} object(s) accepted, {errors} error(s), {warnings} warning(s)",
        contents.file_count,
        objects.len()
    );
    Ok(if errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What is wrong with the mesh that the objects are together.
fn together(objects: &[Arc<Object>]) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    let config = find_mesh_config(objects.iter()).map(read_mesh_config);
    let config = config.unwrap_or_else(|| Ok(MeshConfig::default())).unwrap_or_else(|wrong| {
        found.extend(wrong);
        MeshConfig::default()
    });
    let mut builder = MeshBuilder::new(MeshSettings::new(config, CLUSTER_DOMAIN));
    builder.apply(objects.iter().map(|object| Change::Put(Arc::clone(object))));
    found.extend(ringsail_model::analyze(&builder));
    found
}
