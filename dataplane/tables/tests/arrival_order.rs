//! The tables are a function of the set of resources: whatever the order and grouping of their arrival, the outcome is
//! the same, up to slot numbers.
//!
//! `RINGSAIL_SEED=N cargo test -p ringsail-tables --test arrival_order` repeats one case alone.

use prost::Message;
use ringsail_tables::filter_chain::Terminal;
use ringsail_tables::{Change, Compiler, ResourceType, Tables};
use ringsail_xds::envoy::config::cluster::v3::Cluster;
use ringsail_xds::envoy::config::endpoint::v3::ClusterLoadAssignment;
use ringsail_xds::envoy::config::listener::v3::Listener;
use ringsail_xds::envoy::config::route::v3::RouteConfiguration;
use ringsail_xds::json::Schema;
use serde_json::{Value, json};

const CASES: u64 = 40;

#[test]
fn any_arrival_order_gives_equal_tables() {
    // Held, so that it is built once.
    let _schema = Schema::shared();
    if let Some(seed) = std::env::var("RINGSAIL_SEED").ok().and_then(|seed| seed.parse().ok()) {
        check(seed);
        return;
    }
    let start = fastrand::u64(..u64::MAX / 2);
    println!("first seed {start}");
    for seed in start..start + CASES {
        check(seed);
    }
}

fn check(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    // From nothing: any set, also one that refers to what is not there.
    let any = resources(&mut random, false);
    compare(seed, &mut random, |compiler, random| {
        let mut order = any.clone();
        random.shuffle(&mut order);
        deliver(compiler, random, order);
    });
    // After an earlier state, of which everything is replaced or removed on the way. What refers to nothing would keep
    // its previous version, as it should, so the last state is complete.
    let last = resources(&mut random, true);
    compare(seed, &mut random, |compiler, random| {
        let mut earlier = any.clone();
        random.shuffle(&mut earlier);
        earlier.truncate(random.usize(..=any.len()));
        deliver(compiler, random, earlier.clone());
        let gone = earlier.iter().filter(|old| !last.iter().any(|new| key(new) == key(old)));
        let gone = gone.map(|old| Change::Remove { kind: key(old).0, name: key(old).1.to_owned() });
        let mut later: Vec<Change> = last.iter().cloned().chain(gone).collect();
        random.shuffle(&mut later);
        deliver(compiler, random, later);
    });
}

/// Three histories must end in equal tables.
fn compare(
    seed: u64,
    random: &mut fastrand::Rng,
    mut history: impl FnMut(&mut Compiler, &mut fastrand::Rng),
) {
    let mut outcome = || {
        let mut compiler = Compiler::new();
        history(&mut compiler, random);
        digest(compiler.tables())
    };
    let first = outcome();
    assert_eq!(outcome(), first, "RINGSAIL_SEED={seed}");
    assert_eq!(outcome(), first, "RINGSAIL_SEED={seed}");
}

/// Applies changes in groups of random size.
fn deliver(compiler: &mut Compiler, random: &mut fastrand::Rng, mut changes: Vec<Change>) {
    while !changes.is_empty() {
        let rest = changes.split_off(random.usize(1..=changes.len()));
        let (_, found) = compiler.apply(changes);
        assert!(found.is_empty(), "{found:?}");
        changes = rest;
    }
}

fn key(change: &Change) -> (ResourceType, &str) {
    match change {
        Change::Put { kind, name, .. } | Change::Remove { kind, name } | Change::GiveUp { kind, name } => {
            (*kind, name)
        }
        Change::Resolved { .. } => panic!("not made here"),
    }
}

