//! Fields of access logs and tracing.

use super::Rule::*;
use super::common::{DATA_SOURCE, FRACTIONAL_PERCENT, HEADER_VALUE, HEADER_VALUE_OPTION, PERCENT};
use super::route::{HEADER_MATCHER, METADATA_MATCHER};
use super::{AnyRule, AnyTypes, Message, UNSUPPORTED, row};

pub(super) static ACCESS_LOGGERS: AnyTypes = AnyTypes(&[
    ("envoy.extensions.access_loggers.file.v3.FileAccessLog", AnyRule::Message(&FILE_ACCESS_LOG)),
    ("envoy.extensions.access_loggers.stream.v3.StdoutAccessLog", AnyRule::Message(&STDOUT_ACCESS_LOG)),
    ("envoy.extensions.access_loggers.stream.v3.StderrAccessLog", AnyRule::Message(&STDERR_ACCESS_LOG)),
    ("envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig", AnyRule::Message(&HTTP_GRPC_LOG)),
    ("envoy.extensions.access_loggers.grpc.v3.TcpGrpcAccessLogConfig", AnyRule::Message(&TCP_GRPC_LOG)),
    (
        "envoy.extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig",
        AnyRule::Message(&OPEN_TELEMETRY_LOG),
    ),
]);

pub(super) static FORMATTERS: AnyTypes = AnyTypes(&[
    ("envoy.extensions.formatter.req_without_query.v3.ReqWithoutQuery", AnyRule::Message(&REQ_WITHOUT_QUERY)),
    ("envoy.extensions.formatter.metadata.v3.Metadata", AnyRule::Message(&METADATA_FORMATTER)),
]);

pub(super) static TRACE_PROVIDERS: AnyTypes = AnyTypes(&[
    ("envoy.config.trace.v3.ZipkinConfig", AnyRule::Message(&ZIPKIN)),
    ("envoy.config.trace.v3.OpenTelemetryConfig", AnyRule::Message(&OPEN_TELEMETRY)),
    ("envoy.config.trace.v3.DatadogConfig", AnyRule::Refused("Datadog is not supported; it takes OTLP too")),
    (
        "envoy.config.trace.v3.SkyWalkingConfig",
        AnyRule::Refused("SkyWalking is not supported; it takes OTLP too"),
    ),
    (
        "envoy.config.trace.v3.XRayConfig",
        AnyRule::Refused("X-Ray is not supported; its collector takes OTLP"),
    ),
    ("envoy.config.trace.v3.LightstepConfig", AnyRule::Refused("removed from Envoy; use OTLP")),
    ("envoy.config.trace.v3.OpenCensusConfig", AnyRule::Refused("removed from Envoy; use OTLP")),
    ("envoy.config.trace.v3.DynamicOtConfig", AnyRule::Refused("loads a library, which is not supported")),
]);

pub(super) static RESOURCE_DETECTORS: AnyTypes = AnyTypes(&[
    (
        "envoy.extensions.tracers.opentelemetry.resource_detectors.v3.EnvironmentResourceDetectorConfig",
        AnyRule::Message(&ENVIRONMENT_DETECTOR),
    ),
    (
        "envoy.extensions.tracers.opentelemetry.resource_detectors.v3.StaticConfigResourceDetectorConfig",
        AnyRule::Message(&STATIC_DETECTOR),
    ),
]);

pub(super) static SAMPLERS: AnyTypes = AnyTypes(&[(
    "envoy.extensions.tracers.opentelemetry.samplers.v3.AlwaysOnSamplerConfig",
    AnyRule::Message(&ALWAYS_ON),
)]);

pub(super) static TRACING: Message = Message {
    name: "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.Tracing",
    fields: &[
        row(3, "client_sampling", Message(&PERCENT)),
        row(4, "random_sampling", Message(&PERCENT)),
        row(5, "overall_sampling", Message(&PERCENT)),
        row(6, "verbose", Supported),
        row(7, "max_path_tag_length", Supported),
        row(8, "custom_tags", Repeated(&CUSTOM_TAG)),
        row(9, "provider", Message(&TRACE_PROVIDER)),
        row(10, "spawn_upstream_span", Supported),
        row(11, "operation", Refused("names of spans are fixed or the decorator's")),
        row(12, "upstream_operation", Refused("names of spans are fixed or the decorator's")),
        row(13, "no_context_propagation", Supported),
    ],
};

