//! Role-based access control.

use std::sync::Arc;

use ringsail_xds::envoy::config::core::v3::TypedExtensionConfig;
use ringsail_xds::envoy::config::rbac::v3 as pb;
use ringsail_xds::envoy::config::rbac::v3::permission::Rule as Permitted;
use ringsail_xds::envoy::config::rbac::v3::principal::Identifier;
use ringsail_xds::envoy::extensions::filters::http::rbac::v3 as http;
use ringsail_xds::envoy::extensions::filters::network::rbac::v3 as network;
use ringsail_xds::envoy::extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig;
use ringsail_xds::envoy::r#type::matcher::v3 as matcher;
use ringsail_xds::envoy::r#type::v3::Int32Range;

use super::context::Context;
use super::matcher::{header_match, metadata_match, string_match};
use super::value::{cidr, holds, unpack};
use crate::limits::NESTING_MAX;
use crate::path_template::PathTemplate;
use crate::rbac::{Action, Policy, RbacFilter, Rule, Rules};
use crate::string_match::StringMatch;

/// The key under which Istio's filters keep the peer's identity.
const PEER_PRINCIPAL: &str = "io.istio.peer_principal";

/// Source: Envoy's bound on both ends of `destination_port_range`.
const PORT_RANGE_END_MAX: i32 = 65_536;

pub(super) fn http_filter(cx: &mut Context<'_>, value: &http::Rbac) -> Option<Arc<RbacFilter>> {
    Some(Arc::new(RbacFilter {
        rules: optional(cx, "rules", value.rules.as_ref())?,
        shadow: optional(cx, "shadow_rules", value.shadow_rules.as_ref())?,
    }))
}

/// What a route says. `None`: nothing is asked there.
pub(super) fn of_route(cx: &mut Context<'_>, value: &http::RbacPerRoute) -> Option<Arc<RbacFilter>> {
    let filter = value.rbac.as_ref()?;
    cx.at("rbac", |cx| http_filter(cx, filter))
}

pub(super) fn network_filter(cx: &mut Context<'_>, value: &network::Rbac) -> Option<Arc<RbacFilter>> {
    if value.stat_prefix.is_empty() {
        return cx.refuse("stat_prefix", "is empty");
    }
    Some(Arc::new(RbacFilter {
        rules: optional(cx, "rules", value.rules.as_ref())?,
        shadow: optional(cx, "shadow_rules", value.shadow_rules.as_ref())?,
    }))
}

/// Outer `None`: refused.
fn optional(cx: &mut Context<'_>, field: &str, value: Option<&pb::Rbac>) -> Option<Option<Rules>> {
    match value {
        None => Some(None),
        Some(value) => cx.at(field, |cx| rules(cx, value)).map(Some),
    }
}

fn rules(cx: &mut Context<'_>, value: &pb::Rbac) -> Option<Rules> {
    let action = match pb::rbac::Action::try_from(value.action) {
        Ok(pb::rbac::Action::Allow) => Action::Allow,
        Ok(pb::rbac::Action::Deny) => Action::Deny,
        Ok(pb::rbac::Action::Log) => Action::Log,
        Err(_) => return cx.refuse("action", "is not known"),
    };
    let mut policies = Vec::with_capacity(value.policies.len());
    // The map is sorted, as Envoy's is.
    for (name, one) in &value.policies {
        let mark = cx.report.enter(format_args!("policies[{name:?}]"));
        let compiled = policy(cx, name, one);
        cx.report.leave(mark);
        // A policy that is not understood must not be missing.
        policies.push(compiled?);
    }
    Some(Rules { action, policies: policies.into() })
}

fn policy(cx: &mut Context<'_>, name: &str, value: &pb::Policy) -> Option<Policy> {
    if value.permissions.is_empty() {
        return cx.refuse("permissions", "is empty");
    }
    if value.principals.is_empty() {
        return cx.refuse("principals", "is empty");
    }
    let permissions = all(cx, "permissions", &value.permissions, |cx, one| permission(cx, one, NESTING_MAX))?;
    let principals = all(cx, "principals", &value.principals, |cx, one| principal(cx, one, NESTING_MAX))?;
    Some(Policy { name: cx.intern(name), permissions, principals })
}

