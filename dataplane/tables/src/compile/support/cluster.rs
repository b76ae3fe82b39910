//! Fields of clusters and their endpoints.

use super::Rule::*;
use super::balancing::{LB_POLICY, RUNTIME_DOUBLE};
use super::common::{ADDRESS, LOCALITY, METADATA, PERCENT, SOCKET_ADDRESS, TRANSPORT_SOCKET};
use super::health_check::HEALTH_CHECK;
use super::http::{HTTP_PROTOCOL_OPTIONS, HTTP1_OPTIONS, HTTP2_OPTIONS};
use super::{AnyRule, AnyTypes, Message, UNSUPPORTED, row};

pub(super) static UPSTREAM_FILTERS: AnyTypes = AnyTypes(&[(
    "envoy.tcp.metadataexchange.config.MetadataExchange",
    AnyRule::Ignored("the protocol istio-peer-exchange is not offered, so that no peer sends its metadata"),
)]);

pub(super) static PROTOCOL_OPTIONS: AnyTypes = AnyTypes(&[(
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
    AnyRule::Message(&UPSTREAM_HTTP_OPTIONS),
)]);

pub(super) static CLUSTER: Message = Message {
    name: "envoy.config.cluster.v3.Cluster",
    fields: &[
        row(1, "name", Supported),
        row(2, "type", Supported),
        row(3, "eds_cluster_config", Message(&EDS_CONFIG)),
        row(4, "connect_timeout", Supported),
        row(5, "per_connection_buffer_limit_bytes", Supported),
        row(6, "lb_policy", Supported),
        row(8, "health_checks", Repeated(&HEALTH_CHECK)),
        row(9, "max_requests_per_connection", Supported),
        row(10, "circuit_breakers", Message(&CIRCUIT_BREAKERS)),
        row(13, "http_protocol_options", Message(&HTTP1_OPTIONS)),
        row(14, "http2_protocol_options", Message(&HTTP2_OPTIONS)),
        row(16, "dns_refresh_rate", Supported),
        row(17, "dns_lookup_family", Supported),
        row(18, "dns_resolvers", Repeated(&ADDRESS)),
        row(19, "outlier_detection", Message(&OUTLIER_DETECTION)),
        row(20, "cleanup_interval", Ignored("hosts of ORIGINAL_DST clusters are not kept")),
        row(21, "upstream_bind_config", Message(&BIND_CONFIG)),
        row(22, "lb_subset_config", Message(&LB_SUBSET)),
        row(23, "ring_hash_lb_config", Message(&RING_HASH)),
        row(24, "transport_socket", Message(&TRANSPORT_SOCKET)),
        row(25, "metadata", Message(&METADATA)),
        row(26, "protocol_selection", Supported),
        row(27, "common_lb_config", Message(&COMMON_LB)),
        row(28, "alt_stat_name", Supported),
        row(29, "common_http_protocol_options", Message(&HTTP_PROTOCOL_OPTIONS)),
        row(30, "upstream_connection_options", Message(&UPSTREAM_CONNECTION)),
        row(31, "close_connections_on_host_health_failure", Refused("not supported")),
        row(32, "ignore_health_on_host_removal", Ignored("endpoints that leave get no new requests")),
        row(33, "load_assignment", Message(&LOAD_ASSIGNMENT)),
        row(34, "original_dst_lb_config", Message(&ORIGINAL_DST_LB)),
        row(36, "typed_extension_protocol_options", MapOfAny(&PROTOCOL_OPTIONS)),
        row(37, "least_request_lb_config", Message(&LEAST_REQUEST)),
        row(38, "cluster_type", Refused("custom cluster types are not supported")),
        row(39, "respect_dns_ttl", Supported),
        row(40, "filters", Repeated(&CLUSTER_FILTER)),
        row(41, "load_balancing_policy", Message(&LB_POLICY)),
        row(42, "lrs_server", Refused("load reporting is not supported")),
        row(43, "transport_socket_matches", Repeated(&TRANSPORT_SOCKET_MATCH)),
        row(44, "dns_failure_refresh_rate", Message(&REFRESH_RATE)),
        row(45, "use_tcp_for_dns_lookups", Supported),
        row(
            46,
            "upstream_http_protocol_options",
            Refused("server names and validation by the authority are not supported"),
        ),
        row(47, "track_timeout_budgets", Ignored("statistics only")),
        row(48, "upstream_config", Refused("upstream extensions are not supported")),
        row(49, "track_cluster_stats", Ignored("statistics only")),
        row(50, "preconnect_policy", Ignored("opening connections early changes no destination")),
        row(51, "connection_pool_per_downstream_connection", Refused("not supported")),
        row(52, "maglev_lb_config", Message(&MAGLEV)),
        row(53, "dns_resolution_config", Message(&DNS_RESOLUTION)),
        row(
            54,
            "wait_for_warm_on_init",
            Ignored("a start-up preference; a cluster is used when it is complete"),
        ),
        row(55, "typed_dns_resolver_config", Message(&DNS_RESOLVER)),
        row(56, "round_robin_lb_config", Message(&ROUND_ROBIN)),
        row(57, "lrs_report_endpoint_metrics", Ignored("statistics only")),
        row(58, "dns_jitter", Supported),
        row(59, "transport_socket_matcher", Refused("use transport_socket_matches")),
        row(
            60,
            "per_connection_buffer_high_watermark_timeout",
            Ignored("memory watermark timer; buffers are bounded"),
        ),
        row(61, "stats_matcher", Ignored("statistics only")),
        row(62, "queuing_policies", Refused("not supported")),
    ],
};

