//! Requests that are received completely before they go on.

mod harness;

use harness::{Proxy, Upstream, cluster, engines, listener, manager};
use ringsail_runtime::engine::EngineChoice;
use serde_json::json;

fn proxy(engine: EngineChoice, up: std::net::SocketAddr) -> Proxy {
    let mut manager = manager(json!([{"match": {"prefix": "/"}, "route": {"cluster": "up"}}]));
    let buffer = json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.buffer.v3.Buffer", "max_request_bytes": 8});
    manager["http_filters"].as_array_mut().unwrap().insert(0, json!({"name": "b", "typed_config": buffer}));
    Proxy::start(engine, &[listener(manager)], &[cluster("up", &[up])])
}

#[test]
fn the_upstream_sees_nothing_of_a_request_that_is_not_complete() {
    for engine in engines() {
        let up = Upstream::manual();
        let proxy = proxy(engine, up.address);
        let mut client = proxy.connect();
        client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n");
        assert!(up.is_quiet());
        client.send("2\r\nef\r\n0\r\n\r\n");
        let mut server = up.accept();
        let request = server.read_message();
        assert!(request.contains("\r\ncontent-length: 6\r\n"), "{request}");
        assert!(!request.to_lowercase().contains("chunked"), "{request}");
        assert!(request.ends_with("\r\n\r\nabcdef"), "{request}");
    }
}

#[test]
fn a_body_of_one_byte_too_many_is_refused() {
    for engine in engines() {
        let answered = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        for (length, status) in [(8, "200 OK"), (9, "413 Payload Too Large")] {
            let proxy = proxy(engine, Upstream::answering(answered));
            let body = "x".repeat(length);
            let request = format!(
                "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
            );
            let answer = proxy.ask(&request);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
        }
    }
}
