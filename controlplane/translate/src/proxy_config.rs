//! ProxyConfig as settings of connection managers: headers, timeouts, what stands in front of gateways.

use ringsail_api::istio::mesh::v1alpha1::ProxyConfig;
use ringsail_api::istio::mesh::v1alpha1::proxy_config::connection_settings::{
    HeadersWithUnderscoresAction as Underscores, PathWithEscapedSlashesAction as Slashes, Profile,
};
use ringsail_api::istio::mesh::v1alpha1::proxy_config::proxy_headers::MetadataExchangeMode;
use ringsail_api::istio::mesh::v1alpha1::proxy_config::{ConnectionSettings, ProxyHeaders};
use ringsail_api::istio::mesh::v1alpha1::ForwardClientCertDetails as Declared;
use ringsail_model::{Mesh, Proxy, ProxyType, proxy_config};
use ringsail_xds::envoy::config::core::v3::http1_protocol_options::HeaderKeyFormat;
use ringsail_xds::envoy::config::core::v3::http1_protocol_options::header_key_format::HeaderFormat;
use ringsail_xds::envoy::config::core::v3::http_protocol_options::HeadersWithUnderscoresAction;
use ringsail_xds::envoy::config::core::v3::TypedExtensionConfig;
use ringsail_xds::envoy::config::route::v3::{RouteConfiguration, route};
use ringsail_xds::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use ringsail_xds::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    ForwardClientCertDetails, PathWithEscapedSlashesAction, ServerHeaderTransformation,
};
use ringsail_xds::envoy::extensions::http::header_formatters::preserve_case::v3::PreserveCaseFormatterConfig;
use ringsail_xds::pack;

use crate::listener::filters::Side;

/// Settings of one proxy: its own over the mesh's default.
pub(crate) fn effective(mesh: &Mesh, proxy: &Proxy) -> ProxyConfig {
    let default = mesh.settings().config.default_config.clone().unwrap_or_default();
    match &proxy.config {
        Some(own) => proxy_config::merge(default, own),
        None => default,
    }
}

fn headers(config: &ProxyConfig) -> Option<&ProxyHeaders> {
    config.proxy_headers.as_ref()
}

/// Changes routes as the settings say.
pub(crate) fn apply_to_routes(routes: &mut RouteConfiguration, config: &ProxyConfig) {
    let forwards_host = headers(config)
        .and_then(|headers| headers.x_forwarded_host.as_ref())
        .and_then(|setting| setting.enabled);
    for host in &mut routes.virtual_hosts {
        host.include_request_attempt_count &= counts_attempts(config);
        for found in &mut host.routes {
            if let Some(route::Action::Route(action)) = &mut found.action {
                action.append_x_forwarded_host |= forwards_host == Some(true);
            }
        }
    }
}

/// Whether requests tell how often they were sent.
fn counts_attempts(config: &ProxyConfig) -> bool {
    let setting = headers(config).and_then(|headers| headers.attempt_count.as_ref());
    setting.and_then(|setting| setting.disabled) != Some(true)
}

/// Whether `x-envoy-…` headers that only explain things are left out.
pub(crate) fn hides_envoy_headers(config: &ProxyConfig) -> bool {
    let setting = headers(config).and_then(|headers| headers.envoy_debug_headers.as_ref());
    setting.and_then(|setting| setting.disabled) == Some(true)
}

/// Whether services outside the mesh are told nothing of the workload.
pub(crate) fn tells_only_the_mesh(config: &ProxyConfig) -> bool {
    let setting = headers(config).and_then(|headers| headers.metadata_exchange_headers.as_ref());
    setting.is_some_and(|setting| setting.mode() == MetadataExchangeMode::InMesh)
}

/// Whether what stands in front of a gateway tells of its clients by the PROXY protocol.
pub(crate) fn expects_proxy_headers(config: &ProxyConfig) -> bool {
    config.gateway_topology.as_ref().is_some_and(|topology| topology.proxy_protocol.is_some())
}

/// Most bytes a connection of a listener may buffer.
pub(crate) fn listener_buffer(config: &ProxyConfig, proxy: &Proxy) -> Option<u32> {
    let settings = connection_settings(config, proxy)?;
    settings.listener_per_connection_buffer_limit_bytes.and_then(|bytes| u32::try_from(bytes).ok())
}

