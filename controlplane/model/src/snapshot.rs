//! From objects to snapshots: [`MeshBuilder`] keeps the accepted objects and builds the next [`Mesh`] from what
//! changed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use ringsail_api::{Kind, Object, ObjectKey, Spec};
use ringsail_xds::json::Schema;

use crate::delegate;
use crate::delta::Delta;
use crate::destination_rule::{DestinationRule, DestinationRuleIndex};
use crate::envoy_filter::EnvoyFilter;
use crate::gateway::{GATEWAY_SERVICE_ANNOTATION, Gateway};
use crate::labels::Labels;
use crate::mesh::{Instance, Mesh};
use crate::registry::endpoints::{self, EndpointIndex};
use crate::registry::services::ServiceIndex;
use crate::service::{Age, ServiceKey};
use crate::settings::MeshSettings;
use crate::sidecar::Sidecar;
use crate::telemetry::Telemetry;
use crate::virtual_service::VirtualService;

/// One change to the set of objects.
#[derive(Clone, Debug)]
pub enum Change {
    /// An object that was accepted, new or replacing the one of the same key.
    Put(Arc<Object>),
    /// An object that is gone.
    Delete(ObjectKey),
}

/// Holds the accepted objects and the newest snapshot.
#[derive(Debug, Default)]
pub struct MeshBuilder {
    objects: BTreeMap<ObjectKey, Arc<Object>>,
    settings: Arc<MeshSettings>,
    mesh: Arc<Mesh>,
}

impl MeshBuilder {
    /// An empty mesh with these settings.
    pub fn new(settings: MeshSettings) -> MeshBuilder {
        let settings = Arc::new(settings);
        let mesh = Arc::new(Mesh { settings: Arc::clone(&settings), ..Mesh::default() });
        MeshBuilder { objects: BTreeMap::new(), settings, mesh }
    }

    /// The newest snapshot.
    pub fn mesh(&self) -> &Arc<Mesh> {
        &self.mesh
    }

    /// The objects the snapshot was built from.
    pub fn objects(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.objects.values()
    }

    /// Replaces the mesh-wide settings and rebuilds.
    pub fn set_settings(&mut self, settings: MeshSettings) -> (Arc<Mesh>, Delta) {
        if settings == *self.settings {
            return (Arc::clone(&self.mesh), Delta::default());
        }
        self.settings = Arc::new(settings);
        self.rebuild(&Touched { settings: true, ..Touched::default() })
    }

