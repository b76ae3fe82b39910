//! Which pods a folder's objects declare, and what runs in them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ringsail_api::core::{Container, PodSpec};
use ringsail_api::networking::WorkloadEntry;
use ringsail_api::{MeshConfig, Object, ObjectMeta, ProxyConfig, Spec, find_mesh_config, read_mesh_config};
use ringsail_model::proxy_config;

/// Label and annotation names of Istio's injection.
const INJECT: &str = "sidecar.istio.io/inject";
const TEMPLATES: &str = "inject.istio.io/templates";

/// The container that injection adds, or that a gateway's manifest already names.
const PROXY_CONTAINER: &str = "istio-proxy";

/// What stands in front of a pod's programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A sidecar.
    Sidecar,
    /// Nothing but a proxy: a gateway.
    Gateway,
    /// No proxy: injection is switched off.
    Plain,
}

/// One pod to run.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// Pod name, unique in its namespace: the controller's name and an ordinal.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Kind and name of what declares it, e.g. `Deployment`, `reviews-v1`.
    pub owner: (&'static str, String),
    /// The pod's labels.
    pub labels: BTreeMap<String, String>,
    /// The pod's annotations.
    pub annotations: BTreeMap<String, String>,
    /// Its service account.
    pub service_account: String,
    /// What stands in front of it.
    pub role: Role,
    /// The programs to start.
    pub programs: Vec<Program>,
    /// Declared ports: name, number, protocol.
    pub ports: Vec<(String, u16, String)>,
    /// A program that runs already: nothing is started but its sidecar.
    pub running: Option<Running>,
    /// What ProxyConfig objects and the annotation say of its proxy.
    pub settings: Option<ProxyConfig>,
}

/// A program that somebody else runs on this machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Running {
    /// Where it listens.
    pub address: Ipv4Addr,
    /// What declares it.
    pub entry: WorkloadEntry,
}

/// One container's program.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    /// The container's name.
    pub name: String,
    /// `command` and `args`, not expanded.
    pub command: Vec<String>,
    /// `env`, not expanded, in order.
    pub environment: Vec<(String, Value)>,
    /// `workingDir`; empty for the folder itself.
    pub directory: String,
}

/// Where an environment variable's value comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Written in the manifest.
    Text(String),
    /// A field of the pod, such as `status.podIP`.
    Field(String),
}

impl Workload {
    /// Name that is unique in the mesh.
    pub fn id(&self) -> String {
        format!("{}.{}", self.name, self.namespace)
    }
}

/// What the objects declare, and what they declare that cannot be run here.
pub fn declared(objects: &[Object]) -> (Vec<Workload>, Vec<String>) {
    let mut workloads = Vec::new();
    let mut complaints = Vec::new();
    for object in objects {
        if let Spec::WorkloadEntry(entry) = &object.spec {
            workloads.extend(running(object, entry));
            continue;
        }
        let Some((kind, count, meta, spec)) = pod_template(object) else { continue };
        let owner = &object.meta.name;
        let namespace = namespace_of(object);
        let role = role(meta);
        match programs(spec, role) {
            Ok(programs) => {
                for ordinal in 0..count {
                    let name = if kind == "Pod" { owner.clone() } else { format!("{owner}-{ordinal}") };
                    workloads.push(workload(
                        name,
                        namespace,
                        (kind, owner),
                        meta,
                        spec,
                        role,
                        programs.clone(),
                    ));
                }
            }
            Err(reason) => {
                complaints.push(format!("{}: {kind} {namespace}/{owner}: {reason}", object.origin))
            }
        }
    }
    let config = mesh_config(objects);
    for Workload { namespace, labels, annotations, settings, .. } in &mut workloads {
        *settings = proxy_config::of_workload(&config, objects.iter(), namespace, labels, annotations);
    }
    let mut names = BTreeSet::new();
    workloads.retain(|workload| {
        let new = names.insert(workload.id());
        if !new {
            let (kind, owner) = &workload.owner;
            complaints.push(format!(
                "{kind} {owner}: another workload is called {}, too; it is left out",
                workload.id()
            ));
        }
        new
    });
    (workloads, complaints)
}

/// The mesh's configuration; a wrong one, which the control plane reports, is the default one here.
pub fn mesh_config(objects: &[Object]) -> MeshConfig {
    find_mesh_config(objects.iter()).and_then(|object| read_mesh_config(object).ok()).unwrap_or_default()
}

