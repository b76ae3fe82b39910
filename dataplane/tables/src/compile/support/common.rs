//! Fields of messages that several resources share.

use super::Rule::*;
use super::{AnyRule, AnyTypes, Message, row};

pub(super) static TRANSPORT_SOCKETS: AnyTypes = AnyTypes(&[
    ("envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer", AnyRule::Message(&RAW_BUFFER)),
    (
        "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        AnyRule::Refused("TLS is not supported yet, so it is not accepted either"),
    ),
    (
        "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        AnyRule::Refused("TLS is not supported yet, so it is not accepted either"),
    ),
]);

pub(super) static ACCESS_LOGGERS: AnyTypes = AnyTypes(&[
    ("envoy.extensions.access_loggers.file.v3.FileAccessLog", AnyRule::Message(&FILE_ACCESS_LOG)),
    ("envoy.extensions.access_loggers.stream.v3.StdoutAccessLog", AnyRule::Message(&STDOUT_ACCESS_LOG)),
    ("envoy.extensions.access_loggers.stream.v3.StderrAccessLog", AnyRule::Message(&STDERR_ACCESS_LOG)),
]);

pub(super) static ADDRESS: Message = Message {
    name: "envoy.config.core.v3.Address",
    fields: &[
        row(1, "socket_address", Message(&SOCKET_ADDRESS)),
        row(2, "pipe", Message(&PIPE)),
        row(3, "envoy_internal_address", Refused("internal listeners are not supported")),
    ],
};

pub(super) static SOCKET_ADDRESS: Message = Message {
    name: "envoy.config.core.v3.SocketAddress",
    fields: &[
        row(1, "protocol", Supported),
        row(2, "address", Supported),
        row(3, "port_value", Supported),
        row(4, "named_port", Refused("named ports are not supported")),
        row(5, "resolver_name", Refused("address resolvers are not supported")),
        row(6, "ipv4_compat", Ignored("dual-stack sockets take IPv4 as the kernel decides")),
        row(7, "network_namespace_filepath", Refused("network namespaces are not supported")),
    ],
};

pub(super) static PIPE: Message = Message {
    name: "envoy.config.core.v3.Pipe",
    fields: &[row(1, "path", Supported), row(2, "mode", Ignored("the socket gets the process's mode"))],
};

pub(super) static CIDR_RANGE: Message = Message {
    name: "envoy.config.core.v3.CidrRange",
    fields: &[row(1, "address_prefix", Supported), row(2, "prefix_len", Supported)],
};

pub(super) static METADATA: Message = Message {
    name: "envoy.config.core.v3.Metadata",
    fields: &[
        row(1, "filter_metadata", Supported),
        row(2, "typed_filter_metadata", Ignored("kept in the raw resource")),
    ],
};

pub(super) static LOCALITY: Message = Message {
    name: "envoy.config.core.v3.Locality",
    fields: &[row(1, "region", Supported), row(2, "zone", Supported), row(3, "sub_zone", Supported)],
};

pub(super) static TRANSPORT_SOCKET: Message = Message {
    name: "envoy.config.core.v3.TransportSocket",
    fields: &[row(1, "name", Supported), row(3, "typed_config", Any(&TRANSPORT_SOCKETS))],
};

pub(super) static RAW_BUFFER: Message =
    Message { name: "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer", fields: &[] };

pub(super) static HEADER_VALUE_OPTION: Message = Message {
    name: "envoy.config.core.v3.HeaderValueOption",
    fields: &[
        row(1, "header", Message(&HEADER_VALUE)),
        row(2, "append", Supported),
        row(3, "append_action", Supported),
        row(4, "keep_empty_value", Supported),
    ],
};

pub(super) static HEADER_MUTATION: Message = Message {
    name: "envoy.config.common.mutation_rules.v3.HeaderMutation",
    fields: &[
        row(1, "remove", Supported),
        row(2, "append", Message(&HEADER_VALUE_OPTION)),
        row(3, "remove_on_match", Message(&REMOVE_ON_MATCH)),
    ],
};

pub(super) static REMOVE_ON_MATCH: Message = Message {
    name: "envoy.config.common.mutation_rules.v3.HeaderMutation.RemoveOnMatch",
    fields: &[row(1, "key_matcher", Message(&STRING_MATCHER))],
};

