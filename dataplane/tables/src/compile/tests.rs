use ringsail_xds::envoy::config::cluster::v3::Cluster as WireCluster;
use ringsail_xds::envoy::config::endpoint::v3::ClusterLoadAssignment;
use ringsail_xds::envoy::config::listener::v3::Listener as WireListener;
use ringsail_xds::envoy::config::route::v3::RouteConfiguration;
use ringsail_xds::envoy::extensions::transport_sockets::tls::v3::Secret as WireSecret;
use ringsail_xds::json::Schema;
use serde_json::{Value, json};

use super::*;
use crate::cluster::UpstreamProtocol;
use crate::diagnostic::Severity;
use crate::ids::{ClusterId, EndpointId};

/// A resource in proto JSON as a change.
pub(super) fn put(kind: ResourceType, resource: Value) -> Change {
    let schema = Schema::shared();
    let bytes = match kind {
        ResourceType::Listener => schema.from_json::<WireListener>(&resource).unwrap().encode_to_vec(),
        ResourceType::RouteConfiguration => {
            schema.from_json::<RouteConfiguration>(&resource).unwrap().encode_to_vec()
        }
        ResourceType::Cluster => schema.from_json::<WireCluster>(&resource).unwrap().encode_to_vec(),
        ResourceType::ClusterLoadAssignment => {
            schema.from_json::<ClusterLoadAssignment>(&resource).unwrap().encode_to_vec()
        }
        ResourceType::Secret => schema.from_json::<WireSecret>(&resource).unwrap().encode_to_vec(),
    };
    let name = resource.get("name").or(resource.get("cluster_name")).unwrap().as_str().unwrap();
    Change::Put { kind, name: name.to_owned(), resource: bytes.into() }
}

fn remove(kind: ResourceType, name: &str) -> Change {
    Change::Remove { kind, name: name.to_owned() }
}

fn cluster(name: &str, more: Value) -> Change {
    let mut resource =
        json!({"name": name, "type": "EDS", "eds_cluster_config": {"eds_config": {"ads": {}}}});
    resource.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    put(ResourceType::Cluster, resource)
}

fn endpoints(name: &str, ports: &[u16]) -> Change {
    let hosts: Vec<Value> = ports
        .iter()
        .map(|port| json!({"endpoint": {"address": {"socket_address": {"address": "10.0.0.1", "port_value": port}}}}))
        .collect();
    put(
        ResourceType::ClusterLoadAssignment,
        json!({"cluster_name": name, "endpoints": [{"lb_endpoints": hosts}]}),
    )
}

fn routes(name: &str, cluster: &str) -> Change {
    put(
        ResourceType::RouteConfiguration,
        json!({"name": name, "virtual_hosts": [{"name": "all", "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": cluster}}]}]}),
    )
}

const HCM: &str =
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
const TCP_PROXY: &str = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";

fn http_listener(name: &str, port: u16, hcm: Value) -> Change {
    let mut manager = json!({"@type": HCM, "stat_prefix": "test",
        "http_filters": [{"name": "router", "typed_config": {"@type": ROUTER}}]});
    manager.as_object_mut().unwrap().extend(hcm.as_object().unwrap().clone());
    put(
        ResourceType::Listener,
        json!({"name": name, "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
            "filter_chains": [{"filters": [{"name": "hcm", "typed_config": manager}]}]}),
    )
}

fn rds_listener(name: &str, port: u16, routes: &str) -> Change {
    http_listener(name, port, json!({"rds": {"config_source": {"ads": {}}, "route_config_name": routes}}))
}

fn tcp_listener(name: &str, address: &str, port: u16, more: Value) -> Change {
    let mut resource = json!({"name": name,
        "address": {"socket_address": {"address": address, "port_value": port}},
        "filter_chains": [{"filters": [{"name": "tcp",
            "typed_config": {"@type": TCP_PROXY, "stat_prefix": "t", "cluster": "a"}}]}]});
    resource.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    put(ResourceType::Listener, resource)
}

/// Applies changes that must all be accepted without a remark.
fn accept(compiler: &mut Compiler, changes: impl IntoIterator<Item = Change>) -> Arc<Tables> {
    let (tables, diagnostics) = compiler.apply(changes);
    assert_eq!(diagnostics, []);
    tables
}

/// Applies a change that must be refused, and gives "field: text".
fn refuse(compiler: &mut Compiler, change: Change) -> String {
    let (_, diagnostics) = compiler.apply([change]);
    let refused: Vec<_> = diagnostics.iter().filter(|found| found.severity == Severity::Refused).collect();
    assert_eq!(refused.len(), 1, "{diagnostics:?}");
    format!("{}: {}", refused[0].field, refused[0].text)
}

fn id_of(tables: &Tables, name: &str) -> ClusterId {
    tables.cluster_named(name).unwrap().id
}

fn endpoint_ids(tables: &Tables, name: &str) -> Vec<(u16, EndpointId)> {
    let cluster = tables.cluster_named(name).unwrap();
    let ids = cluster.endpoints.iter().map(|(_, _, e)| (e.address.socket().unwrap().port(), e.id));
    ids.collect()
}

#[test]
fn a_cluster_is_warming_until_its_endpoints_arrive() {
    let mut compiler = Compiler::new();
    let tables = accept(&mut compiler, [cluster("a", json!({}))]);
    assert!(tables.cluster_named("a").is_none());
    assert_eq!(compiler.wanted().load_assignments, ["a"]);
    assert_eq!(compiler.warming().len(), 1);
    let tables = accept(&mut compiler, [endpoints("a", &[80])]);
    assert_eq!(tables.cluster_named("a").unwrap().endpoints.len(), 1);
    assert_eq!(compiler.warming(), []);
}

