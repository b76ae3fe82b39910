//! Header operations.

use ringsail_xds::envoy::config::common::mutation_rules::v3 as mutation;
use ringsail_xds::envoy::config::core::v3 as core;

use super::context::Context;
use super::matcher::string_match;
use crate::header_ops::{HeaderAdd, HeaderAppend, HeaderEdits, HeaderMutation, HeaderOps};
use crate::strings::Str;
use crate::template::Template;

/// The four lists that every level of a route configuration has.
pub(super) struct Lists<'a> {
    pub(super) request_add: &'a [core::HeaderValueOption],
    pub(super) request_remove: &'a [String],
    pub(super) response_add: &'a [core::HeaderValueOption],
    pub(super) response_remove: &'a [String],
}

/// Both directions; `None` when there is nothing to do.
pub(super) fn header_edits(cx: &mut Context<'_>, lists: &Lists<'_>) -> Option<Box<HeaderEdits>> {
    let request = HeaderOps {
        remove: remove(cx, "request_headers_to_remove", lists.request_remove),
        add: cx.each("request_headers_to_add", lists.request_add, header_add),
    };
    let response = HeaderOps {
        remove: remove(cx, "response_headers_to_remove", lists.response_remove),
        add: cx.each("response_headers_to_add", lists.response_add, header_add),
    };
    let edits = HeaderEdits { request, response };
    (!edits.is_empty()).then(|| Box::new(edits))
}

/// Compat: Envoy refuses to remove pseudo headers and `host`, since a request without them has no meaning.
pub(super) fn remove(cx: &mut Context<'_>, field: &str, names: &[String]) -> Box<[Str]> {
    cx.each(field, names, |cx, name| {
        if name.starts_with(':') || name.eq_ignore_ascii_case("host") {
            return cx.refuse("", format_args!("{name} cannot be removed"));
        }
        if !is_name(name) {
            return cx.refuse("", format_args!("{name:?} is no header name"));
        }
        Some(cx.intern_lower(name))
    })
}

/// Operations in their order. Source: `envoy.config.common.mutation_rules.v3.HeaderMutation`.
pub(super) fn mutations(
    cx: &mut Context<'_>,
    field: &str,
    list: &[mutation::HeaderMutation],
) -> Box<[HeaderMutation]> {
    use mutation::header_mutation::Action;
    cx.each(field, list, |cx, value| match &value.action {
        Some(Action::Remove(name)) => {
            let names = std::slice::from_ref(name);
            remove(cx, "remove", names).first().cloned().map(HeaderMutation::Remove)
        }
        Some(Action::Append(add)) => cx.at("append", |cx| header_add(cx, add)).map(HeaderMutation::Add),
        Some(Action::RemoveOnMatch(on)) => cx.at("remove_on_match", |cx| match &on.key_matcher {
            Some(matcher) => {
                cx.at("key_matcher", |cx| string_match(cx, matcher)).map(HeaderMutation::RemoveMatching)
            }
            None => cx.refuse("key_matcher", "is not set"),
        }),
        None => cx.refuse("", "names no action"),
    })
}

pub(super) fn header_add(cx: &mut Context<'_>, value: &core::HeaderValueOption) -> Option<HeaderAdd> {
    let Some(header) = &value.header else { return cx.refuse("header", "is not set") };
    let name = header.key.as_str();
    // Compat: the pseudo headers and Host have their own settings in routes.
    if name.starts_with(':') || name.eq_ignore_ascii_case("host") {
        return cx.refuse("header.key", format_args!("{name} cannot be set here"));
    }
    if !is_name(name) {
        return cx.refuse("header.key", format_args!("{name:?} is no header name"));
    }
    if header.value.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        return cx.refuse("header.value", "holds a line end or NUL");
    }
    let template = match Template::compile(&header.value, cx.strings) {
        Ok(template) => template,
        Err(text) => return cx.refuse("header.value", text),
    };
    Some(HeaderAdd {
        name: cx.intern_lower(name),
        value: template,
        action: append_action(cx, value)?,
        keep_empty: value.keep_empty_value,
    })
}

fn append_action(cx: &mut Context<'_>, value: &core::HeaderValueOption) -> Option<HeaderAppend> {
    use core::header_value_option::HeaderAppendAction;
    match (value.append, HeaderAppendAction::try_from(value.append_action)) {
        (None, Ok(HeaderAppendAction::AppendIfExistsOrAdd)) | (Some(true), _) => {
            Some(HeaderAppend::AppendIfExistsOrAdd)
        }
        (Some(false), _) | (None, Ok(HeaderAppendAction::OverwriteIfExistsOrAdd)) => {
            Some(HeaderAppend::OverwriteIfExistsOrAdd)
        }
        (None, Ok(HeaderAppendAction::AddIfAbsent)) => Some(HeaderAppend::AddIfAbsent),
        (None, Ok(HeaderAppendAction::OverwriteIfExists)) => Some(HeaderAppend::OverwriteIfExists),
        (None, Err(_)) => cx.refuse("append_action", "is not known"),
    }
}

/// RFC 9110 §5.1: a token.
pub(super) fn is_name(name: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(token)
}
