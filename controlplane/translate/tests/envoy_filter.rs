//! What EnvoyFilters change, asked by what a proxy is sent.

mod support;

use std::sync::Arc;

use ringsail_model::{Change, Mesh, MeshBuilder, MeshSettings, analyze};
use ringsail_translate::translate;
use ringsail_xds::envoy::config::listener::v3::filter::ConfigType;
use ringsail_xds::envoy::config::route::v3::{RouteConfiguration, route};
use ringsail_xds::envoy::extensions::filters::http::local_ratelimit::v3::LocalRateLimit;
use ringsail_xds::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_connection_manager::RouteSpecifier,
};
use ringsail_xds::{type_url, unpack};
use support::{Seen, mesh, node};

const SHOP: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  clusterIP: 10.0.0.1
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: 8080}, {name: tcp-db, port: 5432}]
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
status: {podIP: 10.1.0.1}
";

fn filter(place: &str, spec: &str) -> String {
    let (name, namespace) = place.split_once('@').expect("name@namespace");
    format!(
        "---\napiVersion: networking.istio.io/v1alpha3\nkind: EnvoyFilter\n\
         metadata: {{name: {name}, namespace: {namespace}}}\nspec:\n{spec}\n"
    )
}

/// One patch in the place it is written.
fn patch(text: &str) -> String {
    let lines = text.lines().map(|line| format!("    {line}\n")).collect::<String>();
    format!("  configPatches:\n  -\n{lines}")
}

fn seen(filters: &str) -> Seen {
    let proxy = node("sidecar", "10.1.0.1", "shop", &["label:app=web", "ISTIO_VERSION=1.30.0"]);
    Seen::of(&translate(&mesh(&format!("{SHOP}{filters}")), &proxy))
}

fn one(text: &str) -> Seen {
    seen(&filter("f@shop", &patch(text)))
}

/// The connection manager of requests to port 8080 of the workload, or of those on a listener.
fn manager(seen: &Seen, listener: &str) -> HttpConnectionManager {
    let chains = &seen.listener(listener).filter_chains;
    let port = |chain: &&ringsail_xds::envoy::config::listener::v3::FilterChain| {
        listener != "virtualInbound"
            || chain.filter_chain_match.as_ref().is_some_and(|found| found.destination_port == Some(8080))
    };
    let configs = chains.iter().filter(port).flat_map(|chain| &chain.filters).filter_map(|filter| {
        match &filter.config_type {
            Some(ConfigType::TypedConfig(any)) if any.type_url == type_url::HTTP_CONNECTION_MANAGER => {
                Some(any)
            }
            _ => None,
        }
    });
    unpack(configs.collect::<Vec<_>>().first().expect("a connection manager")).expect("a connection manager")
}

fn http_filters(seen: &Seen, listener: &str) -> Vec<String> {
    manager(seen, listener).http_filters.into_iter().map(|filter| filter.name).collect()
}

fn inline_routes(seen: &Seen) -> RouteConfiguration {
    match manager(seen, "virtualInbound").route_specifier {
        Some(RouteSpecifier::RouteConfig(routes)) => routes,
        other => panic!("{other:?}"),
    }
}

const RATE_LIMIT: &str = "name: envoy.filters.http.local_ratelimit
    typed_config:
      '@type': type.googleapis.com/udpa.type.v1.TypedStruct
      type_url: type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
      value: {stat_prefix: local, token_bucket: {max_tokens: 3, tokens_per_fill: 3, fill_interval: 60s}}";

fn insert(operation: &str, sub_filter: &str) -> String {
    let sub =
        if sub_filter.is_empty() { String::new() } else { format!(", subFilter: {{name: {sub_filter}}}") };
    format!(
        "applyTo: HTTP_FILTER
match:
  context: SIDECAR_INBOUND
  listener: {{filterChain: {{filter: {{name: envoy.filters.network.http_connection_manager{sub}}}}}}}
patch:
  operation: {operation}
  value:
    {RATE_LIMIT}"
    )
}

