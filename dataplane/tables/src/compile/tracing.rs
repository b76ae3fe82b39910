//! Tracing settings.

use std::sync::Arc;

use ringsail_xds::envoy::config::core::v3 as core;
use ringsail_xds::envoy::config::route::v3 as route_pb;
use ringsail_xds::envoy::config::trace::v3 as trace;
use ringsail_xds::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager as hcm;
use ringsail_xds::envoy::extensions::tracers::opentelemetry::resource_detectors::v3::{
    EnvironmentResourceDetectorConfig, StaticConfigResourceDetectorConfig,
};
use ringsail_xds::envoy::extensions::tracers::opentelemetry::samplers::v3::AlwaysOnSamplerConfig;
use ringsail_xds::envoy::r#type::metadata::v3 as metadata_pb;
use ringsail_xds::envoy::r#type::tracing::v3 as pb;
use ringsail_xds::envoy::r#type::v3 as types;

use super::collector::{grpc_service, http_service};
use super::context::Context;
use super::value::{fraction, holds, unpack};
use crate::collector::{Collector, CollectorProtocol};
use crate::fraction::Fraction;
use crate::limits::TRACE_BATCH_DEFAULT;
use crate::metadata::Value;
use crate::strings::Str;
use crate::tracing::{
    CustomTag, MetadataKind, OpenTelemetry, Resource, RouteTracing, Sampling, TagSource, TraceProvider,
    Tracing, Zipkin,
};

/// Source: `HttpConnectionManager.Tracing.max_path_tag_length`.
const PATH_BYTES_DEFAULT: u32 = 256;

/// Percent of a percent, the unit in which Envoy draws.
const TEN_THOUSAND: u32 = 10_000;

/// The settings of a connection manager.
pub(super) fn tracing(cx: &mut Context<'_>, value: &hcm::Tracing) -> Option<Tracing> {
    let provider = match &value.provider {
        Some(http) => Some(Arc::new(cx.at("provider", |cx| provider(cx, http))?)),
        None => cx.trace_provider.clone(),
    };
    let share = |cx: &mut Context<'_>, field: &str, value: Option<types::Percent>| match value {
        None => Some(Fraction::ALL),
        Some(types::Percent { value }) if (0.0..=100.0).contains(&value) => {
            Some(Fraction { numerator: (value * 100.0).round() as u32, denominator: TEN_THOUSAND })
        }
        Some(types::Percent { value }) => cx.refuse(field, format_args!("{value} is no percentage")),
    };
    Some(Tracing {
        provider,
        sampling: Sampling {
            // Compat: a fraction of a percent is cut off.
            client: match share(cx, "client_sampling", value.client_sampling)? {
                Fraction { numerator, denominator: TEN_THOUSAND } => {
                    Fraction { numerator: numerator / 100, denominator: 100 }
                }
                all => all,
            },
            random: share(cx, "random_sampling", value.random_sampling)?,
            overall: share(cx, "overall_sampling", value.overall_sampling)?,
        },
        verbose: value.verbose,
        path_bytes_max: value.max_path_tag_length.unwrap_or(PATH_BYTES_DEFAULT),
        tags: custom_tags(cx, &value.custom_tags),
        spawn_upstream_span: value.spawn_upstream_span.unwrap_or(false),
        no_context_propagation: value.no_context_propagation,
    })
}

/// The settings of a route.
pub(super) fn route_tracing(cx: &mut Context<'_>, value: &route_pb::Tracing) -> Option<RouteTracing> {
    let share = |cx: &mut Context<'_>, field: &str, value: &Option<types::FractionalPercent>| match value {
        Some(value) => fraction(cx, field, value),
        None => Some(Fraction::ALL),
    };
    Some(RouteTracing {
        sampling: Sampling {
            client: share(cx, "client_sampling", &value.client_sampling)?,
            random: share(cx, "random_sampling", &value.random_sampling)?,
            overall: share(cx, "overall_sampling", &value.overall_sampling)?,
        },
        tags: custom_tags(cx, &value.custom_tags),
    })
}

