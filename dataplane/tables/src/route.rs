//! Routing: host → virtual host → first matching route → cluster, redirect or direct response.
//!
//! [`RouteConfig::find`] is the lookup. It allocates nothing, costs the same for ten virtual hosts as for thousands,
//! and takes its randomness (weighted clusters, fractions) as an argument.

mod action;
mod domains;
mod hash_policy;
mod headers;
mod internal_redirect;
mod metadata_match;
mod mirror;
mod path;
mod path_index;

use std::ops::ControlFlow;
use std::sync::Arc;

pub use action::{
    Action, ClusterChoice, Decorator, DirectResponse, Forward, HostRewrite, MaxStreamDuration, PathRewrite,
    Redirect, RegexRewrite, Upgrade, ValueFrom, WeightedCluster, WeightedClusters,
};
pub(crate) use domains::Domains;
pub use hash_policy::{HashCookie, HashPolicy, HashSource};
pub use headers::{HeaderMatch, HeaderTest, QueryMatch, QueryTest};
pub use internal_redirect::{InternalRedirects, RedirectPredicate};
pub use metadata_match::{MetadataMatch, ValueTest};
pub use mirror::{Mirror, MirrorHost};
pub use path::PathMatch;
pub(crate) use path_index::PathIndex;

use crate::fraction::Fraction;
use crate::header_ops::{HeaderEdits, HeaderMutations, MutationFilter};
use crate::ids::RouteConfigId;
use crate::metadata::Metadata;
use crate::policy::{Buffering, CorsPolicy, Fault, RetryPolicy};
use crate::rate_limit::{GlobalRateLimitOfRoute, LocalRateLimit, Rule, VirtualHostRules};
use crate::rbac::RbacFilter;
use crate::request::{Request, split_path, with_header, without_port};
use crate::strings::Str;
use crate::subset::Criteria;
use crate::tracing::RouteTracing;

/// A route configuration. Source: `envoy.config.route.v3.RouteConfiguration`.
#[derive(Debug)]
pub struct RouteConfig {
    /// Its id.
    pub id: RouteConfigId,
    /// Its name; for an inline one the name given there, often empty.
    pub name: Str,
    /// Virtual hosts in configured order.
    pub virtual_hosts: Box<[VirtualHost]>,
    /// Headers that count on internal requests only, lower case: removed from others before anything reads them.
    pub internal_only_headers: Box<[Str]>,
    /// Header operations for every route here.
    pub headers: Option<Box<HeaderEdits>>,
    /// Filter settings for every route here.
    pub filters: Option<Box<FilterOverrides>>,
    /// Order of header operations: false applies route, virtual host, route configuration; true the reverse.
    pub most_specific_header_mutations_wins: bool,
    /// Copies for other clusters, where neither route nor virtual host has its own.
    pub mirrors: Box<[Mirror]>,
    /// Whether the request's port is cut before domains are matched.
    pub ignore_port_in_host_matching: bool,
    pub(crate) domains: Domains,
}

/// A virtual host. Source: `envoy.config.route.v3.VirtualHost`.
#[derive(Debug)]
pub struct VirtualHost {
    /// Its name.
    pub name: Str,
    /// Its domains as configured.
    pub domains: Box<[Str]>,
    /// Its routes in configured order.
    pub routes: Box<[Route]>,
    /// Which requests are redirected to https instead of routed.
    pub require_tls: RequireTls,
    /// Header operations for every route here.
    pub headers: Option<Box<HeaderEdits>>,
    /// Retry policy of routes without their own.
    pub retry: Option<Arc<RetryPolicy>>,
    /// Most bytes of a request's body kept for retries, for routes that say nothing; `None` means the listener's buffer
    /// limit. Source: `request_body_buffer_limit`, or else `per_request_buffer_limit_bytes`.
    pub body_kept_max: Option<u32>,
    /// Whether `x-envoy-attempt-count` is added to requests.
    pub include_request_attempt_count: bool,
    /// Whether `x-envoy-attempt-count` is added to responses.
    pub include_attempt_count_in_response: bool,
    /// Filter settings for every route here.
    pub filters: Option<Box<FilterOverrides>>,
    /// Names for parts of the traffic, in statistics only; the first that matches counts.
    pub virtual_clusters: Box<[VirtualCluster]>,
    /// Rules for rate limits, for routes as their own say.
    pub rate_limits: Box<[Rule]>,
    /// Copies for other clusters, where a route has none of its own.
    pub mirrors: Box<[Mirror]>,
    /// Metadata.
    pub metadata: Option<Arc<Metadata>>,
    pub(crate) index: Option<PathIndex>,
}

