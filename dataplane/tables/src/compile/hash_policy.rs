//! Hash policies of routes.

use ringsail_xds::envoy::config::route::v3::route_action::HashPolicy as Wire;
use ringsail_xds::envoy::config::route::v3::route_action::hash_policy::PolicySpecifier;

use super::context::Context;
use super::headers::is_name;
use super::matcher::regex_rewrite;
use super::value::duration;
use crate::route::{HashCookie, HashPolicy, HashSource};

pub(super) fn hash_policy(cx: &mut Context<'_>, value: &Wire) -> Option<HashPolicy> {
    let source = match &value.policy_specifier {
        Some(PolicySpecifier::Header(header)) => cx.at("header", |cx| {
            if header.header_name.is_empty() {
                return cx.refuse("header_name", "is empty");
            }
            let rewrite = match &header.regex_rewrite {
                Some(rewrite) => Some(cx.at("regex_rewrite", |cx| regex_rewrite(cx, rewrite))?),
                None => None,
            };
            Some(HashSource::Header { name: cx.intern_lower(&header.header_name), rewrite })
        })?,
        Some(PolicySpecifier::Cookie(cookie)) => cx.at("cookie", |cx| {
            if !is_name(&cookie.name) {
                return cx.refuse("name", "is no cookie name");
            }
            let unfit = |text: &str| text.bytes().any(|byte| byte < b' ' || byte == b';' || byte == 0x7f);
            if unfit(&cookie.path) {
                return cx.refuse("path", "holds a byte that a cookie cannot");
            }
            let attributes = cx.each("attributes", &cookie.attributes, |cx, attribute| {
                if !is_name(&attribute.name) || unfit(&attribute.value) {
                    return cx.refuse("", "is no cookie attribute");
                }
                Some((cx.intern(&attribute.name), cx.intern(&attribute.value)))
            });
            Some(HashSource::Cookie(Box::new(HashCookie {
                name: cx.intern(&cookie.name),
                ttl: duration(cx, "ttl", &cookie.ttl),
                path: cx.intern(&cookie.path),
                attributes,
            })))
        })?,
        Some(PolicySpecifier::ConnectionProperties(connection)) if connection.source_ip => {
            HashSource::SourceIp
        }
        Some(PolicySpecifier::ConnectionProperties(_)) => {
            return cx.refuse("connection_properties.source_ip", "is not set");
        }
        Some(PolicySpecifier::QueryParameter(parameter)) => {
            if parameter.name.is_empty() {
                return cx.refuse("query_parameter.name", "is empty");
            }
            HashSource::QueryParameter(cx.intern(&parameter.name))
        }
        Some(PolicySpecifier::FilterState(_)) => {
            return cx.refuse("filter_state", "filter state comes from filters that are not supported");
        }
        None => return cx.refuse("", "names nothing to hash"),
    };
    Some(HashPolicy { source, terminal: value.terminal })
}