#[test]
fn http_filters_are_put_where_the_operation_says() {
    let plain = http_filters(&one(&insert("REMOVE", "")), "virtualInbound");
    let own = "envoy.filters.http.local_ratelimit".to_owned();
    let place = |operation: &str, sub: &str| {
        let filters = http_filters(&one(&insert(operation, sub)), "virtualInbound");
        filters.iter().position(|name| *name == own)
    };
    let last = plain.len() - 1;
    assert_eq!(plain[last], "envoy.filters.http.router");
    assert_eq!(place("INSERT_BEFORE", "envoy.filters.http.router"), Some(last));
    assert_eq!(place("INSERT_AFTER", &plain[0]), Some(1));
    assert_eq!(place("INSERT_FIRST", "envoy.filters.http.router"), Some(0));
    assert_eq!(place("INSERT_BEFORE", ""), Some(0));
    assert_eq!(place("ADD", ""), Some(plain.len()));
    assert_eq!(place("INSERT_BEFORE", "no.such.filter"), None);
    let replaced = http_filters(&one(&insert("REPLACE", "envoy.filters.http.cors")), "virtualInbound");
    assert!(replaced.contains(&own) && !replaced.contains(&"envoy.filters.http.cors".to_owned()));
    let removed = http_filters(&one(&insert("REMOVE", "envoy.filters.http.cors")), "virtualInbound");
    assert_eq!(removed.len(), plain.len() - 1);
}

#[test]
fn a_context_is_one_part_of_the_proxy() {
    let seen = one(&insert("INSERT_FIRST", ""));
    assert_eq!(http_filters(&seen, "virtualInbound")[0], "envoy.filters.http.local_ratelimit");
    assert!(!http_filters(&seen, "0.0.0.0_80").contains(&"envoy.filters.http.local_ratelimit".to_owned()));
    let any = one(&insert("INSERT_FIRST", "").replace("context: SIDECAR_INBOUND", "context: ANY"));
    assert_eq!(http_filters(&any, "0.0.0.0_80")[0], "envoy.filters.http.local_ratelimit");
}

