//! Access logs: those of Telemetry objects and default providers, else the file of MeshConfig.

use std::collections::BTreeMap;

use prost_types::value::Kind;
use prost_types::{Struct, Value};
use ringsail_api::MeshConfig;
use ringsail_api::istio::mesh::v1alpha1::mesh_config::AccessLogEncoding;
use ringsail_api::istio::mesh::v1alpha1::mesh_config::extension_provider::envoy_file_access_log_provider::log_format::LogFormat;
use ringsail_api::istio::mesh::v1alpha1::mesh_config::extension_provider::{
    EnvoyFileAccessLogProvider, EnvoyOpenTelemetryLogProvider, Provider,
};
use ringsail_model::Mesh;
use ringsail_model::telemetry::{FILE_LOG_PROVIDER, LogRule, provider};
use ringsail_xds::envoy::config::accesslog::v3::access_log_filter::FilterSpecifier;
use ringsail_xds::envoy::config::accesslog::v3::{
    AccessLog, AccessLogFilter, AndFilter, ExtensionFilter, ResponseFlagFilter, access_log, extension_filter,
};
use ringsail_xds::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use ringsail_xds::envoy::config::core::v3::substitution_format_string::Format;
use ringsail_xds::envoy::config::core::v3::{
    ApiVersion, DataSource, GrpcService, SubstitutionFormatString, TypedExtensionConfig, data_source,
};
use ringsail_xds::envoy::extensions::access_loggers::file::v3::{FileAccessLog, file_access_log};
use ringsail_xds::envoy::extensions::access_loggers::filters::cel::v3::ExpressionFilter;
use ringsail_xds::envoy::extensions::access_loggers::grpc::v3::{
    CommonGrpcAccessLogConfig, HttpGrpcAccessLogConfig, TcpGrpcAccessLogConfig,
};
use ringsail_xds::envoy::extensions::access_loggers::open_telemetry::v3::OpenTelemetryAccessLogConfig;
use ringsail_xds::envoy::extensions::formatter::req_without_query::v3::ReqWithoutQuery;
use ringsail_xds::opentelemetry::proto::common::v1::{AnyValue, KeyValue, KeyValueList, any_value};
use ringsail_xds::prost::Name;
use ringsail_xds::{json, pack};

use super::provider::Collector;

/// Istio's default access-log line. Source: Istio, "Default access log format".
const TEXT_FORMAT: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% ",
    "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% ",
    "\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% ",
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" ",
    "\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% ",
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% ",
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
);
/// Fields of Istio's default JSON access log.
const JSON_FIELDS: [(&str, &str); 24] = [
    ("start_time", "%START_TIME%"),
    ("route_name", "%ROUTE_NAME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    ("connection_termination_details", "%CONNECTION_TERMINATION_DETAILS%"),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    ("upstream_service_time", "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%"),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_transport_failure_reason", "%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
];
const FILE_LOGGER: &str = "envoy.access_loggers.file";
const HTTP_GRPC_LOGGER: &str = "envoy.access_loggers.http_grpc";
const TCP_GRPC_LOGGER: &str = "envoy.tcp_grpc_access_log";
const OTEL_LOGGER: &str = "envoy.access_loggers.open_telemetry";
const CEL_FILTER: &str = "envoy.access_loggers.extension_filters.cel";
/// Cluster of the access-log service in the proxy's bootstrap, for `enableEnvoyAccessLogService`.
const BOOTSTRAP_COLLECTOR: &str = "envoy_accesslog_service";
const HTTP_LOG_NAME: &str = "http_envoy_accesslog";
const TCP_LOG_NAME: &str = "tcp_envoy_accesslog";
const LISTENER_LOG_NAME: &str = "listener_envoy_accesslog";
const OTEL_LOG_NAME: &str = "otel_envoy_accesslog";
/// Who the peers are, as filter state of Istio's filters.
const PEER_STATE: [&str; 2] = ["upstream_peer", "downstream_peer"];

/// What a log is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    Requests,
    Connections,
    /// Connections that reached no filter chain.
    Unrouted,
}

/// The logs of one side.
pub(crate) fn build(mesh: &Mesh, rules: Option<&BTreeMap<String, LogRule>>, of: Of) -> Vec<AccessLog> {
    let config = &mesh.settings().config;
    let known: Vec<(&LogRule, AccessLog)> = rules
        .into_iter()
        .flatten()
        .filter_map(|(name, rule)| Some((rule, of_provider(mesh, name)?)))
        .collect();
    // Compat: providers that do not exist leave the file of MeshConfig; disabled ones do not.
    if known.is_empty() {
        return of_mesh_config(config, of);
    }
    let enabled = known.into_iter().filter(|(rule, _)| !rule.disabled);
    enabled
        .map(|(rule, log)| {
            let unrouted = (of == Of::Unrouted).then(no_route);
            let filters = unrouted.into_iter().chain(rule.filter.as_deref().map(expression));
            AccessLog { filter: all_of(filters.collect()), ..log }
        })
        .collect()
}

