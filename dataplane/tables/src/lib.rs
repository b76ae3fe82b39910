//! Compiled configuration: Envoy xDS resources as compact immutable tables, and the lookups of a request.
//!
//! *What it is.* [`Compiler`] turns listeners, routes, clusters and endpoints into [`Tables`], one version after
//! another, each sharing the parts that did not change. `Tables` answers: which listener, which filter chain, which
//! route, which cluster with which endpoints.
//!
//! *What it is not.* It opens no socket, resolves no name, picks no endpoint and keeps no state of a request: those
//! are the agent's and the engine's. It does not speak xDS: the agent hands it raw resources.
//!
//! *Where to start.* [`Tables`] for what the engine asks, [`route::RouteConfig::find`] for a route lookup,
//! [`compile`] for the way from bytes to tables, [`compile::support`] for which fields are honoured.
//!
//! *Invariants.*
//! - Only closed configurations are published: what a listener needs to route is in the same version. A listener
//!   whose routes, or a cluster whose endpoints, have not arrived is *warming*; its previous version keeps serving.
//! - The tables are a function of the set of resources: arrival order changes slot numbers at most.
//! - Ids survive updates (slot and generation), so that pools and counters do.
//! - No field is dropped silently: [`compile::support`] names each as supported, ignored with a reason, or refused.
//! - Everything is `Send + Sync`, without interior mutability of our own, clocks or randomness; a lookup allocates
//!   nothing (joined values of a repeated header above [`limits::JOINED_HEADER_STACK_BYTES`] excepted).

pub mod access_log;
pub mod address;
pub mod balancing;
pub mod cel;
pub mod cluster;
pub mod collector;
pub mod compile;
pub mod diagnostic;
pub mod endpoint;
pub mod filter_chain;
pub mod fraction;
pub mod gate;
pub mod hcm;
pub mod header_ops;
pub mod health_check;
pub mod http2;
pub mod ids;
pub mod istio;
pub mod limits;
pub mod listener;
pub mod live;
pub mod local_reply;
pub mod metadata;
pub mod path_template;
pub mod policy;
pub mod rate_limit;
pub mod rbac;
pub mod regex_re2;
pub mod request;
pub mod route;
mod string_match;
mod strings;
pub mod subset;
mod tables;
pub mod tcp_fault;
pub mod tcp_proxy;
pub mod template;
pub mod tls;
pub mod token_bucket;
pub mod tracing;

pub use compile::{Change, Compiler, DnsQuery, FormatCheck, Wanted, WantedName};
pub use diagnostic::{Diagnostic, ResourceType, Severity};
pub use ids::{ClusterId, ClusterSlot, EndpointId, ListenerId, RouteConfigId, RouteId};
pub use request::Request;
pub use string_match::StringMatch;
pub use strings::Str;
pub use tables::{Own, Tables, Target};
