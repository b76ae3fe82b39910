//! HTTP routes of a VirtualService.

use crate::networking::http_body::Specifier;
use crate::networking::http_fault_injection::abort::ErrorType;
use crate::networking::http_fault_injection::delay::HttpDelayType;
use crate::networking::http_redirect::RedirectPort;
use crate::networking::string_match::MatchType;
use crate::networking::{
    CorsPolicy, Headers, HttpDirectResponse, HttpFaultInjection, HttpMatchRequest, HttpRedirect, HttpRetry,
    HttpRewrite, HttpRoute, Percent, StringMatch,
};
use crate::validate::checker::Checker;
use crate::validate::common::{destination, duration, labels, port, rule};
use crate::validate::names;
use crate::validate::virtual_service::{gateway_names, match_port, total_weight, weight};

/// Largest body of a direct response, and from where on it is worth a warning.
const BODY_BYTES_MAX: usize = 1_000_000;
const BODY_BYTES_LARGE: usize = 100_000;

/// Words of `retryOn`. Source: Envoy's `x-envoy-retry-on` and `x-envoy-retry-grpc-on`.
const RETRY_ON: [&str; 16] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

/// Names of gRPC's status codes.
const GRPC_STATUS: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Methods that `allowMethods` takes.
const CORS_METHODS: [&str; 10] =
    ["CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE", "*"];

/// Header keys that test claims of a token.
const JWT_CLAIMS: &str = "@request.auth.claims";