/// The sidecar of a WorkloadEntry, when it stands for a program on this machine: its address is a loopback one, and
/// injection is not switched off. Any other is called at its address and is none of our business.
fn running(object: &Object, entry: &WorkloadEntry) -> Option<Workload> {
    let address = entry.address.parse::<Ipv4Addr>().ok().filter(Ipv4Addr::is_loopback)?;
    let mut labels = object.meta.labels.clone();
    labels.extend(entry.labels.clone());
    let meta = ObjectMeta { labels, ..object.meta.clone() };
    if role(&meta) != Role::Sidecar {
        return None;
    }
    let port = |(name, number): (&String, &u32)| {
        Some((name.clone(), u16::try_from(*number).ok()?, "TCP".to_owned()))
    };
    Some(Workload {
        name: meta.name.clone(),
        namespace: namespace_of(object).to_owned(),
        owner: ("WorkloadEntry", meta.name),
        labels: meta.labels,
        annotations: meta.annotations,
        service_account: or_default(&entry.service_account),
        role: Role::Sidecar,
        programs: Vec::new(),
        ports: entry.ports.iter().filter_map(port).collect(),
        running: Some(Running { address, entry: entry.clone() }),
        settings: None,
    })
}

fn namespace_of(object: &Object) -> &str {
    if object.meta.namespace.is_empty() { "default" } else { &object.meta.namespace }
}

fn or_default(name: &str) -> String {
    if name.is_empty() { "default".to_owned() } else { name.to_owned() }
}

/// Kind, number of replicas, pod metadata and pod spec of an object that declares pods.
fn pod_template(object: &Object) -> Option<(&'static str, i32, &ObjectMeta, &PodSpec)> {
    let (kind, count, template) = match &object.spec {
        Spec::Pod(pod) => return Some(("Pod", 1, &object.meta, pod.spec.as_ref()?)),
        Spec::Deployment(deployment) => {
            let spec = deployment.spec.as_ref()?;
            ("Deployment", spec.replicas.unwrap_or(1), spec.template.as_ref()?)
        }
        Spec::StatefulSet(set) => {
            let spec = set.spec.as_ref()?;
            ("StatefulSet", spec.replicas.unwrap_or(1), spec.template.as_ref()?)
        }
        Spec::DaemonSet(set) => ("DaemonSet", 1, set.spec.as_ref()?.template.as_ref()?),
        _ => return None,
    };
    Some((kind, count, template.metadata.as_ref()?, template.spec.as_ref()?))
}

fn role(meta: &ObjectMeta) -> Role {
    let is_gateway = meta
        .annotations
        .get(TEMPLATES)
        .is_some_and(|list| list.split(',').any(|item| item.trim() == "gateway"));
    let inject = meta.labels.get(INJECT).or_else(|| meta.annotations.get(INJECT));
    match (is_gateway, inject.map(String::as_str)) {
        (true, _) => Role::Gateway,
        (false, Some("false")) => Role::Plain,
        (false, _) => Role::Sidecar,
    }
}

/// The programs of a pod's containers. Without a `command` there is only an image, and images are not run here.
fn programs(spec: &PodSpec, role: Role) -> Result<Vec<Program>, String> {
    let own = spec.containers.iter().filter(|container| container.name != PROXY_CONTAINER);
    let programs: Vec<Program> = own.map(program).collect::<Result<_, _>>()?;
    if programs.is_empty() && role != Role::Gateway {
        return Err("no container to run".to_owned());
    }
    Ok(programs)
}

fn program(container: &Container) -> Result<Program, String> {
    if container.command.is_empty() {
        return Err(format!(
            "container `{}` has no `command`, so it is not started: `ringsail local` runs programs, not images; add a \
             `command`, or declare the program you run yourself with a WorkloadEntry",
            container.name
        ));
    }
    let environment = container.env.iter().map(|variable| {
        let field = variable.value_from.as_ref().and_then(|source| source.field_ref.as_ref());
        let value = match field {
            Some(field) => Value::Field(field.field_path.clone()),
            None => Value::Text(variable.value.clone()),
        };
        (variable.name.clone(), value)
    });
    Ok(Program {
        name: container.name.clone(),
        command: container.command.iter().chain(&container.args).cloned().collect(),
        environment: environment.collect(),
        directory: container.working_dir.clone(),
    })
}

fn workload(
    name: String,
    namespace: &str,
    (kind, owner): (&'static str, &str),
    meta: &ObjectMeta,
    spec: &PodSpec,
    role: Role,
    programs: Vec<Program>,
) -> Workload {
    let port = |port: &ringsail_api::core::ContainerPort| {
        let protocol = if port.protocol.is_empty() { "TCP" } else { &port.protocol };
        Some((port.name.clone(), u16::try_from(port.container_port).ok()?, protocol.to_owned()))
    };
    Workload {
        name,
        namespace: namespace.to_owned(),
        owner: (kind, owner.to_owned()),
        labels: meta.labels.clone(),
        annotations: meta.annotations.clone(),
        service_account: or_default(&spec.service_account_name),
        role,
        programs,
        ports: spec.containers.iter().flat_map(|container| &container.ports).filter_map(port).collect(),
        running: None,
        settings: None,
    }
}
