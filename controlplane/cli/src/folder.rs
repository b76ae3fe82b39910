//! A folder of YAML: which files count, what they hold, and whether they changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use ringsail_api::{Diagnostic, Object, ObjectKey};

/// Everything a folder's files say.
#[derive(Default)]
pub struct Contents {
    /// The accepted objects, files in alphabetical order.
    pub objects: Vec<Object>,
    /// Objects that were refused; an earlier version of them stays in force.
    pub refused: Vec<ObjectKey>,
    /// Whether some document could not even be attributed to an object.
    pub unreadable: bool,
    /// All findings.
    pub diagnostics: Vec<Diagnostic>,
    /// Number of files read.
    pub file_count: usize,
}

/// What changes when a file of the folder does.
pub type Signature = Vec<(PathBuf, u64, Option<SystemTime>)>;

/// Decodes every YAML and JSON file below `folder`.
pub fn read(folder: &Path) -> Result<Contents> {
    let mut contents = Contents::default();
    for path in files(folder)? {
        let text = match fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            // Editors replace files: one that is gone by now shows in the next look.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let mut decoded = ringsail_api::decode(&text, &path.to_string_lossy());
        contents.objects.append(&mut decoded.objects);
        contents.refused.append(&mut decoded.refused);
        contents.diagnostics.append(&mut decoded.diagnostics);
        contents.unreadable |= decoded.unreadable;
        contents.file_count += 1;
    }
    Ok(contents)
}

/// Paths, sizes and times of the folder's files: equal signatures mean nothing changed.
pub fn signature(folder: &Path) -> Result<Signature> {
    let describe = |path: PathBuf| {
        let metadata = fs::metadata(&path).ok();
        let modified = metadata.as_ref().and_then(|metadata| metadata.modified().ok());
        (path, metadata.map_or(0, |metadata| metadata.len()), modified)
    };
    Ok(files(folder)?.into_iter().map(describe).collect())
}

/// YAML and JSON files below a folder in alphabetical order, without hidden ones.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        bail!("{} is no folder; name the folder that holds your YAML files", folder.display());
    }
    let mut found = Vec::new();
    collect(folder, &mut found).with_context(|| format!("cannot list {}", folder.display()))?;
    found.sort();
    Ok(found)
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if hidden {
            continue;
        }
        if path.is_dir() {
            collect(&path, into)?;
        } else if path
            .extension()
            .is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known))
        {
            into.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_and_foreign_files_do_not_count() {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in
            [("b.yaml", ""), ("sub/a.json", ""), (".git/c.yaml", ""), ("README.md", ""), (".d.yaml", "")]
        {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("inside the folder")).expect("created");
            fs::write(path, text).expect("written");
        }
        let names: Vec<_> = files(folder.path())
            .expect("listed")
            .iter()
            .map(|path| path.strip_prefix(folder.path()).expect("inside").display().to_string())
            .collect();
        assert_eq!(names, ["b.yaml", "sub/a.json"]);
    }

    #[test]
    fn a_saved_file_changes_the_signature() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("a.yaml"), "a: 1").expect("written");
        let before = signature(folder.path()).expect("readable");
        assert_eq!(before, signature(folder.path()).expect("readable"));
        fs::write(folder.path().join("a.yaml"), "a: 12").expect("written");
        assert_ne!(before, signature(folder.path()).expect("readable"));
    }
}