pub(super) static ROUTE_TRACING: Message = Message {
    name: "envoy.config.route.v3.Tracing",
    fields: &[
        row(1, "client_sampling", Message(&FRACTIONAL_PERCENT)),
        row(2, "random_sampling", Message(&FRACTIONAL_PERCENT)),
        row(3, "overall_sampling", Message(&FRACTIONAL_PERCENT)),
        row(4, "custom_tags", Repeated(&CUSTOM_TAG)),
        row(5, "operation", Refused("names of spans are fixed or the decorator's")),
        row(6, "upstream_operation", Refused("names of spans are fixed or the decorator's")),
    ],
};

pub(super) static TRACE_PROVIDER: Message = Message {
    name: "envoy.config.trace.v3.Tracing.Http",
    fields: &[
        row(1, "name", Ignored("the type of typed_config decides")),
        row(3, "typed_config", Any(&TRACE_PROVIDERS)),
    ],
};

pub(super) static ZIPKIN: Message = Message {
    name: "envoy.config.trace.v3.ZipkinConfig",
    fields: &[
        row(1, "collector_cluster", Supported),
        row(2, "collector_endpoint", Supported),
        row(3, "trace_id_128bit", Supported),
        row(4, "shared_span_context", Supported),
        row(5, "collector_endpoint_version", Supported),
        row(6, "collector_hostname", Supported),
        row(7, "split_spans_for_request", RefusedUnlessZero("use spawn_upstream_span")),
        row(8, "trace_context_option", Supported),
        row(9, "collector_service", Message(&HTTP_SERVICE)),
        row(10, "timestamp_trace_ids", RefusedUnlessZero("trace ids are random")),
    ],
};

pub(super) static OPEN_TELEMETRY: Message = Message {
    name: "envoy.config.trace.v3.OpenTelemetryConfig",
    fields: &[
        row(1, "grpc_service", Message(&GRPC_SERVICE)),
        row(2, "service_name", Supported),
        row(3, "http_service", Message(&HTTP_SERVICE)),
        row(4, "resource_detectors", Repeated(&RESOURCE_DETECTOR)),
        row(5, "sampler", Message(&SAMPLER)),
        row(6, "max_cache_size", Supported),
        row(7, "set_telemetry_sdk_resource_attributes", Ignored("tells the collector which program sent it")),
        row(8, "set_service_name_resource_attribute", Ignored("the service's name is always told")),
        row(9, "set_instrumentation_scope", Ignored("tells the collector which program sent it")),
        row(10, "exporter", Refused(UNSUPPORTED)),
    ],
};

pub(super) static RESOURCE_DETECTOR: Message = Message {
    name: "envoy.config.core.v3.TypedExtensionConfig",
    fields: &[
        row(1, "name", Ignored("the type of typed_config decides")),
        row(2, "typed_config", Any(&RESOURCE_DETECTORS)),
    ],
};

pub(super) static SAMPLER: Message = Message {
    name: "envoy.config.core.v3.TypedExtensionConfig",
    fields: &[
        row(1, "name", Ignored("the type of typed_config decides")),
        row(2, "typed_config", Any(&SAMPLERS)),
    ],
};

pub(super) static FORMATTER: Message = Message {
    name: "envoy.config.core.v3.TypedExtensionConfig",
    fields: &[
        row(1, "name", Ignored("the type of typed_config decides")),
        row(2, "typed_config", Any(&FORMATTERS)),
    ],
};

pub(super) static REQ_WITHOUT_QUERY: Message =
    Message { name: "envoy.extensions.formatter.req_without_query.v3.ReqWithoutQuery", fields: &[] };

pub(super) static METADATA_FORMATTER: Message =
    Message { name: "envoy.extensions.formatter.metadata.v3.Metadata", fields: &[] };

