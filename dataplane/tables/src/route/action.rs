//! What a route does with a request.

use std::sync::Arc;
use std::time::Duration;

use crate::header_ops::HeaderEdits;
use crate::ids::ClusterSlot;
use crate::local_reply::BodyFormat;
use crate::policy::RetryPolicy;
use crate::rate_limit::Rule;
use crate::regex_re2::Regex;
use crate::request::{Request, port_start, split_path, with_header};
use crate::route::{FilterOverrides, HashPolicy, InternalRedirects, Mirror, PathMatch};
use crate::strings::{Interner, Str};
use crate::subset::Criteria;

/// The three things a route can do.
#[derive(Debug)]
pub enum Action {
    /// Send the request upstream.
    Forward(Box<Forward>),
    /// Answer with a redirect; flags none, details `direct_response`.
    Redirect(Box<Redirect>),
    /// Answer with a fixed response; details `direct_response`.
    DirectResponse(Box<DirectResponse>),
}

impl Action {
    pub(crate) fn weighted_clusters(&self) -> Option<&WeightedClusters> {
        match self {
            Action::Forward(forward) => match &forward.cluster {
                ClusterChoice::Weighted(clusters) => Some(clusters),
                ClusterChoice::Named { .. } | ClusterChoice::Header(_) => None,
            },
            Action::Redirect(_) | Action::DirectResponse(_) => None,
        }
    }
}

/// Forwarding. Source: `envoy.config.route.v3.RouteAction`.
#[derive(Debug)]
pub struct Forward {
    /// Where to.
    pub cluster: ClusterChoice,
    /// Which endpoints of it, where it has subsets.
    pub subset: Option<Arc<Criteria>>,
    /// Status when the cluster does not exist: 503, 404 or 500.
    pub cluster_not_found_status: u16,
    /// Bound of the upstream's complete response, from the end of the request; `None` means none. Default 15 s.
    pub timeout: Option<Duration>,
    /// Bound of a stream without progress; `None` leaves it to the connection manager, zero means none.
    pub idle_timeout: Option<Duration>,
    /// `max_grpc_timeout`: `Some` makes the request's `grpc-timeout` count, capped by it unless zero.
    pub grpc_timeout_max: Option<Duration>,
    /// Bound of the whole stream; replaces the connection manager's.
    pub max_stream_duration: Option<MaxStreamDuration>,
    /// Rewriting of the path.
    pub path_rewrite: PathRewrite,
    /// Rewriting of the authority.
    pub host_rewrite: HostRewrite,
    /// Whether the original authority is appended to `x-forwarded-host` when it is rewritten.
    pub append_x_forwarded_host: bool,
    /// Retry policy of this route.
    pub retry: Option<Arc<RetryPolicy>>,
    /// Whether the circuit breakers of priority HIGH apply.
    pub high_priority: bool,
    /// Upgrades allowed or forbidden on this route, before those of the connection manager.
    pub upgrades: Box<[Upgrade]>,
    /// Copies for other clusters; empty leaves it to the virtual host.
    pub mirrors: Box<[Mirror]>,
    /// What the request's hash is made of, for clusters that balance by it.
    pub hash: Box<[HashPolicy]>,
    /// Rules for rate limits.
    pub rate_limits: Box<[Rule]>,
    /// Whether the virtual host's rules count as well.
    pub include_virtual_host_rate_limits: bool,
    /// Redirects of the upstream that are followed here.
    pub internal_redirects: Option<Box<InternalRedirects>>,
}

/// How the cluster is chosen.
#[derive(Debug)]
pub enum ClusterChoice {
    /// This one.
    Named {
        /// Its name.
        name: Str,
        /// Its place in the tables.
        slot: ClusterSlot,
    },
    /// The one a request header names; without the header as if the cluster did not exist.
    Header(Str),
    /// One of several, by weight.
    Weighted(WeightedClusters),
}

/// Clusters that share the requests of a route. Source: `envoy.config.route.v3.WeightedCluster`.
#[derive(Debug)]
pub struct WeightedClusters {
    /// The clusters in configured order; never empty.
    pub clusters: Box<[WeightedCluster]>,
    /// Sum of the weights; at least 1 and at most `u32::MAX`.
    pub total_weight: u32,
    /// What chooses among them.
    pub value_from: ValueFrom,
}