pub(super) static HEADER_VALUE: Message = Message {
    name: "envoy.config.core.v3.HeaderValue",
    fields: &[
        row(1, "key", Supported),
        row(2, "value", Supported),
        row(3, "raw_value", Refused("raw values are not supported")),
    ],
};

pub(super) static DATA_SOURCE: Message = Message {
    name: "envoy.config.core.v3.DataSource",
    fields: &[
        row(1, "filename", Refused("files are not read from configuration")),
        row(2, "inline_bytes", Supported),
        row(3, "inline_string", Supported),
        row(4, "environment_variable", Refused("the environment is not read from configuration")),
        row(5, "watched_directory", Refused("files are not read from configuration")),
    ],
};

pub(super) static FORMAT: Message = Message {
    name: "envoy.config.core.v3.SubstitutionFormatString",
    fields: &[
        row(1, "text_format", Supported),
        row(2, "json_format", Supported),
        row(3, "omit_empty_values", Supported),
        row(4, "content_type", Refused("not supported")),
        row(5, "text_format_source", Message(&DATA_SOURCE)),
        row(6, "formatters", Refused("formatter extensions are not supported")),
        row(7, "json_format_options", Ignored("property order does not matter")),
    ],
};

pub(super) static STRING_MATCHER: Message = Message {
    name: "envoy.type.matcher.v3.StringMatcher",
    fields: &[
        row(1, "exact", Supported),
        row(2, "prefix", Supported),
        row(3, "suffix", Supported),
        row(5, "safe_regex", Message(&REGEX_MATCHER)),
        row(6, "ignore_case", Supported),
        row(7, "contains", Supported),
        row(8, "custom", Refused("matcher extensions are not supported")),
    ],
};

pub(super) static REGEX_MATCHER: Message = Message {
    name: "envoy.type.matcher.v3.RegexMatcher",
    fields: &[
        row(1, "google_re2", Ignored("RE2 is the only engine; sizes are bounded by our own limits")),
        row(2, "regex", Supported),
    ],
};

pub(super) static REGEX_SUBSTITUTE: Message = Message {
    name: "envoy.type.matcher.v3.RegexMatchAndSubstitute",
    fields: &[row(1, "pattern", Message(&REGEX_MATCHER)), row(2, "substitution", Supported)],
};

pub(super) static INT64_RANGE: Message = Message {
    name: "envoy.type.v3.Int64Range",
    fields: &[row(1, "start", Supported), row(2, "end", Supported)],
};

pub(super) static INT32_RANGE: Message = Message {
    name: "envoy.type.v3.Int32Range",
    fields: &[row(1, "start", Supported), row(2, "end", Supported)],
};

pub(super) static FRACTIONAL_PERCENT: Message = Message {
    name: "envoy.type.v3.FractionalPercent",
    fields: &[row(1, "numerator", Supported), row(2, "denominator", Supported)],
};

pub(super) static PERCENT: Message =
    Message { name: "envoy.type.v3.Percent", fields: &[row(1, "value", Supported)] };

pub(super) static RUNTIME_FRACTION: Message = Message {
    name: "envoy.config.core.v3.RuntimeFractionalPercent",
    fields: &[
        row(1, "default_value", Message(&FRACTIONAL_PERCENT)),
        row(2, "runtime_key", Ignored("there is no runtime layer that could override values")),
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
        row(4, "traceable_filter", Refused("this access-log filter is not supported")),
        row(5, "runtime_filter", Refused("this access-log filter is not supported")),
        row(6, "and_filter", Message(&AND_FILTER)),
        row(7, "or_filter", Message(&OR_FILTER)),
        row(8, "header_filter", Refused("this access-log filter is not supported")),
        row(9, "response_flag_filter", Message(&RESPONSE_FLAG_FILTER)),
        row(10, "grpc_status_filter", Refused("this access-log filter is not supported")),
        row(11, "extension_filter", Refused("this access-log filter is not supported")),
        row(12, "metadata_filter", Refused("this access-log filter is not supported")),
        row(13, "log_type_filter", Refused("this access-log filter is not supported")),
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
