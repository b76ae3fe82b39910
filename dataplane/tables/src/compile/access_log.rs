//! Access logs.

use std::sync::Arc;

use ringsail_xds::envoy::config::accesslog::v3 as pb;
use ringsail_xds::envoy::config::core::v3 as core;
use ringsail_xds::envoy::extensions::access_loggers::file::v3::{FileAccessLog, file_access_log};
use ringsail_xds::envoy::extensions::access_loggers::stream::v3::{
    StderrAccessLog, StdoutAccessLog, stderr_access_log, stdout_access_log,
};

use super::context::Context;
use super::metadata::object;
use super::value::{holds, unpack};
use crate::access_log::{AccessLog, Comparison, ComparisonOp, Filter, Format, Sink};
use crate::limits::NESTING_MAX;

/// A list of access logs.
pub(super) fn access_logs(cx: &mut Context<'_>, list: &[pb::AccessLog]) -> Box<[AccessLog]> {
    cx.each("access_log", list, access_log)
}

fn access_log(cx: &mut Context<'_>, value: &pb::AccessLog) -> Option<AccessLog> {
    let filter = match &value.filter {
        Some(value) => Some(cx.at("filter", |cx| filter(cx, value, NESTING_MAX))?),
        None => None,
    };
    let Some(pb::access_log::ConfigType::TypedConfig(any)) = &value.config_type else {
        return cx.refuse("typed_config", "is not set");
    };
    let (sink, format) = cx.at("typed_config", |cx| sink(cx, any))?;
    Some(AccessLog { sink, format, filter })
}

fn sink(cx: &mut Context<'_>, any: &prost_types::Any) -> Option<(Sink, Format)> {
    if holds::<FileAccessLog>(any) {
        let file: FileAccessLog = unpack(cx, any)?;
        let sink = match file.path.as_str() {
            "" => return cx.refuse("path", "is empty"),
            "/dev/stdout" => Sink::Stdout,
            "/dev/stderr" => Sink::Stderr,
            path => Sink::File(cx.intern(path)),
        };
        return Some((sink, file_format(cx, file.access_log_format.as_ref())?));
    }
    if holds::<StdoutAccessLog>(any) {
        let log: StdoutAccessLog = unpack(cx, any)?;
        let stdout_access_log::AccessLogFormat::LogFormat(format) = match &log.access_log_format {
            Some(format) => format,
            None => return Some((Sink::Stdout, Format::Default)),
        };
        return Some((Sink::Stdout, cx.at("log_format", |cx| substitution(cx, format))?));
    }
    if holds::<StderrAccessLog>(any) {
        let log: StderrAccessLog = unpack(cx, any)?;
        let stderr_access_log::AccessLogFormat::LogFormat(format) = match &log.access_log_format {
            Some(format) => format,
            None => return Some((Sink::Stderr, Format::Default)),
        };
        return Some((Sink::Stderr, cx.at("log_format", |cx| substitution(cx, format))?));
    }
    cx.refuse("", format_args!("access logger {:?} is not supported", any.type_url))
}

fn file_format(cx: &mut Context<'_>, format: Option<&file_access_log::AccessLogFormat>) -> Option<Format> {
    use file_access_log::AccessLogFormat;
    Some(match format {
        None => Format::Default,
        Some(AccessLogFormat::Format(text)) if text.is_empty() => Format::Default,
        Some(AccessLogFormat::Format(text)) => Format::Text(cx.intern(text)),
        Some(AccessLogFormat::JsonFormat(json) | AccessLogFormat::TypedJsonFormat(json)) => {
            Format::Json(Arc::new(object(cx, json, NESTING_MAX)))
        }
        Some(AccessLogFormat::LogFormat(format)) => cx.at("log_format", |cx| substitution(cx, format))?,
    })
}

fn substitution(cx: &mut Context<'_>, value: &core::SubstitutionFormatString) -> Option<Format> {
    use core::data_source::Specifier;
    use core::substitution_format_string::Format as Source;
    if value.omit_empty_values && !matches!(value.format, Some(Source::JsonFormat(_))) {
        return cx.refuse("omit_empty_values", "is supported in JSON formats only");
    }
    match &value.format {
        None => Some(Format::Default),
        Some(Source::TextFormat(text)) if text.is_empty() => Some(Format::Default),
        Some(Source::TextFormat(text)) => Some(Format::Text(cx.intern(text))),
        Some(Source::JsonFormat(json)) => Some(Format::Json(Arc::new(object(cx, json, NESTING_MAX)))),
        Some(Source::TextFormatSource(source)) => match &source.specifier {
            Some(Specifier::InlineString(text)) => Some(Format::Text(cx.intern(text))),
            Some(Specifier::InlineBytes(bytes)) => match std::str::from_utf8(bytes) {
                Ok(text) => Some(Format::Text(cx.intern(text))),
                Err(_) => cx.refuse("text_format_source.inline_bytes", "is not UTF-8"),
            },
            Some(Specifier::Filename(_) | Specifier::EnvironmentVariable(_)) | None => {
                cx.refuse("text_format_source", "must be given inline")
            }
        },
    }
}

fn filter(cx: &mut Context<'_>, value: &pb::AccessLogFilter, depth: u32) -> Option<Filter> {
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
        Some(FilterSpecifier::ResponseFlagFilter(inner)) => {
            Filter::ResponseFlags(inner.flags.iter().map(|flag| cx.intern(flag)).collect())
        }
        Some(FilterSpecifier::AndFilter(inner)) => Filter::And(
            cx.at("and_filter", |cx| cx.each("filters", &inner.filters, |cx, f| filter(cx, f, depth - 1))),
        ),
        Some(FilterSpecifier::OrFilter(inner)) => Filter::Or(
            cx.at("or_filter", |cx| cx.each("filters", &inner.filters, |cx, f| filter(cx, f, depth - 1))),
        ),
        Some(
            FilterSpecifier::TraceableFilter(_)
            | FilterSpecifier::RuntimeFilter(_)
            | FilterSpecifier::HeaderFilter(_)
            | FilterSpecifier::GrpcStatusFilter(_)
            | FilterSpecifier::ExtensionFilter(_)
            | FilterSpecifier::MetadataFilter(_)
            | FilterSpecifier::LogTypeFilter(_),
        ) => return cx.refuse("", "this access-log filter is not supported"),
        None => return cx.refuse("", "filters by nothing in particular"),
    })
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
