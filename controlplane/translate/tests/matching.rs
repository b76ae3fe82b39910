//! Which requests and connections a VirtualService means: every kind of match of its HTTP, TLS and TCP rules.

mod support;

use ringsail_xds::envoy::config::listener::v3::FilterChain;
use ringsail_xds::envoy::config::listener::v3::filter::ConfigType;
use ringsail_xds::envoy::extensions::filters::network::tcp_proxy::v3::{
    TcpProxy, tcp_proxy::ClusterSpecifier,
};
use ringsail_xds::unpack;
use support::{Seen, mesh, node, sidecar};

const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}, {name: tcp, port: 9000}, {name: tls, port: 443}]}
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: shop}
spec: {clusterIP: 10.96.0.2, ports: [{name: http, port: 80}, {name: tcp, port: 9000}, {name: tls, port: 443}]}
";

const WEB: &str = "outbound|80||web.shop.svc.cluster.local";
const API: &str = "outbound|80||api.shop.svc.cluster.local";

fn with(spec: &str) -> Seen {
    let yaml = format!(
        "{SERVICES}---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: web, namespace: shop}}\n\
         spec: {{hosts: [web], {spec}}}\n"
    );
    sidecar(&mesh(&yaml), "10.0.0.5", "shop")
}

/// Sends what matches to `api`.
fn http(found: &str) -> Seen {
    with(&format!(
        "http: [{{match: [{found}], route: [{{destination: {{host: api}}}}]}}, {{route: [{{destination: {{host: web}}}}]}}]"
    ))
}

fn ask(seen: &Seen, method: &str, target: &str, host: &str) -> String {
    seen.http("10.96.0.1:80", &format!("{method} {target} HTTP/1.1\nhost: {host}\n"))
}

#[test]
fn a_prefix_is_text_and_case_counts_unless_said_otherwise() {
    let seen = http("{uri: {prefix: /foo}}");
    assert_eq!(ask(&seen, "GET", "/foobar", "web"), API);
    assert_eq!(ask(&seen, "GET", "/FOO", "web"), WEB);
    let any_case = http("{uri: {prefix: /foo}, ignoreUriCase: true}");
    assert_eq!(ask(&any_case, "GET", "/FOO/bar", "web"), API);
    let exact = http("{uri: {exact: /foo}, ignoreUriCase: true}");
    assert_eq!([ask(&exact, "GET", "/Foo", "web"), ask(&exact, "GET", "/foo/", "web")], [API, WEB]);
}

#[test]
fn method_scheme_and_authority_are_tested() {
    let post = http("{method: {regex: 'P.*'}}");
    assert_eq!([ask(&post, "POST", "/", "web"), ask(&post, "GET", "/", "web")], [API, WEB]);
    let short = http("{authority: {exact: web}}");
    assert_eq!([ask(&short, "GET", "/", "web"), ask(&short, "GET", "/", "web.shop")], [API, WEB]);
    let secure = http("{scheme: {exact: https}}");
    assert_eq!(ask(&secure, "GET", "/", "web"), WEB);
}

#[test]
fn queries_are_tested_by_value_pattern_and_presence() {
    let seen = http("{queryParams: {a: {exact: '1'}, b: {regex: '[0-9]+'}, c: {}}}");
    assert_eq!(ask(&seen, "GET", "/?a=1&b=22&c=", "web"), API);
    assert_eq!(ask(&seen, "GET", "/?a=1&b=x&c=", "web"), WEB);
    assert_eq!(ask(&seen, "GET", "/?a=1&b=22", "web"), WEB);
}

#[test]
fn source_labels_and_namespace_choose_clients() {
    let yaml = |found: &str| {
        format!(
            "{SERVICES}---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n\
             metadata: {{name: web, namespace: shop}}\nspec: {{hosts: [web], http: [\
             {{match: [{found}], route: [{{destination: {{host: api}}}}]}}, {{route: [{{destination: {{host: web}}}}]}}]}}\n"
        )
    };
    let of = |found: &str, namespace: &str, label: &str| {
        let client = node("sidecar", "10.0.0.5", namespace, &[label]);
        let seen = Seen::of(&ringsail_translate::translate(&mesh(&yaml(found)), &client));
        ask(&seen, "GET", "/", "web.shop")
    };
    assert_eq!(of("{sourceNamespace: cart}", "cart", "label:app=a"), API);
    assert_eq!(of("{sourceNamespace: cart}", "other", "label:app=a"), WEB);
    assert_eq!(of("{sourceLabels: {app: a}}", "cart", "label:app=a"), API);
    assert_eq!(of("{sourceLabels: {app: a}}", "cart", "label:app=b"), WEB);
}

/// What each chain tests, and the cluster it carries to; the fall-back comes last.
fn chains(seen: &Seen, listener: &str) -> Vec<String> {
    let listener = seen.listener(listener);
    let show = |chain: &FilterChain| {
        let tests = chain.filter_chain_match.clone().unwrap_or_default();
        let blocks = tests
            .prefix_ranges
            .iter()
            .map(|block| format!("{}/{}", block.address_prefix, block.prefix_len.unwrap_or_default()));
        let mut words: Vec<String> = tests.server_names.into_iter().chain(blocks).collect();
        let Some(ConfigType::TypedConfig(any)) = &chain.filters.last().expect("a filter").config_type else {
            panic!("no config")
        };
        words.push(match unpack::<TcpProxy>(any).expect("a TCP proxy").cluster_specifier {
            Some(ClusterSpecifier::Cluster(name)) => name,
            other => panic!("{other:?}"),
        });
        words.join(" ")
    };
    listener.filter_chains.iter().chain(&listener.default_filter_chain).map(show).collect()
}

#[test]
fn tls_is_told_by_server_name_subnet_and_port() {
    let seen = with(
        "tls: [{match: [{sniHosts: [web], port: 443}], route: [{destination: {host: api, port: {number: 443}}}]},
               {match: [{sniHosts: [web], destinationSubnets: [10.1.0.0/16]}], route: [{destination: {host: web, port: {number: 443}}}]},
               {match: [{sniHosts: [web], port: 444}], route: [{destination: {host: web, port: {number: 443}}}]}]",
    );
    let found: Vec<String> =
        chains(&seen, "10.96.0.1_443").into_iter().filter(|chain| chain.starts_with("web ")).collect();
    let api = "outbound|443||api.shop.svc.cluster.local";
    let web = "outbound|443||web.shop.svc.cluster.local";
    assert_eq!(found, [format!("web {api}"), format!("web 10.1.0.0/16 {web}")]);
}

#[test]
fn tcp_is_told_by_subnet_and_port() {
    let api = "outbound|9000||api.shop.svc.cluster.local";
    let web = "outbound|9000||web.shop.svc.cluster.local";
    let by_port = |port: u32| {
        with(&format!(
            "tcp: [{{match: [{{port: {port}}}], route: [{{destination: {{host: api, port: {{number: 9000}}}}}}]}}]"
        ))
    };
    assert_eq!(by_port(9000).tcp("10.96.0.1:9000"), api);
    assert_eq!(by_port(9001).tcp("10.96.0.1:9000"), web);
    let seen = with(
        "tcp: [{match: [{destinationSubnets: [10.2.0.0/16]}], route: [{destination: {host: api, port: {number: 9000}}}]}]",
    );
    assert_eq!(chains(&seen, "10.96.0.1_9000"), [format!("10.2.0.0/16 {api}"), web.to_owned()]);
}
