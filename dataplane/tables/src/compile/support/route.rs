//! Fields of route configurations.

use super::Rule::*;
use super::common::{
    DATA_SOURCE, HEADER_MUTATION, HEADER_VALUE_OPTION, INT64_RANGE, METADATA, REGEX_MATCHER,
    REGEX_SUBSTITUTE, RUNTIME_FRACTION, STRING_MATCHER,
};
use super::http::{BUFFER_PER_ROUTE, CORS_POLICY, FAULT, HEADER_MUTATION_PER_ROUTE};
use super::rate_limit::{LOCAL_RATE_LIMIT, RATE_LIMIT, RATE_LIMIT_OF_ROUTE};
use super::rbac::HTTP_RBAC_PER_ROUTE;
use super::telemetry::{BODY_FORMAT, ROUTE_TRACING};
use super::{AnyRule, AnyTypes, Message, UNSUPPORTED, row};

pub(super) static ROUTE_FILTERS: AnyTypes = AnyTypes(&[
    ("envoy.extensions.filters.http.fault.v3.HTTPFault", AnyRule::Message(&FAULT)),
    ("envoy.extensions.filters.http.cors.v3.CorsPolicy", AnyRule::Message(&CORS_POLICY)),
    ("envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit", AnyRule::Message(&LOCAL_RATE_LIMIT)),
    ("envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute", AnyRule::Message(&RATE_LIMIT_OF_ROUTE)),
    ("envoy.extensions.filters.http.buffer.v3.BufferPerRoute", AnyRule::Message(&BUFFER_PER_ROUTE)),
    (
        "envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute",
        AnyRule::Message(&HEADER_MUTATION_PER_ROUTE),
    ),
    ("envoy.extensions.filters.http.rbac.v3.RBACPerRoute", AnyRule::Message(&HTTP_RBAC_PER_ROUTE)),
]);

pub(super) static RETRY_HOST_PREDICATES: AnyTypes = AnyTypes(&[
    (
        "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate",
        AnyRule::Message(&PREVIOUS_HOSTS),
    ),
    (
        "envoy.extensions.retry.host.omit_canary_hosts.v3.OmitCanaryHostsPredicate",
        AnyRule::Message(&OMIT_CANARY_HOSTS),
    ),
]);

pub(super) static RETRY_PRIORITIES: AnyTypes = AnyTypes(&[(
    "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
    AnyRule::Message(&PREVIOUS_PRIORITIES),
)]);

pub(super) static ROUTE_CONFIGURATION: Message = Message {
    name: "envoy.config.route.v3.RouteConfiguration",
    fields: &[
        row(1, "name", Supported),
        row(2, "virtual_hosts", Repeated(&VIRTUAL_HOST)),
        row(3, "internal_only_headers", Supported),
        row(4, "response_headers_to_add", Repeated(&HEADER_VALUE_OPTION)),
        row(5, "response_headers_to_remove", Supported),
        row(6, "request_headers_to_add", Repeated(&HEADER_VALUE_OPTION)),
        row(
            7,
            "validate_clusters",
            Ignored("an unknown cluster is answered per request (503 NC), so that clusters may arrive later"),
        ),
        row(8, "request_headers_to_remove", Supported),
        row(9, "vhds", Refused("virtual-host discovery is not supported")),
        row(10, "most_specific_header_mutations_wins", Supported),
        row(11, "max_direct_response_body_size_bytes", Supported),
        row(12, "cluster_specifier_plugins", Refused("cluster specifier plugins are not supported")),
        row(13, "request_mirror_policies", Repeated(&MIRROR_POLICY)),
        row(14, "ignore_port_in_host_matching", Supported),
        row(15, "ignore_path_parameters_in_path_matching", Refused(UNSUPPORTED)),
        row(16, "typed_per_filter_config", MapOfAny(&ROUTE_FILTERS)),
        row(17, "metadata", Ignored("kept in the raw resource")),
        row(18, "vhost_header", Refused(UNSUPPORTED)),
        row(19, "route_specifiers", Refused(UNSUPPORTED)),
    ],
};

