//! Fields of messages that several resources share.

use super::Rule::*;
use super::tls::{DOWNSTREAM_TLS, UPSTREAM_TLS};
use super::{AnyRule, AnyTypes, Message, row};

pub(super) static TRANSPORT_SOCKETS: AnyTypes = AnyTypes(&[
    ("envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer", AnyRule::Message(&RAW_BUFFER)),
    ("envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext", AnyRule::Message(&DOWNSTREAM_TLS)),
    ("envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", AnyRule::Message(&UPSTREAM_TLS)),
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