pub(super) static ENVIRONMENT_DETECTOR: Message = Message {
    name: "envoy.extensions.tracers.opentelemetry.resource_detectors.v3.EnvironmentResourceDetectorConfig",
    fields: &[],
};

pub(super) static STATIC_DETECTOR: Message = Message {
    name: "envoy.extensions.tracers.opentelemetry.resource_detectors.v3.StaticConfigResourceDetectorConfig",
    fields: &[row(1, "attributes", Supported)],
};

pub(super) static ALWAYS_ON: Message =
    Message { name: "envoy.extensions.tracers.opentelemetry.samplers.v3.AlwaysOnSamplerConfig", fields: &[] };

pub(super) static CUSTOM_TAG: Message = Message {
    name: "envoy.type.tracing.v3.CustomTag",
    fields: &[
        row(1, "tag", Supported),
        row(2, "literal", Message(&TAG_LITERAL)),
        row(3, "environment", Message(&TAG_ENVIRONMENT)),
        row(4, "request_header", Message(&TAG_HEADER)),
        row(5, "metadata", Message(&TAG_METADATA)),
        row(6, "value", Supported),
    ],
};

pub(super) static TAG_LITERAL: Message =
    Message { name: "envoy.type.tracing.v3.CustomTag.Literal", fields: &[row(1, "value", Supported)] };

pub(super) static TAG_ENVIRONMENT: Message = Message {
    name: "envoy.type.tracing.v3.CustomTag.Environment",
    fields: &[row(1, "name", Supported), row(2, "default_value", Supported)],
};

pub(super) static TAG_HEADER: Message = Message {
    name: "envoy.type.tracing.v3.CustomTag.Header",
    fields: &[row(1, "name", Supported), row(2, "default_value", Supported)],
};

pub(super) static TAG_METADATA: Message = Message {
    name: "envoy.type.tracing.v3.CustomTag.Metadata",
    fields: &[
        row(1, "kind", Message(&METADATA_KIND)),
        row(2, "metadata_key", Message(&METADATA_KEY)),
        row(3, "default_value", Supported),
    ],
};

pub(super) static GRPC_SERVICE: Message = Message {
    name: "envoy.config.core.v3.GrpcService",
    fields: &[
        row(1, "envoy_grpc", Message(&ENVOY_GRPC)),
        row(3, "timeout", Supported),
        row(5, "initial_metadata", Repeated(&HEADER_VALUE)),
        row(
            6,
            "retry_policy",
            Ignored("what cannot be sent is tried again after a pause, within its bounds"),
        ),
    ],
};

pub(super) static ENVOY_GRPC: Message = Message {
    name: "envoy.config.core.v3.GrpcService.EnvoyGrpc",
    fields: &[
        row(1, "cluster_name", Supported),
        row(2, "authority", Supported),
        row(
            3,
            "retry_policy",
            Ignored("what cannot be sent is tried again after a pause, within its bounds"),
        ),
        row(4, "max_receive_message_length", Ignored("answers are small and bounded by us")),
        row(5, "skip_envoy_headers", Ignored("no x-envoy headers are added to these calls")),
    ],
};

pub(super) static HTTP_SERVICE: Message = Message {
    name: "envoy.config.core.v3.HttpService",
    fields: &[
        row(1, "http_uri", Message(&HTTP_URI)),
        row(2, "request_headers_to_add", Repeated(&HEADER_VALUE_OPTION)),
        row(3, "formatters", Refused("formatter extensions are not supported here")),
    ],
};

pub(super) static HTTP_URI: Message = Message {
    name: "envoy.config.core.v3.HttpUri",
    fields: &[row(1, "uri", Supported), row(2, "cluster", Supported), row(3, "timeout", Supported)],
};

pub(super) static FORMAT: Message = Message {
    name: "envoy.config.core.v3.SubstitutionFormatString",
    fields: &[
        row(1, "text_format", Supported),
        row(2, "json_format", Supported),
        row(3, "omit_empty_values", Supported),
        row(4, "content_type", Refused("not supported")),
        row(5, "text_format_source", Message(&DATA_SOURCE)),
        row(6, "formatters", Repeated(&FORMATTER)),
        row(7, "json_format_options", Ignored("property order does not matter")),
    ],
};