/// As [`Context::each`], and `None` unless every element compiled.
fn all<T>(
    cx: &mut Context<'_>,
    field: &str,
    list: &[T],
    compile: impl FnMut(&mut Context<'_>, &T) -> Option<Rule>,
) -> Option<Box<[Rule]>> {
    let compiled = cx.each(field, list, compile);
    (compiled.len() == list.len()).then_some(compiled)
}

fn permission(cx: &mut Context<'_>, value: &pb::Permission, depth: u32) -> Option<Rule> {
    if depth == 0 {
        return too_deep(cx);
    }
    let Some(rule) = &value.rule else { return cx.refuse("", "is no rule") };
    let set = |cx: &mut Context<'_>, field: &str, set: &pb::permission::Set| {
        if set.rules.is_empty() {
            return cx.refuse(field, "is empty");
        }
        cx.at(field, |cx| all(cx, "rules", &set.rules, |cx, one| permission(cx, one, depth - 1)))
    };
    Some(match rule {
        Permitted::AndRules(rules) => Rule::All(set(cx, "and_rules", rules)?),
        Permitted::OrRules(rules) => Rule::OneOf(set(cx, "or_rules", rules)?),
        Permitted::NotRule(rule) => {
            Rule::Not(Box::new(cx.at("not_rule", |cx| permission(cx, rule, depth - 1))?))
        }
        Permitted::Any(always) => any(cx, *always)?,
        Permitted::Header(header) => Rule::Header(cx.at("header", |cx| header_match(cx, header))?),
        Permitted::DestinationIp(range) => {
            Rule::DestinationIp(cx.at("destination_ip", |cx| cidr(cx, range))?)
        }
        Permitted::DestinationPort(port) => match u16::try_from(*port) {
            Ok(port) => Rule::DestinationPort(port),
            Err(_) => return cx.refuse("destination_port", format_args!("{port} is no port")),
        },
        Permitted::DestinationPortRange(range) => {
            cx.at("destination_port_range", |cx| port_range(cx, range))?
        }
        Permitted::RequestedServerName(name) => {
            Rule::ServerName(cx.at("requested_server_name", |cx| string_match(cx, name))?)
        }
        Permitted::UrlPath(path) => url_path(cx, path)?,
        Permitted::UriTemplate(template) => cx.at("uri_template", |cx| uri_template(cx, template))?,
        Permitted::Metadata(metadata) => {
            Rule::Metadata(cx.at("metadata", |cx| metadata_match(cx, metadata))?)
        }
        Permitted::Matcher(_) => return cx.refuse("matcher", "matcher extensions are not supported"),
        Permitted::SourcedMetadata(metadata) => {
            cx.at("sourced_metadata", |cx| sourced_metadata(cx, metadata))?
        }
    })
}

fn principal(cx: &mut Context<'_>, value: &pb::Principal, depth: u32) -> Option<Rule> {
    if depth == 0 {
        return too_deep(cx);
    }
    let Some(identifier) = &value.identifier else { return cx.refuse("", "is no principal") };
    let set = |cx: &mut Context<'_>, field: &str, set: &pb::principal::Set| {
        if set.ids.is_empty() {
            return cx.refuse(field, "is empty");
        }
        cx.at(field, |cx| all(cx, "ids", &set.ids, |cx, one| principal(cx, one, depth - 1)))
    };
    Some(match identifier {
        Identifier::AndIds(ids) => Rule::All(set(cx, "and_ids", ids)?),
        Identifier::OrIds(ids) => Rule::OneOf(set(cx, "or_ids", ids)?),
        Identifier::NotId(id) => Rule::Not(Box::new(cx.at("not_id", |cx| principal(cx, id, depth - 1))?)),
        Identifier::Any(always) => any(cx, *always)?,
        Identifier::Authenticated(authenticated) => match &authenticated.principal_name {
            None => Rule::Authenticated(None),
            Some(name) => {
                let name = cx.at("authenticated.principal_name", |cx| string_match(cx, name))?;
                Rule::Authenticated(Some(name))
            }
        },
        Identifier::SourceIp(range) => Rule::SourceIp(cx.at("source_ip", |cx| cidr(cx, range))?),
        Identifier::DirectRemoteIp(range) => {
            Rule::DirectRemoteIp(cx.at("direct_remote_ip", |cx| cidr(cx, range))?)
        }
        Identifier::RemoteIp(range) => Rule::RemoteIp(cx.at("remote_ip", |cx| cidr(cx, range))?),
        Identifier::Header(header) => Rule::Header(cx.at("header", |cx| header_match(cx, header))?),
        Identifier::UrlPath(path) => url_path(cx, path)?,
        Identifier::Metadata(metadata) => {
            Rule::Metadata(cx.at("metadata", |cx| metadata_match(cx, metadata))?)
        }
        Identifier::SourcedMetadata(metadata) => {
            cx.at("sourced_metadata", |cx| sourced_metadata(cx, metadata))?
        }
        Identifier::Custom(_) => return cx.refuse("custom", "principal extensions are not supported"),
        Identifier::FilterState(state) => cx.at("filter_state", |cx| filter_state(cx, state))?,
    })
}

