//! Fields of rate limits.

use super::Rule::*;
use super::common::{HEADER_VALUE, HEADER_VALUE_OPTION, RUNTIME_FRACTION};
use super::route::{HEADER_MATCHER, QUERY_MATCHER};
use super::{Message, row};

const DYNAMIC: &str = "dynamic metadata comes from filters that are not supported";

pub(super) static RATE_LIMIT: Message = Message {
    name: "envoy.config.route.v3.RateLimit",
    fields: &[
        row(1, "stage", Supported),
        row(2, "disable_key", Ignored("there is no runtime layer that could disable it")),
        row(3, "actions", Repeated(&ACTION)),
        row(4, "limit", Message(&OVERRIDE)),
        row(5, "hits_addend", Message(&HITS_ADDEND)),
        row(6, "apply_on_stream_done", RefusedUnlessZero("requests are counted when they begin")),
        row(7, "x_ratelimit_option", RefusedUnlessZero("set enable_x_ratelimit_headers on the filter")),
    ],
};

pub(super) static HITS_ADDEND: Message = Message {
    name: "envoy.config.route.v3.RateLimit.HitsAddend",
    fields: &[
        row(1, "number", Supported),
        row(2, "format", Refused("only a fixed number is supported")),
        row(3, "is_negative_hits", RefusedUnlessZero("hits cannot be taken back")),
    ],
};

pub(super) static OVERRIDE: Message = Message {
    name: "envoy.config.route.v3.RateLimit.Override",
    fields: &[row(1, "dynamic_metadata", Refused(DYNAMIC)), row(2, "rate_limit", Message(&FIXED_OVERRIDE))],
};

pub(super) static FIXED_OVERRIDE: Message = Message {
    name: "envoy.config.route.v3.RateLimit.Override.RateLimitOverride",
    fields: &[row(1, "requests_per_unit", Supported), row(2, "unit", Supported)],
};

pub(super) static ACTION: Message = Message {
    name: "envoy.config.route.v3.RateLimit.Action",
    fields: &[
        row(1, "source_cluster", Message(&SOURCE_CLUSTER)),
        row(2, "destination_cluster", Message(&DESTINATION_CLUSTER)),
        row(3, "request_headers", Message(&REQUEST_HEADERS)),
        row(4, "remote_address", Message(&REMOTE_ADDRESS)),
        row(5, "generic_key", Message(&GENERIC_KEY)),
        row(6, "header_value_match", Message(&HEADER_VALUE_MATCH)),
        row(7, "dynamic_metadata", Refused(DYNAMIC)),
        row(8, "metadata", Message(&METADATA)),
        row(9, "extension", Refused("descriptor extensions are not supported")),
        row(10, "masked_remote_address", Message(&MASKED)),
        row(11, "query_parameter_value_match", Message(&QUERY_VALUE_MATCH)),
        row(12, "query_parameters", Message(&QUERY_PARAMETERS)),
        row(13, "remote_address_match", Refused("matching of client addresses is not supported")),
    ],
};

pub(super) static SOURCE_CLUSTER: Message =
    Message { name: "envoy.config.route.v3.RateLimit.Action.SourceCluster", fields: &[] };

pub(super) static DESTINATION_CLUSTER: Message =
    Message { name: "envoy.config.route.v3.RateLimit.Action.DestinationCluster", fields: &[] };

pub(super) static REMOTE_ADDRESS: Message =
    Message { name: "envoy.config.route.v3.RateLimit.Action.RemoteAddress", fields: &[] };

pub(super) static REQUEST_HEADERS: Message = Message {
    name: "envoy.config.route.v3.RateLimit.Action.RequestHeaders",
    fields: &[
        row(1, "header_name", Supported),
        row(2, "descriptor_key", Supported),
        row(3, "skip_if_absent", Supported),
    ],
};

pub(super) static QUERY_PARAMETERS: Message = Message {
    name: "envoy.config.route.v3.RateLimit.Action.QueryParameters",
    fields: &[
        row(1, "query_parameter_name", Supported),
        row(2, "descriptor_key", Supported),
        row(3, "skip_if_absent", Supported),
    ],
};

