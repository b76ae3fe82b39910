//! A folder of YAML files as a source.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use ringsail_api::limits::FILE_BYTES_MAX;
use ringsail_api::{Decoded, Diagnostic, Origin, Severity, decode};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

use crate::Batch;
use crate::catalog::Catalog;
use crate::limits::{FILE_COUNT_MAX, QUIET, QUIET_WAIT_MAX, RESCAN_INTERVAL};
use crate::scan::{self, Listing, Stamp};

/// A folder that cannot serve as a source.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is not there, or not a folder, or may not be read.
    #[error("cannot read the folder {}: {reason}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
}

/// Watches folders and gives what changed, batch by batch.
///
/// Events of the system only say *when* to look; what changed is found by comparing stamps of all files.
/// That covers editors that rename a file in, links that are switched, and lost events alike.
#[derive(Debug)]
pub struct FolderSource {
    state: State,
    events: Arc<Notify>,
    folders: Vec<PathBuf>,
    /// With the folders it watches: one that was replaced is watched anew.
    watcher: Option<(RecommendedWatcher, Vec<Identity>)>,
    started: bool,
}

/// Device and inode of a folder; nothing while it is not there.
type Identity = Option<(u64, u64)>;

#[derive(Debug)]
enum State {
    Idle(Box<Reader>),
    /// A blocking thread reads. Kept here so that a dropped call of `next` loses nothing.
    Reading(JoinHandle<(Box<Reader>, Option<Batch>)>),
    /// The reading thread panicked: nothing will ever change again.
    Lost,
}

/// The part that touches files, moved to a blocking thread for each reading.
#[derive(Debug)]
struct Reader {
    folders: Vec<PathBuf>,
    stamps: BTreeMap<(usize, PathBuf), Stamp>,
    catalog: Catalog,
    /// What is wrong with the folders themselves.
    troubles: Vec<Diagnostic>,
    reported: Arc<[Diagnostic]>,
}

impl FolderSource {
    /// Opens folders; later ones win where two hold the same object.
    ///
    /// # Errors
    /// A folder that cannot be read. One that vanishes later keeps its objects.
    pub fn open(folders: Vec<PathBuf>) -> Result<Self, OpenError> {
        for folder in &folders {
            fs::read_dir(folder).map_err(|reason| OpenError::Folder { folder: folder.clone(), reason })?;
        }
        let reader = Reader {
            folders: folders.clone(),
            stamps: BTreeMap::new(),
            catalog: Catalog::default(),
            troubles: Vec::new(),
            reported: Arc::from([]),
        };
        let mut source = Self {
            state: State::Idle(Box::new(reader)),
            events: Arc::new(Notify::new()),
            folders,
            watcher: None,
            started: false,
        };
        source.watch();
        Ok(source)
    }

    /// The next batch. The first call gives everything there is; later ones wait until something changed.
    /// Cancel-safe.
    pub async fn next(&mut self) -> Batch {
        loop {
            if let State::Idle(_) = self.state
                && self.started
            {
                self.quiet_after_event().await;
                self.watch();
            }
            let first = !self.started;
            self.state = match std::mem::replace(&mut self.state, State::Lost) {
                State::Idle(mut reader) => State::Reading(tokio::task::spawn_blocking(move || {
                    let batch = reader.read(first);
                    (reader, batch)
                })),
                reading_or_lost => reading_or_lost,
            };
            let State::Reading(reading) = &mut self.state else {
                std::future::pending::<()>().await;
                continue;
            };
            match reading.await {
                Ok((reader, batch)) => {
                    self.started = true;
                    self.state = State::Idle(reader);
                    if let Some(batch) = batch {
                        return batch;
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "reading the folder failed; its changes are no longer seen");
                    self.state = State::Lost;
                }
            }
        }
    }

    /// Waits for an event and then for quiet; returns without any event after the rescan interval.
    async fn quiet_after_event(&mut self) {
        if timeout(RESCAN_INTERVAL, self.events.notified()).await.is_err() {
            return;
        }
        let deadline = Instant::now() + QUIET_WAIT_MAX;
        loop {
            let quiet_at = (Instant::now() + QUIET).min(deadline);
            if timeout_at(quiet_at, self.events.notified()).await.is_err() {
                return;
            }
        }
    }

