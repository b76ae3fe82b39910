//! Where resources come from: the control plane, or files.

use std::path::PathBuf;
use std::time::Duration;

use ringsail_xds::envoy::config::bootstrap::v3::Bootstrap as Message;
use ringsail_xds::envoy::config::cluster::v3::Cluster;
use ringsail_xds::envoy::config::core::v3::api_config_source::ApiType;
use ringsail_xds::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use ringsail_xds::envoy::config::core::v3::{
    ApiConfigSource, ConfigSource, HeaderValue, SocketAddress, address, grpc_service, socket_address,
};
use ringsail_xds::envoy::config::endpoint::v3::lb_endpoint;
use ringsail_xds::json::Step;
use ringsail_xds::protocol::Variant;

use super::Problem;
use crate::limits::INITIAL_FETCH_TIMEOUT;

/// Where the resources of one type come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The aggregated stream.
    Ads {
        /// How long to wait for the first resources; `None` means for ever.
        initial_fetch_timeout: Option<Duration>,
    },
    /// A file that is followed.
    Path(PathBuf),
    /// A stream of its own to a cluster of the bootstrap; secrets only.
    Stream {
        /// The cluster's name.
        cluster: String,
        /// As of [`Source::Ads`].
        initial_fetch_timeout: Option<Duration>,
    },
}

/// The control plane.
#[derive(Clone, Debug, PartialEq)]
pub struct AdsSource {
    /// Name of its cluster, for statistics.
    pub cluster: String,
    /// Which protocol to speak.
    pub variant: Variant,
    /// Where it listens.
    pub target: Target,
    /// `:authority` of the stream.
    pub authority: String,
    /// Further metadata of the stream (`initial_metadata`).
    pub metadata: Vec<(String, String)>,
    /// Time to connect; the cluster's `connect_timeout`, default 5 s.
    pub connect_timeout: Duration,
    /// Which service is asked.
    pub service: Service,
}

/// A discovery service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// All types on one stream.
    Aggregated,
    /// Secrets alone. Source: `envoy.service.secret.v3.SecretDiscoveryService`.
    Secrets,
}

/// Where a control plane listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Host, which may be a name, and port.
    Tcp(String, u16),
    /// A Unix socket.
    Pipe(PathBuf),
}

/// All sources of a bootstrap.
pub(super) struct Sources {
    pub(super) ads: Option<AdsSource>,
    pub(super) clusters: Option<Source>,
    pub(super) listeners: Option<Source>,
}

/// A path of plain keys.
pub(super) fn path(keys: &[&str]) -> Vec<Step> {
    keys.iter().map(|key| Step::Key(key.to_string())).collect()
}

pub(super) fn sources(message: &Message) -> Result<Sources, Problem> {
    let Some(dynamic) = &message.dynamic_resources else {
        return Ok(Sources { ads: None, clusters: None, listeners: None });
    };
    let one = |field: &str, config: &Option<ConfigSource>| match config {
        None => Ok(None),
        Some(config) => source(config).map(Some).map_err(|text| (path(&["dynamic_resources", field]), text)),
    };
    let clusters = one("cds_config", &dynamic.cds_config)?;
    let listeners = one("lds_config", &dynamic.lds_config)?;
    let ads = match &dynamic.ads_config {
        Some(config) => {
            Some(ads(message, config).map_err(|text| (path(&["dynamic_resources", "ads_config"]), text))?)
        }
        None => None,
    };
    let uses_ads = [("cds_config", &clusters), ("lds_config", &listeners)]
        .into_iter()
        .find(|(_, source)| matches!(source, Some(Source::Ads { .. })));
    if let (Some((field, _)), None) = (uses_ads, &ads) {
        return Err((
            path(&["dynamic_resources", field]),
            "uses ads, but there is no ads_config".to_string(),
        ));
    }
    Ok(Sources { ads, clusters, listeners })
}

/// The source a `ConfigSource` names.
///
/// # Errors
/// With a sentence when it is of a kind that is not supported.
pub fn source(config: &ConfigSource) -> Result<Source, String> {
    match &config.config_source_specifier {
        Some(ConfigSourceSpecifier::Ads(_)) => {
            Ok(Source::Ads { initial_fetch_timeout: fetch_timeout(config.initial_fetch_timeout.as_ref()) })
        }
        Some(ConfigSourceSpecifier::PathConfigSource(file)) => Ok(Source::Path(file.path.clone().into())),
        Some(ConfigSourceSpecifier::Path(path)) => Ok(Source::Path(path.clone().into())),
        Some(ConfigSourceSpecifier::ApiConfigSource(_)) => {
            Err("a stream of its own (api_config_source) is not supported here: use ads".to_string())
        }
        Some(ConfigSourceSpecifier::Self_(_)) => Err("self is not supported here: use ads".to_string()),
        None => Err("names no source: use ads or path_config_source".to_string()),
    }
}

/// Source: `ConfigSource.initial_fetch_timeout`: unset is 15 s, 0 is for ever.
pub fn fetch_timeout(configured: Option<&prost_types::Duration>) -> Option<Duration> {
    match configured {
        None => Some(INITIAL_FETCH_TIMEOUT),
        Some(duration) => Duration::try_from(*duration).ok().filter(|duration| !duration.is_zero()),
    }
}