/// What chooses among weighted clusters. Source: `WeightedCluster.random_value_specifier`.
#[derive(Debug, PartialEq)]
pub enum ValueFrom {
    /// Chance.
    Chance,
    /// The number in this request header; chance where there is none.
    Header(Str),
    /// The request's hash by the route's policies; chance where nothing is hashed.
    HashPolicy,
}

/// One of several clusters.
#[derive(Debug)]
pub struct WeightedCluster {
    /// The cluster: [`ClusterChoice::Named`] or [`ClusterChoice::Header`].
    pub cluster: ClusterChoice,
    /// Its weight.
    pub weight: u32,
    /// Header operations for requests that go there.
    pub headers: Option<Box<HeaderEdits>>,
    /// Replaces the authority, before the route's own rewriting is asked.
    pub host_rewrite: Option<Str>,
    /// Filter settings for requests that go there.
    pub filters: Option<Box<FilterOverrides>>,
    /// Which endpoints of it, the route's criteria included.
    pub subset: Option<Arc<Criteria>>,
}

impl Forward {
    /// The one of its weighted clusters that a request goes to, with its index, if it has such.
    pub(crate) fn pick_weighted(
        &self,
        request: &(impl Request + ?Sized),
        random: u64,
    ) -> Option<(u32, &WeightedCluster)> {
        match &self.cluster {
            ClusterChoice::Weighted(clusters) => Some(clusters.pick(request, &self.hash, random)),
            ClusterChoice::Named { .. } | ClusterChoice::Header(_) => None,
        }
    }
}

impl WeightedClusters {
    /// The cluster that the value modulo `total_weight` falls on, with its index. `hash_policies` are the route's.
    fn pick(
        &self,
        request: &(impl Request + ?Sized),
        hash_policies: &[HashPolicy],
        random: u64,
    ) -> (u32, &WeightedCluster) {
        let number = |value: &[u8]| std::str::from_utf8(value).ok()?.trim().parse::<u64>().ok();
        let value = match &self.value_from {
            ValueFrom::Chance => None,
            ValueFrom::Header(name) => with_header(request, name, number).flatten(),
            ValueFrom::HashPolicy => request.hash(hash_policies),
        };
        let mut point = value.unwrap_or(random) % u64::from(self.total_weight);
        for (index, cluster) in (0..).zip(&self.clusters) {
            let weight = u64::from(cluster.weight);
            if point < weight {
                return (index, cluster);
            }
            point -= weight;
        }
        let last = self.clusters.len() - 1;
        (last as u32, &self.clusters[last])
    }
}

/// Bounds of a stream's whole life. Source: `RouteAction.MaxStreamDuration`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MaxStreamDuration {
    /// The bound; zero means none.
    pub max: Option<Duration>,
    /// `Some`: a request's `grpc-timeout` replaces `max`, capped by this unless zero.
    pub grpc_timeout_header_max: Option<Duration>,
    /// Taken off `grpc-timeout` to leave the upstream's answer time to arrive.
    pub grpc_timeout_header_offset: Duration,
}

/// Whether an upgrade (or CONNECT) is allowed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Upgrade {
    /// Token of the `Upgrade` header, lower case; `connect` for CONNECT.
    pub kind: Str,
    /// Whether it is allowed.
    pub enabled: bool,
    /// CONNECT only: answer it here and tunnel the bytes to the cluster (`connect_config` is set), instead of
    /// forwarding the CONNECT request.
    pub terminate_connect: bool,
}

/// Rewriting of the path. Only the part before the query changes.
#[derive(Clone, Debug)]
pub enum PathRewrite {
    /// None.
    Keep,
    /// The matched prefix (or whole path, for exact and regex matches) is replaced.
    Prefix(Str),
    /// The whole path is replaced.
    Whole(Str),
    /// Every match of a regular expression is replaced.
    Regex(Box<RegexRewrite>),
}