/// Most bytes a connection of a cluster may buffer.
pub(crate) fn cluster_buffer(config: &ProxyConfig, proxy: &Proxy) -> Option<u32> {
    let settings = connection_settings(config, proxy)?;
    settings.cluster_per_connection_buffer_limit_bytes.and_then(|bytes| u32::try_from(bytes).ok())
}

/// Changes a connection manager as the settings say.
pub(crate) fn apply(manager: &mut HttpConnectionManager, side: Side, proxy: &Proxy, config: &ProxyConfig) {
    if let Some(headers) = &config.proxy_headers {
        apply_headers(manager, side, headers);
    }
    if side == Side::Gateway
        && let Some(topology) = &config.gateway_topology
    {
        manager.xff_num_trusted_hops = topology.num_trusted_proxies;
        if let Some(details) = client_cert(topology.forward_client_cert_details()) {
            manager.forward_client_cert_details = details as i32;
        }
    }
    if let Some(settings) = connection_settings(config, proxy) {
        apply_connection(manager, &settings);
    }
}

fn apply_headers(manager: &mut HttpConnectionManager, side: Side, headers: &ProxyHeaders) {
    if let Some(server) = &headers.server {
        if server.disabled == Some(true) {
            manager.server_name.clear();
            manager.server_header_transformation = ServerHeaderTransformation::PassThrough as i32;
        } else if !server.value.is_empty() {
            manager.server_name.clone_from(&server.value);
        }
    }
    if headers.request_id.as_ref().and_then(|setting| setting.disabled) == Some(true) {
        manager.generate_request_id = Some(false);
    }
    manager.append_x_forwarded_port =
        headers.x_forwarded_port.as_ref().and_then(|setting| setting.enabled) == Some(true);
    if headers.preserve_http1_header_case == Some(true) {
        let options = manager.http_protocol_options.get_or_insert_default();
        options.header_key_format = Some(HeaderKeyFormat {
            header_format: Some(HeaderFormat::StatefulFormatter(TypedExtensionConfig {
                name: "preserve_case".to_owned(),
                typed_config: Some(pack(&PreserveCaseFormatterConfig::default())),
            })),
        });
    }
    // Compat: of gateways the topology says it.
    if side == Side::Inbound
        && let Some(details) = client_cert(headers.forwarded_client_cert())
    {
        manager.forward_client_cert_details = details as i32;
    }
    if side == Side::Inbound
        && let (Some(own), Some(details)) =
            (&headers.set_current_client_cert_details, &mut manager.set_current_client_cert_details)
    {
        details.subject = own.subject.or(details.subject);
        details.cert = own.cert.unwrap_or(details.cert);
        details.chain = own.chain.unwrap_or(details.chain);
        details.dns = own.dns.unwrap_or(details.dns);
        details.uri = own.uri.unwrap_or(details.uri);
    }
}

fn client_cert(declared: Declared) -> Option<ForwardClientCertDetails> {
    Some(match declared {
        Declared::Undefined => return None,
        Declared::Sanitize => ForwardClientCertDetails::Sanitize,
        Declared::ForwardOnly => ForwardClientCertDetails::ForwardOnly,
        Declared::AppendForward => ForwardClientCertDetails::AppendForward,
        Declared::SanitizeSet => ForwardClientCertDetails::SanitizeSet,
        Declared::AlwaysForwardOnly => ForwardClientCertDetails::AlwaysForwardOnly,
    })
}

