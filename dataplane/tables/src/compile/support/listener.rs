//! Fields of listeners, their filters and filter chains.

use super::Rule::*;
use super::common::{
    ADDRESS, CIDR_RANGE, FRACTIONAL_PERCENT, INT32_RANGE, METADATA, PERCENT, TRANSPORT_SOCKET,
};
use super::http::HTTP_CONNECTION_MANAGER;
use super::istio::ISTIO_STATS;
use super::rate_limit::TOKEN_BUCKET;
use super::rbac::NETWORK_RBAC;
use super::telemetry::ACCESS_LOG;
use super::{AnyRule, AnyTypes, Message, UNSUPPORTED, row};

pub(super) static LISTENER_FILTERS: AnyTypes = AnyTypes(&[
    ("envoy.extensions.filters.listener.original_dst.v3.OriginalDst", AnyRule::Message(&ORIGINAL_DST)),
    ("envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector", AnyRule::Message(&TLS_INSPECTOR)),
    ("envoy.extensions.filters.listener.http_inspector.v3.HttpInspector", AnyRule::Message(&HTTP_INSPECTOR)),
    ("envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol", AnyRule::Message(&PROXY_PROTOCOL)),
]);

pub(super) static NETWORK_FILTERS: AnyTypes = AnyTypes(&[
    (
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        AnyRule::Message(&HTTP_CONNECTION_MANAGER),
    ),
    ("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", AnyRule::Message(&TCP_PROXY)),
    ("envoy.extensions.filters.network.sni_cluster.v3.SniCluster", AnyRule::Message(&SNI_CLUSTER)),
    (
        "envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3.FilterConfig",
        AnyRule::Refused("dynamic forward proxies are not supported"),
    ),
    (
        "envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit",
        AnyRule::Message(&CONNECTION_LIMIT),
    ),
    (
        "envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit",
        AnyRule::Message(&CONNECTION_RATE),
    ),
    ("ringsail.filters.network.fault.v1.TcpFault", AnyRule::Message(&TCP_FAULT)),
    (
        "envoy.tcp.metadataexchange.config.MetadataExchange",
        AnyRule::Ignored(
            "the protocol istio-peer-exchange is not offered, so that no peer sends its metadata",
        ),
    ),
    ("stats.PluginConfig", AnyRule::Message(&ISTIO_STATS)),
    (
        "envoy.extensions.filters.network.ratelimit.v3.RateLimit",
        AnyRule::Refused("rate limit services are asked about requests, not about connections"),
    ),
    ("envoy.extensions.filters.network.rbac.v3.RBAC", AnyRule::Message(&NETWORK_RBAC)),
    (
        "envoy.extensions.filters.network.ext_authz.v3.ExtAuthz",
        AnyRule::Refused("external authorization is not enforced yet, so it is not accepted either"),
    ),
]);

pub(super) static PROXY_PROTOCOL: Message = Message {
    name: "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
    fields: &[
        row(1, "rules", Refused("extensions of PROXY headers are not kept, so nothing can be made of them")),
        row(2, "allow_requests_without_proxy_protocol", Supported),
        row(3, "pass_through_tlvs", Ignored("no PROXY header is written upstream that could carry them")),
        row(4, "disallowed_versions", Supported),
        row(5, "stat_prefix", Ignored("the listener's counters have their usual names")),
        row(6, "tlv_location", Ignored("extensions of PROXY headers are not kept")),
    ],
};

