//! Answers of our own.

use std::sync::Arc;

use ringsail_xds::envoy::config::core::v3 as core;
use ringsail_xds::envoy::extensions::filters::network::http_connection_manager::v3 as pb;

use super::access_log::{filter, substitution};
use super::context::Context;
use super::headers::header_add;
use crate::access_log::Shape;
use crate::header_ops::HeaderOps;
use crate::limits::{LOCAL_REPLY_BODY_BYTES_MAX, NESTING_MAX};
use crate::local_reply::{BodyFormat, LocalReplies, Mapper};

pub(super) fn local_replies(cx: &mut Context<'_>, value: &pb::LocalReplyConfig) -> Option<LocalReplies> {
    let mappers = cx.each("mappers", &value.mappers, mapper);
    let body = match &value.body_format {
        Some(format) => Some(cx.at("body_format", |cx| body_format(cx, format))?),
        None => None,
    };
    Some(LocalReplies { mappers, body })
}

fn mapper(cx: &mut Context<'_>, value: &pb::ResponseMapper) -> Option<Mapper> {
    let Some(condition) = &value.filter else { return cx.refuse("filter", "is not set") };
    let status = match value.status_code.map(u16::try_from) {
        None => None,
        Some(Ok(status)) if (200..600).contains(&status) => Some(status),
        Some(_) => return cx.refuse("status_code", "is not in 200..600"),
    };
    Some(Mapper {
        filter: cx.at("filter", |cx| filter(cx, condition, NESTING_MAX))?,
        status,
        body: match &value.body {
            Some(source) => Some(text(cx, "body", source, LOCAL_REPLY_BODY_BYTES_MAX)?),
            None => None,
        },
        headers: HeaderOps {
            remove: Box::default(),
            add: cx.each("headers_to_add", &value.headers_to_add, header_add),
        },
        format: match &value.body_format_override {
            Some(format) => Some(cx.at("body_format_override", |cx| body_format(cx, format))?),
            None => None,
        },
    })
}

/// A text that is given inline.
pub(super) fn text(
    cx: &mut Context<'_>,
    field: &str,
    source: &core::DataSource,
    bytes_max: u32,
) -> Option<Box<[u8]>> {
    use core::data_source::Specifier;
    let text: &[u8] = match &source.specifier {
        None => b"",
        Some(Specifier::InlineBytes(bytes)) => bytes,
        Some(Specifier::InlineString(text)) => text.as_bytes(),
        Some(Specifier::Filename(_) | Specifier::EnvironmentVariable(_)) => {
            return cx.refuse(field, "must be given inline");
        }
    };
    if text.len() > bytes_max as usize {
        return cx.refuse(field, format_args!("{} bytes are more than {bytes_max}", text.len()));
    }
    Some(text.into())
}

pub(super) fn body_format(
    cx: &mut Context<'_>,
    value: &core::SubstitutionFormatString,
) -> Option<Arc<BodyFormat>> {
    let format = substitution(cx, Some(value))?;
    let default = match &format.shape {
        Shape::Default => return cx.refuse("", "names no format"),
        Shape::Text(_) => "text/plain",
        Shape::Json(_) => "application/json",
    };
    let content_type = cx.intern(if value.content_type.is_empty() { default } else { &value.content_type });
    Some(Arc::new(BodyFormat { format, content_type }))
}
