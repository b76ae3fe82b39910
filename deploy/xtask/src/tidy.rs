//! `cargo xtask tidy`: the rules of ARCHITECTURE.md that a compiler does not check.

use std::path::Path;

use anyhow::{Result, bail};

mod layers;
mod sources;

/// Checks the layering of crates and the bans on source text; prints every breach.
pub fn run(root: &Path) -> Result<()> {
    let mut breaches = layers::check(root)?;
    breaches.extend(sources::check(root)?);
    for breach in &breaches {
        println!("tidy: {breach}");
    }
    if breaches.is_empty() {
        println!("tidy: layering and source rules hold");
        return Ok(());
    }
    bail!("{} breach(es) of the rules in ARCHITECTURE.md", breaches.len())
}
