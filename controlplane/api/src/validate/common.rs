//! Rules that several kinds share.

use std::collections::BTreeMap;

use prost_types::Duration;

use crate::networking::{Destination, PortSelector};
use crate::validate::checker::Checker;
use crate::validate::names;

/// Istio takes durations of whole milliseconds, at least one.
pub(crate) fn duration(checker: &mut Checker, value: &Duration) {
    let nanos = i128::from(value.seconds) * 1_000_000_000 + i128::from(value.nanos);
    if nanos < 1_000_000 {
        checker.error("the duration must be at least 1ms");
    } else if nanos % 1_000_000 != 0 {
        checker.error("the duration must be a whole number of milliseconds");
    }
}

/// A port number that can be connected to.
pub(crate) fn port(checker: &mut Checker, number: u32) {
    if !(1..=65535).contains(&number) {
        checker.error(format!("port {number} is not between 1 and 65535"));
    }
}

/// A `port: {number: N}`.
pub(crate) fn port_selector(checker: &mut Checker, selector: &PortSelector) {
    checker.field("number", |checker| port(checker, selector.number));
}

/// Reports what a name rule found.
pub(crate) fn rule(checker: &mut Checker, result: Result<(), String>) {
    if let Err(message) = result {
        checker.error(message);
    }
}

/// A non-negative number, as all limits are.
pub(crate) fn not_negative(checker: &mut Checker, name: &str, value: i32) {
    if value < 0 {
        checker.field(name, |checker| {
            checker.error(format!("{value} is negative"));
        });
    }
}

/// A share in percent of an integer field.
pub(crate) fn percent(checker: &mut Checker, name: &str, value: i32) {
    if !(0..=100).contains(&value) {
        checker.field(name, |checker| {
            checker.error(format!("{value} is not between 0 and 100"));
        });
    }
}

/// Where traffic goes.
pub(crate) fn destination(checker: &mut Checker, value: &Destination) {
    checker.field("host", |checker| match value.host.as_str() {
        "*" => {
            checker.error("`*` is no destination").fix("name one service");
        }
        host => rule(checker, names::wildcard_domain(host)),
    });
    if !value.subset.is_empty() {
        checker.field("subset", |checker| subset_name(checker, &value.subset));
    }
    checker.set("port", value.port.as_ref(), port_selector);
}

/// The name of a subset.
pub(crate) fn subset_name(checker: &mut Checker, name: &str) {
    if name.is_empty() {
        checker.error("the subset has no name");
    } else if !names::is_label(name) {
        checker.error(format!("`{name}` is not a subset name")).fix("use letters, digits and `-`");
    }
}

/// Labels as Kubernetes allows them.
pub(crate) fn labels(checker: &mut Checker, name: &str, labels: &BTreeMap<String, String>) {
    checker.entries(name, labels, |checker, key, value| {
        if !is_label_key(key) {
            checker.error(format!("`{key}` is not a label key"));
        }
        if !is_label_value(value) {
            checker.error(format!("`{value}` is not a label value"));
        }
    });
}

/// `name` or `domain/name`.
fn is_label_key(key: &str) -> bool {
    let (domain, name) = match key.split_once('/') {
        Some((domain, name)) => (Some(domain), name),
        None => (None, key),
    };
    domain.is_none_or(names::is_dns_subdomain) && is_qualified(name)
}

fn is_label_value(value: &str) -> bool {
    value.is_empty() || is_qualified(value)
}

fn is_qualified(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=63).contains(&bytes.len())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
        && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
}

/// A workload selector: no wildcards; without labels it selects everything, which is worth a warning.
pub(crate) fn selector(checker: &mut Checker, name: &str, labels: &BTreeMap<String, String>) {
    checker.entries(name, labels, |checker, key, value| {
        if key.is_empty() {
            checker.error("a selector key is empty");
        }
        if key.contains('*') || value.contains('*') {
            checker.error(format!("`{key}: {value}`: selectors take no wildcards"));
        }
    });
    if labels.is_empty() {
        checker
            .warning("the selector has no labels, so the object applies to every workload of the namespace");
    }
}

/// Who may be an object's reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Export {
    /// `.`, `*` and namespaces.
    Ordinary,
    /// `~` (nobody) as well.
    ServiceEntry,
    /// The own namespace only: a DestinationRule with a workload selector.
    OwnNamespace,
}

