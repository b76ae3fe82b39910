//! Resources in files that are followed: `path_config_source`.
//!
//! One helper thread watches the directories of all files, reads what changed and parses it, so that a large file
//! delays nothing else. Files are meant to be replaced by renaming; a file that is half written when it is read is
//! reported as broken and read again with the next event. Source: Envoy, "filesystem subscriptions".

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Instant;

use bytes::Bytes;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use ringsail_tables::ResourceType;
use ringsail_xds::json::{Schema, Step};
use serde_json::Value;

use crate::bootstrap::read_file;
use crate::document::{self, DocumentError};
use crate::limits::{FILE_POLL, FILE_SETTLE, SECRET_BYTES_MAX};

/// A file's contents.
#[derive(Clone, Debug, PartialEq)]
pub struct FileContent {
    /// `version_info`.
    pub version: Arc<str>,
    /// Its resources: name and message.
    pub resources: Vec<(Arc<str>, Bytes)>,
    /// Resources that cannot be read, with file, line and field. The others count.
    pub problems: Vec<DocumentError>,
}

/// A file was read.
#[derive(Clone, Debug, PartialEq)]
pub struct FileEvent {
    /// Which type of resources it holds.
    pub kind: ResourceType,
    /// The file.
    pub path: PathBuf,
    /// What is in it, or why it cannot be used at all.
    pub outcome: Result<FileContent, DocumentError>,
}

/// What is followed: files of resources of a type, and files whose bytes are parts of secrets (no type).
type Followed = BTreeSet<(Option<ResourceType>, PathBuf)>;

/// The bytes of a file, or why it cannot be read.
pub type Bits = Result<Bytes, DocumentError>;

/// Something was read.
#[derive(Clone, Debug, PartialEq)]
pub enum Read {
    /// A file of resources.
    Resources(FileEvent),
    /// A file whose bytes are part of a secret.
    Bytes(PathBuf, Bits),
}

enum Message {
    Follow(Followed),
    Event,
    Stop,
}

/// Handle of the helper thread. The thread ends with it.
#[derive(Debug)]
pub struct Files {
    messages: Sender<Message>,
    followed: Followed,
}

impl Files {
    /// Starts the thread. `deliver` is called on it and says whether to go on.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(deliver: impl FnMut(Read) -> bool + Send + 'static) -> std::io::Result<Files> {
        let (messages, inbox) = channel();
        let events = messages.clone();
        std::thread::Builder::new().name("files".to_string()).spawn(move || {
            let watcher = notify::recommended_watcher(move |_| drop(events.send(Message::Event)));
            let watcher = watcher.inspect_err(
                |error| tracing::warn!(%error, "no file events, files are compared every {FILE_POLL:?}"),
            );
            Follower { watcher: watcher.ok(), watched: BTreeSet::new(), files: BTreeMap::new(), deliver }
                .run(&inbox);
        })?;
        Ok(Files { messages, followed: BTreeSet::new() })
    }

    /// Sets which files are followed. New ones are read at once.
    pub fn follow(&mut self, files: BTreeSet<(Option<ResourceType>, PathBuf)>) {
        if files != self.followed {
            self.followed.clone_from(&files);
            let _ = self.messages.send(Message::Follow(files));
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // The watcher's callback holds a sender as well, so the channel alone would not end the thread.
        let _ = self.messages.send(Message::Stop);
    }
}

struct Follower<D> {
    watcher: Option<RecommendedWatcher>,
    /// Directories watched.
    watched: BTreeSet<PathBuf>,
    /// Followed files with the hash of what was read last.
    files: BTreeMap<(Option<ResourceType>, PathBuf), Option<u64>>,
    deliver: D,
}

