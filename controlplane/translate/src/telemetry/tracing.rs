//! Tracing of connection managers.

use std::collections::BTreeMap;

use prost_types::Any;
use ringsail_api::ProxyConfig;
use ringsail_api::istio::mesh::v1alpha1 as mesh_api;
use ringsail_api::istio::mesh::v1alpha1::mesh_config::extension_provider::zipkin_tracing_provider::TraceContextOption;
use ringsail_api::istio::mesh::v1alpha1::mesh_config::extension_provider::{
    OpenTelemetryTracingProvider, Provider, ServiceAttributeEnrichment, ZipkinTracingProvider,
};
use ringsail_api::telemetry::tracing as declared;
use ringsail_model::telemetry::{TracingRule, provider};
use ringsail_model::{Mesh, Proxy, ProxyType};
use ringsail_xds::envoy::config::core::v3::TypedExtensionConfig;
use ringsail_xds::envoy::config::trace::v3::tracing::{Http, http};
use ringsail_xds::envoy::config::trace::v3::{OpenTelemetryConfig, ZipkinConfig, zipkin_config};
use ringsail_xds::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::Tracing;
use ringsail_xds::envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig;
use ringsail_xds::envoy::extensions::tracers::opentelemetry::resource_detectors::v3::EnvironmentResourceDetectorConfig;
use ringsail_xds::envoy::r#type::tracing::v3::{CustomTag, custom_tag};
use ringsail_xds::envoy::r#type::v3::Percent;
use ringsail_xds::pack;

use super::provider::{Collector, header_values};

/// Share of requests that begin a trace, in percent. Source: `PILOT_TRACE_SAMPLING`.
const SAMPLING_DEFAULT: f64 = 1.0;
/// Where Zipkin takes spans. Source: istiod, `tracing.go`.
const ZIPKIN_PATH: &str = "/api/v2/spans";
/// Annotation that names a workload to OpenTelemetry. Source: OpenTelemetry, Kubernetes service attributes.
const SERVICE_NAME_ANNOTATION: &str = "resource.opentelemetry.io/service.name";

/// Tracing of one side, and whether `x-request-id` carries the decision.
pub(crate) fn build(
    mesh: &Mesh,
    proxy: &Proxy,
    config: &ProxyConfig,
    rule: Option<TracingRule>,
) -> (Option<Tracing>, bool) {
    let of_proxy = config.tracing.as_ref();
    let Some(rule) = rule else {
        return (mesh.settings().config.enable_tracing.then(|| of_mesh_config(proxy, of_proxy)), true);
    };
    (of_rule(mesh, proxy, &rule, of_proxy), rule.use_request_id)
}

/// Settings of `x-request-id`.
pub(crate) fn request_id(use_for_sampling: bool) -> Any {
    pack(&UuidRequestIdConfig {
        use_request_id_for_trace_sampling: Some(use_for_sampling),
        ..UuidRequestIdConfig::default()
    })
}

/// Without Telemetry objects spans go where the proxy's bootstrap says.
fn of_mesh_config(proxy: &Proxy, of_proxy: Option<&mesh_api::Tracing>) -> Tracing {
    let istio_tags = of_proxy.and_then(|tracing| tracing.enable_istio_tags).unwrap_or(true);
    let mut tracing = sampled(Tracing::default(), default_sampling(of_proxy));
    tracing.custom_tags = tags(istio_tags.then_some(proxy), tags_of_proxy(of_proxy));
    tracing.max_path_tag_length = path_length(0, of_proxy);
    tracing
}

