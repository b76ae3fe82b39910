//! AuthorizationPolicy.

use crate::object::Object;
use crate::security::authorization_policy::{Action, ActionDetail};
use crate::security::{AuthorizationPolicy, Condition, Operation, Rule, Source};
use crate::validate::checker::Checker;
use crate::validate::{names, policy};

/// Turns a policy into a rehearsal. Source: Istio's annotations.
const DRY_RUN_ANNOTATION: &str = "istio.io/dry-run";

/// Bounds of service account lists. Source: Istio's webhook.
const SERVICE_ACCOUNTS_MAX: usize = 16;
const SERVICE_ACCOUNT_BYTES_MAX: usize = 320;

pub(crate) fn check(checker: &mut Checker, spec: &AuthorizationPolicy, object: &Object) {
    policy::targets(checker, spec.selector.as_ref(), spec.target_ref.as_ref(), &spec.target_refs);
    let action = spec.action();
    dry_run(checker, action, object);
    let provider = spec.action_detail.as_ref().map(|ActionDetail::Provider(provider)| provider);
    match action {
        Action::Custom if spec.rules.is_empty() => never_triggered(checker, "CUSTOM"),
        Action::Custom if provider.is_none_or(|provider| provider.name.is_empty()) => {
            checker.error("`provider.name` must not be empty").fix("name an extension provider of the mesh");
        }
        Action::Deny if spec.rules.is_empty() => never_triggered(checker, "DENY"),
        Action::Allow | Action::Deny | Action::Audit | Action::Custom => {}
    }
    if provider.is_some() && action != Action::Custom {
        checker.error(format!("`provider` belongs to action CUSTOM, not {}", action.as_str_name()));
    }
    checker.each("rules", &spec.rules, |checker, rule| {
        check_rule(checker, rule);
        if action == Action::Custom {
            refuse_identities(checker, rule);
        }
        if action == Action::Deny && uses_http_only(rule) {
            checker
                .warning(
                    "a DENY rule of HTTP attributes alone closes every TCP port it applies to, because \
                     nothing tells that the attributes do not match",
                )
                .fix("add `to: [{operation: {ports: […]}}]`");
        }
    });
}

fn never_triggered(checker: &mut Checker, action: &str) {
    checker
        .error(format!("{action} without rules is never triggered"))
        .fix("add a rule; an empty one, `- {}`, matches every request");
}

fn dry_run(checker: &mut Checker, action: Action, object: &Object) {
    let Some(value) = object.meta.annotations.get(DRY_RUN_ANNOTATION) else { return };
    match action {
        Action::Allow | Action::Deny => {
            if !matches!(value.to_ascii_lowercase().as_str(), "true" | "false" | "t" | "f" | "1" | "0") {
                checker
                    .error(format!("annotation {DRY_RUN_ANNOTATION}: `{value}` is neither true nor false"));
            }
        }
        Action::Audit | Action::Custom => {
            checker.error(format!("annotation {DRY_RUN_ANNOTATION} works with ALLOW and DENY only"));
        }
    }
}

fn check_rule(checker: &mut Checker, rule: &Rule) {
    checker.each("from", &rule.from, |checker, from| match &from.source {
        Some(source) => checker.field("source", |checker| check_source(checker, source)),
        None => {
            checker.error("`from.source` must not be nil").fix("write `source: {principals: […]}`");
        }
    });
    checker.each("to", &rule.to, |checker, to| match &to.operation {
        Some(operation) => checker.field("operation", |checker| check_operation(checker, operation)),
        None => {
            checker.error("`to.operation` must not be nil").fix("write `operation: {paths: […]}`");
        }
    });
    checker.each("when", &rule.when, check_condition);
}

