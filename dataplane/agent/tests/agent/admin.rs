use serde_json::json;

use crate::proxy::{Proxy, eventually};
use ringsail_agent::Phase;

const STATIC: &str = r#"
node: {id: n, cluster: c, metadata: {ISTIO_VERSION: 1.32.0}}
layered_runtime: {layers: [{name: base, static_layer: {re2: {max: 5}}}]}
static_resources:
  listeners:
  - name: l
    address: {socket_address: {address: 127.0.0.1, port_value: 18082}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: x
          route_config: {name: r, virtual_hosts: [{name: v, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: s}}]}]}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - name: s
    type: STRICT_DNS
    connect_timeout: 0.25s
    load_assignment:
      cluster_name: s
      endpoints:
      - locality: {region: r, zone: z}
        lb_endpoints:
        - {load_balancing_weight: 3, endpoint: {hostname: h, address: {socket_address: {address: localhost, port_value: 80}}}}
    dns_lookup_family: V4_ONLY
"#;

fn live() -> Proxy {
    let proxy = Proxy::start(STATIC);
    eventually("live", || proxy.agent.phase() == Phase::Live);
    proxy
}

#[test]
fn clusters_read_as_envoys_do() {
    let proxy = live();
    let text = proxy.get("/clusters");
    let expected = "\
s::observability_name::s
s::default_priority::max_connections::1024
s::default_priority::max_pending_requests::1024
s::default_priority::max_requests::1024
s::default_priority::max_retries::3
s::high_priority::max_connections::1024
s::high_priority::max_pending_requests::1024
s::high_priority::max_requests::1024
s::high_priority::max_retries::3
s::added_via_api::false
s::127.0.0.1:80::cx_active::0
s::127.0.0.1:80::cx_connect_fail::0
s::127.0.0.1:80::cx_total::0
s::127.0.0.1:80::rq_active::0
s::127.0.0.1:80::rq_error::0
s::127.0.0.1:80::rq_pending_active::0
s::127.0.0.1:80::rq_success::0
s::127.0.0.1:80::rq_timeout::0
s::127.0.0.1:80::rq_total::0
s::127.0.0.1:80::hostname::h
s::127.0.0.1:80::health_flags::healthy
s::127.0.0.1:80::weight::3
s::127.0.0.1:80::region::r
s::127.0.0.1:80::zone::z
s::127.0.0.1:80::sub_zone::
s::127.0.0.1:80::canary::false
s::127.0.0.1:80::priority::0
s::127.0.0.1:80::success_rate::-1
s::127.0.0.1:80::local_origin_success_rate::-1
";
    assert_eq!(text, expected);
    let host = &proxy.json("/clusters?format=json")["cluster_statuses"][0]["host_statuses"][0];
    assert_eq!(host["address"], json!({"socket_address": {"address": "127.0.0.1", "port_value": 80}}));
    assert_eq!(host["health_status"], json!({"eds_health_status": "HEALTHY"}));
    assert_eq!(host["locality"], json!({"region": "r", "zone": "z"}));
    assert_eq!((&host["weight"], &host["hostname"]), (&json!(3), &json!("h")));
}

