//! Access logs.

use std::sync::Arc;
use std::time::Duration;

use ringsail_xds::envoy::config::accesslog::v3 as pb;
use ringsail_xds::envoy::config::core::v3 as core;
use ringsail_xds::envoy::extensions::access_loggers::file::v3::{FileAccessLog, file_access_log};
use ringsail_xds::envoy::extensions::access_loggers::filters::cel::v3::ExpressionFilter;
use ringsail_xds::envoy::extensions::access_loggers::grpc::v3 as grpc;
use ringsail_xds::envoy::extensions::access_loggers::open_telemetry::v3::OpenTelemetryAccessLogConfig;
use ringsail_xds::envoy::extensions::access_loggers::stream::v3::{
    StderrAccessLog, StdoutAccessLog, stderr_access_log, stdout_access_log,
};
use ringsail_xds::envoy::extensions::formatter::metadata::v3::Metadata as MetadataFormatter;
use ringsail_xds::envoy::extensions::formatter::req_without_query::v3::ReqWithoutQuery;
use ringsail_xds::opentelemetry::proto::common::v1 as otlp;

use super::collector::grpc_service;
use super::context::Context;
use super::matcher::{header_match, metadata_match};
use super::metadata::object;
use super::tracing::{collector, custom_tags, resource};
use super::value::{duration, fraction, holds, unpack};
use crate::access_log::{
    AccessLog, Buffering, Comparison, ComparisonOp, Filter, Format, GrpcLog, OpenTelemetryLog, Shape, Sink,
};
use crate::cel::Expression;
use crate::limits::{LOG_FORMAT_BYTES_MAX, NESTING_MAX};
use crate::metadata::Value;
use crate::strings::Str;

/// Source: `CommonGrpcAccessLogConfig.buffer_size_bytes`.
const BUFFER_BYTES_DEFAULT: u32 = 16 * 1024;
/// Source: `CommonGrpcAccessLogConfig.buffer_flush_interval`.
const BUFFER_INTERVAL_DEFAULT: Duration = Duration::from_secs(1);

/// A list of access logs.
pub(super) fn access_logs(cx: &mut Context<'_>, list: &[pb::AccessLog]) -> Box<[AccessLog]> {
    cx.each("access_log", list, access_log)
}

fn access_log(cx: &mut Context<'_>, value: &pb::AccessLog) -> Option<AccessLog> {
    let filter = match &value.filter {
        Some(value) => Some(Arc::new(cx.at("filter", |cx| filter(cx, value, NESTING_MAX))?)),
        None => None,
    };
    let Some(pb::access_log::ConfigType::TypedConfig(any)) = &value.config_type else {
        return cx.refuse("typed_config", "is not set");
    };
    let sink = cx.at("typed_config", |cx| sink(cx, any))?;
    Some(AccessLog { sink, filter })
}

