//! Peers and services, each known by a number once it was met.

use std::cell::{Cell, RefCell};

use std::rc::Rc;
use std::sync::{Arc, Weak};

use hashbrown::HashMap;
use ringsail_tables::cluster::{Cluster, ClusterRef};
use ringsail_tables::endpoint::Endpoint;
use ringsail_tables::istio::Workload;
use ringsail_tables::metadata::{Metadata, Value};

use crate::limits::PEERS_MAX;

/// A workload on the other side.
#[derive(Debug)]
pub struct Peer {
    /// Stands for it in keys; from 1, never given twice.
    pub(super) number: u32,
    /// Who it is.
    pub workload: Workload,
    /// It told us itself, as opposed to the control plane.
    pub(super) told: bool,
}

/// A peer by the bytes it told itself with; `None` for bytes that make no sense.
type Told = HashMap<Box<[u8]>, Option<Rc<Peer>>>;

/// Peers by what they were told with.
#[derive(Default)]
pub(super) struct Peers {
    /// By id and value of the peer headers.
    by_header: RefCell<Told>,
    by_endpoint: RefCell<HashMap<Box<str>, Rc<Peer>>>,
    last: Cell<u32>,
}

impl Peers {
    /// The peer that sent these headers.
    ///
    /// Compat: Envoy knows a peer again by its id alone; here a peer that says something new is a new one.
    pub(super) fn of_headers(&self, id: &[u8], value: &[u8], key: &mut Vec<u8>) -> Option<Rc<Peer>> {
        if value.is_empty() {
            return None;
        }
        key.clear();
        key.extend_from_slice(id);
        key.push(b'\n');
        key.extend_from_slice(value);
        if let Some(known) = self.by_header.borrow().get(key.as_slice()) {
            return known.clone();
        }
        let peer = Workload::from_header(value).map(|workload| self.peer(workload, true));
        let mut all = self.by_header.borrow_mut();
        if all.len() >= PEERS_MAX {
            all.clear();
        }
        all.insert(key.as_slice().into(), peer.clone());
        peer
    }

    /// The peer the control plane says an endpoint is.
    pub(super) fn of_endpoint(&self, endpoint: &Endpoint) -> Option<Rc<Peer>> {
        let text = endpoint.metadata.as_deref()?.string("istio", "workload")?;
        if let Some(known) = self.by_endpoint.borrow().get(text) {
            return Some(known.clone());
        }
        let peer = self.peer(Workload::from_endpoint(text)?, false);
        let mut all = self.by_endpoint.borrow_mut();
        if all.len() >= PEERS_MAX {
            all.clear();
        }
        all.insert(text.into(), peer.clone());
        Some(peer)
    }

    fn peer(&self, workload: Workload, told: bool) -> Rc<Peer> {
        let number = self.last.get().wrapping_add(1).max(1);
        self.last.set(number);
        Rc::new(Peer { number, workload, told })
    }
}

/// What a cluster's metadata says.
#[derive(Debug)]
pub struct Service {
    pub(super) number: u32,
    /// `services[0]`: host, name, namespace.
    pub(super) named: Option<[Box<str>; 3]>,
    /// The cluster's name where that stands for the service.
    pub(super) catch_all: Option<Box<str>>,
    /// It does not want to know who calls (`disable_mx`).
    pub(crate) without_peers: bool,
    /// It is outside the mesh.
    pub(crate) external: bool,
}

/// A cluster's service; the cluster tells whether the slot is another's meanwhile.
type Slot = Option<(Weak<Cluster>, Rc<Service>)>;

/// Services by the slot of their cluster.
#[derive(Default)]
pub(super) struct Services {
    slots: RefCell<Vec<Slot>>,
    last: Cell<u32>,
}

impl Services {
    pub(super) fn of(&self, cluster: &ClusterRef<'_>) -> Rc<Service> {
        let mut slots = self.slots.borrow_mut();
        let index = cluster.id.slot as usize;
        if slots.len() <= index {
            slots.resize_with(index + 1, || None);
        }
        match &slots[index] {
            // The weak handle keeps the address from standing for another version.
            Some((known, service)) if std::ptr::eq(known.as_ptr(), Arc::as_ptr(cluster.cluster)) => {
                service.clone()
            }
            _ => {
                let number = self.last.get().wrapping_add(1).max(1);
                self.last.set(number);
                let service = Rc::new(Service::new(number, cluster.cluster));
                slots[index] = Some((Arc::downgrade(cluster.cluster), service.clone()));
                service
            }
        }
    }

    /// Forgets clusters that are gone.
    pub(super) fn sweep(&self) {
        for slot in self.slots.borrow_mut().iter_mut() {
            if slot.as_ref().is_some_and(|(cluster, _)| cluster.strong_count() == 0) {
                *slot = None;
            }
        }
    }
}

/// Clusters that are known by their own name. Source: telemetry contract §1.2.
const CATCH_ALL: [&str; 5] = [
    "BlackHoleCluster",
    "PassthroughCluster",
    "InboundPassthroughCluster",
    "InboundPassthroughClusterIpv4",
    "InboundPassthroughClusterIpv6",
];

impl Service {
    fn new(number: u32, cluster: &Cluster) -> Service {
        let metadata = cluster.metadata.as_deref();
        let flag = |key: &str| match metadata.and_then(|all| istio(all, key)) {
            Some(Value::Bool(flag)) => *flag,
            Some(Value::String(text)) => text == "true",
            _ => false,
        };
        Service {
            number,
            named: metadata.and_then(service),
            catch_all: CATCH_ALL.contains(&&*cluster.name).then(|| (&*cluster.name).into()),
            without_peers: flag("disable_mx"),
            external: flag("external") || cluster.name == "PassthroughCluster",
        }
    }
}

fn istio<'a>(metadata: &'a Metadata, key: &str) -> Option<&'a Value> {
    metadata.namespaces().find(|(name, _)| *name == "istio")?.1.field(key)
}

/// The first of `istio.services`. Compat: without a name, the host up to its first dot.
fn service(metadata: &Metadata) -> Option<[Box<str>; 3]> {
    let Some(Value::List(services)) = istio(metadata, "services") else { return None };
    let first = services.first()?;
    let text = |key: &str| match first.field(key) {
        Some(Value::String(text)) => Some(&**text),
        _ => None,
    };
    let host = text("host").unwrap_or_default();
    let name = text("name").unwrap_or_else(|| host.split('.').next().unwrap_or_default());
    Some([host.into(), name.into(), text("namespace").unwrap_or_default().into()])
}

impl super::Telemetry {
    /// What a cluster's metadata says of its service.
    pub fn service(&self, cluster: &ClusterRef<'_>) -> Rc<Service> {
        self.services.of(cluster)
    }

    /// The peer the control plane says an endpoint is.
    pub fn endpoint(&self, endpoint: &Endpoint) -> Option<Rc<Peer>> {
        self.peers.of_endpoint(endpoint)
    }
}
