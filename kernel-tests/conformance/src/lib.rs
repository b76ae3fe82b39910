//! The same configuration and the same traffic through a stock Envoy and through ringsail-proxy.
//!
//! Both proxies get the same bootstrap and the same requests; what comes back on the wire, what the backends saw and
//! how often, which backend was chosen, whether a timer was waited for, what the access log says and what the counters
//! say are compared after the parts that must differ (dates, random ids, durations) are masked. Envoy is the judge: a
//! disagreement is a failure unless [`differences`] lists it with a reason, and a listed difference that has gone is a
//! failure too, so the list stays true.
//!
//! Start reading at [`scenario::Scenario`] (what is done), [`suites`] (all of them) and [`suite::Suite::run`]; [`random`]
//! draws configurations and requests that nobody thought of.
//!
//! Without an Envoy binary (`ENVOY_BIN`, or `target/tools/envoy`, which `cargo xtask test` installs) the tests say
//! loudly that they skip.

pub mod backend;
pub mod case;
pub mod collector;
pub mod differences;
pub mod http2;
pub mod random;
pub mod rate_limits;
pub mod scenario;
pub mod stats;
pub mod suite;
pub mod suites;
pub mod wire;
