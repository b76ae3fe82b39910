//! What a request's hash is made of, for load balancing by hash.

use std::time::Duration;

use crate::route::RegexRewrite;
use crate::strings::Str;

/// One source of the hash. Source: `envoy.config.route.v3.RouteAction.HashPolicy`.
#[derive(Debug)]
pub struct HashPolicy {
    /// Where the hashed bytes come from.
    pub source: HashSource,
    /// Once there is a hash, the policies after this one are not asked.
    pub terminal: bool,
}

/// Source: `HashPolicy.policy_specifier`.
#[derive(Debug)]
pub enum HashSource {
    /// All values of a request header, sorted.
    Header {
        /// Its name, lower case.
        name: Str,
        /// Rewriting of each value.
        rewrite: Option<Box<RegexRewrite>>,
    },
    /// A cookie of the request.
    Cookie(Box<HashCookie>),
    /// The client's address without its port.
    SourceIp,
    /// The first value of a query parameter.
    QueryParameter(Str),
}

/// Source: `HashPolicy.Cookie`.
#[derive(Debug)]
pub struct HashCookie {
    /// Its name.
    pub name: Str,
    /// `Some`: a client without the cookie gets one that lives so long; zero is as long as its session.
    pub ttl: Option<Duration>,
    /// Its path; empty means none is sent.
    pub path: Str,
    /// Further attributes: name and value, which may be empty.
    pub attributes: Box<[(Str, Str)]>,
}