#[test]
fn a_listener_is_warming_until_its_routes_arrive() {
    let mut compiler = Compiler::new();
    let tables = accept(&mut compiler, [rds_listener("l", 80, "r")]);
    assert_eq!(tables.listeners().count(), 0);
    assert_eq!(compiler.wanted().route_configs, ["r"]);
    let tables = accept(&mut compiler, [routes("r", "a")]);
    let crate::filter_chain::Terminal::Http(hcm) =
        &tables.listener_named("l").unwrap().filter_chains[0].terminal
    else {
        panic!("not HTTP")
    };
    assert_eq!(tables.route_config(hcm.routes).unwrap().name, "r");
}

#[test]
fn the_previous_version_serves_while_the_next_is_warming() {
    let mut compiler = Compiler::new();
    accept(&mut compiler, [rds_listener("l", 80, "r"), routes("r", "a")]);
    let tables = accept(&mut compiler, [rds_listener("l", 81, "other")]);
    let address = tables.listener_named("l").unwrap().addresses[0].socket().unwrap();
    assert_eq!(address.port(), 80);
    assert!(tables.listener_at(address).is_some());
    let tables = accept(&mut compiler, [routes("other", "a")]);
    assert_eq!(tables.listener_named("l").unwrap().addresses[0].socket().unwrap().port(), 81);
    assert!(tables.listener_at(address).is_none());
}

#[test]
fn giving_up_lets_what_waits_serve_with_nothing() {
    let mut compiler = Compiler::new();
    let give_up = |kind, name: &str| Change::GiveUp { kind, name: name.to_owned() };
    let tables = accept(
        &mut compiler,
        [
            cluster("a", json!({})),
            rds_listener("l", 80, "r"),
            give_up(ResourceType::ClusterLoadAssignment, "a"),
            give_up(ResourceType::RouteConfiguration, "r"),
        ],
    );
    assert!(tables.cluster_named("a").unwrap().endpoints.is_empty());
    assert!(tables.listener_named("l").is_some());
}

#[test]
fn ids_survive_an_endpoint_update() {
    let mut compiler = Compiler::new();
    let first = accept(&mut compiler, [cluster("a", json!({})), endpoints("a", &[1, 2, 3])]);
    let second = accept(&mut compiler, [endpoints("a", &[4, 3, 1])]);
    assert_eq!(id_of(&first, "a"), id_of(&second, "a"));
    let before = endpoint_ids(&first, "a");
    let after = endpoint_ids(&second, "a");
    let id = |ids: &[(u16, EndpointId)], port| ids.iter().find(|(p, _)| *p == port).unwrap().1;
    assert_eq!(id(&before, 1), id(&after, 1));
    assert_eq!(id(&before, 3), id(&after, 3));
    assert!(before.iter().all(|(_, old)| *old != id(&after, 4)));
}

#[test]
fn a_cluster_gets_another_generation_when_its_connections_change() {
    let mut compiler = Compiler::new();
    let first = accept(&mut compiler, [cluster("a", json!({})), endpoints("a", &[1])]);
    let balanced = accept(&mut compiler, [cluster("a", json!({"lb_policy": "RANDOM"}))]);
    assert_eq!(id_of(&first, "a"), id_of(&balanced, "a"));
    let slower = accept(&mut compiler, [cluster("a", json!({"connect_timeout": "9s"}))]);
    assert_eq!(id_of(&first, "a").slot, id_of(&slower, "a").slot);
    assert!(slower.cluster(id_of(&first, "a")).is_none());
}

#[test]
fn a_cluster_that_comes_back_is_not_mistaken_for_the_old_one() {
    let mut compiler = Compiler::new();
    let make = || [cluster("a", json!({})), endpoints("a", &[1]), routes("r", "a")];
    let first = accept(&mut compiler, make());
    let gone = accept(&mut compiler, [remove(ResourceType::Cluster, "a")]);
    assert!(gone.cluster(id_of(&first, "a")).is_none());
    let again = accept(&mut compiler, make());
    assert_ne!(id_of(&first, "a"), id_of(&again, "a"));
}

#[test]
fn removed_inputs_serve_on_while_something_uses_them() {
    let mut compiler = Compiler::new();
    accept(
        &mut compiler,
        [cluster("a", json!({})), endpoints("a", &[1]), rds_listener("l", 80, "r"), routes("r", "a")],
    );
    let tables = accept(
        &mut compiler,
        [remove(ResourceType::ClusterLoadAssignment, "a"), remove(ResourceType::RouteConfiguration, "r")],
    );
    assert_eq!(tables.cluster_named("a").unwrap().endpoints.len(), 1);
    assert_eq!(tables.route_configs().count(), 1);
    let tables =
        accept(&mut compiler, [remove(ResourceType::Cluster, "a"), remove(ResourceType::Listener, "l")]);
    assert_eq!(tables.route_configs().count(), 0);
    let tables = accept(&mut compiler, [cluster("a", json!({})), rds_listener("l", 80, "r")]);
    assert!(tables.cluster_named("a").is_none() && tables.listener_named("l").is_none());
}

