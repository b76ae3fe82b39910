//! Limits the proxy keeps itself, as Envoy 1.40 keeps them.

mod harness;

use harness::{Peer, Proxy, Seen, Upstream, cluster, engines, listener, manager, stable};
use ringsail_runtime::engine::EngineChoice;
use serde_json::{Value, json};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const TYPE: &str = "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit";

/// Settings with a bucket of three that practically does not refill.
fn limit(more: Value) -> Value {
    let all = json!({"default_value": {"numerator": 100}});
    let mut limit = json!({"@type": TYPE, "stat_prefix": "lrl", "filter_enabled": all, "filter_enforced": all,
        "token_bucket": {"max_tokens": 3, "tokens_per_fill": 1, "fill_interval": "3600s"},
        "response_headers_to_add": [{"header": {"key": "x-local-rate-limit", "value": "true"}}],
        "enable_x_ratelimit_headers": "DRAFT_VERSION_03"});
    limit.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    limit
}

/// A proxy whose route `/` has `limit` and these further settings of its action.
fn proxy_to(engine: EngineChoice, up: std::net::SocketAddr, limit: Value, action: Value) -> Proxy {
    let mut route = json!({"cluster": "up"});
    route.as_object_mut().unwrap().extend(action.as_object().unwrap().clone());
    let mut manager = manager(json!([{"match": {"prefix": "/"}, "route": route,
        "response_headers_to_add": [{"header": {"key": "x-details", "value": "%RESPONSE_CODE_DETAILS%"}}],
        "typed_per_filter_config": {"envoy.filters.http.local_ratelimit": limit}}]));
    let filter = json!({"name": "l", "typed_config": {"@type": TYPE, "stat_prefix": "chain"}});
    manager["http_filters"].as_array_mut().unwrap().insert(0, filter);
    Proxy::start(engine, &[listener(manager)], &[cluster("up", &[up])])
}

fn proxy(engine: EngineChoice, limit: Value, action: Value) -> Proxy {
    proxy_to(engine, Upstream::answering(OK), limit, action)
}