fn of_rule(
    mesh: &Mesh,
    proxy: &Proxy,
    rule: &TracingRule,
    of_proxy: Option<&mesh_api::Tracing>,
) -> Option<Tracing> {
    if rule.disabled {
        return None;
    }
    let found = provider(&mesh.settings().config, rule.provider.as_deref()?)?;
    let (name, config, path_length_max) = match &found.provider {
        Some(Provider::Zipkin(own)) => ("envoy.tracers.zipkin", zipkin(mesh, own)?, own.max_tag_length),
        Some(Provider::Opentelemetry(own)) => {
            ("envoy.tracers.opentelemetry", open_telemetry(mesh, proxy, own)?, own.max_tag_length)
        }
        // The others were reported; spans go nowhere.
        _ => return None,
    };
    let provider = Http { name: name.to_owned(), config_type: Some(http::ConfigType::TypedConfig(config)) };
    let tracing = Tracing {
        provider: Some(provider),
        // A gateway begins a trace of its own for each upstream.
        spawn_upstream_span: (proxy.kind == ProxyType::Router).then_some(true),
        no_context_propagation: rule.no_context_propagation,
        max_path_tag_length: path_length(path_length_max, of_proxy),
        custom_tags: tags(
            rule.istio_tags.then_some(proxy),
            match rule.custom_tags.is_empty() {
                true => tags_of_proxy(of_proxy),
                false => tags_of_rule(&rule.custom_tags),
            },
        ),
        ..Tracing::default()
    };
    Some(sampled(tracing, rule.sampling.unwrap_or_else(|| default_sampling(of_proxy))))
}

fn zipkin(mesh: &Mesh, own: &ZipkinTracingProvider) -> Option<Any> {
    let collector = Collector::find(mesh, &own.service, own.port)?;
    let path = if own.path.is_empty() { ZIPKIN_PATH } else { &own.path };
    let uri = format!("http://{}{path}", collector.hostname());
    let context = match own.trace_context_option() {
        TraceContextOption::UseB3 => zipkin_config::TraceContextOption::UseB3,
        TraceContextOption::UseB3WithW3cPropagation => {
            zipkin_config::TraceContextOption::UseB3WithW3cPropagation
        }
    };
    Some(pack(&ZipkinConfig {
        collector_endpoint_version: zipkin_config::CollectorEndpointVersion::HttpJson as i32,
        trace_id_128bit: !own.enable_64bit_trace_id,
        shared_span_context: Some(false),
        trace_context_option: context as i32,
        collector_service: Some(collector.http(uri, own.timeout, &own.headers)),
        ..ZipkinConfig::default()
    }))
}

fn open_telemetry(mesh: &Mesh, proxy: &Proxy, own: &OpenTelemetryTracingProvider) -> Option<Any> {
    // Sampling that is decided by a service of its own is not supported; without it nothing would be traced as asked.
    if own.sampling.is_some() {
        return None;
    }
    let collector = Collector::find(mesh, &own.service, own.port)?;
    let semantic = own.service_attribute_enrichment() == ServiceAttributeEnrichment::OtelSemanticConventions;
    let environment =
        own.resource_detectors.as_ref().is_some_and(|detectors| detectors.environment.is_some());
    let mut config = OpenTelemetryConfig {
        service_name: if semantic { semantic_name(proxy) } else { proxy.service_cluster.clone() },
        ..OpenTelemetryConfig::default()
    };
    match &own.http {
        Some(http) => {
            let uri = format!("{}/{}", collector.hostname(), http.path.trim_start_matches('/'));
            config.http_service = Some(collector.http(uri, http.timeout, &http.headers));
        }
        None => {
            let mut grpc = collector.grpc();
            if let Some(declared) = &own.grpc {
                grpc.timeout = declared.timeout;
                grpc.initial_metadata = header_values(&declared.initial_metadata).collect();
            }
            config.grpc_service = Some(grpc);
        }
    }
    if environment || semantic {
        config.resource_detectors = vec![TypedExtensionConfig {
            name: "envoy.tracers.opentelemetry.resource_detectors.environment".to_owned(),
            typed_config: Some(pack(&EnvironmentResourceDetectorConfig {})),
        }];
    }
    Some(pack(&config))
}

/// The service's name by OpenTelemetry's conventions for Kubernetes.
fn semantic_name(proxy: &Proxy) -> String {
    let label = |name: &str| proxy.labels.get(name).filter(|value| !value.is_empty());
    proxy
        .annotations
        .get(SERVICE_NAME_ANNOTATION)
        .or_else(|| label("app.kubernetes.io/instance"))
        .or_else(|| label("app.kubernetes.io/name"))
        .or(Some(&proxy.workload_name))
        .filter(|name| !name.is_empty())
        .cloned()
        .unwrap_or_else(|| proxy.pod_name().to_owned())
}

