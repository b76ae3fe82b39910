//! Patches of route configurations, virtual hosts and routes.

use std::collections::{BTreeMap, BTreeSet};

use ringsail_api::networking::envoy_filter::patch::Operation;
use ringsail_api::networking::envoy_filter::route_configuration_match::RouteMatch;
use ringsail_api::networking::envoy_filter::route_configuration_match::route_match::Action;
use ringsail_api::networking::envoy_filter::{ApplyTo, PatchContext};
use ringsail_model::envoy_filter::{Patch, PatchValue};
use ringsail_xds::envoy::config::route::v3::{Route, RouteConfiguration, VirtualHost, route};

use super::Patches;
use super::merge::merge;
use super::place::place;

/// Ports that Gateway objects declare, by the port where the router listens.
pub(crate) type GatewayPorts = BTreeMap<u32, BTreeSet<u32>>;

/// Patches one route configuration.
pub(crate) fn patch_routes(
    routes: &mut RouteConfiguration,
    context: PatchContext,
    ports: &GatewayPorts,
    patches: &Patches,
) {
    // The name is what the match reads, and a patch may change it.
    let name = routes.name.clone();
    let of_kind = |apply_to| {
        let name = name.clone();
        patches.of_kind(apply_to, context).filter(move |patch| concerns(patch, &name, context, ports))
    };
    for patch in of_kind(ApplyTo::RouteConfiguration) {
        if let (true, Some(PatchValue::RouteConfiguration(value))) = (is_merge(patch), &patch.value) {
            merge(routes, value, patch.operation, &patches.schema);
        }
    }
    routes.virtual_hosts.retain_mut(|host| {
        for patch in of_kind(ApplyTo::VirtualHost) {
            if !concerns_host(patch, host) {
                continue;
            }
            match (patch.operation, &patch.value) {
                (Operation::Remove, _) => return false,
                (Operation::Replace, Some(PatchValue::VirtualHost(value))) => *host = (**value).clone(),
                (_, Some(PatchValue::VirtualHost(value))) if is_merge(patch) => {
                    merge(host, value, patch.operation, &patches.schema);
                }
                _ => {}
            }
        }
        patch_host(host, of_kind(ApplyTo::HttpRoute).collect(), patches);
        true
    });
    for patch in of_kind(ApplyTo::VirtualHost) {
        if let (Operation::Add, Some(PatchValue::VirtualHost(value))) = (patch.operation, &patch.value) {
            routes.virtual_hosts.push((**value).clone());
        }
    }
}

fn patch_host(host: &mut VirtualHost, of_routes: Vec<&Patch>, patches: &Patches) {
    let concerned: Vec<&Patch> = of_routes.into_iter().filter(|patch| concerns_host(patch, host)).collect();
    host.routes.retain_mut(|route| {
        for patch in &concerned {
            if !concerns_route(patch, route) {
                continue;
            }
            match (patch.operation, &patch.value) {
                (Operation::Remove, _) => return false,
                (_, Some(PatchValue::HttpRoute(value))) if is_merge(patch) => {
                    merge(route, value, patch.operation, &patches.schema);
                }
                _ => {}
            }
        }
        true
    });
    for patch in concerned {
        let Some(PatchValue::HttpRoute(value)) = &patch.value else { continue };
        let named = |route: &Route| concerns_route(patch, route);
        let wanted: Option<&dyn Fn(&Route) -> bool> = names_route(patch).is_some().then_some(&named as _);
        match patch.operation {
            // Unlike filters, the first place is taken only where the route is there.
            Operation::InsertFirst if wanted.is_some() && !host.routes.iter().any(named) => {}
            Operation::Add | Operation::InsertFirst | Operation::InsertBefore | Operation::InsertAfter => {
                place(&mut host.routes, patch.operation, Some(&**value), wanted);
            }
            _ => {}
        }
    }
}

fn is_merge(patch: &Patch) -> bool {
    matches!(patch.operation, Operation::Merge | Operation::MergeAndReplaceList)
}

/// Whether a patch is about a route configuration: of sidecars by name and port, of gateways also by what the name
/// says of the server.
fn concerns(patch: &Patch, name: &str, context: PatchContext, ports: &GatewayPorts) -> bool {
    let Some(wanted) = &patch.route else { return true };
    if !wanted.name.is_empty() && wanted.name != name {
        return false;
    }
    if context != PatchContext::Gateway {
        return wanted.port_number == 0 || port_of(name) == Some(wanted.port_number);
    }
    let (port, port_name, gateway) = server_of(name);
    let declared = |wanted: u32| match port.and_then(|port| ports.get(&port)) {
        Some(declared) => declared.contains(&wanted),
        None => port == Some(wanted),
    };
    (wanted.port_name.is_empty() || wanted.port_name == port_name)
        && (wanted.gateway.is_empty() || wanted.gateway == gateway)
        && (wanted.port_number == 0 || declared(wanted.port_number))
}

/// Port in the name of a sidecar's routes: `80`, or `inbound|8080||`.
fn port_of(name: &str) -> Option<u32> {
    name.strip_prefix("inbound|").map_or(name, |rest| rest.split('|').next().unwrap_or_default()).parse().ok()
}

/// Port, name of the port, and `namespace/name` of the Gateway: `http.80` tells only the port,
/// `https.443.NAME.GATEWAY.NAMESPACE` all of them.
fn server_of(name: &str) -> (Option<u32>, &str, String) {
    let parts: Vec<&str> = name.split('.').collect();
    let port = parts.get(1).and_then(|port| port.parse().ok());
    match parts[..] {
        ["https", _, port_name, gateway, namespace, ..] => {
            (port, port_name, format!("{namespace}/{gateway}"))
        }
        _ => (port, "", String::new()),
    }
}

fn concerns_host(patch: &Patch, host: &VirtualHost) -> bool {
    let Some(wanted) = patch.route.as_ref().and_then(|route| route.vhost.as_ref()) else { return true };
    (wanted.name.is_empty() || wanted.name == host.name)
        && (wanted.domain_name.is_empty() || host.domains.contains(&wanted.domain_name))
}

fn names_route(patch: &Patch) -> Option<&RouteMatch> {
    patch.route.as_ref()?.vhost.as_ref()?.route.as_ref()
}

fn concerns_route(patch: &Patch, route: &Route) -> bool {
    let Some(wanted) = names_route(patch) else { return true };
    let action = matches!(
        (wanted.action(), &route.action),
        (Action::Any, _)
            | (Action::Route, Some(route::Action::Route(_)))
            | (Action::Redirect, Some(route::Action::Redirect(_)))
            | (Action::DirectResponse, Some(route::Action::DirectResponse(_)))
    );
    action && (wanted.name.is_empty() || wanted.name == route.name)
}