pub(super) static VIRTUAL_HOST: Message = Message {
    name: "envoy.config.route.v3.VirtualHost",
    fields: &[
        row(1, "name", Supported),
        row(2, "domains", Supported),
        row(3, "routes", Repeated(&ROUTE)),
        row(4, "require_tls", Supported),
        row(5, "virtual_clusters", Repeated(&VIRTUAL_CLUSTER)),
        row(6, "rate_limits", Repeated(&RATE_LIMIT)),
        row(7, "request_headers_to_add", Repeated(&HEADER_VALUE_OPTION)),
        row(8, "cors", Refused("use the typed_per_filter_config of envoy.filters.http.cors")),
        row(10, "response_headers_to_add", Repeated(&HEADER_VALUE_OPTION)),
        row(11, "response_headers_to_remove", Supported),
        row(13, "request_headers_to_remove", Supported),
        row(14, "include_request_attempt_count", Supported),
        row(15, "typed_per_filter_config", MapOfAny(&ROUTE_FILTERS)),
        row(16, "retry_policy", Message(&RETRY_POLICY)),
        row(17, "hedge_policy", Refused("hedging is not supported")),
        row(18, "per_request_buffer_limit_bytes", Supported),
        row(19, "include_attempt_count_in_response", Supported),
        row(20, "retry_policy_typed_config", Refused("retry-policy extensions are not supported")),
        row(21, "matcher", Refused("matcher trees are not supported")),
        row(22, "request_mirror_policies", Repeated(&MIRROR_POLICY)),
        row(23, "include_is_timeout_retry_header", Ignored("a header for the upstream's information")),
        row(24, "metadata", Message(&METADATA)),
        row(25, "request_body_buffer_limit", Supported),
        row(26, "route_specifiers", Refused(UNSUPPORTED)),
    ],
};

pub(super) static ROUTE: Message = Message {
    name: "envoy.config.route.v3.Route",
    fields: &[
        row(1, "match", Message(&ROUTE_MATCH)),
        row(2, "route", Message(&ROUTE_ACTION)),
        row(3, "redirect", Message(&REDIRECT)),
        row(4, "metadata", Message(&METADATA)),
        row(5, "decorator", Message(&DECORATOR)),
        row(7, "direct_response", Message(&DIRECT_RESPONSE)),
        row(9, "request_headers_to_add", Repeated(&HEADER_VALUE_OPTION)),
        row(10, "response_headers_to_add", Repeated(&HEADER_VALUE_OPTION)),
        row(11, "response_headers_to_remove", Supported),
        row(12, "request_headers_to_remove", Supported),
        row(13, "typed_per_filter_config", MapOfAny(&ROUTE_FILTERS)),
        row(14, "name", Supported),
        row(15, "tracing", Message(&ROUTE_TRACING)),
        row(16, "per_request_buffer_limit_bytes", Supported),
        row(17, "filter_action", Refused("matcher actions are not supported")),
        row(18, "non_forwarding_action", Refused("matcher actions are not supported")),
        row(19, "stat_prefix", Ignored("statistics are not kept per route")),
        row(20, "request_body_buffer_limit", Supported),
        row(21, "route_specifiers", Refused(UNSUPPORTED)),
    ],
};

pub(super) static ROUTE_MATCH: Message = Message {
    name: "envoy.config.route.v3.RouteMatch",
    fields: &[
        row(1, "prefix", Supported),
        row(2, "path", Supported),
        row(4, "case_sensitive", Supported),
        row(6, "headers", Repeated(&HEADER_MATCHER)),
        row(7, "query_parameters", Repeated(&QUERY_MATCHER)),
        row(8, "grpc", Message(&GRPC_MATCH)),
        row(9, "runtime_fraction", Message(&RUNTIME_FRACTION)),
        row(10, "safe_regex", Message(&REGEX_MATCHER)),
        row(11, "tls_context", Refused("routes are not chosen by client certificates")),
        row(12, "connect_matcher", Message(&CONNECT_MATCHER)),
        row(13, "dynamic_metadata", Repeated(&METADATA_MATCHER)),
        row(14, "path_separated_prefix", Supported),
        row(15, "path_match_policy", Refused("URI templates are not supported")),
        row(16, "filter_state", Refused("filter state comes from filters that are not supported")),
        row(17, "cookies", Refused("cookie matchers are not supported; match the cookie header")),
    ],
};

pub(super) static VIRTUAL_CLUSTER: Message = Message {
    name: "envoy.config.route.v3.VirtualCluster",
    fields: &[row(2, "name", Supported), row(4, "headers", Repeated(&HEADER_MATCHER))],
};

