//! What a route does. Source: `RouteAction`, `WeightedCluster`, `RedirectAction`, `DirectResponseAction`.

use ringsail_xds::envoy::config::core::v3::data_source::Specifier;
use ringsail_xds::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
};
use ringsail_xds::envoy::config::route::v3::route::Action;
use ringsail_xds::envoy::config::route::v3::route_action::{ClusterSpecifier, HostRewriteSpecifier};
use ringsail_xds::envoy::config::route::v3::weighted_cluster::ClusterWeight;
use ringsail_xds::envoy::config::route::v3::weighted_cluster::RandomValueSpecifier;
use ringsail_xds::envoy::config::route::v3::weighted_cluster::cluster_weight::HostRewriteSpecifier as WeightedHostRewrite;
use ringsail_xds::envoy::config::route::v3::{
    RedirectAction, Route, RouteAction, RouteConfiguration, VirtualHost, WeightedCluster,
};
use ringsail_xds::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;

use crate::headers::edits;
use crate::{Forward, Request, Verdict, matched_part, place};

/// "timeout … If not specified, the default is 15s."
const TIMEOUT_DEFAULT_MILLIS: i64 = 15_000;

pub(crate) fn act(
    config: &RouteConfiguration,
    host: &VirtualHost,
    index: usize,
    route: &Route,
    request: &Request,
) -> Verdict {
    match &route.action {
        Some(Action::Route(action)) => forward(config, host, index, route, action, request),
        Some(Action::Redirect(action)) => redirect(host, index, route, action, request),
        Some(Action::DirectResponse(response)) => {
            let body = match response.body.as_ref().and_then(|body| body.specifier.as_ref()) {
                None => String::new(),
                Some(Specifier::InlineString(text)) => text.clone(),
                Some(Specifier::InlineBytes(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
                Some(_) => return Verdict::Unsupported("a body outside the configuration"),
            };
            Verdict::DirectResponse { place: place(host, index), status: response.status, body }
        }
        Some(_) | None => Verdict::Unsupported("an action that is not known"),
    }
}

fn forward(
    config: &RouteConfiguration,
    host: &VirtualHost,
    index: usize,
    route: &Route,
    action: &RouteAction,
    request: &Request,
) -> Verdict {
    let mut weighted = None;
    let cluster = match &action.cluster_specifier {
        Some(ClusterSpecifier::Cluster(name)) => Some(name.clone()),
        Some(ClusterSpecifier::ClusterHeader(name)) => first_value(request, name),
        Some(ClusterSpecifier::WeightedClusters(clusters)) => {
            let Some(picked) = pick(clusters, request) else {
                return Verdict::Unsupported("weighted clusters without weight");
            };
            weighted = Some(picked);
            if picked.name.is_empty() {
                first_value(request, &picked.cluster_header)
            } else {
                Some(picked.name.clone())
            }
        }
        Some(_) | None => return Verdict::Unsupported("a cluster choice that is not known"),
    };
    let Some(path) = rewritten_path(route, &action.prefix_rewrite, action.regex_rewrite.as_ref(), request)
    else {
        return Verdict::Unsupported("a rewrite that does not parse");
    };
    let Some(authority) = rewritten_authority(action, weighted, request) else {
        return Verdict::Unsupported("a host rewrite that is not known");
    };
    Verdict::Forward(Forward {
        place: place(host, index),
        cluster,
        path,
        authority,
        request_edits: edits(config, host, route, weighted, request),
        timeout_millis: action.timeout.as_ref().map_or(TIMEOUT_DEFAULT_MILLIS, |timeout| {
            timeout.seconds * 1000 + i64::from(timeout.nanos) / 1_000_000
        }),
    })
}

/// Only the first value of a header names a cluster.
fn first_value(request: &Request, name: &str) -> Option<String> {
    if name.starts_with(':') || name.eq_ignore_ascii_case("host") {
        return request.header(name);
    }
    let found = request.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.clone())
}

/// "the weight … in relation to the sum of all weights": the cluster in whose interval the random number falls.
fn pick<'a>(clusters: &'a WeightedCluster, request: &Request) -> Option<&'a ClusterWeight> {
    let total: u64 = clusters.clusters.iter().map(|cluster| u64::from(cluster.weight.unwrap_or(0))).sum();
    if total == 0 {
        return None;
    }
    let mut random = request.random;
    if let Some(RandomValueSpecifier::HeaderName(name)) = &clusters.random_value_specifier
        && let Some(number) = request.header(name).and_then(|value| value.trim().parse().ok())
    {
        random = number;
    }
    let mut begin = 0;
    for cluster in &clusters.clusters {
        let end = begin + u64::from(cluster.weight.unwrap_or(0));
        if (begin..end).contains(&(random % total)) {
            return Some(cluster);
        }
        begin = end;
    }
    None
}

/// "the matched prefix (or path) will be swapped with this value"; the query stays.
fn rewritten_path(
    route: &Route,
    prefix_rewrite: &str,
    regex_rewrite: Option<&RegexMatchAndSubstitute>,
    request: &Request,
) -> Option<String> {
    let path = request.path_only();
    let rest = &request.path[path.len()..];
    if !prefix_rewrite.is_empty() {
        let matched = matched_part(route, path);
        return Some(format!("{prefix_rewrite}{}{rest}", &path[matched.len()..]));
    }
    match regex_rewrite {
        Some(rewrite) => Some(format!("{}{rest}", substitute(rewrite, path)?)),
        None => Some(request.path.clone()),
    }
}

