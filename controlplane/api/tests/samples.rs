//! Configuration that people really write must not be refused by mistake.

use std::fs;
use std::path::{Path, PathBuf};

use ringsail_api::validate::UNENFORCED;
use ringsail_api::{Severity, decode};

/// `RINGSAIL_CORPORA`, or `shared/corpora` beside the repository.
fn corpora() -> PathBuf {
    std::env::var_os("RINGSAIL_CORPORA")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora"), PathBuf::from)
}

fn yaml_files(dir: &Path, into: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            yaml_files(&path, into);
        } else if path.extension().is_some_and(|found| found == "yaml" || found == "yml" || found == "json") {
            into.push(path);
        }
    }
}

/// Files that are wrong on purpose or by accident, and why.
const WRONG: &[&str] = &[
    // No metadata at all; upstream's lint test expects the refusal.
    "testdata/invalid-empty-rollout-vsvc.yml",
    // networking.istio.io/v1 EnvoyFilter does not exist.
    "filters/workload-selector-filter.yaml",
    // `weight` indented into `destination`.
    "references/multiple-gateways.yaml",
    "references/multiple-vs-gateways.yaml",
    // Services without a name.
    "authorization/mtls_enabled_checker_",
    // A kustomize patch, not an object.
    "delete-loadgenerator.patch.yaml",
    // VirtualServices without a route.
    "data/validations/exportto/",
    // A Sidecar host without a domain.
    "references/auth-policy.yaml",
    // Lists of the corpus itself.
    "MANIFEST.json",
    "index.json",
];

fn check(corpus: &str) {
    let dir = corpora().join(corpus);
    if !dir.is_dir() {
        eprintln!("SKIPPED: {} is not there; set RINGSAIL_CORPORA", dir.display());
        return;
    }
    let mut files = Vec::new();
    yaml_files(&dir, &mut files);
    let (mut objects, mut errors) = (0, Vec::new());
    for file in &files {
        let name = file.strip_prefix(&dir).unwrap_or(file).display().to_string();
        let Ok(text) = fs::read_to_string(file) else { continue };
        let placeholders = ["{{", "${", "$("];
        let is_template =
            name.contains(".tmpl.") || placeholders.iter().any(|placeholder| text.contains(placeholder));
        if is_template || WRONG.iter().any(|part| name.contains(part)) {
            continue;
        }
        let decoded = decode(&text, &name);
        objects += decoded.objects.len();
        errors.extend(
            decoded
                .diagnostics
                .into_iter()
                .filter(|found| found.severity == Severity::Error && found.code != Some(UNENFORCED)),
        );
    }
    println!("{corpus}: {} files, {objects} objects, {} errors", files.len(), errors.len());
    for error in &errors {
        println!("{error}");
    }
    assert!(errors.is_empty());
}

#[test]
fn istio_samples_are_accepted() {
    check("istio-samples");
}

#[test]
fn mesh_apps_are_accepted() {
    check("mesh-apps");
}

#[test]
fn our_own_samples_are_accepted_without_a_warning() {
    let mut files = Vec::new();
    yaml_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/samples"), &mut files);
    assert!(!files.is_empty());
    for file in files.iter().filter(|file| !file.to_string_lossy().contains("broken")) {
        let text = fs::read_to_string(file).expect("readable");
        let diagnostics = decode(&text, &file.to_string_lossy()).diagnostics;
        let lines: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
        assert_eq!(lines, Vec::<String>::new());
    }
}

/// Real files with one line missing, doubled or indented: read or refused, never a panic.
#[test]
fn damaged_files_never_panic() {
    let dir = corpora().join("istio-samples");
    if !dir.is_dir() {
        eprintln!("SKIPPED: {} is not there; set RINGSAIL_CORPORA", dir.display());
        return;
    }
    let mut files = Vec::new();
    yaml_files(&dir, &mut files);
    for (seed, file) in files.iter().enumerate() {
        let Ok(text) = fs::read_to_string(file) else { continue };
        let lines: Vec<&str> = text.lines().collect();
        for round in 0..8 {
            // A step that is coprime to most lengths visits different lines for each file and round.
            let at = (seed * 31 + round * 17) % lines.len().max(1);
            let damaged: String = lines
                .iter()
                .enumerate()
                .flat_map(|(index, line)| match (index == at, round % 4) {
                    (false, _) => [line, "\n", ""],
                    (true, 0) => ["", "", ""],
                    (true, 1) => [line, "\n  ", line],
                    (true, 2) => ["    ", line, "\n"],
                    (true, _) => [line.get(..line.len() / 2).unwrap_or_default(), ": {[\n", ""],
                })
                .collect();
            decode(&damaged, "damaged.yaml");
        }
    }
}
