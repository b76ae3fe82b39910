//! Fields of HTTP connection managers and HTTP filters.

use super::Rule::*;
use super::common::{
    CIDR_RANGE, DATA_SOURCE, FRACTIONAL_PERCENT, HEADER_MUTATION, HEADER_VALUE_OPTION, PERCENT,
    RUNTIME_FRACTION, STRING_MATCHER,
};
use super::istio::{ISTIO_STATS, PEER_METADATA};
use super::rate_limit::{GLOBAL_RATE_LIMIT, LOCAL_RATE_LIMIT};
use super::rbac::HTTP_RBAC;
use super::route::{HEADER_MATCHER, ROUTE_CONFIGURATION};
use super::telemetry::{ACCESS_LOG, ACCESS_LOG_FILTER, BODY_FORMAT, TRACING};
use super::{AnyRule, AnyTypes, Message, UNSUPPORTED, row};

pub(super) static REQUEST_ID_EXTENSIONS: AnyTypes = AnyTypes(&[(
    "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig",
    AnyRule::Message(&UUID_REQUEST_ID),
)]);

pub(super) static HEADER_FORMATTERS: AnyTypes = AnyTypes(&[(
    "envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig",
    AnyRule::Message(&PRESERVE_CASE),
)]);

pub(super) static HTTP_FILTERS: AnyTypes = AnyTypes(&[
    ("envoy.extensions.filters.http.router.v3.Router", AnyRule::Message(&ROUTER)),
    ("envoy.extensions.filters.http.fault.v3.HTTPFault", AnyRule::Message(&FAULT)),
    ("envoy.extensions.filters.http.cors.v3.Cors", AnyRule::Message(&CORS_FILTER)),
    ("envoy.extensions.filters.http.grpc_stats.v3.FilterConfig", AnyRule::Message(&GRPC_STATS)),
    ("envoy.extensions.filters.http.grpc_web.v3.GrpcWeb", AnyRule::Message(&GRPC_WEB)),
    ("envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit", AnyRule::Message(&LOCAL_RATE_LIMIT)),
    ("envoy.extensions.filters.http.ratelimit.v3.RateLimit", AnyRule::Message(&GLOBAL_RATE_LIMIT)),
    ("envoy.extensions.filters.http.buffer.v3.Buffer", AnyRule::Message(&BUFFER)),
    (
        "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
        AnyRule::Message(&HEADER_MUTATION_FILTER),
    ),
    (
        "envoy.extensions.filters.http.compressor.v3.Compressor",
        AnyRule::Ignored("answers go out as the upstream encoded them"),
    ),
    (
        "envoy.extensions.filters.http.health_check.v3.HealthCheck",
        AnyRule::Refused("health checks are answered by the workload, or by the proxy's own status port"),
    ),
    ("envoy.extensions.filters.http.lua.v3.Lua", AnyRule::Refused("scripts are not run")),
    ("envoy.extensions.filters.http.wasm.v3.Wasm", AnyRule::Refused("WebAssembly is not run")),
    (
        "envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor",
        AnyRule::Refused("requests and answers cannot be handed to another service to be changed"),
    ),
    (
        "envoy.extensions.filters.http.bandwidth_limit.v3.BandwidthLimit",
        AnyRule::Refused("a fault's response_rate_limit is the only bandwidth there is"),
    ),
    (
        "envoy.extensions.filters.http.csrf.v3.CsrfPolicy",
        AnyRule::Refused("origins are not compared, and what should be refused must not pass"),
    ),
    (
        "envoy.extensions.filters.http.oauth2.v3.OAuth2",
        AnyRule::Refused("logins are not enforced, so they are not accepted either"),
    ),
    (
        "envoy.extensions.filters.http.decompressor.v3.Decompressor",
        AnyRule::Refused("bodies cannot be decoded"),
    ),
    ("envoy.extensions.filters.http.rbac.v3.RBAC", AnyRule::Message(&HTTP_RBAC)),
    ("io.istio.http.peer_metadata.Config", AnyRule::Message(&PEER_METADATA)),
    ("stats.PluginConfig", AnyRule::Message(&ISTIO_STATS)),
    ("istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig", AnyRule::Message(&ISTIO_ALPN)),
    (
        "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
        AnyRule::Refused("JWT authentication is not enforced yet, so it is not accepted either"),
    ),
    (
        "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz",
        AnyRule::Refused("external authorization is not enforced yet, so it is not accepted either"),
    ),
]);

