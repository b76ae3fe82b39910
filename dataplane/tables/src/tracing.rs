//! Tracing settings: which requests become spans, what the spans say and where they go.

use std::sync::Arc;

use crate::collector::Collector;
use crate::fraction::Fraction;
use crate::metadata::Value;
use crate::strings::Str;

/// Source: `HttpConnectionManager.Tracing`.
#[derive(Clone, Debug)]
pub struct Tracing {
    /// Where spans go. Without a provider there are none, but request ids carry the decision and decorators apply.
    pub provider: Option<Arc<TraceProvider>>,
    /// Which requests become spans, unless the route says otherwise.
    pub sampling: Sampling,
    /// Whether spans carry the moments of the request as events.
    pub verbose: bool,
    /// Longest path in `http.url`, in bytes. Default 256.
    pub path_bytes_max: u32,
    /// Tags of every span.
    pub tags: Box<[CustomTag]>,
    /// Whether each attempt gets a span of its own.
    pub spawn_upstream_span: bool,
    /// Whether the headers of the span's context are kept from the upstream.
    pub no_context_propagation: bool,
}

/// Source: `client_sampling`, `random_sampling`, `overall_sampling`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sampling {
    /// Of the requests that ask for it with `x-client-trace-id`.
    pub client: Fraction,
    /// Of all others.
    pub random: Fraction,
    /// Of those that the two chose.
    pub overall: Fraction,
}

/// What a route changes. Source: `envoy.config.route.v3.Tracing`.
#[derive(Clone, Debug)]
pub struct RouteTracing {
    /// In place of the connection manager's.
    pub sampling: Sampling,
    /// Besides the connection manager's; of two with one name the route's counts.
    pub tags: Box<[CustomTag]>,
}

/// A tracing system.
#[derive(Clone, PartialEq, Debug)]
pub enum TraceProvider {
    /// Source: `envoy.config.trace.v3.ZipkinConfig`.
    Zipkin(Zipkin),
    /// Source: `envoy.config.trace.v3.OpenTelemetryConfig`.
    OpenTelemetry(OpenTelemetry),
}

/// Zipkin: spans as JSON (version 2) over HTTP, B3 headers.
#[derive(Clone, PartialEq, Debug)]
pub struct Zipkin {
    /// Where spans go.
    pub collector: Collector,
    /// Whether new traces get ids of 128 bits.
    pub long_trace_ids: bool,
    /// Whether the spans of a client and its server share an id.
    pub shared_span_context: bool,
    /// Whether W3C headers are read after B3 and written besides.
    pub w3c: bool,
}

/// OpenTelemetry: OTLP, W3C headers.
#[derive(Clone, PartialEq, Debug)]
pub struct OpenTelemetry {
    /// Where spans go.
    pub collector: Collector,
    /// `service.name` of the resource.
    pub service_name: Str,
    /// What else is told of the resource.
    pub resource: Resource,
    /// Whether every request becomes a span, whatever the sampling says (`AlwaysOnSamplerConfig`).
    pub always_on: bool,
    /// Most spans collected before they are sent.
    pub batch_max: usize,
}

/// What resource detectors find.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Resource {
    /// Attributes in the configuration.
    pub attributes: Box<[(Str, Value)]>,
    /// Whether `OTEL_RESOURCE_ATTRIBUTES` is read.
    pub from_environment: bool,
}

/// A tag with a name. Source: `envoy.type.tracing.v3.CustomTag`.
#[derive(Clone, PartialEq, Debug)]
pub struct CustomTag {
    /// The tag.
    pub name: Str,
    /// Where its value comes from.
    pub source: TagSource,
    /// The value where the source has none; without one, the tag is left out.
    pub default: Option<Str>,
}

/// Where a tag's value comes from.
#[derive(Clone, PartialEq, Debug)]
pub enum TagSource {
    /// The configuration.
    Literal(Str),
    /// An environment variable of the proxy.
    Environment(Str),
    /// A request header, in lower case.
    RequestHeader(Str),
    /// Metadata.
    Metadata {
        /// Whose.
        kind: MetadataKind,
        /// Its name space.
        namespace: Str,
        /// Keys below.
        path: Box<[Str]>,
    },
    /// A format, as in an access log.
    Format(Str),
}

/// Whose metadata. Source: `envoy.type.metadata.v3.MetadataKind`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MetadataKind {
    /// Dynamic metadata, written by filters.
    Request,
    /// The route's.
    Route,
    /// The cluster's.
    Cluster,
    /// The endpoint's.
    Host,
}