/// "the substitution string … `\1` … capture groups".
fn substitute(rewrite: &RegexMatchAndSubstitute, text: &str) -> Option<String> {
    let regex = regex::Regex::new(&rewrite.pattern.as_ref()?.regex).ok()?;
    let result = regex.replace_all(text, |groups: &regex::Captures<'_>| {
        let mut out = String::new();
        let mut chars = rewrite.substitution.chars();
        while let Some(c) = chars.next() {
            match (c, c == '\\') {
                (_, true) => match chars.next() {
                    Some(digit) if digit.is_ascii_digit() => {
                        let group = digit as usize - '0' as usize;
                        out.push_str(groups.get(group).map_or("", |group| group.as_str()));
                    }
                    Some(other) => out.push(other),
                    None => {}
                },
                (c, false) => out.push(c),
            }
        }
        out
    });
    Some(result.into_owned())
}

fn rewritten_authority(
    action: &RouteAction,
    weighted: Option<&ClusterWeight>,
    request: &Request,
) -> Option<String> {
    if let Some(WeightedHostRewrite::HostRewriteLiteral(host)) =
        weighted.and_then(|weighted| weighted.host_rewrite_specifier.as_ref())
        && !host.is_empty()
    {
        return Some(host.clone());
    }
    Some(match &action.host_rewrite_specifier {
        Some(HostRewriteSpecifier::HostRewriteLiteral(host)) if !host.is_empty() => host.clone(),
        Some(HostRewriteSpecifier::HostRewriteHeader(name)) => request
            .header(name)
            .filter(|value| !value.is_empty())
            .unwrap_or_else(|| request.authority.clone()),
        Some(HostRewriteSpecifier::HostRewritePathRegex(rewrite)) => {
            substitute(rewrite, request.path_only())?
        }
        Some(HostRewriteSpecifier::HostRewriteLiteral(_) | HostRewriteSpecifier::AutoHostRewrite(_))
        | None => request.authority.clone(),
        Some(HostRewriteSpecifier::HostRewrite(_)) => return None,
    })
}

fn redirect(
    host: &VirtualHost,
    index: usize,
    route: &Route,
    action: &RedirectAction,
    request: &Request,
) -> Verdict {
    let status = match RedirectResponseCode::try_from(action.response_code) {
        Ok(RedirectResponseCode::MovedPermanently) => 301,
        Ok(RedirectResponseCode::Found) => 302,
        Ok(RedirectResponseCode::SeeOther) => 303,
        Ok(RedirectResponseCode::TemporaryRedirect) => 307,
        Ok(RedirectResponseCode::PermanentRedirect) => 308,
        Err(_) => return Verdict::Unsupported("a response code that is not known"),
    };
    let scheme = match &action.scheme_rewrite_specifier {
        Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => "https",
        Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) if !scheme.is_empty() => scheme,
        Some(_) | None => &request.scheme,
    };
    let authority = redirect_authority(action, scheme, request);
    let Some(path) = redirect_path(route, action, request) else {
        return Verdict::Unsupported("a rewrite that does not parse");
    };
    Verdict::Redirect { place: place(host, index), status, location: format!("{scheme}://{authority}{path}") }
}

/// "host_redirect: The host portion of the URL will be swapped with this value"; "port_redirect"; and: when the scheme
/// changes, the old scheme's default port is not carried over.
fn redirect_authority(action: &RedirectAction, scheme: &str, request: &Request) -> String {
    let mut host = if action.host_redirect.is_empty() {
        request.authority.clone()
    } else {
        action.host_redirect.clone()
    };
    if action.host_redirect.is_empty() {
        let old = request.header("x-forwarded-proto").unwrap_or_else(|| request.scheme.clone());
        let (bare, port) = match host.rsplit_once(':') {
            Some((bare, port)) if port.parse::<u16>().is_ok() => (bare.to_owned(), port.to_owned()),
            _ => (host.clone(), String::new()),
        };
        let default_port = match old.as_str() {
            "http" => "80",
            "https" => "443",
            _ => "none",
        };
        if action.port_redirect != 0 || (scheme != old && port == default_port) {
            host = bare;
        }
    }
    if action.port_redirect == 0 { host } else { format!("{host}:{}", action.port_redirect) }
}

/// "path_redirect: … may contain query string … if the path_redirect contains a query, the request's is dropped".
fn redirect_path(route: &Route, action: &RedirectAction, request: &Request) -> Option<String> {
    let path = match &action.path_rewrite_specifier {
        Some(PathRewriteSpecifier::PathRedirect(path)) if path.contains('?') => return Some(path.clone()),
        Some(PathRewriteSpecifier::PathRedirect(path)) if !path.is_empty() => {
            format!("{path}{}", &request.path[request.path_only().len()..])
        }
        Some(PathRewriteSpecifier::PathRedirect(_)) | None => request.path.clone(),
        Some(PathRewriteSpecifier::PrefixRewrite(prefix)) => rewritten_path(route, prefix, None, request)?,
        Some(PathRewriteSpecifier::RegexRewrite(rewrite)) => {
            rewritten_path(route, "", Some(rewrite), request)?
        }
        Some(PathRewriteSpecifier::PathRewrite(_)) => return None,
    };
    match path.find('?') {
        Some(query) if action.strip_query => Some(path[..query].to_owned()),
        Some(_) | None => Some(path),
    }
}
