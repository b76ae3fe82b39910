//! Traffic policies of DestinationRules and MeshConfig, as settings of clusters and routes.

mod support;

use ringsail_xds::envoy::config::cluster::v3::Cluster;
use ringsail_xds::envoy::config::cluster::v3::cluster::{LbConfig, LbPolicy};
use ringsail_xds::envoy::config::route::v3::{RouteAction, route, route_action};
use ringsail_xds::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use ringsail_xds::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    UpstreamProtocolOptions, explicit_http_config::ProtocolConfig,
};
use ringsail_xds::unpack;
use support::{Seen, mesh_with, node};

const WEB: &str = "outbound|80||web.shop.svc.cluster.local";

const SERVICES: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  clusterIP: 10.0.0.1
  selector: {app: web}
  ports: [{name: http, port: 80}, {name: tcp, port: 9000}, {name: grpc, port: 7000}, {name: http-b, port: 81}]
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: a, namespace: shop}
spec: {address: 10.1.0.1, labels: {app: web}, locality: eu/a/1}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: b, namespace: shop}
spec: {address: 10.1.0.2, labels: {app: web}, locality: eu/b/1}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: c, namespace: shop}
spec: {address: 10.1.0.3, labels: {app: web, group: near}, locality: us/a/1}
";

fn with(mesh_config: &str, policy: &str) -> Seen {
    let rule = match policy {
        "" => String::new(),
        policy => format!(
            "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: web, namespace: shop}}\n\
             spec: {{host: web, trafficPolicy: {policy}}}\n"
        ),
    };
    let mesh = mesh_with(mesh_config, &format!("{SERVICES}{rule}"));
    let client = node("sidecar", "10.0.0.5", "shop", &["label:istio-locality=eu.a.1", "label:group=near"]);
    Seen::of(&ringsail_translate::translate(&mesh, &client))
}

fn policy(policy: &str) -> Seen {
    with("", policy)
}

fn http_options(cluster: &Cluster) -> HttpProtocolOptions {
    let key = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    unpack(&cluster.typed_extension_protocol_options[key]).expect("HTTP options")
}

fn first_action(seen: &Seen) -> RouteAction {
    match seen.first_route("80", "web").action.clone() {
        Some(route::Action::Route(action)) => action,
        other => panic!("{other:?}"),
    }
}

#[test]
fn balancing_is_by_least_requests_unless_said_otherwise() {
    let of = |simple: &str| {
        let seen = match simple {
            "" => policy(""),
            simple => policy(&format!("{{loadBalancer: {{simple: {simple}}}}}")),
        };
        LbPolicy::try_from(seen.cluster(WEB).lb_policy).expect("known")
    };
    assert_eq!(of(""), LbPolicy::LeastRequest);
    assert_eq!(of("ROUND_ROBIN"), LbPolicy::RoundRobin);
    assert_eq!(of("RANDOM"), LbPolicy::Random);
    assert_eq!(of("PASSTHROUGH"), LbPolicy::ClusterProvided);
}

#[test]
fn consistent_hashing_is_on_the_route_and_the_ring_on_the_cluster() {
    let of = |hash: &str| policy(&format!("{{loadBalancer: {{consistentHash: {hash}}}}}"));
    let header = of("{httpHeaderName: x-user}");
    let Some(LbConfig::RingHashLbConfig(ring)) = &header.cluster(WEB).lb_config else { panic!("no ring") };
    assert_eq!(ring.minimum_ring_size, Some(1024));
    let kind = |seen: &Seen| {
        let hash = first_action(seen).hash_policy.remove(0);
        format!("{:?}", hash.policy_specifier.expect("a key"))
    };
    assert!(kind(&header).contains("x-user"));
    let cookie = kind(&of("{httpCookie: {name: sid, ttl: 60s, path: /a}}"));
    assert!(cookie.contains("sid") && cookie.contains("seconds: 60") && cookie.contains("/a"), "{cookie}");
    assert!(kind(&of("{useSourceIp: true}")).contains("source_ip: true"));
    assert!(kind(&of("{httpQueryParameterName: q}")).contains("QueryParameter"));
    let maglev = of("{httpHeaderName: a, maglev: {tableSize: 101}}");
    assert_eq!(maglev.cluster(WEB).lb_policy, LbPolicy::Maglev as i32);
    assert!(first_action(&maglev).retry_policy.expect("retries").retry_host_predicate.is_empty());
}

