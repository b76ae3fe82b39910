//! Routes of a VirtualService.

use ringsail_api::networking::http_redirect::{RedirectPort, RedirectPortSelection};
use ringsail_api::networking::load_balancer_settings::consistent_hash_lb::HashKey;
use ringsail_api::networking::load_balancer_settings::{ConsistentHashLb, LbPolicy};
use ringsail_api::networking::{
    Destination, HttpDirectResponse, HttpMatchRequest, HttpRedirect, HttpRoute, HttpRouteDestination,
    http_body,
};
use ringsail_model::{MeshSettings, Proxy, Resolution, Service, VirtualService};
use ringsail_xds::envoy::config::core::v3::{DataSource, RuntimeFractionalPercent, data_source};
use ringsail_xds::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
};
use ringsail_xds::envoy::config::route::v3::route_action::{
    ClusterSpecifier, HashPolicy, HostRewriteSpecifier, RequestMirrorPolicy, hash_policy,
};
use ringsail_xds::envoy::config::route::v3::weighted_cluster::{ClusterWeight, cluster_weight};
use ringsail_xds::envoy::config::route::v3::{
    Decorator, DirectResponseAction, RedirectAction, Route, RouteAction, RouteMatch, WeightedCluster, route,
};
use ringsail_xds::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;

use super::headers::Operations;
use super::{filters, matching, retry};
use crate::{names, xds};

/// What routes are built for.
pub(crate) struct RouteScope<'a> {
    pub(crate) proxy: &'a Proxy,
    pub(crate) settings: &'a MeshSettings,
    /// `mesh` or `namespace/name`.
    pub(crate) gateway: &'a str,
    /// Port of the listener; for services also the number of the service port.
    pub(crate) port: u32,
    /// Whether clients reach the listener by TLS.
    pub(crate) tls: bool,
    /// Finds the service a destination names.
    pub(crate) service: &'a dyn Fn(&str) -> Option<&'a Service>,
    /// Finds the consistent-hash setting of a destination (host, subset, port).
    pub(crate) hash: &'a dyn Fn(&Service, &str, u32) -> Option<ConsistentHashLb>,
}

/// Routes of the rules that concern the proxy, in order, up to the first that matches everything.
pub(crate) fn build(vs: &VirtualService, scope: &RouteScope<'_>) -> Vec<Route> {
    let mut routes = Vec::new();
    for http in &vs.spec.http {
        if http.r#match.is_empty() {
            routes.extend(build_route(vs, http, None, scope));
            break;
        }
        for request in &http.r#match {
            if !matching::concerns(request, scope.proxy, scope.gateway, scope.port) {
                continue;
            }
            let Some(route) = build_route(vs, http, Some(request), scope) else { continue };
            let last = matching::is_catch_all(&route);
            routes.push(route);
            if last {
                return routes;
            }
        }
    }
    routes
}

/// Cluster of a destination. The port defaults to the service's only port, else to that of the listener. An alias
/// leads to the service it names.
pub(crate) fn destination_cluster(
    destination: &Destination,
    service: Option<&Service>,
    listener_port: u32,
) -> String {
    let host = match service.map(|service| &service.resolution) {
        Some(Resolution::Alias(target)) => target.as_str(),
        _ => destination.host.as_str(),
    };
    names::outbound_cluster(destination_port(destination, service, listener_port), &destination.subset, host)
}

/// Port of a destination, as in [`destination_cluster`].
pub(crate) fn destination_port(
    destination: &Destination,
    service: Option<&Service>,
    listener_port: u32,
) -> u32 {
    match (&destination.port, service) {
        (Some(port), _) if port.number != 0 => port.number,
        (_, Some(service)) if service.ports.len() == 1 => service.ports[0].number,
        _ => listener_port,
    }
}

fn build_route(
    vs: &VirtualService,
    http: &HttpRoute,
    request: Option<&HttpMatchRequest>,
    scope: &RouteScope<'_>,
) -> Option<Route> {
    let route_match = request.map_or_else(matching::any, matching::route_match);
    let name = match request.filter(|request| !request.name.is_empty() && !http.name.is_empty()) {
        Some(request) => format!("{}.{}", http.name, request.name),
        None => http.name.clone(),
    };
    let operations = Operations::of(http.headers.as_ref());
    let path = xds::text(names::config_path("virtual-service", &vs.namespace, &vs.name));
    let mut out = Route {
        name,
        metadata: Some(xds::istio_metadata(xds::object([("config", path)]))),
        stat_prefix: request.map(|request| request.stat_prefix.clone()).unwrap_or_default(),
        ..Route::default()
    };
    let action = if let Some(redirect) = &http.redirect {
        route::Action::Redirect(redirect_action(redirect, scope)?)
    } else if let Some(response) = &http.direct_response {
        route::Action::DirectResponse(direct_response(response))
    } else {
        let operation = operation(vs, http, &route_match, scope);
        out.decorator = Some(Decorator { operation, ..Decorator::default() });
        route::Action::Route(route_action(http, &operations, &mut out, scope))
    };
    out.request_headers_to_add.splice(0..0, operations.request_add);
    out.request_headers_to_remove.splice(0..0, operations.request_remove);
    out.response_headers_to_add.splice(0..0, operations.response_add);
    out.response_headers_to_remove.splice(0..0, operations.response_remove);
    if let Some(fault) = http.fault.as_ref().and_then(filters::fault) {
        out.typed_per_filter_config.insert(filters::FAULT.to_owned(), fault);
    }
    if let Some(cors) = &http.cors_policy {
        out.typed_per_filter_config.insert(filters::CORS.to_owned(), filters::cors(cors));
    }
    out.r#match = Some(route_match);
    out.action = Some(action);
    Some(out)
}

