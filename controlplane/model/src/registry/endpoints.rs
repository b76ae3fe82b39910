//! Endpoints of every service.
//!
//! A Kubernetes Service takes its endpoints from EndpointSlices; without any from an Endpoints object; without that
//! from the Pods its selector picks. WorkloadEntries that the selector picks are always added. A ServiceEntry has its
//! own, those its selector picks, or, for DNS, its host.

use std::collections::BTreeMap;
use std::sync::Arc;

use ringsail_api::networking::service_entry::Resolution as DeclaredResolution;
use ringsail_api::{Object, Spec, core, discovery, networking};

use super::services::ServiceIndex;
use super::workloads::{self, Instance, NamespaceWorkloads};
use crate::endpoint::{Endpoint, EndpointAddress, Health, Locality, ServiceEndpoints, Workload};
use crate::labels::{self, Labels};
use crate::service::{Registry, Resolution, Service, ServiceKey, ServicePort, TargetPort};

/// Label of an EndpointSlice that names its Service.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// Endpoints by service.
pub type EndpointIndex = BTreeMap<ServiceKey, Arc<ServiceEndpoints>>;

/// Builds the endpoints of all services of one namespace from the objects of that namespace.
pub(crate) fn build_namespace(
    namespace: &str,
    objects: &[&Object],
    services: &ServiceIndex,
    nodes: &BTreeMap<String, Labels>,
    publish_not_ready: &dyn Fn(&ServiceKey) -> bool,
) -> BTreeMap<ServiceKey, ServiceEndpoints> {
    let workloads = NamespaceWorkloads::collect(objects.iter().copied(), nodes);
    let slices = slices_by_service(objects);
    let mut found: BTreeMap<ServiceKey, ServiceEndpoints> = BTreeMap::new();
    for service in services.by_age().iter().filter(|service| service.key.namespace == namespace) {
        if service.registry != Registry::Kubernetes {
            continue;
        }
        let mut endpoints = if let Resolution::Dns = service.resolution {
            external_name(service, objects)
        } else if service.is_alias() {
            continue;
        } else if let Some(slices) = slices.get(service.name.as_str()) {
            from_slices(service, slices, &workloads)
        } else if let Some(object) = endpoints_object(objects, &service.name) {
            from_endpoints(service, object, &workloads)
        } else {
            selected(service, &workloads, |instance| !instance.is_entry)
        };
        append(&mut endpoints, selected(service, &workloads, |instance| instance.is_entry));
        if publish_not_ready(&service.key) {
            let all = endpoints.by_port.values_mut().flatten();
            all.for_each(|endpoint| endpoint.health = Health::Healthy);
        }
        found.insert(service.key.clone(), endpoints);
    }
    for object in objects {
        let Spec::ServiceEntry(entry) = &object.spec else { continue };
        for host in &entry.hosts {
            let key = ServiceKey { namespace: namespace.to_owned(), hostname: host.to_ascii_lowercase() };
            let Some(service) = services.get(&key).filter(|service| service.registry == Registry::External)
            else {
                continue;
            };
            let endpoints = from_service_entry(service, object, entry, &workloads);
            // The oldest entry that declares a port owns it; entries come in name order, ports are disjoint or equal.
            let known = found.entry(key).or_default();
            for (port, list) in endpoints.by_port {
                known.by_port.entry(port).or_insert(list);
            }
        }
    }
    found
}

fn slices_by_service<'a>(objects: &[&'a Object]) -> BTreeMap<&'a str, Vec<&'a discovery::EndpointSlice>> {
    let mut found: BTreeMap<&str, Vec<&discovery::EndpointSlice>> = BTreeMap::new();
    for object in objects {
        let Spec::EndpointSlice(slice) = &object.spec else { continue };
        if let Some(service) = object.meta.labels.get(SERVICE_NAME_LABEL) {
            found.entry(service).or_default().push(slice);
        }
    }
    found
}

fn endpoints_object<'a>(objects: &[&'a Object], name: &str) -> Option<&'a core::Endpoints> {
    objects.iter().find_map(|object| match &object.spec {
        Spec::Endpoints(endpoints) if object.meta.name == name => Some(&**endpoints),
        _ => None,
    })
}

/// An ExternalName service whose target is not in the mesh: the target name, resolved by the proxy.
fn external_name(service: &Service, objects: &[&Object]) -> ServiceEndpoints {
    let target = objects.iter().find_map(|object| match &object.spec {
        Spec::Service(spec) if object.meta.name == service.name => {
            Some(spec.spec.as_ref()?.external_name.clone())
        }
        _ => None,
    });
    let mut endpoints = ServiceEndpoints::default();
    for port in &service.ports {
        let address = EndpointAddress::Dns(target.clone().unwrap_or_default().to_ascii_lowercase());
        endpoints.by_port.insert(port.number, vec![plain(address, port.number, Arc::default())]);
    }
    endpoints
}

fn plain(address: EndpointAddress, port: u32, workload: Arc<Workload>) -> Endpoint {
    Endpoint { address, port, health: Health::Healthy, locality: Locality::default(), weight: 1, workload }
}