pub(super) static METADATA_MATCHER: Message = Message {
    name: "envoy.type.matcher.v3.MetadataMatcher",
    fields: &[
        row(1, "filter", Supported),
        row(2, "path", Repeated(&METADATA_PATH)),
        row(3, "value", Message(&VALUE_MATCHER)),
        row(4, "invert", Supported),
    ],
};

pub(super) static METADATA_PATH: Message = Message {
    name: "envoy.type.matcher.v3.MetadataMatcher.PathSegment",
    fields: &[row(1, "key", Supported)],
};

pub(super) static VALUE_MATCHER: Message = Message {
    name: "envoy.type.matcher.v3.ValueMatcher",
    fields: &[
        row(1, "null_match", Message(&NULL_MATCH)),
        row(2, "double_match", Message(&DOUBLE_MATCHER)),
        row(3, "string_match", Message(&STRING_MATCHER)),
        row(4, "bool_match", Supported),
        row(5, "present_match", Supported),
        row(6, "list_match", Message(&LIST_MATCHER)),
        row(7, "or_match", Message(&OR_MATCHER)),
    ],
};

pub(super) static NULL_MATCH: Message =
    Message { name: "envoy.type.matcher.v3.ValueMatcher.NullMatch", fields: &[] };

pub(super) static DOUBLE_MATCHER: Message = Message {
    name: "envoy.type.matcher.v3.DoubleMatcher",
    fields: &[row(1, "range", Message(&DOUBLE_RANGE)), row(2, "exact", Supported)],
};

pub(super) static DOUBLE_RANGE: Message = Message {
    name: "envoy.type.v3.DoubleRange",
    fields: &[row(1, "start", Supported), row(2, "end", Supported)],
};

pub(super) static LIST_MATCHER: Message = Message {
    name: "envoy.type.matcher.v3.ListMatcher",
    fields: &[row(1, "one_of", Message(&VALUE_MATCHER))],
};

pub(super) static OR_MATCHER: Message = Message {
    name: "envoy.type.matcher.v3.OrMatcher",
    fields: &[row(1, "value_matchers", Repeated(&VALUE_MATCHER))],
};

pub(super) static GRPC_MATCH: Message =
    Message { name: "envoy.config.route.v3.RouteMatch.GrpcRouteMatchOptions", fields: &[] };

pub(super) static CONNECT_MATCHER: Message =
    Message { name: "envoy.config.route.v3.RouteMatch.ConnectMatcher", fields: &[] };

pub(super) static HEADER_MATCHER: Message = Message {
    name: "envoy.config.route.v3.HeaderMatcher",
    fields: &[
        row(1, "name", Supported),
        row(4, "exact_match", Supported),
        row(6, "range_match", Message(&INT64_RANGE)),
        row(7, "present_match", Supported),
        row(8, "invert_match", Supported),
        row(9, "prefix_match", Supported),
        row(10, "suffix_match", Supported),
        row(11, "safe_regex_match", Message(&REGEX_MATCHER)),
        row(12, "contains_match", Supported),
        row(13, "string_match", Message(&STRING_MATCHER)),
        row(14, "treat_missing_header_as_empty", Supported),
    ],
};

pub(super) static QUERY_MATCHER: Message = Message {
    name: "envoy.config.route.v3.QueryParameterMatcher",
    fields: &[
        row(1, "name", Supported),
        row(5, "string_match", Message(&STRING_MATCHER)),
        row(6, "present_match", Supported),
    ],
};