fn sink(cx: &mut Context<'_>, any: &prost_types::Any) -> Option<Sink> {
    if holds::<FileAccessLog>(any) {
        let file: FileAccessLog = unpack(cx, any)?;
        let format = file_format(cx, file.access_log_format.as_ref())?;
        Some(match file.path.as_str() {
            "" => return cx.refuse("path", "is empty"),
            "/dev/stdout" => Sink::Stdout(format),
            "/dev/stderr" => Sink::Stderr(format),
            path => Sink::File(cx.intern(path), format),
        })
    } else if holds::<StdoutAccessLog>(any) {
        let log: StdoutAccessLog = unpack(cx, any)?;
        let format =
            log.access_log_format.map(|stdout_access_log::AccessLogFormat::LogFormat(format)| format);
        cx.at("log_format", |cx| substitution(cx, format.as_ref())).map(Sink::Stdout)
    } else if holds::<StderrAccessLog>(any) {
        let log: StderrAccessLog = unpack(cx, any)?;
        let format =
            log.access_log_format.map(|stderr_access_log::AccessLogFormat::LogFormat(format)| format);
        cx.at("log_format", |cx| substitution(cx, format.as_ref())).map(Sink::Stderr)
    } else if holds::<grpc::HttpGrpcAccessLogConfig>(any) {
        let log: grpc::HttpGrpcAccessLogConfig = unpack(cx, any)?;
        let mut names = |list: &[String]| list.iter().map(|name| cx.intern_lower(name)).collect();
        let request_headers = names(&log.additional_request_headers_to_log);
        let response_headers = names(&log.additional_response_headers_to_log);
        let response_trailers = names(&log.additional_response_trailers_to_log);
        let common = grpc_log(cx, log.common_config.as_ref(), false)?;
        let log = GrpcLog { request_headers, response_headers, response_trailers, ..common };
        Some(Sink::Grpc(Arc::new(log)))
    } else if holds::<grpc::TcpGrpcAccessLogConfig>(any) {
        let log: grpc::TcpGrpcAccessLogConfig = unpack(cx, any)?;
        Some(Sink::Grpc(Arc::new(grpc_log(cx, log.common_config.as_ref(), true)?)))
    } else if holds::<OpenTelemetryAccessLogConfig>(any) {
        let log: OpenTelemetryAccessLogConfig = unpack(cx, any)?;
        Some(Sink::OpenTelemetry(Arc::new(open_telemetry_log(cx, &log)?)))
    } else {
        cx.refuse("", format_args!("access logger {:?} is not supported", any.type_url))
    }
}

fn grpc_log(
    cx: &mut Context<'_>,
    common: Option<&grpc::CommonGrpcAccessLogConfig>,
    tcp: bool,
) -> Option<GrpcLog> {
    let Some(common) = common else { return cx.refuse("common_config", "is not set") };
    cx.at("common_config", |cx| {
        if common.log_name.is_empty() {
            return cx.refuse("log_name", "is empty");
        }
        let Some(service) = &common.grpc_service else { return cx.refuse("grpc_service", "is not set") };
        Some(GrpcLog {
            collector: cx.at("grpc_service", |cx| grpc_service(cx, service))?,
            log_name: cx.intern(&common.log_name),
            tcp,
            buffering: buffering(cx, &common.buffer_flush_interval, common.buffer_size_bytes),
            tags: custom_tags(cx, &common.custom_tags),
            request_headers: Box::default(),
            response_headers: Box::default(),
            response_trailers: Box::default(),
        })
    })
}

fn buffering(
    cx: &mut Context<'_>,
    interval: &Option<prost_types::Duration>,
    bytes: Option<u32>,
) -> Buffering {
    Buffering {
        bytes: bytes.unwrap_or(BUFFER_BYTES_DEFAULT),
        interval: duration(cx, "buffer_flush_interval", interval)
            .filter(|interval| !interval.is_zero())
            .unwrap_or(BUFFER_INTERVAL_DEFAULT),
    }
}

fn open_telemetry_log(
    cx: &mut Context<'_>,
    value: &OpenTelemetryAccessLogConfig,
) -> Option<OpenTelemetryLog> {
    // The same settings in their older place.
    let common = value.common_config.clone().unwrap_or_default();
    let collector = match &common.grpc_service {
        Some(service) => {
            cx.at("common_config", |cx| cx.at("grpc_service", |cx| grpc_service(cx, service)))?
        }
        None => collector(cx, value.grpc_service.as_ref(), value.http_service.as_ref())?,
    };
    let name = if value.log_name.is_empty() { &common.log_name } else { &value.log_name };
    let buffering = buffering(
        cx,
        if value.buffer_flush_interval.is_some() {
            &value.buffer_flush_interval
        } else {
            &common.buffer_flush_interval
        },
        value.buffer_size_bytes.or(common.buffer_size_bytes),
    );
    let tags = if value.custom_tags.is_empty() { &common.custom_tags } else { &value.custom_tags };
    let req_without_query = formatters(cx, &value.formatters)?;
    let mut resource = resource(cx, &value.resource_detectors)?;
    if let Some(list) = &value.resource_attributes {
        let own = cx.at("resource_attributes", |cx| attributes(cx, list, req_without_query))?;
        resource.attributes = own.into_iter().chain(resource.attributes).collect();
    }
    Some(OpenTelemetryLog {
        collector,
        log_name: cx.intern(name),
        builtin_labels: !value.disable_builtin_labels,
        buffering,
        resource,
        body: match &value.body {
            Some(body) => Some(cx.at("body", |cx| any_value(cx, body, req_without_query, NESTING_MAX))?),
            None => None,
        },
        attributes: match &value.attributes {
            Some(list) => cx.at("attributes", |cx| attributes(cx, list, req_without_query))?,
            None => Box::default(),
        },
        tags: custom_tags(cx, tags),
        req_without_query,
    })
}