/// Source: `envoy.type.matcher.v3.RegexMatchAndSubstitute`.
#[derive(Clone, Debug)]
pub struct RegexRewrite {
    /// What is searched.
    pub pattern: Regex,
    pub(crate) substitution: Box<[SubstitutionPart]>,
}

/// A piece of a substitution.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum SubstitutionPart {
    Literal(Str),
    /// `\0` … `\9`.
    Group(u8),
}

impl RegexRewrite {
    /// Compiles a substitution: `\\1` stands for the first group, `\\\\` for a backslash. The error is a sentence.
    pub(crate) fn new(
        pattern: Regex,
        substitution: &str,
        strings: &mut Interner,
    ) -> Result<RegexRewrite, String> {
        let groups = pattern.program().captures_len() - 1;
        let (mut parts, mut literal) = (Vec::new(), String::new());
        let mut chars = substitution.chars();
        while let Some(c) = chars.next() {
            if c != '\\' {
                literal.push(c);
                continue;
            }
            match chars.next() {
                Some('\\') => literal.push('\\'),
                Some(digit @ '0'..='9') => {
                    let group = digit as u8 - b'0';
                    if usize::from(group) > groups {
                        return Err(format!("\\{group} is used, but the pattern has {groups} groups"));
                    }
                    if !literal.is_empty() {
                        parts.push(SubstitutionPart::Literal(strings.intern(&literal)));
                        literal.clear();
                    }
                    parts.push(SubstitutionPart::Group(group));
                }
                _ => return Err("a backslash must be followed by a digit or a backslash".to_owned()),
            }
        }
        if !literal.is_empty() {
            parts.push(SubstitutionPart::Literal(strings.intern(&literal)));
        }
        Ok(RegexRewrite { pattern, substitution: parts.into() })
    }

    /// Appends `text` with every match replaced.
    pub fn replace(&self, text: &str, out: &mut String) {
        let mut end = 0;
        // `\C` can match inside a character; what it cuts is dropped rather than passed on broken.
        for found in self.pattern.program().captures_iter(text.as_bytes()) {
            let Some(whole) = found.get(0) else { continue };
            out.push_str(text.get(end..whole.start()).unwrap_or_default());
            for part in &self.substitution {
                match part {
                    SubstitutionPart::Literal(literal) => out.push_str(literal),
                    SubstitutionPart::Group(group) => {
                        let bytes = found.get(usize::from(*group)).map_or(&b""[..], |group| group.as_bytes());
                        out.push_str(&String::from_utf8_lossy(bytes));
                    }
                }
            }
            end = whole.end();
        }
        out.push_str(text.get(end..).unwrap_or_default());
    }
}

impl PathRewrite {
    /// Appends the rewritten `target` (path with query) to `out`; `false` and nothing appended when it stays.
    pub fn apply(&self, matched: &PathMatch, target: &str, out: &mut String) -> bool {
        let path = split_path(target).path;
        match self {
            PathRewrite::Keep => return false,
            PathRewrite::Prefix(replacement) => {
                out.push_str(replacement);
                out.push_str(path.get(matched_len(matched, path)..).unwrap_or_default());
            }
            PathRewrite::Whole(replacement) => out.push_str(replacement),
            PathRewrite::Regex(rewrite) => rewrite.replace(path, out),
        }
        out.push_str(&target[path.len()..]);
        true
    }
}

/// How much of the path the match covered, in bytes.
fn matched_len(matched: &PathMatch, path: &str) -> usize {
    match matched {
        PathMatch::Prefix { prefix, .. } | PathMatch::PathSeparatedPrefix { prefix, .. } => prefix.len(),
        PathMatch::Exact { .. } | PathMatch::Regex(_) | PathMatch::Connect => path.len(),
    }
}

/// Rewriting of the authority.
#[derive(Clone, Debug)]
pub enum HostRewrite {
    /// None.
    Keep,
    /// This one.
    Literal(Str),
    /// The value of a request header, when there is one.
    Header(Str),
    /// The name of the chosen endpoint ([`crate::endpoint::Endpoint::hostname`]), when it has one.
    Endpoint,
    /// The path (without query) with every match replaced.
    PathRegex(Box<RegexRewrite>),
}

