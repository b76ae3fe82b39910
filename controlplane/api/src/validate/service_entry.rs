//! ServiceEntry.

use std::collections::BTreeSet;

use crate::networking::ServiceEntry;
use crate::networking::service_entry::{Location, Resolution};
use crate::object::Object;
use crate::validate::checker::Checker;
use crate::validate::common::{Export, Protocol, export_to, port, port_name, port_protocol, rule, selector};
use crate::validate::{names, workload};

/// Turns address allocation off (or on) for one object. Source: Istio's labels.
const AUTO_ALLOCATE_LABEL: &str = "networking.istio.io/enable-autoallocate-ip";

/// Sends the traffic of a service through a waypoint. Source: Istio's labels.
const WAYPOINT_LABEL: &str = "istio.io/use-waypoint";

pub(crate) fn check(checker: &mut Checker, spec: &ServiceEntry, object: &Object) {
    checker.set("workloadSelector", spec.workload_selector.as_ref(), |checker, workloads| {
        selector(checker, "labels", &workloads.labels);
    });
    if spec.workload_selector.is_some() && !spec.endpoints.is_empty() {
        checker.error("`workloadSelector` and `endpoints` exclude each other");
    }
    hosts(checker, spec);
    checker.each("addresses", &spec.addresses, |checker, address| {
        if !names::is_ip_or_block(address) {
            checker.error(format!("`{address}` is not an address or a block")).fix("write `10.0.0.0/8`");
        }
    });
    let resolution = spec.resolution();
    let has_block = spec.addresses.iter().any(|address| address.contains('/'));
    if has_block && !matches!(resolution, Resolution::None | Resolution::Static) {
        checker.field("addresses", |checker| {
            checker.error(format!("{} takes no address blocks", resolution.as_str_name()));
        });
    }
    ports(checker, spec, object);
    match resolution {
        Resolution::None => {
            if !spec.endpoints.is_empty() {
                let fix = "set `resolution: STATIC` or leave `endpoints` out";
                checker.field("endpoints", |checker| {
                    checker.error("without resolution there are no endpoints").fix(fix);
                });
            }
            if spec.workload_selector.is_some() {
                checker.warning("workloadSelector should not be set when resolution mode is NONE");
            }
        }
        Resolution::Static => endpoints(checker, spec, false),
        Resolution::Dns | Resolution::DnsRoundRobin => dns(checker, spec, resolution),
        Resolution::DynamicDns => dynamic_dns(checker, spec, object),
    }
    if resolution != Resolution::None && spec.hosts.len() > 1 && spec.ports.iter().any(is_opaque) {
        checker
            .error("several hosts on a port that is neither HTTP nor TLS")
            .fix("write one object per host");
    }
    export_to(checker, &spec.export_to, &object.meta.namespace, Export::ServiceEntry);
}

fn is_opaque(value: &crate::networking::ServicePort) -> bool {
    let protocol = Protocol::parse(&value.protocol);
    !protocol.is_some_and(|protocol| protocol.is_http() || protocol.is_tls())
}

fn hosts(checker: &mut Checker, spec: &ServiceEntry) {
    if spec.hosts.is_empty() {
        checker.error("`hosts` is required");
    }
    checker.each("hosts", &spec.hosts, |checker, host| {
        if host == "*" {
            checker.error("`*` is no host of a service").fix("name the domain: `*.example.com`");
            return;
        }
        rule(checker, names::wildcard_domain(host));
        if spec.resolution() != Resolution::DynamicDns && names::is_partial_wildcard(host) {
            checker.warning(format!("partial wildcard \"{host}\" not allowed")).fix("start with `*.`");
        }
    });
}

