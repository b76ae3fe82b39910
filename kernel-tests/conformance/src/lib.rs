//! The same bytes through a stock Envoy and through ringsail-proxy.
//!
//! Both proxies get the same bootstrap file and the same raw request bytes; what comes back on the wire, what the
//! upstream saw and what the access log says are compared after the parts that must differ (dates, random ids,
//! durations) are masked. Envoy is the judge: a disagreement is a failure unless [`differences`] lists it with a
//! reason, and a listed difference that has gone is a failure too, so the list stays true.
//!
//! Start reading at [`case::Case`] (what is sent) and `tests/replies.rs` (the cases).
//!
//! Without an Envoy binary (`ENVOY_BIN`, or `target/tools/envoy`, which `cargo xtask test` installs) the tests say
//! loudly that they skip.

pub mod case;
pub mod differences;