/// A tracing system.
pub(super) fn provider(cx: &mut Context<'_>, value: &trace::tracing::Http) -> Option<TraceProvider> {
    let Some(trace::tracing::http::ConfigType::TypedConfig(any)) = &value.config_type else {
        return cx.refuse("typed_config", "is not set");
    };
    cx.at("typed_config", |cx| {
        if holds::<trace::ZipkinConfig>(any) {
            let config = unpack(cx, any)?;
            zipkin(cx, &config).map(TraceProvider::Zipkin)
        } else if holds::<trace::OpenTelemetryConfig>(any) {
            let config = unpack(cx, any)?;
            open_telemetry(cx, &config).map(TraceProvider::OpenTelemetry)
        } else {
            cx.refuse("", format_args!("tracing provider {:?} is not supported", any.type_url))
        }
    })
}

fn zipkin(cx: &mut Context<'_>, value: &trace::ZipkinConfig) -> Option<Zipkin> {
    use trace::zipkin_config::{CollectorEndpointVersion, TraceContextOption};
    let collector = match &value.collector_service {
        Some(service) => cx.at("collector_service", |cx| http_service(cx, service))?,
        None => {
            if value.collector_cluster.is_empty() {
                return cx.refuse("collector_cluster", "is empty");
            }
            if !value.collector_endpoint.starts_with('/') {
                return cx.refuse("collector_endpoint", "is no path");
            }
            let host = if value.collector_hostname.is_empty() {
                &value.collector_cluster
            } else {
                &value.collector_hostname
            };
            Collector {
                cluster: cx.intern(&value.collector_cluster),
                protocol: CollectorProtocol::Http {
                    host: cx.intern(host),
                    path: cx.intern(&value.collector_endpoint),
                },
                headers: Box::default(),
                timeout: None,
            }
        }
    };
    if value.collector_endpoint_version != CollectorEndpointVersion::HttpJson as i32 {
        return cx.refuse("collector_endpoint_version", "only HTTP_JSON is supported");
    }
    let w3c = match TraceContextOption::try_from(value.trace_context_option) {
        Ok(TraceContextOption::UseB3) => false,
        Ok(TraceContextOption::UseB3WithW3cPropagation) => true,
        Err(_) => return cx.refuse("trace_context_option", "is not known"),
    };
    Some(Zipkin {
        collector,
        long_trace_ids: value.trace_id_128bit,
        shared_span_context: value.shared_span_context.unwrap_or(true),
        w3c,
    })
}

fn open_telemetry(cx: &mut Context<'_>, value: &trace::OpenTelemetryConfig) -> Option<OpenTelemetry> {
    let collector = collector(cx, value.grpc_service.as_ref(), value.http_service.as_ref())?;
    let always_on = match &value.sampler {
        None => false,
        Some(sampler) => match &sampler.typed_config {
            Some(any) if holds::<AlwaysOnSamplerConfig>(any) => true,
            _ => return cx.refuse("sampler.typed_config", "this sampler is not supported"),
        },
    };
    let service_name =
        if value.service_name.is_empty() { "unknown_service:envoy" } else { &value.service_name };
    Some(OpenTelemetry {
        collector,
        service_name: cx.intern(service_name),
        resource: resource(cx, &value.resource_detectors)?,
        always_on,
        batch_max: value.max_cache_size.map_or(TRACE_BATCH_DEFAULT, |size| size.max(1) as usize),
    })
}

/// A gRPC or an HTTP service, exactly one.
pub(super) fn collector(
    cx: &mut Context<'_>,
    grpc: Option<&core::GrpcService>,
    http: Option<&core::HttpService>,
) -> Option<Collector> {
    match (grpc, http) {
        (Some(service), None) => cx.at("grpc_service", |cx| grpc_service(cx, service)),
        (None, Some(service)) => cx.at("http_service", |cx| http_service(cx, service)),
        (Some(_), Some(_)) => cx.refuse("http_service", "excludes grpc_service"),
        (None, None) => cx.refuse("grpc_service", "is not set, nor is http_service"),
    }
}

