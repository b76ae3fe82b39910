//! What users write: Istio's configuration objects and the Kubernetes kinds a mesh reads, as typed values.
//!
//! This crate turns YAML (or JSON) text into [`Object`]s and says, for everything it refuses, where it
//! stands, which field is meant and what to write instead ([`Diagnostic`]). It neither watches files
//! (`ringsail-sources`) nor knows what an object means together with others (`ringsail-model`).
//!
//! Where to start: [`decode()`], then `decode/message.rs` (YAML against a message descriptor), then
//! [`validate`] (what Istio's validating webhook would refuse). Types are generated from the `.proto`
//! files in `proto/` by `cargo xtask codegen`; [`Kind`] lists every kind that is read.
//!
//! Invariants:
//! - An object is accepted or refused by itself: nothing in one document changes the verdict on another.
//! - No field is dropped in silence: an unknown field is an error, and a feature that is not enforced
//!   yet makes its object refused.
//! - Input never panics, and depth, size and number of nodes are bounded ([`limits`]).

mod decode;
mod diagnostic;
#[rustfmt::skip]
#[allow(missing_docs, clippy::all, rustdoc::all)]
mod generated;
mod kind;
pub mod limits;
mod mesh_config;
mod object;
mod path;
pub mod validate;

pub use decode::{Decoded, decode, decode_mesh_config, decode_proxy_config, parse_duration};
pub use diagnostic::{Diagnostic, Origin, Severity};
pub use generated::{istio, k8s, ringsail as unread};
pub use istio::mesh::v1alpha1::{MeshConfig, ProxyConfig};
pub use kind::{Kind, Spec};
pub use mesh_config::{find_mesh_config, read_mesh_config};
pub use object::{Object, ObjectKey, ObjectMeta, STANDS_IN};
pub use path::{FieldPath, Segment};

/// `networking.istio.io`: one set of messages serves `v1`, `v1beta1` and `v1alpha3`.
pub use istio::networking::v1alpha3 as networking;
/// `security.istio.io`: one set of messages serves `v1` and `v1beta1`.
pub use istio::security::v1beta1 as security;
/// `telemetry.istio.io`: one set of messages serves `v1` and `v1alpha1`.
pub use istio::telemetry::v1alpha1 as telemetry;
/// Selectors and target references shared by Istio's APIs.
pub use istio::r#type::v1beta1 as selector;
/// Kubernetes workload controllers.
pub use k8s::io::api::apps::v1 as apps;
/// Kubernetes core kinds.
pub use k8s::io::api::core::v1 as core;
/// Kubernetes endpoint slices.
pub use k8s::io::api::discovery::v1 as discovery;
/// Kubernetes `IntOrString`.
pub use k8s::io::apimachinery::pkg::util::intstr::IntOrString;