/// A named part of a virtual host's traffic. Source: `envoy.config.route.v3.VirtualCluster`.
#[derive(Debug)]
pub struct VirtualCluster {
    /// Its name.
    pub name: Str,
    /// Conditions, all of which must hold.
    pub headers: Box<[HeaderMatch]>,
}

/// Source: `VirtualHost.TlsRequirementType`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RequireTls {
    /// Nothing is redirected.
    None,
    /// Plaintext requests are redirected unless `x-envoy-internal: true`.
    External,
    /// Plaintext requests are redirected.
    All,
}

/// A route. Source: `envoy.config.route.v3.Route`.
#[derive(Debug)]
pub struct Route {
    /// Its name, for `%ROUTE_NAME%`; may be empty.
    pub name: Str,
    /// When it applies.
    pub matcher: RouteMatcher,
    /// What happens then.
    pub action: Action,
    /// As [`VirtualHost::body_kept_max`].
    pub body_kept_max: Option<u32>,
    /// Header operations.
    pub headers: Option<Box<HeaderEdits>>,
    /// Operation name for tracing.
    pub decorator: Option<Box<Decorator>>,
    /// Tracing, where it differs from the connection manager's.
    pub tracing: Option<Box<RouteTracing>>,
    /// Filter settings of this route.
    pub filters: Option<Box<FilterOverrides>>,
    /// Metadata (`%METADATA(ROUTE:…)%` and telemetry).
    pub metadata: Option<Arc<Metadata>>,
}

/// Per-route settings of HTTP filters (`typed_per_filter_config`).
#[derive(Debug, Default)]
pub struct FilterOverrides {
    /// `envoy.filters.http.fault`.
    pub fault: Override<Fault>,
    /// `envoy.filters.http.cors`.
    pub cors: Override<CorsPolicy>,
    /// `envoy.filters.http.local_ratelimit`.
    pub local_rate_limit: Override<LocalRateLimit>,
    /// `envoy.filters.http.ratelimit`.
    pub rate_limit: Override<GlobalRateLimitOfRoute>,
    /// `envoy.filters.http.buffer`.
    pub buffer: Override<Buffering>,
    /// `envoy.filters.http.header_mutation`.
    pub mutations: Override<HeaderMutations>,
    /// `envoy.filters.http.rbac`, by the name of the filter they are for: a chain may have several.
    pub rbac: Box<[(Str, Override<RbacFilter>)]>,
}

/// A setting that a more specific level may replace or switch off.
#[derive(Debug, Default)]
pub enum Override<T> {
    /// The less specific level decides.
    #[default]
    Inherit,
    /// The filter does not run (`FilterConfig.disabled`).
    Disabled,
    /// These settings apply.
    Set(Arc<T>),
}

/// Conditions of a route; all must hold. Source: `envoy.config.route.v3.RouteMatch`.
#[derive(Debug)]
pub struct RouteMatcher {
    /// The path condition.
    pub path: PathMatch,
    /// Everything else; most routes have nothing else.
    pub conditions: Option<Box<Conditions>>,
}

/// Conditions beyond the path.
#[derive(Debug, Default)]
pub struct Conditions {
    /// On header fields.
    pub headers: Box<[HeaderMatch]>,
    /// On query parameters.
    pub query: Box<[QueryMatch]>,
    /// Share of requests.
    pub fraction: Option<Fraction>,
    /// gRPC requests only (`content-type: application/grpc…`).
    pub grpc: bool,
    /// On dynamic metadata.
    pub metadata: Box<[MetadataMatch]>,
}

/// What a lookup found.
#[derive(Clone, Copy, Debug)]
pub enum Found<'t> {
    /// A route.
    Route(RouteMatch<'t>),
    /// The virtual host wants https: answer 301 to `https://` + authority + path.
    RedirectToHttps(&'t VirtualHost),
    /// No virtual host, or none of its routes: 404, details `route_not_found`.
    Nothing,
}

/// A found route with its surroundings.
#[derive(Clone, Copy, Debug)]
pub struct RouteMatch<'t> {
    /// The route configuration.
    pub config: &'t RouteConfig,
    /// The virtual host.
    pub virtual_host: &'t VirtualHost,
    /// The route.
    pub route: &'t Route,
    /// The pick among weighted clusters, when the route has them.
    pub weighted_cluster: Option<&'t WeightedCluster>,
    pub(crate) virtual_host_index: u32,
    pub(crate) route_index: u32,
    pub(crate) weighted_cluster_index: u32,
}

