//! `/config_dump`: every resource exactly as it was received.
//!
//! Rendered when asked, from the bytes in the store: a resource is JSON only for as long as the answer is built.

mod mask;

use std::time::SystemTime;

use bytes::Bytes;
use prost_types::{Any, Timestamp};
use regex::Regex;
use ringsail_tables::ResourceType;
use ringsail_xds::envoy::admin::v3::{
    BootstrapConfigDump, ClientResourceStatus, ClustersConfigDump, EndpointsConfigDump, ListenersConfigDump,
    RoutesConfigDump, UpdateFailureState, clusters_config_dump as clusters,
    endpoints_config_dump as endpoints, listeners_config_dump as listeners, routes_config_dump as routes,
};
use ringsail_xds::envoy::config::bootstrap::v3::Bootstrap;
use ringsail_xds::envoy::config::core::v3::{DataSource, data_source};
use ringsail_xds::envoy::extensions::transport_sockets::tls::v3::secret;
use ringsail_xds::json::Schema;
use ringsail_xds::prost::Message as _;
use ringsail_xds::{pack, type_url};
use serde_json::{Value, json};

use http::StatusCode;

use self::mask::Mask;
use super::{Admin, Page, Query};
use crate::references::inline_routes;
use crate::state::State;
use crate::store::{Entry, Origin, Version};

pub(super) fn page(admin: &Admin, query: &Query) -> Page {
    let names = match names(query) {
        Ok(names) => names,
        Err(page) => return page,
    };
    let mask = query.get("mask").and_then(Mask::parse);
    let schema = Schema::shared();
    let state = admin.state.borrow();
    let dump = Dump { state: &state, names };
    let with_endpoints = query.has("include_eds");
    let mut sections = vec![pack(&dump.bootstrap(admin)), pack(&dump.clusters())];
    // A section asked for by name is there without include_eds.
    if with_endpoints || query.get("resource").is_some_and(|name| name.ends_with("endpoint_configs")) {
        sections.push(pack(&dump.endpoints()));
    }
    sections.push(pack(&dump.listeners()));
    sections.push(empty("ScopedRoutesConfigDump"));
    sections.push(pack(&dump.routes()));
    sections.push(empty("SecretsConfigDump"));
    let mut sections: Vec<Value> = sections.iter().map(|section| schema.any_to_json(section)).collect();
    if let Some(name) = query.get("resource") {
        return one_resource(&schema, &sections, name, mask.as_ref());
    }
    if let Some(mask) = mask {
        sections.retain_mut(|section| mask.trim_section(&schema, section));
        if sections.is_empty() {
            return bad_request(format!(
                "FieldMask {} could not be successfully applied to any configs.",
                mask.text()
            ));
        }
    }
    dump_of(sections)
}

/// Compat: an empty list is left out.
fn dump_of(configs: Vec<Value>) -> Page {
    Page::json(&if configs.is_empty() { json!({}) } else { json!({"configs": configs}) })
}

/// `?name_regex=`. Compat: it has to match the whole name.
fn names(query: &Query) -> Result<Option<Regex>, Page> {
    let Some(pattern) = query.get("name_regex") else { return Ok(None) };
    Regex::new(&format!("^(?:{pattern})$")).map(Some).map_err(|error| {
        let reason = error.to_string();
        let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
        bad_request(format!("INVALID_ARGUMENT: Error while parsing name_regex from {pattern}: {reason}"))
    })
}

fn bad_request(text: String) -> Page {
    Page::text(StatusCode::BAD_REQUEST, text)
}

/// A section we never have anything for; istioctl wants it to be there.
fn empty(name: &str) -> Any {
    Any { type_url: format!("{}envoy.admin.v3.{name}", type_url::PREFIX), value: Vec::new() }
}

/// `?resource=dynamic_active_clusters`: the elements of one list, each under its own type.
fn one_resource(schema: &Schema, sections: &[Value], name: &str, mask: Option<&Mask<'_>>) -> Page {
    for section in sections {
        let Some(section_type) = section["@type"].as_str() else { continue };
        match section.get(name) {
            Some(Value::Array(items)) => {
                let Some(element) = ELEMENTS.iter().find(|(list, _)| *list == name) else { continue };
                let mut configs: Vec<Value> = items
                    .iter()
                    .map(|item| {
                        let mut typed = serde_json::Map::new();
                        typed.insert("@type".to_string(), json!(format!("{section_type}.{}", element.1)));
                        typed.extend(item.as_object().cloned().unwrap_or_default());
                        Value::Object(typed)
                    })
                    .collect();
                if let Some(mask) = mask
                    && !configs.iter_mut().all(|element| mask.trim_element(schema, element))
                {
                    let paths = mask.as_message();
                    return bad_request(format!("FieldMask {paths} could not be successfully used."));
                }
                return dump_of(configs);
            }
            Some(_) => {
                return bad_request(format!(
                    "{name} is not a repeated field. Use ?mask={name} to get only this field"
                ));
            }
            None => {}
        }
    }
    if ELEMENTS.iter().any(|(list, _)| *list == name) {
        return dump_of(Vec::new());
    }
    Page::text(StatusCode::NOT_FOUND, format!("{name} not found in config dump"))
}

