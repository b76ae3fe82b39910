//! Settings of an HTTP connection manager.

use std::sync::Arc;
use std::time::Duration;

use ringsail_tls::settings::Alpn;

use crate::access_log::{AccessLog, LogMoments};
use crate::address::Cidr;
use crate::header_ops::MutationFilter;
use crate::http2::Http2Settings;
use crate::ids::RouteConfigId;
use crate::istio::{IstioStats, PeerMetadata};
use crate::local_reply::LocalReplies;
use crate::policy::{Buffering, Fault};
use crate::rate_limit::{GlobalRateLimit, LocalRateLimit};
use crate::rbac::RbacFilter;
use crate::route::Upgrade;
use crate::strings::Str;
use crate::tracing::Tracing;

/// Source: `envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager`.
///
/// Timeouts are `None` where Envoy's zero means "no bound".
#[derive(Debug)]
pub struct HttpConnectionManager {
    /// Prefix in statistics.
    pub stat_prefix: Str,
    /// Protocol spoken by clients.
    pub codec: Codec,
    /// Settings of those that speak HTTP/2.
    pub http2: Http2Settings,
    /// Route configuration; always in the same version of the tables.
    pub routes: RouteConfigId,
    /// Filters in order; the last one is the router.
    pub filters: Box<[HttpFilter]>,
    /// Istio's metrics (`istio.stats`); `None` when none are produced.
    pub stats: Option<Arc<IstioStats>>,
    /// Value of the `server` header. Default `envoy`.
    pub server_name: Str,
    /// What happens to the upstream's `server` header.
    pub server_header: ServerHeader,
    /// Value appended to `via` in both directions; empty means none.
    pub via: Str,

    /// Path treatment before anything looks at the path.
    pub path: PathNormalization,
    /// Cut the port off the authority.
    pub strip_port: StripPort,
    /// Cut a trailing dot off the authority's host.
    pub strip_trailing_host_dot: bool,

    /// Whether the peer's address is the client's (edge), so that `x-forwarded-*` of clients is not believed.
    pub use_remote_address: bool,
    /// Trusted hops in `x-forwarded-for`.
    pub xff_trusted_hops: u32,
    /// Whether `x-forwarded-for` is left alone.
    pub skip_xff_append: bool,
    /// Whether `x-forwarded-port` is set.
    pub append_x_forwarded_port: bool,
    /// Addresses that count as internal; empty means none (`internal_address_config`).
    pub internal_addresses: Box<[Cidr]>,
    /// Whether Unix-socket peers count as internal.
    pub internal_unix_sockets: bool,
    /// Application protocols offered to upstreams.
    pub upstream_alpn: Option<Arc<UpstreamAlpn>>,
    /// What happens to `x-forwarded-client-cert`.
    pub forward_client_cert: ForwardClientCert,
    /// What is written of the client's certificate where it is.
    pub client_cert_details: ClientCertDetails,

    /// Whether an `x-request-id` is made when there is none. Default true.
    pub generate_request_id: bool,
    /// Whether an edge keeps the client's `x-request-id`.
    pub preserve_external_request_id: bool,
    /// Whether responses carry `x-request-id`.
    pub always_set_request_id_in_response: bool,

    /// Bound of an idle connection. Default 1 h.
    pub idle_timeout: Option<Duration>,
    /// Bound of a stream without progress. Default 5 min.
    pub stream_idle_timeout: Option<Duration>,
    /// Bound of receiving a whole request.
    pub request_timeout: Option<Duration>,
    /// Bound of receiving a request's head.
    pub request_headers_timeout: Option<Duration>,
    /// Longest life of a connection.
    pub connection_duration_max: Option<Duration>,
    /// Longest life of a stream.
    pub stream_duration_max: Option<Duration>,
    /// Time between announcing a close and closing. Default 5 s.
    pub drain_timeout: Duration,
    /// Time the socket stays open for the client to read our last bytes. Default 1 s.
    pub delayed_close_timeout: Duration,
    /// Most requests on one connection; 0 means any number.
    pub requests_per_connection_max: u32,

    /// Longest request head, in bytes. Default 60 KiB.
    pub request_head_bytes_max: u32,
    /// Most header fields of a request. Default 100.
    pub request_headers_max: u32,
    /// What happens to header names with an underscore.
    pub underscores: UnderscoreHeaders,

    /// Whether HTTP/1.0 is served instead of answered 426.
    pub accept_http_10: bool,
    /// Host for HTTP/1.0 requests without one.
    pub default_host_for_http_10: Option<Str>,
    /// Whether header names are sent as they came.
    pub preserve_case: bool,
    /// Whether trailers are kept towards HTTP/1.
    pub enable_trailers: bool,
    /// Whether any method token is accepted.
    pub allow_custom_methods: bool,
    /// Whether `Expect: 100-continue` goes to the upstream instead of being answered here.
    pub proxy_100_continue: bool,
    /// Upgrades allowed or forbidden where the route says nothing.
    pub upgrades: Box<[Upgrade]>,

    /// Access logs.
    pub access_logs: Box<[AccessLog]>,
    /// When lines are written besides the end.
    pub log_moments: LogMoments,
    /// Tracing.
    pub tracing: Option<Arc<Tracing>>,
    /// What a request id says of tracing.
    pub request_id: RequestIds,
    /// What is done to answers that come from no upstream.
    pub local_replies: Option<Box<LocalReplies>>,
}

/// Source: `envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestIds {
    /// Whether the 15th character tells why a request is traced.
    pub pack_trace_reason: bool,
    /// Whether the id decides what is sampled; else every request is.
    pub decide_sampling: bool,
}

