//! Fields of role-based access control. Nothing here is ignored but names of statistics.

use super::Rule::*;
use super::common::{CIDR_RANGE, INT32_RANGE, STRING_MATCHER};
use super::route::{HEADER_MATCHER, METADATA_MATCHER};
use super::{AnyRule, AnyTypes, Message, row};

const PREFIX: &str =
    "a name of statistics: all rules of a connection manager or TCP proxy are counted together";
const TREES: &str = "matcher trees are not supported: use rules";

pub(super) static HTTP_RBAC: Message = Message {
    name: "envoy.extensions.filters.http.rbac.v3.RBAC",
    fields: &[
        row(1, "rules", Message(&RBAC)),
        row(2, "shadow_rules", Message(&RBAC)),
        row(3, "shadow_rules_stat_prefix", Ignored(PREFIX)),
        row(4, "matcher", Refused(TREES)),
        row(5, "shadow_matcher", Refused(TREES)),
        row(6, "rules_stat_prefix", Ignored(PREFIX)),
        row(7, "track_per_rule_stats", Ignored("policies are counted together; logs name the policy")),
    ],
};

pub(super) static HTTP_RBAC_PER_ROUTE: Message = Message {
    name: "envoy.extensions.filters.http.rbac.v3.RBACPerRoute",
    fields: &[row(2, "rbac", Message(&HTTP_RBAC))],
};

pub(super) static NETWORK_RBAC: Message = Message {
    name: "envoy.extensions.filters.network.rbac.v3.RBAC",
    fields: &[
        row(1, "rules", Message(&RBAC)),
        row(2, "shadow_rules", Message(&RBAC)),
        row(3, "stat_prefix", Supported),
        row(4, "enforcement_type", RefusedUnlessZero("a connection is judged once, at its first byte")),
        row(5, "shadow_rules_stat_prefix", Ignored(PREFIX)),
        row(6, "matcher", Refused(TREES)),
        row(7, "shadow_matcher", Refused(TREES)),
        row(8, "delay_deny", Refused("connections that are denied are closed at once")),
    ],
};

static RBAC: Message = Message {
    name: "envoy.config.rbac.v3.RBAC",
    fields: &[
        row(1, "action", Supported),
        row(2, "policies", Repeated(&POLICY_ENTRY)),
        row(3, "audit_logging_options", Refused("audit loggers are not supported: use the access log")),
    ],
};

static POLICY_ENTRY: Message = Message {
    name: "envoy.config.rbac.v3.RBAC.PoliciesEntry",
    fields: &[row(1, "key", Supported), row(2, "value", Message(&POLICY))],
};

// Without its conditions by expression: their fields are refused because they have no row.
static POLICY: Message = Message {
    name: "envoy.config.rbac.v3.Policy",
    fields: &[row(1, "permissions", Repeated(&PERMISSION)), row(2, "principals", Repeated(&PRINCIPAL))],
};

static PERMISSION: Message = Message {
    name: "envoy.config.rbac.v3.Permission",
    fields: &[
        row(1, "and_rules", Message(&PERMISSIONS)),
        row(2, "or_rules", Message(&PERMISSIONS)),
        row(3, "any", Supported),
        row(4, "header", Message(&HEADER_MATCHER)),
        row(5, "destination_ip", Message(&CIDR_RANGE)),
        row(6, "destination_port", Supported),
        row(7, "metadata", Message(&METADATA_MATCHER)),
        row(8, "not_rule", Message(&PERMISSION)),
        row(9, "requested_server_name", Message(&STRING_MATCHER)),
        row(10, "url_path", Message(&PATH_MATCHER)),
        row(11, "destination_port_range", Message(&INT32_RANGE)),
        row(12, "matcher", Refused("matcher extensions are not supported")),
        row(13, "uri_template", Message(&URI_TEMPLATE)),
        row(14, "sourced_metadata", Message(&SOURCED_METADATA)),
    ],
};

static PERMISSIONS: Message = Message {
    name: "envoy.config.rbac.v3.Permission.Set",
    fields: &[row(1, "rules", Repeated(&PERMISSION))],
};

static PRINCIPAL: Message = Message {
    name: "envoy.config.rbac.v3.Principal",
    fields: &[
        row(1, "and_ids", Message(&PRINCIPALS)),
        row(2, "or_ids", Message(&PRINCIPALS)),
        row(3, "any", Supported),
        row(4, "authenticated", Message(&AUTHENTICATED)),
        row(5, "source_ip", Message(&CIDR_RANGE)),
        row(6, "header", Message(&HEADER_MATCHER)),
        row(7, "metadata", Message(&METADATA_MATCHER)),
        row(8, "not_id", Message(&PRINCIPAL)),
        row(9, "url_path", Message(&PATH_MATCHER)),
        row(10, "direct_remote_ip", Message(&CIDR_RANGE)),
        row(11, "remote_ip", Message(&CIDR_RANGE)),
        row(12, "filter_state", Message(&FILTER_STATE_MATCHER)),
        row(13, "sourced_metadata", Message(&SOURCED_METADATA)),
        row(14, "custom", Refused("principal extensions are not supported")),
    ],
};

static PRINCIPALS: Message =
    Message { name: "envoy.config.rbac.v3.Principal.Set", fields: &[row(1, "ids", Repeated(&PRINCIPAL))] };

static AUTHENTICATED: Message = Message {
    name: "envoy.config.rbac.v3.Principal.Authenticated",
    fields: &[row(2, "principal_name", Message(&STRING_MATCHER))],
};

static SOURCED_METADATA: Message = Message {
    name: "envoy.config.rbac.v3.SourcedMetadata",
    fields: &[row(1, "metadata_matcher", Message(&METADATA_MATCHER)), row(2, "metadata_source", Supported)],
};

static PATH_MATCHER: Message = Message {
    name: "envoy.type.matcher.v3.PathMatcher",
    fields: &[row(1, "path", Message(&STRING_MATCHER))],
};

static FILTER_STATE_MATCHER: Message = Message {
    name: "envoy.type.matcher.v3.FilterStateMatcher",
    fields: &[
        row(1, "key", Supported),
        row(2, "string_match", Message(&STRING_MATCHER)),
        row(3, "address_match", Refused("no state that could be matched is an address")),
    ],
};

static URI_TEMPLATE: Message = Message {
    name: "envoy.config.core.v3.TypedExtensionConfig",
    fields: &[row(1, "name", Ignored("the type decides")), row(2, "typed_config", Any(&PATH_TEMPLATES))],
};

static PATH_TEMPLATES: AnyTypes = AnyTypes(&[(
    "envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig",
    AnyRule::Message(&URI_TEMPLATE_MATCH),
)]);

static URI_TEMPLATE_MATCH: Message = Message {
    name: "envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig",
    fields: &[row(1, "path_template", Supported)],
};
