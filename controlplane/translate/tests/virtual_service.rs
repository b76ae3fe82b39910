//! What VirtualServices do to requests of a sidecar.

mod support;

use support::{Seen, mesh, node, sidecar};

/// A service `web` on port 80, another `api`, and a client; `routes` is the `spec.http` list of a VirtualService.
fn with_routes(routes: &str) -> Seen {
    sidecar(
        &mesh(&format!("{SERVICES}\n---\n{}", virtual_service("web", "shop", routes))),
        "10.0.0.5",
        "shop",
    )
}

fn virtual_service(host: &str, namespace: &str, routes: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: vs, namespace: {namespace}}}\n\
         spec:\n  hosts: [{host}]\n  http:\n{}",
        routes.lines().map(|line| format!("  {line}\n")).collect::<String>()
    )
}

const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {clusterIP: 10.96.0.2, ports: [{name: http, port: 80}, {name: http-alt, port: 8080}]}
";

const WEB: &str = "outbound|80||web.shop.svc.cluster.local";
const API: &str = "outbound|80||api.shop.svc.cluster.local";

/// Sends a request for `web`: `target` and further header lines.
fn ask(seen: &Seen, target: &str, headers: &str) -> String {
    seen.http("10.96.0.1:80", &format!("GET {target} HTTP/1.1\nhost: web\n{headers}"))
}

#[test]
fn first_matching_rule_wins_and_the_rest_is_not_found() {
    let seen = with_routes(
        "- match: [{uri: {exact: /a}}, {uri: {prefix: /b}}]
  route: [{destination: {host: api}}]
- match: [{uri: {regex: '/c[0-9]+'}}]
  route: [{destination: {host: web}}]",
    );
    assert_eq!(ask(&seen, "/a", ""), API);
    assert_eq!(ask(&seen, "/bcd", ""), API);
    assert_eq!(ask(&seen, "/c12", ""), WEB);
    assert_eq!(ask(&seen, "/c12/d", ""), "404");
    assert_eq!(ask(&seen, "/", ""), "404");
}

#[test]
fn headers_query_and_method_are_tested_together() {
    let seen = with_routes(
        "- match:
  - headers: {end-user: {exact: jason}, cookie: {regex: '^(.*?;)?(beta=1)(;.*)?$'}}
    queryParams: {debug: {exact: 'true'}}
    method: {exact: GET}
  route: [{destination: {host: api}}]
- route: [{destination: {host: web}}]",
    );
    assert_eq!(ask(&seen, "/?debug=true", "end-user: jason\ncookie: a=b;beta=1"), API);
    assert_eq!(ask(&seen, "/?debug=no", "end-user: jason\ncookie: a=b;beta=1"), WEB);
    assert_eq!(ask(&seen, "/?debug=true", "end-user: jason"), WEB);
}

#[test]
fn without_headers_holds_for_a_request_that_lacks_the_header() {
    let seen = with_routes(
        "- match: [{withoutHeaders: {x-debug: {exact: 'on'}}}]
  route: [{destination: {host: web}}]
- route: [{destination: {host: api}}]",
    );
    assert_eq!(ask(&seen, "/", ""), WEB);
    assert_eq!(ask(&seen, "/", "x-debug: off"), WEB);
    assert_eq!(ask(&seen, "/", "x-debug: on"), API);
}

#[test]
fn empty_header_match_asks_for_presence() {
    let seen = with_routes(
        "- match: [{headers: {x-flag: {}}}]
  route: [{destination: {host: api}}]
- route: [{destination: {host: web}}]",
    );
    assert_eq!(ask(&seen, "/", "x-flag: anything"), API);
    assert_eq!(ask(&seen, "/", ""), WEB);
}

#[test]
fn routes_behind_a_catch_all_are_not_sent() {
    let seen = with_routes(
        "- route: [{destination: {host: web}}]
- match: [{uri: {prefix: /x}}]
  route: [{destination: {host: api}}]",
    );
    assert_eq!(seen.virtual_host("80", "web.shop.svc.cluster.local:80").routes.len(), 1);
}