#[test]
fn new_endpoints_warm_up() {
    let seen = policy(
        "{loadBalancer: {simple: ROUND_ROBIN, warmup: {duration: 30s, minimumPercent: 20, aggression: 2}}}",
    );
    let Some(LbConfig::RoundRobinLbConfig(config)) = &seen.cluster(WEB).lb_config else {
        panic!("no config")
    };
    let slow = config.slow_start_config.as_ref().expect("a slow start");
    assert_eq!(slow.slow_start_window.map(|time| time.seconds), Some(30));
    assert_eq!(slow.min_weight_percent.map(|share| share.value), Some(20.0));
    assert_eq!(slow.aggression.as_ref().map(|value| value.default_value), Some(2.0));
}

#[test]
fn pools_limit_connections_requests_and_retries() {
    let seen = policy(
        "{connectionPool: {tcp: {maxConnections: 1, connectTimeout: 2s, idleTimeout: 9s, maxConnectionDuration: 8s,
           tcpKeepalive: {probes: 3, time: 4s, interval: 5s}},
          http: {http1MaxPendingRequests: 2, http2MaxRequests: 3, maxRetries: 4, maxRequestsPerConnection: 5, idleTimeout: 6s}}}",
    );
    let cluster = seen.cluster(WEB);
    let limits = &cluster.circuit_breakers.as_ref().expect("limits").thresholds[0];
    let of = [limits.max_connections, limits.max_pending_requests, limits.max_requests, limits.max_retries];
    assert_eq!(of, [Some(1), Some(2), Some(3), Some(4)]);
    assert_eq!(cluster.connect_timeout.map(|time| time.seconds), Some(2));
    let keep = cluster.upstream_connection_options.as_ref().and_then(|options| options.tcp_keepalive);
    let keep = keep.expect("keep-alive");
    assert_eq!(
        [keep.keepalive_probes, keep.keepalive_time, keep.keepalive_interval],
        [Some(3), Some(4), Some(5)]
    );
    let common = http_options(cluster).common_http_protocol_options.expect("options");
    assert_eq!(common.max_requests_per_connection, Some(5));
    assert_eq!(common.idle_timeout.map(|time| time.seconds), Some(6));
    assert_eq!(common.max_connection_duration.map(|time| time.seconds), Some(8));
    let free = policy("");
    let free = free.cluster(WEB).circuit_breakers.as_ref().expect("limits").thresholds[0];
    assert_eq!([free.max_connections, free.max_retries], [Some(u32::MAX), Some(u32::MAX)]);
}

#[test]
fn a_retry_budget_limits_the_share_of_retries() {
    let of = |budget: &str| {
        let seen = policy(&format!("{{retryBudget: {budget}}}"));
        let limits = seen.cluster(WEB).circuit_breakers.clone().expect("limits").thresholds.remove(0);
        let budget = limits.retry_budget.expect("a budget");
        (budget.budget_percent.map(|share| share.value), budget.min_retry_concurrency)
    };
    assert_eq!(of("{}"), (Some(20.0), Some(3)));
    assert_eq!(of("{percent: 5, minRetryConcurrency: 7}"), (Some(5.0), Some(7)));
}

#[test]
fn failing_endpoints_are_ejected_by_the_rules_that_are_set() {
    let seen = policy(
        "{outlierDetection: {consecutive5xxErrors: 7, consecutiveGatewayErrors: 0, interval: 5s, baseEjectionTime: 6s,
          maxEjectionPercent: 50, minHealthPercent: 30, splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 2}}",
    );
    let cluster = seen.cluster(WEB);
    let outlier = cluster.outlier_detection.as_ref().expect("detection");
    assert_eq!((outlier.consecutive_5xx, outlier.enforcing_consecutive_5xx), (Some(7), Some(100)));
    assert_eq!(outlier.enforcing_consecutive_gateway_failure, Some(0));
    assert_eq!(outlier.consecutive_local_origin_failure, Some(2));
    assert!(outlier.split_external_local_origin_errors);
    assert_eq!((outlier.max_ejection_percent, outlier.enforcing_success_rate), (Some(50), Some(0)));
    let panic = cluster.common_lb_config.as_ref().and_then(|common| common.healthy_panic_threshold);
    assert_eq!(panic.map(|share| share.value), Some(30.0));
    assert!(policy("").cluster(WEB).outlier_detection.is_none());
}

