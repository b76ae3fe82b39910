//! Istio's own filters: which metrics are produced with which labels, and how peers make themselves known.

mod workload;

use std::time::Duration;

use crate::cel::Expression;
use crate::strings::Str;

pub use workload::{PEER_HEADER, PEER_ID_HEADER, Workload};

/// Settings of the `istio.stats` filter. Source: `stats.PluginConfig`.
#[derive(Debug, PartialEq)]
pub struct IstioStats {
    /// Whether this proxy stands for the destination wherever its listener points (`reporter: SERVER_GATEWAY`).
    pub waypoint: bool,
    /// Whether the authority names the destination service where the cluster does not.
    pub host_header_fallback: bool,
    /// How often connections and gRPC streams are reported while they last; `None` means only at their end.
    /// Default 5 s.
    pub report_interval: Option<Duration>,
    /// How long a series that is not written stays; `None` means our default.
    pub expiry: Option<Duration>,
    /// Deviations from the standard labels; `None` when there are none.
    pub overrides: Option<Box<MetricOverrides>>,
}

/// Deviations from Istio's standard metrics.
#[derive(Debug, Default, PartialEq)]
pub struct MetricOverrides {
    /// Expressions that labels take their values from.
    pub expressions: Box<[Expression]>,
    /// By metric: the name in configuration (`requests_total`). Metrics without an entry are as usual.
    pub metrics: Box<[MetricOverride]>,
}

/// Deviations of one metric.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricOverride {
    /// Name in configuration.
    pub metric: Str,
    /// Not produced at all.
    pub dropped: bool,
    /// Standard labels: left out, or with the value of an expression (its index).
    pub tags: Box<[(Str, TagRule)]>,
    /// Labels after the standard ones, with the index of their expression.
    pub added: Box<[(Str, u32)]>,
}

/// What becomes of a standard label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagRule {
    /// It is left out.
    Remove,
    /// It has the value of this expression.
    Expression(u32),
}

/// Settings of the `istio.metadata_exchange` HTTP filter. Source: `io.istio.http.peer_metadata.Config`.
#[derive(Debug, Default, PartialEq)]
pub struct PeerMetadata {
    /// Learn the downstream from the request's peer headers, and remove them.
    pub downstream_headers: bool,
    /// Learn the upstream from the response's peer headers, and remove them.
    pub upstream_headers: bool,
    /// Answer a downstream that sent peer headers with ours.
    pub answer_headers: bool,
    /// Send ours upstream.
    pub send_headers: Option<SendHeaders>,
    /// Labels of a workload that are told besides the usual ones.
    pub additional_labels: Box<[Str]>,
}

/// When our peer headers go upstream. Never to clusters whose metadata says `istio.disable_mx`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendHeaders {
    /// Not to clusters outside the mesh either.
    pub skip_external_clusters: bool,
}
