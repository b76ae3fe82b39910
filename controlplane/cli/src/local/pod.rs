//! What a kubelet and an API server would tell the control plane and the program about a pod.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use ringsail_api::networking::WorkloadEntry;
use serde_json::{Value, json};

use super::address::Addresses;
use super::expand::expand;
use super::workload::{Program, Role, Value as Source, Workload};

/// Port of the explicit HTTP proxy listener of every sidecar.
pub const HTTP_PROXY_PORT: u16 = 15080;

/// The Pod object with its status, as the control plane reads it; or the WorkloadEntry with its sidecar's address, which
/// takes the place of the one that was written.
pub fn object(workload: &Workload, addresses: Addresses) -> Value {
    if let Some(running) = &workload.running {
        return entry(workload, &running.entry, addresses);
    }
    let containers: Vec<Value> =
        workload.programs.iter().map(|program| json!({"name": program.name})).collect();
    let ports: Vec<Value> = workload
        .ports
        .iter()
        .map(|(name, number, protocol)| json!({"name": name, "containerPort": number, "protocol": protocol}))
        .collect();
    // Ports are the pod's; which container declares them does not matter to a Service.
    let mut containers =
        if containers.is_empty() { vec![json!({"name": "istio-proxy"})] } else { containers };
    containers[0]["ports"] = Value::from(ports);
    let address = addresses.mesh.to_string();
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": workload.name,
            "namespace": workload.namespace,
            "labels": workload.labels,
            "annotations": workload.annotations,
        },
        "spec": {"serviceAccountName": workload.service_account, "containers": containers},
        "status": {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    })
}

fn entry(workload: &Workload, written: &WorkloadEntry, addresses: Addresses) -> Value {
    let mut annotations = workload.annotations.clone();
    annotations.insert(ringsail_api::STANDS_IN.to_owned(), "true".to_owned());
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "WorkloadEntry",
        "metadata": {
            "name": workload.name,
            "namespace": workload.namespace,
            "labels": workload.labels,
            "annotations": annotations,
        },
        "spec": {
            "address": addresses.mesh.to_string(),
            "ports": written.ports,
            "network": written.network,
            "locality": written.locality,
            "weight": written.weight,
            "serviceAccount": written.service_account,
        },
    })
}

/// File of a pod's object.
pub fn path(folder: &Path, workload: &Workload) -> PathBuf {
    folder.join(format!("{}.{}.yaml", workload.namespace, workload.name))
}

/// Writes a file so that whoever watches it never sees half of it.
pub fn write_whole(path: &Path, text: &str) -> Result<()> {
    let name = path.file_name().context("a file has a name")?.to_string_lossy();
    // Hidden, so that no folder source takes it for a document.
    let partial = path.with_file_name(format!(".{name}.partial"));
    fs::write(&partial, text).with_context(|| format!("cannot write {}", partial.display()))?;
    fs::rename(&partial, path).with_context(|| format!("cannot write {}", path.display()))
}

/// The environment of one program: what local mode adds, then what its manifest says.
pub fn environment(workload: &Workload, program: &Program, addresses: Addresses) -> Vec<(String, String)> {
    let own = match workload.role {
        Role::Plain => addresses.mesh,
        Role::Sidecar | Role::Gateway => addresses.app,
    };
    let mut environment = vec![("POD_IP".to_owned(), own.to_string())];
    if workload.role == Role::Sidecar {
        let outbound = addresses.outbound;
        environment.push(("OUTBOUND_ADDRESS".to_owned(), outbound.to_string()));
        environment.push(("http_proxy".to_owned(), format!("http://{outbound}:{HTTP_PROXY_PORT}")));
    }
    for (name, source) in &program.environment {
        let value = match source {
            Source::Text(text) => expand(text, &environment),
            Source::Field(path) => field(workload, path, &own.to_string()),
        };
        environment.push((name.clone(), value));
    }
    environment
}

/// A pod field by its path, as the downward API gives it; empty for what does not exist here.
fn field(workload: &Workload, path: &str, address: &str) -> String {
    let entry = |map: &std::collections::BTreeMap<String, String>, rest: &str| {
        let name = rest.strip_prefix("['").and_then(|rest| rest.strip_suffix("']"));
        name.and_then(|name| map.get(name)).cloned().unwrap_or_default()
    };
    match path {
        "status.podIP" | "status.podIPs" | "status.hostIP" => address.to_owned(),
        "metadata.name" => workload.name.clone(),
        "metadata.namespace" => workload.namespace.clone(),
        "metadata.uid" => workload.id(),
        "spec.serviceAccountName" => workload.service_account.clone(),
        "spec.nodeName" => "local".to_owned(),
        _ => match (path.strip_prefix("metadata.labels"), path.strip_prefix("metadata.annotations")) {
            (Some(rest), _) => entry(&workload.labels, rest),
            (None, Some(rest)) => entry(&workload.annotations, rest),
            (None, None) => String::new(),
        },
    }
}