#[test]
fn port_settings_replace_every_block_for_their_port() {
    let seen = policy(
        "{loadBalancer: {simple: RANDOM}, connectionPool: {tcp: {maxConnections: 1}},
          portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: ROUND_ROBIN}}]}",
    );
    let limit = |name: &str| {
        seen.cluster(name).circuit_breakers.as_ref().expect("limits").thresholds[0].max_connections
    };
    assert_eq!(seen.cluster(WEB).lb_policy, LbPolicy::RoundRobin as i32);
    assert_eq!(limit(WEB), Some(u32::MAX));
    let other = "outbound|81||web.shop.svc.cluster.local";
    assert_eq!((seen.cluster(other).lb_policy, limit(other)), (LbPolicy::Random as i32, Some(1)));
}

#[test]
fn upstreams_are_spoken_to_as_declared_upgraded_or_as_the_client_does() {
    let version = |seen: &Seen, cluster: &str| {
        let cluster = seen.cluster(cluster);
        if cluster.typed_extension_protocol_options.is_empty() {
            return "1".to_owned();
        }
        match http_options(cluster).upstream_protocol_options {
            Some(UpstreamProtocolOptions::ExplicitHttpConfig(config)) => match config.protocol_config {
                Some(ProtocolConfig::Http2ProtocolOptions(options)) => {
                    format!("2 {:?}", options.max_concurrent_streams.unwrap_or(0))
                }
                _ => "1".to_owned(),
            },
            Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(_)) => "client's".to_owned(),
            _ => "other".to_owned(),
        }
    };
    let grpc = "outbound|7000||web.shop.svc.cluster.local";
    let tcp = "outbound|9000||web.shop.svc.cluster.local";
    let plain = policy("");
    assert_eq!([version(&plain, WEB), version(&plain, grpc)], ["1", "2 0"]);
    let up = policy("{connectionPool: {http: {h2UpgradePolicy: UPGRADE, maxConcurrentStreams: 9}}}");
    assert_eq!([version(&up, WEB), version(&up, tcp)], ["2 9", "1"]);
    let mesh = with("h2UpgradePolicy: UPGRADE\n", "");
    assert_eq!(version(&mesh, WEB), "2 0");
    let not =
        with("h2UpgradePolicy: UPGRADE\n", "{connectionPool: {http: {h2UpgradePolicy: DO_NOT_UPGRADE}}}");
    assert_eq!(version(&not, WEB), "1");
    assert_eq!(version(&policy("{connectionPool: {http: {useClientProtocol: true}}}"), WEB), "client's");
}

#[test]
fn localities_fail_over_by_nearness_labels_or_share() {
    let outlier = "outlierDetection: {consecutive5xxErrors: 1}";
    let endpoints = |setting: &str| {
        policy(&format!("{{{outlier}, loadBalancer: {{localityLbSetting: {setting}}}}}")).endpoints_of(WEB)
    };
    assert_eq!(endpoints("{enabled: true}"), ["10.1.0.1:80", "10.1.0.2:80 P1", "10.1.0.3:80 P2"]);
    assert_eq!(endpoints("{enabled: false}"), ["10.1.0.1:80", "10.1.0.2:80", "10.1.0.3:80"]);
    assert_eq!(endpoints("{failoverPriority: [group]}"), ["10.1.0.3:80", "10.1.0.1:80 P1", "10.1.0.2:80 P1"]);
    let shares = policy(
        "{loadBalancer: {localityLbSetting: {distribute: [{from: 'eu/*', to: {'eu/a/*': 80, 'eu/b/*': 20}}]}}}",
    );
    assert_eq!(shares.endpoints_of(WEB), ["10.1.0.1:80", "10.1.0.2:80"]);
    let assignment = shares.endpoints.iter().find(|found| found.cluster_name == WEB).expect("endpoints");
    let weights: Vec<_> = assignment.endpoints.iter().map(|group| group.load_balancing_weight).collect();
    assert_eq!(weights, [Some(80), Some(20)]);
    let far = policy(&format!(
        "{{{outlier}, loadBalancer: {{localityLbSetting: {{failover: [{{from: eu, to: ap}}]}}}}}}"
    ));
    assert_eq!(far.endpoints_of(WEB), ["10.1.0.1:80", "10.1.0.2:80 P1", "10.1.0.3:80 P2"]);
}