pub(super) static ROUTE_ACTION: Message = Message {
    name: "envoy.config.route.v3.RouteAction",
    fields: &[
        row(1, "cluster", Supported),
        row(2, "cluster_header", Supported),
        row(3, "weighted_clusters", Message(&WEIGHTED_CLUSTER)),
        row(4, "metadata_match", Message(&METADATA)),
        row(5, "prefix_rewrite", Supported),
        row(6, "host_rewrite_literal", Supported),
        row(7, "auto_host_rewrite", Supported),
        row(8, "timeout", Supported),
        row(9, "retry_policy", Message(&RETRY_POLICY)),
        row(11, "priority", Supported),
        row(13, "rate_limits", Repeated(&RATE_LIMIT)),
        row(14, "include_vh_rate_limits", Supported),
        row(15, "hash_policy", Repeated(&HASH_POLICY)),
        row(17, "cors", Refused("use the typed_per_filter_config of envoy.filters.http.cors")),
        row(20, "cluster_not_found_response_code", Supported),
        row(23, "max_grpc_timeout", Supported),
        row(24, "idle_timeout", Supported),
        row(25, "upgrade_configs", Repeated(&ROUTE_UPGRADE)),
        row(26, "internal_redirect_action", Refused("superseded by internal_redirect_policy")),
        row(27, "hedge_policy", Refused("hedging is not supported")),
        row(28, "grpc_timeout_offset", Refused("not supported; use max_stream_duration")),
        row(29, "host_rewrite_header", Supported),
        row(30, "request_mirror_policies", Repeated(&MIRROR_POLICY)),
        row(31, "max_internal_redirects", Refused("superseded by internal_redirect_policy")),
        row(32, "regex_rewrite", Message(&REGEX_SUBSTITUTE)),
        row(33, "retry_policy_typed_config", Refused("retry-policy extensions are not supported")),
        row(34, "internal_redirect_policy", Message(&INTERNAL_REDIRECT_POLICY)),
        row(35, "host_rewrite_path_regex", Message(&REGEX_SUBSTITUTE)),
        row(36, "max_stream_duration", Message(&MAX_STREAM_DURATION)),
        row(37, "cluster_specifier_plugin", Refused("cluster specifier plugins are not supported")),
        row(38, "append_x_forwarded_host", Supported),
        row(39, "inline_cluster_specifier_plugin", Refused("cluster specifier plugins are not supported")),
        row(40, "early_data_policy", Ignored("early data is never taken")),
        row(41, "path_rewrite_policy", Refused("rewrite extensions are not supported")),
        row(42, "flush_timeout", Ignored("bounds the last flush to a slow client, as the idle timeout does")),
        row(44, "host_rewrite", Refused("rewrite extensions are not supported")),
        row(45, "path_rewrite", Refused("rewrite extensions are not supported")),
    ],
};

pub(super) static INTERNAL_REDIRECT_POLICY: Message = Message {
    name: "envoy.config.route.v3.InternalRedirectPolicy",
    fields: &[
        row(1, "max_internal_redirects", Supported),
        row(2, "redirect_response_codes", Supported),
        row(3, "predicates", Repeated(&REDIRECT_PREDICATE)),
        row(4, "allow_cross_scheme_redirect", Supported),
        row(5, "response_headers_to_copy", Supported),
    ],
};

pub(super) static REDIRECT_PREDICATE: Message = Message {
    name: "envoy.config.core.v3.TypedExtensionConfig",
    fields: &[row(1, "name", Supported), row(2, "typed_config", Any(&REDIRECT_PREDICATES))],
};

pub(super) static REDIRECT_PREDICATES: AnyTypes = AnyTypes(&[
    (
        "envoy.extensions.internal_redirect.previous_routes.v3.PreviousRoutesConfig",
        AnyRule::Message(&PREVIOUS_ROUTES),
    ),
    (
        "envoy.extensions.internal_redirect.allow_listed_routes.v3.AllowListedRoutesConfig",
        AnyRule::Message(&ALLOW_LISTED_ROUTES),
    ),
    (
        "envoy.extensions.internal_redirect.safe_cross_scheme.v3.SafeCrossSchemeConfig",
        AnyRule::Message(&SAFE_CROSS_SCHEME),
    ),
]);

pub(super) static PREVIOUS_ROUTES: Message = Message {
    name: "envoy.extensions.internal_redirect.previous_routes.v3.PreviousRoutesConfig",
    fields: &[],
};

pub(super) static ALLOW_LISTED_ROUTES: Message = Message {
    name: "envoy.extensions.internal_redirect.allow_listed_routes.v3.AllowListedRoutesConfig",
    fields: &[row(1, "allowed_route_names", Supported)],
};

pub(super) static SAFE_CROSS_SCHEME: Message = Message {
    name: "envoy.extensions.internal_redirect.safe_cross_scheme.v3.SafeCrossSchemeConfig",
    fields: &[],
};