impl RouteConfig {
    /// A configuration that routes nothing.
    pub(crate) fn empty(id: RouteConfigId, name: Str) -> RouteConfig {
        RouteConfig {
            id,
            name,
            virtual_hosts: Box::default(),
            internal_only_headers: Box::default(),
            headers: None,
            filters: None,
            most_specific_header_mutations_wins: false,
            mirrors: Box::default(),
            ignore_port_in_host_matching: false,
            domains: Domains::default(),
        }
    }

    /// The virtual host for `authority`: exact domain, then longest suffix wildcard, then longest prefix wildcard, then
    /// `*`; ASCII case is ignored.
    pub fn virtual_host(&self, authority: &str) -> Option<&VirtualHost> {
        self.virtual_host_index(authority).map(|index| &self.virtual_hosts[index as usize])
    }

    fn virtual_host_index(&self, authority: &str) -> Option<u32> {
        let host = if self.ignore_port_in_host_matching { without_port(authority) } else { authority };
        self.domains.find(host.as_bytes())
    }

    /// The route for a request. `random` decides fractions and weighted clusters; the same number gives the same route.
    pub fn find(&self, request: &(impl Request + ?Sized), random: u64) -> Found<'_> {
        let Some(index) = self.virtual_host_index(request.authority()) else { return Found::Nothing };
        let virtual_host = &self.virtual_hosts[index as usize];
        match tls_verdict(virtual_host.require_tls, request) {
            ControlFlow::Continue(()) => {}
            ControlFlow::Break(true) => return Found::RedirectToHttps(virtual_host),
            ControlFlow::Break(false) => return Found::Nothing,
        }
        let Some(route_index) = virtual_host.first_match(request, random) else { return Found::Nothing };
        let route = &virtual_host.routes[route_index as usize];
        let weighted = match &route.action {
            Action::Forward(forward) => forward.pick_weighted(request, random),
            Action::Redirect(_) | Action::DirectResponse(_) => None,
        };
        Found::Route(RouteMatch {
            config: self,
            virtual_host,
            route,
            weighted_cluster: weighted.map(|(_, cluster)| cluster),
            virtual_host_index: index,
            route_index,
            weighted_cluster_index: weighted.map_or(0, |(index, _)| index),
        })
    }
}

/// Whether a virtual host's TLS requirement ends the lookup: `Break(true)` redirects, `Break(false)` finds nothing.
///
/// Compat: Envoy decides by `x-forwarded-proto`, which the connection manager has set by now; without it nothing is
/// routed.
fn tls_verdict(require: RequireTls, request: &(impl Request + ?Sized)) -> ControlFlow<bool> {
    if require == RequireTls::None {
        return ControlFlow::Continue(());
    }
    match with_header(request, "x-forwarded-proto", |value| value == b"https") {
        None => ControlFlow::Break(false),
        Some(true) => ControlFlow::Continue(()),
        Some(false) => {
            let internal = with_header(request, "x-envoy-internal", |value| value == b"true");
            if require == RequireTls::External && internal == Some(true) {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(true)
            }
        }
    }
}

impl VirtualHost {
    /// The virtual cluster of a request; `other` when there are some and none matches.
    pub fn virtual_cluster(&self, request: &(impl Request + ?Sized)) -> Option<&str> {
        let mut all = self.virtual_clusters.iter();
        let found = all.find(|cluster| cluster.headers.iter().all(|header| header.matches(request)));
        match found {
            Some(cluster) => Some(&cluster.name),
            None => (!self.virtual_clusters.is_empty()).then_some("other"),
        }
    }

    fn first_match(&self, request: &(impl Request + ?Sized), random: u64) -> Option<u32> {
        let target = split_path(request.path());
        let matches = |index: u32| {
            self.routes[index as usize].matcher.matches(request, target.path, target.query, random)
        };
        match &self.index {
            Some(index) => index.first_match(target.path.as_bytes(), matches),
            None => (0..self.routes.len() as u32).find(|index| matches(*index)),
        }
    }
}

