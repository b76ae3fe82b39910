//! `cargo xtask envoy-schema`: the fields of Envoy's own `.proto` files, as a table that a test compares ours with.
//!
//! The full Envoy types cost minutes to compile, also as a dev-dependency, so what the comparison needs of them is
//! committed instead: one line per field and enum value of every message our subset has a part of.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use protox::prost_reflect::{DescriptorPool, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};

/// Where the table is kept.
const TABLE: &str = "dataplane/xds/proto/envoy-fields.txt";

/// Writes the table from `.proto` files below `roots`: Envoy's API and what it imports, for instance the `proto/*`
/// folders of the `envoy-types` crate.
pub fn run(root: &Path, roots: &[PathBuf]) -> Result<()> {
    let ours = DescriptorPool::decode(
        fs::read(root.join("dataplane/xds/src/generated/descriptors.bin"))?.as_slice(),
    )?;
    let files: Vec<String> = ours
        .files()
        .map(|file| file.name().to_string())
        .filter(|name| roots.iter().any(|root| root.join(name).exists()))
        .collect();
    let mut lines = BTreeMap::new();
    // One by one: Envoy's files name types relative to packages they import, and a package that only another file
    // imports would hide the meant one.
    for file in &files {
        let full = protox::compile([file], roots).with_context(|| format!("compiling Envoy's {file}"))?;
        let full = DescriptorPool::from_file_descriptor_set(full)?;
        for theirs in full.all_messages().filter(|message| !message.is_map_entry()) {
            if ours.get_message_by_name(theirs.full_name()).is_some() {
                lines.insert(theirs.full_name().to_string(), message_lines(&theirs));
            }
        }
        for theirs in full.all_enums() {
            if ours.get_enum_by_name(theirs.full_name()).is_some() {
                lines.insert(theirs.full_name().to_string(), enum_lines(&theirs));
            }
        }
    }
    let mut text = String::from(
        "# Made by `cargo xtask envoy-schema`: every field of each message and enum that the subset has a part of.\n",
    );
    // Envoy's files import others', which have schemas of their own.
    let is_envoys = |name: &str| !name.starts_with("google.protobuf.") && !name.starts_with("opentelemetry.");
    for (name, body) in lines.iter().filter(|(name, _)| is_envoys(name)) {
        let _ = write!(text, "{name}\n{body}");
    }
    fs::write(root.join(TABLE), text)?;
    Ok(())
}

fn message_lines(message: &MessageDescriptor) -> String {
    let mut text = String::new();
    for field in message.fields() {
        let _ = writeln!(text, "  {} {} {}", field.number(), field.name(), field_type(&field));
    }
    text
}

fn enum_lines(descriptor: &EnumDescriptor) -> String {
    let mut text = String::new();
    for value in descriptor.values() {
        let _ = writeln!(text, "  {} {}", value.number(), value.name());
    }
    text
}

/// Cardinality, type, and the oneof it is in. The same words as in `dataplane/xds/tests/schema.rs`.
fn field_type(field: &FieldDescriptor) -> String {
    let kind = match field.kind() {
        Kind::Message(message) if message.is_map_entry() => {
            let kind = |field: FieldDescriptor| kind_name(&field.kind());
            format!("map<{},{}>", kind(message.map_entry_key_field()), kind(message.map_entry_value_field()))
        }
        kind if field.is_list() => format!("repeated {}", kind_name(&kind)),
        kind => kind_name(&kind),
    };
    match field.containing_oneof() {
        Some(oneof) => format!("{kind} in {}", oneof.name()),
        None => kind,
    }
}

fn kind_name(kind: &Kind) -> String {
    match kind {
        Kind::Message(message) => message.full_name().to_string(),
        Kind::Enum(descriptor) => descriptor.full_name().to_string(),
        scalar => format!("{scalar:?}").to_lowercase(),
    }
}