fn from_slices(
    service: &Service,
    slices: &[&discovery::EndpointSlice],
    workloads: &NamespaceWorkloads,
) -> ServiceEndpoints {
    let mut found = ServiceEndpoints::default();
    for port in &service.ports {
        let list = found.by_port.entry(port.number).or_default();
        for slice in slices {
            let Some(number) = slice.ports.iter().find(|p| p.name == port.name).and_then(|p| p.port) else {
                continue;
            };
            let Ok(number) = u32::try_from(number) else { continue };
            for endpoint in &slice.endpoints {
                let conditions = endpoint.conditions.unwrap_or_default();
                if conditions.terminating == Some(true) {
                    continue;
                }
                let Some(text) = endpoint.addresses.first() else { continue };
                let pod_name = endpoint.target_ref.as_ref().map_or("", |target| target.name.as_str());
                let pod = workloads.pod(pod_name, text);
                let mut locality = pod.map(|pod| pod.locality.clone()).unwrap_or_default();
                if locality.zone.is_empty() {
                    locality.zone.clone_from(&endpoint.zone);
                }
                list.push(Endpoint {
                    address: EndpointAddress::parse(text),
                    port: number,
                    health: if conditions.ready.unwrap_or(true) {
                        Health::Healthy
                    } else {
                        Health::Unhealthy
                    },
                    locality,
                    weight: 1,
                    workload: pod.map(|pod| Arc::clone(&pod.workload)).unwrap_or_else(|| {
                        Arc::new(Workload { namespace: service.key.namespace.clone(), ..Workload::default() })
                    }),
                });
            }
        }
        sort(list);
    }
    found
}

fn from_endpoints(
    service: &Service,
    object: &core::Endpoints,
    workloads: &NamespaceWorkloads,
) -> ServiceEndpoints {
    let mut found = ServiceEndpoints::default();
    for port in &service.ports {
        let list = found.by_port.entry(port.number).or_default();
        for subset in &object.subsets {
            let Some(number) = subset.ports.iter().find(|p| p.name == port.name).map(|p| p.port) else {
                continue;
            };
            let Ok(number) = u32::try_from(number) else { continue };
            let ready = subset.addresses.iter().map(|address| (address, Health::Healthy));
            let not_ready = subset.not_ready_addresses.iter().map(|address| (address, Health::Unhealthy));
            for (address, health) in ready.chain(not_ready) {
                let pod_name = address.target_ref.as_ref().map_or("", |target| target.name.as_str());
                let pod = workloads.pod(pod_name, &address.ip);
                list.push(Endpoint {
                    address: EndpointAddress::parse(&address.ip),
                    port: number,
                    health,
                    locality: pod.map(|pod| pod.locality.clone()).unwrap_or_default(),
                    weight: 1,
                    workload: pod.map(|pod| Arc::clone(&pod.workload)).unwrap_or_default(),
                });
            }
        }
        sort(list);
    }
    found
}

/// Workloads that the service's selector picks. A service without a selector has none.
fn selected(
    service: &Service,
    workloads: &NamespaceWorkloads,
    wanted: impl Fn(&Instance) -> bool,
) -> ServiceEndpoints {
    let mut found = ServiceEndpoints::default();
    for port in &service.ports {
        let list = found.by_port.entry(port.number).or_default();
        if service.selector.is_empty() {
            continue;
        }
        let picked = workloads.instances.iter().filter(|instance| {
            wanted(instance) && labels::selects(&service.selector, &instance.workload.labels)
        });
        list.extend(picked.filter_map(|instance| instance_endpoint(instance, port)));
        sort(list);
    }
    found
}

/// The endpoint an instance offers for a service port; `None` when a named port is not among its ports.
fn instance_endpoint(instance: &Instance, port: &ServicePort) -> Option<Endpoint> {
    let by_name = instance.ports.get(&port.name).filter(|_| instance.is_entry && !port.name.is_empty());
    let number = match (by_name, &port.target) {
        (Some(number), _) => *number,
        (None, TargetPort::Number(number)) => *number,
        (None, TargetPort::Named(name)) => *instance.ports.get(name)?,
    };
    Some(Endpoint {
        address: instance.address.clone(),
        port: if matches!(instance.address, EndpointAddress::Unix(_)) { 0 } else { number },
        health: instance.health,
        locality: instance.locality.clone(),
        weight: instance.weight,
        workload: Arc::clone(&instance.workload),
    })
}

fn from_service_entry(
    service: &Service,
    object: &Object,
    entry: &networking::ServiceEntry,
    workloads: &NamespaceWorkloads,
) -> ServiceEndpoints {
    let inline: Vec<Instance> = entry
        .endpoints
        .iter()
        .map(|endpoint| {
            let namespace = &object.meta.namespace;
            workloads::from_entry(&object.meta.name, namespace, endpoint, endpoint.labels.clone())
        })
        .collect();
    let dns = matches!(entry.resolution(), DeclaredResolution::Dns | DeclaredResolution::DnsRoundRobin);
    let mut found = ServiceEndpoints::default();
    for declared in &entry.ports {
        let Some(port) = service.port(declared.number) else { continue };
        let list = found.by_port.entry(port.number).or_default();
        if dns && entry.endpoints.is_empty() && entry.workload_selector.is_none() {
            let TargetPort::Number(number) = port.target else { continue };
            list.push(plain(EndpointAddress::Dns(service.hostname().to_owned()), number, Arc::default()));
            continue;
        }
        list.extend(inline.iter().filter_map(|instance| instance_endpoint(instance, port)));
        if entry.workload_selector.is_some() {
            let picked =
                workloads.instances.iter().filter(|i| labels::selects(&service.selector, &i.workload.labels));
            list.extend(picked.filter_map(|instance| instance_endpoint(instance, port)));
            sort(list);
        }
    }
    found
}

fn append(into: &mut ServiceEndpoints, more: ServiceEndpoints) {
    for (port, list) in more.by_port {
        into.by_port.entry(port).or_default().extend(list);
    }
}

/// Stable order whatever order objects arrive in; one address and port counts once.
fn sort(list: &mut Vec<Endpoint>) {
    list.sort_by(|a, b| (&a.address, a.port).cmp(&(&b.address, b.port)));
    list.dedup_by(|a, b| a.address == b.address && a.port == b.port);
}