/// Name of the operation in traces: the destination, or the VirtualService when there are several.
fn operation(
    vs: &VirtualService,
    http: &HttpRoute,
    route_match: &RouteMatch,
    scope: &RouteScope<'_>,
) -> String {
    let path = matching::operation_path(route_match);
    match &http.route[..] {
        [HttpRouteDestination { destination: Some(destination), .. }] => {
            let port = destination_port(destination, (scope.service)(&destination.host), scope.port);
            format!("{}{path}", names::host_port(&destination.host, port))
        }
        _ => format!("{}:{}{path}", vs.name, scope.port),
    }
}

fn route_action(
    http: &HttpRoute,
    operations: &Operations,
    out: &mut Route,
    scope: &RouteScope<'_>,
) -> RouteAction {
    let timeout = http.timeout.unwrap_or(xds::ZERO);
    let mut action =
        RouteAction { timeout: Some(timeout), max_grpc_timeout: Some(timeout), ..RouteAction::default() };
    let mut authority = operations.authority.clone();
    if let Some(rewrite) = &http.rewrite {
        if let Some(regex) = &rewrite.uri_regex_rewrite {
            action.regex_rewrite = Some(RegexMatchAndSubstitute {
                pattern: Some(xds::regex(&regex.r#match)),
                substitution: regex.rewrite.clone(),
            });
        } else {
            // Replaces what was matched: the prefix, or the whole path for exact and regex matches.
            action.prefix_rewrite.clone_from(&rewrite.uri);
        }
        if !rewrite.authority.is_empty() {
            authority = Some(rewrite.authority.clone());
        }
    }
    action.request_mirror_policies = mirrors(http, scope);
    let usable: Vec<(&HttpRouteDestination, &Destination)> =
        http.route.iter().filter_map(|entry| Some((entry, entry.destination.as_ref()?))).collect();
    for (_, destination) in &usable {
        action.hash_policy.extend(hash_of(destination, scope));
    }
    action.retry_policy =
        retry::outbound(http.retries.as_ref(), scope.settings, !action.hash_policy.is_empty());
    if let [(entry, destination)] = usable[..] {
        let own = Operations::of(entry.headers.as_ref());
        out.request_headers_to_add = own.request_add;
        out.request_headers_to_remove = own.request_remove;
        out.response_headers_to_add = own.response_add;
        out.response_headers_to_remove = own.response_remove;
        authority = authority.or(own.authority);
        action.cluster_specifier = Some(ClusterSpecifier::Cluster(cluster_of(destination, scope)));
    } else {
        let clusters = usable.iter().filter(|(entry, _)| entry.weight > 0);
        action.cluster_specifier = Some(ClusterSpecifier::WeightedClusters(WeightedCluster {
            clusters: clusters.map(|(entry, destination)| weighted(entry, destination, scope)).collect(),
            ..WeightedCluster::default()
        }));
    }
    action.host_rewrite_specifier = authority.map(HostRewriteSpecifier::HostRewriteLiteral);
    action
}

fn cluster_of(destination: &Destination, scope: &RouteScope<'_>) -> String {
    destination_cluster(destination, (scope.service)(&destination.host), scope.port)
}

fn weighted(
    entry: &HttpRouteDestination,
    destination: &Destination,
    scope: &RouteScope<'_>,
) -> ClusterWeight {
    let own = Operations::of(entry.headers.as_ref());
    ClusterWeight {
        name: cluster_of(destination, scope),
        weight: u32::try_from(entry.weight).ok(),
        request_headers_to_add: own.request_add,
        request_headers_to_remove: own.request_remove,
        response_headers_to_add: own.response_add,
        response_headers_to_remove: own.response_remove,
        host_rewrite_specifier: own.authority.map(cluster_weight::HostRewriteSpecifier::HostRewriteLiteral),
        ..ClusterWeight::default()
    }
}

#[allow(deprecated)]
fn mirrors(http: &HttpRoute, scope: &RouteScope<'_>) -> Vec<RequestMirrorPolicy> {
    let single = http.mirror.as_ref().map(|destination| {
        let share = http.mirror_percentage.map(|percentage| percentage.value);
        (destination, share.or(http.mirror_percent.map(f64::from)).unwrap_or(100.0))
    });
    let several = http.mirrors.iter().filter_map(|mirror| {
        Some((mirror.destination.as_ref()?, mirror.percentage.map_or(100.0, |percentage| percentage.value)))
    });
    single
        .into_iter()
        .chain(several)
        .filter(|(_, share)| *share > 0.0)
        .map(|(destination, share)| RequestMirrorPolicy {
            cluster: cluster_of(destination, scope),
            runtime_fraction: Some(RuntimeFractionalPercent {
                default_value: Some(xds::percent(share)),
                ..RuntimeFractionalPercent::default()
            }),
            trace_sampled: Some(false),
            disable_shadow_host_suffix_append: true,
            ..RequestMirrorPolicy::default()
        })
        .collect()
}

/// Hash policy of a destination whose DestinationRule balances by consistent hashing.
fn hash_of(destination: &Destination, scope: &RouteScope<'_>) -> Option<HashPolicy> {
    let service = (scope.service)(&destination.host)?;
    let port = destination_port(destination, Some(service), scope.port);
    hash_policy(&(scope.hash)(service, &destination.subset, port)?)
}

/// Translates the key of a consistent-hash setting.
pub(crate) fn hash_policy(hash: &ConsistentHashLb) -> Option<HashPolicy> {
    use hash_policy::{
        ConnectionProperties, Cookie, CookieAttribute, Header, PolicySpecifier, QueryParameter,
    };
    let specifier = match hash.hash_key.as_ref()? {
        HashKey::HttpHeaderName(name) => {
            PolicySpecifier::Header(Header { header_name: name.clone(), ..Header::default() })
        }
        HashKey::HttpCookie(cookie) => PolicySpecifier::Cookie(Cookie {
            name: cookie.name.clone(),
            ttl: cookie.ttl,
            path: cookie.path.clone(),
            attributes: cookie
                .attributes
                .iter()
                .map(|attribute| CookieAttribute {
                    name: attribute.name.clone(),
                    value: attribute.value.clone(),
                })
                .collect(),
        }),
        HashKey::UseSourceIp(source_ip) => {
            PolicySpecifier::ConnectionProperties(ConnectionProperties { source_ip: *source_ip })
        }
        HashKey::HttpQueryParameterName(name) => {
            PolicySpecifier::QueryParameter(QueryParameter { name: name.clone() })
        }
    };
    Some(HashPolicy { terminal: false, policy_specifier: Some(specifier) })
}

/// The consistent-hash setting of an effective load-balancer setting.
pub(crate) fn consistent_hash(
    lb: Option<&ringsail_api::networking::LoadBalancerSettings>,
) -> Option<ConsistentHashLb> {
    match lb?.lb_policy.as_ref()? {
        LbPolicy::ConsistentHash(hash) => Some(hash.clone()),
        LbPolicy::Simple(_) | LbPolicy::BackendUtilization(_) => None,
    }
}

fn redirect_action(redirect: &HttpRedirect, scope: &RouteScope<'_>) -> Option<RedirectAction> {
    let response_code = match redirect.redirect_code {
        0 | 301 => RedirectResponseCode::MovedPermanently,
        302 => RedirectResponseCode::Found,
        303 => RedirectResponseCode::SeeOther,
        307 => RedirectResponseCode::TemporaryRedirect,
        308 => RedirectResponseCode::PermanentRedirect,
        _ => return None,
    };
    let port = match redirect.redirect_port {
        Some(RedirectPort::Port(port)) => port,
        Some(RedirectPort::DerivePort(kind)) => match RedirectPortSelection::try_from(kind) {
            Ok(RedirectPortSelection::FromRequestPort) => scope.port,
            _ => 0,
        },
        None => 0,
    };
    let scheme = match redirect.scheme.as_str() {
        "" if scope.tls => "https",
        "" => "http",
        other => other,
    };
    // The port that the scheme implies is not written out.
    let implied = matches!((scheme, port), ("http", 80) | ("https", 443));
    Some(RedirectAction {
        host_redirect: redirect.authority.clone(),
        port_redirect: if implied { 0 } else { port },
        response_code: response_code as i32,
        scheme_rewrite_specifier: (!redirect.scheme.is_empty())
            .then(|| SchemeRewriteSpecifier::SchemeRedirect(redirect.scheme.clone())),
        path_rewrite_specifier: if !redirect.uri.is_empty() {
            Some(PathRewriteSpecifier::PathRedirect(redirect.uri.clone()))
        } else if !redirect.prefix_rewrite.is_empty() {
            Some(PathRewriteSpecifier::PrefixRewrite(redirect.prefix_rewrite.clone()))
        } else {
            None
        },
        ..RedirectAction::default()
    })
}

fn direct_response(response: &HttpDirectResponse) -> DirectResponseAction {
    let body = response.body.as_ref().and_then(|body| body.specifier.as_ref()).map(|body| DataSource {
        specifier: Some(match body {
            http_body::Specifier::String(text) => data_source::Specifier::InlineString(text.clone()),
            http_body::Specifier::Bytes(bytes) => data_source::Specifier::InlineBytes(bytes.clone()),
        }),
        ..DataSource::default()
    });
    DirectResponseAction { status: response.status, body, ..DirectResponseAction::default() }
}
