//! Kubernetes Services.

use ringsail_api::{Object, core};

use crate::host;
use crate::labels::Labels;
use crate::protocol::Protocol;
use crate::service::{
    Age, Registry, Resolution, Service, ServiceAddress, ServiceKey, ServicePort, TargetPort,
    TrafficDistribution,
};
use crate::settings::MeshSettings;
use crate::visibility::Visibility;

/// Annotation of Services with the meaning of `exportTo`: a comma-separated list.
const EXPORT_TO_ANNOTATION: &str = "networking.istio.io/exportTo";
/// Annotation of Services and Namespaces with the meaning of `spec.trafficDistribution`.
const TRAFFIC_DISTRIBUTION_ANNOTATION: &str = "networking.istio.io/traffic-distribution";

/// Builds a service. `namespace_annotations` are those of its namespace, when that object is known.
pub(super) fn service(
    object: &Object,
    service: &core::Service,
    namespace_annotations: Option<&Labels>,
    settings: &MeshSettings,
) -> Service {
    let meta = &object.meta;
    let spec = service.spec.clone().unwrap_or_default();
    let hostname = host::resolve_short_name(&meta.name, &meta.namespace, &settings.cluster_domain);
    let headless = spec.cluster_ip.eq_ignore_ascii_case("none");
    let external_name = spec.r#type == "ExternalName" && !spec.external_name.is_empty();
    let mut addresses: Vec<ServiceAddress> = Vec::new();
    if !headless && !external_name {
        for text in spec.cluster_i_ps.iter().chain([&spec.cluster_ip]) {
            if let Some(address) = ServiceAddress::parse(text).filter(|address| !addresses.contains(address))
            {
                addresses.push(address);
            }
        }
    }
    let resolution = if external_name {
        Resolution::Alias(spec.external_name.trim_end_matches('.').to_ascii_lowercase())
    } else if headless {
        Resolution::Passthrough
    } else {
        Resolution::ClientSideLb
    };
    let annotation = |key: &str| meta.annotations.get(key).map(String::as_str);
    let visibility = match annotation(EXPORT_TO_ANNOTATION) {
        Some(list) => {
            let list: Vec<&str> = list.split(',').map(str::trim).filter(|entry| !entry.is_empty()).collect();
            Visibility::parse(&list, &meta.namespace, &settings.service_visibility)
        }
        None => Visibility::parse::<&str>(&[], &meta.namespace, &settings.service_visibility),
    };
    let traffic_distribution = spec
        .traffic_distribution
        .as_deref()
        .or_else(|| annotation(TRAFFIC_DISTRIBUTION_ANNOTATION))
        .or_else(|| namespace_annotations?.get(TRAFFIC_DISTRIBUTION_ANNOTATION).map(String::as_str));
    Service {
        key: ServiceKey { namespace: meta.namespace.clone(), hostname },
        name: meta.name.clone(),
        age: Age {
            created_seconds: object.created_unix_seconds(),
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
        },
        registry: Registry::Kubernetes,
        addresses,
        auto_addresses: Vec::new(),
        ports: spec.ports.iter().filter_map(port).collect(),
        resolution,
        external: false,
        visibility,
        selector: spec.selector,
        labels: meta.labels.clone(),
        aliases: Vec::new(),
        traffic_distribution: traffic_distribution.map_or(TrafficDistribution::Any, distribution),
        node_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
    }
}

fn port(port: &core::ServicePort) -> Option<ServicePort> {
    let number = u32::try_from(port.port).ok().filter(|number| *number != 0)?;
    let target = match &port.target_port {
        Some(target) if target.r#type == 1 => match target.str_val.parse() {
            Ok(number) => TargetPort::Number(number),
            Err(_) => TargetPort::Named(target.str_val.clone()),
        },
        Some(target) if target.int_val > 0 => TargetPort::Number(target.int_val.unsigned_abs()),
        _ => TargetPort::Number(number),
    };
    Some(ServicePort {
        number,
        name: port.name.clone(),
        protocol: Protocol::of_kubernetes_port(number, &port.name, &port.app_protocol, &port.protocol),
        target,
    })
}

fn distribution(text: &str) -> TrafficDistribution {
    match text {
        "PreferClose" | "PreferSameZone" => TrafficDistribution::PreferSameZone,
        "PreferSameNode" => TrafficDistribution::PreferSameNode,
        _ => TrafficDistribution::Any,
    }
}
