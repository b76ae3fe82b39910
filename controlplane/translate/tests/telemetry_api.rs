//! What Telemetry objects and extension providers make of a proxy's filters.

mod support;

use ringsail_translate::translate;
use ringsail_xds::envoy::config::accesslog::v3::access_log::ConfigType as LogConfig;
use ringsail_xds::envoy::config::accesslog::v3::access_log_filter::FilterSpecifier;
use ringsail_xds::envoy::config::accesslog::v3::{AccessLog, extension_filter};
use ringsail_xds::envoy::config::core::v3::http_uri::HttpUpstreamType;
use ringsail_xds::envoy::config::core::v3::substitution_format_string::Format;
use ringsail_xds::envoy::config::listener::v3::filter::ConfigType;
use ringsail_xds::envoy::config::trace::v3::{OpenTelemetryConfig, ZipkinConfig, tracing::http};
use ringsail_xds::envoy::extensions::access_loggers::file::v3::{FileAccessLog, file_access_log};
use ringsail_xds::envoy::extensions::access_loggers::filters::cel::v3::ExpressionFilter;
use ringsail_xds::envoy::extensions::access_loggers::grpc::v3::HttpGrpcAccessLogConfig;
use ringsail_xds::envoy::extensions::access_loggers::open_telemetry::v3::OpenTelemetryAccessLogConfig;
use ringsail_xds::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_connection_manager::Tracing, http_filter,
};
use ringsail_xds::envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig;
use ringsail_xds::envoy::r#type::tracing::v3::custom_tag::Type as TagType;
use ringsail_xds::stats::PluginConfig;
use ringsail_xds::{type_url, unpack};
use support::{Seen, mesh_with, node};

const SHOP: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  clusterIP: 10.0.0.1
  selector: {app: web}
  ports: [{name: http, port: 80}]
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
status: {podIP: 10.1.0.1}
---
apiVersion: v1
kind: Service
metadata: {name: collector, namespace: observe}
spec: {clusterIP: 10.0.0.9, ports: [{name: http, port: 9411}, {name: grpc, port: 4317}]}
";

const PROVIDERS: &str = "
extensionProviders:
- name: zipkin
  zipkin: {service: collector.observe.svc.cluster.local, port: 9411, maxTagLength: 64}
- name: otel
  opentelemetry: {service: observe/collector.observe.svc.cluster.local, port: 4317}
- name: otel-http
  opentelemetry:
    service: collector.observe.svc.cluster.local
    port: 9411
    http: {path: /v1/traces, timeout: 3s, headers: [{name: x-token, value: secret}]}
- name: als
  envoyHttpAls: {service: collector.observe.svc.cluster.local, port: 4317, logName: mine}
- name: otel-logs
  envoyOtelAls: {service: collector.observe.svc.cluster.local, port: 4317, logFormat: {labels: {path: '%REQ(:PATH)%'}}}
- name: json
  envoyFileAccessLog: {path: /dev/stderr, logFormat: {labels: {m: '%REQ(:METHOD)%'}}}
- name: elsewhere
  zipkin: {service: nowhere.example.com, port: 9411}
- name: datadog
  datadog: {service: collector.observe.svc.cluster.local, port: 9411}
";

/// The sidecar of `web` in `shop`, with one Telemetry object for each `name@namespace: spec`.
fn seen(mesh_config: &str, objects: &[(&str, &str)]) -> Seen {
    let telemetries = objects.iter().map(|(place, spec)| {
        let (name, namespace) = place.split_once('@').expect("name@namespace");
        format!(
            "---\napiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
             spec: {spec}\n"
        )
    });
    let yaml = format!("{SHOP}{}", telemetries.collect::<String>());
    let labels = ["label:app=web", "MESH_ID=m", "CLUSTER_ID=c", "NAMESPACE=shop"];
    let mut proxy = node("sidecar", "10.1.0.1", "shop", &labels);
    proxy.istio_filters = true;
    proxy.service_cluster = "web.shop".to_owned();
    Seen::of(&translate(&mesh_with(&format!("{PROVIDERS}{mesh_config}"), &yaml), &proxy))
}

