//! Sidecar.

use std::collections::BTreeSet;

use crate::networking::outbound_traffic_policy::Mode;
use crate::networking::server_tls_settings::TlSmode;
use crate::networking::{
    CaptureMode, IstioEgressListener, IstioIngressListener, OutboundTrafficPolicy, ServerTlsSettings,
    Sidecar, SidecarPort,
};
use crate::object::Object;
use crate::validate::checker::Checker;
use crate::validate::common::{
    Protocol, UNIX_PREFIX, destination, namespaced_host, port, port_name, rule, selector, unix_path,
};
use crate::validate::{connection, names, tls};

pub(crate) fn check(checker: &mut Checker, spec: &Sidecar, object: &Object) {
    checker.set("workloadSelector", spec.workload_selector.as_ref(), |checker, workloads| {
        selector(checker, "labels", &workloads.labels);
    });
    let sets_nothing = spec.egress.is_empty()
        && spec.ingress.is_empty()
        && spec.outbound_traffic_policy.is_none()
        && spec.inbound_connection_pool.is_none();
    if sets_nothing {
        checker
            .error("the object sets nothing")
            .fix("give it `egress`, `ingress` or `outboundTrafficPolicy`");
    }
    let mut numbers = BTreeSet::new();
    checker.each("ingress", &spec.ingress, |checker, listener| {
        ingress(checker, listener);
        if let Some(port) = &listener.port {
            unique(checker, numbers.insert(port.number));
        }
    });
    checker.set("inboundConnectionPool", spec.inbound_connection_pool.as_ref(), connection::pool);
    let (mut numbers, mut sockets) = (BTreeSet::new(), BTreeSet::new());
    let last = spec.egress.last();
    checker.each("egress", &spec.egress, |checker, listener| {
        match &listener.port {
            None if last.is_none_or(|last| !std::ptr::eq(last, listener)) => {
                checker.error("a listener without port takes all ports and must be the last one");
            }
            None => {}
            Some(port) => {
                egress_port(checker, listener, port);
                unique(
                    checker,
                    match port.number {
                        0 => sockets.insert(listener.bind.as_str()),
                        number => numbers.insert(number),
                    },
                );
            }
        }
        egress_hosts(checker, &listener.hosts, &object.meta.namespace);
    });
    checker.set("outboundTrafficPolicy", spec.outbound_traffic_policy.as_ref(), outbound_policy);
}

fn unique(checker: &mut Checker, is_new: bool) {
    if !is_new {
        checker.error("another listener has the same port or socket");
    }
}

fn ingress(checker: &mut Checker, listener: &IstioIngressListener) {
    let Some(value) = &listener.port else {
        checker.error("`port` is required");
        return;
    };
    checker.field("port", |checker| {
        listener_port(checker, value);
        checker.field("number", |checker| port(checker, value.number));
    });
    bind_ip(checker, &listener.bind);
    if !listener.default_endpoint.is_empty() {
        checker.field("defaultEndpoint", |checker| default_endpoint(checker, &listener.default_endpoint));
    }
    let protocol = Protocol::parse(&value.protocol);
    checker.set("tls", listener.tls.as_ref(), |checker, settings| {
        ingress_tls(checker, settings);
        if !protocol.is_some_and(Protocol::is_tls) {
            checker.error("server cannot have TLS settings for non HTTPS/TLS ports");
        }
        tls::server(checker, settings);
    });
    checker.set("connectionPool", listener.connection_pool.as_ref(), |checker, pool| {
        connection::pool(checker, pool);
        if pool.http.is_some() && !protocol.is_some_and(Protocol::is_http) {
            checker.warning(format!(
                "sidecar: HTTP connection pool settings are configured for port {} (\"{}\") but its protocol is \
                 not HTTP ({}); only TCP settings will apply",
                value.number, value.name, value.protocol
            ));
        }
    });
}

fn listener_port(checker: &mut Checker, value: &SidecarPort) {
    if !value.name.is_empty() {
        checker.field("name", |checker| port_name(checker, &value.name));
    }
    if Protocol::parse(&value.protocol).is_none() && !value.protocol.is_empty() {
        checker.field("protocol", |checker| {
            checker.error(format!("`{}` is not a protocol", value.protocol));
        });
    }
    if value.target_port > 0 {
        checker.error("targetPort has no effect on sidecars").fix("leave it out");
    }
}

fn bind_ip(checker: &mut Checker, bind: &str) {
    if !bind.is_empty() && !names::is_ip(bind) {
        checker.field("bind", |checker| {
            checker.error(format!("`{bind}` is not an IP address"));
        });
    }
}