#[test]
fn dns_results_become_endpoints() {
    let mut compiler = Compiler::new();
    let dns = |kind: &str| {
        put(
            ResourceType::Cluster,
            json!({"name": "a", "type": kind, "dns_lookup_family": "V4_ONLY", "load_assignment": {
                "cluster_name": "a", "endpoints": [{"lb_endpoints": [{"endpoint": {"address":
                {"socket_address": {"address": "db.example", "port_value": 5432}}}}]}]}}),
        )
    };
    accept(&mut compiler, [dns("STRICT_DNS")]);
    let crate::WantedName { query, settings, .. } = compiler.wanted().names[0].clone();
    assert_eq!((query.host.as_str(), settings.family), ("db.example", DnsFamily::V4Only));
    let addresses = vec!["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
    let resolved = Change::Resolved { query, addresses };
    let tables = accept(&mut compiler, [resolved.clone()]);
    let strict = tables.cluster_named("a").unwrap();
    assert_eq!(strict.endpoints.len(), 2);
    assert_eq!(strict.endpoints.iter().next().unwrap().2.hostname.as_deref(), Some("db.example"));
    let tables = accept(&mut compiler, [dns("LOGICAL_DNS")]);
    assert_eq!(tables.cluster_named("a").unwrap().endpoints.len(), 1);
}

#[test]
fn the_last_good_version_of_a_refused_resource_stays() {
    let mut compiler = Compiler::new();
    accept(&mut compiler, [routes("r", "a")]);
    let bad = put(
        ResourceType::RouteConfiguration,
        json!({"name": "r", "virtual_hosts": [
            {"name": "a", "domains": ["a"]}, {"name": "b", "domains": ["b"]},
            {"name": "c", "domains": ["c"], "routes": [{"match": {"prefix": "/"},
                "route": {"cluster": "a", "hedge_policy": {}}}]}]}),
    );
    assert_eq!(
        refuse(&mut compiler, bad),
        "virtual_hosts[2].routes[0].route.hedge_policy: hedging is not supported"
    );
    let config = compiler.tables().route_configs().next().unwrap().clone();
    assert_eq!(config.virtual_hosts[0].name, "all");
}

#[test]
fn nothing_visible_changes_without_a_change() {
    let mut compiler = Compiler::new();
    let first = accept(&mut compiler, [routes("r", "a"), cluster("a", json!({})), endpoints("a", &[1])]);
    let again = accept(&mut compiler, [routes("r", "a"), cluster("a", json!({})), endpoints("a", &[1])]);
    assert!(Arc::ptr_eq(&first, &again));
}

#[test]
fn unchanged_parts_are_shared_between_versions() {
    let mut compiler = Compiler::new();
    let first = accept(&mut compiler, [routes("r", "a"), cluster("a", json!({})), endpoints("a", &[1])]);
    let second = accept(&mut compiler, [endpoints("a", &[2])]);
    let config = |tables: &Tables| tables.route_configs().next().unwrap().clone();
    assert!(Arc::ptr_eq(&config(&first), &config(&second)));
    let settings = |tables: &Tables| tables.cluster_named("a").unwrap().cluster.clone();
    assert!(Arc::ptr_eq(&settings(&first), &settings(&second)));
}

#[test]
fn access_rules_that_are_not_understood_refuse_the_listener() {
    let mut compiler = Compiler::new();
    let rbac = |rules: Value| {
        let rbac = json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC", "rules": rules});
        http_listener(
            "l",
            80,
            json!({"route_config": {"name": "r"}, "http_filters": [
                {"name": "rbac", "typed_config": rbac},
                {"name": "router", "typed_config": {"@type": ROUTER}}]}),
        )
    };
    let with = |permission: Value, principal: Value| {
        rbac(json!({"policies": {"p": {"permissions": [permission], "principals": [principal]}}}))
    };
    let any = || json!({"any": true});
    let path = "filter_chains[0].filters[0].typed_config.http_filters[0].typed_config.rules.";
    let in_policy = "policies[\"p\"].";
    for (listener, field, why) in [
        (rbac(json!({"policies": {"p": {"principals": [any()]}}})), "permissions", "is empty"),
        (rbac(json!({"policies": {"p": {"permissions": [any()]}}})), "principals", "is empty"),
        (with(json!({}), any()), "permissions[0]", "is no rule"),
        (with(any(), json!({})), "principals[0]", "is no principal"),
        (with(json!({"any": false}), any()), "permissions[0].any", "may only be true"),
        (with(json!({"and_rules": {}}), any()), "permissions[0].and_rules", "is empty"),
        (
            with(json!({"or_rules": {"rules": [any(), {}]}}), any()),
            "permissions[0].or_rules.rules[1]",
            "is no rule",
        ),
        (with(any(), json!({"not_id": {"or_ids": {}}})), "principals[0].not_id.or_ids", "is empty"),
        (
            with(json!({"destination_port": 65536}), any()),
            "permissions[0].destination_port",
            "65536 is no port",
        ),
        (
            with(json!({"destination_port_range": {"start": 5, "end": 5}}), any()),
            "permissions[0].destination_port_range",
            "5..5 is no range of ports",
        ),
        (
            with(json!({"url_path": {"path": {"safe_regex": {"regex": "("}}}}), any()),
            "permissions[0].url_path.path.safe_regex.regex",
            "",
        ),
        (
            with(any(), json!({"filter_state": {"key": "other", "string_match": {"exact": "a"}}})),
            "principals[0].filter_state.key",
            "only \"io.istio.peer_principal\" is kept",
        ),
    ] {
        let found = refuse(&mut compiler, listener);
        assert!(found.starts_with(&format!("{path}{in_policy}{field}: {why}")), "{field}: {found}");
    }
    accept(&mut compiler, [rbac(json!({"action": "DENY"})), with(any(), any())]);
}

#[test]
fn a_field_newer_than_the_table_is_refused() {
    let mut compiler = Compiler::new();
    let Change::Put { kind, name, resource } = routes("r", "a") else { unreachable!() };
    let mut bytes = resource.to_vec();
    // Field 2000, varint 1.
    bytes.extend([0x80, 0x7d, 0x01]);
    let found = refuse(&mut compiler, Change::Put { kind, name, resource: bytes.into() });
    assert_eq!(found, ": envoy.config.route.v3.RouteConfiguration has a field 2000 that is not known");
}

#[test]
fn garbage_is_refused_whatever_its_length() {
    let mut compiler = Compiler::new();
    let Change::Put { kind, resource, .. } = rds_listener("l", 80, "r") else { unreachable!() };
    for len in 1..resource.len() {
        let change = Change::Put { kind, name: "l".to_owned(), resource: resource.slice(..len) };
        // A cut between two fields leaves a shorter message; it must not panic either.
        compiler.apply([change]);
    }
    let found = compiler.apply([Change::Put { kind, name: "x".to_owned(), resource: resource.slice(..9) }]).1;
    assert_eq!(found[0].severity, Severity::Refused);
}

#[test]
fn of_two_listeners_with_one_address_the_first_by_name_serves() {
    for order in [["a", "b"], ["b", "a"]] {
        let mut compiler = Compiler::new();
        let (tables, found) =
            compiler.apply(order.map(|name| tcp_listener(name, "127.0.0.1", 80, json!({}))));
        assert_eq!(tables.listeners().map(|l| l.name.as_str()).collect::<Vec<_>>(), ["a"]);
        assert_eq!(found[0].text, "127.0.0.1:80 belongs to listener \"a\"");
    }
}

#[test]
fn connections_go_to_the_listener_of_their_original_destination() {
    let mut compiler = Compiler::new();
    let unbound = json!({"bind_to_port": false});
    let tables = accept(
        &mut compiler,
        [
            tcp_listener("virtualOutbound", "0.0.0.0", 15001, json!({"use_original_dst": true})),
            tcp_listener("0.0.0.0_80", "0.0.0.0", 80, unbound.clone()),
            tcp_listener("10.0.0.7_80", "10.0.0.7", 80, unbound),
        ],
    );
    let accepting = tables.listener_named("virtualOutbound").unwrap();
    let to = |address: &str| tables.hand_over(accepting, Some(address.parse().unwrap())).name.as_str();
    assert_eq!(to("10.0.0.7:80"), "10.0.0.7_80");
    assert_eq!(to("10.0.0.8:80"), "0.0.0.0_80");
    assert_eq!(to("10.0.0.8:81"), "virtualOutbound");
    assert_eq!(tables.bound_addresses().count(), 1);
    let direct = tables.listener_named("0.0.0.0_80").unwrap();
    assert_eq!(tables.hand_over(direct, Some("10.0.0.7:80".parse().unwrap())).name, "0.0.0.0_80");
}

#[test]
fn http2_settings_are_read_from_the_old_field_and_the_new_and_kept_within_bounds() {
    let settings = |change: serde_json::Value| {
        let mut compiler = Compiler::new();
        let (tables, found) = compiler.apply([cluster("a", change), endpoints("a", &[80])]);
        let refused = found.iter().map(|d| (d.severity, d.field.clone())).collect::<Vec<_>>();
        let settings = tables.cluster_named("a").map(|found| {
            let connection = &found.cluster.connection;
            (
                connection.protocol,
                connection.http2.concurrent_streams_max,
                connection.http2.stream_window_bytes,
            )
        });
        (settings, refused)
    };
    let by_extension = |http2: serde_json::Value| {
        json!({"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": http2}}}})
    };
    let read = (Some((UpstreamProtocol::Http2, 7, 65_535)), vec![]);
    let given = json!({"max_concurrent_streams": 7, "initial_stream_window_size": 65_535});
    assert_eq!(settings(json!({"http2_protocol_options": given})), read);
    assert_eq!(settings(by_extension(given)), read);
    let default = (Some((UpstreamProtocol::Http2, 1024, 1024 * 1024)), vec![]);
    assert_eq!(settings(by_extension(json!({}))), default);
    for (field, value) in [
        ("initial_stream_window_size", json!(65_534)),
        ("max_concurrent_streams", json!(0)),
        ("connection_keepalive.timeout", json!(null)),
    ] {
        let (name, _) = field.split_once('.').unwrap_or((field, ""));
        let value = if name == field { value } else { json!({"interval": "1s"}) };
        let (_, found) = settings(by_extension(json!({ name: value })));
        let path = format!(
            "typed_extension_protocol_options[\"envoy.extensions.upstreams.http.v3.HttpProtocolOptions\"]\
             .explicit_http_config.http2_protocol_options.{field}"
        );
        assert_eq!(found, [(Severity::Refused, path)], "{field}");
    }
}

