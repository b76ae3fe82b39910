//! What one proxy may see of the mesh: services by `exportTo` and Sidecar imports, VirtualServices in lookup order.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ringsail_api::networking::outbound_traffic_policy::Mode;
use ringsail_api::networking::{Destination, IstioEgressListener};

use crate::host;
use crate::labels::Labels;
use crate::mesh::Mesh;
use crate::proxy::{Proxy, ProxyType};
use crate::registry::services::preference;
use crate::service::Service;
use crate::settings::OutboundMode;
use crate::sidecar::{self, Imports, Sidecar};
use crate::virtual_service::{MESH_GATEWAY, VirtualService};

/// One egress listener of a Sidecar, or the single implied one that imports everything.
#[derive(Clone, Debug)]
pub struct Egress {
    /// The declaration; `None` when no Sidecar applies or it has no egress section.
    pub declared: Option<IstioEgressListener>,
    /// Imported services, oldest first, one per host name.
    pub services: Vec<Arc<Service>>,
    /// Imported VirtualServices that apply to sidecars, in lookup order.
    pub virtual_services: Vec<Arc<VirtualService>>,
    /// The first of them for each host pattern.
    by_pattern: HashMap<String, usize>,
}

impl Egress {
    fn new(
        declared: Option<IstioEgressListener>,
        services: Vec<Arc<Service>>,
        virtual_services: Vec<Arc<VirtualService>>,
    ) -> Egress {
        let mut by_pattern = HashMap::new();
        for (index, vs) in virtual_services.iter().enumerate() {
            for pattern in &vs.spec.hosts {
                by_pattern.entry(pattern.clone()).or_insert(index);
            }
        }
        Egress { declared, services, virtual_services, by_pattern }
    }

    /// The VirtualService that serves `hostname`: the first with the exact name, else the first with the longest wildcard
    /// that covers it.
    pub fn virtual_service(&self, hostname: &str) -> Option<&Arc<VirtualService>> {
        let index = host::most_specific(hostname, |pattern| self.by_pattern.get(pattern).copied())?;
        self.virtual_services.get(index)
    }

    /// The port the listener is limited to.
    pub fn port(&self) -> Option<u32> {
        self.declared.as_ref()?.port.as_ref().map(|port| port.number)
    }
}

/// The part of a snapshot that one proxy may see.
#[derive(Clone, Debug)]
pub struct View {
    /// The Sidecar that applies.
    pub sidecar: Option<Arc<Sidecar>>,
    /// Egress listeners in order; exactly one without a port when nothing is declared. Empty for routers.
    pub egress: Vec<Egress>,
    /// All services the proxy has clusters for, oldest first, one per host name.
    pub services: Vec<Arc<Service>>,
    /// Where traffic to unknown destinations goes.
    pub outbound: OutboundMode,
    /// Where `ALLOW_ANY` sends it instead of the dialled address.
    pub egress_proxy: Option<Destination>,
    by_host: HashMap<String, usize>,
}

impl View {
    /// Works out what `proxy` sees of `mesh`.
    pub fn of(mesh: &Mesh, proxy: &Proxy) -> View {
        let sidecar = match proxy.kind {
            ProxyType::Router => None,
            ProxyType::Sidecar => sidecar::pick(
                mesh.sidecars(),
                &proxy.namespace,
                &proxy.labels,
                &mesh.settings().root_namespace,
            )
            .cloned(),
        };
        let visible = visible_services(mesh, &proxy.namespace);
        let egress = match (&sidecar, proxy.kind) {
            (_, ProxyType::Router) => Vec::new(),
            (Some(sidecar), _) if !sidecar.spec.egress.is_empty() => {
                let declared = sidecar.spec.egress.iter();
                declared.map(|listener| import(mesh, &proxy.namespace, listener, &visible)).collect()
            }
            _ => vec![Egress::new(
                None,
                one_per_host(&visible, &proxy.namespace),
                virtual_services_for(mesh, &proxy.namespace, MESH_GATEWAY),
            )],
        };
        let services = match proxy.kind {
            ProxyType::Router => one_per_host(&visible, &proxy.namespace),
            ProxyType::Sidecar => with_destinations(&egress, &visible, &proxy.namespace),
        };
        let by_host = services.iter().enumerate().map(|(i, s)| (s.hostname().to_owned(), i)).collect();
        let (outbound, egress_proxy) = outbound_policy(mesh, sidecar.as_deref());
        View { sidecar, egress, services, outbound, egress_proxy, by_host }
    }

    /// The service of this exact host name.
    pub fn service(&self, hostname: &str) -> Option<&Arc<Service>> {
        self.by_host.get(hostname).map(|index| &self.services[*index])
    }
}

