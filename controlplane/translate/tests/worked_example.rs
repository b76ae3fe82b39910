//! The contract's worked example: a cart that calls a web service in two versions and a database.

mod support;

use ringsail_xds::envoy::config::listener::v3::Listener;
use support::{Seen, mesh, show_address, sidecar};

const SHOP: &str = include_str!("shop.yaml");

fn cart() -> Seen {
    sidecar(&mesh(SHOP), "10.0.0.5", "shop")
}

fn web() -> Seen {
    sidecar(&mesh(SHOP), "10.0.0.11", "shop")
}

fn inspectors(listener: &Listener) -> Vec<&str> {
    listener.listener_filters.iter().filter_map(|filter| filter.name.rsplit('.').next()).collect()
}

#[test]
fn client_has_the_listeners_routes_and_clusters_of_istiod() {
    let cart = cart();
    assert_eq!(
        cart.listener_names(),
        ["0.0.0.0_80", "10.96.1.20_5432", "10.96.1.30_9000", "virtualInbound", "virtualOutbound"]
    );
    assert_eq!(cart.route_names(), ["80", "cart.shop.svc.cluster.local:9000"]);
    assert_eq!(
        cart.cluster_names(),
        [
            "BlackHoleCluster",
            "InboundPassthroughCluster",
            "PassthroughCluster",
            "inbound|9000||",
            "outbound|5432||db.shop.svc.cluster.local",
            "outbound|80|v1|web.shop.svc.cluster.local",
            "outbound|80|v2|web.shop.svc.cluster.local",
            "outbound|80||web.shop.svc.cluster.local",
            "outbound|9000||cart.shop.svc.cluster.local",
        ]
    );
}

#[test]
fn service_listeners_have_no_socket_and_inspect_only_what_they_must() {
    let cart = cart();
    for name in ["0.0.0.0_80", "10.96.1.20_5432", "10.96.1.30_9000"] {
        assert_eq!(cart.listener(name).bind_to_port, Some(false), "{name}");
    }
    assert_eq!(inspectors(cart.listener("0.0.0.0_80")), ["http_inspector"]);
    assert!(inspectors(cart.listener("10.96.1.20_5432")).is_empty());
    assert_eq!(inspectors(cart.listener("10.96.1.30_9000")), ["http_inspector"]);
    let shared = cart.listener("0.0.0.0_80");
    assert_eq!(
        shared.default_filter_chain.as_ref().map(|chain| chain.name.as_str()),
        Some("PassthroughFilterChain")
    );
    let chain = shared.filter_chains[0].filter_chain_match.clone().expect("a match");
    assert_eq!(chain.application_protocols, ["http/1.1", "h2c"]);
    assert_eq!(chain.transport_protocol, "raw_buffer");
}

#[test]
fn virtual_host_of_a_service_has_all_its_names() {
    let cart = cart();
    let web = cart.virtual_host("80", "web.shop.svc.cluster.local:80");
    assert_eq!(
        web.domains,
        [
            "web.shop.svc.cluster.local",
            "web.shop.svc.cluster.local.",
            "web",
            "web.shop.svc",
            "web.shop",
            "10.96.1.10"
        ]
    );
    assert_eq!(cart.routes("cart.shop.svc.cluster.local:9000").virtual_hosts[0].domains, ["*"]);
}

#[test]
fn calls_go_where_the_example_says() {
    let cart = cart();
    let get = |host: &str| format!("GET / HTTP/1.1\nhost: {host}");
    assert_eq!(cart.http("10.96.1.10:80", &get("web")), "outbound|80|v1|web.shop.svc.cluster.local");
    let beta = "GET / HTTP/1.1\nhost: web\nx-beta: 1";
    assert_eq!(cart.http("10.96.1.10:80", beta), "outbound|80|v2|web.shop.svc.cluster.local");
    assert_eq!(cart.http("10.96.1.10:80", &get("unknown.example.com")), "PassthroughCluster");
    assert_eq!(cart.tcp("10.96.1.10:80"), "PassthroughCluster");
    assert_eq!(cart.tcp("10.96.1.20:5432"), "outbound|5432||db.shop.svc.cluster.local");
    assert_eq!(cart.http("10.96.1.30:9000", &get("anything")), "outbound|9000||cart.shop.svc.cluster.local");
    assert_eq!(cart.tcp("10.96.1.30:9000"), "outbound|9000||cart.shop.svc.cluster.local");
    assert_eq!(cart.tcp("8.8.8.8:53"), "PassthroughCluster");
    assert_eq!(cart.tcp("1.2.3.4:15001"), "BlackHoleCluster");
}