/// The connection manager of requests to other services, or of those to the workload.
fn manager(seen: &Seen, listener: &str) -> HttpConnectionManager {
    let listener = seen.listener(listener);
    let filters = listener.filter_chains.iter().flat_map(|chain| &chain.filters);
    let mut configs = filters.filter_map(|filter| match &filter.config_type {
        Some(ConfigType::TypedConfig(config)) if config.type_url == type_url::HTTP_CONNECTION_MANAGER => {
            Some(config)
        }
        _ => None,
    });
    unpack(configs.next().expect("a connection manager")).expect("a connection manager")
}

const OUTBOUND: &str = "0.0.0.0_80";
const INBOUND: &str = "virtualInbound";

fn stats(seen: &Seen, listener: &str) -> Vec<PluginConfig> {
    let filters = manager(seen, listener).http_filters;
    let configs = filters.iter().filter(|filter| filter.name == "istio.stats").map(|filter| {
        let Some(http_filter::ConfigType::TypedConfig(config)) = &filter.config_type else {
            panic!("no config")
        };
        unpack(config).expect("settings of istio.stats")
    });
    configs.collect()
}

fn tracing(seen: &Seen, listener: &str) -> Option<Tracing> {
    manager(seen, listener).tracing
}

fn provider_any(tracing: &Tracing) -> prost_types::Any {
    let provider = tracing.provider.as_ref().expect("a provider");
    let Some(http::ConfigType::TypedConfig(config)) = &provider.config_type else { panic!("no config") };
    config.clone()
}

fn logs(seen: &Seen, listener: &str) -> Vec<AccessLog> {
    manager(seen, listener).access_log
}

fn file(log: &AccessLog) -> (String, Format) {
    let Some(LogConfig::TypedConfig(config)) = &log.config_type else { panic!("no config") };
    let file: FileAccessLog = unpack(config).expect("a file log");
    let Some(file_access_log::AccessLogFormat::LogFormat(format)) = file.access_log_format else {
        panic!("no format")
    };
    (file.path, format.format.expect("a format"))
}

fn config(log: &AccessLog) -> prost_types::Any {
    let Some(LogConfig::TypedConfig(config)) = &log.config_type else { panic!("no config") };
    config.clone()
}

#[test]
fn metrics_are_made_by_default_and_tell_names_of_hosts_to_clients_only() {
    let seen = seen("", &[]);
    assert_eq!(stats(&seen, OUTBOUND), [PluginConfig::default()]);
    assert!(stats(&seen, INBOUND)[0].disable_host_header_fallback);
}

#[test]
fn overrides_drop_metrics_and_change_labels_on_the_side_they_name() {
    let seen = seen(
        "",
        &[(
            "m@shop",
            "{metrics: [{providers: [{name: prometheus}], reportingInterval: 5s, overrides: [
              {match: {metric: REQUEST_DURATION}, disabled: true},
              {match: {metric: REQUEST_COUNT, mode: CLIENT},
               tagOverrides: {host: {value: request.host}, response_flags: {operation: REMOVE}}}]}]}",
        )],
    );
    let client = &stats(&seen, OUTBOUND)[0];
    let names: Vec<_> = client.metrics.iter().map(|metric| (metric.name.as_str(), metric.drop)).collect();
    assert_eq!(names, [("requests_total", false), ("request_duration_milliseconds", true)]);
    assert_eq!(client.metrics[0].dimensions["host"], "request.host");
    assert_eq!(client.metrics[0].tags_to_remove, ["response_flags"]);
    assert_eq!(client.tcp_reporting_duration.map(|time| time.seconds), Some(5));
    let server = &stats(&seen, INBOUND)[0];
    let names: Vec<_> = server.metrics.iter().map(|metric| metric.name.as_str()).collect();
    assert_eq!(names, ["request_duration_milliseconds"]);
}

