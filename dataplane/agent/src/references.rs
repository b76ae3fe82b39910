//! Which other resources a resource names, and where those come from.
//!
//! The compiler says which route configurations and load assignments it needs; the `config_source` beside each name
//! says whom to ask.

use std::collections::BTreeMap;
use std::time::Duration;

use ringsail_tables::ResourceType;
use ringsail_xds::envoy::config::cluster::v3::{Cluster, cluster};
use ringsail_xds::envoy::config::core::v3::{ConfigSource, TransportSocket, transport_socket};
use ringsail_xds::envoy::config::listener::v3::{Listener, filter};
use ringsail_xds::envoy::config::route::v3::RouteConfiguration;
use ringsail_xds::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use ringsail_xds::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use ringsail_xds::envoy::extensions::transport_sockets::tls::v3::common_tls_context::ValidationContextType;
use ringsail_xds::envoy::extensions::transport_sockets::tls::v3::downstream_tls_context::SessionTicketKeysType;
use ringsail_xds::envoy::extensions::transport_sockets::tls::v3::{
    CommonTlsContext, DownstreamTlsContext, SdsSecretConfig, UpstreamTlsContext,
};
use ringsail_xds::prost::Message as _;
use ringsail_xds::unpack;

use crate::bootstrap::{Source, source};

/// A resource named by another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    /// [`ResourceType::RouteConfiguration`] or [`ResourceType::ClusterLoadAssignment`].
    pub(crate) kind: ResourceType,
    /// Its name.
    pub(crate) name: String,
    /// Of a route configuration: the `stat_prefix` of the connection manager that names it.
    pub(crate) stat_prefix: String,
    /// Whom to ask; `Err` says why nobody can be asked.
    pub(crate) source: Result<Source, String>,
}

/// References by the resource that makes them.
#[derive(Debug, Default)]
pub(crate) struct References {
    by_owner: BTreeMap<(ResourceType, String), Vec<Reference>>,
}

impl References {
    /// Replaces what a resource refers to.
    pub(crate) fn set(&mut self, kind: ResourceType, name: &str, body: &[u8]) {
        let found = match kind {
            ResourceType::Listener => of_listener(body),
            ResourceType::Cluster => of_cluster(body),
            ResourceType::RouteConfiguration | ResourceType::ClusterLoadAssignment | ResourceType::Secret => {
                return;
            }
        };
        self.by_owner.insert((kind, name.to_string()), found);
    }

    /// The resource is gone.
    pub(crate) fn remove(&mut self, kind: ResourceType, name: &str) {
        self.by_owner.remove(&(kind, name.to_string()));
    }

    /// All references, also repeated ones.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Reference> {
        self.by_owner.values().flatten()
    }

    /// All references, by type and name; with several owners of one name the first one's source counts.
    pub(crate) fn all(&self) -> BTreeMap<(ResourceType, &str), &Reference> {
        let mut all = BTreeMap::new();
        for reference in self.by_owner.values().flatten() {
            all.entry((reference.kind, reference.name.as_str())).or_insert(reference);
        }
        all
    }
}

impl Reference {
    /// How long to wait for it; `None` means for ever.
    pub(crate) fn fetch_timeout(&self) -> Option<Duration> {
        match &self.source {
            Ok(Source::Ads { initial_fetch_timeout } | Source::Stream { initial_fetch_timeout, .. }) => {
                *initial_fetch_timeout
            }
            Ok(Source::Path(_)) | Err(_) => Some(crate::limits::INITIAL_FETCH_TIMEOUT),
        }
    }
}

fn of_listener(body: &[u8]) -> Vec<Reference> {
    let mut found = Vec::new();
    for manager in connection_managers(body) {
        let stat_prefix = manager.stat_prefix;
        if let Some(RouteSpecifier::Rds(rds)) = manager.route_specifier {
            let config = rds.config_source.as_ref();
            let found_one = reference(ResourceType::RouteConfiguration, rds.route_config_name, config);
            found.push(Reference { stat_prefix, ..found_one });
        }
    }
    if let Ok(listener) = Listener::decode(body) {
        let chains = listener.filter_chains.iter().chain(&listener.default_filter_chain);
        for context in
            chains.filter_map(|chain| tls_context::<DownstreamTlsContext>(chain.transport_socket.as_ref()))
        {
            if let Some(SessionTicketKeysType::SessionTicketKeysSdsSecretConfig(config)) =
                &context.session_ticket_keys_type
            {
                found.push(secret(config));
            }
            found.extend(context.common_tls_context.iter().flat_map(secrets));
        }
    }
    found
}

fn tls_context<M: ringsail_xds::prost::Message + ringsail_xds::prost::Name + Default>(
    socket: Option<&TransportSocket>,
) -> Option<M> {
    let Some(transport_socket::ConfigType::TypedConfig(any)) = socket?.config_type.as_ref() else {
        return None;
    };
    unpack(any).ok()
}

