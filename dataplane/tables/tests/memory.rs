//! What the tables cost, counted in bytes asked of the allocator.

use std::cell::Cell;

use prost::Message;
use ringsail_runtime::memory::Observed;
use ringsail_tables::route::Found;
use ringsail_tables::{Change, Compiler, Request, ResourceType, Severity};
use ringsail_xds::envoy::config::cluster::v3::Cluster;
use ringsail_xds::envoy::config::endpoint::v3::ClusterLoadAssignment;
use ringsail_xds::envoy::config::route::v3::RouteConfiguration;
use ringsail_xds::json::Schema;
use serde_json::{Value, json};

thread_local! {
    static HELD_BYTES: Cell<isize> = const { Cell::new(0) };
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

/// Counts what this thread holds and how often it asked; plain cells without destructors allocate nothing.
fn count(bytes: isize) {
    HELD_BYTES.set(HELD_BYTES.get() + bytes);
    CALLS.set(CALLS.get() + usize::from(bytes > 0));
}

#[global_allocator]
static ALLOCATOR: Observed = Observed(count);

/// A cluster in the form istiod sends it, and five endpoints with their metadata.
fn cluster_changes(index: usize) -> [Change; 2] {
    let name = format!("outbound|9080|v{}|service-{index}.default.svc.cluster.local", index % 3);
    let cluster = json!({
        "name": name, "type": "EDS", "connect_timeout": "10s", "lb_policy": "LEAST_REQUEST",
        "eds_cluster_config": {"eds_config": {"ads": {}, "initial_fetch_timeout": "0s"}, "service_name": name},
        "circuit_breakers": {"thresholds": [{"max_connections": 4_294_967_295_u32,
            "max_pending_requests": 4_294_967_295_u32, "max_requests": 4_294_967_295_u32,
            "max_retries": 4_294_967_295_u32, "track_remaining": true}]},
        "common_lb_config": {"locality_weighted_lb_config": {}, "healthy_panic_threshold": {}},
        "metadata": {"filter_metadata": {"istio": {"services": [{"host": format!("service-{index}.default.svc"),
            "name": format!("service-{index}"), "namespace": "default"}]}}},
        "outlier_detection": {"consecutive_5xx": 7},
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "use_downstream_protocol_config": {"http_protocol_options": {}, "http2_protocol_options": {}}}},
    });
    let hosts: Vec<Value> = (0..5)
        .map(|host| {
            json!({"endpoint": {"address": {"socket_address": {
                "address": format!("10.{}.{}.{host}", index / 256, index % 256), "port_value": 9080}}},
                "health_status": "HEALTHY", "load_balancing_weight": 1,
                "metadata": {"filter_metadata": {
                    "istio": {"workload": format!("service-{index}-v1;default;service-{index};v1;Kubernetes")},
                    "envoy.transport_socket_match": {"tlsMode": "istio"}}}})
        })
        .collect();
    let assignment = json!({"cluster_name": name, "endpoints": [{"lb_endpoints": hosts,
        "locality": {"region": "r1", "zone": "z1"}, "load_balancing_weight": 5}]});
    let schema = Schema::shared();
    let put = |kind, resource: Vec<u8>| Change::Put { kind, name: name.clone(), resource: resource.into() };
    [
        put(ResourceType::Cluster, schema.from_json::<Cluster>(&cluster).unwrap().encode_to_vec()),
        put(
            ResourceType::ClusterLoadAssignment,
            schema.from_json::<ClusterLoadAssignment>(&assignment).unwrap().encode_to_vec(),
        ),
    ]
}

/// Wanted: 4 KiB for all a proxy holds of it. About half is left to the raw resources, which the agent keeps for its
/// config dump, and to statistics and pools.
const CLUSTER_BYTES_MAX: isize = 2400;