    /// Watches the folders, unless they are watched already.
    fn watch(&mut self) {
        let identities: Vec<Identity> = self
            .folders
            .iter()
            .map(|folder| fs::metadata(folder).ok().map(|found| (found.dev(), found.ino())))
            .collect();
        if self.watcher.as_ref().is_some_and(|(_, watched)| *watched == identities) {
            return;
        }
        let first = self.watcher.is_none() && !self.started;
        self.watcher = None;
        let events = Arc::clone(&self.events);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if !event.as_ref().is_ok_and(is_reading) {
                events.notify_one();
            }
        });
        let result = watcher.and_then(|mut watcher| {
            for folder in &self.folders {
                watcher.watch(folder, RecursiveMode::Recursive)?;
            }
            Ok(watcher)
        });
        match result {
            Ok(watcher) => self.watcher = Some((watcher, identities)),
            Err(error) if first => {
                let seconds = RESCAN_INTERVAL.as_secs();
                tracing::warn!(%error, "cannot watch the folder; looking every {seconds} s instead");
            }
            Err(_) => {}
        }
    }
}

/// Our own reading of files makes events, too; they would wake us for ever.
fn is_reading(event: &notify::Event) -> bool {
    matches!(event.kind, EventKind::Access(access)
        if !matches!(access, AccessKind::Close(AccessMode::Write)))
}

impl Reader {
    /// Reads what changed; nothing when neither objects nor diagnostics did.
    fn read(&mut self, first: bool) -> Option<Batch> {
        self.troubles.clear();
        for folder in 0..self.folders.len() {
            let root = self.folders[folder].clone();
            let listing = scan::list(&root);
            self.forget_missing(folder, &listing);
            self.report_troubles(&root, &listing);
            for (path, stamp) in listing.files {
                let key = (folder, path);
                if self.stamps.get(&key) != Some(&stamp) {
                    self.catalog.read(folder, &key.1, read_file(&key.1, &stamp));
                    self.stamps.insert(key, stamp);
                }
            }
        }
        let changes = self.catalog.settle();
        let mut diagnostics = self.catalog.diagnostics();
        diagnostics.extend(self.troubles.iter().cloned());
        let news = *diagnostics != *self.reported;
        if !first && changes.is_empty() && !news {
            return None;
        }
        self.log(&diagnostics);
        self.reported = Arc::from(diagnostics);
        Some(Batch { changes, diagnostics: Arc::clone(&self.reported) })
    }

    /// Forgets files that are gone, except below what cannot be looked at.
    fn forget_missing(&mut self, folder: usize, listing: &Listing) {
        if listing.truncated {
            return;
        }
        let gone: Vec<PathBuf> = self
            .catalog
            .files(folder)
            .filter(|path| listing.files.binary_search_by(|(found, _)| found.as_path().cmp(path)).is_err())
            .filter(|path| !listing.unreadable.iter().any(|(hidden, _)| path.starts_with(hidden)))
            .map(Path::to_owned)
            .collect();
        for path in gone {
            self.catalog.remove(folder, &path);
            self.stamps.remove(&(folder, path));
        }
    }

    fn report_troubles(&mut self, root: &Path, listing: &Listing) {
        for (path, reason) in &listing.unreadable {
            let message = format!("cannot be read: {reason}; what was known of it keeps serving");
            self.troubles.push(about_file(path, message));
        }
        if listing.truncated {
            let message = format!("more than {FILE_COUNT_MAX} files; the rest is not read");
            self.troubles.push(about_file(root, message));
        }
    }

    fn log(&self, diagnostics: &[Diagnostic]) {
        for line in diagnostics.iter().filter(|line| !self.reported.contains(line)) {
            match line.severity {
                Severity::Error => tracing::error!("{line}"),
                Severity::Warning => tracing::warn!("{line}"),
                Severity::Note => tracing::debug!("{line}"),
            }
        }
        let had_errors = |list: &[Diagnostic]| list.iter().any(|line| line.severity == Severity::Error);
        if had_errors(&self.reported) && !had_errors(diagnostics) {
            tracing::info!("every object is accepted again");
        }
    }
}

fn read_file(path: &Path, stamp: &Stamp) -> Decoded {
    let unreadable = |message: String| Decoded {
        unreadable: true,
        diagnostics: vec![about_file(path, message)],
        ..Decoded::default()
    };
    if stamp.len() > FILE_BYTES_MAX as u64 {
        return unreadable(format!("{} bytes; files over {FILE_BYTES_MAX} bytes are not read", stamp.len()));
    }
    match fs::read(path).map(String::from_utf8) {
        Ok(Ok(text)) => decode(&text, &path.to_string_lossy()),
        Ok(Err(error)) => unreadable(format!("not UTF-8 text (byte {})", error.utf8_error().valid_up_to())),
        Err(error) => unreadable(format!("cannot be read: {error}")),
    }
}

fn about_file(path: &Path, message: String) -> Diagnostic {
    Diagnostic {
        severity: Severity::Error,
        code: None,
        origin: Origin { file: Arc::from(path.to_string_lossy()), line: 1, column: 1 },
        object: None,
        field_path: String::new(),
        message,
        fix: None,
    }
}
