//! VirtualServices with names resolved, ready for lookup.

use ringsail_api::networking;

use crate::host;
use crate::service::Age;
use crate::settings::MeshSettings;
use crate::visibility::Visibility;

/// The reserved gateway name that stands for every sidecar.
pub const MESH_GATEWAY: &str = "mesh";

/// A VirtualService whose host and gateway names are complete. Delegates have been replaced by their routes.
#[derive(Clone, Debug, PartialEq)]
pub struct VirtualService {
    /// Object name.
    pub name: String,
    /// Object namespace.
    pub namespace: String,
    /// Creation order.
    pub age: Age,
    /// Namespaces that may use it.
    pub visibility: Visibility,
    /// The object; hosts are full and lower case, gateways are `mesh` or `namespace/name`.
    pub spec: networking::VirtualService,
}

impl VirtualService {
    /// Resolves the names of an object. `gateways` becomes `["mesh"]` when empty.
    pub fn build(
        name: &str,
        namespace: &str,
        age: Age,
        spec: &networking::VirtualService,
        settings: &MeshSettings,
    ) -> VirtualService {
        let mut spec = spec.clone();
        let complete =
            |host: &mut String| *host = host::resolve_short_name(host, namespace, &settings.cluster_domain);
        spec.hosts.iter_mut().for_each(complete);
        let gateways = |names: &mut Vec<String>| {
            names.iter_mut().for_each(|gateway| *gateway = resolve_gateway(gateway, namespace));
        };
        gateways(&mut spec.gateways);
        if spec.gateways.is_empty() {
            spec.gateways.push(MESH_GATEWAY.to_owned());
        }
        for route in &mut spec.http {
            route.r#match.iter_mut().for_each(|m| gateways(&mut m.gateways));
            let destinations = route.route.iter_mut().filter_map(|r| r.destination.as_mut());
            let mirrors = route.mirrors.iter_mut().filter_map(|m| m.destination.as_mut());
            for destination in destinations.chain(mirrors).chain(route.mirror.as_mut()) {
                complete(&mut destination.host);
            }
        }
        for route in &mut spec.tls {
            route.r#match.iter_mut().for_each(|m| gateways(&mut m.gateways));
            for destination in route.route.iter_mut().filter_map(|r| r.destination.as_mut()) {
                complete(&mut destination.host);
            }
        }
        for route in &mut spec.tcp {
            route.r#match.iter_mut().for_each(|m| gateways(&mut m.gateways));
            for destination in route.route.iter_mut().filter_map(|r| r.destination.as_mut()) {
                complete(&mut destination.host);
            }
        }
        let visibility = Visibility::parse(&spec.export_to, namespace, &settings.virtual_service_visibility);
        VirtualService { name: name.to_owned(), namespace: namespace.to_owned(), age, visibility, spec }
    }

    /// `<namespace>/<name>`.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// Whether the object is bound to the gateway (`mesh` or `namespace/name`). A match may only narrow that.
    pub fn applies_to_gateway(&self, gateway: &str) -> bool {
        self.spec.gateways.iter().any(|name| name == gateway)
    }

    /// Every destination that a route or mirror names.
    pub fn destinations(&self) -> impl Iterator<Item = &networking::Destination> {
        let http = self.spec.http.iter().flat_map(|route| {
            route
                .route
                .iter()
                .filter_map(|r| r.destination.as_ref())
                .chain(route.mirrors.iter().filter_map(|m| m.destination.as_ref()))
                .chain(route.mirror.as_ref())
        });
        let tls = self.spec.tls.iter().flat_map(|r| &r.route).filter_map(|r| r.destination.as_ref());
        let tcp = self.spec.tcp.iter().flat_map(|r| &r.route).filter_map(|r| r.destination.as_ref());
        http.chain(tls).chain(tcp)
    }
}

/// Completes a gateway reference: `name` is in the namespace of the object, `namespace/name` is complete.
///
/// Compat: `name.namespace.svc…` is the legacy form, which Istio still accepts.
pub fn resolve_gateway(gateway: &str, namespace: &str) -> String {
    if gateway == MESH_GATEWAY || gateway.contains('/') {
        return gateway
            .strip_prefix("./")
            .map_or_else(|| gateway.to_owned(), |name| format!("{namespace}/{name}"));
    }
    let mut labels = gateway.split('.');
    match (labels.next(), labels.next()) {
        (Some(name), Some(own)) if gateway.contains(".svc") => format!("{own}/{name}"),
        _ => format!("{namespace}/{gateway}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateway_names_are_relative_to_the_object() {
        assert_eq!(resolve_gateway("mesh", "shop"), "mesh");
        assert_eq!(resolve_gateway("gw", "shop"), "shop/gw");
        assert_eq!(resolve_gateway("edge/gw", "shop"), "edge/gw");
        assert_eq!(resolve_gateway("gw.edge.svc.cluster.local", "shop"), "edge/gw");
    }
}