/// A few resources that refer to each other; unless `complete`, some of them to what is not there.
fn resources(random: &mut fastrand::Rng, complete: bool) -> Vec<Change> {
    let mut all = Vec::new();
    for cluster in 0..4 {
        if random.bool() {
            all.push(put(
                ResourceType::Cluster,
                json!({"name": format!("c{cluster}"), "type": "EDS", "connect_timeout": format!("{}s", random.u32(1..4)),
                    "eds_cluster_config": {"service_name": format!("s{}", random.u32(0..3))}}),
            ));
        }
    }
    for service in 0..3 {
        if complete || random.bool() {
            let hosts: Vec<Value> = (0..random.u32(0..4))
                .map(|port| {
                    json!({"endpoint": {"address": {"socket_address":
                    {"address": "10.0.0.1", "port_value": port + random.u32(1..9)}}}})
                })
                .collect();
            all.push(put(
                ResourceType::ClusterLoadAssignment,
                json!({"cluster_name": format!("s{service}"), "endpoints": [{"lb_endpoints": hosts,
                    "priority": random.u32(0..2)}]}),
            ));
        }
    }
    for routes in 0..3 {
        if complete || random.bool() {
            all.push(put(
                ResourceType::RouteConfiguration,
                json!({"name": format!("r{routes}"), "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [
                    {"match": {"prefix": "/"}, "route": {"cluster": format!("c{}", random.u32(0..5))}}]}]}),
            ));
        }
    }
    for listener in 0..3 {
        if random.bool() {
            all.push(put(ResourceType::Listener, listener_json(listener, random)));
        }
    }
    all
}

fn listener_json(index: u32, random: &mut fastrand::Rng) -> Value {
    let inline = json!({"name": "inline", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [
        {"match": {"prefix": "/"}, "route": {"cluster": format!("c{}", random.u32(0..5))}}]}]});
    let mut manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "x", "http_filters": [{"name": "router", "typed_config":
            {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]});
    if random.bool() {
        manager["route_config"] = inline;
    } else {
        manager["rds"] =
            json!({"route_config_name": format!("r{}", random.u32(0..3)), "config_source": {"ads": {}}});
    }
    json!({"name": format!("l{index}"),
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": 8000 + index}},
        "filter_chains": [{"filters": [{"name": "hcm", "typed_config": manager}]}]})
}

fn put(kind: ResourceType, resource: Value) -> Change {
    let schema = Schema::shared();
    let bytes = match kind {
        ResourceType::Listener => schema.from_json::<Listener>(&resource).unwrap().encode_to_vec(),
        ResourceType::RouteConfiguration => {
            schema.from_json::<RouteConfiguration>(&resource).unwrap().encode_to_vec()
        }
        ResourceType::Cluster => schema.from_json::<Cluster>(&resource).unwrap().encode_to_vec(),
        ResourceType::ClusterLoadAssignment => {
            schema.from_json::<ClusterLoadAssignment>(&resource).unwrap().encode_to_vec()
        }
        ResourceType::Secret => unreachable!("none is put"),
    };
    let name = resource.get("name").or(resource.get("cluster_name")).unwrap().as_str().unwrap();
    Change::Put { kind, name: name.to_owned(), resource: bytes.into() }
}

/// The tables in words, without slots and generations.
///
/// Left out: route configurations no listener refers to. One that an earlier listener used may still be there.
fn digest(tables: &Tables) -> Vec<String> {
    let mut lines = Vec::new();
    for cluster in tables.clusters() {
        let endpoints: Vec<String> = cluster
            .endpoints
            .iter()
            .map(|(priority, _, endpoint)| format!("{priority} {} {:?}", endpoint.address, endpoint.health))
            .collect();
        lines.push(format!("{:?} {endpoints:?}", cluster.cluster));
    }
    for listener in tables.listeners() {
        let Terminal::Http(manager) = &listener.filter_chains[0].terminal else { panic!("not HTTP") };
        let routes = tables.route_config(manager.routes).expect("closed");
        let route = format!("{:?}", routes.virtual_hosts[0].routes[0].action);
        let target = route.split("name: ").nth(1).and_then(|rest| rest.split(',').next()).unwrap_or("?");
        lines.push(format!("{} {:?} {} -> {target}", listener.name, listener.addresses, routes.name));
    }
    lines.sort();
    lines
}