#[test]
fn a_local_rate_limit_of_one_route_reaches_the_route() {
    let seen = one("applyTo: HTTP_ROUTE
match:
  context: SIDECAR_INBOUND
  routeConfiguration: {vhost: {name: 'inbound|http|80', route: {action: ANY}}}
patch:
  operation: MERGE
  value:
    route: {rate_limits: [{actions: [{remote_address: {}}]}]}
    typed_per_filter_config:
      envoy.filters.http.local_ratelimit:
        '@type': type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
        stat_prefix: x
        token_bucket: {max_tokens: 10, tokens_per_fill: 10, fill_interval: 60s}");
    let routes = inline_routes(&seen);
    let own = &routes.virtual_hosts[0].routes[0];
    let config = &own.typed_per_filter_config["envoy.filters.http.local_ratelimit"];
    let limit: LocalRateLimit = unpack(config).expect("a local rate limit");
    assert_eq!(limit.token_bucket.expect("a bucket").max_tokens, 10);
    let Some(route::Action::Route(action)) = &own.action else { panic!("no route") };
    assert_eq!(action.rate_limits.len(), 1);
    assert!(action.retry_policy.is_some(), "what was there stays");
    assert_eq!(seen.inbound_http(8080, "GET / HTTP/1.1\nhost: web\n"), "inbound|8080||");
}

#[test]
fn routes_and_virtual_hosts_are_added_removed_and_replaced() {
    let of_routes = |operation: &str, name: &str, value: &str| {
        one(&format!(
            "applyTo: HTTP_ROUTE
match: {{context: SIDECAR_OUTBOUND, routeConfiguration: {{portNumber: 80, vhost: {{domainName: web, route: {{name: '{name}'}}}}}}}}
patch: {{operation: {operation}, value: {value}}}"
        ))
    };
    let teapot = "{name: tea, match: {prefix: /tea}, direct_response: {status: 418}}";
    let ask =
        |seen: &Seen, path: &str| seen.http("10.0.0.1:80", &format!("GET {path} HTTP/1.1\nhost: web\n"));
    let web = "outbound|80||web.shop.svc.cluster.local";
    let seen = of_routes("INSERT_BEFORE", "default", teapot);
    assert_eq!((ask(&seen, "/tea").as_str(), ask(&seen, "/").as_str()), ("418", web));
    assert_eq!(ask(&of_routes("INSERT_FIRST", "default", teapot), "/tea"), "418");
    assert_eq!(ask(&of_routes("INSERT_FIRST", "other", teapot), "/tea"), web);
    assert_eq!(ask(&of_routes("ADD", "", teapot), "/tea"), web);
    assert_eq!(ask(&of_routes("REMOVE", "default", "{}"), "/"), "404");
    let of_hosts = |operation: &str, value: &str| {
        one(&format!(
            "applyTo: VIRTUAL_HOST
match: {{context: SIDECAR_OUTBOUND, routeConfiguration: {{vhost: {{name: 'web.shop.svc.cluster.local:80'}}}}}}
patch: {{operation: {operation}, value: {value}}}"
        ))
    };
    let host = "{name: own, domains: [web], routes: [{match: {prefix: /}, direct_response: {status: 503}}]}";
    assert_eq!(ask(&of_hosts("REPLACE", host), "/"), "503");
    assert_eq!(ask(&of_hosts("REMOVE", "{}"), "/"), "PassthroughCluster");
    let merged = of_hosts("MERGE", "{rate_limits: [{actions: [{generic_key: {descriptor_value: a}}]}]}");
    assert_eq!(merged.virtual_host("80", "web.shop.svc.cluster.local:80").rate_limits.len(), 1);
    assert_eq!(ask(&merged, "/"), web);
}

#[test]
fn clusters_are_merged_removed_and_added() {
    let of_cluster = |condition: &str, operation: &str, value: &str| {
        one(&format!(
            "applyTo: CLUSTER\nmatch: {{context: SIDECAR_OUTBOUND, cluster: {condition}}}\n\
             patch: {{operation: {operation}, value: {value}}}"
        ))
    };
    let web = "outbound|80||web.shop.svc.cluster.local";
    let db = "outbound|5432||web.shop.svc.cluster.local";
    let host = "{service: web.shop.svc.cluster.local, portNumber: 80}";
    let seen = of_cluster(host, "MERGE", "{connect_timeout: 1.5s, lb_policy: RING_HASH}");
    let timeout = |seen: &Seen, name: &str| seen.cluster(name).connect_timeout;
    let half = prost_types::Duration { seconds: 1, nanos: 500_000_000 };
    assert_eq!(timeout(&seen, web), Some(half), "a duration is one value");
    assert_eq!(seen.cluster(web).lb_policy, 2);
    assert_eq!(timeout(&seen, db).map(|time| time.seconds), Some(10));
    let short = of_cluster(host, "MERGE", "{connect_timeout: 500ms, dns_refresh_rate: 1m}");
    let half = prost_types::Duration { seconds: 0, nanos: 500_000_000 };
    assert_eq!(timeout(&short, web), Some(half), "units other than seconds are understood");
    let gone = of_cluster(host, "REMOVE", "{}");
    assert!(!gone.cluster_names().contains(&web) && gone.cluster_names().contains(&db));
    let added =
        of_cluster("{service: none}", "ADD", "{name: mine, type: STATIC, http2_protocol_options: {}}");
    assert_eq!(added.cluster_names().iter().filter(|name| **name == "mine").count(), 1);
    let inbound = one("applyTo: CLUSTER
match: {context: SIDECAR_INBOUND, cluster: {service: web.shop.svc.cluster.local, portNumber: 8080}}
patch: {operation: MERGE, value: {connect_timeout: 3s}}");
    assert_eq!(timeout(&inbound, "inbound|8080||").map(|time| time.seconds), Some(3));
    assert_eq!(timeout(&inbound, "inbound|5432||").map(|time| time.seconds), Some(10));
}

#[test]
fn lists_are_appended_unless_they_are_to_be_replaced() {
    let with = |operation: &str| {
        let seen = one(&format!(
            "applyTo: VIRTUAL_HOST
match: {{context: SIDECAR_OUTBOUND, routeConfiguration: {{vhost: {{name: 'web.shop.svc.cluster.local:80'}}}}}}
patch: {{operation: {operation}, value: {{domains: [extra.example.com]}}}}"
        ));
        seen.virtual_host("80", "web.shop.svc.cluster.local:80").domains.len()
    };
    assert!(with("MERGE") > 2);
    assert_eq!(with("MERGE_AND_REPLACE_LIST"), 1);
}

#[test]
fn listeners_chains_and_network_filters_are_patched() {
    let buffer = one("applyTo: LISTENER
match: {context: SIDECAR_OUTBOUND, listener: {portNumber: 80}}
patch: {operation: MERGE, value: {per_connection_buffer_limit_bytes: 4096}}");
    assert_eq!(buffer.listener("0.0.0.0_80").per_connection_buffer_limit_bytes, Some(4096));
    assert_eq!(buffer.listener("virtualOutbound").per_connection_buffer_limit_bytes, None);
    let removed = one("applyTo: LISTENER
match: {context: SIDECAR_OUTBOUND, listener: {name: 0.0.0.0_80}}
patch: {operation: REMOVE}");
    assert!(!removed.listener_names().contains(&"0.0.0.0_80"));
    let timeouts = one(
        "applyTo: NETWORK_FILTER
match: {listener: {portNumber: 8080, filterChain: {filter: {name: envoy.filters.network.http_connection_manager}}}}
patch:
  operation: MERGE
  value:
    name: envoy.filters.network.http_connection_manager
    typed_config:
      '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
      request_timeout: 7s
      common_http_protocol_options: {max_connection_duration: 60s}",
    );
    let merged = manager(&timeouts, "virtualInbound");
    assert_eq!(merged.request_timeout.map(|time| time.seconds), Some(7));
    assert_eq!(merged.http_filters.last().expect("filters").name, "envoy.filters.http.router");
    assert!(manager(&timeouts, "0.0.0.0_80").request_timeout.is_none(), "the port is that of the chain");
    let gone = one("applyTo: FILTER_CHAIN
match: {context: SIDECAR_INBOUND, listener: {filterChain: {destinationPort: 8080}}}
patch: {operation: REMOVE}");
    let chains = &gone.listener("virtualInbound").filter_chains;
    let ports: Vec<_> =
        chains.iter().filter_map(|chain| chain.filter_chain_match.as_ref()?.destination_port).collect();
    assert!(!ports.contains(&8080) && ports.contains(&5432), "{ports:?}");
}

#[test]
fn priority_comes_before_namespace_and_age() {
    let with = |place: &str, priority: i32, seconds: u32| {
        let text = patch(&format!(
            "applyTo: CLUSTER\nmatch: {{cluster: {{name: BlackHoleCluster}}}}\n\
             patch: {{operation: MERGE, value: {{connect_timeout: {seconds}s}}}}"
        ));
        filter(place, &format!("  priority: {priority}\n{text}"))
    };
    let last = |filters: &[String]| {
        let seen = seen(&filters.concat());
        seen.cluster("BlackHoleCluster").connect_timeout.map(|time| time.seconds)
    };
    assert_eq!(last(&[with("a@shop", 0, 1), with("b@istio-system", 0, 2)]), Some(1));
    assert_eq!(last(&[with("a@shop", -5, 1), with("b@istio-system", 0, 2)]), Some(2));
    assert_eq!(last(&[with("a@shop", 0, 1), with("b@other", 9, 2)]), Some(1));
}

#[test]
fn workloads_and_versions_are_selected() {
    let body = insert("INSERT_FIRST", "");
    let has = |spec: &str| {
        let filters = http_filters(&seen(&filter("f@shop", spec)), "virtualInbound");
        filters[0] == "envoy.filters.http.local_ratelimit"
    };
    assert!(has(&format!("  workloadSelector: {{labels: {{app: web}}}}\n{}", patch(&body))));
    assert!(!has(&format!("  workloadSelector: {{labels: {{app: api}}}}\n{}", patch(&body))));
    let version = |version: &str| {
        patch(&body.replace("match:\n", &format!("match:\n  proxy: {{proxyVersion: '{version}'}}\n")))
    };
    assert!(has(&version("^1\\.30.*")));
    assert!(!has(&version("^1\\.29.*")));
}

fn refusals(yaml: &str) -> (Arc<Mesh>, Vec<String>) {
    let mut builder = MeshBuilder::new(MeshSettings::default());
    let decoded = ringsail_api::decode(yaml, "f.yaml");
    assert!(decoded.refused.is_empty(), "{:?}", decoded.diagnostics);
    builder.apply(decoded.objects.into_iter().map(|object| Change::Put(Arc::new(object))));
    let errors =
        analyze(&builder).into_iter().filter(|found| found.severity == ringsail_api::Severity::Error);
    (
        Arc::clone(builder.mesh()),
        errors.map(|found| format!("{}: {}", found.field_path, found.message)).collect(),
    )
}

#[test]
fn an_object_with_one_unknown_value_is_not_applied_and_says_where() {
    let good = insert("INSERT_FIRST", "");
    let bad = "applyTo: CLUSTER\npatch: {operation: MERGE, value: {connect_timeoutt: 1s}}";
    let lua = "applyTo: HTTP_FILTER\npatch: {operation: INSERT_FIRST, value: {name: lua, typed_config: \
               {'@type': type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua}}}";
    let both = |second: &str| {
        let second = patch(second).replace("  configPatches:\n", "");
        format!("{SHOP}{}", filter("f@shop", &format!("{}{second}", patch(&good))))
    };
    let (mesh, errors) = refusals(&both(bad));
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].starts_with("spec.configPatches[1].patch.value"), "{errors:?}");
    assert!(
        errors[0].contains("connect_timeoutt") && errors[0].ends_with("no patch of the object is applied")
    );
    let proxy = node("sidecar", "10.1.0.1", "shop", &[]);
    let seen = Seen::of(&translate(&mesh, &proxy));
    let filters = http_filters(&seen, "virtualInbound");
    assert!(!filters.contains(&"envoy.filters.http.local_ratelimit".to_owned()));
    let (_, errors) = refusals(&both(lua));
    assert!(errors[0].contains("envoy.extensions.filters.http.lua.v3.Lua is not supported"), "{errors:?}");
}

#[test]
fn real_rate_limit_filters_are_applied() {
    let corpora = std::env::var_os("RINGSAIL_CORPORA").map_or_else(
        || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpora"),
        std::path::PathBuf::from,
    );
    for file in [
        "istio-samples/samples/ratelimit/local-rate-limit-service.yaml",
        "istio-samples/samples/bookinfo/policy/productpage_envoy_ratelimit.yaml",
        "mesh-apps/istio-on-eks/modules/03-network-resiliency/rate-limiting/local-ratelimit/local-ratelimit.yaml",
    ] {
        let Ok(text) = std::fs::read_to_string(corpora.join(file)) else {
            eprintln!("SKIPPED: {file} is not on this machine; set RINGSAIL_CORPORA");
            continue;
        };
        let (mesh, errors) = refusals(&text);
        assert_eq!((errors, mesh.envoy_filters().is_empty()), (Vec::new(), false), "{file}");
    }
}