/// istiod asks for the certificate on every gateway.
const NO_WHOLE_CERTIFICATES: &str =
    "hash, subject and names are forwarded; a server that wants the whole certificate finds none";

pub(super) static HTTP_CONNECTION_MANAGER: Message = Message {
    name: "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    fields: &[
        row(1, "codec_type", Supported),
        row(2, "stat_prefix", Supported),
        row(3, "rds", Message(&RDS)),
        row(4, "route_config", Message(&ROUTE_CONFIGURATION)),
        row(5, "http_filters", Repeated(&HTTP_FILTER)),
        row(6, "add_user_agent", RefusedUnlessZero("not supported")),
        row(7, "tracing", Message(&TRACING)),
        row(8, "http_protocol_options", Message(&HTTP1_OPTIONS)),
        row(9, "http2_protocol_options", Message(&HTTP2_OPTIONS)),
        row(10, "server_name", Supported),
        row(12, "drain_timeout", Supported),
        row(13, "access_log", Repeated(&ACCESS_LOG)),
        row(14, "use_remote_address", Supported),
        row(15, "generate_request_id", Supported),
        row(16, "forward_client_cert_details", Supported),
        row(17, "set_current_client_cert_details", Message(&CLIENT_CERT_DETAILS)),
        row(18, "proxy_100_continue", Supported),
        row(19, "xff_num_trusted_hops", Supported),
        row(20, "represent_ipv4_remote_address_as_ipv4_mapped_ipv6", RefusedUnlessZero("not supported")),
        row(21, "skip_xff_append", Supported),
        row(22, "via", Supported),
        row(23, "upgrade_configs", Repeated(&HCM_UPGRADE)),
        row(24, "stream_idle_timeout", Supported),
        row(25, "internal_address_config", Message(&INTERNAL_ADDRESS_CONFIG)),
        row(26, "delayed_close_timeout", Supported),
        row(28, "request_timeout", Supported),
        row(29, "max_request_headers_kb", Supported),
        row(30, "normalize_path", Supported),
        row(31, "scoped_routes", Refused("scoped routes are not supported")),
        row(32, "preserve_external_request_id", Supported),
        row(33, "merge_slashes", Supported),
        row(34, "server_header_transformation", Supported),
        row(35, "common_http_protocol_options", Message(&HTTP_PROTOCOL_OPTIONS)),
        row(36, "request_id_extension", Message(&REQUEST_ID_EXTENSION)),
        row(37, "always_set_request_id_in_response", Supported),
        row(38, "local_reply_config", Message(&LOCAL_REPLY_CONFIG)),
        row(39, "strip_matching_host_port", Supported),
        row(
            40,
            "stream_error_on_invalid_http_message",
            Ignored("HTTP/1 codec errors always close the connection"),
        ),
        row(41, "request_headers_timeout", Supported),
        row(42, "strip_any_host_port", Supported),
        row(43, "path_normalization_options", Refused(UNSUPPORTED)),
        row(44, "http3_protocol_options", Refused("HTTP/3 is not supported")),
        row(45, "path_with_escaped_slashes_action", Supported),
        row(
            46,
            "original_ip_detection_extensions",
            Refused("original-IP detection extensions are not supported"),
        ),
        row(47, "strip_trailing_host_dot", Supported),
        row(48, "scheme_header_transformation", Refused(UNSUPPORTED)),
        row(49, "proxy_status_config", Refused(UNSUPPORTED)),
        row(50, "typed_header_validation_config", Refused(UNSUPPORTED)),
        row(51, "append_x_forwarded_port", Supported),
        row(52, "early_header_mutation_extensions", Refused(UNSUPPORTED)),
        row(53, "add_proxy_protocol_connection_state", Ignored("no effect without the PROXY protocol")),
        row(
            54,
            "access_log_flush_interval",
            Ignored("lines of requests are written when they begin and end"),
        ),
        row(55, "flush_access_log_on_new_request", Supported),
        row(56, "access_log_options", Message(&HCM_ACCESS_LOG_OPTIONS)),
        row(57, "append_local_overload", RefusedUnlessZero("not supported")),
        row(58, "http1_safe_max_connection_duration", Ignored("affects the way of a graceful close only")),
        row(59, "stream_flush_timeout", Ignored("affects the way of a graceful close only")),
        row(60, "forward_client_cert_matcher", Refused(UNSUPPORTED)),
        row(61, "forward_proto_config", Refused(UNSUPPORTED)),
        row(62, "drain_timeout_jitter", Ignored("affects the way of a graceful close only")),
    ],
};

