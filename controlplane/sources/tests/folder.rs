//! A folder that people edit: what is accepted serves, what is broken changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use ringsail_sources::{Batch, Change, FolderSource};
use tempfile::TempDir;

/// A folder with its source, and what serves after the batches seen so far.
struct Folder {
    dir: TempDir,
    source: FolderSource,
    serving: BTreeMap<String, String>,
    diagnostics: Vec<String>,
}

impl Folder {
    async fn with(files: &[(&str, String)]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in files {
            write(dir.path(), name, text);
        }
        let source = FolderSource::open(vec![dir.path().to_owned()]).expect("the folder is there");
        let mut folder = Self { dir, source, serving: BTreeMap::new(), diagnostics: Vec::new() };
        folder.next().await;
        folder
    }

    async fn next(&mut self) -> usize {
        let batch = tokio::time::timeout(Duration::from_secs(10), self.source.next()).await.expect("a batch");
        self.apply(batch)
    }

    fn apply(&mut self, batch: Batch) -> usize {
        let count = batch.changes.len();
        for change in batch.changes {
            match change {
                Change::Put(object) => {
                    let selector = match &object.spec {
                        ringsail_api::Spec::Service(service) => {
                            service.spec.as_ref().and_then(|spec| spec.selector.get("v").cloned())
                        }
                        _ => None,
                    };
                    self.serving.insert(object.meta.name.clone(), selector.unwrap_or_default());
                }
                Change::Delete(key) => {
                    self.serving.remove(&key.name);
                }
            }
        }
        self.diagnostics = batch.diagnostics.iter().map(ToString::to_string).collect();
        count
    }

    fn serves(&self, expected: &[(&str, &str)]) {
        let found: Vec<(&str, &str)> =
            self.serving.iter().map(|(name, version)| (name.as_str(), version.as_str())).collect();
        assert_eq!(found, expected);
    }

    fn write(&self, name: &str, text: &str) {
        write(self.dir.path(), name, text);
    }
}

fn write(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().expect("a file has a folder")).expect("writable");
    fs::write(path, text).expect("writable");
}

