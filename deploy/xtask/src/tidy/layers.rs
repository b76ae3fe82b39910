//! Who may import whom, read from `cargo metadata`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::shell::output_of;

/// Which half of the mesh a crate belongs to; the halves meet only in `ringsail-xds` and on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plane {
    Data,
    Control,
    /// Used by both planes.
    Shared,
}

/// Folders of tests and tools: their crates may use anything and are used by none of the above.
const TOOL_FOLDERS: [&str; 3] = ["perf", "kernel-tests", "deploy"];

/// One product crate's place.
struct Place {
    name: &'static str,
    plane: Plane,
    layer: u8,
    /// Whether Tokio may appear among its dependencies.
    tokio: bool,
}

const fn place(name: &'static str, plane: Plane, layer: u8, tokio: bool) -> Place {
    Place { name, plane, layer, tokio }
}

/// The table of ARCHITECTURE.md. Arrows point to strictly lower layers.
const PLACES: [Place; 17] = [
    place("ringsail-runtime", Plane::Data, 0, false),
    place("ringsail-xds", Plane::Shared, 0, false),
    place("ringsail-api", Plane::Control, 0, false),
    place("ringsail-tls", Plane::Shared, 1, false),
    place("ringsail-http", Plane::Data, 1, false),
    place("ringsail-reference", Plane::Data, 2, false),
    place("ringsail-model", Plane::Control, 2, false),
    place("ringsail-tables", Plane::Data, 3, false),
    place("ringsail-telemetry", Plane::Data, 3, false),
    place("ringsail-translate", Plane::Control, 3, false),
    place("ringsail-engine", Plane::Data, 4, true),
    place("ringsail-agent", Plane::Data, 4, true),
    place("ringsail-serve", Plane::Control, 4, true),
    place("ringsail-sources", Plane::Control, 4, true),
    place("ringsail-proxy", Plane::Data, 5, true),
    place("ringsaild", Plane::Control, 5, true),
    place("ringsail-cli", Plane::Control, 5, true),
];

/// Crates that only one of ours may name.
const OWNED: [(&str, &str); 4] = [
    ("monoio", "ringsail-runtime"),
    ("io-uring", "ringsail-runtime"),
    ("boring", "ringsail-tls"),
    ("boring-sys", "ringsail-tls"),
];

/// One dependency of a workspace crate.
struct Arrow<'a> {
    from: &'a str,
    to: &'a str,
    is_test: bool,
}

/// Every breach, as one sentence each.
pub fn check(root: &Path) -> Result<Vec<String>> {
    let manifest = root.join("Cargo.toml");
    let arguments = ["metadata", "--format-version=1", "--no-deps", "--manifest-path"];
    let text = output_of("cargo", &[&arguments[..], &[&manifest.to_string_lossy()]].concat())?;
    let metadata: Value = serde_json::from_str(&text).context("cargo metadata is JSON")?;
    let packages = metadata["packages"].as_array().context("cargo metadata lists packages")?;

    let mut breaches = Vec::new();
    for package in packages {
        let from = package["name"].as_str().unwrap_or_default();
        let folder = Path::new(package["manifest_path"].as_str().unwrap_or_default());
        let folder = folder.strip_prefix(root).unwrap_or(folder);
        if TOOL_FOLDERS.iter().any(|tools| folder.starts_with(tools)) {
            continue;
        }
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let to = dependency["name"].as_str().unwrap_or_default();
            let is_test = dependency["kind"] == "dev";
            breaches.extend(breach(&Arrow { from, to, is_test }));
        }
        if !places().contains_key(from) {
            breaches.push(format!(
                "{from} has no place yet: add it to deploy/xtask/src/tidy/layers.rs and ARCHITECTURE.md"
            ));
        }
        if ["common", "core", "util", "utils", "types"]
            .iter()
            .any(|vague| from.ends_with(&format!("-{vague}")))
        {
            breaches.push(format!(
                "{from}: a crate is named after its noun, not `common`, `core`, `util` or `types`"
            ));
        }
    }
    Ok(breaches)
}

fn places() -> BTreeMap<&'static str, &'static Place> {
    PLACES.iter().map(|place| (place.name, place)).collect()
}

fn breach(arrow: &Arrow<'_>) -> Option<String> {
    let Arrow { from, to, is_test } = *arrow;
    let places = places();
    let source = places.get(from)?;
    for (owned, owner) in OWNED {
        if to == owned && from != owner {
            return Some(format!("{from} names {owned}, which only {owner} may"));
        }
    }
    if to == "tokio" && !source.tokio && !is_test {
        return Some(format!(
            "{from} depends on tokio; only agent, serve, sources, binaries and tools may, and engine for h2 I/O traits"
        ));
    }
    if !is_test && (to.starts_with("ringsail") || to == "xtask") && !places.contains_key(to) {
        return Some(format!("{from} depends on {to}, a test or tool"));
    }
    let target = places.get(to)?;
    let planes_agree = match (source.plane, target.plane) {
        (_, Plane::Shared) => true,
        // A control-plane test asks the reference evaluator what its translation means.
        (Plane::Control, Plane::Data) => is_test && to == "ringsail-reference",
        (from, to) => from == to,
    };
    if !planes_agree {
        return Some(format!("{from} depends on {to} of the other plane; planes meet on the wire only"));
    }
    if target.layer >= source.layer && !is_test {
        let (low, high) = (source.layer, target.layer);
        return Some(format!("{from} (layer {low}) depends on {to} (layer {high}); arrows point down only"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(from: &str, to: &str, is_test: bool) -> Option<String> {
        breach(&Arrow { from, to, is_test })
    }

    #[test]
    fn arrows_down_are_fine() {
        assert_eq!(verdict("ringsail-engine", "ringsail-tables", false), None);
        assert_eq!(verdict("ringsail-translate", "ringsail-xds", false), None);
        assert_eq!(verdict("ringsail-translate", "ringsail-reference", true), None);
    }

    #[test]
    fn arrows_up_sideways_and_across_are_breaches() {
        for (from, to) in [
            ("ringsail-tables", "ringsail-engine"),
            ("ringsail-engine", "ringsail-agent"),
            ("ringsail-agent", "ringsail-api"),
            ("ringsail-serve", "ringsail-http"),
            ("ringsail-translate", "ringsail-reference"),
            ("ringsail-engine", "monoio"),
            ("ringsail-engine", "ringsail-upstream"),
            ("ringsail-tables", "tokio"),
        ] {
            assert!(verdict(from, to, false).is_some(), "{from} -> {to}");
        }
    }
}