/// The same message where it makes a body.
pub(super) static BODY_FORMAT: Message = Message {
    name: "envoy.config.core.v3.SubstitutionFormatString",
    fields: &[
        row(1, "text_format", Supported),
        row(2, "json_format", Supported),
        row(3, "omit_empty_values", Supported),
        row(4, "content_type", Supported),
        row(5, "text_format_source", Message(&DATA_SOURCE)),
        row(6, "formatters", Repeated(&FORMATTER)),
        row(7, "json_format_options", Ignored("property order does not matter")),
    ],
};

pub(super) static ACCESS_LOG: Message = Message {
    name: "envoy.config.accesslog.v3.AccessLog",
    fields: &[
        row(1, "name", Ignored("the type of typed_config decides")),
        row(2, "filter", Message(&ACCESS_LOG_FILTER)),
        row(4, "typed_config", Any(&ACCESS_LOGGERS)),
    ],
};

pub(super) static FILE_ACCESS_LOG: Message = Message {
    name: "envoy.extensions.access_loggers.file.v3.FileAccessLog",
    fields: &[
        row(1, "path", Supported),
        row(2, "format", Supported),
        row(3, "json_format", Supported),
        row(4, "typed_json_format", Supported),
        row(5, "log_format", Message(&FORMAT)),
    ],
};

pub(super) static STDOUT_ACCESS_LOG: Message = Message {
    name: "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
    fields: &[row(1, "log_format", Message(&FORMAT))],
};

pub(super) static STDERR_ACCESS_LOG: Message = Message {
    name: "envoy.extensions.access_loggers.stream.v3.StderrAccessLog",
    fields: &[row(1, "log_format", Message(&FORMAT))],
};

pub(super) static ACCESS_LOG_FILTER: Message = Message {
    name: "envoy.config.accesslog.v3.AccessLogFilter",
    fields: &[
        row(1, "status_code_filter", Message(&STATUS_CODE_FILTER)),
        row(2, "duration_filter", Message(&DURATION_FILTER)),
        row(3, "not_health_check_filter", Message(&NOT_HEALTH_CHECK)),
        row(4, "traceable_filter", Message(&TRACEABLE_FILTER)),
        row(5, "runtime_filter", Message(&RUNTIME_FILTER)),
        row(6, "and_filter", Message(&AND_FILTER)),
        row(7, "or_filter", Message(&OR_FILTER)),
        row(8, "header_filter", Message(&HEADER_FILTER)),
        row(9, "response_flag_filter", Message(&RESPONSE_FLAG_FILTER)),
        row(10, "grpc_status_filter", Message(&GRPC_STATUS_FILTER)),
        row(11, "extension_filter", Message(&EXTENSION_FILTER)),
        row(12, "metadata_filter", Message(&METADATA_FILTER)),
        row(13, "log_type_filter", Message(&LOG_TYPE_FILTER)),
    ],
};

pub(super) static NOT_HEALTH_CHECK: Message =
    Message { name: "envoy.config.accesslog.v3.NotHealthCheckFilter", fields: &[] };

pub(super) static STATUS_CODE_FILTER: Message = Message {
    name: "envoy.config.accesslog.v3.StatusCodeFilter",
    fields: &[row(1, "comparison", Message(&COMPARISON))],
};

pub(super) static DURATION_FILTER: Message = Message {
    name: "envoy.config.accesslog.v3.DurationFilter",
    fields: &[row(1, "comparison", Message(&COMPARISON))],
};

pub(super) static COMPARISON: Message = Message {
    name: "envoy.config.accesslog.v3.ComparisonFilter",
    fields: &[row(1, "op", Supported), row(2, "value", Message(&RUNTIME_UINT32))],
};

pub(super) static RUNTIME_UINT32: Message = Message {
    name: "envoy.config.core.v3.RuntimeUInt32",
    fields: &[
        row(2, "default_value", Supported),
        row(3, "runtime_key", Ignored("there is no runtime layer that could override values")),
    ],
};

