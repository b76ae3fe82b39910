//! The corpus' JSON: scenarios, calls and expectations.

use std::fmt;

use anyhow::{Context, Result};
use prost_types::value::Kind;
use prost_types::{Struct, Value as ProtoValue};
use ringsail_xds::envoy::config::core::v3::Node;
use serde_json::Value;

use super::trace::Outcome;

/// Address of the simulated workload when the scenario gives none.
const DEFAULT_IP: &str = "1.1.1.1";
/// Address that is called when the call gives none.
const DEFAULT_DESTINATION: &str = "1.3.3.7";

/// One scenario.
pub(super) struct Scenario<'a> {
    pub(super) id: &'a str,
    pub(super) config: &'a str,
    pub(super) kube_config: &'a str,
    pub(super) mesh_config: Option<&'a Value>,
    value: &'a Value,
}

/// One call.
pub(super) struct Call<'a> {
    pub(super) address: &'a str,
    pub(super) port: u16,
    pub(super) inbound: bool,
    /// `http`, `http2` or `tcp`.
    pub(super) protocol: &'a str,
    /// `plaintext`, `tls` or `mtls`.
    pub(super) tls: &'a str,
    pub(super) alpn: Option<&'a str>,
    pub(super) sni: Option<&'a str>,
    pub(super) host: &'a str,
    pub(super) path: &'a str,
}

/// What a call is expected to meet; absent fields are not compared unless `strict`.
#[derive(Debug, Default)]
pub(super) struct Expected<'a> {
    pub(super) error: Option<&'a str>,
    listener: Option<&'a str>,
    filter_chain: Option<&'a str>,
    route_config: Option<&'a str>,
    virtual_host: Option<&'a str>,
    route: Option<&'a str>,
    cluster: Option<&'a str>,
    strict: bool,
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key)?.as_str()
}

impl<'a> Scenario<'a> {
    pub(super) fn read(value: &'a Value) -> Result<Scenario<'a>> {
        Ok(Scenario {
            id: text(value, "id").context("a scenario without id")?,
            config: text(value, "config").unwrap_or_default(),
            kube_config: text(value, "kube_config").unwrap_or_default(),
            mesh_config: value.get("mesh_config").filter(|config| !config.is_null()),
            value,
        })
    }

    fn proxy(&self) -> &'a Value {
        self.value.get("proxy").unwrap_or(&Value::Null)
    }

    pub(super) fn is_router(&self) -> bool {
        text(self.proxy(), "type") == Some("router")
    }

    /// The node the scenario's proxy would introduce itself with.
    pub(super) fn node(&self) -> Node {
        let proxy = self.proxy();
        let kind = text(proxy, "type").unwrap_or("sidecar");
        let namespace = text(proxy, "namespace").unwrap_or("default");
        let ips: Vec<&str> = match proxy.get("ip_addresses").and_then(Value::as_array) {
            Some(list) => list.iter().filter_map(Value::as_str).collect(),
            None => vec![DEFAULT_IP],
        };
        let string = |text: &str| ProtoValue { kind: Some(Kind::StringValue(text.to_owned())) };
        let labels = proxy.get("labels").and_then(Value::as_object);
        let labels = labels.into_iter().flatten().filter_map(|(k, v)| Some((k.clone(), string(v.as_str()?))));
        let mut fields = Struct::default();
        let mut set = |key: &str, value| fields.fields.insert(key.to_owned(), value);
        set("NAMESPACE", string(namespace));
        set("INSTANCE_IPS", string(&ips.join(",")));
        let labels = Struct { fields: labels.collect() };
        set("LABELS", ProtoValue { kind: Some(Kind::StructValue(labels)) });
        if let Some(cluster) = text(proxy, "cluster_id") {
            // The recording fixture gives proxies with a cluster id DNS capture as well.
            set("CLUSTER_ID", string(cluster));
            set("DNS_CAPTURE", string("true"));
            set("DNS_AUTO_ALLOCATE", string("true"));
        }
        let ip = ips.first().copied().unwrap_or(DEFAULT_IP);
        let id = format!("{kind}~{ip}~app.{namespace}~{namespace}.svc.cluster.local");
        Node { id, metadata: Some(fields), ..Node::default() }
    }