fn service(name: &str, version: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{selector: {{v: \"{version}\"}}}}\n"
    )
}

#[tokio::test]
async fn the_first_batch_holds_everything_in_all_subfolders() {
    let folder = Folder::with(&[
        ("a.yaml", service("a", "1") + &service("b", "1")),
        ("deep/er/c.yml", service("c", "1")),
        ("notes.txt", "not: read".to_owned()),
        (".hidden/d.yaml", service("d", "1")),
        (".e.yaml.swp", "{".to_owned()),
    ])
    .await;
    folder.serves(&[("a", "1"), ("b", "1"), ("c", "1")]);
    assert_eq!(folder.diagnostics, Vec::<String>::new());
}

#[tokio::test]
async fn edits_renames_and_deletions_are_followed() {
    let mut folder = Folder::with(&[("a.yaml", service("a", "1")), ("b.yaml", service("b", "1"))]).await;
    folder.write("a.yaml", &(service("a", "2") + &service("c", "1")));
    assert_eq!(folder.next().await, 2, "one save is one batch");
    folder.serves(&[("a", "2"), ("b", "1"), ("c", "1")]);

    // As editors save: a temporary file renamed over the old one.
    folder.write(".a.yaml.tmp", &service("a", "3"));
    fs::rename(folder.dir.path().join(".a.yaml.tmp"), folder.dir.path().join("a.yaml")).expect("renamed");
    folder.next().await;
    folder.serves(&[("a", "3"), ("b", "1")]);

    fs::remove_file(folder.dir.path().join("b.yaml")).expect("removed");
    folder.next().await;
    folder.serves(&[("a", "3")]);
}

#[tokio::test]
async fn a_refused_object_keeps_its_last_good_version_and_its_neighbours_change() {
    let mut folder = Folder::with(&[("a.yaml", service("a", "1") + &service("b", "1"))]).await;
    folder.write("a.yaml", &(service("a", "2").replace("selector", "slector") + &service("b", "2")));
    folder.next().await;
    folder.serves(&[("a", "1"), ("b", "2")]);
    assert_eq!(folder.diagnostics.len(), 1);
    assert!(folder.diagnostics[0].contains("did you mean `selector`?"), "{:?}", folder.diagnostics);
    assert!(folder.diagnostics[0].contains("its last good version keeps serving"));

    folder.write("a.yaml", &(service("a", "3") + &service("b", "2")));
    folder.next().await;
    folder.serves(&[("a", "3"), ("b", "2")]);
    assert_eq!(folder.diagnostics, Vec::<String>::new());
}

#[tokio::test]
async fn a_file_that_cannot_be_read_keeps_all_its_objects() {
    let mut folder = Folder::with(&[("a.yaml", service("a", "1") + &service("b", "1"))]).await;
    folder.write("a.yaml", &(service("a", "2") + "---\nkind: ["));
    folder.next().await;
    folder.serves(&[("a", "2"), ("b", "1")]);
    folder.write("a.yaml", "\u{0}\u{1}: {");
    folder.next().await;
    folder.serves(&[("a", "2"), ("b", "1")]);
    folder.write("a.yaml", &service("a", "2"));
    folder.next().await;
    folder.serves(&[("a", "2")]);
}

#[tokio::test]
async fn an_object_moved_to_another_file_is_never_gone() {
    let mut folder = Folder::with(&[("a.yaml", service("a", "1"))]).await;
    folder.write("b.yaml", &service("a", "1"));
    fs::remove_file(folder.dir.path().join("a.yaml")).expect("removed");
    let mut seen_deletion = false;
    for _ in 0..2 {
        if let Ok(batch) = tokio::time::timeout(Duration::from_millis(700), folder.source.next()).await {
            seen_deletion |= batch.changes.iter().any(|change| matches!(change, Change::Delete(_)));
            folder.apply(batch);
        }
    }
    assert!(!seen_deletion);
    folder.serves(&[("a", "1")]);
}

#[tokio::test]
async fn an_object_written_twice_serves_from_the_last_file_and_says_so() {
    let folder = Folder::with(&[("a.yaml", service("a", "1")), ("b.yaml", service("a", "2"))]).await;
    folder.serves(&[("a", "2")]);
    assert!(folder.diagnostics[0].contains("is also written at"), "{:?}", folder.diagnostics);
}

#[tokio::test]
async fn an_object_that_stands_in_for_another_is_no_mistake() {
    let stands_in = service("a", "2")
        .replace("metadata: {", "metadata: {annotations: {local.ringsail.io/stands-in: 'true'}, ");
    assert!(stands_in.contains("stands-in"), "{stands_in}");
    let folder = Folder::with(&[("a.yaml", service("a", "1")), ("b.yaml", stands_in)]).await;
    folder.serves(&[("a", "2")]);
    assert!(folder.diagnostics.is_empty(), "{:?}", folder.diagnostics);
}

#[tokio::test]
async fn a_folder_that_vanishes_keeps_its_objects() {
    let mut folder = Folder::with(&[("a.yaml", service("a", "1"))]).await;
    let moved = folder.dir.path().with_extension("moved");
    fs::rename(folder.dir.path(), &moved).expect("renamed");
    folder.next().await;
    folder.serves(&[("a", "1")]);
    assert!(folder.diagnostics[0].contains("keeps serving"), "{:?}", folder.diagnostics);
    fs::rename(&moved, folder.dir.path()).expect("renamed back");
    folder.next().await;
    assert_eq!(folder.diagnostics, Vec::<String>::new());
}

#[test]
fn a_missing_folder_is_an_error_at_the_start() {
    let error = FolderSource::open(vec!["/nonexistent/folder".into()]).expect_err("refused");
    assert!(error.to_string().contains("/nonexistent/folder"));
}
