//! YAML text to objects.
//!
//! The text is cut at its `---` lines first, so that a syntax error costs one document and not the file.
//! Then each document becomes a positioned tree (`tree`), the tree a message (`message`), the message a
//! typed [`Object`] (`document`), and the object is validated.

mod base64;
mod document;
mod duration;
mod json;
mod message;
mod problem;
mod scalar;
mod suggest;
#[cfg(test)]
mod tests;
pub(crate) mod tree;
mod well_known;

pub use duration::parse_duration;
pub(crate) use json::to_json;

use std::sync::{Arc, LazyLock};

use prost_reflect::DescriptorPool;

use crate::diagnostic::{Diagnostic, Origin, Severity};
use crate::istio::mesh::v1alpha1::{MeshConfig, ProxyConfig};
use crate::limits::FILE_BYTES_MAX;
use crate::mesh_config;
use crate::object::{Object, ObjectKey};

/// Every message of this crate, for decoding by descriptor.
static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(include_bytes!("../generated/descriptors.bin").as_slice())
        .expect("the committed descriptors are what the code generator wrote")
});

/// What one text held.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decoded {
    /// The accepted objects, in the order of the text.
    pub objects: Vec<Object>,
    /// The objects that were refused although their kind and name could be read. Whoever holds an
    /// earlier version keeps serving it.
    pub refused: Vec<ObjectKey>,
    /// True when a document could not be read far enough to know which object it is, so that an object
    /// missing here may merely be unreadable.
    pub unreadable: bool,
    /// Everything found, in the order of the text. Each refused object has at least one
    /// [`Severity::Error`].
    pub diagnostics: Vec<Diagnostic>,
}

/// Decodes and validates every object in `text`; `file` names it in diagnostics.
///
/// Takes YAML (several documents, `kind: List`) and therefore JSON; a file `meshconfig.yaml` is a MeshConfig by itself. Never fails as a whole: what is
/// wrong is in [`Decoded::diagnostics`].
pub fn decode(text: &str, file: &str) -> Decoded {
    let mut reader = document::Reader::new(Arc::from(file));
    if text.len() > FILE_BYTES_MAX {
        reader.unreadable(tree::TreeError {
            at: tree::Position { line: 1, column: 1 },
            message: format!("{} bytes; files over {FILE_BYTES_MAX} bytes are not read", text.len()),
            fix: Some("split the file".to_owned()),
        });
        return reader.finish();
    }
    if let Some(object) = mesh_config::of_plain_file(text, file) {
        return Decoded { objects: vec![object], ..Decoded::default() };
    }
    for (first_line, part) in split_documents(text) {
        match tree::parse(part, first_line) {
            Ok(documents) => {
                for found in documents {
                    reader.document(&found);
                }
            }
            Err(error) => reader.unreadable(explain_template(error, part)),
        }
    }
    reader.finish()
}

/// Decodes a mesh configuration (the `mesh` key of the ConfigMap `istio`). What is unset stays unset:
/// defaults are applied by whoever reads the field.
///
/// # Errors
/// Everything that is wrong with it, when at least one finding is an error.
pub fn decode_mesh_config(text: &str, file: &str) -> Result<MeshConfig, Vec<Diagnostic>> {
    let read = |found: &tree::Document, file: &Arc<str>| document::read_mesh_config(found, file);
    Ok(decode_plain(text, file, read)?.unwrap_or_default())
}

/// Decodes settings of a proxy, as the annotation `proxy.istio.io/config` and node metadata hold them.
///
/// # Errors
/// Everything that is wrong with them, when at least one finding is an error.
pub fn decode_proxy_config(text: &str, file: &str) -> Result<ProxyConfig, Vec<Diagnostic>> {
    let read = |found: &tree::Document, file: &Arc<str>| document::read_proxy_config(found, file);
    Ok(decode_plain(text, file, read)?.unwrap_or_default())
}

/// Decodes a document that is nothing but one message; `None` when it is empty.
fn decode_plain<M>(
    text: &str,
    file: &str,
    read: impl FnOnce(&tree::Document, &Arc<str>) -> Result<M, Vec<Diagnostic>>,
) -> Result<Option<M>, Vec<Diagnostic>> {
    let file: Arc<str> = Arc::from(file);
    let documents = tree::parse(text, 1).map_err(|error| {
        vec![Diagnostic {
            severity: Severity::Error,
            code: None,
            origin: Origin { file: Arc::clone(&file), line: error.at.line, column: error.at.column },
            object: None,
            field_path: String::new(),
            message: error.message,
            fix: error.fix,
        }]
    })?;
    match documents.first().filter(|found| !found.root.is_null()) {
        Some(found) => read(found, &file).map(Some),
        None => Ok(None),
    }
}

/// Templates are the commonest text that looks like YAML and is not.
fn explain_template(mut error: tree::TreeError, part: &str) -> tree::TreeError {
    if part.contains("{{") {
        error.fix = Some("this looks like a template (`{{ … }}`): render it and use the result".to_owned());
    }
    error
}

/// The parts of a text between its `---` lines, each with the number of its first line. The dashes stay
/// with the part they open, so that columns hold and directives work.
fn split_documents(text: &str) -> Vec<(u32, &str)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parts = Vec::new();
    let (mut part_start, mut part_line, mut line_number, mut at) = (0, 1u32, 1u32, 0);
    for line in text.split_inclusive('\n') {
        let opens = line
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        if opens && at > part_start {
            parts.push((part_line, &text[part_start..at]));
            (part_start, part_line) = (at, line_number);
        }
        at += line.len();
        line_number = line_number.saturating_add(1);
    }
    parts.push((part_line, &text[part_start..]));
    // `%YAML` directives stand before the dashes of their document; comments there belong to nobody.
    parts.retain(|(_, part)| part.lines().any(|line| !is_blank(line)));
    parts
}

fn is_blank(line: &str) -> bool {
    let line = line.strip_prefix("---").unwrap_or(line).trim();
    line.is_empty() || line.starts_with('#') || line.starts_with('%')
}