fn check_source(checker: &mut Checker, source: &Source) {
    let lists = [
        ("principals", &source.principals),
        ("notPrincipals", &source.not_principals),
        ("requestPrincipals", &source.request_principals),
        ("notRequestPrincipals", &source.not_request_principals),
        ("namespaces", &source.namespaces),
        ("notNamespaces", &source.not_namespaces),
        ("serviceAccounts", &source.service_accounts),
        ("notServiceAccounts", &source.not_service_accounts),
        ("ipBlocks", &source.ip_blocks),
        ("notIpBlocks", &source.not_ip_blocks),
        ("remoteIpBlocks", &source.remote_ip_blocks),
        ("notRemoteIpBlocks", &source.not_remote_ip_blocks),
        ("trustDomains", &source.trust_domains),
        ("notTrustDomains", &source.not_trust_domains),
    ];
    if lists.iter().all(|(_, list)| list.is_empty()) {
        checker.error("the source names nobody").fix("leave `from` out to match everybody");
    }
    let is_set = |names: [&str; 4]| lists.iter().any(|(name, list)| names.contains(name) && !list.is_empty());
    let accounts = is_set(["serviceAccounts", "notServiceAccounts", "", ""]);
    if accounts && is_set(["principals", "notPrincipals", "namespaces", "notNamespaces"]) {
        checker.error("Cannot set serviceAccounts with namespaces or principals");
    }
    for (name, list) in lists {
        not_empty(checker, name, list);
        match name {
            "ipBlocks" | "notIpBlocks" | "remoteIpBlocks" | "notRemoteIpBlocks" => {
                addresses(checker, name, list)
            }
            "serviceAccounts" | "notServiceAccounts" => service_accounts(checker, name, list),
            "trustDomains" | "notTrustDomains" => inner_wildcards(checker, name, list),
            _ => {}
        }
    }
}

fn check_operation(checker: &mut Checker, operation: &Operation) {
    let lists = [
        ("hosts", &operation.hosts),
        ("notHosts", &operation.not_hosts),
        ("ports", &operation.ports),
        ("notPorts", &operation.not_ports),
        ("methods", &operation.methods),
        ("notMethods", &operation.not_methods),
        ("paths", &operation.paths),
        ("notPaths", &operation.not_paths),
    ];
    if lists.iter().all(|(_, list)| list.is_empty()) {
        checker.error("the operation names nothing").fix("leave `to` out to match everything");
    }
    for (name, list) in lists {
        not_empty(checker, name, list);
        match name {
            "ports" | "notPorts" => ports(checker, name, list),
            "paths" | "notPaths" => checker.each(name, list, |checker, path| path_template(checker, path)),
            _ => {}
        }
    }
}

fn not_empty(checker: &mut Checker, name: &str, list: &[String]) {
    checker.each(name, list, |checker, value| {
        if value.is_empty() {
            checker.error("an empty value").fix("remove it");
        }
    });
}

fn addresses(checker: &mut Checker, name: &str, list: &[String]) {
    checker.each(name, list, |checker, value| {
        if !names::is_ip_or_block(value) {
            checker.error(format!("`{value}` is not an address or a block"));
        }
    });
}

fn ports(checker: &mut Checker, name: &str, list: &[String]) {
    checker.each(name, list, |checker, value| {
        if value.parse::<u16>().is_err() {
            checker.error(format!("`{value}` is not a port"));
        }
    });
}

fn service_accounts(checker: &mut Checker, name: &str, list: &[String]) {
    if list.len() > SERVICE_ACCOUNTS_MAX {
        checker.field(name, |checker| {
            checker.error(format!("more than {SERVICE_ACCOUNTS_MAX} service accounts"));
        });
    }
    checker.each(name, list, |checker, value| {
        let parts: Vec<&str> = value.split('/').collect();
        let well_formed = parts.len() <= 2 && parts.iter().all(|part| !part.is_empty());
        if !well_formed || value.contains('*') || value.len() > SERVICE_ACCOUNT_BYTES_MAX {
            let fix = "write ACCOUNT or NAMESPACE/ACCOUNT, without `*`";
            checker.error(format!("`{value}` is not a service account")).fix(fix);
        }
    });
}

/// `*` may stand at one end or alone.
fn inner_wildcards(checker: &mut Checker, name: &str, list: &[String]) {
    checker.each(name, list, |checker, value| {
        let inner = value.strip_prefix('*').or_else(|| value.strip_suffix('*')).unwrap_or(value);
        if inner.contains('*') {
            checker.error(format!("`{value}`: `*` may stand at one end only"));
        }
    });
}

/// `{*}` for one segment and `{**}` for the rest; no other braces.
fn path_template(checker: &mut Checker, path: &str) {
    let is_template = path.contains("{*}") || path.contains("{**}");
    let mut after_rest = false;
    for segment in path.trim_matches('/').split('/') {
        let fault = match segment {
            "{*}" | "{**}" if after_rest => Some("`{**}` must be the last template"),
            "{**}" => {
                after_rest = true;
                None
            }
            "{*}" => None,
            _ if segment.contains(['{', '}']) => Some("braces stand in `{*}` and `{**}` only"),
            _ if is_template && !segment.bytes().all(is_path_byte) => Some("a character a path cannot have"),
            _ => None,
        };
        if let Some(fault) = fault {
            checker.error(format!("`{path}`: {fault}"));
            return;
        }
    }
}