fn of_mesh_config(config: &MeshConfig, of: Of) -> Vec<AccessLog> {
    let mut logs = Vec::new();
    if !config.access_log_file.is_empty() {
        logs.push(file(&config.access_log_file, format_of_mesh(config)));
    }
    if config.enable_envoy_access_log_service {
        let target = EnvoyGrpc { cluster_name: BOOTSTRAP_COLLECTOR.to_owned(), ..EnvoyGrpc::default() };
        let grpc = GrpcService {
            target_specifier: Some(TargetSpecifier::EnvoyGrpc(target)),
            ..GrpcService::default()
        };
        let tcp = |name| {
            let common_config = Some(common(name, grpc.clone(), &[]));
            logger(TCP_GRPC_LOGGER, &TcpGrpcAccessLogConfig { common_config })
        };
        logs.push(match of {
            Of::Unrouted => tcp(LISTENER_LOG_NAME),
            Of::Connections => tcp(TCP_LOG_NAME),
            Of::Requests => {
                let common_config = Some(common(HTTP_LOG_NAME, grpc, &[]));
                let config = HttpGrpcAccessLogConfig { common_config, ..HttpGrpcAccessLogConfig::default() };
                logger(HTTP_GRPC_LOGGER, &config)
            }
        });
    }
    if of == Of::Unrouted {
        logs.iter_mut().for_each(|log| log.filter = Some(no_route()));
    }
    logs
}

/// The log of an extension provider; `None` when it writes none or its collector is not in the mesh.
fn of_provider(mesh: &Mesh, name: &str) -> Option<AccessLog> {
    let config = &mesh.settings().config;
    let found = provider(config, name)?;
    match found.provider? {
        Provider::EnvoyFileAccessLog(own) => {
            let unformatted = own.log_format.is_none() && !own.omit_empty_values;
            let format = match found.name == FILE_LOG_PROVIDER && unformatted {
                true => format_of_mesh(config),
                false => format_of_provider(&own),
            };
            let path = if own.path.is_empty() { "/dev/stdout" } else { &own.path };
            Some(file(path, format))
        }
        Provider::EnvoyHttpAls(own) => {
            let collector = Collector::find(mesh, &own.service, own.port)?;
            let log_name = if own.log_name.is_empty() { HTTP_LOG_NAME } else { &own.log_name };
            let config = HttpGrpcAccessLogConfig {
                common_config: Some(common(log_name, collector.grpc(), &own.filter_state_objects_to_log)),
                additional_request_headers_to_log: own.additional_request_headers_to_log,
                additional_response_headers_to_log: own.additional_response_headers_to_log,
                additional_response_trailers_to_log: own.additional_response_trailers_to_log,
            };
            Some(logger(HTTP_GRPC_LOGGER, &config))
        }
        Provider::EnvoyTcpAls(own) => {
            let collector = Collector::find(mesh, &own.service, own.port)?;
            let log_name = if own.log_name.is_empty() { TCP_LOG_NAME } else { &own.log_name };
            let common = common(log_name, collector.grpc(), &own.filter_state_objects_to_log);
            Some(logger(TCP_GRPC_LOGGER, &TcpGrpcAccessLogConfig { common_config: Some(common) }))
        }
        Provider::EnvoyOtelAls(own) => open_telemetry(mesh, &own),
        _ => None,
    }
}

fn open_telemetry(mesh: &Mesh, own: &EnvoyOpenTelemetryLogProvider) -> Option<AccessLog> {
    let collector = Collector::find(mesh, &own.service, own.port)?;
    let log_name = if own.log_name.is_empty() { OTEL_LOG_NAME } else { &own.log_name };
    let format = own.log_format.as_ref();
    let text = format.map(|format| format.text.as_str()).filter(|text| !text.is_empty());
    let text = text.unwrap_or(TEXT_FORMAT);
    let labels = format.and_then(|format| format.labels.as_ref());
    let attribute = |(key, value): (&String, &Value)| KeyValue {
        key: key.clone(),
        value: Some(string_value(match &value.kind {
            Some(Kind::StringValue(text)) => text,
            _ => "",
        })),
    };
    let attributes: Vec<KeyValue> = labels.iter().flat_map(|labels| &labels.fields).map(attribute).collect();
    let uses = uses_req_without_query(text) || labels.is_some_and(any_uses_req_without_query);
    let config = OpenTelemetryAccessLogConfig {
        common_config: Some(common(log_name, collector.grpc(), &[])),
        disable_builtin_labels: true,
        body: Some(string_value(text)),
        attributes: (!attributes.is_empty()).then_some(KeyValueList { values: attributes }),
        formatters: formatters(uses),
        ..OpenTelemetryAccessLogConfig::default()
    };
    Some(logger(OTEL_LOGGER, &config))
}

