//! One document to one object (or, for a List, to several): the envelope around the message.

use std::sync::Arc;

use prost_reflect::DynamicMessage;

use crate::decode::message::{read_fields, read_message};
use crate::decode::problem::{Problem, Problems};
use crate::decode::tree::{Document, Entry, Node, Position, TreeError, Value};
use crate::decode::{Decoded, POOL, suggest};
use crate::diagnostic::{Diagnostic, Origin, Severity};
use crate::istio::mesh::v1alpha1::{MeshConfig, ProxyConfig};
use crate::kind::{Kind, Shape};
use crate::object::{META_MESSAGE, Object, ObjectKey, ObjectMeta};
use crate::path::{FieldPath, Segment};
use crate::validate::{self, Finding};

/// The namespace of namespaced objects that name none.
const DEFAULT_NAMESPACE: &str = "default";

/// Lists may hold lists, but not for ever.
const LIST_NESTING_MAX: usize = 4;

/// Groups whose every kind concerns a mesh: an unknown kind in them is worth a warning.
const MESH_GROUPS: [&str; 4] =
    ["networking.istio.io", "security.istio.io", "telemetry.istio.io", "extensions.istio.io"];

/// Collects what a text holds.
pub(super) struct Reader {
    file: Arc<str>,
    decoded: Decoded,
}

/// What the first lines of a document say about it.
struct Envelope<'a> {
    api_version: &'a str,
    kind_name: &'a str,
    kind_at: Position,
}

impl Reader {
    pub(super) fn new(file: Arc<str>) -> Self {
        Self { file, decoded: Decoded::default() }
    }

    pub(super) fn finish(self) -> Decoded {
        self.decoded
    }

    /// Records a document that cannot be read at all.
    pub(super) fn unreadable(&mut self, error: TreeError) {
        self.decoded.unreadable = true;
        let diagnostic = self.diagnostic(Severity::Error, error.at, None, error.message, error.fix);
        self.decoded.diagnostics.push(diagnostic);
    }

    /// Reads one document.
    pub(super) fn document(&mut self, document: &Document) {
        if !document.root.is_null() {
            self.node(&document.root, &document.errors, 0);
        }
    }

    fn node(&mut self, node: &Node, errors: &[TreeError], nesting: usize) {
        let Value::Map(entries) = &node.value else {
            let message = format!("expected an object with apiVersion and kind, found {}", node.describe());
            self.unreadable(TreeError { at: node.at, message, fix: None });
            return;
        };
        if node.get("apiVersion").is_none() && node.get("kind").is_none() && !looks_like_object(entries) {
            let message = "not a Kubernetes object: it has neither `apiVersion` nor `kind`".to_owned();
            let note = self.diagnostic(Severity::Note, node.at, None, message, None);
            self.decoded.diagnostics.push(note);
            return;
        }
        let Some(envelope) = self.envelope(node) else { return };
        let (group, version) = envelope.api_version.split_once('/').unwrap_or(("", envelope.api_version));
        if envelope.kind_name.ends_with("List")
            && let Some(items) = node.get("items")
        {
            self.list(items, errors, nesting);
            return;
        }
        let Some(kind) = Kind::find(group, envelope.kind_name) else {
            self.unknown_kind(&envelope, group);
            return;
        };
        if !kind.versions().contains(&version) {
            let served: Vec<String> =
                kind.versions().iter().map(|served| api_version(group, served)).collect();
            let message = format!("{kind} has no version `{}`", envelope.api_version);
            let at = node.get("apiVersion").map_or(node.at, |found| found.at);
            self.unreadable(TreeError { at, message, fix: Some(format!("use {}", served.join(" or "))) });
            return;
        }
        self.object(node, entries, kind, &envelope, errors);
    }

