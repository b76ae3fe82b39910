//! What is refused in routes and HTTP filters, and that the finding names the field.

use prost::Message;
use ringsail_tables::{Change, Compiler, ResourceType, Severity};
use ringsail_xds::envoy::config::route::v3::RouteConfiguration;
use ringsail_xds::json::Schema;
use serde_json::{Value, json};

/// Findings about a route configuration with one route to cluster `a` that has `more`.
fn findings(more: Value) -> Vec<String> {
    let mut route = json!({"cluster": "a"});
    route.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let config = json!({"name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"],
        "routes": [{"match": {"prefix": "/"}, "route": route}]}]});
    let config: RouteConfiguration = Schema::shared().from_json(&config).unwrap();
    let change = Change::Put {
        kind: ResourceType::RouteConfiguration,
        name: "r".to_owned(),
        resource: config.encode_to_vec().into(),
    };
    let (_, found) = Compiler::new().apply([change]);
    let refused = found.iter().filter(|found| found.severity == Severity::Refused);
    let path = |field: &str| field.replace("virtual_hosts[0].routes[0].route.", "");
    refused.map(|found| format!("{}: {}", path(&found.field), found.text)).collect()
}

#[track_caller]
fn check(more: Value, expected: &str) {
    assert_eq!(findings(more.clone()), [expected], "{more}");
}

#[test]
fn mirror_policies_name_one_cluster_and_sound_headers() {
    assert!(
        findings(json!({"request_mirror_policies": [{"cluster": "b", "trace_sampled": true}]})).is_empty()
    );
    check(json!({"request_mirror_policies": [{}]}), "request_mirror_policies[0].cluster: is empty");
    check(
        json!({"request_mirror_policies": [{"cluster": "b"}, {"cluster": "b", "cluster_header": "x"}]}),
        "request_mirror_policies[1].cluster_header: excludes cluster",
    );
    check(
        json!({"request_mirror_policies": [{"cluster": "b", "request_headers_mutations": [{"remove": ":path"}]}]}),
        "request_mirror_policies[0].request_headers_mutations[0].remove[0]: :path cannot be removed",
    );
    check(
        json!({"request_mirror_policies": [{"cluster": "b", "request_headers_mutations": [{}]}]}),
        "request_mirror_policies[0].request_headers_mutations[0]: names no action",
    );
}