fn attributes(
    cx: &mut Context<'_>,
    list: &otlp::KeyValueList,
    extended: bool,
) -> Option<Box<[(Str, Value)]>> {
    let pairs = cx.each("values", &list.values, |cx, pair| key_value(cx, pair, extended, NESTING_MAX));
    (pairs.len() == list.values.len()).then_some(pairs)
}

fn key_value(
    cx: &mut Context<'_>,
    pair: &otlp::KeyValue,
    extended: bool,
    depth: u32,
) -> Option<(Str, Value)> {
    let value = match &pair.value {
        Some(value) => cx.at("value", |cx| any_value(cx, value, extended, depth))?,
        None => Value::Null,
    };
    Some((cx.intern(&pair.key), value))
}

fn any_value(cx: &mut Context<'_>, value: &otlp::AnyValue, extended: bool, depth: u32) -> Option<Value> {
    use otlp::any_value::Value as Any;
    if depth == 0 {
        return cx.refuse("", format_args!("nested deeper than {NESTING_MAX} values"));
    }
    Some(match &value.value {
        Some(Any::StringValue(format)) => {
            cx.check_format("string_value", format, extended);
            Value::String(cx.intern(format))
        }
        Some(Any::BoolValue(flag)) => Value::Bool(*flag),
        Some(Any::IntValue(number)) => Value::Number(*number as f64),
        Some(Any::ArrayValue(list)) => {
            Value::List(cx.each("array_value.values", &list.values, |cx, item| {
                any_value(cx, item, extended, depth - 1)
            }))
        }
        Some(Any::KvlistValue(list)) => {
            Value::object(cx.each("kvlist_value.values", &list.values, |cx, pair| {
                key_value(cx, pair, extended, depth - 1)
            }))
        }
        Some(Any::DoubleValue(_) | Any::BytesValue(_)) => {
            return cx.refuse("", "only text, whole numbers, booleans, lists and maps are supported");
        }
        None => Value::Null,
    })
}

fn file_format(cx: &mut Context<'_>, format: Option<&file_access_log::AccessLogFormat>) -> Option<Format> {
    use file_access_log::AccessLogFormat;
    let shape = match format {
        None => Shape::Default,
        Some(AccessLogFormat::Format(text)) => text_shape(cx, "format", text, false)?,
        Some(AccessLogFormat::JsonFormat(json) | AccessLogFormat::TypedJsonFormat(json)) => {
            json_shape(cx, "json_format", json, false)
        }
        Some(AccessLogFormat::LogFormat(format)) => {
            return cx.at("log_format", |cx| substitution(cx, Some(format)));
        }
    };
    Some(Format { shape, omit_empty: false, req_without_query: false })
}

