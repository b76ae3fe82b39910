//! The subset agrees with Envoy's own schema, and what it lacks is known.
//!
//! `proto/envoy-fields.txt` holds the fields of Envoy's messages (`cargo xtask envoy-schema` renews it).

use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use ringsail_xds::json::Schema;

/// Fields that the subset leaves out on purpose.
const LACKING: [&str; 5] = [
    // A second gRPC client library's settings: refused by naming its field number.
    "envoy.config.core.v3.GrpcService.google_grpc",
    // Parsed expressions: refused by naming their field numbers; they need messages that nothing else here needs.
    "envoy.config.rbac.v3.Policy.condition",
    "envoy.config.rbac.v3.Policy.checked_condition",
    "envoy.config.rbac.v3.Policy.cel_config",
    // Refused by naming its field number; it needs messages that nothing else here needs.
    "envoy.extensions.filters.http.header_mutation.v3.Mutations.query_parameter_mutations",
];

/// Envoy's fields and enum values: lines by full name of the message or enum.
fn table() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    let mut table: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut current = "";
    for line in include_str!("../proto/envoy-fields.txt").lines().filter(|line| !line.starts_with('#')) {
        match line.strip_prefix("  ") {
            Some(field) => drop(table.entry(current).or_default().insert(field)),
            None => {
                current = line;
                table.entry(current).or_default();
            }
        }
    }
    table
}

/// Types the table does not cover: not in Envoy's repository, or in its contrib part, which the table leaves out.
fn is_elsewhere(name: &str) -> bool {
    [
        "ringsail.",
        "google.protobuf.",
        "opentelemetry.proto.",
        "udpa.type.v1.",
        "xds.type.v3.",
        "stats.",
        "io.istio.",
        "istio.",
    ]
    .iter()
    .any(|package| name.starts_with(package))
}

#[test]
fn every_field_has_envoys_name_number_and_type() {
    let (table, schema) = (table(), Schema::shared());
    let mut wrong = Vec::new();
    let mut compare = |name: &str, ours: Vec<String>| match table.get(name) {
        None => wrong.push(format!("{name} is not in Envoy's schema")),
        Some(theirs) => {
            let unknown = ours.into_iter().filter(|line| !theirs.contains(line.as_str()));
            wrong.extend(unknown.map(|line| format!("{name}: {line}")));
        }
    };
    for message in
        schema.pool().all_messages().filter(|one| !one.is_map_entry() && !is_elsewhere(one.full_name()))
    {
        compare(message.full_name(), message_lines(&message));
    }
    for one in schema.pool().all_enums().filter(|one| !is_elsewhere(one.full_name())) {
        compare(one.full_name(), enum_lines(&one));
    }
    assert!(wrong.is_empty(), "not as in Envoy:\n{}", wrong.join("\n"));
}

#[test]
fn what_the_subset_lacks_of_its_messages_is_known() {
    let (table, schema) = (table(), Schema::shared());
    let mut lacking = Vec::new();
    for (name, theirs) in &table {
        let Some(message) = schema.pool().get_message_by_name(name) else { continue };
        let ours: BTreeSet<String> = message_lines(&message).into_iter().collect();
        for line in theirs.iter().filter(|line| !ours.contains(**line)) {
            lacking.push(format!("{name}.{}", line.split(' ').nth(1).unwrap_or_default()));
        }
    }
    assert_eq!(lacking, LACKING);
}

fn message_lines(message: &MessageDescriptor) -> Vec<String> {
    message
        .fields()
        .map(|field| format!("{} {} {}", field.number(), field.name(), field_type(&field)))
        .collect()
}

fn enum_lines(descriptor: &EnumDescriptor) -> Vec<String> {
    descriptor.values().map(|value| format!("{} {}", value.number(), value.name())).collect()
}

/// The same words as in `deploy/xtask/src/envoy_schema.rs`.
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
