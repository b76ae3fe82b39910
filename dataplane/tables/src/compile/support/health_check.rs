//! Fields of active health checks.

use super::Rule::*;
use super::common::HEADER_VALUE_OPTION;
use super::{Message, row};

const LOG: &str = "events of checks are not logged; statistics count them";

pub(super) static HEALTH_CHECK: Message = Message {
    name: "envoy.config.core.v3.HealthCheck",
    fields: &[
        row(1, "timeout", Supported),
        row(2, "interval", Supported),
        row(3, "interval_jitter", Supported),
        row(4, "unhealthy_threshold", Supported),
        row(5, "healthy_threshold", Supported),
        row(6, "alt_port", Supported),
        row(7, "reuse_connection", Ignored("every check makes a connection of its own")),
        row(8, "http_health_check", Message(&HTTP)),
        row(9, "tcp_health_check", Message(&TCP)),
        row(11, "grpc_health_check", Message(&GRPC)),
        row(12, "no_traffic_interval", Supported),
        row(13, "custom_health_check", Refused("custom checks are not supported")),
        row(14, "unhealthy_interval", Supported),
        row(15, "unhealthy_edge_interval", Supported),
        row(16, "healthy_edge_interval", Supported),
        row(17, "event_log_path", Ignored(LOG)),
        row(18, "interval_jitter_percent", Supported),
        row(19, "always_log_health_check_failures", Ignored(LOG)),
        row(20, "initial_jitter", Supported),
        row(21, "tls_options", Refused("checks over TLS are not supported")),
        row(22, "event_service", Ignored(LOG)),
        row(23, "transport_socket_match_criteria", Refused("checks over TLS are not supported")),
        row(24, "no_traffic_healthy_interval", Supported),
        row(25, "event_logger", Ignored(LOG)),
        row(26, "always_log_health_check_success", Ignored(LOG)),
    ],
};

static HTTP: Message = Message {
    name: "envoy.config.core.v3.HealthCheck.HttpHealthCheck",
    fields: &[
        row(1, "host", Supported),
        row(2, "path", Supported),
        row(3, "send", Message(&PAYLOAD)),
        row(4, "receive", Repeated(&PAYLOAD)),
        row(6, "request_headers_to_add", Repeated(&HEADER_VALUE_OPTION)),
        row(8, "request_headers_to_remove", Supported),
        row(9, "expected_statuses", Repeated(&STATUSES)),
        row(10, "codec_client_type", Supported),
        row(11, "service_name_matcher", Refused("not supported")),
        row(12, "retriable_statuses", Repeated(&STATUSES)),
        row(13, "method", Supported),
        row(14, "response_buffer_size", Supported),
    ],
};

static GRPC: Message = Message {
    name: "envoy.config.core.v3.HealthCheck.GrpcHealthCheck",
    fields: &[
        row(1, "service_name", Supported),
        row(2, "authority", Supported),
        row(3, "initial_metadata", Repeated(&HEADER_VALUE_OPTION)),
    ],
};

static TCP: Message = Message {
    name: "envoy.config.core.v3.HealthCheck.TcpHealthCheck",
    fields: &[
        row(1, "send", Message(&PAYLOAD)),
        row(2, "receive", Repeated(&PAYLOAD)),
        row(3, "proxy_protocol_config", Refused("not supported")),
    ],
};

static PAYLOAD: Message = Message {
    name: "envoy.config.core.v3.HealthCheck.Payload",
    fields: &[row(1, "text", Supported), row(2, "binary", Supported)],
};

static STATUSES: Message = Message {
    name: "envoy.type.v3.Int64Range",
    fields: &[row(1, "start", Supported), row(2, "end", Supported)],
};