pub(crate) fn check(checker: &mut Checker, route: &HttpRoute, in_delegate: bool) {
    actions(checker, route, in_delegate);
    checker.each("match", &route.r#match, check_match);
    checker.set("headers", route.headers.as_ref(), headers);
    checker.set("corsPolicy", route.cors_policy.as_ref(), cors);
    checker.set("fault", route.fault.as_ref(), fault);
    mirrors(checker, route);
    checker
        .set("redirect", route.redirect.as_ref(), |checker, value| redirect(checker, value, &route.r#match));
    checker.set("directResponse", route.direct_response.as_ref(), direct_response);
    checker.set("retries", route.retries.as_ref(), retries);
    checker.set("rewrite", route.rewrite.as_ref(), rewrite);
    authority_once(checker, route);
    checker.each("route", &route.route, |checker, entry| {
        match &entry.destination {
            Some(to) => checker.field("destination", |checker| destination(checker, to)),
            None => {
                checker.error("`destination` is required").fix("write `destination: {host: …}`");
            }
        }
        checker.set("headers", entry.headers.as_ref(), headers);
        weight(checker, entry.weight);
    });
    total_weight(checker, route.route.iter().map(|entry| entry.weight));
    checker.set("timeout", route.timeout.as_ref(), |checker, timeout| {
        if timeout.seconds == 0 && timeout.nanos == 0 {
            let fix = "leave `timeout` out: without it there is none";
            checker.error("the duration must be at least 1ms").fix(fix);
        } else {
            duration(checker, timeout);
        }
    });
}

/// What a route does: exactly one of four things.
fn actions(checker: &mut Checker, route: &HttpRoute, in_delegate: bool) {
    if route.delegate.is_some() {
        if in_delegate {
            checker.field("delegate", |checker| {
                checker.error("a delegate cannot delegate again");
            });
        }
        for (field, is_set) in [("redirect", route.redirect.is_some()), ("route", !route.route.is_empty())] {
            if is_set {
                checker.error(format!("`delegate` and `{field}` exclude each other"));
            }
        }
        if !in_delegate {
            return;
        }
    }
    let answers =
        [("redirect", route.redirect.is_some()), ("directResponse", route.direct_response.is_some())];
    let others = [
        ("route", !route.route.is_empty()),
        ("fault", route.fault.is_some()),
        ("rewrite", route.rewrite.is_some()),
    ];
    let mut answer = None;
    for (name, _) in answers.into_iter().filter(|(_, is_set)| *is_set) {
        if let Some(first) = answer.replace(name) {
            checker.error(format!("`{first}` and `{name}` exclude each other"));
        }
        for (other, _) in others.into_iter().filter(|(_, is_set)| *is_set) {
            checker.error(format!("`{name}` and `{other}` exclude each other"));
        }
    }
    if answer.is_none() && route.route.is_empty() {
        let fix = "write `route: [{destination: {host: …}}]`";
        checker.error("the route does nothing: it needs `route`, `redirect` or `directResponse`").fix(fix);
    }
    if route.mirror.is_some() && !route.mirrors.is_empty() {
        checker.error("`mirror` and `mirrors` exclude each other");
    }
}

fn check_match(checker: &mut Checker, found: &HttpMatchRequest) {
    checker.entries("headers", &found.headers, |checker, name, value| {
        header_match_name(checker, name);
        string_match(checker, value);
    });
    checker.entries("withoutHeaders", &found.without_headers, |checker, name, value| {
        header_match_name(checker, name);
        // `*` is no regular expression here: it asks for presence.
        if value.match_type != Some(MatchType::Regex("*".to_owned())) {
            string_match(checker, value);
        }
    });
    // An empty prefix is legal for a path: every path starts with it.
    checker.set("uri", found.uri.as_ref(), regex_match);
    checker.set("scheme", found.scheme.as_ref(), string_match);
    checker.set("method", found.method.as_ref(), string_match);
    checker.set("authority", found.authority.as_ref(), string_match);
    checker.entries("queryParams", &found.query_params, |checker, _, value| string_match(checker, value));
    match_port(checker, found.port);
    labels(checker, "sourceLabels", &found.source_labels);
    gateway_names(checker, &found.gateways);
    if !found.source_namespace.is_empty() && !names::is_label(&found.source_namespace) {
        checker.field("sourceNamespace", |checker| {
            checker.error(format!("`{}` is not a namespace", found.source_namespace));
        });
    }
}

fn header_match_name(checker: &mut Checker, name: &str) {
    let is_pseudo = matches!(name, ":method" | ":scheme" | ":authority" | ":path" | ":status");
    if !is_pseudo && !name.starts_with(JWT_CLAIMS) && !names::is_header_name(name) {
        checker.error(format!("`{name}` is not a header name"));
    }
}

/// A prefix or regular expression must not be empty; an exact value may.
fn string_match(checker: &mut Checker, value: &StringMatch) {
    if value.match_type == Some(MatchType::Prefix(String::new())) {
        checker.error("an empty prefix").fix("write `{}` to ask for presence");
    }
    regex_match(checker, value);
}

fn regex_match(checker: &mut Checker, value: &StringMatch) {
    if let Some(MatchType::Regex(regex)) = &value.match_type {
        checker.field("regex", |checker| rule(checker, names::regex(regex)));
    }
}

/// Claims are known on gateways only: elsewhere a rule that tests them would never match.
pub(crate) fn refuse_jwt_claims(checker: &mut Checker, routes: &[HttpRoute]) {
    checker.each("http", routes, |checker, route| {
        checker.each("match", &route.r#match, |checker, found| {
            for (field, map) in [("headers", &found.headers), ("withoutHeaders", &found.without_headers)] {
                checker.entries(field, map, |checker, name, _| {
                    if name.starts_with(JWT_CLAIMS) {
                        let fix = "bind the object to a gateway with `gateways`";
                        checker.error("claims of a token can be tested on gateways only").fix(fix);
                    }
                });
            }
        });
    });
}

fn headers(checker: &mut Checker, headers: &Headers) {
    for (field, operations, is_request) in
        [("request", &headers.request, true), ("response", &headers.response, false)]
    {
        checker.set(field, operations.as_ref(), |checker, operations| {
            for (name, map) in [("set", &operations.set), ("add", &operations.add)] {
                checker.entries(name, map, |checker, key, value| {
                    header_operation(checker, key, is_request);
                    header_value(checker, value);
                });
            }
            checker.each("remove", &operations.remove, |checker, key| header_operation(checker, key, false));
        });
    }
}

fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host")
}

fn header_operation(checker: &mut Checker, name: &str, may_be_authority: bool) {
    if name.is_empty() {
        checker.error("a header without a name");
    } else if (name.starts_with(':') || name.eq_ignore_ascii_case("host"))
        && !(may_be_authority && is_authority(name))
    {
        let fix = "use `rewrite.authority` for the host; other `:` headers cannot be changed";
        checker.error(format!("`{name}` cannot be changed here")).fix(fix);
    }
}

/// Text without control characters, whose `%` come in operators or doubled.
fn header_value(checker: &mut Checker, value: &str) {
    if value.bytes().any(|byte| (byte < 0x20 && byte != b'\t') || byte == 0x7f) {
        checker.error("a control character in a header value");
    }
    let mut rest = value;
    while let Some((_, after)) = rest.split_once('%') {
        if let Some(after) = after.strip_prefix('%') {
            rest = after;
            continue;
        }
        let starts_operator = after.starts_with(|first: char| first.is_ascii_uppercase());
        // Arguments in parentheses may hold a `%` of their own.
        let end = match after.split_once('(') {
            Some((name, arguments)) if !name.contains('%') => {
                arguments.split_once(')').and_then(|(_, tail)| tail.split_once('%'))
            }
            _ => after.split_once('%'),
        };
        match end {
            Some((_, after)) if starts_operator => rest = after,
            _ => {
                let fix = "write `%%` for a percent sign, or an operator such as `%REQ(x-id)%`";
                checker.error(format!("`%` starts no operator in `{value}`")).fix(fix);
                return;
            }
        }
    }
}

fn authority_once(checker: &mut Checker, route: &HttpRoute) {
    let rewrites = route.rewrite.as_ref().is_some_and(|rewrite| !rewrite.authority.is_empty());
    let request = route.headers.as_ref().and_then(|headers| headers.request.as_ref());
    let sets = request.map_or(0, |request| {
        request.set.keys().chain(request.add.keys()).filter(|name| is_authority(name)).count()
    });
    if sets + usize::from(rewrites) > 1 {
        checker.error("the authority is set more than once").fix("keep `rewrite.authority`");
    }
}

fn cors(checker: &mut Checker, policy: &CorsPolicy) {
    checker.each("allowOrigins", &policy.allow_origins, |checker, origin| {
        let is_empty = match &origin.match_type {
            Some(MatchType::Exact(text) | MatchType::Prefix(text) | MatchType::Regex(text)) => {
                text.is_empty()
            }
            None => true,
        };
        if is_empty {
            checker.error("an empty origin").fix("write `exact:`, `prefix:` or `regex:` with an origin");
        } else {
            regex_match(checker, origin);
        }
    });
    checker.each("allowMethods", &policy.allow_methods, |checker, method| {
        if !CORS_METHODS.contains(&method.as_str()) {
            checker
                .error(format!("`{method}` is not a method"))
                .fix(format!("use {}", CORS_METHODS.join(", ")));
        }
    });
    for (field, list) in [("allowHeaders", &policy.allow_headers), ("exposeHeaders", &policy.expose_headers)]
    {
        checker.each(field, list, |checker, name| {
            if name != "*" && !names::is_header_name(name) {
                checker.error(format!("`{name}` is not a header name"));
            }
        });
    }
    checker.set("maxAge", policy.max_age.as_ref(), |checker, age| {
        if age.nanos > 0 {
            checker.error("the age must be a whole number of seconds");
        } else {
            duration(checker, age);
        }
    });
}

fn fault(checker: &mut Checker, fault: &HttpFaultInjection) {
    if fault.abort.is_none() && fault.delay.is_none() {
        checker.error("the fault injects nothing").fix("give it `abort` or `delay`");
    }
    checker.set("abort", fault.abort.as_ref(), |checker, abort| {
        percentage(checker, abort.percentage.as_ref());
        match &abort.error_type {
            Some(ErrorType::HttpStatus(status)) => http_status(checker, "httpStatus", i64::from(*status)),
            Some(ErrorType::GrpcStatus(status)) if !GRPC_STATUS.contains(&status.as_str()) => {
                checker.field("grpcStatus", |checker| {
                    let fix = "use a name such as NOT_FOUND or UNAVAILABLE";
                    checker.error(format!("`{status}` is not a gRPC status")).fix(fix);
                });
            }
            Some(ErrorType::GrpcStatus(_)) => {}
            Some(ErrorType::Http2Error(_)) => {
                checker.field("http2Error", |checker| {
                    checker.error("HTTP/2 errors cannot be injected").fix("use `httpStatus`");
                });
            }
            None => {
                checker.warning("abort configured, but error type not set").fix("set `httpStatus`");
            }
        }
    });
    checker.set("delay", fault.delay.as_ref(), |checker, delay| {
        percentage(checker, delay.percentage.as_ref());
        match &delay.http_delay_type {
            Some(HttpDelayType::FixedDelay(time)) => {
                checker.field("fixedDelay", |checker| duration(checker, time));
            }
            Some(HttpDelayType::ExponentialDelay(_)) => {
                checker.field("exponentialDelay", |checker| {
                    checker.error("exponential delays are not supported").fix("use `fixedDelay`");
                });
            }
            None => {}
        }
    });
}

/// 0, or 0.0001 to 100.
fn percentage(checker: &mut Checker, percentage: Option<&Percent>) {
    checker.set("percentage", percentage, |checker, percentage| {
        let value = percentage.value;
        if !(value == 0.0 || (0.0001..=100.0).contains(&value)) {
            checker.error(format!("{value} is neither 0 nor between 0.0001 and 100"));
        }
    });
}

fn http_status(checker: &mut Checker, field: &str, status: i64) {
    if !(200..=599).contains(&status) {
        checker.field(field, |checker| {
            checker.error(format!("{status} is not an HTTP status between 200 and 599"));
        });
    }
}

fn mirrors(checker: &mut Checker, route: &HttpRoute) {
    checker.set("mirror", route.mirror.as_ref(), destination);
    checker.set("mirrorPercent", route.mirror_percent.as_ref(), |checker, percent| {
        if *percent > 100 {
            checker.error(format!("{percent} is more than 100"));
        }
        let message = "using deprecated setting \"mirrorPercent\", use \"mirrorPercentage\" instead";
        checker.warning(message).fix(format!("write `mirrorPercentage: {{value: {percent}}}`"));
    });
    let in_range = |checker: &mut Checker, percent: &Percent| {
        if !(0.0..=100.0).contains(&percent.value) {
            checker.error(format!("{} is not between 0 and 100", percent.value));
        }
    };
    checker.set("mirrorPercentage", route.mirror_percentage.as_ref(), in_range);
    checker.each("mirrors", &route.mirrors, |checker, mirror| {
        match &mirror.destination {
            Some(to) => checker.field("destination", |checker| destination(checker, to)),
            None => {
                checker.error("`destination` is required");
            }
        }
        checker.set("percentage", mirror.percentage.as_ref(), in_range);
    });
}

fn redirect(checker: &mut Checker, redirect: &HttpRedirect, matches: &[HttpMatchRequest]) {
    if !redirect.uri.is_empty() && !redirect.prefix_rewrite.is_empty() {
        checker.error("`uri` and `prefixRewrite` exclude each other");
    }
    let has_other_match = matches
        .iter()
        .filter_map(|found| found.uri.as_ref())
        .any(|uri| !matches!(uri.match_type, Some(MatchType::Prefix(_))));
    if !redirect.prefix_rewrite.is_empty() && has_other_match {
        checker.field("prefixRewrite", |checker| {
            checker.error("needs matches of `uri` by `prefix`");
        });
    }
    let changes_nothing = redirect.uri.is_empty()
        && redirect.prefix_rewrite.is_empty()
        && redirect.authority.is_empty()
        && redirect.scheme.is_empty()
        && redirect.redirect_port.is_none();
    if changes_nothing {
        checker.error("the redirect changes nothing").fix("set `uri`, `authority`, `scheme` or `port`");
    }
    if redirect.redirect_code != 0 && !(300..=399).contains(&redirect.redirect_code) {
        checker.field("redirectCode", |checker| {
            checker.error(format!("{} is not a redirect status (3xx)", redirect.redirect_code));
        });
    }
    if !matches!(redirect.scheme.as_str(), "" | "http" | "https") {
        checker.field("scheme", |checker| {
            checker.error(format!("`{}` is neither http nor https", redirect.scheme));
        });
    }
    if let Some(RedirectPort::Port(number)) = redirect.redirect_port
        && number > 0
    {
        checker.field("port", |checker| port(checker, number));
    }
}

fn direct_response(checker: &mut Checker, response: &HttpDirectResponse) {
    let body_len = match response.body.as_ref().and_then(|body| body.specifier.as_ref()) {
        Some(Specifier::String(text)) => text.len(),
        Some(Specifier::Bytes(bytes)) => bytes.len(),
        None => 0,
    };
    if body_len > BODY_BYTES_MAX {
        checker.error(format!("a body of {body_len} bytes; {BODY_BYTES_MAX} are allowed"));
    } else if body_len > BODY_BYTES_LARGE {
        checker.warning("large direct_responses may impact control plane performance");
    }
    http_status(checker, "status", i64::from(response.status));
}

/// A retry policy, of a route or of the mesh.
pub(crate) fn retries(checker: &mut Checker, retries: &HttpRetry) {
    if retries.attempts < 0 {
        checker.field("attempts", |checker| {
            checker.error(format!("{} is negative", retries.attempts));
        });
    }
    let sets_more = retries.per_try_timeout.is_some()
        || !retries.retry_on.is_empty()
        || retries.retry_remote_localities.is_some();
    if retries.attempts == 0 && sets_more {
        checker
            .error("`attempts` is 0, which turns retries off; the other fields have no effect")
            .fix("set `attempts`, or leave the other fields out");
    }
    checker.set("perTryTimeout", retries.per_try_timeout.as_ref(), duration);
    checker.set("backoff", retries.backoff.as_ref(), duration);
    if retries.retry_on.is_empty() {
        return;
    }
    checker.field("retryOn", |checker| {
        for word in retries.retry_on.split(',') {
            let is_status = word.len() == 3 && http_status_is_known(word);
            if !is_status && !RETRY_ON.contains(&word) {
                let fix = format!(
                    "use status codes and {}, separated by commas without blanks",
                    RETRY_ON.join(", ")
                );
                checker.error(format!("`{word}` is not a reason to retry")).fix(fix);
            }
        }
    });
}

/// The codes that have a name. Source: IANA HTTP status code registry.
fn http_status_is_known(word: &str) -> bool {
    match word.parse::<u16>() {
        Ok(code) => matches!(
            code,
            100..=103 | 200..=208 | 226 | 300..=305 | 307 | 308 | 400..=418 | 421..=426 | 428 | 429 | 431
                | 451 | 500..=508 | 510 | 511
        ),
        Err(_) => false,
    }
}

fn rewrite(checker: &mut Checker, rewrite: &HttpRewrite) {
    if !rewrite.uri.is_empty() && rewrite.uri_regex_rewrite.is_some() {
        checker.error("`uri` and `uriRegexRewrite` exclude each other");
    }
    if rewrite.uri.is_empty() && rewrite.uri_regex_rewrite.is_none() && rewrite.authority.is_empty() {
        checker.error("the rewrite changes nothing").fix("set `uri`, `uriRegexRewrite` or `authority`");
    }
    checker.set("uriRegexRewrite", rewrite.uri_regex_rewrite.as_ref(), |checker, by_regex| {
        if by_regex.r#match.is_empty() || by_regex.rewrite.is_empty() {
            checker.error("both `match` and `rewrite` are required");
        } else {
            checker.field("match", |checker| rule(checker, names::regex(&by_regex.r#match)));
        }
    });
}

/// Warns about rules that can never be reached: after a catch-all, or with a match that stood before.
pub(crate) fn unreachable(checker: &mut Checker, routes: &[HttpRoute]) {
    let mut number = 0;
    let mut catch_all: Option<usize> = None;
    let mut seen: Vec<(usize, &HttpMatchRequest)> = Vec::new();
    checker.each("http", routes, |checker, route| {
        if let Some(first) = catch_all {
            let message =
                format!("virtualService rule #{number} not used (rule #{first} matches everything)");
            checker.warning(message).code("IST0130").fix("move it up");
        } else {
            checker.each("match", &route.r#match, |checker, found| {
                if let Some((first, _)) = seen.iter().find(|(_, before)| same_match(before, found)) {
                    let message = format!("this match is not used (duplicate match in rule #{first})");
                    checker.warning(message).code("IST0131");
                }
                seen.push((number, found));
            });
            if route.r#match.is_empty() || route.r#match.iter().any(is_catch_all) {
                catch_all = Some(number);
            }
        }
        number += 1;
    });
}

fn same_match(left: &HttpMatchRequest, right: &HttpMatchRequest) -> bool {
    let unnamed = |found: &HttpMatchRequest| HttpMatchRequest {
        name: String::new(),
        stat_prefix: String::new(),
        ..found.clone()
    };
    unnamed(left) == unnamed(right)
}

fn is_catch_all(found: &HttpMatchRequest) -> bool {
    same_match(&HttpMatchRequest { uri: None, ..found.clone() }, &HttpMatchRequest::default())
        && match found.uri.as_ref().and_then(|uri| uri.match_type.as_ref()) {
            None => true,
            Some(MatchType::Prefix(prefix)) => matches!(prefix.as_str(), "" | "/"),
            Some(MatchType::Regex(regex)) => matches!(regex.as_str(), "*" | ".*" | "/.*"),
            Some(MatchType::Exact(_)) => false,
        }
}