pub(super) static AND_FILTER: Message = Message {
    name: "envoy.config.accesslog.v3.AndFilter",
    fields: &[row(1, "filters", Repeated(&ACCESS_LOG_FILTER))],
};

pub(super) static OR_FILTER: Message = Message {
    name: "envoy.config.accesslog.v3.OrFilter",
    fields: &[row(2, "filters", Repeated(&ACCESS_LOG_FILTER))],
};

pub(super) static RESPONSE_FLAG_FILTER: Message =
    Message { name: "envoy.config.accesslog.v3.ResponseFlagFilter", fields: &[row(1, "flags", Supported)] };

pub(super) static TRACEABLE_FILTER: Message =
    Message { name: "envoy.config.accesslog.v3.TraceableFilter", fields: &[] };

pub(super) static RUNTIME_FILTER: Message = Message {
    name: "envoy.config.accesslog.v3.RuntimeFilter",
    fields: &[
        row(1, "runtime_key", Ignored("there is no runtime layer that could override values")),
        row(2, "percent_sampled", Message(&FRACTIONAL_PERCENT)),
        row(3, "use_independent_randomness", Supported),
    ],
};

pub(super) static HEADER_FILTER: Message = Message {
    name: "envoy.config.accesslog.v3.HeaderFilter",
    fields: &[row(1, "header", Message(&HEADER_MATCHER))],
};

pub(super) static GRPC_STATUS_FILTER: Message = Message {
    name: "envoy.config.accesslog.v3.GrpcStatusFilter",
    fields: &[row(1, "statuses", Supported), row(2, "exclude", Supported)],
};

pub(super) static METADATA_FILTER: Message = Message {
    name: "envoy.config.accesslog.v3.MetadataFilter",
    fields: &[row(1, "matcher", Message(&METADATA_MATCHER)), row(2, "match_if_key_not_found", Supported)],
};

pub(super) static LOG_TYPE_FILTER: Message = Message {
    name: "envoy.config.accesslog.v3.LogTypeFilter",
    fields: &[row(1, "types", Supported), row(2, "exclude", Supported)],
};

pub(super) static EXTENSION_FILTERS: AnyTypes = AnyTypes(&[(
    "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
    AnyRule::Message(&EXPRESSION_FILTER),
)]);

pub(super) static EXTENSION_FILTER: Message = Message {
    name: "envoy.config.accesslog.v3.ExtensionFilter",
    fields: &[
        row(1, "name", Ignored("the type of typed_config decides")),
        row(3, "typed_config", Any(&EXTENSION_FILTERS)),
    ],
};

pub(super) static EXPRESSION_FILTER: Message = Message {
    name: "envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
    fields: &[
        row(1, "expression", Supported),
        row(2, "cel_config", Refused("the set of functions is fixed")),
    ],
};

pub(super) static HTTP_GRPC_LOG: Message = Message {
    name: "envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig",
    fields: &[
        row(1, "common_config", Message(&COMMON_GRPC_LOG)),
        row(2, "additional_request_headers_to_log", Supported),
        row(3, "additional_response_headers_to_log", Supported),
        row(4, "additional_response_trailers_to_log", Supported),
    ],
};

pub(super) static TCP_GRPC_LOG: Message = Message {
    name: "envoy.extensions.access_loggers.grpc.v3.TcpGrpcAccessLogConfig",
    fields: &[row(1, "common_config", Message(&COMMON_GRPC_LOG))],
};

pub(super) static COMMON_GRPC_LOG: Message = Message {
    name: "envoy.extensions.access_loggers.grpc.v3.CommonGrpcAccessLogConfig",
    fields: &[
        row(1, "log_name", Supported),
        row(2, "grpc_service", Message(&GRPC_SERVICE)),
        row(3, "buffer_flush_interval", Supported),
        row(4, "buffer_size_bytes", Supported),
        row(
            5,
            "filter_state_objects_to_log",
            Ignored("there are no filter-state objects; peers are told by the metrics"),
        ),
        row(6, "transport_api_version", Ignored("v3 is the only version there is")),
        row(
            7,
            "grpc_stream_retry_policy",
            Ignored("what cannot be sent is tried again after a pause, within its bounds"),
        ),
        row(8, "custom_tags", Repeated(&CUSTOM_TAG)),
    ],
};

