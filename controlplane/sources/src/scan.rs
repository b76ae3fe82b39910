//! Which files a folder holds, and which of them changed.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::limits::{FILE_COUNT_MAX, FOLDER_DEPTH_MAX};

/// What tells one state of a file from another. A rename over it changes the inode, a write the times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// The files of a folder in path order, and what could not be looked at.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    pub(crate) files: Vec<(PathBuf, Stamp)>,
    /// Folders (and files) that exist but cannot be read: what is known of them stays.
    pub(crate) unreadable: Vec<(PathBuf, String)>,
    /// True when there were more files than [`FILE_COUNT_MAX`].
    pub(crate) truncated: bool,
}

impl Stamp {
    pub(crate) fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }
}

/// Lists the YAML and JSON files below `root`, links followed, hidden names skipped (Kubernetes keeps the
/// real files of a mounted ConfigMap under `..data`; editors keep their temporary ones under dot names).
pub(crate) fn list(root: &Path) -> Listing {
    let mut listing = Listing::default();
    visit(root, 0, &mut listing);
    listing
}

fn visit(folder: &Path, depth: usize, listing: &mut Listing) {
    let names = match folder_names(folder) {
        Ok(names) => names,
        // Gone between being listed and being read, unless it is the root.
        Err(error) if depth > 0 && error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => {
            listing.unreadable.push((folder.to_owned(), error.to_string()));
            return;
        }
    };
    for path in names {
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                listing.unreadable.push((path, error.to_string()));
                continue;
            }
        };
        if metadata.is_dir() {
            if depth < FOLDER_DEPTH_MAX {
                visit(&path, depth + 1, listing);
            } else {
                let reason = format!("more than {FOLDER_DEPTH_MAX} folders deep");
                listing.unreadable.push((path, reason));
            }
        } else if metadata.is_file() && is_configuration(&path) {
            if listing.files.len() >= FILE_COUNT_MAX {
                listing.truncated = true;
                return;
            }
            listing.files.push((path, Stamp::of(&metadata)));
        }
    }
}

fn folder_names(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

fn is_configuration(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json")
}