#[test]
fn outlier_detection_that_cannot_be_honoured_is_refused() {
    let cases = [
        (json!({"interval": "0s"}), "interval"),
        (json!({"base_ejection_time": "10s", "max_ejection_time": "9s"}), "max_ejection_time"),
        (json!({"max_ejection_percent": 101}), "max_ejection_percent"),
        (json!({"enforcing_failure_percentage": 101}), "enforcing_failure_percentage"),
        (json!({"detect_degraded_hosts": true}), "detect_degraded_hosts"),
    ];
    for (more, field) in cases {
        let text = refuse(&mut Compiler::new(), cluster("a", json!({"outlier_detection": more})));
        assert!(text.starts_with(&format!("outlier_detection.{field}: ")), "{text}");
    }
}

#[test]
fn live_state_outlives_updates_of_endpoints_and_limits_that_stay() {
    let mut compiler = Compiler::new();
    let first = accept(&mut compiler, [cluster("a", json!({})), endpoints("a", &[80, 81])]);
    let (one, id) = (first.cluster_named("a").unwrap(), endpoint_ids(&first, "a")[1].1);
    let host = one.live.host(id).unwrap().clone();
    let second = accept(&mut compiler, [endpoints("a", &[81, 82])]);
    let other = second.cluster_named("a").unwrap();
    assert!(Arc::ptr_eq(other.live.host(id).unwrap(), &host));
    assert!(other.live.host(endpoint_ids(&first, "a")[0].1).is_none(), "it left");
    assert!(Arc::ptr_eq(one.live.limits(), other.live.limits()));
    let breakers = json!({"circuit_breakers": {"thresholds": [{"max_requests": 7}]}});
    let third = accept(&mut compiler, [cluster("a", breakers)]);
    let changed = third.cluster_named("a").unwrap();
    assert!(!Arc::ptr_eq(changed.live.limits(), other.live.limits()));
    assert!(Arc::ptr_eq(changed.live.host(id).unwrap(), &host));
}

