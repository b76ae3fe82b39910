//! What the files hold and what of it serves: the rules of replacing, keeping and deleting.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringsail_api::{Decoded, Diagnostic, Object, ObjectKey, STANDS_IN, Severity};
use ringsail_model::Change;

/// The last reading of one file.
#[derive(Debug, Default)]
struct Reading {
    objects: Vec<Arc<Object>>,
    refused: BTreeSet<ObjectKey>,
    /// Objects of earlier readings that may still be in a file that cannot be read.
    kept: BTreeSet<ObjectKey>,
    diagnostics: Vec<Diagnostic>,
}

/// What every file held when it was read last, and the objects that serve because of it.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    readings: BTreeMap<(usize, PathBuf), Reading>,
    serving: BTreeMap<ObjectKey, Arc<Object>>,
}

impl Catalog {
    /// Records what a file of the source's folder number `folder` holds.
    pub(crate) fn read(&mut self, folder: usize, path: &Path, decoded: Decoded) {
        let previous = self.readings.remove(&(folder, path.to_owned())).unwrap_or_default();
        let kept = match decoded.unreadable {
            true => previous.objects.iter().map(|object| object.key()).chain(previous.kept).collect(),
            false => BTreeSet::new(),
        };
        let reading = Reading {
            objects: decoded.objects.into_iter().map(Arc::new).collect(),
            refused: decoded.refused.into_iter().collect(),
            kept,
            diagnostics: decoded.diagnostics,
        };
        self.readings.insert((folder, path.to_owned()), reading);
    }

    /// Records that a file is gone.
    pub(crate) fn remove(&mut self, folder: usize, path: &Path) {
        self.readings.remove(&(folder, path.to_owned()));
    }

    /// The files read so far in that folder.
    pub(crate) fn files(&self, folder: usize) -> impl Iterator<Item = &Path> {
        self.readings.keys().filter(move |(of, _)| *of == folder).map(|(_, path)| path.as_path())
    }

    /// Brings what serves in line with what was read, and says what changed. Objects written twice serve in
    /// the version of the last file (in folder, then path order), as `kubectl apply` leaves them.
    pub(crate) fn settle(&mut self) -> Vec<Change> {
        let mut next: BTreeMap<ObjectKey, Arc<Object>> = BTreeMap::new();
        for reading in self.readings.values() {
            for object in &reading.objects {
                next.insert(object.key(), Arc::clone(object));
            }
        }
        for reading in self.readings.values() {
            for key in reading.refused.iter().chain(&reading.kept) {
                if !next.contains_key(key)
                    && let Some(object) = self.serving.get(key)
                {
                    next.insert(key.clone(), Arc::clone(object));
                }
            }
        }
        let mut changes = Vec::new();
        for key in self.serving.keys().filter(|key| !next.contains_key(key)) {
            changes.push(Change::Delete(key.clone()));
        }
        for (key, object) in &next {
            let same =
                self.serving.get(key).is_some_and(|before| Arc::ptr_eq(before, object) || before == object);
            if !same {
                changes.push(Change::Put(Arc::clone(object)));
            }
        }
        self.serving = next;
        changes
    }

    /// Everything that is wrong, in file order; objects that serve in an older version say so.
    pub(crate) fn diagnostics(&self) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        let mut first_origin: BTreeMap<ObjectKey, &Arc<Object>> = BTreeMap::new();
        for reading in self.readings.values() {
            found.extend(reading.diagnostics.iter().map(|line| self.with_consequence(line, reading)));
            for object in &reading.objects {
                let stands_in = object.meta.annotations.contains_key(STANDS_IN);
                if let Some(first) = first_origin.insert(object.key(), object).filter(|_| !stands_in) {
                    found.push(Diagnostic {
                        severity: Severity::Warning,
                        code: None,
                        origin: object.origin.clone(),
                        object: Some(object.key()),
                        field_path: String::new(),
                        message: format!("is also written at {}; the version here is used", first.origin),
                        fix: Some("remove one of the two".to_owned()),
                    });
                }
            }
        }
        found
    }

    fn with_consequence(&self, line: &Diagnostic, reading: &Reading) -> Diagnostic {
        let mut line = line.clone();
        if line.severity == Severity::Error {
            let serving = line.object.as_ref().and_then(|key| self.serving.get(key));
            match (&line.object, serving) {
                (Some(key), Some(_)) if reading.refused.contains(key) => {
                    line.message += " (refused; its last good version keeps serving)";
                }
                // Findings about what is not enforced say it themselves.
                (Some(_), _) if line.message.ends_with("refused") => {}
                (Some(_), _) => line.message += " (refused)",
                (None, _) if !reading.kept.is_empty() => {
                    line.message += " (what this file held before keeps serving)";
                }
                (None, _) => {}
            }
        }
        line
    }
}
