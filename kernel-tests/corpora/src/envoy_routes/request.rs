//! The check tool's request, and what a route does to it.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use ringsail_tables::header_ops::{HeaderAppend, HeaderOps};
use ringsail_tables::metadata::{Metadata, Value as MetadataValue};
use ringsail_tables::route::{Forward, RouteMatch};
use ringsail_tables::template::{Property, Values};
use ringsail_tables::{Request as RequestView, Str};
use serde_json::Value;

/// A request head with the metadata a test gives it.
#[derive(Default)]
pub(super) struct Request {
    head: ringsail_reference::Request,
    metadata: BTreeMap<String, MetadataValue>,
}

impl Request {
    /// A request from a test's `input`.
    pub(super) fn from_input(input: &Value) -> Result<Request> {
        let text = |key: &str| input[key].as_str().unwrap_or_default().to_owned();
        let scheme = if input["ssl"].as_bool().unwrap_or(false) { "https" } else { "http" };
        let mut headers = vec![("x-forwarded-proto".to_owned(), scheme.to_owned())];
        if input["internal"].as_bool().unwrap_or(false) {
            headers.push(("x-envoy-internal".to_owned(), "true".to_owned()));
        }
        for header in input["additional_request_headers"].as_array().into_iter().flatten() {
            let name = header["key"].as_str().context("a header without key")?;
            headers
                .push((name.to_ascii_lowercase(), header["value"].as_str().unwrap_or_default().to_owned()));
        }
        let mut metadata = BTreeMap::new();
        for entry in input["dynamic_metadata"].as_array().into_iter().flatten() {
            let namespace = entry["metadata_namespace"].as_str().context("metadata without name space")?;
            // A later entry for the same name space counts only where it may overwrite.
            if !metadata.contains_key(namespace) || entry["allow_overwrite"].as_bool() == Some(true) {
                metadata.insert(namespace.to_owned(), metadata_value(&entry["value"]));
            }
        }
        let random = match &input["random_value"] {
            Value::String(number) => number.parse()?,
            number => number.as_u64().unwrap_or(0),
        };
        let head = ringsail_reference::Request {
            method: text("method"),
            scheme: scheme.to_owned(),
            authority: text("authority"),
            path: text("path"),
            headers,
            random,
        };
        Ok(Request { head, metadata })
    }

    pub(super) fn head(&self) -> &ringsail_reference::Request {
        &self.head
    }

    /// Header operations, then host, then path: Envoy's `finalizeRequestHeaders`.
    pub(super) fn forward(&mut self, found: &RouteMatch<'_>, forward: &Forward) {
        for edits in found.header_edits() {
            let before = Request { head: self.head.clone(), metadata: BTreeMap::new() };
            self.apply(&edits.request, &before);
        }
        let mut host = String::new();
        if found.rewrite_host(self, None, &mut host) {
            self.head.authority = host;
        }
        let mut path = String::new();
        if forward.path_rewrite.apply(&found.route.matcher.path, &self.head.path, &mut path) {
            self.head.path = path;
        }
    }

    /// The headers of a local reply.
    pub(super) fn local_reply(&mut self, body: &[u8]) {
        self.head.headers.push(("content-length".to_owned(), body.len().to_string()));
        if !body.is_empty() {
            self.head.headers.push(("content-type".to_owned(), "text/plain".to_owned()));
        }
    }

    /// One level of header operations, with values from `values`.
    pub(super) fn apply(&mut self, ops: &HeaderOps, values: &Request) {
        let headers = &mut self.head.headers;
        headers.retain(|(name, _)| !ops.remove.iter().any(|removed| removed.as_str() == name));
        let before = headers.clone();
        let mut appended = Vec::new();
        for add in &ops.add {
            let mut value = Vec::new();
            add.value.render(values, &mut value);
            if value.is_empty() && !add.keep_empty {
                continue;
            }
            let field = (add.name.to_string(), String::from_utf8_lossy(&value).into_owned());
            let exists = before.iter().any(|(name, _)| *name == field.0);
            let overwrite = match add.action {
                HeaderAppend::AppendIfExistsOrAdd => false,
                HeaderAppend::AddIfAbsent if exists => continue,
                HeaderAppend::AddIfAbsent => false,
                HeaderAppend::OverwriteIfExistsOrAdd => true,
                HeaderAppend::OverwriteIfExists if !exists => continue,
                HeaderAppend::OverwriteIfExists => true,
            };
            if overwrite {
                headers.retain(|(name, _)| *name != field.0);
                headers.push(field);
            } else {
                appended.push(field);
            }
        }
        headers.append(&mut appended);
    }
}

fn metadata_value(value: &Value) -> MetadataValue {
    match value {
        Value::Null => MetadataValue::Null,
        Value::Bool(flag) => MetadataValue::Bool(*flag),
        Value::Number(number) => MetadataValue::Number(number.as_f64().unwrap_or_default()),
        Value::String(text) => MetadataValue::String(Str::new(text)),
        Value::Array(items) => MetadataValue::List(items.iter().map(metadata_value).collect()),
        Value::Object(fields) => {
            MetadataValue::object(fields.iter().map(|(name, value)| (Str::new(name), metadata_value(value))))
        }
    }
}

impl RequestView for Request {
    fn method(&self) -> &str {
        &self.head.method
    }
    fn authority(&self) -> &str {
        &self.head.authority
    }
    fn path(&self) -> &str {
        &self.head.path
    }
    fn scheme(&self) -> &str {
        &self.head.scheme
    }
    fn header(&self, name: &str, nth: usize) -> Option<&[u8]> {
        let mut values = self.head.headers.iter().filter(|(n, _)| n == name);
        values.nth(nth).map(|(_, value)| value.as_bytes())
    }
    fn metadata(&self, namespace: &str) -> Option<&MetadataValue> {
        self.metadata.get(namespace)
    }
}

/// The check tool's connection comes from loopback; everything else about it is unset.
impl Values for Request {
    fn request_header(&self, name: &str) -> Option<&[u8]> {
        match name {
            ":method" => Some(self.head.method.as_bytes()),
            ":authority" => Some(self.head.authority.as_bytes()),
            ":path" => Some(self.head.path.as_bytes()),
            ":scheme" => Some(self.head.scheme.as_bytes()),
            name => self.header(name, 0),
        }
    }
    fn response_header(&self, _: &str) -> Option<&[u8]> {
        None
    }
    fn property(&self, property: Property, out: &mut Vec<u8>) {
        if let Property::DownstreamRemoteAddressWithoutPort = property {
            out.extend_from_slice(b"127.0.0.1");
        }
    }
    fn start_time(&self, _: &str, _: &mut Vec<u8>) {}
    fn upstream_metadata(&self) -> Option<&Metadata> {
        None
    }
    fn cluster_metadata(&self) -> Option<&Metadata> {
        None
    }
}