pub(super) static LISTENER: Message = Message {
    name: "envoy.config.listener.v3.Listener",
    fields: &[
        row(1, "name", Supported),
        row(2, "address", Message(&ADDRESS)),
        row(3, "filter_chains", Repeated(&FILTER_CHAIN)),
        row(4, "use_original_dst", Supported),
        row(5, "per_connection_buffer_limit_bytes", Supported),
        row(6, "metadata", Message(&METADATA)),
        row(7, "deprecated_v1", Message(&DEPRECATED_V1)),
        row(8, "drain_type", Ignored("changes when an old listener is closed, not what it does")),
        row(9, "listener_filters", Repeated(&LISTENER_FILTER)),
        row(10, "transparent", Supported),
        row(11, "freebind", Supported),
        row(12, "tcp_fast_open_queue_length", Ignored("TCP options of accepted sockets are the kernel's")),
        row(13, "socket_options", Refused("raw socket options are not supported")),
        row(15, "listener_filters_timeout", Supported),
        row(16, "traffic_direction", Supported),
        row(17, "continue_on_listener_filters_timeout", Supported),
        row(18, "udp_listener_config", Refused("UDP and QUIC listeners are not supported")),
        row(19, "api_listener", Refused("API listeners are not supported")),
        row(20, "connection_balance_config", Ignored("a hint; every shard accepts from its own socket")),
        row(21, "reuse_port", Ignored("a hint; every shard accepts from its own socket")),
        row(22, "access_log", Repeated(&ACCESS_LOG)),
        row(24, "tcp_backlog_size", Supported),
        row(25, "default_filter_chain", Message(&FILTER_CHAIN)),
        row(26, "bind_to_port", Supported),
        row(27, "internal_listener", Refused("internal listeners are not supported")),
        row(28, "stat_prefix", Supported),
        row(29, "enable_reuse_port", Ignored("a hint; every shard accepts from its own socket")),
        row(30, "enable_mptcp", Ignored("TCP options of accepted sockets are the kernel's")),
        row(
            31,
            "ignore_global_conn_limit",
            Ignored("there is no process-wide connection limit to be exempt from"),
        ),
        row(32, "filter_chain_matcher", Refused("filter chains are matched by filter_chain_match only")),
        row(33, "additional_addresses", Repeated(&ADDITIONAL_ADDRESS)),
        row(
            34,
            "max_connections_to_accept_per_socket_event",
            Ignored("a hint; every shard accepts from its own socket"),
        ),
        row(
            35,
            "bypass_overload_manager",
            Ignored("there is no process-wide connection limit to be exempt from"),
        ),
        row(36, "fcds_config", Refused("filter chains are matched by filter_chain_match only")),
        row(37, "tcp_keepalive", Ignored("TCP options of accepted sockets are the kernel's")),
        row(
            38,
            "per_connection_buffer_high_watermark_timeout",
            Ignored("memory watermark timer; buffers are bounded"),
        ),
        row(39, "stats_matcher", Ignored("statistics are not filtered per listener")),
    ],
};

pub(super) static DEPRECATED_V1: Message = Message {
    name: "envoy.config.listener.v3.Listener.DeprecatedV1",
    fields: &[row(1, "bind_to_port", Supported)],
};

pub(super) static ADDITIONAL_ADDRESS: Message = Message {
    name: "envoy.config.listener.v3.AdditionalAddress",
    fields: &[
        row(1, "address", Message(&ADDRESS)),
        row(2, "socket_options", Refused("raw socket options are not supported")),
        row(3, "tcp_keepalive", Ignored("TCP options of accepted sockets are the kernel's")),
    ],
};

pub(super) static LISTENER_FILTER: Message = Message {
    name: "envoy.config.listener.v3.ListenerFilter",
    fields: &[
        row(1, "name", Ignored("the type of typed_config decides")),
        row(3, "typed_config", Any(&LISTENER_FILTERS)),
        row(4, "filter_disabled", Message(&PORT_PREDICATE)),
        row(5, "config_discovery", Refused("extension config discovery is not supported")),
    ],
};

pub(super) static PORT_PREDICATE: Message = Message {
    name: "envoy.config.listener.v3.ListenerFilterChainMatchPredicate",
    fields: &[
        row(1, "or_match", Message(&PORT_PREDICATE_SET)),
        row(2, "and_match", Message(&PORT_PREDICATE_SET)),
        row(3, "not_match", Message(&PORT_PREDICATE)),
        row(4, "any_match", Supported),
        row(5, "destination_port_range", Message(&INT32_RANGE)),
    ],
};

pub(super) static PORT_PREDICATE_SET: Message = Message {
    name: "envoy.config.listener.v3.ListenerFilterChainMatchPredicate.MatchSet",
    fields: &[row(1, "rules", Repeated(&PORT_PREDICATE))],
};

pub(super) static ORIGINAL_DST: Message =
    Message { name: "envoy.extensions.filters.listener.original_dst.v3.OriginalDst", fields: &[] };

pub(super) static TLS_INSPECTOR: Message = Message {
    name: "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector",
    fields: &[
        row(1, "enable_ja3_fingerprinting", Ignored("fingerprints are read by nothing that is supported")),
        row(2, "initial_read_buffer_size", Ignored("a size hint")),
        row(3, "enable_ja4_fingerprinting", Ignored("fingerprints are read by nothing that is supported")),
        row(4, "close_connection_on_client_hello_parsing_errors", Refused("not supported")),
        row(5, "max_client_hello_size", Ignored("a size hint")),
    ],
};

