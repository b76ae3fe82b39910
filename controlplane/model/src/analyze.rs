//! What the mesh accepts but probably does not mean: findings that need more than one object.

mod providers;
mod proxy_config;

use std::collections::BTreeMap;

use ringsail_api::networking::DestinationRule;
use ringsail_api::validate::UNENFORCED;
use ringsail_api::{Diagnostic, Kind, Object, ObjectKey, Severity, Spec};

use crate::host;
use crate::mesh::Mesh;
use crate::service::ServiceKey;
use crate::snapshot::MeshBuilder;
use crate::virtual_service::{MESH_GATEWAY, resolve_gateway};

/// Warnings about the newest snapshot of a builder, in object order.
pub fn analyze(builder: &MeshBuilder) -> Vec<Diagnostic> {
    let mesh = builder.mesh();
    let mut found = Vec::new();
    let mut first_with_host: BTreeMap<&str, &ObjectKey> = BTreeMap::new();
    let objects: Vec<(ObjectKey, &Object)> =
        builder.objects().map(|object| (object.key(), &**object)).collect();
    for (key, object) in &objects {
        match &object.spec {
            Spec::VirtualService(spec) => {
                let namespace = &object.meta.namespace;
                for (index, name) in spec.gateways.iter().enumerate() {
                    let gateway = resolve_gateway(name, namespace);
                    if gateway != MESH_GATEWAY && !mesh.gateways().iter().any(|known| known.key() == gateway)
                    {
                        found.push(warning(
                            object,
                            key,
                            "IST0101",
                            format!("spec.gateways[{index}]"),
                            format!(
                                "gateway {gateway} does not exist, so these routes are served nowhere there"
                            ),
                        ));
                    }
                }
                if spec.gateways.is_empty() || spec.gateways.iter().any(|name| name == MESH_GATEWAY) {
                    for name in &spec.hosts {
                        match first_with_host.get(name.as_str()) {
                            Some(first)
                                if first.namespace == key.namespace && first.kind == Kind::VirtualService =>
                            {
                                found.push(warning(
                                    object,
                                    key,
                                    "IST0109",
                                    "spec.hosts".to_owned(),
                                    format!("host {name} is also in {first}; sidecars use only the oldest of the two"),
                                ));
                            }
                            Some(_) => {}
                            None => {
                                first_with_host.insert(name, key);
                            }
                        }
                    }
                }
                for (path, destination) in destinations(spec) {
                    found.extend(unknown_destination(mesh, object, key, path, destination));
                }
            }
            Spec::DestinationRule(spec) => {
                let hostname = host::resolve_short_name(
                    &spec.host,
                    &object.meta.namespace,
                    &mesh.settings().cluster_domain,
                );
                if !host::is_wildcard(&hostname) && mesh.services().with_hostname(&hostname).is_empty() {
                    found.push(warning(
                        object,
                        key,
                        "IST0101",
                        "spec.host".to_owned(),
                        format!("no service has the host {hostname}"),
                    ));
                }
                found.extend(not_applied(spec).map(|(field_path, what)| Diagnostic {
                    code: None,
                    ..warning(
                        object,
                        key,
                        "",
                        field_path,
                        format!("{what} is not applied yet; the rest of the rule is"),
                    )
                }));
            }
            Spec::Telemetry(spec) => {
                let problems = providers::of_telemetry(mesh, spec).into_iter();
                found.extend(problems.map(|problem| provider_warning(object, key, problem)));
            }
            Spec::ConfigMap(_) if object.meta.name == MESH_CONFIG_MAP => {
                let problems = providers::of_mesh_config(mesh).into_iter();
                found.extend(problems.map(|problem| provider_warning(object, key, problem)));
                let default = mesh.settings().config.default_config.iter();
                found.extend(default.flat_map(proxy_config::unfollowed).map(|(field, text)| {
                    warning(object, key, UNENFORCED, format!("data.mesh: defaultConfig.{field}"), text)
                }));
            }
            Spec::Pod(_) | Spec::Deployment(_) | Spec::StatefulSet(_) | Spec::DaemonSet(_) => {
                let problems = proxy_config::of_workload(object).into_iter();
                found.extend(problems.map(|(path, text)| warning(object, key, UNENFORCED, path, text)));
            }
            Spec::EnvoyFilter(_) => found.extend(refused_patches(mesh, object, key)),
            _ => {}
        }
    }
    found
}

/// Name of the ConfigMap that holds MeshConfig. Source: Istio's charts.
const MESH_CONFIG_MAP: &str = "istio";

fn provider_warning(object: &Object, key: &ObjectKey, problem: providers::Finding) -> Diagnostic {
    let (code, field_path, message) = problem;
    Diagnostic { code, ..warning(object, key, "", field_path, message) }
}

/// An EnvoyFilter of which a part cannot be applied is not applied at all: that is an error, because nobody can tell
/// from outside whether it mattered for security.
fn refused_patches(mesh: &Mesh, object: &Object, key: &ObjectKey) -> Vec<Diagnostic> {
    let own = mesh
        .envoy_filters()
        .iter()
        .find(|filter| filter.name == key.name && filter.namespace == key.namespace);
    let refusals = own.into_iter().flat_map(|filter| &filter.refusals);
    refusals
        .map(|refusal| Diagnostic {
            severity: Severity::Error,
            fix: Some("remove the patch; see deploy/docs/envoy-fields.md for what is supported".to_owned()),
            ..warning(
                object,
                key,
                UNENFORCED,
                refusal.field_path.clone(),
                format!("{}; no patch of the object is applied", refusal.message),
            )
        })
        .collect()
}