fn too_deep<T>(cx: &mut Context<'_>) -> Option<T> {
    cx.refuse("", format_args!("nested deeper than {NESTING_MAX} rules"))
}

fn any(cx: &mut Context<'_>, always: bool) -> Option<Rule> {
    if always { Some(Rule::Any) } else { cx.refuse("any", "may only be true") }
}

fn port_range(cx: &mut Context<'_>, range: &Int32Range) -> Option<Rule> {
    let bound = |port: i32| u32::try_from(port).ok().filter(|_| port <= PORT_RANGE_END_MAX);
    match (bound(range.start), bound(range.end)) {
        (Some(start), Some(end)) if start < end => Some(Rule::DestinationPorts { start, end }),
        _ => cx.refuse("", format_args!("{}..{} is no range of ports", range.start, range.end)),
    }
}

fn url_path(cx: &mut Context<'_>, value: &matcher::PathMatcher) -> Option<Rule> {
    match &value.rule {
        Some(matcher::path_matcher::Rule::Path(path)) => {
            Some(Rule::Path(cx.at("url_path.path", |cx| string_match(cx, path))?))
        }
        None => cx.refuse("url_path.path", "is not set"),
    }
}

fn uri_template(cx: &mut Context<'_>, value: &TypedExtensionConfig) -> Option<Rule> {
    let any = value.typed_config.as_ref().filter(|any| holds::<UriTemplateMatchConfig>(any));
    let Some(any) = any else { return cx.refuse("typed_config", "is no UriTemplateMatchConfig") };
    cx.at("typed_config", |cx| {
        let config: UriTemplateMatchConfig = unpack(cx, any)?;
        match PathTemplate::new(cx.intern(&config.path_template)) {
            Ok(template) => Some(Rule::PathTemplate(template)),
            Err(text) => cx.refuse("path_template", text),
        }
    })
}

fn sourced_metadata(cx: &mut Context<'_>, value: &pb::SourcedMetadata) -> Option<Rule> {
    let Some(condition) = &value.metadata_matcher else {
        return cx.refuse("metadata_matcher", "is not set");
    };
    let condition = cx.at("metadata_matcher", |cx| metadata_match(cx, condition))?;
    match pb::MetadataSource::try_from(value.metadata_source) {
        Ok(pb::MetadataSource::Dynamic) => Some(Rule::Metadata(condition)),
        Ok(pb::MetadataSource::Route) => Some(Rule::RouteMetadata(condition)),
        Err(_) => cx.refuse("metadata_source", "is not known"),
    }
}

fn filter_state(cx: &mut Context<'_>, value: &matcher::FilterStateMatcher) -> Option<Rule> {
    use matcher::filter_state_matcher::Matcher;
    if value.key != PEER_PRINCIPAL {
        return cx.refuse("key", format_args!("only {PEER_PRINCIPAL:?} is kept"));
    }
    let name: StringMatch = match &value.matcher {
        Some(Matcher::StringMatch(name)) => cx.at("string_match", |cx| string_match(cx, name))?,
        Some(Matcher::AddressMatch(_)) => return cx.refuse("address_match", "the value is no address"),
        None => return cx.refuse("", "matches nothing in particular"),
    };
    Some(Rule::PeerPrincipal(name))
}
