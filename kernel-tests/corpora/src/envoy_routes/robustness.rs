//! Inputs of Envoy's fuzzers. They have no verdict: whatever they are, nothing may panic.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use anyhow::Result;
use prost_reflect::MessageDescriptor;
use ringsail_tables::{Change, Compiler, ResourceType};
use ringsail_xds::envoy::config::route::v3::RouteConfiguration;
use ringsail_xds::json::Schema;
use serde_json::{Value, json};

use super::request::Request;
use super::text_proto::{self, Fields, Node};
use super::{Outcome, compile};
use crate::report::Report;

/// Runs every file below `dir`; only what panics is reported, as a disagreement.
pub(super) fn run(dir: &Path, schema: &Schema, report: &mut Report) -> Result<()> {
    let descriptor = schema.pool().get_message_by_name("envoy.config.route.v3.RouteConfiguration");
    let Some(descriptor) = descriptor else { anyhow::bail!("the schema has no RouteConfiguration") };
    for corpus in std::fs::read_dir(dir)? {
        let corpus = corpus?.path();
        if !corpus.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(&corpus)? {
            let file = file?.path();
            let bytes = std::fs::read(&file)?;
            let survived = catch_unwind(AssertUnwindSafe(|| one(&bytes, schema, &descriptor)));
            if survived.is_err() {
                let id = file.strip_prefix(dir).unwrap_or(&file).display().to_string();
                report.disagreed(format!("robustness/{id}"), "panics", "an answer or a refusal");
            }
        }
    }
    Ok(())
}

/// One input, read in every way that fits it.
fn one(bytes: &[u8], schema: &Schema, descriptor: &MessageDescriptor) {
    // As the bytes of each resource type.
    for kind in ResourceType::ALL {
        let resource = bytes.to_vec().into();
        Compiler::new().apply([Change::Put { kind, name: "fuzz".to_owned(), resource }]);
    }
    let Some(fields) = text_proto::read(&String::from_utf8_lossy(bytes)) else { return };
    // As a whole test of the route fuzzer: a configuration, and the headers of a request.
    if let Some(Node::Message(config)) = field(&fields, "config") {
        route(&text_proto::to_json(config, descriptor), schema, &fields);
    }
    // As header operations: those of a configuration with one route.
    let mut config = json!({"virtual_hosts": [{"name": "all", "domains": ["*"],
        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "c"}}]}]});
    let additions = Value::Array(
        fields
            .iter()
            .filter(|(name, _)| name == "headers_to_add")
            .map(|(_, node)| match node {
                Node::Message(option) => header_option(option),
                Node::Text(_) | Node::Word(_) => json!({}),
            })
            .collect(),
    );
    config["request_headers_to_add"] = additions.clone();
    config["response_headers_to_add"] = additions;
    route(&config, schema, &fields);
    // As a format: that of one header.
    if let Some(Node::Text(format)) = field(&fields, "format") {
        config["request_headers_to_add"] = json!([{"header": {"key": "x-format", "value": format}}]);
        route(&config, schema, &fields);
    }
}

fn field<'a>(fields: &'a Fields, name: &str) -> Option<&'a Node> {
    fields.iter().find(|(n, _)| n == name).map(|(_, node)| node)
}

fn header_option(option: &Fields) -> Value {
    let Some(Node::Message(header)) = field(option, "header") else { return json!({}) };
    let text = |name: &str| match field(header, name) {
        Some(Node::Text(text)) => text.clone(),
        Some(Node::Word(_) | Node::Message(_)) | None => String::new(),
    };
    json!({"header": {"key": text("key"), "value": text("value")}})
}

/// Compiles a configuration and, if it is accepted, routes a few requests by it.
fn route(config: &Value, schema: &Schema, test: &Fields) {
    let Ok(config) = schema.from_json::<RouteConfiguration>(config) else { return };
    let Ok(compiled) = compile(&config) else { return };
    let mut headers = vec![];
    if let Some(Node::Message(list)) = field(test, "headers") {
        for (_, header) in list {
            let Node::Message(header) = header else { continue };
            if let (Some(Node::Text(key)), Some(Node::Text(value))) =
                (field(header, "key"), field(header, "value"))
            {
                headers.push((key.clone(), value.clone()));
            }
        }
    }
    let given = |name: &str, otherwise: &str| {
        let found = headers.iter().find(|(key, _)| key == name);
        found.map_or_else(|| otherwise.to_owned(), |(_, value)| value.clone())
    };
    for path in ["/", "", "*", "/a?b#c", "/%"] {
        let extra: Vec<Value> = headers.iter().map(|(k, v)| json!({"key": k, "value": v})).collect();
        let input = json!({"method": given(":method", "GET"), "authority": given(":authority", "a.example:80"),
            "path": given(":path", path), "additional_request_headers": extra});
        let Ok(mut request) = Request::from_input(&input) else { continue };
        Outcome::of(&compiled, &mut request, &mut Request::default());
    }
}