pub(super) static LOCAL_REPLY_CONFIG: Message = Message {
    name: "envoy.extensions.filters.network.http_connection_manager.v3.LocalReplyConfig",
    fields: &[row(1, "mappers", Repeated(&RESPONSE_MAPPER)), row(2, "body_format", Message(&BODY_FORMAT))],
};

pub(super) static RESPONSE_MAPPER: Message = Message {
    name: "envoy.extensions.filters.network.http_connection_manager.v3.ResponseMapper",
    fields: &[
        row(1, "filter", Message(&ACCESS_LOG_FILTER)),
        row(2, "status_code", Supported),
        row(3, "body", Message(&DATA_SOURCE)),
        row(4, "body_format_override", Message(&BODY_FORMAT)),
        row(5, "headers_to_add", Repeated(&HEADER_VALUE_OPTION)),
    ],
};

pub(super) static RDS: Message = Message {
    name: "envoy.extensions.filters.network.http_connection_manager.v3.Rds",
    fields: &[
        row(1, "config_source", Ignored("where to subscribe is the agent's matter")),
        row(2, "route_config_name", Supported),
    ],
};

static ISTIO_ALPN: Message = Message {
    name: "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig",
    fields: &[row(1, "alpn_override", Repeated(&ISTIO_ALPN_OVERRIDE))],
};

static ISTIO_ALPN_OVERRIDE: Message = Message {
    name: "istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig.AlpnOverride",
    fields: &[row(1, "upstream_protocol", Supported), row(2, "alpn_override", Supported)],
};

static CLIENT_CERT_DETAILS: Message = Message {
    name: "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.SetCurrentClientCertDetails",
    fields: &[
        row(1, "subject", Supported),
        row(3, "cert", Ignored(NO_WHOLE_CERTIFICATES)),
        row(4, "dns", Supported),
        row(5, "uri", Supported),
        row(6, "chain", Ignored(NO_WHOLE_CERTIFICATES)),
        row(7, "format", RefusedUnlessZero("only the default format is written")),
        row(8, "issuer", RefusedUnlessZero(UNSUPPORTED)),
    ],
};

pub(super) static HCM_ACCESS_LOG_OPTIONS: Message = Message {
    name: "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.HcmAccessLogOptions",
    fields: &[
        row(1, "access_log_flush_interval", Ignored("lines of requests are written when they begin and end")),
        row(2, "flush_access_log_on_new_request", Supported),
        row(3, "flush_log_on_tunnel_successfully_established", Supported),
    ],
};

pub(super) static INTERNAL_ADDRESS_CONFIG: Message = Message {
    name: "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.InternalAddressConfig",
    fields: &[row(1, "unix_sockets", Supported), row(2, "cidr_ranges", Repeated(&CIDR_RANGE))],
};

pub(super) static HCM_UPGRADE: Message = Message {
    name: "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.UpgradeConfig",
    fields: &[
        row(1, "upgrade_type", Supported),
        row(2, "filters", Refused("upgrades run the filters of the connection manager")),
        row(3, "enabled", Supported),
    ],
};

pub(super) static REQUEST_ID_EXTENSION: Message = Message {
    name: "envoy.extensions.filters.network.http_connection_manager.v3.RequestIDExtension",
    fields: &[row(1, "typed_config", Any(&REQUEST_ID_EXTENSIONS))],
};

pub(super) static UUID_REQUEST_ID: Message = Message {
    name: "envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig",
    fields: &[row(1, "pack_trace_reason", Supported), row(2, "use_request_id_for_trace_sampling", Supported)],
};

