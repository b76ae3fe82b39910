//! `/debug/config_dump?proxyID=`: what a proxy is meant to have, in the form of Envoy's own dump.

use std::sync::Arc;

use ringsail_xds::json::Schema;
use ringsail_xds::protocol::Resource;
use ringsail_xds::type_url;
use serde_json::{Value, json};

use crate::connections::Connection;

/// The sections of Envoy's `/config_dump` that discovery fills.
pub(super) fn page(connection: &Connection) -> Value {
    let schema = Schema::shared();
    let status = connection.status();
    let resources = |type_url: &str| status.resources.get(type_url).cloned().unwrap_or_default();
    let each = |type_url: &str, entry: &dyn Fn(&Arc<Resource>, Value) -> Value| -> Vec<Value> {
        let list = resources(type_url);
        list.iter().map(|resource| entry(resource, schema.any_to_json(&resource.body))).collect()
    };
    let version = &status.version;
    json!({ "configs": [
        {
            "@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump",
            "version_info": version,
            "dynamic_active_clusters":
                each(type_url::CLUSTER, &|_, cluster| json!({ "version_info": version, "cluster": cluster })),
        },
        {
            "@type": "type.googleapis.com/envoy.admin.v3.ListenersConfigDump",
            "version_info": version,
            "dynamic_listeners": each(type_url::LISTENER, &|resource, listener| json!({
                "name": &*resource.name,
                "active_state": { "version_info": version, "listener": listener },
            })),
        },
        {
            "@type": "type.googleapis.com/envoy.admin.v3.RoutesConfigDump",
            "dynamic_route_configs":
                each(type_url::ROUTE, &|_, route| json!({ "version_info": version, "route_config": route })),
        },
        {
            "@type": "type.googleapis.com/envoy.admin.v3.EndpointsConfigDump",
            "dynamic_endpoint_configs": each(type_url::ENDPOINT, &|_, endpoints| {
                json!({ "version_info": version, "endpoint_config": endpoints })
            }),
        },
    ] })
}