#[test]
fn a_namespace_switches_on_again_what_the_mesh_switched_off() {
    let off =
        ("all@istio-system", "{metrics: [{providers: [{name: prometheus}], overrides: [{disabled: true}]}]}");
    assert!(stats(&seen("", &[off]), OUTBOUND).is_empty());
    let on = ("again@shop", "{metrics: [{overrides: [{match: {mode: CLIENT}, disabled: false}]}]}");
    let seen = seen("", &[off, on]);
    assert_eq!(stats(&seen, OUTBOUND).len(), 1);
    assert!(stats(&seen, INBOUND).is_empty());
}

#[test]
fn tcp_connections_are_counted_with_the_same_overrides() {
    let spec = "{metrics: [{providers: [{name: prometheus}],
        overrides: [{match: {metric: TCP_SENT_BYTES}, disabled: true}]}]}";
    let seen = seen("", &[("m@shop", spec)]);
    let chain = seen.listener("virtualOutbound").filter_chains.last().expect("the catch-all");
    let Some(ConfigType::TypedConfig(config)) = &chain.filters[0].config_type else { panic!("no config") };
    let stats: PluginConfig = unpack(config).expect("settings");
    assert_eq!((stats.metrics[0].name.as_str(), stats.metrics[0].drop), ("tcp_sent_bytes_total", true));
}

#[test]
fn other_providers_of_metrics_make_none_here() {
    let seen = seen("", &[("m@shop", "{metrics: [{providers: [{name: stackdriver}]}]}")]);
    assert!(stats(&seen, OUTBOUND).is_empty());
}

#[test]
fn workload_overrides_namespace_overrides_mesh() {
    let level = |share: u32| {
        format!("tracing: [{{providers: [{{name: zipkin}}], randomSamplingPercentage: {share}}}]")
    };
    let random = |objects: &[(&str, &str)]| {
        tracing(&seen("", objects), OUTBOUND).expect("traced").random_sampling.expect("a share").value
    };
    let mesh = format!("{{{}}}", level(10));
    let namespace = format!("{{{}}}", level(20));
    let workload = format!("{{selector: {{matchLabels: {{app: web}}}}, {}}}", level(30));
    let other = format!("{{selector: {{matchLabels: {{app: api}}}}, {}}}", level(40));
    let of_mesh = ("a@istio-system", mesh.as_str());
    assert_eq!(random(&[of_mesh]), 10.0);
    assert_eq!(random(&[of_mesh, ("b@shop", &namespace)]), 20.0);
    let all = [of_mesh, ("b@shop", namespace.as_str()), ("c@shop", &workload), ("d@shop", &other)];
    assert_eq!(random(&all), 30.0);
}

#[test]
fn objects_of_other_namespaces_and_for_gateways_do_not_count() {
    let spec = "{tracing: [{providers: [{name: zipkin}]}]}";
    assert!(tracing(&seen("", &[("a@other", spec)]), OUTBOUND).is_none());
    let of_gateway = "{targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: gw}],
        tracing: [{providers: [{name: zipkin}]}]}";
    assert!(tracing(&seen("", &[("a@shop", of_gateway)]), OUTBOUND).is_none());
}

#[test]
fn spans_go_to_zipkin_with_what_istio_tells_of_the_workload() {
    let spec = "{tracing: [{providers: [{name: zipkin}], customTags: {env: {literal: {value: prod}},
        user: {header: {name: x-user, defaultValue: nobody}}, at: {environment: {name: NODE}}, f: {formatter: {value: '%PROTOCOL%'}}}}]}";
    let tracing = tracing(&seen("", &[("t@shop", spec)]), OUTBOUND).expect("traced");
    let config: ZipkinConfig = unpack(&provider_any(&tracing)).expect("zipkin");
    let uri = config.collector_service.expect("a service").http_uri.expect("an address");
    assert_eq!(uri.uri, "http://collector.observe.svc.cluster.local/api/v2/spans");
    let cluster = HttpUpstreamType::Cluster("outbound|9411||collector.observe.svc.cluster.local".to_owned());
    assert_eq!(uri.http_upstream_type, Some(cluster));
    assert_eq!(uri.timeout.map(|time| time.seconds), Some(5));
    assert!(config.trace_id_128bit && config.shared_span_context == Some(false));
    assert_eq!(tracing.max_path_tag_length, Some(64));
    assert_eq!(tracing.random_sampling.map(|share| share.value), Some(1.0));
    let literal = |tag: &str| {
        let found = tracing.custom_tags.iter().find(|found| found.tag == tag).expect("a tag");
        match &found.r#type {
            Some(TagType::Literal(literal)) => literal.value.clone(),
            other => format!("{other:?}"),
        }
    };
    assert_eq!([literal("env"), literal("istio.mesh_id"), literal("istio.cluster_id")], ["prod", "m", "c"]);
    assert_eq!(literal("istio.namespace"), "shop");
    let names: Vec<_> = tracing.custom_tags.iter().map(|tag| tag.tag.as_str()).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!((names.len(), &names), (9, &sorted));
    assert!(
        tracing.custom_tags.iter().any(|tag| tag.r#type == Some(TagType::Value("%PROTOCOL%".to_owned())))
    );
}