pub(super) static HTTP_PROTOCOL_OPTIONS: Message = Message {
    name: "envoy.config.core.v3.HttpProtocolOptions",
    fields: &[
        row(1, "idle_timeout", Supported),
        row(2, "max_headers_count", Supported),
        row(3, "max_connection_duration", Supported),
        row(4, "max_stream_duration", Supported),
        row(5, "headers_with_underscores_action", Supported),
        row(6, "max_requests_per_connection", Supported),
        row(7, "max_response_headers_kb", Refused("not supported")),
        row(8, "max_connection_duration_jitter", Ignored("smooths the closing of many connections")),
    ],
};

pub(super) static HTTP1_OPTIONS: Message = Message {
    name: "envoy.config.core.v3.Http1ProtocolOptions",
    fields: &[
        row(1, "allow_absolute_url", Supported),
        row(2, "accept_http_10", Supported),
        row(3, "default_host_for_http_10", Supported),
        row(4, "header_key_format", Message(&HEADER_KEY_FORMAT)),
        row(5, "enable_trailers", Supported),
        row(6, "allow_chunked_length", Refused("would make message length ambiguous")),
        row(
            7,
            "override_stream_error_on_invalid_http_message",
            Ignored("HTTP/1 codec errors always close the connection"),
        ),
        row(8, "send_fully_qualified_url", Refused(UNSUPPORTED)),
        row(9, "use_balsa_parser", Ignored("a parser choice of Envoy")),
        row(10, "allow_custom_methods", Supported),
        row(11, "ignore_http_11_upgrade", Refused(UNSUPPORTED)),
    ],
};

pub(super) static HTTP2_OPTIONS: Message = Message {
    name: "envoy.config.core.v3.Http2ProtocolOptions",
    fields: &[
        row(1, "hpack_table_size", Supported),
        row(2, "max_concurrent_streams", Supported),
        row(3, "initial_stream_window_size", Supported),
        row(4, "initial_connection_window_size", Supported),
        row(5, "allow_connect", Supported),
        row(6, "allow_metadata", Refused(UNSUPPORTED)),
        row(7, "max_outbound_frames", Ignored("what waits to be sent is bounded in bytes, not in frames")),
        row(8, "max_outbound_control_frames", Supported),
        row(9, "max_consecutive_inbound_frames_with_empty_payload", Supported),
        row(10, "max_inbound_priority_frames_per_stream", Supported),
        row(11, "max_inbound_window_update_frames_per_data_frame_sent", Supported),
        row(
            12,
            "stream_error_on_invalid_http_messaging",
            Ignored("an invalid message always ends its stream only"),
        ),
        row(13, "custom_settings_parameters", Refused(UNSUPPORTED)),
        row(
            14,
            "override_stream_error_on_invalid_http_message",
            Ignored("an invalid message always ends its stream only"),
        ),
        row(15, "connection_keepalive", Message(&KEEPALIVE)),
        row(16, "use_oghttp2_codec", Ignored("a codec choice of Envoy")),
        row(17, "max_metadata_size", Ignored("METADATA frames are dropped")),
        row(18, "enable_huffman_encoding", Ignored("a size choice of the sender")),
        row(19, "max_header_field_size_kb", Ignored("max_request_headers_kb bounds every field")),
        row(20, "disallow_obs_text", Ignored("bytes above 0x7f in values pass, as by default in Envoy")),
        row(
            21,
            "stream_reset_burst",
            Ignored("resets are bounded by max_outbound_control_frames and by streams waiting"),
        ),
        row(
            22,
            "stream_reset_rate",
            Ignored("resets are bounded by max_outbound_control_frames and by streams waiting"),
        ),
    ],
};

static KEEPALIVE: Message = Message {
    name: "envoy.config.core.v3.KeepaliveSettings",
    fields: &[
        row(1, "interval", Supported),
        row(2, "timeout", Supported),
        row(3, "interval_jitter", Message(&PERCENT)),
        row(4, "connection_idle_interval", Supported),
    ],
};

pub(super) static HEADER_KEY_FORMAT: Message = Message {
    name: "envoy.config.core.v3.Http1ProtocolOptions.HeaderKeyFormat",
    fields: &[
        row(1, "proper_case_words", Refused("only preserve_case is supported")),
        row(8, "stateful_formatter", Message(&HEADER_FORMATTER)),
    ],
};

pub(super) static HEADER_FORMATTER: Message = Message {
    name: "envoy.config.core.v3.TypedExtensionConfig",
    fields: &[
        row(1, "name", Ignored("the type of typed_config decides")),
        row(2, "typed_config", Any(&HEADER_FORMATTERS)),
    ],
};