fn default_endpoint(checker: &mut Checker, endpoint: &str) {
    if let Some(path) = endpoint.strip_prefix(UNIX_PREFIX) {
        unix_path(checker, path);
        return;
    }
    let parts = match endpoint.strip_prefix('[') {
        Some(rest) => rest.split_once("]:"),
        None => endpoint.rsplit_once(':').filter(|(host, _)| !host.contains(':')),
    };
    let is_own = |host: &str| matches!(host, "" | "127.0.0.1" | "0.0.0.0" | "::1" | "::");
    match parts {
        Some((host, number)) if is_own(host) => match number.parse() {
            Ok(number) => port(checker, number),
            Err(_) => {
                checker.error(format!("`{number}` is not a port"));
            }
        },
        _ => {
            let fix = "write 127.0.0.1:PORT, 0.0.0.0:PORT, [::1]:PORT, [::]:PORT or unix:///PATH";
            checker.error(format!("`{endpoint}` is not an address of the workload itself")).fix(fix);
        }
    }
}

fn ingress_tls(checker: &mut Checker, tls: &ServerTlsSettings) {
    for (field, is_set) in [
        ("subjectAltNames", !tls.subject_alt_names.is_empty()),
        ("httpsRedirect", tls.https_redirect),
        ("credentialName", !tls.credential_name.is_empty()),
        ("credentialNames", !tls.credential_names.is_empty()),
        ("tlsCertificates", !tls.tls_certificates.is_empty()),
    ] {
        if is_set {
            checker.field(field, |checker| {
                checker.error(format!("`{field}` is not supported on a sidecar"));
            });
        }
    }
    if matches!(tls.mode(), TlSmode::IstioMutual | TlSmode::AutoPassthrough) {
        checker.field("mode", |checker| {
            checker.error(format!("{} is not supported on a sidecar", tls.mode().as_str_name()));
        });
    }
}

fn egress_port(checker: &mut Checker, listener: &IstioEgressListener, value: &SidecarPort) {
    checker.field("port", |checker| listener_port(checker, value));
    if value.number != 0 {
        checker.field("port", |checker| checker.field("number", |checker| port(checker, value.number)));
        bind_ip(checker, &listener.bind);
        return;
    }
    match listener.bind.strip_prefix(UNIX_PREFIX) {
        Some(path) => checker.field("bind", |checker| unix_path(checker, path)),
        None => {
            checker.error("a port without number needs a Unix socket in `bind`");
        }
    }
    if !matches!(listener.capture_mode(), CaptureMode::Default | CaptureMode::None) {
        checker.field("captureMode", |checker| {
            checker.error("traffic cannot be captured to a Unix socket").fix("use DEFAULT or NONE");
        });
    }
}

fn egress_hosts(checker: &mut Checker, hosts: &[String], own_namespace: &str) {
    if hosts.is_empty() {
        checker.error("the listener names no host").fix("write `hosts: [\"*/*\"]` for all");
    }
    checker.each("hosts", hosts, |checker, host| namespaced_host(checker, host, false));
    let mut seen: BTreeSet<(&str, &str)> = BTreeSet::new();
    checker.field("hosts", |checker| {
        for entry in hosts {
            let Some((namespace, host)) = entry.split_once('/') else { continue };
            if namespace.starts_with('~') {
                continue;
            }
            let namespace = if namespace == "." { own_namespace } else { namespace };
            let covered = match host {
                "*" => seen.iter().any(|(of, _)| *of == namespace),
                host => seen.contains(&(namespace, host)) || seen.contains(&(namespace, "*")),
            };
            if covered {
                checker.warning(format!("duplicated egress host: {entry}"));
            }
            seen.insert((namespace, host));
        }
        let others = seen.iter().any(|(namespace, _)| *namespace != "*");
        if seen.contains(&("*", "*")) && others {
            checker.warning("`*/*` host select all resources, no other hosts can be added");
        }
    });
}

fn outbound_policy(checker: &mut Checker, policy: &OutboundTrafficPolicy) {
    checker.set("egressProxy", policy.egress_proxy.as_ref(), |checker, proxy| {
        if policy.mode() != Mode::AllowAny {
            checker.error("an egress proxy needs `mode: ALLOW_ANY`");
            return;
        }
        checker.field("host", |checker| rule(checker, names::domain(&proxy.host)));
        if proxy.port.is_none() {
            checker.error("`port` is required");
        }
        destination(checker, proxy);
    });
}