    fn envelope<'a>(&mut self, node: &'a Node) -> Option<Envelope<'a>> {
        let mut text = |key: &str| match node.get(key).map(|found| (found.text(), found.at)) {
            Some((Some(text), at)) if !text.is_empty() => Some((text, at)),
            Some((_, at)) => {
                let message = format!("`{key}` must be a word");
                self.unreadable(TreeError { at, message, fix: None });
                None
            }
            None => {
                let fix = match &node.value {
                    Value::Map(entries) => {
                        suggest::closest(key, entries.iter().map(|entry| entry.key.as_str()))
                            .map(|similar| format!("`{similar}` should probably be `{key}`"))
                    }
                    _ => None,
                };
                let message = format!("not a Kubernetes object: it has no `{key}`");
                self.unreadable(TreeError { at: node.at, message, fix });
                None
            }
        };
        let (api_version, _) = text("apiVersion")?;
        let (kind_name, kind_at) = text("kind")?;
        Some(Envelope { api_version, kind_name, kind_at })
    }

    fn list(&mut self, items: &Node, errors: &[TreeError], nesting: usize) {
        if nesting >= LIST_NESTING_MAX {
            let message = format!("lists nested more than {LIST_NESTING_MAX} deep");
            self.unreadable(TreeError { at: items.at, message, fix: None });
            return;
        }
        match &items.value {
            Value::List(nodes) => {
                for (index, node) in nodes.iter().enumerate() {
                    // A key written twice spoils the element it stands in, not its neighbours.
                    let until = nodes.get(index + 1).map_or(u32::MAX, |next| next.at.line);
                    let within: Vec<TreeError> = errors
                        .iter()
                        .filter(|error| (node.at.line..until).contains(&error.at.line))
                        .cloned()
                        .collect();
                    self.node(node, &within, nesting + 1);
                }
            }
            _ if items.is_null() => {}
            _ => {
                let message = format!("expected a list of objects, found {}", items.describe());
                self.unreadable(TreeError { at: items.at, message, fix: None });
            }
        }
    }

    fn unknown_kind(&mut self, envelope: &Envelope<'_>, group: &str) {
        let names = Kind::ALL.iter().filter(|kind| kind.group() == group).map(|kind| kind.name());
        let similar = suggest::closest(envelope.kind_name, names);
        // The right kind under a wrong group is a common slip (`security.istio.io` VirtualService).
        let elsewhere = Kind::ALL.iter().find(|kind| kind.name() == envelope.kind_name);
        let concerns_mesh = MESH_GROUPS.contains(&group);
        let fix = match (similar, elsewhere) {
            (Some(name), _) if concerns_mesh => Some(format!("did you mean `{name}`?")),
            (_, Some(kind)) if concerns_mesh || group.is_empty() => {
                Some(format!("use apiVersion {}", api_version(kind.group(), kind.versions()[0])))
            }
            _ => None,
        };
        let severity = if concerns_mesh || fix.is_some() { Severity::Warning } else { Severity::Note };
        let message = format!("{} {} is not read", envelope.api_version, envelope.kind_name);
        let diagnostic = self.diagnostic(severity, envelope.kind_at, None, message, fix);
        self.decoded.diagnostics.push(diagnostic);
    }

    fn object(
        &mut self,
        node: &Node,
        entries: &[Entry],
        kind: Kind,
        envelope: &Envelope<'_>,
        errors: &[TreeError],
    ) {
        let mut problems = Problems::default();
        for error in errors {
            problems.error(error.at, error.message.clone(), error.fix.clone());
        }
        let meta = read_meta(node, kind, &mut problems);
        let key = ObjectKey { kind, namespace: meta.namespace.clone(), name: meta.name.clone() };
        let message = read_content(node, entries, kind, &mut problems);
        let spec = match kind.spec(&message) {
            Ok(spec) => spec,
            Err(error) => {
                problems.error(node.at, format!("cannot be represented: {error}"), None);
                self.refuse(problems, key);
                return;
            }
        };
        if problems.has_errors() {
            self.refuse(problems, key);
            return;
        }
        self.report(problems, &key);
        let object = Object {
            api_version: envelope.api_version.to_owned(),
            kind,
            meta,
            spec,
            origin: self.origin(node.at),
        };
        let findings = validate::check(&object);
        let refused = findings.iter().any(|finding| finding.severity == Severity::Error);
        for finding in findings {
            let diagnostic = of_finding(finding, node, &self.file, Some(&key));
            self.decoded.diagnostics.push(diagnostic);
        }
        if refused {
            self.push_refused(key);
        } else {
            self.decoded.objects.push(object);
        }
    }

    fn refuse(&mut self, problems: Problems, key: ObjectKey) {
        self.report(problems, &key);
        self.push_refused(key);
    }

    fn report(&mut self, problems: Problems, key: &ObjectKey) {
        for problem in problems.into_found() {
            let diagnostic = of_problem(problem, &self.file, Some(key));
            self.decoded.diagnostics.push(diagnostic);
        }
    }

    fn push_refused(&mut self, key: ObjectKey) {
        if key.name.is_empty() {
            self.decoded.unreadable = true;
        } else {
            self.decoded.refused.push(key);
        }
    }

    fn origin(&self, at: Position) -> Origin {
        Origin { file: Arc::clone(&self.file), line: at.line, column: at.column }
    }

    fn diagnostic(
        &self,
        severity: Severity,
        at: Position,
        object: Option<ObjectKey>,
        message: String,
        fix: Option<String>,
    ) -> Diagnostic {
        let origin = self.origin(at);
        Diagnostic { severity, code: None, origin, object, field_path: String::new(), message, fix }
    }
}