impl RouteMatcher {
    fn matches(
        &self,
        request: &(impl Request + ?Sized),
        path: &str,
        query: Option<&str>,
        random: u64,
    ) -> bool {
        self.path.matches(request.method(), path)
            && self.conditions.as_ref().is_none_or(|c| c.hold(request, query, random))
    }
}

impl Conditions {
    fn hold(&self, request: &(impl Request + ?Sized), query: Option<&str>, random: u64) -> bool {
        self.fraction.is_none_or(|share| share.chooses(random))
            && (!self.grpc || is_grpc(request))
            && self.headers.iter().all(|header| header.matches(request))
            && self.query.iter().all(|parameter| parameter.matches(query))
            && self.metadata.iter().all(|value| value.matches(request))
    }
}

/// Source: Envoy's `Grpc::Common::hasGrpcContentType`: `application/grpc`, alone or followed by `+`.
fn is_grpc(request: &(impl Request + ?Sized)) -> bool {
    let grpc = |value: &[u8]| match value.strip_prefix(b"application/grpc") {
        Some(rest) => matches!(rest.first(), None | Some(b'+')),
        None => false,
    };
    with_header(request, "content-type", grpc) == Some(true)
}

impl<'t> RouteMatch<'t> {
    /// Ids to keep across awaits; [`crate::Tables::route`] gives the match back.
    pub fn id(&self) -> crate::ids::RouteId {
        crate::ids::RouteId {
            config: self.config.id,
            virtual_host: self.virtual_host_index,
            route: self.route_index,
            weighted_cluster: self.weighted_cluster_index,
        }
    }

    /// Header operations in the order in which they are applied.
    pub fn header_edits(&self) -> impl Iterator<Item = &'t HeaderEdits> + use<'t> {
        let weighted = self.weighted_cluster.and_then(|cluster| cluster.headers.as_deref());
        let levels = [
            weighted,
            self.route.headers.as_deref(),
            self.virtual_host.headers.as_deref(),
            self.config.headers.as_deref(),
        ];
        let reverse = self.config.most_specific_header_mutations_wins;
        (0..levels.len()).filter_map(move |i| levels[if reverse { levels.len() - 1 - i } else { i }])
    }

    /// Appends the new authority to `out`; `false` and nothing appended when it stays. The weighted cluster's own
    /// rewriting comes first. `endpoint_name` is the chosen endpoint's host name.
    pub fn rewrite_host(
        &self,
        request: &(impl Request + ?Sized),
        endpoint_name: Option<&str>,
        out: &mut String,
    ) -> bool {
        if let Some(host) = self.weighted_cluster.and_then(|cluster| cluster.host_rewrite.as_ref()) {
            out.push_str(host);
            return true;
        }
        match &self.route.action {
            Action::Forward(forward) => forward.host_rewrite.apply(request, endpoint_name, out),
            Action::Redirect(_) | Action::DirectResponse(_) => false,
        }
    }

