//! Who a proxy works for, and the three forms it is told in: node metadata, peer headers, endpoint metadata.
//!
//! Source: telemetry contract §2.1; Istio's metadata exchange.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use prost::Message as _;
use prost_types::value::Kind;
use prost_types::{Struct, Value};

use crate::limits::{PEER_HEADER_BYTES_MAX, PEER_VALUE_BYTES_MAX};

/// Request and response header with the sender's node id.
pub const PEER_ID_HEADER: &str = "x-envoy-peer-metadata-id";
/// Request and response header with the sender's workload.
pub const PEER_HEADER: &str = "x-envoy-peer-metadata";

/// Beginning of `OWNER`. Source: Istio's agent.
const OWNER_PREFIX: &str = "kubernetes://apis/apps/v1/namespaces/";
/// Kinds of owners that are told apart.
const KINDS: [&str; 4] = ["pod", "deployment", "job", "cronjob"];

/// Peers may leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A workload as telemetry names it. Empty strings are what nobody said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Workload {
    /// Name of the instance: the pod's.
    pub instance: String,
    /// Name of the workload.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// `deployment`, `pod`, `job`, `cronjob`, or empty.
    pub kind: String,
    /// Label `service.istio.io/canonical-name`.
    pub canonical_service: String,
    /// Label `service.istio.io/canonical-revision`.
    pub canonical_revision: String,
    /// Label `app.kubernetes.io/name`, else `app`.
    pub app: String,
    /// Label `app.kubernetes.io/version`, else `version`.
    pub version: String,
    /// Id of the Kubernetes cluster.
    pub cluster: String,
    /// SPIFFE id.
    pub identity: String,
    /// Region.
    pub region: String,
    /// Zone.
    pub zone: String,
    /// Other labels that were told, sorted by name.
    pub labels: Vec<(String, String)>,
}

impl Workload {
    /// From a node's metadata or a peer header's content. Of other labels, `keep` says which are kept.
    pub fn from_metadata(metadata: &Struct, keep: impl Fn(&str) -> bool) -> Workload {
        let text = |key: &str| metadata.fields.get(key).and_then(string).unwrap_or_default();
        let labels = match metadata.fields.get("LABELS").and_then(|value| value.kind.as_ref()) {
            Some(Kind::StructValue(labels)) => Some(&labels.fields),
            _ => None,
        };
        let label = |key: &str| labels.and_then(|all| all.get(key)).and_then(string).unwrap_or_default();
        let either = |first: &str, second: &str| {
            let value = label(first);
            if value.is_empty() { label(second) } else { value }
        };
        let name = text("WORKLOAD_NAME");
        Workload {
            kind: kind_of_owner(&text("OWNER"), &name).to_owned(),
            instance: text("NAME"),
            namespace: text("NAMESPACE"),
            canonical_service: label(CANONICAL_NAME),
            canonical_revision: label(CANONICAL_REVISION),
            app: either("app.kubernetes.io/name", "app"),
            version: either("app.kubernetes.io/version", "version"),
            cluster: text("CLUSTER_ID"),
            identity: text("IDENTITY"),
            region: text("REGION"),
            zone: text("AVAILABILITY_ZONE"),
            labels: labels
                .into_iter()
                .flatten()
                .filter(|(key, _)| keep(key))
                .filter_map(|(key, value)| Some((key.clone(), string(value)?)))
                .collect(),
            name,
        }
    }

    /// From the value of [`PEER_HEADER`]; `None` when it is none or too long.
    pub fn from_header(value: &[u8]) -> Option<Workload> {
        if value.len() > PEER_HEADER_BYTES_MAX {
            return None;
        }
        let bytes = BASE64.decode(value).ok()?;
        let metadata = Struct::decode(bytes.as_slice()).ok()?;
        let mut workload = Workload::from_metadata(&metadata, |key| !STANDARD_LABELS.contains(&key));
        workload.bound();
        Some(workload)
    }

    /// From endpoint metadata `istio.workload`: `name;namespace;canonical service;canonical revision;cluster`.
    pub fn from_endpoint(text: &str) -> Option<Workload> {
        let mut parts = text.split(';').map(str::to_owned);
        Some(Workload {
            name: parts.next()?,
            namespace: parts.next()?,
            canonical_service: parts.next()?,
            canonical_revision: parts.next()?,
            cluster: parts.next()?,
            ..Workload::default()
        })
    }

    /// The value of [`PEER_HEADER`] that tells of this workload.
    pub fn to_header(&self, additional_labels: &[crate::Str]) -> String {
        let mut metadata = Struct::default();
        let mut put = |key: &str, value: &str| {
            if !value.is_empty() {
                metadata.fields.insert(key.to_owned(), text(value));
            }
        };
        put("NAME", &self.instance);
        put("NAMESPACE", &self.namespace);
        put("WORKLOAD_NAME", &self.name);
        put("CLUSTER_ID", &self.cluster);
        put("IDENTITY", &self.identity);
        put("REGION", &self.region);
        put("AVAILABILITY_ZONE", &self.zone);
        if !self.kind.is_empty() {
            let owner = format!("{OWNER_PREFIX}{}/{}s/{}", self.namespace, self.kind, self.name);
            put("OWNER", &owner);
        }
        let told = [
            (CANONICAL_NAME, &self.canonical_service),
            (CANONICAL_REVISION, &self.canonical_revision),
            ("app", &self.app),
            ("version", &self.version),
        ];
        let own =
            self.labels.iter().filter(|(key, _)| additional_labels.iter().any(|label| label == key.as_str()));
        let labels = told.into_iter().chain(own.map(|(key, value)| (key.as_str(), value)));
        let fields = labels
            .filter(|(_, value)| !value.is_empty())
            .map(|(key, value)| (key.to_owned(), text(value)))
            .collect();
        let labels = Value { kind: Some(Kind::StructValue(Struct { fields })) };
        metadata.fields.insert("LABELS".to_owned(), labels);
        // Sorted by key, as maps here are: the same text each time.
        BASE64.encode(metadata.encode_to_vec())
    }