fn ports(checker: &mut Checker, spec: &ServiceEntry, object: &Object) {
    let allocates = object.meta.labels.get(AUTO_ALLOCATE_LABEL).is_none_or(|value| value != "false");
    let (mut names_seen, mut numbers_seen) = (BTreeSet::new(), BTreeSet::new());
    checker.each("ports", &spec.ports, |checker, value| {
        checker.field("name", |checker| {
            port_name(checker, &value.name);
            if !names_seen.insert(value.name.as_str()) {
                checker.error(format!("there are two ports `{}`", value.name));
            }
        });
        checker.field("number", |checker| {
            port(checker, value.number);
            if !numbers_seen.insert(value.number) {
                checker.error(format!("there are two ports {}", value.number));
            }
        });
        if value.target_port != 0 {
            checker.field("targetPort", |checker| port(checker, value.target_port));
        }
        port_protocol(checker, &value.protocol);
        let is_tcp = matches!(value.protocol.as_str(), "" | "TCP");
        if spec.addresses.is_empty() && !allocates && is_tcp {
            checker
                .warning(
                    "addresses are required for ports serving TCP (or unset) protocol when IP \
                     Autoallocation is not enabled",
                )
                .code("IST0134");
        }
    });
}

fn endpoints(checker: &mut Checker, spec: &ServiceEntry, may_be_name: bool) {
    let names: BTreeSet<&str> = spec.ports.iter().map(|port| port.name.as_str()).collect();
    let names: Vec<&str> = names.into_iter().collect();
    checker.each("endpoints", &spec.endpoints, |checker, endpoint| {
        workload::check_entry(checker, endpoint, Some(&names), may_be_name);
    });
}

fn dns(checker: &mut Checker, spec: &ServiceEntry, resolution: Resolution) {
    let name = resolution.as_str_name();
    if spec.endpoints.is_empty() {
        checker.each("hosts", &spec.hosts, |checker, host| {
            if names::domain(host).is_err() {
                let fix = "name the host in full, or give `endpoints`";
                checker.error(format!("{name} cannot resolve `{host}`")).fix(fix);
            }
        });
    }
    if resolution == Resolution::DnsRoundRobin && spec.endpoints.len() > 1 {
        checker.field("endpoints", |checker| {
            checker.error(format!("{name} takes one endpoint")).fix("use `resolution: DNS`");
        });
    }
    checker.each("endpoints", &spec.endpoints, |checker, endpoint| {
        if endpoint.address.starts_with("unix://") {
            checker.error(format!("{name} takes no Unix sockets")).fix("use `resolution: STATIC`");
        }
    });
    let network_endpoints = spec.endpoints.iter().all(|endpoint| !endpoint.address.starts_with("unix://"));
    if network_endpoints {
        endpoints(checker, spec, true);
    }
    let has_tcp = spec.ports.iter().any(|port| Protocol::parse(&port.protocol) == Some(Protocol::Tcp));
    if !spec.addresses.is_empty() && spec.hosts.len() > 1 && has_tcp {
        checker.warning(
            "service entry can not have more than one host specified simultaneously with address and tcp port",
        );
    }
}

fn dynamic_dns(checker: &mut Checker, spec: &ServiceEntry, object: &Object) {
    checker.each("hosts", &spec.hosts, |checker, host| {
        if !host.starts_with('*') {
            checker
                .error(format!("DYNAMIC_DNS takes wildcard hosts, not `{host}`"))
                .fix("use `resolution: DNS`");
        }
    });
    for (field, is_set) in
        [("addresses", !spec.addresses.is_empty()), ("endpoints", !spec.endpoints.is_empty())]
    {
        if is_set {
            checker.field(field, |checker| {
                checker
                    .error(format!("DYNAMIC_DNS takes no `{field}`: the name of each request is resolved"));
            });
        }
    }
    checker.each("ports", &spec.ports, |checker, value| {
        let protocol = Protocol::parse(&value.protocol);
        let fits =
            matches!(protocol, Some(Protocol::Http | Protocol::Http2 | Protocol::Grpc | Protocol::Tls));
        if !fits {
            checker.error("DYNAMIC_DNS needs a protocol that carries the host: HTTP, HTTP2, GRPC or TLS");
        }
    });
    let waypoint = object.meta.labels.get(WAYPOINT_LABEL);
    let uses_waypoint = waypoint.is_some_and(|name| !name.is_empty() && !name.eq_ignore_ascii_case("none"));
    if spec.location() == Location::MeshInternal && uses_waypoint {
        checker.field("location", |checker| {
            checker.error("DYNAMIC_DNS with MESH_INTERNAL does not work behind a waypoint");
        });
    }
}