pub(super) static REFRESH_RATE: Message = Message {
    name: "envoy.config.cluster.v3.Cluster.RefreshRate",
    fields: &[row(1, "base_interval", Supported), row(2, "max_interval", Supported)],
};

pub(super) static DNS_RESOLUTION: Message = Message {
    name: "envoy.config.core.v3.DnsResolutionConfig",
    fields: &[row(1, "resolvers", Repeated(&ADDRESS)), row(2, "dns_resolver_options", Message(&DNS_OPTIONS))],
};

pub(super) static DNS_OPTIONS: Message = Message {
    name: "envoy.config.core.v3.DnsResolverOptions",
    fields: &[row(1, "use_tcp_for_dns_lookups", Supported), row(2, "no_default_search_domain", Supported)],
};

pub(super) static DNS_RESOLVER: Message = Message {
    name: "envoy.config.core.v3.TypedExtensionConfig",
    fields: &[
        row(1, "name", Ignored("the type of typed_config decides")),
        row(2, "typed_config", Any(&DNS_RESOLVERS)),
    ],
};

pub(super) static DNS_RESOLVERS: AnyTypes = AnyTypes(&[
    (
        "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
        AnyRule::Message(&CARES_RESOLVER),
    ),
    (
        "envoy.extensions.network.dns_resolver.getaddrinfo.v3.GetAddrInfoDnsResolverConfig",
        AnyRule::Ignored("how often and how many at once the system's resolver asks is its own matter"),
    ),
]);

pub(super) static CARES_RESOLVER: Message = Message {
    name: "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
    fields: &[
        row(1, "resolvers", Repeated(&ADDRESS)),
        row(2, "dns_resolver_options", Message(&DNS_OPTIONS)),
        row(3, "use_resolvers_as_fallback", Supported),
        row(4, "filter_unroutable_families", RefusedUnlessZero("all families that are asked for are used")),
        row(5, "udp_max_queries", Ignored("every question has a socket of its own")),
        row(6, "query_timeout_seconds", Supported),
        row(7, "query_tries", Supported),
        row(8, "rotate_nameservers", Supported),
        row(9, "edns0_max_payload_size", Ignored("long answers are asked for over TCP")),
        row(10, "max_udp_channel_duration", Ignored("every question has a socket of its own")),
        row(11, "reinit_channel_on_timeout", Ignored("every question has a socket of its own")),
        row(12, "qcache_max_ttl", Ignored("answers are not cached")),
    ],
};

