//! Kubernetes objects as far as they are read: what an API server would refuse, so that nothing behind
//! this crate meets a port of 70000 or an address that is none.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use crate::IntOrString;
use crate::core::{Endpoints, Pod, Service, ServicePort};
use crate::discovery::EndpointSlice;
use crate::validate::checker::Checker;
use crate::validate::common::rule;
use crate::validate::names;

pub(crate) fn check_service(checker: &mut Checker, service: &Service) {
    checker.set("spec", service.spec.as_ref(), |checker, spec| {
        match spec.r#type.as_str() {
            "" | "ClusterIP" | "NodePort" | "LoadBalancer" => {}
            "ExternalName" => checker.field("externalName", |checker| {
                rule(checker, names::domain(&spec.external_name));
            }),
            other => checker.field("type", |checker| {
                let fix = "use ClusterIP, NodePort, LoadBalancer or ExternalName";
                checker.error(format!("`{other}` is not a type of service")).fix(fix);
            }),
        }
        if !matches!(spec.cluster_ip.as_str(), "" | "None") {
            checker.field("clusterIP", |checker| address(checker, &spec.cluster_ip));
        }
        checker.each("clusterIPs", &spec.cluster_i_ps, |checker, ip| {
            if ip != "None" {
                address(checker, ip);
            }
        });
        let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
        checker.each("ports", &spec.ports, |checker, port| {
            service_port(checker, port);
            // An API server refuses these; routing goes by number, so they do no harm here.
            if !names.insert(port.name.as_str()) {
                match port.name.as_str() {
                    "" => checker.warning("several ports need names").fix("give each port a `name`"),
                    name => checker.warning(format!("there are two ports `{name}`")),
                };
            }
            let protocol = if port.protocol.is_empty() { "TCP" } else { &port.protocol };
            if !numbers.insert((port.port, protocol)) {
                checker.error(format!("there are two ports {}/{protocol}", port.port));
            }
        });
    });
}

fn service_port(checker: &mut Checker, port: &ServicePort) {
    checker.field("port", |checker| number(checker, port.port));
    checker.set("targetPort", port.target_port.as_ref(), |checker, target: &IntOrString| {
        if target.r#type == 0 {
            number(checker, target.int_val);
        } else if target.str_val.is_empty() {
            checker.error("an empty name of a port");
        }
    });
    if !matches!(port.protocol.as_str(), "" | "TCP" | "UDP" | "SCTP") {
        checker.field("protocol", |checker| {
            let fix = "use TCP, UDP or SCTP; the application's protocol belongs into `appProtocol`";
            checker.error(format!("`{}` is not a protocol of a service", port.protocol)).fix(fix);
        });
    }
}

pub(crate) fn check_endpoint_slice(checker: &mut Checker, slice: &EndpointSlice) {
    let fits: fn(&str) -> bool = match slice.address_type.as_str() {
        "IPv4" => |text| text.parse::<Ipv4Addr>().is_ok(),
        "IPv6" => |text| text.parse::<Ipv6Addr>().is_ok(),
        "FQDN" => |text| names::domain(text).is_ok(),
        other => {
            checker.field("addressType", |checker| {
                checker.error(format!("`{other}` is not a type of address")).fix("use IPv4, IPv6 or FQDN");
            });
            return;
        }
    };
    checker.each("endpoints", &slice.endpoints, |checker, endpoint| {
        checker.each("addresses", &endpoint.addresses, |checker, text| {
            if !fits(text) {
                checker.error(format!("`{text}` is not of type {}", slice.address_type));
            }
        });
    });
    checker.each("ports", &slice.ports, |checker, port| {
        checker.set("port", port.port.as_ref(), |checker, value| number(checker, *value));
    });
}

pub(crate) fn check_endpoints(checker: &mut Checker, endpoints: &Endpoints) {
    checker.each("subsets", &endpoints.subsets, |checker, subset| {
        for (name, list) in
            [("addresses", &subset.addresses), ("notReadyAddresses", &subset.not_ready_addresses)]
        {
            checker.each(name, list, |checker, found| {
                checker.field("ip", |checker| address(checker, &found.ip));
            });
        }
        checker.each("ports", &subset.ports, |checker, port| {
            checker.field("port", |checker| number(checker, port.port));
        });
    });
}

pub(crate) fn check_pod(checker: &mut Checker, pod: &Pod) {
    checker.set("spec", pod.spec.as_ref(), |checker, spec| {
        checker.each("containers", &spec.containers, |checker, container| {
            checker.each("ports", &container.ports, |checker, port| {
                checker.field("containerPort", |checker| number(checker, port.container_port));
            });
        });
    });
    checker.set("status", pod.status.as_ref(), |checker, status| {
        if !status.pod_ip.is_empty() {
            checker.field("podIP", |checker| address(checker, &status.pod_ip));
        }
        checker.each("podIPs", &status.pod_i_ps, |checker, found| {
            checker.field("ip", |checker| address(checker, &found.ip));
        });
    });
}

fn address(checker: &mut Checker, text: &str) {
    if !names::is_ip(text) {
        checker.error(format!("`{text}` is not an IP address"));
    }
}

fn number(checker: &mut Checker, port: i32) {
    if !(1..=65535).contains(&port) {
        checker.error(format!("port {port} is not between 1 and 65535"));
    }
}