    /// A peer chooses these texts; they become labels of series.
    fn bound(&mut self) {
        let values = [
            &mut self.instance,
            &mut self.name,
            &mut self.namespace,
            &mut self.canonical_service,
            &mut self.canonical_revision,
            &mut self.app,
            &mut self.version,
            &mut self.cluster,
            &mut self.identity,
            &mut self.region,
            &mut self.zone,
        ];
        for value in values.into_iter().chain(self.labels.iter_mut().map(|(_, value)| value)) {
            while value.len() > PEER_VALUE_BYTES_MAX {
                value.pop();
            }
        }
    }
}

const CANONICAL_NAME: &str = "service.istio.io/canonical-name";
const CANONICAL_REVISION: &str = "service.istio.io/canonical-revision";
const STANDARD_LABELS: [&str; 6] = [
    CANONICAL_NAME,
    CANONICAL_REVISION,
    "app",
    "version",
    "app.kubernetes.io/name",
    "app.kubernetes.io/version",
];

fn string(value: &Value) -> Option<String> {
    match &value.kind {
        Some(Kind::StringValue(text)) => Some(text.clone()),
        _ => None,
    }
}

fn text(value: &str) -> Value {
    Value { kind: Some(Kind::StringValue(value.to_owned())) }
}

/// `…/deployments/<name>` → `deployment`.
fn kind_of_owner(owner: &str, name: &str) -> &'static str {
    let kind = owner
        .strip_suffix(name)
        .and_then(|rest| rest.strip_suffix("s/"))
        .and_then(|rest| rest.rsplit('/').next())
        .unwrap_or_default();
    KINDS.into_iter().find(|known| *known == kind).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Str;

    fn node(fields: &[(&str, &str)], labels: &[(&str, &str)]) -> Struct {
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), text(v))).collect();
        let mut metadata = Struct { fields: map(fields) };
        let labels = Kind::StructValue(Struct { fields: map(labels) });
        metadata.fields.insert("LABELS".to_owned(), Value { kind: Some(labels) });
        metadata
    }

    fn web() -> Workload {
        let fields = [
            ("NAME", "web-v1-abc"),
            ("NAMESPACE", "shop"),
            ("WORKLOAD_NAME", "web-v1"),
            ("CLUSTER_ID", "east"),
            ("OWNER", "kubernetes://apis/apps/v1/namespaces/shop/deployments/web-v1"),
        ];
        let labels =
            [("app", "web"), ("version", "v1"), (CANONICAL_NAME, "web"), ("role", "front"), ("x", "y")];
        Workload::from_metadata(&node(&fields, &labels), |label| label == "role")
    }

    #[test]
    fn node_metadata_says_who_we_are() {
        let web = web();
        assert_eq!((web.name.as_str(), web.kind.as_str(), web.app.as_str()), ("web-v1", "deployment", "web"));
        assert_eq!(web.labels, [("role".to_owned(), "front".to_owned())]);
        assert_eq!(web.canonical_revision, "");
    }

    #[test]
    fn a_header_brings_a_workload_across() {
        let header = web().to_header(&[Str::new("role")]);
        assert_eq!(Workload::from_header(header.as_bytes()), Some(web()));
        assert_eq!(Workload::from_header(header.trim_end_matches('=').as_bytes()), Some(web()));
        let plain = Workload::from_header(web().to_header(&[]).as_bytes()).expect("valid");
        assert_eq!(plain.labels, []);
    }

    #[test]
    fn kubernetes_labels_win_over_short_ones() {
        let labels = [("app", "old"), ("app.kubernetes.io/name", "new"), ("app.kubernetes.io/version", "v2")];
        let workload = Workload::from_metadata(&node(&[], &labels), |_| false);
        assert_eq!((workload.app.as_str(), workload.version.as_str()), ("new", "v2"));
    }

    #[test]
    fn a_bad_header_is_nobody() {
        for bad in [&b"!!!"[..], b"AAAA", &[b'A'; PEER_HEADER_BYTES_MAX + 1]] {
            assert_eq!(Workload::from_header(bad), None);
        }
        let long = Workload { app: "x".repeat(PEER_VALUE_BYTES_MAX + 1), ..Workload::default() };
        let read = Workload::from_header(long.to_header(&[]).as_bytes()).expect("valid");
        assert_eq!(read.app.len(), PEER_VALUE_BYTES_MAX);
    }

    #[test]
    fn an_endpoint_names_its_workload_in_five_parts() {
        let workload = Workload::from_endpoint("web-v1;shop;web;;east").expect("five parts");
        assert_eq!((workload.name.as_str(), workload.cluster.as_str()), ("web-v1", "east"));
        assert_eq!(workload.canonical_revision, "");
        assert_eq!(Workload::from_endpoint("web;shop;web;v1"), None);
    }
}