fn string_value(text: &str) -> AnyValue {
    AnyValue { value: Some(any_value::Value::StringValue(text.to_owned())) }
}

fn common(log_name: &str, grpc: GrpcService, filter_state: &[String]) -> CommonGrpcAccessLogConfig {
    CommonGrpcAccessLogConfig {
        log_name: log_name.to_owned(),
        grpc_service: Some(grpc),
        transport_api_version: ApiVersion::V3 as i32,
        filter_state_objects_to_log: match filter_state {
            [] => PEER_STATE.map(str::to_owned).to_vec(),
            own => own.to_vec(),
        },
        ..CommonGrpcAccessLogConfig::default()
    }
}

fn logger(name: &str, config: &impl Name) -> AccessLog {
    AccessLog {
        name: name.to_owned(),
        config_type: Some(access_log::ConfigType::TypedConfig(pack(config))),
        ..AccessLog::default()
    }
}

fn file(path: &str, format: SubstitutionFormatString) -> AccessLog {
    let format = file_access_log::AccessLogFormat::LogFormat(format);
    logger(FILE_LOGGER, &FileAccessLog { path: path.to_owned(), access_log_format: Some(format) })
}

/// `accessLogFormat` and `accessLogEncoding`. A JSON format that is none was refused when it was read.
fn format_of_mesh(config: &MeshConfig) -> SubstitutionFormatString {
    match config.access_log_encoding() {
        AccessLogEncoding::Text => text_format(&config.access_log_format, false),
        AccessLogEncoding::Json => json_format(config.access_log_json().as_ref(), false),
    }
}

fn format_of_provider(own: &EnvoyFileAccessLogProvider) -> SubstitutionFormatString {
    match own.log_format.as_ref().and_then(|format| format.log_format.as_ref()) {
        Some(LogFormat::Labels(labels)) => json_format(Some(labels), own.omit_empty_values),
        Some(LogFormat::Text(text)) => text_format(text, own.omit_empty_values),
        None => text_format("", own.omit_empty_values),
    }
}

/// A line; its end is added where it lacks one.
fn text_format(text: &str, omit_empty_values: bool) -> SubstitutionFormatString {
    let text = match text {
        "" => TEXT_FORMAT.to_owned(),
        own if own.ends_with('\n') => own.to_owned(),
        own => format!("{own}\n"),
    };
    SubstitutionFormatString {
        formatters: formatters(uses_req_without_query(&text)),
        format: Some(Format::TextFormatSource(DataSource {
            specifier: Some(data_source::Specifier::InlineString(text)),
            ..DataSource::default()
        })),
        omit_empty_values,
        ..SubstitutionFormatString::default()
    }
}

/// An object; without fields it has Istio's.
fn json_format(fields: Option<&Struct>, omit_empty_values: bool) -> SubstitutionFormatString {
    let value = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let fields = match fields.filter(|fields| !fields.fields.is_empty()) {
        Some(own) => own.clone(),
        None => Struct {
            fields: JSON_FIELDS.iter().map(|(key, text)| ((*key).to_owned(), value(text))).collect(),
        },
    };
    SubstitutionFormatString {
        formatters: formatters(any_uses_req_without_query(&fields)),
        format: Some(Format::JsonFormat(fields)),
        omit_empty_values,
        ..SubstitutionFormatString::default()
    }
}

fn uses_req_without_query(text: &str) -> bool {
    text.contains("%REQ_WITHOUT_QUERY")
}

fn any_uses_req_without_query(fields: &Struct) -> bool {
    uses_req_without_query(&json::struct_from_proto(fields).to_string())
}

/// Extensions that a format needs; all other operators are part of Envoy.
fn formatters(req_without_query: bool) -> Vec<TypedExtensionConfig> {
    let extension = TypedExtensionConfig {
        name: "envoy.formatter.req_without_query".to_owned(),
        typed_config: Some(pack(&ReqWithoutQuery {})),
    };
    if req_without_query { vec![extension] } else { Vec::new() }
}

fn no_route() -> AccessLogFilter {
    let flags = ResponseFlagFilter { flags: vec!["NR".to_owned()] };
    AccessLogFilter { filter_specifier: Some(FilterSpecifier::ResponseFlagFilter(flags)) }
}

fn expression(text: &str) -> AccessLogFilter {
    let filter = ExpressionFilter { expression: text.to_owned(), ..ExpressionFilter::default() };
    AccessLogFilter {
        filter_specifier: Some(FilterSpecifier::ExtensionFilter(ExtensionFilter {
            name: CEL_FILTER.to_owned(),
            config_type: Some(extension_filter::ConfigType::TypedConfig(pack(&filter))),
        })),
    }
}

fn all_of(mut filters: Vec<AccessLogFilter>) -> Option<AccessLogFilter> {
    match filters.len() {
        0 | 1 => filters.pop(),
        _ => Some(AccessLogFilter {
            filter_specifier: Some(FilterSpecifier::AndFilter(AndFilter { filters })),
        }),
    }
}