pub(super) static CLUSTER_FILTER: Message = Message {
    name: "envoy.config.cluster.v3.Filter",
    fields: &[
        row(1, "name", Ignored("the type of typed_config decides")),
        row(2, "typed_config", Any(&UPSTREAM_FILTERS)),
        row(3, "config_discovery", Refused("extension config discovery is not supported")),
    ],
};

pub(super) static EDS_CONFIG: Message = Message {
    name: "envoy.config.cluster.v3.Cluster.EdsClusterConfig",
    fields: &[
        row(1, "eds_config", Ignored("where to subscribe is the agent's matter")),
        row(2, "service_name", Supported),
    ],
};

pub(super) static TRANSPORT_SOCKET_MATCH: Message = Message {
    name: "envoy.config.cluster.v3.Cluster.TransportSocketMatch",
    fields: &[
        row(1, "name", Ignored("counted by nothing")),
        row(2, "match", Supported),
        row(3, "transport_socket", Message(&TRANSPORT_SOCKET)),
    ],
};

pub(super) static LB_SUBSET: Message = Message {
    name: "envoy.config.cluster.v3.Cluster.LbSubsetConfig",
    fields: &[
        row(1, "fallback_policy", Supported),
        row(2, "default_subset", Supported),
        row(3, "subset_selectors", Repeated(&LB_SUBSET_SELECTOR)),
        row(4, "locality_weight_aware", Supported),
        row(5, "scale_locality_weight", Supported),
        row(6, "panic_mode_any", Supported),
        row(7, "list_as_any", Supported),
        row(8, "metadata_fallback_policy", Supported),
    ],
};

pub(super) static LB_SUBSET_SELECTOR: Message = Message {
    name: "envoy.config.cluster.v3.Cluster.LbSubsetConfig.LbSubsetSelector",
    fields: &[
        row(1, "keys", Supported),
        row(2, "fallback_policy", Supported),
        row(3, "fallback_keys_subset", Supported),
        row(4, "single_host_per_subset", RefusedUnlessZero("subsets have as many hosts as match")),
    ],
};

pub(super) static COMMON_LB: Message = Message {
    name: "envoy.config.cluster.v3.Cluster.CommonLbConfig",
    fields: &[
        row(1, "healthy_panic_threshold", Message(&PERCENT)),
        row(2, "zone_aware_lb_config", Message(&ZONE_AWARE)),
        row(3, "locality_weighted_lb_config", Message(&LOCALITY_WEIGHTED)),
        row(4, "update_merge_window", Ignored("merges updates that follow one another quickly")),
        row(
            5,
            "ignore_new_hosts_until_first_hc",
            Ignored("an endpoint that is to be checked gets no requests before its first check"),
        ),
        row(6, "close_connections_on_host_set_change", Refused("not supported")),
        row(7, "consistent_hashing_lb_config", Message(&CONSISTENT_HASHING)),
        row(8, "override_host_status", Ignored("host overrides come from filters that are not supported")),
    ],
};

pub(super) static LOCALITY_WEIGHTED: Message =
    Message { name: "envoy.config.cluster.v3.Cluster.CommonLbConfig.LocalityWeightedLbConfig", fields: &[] };

pub(super) static ZONE_AWARE: Message = Message {
    name: "envoy.config.cluster.v3.Cluster.CommonLbConfig.ZoneAwareLbConfig",
    fields: &[
        row(1, "routing_enabled", Message(&PERCENT)),
        row(2, "min_cluster_size", Supported),
        row(3, "fail_traffic_on_panic", Supported),
    ],
};

pub(super) static CONSISTENT_HASHING: Message = Message {
    name: "envoy.config.cluster.v3.Cluster.CommonLbConfig.ConsistentHashingLbConfig",
    fields: &[row(1, "use_hostname_for_hashing", Supported), row(2, "hash_balance_factor", Supported)],
};

