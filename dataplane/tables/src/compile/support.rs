//! Which fields of Envoy's messages we honour: the one table of it.
//!
//! The rule: a field that cannot change who may talk to whom, or where bytes go, may be *ignored*, with the reason in
//! its row; every other field is *supported* or *refused*. Security settings are never ignored. A field without a row
//! (newer than the table, or garbage) is refused.
//!
//! The rows are by resource in the submodules; `walk` compares them with the bytes of a resource, so that no field
//! escapes because a generated type lacks it. [`messages`] lists everything, for the documentation and for the test
//! that compares the rows with the schema.

mod balancing;
mod cluster;
mod common;
mod health_check;
mod http;
mod istio;
mod listener;
mod page;
mod rate_limit;
mod rbac;
mod route;
mod telemetry;
mod tls;
mod walk;
mod wire;

pub use page::page;
pub(crate) use walk::walk;

use crate::diagnostic::ResourceType;

/// The fields of one message.
#[derive(Debug)]
pub struct Message {
    /// Full protobuf name.
    pub name: &'static str,
    /// Its fields, ascending by number.
    pub fields: &'static [Row],
}

/// One field.
#[derive(Debug)]
pub struct Row {
    /// Number on the wire.
    pub number: u32,
    /// Name in the schema.
    pub name: &'static str,
    /// What we do with it.
    pub rule: Rule,
}

/// What we do with a field.
#[derive(Debug)]
pub enum Rule {
    /// Honoured as documented by Envoy; values we cannot honour are refused when compiled.
    Supported,
    /// A message whose own rows decide.
    Message(&'static Message),
    /// A list of messages whose own rows decide.
    Repeated(&'static Message),
    /// An `Any`, decided by its type.
    Any(&'static AnyTypes),
    /// A map with `Any` values, decided by their types.
    MapOfAny(&'static AnyTypes),
    /// Has no effect here; the reason why that is harmless.
    Ignored(&'static str),
    /// The resource is refused; the reason.
    Refused(&'static str),
    /// The resource is refused unless the value is zero, false or empty; the reason.
    RefusedUnlessZero(&'static str),
}

/// The message types an `Any` may hold. Others are refused.
#[derive(Debug)]
pub struct AnyTypes(pub &'static [(&'static str, AnyRule)]);

/// What we do with a message type inside an `Any`.
#[derive(Debug)]
pub enum AnyRule {
    /// Its rows decide.
    Message(&'static Message),
    /// Has no effect here; the reason why that is harmless.
    Ignored(&'static str),
    /// The resource is refused; the reason.
    Refused(&'static str),
}

/// The rows of a resource type.
pub fn resource(kind: ResourceType) -> &'static Message {
    match kind {
        ResourceType::Listener => &listener::LISTENER,
        ResourceType::RouteConfiguration => &route::ROUTE_CONFIGURATION,
        ResourceType::Cluster => &cluster::CLUSTER,
        ResourceType::ClusterLoadAssignment => &cluster::LOAD_ASSIGNMENT,
        ResourceType::Secret => &tls::SECRET,
    }
}

/// The rows of a tracing provider.
pub(crate) fn trace_provider() -> &'static Message {
    &telemetry::TRACE_PROVIDER
}

/// Every message reachable from a resource, each once, in order of discovery.
pub fn messages() -> Vec<&'static Message> {
    let mut found: Vec<&'static Message> = ResourceType::ALL.map(resource).to_vec();
    let mut next = 0;
    while next < found.len() {
        for row in found[next].fields {
            let inner: Vec<&'static Message> = match &row.rule {
                Rule::Message(message) | Rule::Repeated(message) => vec![message],
                Rule::Any(types) | Rule::MapOfAny(types) => types.messages().collect(),
                Rule::Supported | Rule::Ignored(_) | Rule::Refused(_) | Rule::RefusedUnlessZero(_) => vec![],
            };
            for message in inner {
                if !found.iter().any(|other| std::ptr::eq(*other, message)) {
                    found.push(message);
                }
            }
        }
        next += 1;
    }
    found
}

impl Message {
    /// The row of a field number.
    pub fn row(&self, number: u32) -> Option<&Row> {
        self.fields.iter().find(|row| row.number == number)
    }
}

impl AnyTypes {
    /// The rule for a full message name.
    pub fn rule(&self, name: &str) -> Option<&AnyRule> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, rule)| rule)
    }

    fn messages(&self) -> impl Iterator<Item = &'static Message> + use<> {
        self.0.iter().filter_map(|(_, rule)| match rule {
            AnyRule::Message(message) => Some(*message),
            AnyRule::Ignored(_) | AnyRule::Refused(_) => None,
        })
    }
}

const fn row(number: u32, name: &'static str, rule: Rule) -> Row {
    Row { number, name, rule }
}

/// The reason of refused fields that need no explanation.
const UNSUPPORTED: &str = "not supported";
