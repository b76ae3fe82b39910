//! From declared objects to services and endpoints.

mod auto_address;
pub(crate) mod endpoints;
mod kubernetes;
mod service_entry;
pub(crate) mod services;
pub(crate) mod workloads;