pub(super) static HTTP_INSPECTOR: Message =
    Message { name: "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector", fields: &[] };

pub(super) static FILTER_CHAIN: Message = Message {
    name: "envoy.config.listener.v3.FilterChain",
    fields: &[
        row(1, "filter_chain_match", Message(&FILTER_CHAIN_MATCH)),
        row(3, "filters", Repeated(&NETWORK_FILTER)),
        row(4, "use_proxy_proto", RefusedUnlessZero("PROXY protocol is not supported")),
        row(5, "metadata", Message(&METADATA)),
        row(6, "transport_socket", Message(&TRANSPORT_SOCKET)),
        row(7, "name", Supported),
        row(9, "transport_socket_connect_timeout", Supported),
    ],
};

pub(super) static FILTER_CHAIN_MATCH: Message = Message {
    name: "envoy.config.listener.v3.FilterChainMatch",
    fields: &[
        row(3, "prefix_ranges", Repeated(&CIDR_RANGE)),
        row(4, "address_suffix", Refused("not implemented by Envoy either")),
        row(5, "suffix_len", Refused("not implemented by Envoy either")),
        row(6, "source_prefix_ranges", Repeated(&CIDR_RANGE)),
        row(7, "source_ports", Supported),
        row(8, "destination_port", Supported),
        row(9, "transport_protocol", Supported),
        row(10, "application_protocols", Supported),
        row(11, "server_names", Supported),
        row(12, "source_type", Supported),
        row(13, "direct_source_prefix_ranges", Repeated(&CIDR_RANGE)),
    ],
};

pub(super) static NETWORK_FILTER: Message = Message {
    name: "envoy.config.listener.v3.Filter",
    fields: &[
        row(1, "name", Ignored("the type of typed_config decides")),
        row(4, "typed_config", Any(&NETWORK_FILTERS)),
        row(5, "config_discovery", Refused("extension config discovery is not supported")),
    ],
};

pub(super) static TCP_PROXY: Message = Message {
    name: "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
    fields: &[
        row(1, "stat_prefix", Supported),
        row(2, "cluster", Supported),
        row(3, "downstream_idle_timeout", Refused(UNSUPPORTED)),
        row(4, "upstream_idle_timeout", Refused(UNSUPPORTED)),
        row(5, "access_log", Repeated(&ACCESS_LOG)),
        row(7, "max_connect_attempts", Supported),
        row(8, "idle_timeout", Supported),
        row(9, "metadata_match", Message(&METADATA)),
        row(10, "weighted_clusters", Message(&TCP_WEIGHTED)),
        row(11, "hash_policy", Repeated(&TCP_HASH_POLICY)),
        row(12, "tunneling_config", Refused("tunnelling is not supported")),
        row(13, "max_downstream_connection_duration", Supported),
        row(14, "on_demand", Refused("on-demand discovery is not supported")),
        row(15, "access_log_flush_interval", Supported),
        row(16, "flush_access_log_on_connected", Supported),
        row(17, "access_log_options", Message(&TCP_ACCESS_LOG_OPTIONS)),
        row(18, "backoff_options", Message(&BACKOFF)),
        row(19, "proxy_protocol_tlvs", Refused("PROXY protocol is not supported")),
        row(20, "max_downstream_connection_duration_jitter_percentage", Message(&PERCENT)),
        row(21, "upstream_connect_mode", Supported),
        row(
            22,
            "max_early_data_bytes",
            Ignored("at most a block is read before the upstream is connected; more waits in the kernel"),
        ),
        row(
            23,
            "proxy_protocol_tlv_merge_policy",
            Ignored("upstreams have no filters that could answer early"),
        ),
        row(24, "check_drain_close", Refused(UNSUPPORTED)),
    ],
};

pub(super) static BACKOFF: Message = Message {
    name: "envoy.config.core.v3.BackoffStrategy",
    fields: &[row(1, "base_interval", Supported), row(2, "max_interval", Supported)],
};

pub(super) static TCP_HASH_POLICY: Message = Message {
    name: "envoy.type.v3.HashPolicy",
    fields: &[
        row(1, "source_ip", Message(&TCP_HASH_SOURCE_IP)),
        row(2, "filter_state", Refused("no filter sets state that could be hashed")),
    ],
};

pub(super) static TCP_HASH_SOURCE_IP: Message =
    Message { name: "envoy.type.v3.HashPolicy.SourceIp", fields: &[] };

