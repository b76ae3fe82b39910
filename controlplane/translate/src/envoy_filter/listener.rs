//! Patches of listeners and everything in them.

use ringsail_api::networking::envoy_filter::patch::Operation;
use ringsail_api::networking::envoy_filter::{ApplyTo, ListenerMatch, PatchContext, listener_match};
use ringsail_model::Proxy;
use ringsail_model::envoy_filter::{Patch, PatchValue};
use ringsail_xds::envoy::config::core::v3::{TrafficDirection, address, socket_address};
use ringsail_xds::envoy::config::listener::v3::{
    Filter, FilterChain, Listener, ListenerFilter, filter, listener_filter,
};
use ringsail_xds::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use ringsail_xds::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, http_filter,
};
use ringsail_xds::{pack, unpack};

use super::merge::{merge, merge_any};
use super::place::place;
use super::{GatewayPorts, Patches, outbound_context, patch_routes};
use crate::listener::filters::HTTP_CONNECTION_MANAGER;
use crate::names;

/// Patches the listeners of a proxy, with the routes that are part of them.
pub(crate) fn patch_listeners(listeners: &mut Vec<Listener>, proxy: &Proxy, patches: &Patches) {
    let context = |listener: &Listener| match listener.traffic_direction() {
        TrafficDirection::Inbound => PatchContext::SidecarInbound,
        TrafficDirection::Outbound | TrafficDirection::Unspecified => outbound_context(proxy),
    };
    listeners.retain_mut(|listener| {
        let context = context(listener);
        patch_listener(listener, context, patches)
    });
    for context in [outbound_context(proxy), PatchContext::SidecarInbound] {
        for patch in patches.of_kind(ApplyTo::Listener, context) {
            // Compat: an addition for any context is made once, and not for the inbound side of a gateway.
            let once = context == outbound_context(proxy)
                || (patch.context == context && proxy.kind == ringsail_model::ProxyType::Sidecar);
            if let (true, Operation::Add, Some(PatchValue::Listener(value))) =
                (once, patch.operation, &patch.value)
            {
                listeners.push((**value).clone());
            }
        }
    }
}

/// `false` when the listener is removed.
fn patch_listener(listener: &mut Listener, context: PatchContext, patches: &Patches) -> bool {
    for patch in patches.of_kind(ApplyTo::Listener, context) {
        if !concerns(patch, listener) {
            continue;
        }
        match (patch.operation, &patch.value) {
            (Operation::Remove, _) => return false,
            (Operation::Merge | Operation::MergeAndReplaceList, Some(PatchValue::Listener(value))) => {
                merge(listener, value, patch.operation, &patches.schema);
            }
            _ => {}
        }
    }
    patch_listener_filters(listener, context, patches);
    let mut chains = std::mem::take(&mut listener.filter_chains);
    chains.retain_mut(|chain| patch_chain(chain, listener, context, patches));
    if let Some(mut chain) = listener.default_filter_chain.take() {
        let kept = patch_chain(&mut chain, listener, context, patches);
        listener.default_filter_chain = kept.then_some(chain);
    }
    for patch in patches.of_kind(ApplyTo::FilterChain, context).filter(|patch| concerns(patch, listener)) {
        if let (Operation::Add, Some(PatchValue::FilterChain(value))) = (patch.operation, &patch.value) {
            chains.push((**value).clone());
        }
    }
    listener.filter_chains = chains;
    true
}