/// RFC 3986 `pchar`.
fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()+,;:@=".contains(&byte)
}

fn check_condition(checker: &mut Checker, condition: &Condition) {
    let key = condition.key.as_str();
    if key.is_empty() {
        checker.error("the condition has no key");
        return;
    }
    if condition.values.is_empty() && condition.not_values.is_empty() {
        checker.error(format!("`{key}` needs `values` or `notValues`"));
    }
    for (name, list) in [("values", &condition.values), ("notValues", &condition.not_values)] {
        not_empty(checker, name, list);
        match key {
            "source.ip" | "remote.ip" | "destination.ip" => addresses(checker, name, list),
            "destination.port" => ports(checker, name, list),
            "source.serviceAccount" => service_accounts(checker, name, list),
            "source.trustDomain" => inner_wildcards(checker, name, list),
            _ => {}
        }
    }
    let is_plain = matches!(
        key,
        "source.ip"
            | "remote.ip"
            | "source.namespace"
            | "source.serviceAccount"
            | "source.principal"
            | "source.trustDomain"
            | "request.auth.principal"
            | "request.auth.audiences"
            | "request.auth.presenter"
            | "destination.ip"
            | "destination.port"
            | "connection.sni"
    );
    let is_map = ["request.headers", "request.auth.claims", "experimental.envoy.filters."]
        .iter()
        .any(|prefix| key.starts_with(prefix));
    if is_map {
        let bracket = key.find('[').unwrap_or(0);
        if bracket == 0 || !key.ends_with(']') || bracket + 2 >= key.len() {
            checker.field("key", |checker| {
                checker
                    .error(format!("`{key}` needs a name in brackets"))
                    .fix("write `request.headers[x-name]`");
            });
        }
    } else if !is_plain {
        checker.field("key", |checker| {
            checker.error(format!("unknown attribute: {key}"));
        });
    }
}

/// External authorizers are asked before identities are known to the policy.
fn refuse_identities(checker: &mut Checker, rule: &Rule) {
    let unsupported = |checker: &mut Checker, name: &str| {
        checker.error(format!("{name} is currently not supported with CUSTOM action"));
    };
    for source in rule.from.iter().filter_map(|from| from.source.as_ref()) {
        for (name, list) in [
            ("From.Namespaces", &source.namespaces),
            ("From.NotNamespaces", &source.not_namespaces),
            ("From.ServiceAccounts", &source.service_accounts),
            ("From.NotServiceAccounts", &source.not_service_accounts),
            ("From.TrustDomains", &source.trust_domains),
            ("From.NotTrustDomains", &source.not_trust_domains),
            ("From.Principals", &source.principals),
            ("From.NotPrincipals", &source.not_principals),
            ("From.RequestPrincipals", &source.request_principals),
            ("From.NotRequestPrincipals", &source.not_request_principals),
        ] {
            if !list.is_empty() {
                unsupported(checker, name);
            }
        }
    }
    for condition in &rule.when {
        let identities =
            ["source.namespace", "source.serviceAccount", "source.trustDomain", "source.principal"];
        if identities.contains(&condition.key.as_str()) || condition.key.starts_with("request.auth.") {
            unsupported(checker, &condition.key);
        }
    }
}

fn uses_http_only(rule: &Rule) -> bool {
    let knows_ports = rule.to.iter().filter_map(|to| to.operation.as_ref());
    let to_tcp = knows_ports.clone().any(|to| !to.ports.is_empty() || !to.not_ports.is_empty());
    let to_any = knows_ports.count() > 0;
    let mut sources = rule.from.iter().filter_map(|from| from.source.as_ref());
    let from_any = rule.from.iter().any(|from| from.source.is_some());
    let from_tcp = sources.any(|from| {
        [
            &from.principals,
            &from.not_principals,
            &from.ip_blocks,
            &from.not_ip_blocks,
            &from.remote_ip_blocks,
            &from.not_remote_ip_blocks,
            &from.namespaces,
            &from.not_namespaces,
            &from.service_accounts,
            &from.not_service_accounts,
        ]
        .into_iter()
        .any(|list| !list.is_empty())
    });
    from_any && !to_any && !from_tcp || to_any && !to_tcp
}