#[test]
fn a_cluster_with_five_endpoints_stays_below_its_bound() {
    const CLUSTERS: usize = 500;
    let schema = Schema::shared();
    println!(
        "Cluster {} bytes, Endpoint {} bytes",
        size_of::<ringsail_tables::cluster::Cluster>(),
        size_of::<ringsail_tables::endpoint::Endpoint>()
    );
    let before = HELD_BYTES.get();
    let mut compiler = Compiler::new();
    let mut refused = Vec::new();
    for start in (0..CLUSTERS).step_by(50) {
        let (_, found) = compiler.apply((start..start + 50).flat_map(cluster_changes));
        refused.extend(found.into_iter().filter(|one| one.severity == Severity::Refused));
    }
    let each = (HELD_BYTES.get() - before) / CLUSTERS as isize;
    drop(schema);
    assert!(refused.is_empty(), "{refused:?}");
    assert_eq!(compiler.tables().clusters().count(), CLUSTERS);
    println!("{each} bytes per cluster with 5 endpoints");
    assert!(each <= CLUSTER_BYTES_MAX, "{each} bytes per cluster");
}

#[test]
fn what_was_removed_is_given_back() {
    let schema = Schema::shared();
    let mut compiler = Compiler::new();
    let mut held = Vec::new();
    let changes: Vec<Change> = (0..50).flat_map(cluster_changes).collect();
    let removed = |change: &Change| match change {
        Change::Put { kind, name, .. } => Change::Remove { kind: *kind, name: name.clone() },
        other => other.clone(),
    };
    for _ in 0..4 {
        compiler.apply(changes.clone());
        compiler.apply(changes.iter().map(removed));
        held.push(HELD_BYTES.get());
    }
    drop(schema);
    assert!(held[3] - held[1] < 4096, "{held:?}");
}

struct Get {
    authority: &'static str,
    path: &'static str,
}

impl Request for Get {
    fn method(&self) -> &str {
        "GET"
    }
    fn authority(&self) -> &str {
        self.authority
    }
    fn path(&self) -> &str {
        self.path
    }
    fn scheme(&self) -> &str {
        "http"
    }
    fn header(&self, name: &str, nth: usize) -> Option<&[u8]> {
        let values: &[&str] = match name {
            "end-user" => &["jason"],
            "cookie" => &["a=b; user=jason", "c=d"],
            _ => &[],
        };
        values.get(nth).map(|value| value.as_bytes())
    }
}

#[test]
fn a_route_lookup_allocates_nothing() {
    let hosts: Vec<Value> = (0..1000)
        .map(|host| {
            json!({"name": format!("host-{host}"), "domains": [format!("service-{host}.default"), format!("*.{host}.example")],
            "routes": [
                {"match": {"safe_regex": {"regex": "/api/v[0-9]+/.*"}}, "route": {"cluster": "regex"}},
                {"match": {"prefix": "/", "headers": [{"name": "cookie",
                    "string_match": {"safe_regex": {"regex": "^(.*?;)?(user=tom)(;.*)?$"}}}]},
                    "route": {"cluster": "tom"}},
                {"match": {"prefix": "/", "headers": [{"name": "end-user", "string_match": {"exact": "jason"}}]},
                    "route": {"weighted_clusters": {"clusters": [
                        {"name": "v1", "weight": 90}, {"name": "v2", "weight": 10}]}}}]})
        })
        .collect();
    let config: RouteConfiguration =
        Schema::shared().from_json(&json!({"name": "80", "virtual_hosts": hosts})).unwrap();
    let (tables, refused) = Compiler::new().apply([Change::Put {
        kind: ResourceType::RouteConfiguration,
        name: "80".to_owned(),
        resource: config.encode_to_vec().into(),
    }]);
    assert!(refused.is_empty(), "{refused:?}");
    let config = tables.route_configs().next().unwrap();
    let requests = [
        Get { authority: "service-777.default", path: "/productpage?u=normal" },
        Get { authority: "SERVICE-1.default", path: "/api/v1/products" },
        Get { authority: "a.9.example", path: "/" },
    ];
    let route_all = |random| {
        let found =
            requests.iter().filter(|request| matches!(config.find(*request, random), Found::Route(_)));
        assert_eq!(found.count(), requests.len());
    };
    // A regular expression builds its automaton as it meets input, once per thread.
    (0..100).for_each(route_all);
    let before = CALLS.get();
    (0..100).for_each(route_all);
    assert_eq!(CALLS.get() - before, 0);
}
