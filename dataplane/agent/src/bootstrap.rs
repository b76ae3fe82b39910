//! The bootstrap: what a proxy knows before anyone tells it anything.
//!
//! Read once, checked here, and given on as a value that cannot be wrong. Resources inside it go the same way as those
//! that arrive later: as named messages to the compiler.

mod connections;
pub(crate) mod source;
mod statistics;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use bytes::Bytes;
use prost::Message as _;
use ringsail_telemetry::BucketSettings;
use ringsail_xds::envoy::config::bootstrap::v3::{Bootstrap as Message, runtime_layer};
use ringsail_xds::envoy::config::core::v3::{
    Address, BuildVersion, Locality, Node, SocketAddress, address, node, socket_address,
};
use ringsail_xds::envoy::r#type::v3::SemanticVersion;
use ringsail_xds::json::Schema;
use serde_json::Value;

pub use source::{AdsSource, Service, Source, Target};
pub use statistics::Shown;

use crate::document::{self, DocumentError};
use crate::limits::FILE_BYTES_MAX;
use crate::options::Options;

/// A checked bootstrap.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// As it was read, after the command line's changes: what `/config_dump` shows. Encoded: decoded clusters take
    /// twenty times the memory, and nobody may ever ask.
    raw: Bytes,
    /// Who this proxy is.
    pub node: Node,
    /// Where the admin endpoint listens; `None` without one.
    pub admin: Option<AdminAddress>,
    /// The control plane, if any resource comes from there.
    pub ads: Option<AdsSource>,
    /// Where clusters come from.
    pub clusters: Option<Source>,
    /// Where listeners come from.
    pub listeners: Option<Source>,
    /// Values of the runtime layers, the last layer winning, by dotted key.
    pub runtime: BTreeMap<String, Value>,
    /// Names of the runtime layers, in order.
    pub runtime_layers: Vec<String>,
    /// Which statistics are shown.
    pub shown: Shown,
    /// Parts that have no effect here, one sentence each, for the log.
    pub without_effect: Vec<String>,
}

/// Where the admin endpoint listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdminAddress {
    /// TCP.
    Socket(std::net::SocketAddr),
    /// A Unix socket.
    Pipe(std::path::PathBuf),
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AdminAddress::Socket(address) => address.fmt(f),
            AdminAddress::Pipe(path) => path.display().fmt(f),
        }
    }
}

impl Bootstrap {
    /// The bootstrap as it was read, after the command line's changes.
    pub fn message(&self) -> Message {
        Message::decode(self.raw.clone()).expect("we encoded it ourselves")
    }

    /// Buckets of histograms; refused when the bootstrap was read, if they cannot be had.
    pub fn histogram_buckets(&self) -> BucketSettings {
        statistics::buckets(&self.message()).unwrap_or_default()
    }

    /// Reads the file and the text that the command line names, the text over the file.
    ///
    /// # Errors
    /// With file, line and field of the first thing that is wrong.
    pub fn load(options: &Options) -> Result<Bootstrap, DocumentError> {
        let schema = Schema::shared();
        let mut message: Option<Message> = None;
        let mut texts = Vec::new();
        if let Some(path) = &options.config_path {
            texts.push((path.display().to_string(), read_file(path)?));
        }
        if let Some(text) = &options.config_yaml {
            texts.push(("--config-yaml".to_string(), text.clone()));
        }
        for (origin, text) in &texts {
            let value = document::read(origin, text)?;
            let part: Message = schema
                .from_json(&value)
                .map_err(|error| document::error_at(origin, text, &error.path, error.text))?;
            match &mut message {
                Some(message) => merge(message, part),
                None => message = Some(part),
            }
        }
        check(message.unwrap_or_default(), options).map_err(|(path, problem)| {
            // The field is in the text that was read last and mentions it.
            let (origin, text) = texts.last().map_or(("", ""), |(origin, text)| (origin, text));
            document::error_at(origin, text, &path, problem)
        })
    }
}

pub(crate) fn read_file(path: &Path) -> Result<String, DocumentError> {
    let failure = |text: String| DocumentError {
        origin: path.display().to_string(),
        at: None,
        field: String::new(),
        text,
    };
    let metadata = std::fs::metadata(path).map_err(|error| failure(format!("cannot be read: {error}")))?;
    if metadata.len() > FILE_BYTES_MAX {
        return Err(failure(format!("has {} bytes, {FILE_BYTES_MAX} are allowed", metadata.len())));
    }
    std::fs::read_to_string(path).map_err(|error| failure(format!("cannot be read: {error}")))
}

/// Merges as protobuf does: lists are appended, messages merged, single values replaced.
fn merge(into: &mut Message, part: Message) {
    use ringsail_xds::prost::Message as _;
    let bytes = part.encode_to_vec();
    into.merge(bytes.as_slice()).expect("what was just encoded can be decoded");
}

/// A problem with the field it is in.
pub(crate) type Problem = (Vec<ringsail_xds::json::Step>, String);