    /// The calls with names and expectations.
    pub(super) fn calls(&self) -> impl Iterator<Item = (&'a str, Call<'a>, Expected<'a>)> {
        let calls = self.value.get("calls").and_then(Value::as_array);
        calls.into_iter().flatten().map(|entry| {
            let call = entry.get("Call").unwrap_or(&Value::Null);
            let result = entry.get("Result").unwrap_or(&Value::Null);
            (text(entry, "Name").unwrap_or("call"), Call::read(call), Expected::read(result))
        })
    }

    /// Name of a route configuration and, per domain, the clusters its routes lead to (`None`: no such domain).
    #[allow(clippy::type_complexity)]
    pub(super) fn virtual_hosts(&self) -> Option<(&'a str, Vec<(&'a str, Option<Vec<&'a str>>)>)> {
        let routes = text(self.value, "route_config")?;
        let hosts = self.value.get("expected_virtual_hosts")?.as_object()?;
        let clusters =
            |value: &'a Value| Some(value.as_array()?.iter().filter_map(Value::as_str).collect::<Vec<_>>());
        Some((routes, hosts.iter().map(|(host, value)| (host.as_str(), clusters(value))).collect()))
    }
}

impl<'a> Call<'a> {
    fn read(call: &'a Value) -> Call<'a> {
        Call {
            address: text(call, "Address").unwrap_or(DEFAULT_DESTINATION),
            port: call
                .get("Port")
                .and_then(Value::as_u64)
                .and_then(|port| u16::try_from(port).ok())
                .unwrap_or(0),
            inbound: text(call, "CallMode") == Some("inbound"),
            protocol: text(call, "Protocol").unwrap_or("tcp"),
            tls: text(call, "TLS").unwrap_or("plaintext"),
            alpn: text(call, "Alpn"),
            sni: text(call, "Sni"),
            host: text(call, "HostHeader").unwrap_or_default(),
            path: text(call, "Path").unwrap_or("/"),
        }
    }
}

impl<'a> Expected<'a> {
    fn read(result: &'a Value) -> Expected<'a> {
        Expected {
            error: text(result, "Error"),
            listener: text(result, "ListenerMatched"),
            filter_chain: text(result, "FilterChainMatched"),
            route_config: text(result, "RouteConfigMatched"),
            virtual_host: text(result, "VirtualHostMatched"),
            route: text(result, "RouteMatched"),
            cluster: text(result, "ClusterMatched"),
            strict: result.get("StrictMatch").and_then(Value::as_bool).unwrap_or(false),
        }
    }

    /// Whether an outcome is what was expected.
    pub(super) fn agrees(&self, outcome: &Outcome) -> bool {
        let same = |wanted: Option<&str>, ours: &str| match wanted {
            Some(wanted) => bare(wanted) == bare(ours),
            None => !self.strict || ours.is_empty(),
        };
        self.error == outcome.error.as_deref()
            && same(self.listener, &outcome.listener)
            && same(self.filter_chain, &outcome.filter_chain)
            && same(self.route_config, &outcome.route_config)
            && same(self.virtual_host, &outcome.virtual_host)
            && same(self.route, &outcome.route)
            && same(self.cluster, &outcome.cluster)
    }
}

impl fmt::Display for Expected<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields = [
            ("error", self.error),
            ("listener", self.listener),
            ("chain", self.filter_chain),
            ("routes", self.route_config),
            ("virtual host", self.virtual_host),
            ("route", self.route),
            ("cluster", self.cluster),
        ];
        let given: Vec<String> =
            fields.iter().filter_map(|(key, value)| value.map(|value| format!("{key} {value}"))).collect();
        if given.is_empty() { f.write_str("any success") } else { f.write_str(&given.join(", ")) }
    }
}

/// A name without the cluster's domain. The recording fixture gives objects no domain, so that their short names end
/// after the namespace; ours are always complete.
pub(super) fn bare(name: &str) -> String {
    name.replace(".svc.cluster.local", "")
}
