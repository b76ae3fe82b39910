//! A route lookup among many virtual hosts costs what it costs among few.

use std::time::{Duration, Instant};

use prost::Message;
use ringsail_tables::route::{Found, RouteConfig};
use ringsail_tables::{Change, Compiler, Request, ResourceType};
use ringsail_xds::envoy::config::route::v3::RouteConfiguration;
use ringsail_xds::json::Schema;
use serde_json::{Value, json};

struct Get(String);

impl Request for Get {
    fn method(&self) -> &str {
        "GET"
    }
    fn authority(&self) -> &str {
        &self.0
    }
    fn path(&self) -> &str {
        "/productpage"
    }
    fn scheme(&self) -> &str {
        "http"
    }
    fn header(&self, _: &str, _: usize) -> Option<&[u8]> {
        None
    }
}

fn config(hosts: usize) -> std::sync::Arc<RouteConfig> {
    let hosts: Vec<Value> = (0..hosts)
        .map(|i| {
            let name = format!("svc-{i:04}");
            let domains = [
                name.clone(),
                format!("{name}.bench"),
                format!("{name}.bench.svc.cluster.local"),
                format!("*.{name}.example"),
            ];
            json!({"name": name, "domains": domains,
                "routes": [{"match": {"prefix": "/"}, "route": {"cluster": name}}]})
        })
        .collect();
    let config: RouteConfiguration =
        Schema::shared().from_json(&json!({"name": "80", "virtual_hosts": hosts})).unwrap();
    let resource = config.encode_to_vec().into();
    let put = Change::Put { kind: ResourceType::RouteConfiguration, name: "80".to_owned(), resource };
    Compiler::new().apply([put]).0.route_configs().next().unwrap().clone()
}

/// The fastest of many rounds: what the lookup costs when nothing disturbs it.
fn lookup_time(config: &RouteConfig, requests: &[Get]) -> Duration {
    let round = || {
        let start = Instant::now();
        for (index, request) in requests.iter().enumerate() {
            assert!(matches!(config.find(request, index as u64), Found::Route(_)));
        }
        start.elapsed()
    };
    (0..200).map(|_| round()).min().unwrap()
}

#[test]
fn a_thousand_virtual_hosts_cost_a_request_no_more_than_ten() {
    let (few, many) = (config(10), config(1000));
    let requests: Vec<Get> = (0..10)
        .flat_map(|i| [Get(format!("svc-000{i}.bench")), Get(format!("a.svc-000{i}.example"))])
        .collect();
    let (among_few, among_many) = (lookup_time(&few, &requests), lookup_time(&many, &requests));
    println!("20 lookups: {among_few:?} among 10 hosts, {among_many:?} among 1,000");
    // Twice leaves room for a cold cache line; a scan would cost fifty times as much.
    assert!(among_many < 2 * among_few, "{among_few:?} among 10, {among_many:?} among 1,000");
}
