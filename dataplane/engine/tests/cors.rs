//! Cross-origin requests, as Envoy 1.40 answers them.

mod harness;

use harness::{Proxy, Upstream, closed_port, cluster, engines, listener, manager, stable};
use ringsail_runtime::engine::EngineChoice;
use serde_json::{Value, json};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn policy(more: Value) -> Value {
    let mut policy = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy",
        "allow_origin_string_match": [{"exact": "http://a.example"}, {"prefix": "https://b."},
            {"safe_regex": {"regex": "http://[cd]\\.example"}}],
        "allow_methods": "GET,PUT", "allow_headers": "x-a", "expose_headers": "x-e", "max_age": "24",
        "allow_credentials": true, "allow_private_network_access": true,
    });
    policy.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    policy
}

fn proxy(engine: EngineChoice, policy: Value) -> Proxy {
    let route = |prefix: &str, cluster: &str| {
        json!({"match": {"prefix": prefix}, "route": {"cluster": cluster},
            "response_headers_to_add": [{"header": {"key": "x-details", "value": "%RESPONSE_CODE_DETAILS%"}}],
            "typed_per_filter_config": {"envoy.filters.http.cors": policy}})
    };
    let clusters = [cluster("up", &[Upstream::answering(OK)]), cluster("dead", &[closed_port()])];
    Proxy::start(engine, &[listener(manager(json!([route("/dead", "dead"), route("/", "up")])))], &clusters)
}

fn ask(proxy: &Proxy, method: &str, path: &str, fields: &str) -> String {
    let mut client = proxy.connect();
    client.send(format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    stable(&client.read_message())
}

#[test]
fn a_preflight_is_answered_here_without_the_routes_headers() {
    for engine in engines() {
        let proxy = proxy(engine, policy(json!({})));
        let answer = ask(
            &proxy,
            "OPTIONS",
            "/",
            "Origin: http://a.example\r\nAccess-Control-Request-Method: PUT\r\n\
             Access-Control-Request-Private-Network: true\r\n",
        );
        assert_eq!(
            answer,
            "HTTP/1.1 200 OK\naccess-control-allow-origin: http://a.example\naccess-control-allow-credentials: true\n\
             access-control-allow-methods: GET,PUT\naccess-control-allow-headers: x-a\naccess-control-max-age: 24\n\
             access-control-allow-private-network: true\naccess-control-expose-headers: x-e\nserver: envoy\n\
             content-length: 0\n\n"
        );
        assert_eq!(proxy.stat("http.test.cors.origin_valid"), 1);
        assert_eq!(proxy.log(), "200 - cors_response\n");
    }
}

#[test]
fn an_allowed_origin_is_told_so_by_answers_of_the_upstream_and_of_ours() {
    for engine in engines() {
        let proxy = proxy(engine, policy(json!({})));
        for origin in ["http://a.example", "https://b.anything", "http://d.example"] {
            assert_eq!(
                ask(&proxy, "GET", "/", &format!("Origin: {origin}\r\n")),
                format!(
                    "HTTP/1.1 200 OK\ncontent-length: 2\nx-details: via_upstream\n\
                     access-control-allow-origin: {origin}\naccess-control-allow-credentials: true\n\
                     access-control-expose-headers: x-e\nserver: envoy\n\nok"
                )
            );
        }
        let dead = ask(&proxy, "GET", "/dead", "Origin: http://a.example\r\n");
        assert!(
            dead.contains(
                "\ncontent-type: text/plain\naccess-control-allow-origin: http://a.example\n\
                 access-control-allow-credentials: true\naccess-control-expose-headers: x-e\nserver: envoy\n"
            ),
            "{dead}"
        );
    }
}

#[test]
fn another_origin_gets_no_leave() {
    for engine in engines() {
        let proxy = proxy(engine, policy(json!({})));
        for fields in [
            "Origin: http://a.example.evil\r\n",
            "Origin: http://x\r\nAccess-Control-Request-Method: PUT\r\n",
        ] {
            for method in ["GET", "OPTIONS"] {
                let answer = ask(&proxy, method, "/", fields);
                assert!(answer.ends_with("\n\nok") && !answer.contains("access-control"), "{answer}");
            }
        }
        assert_eq!(proxy.stat("http.test.cors.origin_invalid"), 4);
    }
}

#[test]
fn a_preflight_of_another_origin_may_be_answered_here() {
    for engine in engines() {
        let proxy = proxy(engine, policy(json!({"forward_not_matching_preflights": false})));
        let answer =
            ask(&proxy, "OPTIONS", "/", "Origin: http://x\r\nAccess-Control-Request-Method: PUT\r\n");
        assert_eq!(
            answer,
            "HTTP/1.1 200 OK\naccess-control-allow-credentials: true\naccess-control-allow-methods: GET,PUT\n\
             access-control-allow-headers: x-a\naccess-control-max-age: 24\nserver: envoy\ncontent-length: 0\n\n"
        );
    }
}

#[test]
fn a_star_allows_any_origin() {
    for engine in engines() {
        let proxy = proxy(engine, policy(json!({"allow_origin_string_match": [{"exact": "*"}]})));
        let answer = ask(&proxy, "GET", "/", "Origin: http://any.example\r\n");
        assert!(answer.contains("\naccess-control-allow-origin: http://any.example\n"), "{answer}");
    }
}

#[test]
fn a_policy_in_the_shadow_only_counts() {
    for engine in engines() {
        let off = json!({"filter_enabled": {"default_value": {"numerator": 0}}});
        let silent = proxy(engine, policy(off.clone()));
        assert!(!ask(&silent, "GET", "/", "Origin: http://a.example\r\n").contains("access-control"));
        assert_eq!(silent.stat("http.test.cors.origin_valid"), 0);
        let mut shadow = off;
        shadow["shadow_enabled"] = json!({"default_value": {"numerator": 100}});
        let shadow = proxy(engine, policy(shadow));
        assert!(!ask(&shadow, "GET", "/", "Origin: http://a.example\r\n").contains("access-control"));
        assert_eq!(shadow.stat("http.test.cors.origin_valid"), 1);
    }
}