/// Secrets that both kinds of TLS contexts name.
fn secrets(context: &CommonTlsContext) -> Vec<Reference> {
    let mut found: Vec<Reference> = context.tls_certificate_sds_secret_configs.iter().map(secret).collect();
    match &context.validation_context_type {
        Some(ValidationContextType::ValidationContextSdsSecretConfig(config)) => found.push(secret(config)),
        Some(ValidationContextType::CombinedValidationContext(both)) => {
            found.extend(both.validation_context_sds_secret_config.iter().map(secret));
        }
        _ => {}
    }
    found
}

/// Without a source, a secret is one of the bootstrap.
fn secret(config: &SdsSecretConfig) -> Reference {
    let source = config
        .sds_config
        .as_ref()
        .ok_or_else(|| "names no source".to_string())
        .and_then(source::secret_source);
    Reference { kind: ResourceType::Secret, name: config.name.clone(), stat_prefix: String::new(), source }
}

fn of_cluster(body: &[u8]) -> Vec<Reference> {
    let Ok(message) = Cluster::decode(body) else { return Vec::new() };
    let matches = message.transport_socket_matches.iter().map(|one| one.transport_socket.as_ref());
    let sockets = matches.chain([message.transport_socket.as_ref()]);
    let contexts = sockets.filter_map(tls_context::<UpstreamTlsContext>);
    let mut found: Vec<Reference> = contexts
        .flat_map(|context| context.common_tls_context.iter().flat_map(secrets).collect::<Vec<_>>())
        .collect();
    let is_eds = matches!(
        message.cluster_discovery_type,
        Some(cluster::ClusterDiscoveryType::Type(kind)) if kind == cluster::DiscoveryType::Eds as i32
    );
    let Some(eds) = message.eds_cluster_config.filter(|_| is_eds) else { return found };
    let name = if eds.service_name.is_empty() { message.name } else { eds.service_name };
    found.push(reference(ResourceType::ClusterLoadAssignment, name, eds.eds_config.as_ref()));
    found
}

fn reference(kind: ResourceType, name: String, config: Option<&ConfigSource>) -> Reference {
    let source = config.ok_or_else(|| "names no source".to_string()).and_then(source::source);
    Reference { kind, name, stat_prefix: String::new(), source }
}

/// Route configurations written inside a listener.
pub(crate) fn inline_routes(listener: &[u8]) -> Vec<RouteConfiguration> {
    let inline = |manager: HttpConnectionManager| match manager.route_specifier {
        Some(RouteSpecifier::RouteConfig(routes)) => Some(routes),
        Some(RouteSpecifier::Rds(_) | RouteSpecifier::ScopedRoutes(_)) | None => None,
    };
    connection_managers(listener).into_iter().filter_map(inline).collect()
}

fn connection_managers(listener: &[u8]) -> Vec<HttpConnectionManager> {
    let Ok(listener) = Listener::decode(listener) else { return Vec::new() };
    let chains = listener.filter_chains.into_iter().chain(listener.default_filter_chain);
    let configs = chains.flat_map(|chain| chain.filters).filter_map(|filter| match filter.config_type {
        Some(filter::ConfigType::TypedConfig(any)) => unpack(&any).ok(),
        Some(filter::ConfigType::ConfigDiscovery(_)) | None => None,
    });
    configs.collect()
}

#[cfg(test)]
mod tests {
    use ringsail_xds::json::Schema;
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_found_with_their_sources() {
        let schema = Schema::shared();
        let hcm = |routes: serde_json::Value| {
            let mut config =
                json!({"@type": ringsail_xds::type_url::HTTP_CONNECTION_MANAGER, "stat_prefix": "x"});
            config.as_object_mut().expect("an object").extend(routes.as_object().expect("an object").clone());
            json!({"filters": [{"name": "hcm", "typed_config": config}]})
        };
        let listener: Listener = schema
            .from_json(&json!({
                "name": "l",
                "filter_chains": [
                    hcm(json!({"rds": {"route_config_name": "80", "config_source": {"ads": {}}}})),
                    hcm(json!({"route_config": {"name": "inbound|80||"}})),
                ],
                "default_filter_chain":
                    hcm(json!({"rds": {"route_config_name": "f", "config_source": {"path": "/f"}}})),
            }))
            .expect("valid");
        let cluster: Cluster = schema
            .from_json(&json!({"name": "c", "type": "EDS",
                "eds_cluster_config": {"service_name": "s", "eds_config": {"ads": {}, "initial_fetch_timeout": "0s"}}}))
            .expect("valid");
        let mut references = References::default();
        references.set(ResourceType::Listener, "l", &listener.encode_to_vec());
        references.set(ResourceType::Cluster, "c", &cluster.encode_to_vec());
        let all = references.all();
        assert_eq!(all.len(), 3);
        assert_eq!(all[&(ResourceType::RouteConfiguration, "f")].source, Ok(Source::Path("/f".into())));
        let eds = all[&(ResourceType::ClusterLoadAssignment, "s")];
        assert_eq!((eds.fetch_timeout(), eds.source.is_ok()), (None, true));
        assert_eq!(inline_routes(&listener.encode_to_vec())[0].name, "inbound|80||");
        references.remove(ResourceType::Listener, "l");
        assert_eq!(references.all().len(), 1);
    }
}