pub(super) static SLOW_START: Message = Message {
    name: "envoy.config.cluster.v3.Cluster.SlowStartConfig",
    fields: &[
        row(1, "slow_start_window", Supported),
        row(2, "aggression", Message(&RUNTIME_DOUBLE)),
        row(3, "min_weight_percent", Message(&PERCENT)),
    ],
};

pub(super) static LEAST_REQUEST: Message = Message {
    name: "envoy.config.cluster.v3.Cluster.LeastRequestLbConfig",
    fields: &[
        row(1, "choice_count", Supported),
        row(2, "active_request_bias", Message(&RUNTIME_DOUBLE)),
        row(3, "slow_start_config", Message(&SLOW_START)),
    ],
};

pub(super) static ROUND_ROBIN: Message = Message {
    name: "envoy.config.cluster.v3.Cluster.RoundRobinLbConfig",
    fields: &[row(1, "slow_start_config", Message(&SLOW_START))],
};

pub(super) static RING_HASH: Message = Message {
    name: "envoy.config.cluster.v3.Cluster.RingHashLbConfig",
    fields: &[
        row(1, "minimum_ring_size", Supported),
        row(3, "hash_function", Supported),
        row(4, "maximum_ring_size", Supported),
    ],
};

pub(super) static MAGLEV: Message = Message {
    name: "envoy.config.cluster.v3.Cluster.MaglevLbConfig",
    fields: &[row(1, "table_size", Supported)],
};

pub(super) static ORIGINAL_DST_LB: Message = Message {
    name: "envoy.config.cluster.v3.Cluster.OriginalDstLbConfig",
    fields: &[
        row(1, "use_http_header", Supported),
        row(2, "http_header_name", Supported),
        row(3, "upstream_port_override", Supported),
        row(4, "metadata_key", Refused("not supported")),
    ],
};

pub(super) static UPSTREAM_CONNECTION: Message = Message {
    name: "envoy.config.cluster.v3.UpstreamConnectionOptions",
    fields: &[
        row(1, "tcp_keepalive", Message(&TCP_KEEPALIVE)),
        row(2, "set_local_interface_name_on_upstream_connections", Ignored("statistics only")),
        row(3, "happy_eyeballs_config", Ignored("endpoints have one address each")),
    ],
};

pub(super) static TCP_KEEPALIVE: Message = Message {
    name: "envoy.config.core.v3.TcpKeepalive",
    fields: &[
        row(1, "keepalive_probes", Supported),
        row(2, "keepalive_time", Supported),
        row(3, "keepalive_interval", Supported),
    ],
};

pub(super) static BIND_CONFIG: Message = Message {
    name: "envoy.config.core.v3.BindConfig",
    fields: &[
        row(1, "source_address", Message(&SOCKET_ADDRESS)),
        row(2, "freebind", Ignored("a local address needs no freebind, and any other could not be answered")),
        row(3, "socket_options", Refused("raw socket options are not supported")),
        row(4, "additional_source_addresses", Refused("a cluster binds one source address")),
        row(5, "extra_source_addresses", Refused("a cluster binds one source address")),
        row(6, "local_address_selector", Refused("a cluster binds one source address")),
        row(7, "validate_network_namespaces", Refused(UNSUPPORTED)),
    ],
};

pub(super) static CIRCUIT_BREAKERS: Message = Message {
    name: "envoy.config.cluster.v3.CircuitBreakers",
    fields: &[
        row(1, "thresholds", Repeated(&THRESHOLDS)),
        row(2, "per_host_thresholds", Repeated(&PER_HOST_THRESHOLDS)),
    ],
};