    /// Applies changes and builds the next snapshot; what they do not touch is shared with the one before. Without a
    /// visible effect the snapshot stays the same.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Change>) -> (Arc<Mesh>, Delta) {
        let mut touched = Touched::default();
        for change in changes {
            match change {
                Change::Put(object) => {
                    let key = object.key();
                    touched.note(&key);
                    self.objects.insert(key, object);
                }
                Change::Delete(key) => {
                    if self.objects.remove(&key).is_some() {
                        touched.note(&key);
                    }
                }
            }
        }
        self.rebuild(&touched)
    }

    fn rebuild(&mut self, touched: &Touched) -> (Arc<Mesh>, Delta) {
        let old = Arc::clone(&self.mesh);
        let mut next = Mesh { settings: Arc::clone(&self.settings), ..(*old).clone() };
        let mut delta = Delta { settings: touched.settings, ..Delta::default() };
        if touched.namespaces {
            next.namespaces = Arc::new(self.namespace_annotations());
        }
        let services = touched.services || touched.settings || next.namespaces != old.namespaces;
        if services {
            let objects = self.of_kind(Kind::Service).chain(self.of_kind(Kind::ServiceEntry));
            let index = ServiceIndex::build(objects, &next.namespaces, &next.settings, &old.services);
            delta.services = moved(index.by_key(), old.services.by_key());
            if index != *old.services {
                next.services = Arc::new(index);
            }
        }
        if services || touched.nodes || !touched.workload_namespaces.is_empty() {
            let all = services || touched.nodes;
            self.rebuild_endpoints(&mut next, &mut delta, (!all).then_some(&touched.workload_namespaces));
        }
        if touched.virtual_services || touched.settings {
            let (list, keys) = share(self.virtual_services(), &old.virtual_services, VirtualService::key);
            delta.virtual_services = keys;
            if !delta.virtual_services.is_empty() {
                next.virtual_services = Arc::new(list);
            }
        }
        if touched.destination_rules || touched.settings {
            let index = DestinationRuleIndex::build(self.destination_rules(), Some(&old.destination_rules));
            delta.destination_rules = moved_rules(&index, &old.destination_rules);
            if !delta.destination_rules.is_empty() {
                next.destination_rules = Arc::new(index);
            }
        }
        if touched.gateways {
            let (list, keys) = share(self.gateways(), &old.gateways, Gateway::key);
            delta.gateways = keys;
            if !delta.gateways.is_empty() {
                next.gateways = Arc::new(list);
            }
        }
        if touched.sidecars {
            let key = |sidecar: &Sidecar| format!("{}/{}", sidecar.namespace, sidecar.name);
            let (list, keys) = share(self.sidecars(), &old.sidecars, key);
            delta.sidecars = keys;
            if !delta.sidecars.is_empty() {
                next.sidecars = Arc::new(list);
            }
        }
        if touched.telemetries {
            let key = |telemetry: &Telemetry| format!("{}/{}", telemetry.namespace, telemetry.name);
            let (list, keys) = share(self.telemetries(), &old.telemetries, key);
            delta.telemetries = keys;
            if !delta.telemetries.is_empty() {
                next.telemetries = Arc::new(list);
            }
        }
        if touched.envoy_filters {
            let key = |filter: &EnvoyFilter| format!("{}/{}", filter.namespace, filter.name);
            let (list, keys) = share(self.envoy_filters(), &old.envoy_filters, key);
            delta.envoy_filters = keys;
            if !delta.envoy_filters.is_empty() {
                next.envoy_filters = Arc::new(list);
            }
        }
        if delta.is_empty() {
            return (old, delta);
        }
        next.version = old.version + 1;
        self.mesh = Arc::new(next);
        (Arc::clone(&self.mesh), delta)
    }

    fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Object> {
        self.objects.values().map(|object| &**object).filter(move |object| object.kind == kind)
    }

    /// Annotations of Namespaces by name: they carry the default traffic distribution.
    fn namespace_annotations(&self) -> BTreeMap<String, Labels> {
        self.of_kind(Kind::Namespace).map(|o| (o.meta.name.clone(), o.meta.annotations.clone())).collect()
    }

    /// Rebuilds the endpoints of some namespaces, or of all: selectors and slices never cross namespaces.
    fn rebuild_endpoints(&self, next: &mut Mesh, delta: &mut Delta, only: Option<&BTreeSet<String>>) {
        let concerned = |namespace: &str| only.is_none_or(|namespaces| namespaces.contains(namespace));
        let mut by_namespace: BTreeMap<&str, Vec<&Object>> = BTreeMap::new();
        for object in self.objects.values().filter(|object| concerned(&object.meta.namespace)) {
            by_namespace.entry(&object.meta.namespace).or_default().push(object);
        }
        let nodes: BTreeMap<String, Labels> =
            self.of_kind(Kind::Node).map(|o| (o.meta.name.clone(), o.meta.labels.clone())).collect();
        let not_ready_too: BTreeSet<ServiceKey> = self.published_when_not_ready(next);
        let old = Arc::clone(&next.endpoints);
        let mut index = (*old).clone();
        index.retain(|key, _| !concerned(&key.namespace));
        for (namespace, objects) in by_namespace {
            let built = endpoints::build_namespace(namespace, &objects, &next.services, &nodes, &|key| {
                not_ready_too.contains(key)
            });
            for (key, endpoints) in built {
                let shared = match old.get(&key) {
                    Some(same) if **same == endpoints => Arc::clone(same),
                    _ => Arc::new(endpoints),
                };
                index.insert(key, shared);
            }
        }
        delta.endpoints = moved(&index, &old);
        if !delta.endpoints.is_empty() {
            next.instances = Arc::new(instances_by_ip(&index));
            next.endpoints = Arc::new(index);
        }
    }

    fn published_when_not_ready(&self, mesh: &Mesh) -> BTreeSet<ServiceKey> {
        self.of_kind(Kind::Service)
            .filter(|object| match &object.spec {
                Spec::Service(service) => {
                    service.spec.as_ref().is_some_and(|spec| spec.publish_not_ready_addresses)
                }
                _ => false,
            })
            .map(|object| ServiceKey {
                namespace: object.meta.namespace.clone(),
                hostname: crate::host::resolve_short_name(
                    &object.meta.name,
                    &object.meta.namespace,
                    &mesh.settings.cluster_domain,
                ),
            })
            .collect()
    }

    fn virtual_services(&self) -> Vec<VirtualService> {
        let mut list: Vec<VirtualService> = self
            .of_kind(Kind::VirtualService)
            .filter_map(|object| {
                let Spec::VirtualService(spec) = &object.spec else { return None };
                let meta = &object.meta;
                Some(VirtualService::build(&meta.name, &meta.namespace, age(object), spec, &self.settings))
            })
            .collect();
        list.sort_by(|a, b| a.age.cmp(&b.age));
        delegate::resolve(list)
    }

    fn destination_rules(&self) -> Vec<DestinationRule> {
        let mut list: Vec<DestinationRule> = self
            .of_kind(Kind::DestinationRule)
            .filter_map(|object| {
                let Spec::DestinationRule(spec) = &object.spec else { return None };
                let meta = &object.meta;
                Some(DestinationRule::build(&meta.name, &meta.namespace, age(object), spec, &self.settings))
            })
            .collect();
        list.sort_by(|a, b| a.age.cmp(&b.age));
        list
    }

    fn gateways(&self) -> Vec<Gateway> {
        let mut list: Vec<Gateway> = self
            .of_kind(Kind::Gateway)
            .filter_map(|object| {
                let Spec::Gateway(spec) = &object.spec else { return None };
                let bound = object.meta.annotations.get(GATEWAY_SERVICE_ANNOTATION);
                Some(Gateway {
                    name: object.meta.name.clone(),
                    namespace: object.meta.namespace.clone(),
                    age: age(object),
                    bound_services: bound
                        .map(|names| names.split(',').map(|name| name.trim().to_ascii_lowercase()).collect())
                        .unwrap_or_default(),
                    spec: (**spec).clone(),
                })
            })
            .collect();
        list.sort_by(|a, b| a.age.cmp(&b.age));
        list
    }

    fn envoy_filters(&self) -> Vec<EnvoyFilter> {
        let schema = Schema::shared();
        let mut list: Vec<EnvoyFilter> = self
            .of_kind(Kind::EnvoyFilter)
            .filter_map(|object| {
                let Spec::EnvoyFilter(spec) = &object.spec else { return None };
                let meta = &object.meta;
                Some(EnvoyFilter::build(&meta.name, &meta.namespace, age(object), spec, &schema))
            })
            .collect();
        list.sort_by(|a, b| a.age.cmp(&b.age));
        list
    }

    fn telemetries(&self) -> Vec<Telemetry> {
        let mut list: Vec<Telemetry> = self
            .of_kind(Kind::Telemetry)
            .filter_map(|object| {
                let Spec::Telemetry(spec) = &object.spec else { return None };
                Some(Telemetry {
                    name: object.meta.name.clone(),
                    namespace: object.meta.namespace.clone(),
                    age: age(object),
                    spec: (**spec).clone(),
                })
            })
            .collect();
        list.sort_by(|a, b| a.age.cmp(&b.age));
        list
    }

    fn sidecars(&self) -> Vec<Sidecar> {
        let mut list: Vec<Sidecar> = self
            .of_kind(Kind::Sidecar)
            .filter_map(|object| {
                let Spec::Sidecar(spec) = &object.spec else { return None };
                Some(Sidecar {
                    name: object.meta.name.clone(),
                    namespace: object.meta.namespace.clone(),
                    age: age(object),
                    spec: (**spec).clone(),
                })
            })
            .collect();
        list.sort_by(|a, b| a.age.cmp(&b.age));
        list
    }
}

