//! Workloads that selectors pick: Pods and WorkloadEntries.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ringsail_api::{Object, Spec, core, networking};

use crate::endpoint::{EndpointAddress, Health, Locality, Workload};
use crate::labels::Labels;

/// Label of Pods with the name of the network they are on.
const NETWORK_LABEL: &str = "topology.istio.io/network";

/// One thing that may be an endpoint of services that select it.
#[derive(Clone, Debug)]
pub(crate) struct Instance {
    pub(crate) address: EndpointAddress,
    pub(crate) health: Health,
    pub(crate) locality: Locality,
    pub(crate) weight: u32,
    pub(crate) workload: Arc<Workload>,
    /// Named ports: container ports of a Pod, or the `ports` map of a WorkloadEntry.
    pub(crate) ports: BTreeMap<String, u32>,
    /// A WorkloadEntry's `ports` are keyed by service port name and win over the target port.
    pub(crate) is_entry: bool,
}

/// Workloads of one namespace.
#[derive(Clone, Debug, Default)]
pub(crate) struct NamespaceWorkloads {
    pub(crate) instances: Vec<Instance>,
    pods_by_name: BTreeMap<String, usize>,
    pods_by_ip: BTreeMap<IpAddr, usize>,
}

impl NamespaceWorkloads {
    /// The Pod of this name, or else with this address.
    pub(crate) fn pod(&self, name: &str, ip: &str) -> Option<&Instance> {
        let index = self.pods_by_name.get(name).or_else(|| self.pods_by_ip.get(&ip.parse().ok()?))?;
        self.instances.get(*index)
    }

    /// Collects the workloads among the objects of one namespace. `nodes` are the labels of Nodes by name.
    pub(crate) fn collect<'a>(
        objects: impl Iterator<Item = &'a Object>,
        nodes: &BTreeMap<String, Labels>,
    ) -> NamespaceWorkloads {
        let mut found = NamespaceWorkloads::default();
        for object in objects {
            match &object.spec {
                Spec::Pod(pod) => {
                    if let Some(instance) = from_pod(object, pod, nodes) {
                        let index = found.instances.len();
                        if let Some(ip) = instance.address.ip() {
                            found.pods_by_ip.insert(ip, index);
                        }
                        found.pods_by_name.insert(object.meta.name.clone(), index);
                        found.instances.push(instance);
                    }
                }
                Spec::WorkloadEntry(entry) if !entry.address.is_empty() => {
                    let mut workload_labels = object.meta.labels.clone();
                    workload_labels.extend(entry.labels.clone());
                    found.instances.push(from_entry(
                        &object.meta.name,
                        &object.meta.namespace,
                        entry,
                        workload_labels,
                    ));
                }
                _ => {}
            }
        }
        found
    }
}

/// A Pod that runs and has an address. A Pod without a `Ready` condition counts as ready.
fn from_pod(object: &Object, pod: &core::Pod, nodes: &BTreeMap<String, Labels>) -> Option<Instance> {
    let meta = &object.meta;
    let status = pod.status.as_ref()?;
    let ip =
        Some(&status.pod_ip).filter(|ip| !ip.is_empty()).or_else(|| Some(&status.pod_i_ps.first()?.ip))?;
    let address = EndpointAddress::Ip(ip.parse().ok()?);
    if meta.deletion_timestamp.is_some() || matches!(status.phase.as_str(), "Succeeded" | "Failed") {
        return None;
    }
    let ready = status
        .conditions
        .iter()
        .find(|condition| condition.r#type == "Ready")
        .is_none_or(|condition| condition.status == "True");
    let spec = pod.spec.clone().unwrap_or_default();
    let mut locality = Locality::from_labels(&meta.labels);
    if locality.is_empty() {
        locality = nodes.get(&spec.node_name).map(Locality::from_labels).unwrap_or_default();
    }
    let ports = spec
        .containers
        .iter()
        .flat_map(|container| &container.ports)
        .filter_map(|port| Some((port.name.clone(), u32::try_from(port.container_port).ok()?)))
        .collect();
    let owner = meta.owner_references.iter().find(|owner| owner.controller).or(meta.owner_references.first());
    Some(Instance {
        address,
        health: if ready { Health::Healthy } else { Health::Unhealthy },
        locality,
        weight: 1,
        workload: Arc::new(Workload {
            name: owner.map_or_else(
                || meta.name.clone(),
                |owner| workload_name(&owner.kind, &owner.name, &meta.labels),
            ),
            namespace: meta.namespace.clone(),
            network: meta.labels.get(NETWORK_LABEL).cloned().unwrap_or_default(),
            labels: meta.labels.clone(),
            service_account: if spec.service_account_name.is_empty() {
                "default".to_owned()
            } else {
                spec.service_account_name.clone()
            },
            node: spec.node_name.clone(),
            cluster: String::new(),
        }),
        ports,
        is_entry: false,
    })
}

/// A ReplicaSet's name is that of its Deployment plus the hash in the Pod's label.
fn workload_name(kind: &str, name: &str, labels: &Labels) -> String {
    let hash = labels.get("pod-template-hash").filter(|_| kind == "ReplicaSet");
    hash.and_then(|hash| name.strip_suffix(hash.as_str())?.strip_suffix('-')).unwrap_or(name).to_owned()
}

/// A WorkloadEntry, or an inline endpoint of a ServiceEntry.
pub(crate) fn from_entry(
    name: &str,
    namespace: &str,
    entry: &networking::WorkloadEntry,
    workload_labels: Labels,
) -> Instance {
    let locality = if entry.locality.is_empty() {
        Locality::from_labels(&workload_labels)
    } else {
        Locality::parse(&entry.locality)
    };
    Instance {
        address: EndpointAddress::parse(&entry.address),
        health: Health::Healthy,
        locality,
        weight: entry.weight.max(1),
        workload: Arc::new(Workload {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            labels: workload_labels,
            service_account: entry.service_account.clone(),
            node: String::new(),
            cluster: String::new(),
            network: entry.network.clone(),
        }),
        ports: entry.ports.clone(),
        is_entry: true,
    }
}