pub(super) static MASKED: Message = Message {
    name: "envoy.config.route.v3.RateLimit.Action.MaskedRemoteAddress",
    fields: &[row(1, "v4_prefix_mask_len", Supported), row(2, "v6_prefix_mask_len", Supported)],
};

const NO_FORMATS: &str = "values are literal, as they are in Envoy by default";

pub(super) static GENERIC_KEY: Message = Message {
    name: "envoy.config.route.v3.RateLimit.Action.GenericKey",
    fields: &[
        row(1, "descriptor_value", Supported),
        row(2, "descriptor_key", Supported),
        row(3, "default_value", Ignored(NO_FORMATS)),
    ],
};

pub(super) static HEADER_VALUE_MATCH: Message = Message {
    name: "envoy.config.route.v3.RateLimit.Action.HeaderValueMatch",
    fields: &[
        row(1, "descriptor_value", Supported),
        row(2, "expect_match", Supported),
        row(3, "headers", Repeated(&HEADER_MATCHER)),
        row(4, "descriptor_key", Supported),
        row(5, "default_value", Ignored(NO_FORMATS)),
    ],
};

pub(super) static QUERY_VALUE_MATCH: Message = Message {
    name: "envoy.config.route.v3.RateLimit.Action.QueryParameterValueMatch",
    fields: &[
        row(1, "descriptor_value", Supported),
        row(2, "expect_match", Supported),
        row(3, "query_parameters", Repeated(&QUERY_MATCHER)),
        row(4, "descriptor_key", Supported),
        row(5, "default_value", Ignored(NO_FORMATS)),
    ],
};

pub(super) static METADATA: Message = Message {
    name: "envoy.config.route.v3.RateLimit.Action.MetaData",
    fields: &[
        row(1, "descriptor_key", Supported),
        row(2, "metadata_key", Message(&METADATA_KEY)),
        row(3, "default_value", Supported),
        row(4, "source", Supported),
        row(5, "skip_if_absent", Supported),
    ],
};

pub(super) static METADATA_KEY: Message = Message {
    name: "envoy.type.metadata.v3.MetadataKey",
    fields: &[row(1, "key", Supported), row(2, "path", Repeated(&METADATA_KEY_SEGMENT))],
};

pub(super) static METADATA_KEY_SEGMENT: Message = Message {
    name: "envoy.type.metadata.v3.MetadataKey.PathSegment",
    fields: &[row(1, "key", Supported), row(2, "index", Refused("only keys are supported"))],
};

pub(super) static LOCAL_RATE_LIMIT: Message = Message {
    name: "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
    fields: &[
        row(1, "stat_prefix", Supported),
        row(2, "status", Message(&HTTP_STATUS)),
        row(3, "token_bucket", Message(&TOKEN_BUCKET)),
        row(4, "filter_enabled", Message(&RUNTIME_FRACTION)),
        row(5, "filter_enforced", Message(&RUNTIME_FRACTION)),
        row(6, "response_headers_to_add", Repeated(&HEADER_VALUE_OPTION)),
        row(8, "descriptors", Repeated(&LOCAL_DESCRIPTOR)),
        row(9, "stage", Supported),
        row(10, "request_headers_to_add_when_not_enforced", Repeated(&HEADER_VALUE_OPTION)),
        row(11, "local_rate_limit_per_downstream_connection", Supported),
        row(12, "enable_x_ratelimit_headers", Supported),
        row(13, "vh_rate_limits", Supported),
        row(14, "always_consume_default_token_bucket", Supported),
        row(15, "rate_limited_as_resource_exhausted", Supported),
        row(
            16,
            "local_cluster_rate_limit",
            Refused("limits shared by a cluster of proxies are not supported"),
        ),
        row(17, "rate_limits", Repeated(&RATE_LIMIT)),
        row(18, "max_dynamic_descriptors", Supported),
        row(19, "enable_retry_after_header", Supported),
    ],
};