#[test]
fn redirect_keeps_the_host_and_drops_the_implied_port() {
    let seen = with_routes(
        "- match: [{uri: {exact: /old}}]
  redirect: {uri: /new, redirectCode: 302}
- match: [{uri: {prefix: /docs}}]
  redirect: {authority: docs.example.com, scheme: https, port: 443}
- route: [{destination: {host: web}}]",
    );
    assert_eq!(ask(&seen, "/old", ""), "302 http://web/new");
    assert_eq!(ask(&seen, "/docs/a", ""), "301 https://docs.example.com/docs/a");
}

#[test]
fn direct_response_answers_without_an_upstream() {
    let seen = with_routes("- directResponse: {status: 418, body: {string: teapot}}");
    assert_eq!(ask(&seen, "/", ""), "418 teapot");
}

#[test]
fn destination_port_defaults_to_the_listener_port_of_a_multi_port_service() {
    let seen = with_routes("- route: [{destination: {host: api}}]");
    assert_eq!(ask(&seen, "/", ""), API);
    let seen = with_routes("- route: [{destination: {host: api, port: {number: 8080}}}]");
    assert_eq!(ask(&seen, "/", ""), "outbound|8080||api.shop.svc.cluster.local");
}

#[test]
fn unknown_destination_keeps_its_name_so_that_it_answers_503() {
    let seen = with_routes("- route: [{destination: {host: nowhere.example.com, subset: v9}}]");
    assert_eq!(ask(&seen, "/", ""), "outbound|80|v9|nowhere.example.com");
}

#[test]
fn source_labels_choose_proxies_and_not_requests() {
    let routes = "- match: [{sourceLabels: {app: cart}}]
  route: [{destination: {host: api}}]
- route: [{destination: {host: web}}]";
    let mesh = mesh(&format!("{SERVICES}\n---\n{}", virtual_service("web", "shop", routes)));
    let cart = node("sidecar", "10.0.0.5", "shop", &["label:app=cart"]);
    let cart = Seen::of(&ringsail_translate::translate(&mesh, &cart));
    assert_eq!(ask(&cart, "/", ""), API);
    assert_eq!(ask(&sidecar(&mesh, "10.0.0.6", "shop"), "/", ""), WEB);
}

#[test]
fn rule_for_another_port_or_gateway_leaves_the_default_route() {
    let seen = with_routes("- match: [{port: 8080}]\n  route: [{destination: {host: api}}]");
    assert_eq!(ask(&seen, "/", ""), WEB);
}

#[test]
fn host_that_only_a_virtual_service_knows_lives_on_port_80() {
    let vs = virtual_service("legacy.example.com", "shop", "- route: [{destination: {host: web}}]");
    let seen = sidecar(&mesh(&format!("{SERVICES}\n---\n{vs}")), "10.0.0.5", "shop");
    let get = "GET / HTTP/1.1\nhost: legacy.example.com";
    assert_eq!(seen.http("10.96.0.1:80", get), WEB);
    assert_eq!(seen.http("10.96.0.2:8080", get), "PassthroughCluster");
}

#[test]
fn oldest_virtual_service_of_a_host_is_the_only_one() {
    let vs = |name: &str, created: &str, host: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: shop, \
             creationTimestamp: '{created}'}}\nspec: {{hosts: [web], http: [{{route: [{{destination: {{host: {host}}}}}]}}]}}"
        )
    };
    let young = vs("a", "2024-01-01T00:00:00Z", "web");
    let old = vs("b", "2020-01-01T00:00:00Z", "api");
    let seen = sidecar(&mesh(&format!("{SERVICES}\n---\n{young}\n---\n{old}")), "10.0.0.5", "shop");
    assert_eq!(ask(&seen, "/", ""), API);
}