pub(super) static TCP_ACCESS_LOG_OPTIONS: Message = Message {
    name: "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.TcpAccessLogOptions",
    fields: &[
        row(1, "access_log_flush_interval", Supported),
        row(2, "flush_access_log_on_connected", Supported),
        row(3, "flush_access_log_on_start", Supported),
    ],
};

pub(super) static CONNECTION_LIMIT: Message = Message {
    name: "envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit",
    fields: &[
        row(1, "stat_prefix", Supported),
        row(2, "max_connections", Supported),
        row(3, "delay", Supported),
        row(4, "runtime_enabled", Message(&RUNTIME_FLAG)),
    ],
};

pub(super) static CONNECTION_RATE: Message = Message {
    name: "envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit",
    fields: &[
        row(1, "stat_prefix", Supported),
        row(2, "token_bucket", Message(&TOKEN_BUCKET)),
        row(3, "runtime_enabled", Message(&RUNTIME_FLAG)),
        row(4, "share_key", Refused("each filter has a bucket of its own")),
    ],
};

pub(super) static RUNTIME_FLAG: Message = Message {
    name: "envoy.config.core.v3.RuntimeFeatureFlag",
    fields: &[
        row(1, "default_value", Supported),
        row(2, "runtime_key", Ignored("there is no runtime layer that could override values")),
    ],
};

pub(super) static SNI_CLUSTER: Message =
    Message { name: "envoy.extensions.filters.network.sni_cluster.v3.SniCluster", fields: &[] };

pub(super) static TCP_FAULT: Message = Message {
    name: "ringsail.filters.network.fault.v1.TcpFault",
    fields: &[
        row(1, "connect_delay", Message(&TCP_FAULT_CONNECT_DELAY)),
        row(2, "refuse", Message(&TCP_FAULT_REFUSE)),
        row(3, "blackhole", Message(&TCP_FAULT_BLACKHOLE)),
        row(4, "reset", Message(&TCP_FAULT_RESET)),
        row(5, "bandwidth", Message(&TCP_FAULT_BANDWIDTH)),
        row(6, "half_close", Message(&TCP_FAULT_HALF_CLOSE)),
        row(7, "expires_at", Supported),
    ],
};

pub(super) static TCP_FAULT_CONNECT_DELAY: Message = Message {
    name: "ringsail.filters.network.fault.v1.TcpFault.ConnectDelay",
    fields: &[row(1, "percentage", Message(&FRACTIONAL_PERCENT)), row(2, "delay", Supported)],
};

pub(super) static TCP_FAULT_REFUSE: Message = Message {
    name: "ringsail.filters.network.fault.v1.TcpFault.Refuse",
    fields: &[row(1, "percentage", Message(&FRACTIONAL_PERCENT))],
};

pub(super) static TCP_FAULT_BLACKHOLE: Message = Message {
    name: "ringsail.filters.network.fault.v1.TcpFault.Blackhole",
    fields: &[row(1, "percentage", Message(&FRACTIONAL_PERCENT))],
};

pub(super) static TCP_FAULT_RESET: Message = Message {
    name: "ringsail.filters.network.fault.v1.TcpFault.Reset",
    fields: &[
        row(1, "percentage", Message(&FRACTIONAL_PERCENT)),
        row(2, "after_bytes", Supported),
        row(3, "after", Supported),
    ],
};

pub(super) static TCP_FAULT_BANDWIDTH: Message = Message {
    name: "ringsail.filters.network.fault.v1.TcpFault.Bandwidth",
    fields: &[row(1, "percentage", Message(&FRACTIONAL_PERCENT)), row(2, "bytes_per_second", Supported)],
};

pub(super) static TCP_FAULT_HALF_CLOSE: Message = Message {
    name: "ringsail.filters.network.fault.v1.TcpFault.HalfClose",
    fields: &[row(1, "percentage", Message(&FRACTIONAL_PERCENT)), row(2, "after_bytes", Supported)],
};

pub(super) static TCP_WEIGHTED: Message = Message {
    name: "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster",
    fields: &[row(1, "clusters", Repeated(&TCP_CLUSTER_WEIGHT))],
};

pub(super) static TCP_CLUSTER_WEIGHT: Message = Message {
    name: "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy.WeightedCluster.ClusterWeight",
    fields: &[
        row(1, "name", Supported),
        row(2, "weight", Supported),
        row(3, "metadata_match", Message(&METADATA)),
    ],
};