pub(super) static LOCAL_DESCRIPTOR: Message = Message {
    name: "envoy.extensions.common.ratelimit.v3.LocalRateLimitDescriptor",
    fields: &[
        row(1, "entries", Repeated(&DESCRIPTOR_ENTRY)),
        row(2, "token_bucket", Message(&TOKEN_BUCKET)),
        row(3, "shadow_mode", RefusedUnlessZero("use filter_enforced")),
    ],
};

pub(super) static DESCRIPTOR_ENTRY: Message = Message {
    name: "envoy.extensions.common.ratelimit.v3.RateLimitDescriptor.Entry",
    fields: &[row(1, "key", Supported), row(2, "value", Supported)],
};

pub(super) static TOKEN_BUCKET: Message = Message {
    name: "envoy.type.v3.TokenBucket",
    fields: &[
        row(1, "max_tokens", Supported),
        row(2, "tokens_per_fill", Supported),
        row(3, "fill_interval", Supported),
    ],
};

pub(super) static HTTP_STATUS: Message =
    Message { name: "envoy.type.v3.HttpStatus", fields: &[row(1, "code", Supported)] };

pub(super) static GLOBAL_RATE_LIMIT: Message = Message {
    name: "envoy.extensions.filters.http.ratelimit.v3.RateLimit",
    fields: &[
        row(1, "domain", Supported),
        row(2, "stage", Supported),
        row(3, "request_type", Supported),
        row(4, "timeout", Supported),
        row(5, "failure_mode_deny", Supported),
        row(6, "rate_limited_as_resource_exhausted", Supported),
        row(7, "rate_limit_service", Message(&SERVICE_CONFIG)),
        row(8, "enable_x_ratelimit_headers", Supported),
        row(9, "disable_x_envoy_ratelimited_header", Supported),
        row(10, "rate_limited_status", Message(&HTTP_STATUS)),
        row(11, "response_headers_to_add", Repeated(&HEADER_VALUE_OPTION)),
        row(12, "status_on_error", Message(&HTTP_STATUS)),
        row(13, "stat_prefix", Refused("counters are those of the request's cluster")),
        row(14, "filter_enabled", Message(&RUNTIME_FRACTION)),
        row(15, "filter_enforced", Message(&RUNTIME_FRACTION)),
        row(16, "failure_mode_deny_percent", Refused("set failure_mode_deny")),
        row(17, "rate_limits", Refused("set the rate limits of routes")),
        row(18, "metadata_namespace", Ignored("nothing that is supported reads the service's metadata")),
        row(19, "enable_retry_after_header", RefusedUnlessZero("not supported")),
    ],
};

pub(super) static SERVICE_CONFIG: Message = Message {
    name: "envoy.config.ratelimit.v3.RateLimitServiceConfig",
    fields: &[
        row(2, "grpc_service", Message(&GRPC_SERVICE)),
        row(4, "transport_api_version", Ignored("version 3 is the only one there is")),
    ],
};

pub(super) static RATE_LIMIT_OF_ROUTE: Message = Message {
    name: "envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute",
    fields: &[
        row(1, "vh_rate_limits", Supported),
        row(2, "override_option", RefusedUnlessZero("use rate_limits or vh_rate_limits")),
        row(3, "rate_limits", Repeated(&RATE_LIMIT)),
        row(4, "domain", Supported),
    ],
};

pub(super) static GRPC_SERVICE: Message = Message {
    name: "envoy.config.core.v3.GrpcService",
    fields: &[
        row(1, "envoy_grpc", Message(&ENVOY_GRPC)),
        row(3, "timeout", Ignored("the rate limit filter has its own")),
        row(5, "initial_metadata", Repeated(&HEADER_VALUE)),
        row(6, "retry_policy", Refused("calls are not repeated")),
    ],
};

pub(super) static ENVOY_GRPC: Message = Message {
    name: "envoy.config.core.v3.GrpcService.EnvoyGrpc",
    fields: &[
        row(1, "cluster_name", Supported),
        row(2, "authority", Supported),
        row(3, "retry_policy", Refused("calls are not repeated")),
        row(4, "max_receive_message_length", Ignored("answers are bounded to 64 KiB")),
        row(5, "skip_envoy_headers", RefusedUnlessZero("calls say that they are internal")),
    ],
};