pub(super) static HASH_POLICY: Message = Message {
    name: "envoy.config.route.v3.RouteAction.HashPolicy",
    fields: &[
        row(1, "header", Message(&HASH_HEADER)),
        row(2, "cookie", Message(&HASH_COOKIE)),
        row(3, "connection_properties", Message(&HASH_CONNECTION)),
        row(4, "terminal", Supported),
        row(5, "query_parameter", Message(&HASH_QUERY)),
        row(6, "filter_state", Refused("filter state comes from filters that are not supported")),
    ],
};

pub(super) static HASH_HEADER: Message = Message {
    name: "envoy.config.route.v3.RouteAction.HashPolicy.Header",
    fields: &[row(1, "header_name", Supported), row(2, "regex_rewrite", Message(&REGEX_SUBSTITUTE))],
};

pub(super) static HASH_COOKIE: Message = Message {
    name: "envoy.config.route.v3.RouteAction.HashPolicy.Cookie",
    fields: &[
        row(1, "name", Supported),
        row(2, "ttl", Supported),
        row(3, "path", Supported),
        row(4, "attributes", Repeated(&HASH_COOKIE_ATTRIBUTE)),
    ],
};

pub(super) static HASH_COOKIE_ATTRIBUTE: Message = Message {
    name: "envoy.config.route.v3.RouteAction.HashPolicy.CookieAttribute",
    fields: &[row(1, "name", Supported), row(2, "value", Supported)],
};

pub(super) static HASH_CONNECTION: Message = Message {
    name: "envoy.config.route.v3.RouteAction.HashPolicy.ConnectionProperties",
    fields: &[row(1, "source_ip", Supported)],
};

pub(super) static HASH_QUERY: Message = Message {
    name: "envoy.config.route.v3.RouteAction.HashPolicy.QueryParameter",
    fields: &[row(1, "name", Supported)],
};

pub(super) static MIRROR_POLICY: Message = Message {
    name: "envoy.config.route.v3.RouteAction.RequestMirrorPolicy",
    fields: &[
        row(1, "cluster", Supported),
        row(3, "runtime_fraction", Message(&RUNTIME_FRACTION)),
        row(4, "trace_sampled", Ignored("tracing only observes; a copy has no span of its own")),
        row(5, "cluster_header", Supported),
        row(6, "disable_shadow_host_suffix_append", Supported),
        row(7, "request_headers_mutations", Repeated(&HEADER_MUTATION)),
        row(8, "host_rewrite_literal", Supported),
    ],
};

pub(super) static WEIGHTED_CLUSTER: Message = Message {
    name: "envoy.config.route.v3.WeightedCluster",
    fields: &[
        row(1, "clusters", Repeated(&CLUSTER_WEIGHT)),
        row(2, "runtime_key_prefix", Ignored("there is no runtime layer that could override weights")),
        row(3, "total_weight", Supported),
        row(4, "header_name", Supported),
        row(5, "use_hash_policy", Supported),
    ],
};

pub(super) static CLUSTER_WEIGHT: Message = Message {
    name: "envoy.config.route.v3.WeightedCluster.ClusterWeight",
    fields: &[
        row(1, "name", Supported),
        row(2, "weight", Supported),
        row(3, "metadata_match", Message(&METADATA)),
        row(4, "request_headers_to_add", Repeated(&HEADER_VALUE_OPTION)),
        row(5, "response_headers_to_add", Repeated(&HEADER_VALUE_OPTION)),
        row(6, "response_headers_to_remove", Supported),
        row(9, "request_headers_to_remove", Supported),
        row(10, "typed_per_filter_config", MapOfAny(&ROUTE_FILTERS)),
        row(11, "host_rewrite_literal", Supported),
        row(12, "cluster_header", Supported),
    ],
};

pub(super) static ROUTE_UPGRADE: Message = Message {
    name: "envoy.config.route.v3.RouteAction.UpgradeConfig",
    fields: &[
        row(1, "upgrade_type", Supported),
        row(2, "enabled", Supported),
        row(3, "connect_config", Message(&CONNECT_CONFIG)),
    ],
};

pub(super) static CONNECT_CONFIG: Message = Message {
    name: "envoy.config.route.v3.RouteAction.UpgradeConfig.ConnectConfig",
    fields: &[
        row(1, "proxy_protocol_config", Refused("PROXY protocol is not supported")),
        row(2, "allow_post", Refused("CONNECT is accepted by its own method only")),
    ],
};

