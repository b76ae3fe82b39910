//! A proxy as it introduces itself.

use std::collections::BTreeMap;
use std::net::IpAddr;

use prost_types::{Struct, Value, value::Kind};
use ringsail_api::{ProxyConfig, decode_proxy_config};
use ringsail_xds::envoy::config::core::v3::Node;

use crate::endpoint::Locality;
use crate::labels::Labels;

/// What a proxy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProxyType {
    /// Beside a workload.
    Sidecar,
    /// A gateway.
    Router,
}

/// How traffic reaches a sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InterceptionMode {
    /// iptables REDIRECT.
    Redirect,
    /// iptables TPROXY: the source address is kept.
    Tproxy,
    /// Not at all: the workload dials the sidecar's own listeners.
    None,
}

/// A proxy, parsed from the node of its first xDS request. Everything of it that a translation may depend on is here.
#[derive(Clone, Debug, PartialEq)]
pub struct Proxy {
    /// `node.id`, four parts joined by `~`.
    pub id: String,
    /// Type.
    pub kind: ProxyType,
    /// Addresses; never empty. The first is the workload's own.
    pub ips: Vec<IpAddr>,
    /// Namespace whose configuration applies.
    pub namespace: String,
    /// Labels of the workload.
    pub labels: Labels,
    /// DNS search domain, `<namespace>.svc.<cluster domain>`.
    pub dns_domain: String,
    /// How traffic reaches it.
    pub interception: InterceptionMode,
    /// Port of an explicit HTTP proxy listener.
    pub http_proxy_port: Option<u32>,
    /// Local meshes without capture: the address at which the application listens. An extension of ours, metadata
    /// `RINGSAIL_APP_ADDRESS`.
    pub app_address: Option<IpAddr>,
    /// Local meshes without capture: the address at which the sidecar binds its outbound listeners. It is not the
    /// application's, which may listen on the very port of a service it calls. An extension of ours, metadata
    /// `RINGSAIL_OUTBOUND_ADDRESS`.
    pub outbound_address: Option<IpAddr>,
    /// Where it runs.
    pub locality: Locality,
    /// Cluster it runs in; empty for the only one.
    pub cluster: String,
    /// Network it is on; empty for the default one.
    pub network: String,
    /// Kubernetes node.
    pub node_name: String,
    /// Service account.
    pub service_account: String,
    /// What spans and collectors call it: `node.cluster`.
    pub service_cluster: String,
    /// Mesh it belongs to.
    pub mesh_id: String,
    /// Name of the Deployment or the like.
    pub workload_name: String,
    /// Annotations of the workload.
    pub annotations: Labels,
    /// Settings it was started with (`PROXY_CONFIG`), which go over those of MeshConfig.
    pub config: Option<ProxyConfig>,
    /// The metadata that are single values, as text.
    pub metadata: Labels,
    /// It answers DNS itself and uses made-up addresses of ServiceEntries.
    pub dns_auto_allocate: bool,
    /// It may not bind ports below 1024.
    pub unprivileged: bool,
    /// HTTP/1.0 requests are served (`HTTP10: "1"`).
    pub http10: bool,
    /// It knows Istio's own filters (`istio.stats`, `istio.metadata_exchange`), as Istio's build of Envoy and
    /// `ringsail-proxy` do and a stock Envoy does not.
    pub istio_filters: bool,
    /// Idle timeout of connections, as written in metadata `IDLE_TIMEOUT` (`30s`).
    pub idle_timeout_seconds: Option<u64>,
}

/// Why a node cannot be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeError {
    /// The id does not have four parts.
    MalformedId(String),
    /// The first part of the id is not a type that is served.
    UnknownType(String),
    /// Neither the metadata nor the id has a valid IP address.
    NoAddress,
}

impl std::fmt::Display for NodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NodeError::MalformedId(id) => {
                write!(f, "node id {id:?} is not TYPE~IP~POD.NAMESPACE~DOMAIN")
            }
            NodeError::UnknownType(name) => {
                write!(f, "node type {name:?} is not served; use sidecar or router")
            }
            NodeError::NoAddress => f.write_str("neither INSTANCE_IPS nor the node id holds an IP address"),
        }
    }
}

impl std::error::Error for NodeError {}

/// Envoy lists the filters it was built with; ringsail says its name.
fn knows_istio_filters(node: &Node) -> bool {
    node.user_agent_name == "ringsail"
        || node.extensions.iter().any(|extension| {
            ["istio.stats", "envoy.filters.http.istio_stats"].contains(&extension.name.as_str())
        })
}

