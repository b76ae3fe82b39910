//! WorkloadEntry and WorkloadGroup.

use crate::networking::readiness_probe::HealthCheckMethod;
use crate::networking::{ReadinessProbe, WorkloadEntry, WorkloadGroup};
use crate::validate::checker::Checker;
use crate::validate::common::{UNIX_PREFIX, labels, not_negative, port, port_name, unix_path};
use crate::validate::names;

/// One workload. `service_ports`: names of the ports of the service it belongs to, inside a ServiceEntry.
/// `may_be_name`: its address may be a DNS name.
pub(crate) fn check_entry(
    checker: &mut Checker,
    entry: &WorkloadEntry,
    service_ports: Option<&[&str]>,
    may_be_name: bool,
) {
    let address = entry.address.as_str();
    let is_unix = address.starts_with(UNIX_PREFIX);
    if address.is_empty() && entry.network.is_empty() {
        checker.error("`address` is required").fix("give it an IP address");
        return;
    }
    checker.field("address", |checker| {
        if address.is_empty() {
            checker.warning(format!("address is unset with network \"{}\"", entry.network));
        } else if let Some(path) = address.strip_prefix(UNIX_PREFIX) {
            unix_path(checker, path);
        } else if !(names::is_ip(address) || may_be_name && names::domain(address).is_ok()) {
            let wanted = if may_be_name { "an IP address or a DNS name" } else { "an IP address" };
            checker.error(format!("`{address}` is not {wanted}"));
        }
    });
    if is_unix && !entry.ports.is_empty() {
        checker.error("a Unix socket has no ports").fix("leave `ports` out");
    }
    if is_unix && service_ports.is_some_and(|ports| ports.len() != 1) {
        checker.error("a Unix socket serves a service of exactly one port");
    }
    checker.entries("ports", &entry.ports, |checker, name, number| {
        if service_ports.is_some_and(|ports| !ports.contains(&name.as_str())) {
            checker.error(format!("the service has no port `{name}`"));
        }
        port_name(checker, name);
        port(checker, *number);
    });
    labels(checker, "labels", &entry.labels);
}

/// A template of workloads.
pub(crate) fn check_group(checker: &mut Checker, group: &WorkloadGroup) {
    if group.template.is_none() {
        checker.error("`template` is required");
    }
    checker.set("metadata", group.metadata.as_ref(), |checker, metadata| {
        labels(checker, "labels", &metadata.labels);
    });
    checker.set("template", group.template.as_ref(), |checker, template| {
        checker.entries("ports", &template.ports, |checker, name, number| {
            port_name(checker, name);
            port(checker, *number);
        });
    });
    checker.set("probe", group.probe.as_ref(), probe);
}

fn probe(checker: &mut Checker, probe: &ReadinessProbe) {
    not_negative(checker, "initialDelaySeconds", probe.initial_delay_seconds);
    not_negative(checker, "timeoutSeconds", probe.timeout_seconds);
    not_negative(checker, "periodSeconds", probe.period_seconds);
    not_negative(checker, "successThreshold", probe.success_threshold);
    not_negative(checker, "failureThreshold", probe.failure_threshold);
    match &probe.health_check_method {
        Some(HealthCheckMethod::HttpGet(get)) => checker.field("httpGet", |checker| {
            checker.field("port", |checker| port(checker, get.port));
            if !matches!(get.scheme.as_str(), "" | "HTTP" | "HTTPS") {
                checker.field("scheme", |checker| {
                    checker.error(format!("`{}` is neither HTTP nor HTTPS", get.scheme));
                });
            }
            checker.each("httpHeaders", &get.http_headers, |checker, header| {
                checker.field("name", |checker| {
                    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
                    if header.name.is_empty() || !header.name.bytes().all(is_name) {
                        checker.error(format!("`{}` is not a header name", header.name));
                    }
                });
            });
        }),
        Some(HealthCheckMethod::TcpSocket(socket)) => checker.field("tcpSocket", |checker| {
            checker.field("port", |checker| port(checker, socket.port));
        }),
        Some(HealthCheckMethod::Exec(exec)) => {
            if exec.command.is_empty() {
                checker.field("exec", |checker| {
                    checker.error("`command` is required");
                });
            }
        }
        Some(HealthCheckMethod::Grpc(grpc)) => checker.field("grpc", |checker| {
            checker.field("port", |checker| port(checker, grpc.port));
        }),
        None => {
            checker.error("the probe has no method").fix("give it `httpGet`, `tcpSocket`, `exec` or `grpc`");
        }
    }
}