fn routed(mesh_config: &str, http: &str) -> Seen {
    let yaml = format!(
        "{SERVICES}---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: web, namespace: shop}}\n\
         spec: {{hosts: [web], http: [{http}]}}\n"
    );
    let client = node("sidecar", "10.0.0.5", "shop", &[]);
    Seen::of(&ringsail_translate::translate(&mesh_with(mesh_config, &yaml), &client))
}

#[test]
fn retries_have_every_setting_of_the_api() {
    let seen = routed(
        "",
        "{route: [{destination: {host: web}}], timeout: 3s, retries: {attempts: 4, perTryTimeout: 1s, backoff: 2s,
          retryOn: 'gateway-error,503', retryRemoteLocalities: true, retryIgnorePreviousHosts: false}}",
    );
    let action = first_action(&seen);
    assert_eq!(action.timeout.map(|time| time.seconds), Some(3));
    assert_eq!(action.max_grpc_timeout.map(|time| time.seconds), Some(3));
    let retries = action.retry_policy.expect("retries");
    assert_eq!(retries.num_retries, Some(4));
    assert_eq!(retries.per_try_timeout.map(|time| time.seconds), Some(1));
    assert_eq!(
        (retries.retry_on.as_str(), &retries.retriable_status_codes[..]),
        ("gateway-error,retriable-status-codes", &[503][..])
    );
    let pause = retries.retry_back_off.and_then(|pause| pause.base_interval);
    assert_eq!(pause.map(|time| time.seconds), Some(2));
    assert!(retries.retry_priority.is_some() && retries.retry_host_predicate.is_empty());
    let defaults = routed("defaultHttpRetryPolicy: {attempts: 0}\n", "{route: [{destination: {host: web}}]}");
    assert!(first_action(&defaults).retry_policy.is_none());
}

#[test]
fn weights_are_shares_and_zero_is_none_of_several() {
    let split = "{route: [{destination: {host: web}, weight: 1}, {destination: {host: web, port: {number: 81}}, weight: 3},
        {destination: {host: web, port: {number: 7000}}, weight: 0}]}";
    let Some(route_action::ClusterSpecifier::WeightedClusters(weighted)) =
        first_action(&routed("", split)).cluster_specifier
    else {
        panic!("no weights")
    };
    let shares: Vec<_> = weighted.clusters.iter().map(|cluster| cluster.weight).collect();
    assert_eq!(shares, [Some(1), Some(3)]);
    let single = "{route: [{destination: {host: web}, weight: 0}]}";
    assert!(matches!(
        first_action(&routed("", single)).cluster_specifier,
        Some(route_action::ClusterSpecifier::Cluster(name)) if name == WEB
    ));
}

#[test]
fn headers_of_a_single_destination_follow_those_of_the_route() {
    let seen = routed(
        "",
        "{headers: {request: {add: {b: route}, set: {a: route}}, response: {remove: [x]}},
          route: [{destination: {host: web}, headers: {request: {set: {d: dest, host: other}}}}]}",
    );
    let route = seen.first_route("80", "web");
    let added: Vec<_> = route
        .request_headers_to_add
        .iter()
        .map(|option| option.header.as_ref().expect("a header").key.as_str())
        .collect();
    assert_eq!(added, ["a", "b", "d"]);
    assert_eq!(route.response_headers_to_remove, ["x"]);
    assert!(format!("{:?}", first_action(&seen).host_rewrite_specifier).contains("other"));
}

#[test]
fn several_mirrors_have_each_its_share() {
    let seen = routed(
        "",
        "{route: [{destination: {host: web}}], mirrors: [{destination: {host: web, port: {number: 81}}, percentage: {value: 12.5}},
          {destination: {host: web, port: {number: 7000}}}, {destination: {host: web}, percentage: {value: 0}}]}",
    );
    let shares: Vec<_> = first_action(&seen)
        .request_mirror_policies
        .into_iter()
        .map(|mirror| {
            mirror.runtime_fraction.and_then(|share| share.default_value).expect("a share").numerator
        })
        .collect();
    assert_eq!(shares, [125_000, 1_000_000]);
}

