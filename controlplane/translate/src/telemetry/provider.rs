//! Where the collectors of extension providers are.

use ringsail_api::istio::mesh::v1alpha1::mesh_config::extension_provider::{HttpHeader, http_header};
use ringsail_model::Mesh;
use ringsail_xds::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use ringsail_xds::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use ringsail_xds::envoy::config::core::v3::{
    GrpcService, HeaderValue, HeaderValueOption, HttpService, HttpUri, http_uri,
};

use crate::names;

/// Time for a call over HTTP where a provider sets none, because Envoy wants one. Source: istiod, `tracing.go`.
const HTTP_TIMEOUT: prost_types::Duration = prost_types::Duration { seconds: 5, nanos: 0 };

/// The cluster of a collector, and its host name.
pub(crate) struct Collector {
    hostname: String,
    cluster: String,
}

impl Collector {
    /// Finds the service `hostname` or `namespace/hostname`; `None` when there is none, or when several namespaces have
    /// one and none is named.
    pub(crate) fn find(mesh: &Mesh, service: &str, port: u32) -> Option<Collector> {
        let found = mesh.collector(service)?;
        let hostname = found.hostname().to_owned();
        Some(Collector { cluster: names::outbound_cluster(port, "", &hostname), hostname })
    }

    pub(crate) fn grpc(&self) -> GrpcService {
        GrpcService {
            target_specifier: Some(TargetSpecifier::EnvoyGrpc(EnvoyGrpc {
                cluster_name: self.cluster.clone(),
                authority: self.hostname.clone(),
                ..EnvoyGrpc::default()
            })),
            ..GrpcService::default()
        }
    }

    /// `uri` may leave out the scheme.
    pub(crate) fn http(
        &self,
        uri: String,
        timeout: Option<prost_types::Duration>,
        headers: &[HttpHeader],
    ) -> HttpService {
        let overwrite = |header: HeaderValue| HeaderValueOption {
            header: Some(header),
            append_action: HeaderAppendAction::OverwriteIfExistsOrAdd as i32,
            ..HeaderValueOption::default()
        };
        HttpService {
            http_uri: Some(HttpUri {
                uri,
                timeout: timeout.or(Some(HTTP_TIMEOUT)),
                http_upstream_type: Some(http_uri::HttpUpstreamType::Cluster(self.cluster.clone())),
            }),
            request_headers_to_add: header_values(headers).map(overwrite).collect(),
            ..HttpService::default()
        }
    }

    pub(crate) fn hostname(&self) -> &str {
        &self.hostname
    }
}

/// Headers of a provider. Those from the environment of the control plane are left out; `analyze` says so.
pub(crate) fn header_values(headers: &[HttpHeader]) -> impl Iterator<Item = HeaderValue> {
    headers.iter().filter_map(|header| match header.header_value.as_ref()? {
        http_header::HeaderValue::Value(value) => {
            Some(HeaderValue { key: header.name.clone(), value: value.clone(), ..HeaderValue::default() })
        }
        http_header::HeaderValue::EnvName(_) => None,
    })
}