impl Proxy {
    /// Reads a node. Source: xDS contract of istiod: id `type~ip~pod.namespace~domain`, metadata keys of pilot-agent.
    pub fn from_node(node: &Node) -> Result<Proxy, NodeError> {
        let parts: Vec<&str> = node.id.split('~').collect();
        let [kind, id_ip, workload, dns_domain] = parts[..] else {
            return Err(NodeError::MalformedId(node.id.clone()));
        };
        let kind = match kind {
            "sidecar" => ProxyType::Sidecar,
            "router" => ProxyType::Router,
            other => return Err(NodeError::UnknownType(other.to_owned())),
        };
        let metadata = Metadata(node.metadata.as_ref());
        let mut ips: Vec<IpAddr> =
            metadata.list("INSTANCE_IPS").iter().filter_map(|text| text.trim().parse().ok()).collect();
        if ips.is_empty() {
            ips.extend(id_ip.parse::<IpAddr>().ok());
        }
        if ips.is_empty() {
            return Err(NodeError::NoAddress);
        }
        let namespace = metadata
            .text("NAMESPACE")
            .filter(|namespace| !namespace.is_empty())
            .or_else(|| workload.rsplit_once('.').map(|(_, namespace)| namespace.to_owned()))
            .unwrap_or_default();
        let mut labels = metadata.labels("STATIC_LABELS");
        labels.extend(metadata.labels("LABELS"));
        let declared = node.locality.clone().unwrap_or_default();
        let locality = Locality { region: declared.region, zone: declared.zone, subzone: declared.sub_zone };
        let locality = if locality.is_empty() { Locality::from_labels(&labels) } else { locality };
        Ok(Proxy {
            id: node.id.clone(),
            kind,
            ips,
            namespace,
            labels,
            dns_domain: dns_domain.to_owned(),
            interception: match metadata.text("INTERCEPTION_MODE").as_deref() {
                Some("NONE") => InterceptionMode::None,
                Some("TPROXY") => InterceptionMode::Tproxy,
                _ => InterceptionMode::Redirect,
            },
            http_proxy_port: metadata
                .text("HTTP_PROXY_PORT")
                .and_then(|text| text.parse().ok())
                .filter(|p| *p != 0),
            app_address: metadata.text("RINGSAIL_APP_ADDRESS").and_then(|text| text.parse().ok()),
            outbound_address: metadata.text("RINGSAIL_OUTBOUND_ADDRESS").and_then(|text| text.parse().ok()),
            locality,
            cluster: metadata.text("CLUSTER_ID").unwrap_or_default(),
            network: metadata.text("NETWORK").unwrap_or_default(),
            node_name: metadata.text("NODE_NAME").unwrap_or_default(),
            service_account: metadata.text("SERVICE_ACCOUNT").unwrap_or_default(),
            service_cluster: node.cluster.clone(),
            mesh_id: metadata.text("MESH_ID").unwrap_or_default(),
            workload_name: metadata.text("WORKLOAD_NAME").unwrap_or_default(),
            annotations: metadata.labels("ANNOTATIONS"),
            config: metadata.proxy_config(),
            metadata: metadata.texts(),
            dns_auto_allocate: metadata.flag("DNS_CAPTURE") && metadata.flag("DNS_AUTO_ALLOCATE"),
            unprivileged: metadata.flag("UNPRIVILEGED_POD"),
            http10: metadata.text("HTTP10").as_deref() == Some("1"),
            istio_filters: knows_istio_filters(node),
            idle_timeout_seconds: metadata.text("IDLE_TIMEOUT").and_then(|text| whole_seconds(&text)),
        })
    }

    /// Name of the pod.
    pub fn pod_name(&self) -> &str {
        self.id.split('~').nth(2).and_then(|workload| workload.split('.').next()).unwrap_or_default()
    }

    /// The workload's own address.
    pub fn ip(&self) -> IpAddr {
        self.ips[0]
    }

    /// Whether it has an IPv4 address.
    pub fn has_ipv4(&self) -> bool {
        self.ips.iter().any(IpAddr::is_ipv4)
    }

    /// Whether it has an IPv6 address.
    pub fn has_ipv6(&self) -> bool {
        self.ips.iter().any(IpAddr::is_ipv6)
    }

    /// Whether an address is of a family the proxy has.
    pub fn speaks(&self, address: IpAddr) -> bool {
        if address.is_ipv4() { self.has_ipv4() } else { self.has_ipv6() }
    }

    /// Traffic is not captured.
    pub fn is_uncaptured(&self) -> bool {
        self.interception == InterceptionMode::None
    }
}

/// `45s`, `2m`, `1h`; fractions and other units are not used here.
fn whole_seconds(text: &str) -> Option<u64> {
    let unit = match text.chars().last()? {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        _ => return None,
    };
    text[..text.len() - 1].parse::<u64>().ok()?.checked_mul(unit)
}