pub(super) fn substitution(
    cx: &mut Context<'_>,
    value: Option<&core::SubstitutionFormatString>,
) -> Option<Format> {
    use core::data_source::Specifier;
    use core::substitution_format_string::Format as Source;
    let Some(value) = value else {
        return Some(Format { shape: Shape::Default, omit_empty: false, req_without_query: false });
    };
    let extended = formatters(cx, &value.formatters)?;
    let shape = match &value.format {
        None => Shape::Default,
        Some(Source::TextFormat(text)) => text_shape(cx, "text_format", text, extended)?,
        Some(Source::JsonFormat(json)) => json_shape(cx, "json_format", json, extended),
        Some(Source::TextFormatSource(source)) => match &source.specifier {
            Some(Specifier::InlineString(text)) => text_shape(cx, "text_format_source", text, extended)?,
            Some(Specifier::InlineBytes(bytes)) => match std::str::from_utf8(bytes) {
                Ok(text) => text_shape(cx, "text_format_source", text, extended)?,
                Err(_) => return cx.refuse("text_format_source.inline_bytes", "is not UTF-8"),
            },
            Some(Specifier::Filename(_) | Specifier::EnvironmentVariable(_)) | None => {
                return cx.refuse("text_format_source", "must be given inline");
            }
        },
    };
    Some(Format { shape, omit_empty: value.omit_empty_values, req_without_query: extended })
}

fn text_shape(cx: &mut Context<'_>, field: &str, text: &str, extended: bool) -> Option<Shape> {
    if text.is_empty() {
        return Some(Shape::Default);
    }
    if text.len() > LOG_FORMAT_BYTES_MAX {
        return cx.refuse(field, format_args!("is longer than {LOG_FORMAT_BYTES_MAX} bytes"));
    }
    cx.check_format(field, text, extended);
    Some(Shape::Text(cx.intern(text)))
}

fn json_shape(cx: &mut Context<'_>, field: &str, json: &prost_types::Struct, extended: bool) -> Shape {
    let value = object(cx, json, NESTING_MAX);
    cx.at(field, |cx| check_json(cx, &value, extended));
    Shape::Json(Arc::new(value))
}