#[test]
fn websockets_are_upgraded_and_http_1_0_is_raw_bytes_to_a_client() {
    use ringsail_xds::envoy::config::listener::v3::filter::ConfigType;
    use ringsail_xds::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
    let of = |metadata: &[&str]| {
        let mesh = mesh_with("", SERVICES);
        let seen =
            Seen::of(&ringsail_translate::translate(&mesh, &node("sidecar", "10.0.0.5", "shop", metadata)));
        let chain = seen.listener("0.0.0.0_80").filter_chains[0].clone();
        let Some(ConfigType::TypedConfig(any)) = &chain.filters[0].config_type else { panic!("no config") };
        let manager: HttpConnectionManager = unpack(any).expect("a connection manager");
        let alpn = chain.filter_chain_match.expect("a match").application_protocols;
        (alpn, manager.http_protocol_options.as_ref().is_some_and(|options| options.accept_http_10), manager)
    };
    let (alpn, accepts, manager) = of(&[]);
    assert_eq!((alpn, accepts), (vec!["http/1.1".to_owned(), "h2c".to_owned()], false));
    assert_eq!(manager.upgrade_configs[0].upgrade_type, "websocket");
    let (alpn, accepts, _) = of(&["HTTP10=1"]);
    assert!(accepts && alpn.contains(&"http/1.0".to_owned()));
}

#[test]
fn requests_to_the_workload_are_retried_as_the_mesh_says() {
    let retries = |mesh_config: &str| {
        use ringsail_xds::envoy::config::listener::v3::filter::ConfigType;
        use ringsail_xds::envoy::extensions::filters::network::http_connection_manager::v3::{
            HttpConnectionManager, http_connection_manager::RouteSpecifier,
        };
        let seen = Seen::of(&ringsail_translate::translate(
            &mesh_with(mesh_config, SERVICES),
            &node("sidecar", "10.1.0.1", "shop", &[]),
        ));
        let filters = seen.listener("virtualInbound").filter_chains.iter().flat_map(|chain| &chain.filters);
        let routes = filters.filter_map(|filter| match &filter.config_type {
            Some(ConfigType::TypedConfig(any)) => unpack::<HttpConnectionManager>(any).ok()?.route_specifier,
            _ => None,
        });
        let all = routes.filter_map(|found| match found {
            RouteSpecifier::RouteConfig(routes) if routes.name == "inbound|80||" => Some(routes),
            _ => None,
        });
        let first = all.collect::<Vec<_>>().remove(0).virtual_hosts.remove(0).routes.remove(0);
        let Some(route::Action::Route(action)) = first.action else { panic!("no route") };
        action.retry_policy.map(|policy| (policy.num_retries, policy.retry_on))
    };
    assert_eq!(retries(""), Some((Some(2), "reset-before-request".to_owned())));
    assert_eq!(retries("defaultInboundHttpRetryPolicy: {attempts: 0}\n"), None);
    let own = "defaultInboundHttpRetryPolicy: {attempts: 5, retryOn: connect-failure}\n";
    assert_eq!(retries(own), Some((Some(5), "connect-failure".to_owned())));
}

#[test]
fn grpc_web_is_translated_where_a_port_says_so() {
    use ringsail_xds::envoy::config::listener::v3::filter::ConfigType;
    use ringsail_xds::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
    let services = SERVICES.replace("{name: http-b, port: 81}", "{name: grpc-web, port: 81}");
    let mesh = mesh_with("", &services);
    let translates = |ip: &str, listener: &str| {
        let seen = Seen::of(&ringsail_translate::translate(&mesh, &node("sidecar", ip, "shop", &[])));
        let filters = seen.listener(listener).filter_chains.iter().flat_map(|chain| &chain.filters);
        let managers = filters.filter_map(|filter| match &filter.config_type {
            Some(ConfigType::TypedConfig(any)) => unpack::<HttpConnectionManager>(any).ok(),
            _ => None,
        });
        let is_first =
            |manager: HttpConnectionManager| manager.http_filters[0].name == "envoy.filters.http.grpc_web";
        managers.map(is_first).filter(|is_first| *is_first).count()
    };
    assert_eq!(translates("10.0.0.5", "0.0.0.0_81"), 1);
    assert_eq!(translates("10.0.0.5", "0.0.0.0_80"), 0);
    assert_eq!(translates("10.1.0.1", "virtualInbound"), 1);
}