#[test]
fn the_dump_has_the_sections_that_istioctl_reads() {
    let proxy = live();
    let dump = proxy.json("/config_dump?include_eds");
    let types: Vec<&str> = dump["configs"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|section| section["@type"].as_str()?.rsplit('.').next())
        .collect();
    assert_eq!(
        types,
        [
            "BootstrapConfigDump",
            "ClustersConfigDump",
            "EndpointsConfigDump",
            "ListenersConfigDump",
            "ScopedRoutesConfigDump",
            "RoutesConfigDump",
            "SecretsConfigDump",
        ]
    );
    let section = |index: usize| &dump["configs"][index];
    assert_eq!(section(0)["bootstrap"]["node"]["metadata"]["ISTIO_VERSION"], "1.32.0");
    let cluster = &section(1)["static_clusters"][0]["cluster"];
    assert_eq!(cluster["@type"], "type.googleapis.com/envoy.config.cluster.v3.Cluster");
    assert_eq!((&cluster["type"], &cluster["connect_timeout"]), (&json!("STRICT_DNS"), &json!("0.250s")));
    assert_eq!(section(2)["static_endpoint_configs"][0]["endpoint_config"]["cluster_name"], "s");
    assert_eq!(section(3)["static_listeners"][0]["listener"]["name"], "l");
    assert_eq!(section(5)["static_route_configs"][0]["route_config"]["name"], "r", "inline routes are shown");
    assert!(
        proxy.get("/config_dump").starts_with("{\n \"configs\": [\n  {\n   \"@type\""),
        "indented by one blank"
    );
}

#[test]
fn parts_of_the_dump_can_be_asked_for() {
    let proxy = live();
    let dump = proxy.json("/config_dump?resource=static_clusters");
    assert_eq!(
        dump["configs"][0]["@type"],
        "type.googleapis.com/envoy.admin.v3.ClustersConfigDump.StaticCluster"
    );
    assert_eq!(proxy.json("/config_dump?resource=dynamic_listeners"), json!({}));
    for (pattern, shown) in [("nonesuch", false), ("s", true), ("s.", false), ("r|s", true)] {
        let named = proxy.json(&format!("/config_dump?name_regex={pattern}"));
        assert_eq!(named["configs"][1].get("static_clusters").is_some(), shown, "{pattern}: the whole name");
    }
    assert_eq!(
        proxy.request("GET", "/config_dump?resource=bootstrap"),
        (400, "bootstrap is not a repeated field. Use ?mask=bootstrap to get only this field".to_string())
    );
    assert_eq!(
        proxy.request("GET", "/config_dump?resource=nonesuch"),
        (404, "nonesuch not found in config dump".to_string())
    );
}