fn check_json(cx: &mut Context<'_>, value: &Value, extended: bool) {
    match value {
        Value::String(format) => cx.check_format("", format, extended),
        Value::List(items) => items.iter().for_each(|item| check_json(cx, item, extended)),
        Value::Struct(fields) => {
            for (name, field) in fields {
                cx.at(name, |cx| check_json(cx, field, extended));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Whether `REQ_WITHOUT_QUERY` is among the formatter extensions.
///
/// Compat: the operators of the metadata extension exist without it as well.
fn formatters(cx: &mut Context<'_>, list: &[core::TypedExtensionConfig]) -> Option<bool> {
    let mut req_without_query = false;
    let known = cx.each("formatters", list, |cx, formatter| match &formatter.typed_config {
        Some(any) if holds::<ReqWithoutQuery>(any) => {
            req_without_query = true;
            Some(())
        }
        Some(any) if holds::<MetadataFormatter>(any) => Some(()),
        Some(any) => cx.refuse("typed_config", format_args!("formatter {:?} is not supported", any.type_url)),
        None => cx.refuse("typed_config", "is not set"),
    });
    (known.len() == list.len()).then_some(req_without_query)
}

pub(super) fn filter(cx: &mut Context<'_>, value: &pb::AccessLogFilter, depth: u32) -> Option<Filter> {
    use pb::access_log_filter::FilterSpecifier;
    if depth == 0 {
        return cx.refuse("", format_args!("nested deeper than {NESTING_MAX} filters"));
    }
    Some(match value.filter_specifier.as_ref() {
        Some(FilterSpecifier::StatusCodeFilter(inner)) => {
            Filter::StatusCode(cx.at("status_code_filter", |cx| comparison(cx, inner.comparison.as_ref()))?)
        }
        Some(FilterSpecifier::DurationFilter(inner)) => {
            Filter::DurationMillis(cx.at("duration_filter", |cx| comparison(cx, inner.comparison.as_ref()))?)
        }
        Some(FilterSpecifier::NotHealthCheckFilter(_)) => Filter::NotHealthCheck,
        Some(FilterSpecifier::TraceableFilter(_)) => Filter::Traceable,
        Some(FilterSpecifier::RuntimeFilter(inner)) => Filter::Share {
            fraction: match &inner.percent_sampled {
                Some(value) => cx.at("runtime_filter", |cx| fraction(cx, "percent_sampled", value))?,
                // Compat: not set means none.
                None => crate::fraction::Fraction { numerator: 0, denominator: 100 },
            },
            independent: inner.use_independent_randomness,
        },
        Some(FilterSpecifier::HeaderFilter(inner)) => match &inner.header {
            Some(header) => Filter::Header(cx.at("header_filter.header", |cx| header_match(cx, header))?),
            None => return cx.refuse("header_filter.header", "is not set"),
        },
        Some(FilterSpecifier::ResponseFlagFilter(inner)) => {
            Filter::ResponseFlags(inner.flags.iter().map(|flag| cx.intern(flag)).collect())
        }
        Some(FilterSpecifier::GrpcStatusFilter(inner)) => Filter::GrpcStatus {
            statuses: cx.each("grpc_status_filter.statuses", &inner.statuses, |cx, status| {
                match pb::grpc_status_filter::Status::try_from(*status) {
                    Ok(status) => Some(status as u32),
                    Err(_) => cx.refuse("", "is not known"),
                }
            }),
            exclude: inner.exclude,
        },
        Some(FilterSpecifier::MetadataFilter(inner)) => Filter::Metadata {
            matcher: match &inner.matcher {
                Some(matcher) => Some(cx.at("metadata_filter.matcher", |cx| metadata_match(cx, matcher))?),
                None => None,
            },
            if_missing: inner.match_if_key_not_found.unwrap_or(true),
        },
        Some(FilterSpecifier::LogTypeFilter(inner)) => {
            Filter::LogType { types: inner.types.clone().into(), exclude: inner.exclude }
        }
        Some(FilterSpecifier::AndFilter(inner)) => Filter::And(
            cx.at("and_filter", |cx| cx.each("filters", &inner.filters, |cx, f| filter(cx, f, depth - 1))),
        ),
        Some(FilterSpecifier::OrFilter(inner)) => Filter::Or(
            cx.at("or_filter", |cx| cx.each("filters", &inner.filters, |cx, f| filter(cx, f, depth - 1))),
        ),
        Some(FilterSpecifier::ExtensionFilter(inner)) => {
            let Some(pb::extension_filter::ConfigType::TypedConfig(any)) = &inner.config_type else {
                return cx.refuse("extension_filter.typed_config", "is not set");
            };
            cx.at("extension_filter.typed_config", |cx| extension(cx, any))?
        }
        None => return cx.refuse("", "filters by nothing in particular"),
    })
}

fn extension(cx: &mut Context<'_>, any: &prost_types::Any) -> Option<Filter> {
    if !holds::<ExpressionFilter>(any) {
        return cx.refuse("", format_args!("access-log filter {:?} is not supported", any.type_url));
    }
    let config: ExpressionFilter = unpack(cx, any)?;
    match Expression::parse(&config.expression) {
        Ok(expression) => Some(Filter::Cel(expression)),
        Err(error) => cx.refuse("expression", error),
    }
}

fn comparison(cx: &mut Context<'_>, value: Option<&pb::ComparisonFilter>) -> Option<Comparison> {
    use pb::comparison_filter::Op;
    let Some(value) = value else { return cx.refuse("comparison", "is not set") };
    let op = match Op::try_from(value.op) {
        Ok(Op::Eq) => ComparisonOp::Eq,
        Ok(Op::Ge) => ComparisonOp::Ge,
        Ok(Op::Le) => ComparisonOp::Le,
        Ok(Op::Ne) => ComparisonOp::Ne,
        Err(_) => return cx.refuse("comparison.op", "is not known"),
    };
    Some(Comparison { op, value: value.value.as_ref().map_or(0, |value| value.default_value) })
}
