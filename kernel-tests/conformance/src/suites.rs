//! Every suite.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use crate::differences;
use crate::suite::{Outcome, Selection, Suite};

mod access;
mod access_log;
mod balancing;
mod buffer;
mod collectors;
mod connections;
mod filters;
mod grpc_stats;
mod grpc_web;
mod header_mutation;
mod headers;
mod health;
mod http2;
mod internal_redirects;
mod limits;
mod local_replies;
mod proxy_protocol;
mod rate_limit_service;
mod replies;
mod retries;
mod routes;
mod tcp;
mod timeouts;
mod upgrades;
mod zones;

/// A named group of scenarios that can be run.
pub enum Area {
    /// Raw HTTP/1.1 bytes.
    Replies,
    /// Connections without HTTP.
    Tcp,
    /// Scenarios, each with a configuration of its own.
    Scenarios(Suite),
}

/// All suites, in the order of the report.
pub fn all() -> Vec<Area> {
    let suites = [
        routes::suite(),
        headers::suite(),
        retries::suite(),
        timeouts::suite(),
        balancing::suite(),
        health::suite(),
        zones::suite(),
        filters::suite(),
        buffer::suite(),
        header_mutation::suite(),
        access::suite(),
        limits::suite(),
        local_replies::suite(),
        internal_redirects::suite(),
        rate_limit_service::suite(),
        proxy_protocol::suite(),
        connections::suite(),
        upgrades::suite(),
        http2::suite(),
        grpc_web::suite(),
        grpc_stats::suite(),
        access_log::suite(),
        collectors::suite(),
    ];
    [Area::Replies, Area::Tcp].into_iter().chain(suites.map(Area::Scenarios)).collect()
}

impl Area {
    /// The suite's name.
    pub fn name(&self) -> &'static str {
        match self {
            Area::Replies => replies::NAME,
            Area::Tcp => tcp::NAME,
            Area::Scenarios(suite) => suite.name,
        }
    }

    /// Id of every scenario, and why it is pending if it is.
    pub fn scenarios(&self) -> Vec<(&'static str, Option<&'static str>)> {
        match self {
            Area::Replies => replies::ids().into_iter().map(|id| (id, None)).collect(),
            Area::Tcp => tcp::ids().into_iter().map(|id| (id, None)).collect(),
            Area::Scenarios(suite) => suite
                .scenarios
                .iter()
                .map(|scenario| (scenario.id, differences::pending(scenario.id)))
                .collect(),
        }
    }

    /// Runs the selected scenarios on both proxies; `None` when nothing is selected.
    ///
    /// # Errors
    /// When a proxy does not start, for instance because it refuses the configuration.
    pub fn run(&self, envoy: &Path, ringsail: &Path, selection: Selection<'_>) -> Result<Option<Outcome>> {
        match self {
            Area::Replies => replies::run(envoy, ringsail, selection),
            Area::Tcp => tcp::run(envoy, ringsail, selection),
            Area::Scenarios(suite) => suite.run(envoy, ringsail, selection),
        }
    }
}

use http2::{call as http2_call, note as note_http2};

/// Fields of a cluster whose endpoints speak HTTP/2.
pub(crate) fn http2_upstream() -> Value {
    json!({"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}}}}})
}