impl<D: FnMut(Read) -> bool> Follower<D> {
    fn run(mut self, inbox: &Receiver<Message>) {
        loop {
            match inbox.recv_timeout(FILE_POLL) {
                Ok(Message::Follow(files)) => self.follow(files),
                Ok(Message::Event) => {
                    if !settle(inbox, |files| self.follow(files)) {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
            if !self.read_changed() {
                return;
            }
        }
    }

    fn follow(&mut self, files: Followed) {
        self.files.retain(|file, _| files.contains(file));
        for file in files {
            self.files.entry(file).or_insert(None);
        }
        let directories: BTreeSet<PathBuf> = self.files.keys().map(|(_, path)| directory(path)).collect();
        if let Some(watcher) = &mut self.watcher {
            for gone in self.watched.difference(&directories) {
                let _ = watcher.unwatch(gone);
            }
            for directory in directories.difference(&self.watched) {
                if let Err(error) = watcher.watch(directory, RecursiveMode::NonRecursive) {
                    tracing::warn!(directory = %directory.display(), %error, "cannot be watched");
                }
            }
        }
        self.watched = directories;
    }

    /// Reads all files and delivers those that changed.
    fn read_changed(&mut self) -> bool {
        for ((kind, path), last) in &mut self.files {
            let read = match kind {
                Some(_) => read_file(path).map(String::into_bytes),
                None => read_bytes(path),
            };
            let mut hasher = DefaultHasher::new();
            match &read {
                Ok(bytes) => bytes.hash(&mut hasher),
                Err(error) => error.text.hash(&mut hasher),
            }
            let hash = hasher.finish();
            if last.replace(hash) == Some(hash) {
                continue;
            }
            let event = match *kind {
                None => Read::Bytes(path.clone(), read.map(Bytes::from)),
                Some(kind) => {
                    let text = read.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
                    let outcome = text.and_then(|text| parse(kind, &path.display().to_string(), &text));
                    Read::Resources(FileEvent { kind, path: path.clone(), outcome })
                }
            };
            if !(self.deliver)(event) {
                return false;
            }
        }
        true
    }
}

/// Waits until nothing happens for [`FILE_SETTLE`], at most ten times that. False when the thread is to end.
fn settle(inbox: &Receiver<Message>, mut follow: impl FnMut(Followed)) -> bool {
    let deadline = Instant::now() + FILE_SETTLE * 10;
    while Instant::now() < deadline {
        match inbox.recv_timeout(FILE_SETTLE) {
            Ok(Message::Event) => {}
            Ok(Message::Follow(files)) => follow(files),
            Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
            Err(RecvTimeoutError::Timeout) => break,
        }
    }
    true
}

/// A part of a secret: not necessarily text.
fn read_bytes(path: &Path) -> Result<Vec<u8>, DocumentError> {
    use std::io::Read as _;
    let origin = path.display().to_string();
    let failure =
        |text: String| DocumentError { origin: origin.clone(), at: None, field: String::new(), text };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| failure(format!("cannot be read: {error}")))?;
    let bounded = file.take(SECRET_BYTES_MAX + 1).read_to_end(&mut bytes);
    bounded.map_err(|error| failure(format!("cannot be read: {error}")))?;
    if bytes.len() as u64 > SECRET_BYTES_MAX {
        return Err(failure(format!("has more than {SECRET_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

fn directory(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// Reads a discovery response in JSON or YAML.
fn parse(kind: ResourceType, origin: &str, text: &str) -> Result<FileContent, DocumentError> {
    let document = document::read(origin, text)?;
    let broken = |path: &[Step], problem: &str| document::error_at(origin, text, path, problem.to_string());
    let Some(members) = document.as_object() else { return Err(broken(&[], "is no discovery response")) };
    if let Some(key) = members.keys().find(|key| !RESPONSE_FIELDS.contains(&key.as_str())) {
        return Err(broken(&[Step::Key(key.clone())], "is no field of a discovery response"));
    }
    let version =
        ["version_info", "versionInfo"].iter().find_map(|key| members.get(*key)).and_then(Value::as_str);
    let items = match members.get("resources") {
        None | Some(Value::Null) => &[][..],
        Some(Value::Array(items)) => items,
        Some(_) => return Err(broken(&[Step::Key("resources".to_string())], "must be a list")),
    };
    let schema = Schema::shared();
    let mut content =
        FileContent { version: version.unwrap_or_default().into(), resources: Vec::new(), problems: vec![] };
    let mut names = BTreeSet::new();
    for (index, item) in items.iter().enumerate() {
        let path =
            |rest: Vec<Step>| [vec![Step::Key("resources".to_string()), Step::Index(index)], rest].concat();
        match schema.any_from_json(item) {
            Ok(any) if ResourceType::from_type_url(&any.type_url) != Some(kind) => {
                // Compat: Envoy refuses the file as a whole when it holds another type.
                return Err(broken(&path(vec![]), &format!("must be of type {}", kind.message_name())));
            }
            Ok(any) => {
                let name = item[name_field(kind)]
                    .as_str()
                    .or_else(|| item["clusterName"].as_str())
                    .unwrap_or_default();
                if names.insert(name.to_string()) {
                    content.resources.push((name.into(), any.value.into()));
                } else {
                    content.problems.push(broken(&path(vec![]), &format!("{name:?} is there twice")));
                }
            }
            Err(error) => content.problems.push(broken(&path(error.path), &error.text)),
        }
    }
    Ok(content)
}

/// Source: `envoy.service.discovery.v3.DiscoveryResponse`, in both spellings.
const RESPONSE_FIELDS: &[&str] = &[
    "version_info",
    "versionInfo",
    "resources",
    "type_url",
    "typeUrl",
    "nonce",
    "canary",
    "control_plane",
    "controlPlane",
];

fn name_field(kind: ResourceType) -> &'static str {
    match kind {
        ResourceType::ClusterLoadAssignment => "cluster_name",
        ResourceType::Cluster
        | ResourceType::Listener
        | ResourceType::RouteConfiguration
        | ResourceType::Secret => "name",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const CLUSTER: &str = "'@type': type.googleapis.com/envoy.config.cluster.v3.Cluster";

    fn clusters(text: &str) -> Result<FileContent, String> {
        parse(ResourceType::Cluster, "f", text).map_err(|error| error.to_string())
    }

    #[test]
    fn good_resources_of_a_file_count_although_another_is_broken() {
        let text = format!(
            "version_info: '7'\nresources:\n- {{{CLUSTER}, name: a}}\n- {{{CLUSTER}, name: b, tipe: x}}\n- {{{CLUSTER}, name: c}}\n"
        );
        let content = clusters(&text).expect("usable");
        let names: Vec<&str> = content.resources.iter().map(|(name, _)| &**name).collect();
        assert_eq!((&*content.version, names), ("7", vec!["a", "c"]));
        assert_eq!(content.problems.len(), 1);
        let problem = content.problems[0].to_string();
        assert!(
            problem.starts_with("f:4:") && problem.contains("resources[1].tipe: is no field"),
            "{problem}"
        );
    }

    #[test]
    fn a_file_that_is_no_response_is_refused_as_a_whole() {
        assert!(clusters("resources: 1").expect_err("refused").contains("resources: must be a list"));
        assert!(clusters("[1]").expect_err("refused").contains("is no discovery response"));
        assert!(clusters("clusters: []").expect_err("refused").contains("clusters: is no field"));
        let listener =
            "resources: [{'@type': type.googleapis.com/envoy.config.listener.v3.Listener, name: a}]";
        assert!(
            clusters(listener)
                .expect_err("refused")
                .contains("must be of type envoy.config.cluster.v3.Cluster")
        );
    }

    #[test]
    fn a_renamed_in_file_is_read_and_an_unchanged_one_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("cds.yaml");
        let write = |names: &[&str]| {
            let items: Vec<String> =
                names.iter().map(|name| format!("{{{CLUSTER}, name: {name}}}")).collect();
            let fresh = dir.path().join("fresh");
            std::fs::write(&fresh, format!("resources: [{}]", items.join(", "))).expect("written");
            std::fs::rename(&fresh, &path).expect("renamed");
        };
        let (sender, events) = channel();
        let mut files = Files::start(move |event| sender.send(event).is_ok()).expect("started");
        files.follow([(Some(ResourceType::Cluster), path.clone())].into());
        let next = || {
            events
                .recv_timeout(Duration::from_secs(10))
                .map(|read| match read {
                    Read::Resources(event) => event.outcome.map(|content| content.resources.len()),
                    Read::Bytes(..) => panic!("nobody asked for bytes"),
                })
                .expect("an event")
        };
        assert!(next().expect_err("missing").text.contains("cannot be read"));
        write(&["a"]);
        assert_eq!(next().expect("read"), 1);
        write(&["a"]);
        write(&["a", "b"]);
        assert_eq!(next().expect("read"), 2);
    }
}