/// The connection settings, with those of the profile EDGE filled in for gateways. Source: istiod,
/// `connection_settings.go`.
fn connection_settings(config: &ProxyConfig, proxy: &Proxy) -> Option<ConnectionSettings> {
    let mut settings = *config.connection_settings.as_ref()?;
    if settings.profile() != Profile::Edge || proxy.kind != ProxyType::Router {
        return Some(settings);
    }
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let own = &mut settings;
    own.listener_per_connection_buffer_limit_bytes.get_or_insert(32 * 1024);
    own.http_idle_timeout = own.http_idle_timeout.or(seconds(60 * 60));
    own.http_stream_idle_timeout = own.http_stream_idle_timeout.or(seconds(5 * 60));
    own.http_request_timeout = own.http_request_timeout.or(seconds(5 * 60));
    own.http_request_headers_timeout = own.http_request_headers_timeout.or(seconds(60));
    own.http_max_concurrent_streams.get_or_insert(100);
    own.http2_initial_stream_window_size.get_or_insert(64 * 1024);
    own.http2_initial_connection_window_size.get_or_insert(1024 * 1024);
    if own.http_headers_with_underscores_action() == Underscores::HeadersWithUnderscoresUnspecified {
        own.http_headers_with_underscores_action = Underscores::HeadersWithUnderscoresRejectRequest as i32;
    }
    own.http_merge_slashes.get_or_insert(true);
    if own.http_path_with_escaped_slashes_action() == Slashes::PathWithEscapedSlashesUnspecified {
        own.http_path_with_escaped_slashes_action = Slashes::UnescapeAndRedirect as i32;
    }
    Some(settings)
}

fn apply_connection(manager: &mut HttpConnectionManager, settings: &ConnectionSettings) {
    let underscores = settings.http_headers_with_underscores_action();
    let durations = [
        settings.http_idle_timeout,
        settings.http_max_connection_duration,
        settings.http_max_stream_duration,
    ];
    if durations.iter().any(Option::is_some) || underscores != Underscores::HeadersWithUnderscoresUnspecified
    {
        let options = manager.common_http_protocol_options.get_or_insert_default();
        let [idle, connection, stream] = durations;
        options.idle_timeout = idle.or(options.idle_timeout);
        options.max_connection_duration = connection.or(options.max_connection_duration);
        options.max_stream_duration = stream.or(options.max_stream_duration);
        let action = match underscores {
            Underscores::HeadersWithUnderscoresRejectRequest => HeadersWithUnderscoresAction::RejectRequest,
            Underscores::HeadersWithUnderscoresDropHeader => HeadersWithUnderscoresAction::DropHeader,
            Underscores::HeadersWithUnderscoresUnspecified | Underscores::HeadersWithUnderscoresAllow => {
                HeadersWithUnderscoresAction::Allow
            }
        };
        options.headers_with_underscores_action = action as i32;
    }
    manager.stream_idle_timeout = settings.http_stream_idle_timeout.or(manager.stream_idle_timeout);
    manager.request_timeout = settings.http_request_timeout.or(manager.request_timeout);
    manager.request_headers_timeout =
        settings.http_request_headers_timeout.or(manager.request_headers_timeout);
    manager.drain_timeout = settings.http_drain_timeout.or(manager.drain_timeout);
    // Negative sizes are no sizes.
    let size = |size: Option<i32>| size.and_then(|size| u32::try_from(size).ok());
    let sizes = [
        size(settings.http_max_concurrent_streams),
        size(settings.http2_initial_stream_window_size),
        size(settings.http2_initial_connection_window_size),
    ];
    if sizes.iter().any(Option::is_some) {
        let options = manager.http2_protocol_options.get_or_insert_default();
        let [streams, stream, connection] = sizes;
        options.max_concurrent_streams = streams.or(options.max_concurrent_streams);
        options.initial_stream_window_size = stream.or(options.initial_stream_window_size);
        options.initial_connection_window_size = connection.or(options.initial_connection_window_size);
    }
    manager.merge_slashes = settings.http_merge_slashes.unwrap_or(manager.merge_slashes);
    let action = match settings.http_path_with_escaped_slashes_action() {
        Slashes::PathWithEscapedSlashesUnspecified => return,
        Slashes::KeepUnchanged => PathWithEscapedSlashesAction::KeepUnchanged,
        Slashes::RejectRequest => PathWithEscapedSlashesAction::RejectRequest,
        Slashes::UnescapeAndRedirect => PathWithEscapedSlashesAction::UnescapeAndRedirect,
        Slashes::UnescapeAndForward => PathWithEscapedSlashesAction::UnescapeAndForward,
    };
    manager.path_with_escaped_slashes_action = action as i32;
}