fn check(mut message: Message, options: &Options) -> Result<Bootstrap, Problem> {
    let node = node_of(&mut message, options);
    let admin = admin_address(&message)?;
    let sources = source::sources(&message)?;
    let (runtime, runtime_layers) = runtime(&message);
    let shown = statistics::shown(&message)?;
    statistics::buckets(&message)?;
    let without_effect = without_effect(&message);
    Ok(Bootstrap {
        node,
        admin,
        ads: sources.ads,
        clusters: sources.clusters,
        listeners: sources.listeners,
        runtime,
        runtime_layers,
        shown,
        without_effect,
        raw: message.encode_to_vec().into(),
    })
}

/// The node with the command line's changes and our version, also put back into the message for `/config_dump`.
fn node_of(message: &mut Message, options: &Options) -> Node {
    let mut node = message.node.take().unwrap_or_default();
    if let Some(id) = &options.service_node {
        node.id.clone_from(id);
    }
    if let Some(cluster) = &options.service_cluster {
        node.cluster.clone_from(cluster);
    }
    if let Some(zone) = &options.service_zone {
        node.locality.get_or_insert_with(Locality::default).zone.clone_from(zone);
    }
    node.user_agent_name = "ringsail".to_string();
    let mut numbers = crate::VERSION.split('.').map(|part| part.parse().unwrap_or(0));
    node.user_agent_version_type = Some(node::UserAgentVersionType::UserAgentBuildVersion(BuildVersion {
        version: Some(SemanticVersion {
            major_number: numbers.next().unwrap_or(0),
            minor_number: numbers.next().unwrap_or(0),
            patch: numbers.next().unwrap_or(0),
        }),
        metadata: None,
    }));
    message.node = Some(node.clone());
    node
}

fn admin_address(message: &Message) -> Result<Option<AdminAddress>, Problem> {
    let Some(Address { address: Some(address) }) =
        message.admin.as_ref().and_then(|admin| admin.address.clone())
    else {
        return Ok(None);
    };
    match address {
        address::Address::SocketAddress(SocketAddress { address, port_specifier, .. }) => {
            let path = source::path(&["admin", "address", "socket_address", "address"]);
            let ip: std::net::IpAddr =
                address.parse().map_err(|_| (path, format!("{address:?} is no IP address")))?;
            let port = match port_specifier {
                Some(socket_address::PortSpecifier::PortValue(port)) => port,
                Some(socket_address::PortSpecifier::NamedPort(_)) | None => 0,
            };
            let port = u16::try_from(port).map_err(|_| {
                let path = source::path(&["admin", "address", "socket_address", "port_value"]);
                (path, format!("{port} is no port"))
            })?;
            Ok(Some(AdminAddress::Socket((ip, port).into())))
        }
        address::Address::Pipe(pipe) => Ok(Some(AdminAddress::Pipe(pipe.path.into()))),
        address::Address::EnvoyInternalAddress(_) => {
            Err((source::path(&["admin", "address"]), "must be a socket_address or a pipe".to_string()))
        }
    }
}

/// Flattens static layers: `{"a": {"b": 1}}` is `a.b`. Source: Envoy, runtime "static bootstrap" layers.
fn runtime(message: &Message) -> (BTreeMap<String, Value>, Vec<String>) {
    let mut values = BTreeMap::new();
    let mut names = Vec::new();
    for layer in message.layered_runtime.iter().flat_map(|runtime| &runtime.layers) {
        names.push(layer.name.clone());
        if let Some(runtime_layer::LayerSpecifier::StaticLayer(layer)) = &layer.layer_specifier {
            for (key, value) in &layer.fields {
                let value = ringsail_xds::json::value_from_proto(value);
                flatten(key, value, &mut values);
            }
        }
    }
    (values, names)
}

fn flatten(key: &str, value: Value, into: &mut BTreeMap<String, Value>) {
    match value {
        // A fractional percent is a value of its own.
        Value::Object(members) if !members.contains_key("numerator") => {
            for (name, value) in members {
                flatten(&format!("{key}.{name}"), value, into);
            }
        }
        value => drop(into.insert(key.to_string(), value)),
    }
}

/// What the bootstrap holds and this proxy does not do. None of it decides where traffic goes.
fn without_effect(message: &Message) -> Vec<String> {
    let mut sentences = Vec::new();
    let mut note = |present: bool, text: &str| {
        if present {
            sentences.push(text.to_string());
        }
    };
    note(
        !message.stats_sinks.is_empty(),
        "stats_sinks: statistics are not sent, only served by the admin endpoint",
    );
    note(
        statistics::asks_for_tags(message),
        "stats_config.stats_tags: tags other than Istio's are not extracted",
    );
    note(message.hds_config.is_some(), "hds_config: health discovery is not supported");
    note(message.watchdogs.is_some(), "watchdogs: there is no watchdog");
    note(
        connections::asks_for_more(message),
        "overload_manager: only the monitor global_downstream_max_connections has an effect",
    );
    note(!message.bootstrap_extensions.is_empty(), "bootstrap_extensions: none is supported");
    let dynamic_layers = message.layered_runtime.iter().flat_map(|runtime| &runtime.layers).any(|layer| {
        !matches!(layer.layer_specifier, Some(runtime_layer::LayerSpecifier::StaticLayer(_)) | None)
    });
    note(dynamic_layers, "layered_runtime: only static layers are read");
    sentences
}

#[cfg(test)]
mod tests;