/// What resource detectors find.
pub(super) fn resource(cx: &mut Context<'_>, list: &[core::TypedExtensionConfig]) -> Option<Resource> {
    let mut attributes = Vec::new();
    let mut from_environment = false;
    cx.each("resource_detectors", list, |cx, detector| {
        let any = detector.typed_config.as_ref()?;
        if holds::<EnvironmentResourceDetectorConfig>(any) {
            from_environment = true;
        } else if holds::<StaticConfigResourceDetectorConfig>(any) {
            let config: StaticConfigResourceDetectorConfig = unpack(cx, any)?;
            for (key, value) in &config.attributes {
                attributes.push((cx.intern(key), Value::String(cx.intern(value))));
            }
        } else {
            return cx.refuse("typed_config", format_args!("{:?} is not supported", any.type_url));
        }
        Some(())
    });
    Some(Resource { attributes: attributes.into(), from_environment })
}

/// Tags sorted by name, as Envoy keeps them.
pub(super) fn custom_tags(cx: &mut Context<'_>, list: &[pb::CustomTag]) -> Box<[CustomTag]> {
    let mut tags = cx.each("custom_tags", list, custom_tag).into_vec();
    tags.sort_by(|a, b| a.name.cmp(&b.name));
    tags.into()
}

fn custom_tag(cx: &mut Context<'_>, value: &pb::CustomTag) -> Option<CustomTag> {
    use pb::custom_tag::Type;
    if value.tag.is_empty() {
        return cx.refuse("tag", "is empty");
    }
    let (source, default) = match &value.r#type {
        Some(Type::Literal(literal)) => (TagSource::Literal(cx.intern(&literal.value)), ""),
        Some(Type::Environment(variable)) => {
            (TagSource::Environment(cx.intern(&variable.name)), variable.default_value.as_str())
        }
        Some(Type::RequestHeader(header)) => {
            (TagSource::RequestHeader(cx.intern_lower(&header.name)), header.default_value.as_str())
        }
        Some(Type::Metadata(metadata)) => {
            (cx.at("metadata", |cx| metadata_source(cx, metadata))?, metadata.default_value.as_str())
        }
        Some(Type::Value(format)) => {
            cx.check_format("value", format, false);
            (TagSource::Format(cx.intern(format)), "")
        }
        None => return cx.refuse("", "has no value"),
    };
    Some(CustomTag { name: cx.intern(&value.tag), source, default: cx.intern_set(default) })
}

fn metadata_source(cx: &mut Context<'_>, value: &pb::custom_tag::Metadata) -> Option<TagSource> {
    use metadata_pb::metadata_key::path_segment::Segment;
    use metadata_pb::metadata_kind::Kind;
    let kind = match value.kind.as_ref().and_then(|kind| kind.kind.as_ref()) {
        Some(Kind::Request(_)) => MetadataKind::Request,
        Some(Kind::Route(_)) => MetadataKind::Route,
        Some(Kind::Cluster(_)) => MetadataKind::Cluster,
        Some(Kind::Host(_)) => MetadataKind::Host,
        None => return cx.refuse("kind", "is not set"),
    };
    let Some(key) = &value.metadata_key else { return cx.refuse("metadata_key", "is not set") };
    let path = cx.each("metadata_key.path", &key.path, |cx, segment| match &segment.segment {
        Some(Segment::Key(key)) => Some(cx.intern(key)),
        Some(Segment::Index(_)) => cx.refuse("index", "lists are not supported"),
        None => cx.refuse("key", "is not set"),
    });
    let path: Box<[Str]> = path;
    Some(TagSource::Metadata { kind, namespace: cx.intern(&key.key), path })
}
