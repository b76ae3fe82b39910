//! Secrets by ADS and from a service of their own.

use ringsail_agent::Phase;
use ringsail_tls::Utc;
use ringsail_tls::issue::{Issued, Request};
use ringsail_xds::protocol::server::Answer;
use ringsail_xds::type_url::{
    CLUSTER, DOWNSTREAM_TLS_CONTEXT, HTTP_CONNECTION_MANAGER, LISTENER, ROUTER, SECRET,
};
use serde_json::{Value, json};

use crate::ads::{BOTH, bootstrap};
use crate::control_plane::ControlPlane;
use crate::proxy::{Proxy, eventually};

/// A certificate that signs itself, and its key.
fn made(account: &str) -> (String, String) {
    let now = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_secs() as i64;
    let mut request = Request::new(Utc(now - 60), Utc(now + 3600));
    request.uri_names.push(format!("spiffe://cluster.local/ns/a/sa/{account}"));
    let issued = Issued::self_signed(&request).expect("made");
    let text = |pem: Vec<u8>| String::from_utf8(pem).expect("PEM is text");
    (text(issued.certificate_pem().expect("written")), text(issued.key_pem().expect("written")))
}

fn identity((chain, key): &(String, String)) -> Value {
    json!({"name": "default", "tls_certificate":
        {"certificate_chain": {"inline_string": chain}, "private_key": {"inline_string": key}}})
}

fn root((chain, _): &(String, String)) -> Value {
    json!({"name": "ROOTCA", "validation_context": {"trusted_ca": {"inline_string": chain}}})
}

/// A listener that ends mutual TLS with secrets from `source`.
fn listener(source: &Value) -> Value {
    let named = |name: &str| json!({"name": name, "sds_config": source});
    json!({"name": "l", "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
        "filter_chains": [{
            "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": {
                "@type": DOWNSTREAM_TLS_CONTEXT, "require_client_certificate": true,
                "common_tls_context": {
                    "tls_certificate_sds_secret_configs": [named("default")],
                    "combined_validation_context": {"default_validation_context": {},
                        "validation_context_sds_secret_config": named("ROOTCA")}}}},
            "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": {
                "@type": HTTP_CONNECTION_MANAGER, "stat_prefix": "x",
                "route_config": {"name": "r", "virtual_hosts": []},
                "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": ROUTER}}]}}]}]})
}

fn shown(proxy: &Proxy) -> Vec<String> {
    let certificates = proxy.json("/certs");
    let all = certificates["certificates"].as_array().expect("a list").iter();
    let chains = all.filter_map(|one| one["cert_chain"][0]["subject_alt_names"][0]["uri"].as_str());
    chains.map(str::to_owned).collect()
}

/// Runs through the life of a listener's secrets: missing, there, rotated, broken.
fn life_of_secrets(plane: &ControlPlane, secrets: &ControlPlane, proxy: &Proxy) {
    eventually("asked for", || {
        secrets.heard.lock().expect("lock").iter().any(|request| request.type_url == SECRET)
    });
    assert_eq!(proxy.get("/listeners"), "", "a listener without its secrets is not served");
    let (first, second) = (made("first"), made("second"));
    secrets.set(SECRET, "1", &[identity(&first)]);
    secrets.set(SECRET, "2", &[identity(&first), root(&first)]);
    eventually("served", || proxy.get("/listeners").starts_with("l::"));
    assert_eq!(shown(proxy), ["spiffe://cluster.local/ns/a/sa/first"]);
    secrets.set(SECRET, "3", &[identity(&second), root(&first)]);
    eventually("rotated", || shown(proxy) == ["spiffe://cluster.local/ns/a/sa/second"]);
    secrets.set(SECRET, "4", &[identity(&(first.0.clone(), second.1.clone())), root(&first)]);
    let refusal = || {
        let heard = secrets.heard.lock().expect("lock");
        heard.iter().find_map(|request| match &request.answer {
            Some(Answer::Nack { error, .. }) if request.type_url == SECRET => Some(error.clone()),
            _ => None,
        })
    };
    eventually("refused", || refusal().is_some());
    let text = refusal().expect("refused");
    assert!(text.contains("tls_certificate: the private key does not belong to the certificate"), "{text}");
    assert_eq!(shown(proxy), ["spiffe://cluster.local/ns/a/sa/second"], "the last good one stays");
    let heard = plane.heard.lock().expect("lock");
    assert!(
        heard.iter().all(
            |request| !matches!(&request.answer, Some(Answer::Nack { .. }) if request.type_url != SECRET)
        )
    );
}

#[test]
fn secrets_come_by_ads_and_a_broken_one_is_refused() {
    for api_type in BOTH {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("xds");
        let plane = ControlPlane::new();
        plane.set(CLUSTER, "1", &[]);
        plane.set(LISTENER, "1", &[listener(&json!({"ads": {}, "initial_fetch_timeout": "0s"}))]);
        let _listening = plane.listen(&socket);
        let proxy = Proxy::start(&bootstrap(api_type, &socket));
        life_of_secrets(&plane, &plane, &proxy);
        eventually("live", || proxy.agent.phase() == Phase::Live);
    }
}

#[test]
fn secrets_come_from_a_service_of_their_own() {
    let dir = tempfile::tempdir().expect("a directory");
    let (socket, own) = (dir.path().join("xds"), dir.path().join("sds"));
    let (plane, secrets) = (ControlPlane::new(), ControlPlane::new());
    plane.set(CLUSTER, "1", &[]);
    let source = json!({"initial_fetch_timeout": "0s", "api_config_source": {
        "api_type": "GRPC", "grpc_services": [{"envoy_grpc": {"cluster_name": "sds-grpc"}}]}});
    plane.set(LISTENER, "1", &[listener(&source)]);
    let (_listening, _serving) = (plane.listen(&socket), secrets.listen(&own));
    let more = format!(
        "  - {{name: sds-grpc, type: STATIC, connect_timeout: 1s, load_assignment: {{cluster_name: sds-grpc, endpoints: \
         [{{lb_endpoints: [{{endpoint: {{address: {{pipe: {{path: {}}}}}}}}}]}}]}}}}\n",
        own.display()
    );
    let proxy = Proxy::start(&format!("{}{more}", bootstrap("GRPC", &socket)));
    life_of_secrets(&plane, &secrets, &proxy);
}
