//! Redirects of the upstream that are followed here: the request goes through the filters and the routes again, as if
//! the client had sent it to the new place.
//!
//! Source: `envoy.config.route.v3.InternalRedirectPolicy`; the order of the tests, and what changes, as in Envoy's
//! `Filter::convertRequestHeadersForInternalRedirect`.

use ringsail_http::{EditError, Method};
use ringsail_runtime::publish::Current;
use ringsail_tables::Tables;
use ringsail_tables::route::{Action, Found, InternalRedirects, RedirectPredicate};
use ringsail_telemetry::{ClusterCounter, HttpCounter};

use super::Exchange;
use super::admit::Switch;
use super::plan::Plan;
use crate::upstream::ClusterState;
use crate::view::{RequestView, scheme};

/// What redirects of one request remember of each other.
#[derive(Debug, Default)]
pub(super) struct Followed {
    count: u32,
    /// The last of them asked for a GET.
    pub(super) without_body: bool,
    /// Names of the routes that redirects led from and to.
    ways: Vec<(String, String)>,
}

/// An absolute URL, cut into its parts.
#[derive(Debug, PartialEq, Eq)]
struct Url<'a> {
    https: bool,
    authority: &'a str,
    /// Path and query, without the fragment; the path may be missing.
    path: &'a str,
}

impl<'a> Url<'a> {
    fn parse(text: &'a [u8]) -> Option<Url<'a>> {
        let text = std::str::from_utf8(text).ok()?;
        let (scheme, rest) = text.split_once("://")?;
        let https = scheme.eq_ignore_ascii_case("https");
        if !https && !scheme.eq_ignore_ascii_case("http") {
            return None;
        }
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        if authority.is_empty() || text.bytes().any(|byte| byte.is_ascii_control() || byte == b' ') {
            return None;
        }
        let path = path.split('#').next().unwrap_or_default();
        Some(Url { https, authority, path })
    }
}

/// Whether the answer in `x.response` is a redirect that is followed; then the request's head is the new one.
pub(super) fn follow(
    x: &mut Exchange<'_>,
    tables: &Current<Tables>,
    plan: &Plan,
    state: &ClusterState,
) -> Result<bool, EditError> {
    let Some(found) = tables.route(plan.route) else { return Ok(false) };
    let Action::Forward(forward) = &found.route.action else { return Ok(false) };
    let Some(policy) = &forward.internal_redirects else { return Ok(false) };
    if !policy.statuses.contains(&x.response.status()) || x.facts.switch != Switch::None {
        return Ok(false);
    }
    let progress = x.facts.progress;
    let repeatable = progress.request_complete.get().is_some() && !progress.body_lost.get();
    let located = x.response.fields().contains("location");
    let before = x.request.clone();
    let outcome = match repeatable && located {
        true => lead(x, tables, policy, &found.route.name)?,
        false => Err(None),
    };
    match outcome {
        Ok(()) => {
            state.stats.add(ClusterCounter::UpstreamInternalRedirectSucceededTotal, 1);
            Ok(true)
        }
        Err(reason) => {
            *x.request = before;
            state.stats.add(ClusterCounter::UpstreamInternalRedirectFailedTotal, 1);
            reason.into_iter().for_each(|reason| x.facts.connection.count(reason));
            Ok(false)
        }
    }
}

/// Turns the request's head into one for the new place; the inner error is why it may not go there.
fn lead(
    x: &mut Exchange<'_>,
    tables: &Tables,
    policy: &InternalRedirects,
    from: &str,
) -> Result<Result<(), Option<HttpCounter>>, EditError> {
    let location = x.response.fields().get("location").unwrap_or_default().to_vec();
    let Some(url) = Url::parse(&location) else {
        return Ok(Err(Some(HttpCounter::PassthroughInternalRedirectBadLocation)));
    };
    let was_https = scheme(x.request) == "https";
    if !policy.across_schemes && was_https != url.https {
        return Ok(Err(Some(HttpCounter::PassthroughInternalRedirectUnsafeScheme)));
    }
    if x.followed.count >= policy.followed_max {
        return Ok(Err(Some(HttpCounter::PassthroughInternalRedirectTooManyRedirects)));
    }
    let mut original = format!("{}://", scheme(x.request)).into_bytes();
    original.extend_from_slice(x.request.authority().unwrap_or_default());
    original.extend_from_slice(x.request.path());
    for name in &policy.headers_to_copy {
        x.request.fields_mut().remove(name);
        for value in x.response.fields().get_all(name) {
            x.request.fields_mut().append(name, value)?;
        }
    }
    x.request.set_authority(url.authority.as_bytes())?;
    let root = if url.path.starts_with('/') { "" } else { "/" };
    x.request.set_path(format!("{root}{}", url.path).as_bytes())?;

    let to = {
        let config = tables.route_config(x.facts.manager.routes);
        let found = config.map(|config| config.find(&RequestView(x.request), fastrand::u64(..)));
        match found {
            Some(Found::Route(found)) => found.route.name.to_string(),
            Some(Found::RedirectToHttps(_)) => String::new(),
            Some(Found::Nothing) | None => {
                return Ok(Err(Some(HttpCounter::PassthroughInternalRedirectNoRoute)));
            }
        }
    };
    for predicate in &policy.predicates {
        let accepted = match predicate {
            RedirectPredicate::PreviousRoutes => {
                let way = (from.to_owned(), to.clone());
                let new = !x.followed.ways.contains(&way);
                x.followed.ways.push(way);
                new
            }
            RedirectPredicate::AllowListed(names) => names.iter().any(|name| **name == *to),
            RedirectPredicate::SafeCrossScheme => was_https || !url.https,
        };
        if !accepted {
            return Ok(Err(Some(HttpCounter::PassthroughInternalRedirectPredicate)));
        }
    }
    if x.response.status() == SEE_OTHER && !matches!(x.request.method(), Some(Method::Get | Method::Head)) {
        x.request.set_method(Method::Get)?;
        x.request.fields_mut().remove("content-length");
        x.followed.without_body = true;
    }
    x.followed.count += 1;
    x.request.fields_mut().set("x-envoy-original-url", &original)?;
    Ok(Ok(()))
}

/// Asks the client to GET what is elsewhere (RFC 9110 §15.4.4).
const SEE_OTHER: u16 = 303;

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Option<(bool, &str, &str)> {
        Url::parse(text.as_bytes()).map(|url| (url.https, url.authority, url.path))
    }

    #[test]
    fn only_absolute_urls_of_http_lead_anywhere() {
        assert_eq!(url("http://a.example/b?c=d#e"), Some((false, "a.example", "/b?c=d")));
        assert_eq!(url("HTTPS://a.example:8443"), Some((true, "a.example:8443", "")));
        assert_eq!(url("http://a?b"), Some((false, "a", "?b")));
        for bad in ["", "/b", "//a/b", "ftp://a/b", "http://", "http:///b", "http://a/b c", "http://a/\u{1}"]
        {
            assert_eq!(url(bad), None, "{bad:?}");
        }
    }
}