/// Which services have an endpoint at an address.
fn instances_by_ip(index: &EndpointIndex) -> HashMap<IpAddr, Vec<Instance>> {
    let mut instances: HashMap<IpAddr, Vec<Instance>> = HashMap::new();
    for (service, endpoints) in index {
        for (service_port, endpoint) in endpoints.iter() {
            if let Some(ip) = endpoint.address.ip() {
                let instance = Instance { service: service.clone(), service_port, port: endpoint.port };
                instances.entry(ip).or_default().push(instance);
            }
        }
    }
    instances
}

fn age(object: &Object) -> Age {
    Age {
        created_seconds: object.created_unix_seconds(),
        name: object.meta.name.clone(),
        namespace: object.meta.namespace.clone(),
    }
}

/// Which parts a set of changes concerns.
#[derive(Default)]
struct Touched {
    settings: bool,
    namespaces: bool,
    nodes: bool,
    services: bool,
    workload_namespaces: BTreeSet<String>,
    virtual_services: bool,
    destination_rules: bool,
    gateways: bool,
    sidecars: bool,
    telemetries: bool,
    envoy_filters: bool,
}

impl Touched {
    fn note(&mut self, key: &ObjectKey) {
        match key.kind {
            Kind::Service | Kind::ServiceEntry => self.services = true,
            Kind::EndpointSlice | Kind::Endpoints | Kind::Pod | Kind::WorkloadEntry => {
                self.workload_namespaces.insert(key.namespace.clone());
            }
            Kind::Namespace => self.namespaces = true,
            Kind::Node => self.nodes = true,
            Kind::VirtualService => self.virtual_services = true,
            Kind::DestinationRule => self.destination_rules = true,
            Kind::Gateway => self.gateways = true,
            Kind::Sidecar => self.sidecars = true,
            Kind::Telemetry => self.telemetries = true,
            Kind::EnvoyFilter => self.envoy_filters = true,
            // Read elsewhere, or declared so that their names are known; no part of the snapshot comes from them.
            Kind::ConfigMap
            | Kind::Secret
            | Kind::ServiceAccount
            | Kind::Deployment
            | Kind::StatefulSet
            | Kind::DaemonSet
            | Kind::ReplicaSet
            | Kind::WorkloadGroup
            | Kind::ProxyConfig
            | Kind::PeerAuthentication
            | Kind::RequestAuthentication
            | Kind::AuthorizationPolicy
            | Kind::WasmPlugin
            | Kind::TrafficExtension => {}
        }
    }
}