fn ads(message: &Message, config: &ApiConfigSource) -> Result<AdsSource, String> {
    let variant = match config.api_type() {
        ApiType::Grpc | ApiType::AggregatedGrpc => Variant::StateOfTheWorld,
        ApiType::DeltaGrpc | ApiType::AggregatedDeltaGrpc => Variant::Delta,
        other => {
            return Err(format!("api_type {} is not supported: use GRPC or DELTA_GRPC", other.as_str_name()));
        }
    };
    let service = config.grpc_services.first().ok_or("needs one entry in grpc_services")?;
    let Some(grpc_service::TargetSpecifier::EnvoyGrpc(grpc)) = &service.target_specifier else {
        return Err("grpc_services[0] must be an envoy_grpc: google_grpc is not supported".to_string());
    };
    let clusters = message.static_resources.iter().flat_map(|resources| &resources.clusters);
    let cluster = clusters
        .into_iter()
        .find(|cluster| cluster.name == grpc.cluster_name)
        .ok_or_else(|| format!("cluster {:?} is not in static_resources", grpc.cluster_name))?;
    let target = target(cluster).map_err(|text| format!("cluster {:?} {text}", cluster.name))?;
    let authority =
        if grpc.authority.is_empty() { grpc.cluster_name.clone() } else { grpc.authority.clone() };
    Ok(AdsSource {
        cluster: grpc.cluster_name.clone(),
        variant,
        target,
        authority,
        metadata: service.initial_metadata.iter().map(header).collect(),
        connect_timeout: cluster
            .connect_timeout
            .and_then(|timeout| Duration::try_from(timeout).ok())
            .unwrap_or(crate::limits::CONNECT_TIMEOUT),
        service: Service::Aggregated,
    })
}

/// A service of secrets in a cluster of the bootstrap.
///
/// # Errors
/// With a sentence when there is no such cluster, or it cannot be reached.
pub fn secret_service(message: &Message, name: &str) -> Result<AdsSource, String> {
    let clusters = message.static_resources.iter().flat_map(|resources| &resources.clusters);
    let cluster = clusters
        .into_iter()
        .find(|cluster| cluster.name == name)
        .ok_or_else(|| format!("cluster {name:?} is not in static_resources"))?;
    Ok(AdsSource {
        cluster: name.to_owned(),
        variant: Variant::StateOfTheWorld,
        target: target(cluster).map_err(|text| format!("cluster {name:?} {text}"))?,
        authority: name.to_owned(),
        metadata: Vec::new(),
        connect_timeout: cluster
            .connect_timeout
            .and_then(|timeout| Duration::try_from(timeout).ok())
            .unwrap_or(crate::limits::CONNECT_TIMEOUT),
        service: Service::Secrets,
    })
}

/// The source of a secret: as of other resources, or a stream of its own.
///
/// # Errors
/// With a sentence when it is of a kind that is not supported.
pub fn secret_source(config: &ConfigSource) -> Result<Source, String> {
    let Some(ConfigSourceSpecifier::ApiConfigSource(api)) = &config.config_source_specifier else {
        return source(config);
    };
    if !matches!(api.api_type(), ApiType::Grpc | ApiType::AggregatedGrpc) {
        return Err("secrets come by GRPC, by ads or from files".to_string());
    }
    match api.grpc_services.first().and_then(|service| service.target_specifier.as_ref()) {
        Some(grpc_service::TargetSpecifier::EnvoyGrpc(grpc)) => Ok(Source::Stream {
            cluster: grpc.cluster_name.clone(),
            initial_fetch_timeout: fetch_timeout(config.initial_fetch_timeout.as_ref()),
        }),
        _ => Err("grpc_services[0] must be an envoy_grpc".to_string()),
    }
}

fn header(header: &HeaderValue) -> (String, String) {
    let value = if header.value.is_empty() {
        String::from_utf8_lossy(&header.raw_value).into_owned()
    } else {
        header.value.clone()
    };
    (header.key.to_ascii_lowercase(), value)
}

/// Security settings are never ignored: a control plane that is to be reached by TLS is not reached in the clear.
fn target(cluster: &Cluster) -> Result<Target, String> {
    let plain = cluster
        .transport_socket
        .as_ref()
        .is_none_or(|socket| socket.name == "envoy.transport_sockets.raw_buffer");
    if !plain {
        return Err("has a transport_socket: TLS to the control plane is not supported yet".to_string());
    }
    let endpoint = cluster
        .load_assignment
        .iter()
        .flat_map(|assignment| &assignment.endpoints)
        .flat_map(|locality| &locality.lb_endpoints)
        .find_map(|endpoint| match &endpoint.host_identifier {
            Some(lb_endpoint::HostIdentifier::Endpoint(endpoint)) => {
                endpoint.address.as_ref()?.address.as_ref()
            }
            Some(lb_endpoint::HostIdentifier::EndpointName(_)) | None => None,
        })
        .ok_or("has no endpoint in its load_assignment")?;
    match endpoint {
        address::Address::Pipe(pipe) => Ok(Target::Pipe(pipe.path.clone().into())),
        address::Address::SocketAddress(SocketAddress { address, port_specifier, .. }) => {
            match port_specifier {
                Some(socket_address::PortSpecifier::PortValue(port)) => {
                    let port = u16::try_from(*port).map_err(|_| format!("has the impossible port {port}"))?;
                    Ok(Target::Tcp(address.clone(), port))
                }
                Some(socket_address::PortSpecifier::NamedPort(_)) | None => {
                    Err("has an endpoint without a port".to_string())
                }
            }
        }
        address::Address::EnvoyInternalAddress(_) => {
            Err("has an internal address, which is not supported".to_string())
        }
    }
}