pub(super) static PRESERVE_CASE: Message = Message {
    name: "envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig",
    fields: &[
        row(
            1,
            "forward_reason_phrase",
            Ignored("the upstream's reason phrase is always forwarded with preserved case"),
        ),
        row(2, "formatter_type_on_envoy_headers", Refused("not supported")),
    ],
};

pub(super) static HTTP_FILTER: Message = Message {
    name: "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter",
    fields: &[
        row(1, "name", Ignored("the type of typed_config decides")),
        row(4, "typed_config", Any(&HTTP_FILTERS)),
        row(5, "config_discovery", Refused("extension config discovery is not supported")),
        row(6, "is_optional", Ignored("an unknown filter is refused, optional or not")),
        row(7, "disabled", Refused("filters cannot start disabled")),
    ],
};

pub(super) static ROUTER: Message = Message {
    name: "envoy.extensions.filters.http.router.v3.Router",
    fields: &[
        row(1, "dynamic_stats", Ignored("statistics of the router are fixed")),
        row(2, "start_child_span", Supported),
        row(3, "upstream_log", Refused("upstream access logs are not supported")),
        row(4, "suppress_envoy_headers", Supported),
        row(5, "strict_check_headers", Refused("not supported")),
        row(6, "respect_expected_rq_timeout", Supported),
        row(7, "suppress_grpc_request_failure_code_stats", Ignored("statistics of the router are fixed")),
        row(8, "upstream_http_filters", Refused("upstream HTTP filters are not supported")),
        row(9, "upstream_log_options", Ignored("no upstream log is accepted that they could change")),
        row(10, "reject_connect_request_early_data", Ignored("early data is never taken")),
    ],
};

pub(super) static FAULT: Message = Message {
    name: "envoy.extensions.filters.http.fault.v3.HTTPFault",
    fields: &[
        row(1, "delay", Message(&FAULT_DELAY)),
        row(2, "abort", Message(&FAULT_ABORT)),
        row(3, "upstream_cluster", Supported),
        row(4, "headers", Repeated(&HEADER_MATCHER)),
        row(5, "downstream_nodes", Supported),
        row(6, "max_active_faults", Supported),
        row(7, "response_rate_limit", Message(&FAULT_RATE)),
        row(8, "delay_percent_runtime", Ignored("there is no runtime layer that could override values")),
        row(9, "abort_percent_runtime", Ignored("there is no runtime layer that could override values")),
        row(10, "delay_duration_runtime", Ignored("there is no runtime layer that could override values")),
        row(11, "abort_http_status_runtime", Ignored("there is no runtime layer that could override values")),
        row(12, "max_active_faults_runtime", Ignored("there is no runtime layer that could override values")),
        row(
            13,
            "response_rate_limit_percent_runtime",
            Ignored("there is no runtime layer that could override values"),
        ),
        row(14, "abort_grpc_status_runtime", Ignored("there is no runtime layer that could override values")),
        row(
            15,
            "disable_downstream_cluster_stats",
            Ignored("statistics are not kept per downstream cluster"),
        ),
        row(
            16,
            "filter_metadata",
            Ignored("metadata of injected faults is read by nothing that is supported"),
        ),
    ],
};

pub(super) static BUFFER: Message = Message {
    name: "envoy.extensions.filters.http.buffer.v3.Buffer",
    fields: &[row(1, "max_request_bytes", Supported)],
};

pub(super) static BUFFER_PER_ROUTE: Message = Message {
    name: "envoy.extensions.filters.http.buffer.v3.BufferPerRoute",
    fields: &[row(1, "disabled", Supported), row(2, "buffer", Message(&BUFFER))],
};

pub(super) static FAULT_DELAY: Message = Message {
    name: "envoy.extensions.filters.common.fault.v3.FaultDelay",
    fields: &[
        row(3, "fixed_delay", Supported),
        row(4, "percentage", Message(&FRACTIONAL_PERCENT)),
        row(5, "header_delay", Message(&HEADER_DELAY)),
    ],
};

pub(super) static FAULT_RATE: Message = Message {
    name: "envoy.extensions.filters.common.fault.v3.FaultRateLimit",
    fields: &[
        row(1, "fixed_limit", Message(&FIXED_LIMIT)),
        row(2, "percentage", Message(&FRACTIONAL_PERCENT)),
        row(3, "header_limit", Message(&HEADER_LIMIT)),
    ],
};