#[test]
fn a_mask_leaves_the_fields_it_names() {
    let proxy = live();
    assert_eq!(
        proxy.json("/config_dump?mask=bootstrap.admin.address"),
        json!({"configs": [{
            "@type": "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump",
            "bootstrap": {"admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}}},
        }]})
    );
    let sections = |mask: &str| {
        let dump = proxy.json(&format!("/config_dump?mask={mask}"));
        let types = dump["configs"].as_array().unwrap().iter();
        types
            .map(|one| one["@type"].as_str().unwrap().rsplit('.').next().unwrap().to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(sections("static_clusters"), ["ClustersConfigDump"]);
    assert_eq!(sections("dynamic_listeners,version_info"), ["ListenersConfigDump"], "which has both");
    assert_eq!(
        proxy.json(
            "/config_dump?resource=static_clusters&mask=cluster.name,cluster.load_assignment.cluster_name"
        ),
        json!({"configs": [{
            "@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump.StaticCluster",
            "cluster": {"@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
                "name": "s", "load_assignment": {"cluster_name": "s"}},
        }]})
    );
    for mask in ["nonesuch", "static_clusters.cluster", "dynamic_route_configs,nonesuch"] {
        let text = format!("FieldMask {mask} could not be successfully applied to any configs.");
        assert_eq!(proxy.request("GET", &format!("/config_dump?mask={mask}")), (400, text));
    }
    assert_eq!(
        proxy.request("GET", "/config_dump?resource=static_clusters&mask=cluster.nonesuch"),
        (400, "FieldMask paths: \"cluster.nonesuch\"\n could not be successfully used.".to_string())
    );
}

#[test]
fn counters_can_be_reset_and_gauges_stay() {
    let proxy = live();
    assert_eq!(
        proxy.stat("server.ringsail_connections_refused"),
        Some(3),
        "the shards' own counters are shown"
    );
    assert_eq!(proxy.request("GET", "/reset_counters").0, 405);
    assert_eq!(proxy.request("POST", "/reset_counters"), (200, "OK\n".to_string()));
    assert_eq!(proxy.stat("server.ringsail_connections_refused"), Some(0));
    assert_eq!(proxy.stat("server.concurrency"), Some(2));
}

#[test]
fn private_keys_are_not_shown() {
    let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_secs() as i64;
    let mut request =
        ringsail_tls::issue::Request::new(ringsail_tls::Utc(now - 60), ringsail_tls::Utc(now + 90_000));
    request.uri_names.push("spiffe://a/ns/b/sa/c".to_string());
    let issued = ringsail_tls::issue::Issued::self_signed(&request).expect("made");
    let text = |pem: Vec<u8>| String::from_utf8(pem).expect("PEM is text");
    let (chain, key) =
        (text(issued.certificate_pem().expect("written")), text(issued.key_pem().expect("written")));
    let secret = json!({"name": "s", "tls_certificate":
        {"private_key": {"inline_string": key}, "certificate_chain": {"inline_string": chain}}});
    let proxy = Proxy::start(&format!("static_resources: {{secrets: [{secret}]}}"));
    let dump = proxy.get("/config_dump");
    let line = |pem: &str| pem.lines().nth(1).expect("a PEM text has lines").to_string();
    assert!(!dump.contains(&line(&key)) && dump.contains(&line(&chain)), "{dump}");
    assert!(dump.contains("W3JlZGFjdGVkXQ=="), "{dump}");
    let shown = &proxy.json("/certs")["certificates"][0]["cert_chain"][0];
    assert_eq!(shown["subject_alt_names"], json!([{"uri": "spiffe://a/ns/b/sa/c"}]));
    assert_eq!((&shown["path"], &shown["days_until_expiration"]), (&json!("s"), &json!("1")));
}

#[test]
fn the_process_tells_about_itself() {
    let proxy = live();
    let info = proxy.json("/server_info");
    assert_eq!((&info["state"], &info["hot_restart_version"]), (&json!("LIVE"), &json!("disabled")));
    assert_eq!(info["command_line_options"]["concurrency"], 2);
    assert_eq!(info["command_line_options"]["drain_time"], "600s");
    assert_eq!(info["command_line_options"]["mode"], "Serve");
    assert_eq!(info["node"]["id"], "n");
    assert_eq!(info["ringsail_engine"], json!({"name": "epoll", "reason": "tests <run> anywhere"}));
    assert!(info["version"].as_str().is_some_and(|version| version.split('/').count() == 5));
    let resident = &proxy.json("/memory")["total_physical_bytes"];
    assert!(resident.as_str().and_then(|text| text.parse::<u64>().ok()).is_some_and(|bytes| bytes > 1 << 20));
    assert_eq!(proxy.json("/certs"), json!({"certificates": []}));
    assert_eq!(
        proxy.json("/runtime"),
        json!({"entries": {"re2.max": {"final_value": "5", "layer_values": ["5"]}}, "layers": ["base"]})
    );
    assert!(proxy.get("/").contains("engine epoll (tests &lt;run&gt; anywhere)"));
}

#[test]
fn listeners_are_shown_with_their_addresses() {
    let proxy = live();
    assert_eq!(proxy.get("/listeners"), "l::127.0.0.1:18082\n");
    let address = json!({"socket_address": {"address": "127.0.0.1", "port_value": 18082}});
    assert_eq!(
        proxy.json("/listeners?format=json"),
        json!({"listener_statuses": [{"name": "l", "local_address": address}]})
    );
}

#[test]
fn statistics_can_be_filtered() {
    let proxy = live();
    assert_eq!(proxy.get("/stats?filter=^server\\.state$"), "server.state: 0\n");
    let json = proxy.json("/stats?format=json&filter=^server\\.state$");
    assert_eq!(json["stats"][0], json!({"name": "server.state", "value": 0}));
    assert!(proxy.get("/stats/prometheus?filter=server.state").contains("envoy_server_state{} 0"));
    assert!(proxy.get("/stats/prometheus").contains("ringsail_engine_info{engine=\"epoll\"} 1\n"));
    assert!(!proxy.get("/stats?usedonly").contains("cluster_manager.cds.update_success"));
    assert_eq!(proxy.request("GET", "/stats?filter=%5B").0, 400);
    assert_eq!(proxy.request("GET", "/stats?format=nope").0, 400);
}

#[test]
fn what_changes_something_needs_post() {
    let proxy = live();
    for path in ["/quitquitquit", "/logging", "/drain_listeners", "/healthcheck/fail", "/reopen_logs"] {
        let answer = proxy.request("GET", path);
        assert_eq!(answer, (405, "Method GET not allowed, POST required.".to_string()), "{path}");
    }
    assert!(proxy.process.calls.lock().expect("lock").is_empty());
}

#[test]
fn a_drain_is_asked_of_the_process_as_the_query_says() {
    let proxy = live();
    for (query, drain) in [
        ("inboundonly&graceful", "Drain { inbound_only: true, graceful: true, skip_exit: false }"),
        ("graceful", "Drain { inbound_only: false, graceful: true, skip_exit: false }"),
        ("inboundonly", "Drain { inbound_only: true, graceful: false, skip_exit: false }"),
        ("inboundonly&graceful&skip_exit", "Drain { inbound_only: true, graceful: true, skip_exit: true }"),
    ] {
        assert_eq!(proxy.request("POST", &format!("/drain_listeners?{query}")), (200, "OK\n".to_string()));
        assert_eq!(proxy.process.calls.lock().expect("lock").pop().as_deref(), Some(drain));
    }
    assert_eq!(proxy.request("POST", "/quitquitquit"), (200, "OK\n".to_string()));
    assert_eq!(proxy.process.calls.lock().expect("lock").pop().as_deref(), Some("quit"));
    assert_eq!(proxy.request("GET", "/ready").0, 200, "draining listeners does not make the server unready");
}

#[test]
fn health_checks_can_be_made_to_fail() {
    let proxy = live();
    assert_eq!(proxy.request("POST", "/healthcheck/fail"), (200, "OK\n".to_string()));
    assert_eq!(proxy.request("GET", "/ready"), (503, "DRAINING\n".to_string()));
    assert_eq!(proxy.json("/server_info")["state"], "DRAINING");
    assert_eq!(proxy.stat("server.state"), Some(1));
    assert_eq!(proxy.request("POST", "/healthcheck/ok"), (200, "OK\n".to_string()));
    assert_eq!(proxy.request("GET", "/ready"), (200, "LIVE\n".to_string()));
}

#[test]
fn log_levels_are_shown_and_set() {
    let proxy = live();
    assert_eq!(proxy.request("POST", "/logging"), (200, "active loggers:\n  agent: info\n\n".to_string()));
    assert!(proxy.request("POST", "/logging?level=debug").1.contains("agent: debug"));
    assert!(proxy.request("POST", "/logging?agent=error").1.contains("agent: error"));
    assert!(proxy.request("POST", "/logging?paths=agent:warning").1.contains("agent: warning"));
    assert_eq!(proxy.request("POST", "/logging?nonesuch=info").0, 400);
    assert_eq!(proxy.request("POST", "/logging?level=loud").0, 400);
}

#[test]
fn an_unknown_path_is_answered_with_the_known_ones() {
    let proxy = live();
    let (status, body) = proxy.request("GET", "/nonesuch");
    assert_eq!(status, 404);
    assert!(body.starts_with("invalid path. admin commands are:\n  /: Admin home page\n"), "{body}");
    assert_eq!(proxy.get("/help").lines().next(), Some("admin commands are:"));
    assert!(body.contains("  /quitquitquit (POST): exit the server\n"));
}
