//! Answers of our own, as the connection manager wants them.

mod harness;

use harness::{Proxy, Upstream, cluster, engines, listener, manager, stable};
use ringsail_runtime::engine::EngineChoice;
use serde_json::{Value, json};

/// A proxy whose manager has `config`; `/down` is answered 503 here, everything else by an upstream with 503, too.
fn proxy(engine: EngineChoice, config: Value) -> Proxy {
    let routes = json!([
        {"match": {"prefix": "/down"}, "direct_response": {"status": 503, "body": {"inline_string": "down"}}},
        {"match": {"prefix": "/"}, "route": {"cluster": "up"}}]);
    let mut manager = manager(routes);
    manager["local_reply_config"] = config;
    let up = Upstream::answering("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\nup");
    Proxy::start(engine, &[listener(manager)], &[cluster("up", &[up])])
}

fn on_503(fields: Value) -> Value {
    let mut mapper = json!({"filter": {"status_code_filter": {"comparison":
        {"op": "EQ", "value": {"default_value": 503, "runtime_key": "none"}}}}});
    mapper.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    json!({"mappers": [mapper]})
}

#[test]
fn a_mapped_answer_has_another_status_and_text_and_is_logged_with_it() {
    for engine in engines() {
        let proxy = proxy(engine, on_503(json!({"status_code": 418, "body": {"inline_string": "a teapot"}})));
        let mut client = proxy.connect();
        client.send("GET /down HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(
            stable(&client.read_message()),
            "HTTP/1.1 418 Unknown\ncontent-length: 8\ncontent-type: text/plain\nserver: envoy\n\na teapot"
        );
        // What the upstream says is no answer of ours.
        client.send("GET /up HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(client.read_message().starts_with("HTTP/1.1 503 "));
        drop(client);
        assert_eq!(proxy.log(), "418 - direct_response\n503 - via_upstream\n");
    }
}

#[test]
fn a_body_shows_values_of_the_exchange() {
    for engine in engines() {
        let format = json!({"body_format": {"json_format": {"code": "%RESPONSE_CODE%", "path": "%REQ(:PATH)%", "text": "%LOCAL_REPLY_BODY%"}}});
        let proxy = proxy(engine, format);
        let answer = proxy.ask("GET /down?a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert!(answer.contains("\r\ncontent-type: application/json\r\n"), "{answer}");
        assert!(
            answer.ends_with("\r\n\r\n{\"code\":503,\"path\":\"/down?a\",\"text\":\"down\"}\n"),
            "{answer}"
        );
    }
}

#[test]
fn a_changed_format_shows_in_the_next_answer_of_the_same_connection() {
    for engine in engines() {
        let with = |text: &str| {
            let routes = json!([{"match": {"prefix": "/"}, "direct_response": {"status": 200,
                "body_format": {"text_format_source": {"inline_string": text}}}}]);
            [listener(manager(routes))]
        };
        let mut proxy = Proxy::start(engine, &with("one"), &[]);
        let mut client = proxy.connect();
        let ask = |client: &mut harness::Peer| {
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            client.read_message()
        };
        assert!(ask(&mut client).ends_with("\r\n\r\none"));
        proxy.update(&with("two %REQ(:METHOD)%"), &[]);
        let began = std::time::Instant::now();
        // The shard adopts the change a moment later.
        while !ask(&mut client).ends_with("\r\n\r\ntwo GET") {
            assert!(began.elapsed() < std::time::Duration::from_secs(20));
        }
    }
}