fn patch_listener_filters(listener: &mut Listener, context: PatchContext, patches: &Patches) {
    let concerned: Vec<&Patch> =
        patches.of_kind(ApplyTo::ListenerFilter, context).filter(|patch| concerns(patch, listener)).collect();
    for patch in concerned {
        let name = patch.listener.as_ref().map(|found| found.listener_filter.as_str());
        let name = name.filter(|name| !name.is_empty());
        let value = match &patch.value {
            Some(PatchValue::ListenerFilter(value)) => Some(&**value),
            _ => None,
        };
        let named = |filter: &ListenerFilter| Some(filter.name.as_str()) == name;
        if patch.operation != Operation::Merge {
            let wanted: Option<&dyn Fn(&ListenerFilter) -> bool> = name.is_some().then_some(&named as _);
            place(&mut listener.listener_filters, patch.operation, value, wanted);
            continue;
        }
        let Some(value) = value else { continue };
        for filter in listener.listener_filters.iter_mut().filter(|filter| named(filter)) {
            use listener_filter::ConfigType::TypedConfig;
            if let (Some(TypedConfig(own)), Some(TypedConfig(more))) =
                (&mut filter.config_type, &value.config_type)
            {
                merge_any(own, more, &patches.schema);
            }
        }
    }
}

/// `false` when the chain is removed.
fn patch_chain(
    chain: &mut FilterChain,
    listener: &Listener,
    context: PatchContext,
    patches: &Patches,
) -> bool {
    for patch in patches.of_kind(ApplyTo::FilterChain, context) {
        if !concerns(patch, listener) || !concerns_chain(patch, chain, listener) {
            continue;
        }
        match (patch.operation, &patch.value) {
            (Operation::Remove, _) => return false,
            (Operation::Merge | Operation::MergeAndReplaceList, Some(PatchValue::FilterChain(value))) => {
                merge(chain, value, patch.operation, &patches.schema);
            }
            _ => {}
        }
    }
    let of_kind = |apply_to| -> Vec<&Patch> {
        let here = |patch: &&Patch| concerns(patch, listener) && concerns_chain(patch, chain, listener);
        patches.of_kind(apply_to, context).filter(here).collect()
    };
    let (of_filters, of_http) = (of_kind(ApplyTo::NetworkFilter), of_kind(ApplyTo::HttpFilter));
    for patch in of_filters.iter().filter(|patch| patch.operation != Operation::Merge) {
        let value = match &patch.value {
            Some(PatchValue::NetworkFilter(value)) => Some(&**value),
            _ => None,
        };
        let named = |filter: &Filter| names_filter(patch).is_some_and(|wanted| wanted.name == filter.name);
        let wanted: Option<&dyn Fn(&Filter) -> bool> = names_filter(patch).is_some().then_some(&named as _);
        place(&mut chain.filters, patch.operation, value, wanted);
    }
    for filter in &mut chain.filters {
        for patch in of_filters.iter().filter(|patch| patch.operation == Operation::Merge) {
            if let (true, Some(PatchValue::NetworkFilter(value))) =
                (concerns_filter(patch, filter), &patch.value)
            {
                merge_filter(filter, value, patches);
            }
        }
        let here: Vec<&Patch> =
            of_http.iter().copied().filter(|patch| concerns_filter(patch, filter)).collect();
        patch_manager(filter, &here, context, patches);
    }
    true
}

fn merge_filter(filter: &mut Filter, value: &Filter, patches: &Patches) {
    use filter::ConfigType::TypedConfig;
    let Some(TypedConfig(own)) = &mut filter.config_type else { return };
    if let Some(TypedConfig(more)) = &value.config_type {
        merge_any(own, more, &patches.schema);
    }
    if !value.name.is_empty() {
        filter.name.clone_from(&value.name);
    }
}