    /// The retry policy of the route or its virtual host.
    pub fn retry(&self) -> Option<&'t Arc<RetryPolicy>> {
        match &self.route.action {
            Action::Forward(forward) => forward.retry.as_ref().or(self.virtual_host.retry.as_ref()),
            Action::Redirect(_) | Action::DirectResponse(_) => None,
        }
    }

    /// Which endpoints of its cluster, where that has subsets.
    pub fn subset(&self) -> Option<&'t Arc<Criteria>> {
        match (self.weighted_cluster, &self.route.action) {
            (Some(cluster), _) => cluster.subset.as_ref(),
            (None, Action::Forward(forward)) => forward.subset.as_ref(),
            (None, Action::Redirect(_) | Action::DirectResponse(_)) => None,
        }
    }

    /// Most bytes of a request's body kept for retries; `None` means the listener's buffer limit.
    pub fn body_kept_max(&self) -> Option<u32> {
        self.route.body_kept_max.or(self.virtual_host.body_kept_max)
    }

    /// Copies for other clusters: the route's, else the virtual host's, else the configuration's.
    pub fn mirrors(&self) -> &'t [Mirror] {
        let Action::Forward(forward) = &self.route.action else { return &[] };
        let levels = [&forward.mirrors, &self.virtual_host.mirrors, &self.config.mirrors];
        levels.into_iter().find(|mirrors| !mirrors.is_empty()).map_or(&[], |mirrors| mirrors)
    }

    /// Fault settings: of the weighted cluster, route, virtual host, route configuration, else of the filter in the
    /// chain.
    pub fn fault(&self, chain: &'t Option<Arc<Fault>>) -> Option<&'t Arc<Fault>> {
        most_specific(self.overrides().map(|filters| &filters.fault), chain.as_ref())
    }

    /// CORS settings: of the weighted cluster, route, virtual host or route configuration.
    pub fn cors(&self) -> Option<&'t Arc<CorsPolicy>> {
        most_specific(self.overrides().map(|filters| &filters.cors), None)
    }

    /// Settings of the local limit: as those of faults.
    pub fn local_rate_limit(
        &self,
        chain: &'t Option<Arc<LocalRateLimit>>,
    ) -> Option<&'t Arc<LocalRateLimit>> {
        most_specific(self.overrides().map(|filters| &filters.local_rate_limit), chain.as_ref())
    }

    /// Settings of the buffer: as those of faults.
    pub fn buffer(&self, chain: &'t Arc<Buffering>) -> Option<&'t Arc<Buffering>> {
        most_specific(self.overrides().map(|filters| &filters.buffer), Some(chain))
    }

    /// What the route says about the limit that a service keeps.
    pub fn rate_limit(&self) -> Option<&'t Arc<GlobalRateLimitOfRoute>> {
        most_specific(self.overrides().map(|filters| &filters.rate_limit), None)
    }

    /// Access control: of the weighted cluster, route, virtual host or route configuration, or the chain's filter
    /// `name` itself.
    pub fn rbac(&self, name: &str, chain: &'t Arc<RbacFilter>) -> Option<&'t Arc<RbacFilter>> {
        let of_level = |filters: &'t FilterOverrides| filters.rbac.iter().find(|(other, _)| &**other == name);
        let levels = self.overrides().filter_map(of_level).map(|(_, settings)| settings);
        most_specific(levels, Some(chain))
    }

    /// Header mutations of the filter, then of each level that has some: the most specific level first, or last where
    /// the filter says that it wins.
    pub fn mutations(&self, filter: &'t MutationFilter) -> impl Iterator<Item = &'t HeaderMutations> {
        let mut levels: Vec<_> = self
            .overrides()
            .filter_map(|filters| match &filters.mutations {
                Override::Set(mutations) => Some(&**mutations),
                Override::Inherit | Override::Disabled => None,
            })
            .collect();
        if filter.most_specific_wins {
            levels.reverse();
        }
        std::iter::once(&filter.mutations).chain(levels)
    }

    /// Rules for rate limits at `stage`: the route's, and the virtual host's as far as they count.
    pub fn rate_limit_rules(
        &self,
        stage: u32,
        virtual_host: VirtualHostRules,
    ) -> impl Iterator<Item = &'t Rule> {
        let (own, include): (&[Rule], bool) = match &self.route.action {
            Action::Forward(forward) => (&forward.rate_limits, forward.include_virtual_host_rate_limits),
            Action::Redirect(_) | Action::DirectResponse(_) => (&[], false),
        };
        let shared: &[Rule] = match virtual_host {
            _ if include => &self.virtual_host.rate_limits,
            VirtualHostRules::Include => &self.virtual_host.rate_limits,
            VirtualHostRules::Override if own.is_empty() => &self.virtual_host.rate_limits,
            VirtualHostRules::Override | VirtualHostRules::Ignore => &[],
        };
        own.iter().chain(shared).filter(move |rule| rule.stage == stage)
    }

    fn overrides(&self) -> impl Iterator<Item = &'t FilterOverrides> + use<'t> {
        let weighted = self.weighted_cluster.and_then(|cluster| cluster.filters.as_deref());
        let levels = [
            weighted,
            self.route.filters.as_deref(),
            self.virtual_host.filters.as_deref(),
            self.config.filters.as_deref(),
        ];
        levels.into_iter().flatten()
    }
}

fn most_specific<'t, T>(
    levels: impl Iterator<Item = &'t Override<T>>,
    chain: Option<&'t Arc<T>>,
) -> Option<&'t Arc<T>> {
    for level in levels {
        match level {
            Override::Inherit => {}
            Override::Disabled => return None,
            Override::Set(settings) => return Some(settings),
        }
    }
    chain
}
