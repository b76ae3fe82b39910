//! Redirects of the upstream that are followed here instead of being passed on.

use crate::strings::Str;

/// Source: `envoy.config.route.v3.InternalRedirectPolicy`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InternalRedirects {
    /// Most redirects of one request. Default 1.
    pub followed_max: u32,
    /// Statuses that are followed; each is one of 301, 302, 303, 307 and 308. Default 302.
    pub statuses: Box<[u16]>,
    /// Whether a redirect may lead from http to https or back.
    pub across_schemes: bool,
    /// Headers of the answer that replace those of the request, lower case.
    pub headers_to_copy: Box<[Str]>,
    /// All must accept the route that the redirect leads to.
    pub predicates: Box<[RedirectPredicate]>,
}

/// What is asked of the route that a redirect leads to. Source: `envoy.extensions.internal_redirect`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RedirectPredicate {
    /// From this route, no redirect of the request has led there before.
    PreviousRoutes,
    /// It has one of these names.
    AllowListed(Box<[Str]>),
    /// It is not https where the client's side is http.
    SafeCrossScheme,
}