/// Patches the HTTP filters of a connection manager, and its routes where they are part of it.
fn patch_manager(filter: &mut Filter, of_http: &[&Patch], context: PatchContext, patches: &Patches) {
    if filter.name != HTTP_CONNECTION_MANAGER {
        return;
    }
    let Some(filter::ConfigType::TypedConfig(config)) = &mut filter.config_type else { return };
    let Ok(mut manager) = unpack::<HttpConnectionManager>(config) else { return };
    let mut changed = !of_http.is_empty();
    if let Some(RouteSpecifier::RouteConfig(routes)) = &mut manager.route_specifier {
        patch_routes(routes, context, &GatewayPorts::new(), patches);
        changed = true;
    }
    if !changed {
        return;
    }
    for patch in of_http.iter().filter(|patch| patch.operation != Operation::Merge) {
        let value = match &patch.value {
            Some(PatchValue::HttpFilter(value)) => Some(&**value),
            _ => None,
        };
        let named =
            |filter: &HttpFilter| names_http_filter(patch).is_some_and(|wanted| wanted == filter.name);
        let wanted: Option<&dyn Fn(&HttpFilter) -> bool> =
            names_http_filter(patch).is_some().then_some(&named as _);
        place(&mut manager.http_filters, patch.operation, value, wanted);
    }
    for patch in of_http.iter().filter(|patch| patch.operation == Operation::Merge) {
        let Some(PatchValue::HttpFilter(value)) = &patch.value else { continue };
        for http in &mut manager.http_filters {
            if names_http_filter(patch).is_none_or(|wanted| wanted == http.name) {
                merge_http_filter(http, value, patches);
            }
        }
    }
    *config = pack(&manager);
}

fn merge_http_filter(filter: &mut HttpFilter, value: &HttpFilter, patches: &Patches) {
    use http_filter::ConfigType::TypedConfig;
    let Some(TypedConfig(own)) = &mut filter.config_type else { return };
    if let Some(TypedConfig(more)) = &value.config_type {
        merge_any(own, more, &patches.schema);
    }
    if !value.name.is_empty() {
        filter.name.clone_from(&value.name);
    }
}

/// The captured listeners serve all ports: there a port is that of a chain.
fn is_captured(listener: &Listener) -> bool {
    [names::VIRTUAL_INBOUND, names::VIRTUAL_OUTBOUND].contains(&listener.name.as_str())
}

fn concerns(patch: &Patch, listener: &Listener) -> bool {
    let Some(ListenerMatch { name, port_number, .. }) = &patch.listener else { return true };
    if !name.is_empty() && *name != listener.name {
        return false;
    }
    if patch.apply_to != ApplyTo::Listener && is_captured(listener) {
        return true;
    }
    *port_number == 0 || port_of(listener) == Some(*port_number)
}

fn port_of(listener: &Listener) -> Option<u32> {
    let Some(address::Address::SocketAddress(socket)) = &listener.address.as_ref()?.address else {
        return None;
    };
    match socket.port_specifier {
        Some(socket_address::PortSpecifier::PortValue(port)) => Some(port),
        _ => None,
    }
}

fn concerns_chain(patch: &Patch, chain: &FilterChain, listener: &Listener) -> bool {
    let Some(wanted) = &patch.listener else { return true };
    let tested = chain.filter_chain_match.clone().unwrap_or_default();
    let port = tested.destination_port;
    if is_captured(listener) && wanted.port_number != 0 && port != Some(wanted.port_number) {
        return false;
    }
    let Some(wanted) = &wanted.filter_chain else { return true };
    (wanted.name.is_empty() || wanted.name == chain.name)
        && (wanted.sni.is_empty() || tested.server_names.contains(&wanted.sni))
        && (wanted.transport_protocol.is_empty() || wanted.transport_protocol == tested.transport_protocol)
        && (wanted.application_protocols.is_empty()
            || wanted
                .application_protocols
                .split(',')
                .all(|name| tested.application_protocols.iter().any(|own| own == name)))
        && (wanted.destination_port == 0 || port == Some(wanted.destination_port))
}

fn names_filter(patch: &Patch) -> Option<&listener_match::FilterMatch> {
    patch.listener.as_ref()?.filter_chain.as_ref()?.filter.as_ref()
}

fn names_http_filter(patch: &Patch) -> Option<&str> {
    names_filter(patch)?.sub_filter.as_ref().map(|filter| filter.name.as_str())
}

fn concerns_filter(patch: &Patch, filter: &Filter) -> bool {
    names_filter(patch).is_none_or(|wanted| wanted.name == filter.name)
}
