//! A slow, obvious evaluator of Envoy route configurations: what would happen to this request?
//!
//! *What it is.* [`evaluate`] reads a `RouteConfiguration` as received and walks it, field by field, in the order in
//! which Envoy's documentation of `route_components.proto` describes it. No preparation, no index, no shared code with
//! `ringsail-tables`: the two are compared by property tests, so a mistake would have to be made twice.
//!
//! *What it is not.* Not fast, and not part of any binary: tests only. It trusts its input (configurations the
//! compiler has accepted); what it does not know it reports as [`Verdict::Unsupported`] instead of guessing.
//!
//! *Where to start.* [`evaluate`], then [`Request`] and [`Verdict`].

mod action;
mod headers;
mod matching;

use ringsail_xds::envoy::config::route::v3::virtual_host::TlsRequirementType;
use ringsail_xds::envoy::config::route::v3::{Route, RouteConfiguration, VirtualHost};

pub use headers::Edit;
pub use matching::header_matches;

/// A request as the route table sees it: after path normalisation, with the connection manager's headers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Request {
    /// Method.
    pub method: String,
    /// `:scheme`.
    pub scheme: String,
    /// `:authority`.
    pub authority: String,
    /// `:path` with query; empty for CONNECT without a path.
    pub path: String,
    /// Other fields in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The random number of this request.
    pub random: u64,
}

/// What happens to a request.
#[derive(Clone, PartialEq, Debug)]
pub enum Verdict {
    /// 404: no virtual host, or no route in it.
    NoRoute,
    /// 301 to the same address with https, as the virtual host requires.
    RedirectToHttps {
        /// The virtual host.
        virtual_host: String,
    },
    /// It is sent upstream.
    Forward(Forward),
    /// It is answered by a redirect.
    Redirect {
        /// The virtual host and route.
        place: Place,
        /// Status code.
        status: u32,
        /// Value of `location`.
        location: String,
    },
    /// It is answered by a fixed response.
    DirectResponse {
        /// The virtual host and route.
        place: Place,
        /// Status code.
        status: u32,
        /// Body.
        body: String,
    },
    /// The configuration asks for something this evaluator does not know.
    Unsupported(&'static str),
}

/// Which route was taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// Name of the virtual host.
    pub virtual_host: String,
    /// Index of the route in it.
    pub route: usize,
}

/// How a request is forwarded.
#[derive(Clone, PartialEq, Debug)]
pub struct Forward {
    /// The virtual host and route.
    pub place: Place,
    /// Name of the cluster; `None` when the header that names it is missing.
    pub cluster: Option<String>,
    /// Path after rewriting.
    pub path: String,
    /// Authority after rewriting. Rewriting to the endpoint's name is left out: no endpoint is chosen here.
    pub authority: String,
    /// Request header operations that apply, in order, with their values.
    pub request_edits: Vec<Edit>,
    /// Bound of the response in milliseconds; 0 means none.
    pub timeout_millis: i64,
}

/// The verdict on a request.
///
/// Source: "Route matching" in Envoy's HTTP routing overview: virtual host by authority, then the first route whose
/// conditions all hold.
pub fn evaluate(config: &RouteConfiguration, request: &Request) -> Verdict {
    let Some(host) = virtual_host(config, &request.authority) else { return Verdict::NoRoute };
    if let Some(verdict) = required_tls(host, request) {
        return verdict;
    }
    for (index, route) in host.routes.iter().enumerate() {
        match matching::route_matches(route, request) {
            Ok(true) => return action::act(config, host, index, route, request),
            Ok(false) => {}
            Err(what) => return Verdict::Unsupported(what),
        }
    }
    Verdict::NoRoute
}