pub(super) static OPEN_TELEMETRY_LOG: Message = Message {
    name: "envoy.extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig",
    fields: &[
        row(1, "common_config", Message(&COMMON_GRPC_LOG)),
        row(2, "body", Message(&OTLP_VALUE)),
        row(3, "attributes", Message(&OTLP_MAP)),
        row(4, "resource_attributes", Message(&OTLP_MAP)),
        row(5, "disable_builtin_labels", Supported),
        row(6, "stat_prefix", Ignored("names of statistics")),
        row(7, "formatters", Repeated(&FORMATTER)),
        row(8, "http_service", Message(&HTTP_SERVICE)),
        row(9, "grpc_service", Message(&GRPC_SERVICE)),
        row(10, "log_name", Supported),
        row(11, "buffer_flush_interval", Supported),
        row(12, "buffer_size_bytes", Supported),
        row(
            13,
            "filter_state_objects_to_log",
            Ignored("there are no filter-state objects; peers are told by the metrics"),
        ),
        row(14, "custom_tags", Repeated(&CUSTOM_TAG)),
        row(15, "resource_detectors", Repeated(&RESOURCE_DETECTOR)),
    ],
};

pub(super) static OTLP_VALUE: Message = Message {
    name: "opentelemetry.proto.common.v1.AnyValue",
    fields: &[
        row(1, "string_value", Supported),
        row(2, "bool_value", Supported),
        row(3, "int_value", Supported),
        row(4, "double_value", Refused("only whole numbers are supported")),
        row(5, "array_value", Message(&OTLP_LIST)),
        row(6, "kvlist_value", Message(&OTLP_MAP)),
        row(7, "bytes_value", Refused("bytes are not supported")),
    ],
};

pub(super) static OTLP_LIST: Message = Message {
    name: "opentelemetry.proto.common.v1.ArrayValue",
    fields: &[row(1, "values", Repeated(&OTLP_VALUE))],
};

pub(super) static OTLP_MAP: Message = Message {
    name: "opentelemetry.proto.common.v1.KeyValueList",
    fields: &[row(1, "values", Repeated(&OTLP_PAIR))],
};

pub(super) static OTLP_PAIR: Message = Message {
    name: "opentelemetry.proto.common.v1.KeyValue",
    fields: &[row(1, "key", Supported), row(2, "value", Message(&OTLP_VALUE))],
};

pub(super) static METADATA_KIND: Message = Message {
    name: "envoy.type.metadata.v3.MetadataKind",
    fields: &[
        row(1, "request", Message(&KIND_REQUEST)),
        row(2, "route", Message(&KIND_ROUTE)),
        row(3, "cluster", Message(&KIND_CLUSTER)),
        row(4, "host", Message(&KIND_HOST)),
    ],
};

pub(super) static KIND_REQUEST: Message =
    Message { name: "envoy.type.metadata.v3.MetadataKind.Request", fields: &[] };

pub(super) static KIND_ROUTE: Message =
    Message { name: "envoy.type.metadata.v3.MetadataKind.Route", fields: &[] };

pub(super) static KIND_CLUSTER: Message =
    Message { name: "envoy.type.metadata.v3.MetadataKind.Cluster", fields: &[] };

pub(super) static KIND_HOST: Message =
    Message { name: "envoy.type.metadata.v3.MetadataKind.Host", fields: &[] };

pub(super) static METADATA_KEY: Message = Message {
    name: "envoy.type.metadata.v3.MetadataKey",
    fields: &[row(1, "key", Supported), row(2, "path", Repeated(&METADATA_SEGMENT))],
};

pub(super) static METADATA_SEGMENT: Message = Message {
    name: "envoy.type.metadata.v3.MetadataKey.PathSegment",
    fields: &[row(1, "key", Supported), row(2, "index", Refused("lists are not supported"))],
};