#[test]
fn delegate_supplies_routes_inside_the_root_match() {
    let seen = sidecar(
        &mesh(&format!(
            "{SERVICES}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: root, namespace: shop}}
spec:
  hosts: [web]
  http:
  - match: [{{uri: {{prefix: /api}}}}]
    delegate: {{name: leaf, namespace: team}}
  - route: [{{destination: {{host: web}}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: leaf, namespace: team}}
spec:
  http:
  - match: [{{uri: {{prefix: /api/v2}}}}]
    route: [{{destination: {{host: api.shop.svc.cluster.local}}}}]
  - match: [{{uri: {{prefix: /other}}}}]
    route: [{{destination: {{host: api.shop.svc.cluster.local}}}}]"
        )),
        "10.0.0.5",
        "shop",
    );
    assert_eq!(ask(&seen, "/api/v2/x", ""), API);
    assert_eq!(ask(&seen, "/api/v1", ""), WEB);
    assert_eq!(ask(&seen, "/other", ""), WEB);
}

#[test]
fn rewrite_timeout_retries_mirror_and_headers_reach_the_route() {
    use ringsail_xds::envoy::config::route::v3::route::Action;
    use ringsail_xds::envoy::config::route::v3::route_action::HostRewriteSpecifier;
    let seen = with_routes(
        "- match: [{uri: {prefix: /a}}]
  route: [{destination: {host: web}, headers: {request: {add: {x-leg: one}}}}]
  rewrite: {uri: /b, authority: other.example.com}
  timeout: 3s
  retries: {attempts: 4, perTryTimeout: 1s, retryOn: '5xx,503'}
  mirror: {host: api}
  mirrorPercentage: {value: 12.5}
  headers: {request: {set: {x-who: me}, remove: [x-drop]}, response: {add: {x-out: '1'}}}",
    );
    let route = seen.first_route("80", "web");
    let Some(Action::Route(action)) = &route.action else { panic!("a forwarding route") };
    assert_eq!(action.prefix_rewrite, "/b");
    assert_eq!(
        action.host_rewrite_specifier,
        Some(HostRewriteSpecifier::HostRewriteLiteral("other.example.com".into()))
    );
    assert_eq!(action.timeout.map(|timeout| timeout.seconds), Some(3));
    let retry = action.retry_policy.as_ref().expect("retries");
    assert_eq!(retry.retry_on, "5xx,retriable-status-codes");
    assert_eq!((retry.num_retries, &retry.retriable_status_codes[..]), (Some(4), &[503][..]));
    let mirror = &action.request_mirror_policies[0];
    let share = mirror.runtime_fraction.as_ref().and_then(|fraction| fraction.default_value);
    assert_eq!(mirror.cluster, API);
    assert_eq!(share.map(|share| share.numerator), Some(125_000));
    let added: Vec<_> = route
        .request_headers_to_add
        .iter()
        .filter_map(|h| h.header.as_ref())
        .map(|h| h.key.as_str())
        .collect();
    assert_eq!(added, ["x-who", "x-leg"]);
    assert_eq!(route.request_headers_to_remove, ["x-drop"]);
    assert_eq!(route.response_headers_to_add.len(), 1);
}

#[test]
fn fault_and_cors_are_set_on_the_route_alone() {
    use ringsail_xds::envoy::extensions::filters::http::cors::v3::CorsPolicy;
    use ringsail_xds::envoy::extensions::filters::http::fault::v3::HttpFault;
    let seen = with_routes(
        "- fault: {delay: {fixedDelay: 2s, percentage: {value: 100}}, abort: {httpStatus: 503, percentage: {value: 0.5}}}
  corsPolicy: {allowOrigins: [{exact: 'https://a.example.com'}], allowMethods: [GET, POST], maxAge: 24h}
  route: [{destination: {host: web}}]",
    );
    let filters = &seen.first_route("80", "web").typed_per_filter_config;
    let fault: HttpFault = ringsail_xds::unpack(&filters["envoy.filters.http.fault"]).expect("a fault");
    assert_eq!(fault.abort.and_then(|abort| abort.percentage).map(|share| share.numerator), Some(5000));
    assert!(fault.delay.is_some());
    let cors: CorsPolicy = ringsail_xds::unpack(&filters["envoy.filters.http.cors"]).expect("a policy");
    assert_eq!((cors.allow_methods.as_str(), cors.max_age.as_str()), ("GET,POST", "86400"));
}