pub(super) static THRESHOLDS: Message = Message {
    name: "envoy.config.cluster.v3.CircuitBreakers.Thresholds",
    fields: &[
        row(1, "priority", Supported),
        row(2, "max_connections", Supported),
        row(3, "max_pending_requests", Supported),
        row(4, "max_requests", Supported),
        row(5, "max_retries", Supported),
        row(6, "track_remaining", Supported),
        row(7, "max_connection_pools", Ignored("a cluster has one pool per shard and endpoint")),
        row(8, "retry_budget", Message(&RETRY_BUDGET)),
    ],
};

/// The same message where it limits one endpoint. Compat: Envoy takes nothing but connections there.
pub(super) static PER_HOST_THRESHOLDS: Message = Message {
    name: "envoy.config.cluster.v3.CircuitBreakers.Thresholds",
    fields: &[
        row(1, "priority", Supported),
        row(2, "max_connections", Supported),
        row(3, "max_pending_requests", Refused(CONNECTIONS_ONLY)),
        row(4, "max_requests", Refused(CONNECTIONS_ONLY)),
        row(5, "max_retries", Refused(CONNECTIONS_ONLY)),
        row(6, "track_remaining", RefusedUnlessZero(CONNECTIONS_ONLY)),
        row(7, "max_connection_pools", Refused(CONNECTIONS_ONLY)),
        row(8, "retry_budget", Refused(CONNECTIONS_ONLY)),
    ],
};

const CONNECTIONS_ONLY: &str = "of one endpoint, only connections are limited";

pub(super) static RETRY_BUDGET: Message = Message {
    name: "envoy.config.cluster.v3.CircuitBreakers.Thresholds.RetryBudget",
    fields: &[
        row(1, "budget_percent", Message(&PERCENT)),
        row(2, "min_retry_concurrency", Supported),
        row(3, "budget_interval", Refused("not supported")),
    ],
};

pub(super) static OUTLIER_DETECTION: Message = Message {
    name: "envoy.config.cluster.v3.OutlierDetection",
    fields: &[
        row(1, "consecutive_5xx", Supported),
        row(2, "interval", Supported),
        row(3, "base_ejection_time", Supported),
        row(4, "max_ejection_percent", Supported),
        row(5, "enforcing_consecutive_5xx", Supported),
        row(6, "enforcing_success_rate", Supported),
        row(7, "success_rate_minimum_hosts", Supported),
        row(8, "success_rate_request_volume", Supported),
        row(9, "success_rate_stdev_factor", Supported),
        row(10, "consecutive_gateway_failure", Supported),
        row(11, "enforcing_consecutive_gateway_failure", Supported),
        row(12, "split_external_local_origin_errors", Supported),
        row(13, "consecutive_local_origin_failure", Supported),
        row(14, "enforcing_consecutive_local_origin_failure", Supported),
        row(15, "enforcing_local_origin_success_rate", Supported),
        row(16, "failure_percentage_threshold", Supported),
        row(17, "enforcing_failure_percentage", Supported),
        row(18, "enforcing_failure_percentage_local_origin", Supported),
        row(19, "failure_percentage_minimum_hosts", Supported),
        row(20, "failure_percentage_request_volume", Supported),
        row(21, "max_ejection_time", Supported),
        row(22, "max_ejection_time_jitter", Supported),
        row(23, "successful_active_health_check_uneject_host", Supported),
        row(24, "monitors", Refused(UNSUPPORTED)),
        row(25, "always_eject_one_host", Supported),
        row(26, "detect_degraded_hosts", RefusedUnlessZero("not supported")),
    ],
};

pub(super) static UPSTREAM_HTTP_OPTIONS: Message = Message {
    name: "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
    fields: &[
        row(1, "common_http_protocol_options", Message(&HTTP_PROTOCOL_OPTIONS)),
        row(
            2,
            "upstream_http_protocol_options",
            Refused("server names and validation by the authority are not supported"),
        ),
        row(3, "explicit_http_config", Message(&EXPLICIT_HTTP)),
        row(4, "use_downstream_protocol_config", Message(&DOWNSTREAM_HTTP)),
        row(5, "auto_config", Refused("the protocol is not chosen by ALPN")),
        row(6, "http_filters", Refused("upstream HTTP filters are not supported")),
        row(7, "header_validation_config", Refused(UNSUPPORTED)),
        row(8, "outlier_detection", Refused(UNSUPPORTED)),
        row(9, "request_mirror_policies", Refused("mirroring is not supported")),
        row(10, "hash_policy", Refused("hash policies are not supported")),
        row(11, "retry_policy", Refused("retry policies belong to routes here")),
    ],
};