fn of_problem(problem: Problem, file: &Arc<str>, object: Option<&ObjectKey>) -> Diagnostic {
    Diagnostic {
        severity: problem.severity,
        code: None,
        origin: Origin { file: Arc::clone(file), line: problem.at.line, column: problem.at.column },
        object: object.cloned(),
        field_path: problem.path.to_string(),
        message: problem.message,
        fix: problem.fix,
    }
}

fn of_finding(finding: Finding, root: &Node, file: &Arc<str>, object: Option<&ObjectKey>) -> Diagnostic {
    let at = place(root, &finding.path);
    Diagnostic {
        severity: finding.severity,
        code: finding.code,
        origin: Origin { file: Arc::clone(file), line: at.line, column: at.column },
        object: object.cloned(),
        field_path: finding.path.to_string(),
        message: finding.message,
        fix: finding.fix,
    }
}

/// Reads a MeshConfig document.
pub(super) fn read_mesh_config(document: &Document, file: &Arc<str>) -> Result<MeshConfig, Vec<Diagnostic>> {
    let config: MeshConfig = read_plain(document, file)?;
    let findings = validate::check_mesh_config(&config);
    if !findings.iter().any(|finding| finding.severity == Severity::Error) {
        return Ok(config);
    }
    Err(findings.into_iter().map(|finding| of_finding(finding, &document.root, file, None)).collect())
}

/// Reads a document of proxy settings.
pub(super) fn read_proxy_config(
    document: &Document,
    file: &Arc<str>,
) -> Result<ProxyConfig, Vec<Diagnostic>> {
    read_plain(document, file)
}

/// Reads a document that is one message and nothing else.
fn read_plain<M: prost::Message + prost::Name + Default>(
    document: &Document,
    file: &Arc<str>,
) -> Result<M, Vec<Diagnostic>> {
    let mut problems = Problems::default();
    for error in &document.errors {
        problems.error(error.at, error.message.clone(), error.fix.clone());
    }
    let descriptor =
        POOL.get_message_by_name(&M::full_name()).expect("the committed descriptors hold every message");
    let message = read_message(&document.root, &descriptor, &mut problems);
    let config = message.transcode_to();
    if let Err(error) = &config {
        problems.error(document.root.at, format!("cannot be represented: {error}"), None);
    }
    match config {
        Ok(config) if !problems.has_errors() => Ok(config),
        _ => {
            let found = problems.into_found().into_iter();
            Err(found.map(|problem| of_problem(problem, file, None)).collect())
        }
    }
}

fn read_meta(node: &Node, kind: Kind, problems: &mut Problems) -> ObjectMeta {
    let descriptor =
        POOL.get_message_by_name(META_MESSAGE).expect("the committed descriptors hold ObjectMeta");
    let Some(entry) = node.entry("metadata") else {
        problems.error(node.at, "the object has no `metadata`", Some("give it a `metadata.name`".to_owned()));
        return ObjectMeta::default();
    };
    problems.within(Segment::Field("metadata".to_owned()), |problems| {
        let message = read_message(&entry.value, &descriptor, problems);
        let mut meta: ObjectMeta = match message.transcode_to() {
            Ok(meta) => meta,
            Err(error) => {
                problems.error(entry.at, format!("cannot be represented: {error}"), None);
                return ObjectMeta::default();
            }
        };
        check_name(&meta, entry, problems);
        if !kind.is_namespaced() {
            meta.namespace.clear();
        } else if meta.namespace.is_empty() {
            meta.namespace = DEFAULT_NAMESPACE.to_owned();
        }
        meta
    })
}

