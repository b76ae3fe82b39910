//! All services of the mesh from Kubernetes Services and ServiceEntries.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ringsail_api::{Object, Spec};

use super::{auto_address, kubernetes, service_entry};
use crate::labels::Labels;
use crate::service::{Registry, Resolution, Service, ServiceKey};
use crate::settings::MeshSettings;

/// Services by key and in creation order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServiceIndex {
    by_key: BTreeMap<ServiceKey, Arc<Service>>,
    by_host: BTreeMap<String, Vec<Arc<Service>>>,
    by_age: Vec<Arc<Service>>,
}

impl ServiceIndex {
    /// Builds the index; services of `previous` that come out equal are shared.
    pub(crate) fn build<'a>(
        objects: impl Iterator<Item = &'a Object>,
        namespaces: &BTreeMap<String, Labels>,
        settings: &MeshSettings,
        previous: &ServiceIndex,
    ) -> ServiceIndex {
        let mut kubernetes = BTreeMap::new();
        let mut external = Vec::new();
        for object in objects {
            match &object.spec {
                Spec::Service(spec) => {
                    let annotations = namespaces.get(&object.meta.namespace);
                    let service = kubernetes::service(object, spec, annotations, settings);
                    kubernetes.insert(service.key.clone(), service);
                }
                Spec::ServiceEntry(spec) => external.extend(service_entry::services(object, spec, settings)),
                _ => {}
            }
        }
        external.sort_by(|a, b| a.age.cmp(&b.age).then_with(|| a.key.cmp(&b.key)));
        give_auto_addresses(&mut external);
        let mut services = kubernetes;
        for entry in external {
            match services.get_mut(&entry.key) {
                // A ServiceEntry for the name of a Kubernetes Service only decorates it; what it could add
                // (subject alternative names) belongs to TLS.
                Some(service) if service.registry == Registry::Kubernetes => {}
                Some(older) => unite(older, entry),
                None => {
                    services.insert(entry.key.clone(), entry);
                }
            }
        }
        link_aliases(&mut services);
        Self::index(services, previous)
    }

    fn index(services: BTreeMap<ServiceKey, Service>, previous: &ServiceIndex) -> ServiceIndex {
        let mut index = ServiceIndex::default();
        for (key, service) in services {
            let service = match previous.by_key.get(&key) {
                Some(old) if **old == service => Arc::clone(old),
                _ => Arc::new(service),
            };
            index.by_host.entry(key.hostname.clone()).or_default().push(Arc::clone(&service));
            index.by_age.push(Arc::clone(&service));
            index.by_key.insert(key, service);
        }
        index.by_age.sort_by(|a, b| a.age.cmp(&b.age).then_with(|| a.key.cmp(&b.key)));
        index
    }

    /// The service with this key.
    pub fn get(&self, key: &ServiceKey) -> Option<&Arc<Service>> {
        self.by_key.get(key)
    }

    /// Services that carry this host name, by namespace.
    pub fn with_hostname(&self, hostname: &str) -> &[Arc<Service>] {
        self.by_host.get(hostname).map_or(&[], Vec::as_slice)
    }

    /// Every service, oldest first.
    pub fn by_age(&self) -> &[Arc<Service>] {
        &self.by_age
    }

    /// Every service by key.
    pub fn by_key(&self) -> &BTreeMap<ServiceKey, Arc<Service>> {
        &self.by_key
    }

    /// The service a client in `namespace` means by a host name: visible to it; its own namespace first, then
    /// Kubernetes Services, then the oldest.
    pub fn resolve(&self, hostname: &str, namespace: &str) -> Option<&Arc<Service>> {
        self.with_hostname(hostname)
            .iter()
            .filter(|service| service.visibility.includes(namespace))
            .min_by(|a, b| preference(a, namespace).cmp(&preference(b, namespace)))
    }
}

/// Sort key among services of one host name: the smallest is the one a client in `namespace` gets.
pub(crate) fn preference<'a>(service: &'a Service, namespace: &str) -> impl Ord + use<'a> {
    (service.key.namespace != namespace, service.registry, &service.age, &service.key)
}

/// Adds ports and addresses of a younger ServiceEntry for the same host; ports of the older one stay.
fn unite(older: &mut Service, younger: Service) {
    for port in younger.ports {
        if older.port(port.number).is_none() {
            older.ports.push(port);
        }
    }
    for address in younger.addresses {
        if !older.addresses.contains(&address) {
            older.addresses.push(address);
        }
    }
}

fn give_auto_addresses(external: &mut [Service]) {
    let wants = |service: &Service| {
        service.addresses.is_empty()
            && !matches!(service.resolution, Resolution::Passthrough | Resolution::DynamicDns)
            && !crate::host::is_wildcard(service.hostname())
    };
    let keys: Vec<ServiceKey> = external.iter().filter(|s| wants(s)).map(|s| s.key.clone()).collect();
    let addresses = auto_address::allocate(&keys);
    for service in external.iter_mut().filter(|service| wants(service)) {
        if let Some(pair) = addresses.get(&service.key) {
            service.auto_addresses = pair.to_vec();
        }
    }
}

/// Follows ExternalName services to the service they finally name, and turns those that name nothing in the mesh into
/// DNS services outside the mesh.
fn link_aliases(services: &mut BTreeMap<ServiceKey, Service>) {
    let target_of = |hostname: &str| {
        services.values().find(|service| service.key.hostname == hostname).map(|service| service.key.clone())
    };
    let mut links: Vec<(ServiceKey, Option<ServiceKey>)> = Vec::new();
    for service in services.values() {
        let Resolution::Alias(target) = &service.resolution else { continue };
        let mut seen = BTreeSet::from([service.key.clone()]);
        let mut end = target_of(target);
        while let Some(key) = &end {
            let Some(Resolution::Alias(next)) = services.get(key).map(|s| &s.resolution) else { break };
            if !seen.insert(key.clone()) {
                end = None;
                break;
            }
            end = target_of(next);
        }
        links.push((service.key.clone(), end));
    }
    for (alias, end) in links {
        match end.and_then(|key| services.get_mut(&key)) {
            Some(target) => target.aliases.push(alias),
            None => {
                if let Some(service) = services.get_mut(&alias) {
                    service.resolution = Resolution::Dns;
                    service.external = true;
                }
            }
        }
    }
}