/// The lists of a config dump and the type of their elements.
const ELEMENTS: [(&str, &str); 9] = [
    ("static_clusters", "StaticCluster"),
    ("dynamic_active_clusters", "DynamicCluster"),
    ("dynamic_warming_clusters", "DynamicCluster"),
    ("static_listeners", "StaticListener"),
    ("dynamic_listeners", "DynamicListener"),
    ("static_route_configs", "StaticRouteConfig"),
    ("dynamic_route_configs", "DynamicRouteConfig"),
    ("static_endpoint_configs", "StaticEndpointConfig"),
    ("dynamic_endpoint_configs", "DynamicEndpointConfig"),
];

struct Dump<'a> {
    state: &'a State,
    names: Option<Regex>,
}

impl Dump<'_> {
    fn entries(&self, kind: ResourceType) -> impl Iterator<Item = (&str, &Entry)> {
        self.state
            .store
            .of_type(kind)
            .map(|(name, entry)| (&**name, entry))
            .filter(|(name, _)| self.names.as_ref().is_none_or(|names| names.is_match(name)))
    }

    fn is_warming(&self, kind: ResourceType, name: &str) -> bool {
        self.state.warming.iter().any(|(other, warming)| *other == kind && warming == name)
    }

    fn bootstrap(&self, admin: &Admin) -> BootstrapConfigDump {
        let started = SystemTime::now() - self.state.started.elapsed();
        BootstrapConfigDump {
            bootstrap: Some(redacted(admin.bootstrap.message())),
            last_updated: Some(timestamp(started)),
        }
    }

    fn clusters(&self) -> ClustersConfigDump {
        let kind = ResourceType::Cluster;
        let mut dump = ClustersConfigDump {
            version_info: self.state.store.version(kind).to_string(),
            ..Default::default()
        };
        for (name, entry) in self.entries(kind) {
            let accepted = entry.accepted.as_ref();
            if let (Origin::Static, Some(version)) = (entry.origin, accepted) {
                let cluster = Some(body(kind, version));
                dump.static_clusters
                    .push(clusters::StaticCluster { cluster, last_updated: Some(timestamp(version.at)) });
                continue;
            }
            let cluster = clusters::DynamicCluster {
                version_info: version_of(accepted),
                cluster: accepted.map(|version| body(kind, version)),
                last_updated: accepted.map(|version| timestamp(version.at)),
                error_state: failure(kind, entry),
                client_status: status(entry),
            };
            if accepted.is_none() || self.is_warming(kind, name) {
                dump.dynamic_warming_clusters.push(cluster);
            } else {
                dump.dynamic_active_clusters.push(cluster);
            }
        }
        dump
    }

    fn listeners(&self) -> ListenersConfigDump {
        let kind = ResourceType::Listener;
        let mut dump = ListenersConfigDump {
            version_info: self.state.store.version(kind).to_string(),
            ..Default::default()
        };
        for (name, entry) in self.entries(kind) {
            if let (Origin::Static, Some(version)) = (entry.origin, &entry.accepted) {
                let listener = Some(body(kind, version));
                dump.static_listeners
                    .push(listeners::StaticListener { listener, last_updated: Some(timestamp(version.at)) });
                continue;
            }
            let state = entry.accepted.as_ref().map(|version| listeners::DynamicListenerState {
                version_info: version.version.to_string(),
                listener: Some(body(kind, version)),
                last_updated: Some(timestamp(version.at)),
            });
            let mut listener = listeners::DynamicListener {
                name: name.to_string(),
                error_state: failure(kind, entry),
                client_status: status(entry),
                ..Default::default()
            };
            if self.is_warming(kind, name) {
                listener.warming_state = state;
            } else {
                listener.active_state = state;
            }
            dump.dynamic_listeners.push(listener);
        }
        dump
    }

    fn routes(&self) -> RoutesConfigDump {
        let kind = ResourceType::RouteConfiguration;
        let mut dump = RoutesConfigDump::default();
        // Compat: routes written inside a listener count as static ones under their own name.
        for (_, entry) in self.state.store.of_type(ResourceType::Listener) {
            let Some(version) = &entry.accepted else { continue };
            for routes in inline_routes(&version.body) {
                if self.names.as_ref().is_none_or(|names| names.is_match(&routes.name)) {
                    dump.static_route_configs.push(routes::StaticRouteConfig {
                        route_config: Some(pack(&routes)),
                        last_updated: Some(timestamp(version.at)),
                    });
                }
            }
        }
        for (_, entry) in self.entries(kind) {
            dump.dynamic_route_configs.push(routes::DynamicRouteConfig {
                version_info: version_of(entry.accepted.as_ref()),
                route_config: entry.accepted.as_ref().map(|version| body(kind, version)),
                last_updated: entry.accepted.as_ref().map(|version| timestamp(version.at)),
                error_state: failure(kind, entry),
                client_status: status(entry),
            });
        }
        dump
    }

    fn endpoints(&self) -> EndpointsConfigDump {
        let kind = ResourceType::ClusterLoadAssignment;
        let mut dump = EndpointsConfigDump::default();
        for (_, entry) in self.entries(ResourceType::Cluster) {
            let Some(version) = &entry.accepted else { continue };
            let cluster = ringsail_xds::envoy::config::cluster::v3::Cluster::decode(&version.body[..]);
            if let Ok(Some(assignment)) = cluster.map(|cluster| cluster.load_assignment) {
                dump.static_endpoint_configs.push(endpoints::StaticEndpointConfig {
                    endpoint_config: Some(pack(&assignment)),
                    last_updated: Some(timestamp(version.at)),
                });
            }
        }
        for (_, entry) in self.entries(kind) {
            dump.dynamic_endpoint_configs.push(endpoints::DynamicEndpointConfig {
                version_info: version_of(entry.accepted.as_ref()),
                endpoint_config: entry.accepted.as_ref().map(|version| body(kind, version)),
                last_updated: entry.accepted.as_ref().map(|version| timestamp(version.at)),
                error_state: failure(kind, entry),
                client_status: status(entry),
            });
        }
        dump
    }
}