fn sampled(tracing: Tracing, random: f64) -> Tracing {
    let all = || Some(Percent { value: 100.0 });
    Tracing {
        client_sampling: all(),
        overall_sampling: all(),
        random_sampling: Some(Percent { value: random }),
        ..tracing
    }
}

fn default_sampling(of_proxy: Option<&mesh_api::Tracing>) -> f64 {
    match of_proxy.map_or(0.0, |tracing| tracing.sampling) {
        // Compat: unset, or out of range.
        0.0 => SAMPLING_DEFAULT,
        declared if declared > 100.0 => SAMPLING_DEFAULT,
        declared => declared,
    }
}

fn path_length(of_provider: u32, of_proxy: Option<&mesh_api::Tracing>) -> Option<u32> {
    let of_proxy = of_proxy.map_or(0, |tracing| tracing.max_path_tag_length);
    [of_provider, of_proxy].into_iter().find(|length| *length != 0)
}

/// Tags in order of their names: what the proxy is, if wanted, and others.
fn tags(istio: Option<&Proxy>, others: Vec<CustomTag>) -> Vec<CustomTag> {
    let mut tags: Vec<CustomTag> = istio.into_iter().flat_map(istio_tags).collect();
    tags.extend(others);
    tags.sort_by(|a, b| a.tag.cmp(&b.tag));
    tags
}

/// Source: telemetry contract §4. Those of policies on trial are left out until there are such policies.
fn istio_tags(proxy: &Proxy) -> [CustomTag; 5] {
    let or = |value: Option<&String>, otherwise: &str| {
        value.filter(|value| !value.is_empty()).map_or(otherwise, String::as_str).to_owned()
    };
    let label = |name: &str| proxy.labels.get(name);
    let values = [
        ("istio.canonical_revision", or(label("service.istio.io/canonical-revision"), "latest")),
        ("istio.canonical_service", or(label("service.istio.io/canonical-name"), "unknown")),
        ("istio.mesh_id", or(Some(&proxy.mesh_id), "unknown")),
        ("istio.namespace", or(Some(&proxy.namespace), "default")),
        ("istio.cluster_id", or(Some(&proxy.cluster), "unknown")),
    ];
    values.map(|(name, value)| tag(name, custom_tag::Type::Literal(custom_tag::Literal { value })))
}

fn tag(name: &str, value: custom_tag::Type) -> CustomTag {
    CustomTag { tag: name.to_owned(), r#type: Some(value) }
}

fn tags_of_rule(declared: &BTreeMap<String, declared::CustomTag>) -> Vec<CustomTag> {
    use declared::custom_tag::Type;
    let built = declared.iter().filter_map(|(name, what)| {
        let value = match what.r#type.clone()? {
            Type::Literal(own) => literal(own.value),
            Type::Environment(own) => environment(own.name, own.default_value),
            Type::Header(own) => header(own.name, own.default_value),
            Type::Formatter(own) => custom_tag::Type::Value(own.value),
        };
        Some(tag(name, value))
    });
    built.collect()
}

fn tags_of_proxy(of_proxy: Option<&mesh_api::Tracing>) -> Vec<CustomTag> {
    use mesh_api::tracing::custom_tag::Type;
    let declared = of_proxy.into_iter().flat_map(|tracing| &tracing.custom_tags);
    let built = declared.filter_map(|(name, what)| {
        let value = match what.r#type.clone()? {
            Type::Literal(own) => literal(own.value),
            Type::Environment(own) => environment(own.name, own.default_value),
            Type::Header(own) => header(own.name, own.default_value),
        };
        Some(tag(name, value))
    });
    built.collect()
}

fn literal(value: String) -> custom_tag::Type {
    custom_tag::Type::Literal(custom_tag::Literal { value })
}

fn environment(name: String, default_value: String) -> custom_tag::Type {
    custom_tag::Type::Environment(custom_tag::Environment { name, default_value })
}

fn header(name: String, default_value: String) -> custom_tag::Type {
    custom_tag::Type::RequestHeader(custom_tag::Header { name, default_value })
}