/// Source: `HttpConnectionManager.CodecType`. HTTP/3 is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Codec {
    /// By the connection's first bytes.
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Source: `ServerHeaderTransformation`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServerHeader {
    /// Ours replaces the upstream's.
    Overwrite,
    /// Ours is added where the upstream sent none.
    AppendIfAbsent,
    /// The upstream's passes; none is added.
    PassThrough,
}

/// Source: `normalize_path`, `merge_slashes`, `path_with_escaped_slashes_action`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PathNormalization {
    /// RFC 3986 normalisation: dot segments, `\` as `/`, unneeded escapes.
    pub normalize: bool,
    /// Adjacent slashes become one.
    pub merge_slashes: bool,
    /// What happens to `%2F` and `%5C`.
    pub escaped_slashes: EscapedSlashes,
}

/// Source: `PathWithEscapedSlashesAction`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EscapedSlashes {
    /// Nothing.
    Keep,
    /// 400.
    Reject,
    /// Unescaped, and the client is redirected to the result (307).
    UnescapeAndRedirect,
    /// Unescaped.
    UnescapeAndForward,
}

/// Source: `strip_matching_host_port` and `strip_any_host_port`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StripPort {
    /// Never.
    No,
    /// When it is the listener's port.
    Matching,
    /// Always.
    Any,
}

/// Source: `HeadersWithUnderscoresAction`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UnderscoreHeaders {
    /// They pass.
    Allow,
    /// The request is answered 400.
    Reject,
    /// The header is dropped.
    Drop,
}

/// Application protocols that TLS towards upstreams offers in place of a cluster's own, unless the cluster objects.
/// Source: Istio's filter `istio.alpn`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct UpstreamAlpn {
    /// For HTTP/1.
    pub http1: Alpn,
    /// For HTTP/2.
    pub http2: Alpn,
}

/// Source: `SetCurrentClientCertDetails`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ClientCertDetails {
    /// Its subject.
    pub subject: bool,
    /// Its URI names.
    pub uri: bool,
    /// Its DNS names.
    pub dns: bool,
}

/// Source: `ForwardClientCertDetails`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ForwardClientCert {
    /// Remove the header.
    Sanitize,
    /// Forward it on mutual TLS, else remove it.
    ForwardOnly,
    /// Append to it on mutual TLS, else remove it.
    AppendForward,
    /// Replace it on mutual TLS, else remove it.
    SanitizeSet,
    /// Forward it always.
    AlwaysForwardOnly,
}

/// An HTTP filter that runs. Filters that only observe are listed, with their reason, in
/// [`crate::compile::support`].
#[derive(Debug)]
pub enum HttpFilter {
    /// `envoy.filters.http.fault`; settings of the chain, which routes may replace.
    Fault(Option<Arc<Fault>>),
    /// `envoy.filters.http.cors`; its settings are on routes.
    Cors,
    /// `istio.metadata_exchange`.
    PeerMetadata(Arc<PeerMetadata>),
    /// `envoy.filters.http.local_ratelimit`; settings of the chain, which routes may replace.
    LocalRateLimit(Option<Arc<LocalRateLimit>>),
    /// `envoy.filters.http.ratelimit`.
    RateLimit(Arc<GlobalRateLimit>),
    /// `envoy.filters.http.grpc_stats`.
    GrpcStats(Arc<GrpcStats>),
    /// `envoy.filters.http.grpc_web`.
    GrpcWeb,
    /// `envoy.filters.http.buffer`; settings of the chain, which routes may replace.
    Buffer(Arc<Buffering>),
    /// `envoy.filters.http.header_mutation`.
    HeaderMutation(Arc<MutationFilter>),
    /// `envoy.filters.http.rbac`; settings of the chain, which routes may replace.
    Rbac {
        /// The filter's name, by which routes mean it.
        name: Str,
        /// The settings.
        settings: Arc<RbacFilter>,
    },
    /// `envoy.filters.http.router`; the last one.
    Router(Router),
}

/// Source: `envoy.extensions.filters.http.grpc_stats.v3.FilterConfig`.
#[derive(Debug)]
pub struct GrpcStats {
    /// Which methods have counters of their own.
    pub methods: GrpcMethods,
    /// Whether the time of the upstream is recorded.
    pub upstream_time: bool,
    /// Whether dots of a service's name are written as `_`.
    pub replace_dots: bool,
}

/// Which methods of gRPC services have counters of their own; other calls share those of the cluster.
#[derive(Debug)]
pub enum GrpcMethods {
    /// Each, even calls that share nothing else.
    All,
    /// These, of these services.
    Listed(Box<[(Str, Box<[Str]>)]>),
}

impl GrpcStats {
    /// Whether a method has counters of its own.
    pub fn names(&self, service: &str, method: &str) -> bool {
        match &self.methods {
            GrpcMethods::All => true,
            GrpcMethods::Listed(services) => services.iter().any(|(name, methods)| {
                name.as_str() == service && methods.iter().any(|name| name.as_str() == method)
            }),
        }
    }
}

/// Source: `envoy.extensions.filters.http.router.v3.Router`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Router {
    /// Whether `x-envoy-*` headers are not added to requests and responses.
    pub suppress_envoy_headers: bool,
    /// Whether `x-envoy-expected-rq-timeout-ms` of internal clients is believed.
    pub respect_expected_rq_timeout: bool,
    /// Whether each attempt gets a span of its own.
    pub start_child_span: bool,
}
