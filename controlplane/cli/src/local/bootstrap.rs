//! The bootstrap of one proxy, in Envoy's form: `ringsail-proxy` and a stock Envoy read the same file.

use std::collections::BTreeMap;
use std::path::Path;

use ringsail_api::ProxyConfig;
use serde_json::{Value, json};

use super::address::Addresses;
use super::pod::HTTP_PROXY_PORT;
use super::workload::{Role, Workload};

/// Port of every proxy's admin endpoint, at its mesh address.
pub const ADMIN_PORT: u16 = 15000;

/// The Istio version whose dialect of node metadata is spoken.
const ISTIO_VERSION: &str = "1.30.0";

/// Node identity and metadata as Istio's agent sends them, and where to get everything else.
pub fn bootstrap(workload: &Workload, addresses: Addresses, xds_socket: &Path) -> Value {
    json!({
        "node": node(workload, addresses),
        "admin": {"address": {"socket_address": {"address": addresses.mesh.to_string(), "port_value": ADMIN_PORT}}},
        "dynamic_resources": {
            // Wait for ever: a proxy without configuration has nothing else to do.
            "lds_config": {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"},
            "cds_config": {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"},
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
            },
        },
        "static_resources": {"clusters": [xds_cluster(xds_socket)]},
    })
}

fn node(workload: &Workload, addresses: Addresses) -> Value {
    let Workload { name, namespace, owner: (kind, owner), .. } = workload;
    let kind_of_node = if workload.role == Role::Gateway { "router" } else { "sidecar" };
    let domain = format!("{namespace}.svc.cluster.local");
    let app = workload.labels.get("app").unwrap_or(owner);
    let ports: Vec<Value> = workload
        .ports
        .iter()
        .map(|(name, number, protocol)| json!({"name": name, "containerPort": number, "protocol": protocol}))
        .collect();
    let containers: Vec<&str> = workload.programs.iter().map(|program| program.name.as_str()).collect();
    json!({
        "id": format!("{kind_of_node}~{}~{name}.{namespace}~{domain}", addresses.mesh),
        "cluster": format!("{app}.{namespace}"),
        "metadata": {
            "ANNOTATIONS": workload.annotations,
            "APP_CONTAINERS": containers.join(","),
            "CLUSTER_ID": "Kubernetes",
            "HTTP_PROXY_PORT": HTTP_PROXY_PORT.to_string(),
            "INSTANCE_IPS": addresses.mesh.to_string(),
            "INTERCEPTION_MODE": "NONE",
            "ISTIO_VERSION": ISTIO_VERSION,
            "LABELS": labels(workload),
            "MESH_ID": "cluster.local",
            "NAME": name,
            "NAMESPACE": namespace,
            "OWNER": match *kind {
                "WorkloadEntry" => {
                    format!("kubernetes://apis/networking.istio.io/v1/namespaces/{namespace}/workloadentries/{owner}")
                }
                kind => format!("kubernetes://apis/apps/v1/namespaces/{namespace}/{}s/{owner}", kind.to_lowercase()),
            },
            "POD_PORTS": Value::from(ports).to_string(),
            // Over MeshConfig's default, which the control plane knows.
            "PROXY_CONFIG": workload.settings.as_ref().map_or_else(|| json!({}), ProxyConfig::to_json),
            // Ours: where the program listens, and where the sidecar's outbound listeners are bound.
            "RINGSAIL_APP_ADDRESS": addresses.app.to_string(),
            "RINGSAIL_OUTBOUND_ADDRESS": addresses.outbound.to_string(),
            "SERVICE_ACCOUNT": workload.service_account,
            "WORKLOAD_NAME": owner,
        },
    })
}

/// The labels with the canonical service and revision, which Istio's injection works out. Source: Istio, "Canonical
/// Service".
fn labels(workload: &Workload) -> BTreeMap<String, String> {
    let mut labels = workload.labels.clone();
    let (_, owner) = &workload.owner;
    let either = |labels: &BTreeMap<String, String>, names: [&str; 2], otherwise: &str| {
        let found = names.iter().find_map(|name| labels.get(*name));
        found.map_or(otherwise, String::as_str).to_owned()
    };
    let name = either(&labels, ["app.kubernetes.io/name", "app"], owner);
    let revision = either(&labels, ["app.kubernetes.io/version", "version"], "latest");
    labels.entry("service.istio.io/canonical-name".to_owned()).or_insert(name);
    labels.entry("service.istio.io/canonical-revision".to_owned()).or_insert(revision);
    labels
}

fn xds_cluster(socket: &Path) -> Value {
    const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    json!({
        "name": "xds-grpc",
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            OPTIONS: {
                "@type": format!("type.googleapis.com/{OPTIONS}"),
                "explicit_http_config": {"http2_protocol_options": {}},
            },
        },
        "load_assignment": {
            "cluster_name": "xds-grpc",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": socket.to_string_lossy()}}}}]}],
        },
    })
}
