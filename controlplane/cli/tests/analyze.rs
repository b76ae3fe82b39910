//! `ringsail analyze` over the folders users meet first.

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Exit code and output of `ringsail analyze FOLDER`.
fn analyze(folder: &Path) -> (bool, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_ringsail")).arg("analyze").arg(folder).output().expect("it runs");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

#[test]
fn our_sample_has_no_errors() {
    let (ok, text) = analyze(&root().join("deploy/samples/bookinfo"));
    assert!(ok && text.contains(" 0 error(s)"), "{text}");
}

#[test]
fn every_story_step_is_accepted_but_the_broken_one() {
    let stories = std::fs::read_dir(root().join("deploy/samples/bookinfo-story")).expect("listed");
    for entry in stories {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            let (ok, text) = analyze(&path);
            assert_eq!(ok, !path.ends_with("7-broken-file"), "{}: {text}", path.display());
        }
    }
}

#[test]
fn a_broken_file_is_reported_with_place_field_and_fix() {
    let (_, text) = analyze(&root().join("deploy/samples/bookinfo-story/7-broken-file"));
    for part in ["networking/reviews.yaml:12:", "subsett", "subset"] {
        assert!(text.contains(part), "{part} is missing in {text}");
    }
}

#[test]
fn istios_own_bookinfo_loads_unchanged() {
    let folder = root().join("../shared/corpora/istio-samples/samples/bookinfo/networking");
    if !folder.is_dir() {
        println!("SKIPPED: {} is not on this machine", folder.display());
        return;
    }
    let (_, text) = analyze(&folder);
    // TLS is not enforced yet, and what asks for it must be refused by name instead of being served in the clear.
    let refused: Vec<&str> = text.lines().filter(|line| line.contains(": error")).collect();
    for line in &refused {
        let asks_for_tls = line.to_lowercase().contains("tls");
        assert!(asks_for_tls, "refused although it asks for no TLS: {line}");
    }
}

#[test]
fn a_missing_folder_is_explained() {
    let (ok, text) = analyze(Path::new("/no/such/folder"));
    assert!(!ok && text.contains("/no/such/folder is no folder"), "{text}");
}