pub(super) static MAX_STREAM_DURATION: Message = Message {
    name: "envoy.config.route.v3.RouteAction.MaxStreamDuration",
    fields: &[
        row(1, "max_stream_duration", Supported),
        row(2, "grpc_timeout_header_max", Supported),
        row(3, "grpc_timeout_header_offset", Supported),
    ],
};

pub(super) static REDIRECT: Message = Message {
    name: "envoy.config.route.v3.RedirectAction",
    fields: &[
        row(1, "host_redirect", Supported),
        row(2, "path_redirect", Supported),
        row(3, "response_code", Supported),
        row(4, "https_redirect", Supported),
        row(5, "prefix_rewrite", Supported),
        row(6, "strip_query", Supported),
        row(7, "scheme_redirect", Supported),
        row(8, "port_redirect", Supported),
        row(9, "regex_rewrite", Message(&REGEX_SUBSTITUTE)),
        row(10, "path_rewrite", Refused("rewrite formats are not supported")),
    ],
};

pub(super) static DIRECT_RESPONSE: Message = Message {
    name: "envoy.config.route.v3.DirectResponseAction",
    fields: &[
        row(1, "status", Supported),
        row(2, "body", Message(&DATA_SOURCE)),
        row(3, "body_format", Message(&BODY_FORMAT)),
    ],
};

pub(super) static DECORATOR: Message = Message {
    name: "envoy.config.route.v3.Decorator",
    fields: &[row(1, "operation", Supported), row(2, "propagate", Supported)],
};

pub(super) static RETRY_POLICY: Message = Message {
    name: "envoy.config.route.v3.RetryPolicy",
    fields: &[
        row(1, "retry_on", Supported),
        row(2, "num_retries", Supported),
        row(3, "per_try_timeout", Supported),
        row(4, "retry_priority", Message(&RETRY_PRIORITY)),
        row(5, "retry_host_predicate", Repeated(&RETRY_HOST_PREDICATE)),
        row(6, "host_selection_retry_max_attempts", Supported),
        row(7, "retriable_status_codes", Supported),
        row(8, "retry_back_off", Message(&RETRY_BACK_OFF)),
        row(9, "retriable_headers", Repeated(&HEADER_MATCHER)),
        row(10, "retriable_request_headers", Repeated(&HEADER_MATCHER)),
        row(11, "rate_limited_retry_back_off", Message(&RATE_LIMITED_BACK_OFF)),
        row(12, "retry_options_predicates", Refused("retry options are not supported")),
        row(13, "per_try_idle_timeout", Supported),
        row(14, "refresh_cluster_on_retry", Refused("not supported")),
    ],
};

pub(super) static RETRY_BACK_OFF: Message = Message {
    name: "envoy.config.route.v3.RetryPolicy.RetryBackOff",
    fields: &[row(1, "base_interval", Supported), row(2, "max_interval", Supported)],
};

pub(super) static RETRY_HOST_PREDICATE: Message = Message {
    name: "envoy.config.route.v3.RetryPolicy.RetryHostPredicate",
    fields: &[row(1, "name", Supported), row(3, "typed_config", Any(&RETRY_HOST_PREDICATES))],
};

pub(super) static RETRY_PRIORITY: Message = Message {
    name: "envoy.config.route.v3.RetryPolicy.RetryPriority",
    fields: &[row(1, "name", Supported), row(3, "typed_config", Any(&RETRY_PRIORITIES))],
};

pub(super) static PREVIOUS_PRIORITIES: Message = Message {
    name: "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
    fields: &[row(1, "update_frequency", Supported)],
};

pub(super) static RATE_LIMITED_BACK_OFF: Message = Message {
    name: "envoy.config.route.v3.RetryPolicy.RateLimitedRetryBackOff",
    fields: &[row(1, "reset_headers", Repeated(&RESET_HEADER)), row(2, "max_interval", Supported)],
};

pub(super) static RESET_HEADER: Message = Message {
    name: "envoy.config.route.v3.RetryPolicy.ResetHeader",
    fields: &[row(1, "name", Supported), row(2, "format", Supported)],
};

pub(super) static OMIT_CANARY_HOSTS: Message = Message {
    name: "envoy.extensions.retry.host.omit_canary_hosts.v3.OmitCanaryHostsPredicate",
    fields: &[],
};

pub(super) static PREVIOUS_HOSTS: Message =
    Message { name: "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate", fields: &[] };