fn ask(client: &mut Peer, fields: &str) -> String {
    client.send(format!("GET /a?q=1 HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    stable(&client.read_message())
}

fn status(client: &mut Peer, fields: &str) -> String {
    ask(client, fields)[9..12].to_owned()
}

#[test]
fn a_request_past_the_limit_is_refused_with_envoys_words() {
    for engine in engines() {
        let proxy = proxy(engine, limit(json!({"enable_retry_after_header": true})), json!({}));
        let mut client = proxy.connect();
        for left in [2, 1] {
            assert_eq!(
                ask(&mut client, ""),
                format!(
                    "HTTP/1.1 200 OK\ncontent-length: 2\nx-details: via_upstream\nx-ratelimit-limit: 3\n\
                     x-ratelimit-remaining: {left}\nx-ratelimit-reset: 0\nserver: envoy\n\nok"
                )
            );
        }
        assert!(ask(&mut client, "").contains("\nx-ratelimit-remaining: 0\nx-ratelimit-reset: 36"));
        let refused = ask(&mut client, "");
        let (head, rest) = refused.split_once("\nretry-after: ").unwrap();
        assert_eq!(
            head,
            "HTTP/1.1 429 Too Many Requests\nx-details: local_rate_limited\nx-local-rate-limit: true"
        );
        let (seconds, rest) = rest.split_once('\n').unwrap();
        assert_eq!(
            rest,
            format!(
                "content-length: 18\ncontent-type: text/plain\nx-ratelimit-limit: 3\nx-ratelimit-remaining: 0\n\
                 x-ratelimit-reset: {seconds}\nserver: envoy\n\nlocal_rate_limited"
            )
        );
        let grpc = ask(&mut client, "Content-Type: application/grpc\r\n");
        assert!(grpc.starts_with("HTTP/1.1 200 OK\n") && grpc.contains("\ngrpc-status: 14\n"), "{grpc}");
        for (name, count) in [("enabled", 5), ("ok", 3), ("rate_limited", 2), ("enforced", 2)] {
            assert_eq!(proxy.stat(&format!("lrl.http_local_rate_limit.{name}")), count, "{name}");
        }
        drop(client);
        assert!(proxy.log().ends_with("429 RL local_rate_limited\n200 RL local_rate_limited\n"));
    }
}

#[test]
fn a_limit_that_is_not_enforced_only_marks_requests() {
    for engine in engines() {
        let seen = Seen::default();
        let note = seen.clone();
        let up = Upstream::serving(move |request| {
            note.note(request);
            OK.to_owned()
        });
        let spare = limit(json!({"filter_enforced": {"default_value": {"numerator": 0}},
            "request_headers_to_add_when_not_enforced": [{"header": {"key": "x-limited", "value": "1"}}]}));
        let proxy = proxy_to(engine, up, spare, json!({}));
        let mut client = proxy.connect();
        for _ in 0..4 {
            assert_eq!(status(&mut client, ""), "200");
        }
        let marked: Vec<bool> =
            seen.all().iter().map(|request| request.contains("\r\nx-limited: 1\r\n")).collect();
        assert_eq!(marked, [false, false, false, true]);
        assert_eq!(proxy.stat("lrl.http_local_rate_limit.enforced"), 0);
        assert_eq!(proxy.stat("lrl.http_local_rate_limit.rate_limited"), 1);
    }
}

#[test]
fn descriptors_have_buckets_of_their_own() {
    let bucket = |tokens: u32, interval: &str| json!({"max_tokens": tokens, "tokens_per_fill": 1, "fill_interval": interval});
    for engine in engines() {
        let settings = limit(json!({
        "token_bucket": bucket(100, "3600s"), "status": {"code": 503}, "rate_limited_as_resource_exhausted": true,
        "descriptors": [
            {"entries": [{"key": "generic_key", "value": "all"}], "token_bucket": bucket(4, "3600s")},
            {"entries": [{"key": "header_match", "value": "m"}, {"key": "who", "value": "bob"}],
                "token_bucket": bucket(1, "7200s")},
        ]}));
        let actions = json!({"rate_limits": [
            {"actions": [{"generic_key": {"descriptor_value": "all"}}]},
            {"actions": [{"header_value_match": {"descriptor_value": "m", "headers": [{"name": "x-m", "present_match": true}]}},
                {"request_headers": {"header_name": "x-who", "descriptor_key": "who"}}]},
            {"stage": 3, "actions": [{"generic_key": {"descriptor_value": "another stage"}}]},
        ]});
        let proxy = proxy(engine, settings, actions);
        let mut client = proxy.connect();
        let bob = "x-m: 1\r\nx-who: bob\r\n";
        assert_eq!(status(&mut client, bob), "200");
        // The slower bucket is asked first, so that this one takes nothing from the other.
        assert_eq!(status(&mut client, bob), "503");
        for fields in ["x-m: 1\r\nx-who: eve\r\n", "x-who: bob\r\n", ""] {
            assert_eq!(status(&mut client, fields), "200", "{fields}");
        }
        let refused = ask(&mut client, "Content-Type: application/grpc\r\n");
        assert!(
            refused.contains("\ngrpc-status: 8\n") && refused.contains("\nx-ratelimit-limit: 4\n"),
            "{refused}"
        );
    }
}

#[test]
fn the_general_bucket_may_be_spared_when_a_descriptor_matches() {
    let bucket = |tokens: u32| json!({"max_tokens": tokens, "tokens_per_fill": 1, "fill_interval": "3600s"});
    for engine in engines() {
        for (always, expected) in [(true, ["200", "429", "429"]), (false, ["200", "200", "429"])] {
            let settings = limit(json!({
                "token_bucket": bucket(1), "always_consume_default_token_bucket": always,
                "descriptors": [{"entries": [{"key": "generic_key", "value": "all"}], "token_bucket": bucket(2)}]}));
            let rules = json!({"rate_limits": [{"actions": [{"generic_key": {"descriptor_value": "all"}}]}]});
            let proxy = proxy(engine, settings, rules);
            let mut client = proxy.connect();
            assert_eq!([0; 3].map(|_| status(&mut client, "")), expected);
        }
    }
}

#[test]
fn a_limit_may_be_of_each_connection() {
    for engine in engines() {
        for (each, second) in [(true, "200"), (false, "429")] {
            let settings = limit(json!({"local_rate_limit_per_downstream_connection": each}));
            let proxy = proxy(engine, settings, json!({}));
            let (mut one, mut other) = (proxy.connect(), proxy.connect());
            assert_eq!([0; 4].map(|_| status(&mut one, "")), ["200", "200", "200", "429"]);
            assert_eq!(status(&mut other, ""), second);
        }
    }
}

#[test]
fn a_limit_of_the_chain_also_counts_requests_without_a_route() {
    for engine in engines() {
        let mut manager = manager(json!([{"match": {"prefix": "/there"}, "route": {"cluster": "up"}}]));
        let filter = json!({"name": "l", "typed_config": limit(json!({}))});
        manager["http_filters"].as_array_mut().unwrap().insert(0, filter);
        let proxy = Proxy::start(engine, &[listener(manager)], &[cluster("up", &[Upstream::answering(OK)])]);
        let mut client = proxy.connect();
        assert_eq!([0; 4].map(|_| status(&mut client, "")), ["404", "404", "404", "429"]);
    }
}
