//! What the mesh is: an immutable snapshot of services, endpoints and routing rules, with the indexes that
//! translation needs.
//!
//! *What it is.* [`MeshBuilder`] takes accepted objects and gives [`Mesh`] snapshots with a [`Delta`] of what moved.
//! [`View`] is the part one [`Proxy`] may see. Names are complete here: hosts are full and lower case, gateways are
//! `namespace/name`, delegates are merged, wildcard and age rules are applied by lookups.
//!
//! *What it is not.* It reads no files and no network (`ringsail-sources`), refuses nothing (`ringsail-api` validates
//! objects one by one) and knows nothing of Envoy's resources (`ringsail-translate`).
//!
//! *Where to start.* [`snapshot`](MeshBuilder) for how a change becomes a snapshot, `registry/` for services and
//! endpoints, [`View`] for visibility, [`analyze()`] for warnings that need several objects.
//!
//! *Invariants.*
//! - A snapshot is a function of the set of objects: their order of arrival does not matter.
//! - Parts that a change does not touch are shared with the snapshot before; equal parts are never reallocated.
//! - "First wins" always means the oldest object: creation time, then name, then namespace.
//! - Nothing here reads a clock, a socket or a file.

pub mod analyze;
mod delegate;
mod delta;
mod destination_rule;
mod endpoint;
pub mod envoy_filter;
mod gateway;
pub mod host;
pub mod labels;
mod mesh;
mod protocol;
mod proxy;
pub mod proxy_config;
mod registry;
mod service;
mod settings;
mod sidecar;
mod snapshot;
mod target;
pub mod telemetry;
mod view;
mod virtual_service;
mod visibility;

pub use analyze::analyze;
pub use delta::Delta;
pub use destination_rule::{DestinationRule, DestinationRuleIndex};
pub use endpoint::{Endpoint, EndpointAddress, Health, Locality, ServiceEndpoints, Workload};
pub use envoy_filter::EnvoyFilter;
pub use gateway::{Gateway, ServerHost};
pub use labels::Labels;
pub use mesh::{Instance, Mesh};
pub use protocol::Protocol;
pub use proxy::{InterceptionMode, NodeError, Proxy, ProxyType};
pub use registry::endpoints::EndpointIndex;
pub use registry::services::ServiceIndex;
pub use service::{
    Age, Registry, Resolution, Service, ServiceAddress, ServiceKey, ServicePort, TargetPort,
    TrafficDistribution,
};
pub use settings::{MeshSettings, OutboundMode};
pub use sidecar::{Imports, Sidecar};
pub use snapshot::{Change, MeshBuilder};
pub use telemetry::{Telemetry, TelemetryScope};
pub use view::{Egress, View, source_matches, virtual_services_for};
pub use virtual_service::{MESH_GATEWAY, VirtualService};
pub use visibility::Visibility;