#[test]
fn spans_go_to_open_telemetry_over_grpc_and_http() {
    let of = |provider: &str| {
        let spec = format!("{{tracing: [{{providers: [{{name: {provider}}}]}}]}}");
        let tracing = tracing(&seen("", &[("t@shop", &spec)]), INBOUND).expect("traced");
        unpack::<OpenTelemetryConfig>(&provider_any(&tracing)).expect("OpenTelemetry")
    };
    let grpc = of("otel");
    assert_eq!(grpc.service_name, "web.shop");
    let target = grpc.grpc_service.and_then(|service| service.target_specifier);
    assert!(format!("{target:?}").contains("outbound|4317||collector.observe.svc.cluster.local"));
    let service = of("otel-http").http_service.expect("HTTP");
    let uri = service.http_uri.expect("an address");
    assert_eq!(uri.uri, "collector.observe.svc.cluster.local/v1/traces");
    assert_eq!(uri.timeout.map(|time| time.seconds), Some(3));
    assert_eq!(service.request_headers_to_add[0].header.as_ref().expect("a header").value, "secret");
}

#[test]
fn each_side_is_traced_by_itself_and_reporting_can_be_off() {
    let spec =
        "{tracing: [{providers: [{name: zipkin}]}, {match: {mode: SERVER}, disableSpanReporting: true}]}";
    let seen = seen("", &[("t@shop", spec)]);
    assert!(tracing(&seen, OUTBOUND).is_some());
    assert!(tracing(&seen, INBOUND).is_none());
}

#[test]
fn request_ids_and_context_follow_the_object() {
    let spec = "{tracing: [{providers: [{name: zipkin}], useRequestIdForTraceSampling: false,
        disableContextPropagation: true, enableIstioTags: false}]}";
    let manager = manager(&seen("", &[("t@shop", spec)]), OUTBOUND);
    let tracing = manager.tracing.expect("traced");
    assert!(tracing.no_context_propagation && tracing.custom_tags.is_empty());
    let extension = manager.request_id_extension.and_then(|found| found.typed_config).expect("settings");
    let settings: UuidRequestIdConfig = unpack(&extension).expect("settings");
    assert_eq!(settings.use_request_id_for_trace_sampling, Some(false));
}

#[test]
fn a_provider_that_cannot_be_reached_traces_nothing() {
    for provider in ["elsewhere", "datadog", "unknown"] {
        let spec = format!("{{tracing: [{{providers: [{{name: {provider}}}]}}]}}");
        assert!(tracing(&seen("", &[("t@shop", &spec)]), OUTBOUND).is_none(), "{provider}");
    }
}

#[test]
fn mesh_config_traces_where_the_bootstrap_says() {
    let seen = seen(
        "enableTracing: true\ndefaultConfig: {tracing: {sampling: 42, maxPathTagLength: 9, customTags: {a: {literal: {value: b}}}}}\n",
        &[],
    );
    let tracing = tracing(&seen, OUTBOUND).expect("traced");
    assert!(tracing.provider.is_none());
    assert_eq!(tracing.random_sampling.map(|share| share.value), Some(42.0));
    assert_eq!(tracing.max_path_tag_length, Some(9));
    assert!(tracing.custom_tags.iter().any(|tag| tag.tag == "a"));
}