/// A listener whose connection manager has these settings and routes everything to a cluster.
fn manager_with(more: Value) -> Change {
    let mut manager = json!({"route_config": {"name": "r", "virtual_hosts": [{"name": "all", "domains": ["*"],
        "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "a"}}]}]}});
    manager.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    http_listener("l", 80, manager)
}

fn traced_by(provider: Value) -> Change {
    manager_with(json!({"tracing": {"provider": {"name": "p", "typed_config": provider}}}))
}

#[test]
fn tracing_providers_other_than_zipkin_and_opentelemetry_are_refused() {
    let kind = |name: &str| format!("type.googleapis.com/envoy.config.trace.v3.{name}");
    let zipkin = json!({"@type": kind("ZipkinConfig"), "collector_cluster": "z", "collector_endpoint": "/spans",
        "collector_endpoint_version": "HTTP_JSON"});
    accept(&mut Compiler::new(), [traced_by(zipkin.clone())]);
    let otel = json!({"@type": kind("OpenTelemetryConfig"),
        "grpc_service": {"envoy_grpc": {"cluster_name": "o"}}});
    accept(&mut Compiler::new(), [traced_by(otel)]);
    let path = "filter_chains[0].filters[0].typed_config.tracing.provider.typed_config";
    let mut old = zipkin;
    old["collector_endpoint_version"] = json!("HTTP_PROTO");
    let refused = refuse(&mut Compiler::new(), traced_by(old));
    assert_eq!(refused, format!("{path}.collector_endpoint_version: only HTTP_JSON is supported"));
    let without = json!({"@type": kind("OpenTelemetryConfig")});
    let refused = refuse(&mut Compiler::new(), traced_by(without));
    assert_eq!(refused, format!("{path}.grpc_service: is not set, nor is http_service"));
}

#[test]
fn a_wrong_access_log_format_refuses_the_listener_with_its_field() {
    fn check(format: &str, _: bool) -> Result<Vec<String>, String> {
        if format.contains("%NOPE%") { Err("unknown operator `NOPE`".to_owned()) } else { Ok(Vec::new()) }
    }
    let log = |format: Value| {
        manager_with(json!({"access_log": [{"name": "f", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": "/dev/null", "log_format": format}}]}))
    };
    let mut compiler = Compiler::with_format_check(check);
    accept(&mut compiler, [log(json!({"text_format_source": {"inline_string": "%PROTOCOL%"}}))]);
    let path = "filter_chains[0].filters[0].typed_config.access_log[0].typed_config.log_format";
    for (format, field) in [
        (json!({"text_format_source": {"inline_string": "%NOPE%"}}), "text_format_source"),
        (json!({"json_format": {"a": {"b": "%NOPE%"}}}), "json_format.a.b"),
    ] {
        let refused = refuse(&mut compiler, log(format));
        assert_eq!(refused, format!("{path}.{field}: unknown operator `NOPE`"));
    }
}

#[test]
fn access_log_filters_are_compiled_or_refused_with_their_field() {
    let log = |filter: Value| {
        manager_with(json!({"access_log": [{"name": "f", "filter": filter, "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog"}}]}))
    };
    let cel = |expression: &str| {
        json!({"extension_filter": {"name": "cel", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter",
            "expression": expression}}})
    };
    for filter in [
        json!({"traceable_filter": {}}),
        json!({"runtime_filter": {"runtime_key": "k", "percent_sampled": {"numerator": 5}}}),
        json!({"header_filter": {"header": {"name": "x-a", "string_match": {"exact": "b"}}}}),
        json!({"grpc_status_filter": {"statuses": ["UNAVAILABLE"], "exclude": true}}),
        json!({"metadata_filter": {"match_if_key_not_found": false}}),
        json!({"log_type_filter": {"types": ["DownstreamEnd"]}}),
        cel("response.code >= 400 || request.headers['x-a'] == 'b'"),
    ] {
        accept(&mut Compiler::new(), [log(filter)]);
    }
    let refused = refuse(&mut Compiler::new(), log(cel("response.code >=")));
    let path = "filter_chains[0].filters[0].typed_config.access_log[0].filter.extension_filter.typed_config";
    assert!(refused.starts_with(&format!("{path}.expression: ")), "{refused}");
}

#[test]
fn every_row_of_the_table_of_fields_agrees_with_the_schema() {
    let schema = Schema::shared();
    for message in support::messages() {
        let Some(descriptor) = schema.pool().get_message_by_name(message.name) else {
            panic!("{} is no type of ours", message.name);
        };
        let mut fields: Vec<_> = descriptor.fields().map(|f| (f.number(), f.name().to_owned())).collect();
        fields.sort();
        let rows: Vec<_> = message.fields.iter().map(|row| (row.number, row.name.to_owned())).collect();
        assert_eq!(rows, fields, "{}", message.name);
        for row in message.fields {
            let field = descriptor.get_field(row.number).unwrap();
            let is_any = |kind: prost_reflect::Kind| {
                kind.as_message().is_some_and(|m| m.full_name() == "google.protobuf.Any")
            };
            match &row.rule {
                support::Rule::Message(inner) | support::Rule::Repeated(inner) => {
                    let repeated = matches!(row.rule, support::Rule::Repeated(_));
                    let kind = field.kind();
                    assert_eq!(field.is_list() || field.is_map(), repeated, "{}.{}", message.name, row.name);
                    assert_eq!(
                        kind.as_message().unwrap().full_name(),
                        inner.name,
                        "{}.{}",
                        message.name,
                        row.name
                    );
                }
                support::Rule::Any(_) => assert!(is_any(field.kind()) && !field.is_list()),
                support::Rule::MapOfAny(_) => assert!(field.is_map()),
                // A message that is honoured must have rows of its own, lest fields inside it escape.
                support::Rule::Supported => {
                    let kind = field.kind();
                    let inner = kind.as_message().map_or("google.protobuf", |inner| inner.full_name());
                    assert!(
                        inner.starts_with("google.protobuf") || field.is_map(),
                        "{}.{}: {inner}",
                        message.name,
                        row.name
                    );
                }
                support::Rule::Ignored(_)
                | support::Rule::Refused(_)
                | support::Rule::RefusedUnlessZero(_) => {}
            }
        }
    }
}

fn balancing_of(more: Value) -> crate::balancing::LoadBalancing {
    let mut compiler = Compiler::new();
    let tables = accept(&mut compiler, [cluster("a", more), endpoints("a", &[80])]);
    tables.cluster_named("a").unwrap().cluster.balancing.clone()
}

#[test]
fn subsets_are_read_and_bad_ones_are_refused_by_their_field() {
    use crate::subset::Fallback;
    let config = |selectors: Value| {
        json!({"lb_subset_config": {"fallback_policy": "DEFAULT_SUBSET", "default_subset": {"version": "1"},
            "list_as_any": true, "subset_selectors": selectors}})
    };
    let subsets =
        balancing_of(config(json!([{"keys": ["version", "stage"], "fallback_policy": "KEYS_SUBSET",
        "fallback_keys_subset": ["stage"]}])));
    let subsets = subsets.subsets.expect("there are some");
    let [selector] = &*subsets.selectors else { panic!("{subsets:?}") };
    assert_eq!(selector.keys.iter().map(|key| key.as_str()).collect::<Vec<_>>(), ["stage", "version"]);
    assert!(matches!(&selector.fallback, Some(Fallback::Keys(keys)) if keys[0].as_str() == "stage"));
    assert!(
        subsets.list_as_any && subsets.fallback == Fallback::Default && subsets.default_subset.len() == 1
    );
    assert_eq!(balancing_of(config(json!([]))).subsets, None, "without selectors nothing is divided");

    let mut compiler = Compiler::new();
    for (selectors, path) in [
        (json!([{"keys": []}]), "lb_subset_config.subset_selectors[0].keys"),
        (
            json!([{"keys": ["a"], "fallback_policy": "KEYS_SUBSET", "fallback_keys_subset": ["a"]}]),
            "lb_subset_config.subset_selectors[0].fallback_keys_subset",
        ),
        (
            json!([{"keys": ["a"], "single_host_per_subset": true}]),
            "lb_subset_config.subset_selectors[0].single_host_per_subset",
        ),
    ] {
        let (_, found) = compiler.apply([cluster("refused", config(selectors))]);
        assert!(found.iter().any(|one| one.severity == Severity::Refused && one.field == path), "{found:?}");
    }
}

fn policy_extension(name: &str, mut config: Value) -> Value {
    let kind = format!("type.googleapis.com/envoy.extensions.load_balancing_policies.{name}");
    config.as_object_mut().unwrap().insert("@type".to_string(), kind.into());
    json!({"policies": [{"typed_extension_config": {"name": name, "typed_config": config}}]})
}

#[test]
fn an_lb_policy_and_its_extension_mean_the_same() {
    let pairs = [
        (
            json!({"lb_policy": "RING_HASH", "ring_hash_lb_config":
                {"minimum_ring_size": "100", "maximum_ring_size": "200", "hash_function": "MURMUR_HASH_2"}}),
            policy_extension(
                "ring_hash.v3.RingHash",
                json!({"minimum_ring_size": "100",
                "maximum_ring_size": "200", "hash_function": "MURMUR_HASH_2"}),
            ),
        ),
        (
            json!({"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": "1009"},
                "common_lb_config": {"consistent_hashing_lb_config":
                    {"use_hostname_for_hashing": true, "hash_balance_factor": 150}}}),
            policy_extension(
                "maglev.v3.Maglev",
                json!({"table_size": "1009",
                "consistent_hashing_lb_config":
                    {"use_hostname_for_hashing": true, "hash_balance_factor": 150}}),
            ),
        ),
        (
            json!({"lb_policy": "LEAST_REQUEST", "least_request_lb_config":
                {"choice_count": 3, "active_request_bias": {"default_value": 2.0, "runtime_key": "x"},
                 "slow_start_config": {"slow_start_window": "10s", "min_weight_percent": {"value": 5.0}}}}),
            policy_extension(
                "least_request.v3.LeastRequest",
                json!({"choice_count": 3,
                "active_request_bias": {"default_value": 2.0, "runtime_key": "x"},
                "slow_start_config": {"slow_start_window": "10s", "min_weight_percent": {"value": 5.0}}}),
            ),
        ),
        (
            json!({"lb_policy": "RANDOM", "common_lb_config": {"locality_weighted_lb_config": {}}}),
            policy_extension(
                "wrr_locality.v3.WrrLocality",
                json!({
                "endpoint_picking_policy": policy_extension("random.v3.Random", json!({}))}),
            ),
        ),
        (
            json!({"common_lb_config": {"zone_aware_lb_config": {"fail_traffic_on_panic": true}}}),
            policy_extension(
                "round_robin.v3.RoundRobin",
                json!({"locality_lb_config":
                {"zone_aware_lb_config": {"fail_traffic_on_panic": true}}}),
            ),
        ),
    ];
    for (old, new) in pairs {
        assert_eq!(balancing_of(old), balancing_of(json!({"load_balancing_policy": new})));
    }
}

#[test]
fn balancing_that_cannot_be_honoured_is_refused() {
    let slow = |config: Value| json!({"round_robin_lb_config": {"slow_start_config": config}});
    let cases = [
        (
            json!({"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": "8"}}),
            "maglev_lb_config.table_size",
        ),
        (
            json!({"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": "5000077"}}),
            "maglev_lb_config.table_size",
        ),
        (
            json!({"lb_policy": "RING_HASH",
                "ring_hash_lb_config": {"minimum_ring_size": "20", "maximum_ring_size": "10"}}),
            "ring_hash_lb_config.minimum_ring_size",
        ),
        (
            json!({"lb_policy": "RING_HASH", "ring_hash_lb_config": {"maximum_ring_size": "8388609"}}),
            "ring_hash_lb_config.maximum_ring_size",
        ),
        (
            json!({"lb_policy": "LEAST_REQUEST", "least_request_lb_config": {"choice_count": 1}}),
            "least_request_lb_config.choice_count",
        ),
        (
            json!({"lb_policy": "LEAST_REQUEST",
                "least_request_lb_config": {"active_request_bias": {"default_value": -1.0}}}),
            "least_request_lb_config.active_request_bias",
        ),
        (
            json!({"common_lb_config": {"consistent_hashing_lb_config": {"hash_balance_factor": 99}}}),
            "common_lb_config.consistent_hashing_lb_config.hash_balance_factor",
        ),
        (
            slow(json!({"slow_start_window": "1s", "aggression": {"default_value": 0.0}})),
            "round_robin_lb_config.slow_start_config.aggression",
        ),
        (
            slow(json!({"slow_start_window": "1s", "min_weight_percent": {"value": 101.0}})),
            "round_robin_lb_config.slow_start_config.min_weight_percent",
        ),
        (json!({"lb_policy": "CLUSTER_PROVIDED"}), "lb_policy"),
        (json!({"lb_policy": "LOAD_BALANCING_POLICY_CONFIG"}), "load_balancing_policy"),
        (json!({"load_balancing_policy": {}}), "load_balancing_policy.policies"),
        (
            json!({"load_balancing_policy": policy_extension("maglev.v3.Maglev", json!({"table_size": "8"}))}),
            "load_balancing_policy.policies[0].typed_extension_config.typed_config.table_size",
        ),
        (
            json!({"load_balancing_policy":
                policy_extension("wrr_locality.v3.WrrLocality", json!({}))}),
            "load_balancing_policy.policies[0].typed_extension_config.typed_config.endpoint_picking_policy",
        ),
    ];
    for (more, field) in cases {
        let text = refuse(&mut Compiler::new(), cluster("a", more));
        assert!(text.starts_with(&format!("{field}: ")), "{text}");
    }
}

#[test]
fn health_checks_are_compiled_or_refused() {
    let check = |more: Value| {
        let mut check = json!({"timeout": "1s", "interval": "2s", "unhealthy_threshold": 2,
            "healthy_threshold": 3, "http_health_check": {"path": "/ok"}});
        check.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({"health_checks": [check]})
    };
    let mut compiler = Compiler::new();
    let statuses = json!([{"start": "200", "end": "300"}]);
    let http = json!({"http_health_check": {"path": "/ok", "expected_statuses": statuses}});
    let tables = accept(&mut compiler, [cluster("a", check(http)), endpoints("a", &[80])]);
    let found = tables.cluster_named("a").unwrap();
    let compiled = found.cluster.health_check.clone().unwrap();
    assert_eq!((compiled.unhealthy_threshold, compiled.healthy_threshold), (2, 3));
    assert_eq!(compiled.unhealthy_interval, compiled.interval);
    // Endpoints begin unhealthy.
    let host = found.live.host(endpoint_ids(&tables, "a")[0].1).unwrap();
    assert!(host.flags().is_unhealthy());
    let bad = |more: Value| {
        let mut check = check(json!({}));
        let only = check["health_checks"][0].as_object_mut().unwrap();
        only.remove("http_health_check");
        only.extend(more.as_object().unwrap().clone());
        check
    };
    let cases = [
        (json!({}), "health_checks[0]"),
        (json!({"timeout": "0s", "tcp_health_check": {}}), "health_checks[0].timeout"),
        (json!({"grpc_health_check": {}}), "health_checks[0].grpc_health_check"),
        (json!({"http_health_check": {"path": ""}}), "health_checks[0].http_health_check.path"),
        (json!({"http_health_check": {"path": "/a b"}}), "health_checks[0].http_health_check.path"),
        (
            json!({"http_health_check": {"path": "/", "codec_client_type": "HTTP3"}}),
            "health_checks[0].http_health_check.codec_client_type",
        ),
        (
            json!({"http_health_check": {"path": "/", "send": {"text": "00"}}}),
            "health_checks[0].http_health_check.send",
        ),
        (
            json!({"http_health_check": {"path": "/", "response_buffer_size": "65537"}}),
            "health_checks[0].http_health_check.response_buffer_size",
        ),
        (
            json!({"http_health_check": {"path": "/", "response_buffer_size": "1", "receive": [{"text": "0102"}]}}),
            "health_checks[0].http_health_check.response_buffer_size",
        ),
        (
            json!({"http_health_check": {"path": "/", "request_headers_to_add":
                [{"header": {"key": "x-a", "value": "%PROTOCOL%"}}]}}),
            "health_checks[0].http_health_check.request_headers_to_add[0].header.value",
        ),
        (json!({"custom_health_check": {"name": "c"}}), "health_checks[0].custom_health_check"),
        (
            json!({"http_health_check": {"path": "/", "expected_statuses": [{"start": "200", "end": "200"}]}}),
            "health_checks[0].http_health_check.expected_statuses[0]",
        ),
        (json!({"tcp_health_check": {"send": {"text": "0g"}}}), "health_checks[0].tcp_health_check.send"),
    ];
    for (more, field) in cases {
        let text = refuse(&mut Compiler::new(), cluster("a", bad(more)));
        assert!(text.starts_with(&format!("{field}: ")), "{text}");
    }
    let two = json!({"health_checks": [check(json!({}))["health_checks"][0], check(json!({}))["health_checks"][0]]});
    assert!(refuse(&mut Compiler::new(), cluster("a", two)).starts_with("health_checks: "));
}

/// The findings of a listener with these filters before its TCP proxy, and these settings of it.
fn relaying(filters: Value, settings: Value) -> Vec<String> {
    let mut proxy = json!({"@type": TCP_PROXY, "stat_prefix": "p", "cluster": "a"});
    settings.as_object().unwrap().iter().for_each(|(key, value)| proxy[key] = value.clone());
    let mut filters = filters.as_array().unwrap().clone();
    filters.push(json!({"name": "tcp", "typed_config": proxy}));
    let more = json!({"filter_chains": [{"filters": filters}]});
    let (_, found) =
        Compiler::new().apply([cluster("a", json!({})), tcp_listener("l", "127.0.0.1", 1, more)]);
    found.iter().map(|finding| finding.field.clone()).collect()
}

fn fault(fault: Value) -> Value {
    let mut fault = fault;
    fault["@type"] = json!("type.googleapis.com/ringsail.filters.network.fault.v1.TcpFault");
    json!([{"name": "fault", "typed_config": fault}])
}

#[test]
fn faults_that_do_not_say_whom_or_what_are_refused_by_their_field() {
    const AT: &str = "filter_chains[0].filters[0].typed_config";
    let everybody = json!({"numerator": 100});
    assert!(relaying(fault(json!({"refuse": {"percentage": everybody}})), json!({})).is_empty());
    for (broken, field) in [
        (json!({"refuse": {}}), "refuse.percentage"),
        (json!({"connect_delay": {"percentage": everybody}}), "connect_delay.delay"),
        (json!({"reset": {"percentage": everybody}}), "reset"),
        (json!({"bandwidth": {"percentage": everybody}}), "bandwidth.bytes_per_second"),
        (json!({"blackhole": {"percentage": {"numerator": 1, "denominator": 7}}}), "blackhole.percentage"),
    ] {
        let found = relaying(fault(broken), json!({}));
        assert!(found.iter().any(|found| found.contains(AT) && found.ends_with(field)), "{field}: {found:?}");
    }
}

#[test]
fn settings_of_a_tcp_proxy_that_cannot_be_meant_are_refused_by_their_field() {
    for (settings, field) in [
        (json!({"upstream_connect_mode": "ON_DOWNSTREAM_DATA"}), "upstream_connect_mode"),
        (json!({"upstream_connect_mode": "ON_DOWNSTREAM_TLS_HANDSHAKE"}), "upstream_connect_mode"),
        (json!({"backoff_options": {}}), "backoff_options.base_interval"),
        (
            json!({"backoff_options": {"base_interval": "2s", "max_interval": "1s"}}),
            "backoff_options.max_interval",
        ),
        (json!({"hash_policy": [{"filter_state": {"key": "k"}}]}), "hash_policy[0].filter_state"),
        (json!({"tunneling_config": {"hostname": "h"}}), "tunneling_config"),
        (json!({"access_log_options": {}, "flush_access_log_on_connected": true}), "access_log_options"),
    ] {
        let found = relaying(json!([]), settings.clone());
        assert!(found.iter().any(|found| found.ends_with(field)), "{settings}: {found:?}");
    }
}