/// Metadata of a node: values are strings, booleans as strings, comma lists or real lists, and string maps.
struct Metadata<'a>(Option<&'a Struct>);

impl Metadata<'_> {
    fn value(&self, key: &str) -> Option<&Kind> {
        self.0?.fields.get(key)?.kind.as_ref()
    }

    fn text(&self, key: &str) -> Option<String> {
        self.value(key).and_then(text_of)
    }

    fn flag(&self, key: &str) -> bool {
        match self.value(key) {
            Some(Kind::BoolValue(value)) => *value,
            Some(Kind::StringValue(text)) => text == "true",
            _ => false,
        }
    }

    fn list(&self, key: &str) -> Vec<String> {
        match self.value(key) {
            Some(Kind::StringValue(text)) => text.split(',').map(str::to_owned).collect(),
            Some(Kind::ListValue(list)) => {
                list.values.iter().filter_map(|Value { kind }| kind.as_ref().and_then(text_of)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Unreadable settings are none: the proxy runs with those of the mesh.
    fn proxy_config(&self) -> Option<ProxyConfig> {
        let Some(Kind::StructValue(fields)) = self.value("PROXY_CONFIG") else { return None };
        let text = ringsail_xds::json::struct_from_proto(fields).to_string();
        decode_proxy_config(&text, "PROXY_CONFIG").ok().filter(|config| *config != ProxyConfig::default())
    }

    fn texts(&self) -> BTreeMap<String, String> {
        let fields = self.0.into_iter().flat_map(|metadata| &metadata.fields);
        let text =
            |(key, Value { kind }): (&String, &Value)| Some((key.clone(), kind.as_ref().and_then(text_of)?));
        fields.filter_map(text).collect()
    }

    fn labels(&self, key: &str) -> BTreeMap<String, String> {
        match self.value(key) {
            Some(Kind::StructValue(fields)) => fields
                .fields
                .iter()
                .filter_map(|(key, Value { kind })| Some((key.clone(), kind.as_ref().and_then(text_of)?)))
                .collect(),
            _ => BTreeMap::new(),
        }
    }
}

fn text_of(kind: &Kind) -> Option<String> {
    match kind {
        Kind::StringValue(text) => Some(text.clone()),
        Kind::NumberValue(number) => Some(number.to_string()),
        Kind::BoolValue(value) => Some(value.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: &str, metadata: &[(&str, &str)]) -> Node {
        let fields = metadata
            .iter()
            .map(|(key, value)| (key.to_string(), Value { kind: Some(Kind::StringValue(value.to_string())) }))
            .collect();
        Node { id: id.into(), metadata: Some(Struct { fields }), ..Node::default() }
    }

    #[test]
    fn only_who_knows_istios_filters_is_sent_them() {
        use ringsail_xds::envoy::config::core::v3::Extension;
        let known = |change: fn(&mut Node)| {
            let mut node = node("sidecar~10.0.0.5~a.b~c", &[]);
            change(&mut node);
            Proxy::from_node(&node).expect("valid").istio_filters
        };
        let named = |name: &str| Extension { name: name.to_owned(), ..Extension::default() };
        assert!(!known(|node| node.user_agent_name = "envoy".to_owned()));
        assert!(known(|node| node.user_agent_name = "ringsail".to_owned()));
        let mut istio = node("sidecar~10.0.0.5~a.b~c", &[]);
        istio.extensions = vec![named("envoy.filters.http.cors"), named("istio.stats")];
        assert!(Proxy::from_node(&istio).expect("valid").istio_filters);
    }

    #[test]
    fn sidecar_is_read_from_id_and_metadata() {
        let proxy = Proxy::from_node(&node(
            "sidecar~10.0.0.5~cart-0.shop~shop.svc.cluster.local",
            &[
                ("INSTANCE_IPS", "10.0.0.5,fd00::5"),
                ("INTERCEPTION_MODE", "NONE"),
                ("HTTP_PROXY_PORT", "15080"),
            ],
        ))
        .expect("valid node");
        assert_eq!(proxy.namespace, "shop");
        assert_eq!(proxy.ips.len(), 2);
        assert!(proxy.is_uncaptured() && proxy.has_ipv6());
        assert_eq!(proxy.http_proxy_port, Some(15080));
    }

    #[test]
    fn node_without_address_or_with_a_broken_id_is_refused() {
        assert_eq!(Proxy::from_node(&node("sidecar~x~a.b~c", &[])), Err(NodeError::NoAddress));
        assert!(matches!(
            Proxy::from_node(&node("sidecar~1.1.1.1~a.b", &[])),
            Err(NodeError::MalformedId(_))
        ));
        assert!(matches!(
            Proxy::from_node(&node("ztunnel~1.1.1.1~a.b~c", &[])),
            Err(NodeError::UnknownType(_))
        ));
    }
}