pub(super) static EXPLICIT_HTTP: Message = Message {
    name: "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.ExplicitHttpConfig",
    fields: &[
        row(1, "http_protocol_options", Message(&HTTP1_OPTIONS)),
        row(2, "http2_protocol_options", Message(&HTTP2_OPTIONS)),
        row(3, "http3_protocol_options", Refused("HTTP/3 is not supported")),
    ],
};

pub(super) static DOWNSTREAM_HTTP: Message = Message {
    name: "envoy.extensions.upstreams.http.v3.HttpProtocolOptions.UseDownstreamHttpConfig",
    fields: &[
        row(1, "http_protocol_options", Message(&HTTP1_OPTIONS)),
        row(2, "http2_protocol_options", Message(&HTTP2_OPTIONS)),
        row(3, "http3_protocol_options", Refused("HTTP/3 is not supported")),
    ],
};

pub(super) static LOAD_ASSIGNMENT: Message = Message {
    name: "envoy.config.endpoint.v3.ClusterLoadAssignment",
    fields: &[
        row(1, "cluster_name", Supported),
        row(2, "endpoints", Repeated(&LOCALITY_ENDPOINTS)),
        row(4, "policy", Message(&ASSIGNMENT_POLICY)),
        row(5, "named_endpoints", Refused("not supported")),
    ],
};

pub(super) static ASSIGNMENT_POLICY: Message = Message {
    name: "envoy.config.endpoint.v3.ClusterLoadAssignment.Policy",
    fields: &[
        row(2, "drop_overloads", Refused("drop policies are not supported")),
        row(3, "overprovisioning_factor", Supported),
        row(4, "endpoint_stale_after", Refused("not supported")),
        row(6, "weighted_priority_health", Refused("not supported")),
    ],
};

pub(super) static LOCALITY_ENDPOINTS: Message = Message {
    name: "envoy.config.endpoint.v3.LocalityLbEndpoints",
    fields: &[
        row(1, "locality", Message(&LOCALITY)),
        row(2, "lb_endpoints", Repeated(&LB_ENDPOINT)),
        row(3, "load_balancing_weight", Supported),
        row(5, "priority", Supported),
        row(6, "proximity", Ignored("proximity is not used by any accepted policy")),
        row(7, "load_balancer_endpoints", Refused("locality endpoint discovery is not supported")),
        row(8, "leds_cluster_locality_config", Refused("locality endpoint discovery is not supported")),
        row(9, "metadata", Ignored("kept in the raw resource")),
    ],
};

pub(super) static LB_ENDPOINT: Message = Message {
    name: "envoy.config.endpoint.v3.LbEndpoint",
    fields: &[
        row(1, "endpoint", Message(&ENDPOINT)),
        row(2, "health_status", Supported),
        row(3, "metadata", Message(&METADATA)),
        row(4, "load_balancing_weight", Supported),
        row(5, "endpoint_name", Refused("endpoints are given in place")),
    ],
};

pub(super) static ENDPOINT: Message = Message {
    name: "envoy.config.endpoint.v3.Endpoint",
    fields: &[
        row(1, "address", Message(&ADDRESS)),
        row(2, "health_check_config", Refused("endpoints are checked as their cluster says")),
        row(3, "hostname", Supported),
        row(
            4,
            "additional_addresses",
            Ignored("alternatives of the same endpoint; the first address is used"),
        ),
        row(5, "observability_name", Ignored("statistics only")),
    ],
};