/// Without private keys: whoever reads a dump shall not be able to pose as the workload.
/// Source: fields marked `udpa.annotations.sensitive` in Envoy's `tls/v3/common.proto` and `secret.proto`.
fn redacted(mut bootstrap: Bootstrap) -> Bootstrap {
    for secret in bootstrap.static_resources.iter_mut().flat_map(|resources| &mut resources.secrets) {
        let sensitive: Vec<&mut DataSource> = match &mut secret.r#type {
            Some(secret::Type::TlsCertificate(certificate)) => {
                let pkcs12 = certificate.pkcs12.iter_mut();
                certificate.private_key.iter_mut().chain(&mut certificate.password).chain(pkcs12).collect()
            }
            Some(secret::Type::SessionTicketKeys(keys)) => keys.keys.iter_mut().collect(),
            Some(secret::Type::GenericSecret(generic)) => {
                generic.secret.iter_mut().chain(generic.secrets.values_mut()).collect()
            }
            Some(secret::Type::ValidationContext(_)) | None => Vec::new(),
        };
        for source in sensitive {
            source.specifier = Some(data_source::Specifier::InlineBytes(b"[redacted]".to_vec()));
        }
    }
    bootstrap
}

fn body(kind: ResourceType, version: &Version) -> Any {
    packed(kind, &version.body)
}

fn packed(kind: ResourceType, body: &Bytes) -> Any {
    Any { type_url: format!("{}{}", type_url::PREFIX, kind.message_name()), value: body.to_vec() }
}

fn version_of(version: Option<&Version>) -> String {
    version.map(|version| version.version.to_string()).unwrap_or_default()
}

fn failure(kind: ResourceType, entry: &Entry) -> Option<UpdateFailureState> {
    entry.refusal.as_ref().map(|refusal| UpdateFailureState {
        failed_configuration: Some(packed(kind, &refusal.refused.body)),
        last_update_attempt: Some(timestamp(refusal.refused.at)),
        details: refusal.details.clone(),
        version_info: refusal.refused.version.to_string(),
    })
}

/// Compat: Envoy leaves the status out (UNKNOWN) except for refused resources.
fn status(entry: &Entry) -> i32 {
    let status =
        if entry.refusal.is_some() { ClientResourceStatus::Nacked } else { ClientResourceStatus::Unknown };
    status.into()
}

/// With milliseconds, as Envoy has it.
fn timestamp(at: SystemTime) -> Timestamp {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_millis()).unwrap_or(0) * 1_000_000,
    }
}
