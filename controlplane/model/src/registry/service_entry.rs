//! ServiceEntries: one service per host.

use ringsail_api::networking::service_entry::{Location, Resolution as DeclaredResolution};
use ringsail_api::{Object, networking};

use crate::protocol::Protocol;
use crate::service::{
    Age, Registry, Resolution, Service, ServiceAddress, ServiceKey, ServicePort, TargetPort,
    TrafficDistribution,
};
use crate::settings::MeshSettings;
use crate::visibility::Visibility;

/// Builds the services of an entry.
pub(super) fn services(
    object: &Object,
    entry: &networking::ServiceEntry,
    settings: &MeshSettings,
) -> Vec<Service> {
    let meta = &object.meta;
    let resolution = match entry.resolution() {
        DeclaredResolution::None => Resolution::Passthrough,
        DeclaredResolution::Static => Resolution::ClientSideLb,
        DeclaredResolution::Dns => Resolution::Dns,
        DeclaredResolution::DnsRoundRobin => Resolution::DnsRoundRobin,
        DeclaredResolution::DynamicDns => Resolution::DynamicDns,
    };
    let selector = entry.workload_selector.as_ref().map(|s| s.labels.clone()).unwrap_or_default();
    let ports: Vec<ServicePort> = entry.ports.iter().map(port).collect();
    let addresses: Vec<ServiceAddress> =
        entry.addresses.iter().filter_map(|a| ServiceAddress::parse(a)).collect();
    entry
        .hosts
        .iter()
        .map(|host| Service {
            key: ServiceKey { namespace: meta.namespace.clone(), hostname: host.to_ascii_lowercase() },
            name: host.to_ascii_lowercase(),
            age: Age {
                created_seconds: object.created_unix_seconds(),
                name: meta.name.clone(),
                namespace: meta.namespace.clone(),
            },
            registry: Registry::External,
            addresses: addresses.clone(),
            auto_addresses: Vec::new(),
            ports: ports.clone(),
            resolution: resolution.clone(),
            external: entry.location() == Location::MeshExternal,
            visibility: Visibility::parse(&entry.export_to, &meta.namespace, &settings.service_visibility),
            selector: selector.clone(),
            labels: meta.labels.clone(),
            aliases: Vec::new(),
            traffic_distribution: TrafficDistribution::Any,
            node_local: false,
        })
        .collect()
}

fn port(port: &networking::ServicePort) -> ServicePort {
    let target = if port.target_port == 0 { port.number } else { port.target_port };
    ServicePort {
        number: port.number,
        name: port.name.clone(),
        protocol: Protocol::of_istio_port(port.number, &port.protocol),
        target: TargetPort::Number(target),
    }
}