pub(super) static FIXED_LIMIT: Message = Message {
    name: "envoy.extensions.filters.common.fault.v3.FaultRateLimit.FixedLimit",
    fields: &[row(1, "limit_kbps", Supported)],
};

pub(super) static HEADER_LIMIT: Message =
    Message { name: "envoy.extensions.filters.common.fault.v3.FaultRateLimit.HeaderLimit", fields: &[] };

pub(super) static FAULT_ABORT: Message = Message {
    name: "envoy.extensions.filters.http.fault.v3.FaultAbort",
    fields: &[
        row(2, "http_status", Supported),
        row(3, "percentage", Message(&FRACTIONAL_PERCENT)),
        row(4, "header_abort", Message(&HEADER_ABORT)),
        row(5, "grpc_status", Supported),
        row(6, "response_body", Refused("the body of an abort is fixed")),
    ],
};

pub(super) static HEADER_DELAY: Message =
    Message { name: "envoy.extensions.filters.common.fault.v3.FaultDelay.HeaderDelay", fields: &[] };

pub(super) static HEADER_ABORT: Message =
    Message { name: "envoy.extensions.filters.http.fault.v3.FaultAbort.HeaderAbort", fields: &[] };

pub(super) static HEADER_MUTATION_FILTER: Message = Message {
    name: "envoy.extensions.filters.http.header_mutation.v3.HeaderMutation",
    fields: &[
        row(1, "mutations", Message(&MUTATIONS)),
        row(2, "most_specific_header_mutations_wins", Supported),
    ],
};

pub(super) static HEADER_MUTATION_PER_ROUTE: Message = Message {
    name: "envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute",
    fields: &[row(1, "mutations", Message(&MUTATIONS))],
};

pub(super) static MUTATIONS: Message = Message {
    name: "envoy.extensions.filters.http.header_mutation.v3.Mutations",
    fields: &[
        row(1, "request_mutations", Repeated(&HEADER_MUTATION)),
        row(2, "response_mutations", Repeated(&HEADER_MUTATION)),
        row(4, "response_trailers_mutations", Refused("trailers cannot be edited")),
        row(5, "request_trailers_mutations", Refused("trailers cannot be edited")),
    ],
};

pub(super) static CORS_FILTER: Message =
    Message { name: "envoy.extensions.filters.http.cors.v3.Cors", fields: &[] };

pub(super) static CORS_POLICY: Message = Message {
    name: "envoy.extensions.filters.http.cors.v3.CorsPolicy",
    fields: &[
        row(1, "allow_origin_string_match", Repeated(&STRING_MATCHER)),
        row(2, "allow_methods", Supported),
        row(3, "allow_headers", Supported),
        row(4, "expose_headers", Supported),
        row(5, "max_age", Supported),
        row(6, "allow_credentials", Supported),
        row(7, "filter_enabled", Message(&RUNTIME_FRACTION)),
        row(8, "shadow_enabled", Message(&RUNTIME_FRACTION)),
        row(9, "allow_private_network_access", Supported),
        row(10, "forward_not_matching_preflights", Supported),
    ],
};

pub(super) static GRPC_WEB: Message =
    Message { name: "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb", fields: &[] };

pub(super) static GRPC_STATS: Message = Message {
    name: "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig",
    fields: &[
        row(1, "emit_filter_state", Ignored("filter state has no value here")),
        row(2, "individual_method_stats_allowlist", Message(&GRPC_METHOD_LIST)),
        row(3, "stats_for_all_methods", Supported),
        row(4, "enable_upstream_stats", Supported),
        row(5, "replace_dots_in_grpc_service_name", Supported),
    ],
};

pub(super) static GRPC_METHOD_LIST: Message = Message {
    name: "envoy.config.core.v3.GrpcMethodList",
    fields: &[row(1, "services", Repeated(&GRPC_METHOD_LIST_SERVICE))],
};

pub(super) static GRPC_METHOD_LIST_SERVICE: Message = Message {
    name: "envoy.config.core.v3.GrpcMethodList.Service",
    fields: &[row(1, "name", Supported), row(2, "method_names", Supported)],
};