#[test]
fn default_providers_trace_without_a_telemetry_object() {
    let seen = seen("defaultProviders: {tracing: [ZIPKIN], metrics: [prometheus]}\n", &[]);
    assert!(tracing(&seen, OUTBOUND).is_some() && stats(&seen, OUTBOUND).len() == 1);
}

#[test]
fn logs_go_to_the_file_of_mesh_config_unless_an_object_says_otherwise() {
    let plain = seen("accessLogFile: /tmp/a.log\naccessLogFormat: '%PROTOCOL%'\n", &[]);
    let logs_of = |seen: &Seen| logs(seen, OUTBOUND).iter().map(|log| file(log).0).collect::<Vec<_>>();
    assert_eq!(logs_of(&plain), ["/tmp/a.log"]);
    let (_, format) = file(&logs(&plain, OUTBOUND)[0]);
    assert!(format!("{format:?}").contains("%PROTOCOL%\\n"));
    let own =
        seen("accessLogFile: /tmp/a.log\n", &[("l@shop", "{accessLogging: [{providers: [{name: json}]}]}")]);
    assert_eq!(logs_of(&own), ["/dev/stderr"]);
    let off = "{accessLogging: [{providers: [{name: envoy}], disabled: true}]}";
    assert!(logs_of(&seen("accessLogFile: /tmp/a.log\n", &[("l@shop", off)])).is_empty());
}

#[test]
fn a_filter_and_a_mode_limit_what_is_logged() {
    let spec = "{accessLogging: [{providers: [{name: envoy}], match: {mode: SERVER},
        filter: {expression: 'response.code >= 400'}}]}";
    let seen = seen("", &[("l@shop", spec)]);
    assert!(logs(&seen, OUTBOUND).is_empty());
    let log = &logs(&seen, INBOUND)[0];
    assert_eq!(file(log).0, "/dev/stdout");
    let Some(FilterSpecifier::ExtensionFilter(extension)) =
        log.filter.as_ref().and_then(|filter| filter.filter_specifier.clone())
    else {
        panic!("no expression")
    };
    let Some(extension_filter::ConfigType::TypedConfig(config)) = extension.config_type else {
        panic!("no config")
    };
    assert_eq!(unpack::<ExpressionFilter>(&config).expect("CEL").expression, "response.code >= 400");
    // Connections that reach no filter chain: the same, and nothing else.
    let of_listener = &seen.listener(INBOUND).access_log[0];
    assert!(format!("{:?}", of_listener.filter).contains("AndFilter"));
}

#[test]
fn logs_go_to_collectors() {
    let spec = "{accessLogging: [{providers: [{name: als}, {name: otel-logs}]}]}";
    let logs = logs(&seen("", &[("l@shop", spec)]), OUTBOUND);
    let als: HttpGrpcAccessLogConfig = unpack(&config(&logs[0])).expect("an access-log service");
    let common = als.common_config.expect("common settings");
    assert_eq!(common.log_name, "mine");
    assert!(
        format!("{:?}", common.grpc_service).contains("outbound|4317||collector.observe.svc.cluster.local")
    );
    let otel: OpenTelemetryAccessLogConfig = unpack(&config(&logs[1])).expect("OpenTelemetry");
    assert!(otel.disable_builtin_labels && otel.body.is_some());
    assert_eq!(otel.attributes.expect("attributes").values[0].key, "path");
}

#[test]
fn json_of_mesh_config_has_the_fields_that_were_written() {
    let seen = seen(
        "accessLogFile: /dev/stdout\naccessLogEncoding: JSON\naccessLogFormat: '{\"p\": \"%REQ_WITHOUT_QUERY(:PATH)%\"}'\n",
        &[],
    );
    let log = &logs(&seen, OUTBOUND)[0];
    let (_, Format::JsonFormat(fields)) = file(log) else { panic!("no JSON") };
    assert_eq!(fields.fields.keys().collect::<Vec<_>>(), ["p"]);
    let file: FileAccessLog = unpack(&config(log)).expect("a file log");
    assert!(format!("{file:?}").contains("envoy.formatter.req_without_query"));
}
