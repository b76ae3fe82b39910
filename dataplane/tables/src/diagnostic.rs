//! What the compiler says about a resource.

use std::fmt;

/// The types of resources the compiler takes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum ResourceType {
    /// `envoy.config.listener.v3.Listener` (LDS).
    Listener,
    /// `envoy.config.route.v3.RouteConfiguration` (RDS).
    RouteConfiguration,
    /// `envoy.config.cluster.v3.Cluster` (CDS).
    Cluster,
    /// `envoy.config.endpoint.v3.ClusterLoadAssignment` (EDS).
    ClusterLoadAssignment,
    /// `envoy.extensions.transport_sockets.tls.v3.Secret` (SDS).
    Secret,
}

impl ResourceType {
    /// Every type, in the order in which one change set is compiled.
    pub const ALL: [ResourceType; 5] = [
        ResourceType::Cluster,
        ResourceType::ClusterLoadAssignment,
        ResourceType::Listener,
        ResourceType::RouteConfiguration,
        ResourceType::Secret,
    ];

    /// The full protobuf name.
    pub fn message_name(self) -> &'static str {
        match self {
            ResourceType::Listener => "envoy.config.listener.v3.Listener",
            ResourceType::RouteConfiguration => "envoy.config.route.v3.RouteConfiguration",
            ResourceType::Cluster => "envoy.config.cluster.v3.Cluster",
            ResourceType::ClusterLoadAssignment => "envoy.config.endpoint.v3.ClusterLoadAssignment",
            ResourceType::Secret => "envoy.extensions.transport_sockets.tls.v3.Secret",
        }
    }

    /// The type of an `Any` or of a discovery request, by its URL.
    pub fn from_type_url(url: &str) -> Option<ResourceType> {
        let name = url.rsplit('/').next()?;
        ResourceType::ALL.into_iter().find(|kind| kind.message_name() == name)
    }
}

/// How serious a [`Diagnostic`] is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Severity {
    /// The resource is not used; its last good version, if any, keeps serving. The agent answers NACK.
    Refused,
    /// The resource is used, but something in it cannot work as written. The agent logs it.
    Warning,
}

/// One finding, good enough to be a NACK's `error_detail`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Diagnostic {
    /// Whether the resource was refused.
    pub severity: Severity,
    /// Type of the resource.
    pub resource_type: ResourceType,
    /// Name of the resource.
    pub resource_name: String,
    /// Path of the field in proto field names with indexes, e.g. `virtual_hosts[2].routes[0].route.cluster`; empty
    /// when the finding concerns the resource as a whole.
    pub field: String,
    /// What is wrong, as a sentence without a final stop.
    pub text: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = self.resource_type.message_name().rsplit('.').next().unwrap_or_default();
        write!(f, "{short} {:?}: ", self.resource_name)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.text)
    }
}