#[test]
fn weighted_route_has_a_timeout_and_the_default_retries() {
    use ringsail_xds::envoy::config::route::v3::route::Action;
    use ringsail_xds::envoy::config::route::v3::route_action::ClusterSpecifier;
    let cart = cart();
    let routes = &cart.virtual_host("80", "web.shop.svc.cluster.local:80").routes;
    assert_eq!(routes[0].name, "canary");
    let Some(Action::Route(action)) = &routes[1].action else { panic!("a forwarding route") };
    assert_eq!(action.timeout.map(|timeout| timeout.seconds), Some(2));
    assert_eq!(action.max_grpc_timeout.map(|timeout| timeout.seconds), Some(2));
    assert_eq!(action.retry_policy.as_ref().and_then(|retry| retry.num_retries), Some(2));
    let Some(ClusterSpecifier::WeightedClusters(weighted)) = &action.cluster_specifier else {
        panic!("weights")
    };
    let shares: Vec<_> = weighted.clusters.iter().map(|cluster| cluster.weight).collect();
    assert_eq!(shares, [Some(90), Some(10)]);
    assert_eq!(routes[1].decorator.as_ref().map(|d| d.operation.as_str()), Some("web:80/*"));
}

#[test]
fn destination_rule_limits_the_cluster_and_its_subsets() {
    let cart = cart();
    for name in ["outbound|80||web.shop.svc.cluster.local", "outbound|80|v1|web.shop.svc.cluster.local"] {
        let cluster = cart.cluster(name);
        let limits = &cluster.circuit_breakers.as_ref().expect("limits").thresholds[0];
        assert_eq!((limits.max_pending_requests, limits.max_connections), (Some(50), Some(u32::MAX)));
        let outlier = cluster.outlier_detection.as_ref().expect("outlier detection");
        assert_eq!((outlier.consecutive_5xx, outlier.max_ejection_percent), (Some(3), Some(100)));
        assert_eq!(outlier.enforcing_success_rate, Some(0));
        let panic = cluster.common_lb_config.as_ref().and_then(|common| common.healthy_panic_threshold);
        assert_eq!(panic.map(|percent| percent.value), Some(0.0));
    }
    assert!(cart.cluster("outbound|5432||db.shop.svc.cluster.local").outlier_detection.is_none());
}

#[test]
fn subsets_hold_the_endpoints_with_their_labels() {
    let cart = cart();
    let of = |cluster: &str| cart.endpoints_of(cluster);
    assert_eq!(of("outbound|80||web.shop.svc.cluster.local"), ["10.0.0.11:8080", "10.0.0.12:8080"]);
    assert_eq!(of("outbound|80|v1|web.shop.svc.cluster.local"), ["10.0.0.11:8080"]);
    assert_eq!(of("outbound|80|v2|web.shop.svc.cluster.local"), ["10.0.0.12:8080"]);
    assert_eq!(of("outbound|5432||db.shop.svc.cluster.local"), ["10.0.0.21:5432"]);
    assert_eq!(of("outbound|9000||cart.shop.svc.cluster.local"), ["10.0.0.5:9000"]);
}

#[test]
fn server_takes_requests_for_its_port_and_passes_others_through() {
    let web = web();
    let get = "GET / HTTP/1.1\nhost: web";
    assert_eq!(web.inbound_http(8080, get), "inbound|8080||");
    assert_eq!(web.inbound_http(7777, get), "InboundPassthroughCluster");
    assert_eq!(web.inbound_tcp(7777), "InboundPassthroughCluster");
    assert_eq!(web.inbound_tcp(15006), "BlackHoleCluster");
    assert_eq!(web.inbound_tcp(8080), "protocol error");
    let names: Vec<_> =
        web.listener("virtualInbound").filter_chains.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(
        names,
        ["virtualInbound-blackhole", "virtualInbound-catchall-http", "virtualInbound", "0.0.0.0_8080"]
    );
}

#[test]
fn inbound_cluster_keeps_the_dialled_address_and_its_own_source() {
    let web = web();
    let cluster = web.cluster("inbound|8080||");
    let source = cluster.upstream_bind_config.as_ref().and_then(|bind| bind.source_address.as_ref());
    assert_eq!(source.map(|address| address.address.as_str()), Some("127.0.0.6"));
    let limits = &cluster.circuit_breakers.as_ref().expect("limits").thresholds[0];
    assert_eq!(limits.max_pending_requests, Some(50));
    assert!(cluster.outlier_detection.is_none());
}

#[test]
fn declared_http_port_is_not_inspected_inbound() {
    use ringsail_xds::envoy::config::listener::v3::listener_filter_chain_match_predicate::Rule;
    let web = web();
    let inspector = web.listener("virtualInbound").listener_filters.last().expect("an inspector");
    let Some(Rule::OrMatch(set)) = inspector.filter_disabled.as_ref().and_then(|rule| rule.rule.as_ref())
    else {
        panic!("a list of ports")
    };
    let ports: Vec<_> = set
        .rules
        .iter()
        .filter_map(|rule| match &rule.rule {
            Some(Rule::DestinationPortRange(range)) => Some(range.start),
            _ => None,
        })
        .collect();
    assert_eq!(ports, [15006, 8080]);
    assert_eq!(
        show_address(web.listener("virtualInbound").address.as_ref().expect("an address")),
        "0.0.0.0:15006"
    );
}
