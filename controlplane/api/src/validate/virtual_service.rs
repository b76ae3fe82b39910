//! VirtualService: hosts, gateways, TLS and TCP routes. HTTP routes have a file of their own.

use crate::networking::{L4MatchAttributes, RouteDestination, TlsMatchAttributes, VirtualService};
use crate::object::Object;
use crate::validate::checker::Checker;
use crate::validate::common::{Export, destination, export_to, labels, port, rule};
use crate::validate::{http_route, names};

/// The name that means every sidecar.
const MESH_GATEWAY: &str = "mesh";

pub(crate) fn check(checker: &mut Checker, spec: &VirtualService, object: &Object) {
    let is_delegate = spec.hosts.is_empty();
    if is_delegate {
        for (field, is_set) in [
            ("gateways", !spec.gateways.is_empty()),
            ("tls", !spec.tls.is_empty()),
            ("tcp", !spec.tcp.is_empty()),
        ] {
            if is_set {
                checker.field(field, |checker| {
                    let message =
                        format!("a delegate (a VirtualService without hosts) cannot have `{field}`");
                    checker.error(message).fix("give it `hosts`, or leave the field out");
                });
            }
        }
    }
    // Compat: a list that names both counts as bound to a gateway.
    let on_gateway = spec.gateways.iter().any(|name| name != MESH_GATEWAY);
    gateway_names(checker, &spec.gateways);
    hosts(checker, spec, on_gateway);
    if spec.http.is_empty() && spec.tls.is_empty() && spec.tcp.is_empty() {
        checker.error("one of `http`, `tls` and `tcp` is required");
    }
    checker.each("http", &spec.http, |checker, route| http_route::check(checker, route, is_delegate));
    if !on_gateway {
        http_route::refuse_jwt_claims(checker, &spec.http);
    }
    checker.each("tls", &spec.tls, |checker, route| {
        if route.r#match.is_empty() {
            checker.error("a TLS route needs a match").fix("write `match: [{sniHosts: […]}]`");
        }
        checker.each("match", &route.r#match, |checker, found| tls_match(checker, found, spec, on_gateway));
        destinations(checker, &route.route);
    });
    checker.each("tcp", &spec.tcp, |checker, route| {
        checker.each("match", &route.r#match, tcp_match);
        destinations(checker, &route.route);
    });
    export_to(checker, &spec.export_to, &object.meta.namespace, Export::Ordinary);
    http_route::unreachable(checker, &spec.http);
}

fn hosts(checker: &mut Checker, spec: &VirtualService, on_gateway: bool) {
    let passes_through = !spec.tls.is_empty() && on_gateway;
    let mut all_valid = true;
    checker.each("hosts", &spec.hosts, |checker, host| {
        let generated = passes_through && host.starts_with("outbound_.");
        match names::wildcard_domain(host) {
            Err(message) if !names::is_ip(host) && !generated => {
                checker.error(message);
                all_valid = false;
            }
            Ok(()) if host == "*" && !on_gateway => {
                let fix = "name hosts, or bind the object to a gateway with `gateways`";
                checker.error("`*` is allowed on gateways only").fix(fix);
                all_valid = false;
            }
            _ => {}
        }
    });
    if !all_valid {
        return;
    }
    checker.field("hosts", |checker| {
        for (index, host) in spec.hosts.iter().enumerate() {
            if let Some(first) = spec.hosts[..index].iter().find(|first| names::hosts_overlap(first, host)) {
                checker.error(format!("`{first}` and `{host}` overlap")).fix("keep one of them");
            }
        }
    });
}

/// Names of gateways: `NAME`, `NAMESPACE/NAME`, or the old `NAME.NAMESPACE.svc.…`.
pub(crate) fn gateway_names(checker: &mut Checker, list: &[String]) {
    checker.each("gateways", list, |checker, name| match name.split_once('/') {
        None => {
            if let [gateway, namespace, ..] = name.split('.').collect::<Vec<_>>()[..] {
                let message = format!("using legacy gatewayName format \"{name}\"");
                checker.warning(message).fix(format!("write `{namespace}/{gateway}`"));
            }
            rule(checker, names::domain(name));
        }
        Some((namespace, gateway)) => {
            for part in [namespace, gateway] {
                if !names::is_label(part) {
                    checker.error(format!("`{name}`: `{part}` is not a name")).fix("write NAMESPACE/NAME");
                }
            }
        }
    });
}

fn tls_match(checker: &mut Checker, found: &TlsMatchAttributes, spec: &VirtualService, on_gateway: bool) {
    if found.sni_hosts.is_empty() {
        checker.error("a TLS match needs `sniHosts`");
    }
    checker.each("sniHosts", &found.sni_hosts, |checker, sni| {
        let generated = on_gateway && sni.starts_with("outbound_.");
        match names::wildcard_domain(sni) {
            Err(_) if names::is_ip(sni) => {
                checker.warning(format!(
                    "using an IP address (\"{sni}\") goes against SNI spec and most clients do not support this"
                ));
                return;
            }
            Err(message) if !generated => {
                checker.error(message);
                return;
            }
            _ => {}
        }
        if !spec.hosts.iter().any(|host| names::is_host_within(sni, host)) {
            checker
                .error(format!("`{sni}` is outside of the hosts of this object"))
                .fix("add it to `spec.hosts`");
        }
    });
    subnets(checker, &found.destination_subnets);
    match_port(checker, found.port);
    labels(checker, "sourceLabels", &found.source_labels);
    gateway_names(checker, &found.gateways);
}

fn tcp_match(checker: &mut Checker, found: &L4MatchAttributes) {
    subnets(checker, &found.destination_subnets);
    match_port(checker, found.port);
    labels(checker, "sourceLabels", &found.source_labels);
    gateway_names(checker, &found.gateways);
    if !found.source_subnet.is_empty() {
        checker.field("sourceSubnet", |checker| {
            let fix = "leave it out, and use `sourceLabels` or an AuthorizationPolicy";
            checker.error("`sourceSubnet` was never implemented: it would match every source").fix(fix);
        });
    }
}

fn subnets(checker: &mut Checker, list: &[String]) {
    checker.each("destinationSubnets", list, |checker, subnet| {
        if !names::is_ip_or_block(subnet) {
            checker.error(format!("`{subnet}` is not an address or a block")).fix("write `10.0.0.0/8`");
        }
    });
}

/// A port to match; 0 matches all.
pub(crate) fn match_port(checker: &mut Checker, number: u32) {
    if number != 0 {
        checker.field("port", |checker| port(checker, number));
    }
}

fn destinations(checker: &mut Checker, list: &[RouteDestination]) {
    if list.is_empty() {
        checker.error("the route has no destination").fix("write `route: [{destination: {host: …}}]`");
    }
    checker.each("route", list, |checker, entry| match &entry.destination {
        Some(to) => {
            checker.field("destination", |checker| destination(checker, to));
            weight(checker, entry.weight);
        }
        None => {
            checker.error("`destination` is required");
        }
    });
    total_weight(checker, list.iter().map(|entry| entry.weight));
}

/// One weight.
pub(crate) fn weight(checker: &mut Checker, weight: i32) {
    if weight < 0 {
        checker.field("weight", |checker| {
            checker.error(format!("{weight} is negative"));
        });
    }
}

/// Several destinations whose weights are all 0 would serve nothing.
pub(crate) fn total_weight(checker: &mut Checker, weights: impl ExactSizeIterator<Item = i32>) {
    if weights.len() > 1 && weights.map(i64::from).sum::<i64>() == 0 {
        checker.field("route", |checker| {
            checker.error("the weights add up to 0").fix("give each destination a `weight`");
        });
    }
}
