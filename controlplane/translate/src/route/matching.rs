//! What a route matches: an HTTPMatchRequest as Envoy's RouteMatch.

use ringsail_api::networking::string_match::MatchType;
use ringsail_api::networking::{HttpMatchRequest, StringMatch};
use ringsail_model::Proxy;
use ringsail_xds::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use ringsail_xds::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use ringsail_xds::envoy::config::route::v3::route_match::PathSpecifier;
use ringsail_xds::envoy::config::route::v3::{HeaderMatcher, QueryParameterMatcher, Route, RouteMatch};
use ringsail_xds::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};

use crate::xds;

/// Names that older configuration wrote under `headers`; the fields of the same name are meant.
const IGNORED_HEADER_KEYS: [&str; 4] = ["uri", "scheme", "method", "authority"];

/// Matches every request.
pub(crate) fn any() -> RouteMatch {
    RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".to_owned())), ..RouteMatch::default() }
}

/// Whether a match concerns this proxy at all: by port, gateway, and source labels and namespace, which select proxies
/// and are no test of requests. `gateways` in a match replaces the source tests.
pub(crate) fn concerns(request: &HttpMatchRequest, proxy: &Proxy, gateway: &str, port: u32) -> bool {
    if request.port != 0 && request.port != port {
        return false;
    }
    if !request.gateways.is_empty() {
        return request.gateways.iter().any(|name| name == gateway);
    }
    ringsail_model::source_matches(proxy, &request.source_labels, &request.source_namespace)
}

/// Translates the request tests of a match.
pub(crate) fn route_match(request: &HttpMatchRequest) -> RouteMatch {
    let mut out = any();
    if let Some(path) = request.uri.as_ref().and_then(|uri| uri.match_type.as_ref()) {
        out.path_specifier = Some(match path {
            MatchType::Exact(path) => PathSpecifier::Path(path.clone()),
            MatchType::Prefix(path) => PathSpecifier::Prefix(path.clone()),
            MatchType::Regex(path) => PathSpecifier::SafeRegex(xds::regex(path)),
        });
    }
    if request.ignore_uri_case {
        out.case_sensitive = Some(false);
    }
    let usable = |key: &str| !IGNORED_HEADER_KEYS.contains(&key);
    for (name, test) in request.headers.iter().filter(|(name, _)| usable(name)) {
        out.headers.push(header(name, test));
    }
    for (name, test) in request.without_headers.iter().filter(|(name, _)| usable(name)) {
        let matcher = header(name, test);
        let present = matches!(matcher.header_match_specifier, Some(HeaderMatchSpecifier::PresentMatch(_)));
        // "Not equal to x" holds for a request without the header.
        out.headers.push(HeaderMatcher {
            invert_match: true,
            treat_missing_header_as_empty: !present,
            ..matcher
        });
    }
    let pseudo =
        [(":method", &request.method), (":authority", &request.authority), (":scheme", &request.scheme)];
    for (name, test) in pseudo {
        out.headers.extend(test.as_ref().map(|test| header(name, test)));
    }
    for (name, test) in &request.query_params {
        out.query_parameters.push(QueryParameterMatcher {
            name: name.clone(),
            query_parameter_match_specifier: Some(match string_matcher(test) {
                Some(matcher) => QueryParameterMatchSpecifier::StringMatch(matcher),
                None => QueryParameterMatchSpecifier::PresentMatch(true),
            }),
        });
    }
    out
}

fn header(name: &str, test: &StringMatch) -> HeaderMatcher {
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(match string_matcher(test) {
            Some(matcher) => HeaderMatchSpecifier::StringMatch(matcher),
            None => HeaderMatchSpecifier::PresentMatch(true),
        }),
        ..HeaderMatcher::default()
    }
}

/// The test of a value; `None` asks only for presence, which is also what the regex `*` means.
pub(crate) fn string_matcher(test: &StringMatch) -> Option<StringMatcher> {
    let pattern = match test.match_type.as_ref()? {
        MatchType::Exact(text) => MatchPattern::Exact(text.clone()),
        MatchType::Prefix(text) => MatchPattern::Prefix(text.clone()),
        MatchType::Regex(text) if text == "*" => return None,
        MatchType::Regex(text) => MatchPattern::SafeRegex(xds::regex(text)),
    };
    Some(StringMatcher { match_pattern: Some(pattern), ..StringMatcher::default() })
}

/// Whether a route matches every request, so that none behind it is ever used.
pub(crate) fn is_catch_all(route: &Route) -> bool {
    let Some(route_match) = &route.r#match else { return false };
    let any_path = match &route_match.path_specifier {
        Some(PathSpecifier::Prefix(path) | PathSpecifier::PathSeparatedPrefix(path)) => path == "/",
        Some(PathSpecifier::SafeRegex(path)) => {
            path.regex == "*" || path.regex == ".*" || path.regex == "/.*"
        }
        _ => false,
    };
    any_path && route_match.headers.is_empty() && route_match.query_parameters.is_empty()
}

/// How a matched path reads in the name of an operation.
pub(crate) fn operation_path(route_match: &RouteMatch) -> String {
    match &route_match.path_specifier {
        Some(PathSpecifier::Prefix(path) | PathSpecifier::PathSeparatedPrefix(path)) => format!("{path}*"),
        Some(PathSpecifier::Path(path)) => path.clone(),
        Some(PathSpecifier::SafeRegex(path)) => path.regex.clone(),
        _ => String::new(),
    }
}
