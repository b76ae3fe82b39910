//! `/debug/syncz`: who was sent what and has accepted it, in the form istioctl reads.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use ringsail_xds::protocol::server::Progress;
use ringsail_xds::type_url;
use serde_json::{Map, Value, json};

use crate::connections::Connection;
use crate::metrics::short_name;

/// Names of the pairs of fields per type. Source: istiod's `SyncStatus`.
const TYPES: [(&str, &str); 5] = [
    (type_url::CLUSTER, "cluster"),
    (type_url::LISTENER, "listener"),
    (type_url::ROUTE, "route"),
    (type_url::ENDPOINT, "endpoint"),
    (type_url::EXTENSION_CONFIG, "extensionconfig"),
];

/// One row per stream. `nacks`, the refusals that stand, are ours; other fields are istiod's.
pub(super) fn page(connections: &[Arc<Connection>]) -> Value {
    connections.iter().map(|connection| row(connection)).collect()
}

fn row(connection: &Connection) -> Value {
    let status = connection.status();
    let mut row = Map::new();
    let mut put = |key: &str, value: &str| {
        if !value.is_empty() {
            row.insert(key.to_owned(), Value::from(value));
        }
    };
    put("cluster_id", &connection.proxy.cluster);
    put("proxy", &connection.proxy.id);
    put("proxy_type", connection.type_name());
    put("istio_version", &connection.istio_version);
    let mut nacks = Map::new();
    for (type_url, name) in TYPES {
        let progress = status.progress.get(type_url).cloned().unwrap_or_default();
        put(&format!("{name}_sent"), &progress.nonce_sent);
        put(&format!("{name}_acked"), &progress.nonce_acked);
        if let Some(error) = progress.error {
            nacks.insert(name.to_owned(), Value::from(error));
        }
    }
    if !nacks.is_empty() {
        row.insert("nacks".to_owned(), Value::Object(nacks));
    }
    Value::Object(row)
}

/// The open streams with their age and state.
pub(super) fn connections(connections: &[Arc<Connection>]) -> Value {
    let rows = connections.iter().map(|connection| {
        let status = connection.status();
        let since = connection.connected_at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let in_sync = status.progress.values().all(is_answered);
        let subscribed: Vec<&str> = status.progress.keys().map(|type_url| short_name(type_url)).collect();
        json!({
            "proxy": connection.proxy.id,
            "connectedAtUnixSeconds": since,
            "version": status.version,
            "inSync": in_sync,
            "types": subscribed,
        })
    });
    json!({ "totalClients": connections.len(), "clients": rows.collect::<Vec<Value>>() })
}

fn is_answered(progress: &Progress) -> bool {
    progress.nonce_sent == progress.nonce_acked
}