impl HostRewrite {
    /// Appends the new authority to `out`; `false` and nothing appended when it stays. `endpoint_name` is the chosen
    /// endpoint's host name.
    pub fn apply(
        &self,
        request: &(impl Request + ?Sized),
        endpoint_name: Option<&str>,
        out: &mut String,
    ) -> bool {
        match self {
            HostRewrite::Keep => false,
            HostRewrite::Literal(host) => push_some(Some(host), out),
            HostRewrite::Header(name) => with_header(request, name, |value| {
                push_some(std::str::from_utf8(value).ok().filter(|value| !value.is_empty()), out)
            })
            .unwrap_or(false),
            HostRewrite::Endpoint => push_some(endpoint_name.filter(|name| !name.is_empty()), out),
            HostRewrite::PathRegex(rewrite) => {
                rewrite.replace(split_path(request.path()).path, out);
                true
            }
        }
    }
}

fn push_some(text: Option<&str>, out: &mut String) -> bool {
    out.push_str(text.unwrap_or_default());
    text.is_some()
}

/// A redirect. Source: `envoy.config.route.v3.RedirectAction`.
#[derive(Debug)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// New scheme.
    pub scheme: Option<Str>,
    /// New host.
    pub host: Option<Str>,
    /// New port.
    pub port: Option<u16>,
    /// New path.
    pub path: PathRewrite,
    /// Whether the query is dropped.
    pub strip_query: bool,
}

impl Redirect {
    /// One that changes nothing.
    pub fn nowhere(status: u16) -> Redirect {
        Redirect { status, scheme: None, host: None, port: None, path: PathRewrite::Keep, strip_query: false }
    }

    /// Appends the value of `location`. `matched` is the route's path condition.
    ///
    /// Compat: a default port (80 for http, 443 for https, by `x-forwarded-proto`) of the request's authority is dropped
    /// when the scheme changes; a new path with a query of its own keeps that one and no other, even where the query
    /// is to be stripped.
    pub fn location(&self, request: &(impl Request + ?Sized), matched: &PathMatch, out: &mut String) {
        let scheme = self.scheme.as_deref().unwrap_or(request.scheme());
        out.push_str(scheme);
        out.push_str("://");
        match &self.host {
            Some(host) => out.push_str(host),
            None => out.push_str(self.old_host(request, scheme)),
        }
        if let Some(port) = self.port {
            out.push(':');
            out.push_str(&port.to_string());
        }
        if let PathRewrite::Whole(path) = &self.path
            && path.contains('?')
        {
            out.push_str(path);
            return;
        }
        let path_start = out.len();
        if !self.path.apply(matched, request.path(), out) {
            out.push_str(request.path());
        }
        if self.strip_query
            && let Some(query) = out[path_start..].find('?')
        {
            out.truncate(path_start + query);
        }
    }

    /// The request's authority as it stands in the location.
    fn old_host<'a>(&self, request: &'a (impl Request + ?Sized), scheme: &str) -> &'a str {
        let authority = request.authority();
        let Some(colon) = port_start(authority) else { return authority };
        let port = &authority[colon + 1..];
        let changes_from = |old: &str| {
            let forwarded = with_header(request, "x-forwarded-proto", |proto| proto == old.as_bytes());
            forwarded.unwrap_or(request.scheme() == old) && scheme != old
        };
        let was_default = (port == "80" && changes_from("http")) || (port == "443" && changes_from("https"));
        if self.port.is_some() || was_default { &authority[..colon] } else { authority }
    }
}

/// A fixed answer. Source: `envoy.config.route.v3.DirectResponseAction`.
#[derive(Debug)]
pub struct DirectResponse {
    /// Its status, 200–599.
    pub status: u16,
    /// Its body; `content-type: text/plain` unless empty.
    pub body: Box<[u8]>,
    /// How the body is made, instead.
    pub format: Option<Arc<BodyFormat>>,
}

/// Source: `envoy.config.route.v3.Decorator`.
#[derive(Debug)]
pub struct Decorator {
    /// Operation name of the span.
    pub operation: Str,
    /// Whether it is sent upstream in `x-envoy-decorator-operation`.
    pub propagate: bool,
}
