//! HTTP filters. The set is closed: what a chain runs is an enum of the tables, matched in
//! [`crate::exchange::exchange`]. A filter looks at the request and gives a verdict; acting on it is the exchange's.

pub mod cors;
pub mod fault;
pub mod grpc_stats;
pub mod grpc_web;
pub mod hash;
pub mod local_rate_limit;
pub mod mirror;
pub mod rate_limit;
pub mod rbac;
