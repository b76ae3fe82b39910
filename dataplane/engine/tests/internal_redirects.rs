//! Redirects of the upstream that are followed here.

mod harness;

use harness::{Proxy, Seen, Upstream, cluster, engines, listener, manager, stable};
use ringsail_runtime::engine::EngineChoice;
use serde_json::{Value, json};

/// A proxy that follows redirects by `policy`; its upstream redirects `/a` to `/b` with `status`, and answers `/b`.
fn proxy(engine: EngineChoice, status: &'static str, policy: Value) -> (Proxy, Seen) {
    let seen = Seen::default();
    let note = seen.clone();
    let up = Upstream::serving(move |request| {
        note.note(request);
        if request.split(' ').nth(1) == Some("/a") {
            format!("HTTP/1.1 {status}\r\nlocation: http://b.example/b\r\ncontent-length: 0\r\n\r\n")
        } else {
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_owned()
        }
    });
    let routes =
        json!([{"match": {"prefix": "/"}, "route": {"cluster": "up", "internal_redirect_policy": policy}}]);
    (Proxy::start(engine, &[listener(manager(routes))], &[cluster("up", &[up])]), seen)
}

#[test]
fn the_client_gets_the_answer_of_the_place_it_is_redirected_to() {
    for engine in engines() {
        let (proxy, seen) = proxy(engine, "302 Found", json!({}));
        let mut client = proxy.connect();
        client.send("GET /a HTTP/1.1\r\nHost: a.example\r\n\r\n");
        assert!(stable(&client.read_message()).ends_with("\n\nok"));
        let second = &seen.all()[1];
        assert!(second.starts_with("GET /b HTTP/1.1\r\nHost: b.example\r\n"), "{second}");
        assert!(second.contains("\r\nx-envoy-original-url: http://a.example/a\r\n"), "{second}");
        assert_eq!(proxy.stat("cluster.up.upstream_internal_redirect_succeeded_total"), 1);
        drop(client);
        assert_eq!(proxy.log(), "302 - internal_redirect\n200 - via_upstream\n");
    }
}

#[test]
fn a_redirected_request_takes_its_body_along() {
    for engine in engines() {
        let codes = json!({"redirect_response_codes": [303, 307]});
        for (status, sent) in [("307 Temporary Redirect", "POST"), ("303 See Other", "GET")] {
            let (proxy, seen) = proxy(engine, status, codes.clone());
            let answer = proxy.ask(
                "POST /a HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
            );
            assert!(answer.ends_with("ok"), "{answer}");
            let second = &seen.all()[1];
            assert!(second.starts_with(&format!("{sent} /b HTTP/1.1\r\n")), "{second}");
            assert_eq!(second.ends_with("\r\n\r\nhello"), sent == "POST", "{second}");
        }
    }
}

#[test]
fn a_redirect_past_the_limit_is_the_clients() {
    for engine in engines() {
        let (proxy, seen) = proxy(engine, "302 Found", json!({"max_internal_redirects": 0}));
        let answer = proxy.ask("GET /a HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 302 Found\r\nlocation: http://b.example/b\r\n"), "{answer}");
        assert_eq!(seen.all().len(), 1);
        assert_eq!(proxy.stat("http.test.passthrough_internal_redirect_too_many_redirects"), 1);
    }
}