fn check_name(meta: &ObjectMeta, entry: &Entry, problems: &mut Problems) {
    let at = entry.value.get("name").map_or(entry.at, |name| name.at);
    if meta.name.is_empty() {
        let fix = match meta.generate_name.is_empty() {
            true => "give it a `metadata.name`".to_owned(),
            false => "names are generated by an API server only; give it a `metadata.name`".to_owned(),
        };
        problems.error(at, "the object has no name", Some(fix));
    } else if !validate::is_dns_subdomain(&meta.name) {
        problems.within(Segment::Field("name".to_owned()), |problems| {
            let fix = "use lower-case letters, digits, `-` and `.`, at most 253 characters".to_owned();
            let message = format!("`{}` is not a legal name", meta.name);
            // Names with `_` or capitals do no harm here, but a cluster refuses them.
            match meta.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte)) {
                true => problems.warning(at, message, Some(fix)),
                false => problems.error(at, message, Some(fix)),
            }
        });
    }
    if !meta.namespace.is_empty() && !validate::is_dns_label(&meta.namespace) {
        let at = entry.value.get("namespace").map_or(at, |namespace| namespace.at);
        problems.within(Segment::Field("namespace".to_owned()), |problems| {
            let fix = "use lower-case letters, digits and `-`, at most 63 characters".to_owned();
            problems.error(at, format!("`{}` is not a legal namespace", meta.namespace), Some(fix));
        });
    }
}

fn read_content(node: &Node, entries: &[Entry], kind: Kind, problems: &mut Problems) -> DynamicMessage {
    let descriptor =
        POOL.get_message_by_name(kind.message()).expect("the kinds table names generated messages");
    match kind.shape() {
        Shape::Whole => {
            let content = entries
                .iter()
                .filter(|entry| !matches!(entry.key.as_str(), "apiVersion" | "kind" | "metadata"));
            read_fields(content, &descriptor, problems)
        }
        Shape::Spec => {
            for entry in entries {
                if !matches!(entry.key.as_str(), "apiVersion" | "kind" | "metadata" | "spec" | "status") {
                    let fix = match crate::decode::message::find_field(&descriptor, &entry.key) {
                        Some(_) => Some(format!("`{}` belongs inside `spec`", entry.key)),
                        None => suggest::closest(&entry.key, ["metadata", "spec"].into_iter())
                            .map(|name| format!("did you mean `{name}`?")),
                    };
                    problems.within(Segment::Field(entry.key.clone()), |problems| {
                        problems.error(entry.at, format!("unknown field `{}`", entry.key), fix);
                    });
                }
            }
            match node.get("spec") {
                Some(spec) if !spec.is_null() => problems
                    .within(Segment::Field("spec".to_owned()), |problems| {
                        read_message(spec, &descriptor, problems)
                    }),
                _ => DynamicMessage::new(descriptor),
            }
        }
    }
}

/// True when a mapping without `apiVersion` and `kind` was still meant as an object.
fn looks_like_object(entries: &[Entry]) -> bool {
    entries.iter().any(|entry| entry.key == "metadata") && entries.iter().any(|entry| entry.key == "spec")
}

/// Where the value of that path stands, or the nearest value around it.
fn place(root: &Node, path: &FieldPath) -> Position {
    let mut at = root.at;
    let mut node = root;
    for segment in path.segments() {
        let next = match (segment, &node.value) {
            (Segment::Field(name), Value::Map(entries)) => entries
                .iter()
                .find(|entry| entry.key == *name || same_field(&entry.key, name))
                .map(|entry| (entry.at, &entry.value)),
            (Segment::Key(key), Value::Map(entries)) => {
                entries.iter().find(|entry| entry.key == *key).map(|entry| (entry.at, &entry.value))
            }
            (Segment::Index(index), Value::List(items)) => items.get(*index).map(|item| (item.at, item)),
            _ => None,
        };
        let Some((found_at, found)) = next else { return at };
        at = found_at;
        node = found;
    }
    at
}

/// True for two spellings of one field name (`mirror_percent`, `mirrorPercent`).
fn same_field(left: &str, right: &str) -> bool {
    let letters = |text: &str| -> String { text.chars().filter(|found| *found != '_').collect() };
    letters(left).eq_ignore_ascii_case(&letters(right))
}

fn api_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}
