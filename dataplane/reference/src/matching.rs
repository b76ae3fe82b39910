//! Does a route apply? Source: `RouteMatch`, `HeaderMatcher`, `QueryParameterMatcher`, `StringMatcher`.

use ringsail_xds::envoy::config::core::v3::RuntimeFractionalPercent;
use ringsail_xds::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use ringsail_xds::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use ringsail_xds::envoy::config::route::v3::route_match::PathSpecifier;
use ringsail_xds::envoy::config::route::v3::{HeaderMatcher, QueryParameterMatcher, Route, RouteMatch};
use ringsail_xds::envoy::r#type::matcher::v3::StringMatcher;
use ringsail_xds::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use ringsail_xds::envoy::r#type::v3::fractional_percent::DenominatorType;

use crate::Request;

type Answer = Result<bool, &'static str>;

pub(crate) fn route_matches(route: &Route, request: &Request) -> Answer {
    let Some(conditions) = &route.r#match else { return Err("a route without match") };
    if !conditions.dynamic_metadata.is_empty()
        || !conditions.filter_state.is_empty()
        || conditions.tls_context.is_some()
        || !conditions.cookies.is_empty()
    {
        return Err("conditions beyond the request head");
    }
    if !path_matches(conditions, request)? {
        return Ok(false);
    }
    if let Some(fraction) = &conditions.runtime_fraction
        && !fraction_chooses(fraction, request.random)
    {
        return Ok(false);
    }
    if conditions.grpc.is_some() {
        let kind = request.header("content-type").unwrap_or_default();
        if kind != "application/grpc" && !kind.starts_with("application/grpc+") {
            return Ok(false);
        }
    }
    for header in &conditions.headers {
        if !header_matches(header, request)? {
            return Ok(false);
        }
    }
    for parameter in &conditions.query_parameters {
        if !query_matches(parameter, request)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// "case_sensitive: … Defaults to true. Ignored for safe_regex matching."
fn path_matches(conditions: &RouteMatch, request: &Request) -> Answer {
    let fold = |text: &str| {
        if conditions.case_sensitive == Some(false) { text.to_ascii_lowercase() } else { text.to_owned() }
    };
    let path = fold(request.path_only());
    let is_connect = request.method == "CONNECT";
    if path.is_empty() && !matches!(conditions.path_specifier, Some(PathSpecifier::ConnectMatcher(_))) {
        return Ok(false);
    }
    match &conditions.path_specifier {
        Some(PathSpecifier::Prefix(prefix)) => Ok(path.starts_with(&fold(prefix))),
        Some(PathSpecifier::Path(wanted)) => Ok(path == fold(wanted)),
        Some(PathSpecifier::PathSeparatedPrefix(prefix)) => {
            let prefix = fold(prefix);
            Ok(path == prefix || path.starts_with(&format!("{prefix}/")))
        }
        Some(PathSpecifier::SafeRegex(regex)) => whole_regex(&regex.regex, request.path_only()),
        Some(PathSpecifier::ConnectMatcher(_)) => Ok(is_connect),
        Some(PathSpecifier::PathMatchPolicy(_)) | None => Err("a path condition that is not known"),
    }
}

pub(crate) fn fraction_chooses(fraction: &RuntimeFractionalPercent, random: u64) -> bool {
    let Some(value) = &fraction.default_value else { return false };
    let denominator = match DenominatorType::try_from(value.denominator) {
        Ok(DenominatorType::Hundred) => 100,
        Ok(DenominatorType::TenThousand) => 10_000,
        Ok(DenominatorType::Million) => 1_000_000,
        Err(_) => return false,
    };
    random % denominator < u64::from(value.numerator)
}

/// Whether a head's header fields satisfy a matcher.
///
/// # Errors
/// When the matcher is of a kind this evaluator does not know.
pub fn header_matches(matcher: &HeaderMatcher, request: &Request) -> Result<bool, &'static str> {
    let mut values = request.headers_named(&matcher.name);
    if values.is_empty() && matcher.treat_missing_header_as_empty {
        values.push("");
    }
    let result = match &matcher.header_match_specifier {
        None => !values.is_empty(),
        Some(HeaderMatchSpecifier::PresentMatch(wanted)) => values.is_empty() != *wanted,
        // "the header matcher rule … will be ignored so it will not match", inverted or not.
        Some(_) if values.is_empty() => return Ok(false),
        // Measured: the fields of one name are looked at one by one.
        Some(specifier) => {
            let mut any = false;
            for value in values {
                any |= header_value_matches(specifier, value)?;
            }
            any
        }
    };
    Ok(result != matcher.invert_match)
}

fn header_value_matches(specifier: &HeaderMatchSpecifier, value: &str) -> Answer {
    Ok(match specifier {
        HeaderMatchSpecifier::ExactMatch(wanted) => value == wanted,
        HeaderMatchSpecifier::PrefixMatch(prefix) => value.starts_with(prefix.as_str()),
        HeaderMatchSpecifier::SuffixMatch(suffix) => value.ends_with(suffix.as_str()),
        HeaderMatchSpecifier::ContainsMatch(part) => value.contains(part.as_str()),
        HeaderMatchSpecifier::SafeRegexMatch(regex) => whole_regex(&regex.regex, value)?,
        HeaderMatchSpecifier::RangeMatch(range) => {
            value.trim().parse::<i64>().is_ok_and(|number| range.start <= number && number < range.end)
        }
        HeaderMatchSpecifier::StringMatch(matcher) => string_matches(matcher, value)?,
        HeaderMatchSpecifier::PresentMatch(_) => return Err("a presence test with a value"),
    })
}

/// "This preserves the legacy behavior of ignoring all but the first value for a given key."
fn query_matches(matcher: &QueryParameterMatcher, request: &Request) -> Answer {
    let mut value = None;
    for pair in request.query().unwrap_or_default().split('&') {
        let (name, content) = pair.split_once('=').unwrap_or((pair, ""));
        if name == matcher.name && value.is_none() && request.query().is_some() {
            value = Some(content);
        }
    }
    match &matcher.query_parameter_match_specifier {
        None => Ok(value.is_some()),
        Some(QueryParameterMatchSpecifier::PresentMatch(wanted)) => Ok(value.is_some() == *wanted),
        Some(QueryParameterMatchSpecifier::StringMatch(matcher)) => match value {
            Some(value) => string_matches(matcher, value),
            None => Ok(false),
        },
    }
}

/// "ignore_case … has no effect for the safe_regex match".
fn string_matches(matcher: &StringMatcher, value: &str) -> Answer {
    let fold = |text: &str| if matcher.ignore_case { text.to_ascii_lowercase() } else { text.to_owned() };
    let folded = fold(value);
    match &matcher.match_pattern {
        Some(MatchPattern::Exact(wanted)) => Ok(folded == fold(wanted)),
        Some(MatchPattern::Prefix(prefix)) => Ok(folded.starts_with(&fold(prefix))),
        Some(MatchPattern::Suffix(suffix)) => Ok(folded.ends_with(&fold(suffix))),
        Some(MatchPattern::Contains(part)) => Ok(folded.contains(&fold(part))),
        Some(MatchPattern::SafeRegex(regex)) => whole_regex(&regex.regex, value),
        Some(MatchPattern::Custom(_)) | None => Err("a string matcher that is not known"),
    }
}

/// "the entire … value must match the regex".
pub(crate) fn whole_regex(pattern: &str, value: &str) -> Answer {
    let Ok(regex) = regex::Regex::new(pattern) else {
        return Err("a regular expression that does not parse");
    };
    // Leftmost-first search may stop at a shorter alternative, so the anchors are part of the pattern.
    let anchored = regex::Regex::new(&format!("^(?:{})$", regex.as_str()));
    anchored.map(|regex| regex.is_match(value)).map_err(|_| "a regular expression that does not parse")
}