/// Keys whose value is new, gone or another allocation.
fn moved<K: Ord + Clone, V>(next: &BTreeMap<K, Arc<V>>, old: &BTreeMap<K, Arc<V>>) -> BTreeSet<K> {
    let changed = next
        .iter()
        .filter(|(key, value)| !old.get(key).is_some_and(|old| Arc::ptr_eq(old, value)))
        .map(|(key, _)| key.clone());
    let gone = old.keys().filter(|key| !next.contains_key(key)).cloned();
    changed.chain(gone).collect()
}

/// Takes over equal values of the old list and says which keys moved.
fn share<T: PartialEq>(
    next: Vec<T>,
    old: &[Arc<T>],
    key: impl Fn(&T) -> String,
) -> (Vec<Arc<T>>, BTreeSet<String>) {
    let known: BTreeMap<String, &Arc<T>> = old.iter().map(|value| (key(value), value)).collect();
    let next: Vec<Arc<T>> = next
        .into_iter()
        .map(|value| match known.get(&key(&value)) {
            Some(same) if ***same == value => Arc::clone(same),
            _ => Arc::new(value),
        })
        .collect();
    let now: BTreeMap<String, &Arc<T>> = next.iter().map(|value| (key(value), value)).collect();
    let changed =
        now.iter().filter(|(k, v)| !known.get(*k).is_some_and(|old| Arc::ptr_eq(old, v))).map(|(k, _)| k);
    let gone = known.keys().filter(|k| !now.contains_key(*k));
    let keys = changed.chain(gone).cloned().collect();
    (next, keys)
}

fn moved_rules(next: &DestinationRuleIndex, old: &DestinationRuleIndex) -> BTreeSet<String> {
    let key = |rule: &DestinationRule| format!("{}/{}", rule.namespace, rule.hostname);
    let pointers = |index: &DestinationRuleIndex| index.iter().map(Arc::as_ptr).collect::<HashSet<_>>();
    let (in_next, in_old) = (pointers(next), pointers(old));
    let fresh = next.iter().filter(|rule| !in_old.contains(&Arc::as_ptr(rule)));
    let gone = old.iter().filter(|rule| !in_next.contains(&Arc::as_ptr(rule)));
    fresh.chain(gone).map(|rule| key(rule)).collect()
}