/// `exportTo`.
pub(crate) fn export_to(checker: &mut Checker, values: &[String], namespace: &str, export: Export) {
    let own = |value: &str| value == "." || value == namespace;
    checker.field("exportTo", |checker| {
        for (index, value) in values.iter().enumerate() {
            let twice = values[..index].iter().any(|before| before == value || own(before) && own(value));
            if twice {
                checker.error(format!("`{value}` stands twice (`.` is the own namespace, {namespace})"));
            }
            let nobody = value == "~" && export == Export::ServiceEntry;
            if !(nobody || matches!(value.as_str(), "." | "*") || names::is_label(value)) {
                checker.error(format!("`{value}` is not a namespace")).fix("use `.`, `*` or a namespace");
            }
            if matches!(value.as_str(), "*" | "~") && values.len() > 1 {
                checker.error(format!("`{value}` excludes every other value"));
            }
            if export == Export::OwnNamespace && !own(value) {
                checker
                    .error("a rule with a workload selector cannot be exported to other namespaces")
                    .fix("leave `exportTo` out");
            }
        }
    });
}

/// Protocols by name. Source: Istio's protocol selection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http,
    Http2,
    Grpc,
    Https,
    Tls,
    Tcp,
    Udp,
}

impl Protocol {
    /// The protocol of that name, without regard to case.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "http" | "http_proxy" => Self::Http,
            "http2" => Self::Http2,
            "grpc" | "grpc-web" => Self::Grpc,
            "https" => Self::Https,
            "tls" => Self::Tls,
            "tcp" | "mongo" | "redis" | "mysql" | "hbone" => Self::Tcp,
            "udp" => Self::Udp,
            _ => return None,
        })
    }

    pub(crate) fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::Grpc)
    }

    pub(crate) fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Tls)
    }
}

/// The protocol of a port where empty means "find out".
pub(crate) fn port_protocol(checker: &mut Checker, name: &str) {
    if !name.is_empty() && Protocol::parse(name).is_none() {
        checker.field("protocol", |checker| {
            let fix = "use HTTP, HTTP2, GRPC, HTTPS, TLS or TCP";
            checker.error(format!("`{name}` is not a protocol")).fix(fix);
        });
    }
}

/// The name of a port of a service.
pub(crate) fn port_name(checker: &mut Checker, name: &str) {
    if !names::is_label(name) {
        checker.error(format!("`{name}` is not a port name")).fix("use letters, digits and `-`");
    }
}

/// A Unix socket: an absolute path of a file, or `@` and an abstract name.
pub(crate) fn unix_path(checker: &mut Checker, path: &str) {
    let is_file = path.starts_with('/') && !path.ends_with('/');
    if !path.starts_with('@') && !is_file {
        checker
            .error(format!("`{path}` is not an absolute path of a file"))
            .fix("write `unix:///path/to/socket`");
    }
}

/// The prefix of addresses that are Unix sockets.
pub(crate) const UNIX_PREFIX: &str = "unix://";

/// `namespace/dnsName`, as gateways and sidecars name hosts.
pub(crate) fn namespaced_host(checker: &mut Checker, value: &str, is_gateway: bool) {
    let Some((namespace, host)) = value.split_once('/') else {
        if is_gateway {
            host_part(checker, value, true);
        } else {
            checker.error(format!("`{value}` is not NAMESPACE/HOST")).fix(format!("write `*/{value}`"));
        }
        return;
    };
    if namespace.is_empty() || host.is_empty() {
        checker.error(format!("`{value}`: neither namespace nor host may be empty"));
    }
    let name = if is_gateway { namespace } else { namespace.strip_prefix('~').unwrap_or(namespace) };
    let excluded = !is_gateway && namespace == "~";
    if !excluded && !matches!(name, "*" | ".") && !names::is_label(name) {
        checker.error(format!("invalid namespace value `{namespace}`")).fix("use `*`, `.` or a namespace");
    }
    host_part(checker, host, is_gateway);
}

fn host_part(checker: &mut Checker, host: &str, is_gateway: bool) {
    if host != "*" && !host.contains('.') {
        checker
            .error(format!("short names (non FQDN) are not allowed: `{host}`"))
            .fix(format!("write the full name, such as `{host}.default.svc.cluster.local`"));
    }
    if names::is_partial_wildcard(host) {
        checker.error(format!("partial wildcard \"{host}\" not allowed")).fix("start with `*.`");
    } else if !(is_gateway && names::is_ip(host)) {
        rule(checker, names::wildcard_domain(host));
    }
}