/// VirtualServices that `namespace` may use for `gateway` (`mesh` or `namespace/name`), in lookup order: private to
/// the namespace, exported to it by name, public; each oldest first.
pub fn virtual_services_for(mesh: &Mesh, namespace: &str, gateway: &str) -> Vec<Arc<VirtualService>> {
    let mut list: Vec<Arc<VirtualService>> = mesh
        .virtual_services()
        .iter()
        .filter(|vs| vs.visibility.includes(namespace) && vs.applies_to_gateway(gateway))
        .cloned()
        .collect();
    let rank = |vs: &VirtualService| {
        if vs.visibility == crate::visibility::Visibility::Public {
            2
        } else if vs.namespace == namespace && vs.visibility.is_private_to(namespace) {
            0
        } else {
            1
        }
    };
    list.sort_by_key(|vs| rank(vs));
    list
}

fn visible_services(mesh: &Mesh, namespace: &str) -> Vec<Arc<Service>> {
    mesh.services()
        .by_age()
        .iter()
        .filter(|service| service.visibility.includes(namespace))
        .cloned()
        .collect()
}

/// Of several services of one host name keeps the one that a client in `namespace` prefers. Order stays.
fn one_per_host(services: &[Arc<Service>], namespace: &str) -> Vec<Arc<Service>> {
    let mut best: HashMap<&str, &Arc<Service>> = HashMap::with_capacity(services.len());
    for service in services {
        let entry = best.entry(service.hostname()).or_insert(service);
        if preference(service, namespace) < preference(entry, namespace) {
            *entry = service;
        }
    }
    services.iter().filter(|s| Arc::ptr_eq(best[s.hostname()], s)).cloned().collect()
}

fn import(mesh: &Mesh, namespace: &str, declared: &IstioEgressListener, visible: &[Arc<Service>]) -> Egress {
    let imports = Imports::parse(&declared.hosts, namespace);
    let port = declared.port.as_ref().filter(|port| {
        port.number != 0
            && crate::protocol::Protocol::parse(&port.protocol) != crate::protocol::Protocol::HttpProxy
    });
    let imported: Vec<Arc<Service>> = visible
        .iter()
        .filter(|service| imports.includes_service(&service.key))
        .filter(|service| port.is_none_or(|port| service.port(port.number).is_some()))
        .cloned()
        .collect();
    let virtual_services: Vec<Arc<VirtualService>> = virtual_services_for(mesh, namespace, MESH_GATEWAY)
        .into_iter()
        .filter(|vs| imports.includes_hosts(&vs.namespace, &vs.spec.hosts))
        .collect();
    Egress::new(Some(declared.clone()), one_per_host(&imported, namespace), virtual_services)
}

/// All imported services and those that imported VirtualServices route to: the latter get clusters, no listeners.
fn with_destinations(egress: &[Egress], visible: &[Arc<Service>], namespace: &str) -> Vec<Arc<Service>> {
    let mut wanted: HashSet<*const Service> = HashSet::new();
    let mut hosts: HashSet<&str> = HashSet::new();
    for listener in egress {
        wanted.extend(listener.services.iter().map(Arc::as_ptr));
        hosts.extend(
            listener.virtual_services.iter().flat_map(|vs| vs.destinations()).map(|d| d.host.as_str()),
        );
    }
    let imported: HashSet<&str> = egress.iter().flat_map(|e| &e.services).map(|s| s.hostname()).collect();
    let list: Vec<Arc<Service>> = visible
        .iter()
        .filter(|service| {
            let name = service.hostname();
            wanted.contains(&Arc::as_ptr(service)) || (hosts.contains(name) && !imported.contains(name))
        })
        .cloned()
        .collect();
    one_per_host(&list, namespace)
}

fn outbound_policy(mesh: &Mesh, sidecar: Option<&Sidecar>) -> (OutboundMode, Option<Destination>) {
    match sidecar.and_then(|sidecar| sidecar.spec.outbound_traffic_policy.as_ref()) {
        None => (mesh.settings().outbound_mode(), None),
        Some(policy) => match policy.mode() {
            // The proto default, so an empty policy means REGISTRY_ONLY.
            Mode::RegistryOnly => (OutboundMode::RegistryOnly, None),
            Mode::AllowAny => (OutboundMode::AllowAny, policy.egress_proxy.clone()),
        },
    }
}

/// Whether a rule limited by source labels and namespace concerns this proxy.
pub fn source_matches(proxy: &Proxy, labels: &Labels, namespace: &str) -> bool {
    (namespace.is_empty() || namespace == proxy.namespace) && crate::labels::selects(labels, &proxy.labels)
}