/// Source: `VirtualHost.domains`: "1. Exact domain names, 2. Suffix domain wildcards, 3. Prefix domain wildcards,
/// 4. Special wildcard `*`", the longest wildcard first.
fn virtual_host<'a>(config: &'a RouteConfiguration, authority: &str) -> Option<&'a VirtualHost> {
    let mut host = authority.to_ascii_lowercase();
    if config.ignore_port_in_host_matching {
        host = strip_port(&host);
    }
    let mut best: Option<(u8, usize, &VirtualHost)> = None;
    for candidate in &config.virtual_hosts {
        for domain in &candidate.domains {
            let domain = domain.to_ascii_lowercase();
            let Some((class, length)) = domain_rank(&domain, &host) else { continue };
            if best.is_none_or(|(best_class, best_length, _)| (class, length) > (best_class, best_length)) {
                best = Some((class, length, candidate));
            }
        }
    }
    best.map(|(_, _, host)| host)
}

/// How well a domain fits: its class, then its length. A wildcard stands for at least one character.
fn domain_rank(domain: &str, host: &str) -> Option<(u8, usize)> {
    if domain == "*" {
        return Some((1, 0));
    }
    if let Some(suffix) = domain.strip_prefix('*') {
        return (host.len() > suffix.len() && host.ends_with(suffix)).then_some((3, suffix.len()));
    }
    if let Some(prefix) = domain.strip_suffix('*') {
        return (host.len() > prefix.len() && host.starts_with(prefix)).then_some((2, prefix.len()));
    }
    (domain == host).then_some((4, domain.len()))
}

fn strip_port(authority: &str) -> String {
    let Some((host, port)) = authority.rsplit_once(':') else { return authority.to_owned() };
    let is_port = port.parse::<u16>().is_ok() && port.bytes().all(|b| b.is_ascii_digit());
    // A colon inside brackets belongs to an IPv6 address.
    if is_port && !port.contains(']') { host.to_owned() } else { authority.to_owned() }
}

/// Source: `VirtualHost.require_tls`, decided by `x-forwarded-proto`.
fn required_tls(host: &VirtualHost, request: &Request) -> Option<Verdict> {
    let requirement = TlsRequirementType::try_from(host.require_tls).ok()?;
    if requirement == TlsRequirementType::None {
        return None;
    }
    let Some(proto) = request.header("x-forwarded-proto") else { return Some(Verdict::NoRoute) };
    let internal = request.header("x-envoy-internal").as_deref() == Some("true");
    let excused = requirement == TlsRequirementType::ExternalOnly && internal;
    (proto != "https" && !excused).then(|| Verdict::RedirectToHttps { virtual_host: host.name.clone() })
}

impl Request {
    /// The value of a header or pseudo header; several fields joined by commas.
    pub fn header(&self, name: &str) -> Option<String> {
        let values = self.headers_named(name);
        (!values.is_empty()).then(|| values.join(","))
    }

    /// The values of a header or pseudo header, in their order.
    pub fn headers_named(&self, name: &str) -> Vec<&str> {
        let pseudo = match name.to_ascii_lowercase().as_str() {
            ":method" => Some(&self.method),
            ":scheme" => Some(&self.scheme),
            ":authority" | "host" => Some(&self.authority),
            ":path" => Some(&self.path),
            _ => None,
        };
        if let Some(value) = pseudo {
            return if value.is_empty() { vec![] } else { vec![value] };
        }
        let named = self.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        named.map(|(_, v)| v.as_str()).collect()
    }

    /// The path without query and fragment.
    pub fn path_only(&self) -> &str {
        let end = self.path.find(['?', '#']).unwrap_or(self.path.len());
        &self.path[..end]
    }

    /// The query without fragment, when there is a question mark.
    pub fn query(&self) -> Option<&str> {
        let before_fragment = self.path.split('#').next().unwrap_or_default();
        before_fragment.split_once('?').map(|(_, query)| query)
    }
}

fn place(host: &VirtualHost, route: usize) -> Place {
    Place { virtual_host: host.name.clone(), route }
}

/// The path condition's own text, for prefix rewriting.
fn matched_part<'a>(route: &Route, path: &'a str) -> &'a str {
    use ringsail_xds::envoy::config::route::v3::route_match::PathSpecifier;
    let specifier = route.r#match.as_ref().and_then(|conditions| conditions.path_specifier.as_ref());
    match specifier {
        Some(PathSpecifier::Prefix(prefix) | PathSpecifier::PathSeparatedPrefix(prefix)) => {
            &path[..prefix.len().min(path.len())]
        }
        _ => path,
    }
}