/// Settings that are accepted and have no effect: traffic flows as without them.
fn not_applied(spec: &DestinationRule) -> impl Iterator<Item = (String, &'static str)> {
    let policies = std::iter::once(("spec.trafficPolicy".to_owned(), spec.traffic_policy.as_ref())).chain(
        spec.subsets.iter().enumerate().map(|(index, subset)| {
            (format!("spec.subsets[{index}].trafficPolicy"), subset.traffic_policy.as_ref())
        }),
    );
    policies.filter_map(|(path, policy)| Some((path, policy?))).flat_map(|(path, policy)| {
        let zone_aware = policy.load_balancer.as_ref().is_some_and(|lb| lb.zone_aware_lb_setting.is_some());
        [
            (policy.tunnel.is_some(), "tunnel", "tunnelling"),
            (policy.proxy_protocol.is_some(), "proxyProtocol", "the PROXY protocol"),
            (zone_aware, "loadBalancer.zoneAwareLbSetting", "zone-aware balancing"),
        ]
        .into_iter()
        .filter(|(is_set, _, _)| *is_set)
        .map(move |(_, field, what)| (format!("{path}.{field}"), what))
        .collect::<Vec<_>>()
    })
}

fn warning(
    object: &Object,
    key: &ObjectKey,
    code: &'static str,
    field_path: String,
    message: String,
) -> Diagnostic {
    Diagnostic {
        severity: Severity::Warning,
        code: Some(code),
        origin: object.origin.clone(),
        object: Some(key.clone()),
        field_path,
        message,
        fix: None,
    }
}

/// Every destination with its field path.
fn destinations(
    spec: &ringsail_api::networking::VirtualService,
) -> impl Iterator<Item = (String, &ringsail_api::networking::Destination)> {
    let http = spec.http.iter().enumerate().flat_map(|(i, route)| {
        let routes = route.route.iter().enumerate().filter_map(move |(j, r)| {
            Some((format!("spec.http[{i}].route[{j}].destination"), r.destination.as_ref()?))
        });
        routes.chain(route.mirror.as_ref().map(|mirror| (format!("spec.http[{i}].mirror"), mirror)))
    });
    let tls = spec.tls.iter().enumerate().flat_map(|(i, route)| {
        route.route.iter().enumerate().filter_map(move |(j, r)| {
            Some((format!("spec.tls[{i}].route[{j}].destination"), r.destination.as_ref()?))
        })
    });
    let tcp = spec.tcp.iter().enumerate().flat_map(|(i, route)| {
        route.route.iter().enumerate().filter_map(move |(j, r)| {
            Some((format!("spec.tcp[{i}].route[{j}].destination"), r.destination.as_ref()?))
        })
    });
    http.chain(tls).chain(tcp)
}

fn unknown_destination(
    mesh: &Mesh,
    object: &Object,
    key: &ObjectKey,
    path: String,
    destination: &ringsail_api::networking::Destination,
) -> Option<Diagnostic> {
    let namespace = &object.meta.namespace;
    let hostname = host::resolve_short_name(&destination.host, namespace, &mesh.settings().cluster_domain);
    let Some(service) = mesh.services().resolve(&hostname, namespace) else {
        let mut finding = warning(
            object,
            key,
            "IST0101",
            format!("{path}.host"),
            format!("no service has the host {hostname}; requests sent there answer 503"),
        );
        finding.fix = nearest(mesh, namespace, &destination.host).map(|name| format!("write {name}"));
        return Some(finding);
    };
    if let Some(port) = destination.port.as_ref().filter(|port| service.port(port.number).is_none()) {
        let message = format!("{hostname} has no port {}; requests sent there answer 503", port.number);
        return Some(warning(object, key, "IST0101", format!("{path}.port"), message));
    }
    if destination.subset.is_empty() {
        return None;
    }
    let rule = mesh.destination_rule(namespace, &Default::default(), service);
    if rule.is_some_and(|rule| rule.subset(&destination.subset).is_some()) {
        return None;
    }
    let mut finding = warning(
        object,
        key,
        "IST0101",
        format!("{path}.subset"),
        format!(
            "no DestinationRule of {hostname} has a subset {}; requests sent there answer 503",
            destination.subset
        ),
    );
    finding.fix = Some(match rule {
        None => format!("add a DestinationRule with host: {} and this subset", destination.host),
        Some(rule) => {
            let names: Vec<&str> = rule.subsets.iter().map(|subset| subset.name.as_str()).collect();
            format!("DestinationRule {}/{} has: {}", rule.namespace, rule.name, names.join(", "))
        }
    });
    Some(finding)
}

/// A service of that first label in another namespace: the usual mistake is a short name for a service elsewhere.
fn nearest(mesh: &Mesh, namespace: &str, written: &str) -> Option<String> {
    let label = written.split('.').next()?;
    let own = |key: &ServiceKey| key.namespace == namespace;
    let mut named =
        mesh.services().by_key().keys().filter(|key| key.hostname.split('.').next() == Some(label));
    let first = named.clone().find(|key| own(key)).or_else(|| named.next())?;
    Some(first.hostname.clone())
}
