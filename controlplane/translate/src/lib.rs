//! From the mesh to one proxy's xDS resources, in the shape and with the names that istiod uses.
//!
//! *What it is.* [`translate`] is a pure function of a snapshot and a proxy. [`Translator`] gives the same result and
//! remembers the clusters and endpoints that many proxies share.
//!
//! *What it is not.* It neither knows who is connected nor what was sent before (`ringsail-serve`), and it refuses
//! nothing: objects that cannot be enforced were refused when they were read (`ringsail-api`).
//!
//! *Where to start.* `translator.rs` puts a proxy's resources together; then `cluster.rs`, `endpoint.rs`,
//! `listener/outbound.rs` (how services share an address), `listener/inbound.rs`, `route/sidecar.rs`, `gateway.rs`. What
//! Telemetry objects and ProxyConfig make of filters is in `telemetry.rs` and `proxy_config.rs`; EnvoyFilters change what
//! is finished, in `envoy_filter.rs`.
//!
//! *Invariants.*
//! - Everything built here is plain Envoy v3 that a stock Envoy accepts, without TLS sockets; Istio's filters are sent
//!   to proxies that know them.
//! - What is cached is built by functions that see only their input value, which is also the key: a cached result
//!   cannot depend on anything else.
//! - Equal input gives equal bytes.

mod cache;
mod cluster;
mod endpoint;
mod envoy_filter;
mod gateway;
mod listener;
mod locality;
mod names;
mod policy;
mod proxy_config;
mod resource;
mod route;
mod shared;
mod telemetry;
mod translator;
mod xds;

pub use resource::{ProxyResources, Resource};
pub use translator::{Translator, translate};
